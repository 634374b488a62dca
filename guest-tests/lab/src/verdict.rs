//! The verdict on one run: what the guest's console and the device's record say together.
//!
//! `fault` and `clean` both need evidence from both sides; a run in which something is missing is `inconclusive`, and
//! the reason names what. What counts as evidence is the scenario's, as data.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::hashes::{self, HostHash};
use crate::inlining::{self, InlinedFrame, LoadedModule};
use crate::klog::{Klog, KtapOutcome, KtapResult, LogLine, matches};
use crate::moments::{self, ClockSource};
use crate::oops::Oops;
use crate::record::Record;
use crate::scenario::{Evidence, Expected, OopsPattern, Scenario};

/// How much too early a guest's time may come out, in milliseconds: the time from the link's fall to the guest's line about
/// it (`moments`). On a busy host 35 ms were seen; a host may be busier.
const GUEST_EARLY_MS: f64 = 1000.0;
/// Counters of the device that are 0 in a clean run, unless the scenario says what they are: accesses to guest memory
/// that failed, and rules that hit without end.
const ZERO_WHEN_CLEAN: [&str; 2] = ["dma-errors", "rule-storms"];

/// Which kernel a scenario is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The fix is taken out, by the guest module or by the user's own kernel.
    WithoutFix,
    /// The kernel has the fix.
    WithFix,
    /// The kernel as it is, whatever is in it: it is what the run is to tell.
    OnTrial,
}

impl Variant {
    /// As it is written in output and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithoutFix => "without-fix",
            Self::WithFix => "with-fix",
            Self::OnTrial => "on-trial",
        }
    }

    /// What the scenario expects of it; `None`: it has nothing to do with it, and is not run against it.
    pub fn expected(self, scenario: &Scenario) -> Option<Expected> {
        match self {
            Self::WithoutFix => scenario.expect.without_fix,
            Self::WithFix => Some(scenario.expect.with_fix),
            Self::OnTrial => Some(Expected::Any),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The scenario's fault, on both sides.
    Fault,
    /// The provocation on both sides, and nothing came of it.
    Clean,
    /// Neither can be said.
    Inconclusive,
}

impl Outcome {
    /// As it is written in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Clean => "clean",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Whether this is what was expected.
    pub fn is(self, expected: Expected) -> bool {
        match expected {
            Expected::Fault => self == Self::Fault,
            Expected::Clean => self == Self::Clean,
            Expected::Any => self != Self::Inconclusive,
        }
    }
}

/// The verdict on one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// What is missing or wrong, if it is inconclusive.
    pub reason: Option<String>,
    /// In what the guest and the device contradict each other; empty if they agree.
    pub disagreements: Vec<String>,
    /// Functions that the scenario's oops has without a frame of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inlined: Vec<InlinedFrame>,
    /// Which of the log's oopses is the scenario's.
    #[serde(skip)]
    pub oops: Option<usize>,
}

/// The oops that the scenario looks for.
struct FoundOops<'a> {
    index: usize,
    evidence: &'a Evidence,
    inlined: Vec<InlinedFrame>,
}

/// All that is known of a run.
#[derive(Debug)]
pub struct Evidenced<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// Against which kernel.
    pub variant: Variant,
    /// Whether the guest module was to take the fix out.
    pub module: bool,
    /// The guest's console.
    pub log: &'a Klog,
    /// The device's record.
    pub record: &'a Record,
    /// Accesses to registers that the device does not model; `None` if its state does not say.
    pub unmodelled: Option<&'a [String]>,
    /// The counters of the device's state.
    pub counters: &'a BTreeMap<String, u64>,
    /// The memory of the device's process in KiB at each result of the guest's script.
    pub device_memory_kib: &'a [u64],
    /// What the host found in the card images, when the run was over.
    pub host_hashes: &'a [HostHash],
    /// Why the run was ended, if the guest's script did not end it: names what was waited for.
    pub cut_short: Option<&'a str>,
    /// The modules that the guest was given.
    pub modules: &'a [LoadedModule],
}

