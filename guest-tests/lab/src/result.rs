//! What is known after a run: the JSON document, and the one line for people.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::explanation::explain;
use crate::hang::Hang;
use crate::hashes::HostHash;
use crate::klog::{Klog, KtapResult, matches};
use crate::moments::{MomentTime, locate};
use crate::notes::Note;
use crate::oops::Oops;
use crate::record::Record;
use crate::scenario::{Criteria, Expected, Origin, Scenario};
use crate::verdict::{Evidenced, Variant, Verdict};

/// The version of the JSON document; counted up when a field changes its meaning or goes away.
pub const FORMAT: u32 = 1;

/// The moments between which the removal's time is taken.
const REMOVAL_BEGINS: &str = "removal begins";
const REMOVED: &str = "reader removed";

/// Numbers of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Entries of the device's record, by kind.
    pub record: BTreeMap<String, usize>,
    /// Reads of the BAR after it had vanished.
    pub dead_reads: usize,
    /// Hits of each rule of the scenario.
    pub rule_hits: BTreeMap<String, usize>,
    /// Oopses and warnings on the guest's console.
    pub oopses: usize,
}

/// Where the evidence of a run lies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    /// The guest's console, as it came.
    pub console: PathBuf,
    /// The device's record, JSON lines.
    pub record: PathBuf,
    /// The device's state at the end.
    pub status: PathBuf,
    /// What the device's process logged.
    pub server_log: PathBuf,
    /// What QEMU complained of.
    pub qemu_log: PathBuf,
    /// The guest's kernel traced, as tracefs has it (`trace`), if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// The card images, by name. They are kept only if the verdict is not the expected one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, PathBuf>,
}

/// The whole result of one run: `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// [`FORMAT`].
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// Where its bug was reported.
    pub origin: Origin,
    /// Against which kernel.
    pub variant: Variant,
    /// The run's number, from 1.
    pub run: u32,
    /// The verdict that means success.
    pub expected: Expected,
    /// Whether the verdict is that one.
    pub as_expected: bool,
    /// The verdict. Guest and device agree if its `disagreements` are empty.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What that means; empty if it is inconclusive.
    pub means: String,
    /// If it is not as expected: what there is to see of it in the guest and in the logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explanation: Vec<String>,
    /// `uname -r`, and the name of a kernel that the lab has built.
    pub kernel: String,
    /// QEMU's version.
    pub qemu: String,
    /// Whether the guest module took the fix out.
    pub module: bool,
    /// Whether interrupts and threads were placed.
    pub placed: bool,
    /// Wall time from the start of QEMU to its end, in seconds.
    pub wall_s: f64,
    /// The scenario's moments.
    pub moments: Vec<MomentTime>,
    /// What they count from, in nanoseconds of the device's clock: `t_ns` of its record.
    pub zero_ns: Option<u64>,
    /// The lines of the guest's console that the verdict stands on, in their order, with the kernel's time.
    pub kernel_log: Vec<String>,
    /// The scenario's oops, or else the first one.
    pub oops: Option<Oops>,
    /// The task that hangs and is the scenario's, or else the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang: Option<Hang>,
    /// First lines of the kernel's warnings: WARN, and what lockdep and KASAN report.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// From the scenario's moment `removal begins` to its `reader removed`, in milliseconds.
    pub removal_ms: Option<f64>,
    /// Idle callbacks of rtsx_pci that began when the device was gone, as the device saw them.
    pub idle_callbacks_on_dead_device: usize,
    /// What the module sdmorph_race noted, if the scenario has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The guest's own test results.
    pub ktap: Vec<KtapResult>,
    /// Numbers.
    pub counts: Counts,
    /// Accesses to registers that the device does not model; `None` if its state does not say.
    pub unmodelled: Option<Vec<String>>,
    /// The memory of the device's process (VmRSS) in KiB at each result of the guest's script.
    pub device_memory_kib: Vec<u64>,
    /// What the host found in the card images, when the run was over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_hashes: Vec<HostHash>,
    /// QEMU's command line, for a shell.
    pub qemu_command: String,
    /// The evidence.
    pub files: Files,
}

