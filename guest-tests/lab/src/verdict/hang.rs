//! Whether a task hangs, and is the scenario's.

use super::Evidenced;
use crate::hang::Hang;
use crate::klog::matches;
use crate::scenario::BlockedPattern;

impl Evidenced<'_> {
    /// The scenario's task that hangs, among those that the kernel has told of: whoever waits for it hangs as well.
    pub(super) fn scenario_hang(&self) -> Result<Option<usize>, String> {
        let Some(first) = self.log.hangs.first() else { return Ok(None) };
        let hang = self.scenario.verdict.hang.as_ref();
        let Some(pattern) = hang.and_then(|hang| hang.blocked.as_ref()) else {
            return Err(format!("a task hangs, and the scenario has no hang: {}", first.headline));
        };
        match self.log.hangs.iter().position(|hang| difference(hang, pattern).is_none()) {
            Some(index) => Ok(Some(index)),
            None => {
                let difference = difference(first, pattern).unwrap_or_default();
                Err(format!("the task that hangs is not the scenario's: {difference} ({})", first.headline))
            }
        }
    }
}

/// In what a task that hangs differs from the one that is looked for.
fn difference(hang: &Hang, pattern: &BlockedPattern) -> Option<String> {
    if !matches(&pattern.task, &hang.task) {
        return Some(format!("it is {}, not {}", hang.task, pattern.task));
    }
    if !hang.complete {
        return Some("the end of its call trace is missing".to_owned());
    }
    let mut frames = hang.chain.iter().filter(|frame| frame.reliable);
    let missing = pattern.chain.iter().find(|symbol| !frames.any(|frame| frame.symbol == **symbol))?;
    Some(format!("{missing} is not in its call trace, or not where it should be"))
}
