//! Whether the kernel's fault is the scenario's.

use super::Evidenced;
use crate::inlining::{self, InlinedFrame};
use crate::klog::matches;
use crate::oops::{Oops, OopsKind};
use crate::scenario::OopsPattern;

/// The oops that the scenario looks for.
pub(super) struct FoundOops {
    /// Which of the log's it is.
    pub(super) index: usize,
    /// Functions that it has without a frame of their own.
    pub(super) inlined: Vec<InlinedFrame>,
}

impl Evidenced<'_> {
    /// The scenario's oops, which has to be the first of the log: what comes after a fault may be its consequence. What
    /// only warns is passed over, unless the scenario looks for a warning.
    pub(super) fn scenario_oops(&self) -> Result<Option<FoundOops>, String> {
        let pattern = self.scenario.verdict.fault.as_ref().and_then(|fault| fault.oops.as_ref());
        let warns =
            pattern.is_some_and(|pattern| matches!(pattern.kind, OopsKind::Warning | OopsKind::Kasan));
        let mut oopses = self.log.oopses.iter().enumerate();
        let Some((index, first)) = oopses.find(|(_, oops)| warns || !oops.is_warning()) else {
            return Ok(None);
        };
        let Some(pattern) = pattern else {
            return Err(format!("the kernel complained, and the scenario has no fault: {}", first.headline));
        };
        let difference = match self.difference(first, pattern) {
            None => self.match_chain(first, pattern),
            Some(difference) => Err(difference),
        };
        match difference {
            Ok(inlined) => Ok(Some(FoundOops { index, inlined })),
            Err(difference) => {
                Err(format!("the kernel's fault is not the scenario's: {difference} ({})", first.headline))
            }
        }
    }

    /// Find the pattern's functions in an oops's call chain, in their order. Returns those that are there only as
    /// part of their callers, or what is not there.
    fn match_chain(&self, oops: &Oops, pattern: &OopsPattern) -> Result<Vec<InlinedFrame>, String> {
        let mut inlined = Vec::new();
        let mut from = 0;
        let find = |symbol: &str, from: usize| {
            let mut frames = oops.chain.iter().enumerate().skip(from);
            frames.find(|(_, frame)| frame.reliable && frame.symbol == symbol)
        };
        for symbol in &pattern.chain {
            if let Some((index, _)) = find(symbol, from) {
                from = index + 1;
                continue;
            }
            let candidates = self.scenario.kernel.inlined.iter().filter(|rule| rule.function == *symbol);
            let found = candidates.filter_map(|rule| Some((rule, find(&rule.into, from)?))).next();
            let Some((rule, (index, frame))) = found else {
                return Err(format!("{symbol} is not in the call chain, or not where it should be"));
            };
            inlined.push(inlining::prove(rule, frame, index, self.modules).map_err(|missing| {
                let into = &rule.into;
                format!(
                    "{symbol} is not in the call chain, and not proven to be inlined into {into}: {missing}"
                )
            })?);
            // The caller's own frame may be looked for next.
            from = index;
        }
        Ok(inlined)
    }

    /// In what an oops differs from the one that is looked for.
    fn difference(&self, oops: &Oops, pattern: &OopsPattern) -> Option<String> {
        if oops.kind != pattern.kind {
            return Some(format!("it is a {:?}, not a {:?}", oops.kind, pattern.kind));
        }
        if !oops.complete {
            return Some("its end is missing".to_owned());
        }
        if let Some(end) = &pattern.address_ends {
            let address = oops.address.as_deref().unwrap_or("(none)");
            if !address.ends_with(end.as_str()) {
                return Some(format!("the address is {address}, and should end in {end}"));
            }
        }
        if let Some(rip) = &pattern.rip {
            let symbol = oops.rip.as_ref().map_or("(none)", |frame| frame.symbol.as_str());
            if symbol != rip {
                return Some(format!("RIP is {symbol}, not {rip}"));
            }
        }
        if let Some(workqueue) = &pattern.workqueue {
            if oops.workqueue.as_ref() != Some(workqueue) {
                return Some(format!("it did not happen in the workqueue {workqueue}"));
            }
        }
        if let Some(work) = &pattern.work {
            if oops.work.as_ref() != Some(work) {
                return Some(format!("it did not happen in the work {work}"));
            }
        }
        let before = pattern.after.as_ref()?;
        let headline = self.log.lines.iter().position(|line| line.is_kernel() && line.text == oops.headline);
        let lines = self.log.lines.iter().take(headline.unwrap_or(0));
        let came = lines.into_iter().any(|line| matches(before, &line.text));
        (!came).then(|| format!("`{before}` did not come before it"))
    }
}
