//! What the guest's script and the kernel's log say beside: results, and lines that should not be there.

use super::{Evidenced, Outcome, Variant};
use crate::klog::{KtapOutcome, KtapResult, LogLine, matches};
use crate::scenario::Criteria;

impl Evidenced<'_> {
    /// For `clean`: the kernel had nothing to say that it should not have.
    pub(super) fn check_uneventful(&self) -> Result<(), String> {
        // A campaign counts warnings, of kernels that are built to give them.
        if let (Some(warning), false) = (self.log.warnings().next(), self.variant == Variant::OnTrial) {
            return Err(format!("the kernel complained: {warning}"));
        }
        if let Some(panic) = &self.log.panic {
            return Err(format!("the kernel panicked: {panic}"));
        }
        if let Some(why) = self.cut_short {
            return Err(why.to_owned());
        }
        if !self.log.shows_levels() {
            return Err("the console shows no levels (console_msg_format=syslog), so errors cannot be told"
                .to_owned());
        }
        match self.unexpected_error() {
            Some(line) => Err(format!("an unexpected kernel line of level error: {}", line.text)),
            None => Ok(()),
        }
    }

    /// The first line of level error that the scenario does not name.
    pub(crate) fn unexpected_error(&self) -> Option<&LogLine> {
        // What has to be there is expected.
        let (errors, needed) = (&self.scenario.kernel.expected_errors, &self.scenario.verdict.clean.log);
        let is_expected = move |text: &str| errors.iter().chain(needed).any(|pattern| matches(pattern, text));
        self.log.unexpected_errors(is_expected).next()
    }

    /// The first of the guest's tests that failed and may not.
    pub(crate) fn failed_test(&self) -> Option<&KtapResult> {
        let Criteria { fault, hang, clean } = &self.scenario.verdict;
        let fault = fault.as_ref().filter(|_| self.log.oopses.iter().any(|oops| !oops.is_warning()));
        let hang = hang.as_ref().filter(|_| !self.log.hangs.is_empty());
        let may_fail = &fault.or(hang).unwrap_or(clean).may_fail;
        let failed = |result: &&KtapResult| {
            result.outcome == KtapOutcome::Fail && !may_fail.contains(&result.description)
        };
        self.log.ktap.results.iter().find(failed)
    }

    pub(super) fn check_script(&self, outcome: Outcome) -> Result<(), String> {
        if let Some(result) = self.failed_test() {
            let saw = result.diagnostics.last().map(|line| format!(" ({line})")).unwrap_or_default();
            return Err(format!("the guest's test `{}` failed{saw}", result.description));
        }
        // After a fault the guest may not get that far.
        if outcome == Outcome::Clean && !self.log.ktap.finished {
            return Err(format!(
                "the guest's script did not reach its end; last console line: {}",
                self.log.last_line()
            ));
        }
        if outcome == Outcome::Clean { self.check_totals() } else { Ok(()) }
    }

    /// The script's own count agrees with its results, of which the console may have lost some.
    fn check_totals(&self) -> Result<(), String> {
        let ktap = &self.log.ktap;
        let totals = ktap.totals.unwrap_or_default();
        let failed = ktap.results.iter().filter(|result| result.outcome == KtapOutcome::Fail).count();
        if totals.fail > failed {
            let lost = totals.fail - failed;
            return Err(format!(
                "{lost} failed tests of the guest's script were counted, and are not on the console"
            ));
        }
        if totals.pass == 0 {
            return Err("the guest's script tested nothing: everything was skipped".to_owned());
        }
        let (planned, ran) = (ktap.plan.unwrap_or(0), totals.pass + totals.fail + totals.skip);
        if usize::try_from(planned).is_ok_and(|planned| planned == ran) {
            Ok(())
        } else {
            Err(format!("the guest's script planned {planned} tests, and ran {ran}"))
        }
    }
}