/// What the runner knows of a run beside the evidence.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The run's number, from 1.
    pub run: u32,
    /// `uname -r`, as the assets have it.
    pub kernel: String,
    /// QEMU's version.
    pub qemu: String,
    /// Whether interrupts and threads were to be placed.
    pub placed: bool,
    /// Wall time in seconds.
    pub wall_s: f64,
    /// QEMU's command line, for a shell.
    pub qemu_command: String,
    /// The evidence.
    pub files: Files,
}

impl RunResult {
    /// Judge the evidence and put everything together.
    pub fn new(evidence: &Evidenced<'_>, facts: RunFacts) -> Self {
        let (scenario, variant) = (evidence.scenario, evidence.variant);
        let verdict = evidence.judge();
        // A variant that the scenario says nothing of is not run.
        let expected = variant.expected(scenario).unwrap_or(Expected::Any);
        let log = evidence.log;
        let as_expected = verdict.outcome.is(expected);
        let (moments, zero_ns) = locate(&scenario.moments, evidence.record, log);
        let hang = verdict.hang.and_then(|index| log.hangs.get(index)).or(log.hangs.first()).cloned();
        let oops = verdict.oops.and_then(|index| log.oopses.get(index)).or(log.oopses.first()).cloned();
        Self {
            format: FORMAT,
            scenario: scenario.name.clone(),
            origin: scenario.origin.clone(),
            variant,
            run: facts.run,
            expected,
            as_expected,
            means: scenario.meaning(verdict.outcome).trim().to_owned(),
            explanation: if as_expected { Vec::new() } else { explain(evidence, &facts.files) },
            kernel: log.kernel().unwrap_or(facts.kernel),
            qemu: facts.qemu,
            module: evidence.module,
            placed: facts.placed,
            wall_s: facts.wall_s,
            removal_ms: removal_ms(&moments),
            moments,
            zero_ns,
            kernel_log: witnesses(scenario, log, oops.as_ref(), hang.as_ref()),
            oops,
            hang,
            warnings: log.warnings().map(str::to_owned).collect(),
            idle_callbacks_on_dead_device: evidence.record.idle_callbacks_on_dead_device(),
            notes: log.notes.clone(),
            ktap: log.ktap.results.clone(),
            counts: count(scenario, evidence.record, log),
            unmodelled: evidence.unmodelled.map(<[String]>::to_vec),
            device_memory_kib: evidence.device_memory_kib.to_vec(),
            host_hashes: evidence.host_hashes.to_vec(),
            qemu_command: facts.qemu_command,
            files: facts.files,
            verdict,
        }
    }

    /// The explanation as diagnostics of TAP; empty if all is as expected.
    pub fn diagnostics(&self) -> String {
        self.explanation.iter().map(|line| format!("# {line}\n")).collect()
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mark = match (self.variant, self.as_expected) {
            // Of a kernel on trial, nothing is expected but a verdict.
            (Variant::OnTrial, true) => "",
            (_, true) => " (as expected)",
            (_, false) => " (NOT as expected)",
        };
        let complaint = self.oops.as_ref().map(|oops| &oops.headline);
        let complaint = complaint.or(self.hang.as_ref().map(|hang| &hang.headline));
        let detail = self.verdict.reason.as_ref().or(complaint);
        let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        let (scenario, variant, outcome) =
            (&self.scenario, self.variant.as_str(), self.verdict.outcome.as_str());
        format!("{scenario} {variant} on {}: {outcome}{mark}{detail}", self.kernel)
    }
}

/// How long the removal took; `None` if the scenario has no such moments, or one of them did not come.
fn removal_ms(moments: &[MomentTime]) -> Option<f64> {
    let at = |name: &str| moments.iter().find(|moment| moment.name == name)?.t_ms;
    // No more than the microseconds that both have.
    Some(((at(REMOVED)? - at(REMOVAL_BEGINS)?) * 1000.0).round() / 1000.0)
}

