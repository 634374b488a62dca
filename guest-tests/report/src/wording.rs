//! Numbers, times and oopses as text.

use crate::evidence::{Oops, RunResult};

/// Milliseconds with as many digits as say something: `3,338 ms`, `6.6 ms`.
pub(crate) fn ms(ns: i64) -> String {
    // Below 2^53 nanoseconds, which are 104 days, nothing is lost.
    let value = ns as f64 / 1e6;
    if value.abs() < 1000.0 {
        format!("{value:.1} ms")
    } else {
        let rounded = ns.unsigned_abs().saturating_add(500_000) / 1_000_000;
        let sign = if ns < 0 { "-" } else { "" };
        format!("{sign}{} ms", thousands(usize::try_from(rounded).unwrap_or(usize::MAX)))
    }
}

/// Milliseconds, of which hundredths say something: `0.07 ms`.
pub(crate) fn fine_ms(ns: i64) -> String {
    if ns < 1_000_000 { format!("{:.2} ms", ns as f64 / 1e6) } else { ms(ns) }
}

/// `at 305.2 ms`, or `between 305.2 ms and 307.5 ms`.
pub(crate) fn between(from: i64, to: i64) -> String {
    if to - from < 100_000 {
        format!("at {}", ms(from))
    } else {
        format!("between {} and {}", ms(from), ms(to))
    }
}

/// `1,024`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The lines of an oops that say what happened, inlined functions in their places.
pub(crate) fn excerpt(result: &RunResult, oops: &Oops, callers: usize) -> Vec<String> {
    let mut lines = vec![oops.headline.clone()];
    if let (Some(cpu), Some(comm)) = (oops.cpu, &oops.comm) {
        lines.push(format!("CPU: {cpu}  task: {comm}"));
    }
    if let Some(workqueue) = &oops.workqueue {
        lines.push(format!("Workqueue: {workqueue} {}", oops.work.as_deref().unwrap_or("")));
    }
    if let Some(rip) = &oops.rip {
        lines.push(format!("RIP: {}+{:#x}/{:#x}", rip.symbol, rip.offset, rip.size));
    }
    let reliable = oops.chain.iter().enumerate().filter(|(_, frame)| frame.reliable).take(callers);
    for (index, frame) in reliable {
        let here = result.inlined.iter().filter(|inlined| inlined.chain_index == index);
        lines.extend(here.map(|inlined| format!(" {} (inlined)", inlined.function)));
        let module = frame.module.as_ref().map(|module| format!(" [{module}]")).unwrap_or_default();
        lines.push(format!(" {}+{:#x}/{:#x}{module}", frame.symbol, frame.offset, frame.size));
    }
    lines
}

/// With its first letter as a capital.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_digits_as_say_something() {
        assert_eq!(ms(6_649_000), "6.6 ms");
        assert_eq!(ms(3_338_308_000), "3,338 ms");
        assert_eq!(ms(-12_500_000_000), "-12,500 ms");
        assert_eq!(between(1_000_000, 1_050_000), "at 1.0 ms");
        assert_eq!(between(1_000_000, 3_000_000), "between 1.0 ms and 3.0 ms");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
