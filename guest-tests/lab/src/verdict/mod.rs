//! The verdict on one run: what the guest's console and the device's record say together.
//!
//! `fault`, `hang` and `clean` all need evidence from both sides; a run in which something is missing is `inconclusive`,
//! and the reason names what. What counts as evidence is the scenario's, as data.
//!
//! [`Evidenced::judge`] is the order in which things are looked at; each is in a module of its own: `fault` (the kernel's
//! oops), `hang` (tasks that hang), `evidence` (what the scenario wants to be seen), `script` (the guest's script and the
//! rest of the log), `agreement` (of the two witnesses).

mod agreement;
mod evidence;
mod fault;
mod hang;
mod script;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::hashes::{self, HostHash};
use crate::inlining::{InlinedFrame, LoadedModule};
use crate::klog::Klog;
use crate::record::Record;
use crate::scenario::{Expected, Scenario};
use fault::FoundOops;

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
    /// A task of the guest hangs, and the device has not seen what it should have done.
    Hang,
    /// The provocation on both sides, and nothing came of it.
    Clean,
    /// None of them can be said.
    Inconclusive,
}

impl Outcome {
    /// As it is written in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Hang => "hang",
            Self::Clean => "clean",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Whether this is what was expected.
    pub fn is(self, expected: Expected) -> bool {
        match expected {
            Expected::Fault => self == Self::Fault,
            Expected::Hang => self == Self::Hang,
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
    /// Which of the log's tasks that hang is the scenario's.
    #[serde(skip)]
    pub hang: Option<usize>,
}

/// What the kernel complained of, and the scenario looks for.
#[derive(Default)]
struct Found {
    oops: Option<FoundOops>,
    hang: Option<usize>,
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
            Err(reason) => (Outcome::Inconclusive, Some(reason), Found::default()),
        };
        let Found { oops, hang } = found;
        let (oops, inlined) = oops.map_or((None, Vec::new()), |found| (Some(found.index), found.inlined));
        Verdict { outcome, reason, disagreements, inlined, oops, hang }
    }

    fn decide(&self, disagreements: &[String]) -> Result<(Outcome, Found), String> {
        let criteria = &self.scenario.verdict;
        let mut found = Found { oops: self.scenario_oops()?, hang: None };
        let (outcome, evidence) = match (&found.oops, &criteria.fault) {
            (Some(_), Some(fault)) => (Outcome::Fault, fault),
            // What hangs after a fault does so because of it.
            _ => {
                found.hang = self.scenario_hang()?;
                match (found.hang, &criteria.hang) {
                    (Some(_), Some(hang)) => (Outcome::Hang, hang),
                    _ => (Outcome::Clean, &criteria.clean),
                }
            }
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
}

#[cfg(test)]
pub(crate) mod tests;