/// The console's lines that some criterion of the scenario is about, and the first lines of the oops and of the task that
/// hangs.
fn witnesses(scenario: &Scenario, log: &Klog, oops: Option<&Oops>, hang: Option<&Hang>) -> Vec<String> {
    let Criteria { fault, hang: hangs, clean } = &scenario.verdict;
    let criteria = fault.iter().chain(hangs).chain([clean]);
    let patterns: Vec<&str> = criteria.flat_map(|evidence| &evidence.log).map(String::as_str).collect();
    let patterns = patterns.into_iter().chain(scenario.kernel.fix_skipped.as_deref());
    let patterns = patterns.chain(hang.map(|hang| hang.headline.as_str()));
    let patterns: Vec<&str> = patterns.chain(oops.map(|oops| oops.headline.as_str())).collect();
    let lines = log.lines.iter().filter(|line| patterns.iter().any(|pattern| matches(pattern, &line.text)));
    lines
        .map(|line| match line.time_us {
            Some(us) => format!("[{:5}.{:06}] {}", us / 1_000_000, us % 1_000_000, line.text),
            None => line.text.clone(),
        })
        .collect()
}

fn count(scenario: &Scenario, record: &Record, log: &Klog) -> Counts {
    let rules = scenario.rules.iter().filter_map(|rule| rule.get("name")?.as_str());
    Counts {
        record: record.kinds.clone(),
        dead_reads: record.dead_reads(),
        rule_hits: rules.map(|name| (name.to_owned(), record.rule_hits(name))).collect(),
        oopses: log.oopses.len(),
    }
}

/// The accesses to registers that the device does not model, one line each, such as `2 x reader internal 0xfe12 read`:
/// from `counters` in a `query-status` tree. `None` if they are not there.
pub fn unmodelled(status: &Value) -> Option<Vec<String>> {
    let registers = status.get("counters")?.get("unmodelled-registers")?.as_object()?;
    Some(registers.iter().map(|(place, times)| format!("{times} x {place}")).collect())
}

