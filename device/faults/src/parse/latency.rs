//! Reading latencies: of reads, as an action has them, and those of a file.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Parsed, describe, number, spaced, table, time};
use crate::latency::{MAX_LATENCY, MAX_TRACE, ReadLatency};

const KEYS: &[&str] = &["min", "max", "mean", "seed", "trace-ns", "trace-file"];

pub(super) fn read_latency(place: &str, value: &Value) -> Parsed<ReadLatency> {
    let Value::Object(_) = value else {
        let latency = latency(place, value, "a latency")?;
        return Ok(if latency.is_zero() { ReadLatency::Off } else { ReadLatency::Fixed(latency) });
    };
    let table = table(place, value, KEYS)?;
    // Each of these says which kind it is; a range is the one without such a key.
    let kind = ["trace-ns", "trace-file", "mean"].into_iter().find(|kind| table.contains_key(*kind));
    let allowed: &[&str] = match kind {
        Some("trace-ns") => &["trace-ns"],
        Some("trace-file") => &["trace-file"],
        Some(_) => &["mean", "seed"],
        None => &["min", "max", "seed"],
    };
    if let (Some(kind), Some(other)) = (kind, table.keys().find(|key| !allowed.contains(&key.as_str()))) {
        return Err(format!("{place}.{other}: does not go with {kind}"));
    }
    let seed = table.get("seed").map_or(Ok(0), |value| number(&format!("{place}.seed"), value))?;
    if let Some(trace) = table.get("trace-ns") {
        return Ok(ReadLatency::Trace(trace_from_list(&format!("{place}.trace-ns"), trace)?));
    }
    if table.contains_key("trace-file") {
        // Whoever takes a rule from a person puts the file's latencies in its place. There are no files here.
        return Err(format!("{place}.trace-file: nobody has read the file; write trace-ns = […]"));
    }
    if let Some(mean) = table.get("mean") {
        let mean = latency(&format!("{place}.mean"), mean, "a latency")?;
        return Ok(ReadLatency::Exponential { mean, seed });
    }
    let end = |key: &str| {
        let place = format!("{place}.{key}");
        let value = table.get(key).ok_or_else(|| format!("{place}: is needed, such as \"500us\""))?;
        latency(&place, value, "a latency")
    };
    let (min, max) = (end("min")?, end("max")?);
    if min > max {
        return Err(format!("{place}: min ({}) is above max ({})", spaced(min), spaced(max)));
    }
    Ok(ReadLatency::Uniform { min, max, seed })
}

/// The times of a recorded trace.
fn trace_from_list(place: &str, value: &Value) -> Parsed<Arc<[Duration]>> {
    let Value::Array(list) = value else {
        return Err(format!("{place}: a list of nanoseconds is needed, not {}", describe(value)));
    };
    if list.is_empty() || list.len() > MAX_TRACE {
        return Err(format!("{place}: a trace has from 1 to {MAX_TRACE} latencies, not {}", list.len()));
    }
    let one = |(at, value): (usize, &Value)| {
        let place = format!("{place}[{at}]");
        let nanoseconds = number(&place, value)?;
        latency(&place, &Value::String(format!("{nanoseconds}ns")), "a latency")
    };
    list.iter().enumerate().map(one).collect()
}

/// Reads a recorded trace from a file's text: a latency a line, such as `850ns`. Empty lines are passed over, and what
/// is behind a `#`. `file` is what messages call it.
///
/// # Errors
/// A sentence that begins with the file and the line, and says what is wrong there.
pub fn trace_from_text(file: &str, text: &str) -> Result<Vec<Duration>, String> {
    let mut trace = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let written = line.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let place = format!("{file}:{number}");
        if trace.len() == MAX_TRACE {
            return Err(format!(
                "{place}: a trace has from 1 to {MAX_TRACE} latencies, and this is one more"
            ));
        }
        trace.push(latency(&place, &Value::String(written.to_owned()), "a latency")?);
    }
    if trace.is_empty() {
        return Err(format!("{file}: a trace has from 1 to {MAX_TRACE} latencies, and none is here"));
    }
    Ok(trace)
}

pub(super) fn latency(place: &str, value: &Value, what: &str) -> Parsed<Duration> {
    let limit = format!("{} (QEMU gives up on a reply after 5 s)", spaced(MAX_LATENCY));
    time(place, value, what, MAX_LATENCY, &limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_s_text_has_a_latency_a_line_comments_and_empty_lines() {
        let text = "# a board's\n850ns\n\n 1.2us # the second\r\n\t90 us\n0s";
        let trace = trace_from_text("board.txt", text).unwrap();
        assert_eq!(trace, [850, 1200, 90_000, 0].map(Duration::from_nanos));
    }

    #[test]
    fn line_of_a_trace_s_text_that_is_none_is_named_with_its_text() {
        for (text, message) in [
            ("850ns\n# x\n12\n", "board.txt:3: \"12\" is not a duration; a number and one of the units"),
            ("850ns 1us\n", "board.txt:1: \"850ns 1us\" is not a duration"),
            ("-1us\n", "board.txt:1: a latency cannot be negative"),
            ("\n4001ms", "board.txt:2: 4001 ms is above the limit of 4 s"),
            ("# 850ns\n", "board.txt: a trace has from 1 to 4096 latencies, and none is here"),
            ("", "board.txt: a trace has from 1 to 4096 latencies, and none is here"),
            (
                &"1us\n".repeat(MAX_TRACE + 1),
                "board.txt:4097: a trace has from 1 to 4096 latencies, and this",
            ),
        ] {
            let error = trace_from_text("board.txt", text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        assert_eq!(trace_from_text("board.txt", &"1us\n".repeat(MAX_TRACE)).unwrap().len(), MAX_TRACE);
    }
}