impl Evidenced<'_> {
    /// Judge the run.
    pub fn judge(&self) -> Verdict {
        let disagreements = self.disagreements();
        let (outcome, reason, found) = match self.decide(&disagreements) {
            Ok((outcome, found)) => (outcome, None, found),
            Err(reason) => (Outcome::Inconclusive, Some(reason), None),
        };
        let (oops, inlined) = found.map_or((None, Vec::new()), |found| (Some(found.index), found.inlined));
        Verdict { outcome, reason, disagreements, inlined, oops }
    }

    fn decide(&self, disagreements: &[String]) -> Result<(Outcome, Option<FoundOops<'_>>), String> {
        let found = self.scenario_oops()?;
        let (outcome, evidence) = match &found {
            Some(found) => (Outcome::Fault, found.evidence),
            None => (Outcome::Clean, &self.scenario.verdict.clean),
        };
        if outcome == Outcome::Clean {
            self.check_uneventful()?;
        }
        self.check_evidence(evidence)?;
        self.check_counters(evidence, outcome)?;
        self.check_memory(evidence)?;
        self.check_fix()?;
        self.check_script(outcome)?;
        let printed = hashes::printed(self.log)?;
        if outcome == Outcome::Clean {
            hashes::complete(self.host_hashes, &printed)?;
        }
        match self.unmodelled {
            None => {
                return Err("the device's state does not list accesses to unmodelled registers".to_owned());
            }
            Some([]) => {}
            Some([access, ..]) => {
                return Err(format!("an access to a register that the device does not model: {access}"));
            }
        }
        if let Some(difference) = disagreements.first() {
            return Err(format!("guest and device disagree: {difference}"));
        }
        Ok((outcome, found))
    }

    /// The scenario's oops, which has to be the first of the log: what comes after a fault may be its consequence.
    fn scenario_oops(&self) -> Result<Option<FoundOops<'_>>, String> {
        let Some(first) = self.log.oopses.first() else { return Ok(None) };
        let fault = self.scenario.verdict.fault.as_ref();
        let Some((evidence, pattern)) = fault.and_then(|fault| Some((fault, fault.oops.as_ref()?))) else {
            return Err(format!("the kernel complained, and the scenario has no fault: {}", first.headline));
        };
        let difference = match self.difference(first, pattern) {
            None => self.match_chain(first, pattern),
            Some(difference) => Err(difference),
        };
        match difference {
            Ok(inlined) => Ok(Some(FoundOops { index: 0, evidence, inlined })),
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
        let before = pattern.after.as_ref()?;
        let headline = self.log.lines.iter().position(|line| line.is_kernel() && line.text == oops.headline);
        let lines = self.log.lines.iter().take(headline.unwrap_or(0));
        let came = lines.into_iter().any(|line| matches(before, &line.text));
        (!came).then(|| format!("`{before}` did not come before it"))
    }

    /// For `clean`: the kernel had nothing to say that it should not have.
    fn check_uneventful(&self) -> Result<(), String> {
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
        let fault = self.scenario.verdict.fault.as_ref().filter(|_| !self.log.oopses.is_empty());
        let may_fail = &fault.unwrap_or(&self.scenario.verdict.clean).may_fail;
        let failed = |result: &&KtapResult| {
            result.outcome == KtapOutcome::Fail && !may_fail.contains(&result.description)
        };
        self.log.ktap.results.iter().find(failed)
    }

    fn check_evidence(&self, evidence: &Evidence) -> Result<(), String> {
        if let Some(event) = evidence.events.iter().find(|name| self.record.event(name).is_none()) {
            return Err(format!("the device never recorded the event {event}"));
        }
        if let Some(rule) = evidence.rules.iter().find(|name| self.record.rule_hits(name) == 0) {
            return Err(format!("the rule {rule} never fired"));
        }
        let dead_reads = self.record.dead_reads();
        if dead_reads < evidence.dead_reads {
            let least = evidence.dead_reads;
            return Err(format!("{dead_reads} reads of the vanished BAR, and at least {least} were to be"));
        }
        self.check_order(&evidence.order)?;
        match evidence.log.iter().find(|pattern| self.log.find(pattern).is_none()) {
            Some(pattern) => Err(format!("the guest never logged `{pattern}`")),
            None => Ok(()),
        }
    }

    fn check_counters(&self, evidence: &Evidence, outcome: Outcome) -> Result<(), String> {
        for (name, expected) in &evidence.counters {
            match self.counters.get(name) {
                Some(value) if value == expected => {}
                Some(value) => {
                    return Err(format!("the device counted {value} {name}, and it should be {expected}"));
                }
                None => return Err(format!("the device's state has no counter {name}")),
            }
        }
        let zero = ZERO_WHEN_CLEAN.iter().filter(|name| !evidence.counters.contains_key(**name));
        let wrong =
            zero.filter_map(|name| Some((name, self.counters.get(*name).filter(|value| **value > 0)?)));
        match wrong.take(usize::from(outcome == Outcome::Clean)).next() {
            Some((name, value)) => Err(format!("the device counted {value} {name}")),
            None => Ok(()),
        }
    }

    /// The device's process did not grow more than it may. What it keeps of any run, it has by the middle of this one.
    fn check_memory(&self, evidence: &Evidence) -> Result<(), String> {
        let Some(most) = evidence.memory_growth_mib else { return Ok(()) };
        let samples = self.device_memory_kib;
        let (Some(middle), Some(last)) = (samples.get(samples.len() / 2), samples.last()) else {
            return Err("nobody knows how much memory the device's process had".to_owned());
        };
        let growth = last.saturating_sub(*middle) / 1024;
        if growth <= most {
            return Ok(());
        }
        Err(format!(
            "the device's process grew by {growth} MiB, from {} to {} MiB",
            middle / 1024,
            last / 1024
        ))
    }

    /// Each of these moments came before the next one.
    fn check_order(&self, names: &[String]) -> Result<(), String> {
        let (moments, _) = moments::locate(&self.scenario.moments, self.record, self.log);
        let mut times = Vec::new();
        for name in names {
            let found = moments.iter().find(|moment| moment.name == *name);
            let at = found.and_then(|moment| Some((moment.clock, moment.t_ms?)));
            times.push((name, at.ok_or_else(|| format!("`{name}` never came"))?));
        }
        for pair in times.windows(2) {
            if let [(before, (first_clock, first)), (after, (second_clock, second))] = pair {
                // Only a guest's time behind a device's can come out too early.
                let clocks = (first_clock, second_clock);
                let slack =
                    if clocks == (&ClockSource::Device, &ClockSource::Guest) { GUEST_EARLY_MS } else { 0.0 };
                if *first >= second + slack {
                    return Err(format!(
                        "`{before}` ({first:.1} ms) did not come before `{after}` ({second:.1} ms)"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The module that takes the fix out did so, or was not there at all. A kernel on trial runs without it.
    fn check_fix(&self) -> Result<(), String> {
        let Some(pattern) = &self.scenario.kernel.fix_skipped else { return Ok(()) };
        let skipped = self.log.find(pattern).is_some();
        match (self.variant, self.module) {
            (Variant::WithoutFix, true) if !skipped => {
                Err(format!("the fix was not skipped: no line `{pattern}`"))
            }
            (Variant::WithFix | Variant::OnTrial, _) if skipped => {
                Err(format!("the fix was skipped in the run with it: `{pattern}`"))
            }
            _ => Ok(()),
        }
    }

    fn check_script(&self, outcome: Outcome) -> Result<(), String> {
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

    /// In what the two sides contradict each other.
    fn disagreements(&self) -> Vec<String> {
        let mut found = Vec::new();
        let guest_down = self.log.find("*pciehp: Slot(8): Link Down").is_some();
        let device_down = self.record.event("link-down").is_some();
        if guest_down && !device_down {
            found.push("the guest logged Link Down, and the device recorded none".to_owned());
        }
        if device_down && !guest_down && self.cut_short.is_none() {
            found.push("the device's link went down, and the guest did not log it".to_owned());
        }
        let fault = self.log.oopses.first().and_then(|oops| oops.address.as_deref());
        let page_offset = fault
            .and_then(|address| u64::from_str_radix(address.get(address.len().checked_sub(3)?..)?, 16).ok());
        let mut reads = self.record.entries.iter().filter_map(|entry| entry.dead_access("read"));
        if let Some(offset) = page_offset {
            // The BAR is one page, and the read that faulted is one of a loop: the device has seen others of it.
            if !reads.any(|read| read == offset) {
                found.push(format!(
                    "the guest faulted at page offset {offset:#x}, and the device saw no dead read there"
                ));
            }
        }
        // In a run that was cut short, what the guest printed last may be older than the image.
        if self.cut_short.is_none() {
            let printed = hashes::printed(self.log).unwrap_or_default();
            found.extend(hashes::differences(self.host_hashes, &printed));
        }
        found
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const FAULT: &str = include_str!("../fixtures/fault-6.1.log");
    const CLEAN: &str = include_str!("../fixtures/clean-6.1.log");
    const FAULT_RECORD: &str = include_str!("../fixtures/fault.jsonl");
    const CLEAN_RECORD: &str = include_str!("../fixtures/clean.jsonl");

    /// The scenario of the fixtures. The clean one keeps a few reads from the begin and the end of each loop.
    pub(crate) fn scenario() -> Scenario {
        let mut scenario = Scenario::load("sd7-idle-race").unwrap();
        assert_eq!(scenario.verdict.clean.dead_reads, 1024);
        scenario.verdict.clean.dead_reads = 8;
        scenario
    }

    fn judge(variant: Variant, log: &str, record: &str) -> Verdict {
        judge_cut(variant, log, record, &[], None)
    }

    fn judge_cut(
        variant: Variant,
        log: &str,
        record: &str,
        unmodelled: &[String],
        cut: Option<&str>,
    ) -> Verdict {
        let scenario = scenario();
        let log = Klog::from_bytes(log.as_bytes());
        let record = Record::parse(record, &scenario.moments).unwrap();
        let evidenced = Evidenced {
            scenario: &scenario,
            variant,
            module: variant == Variant::WithoutFix,
            log: &log,
            record: &record,
            unmodelled: Some(unmodelled),
            counters: &BTreeMap::new(),
            device_memory_kib: &[],
            host_hashes: &[],
            cut_short: cut,
            modules: &[inlining::tests::rtsx_pci()],
        };
        evidenced.judge()
    }

    const HASH: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    /// The clean run with a card image of the hash [`HASH`], counters, and more on the console before the script's end.
    fn judge_card(scenario: &Scenario, more: &str, counters: &[(&str, u64)]) -> Verdict {
        let (head, totals) = CLEAN.rsplit_once("<14>").unwrap();
        let text = format!("{head}{more}<14>{totals}");
        let host = HostHash { image: "card".into(), offset: 0, length: 512, sha256: Ok(HASH.into()) };
        let evidenced = Evidenced {
            scenario,
            variant: Variant::WithFix,
            module: false,
            log: &Klog::from_bytes(text.as_bytes()),
            record: &Record::parse(CLEAN_RECORD, &scenario.moments).unwrap(),
            unmodelled: Some(&[]),
            counters: &counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            device_memory_kib: &[100 << 10, 110 << 10, 112 << 10],
            host_hashes: &[host],
            cut_short: None,
            modules: &[],
        };
        evidenced.judge()
    }

    #[test]
    fn a_card_that_guest_and_host_read_alike_is_clean_and_otherwise_not() {
        let line = |hash: &str| format!("<12>[    9.000000] sdmorph-hash card {hash} 0 512\n");
        let verdict = judge_card(&scenario(), &line(HASH), &[("dma-errors", 0), ("accesses", 9)]);
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Clean, None));
        let verdict = judge_card(&scenario(), &line(&HASH.replace('1', "2")), &[]);
        assert_eq!(verdict.disagreements.len(), 1);
        assert!(verdict.reason.unwrap().contains("guest and device disagree: 512 bytes at 0"));
        let verdict = judge_card(&scenario(), "", &[]);
        assert!(verdict.reason.unwrap().contains("printed no hash of 512 bytes at 0"));
        let verdict = judge_card(&scenario(), &line("11"), &[]);
        assert!(verdict.reason.unwrap().contains("not a line of a hash"));
    }

    #[test]
    fn a_process_that_grows_in_the_second_half_is_no_clean_run() {
        let mut scenario = scenario();
        let line = format!("sdmorph-hash card {HASH} 0 512\n");
        scenario.verdict.clean.memory_growth_mib = Some(2);
        assert_eq!(judge_card(&scenario, &line, &[]).outcome, Outcome::Clean);
        scenario.verdict.clean.memory_growth_mib = Some(1);
        let reason = judge_card(&scenario, &line, &[]).reason.unwrap();
        assert_eq!(reason, "the device's process grew by 2 MiB, from 110 to 112 MiB");
    }

    #[test]
    fn counters_are_what_the_scenario_says_and_zero_where_an_error_is_counted() {
        let line = format!("sdmorph-hash card {HASH} 0 512\n");
        let mut scenario = scenario();
        let reason = |scenario: &Scenario, counters: &[(&str, u64)]| {
            judge_card(scenario, &line, counters).reason.unwrap_or_default()
        };
        assert_eq!(reason(&scenario, &[("dma-errors", 2)]), "the device counted 2 dma-errors");
        scenario.verdict.clean.counters.insert("dma-errors".into(), 2);
        assert_eq!(reason(&scenario, &[("dma-errors", 2)]), "");
        assert!(reason(&scenario, &[("dma-errors", 3)]).contains("counted 3 dma-errors, and it should be 2"));
        assert!(reason(&scenario, &[]).contains("no counter dma-errors"));
    }

    #[test]
    fn an_error_line_that_has_to_be_there_is_no_unexpected_one() {
        let hash = format!("sdmorph-hash card {HASH} 0 512\n");
        let error = "<3>[    9.000000] mmc0: card 1234 removed in a write\n";
        let mut scenario = scenario();
        let verdict = judge_card(&scenario, &format!("{error}{hash}"), &[]);
        assert!(verdict.reason.unwrap().contains("removed in a write"));
        scenario.verdict.clean.log.push("mmc0: card * removed in a write".into());
        assert_eq!(judge_card(&scenario, &format!("{error}{hash}"), &[]).outcome, Outcome::Clean);
        assert!(judge_card(&scenario, &hash, &[]).reason.unwrap().contains("never logged"));
    }

    fn reason(variant: Variant, log: &str, record: &str) -> String {
        let verdict = judge(variant, log, record);
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
        verdict.reason.unwrap()
    }

    /// The text without the lines that hold `words`.
    fn without(text: &str, words: &str) -> String {
        text.lines().filter(|line| !line.contains(words)).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_reported_oops_with_its_record_is_a_fault() {
        let verdict = judge(Variant::WithoutFix, FAULT, FAULT_RECORD);
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Fault, None));
        assert_eq!(verdict.disagreements, Vec::<String>::new());
    }

    #[test]
    fn an_inlined_function_is_in_the_chain_only_if_the_module_proves_it() {
        let verdict = judge(Variant::WithoutFix, FAULT, FAULT_RECORD);
        let inlined: Vec<_> =
            verdict.inlined.iter().map(|frame| (frame.function.as_str(), frame.chain_index)).collect();
        assert_eq!(inlined, [("rtsx_pci_write_register", 0)]);
        let elsewhere = FAULT.replace("rtsx_set_l1off_sub+0x3d", "rtsx_set_l1off_sub+0x30");
        let reason = reason(Variant::WithoutFix, &elsewhere, FAULT_RECORD);
        assert!(
            reason.contains("not proven to be inlined into rtsx_set_l1off_sub: rtsx_set_l1off_sub+0x30"),
            "{reason}"
        );
    }

    #[test]
    fn a_function_with_a_frame_of_its_own_needs_no_proof() {
        let (head, tail) = FAULT.split_once("rtsx_set_l1off_sub+0x3d/0x50 [rtsx_pci]\n").unwrap();
        let own = "rtsx_pci_write_register+0x56/0x80 [rtsx_pci]\n";
        let sub = "<4>[    6.432339]  rtsx_set_l1off_sub+0x1d/0x50 [rtsx_pci]\n";
        let verdict = judge(Variant::WithoutFix, &format!("{head}{own}{sub}{tail}"), FAULT_RECORD);
        assert_eq!((verdict.outcome, verdict.inlined), (Outcome::Fault, Vec::new()));
    }

    #[test]
    fn a_guest_time_that_comes_out_too_early_is_no_contradiction_within_bounds() {
        // The guest's line about the link's fall, this much later than it was: all its times come out earlier.
        let late = |time: &str| CLEAN.replace("[    6.727231] pcieport", &format!("[    {time}] pcieport"));
        assert_eq!(judge(Variant::WithFix, &late("6.927231"), CLEAN_RECORD).outcome, Outcome::Clean);
        let reason = reason(Variant::WithFix, &late("7.927231"), CLEAN_RECORD);
        assert!(reason.contains("did not come before `reader removed`"), "{reason}");
    }

    #[test]
    fn a_removal_that_did_not_wait_for_the_callback_is_not_clean() {
        // .remove's write, moved to right behind the link's fall.
        let early = CLEAN_RECORD.replace("\"t_ns\":13441727632", "\"t_ns\":13057000000");
        assert_ne!(early, CLEAN_RECORD);
        let reason = reason(Variant::WithFix, CLEAN, &early);
        assert!(reason.contains("`idle callback's last read`"), "{reason}");
        assert!(reason.contains("did not come before `.remove at the BAR"), "{reason}");
    }

    #[test]
    fn a_removal_after_the_same_provocation_is_clean() {
        let verdict = judge(Variant::WithFix, CLEAN, CLEAN_RECORD);
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::Clean, None));
    }

    #[test]
    fn a_provocation_that_did_not_happen_is_inconclusive_and_named() {
        for (words, says) in [
            ("\"rule\",\"name\":\"bar-dies\"", "the rule bar-dies never fired"),
            ("bar-vanished", "never recorded the event bar-vanished"),
            ("\"dir\":\"read\"", "0 reads of the vanished BAR"),
        ] {
            let reason = reason(Variant::WithFix, CLEAN, &without(CLEAN_RECORD, words));
            assert!(reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn an_oops_of_another_kind_or_place_is_not_the_fault() {
        for (from, to, says) in [
            ("51010", "51014", "should end in 010"),
            ("RIP: 0010:ioread32", "RIP: 0010:ioread8", "RIP is ioread8"),
            (
                " rtsx_pci_runtime_idle",
                " ? rtsx_pci_runtime_idle",
                "rtsx_pci_runtime_idle is not in the call chain",
            ),
            ("Workqueue: pm ", "Workqueue: events ", "workqueue pm"),
            ("---[ end trace", "---[ cut", "its end is missing"),
            ("BUG: unable to handle page fault for", "BUG: kernel NULL pointer dereference,", "NullPointer"),
        ] {
            let reason = reason(Variant::WithoutFix, &FAULT.replace(from, to), FAULT_RECORD);
            assert!(reason.contains(says), "{reason}");
        }
    }

    #[test]
    fn a_fault_before_link_down_is_not_the_fault() {
        let reason = reason(Variant::WithoutFix, &without(FAULT, "Link Down"), FAULT_RECORD);
        assert!(reason.contains("did not come before it"), "{reason}");
    }

    #[test]
    fn a_fix_that_was_not_skipped_or_skipped_wrongly_is_inconclusive() {
        let left_in = reason(Variant::WithoutFix, CLEAN, CLEAN_RECORD);
        assert!(left_in.contains("the fix was not skipped"), "{left_in}");
        let taken_out = reason(Variant::WithFix, FAULT, FAULT_RECORD);
        assert!(taken_out.contains("in the run with it"), "{taken_out}");
    }

    #[test]
    fn an_unmodelled_access_spoils_either_verdict() {
        let unmodelled = ["reader bar0 0x20".to_owned()];
        let verdict = judge_cut(Variant::WithFix, CLEAN, CLEAN_RECORD, &unmodelled, None);
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
        assert!(verdict.reason.unwrap().contains("reader bar0 0x20"));
    }

    #[test]
    fn a_deadline_is_the_reason_when_nothing_else_is() {
        let log = CLEAN.split_once("<14>").unwrap().0;
        let verdict =
            judge_cut(Variant::WithFix, log, CLEAN_RECORD, &[], Some("waited 900 s for: the reader removed"));
        assert_eq!(verdict.reason.unwrap(), "waited 900 s for: the reader removed");
    }

    #[test]
    fn sides_that_contradict_each_other_give_no_verdict() {
        let other_register = FAULT_RECORD.replace("000010", "000020").replace("0x10", "0x20");
        let verdict = judge(Variant::WithoutFix, FAULT, &other_register);
        assert_eq!(verdict.disagreements.len(), 1);
        assert!(verdict.reason.unwrap().contains("guest and device disagree"));
    }

    #[test]
    fn an_unexpected_error_line_is_not_clean() {
        let log = format!("{CLEAN}<3>[    8.000000] rtsx_pci 10000:01:00.0: something broke\n");
        let reason = reason(Variant::WithFix, &log, CLEAN_RECORD);
        assert!(reason.contains("something broke"), "{reason}");
    }

    #[test]
    fn a_script_that_counts_other_results_than_it_planned_or_showed_is_not_clean() {
        let totals = |to: &str| {
            let from = "# Totals: pass:8 fail:0 xfail:0 xpass:0 skip:0 error:0";
            assert!(CLEAN.contains(from));
            reason(Variant::WithFix, &CLEAN.replace(from, &format!("# Totals: {to}")), CLEAN_RECORD)
        };
        assert!(totals("pass:5 fail:1 xfail:0 xpass:0 skip:0 error:0").starts_with("1 failed tests"));
        assert!(totals("pass:0 fail:0 xfail:0 xpass:0 skip:8 error:0").contains("everything was skipped"));
        assert!(
            totals("pass:4 fail:0 xfail:0 xpass:0 skip:1 error:0").contains("planned 8 tests, and ran 5")
        );
    }

    #[test]
    fn a_failed_guest_test_is_named_with_what_it_saw() {
        let log = CLEAN
            .replace(
                "# placed 16 VMD vectors on CPU 1, pciehp's thread on CPU 0",
                "# no vmd0 in /proc/interrupts",
            )
            .replace("ok 2 - interrupts", "not ok 2 - interrupts");
        let reason = reason(Variant::WithFix, &log, CLEAN_RECORD);
        assert!(
            reason.contains("interrupts and threads are placed") && reason.contains("no vmd0"),
            "{reason}"
        );
    }
}