/// The counters in a `query-status` tree.
pub fn counters(status: &Value) -> BTreeMap<String, u64> {
    let counters = status.get("counters").and_then(Value::as_object);
    let numbers =
        counters.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    numbers.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::verdict::Outcome;

    fn result(variant: Variant, log: &[u8], record: &str) -> RunResult {
        result_of(&crate::verdict::tests::scenario(), variant, log, record)
    }

    fn result_of(scenario: &Scenario, variant: Variant, log: &[u8], record: &str) -> RunResult {
        let log = Klog::from_bytes(log);
        let record = Record::parse(record, &scenario.moments).unwrap();
        let evidence = Evidenced {
            scenario,
            variant,
            module: variant == Variant::WithoutFix,
            log: &log,
            record: &record,
            unmodelled: Some(&[]),
            counters: &BTreeMap::new(),
            device_memory_kib: &[],
            host_hashes: &[],
            cut_short: None,
            modules: &[crate::inlining::tests::rtsx_pci()],
        };
        let facts = RunFacts {
            run: 1,
            kernel: "unknown".into(),
            qemu: "11.1.3".into(),
            placed: true,
            wall_s: 12.5,
            qemu_command: "qemu-system-x86_64".into(),
            files: Files { console: "console.log".into(), ..Files::default() },
        };
        RunResult::new(&evidence, facts)
    }

    pub(crate) fn fault() -> RunResult {
        let log = include_bytes!("../fixtures/fault-6.1.log");
        result(Variant::WithoutFix, log, include_str!("../fixtures/fault.jsonl"))
    }

    pub(crate) fn clean() -> RunResult {
        let log = include_bytes!("../fixtures/clean-6.1.log");
        result(Variant::WithFix, log, include_str!("../fixtures/clean.jsonl"))
    }

    pub(crate) fn inconclusive(reason: &str) -> RunResult {
        let mut result = fault();
        result.verdict.outcome = Outcome::Inconclusive;
        result.verdict.reason = Some(reason.to_owned());
        result.as_expected = false;
        result.explanation = vec!["the guest's console".to_owned()];
        result
    }

    #[test]
    fn the_kernel_s_lines_are_in_their_order_and_end_with_the_fault() {
        let log = fault().kernel_log;
        let at = |words: &str| log.iter().position(|line| line.contains(words)).unwrap();
        assert!(at("Slot(8): Link Down") < at("pm_runtime_barrier skipped"));
        assert!(at("pm_runtime_barrier skipped") < at("BUG: unable to handle page fault"));
        assert!(log.iter().all(|line| line.starts_with('[')), "with the kernel's time: {log:?}");
        assert!(!clean().kernel_log.iter().any(|line| line.contains("BUG:")));
    }

    #[test]
    fn the_line_for_people_says_verdict_kernel_and_fault() {
        assert_eq!(
            fault().line(),
            "sd7-idle-race without-fix on 6.1.0-56-amd64: fault (as expected): \
             BUG: unable to handle page fault for address: ff5e2c4780051010"
        );
        assert_eq!(clean().line(), "sd7-idle-race with-fix on 6.1.0-56-amd64: clean (as expected)");
    }

    #[test]
    fn the_document_has_the_verdict_the_oops_and_the_counts() {
        let json = serde_json::to_value(fault()).unwrap();
        assert_eq!(json["outcome"], "fault");
        assert_eq!(json["variant"], "without-fix");
        assert_eq!(json["disagreements"], serde_json::json!([]));
        assert_eq!(json["oops"]["rip"]["symbol"], "ioread32");
        assert_eq!(
            json["inlined"][0],
            serde_json::json!({
                "function": "rtsx_pci_write_register",
                "into": "rtsx_set_l1off_sub",
                "module": "rtsx_pci",
                "calls": "ioread32",
                "chain_index": 0,
            })
        );
        assert_eq!(json["counts"]["rule_hits"]["bar-dies"], 1);
        assert_eq!(json["counts"]["dead_reads"], 8);
    }

    #[test]
    fn the_removal_s_time_the_notes_and_what_ran_on_a_dead_device_are_in_the_document() {
        let log = include_bytes!("../fixtures/between-fault-6.1.log");
        let record = include_str!("../fixtures/between-fault.jsonl");
        let result = result_of(&Scenario::load("idle-between").unwrap(), Variant::WithoutFix, log, record);
        let note = |what: &str| result.notes.iter().find(|note| note.what == what).unwrap();
        let took = note("unbound").time_us - note("release-begins").time_us;
        assert_eq!(result.removal_ms.map(|ms| (ms * 1000.0).round() as u64), Some(took));
        // The driver core's put runs the callback in the remover; the other is the worker's.
        assert_eq!(result.idle_callbacks_on_dead_device, 2);
        assert_eq!(result.notes.iter().filter(|note| note.what == "idle-begins").count(), 2);
        assert_eq!(fault().idle_callbacks_on_dead_device, 0, "it began when the BAR was there");
        let json = serde_json::to_value(&result).unwrap();
        assert_eq!(json["notes"][0]["what"], result.notes[0].what);
        assert_eq!((json["removal_ms"].as_f64(), &json["hang"]), (result.removal_ms, &Value::Null));
    }

    #[test]
    fn the_line_for_people_says_what_hangs() {
        let log = include_bytes!("../fixtures/resumes-hang-6.1.log");
        let record = include_str!("../fixtures/resumes-hang.jsonl");
        let result = result_of(&Scenario::load("idle-resumes").unwrap(), Variant::OnTrial, log, record);
        assert!(result.line().contains("#6.1-diff-1: hang: INFO: task kworker/"), "{}", result.line());
        assert_eq!(result.removal_ms, None);
    }

    #[test]
    fn unmodelled_accesses_are_read_from_the_devices_counters() {
        let status = serde_json::json!({
            "counters": { "unmodelled": 2, "unmodelled-registers": { "reader internal 0xfe12 read": 2 } },
        });
        assert_eq!(unmodelled(&status).unwrap(), ["2 x reader internal 0xfe12 read"]);
        assert_eq!(unmodelled(&serde_json::json!({ "counters": {} })), None);
        assert_eq!(counters(&status), BTreeMap::from([("unmodelled".to_owned(), 2)]));
    }
}
