//! What a campaign keeps of one run: `run.json`, beside the run's `result.json` and console.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::PlannedRun;
use super::wording::one_line;

/// How a run of a campaign ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The scenario's fault.
    Fault,
    /// The provocation, and nothing came of it.
    Clean,
    /// A task of the guest's kernel waits for ever.
    Hang,
    /// None of these can be said.
    Inconclusive,
    /// It was not run: no kernel, no disk space, no QEMU.
    Failed,
}

impl Ending {
    /// As it is written in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Clean => "clean",
            Self::Hang => "hang",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
        }
    }

    /// Whether it says something about the kernel.
    #[must_use]
    pub fn is_conclusive(self) -> bool {
        matches!(self, Self::Fault | Self::Clean | Self::Hang)
    }
}

/// What a run was made of: runs of one cell are comparable if it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeOf {
    /// The lab's version.
    pub lab: String,
    /// The kernel's content, as the plan has it.
    pub kernel: String,
    /// The scenario's content, as the plan has it.
    pub scenario: String,
    /// The deadline of the campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
}

impl MadeOf {
    /// In what it differs from what a campaign's run is made of, in words; `None`: in nothing.
    pub(crate) fn difference(&self, wanted: &Self) -> Option<String> {
        if self.lab != wanted.lab {
            return Some(format!("made by sdmorph {}, and the campaign is of {}", self.lab, wanted.lab));
        }
        if self.kernel != wanted.kernel {
            return Some("made of another kernel of that name".to_owned());
        }
        if self.scenario != wanted.scenario {
            return Some("made of another scenario of that name, or of other scripts".to_owned());
        }
        (self.deadline_s != wanted.deadline_s).then(|| "made with another deadline".to_owned())
    }
}

/// Where and with what a run was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surroundings {
    /// The kernel that was booted; what it is made of may come out differently on two machines, or on two days.
    pub kernel_build: String,
    /// The first digits of the SHA-256 of the `sdmorph` that was the device.
    pub device: String,
    /// The machine.
    pub machine: String,
    /// How QEMU ran the guest.
    pub accel: String,
}

/// A try that is not the one that counts: inconclusive, and made again alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Why it said nothing.
    pub reason: String,
    /// Wall time, in seconds.
    pub wall_s: f64,
}

/// One run of a campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which one.
    #[serde(flatten)]
    pub run: PlannedRun,
    /// Of what.
    pub made_of: MadeOf,
    /// Where and with what.
    pub surroundings: Surroundings,
    /// When it was over, in UTC.
    pub ended: String,
    /// What it said.
    #[serde(flatten)]
    pub said: Said,
    /// Tries before it that said nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Attempt>,
    /// Whether all of its evidence is kept, and not the console only.
    #[serde(default)]
    pub whole: bool,
}

/// What a run said: the parts of `result.json` that the table is made of. What is not there is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// How it ended.
    pub outcome: Ending,
    /// Why it is inconclusive, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The kernel's own first words about the fault or the hang.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// `uname -r`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// QEMU's version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub qemu: String,
    /// Wall time from the start of QEMU to its end, in seconds.
    #[serde(default)]
    pub wall_s: f64,
    /// From the beginning of the removal to its end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal_ms: Option<f64>,
    /// Idle callbacks that began when the device was dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_callbacks_on_dead_device: Option<u32>,
    /// What lockdep, KASAN and WARN said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What that says about the kernel, in words: the scenario's, for this ending.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// What happened when, in the order of time: the scenario's moments, in milliseconds since the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub course: Vec<(String, f64)>,
}

impl Said {
    /// A run that was not made, or not to its end.
    #[must_use]
    pub fn failed(reason: String) -> Self {
        Self {
            outcome: Ending::Failed,
            reason: Some(reason),
            headline: None,
            release: String::new(),
            qemu: String::new(),
            wall_s: 0.0,
            removal_ms: None,
            idle_callbacks_on_dead_device: None,
            warnings: Vec::new(),
            means: String::new(),
            course: Vec::new(),
        }
    }

    /// From a `result.json`.
    ///
    /// # Errors
    /// If it has no `outcome`, or one of its fields is of another kind.
    pub fn of(result: &Value) -> Result<Self, serde_json::Error> {
        /// As `result.json` has them.
        #[derive(Deserialize)]
        struct Fields {
            outcome: Ending,
            reason: Option<String>,
            #[serde(default)]
            kernel: String,
            #[serde(default)]
            qemu: String,
            #[serde(default)]
            wall_s: f64,
            removal_ms: Option<f64>,
            idle_callbacks_on_dead_device: Option<u32>,
            #[serde(default)]
            warnings: Vec<String>,
            #[serde(default)]
            means: String,
            #[serde(default)]
            moments: Vec<Moment>,
            oops: Option<Headline>,
            hang: Option<Headline>,
        }
        #[derive(Deserialize)]
        struct Moment {
            name: String,
            t_ms: Option<f64>,
        }
        #[derive(Deserialize)]
        struct Headline {
            headline: String,
        }
        let fields = Fields::deserialize(result)?;
        let headline = match fields.outcome {
            Ending::Hang => fields.hang.or(fields.oops),
            _ => fields.oops,
        };
        let moments = fields.moments.into_iter();
        let mut course: Vec<_> = moments.filter_map(|moment| Some((moment.name, moment.t_ms?))).collect();
        course.sort_by(|(_, left), (_, right)| left.total_cmp(right));
        Ok(Self {
            outcome: fields.outcome,
            reason: fields.reason,
            headline: headline.map(|found| found.headline),
            release: fields.kernel,
            qemu: fields.qemu,
            wall_s: fields.wall_s,
            removal_ms: fields.removal_ms,
            idle_callbacks_on_dead_device: fields.idle_callbacks_on_dead_device,
            warnings: fields.warnings,
            means: one_line(&fields.means),
            course,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(kernel: &str, scenario: &str, run: u32, outcome: Ending) -> Entry {
        let said = Said {
            outcome,
            reason: (!outcome.is_conclusive()).then(|| "the rule bar-dies never fired".to_owned()),
            headline: matches!(outcome, Ending::Fault)
                .then(|| "BUG: unable to handle page fault for address: ff5e2c4780051010".to_owned()),
            release: "6.1.192".to_owned(),
            qemu: "11.1.3".to_owned(),
            wall_s: 10.0,
            removal_ms: Some(100.0 * f64::from(run)),
            idle_callbacks_on_dead_device: Some(1),
            warnings: Vec::new(),
            means: "The BAR was unmapped under the callback.".to_owned(),
            course: vec![("BAR vanished".to_owned(), 0.0), ("link down".to_owned(), 5.25)],
        };
        Entry {
            run: PlannedRun { kernel: kernel.to_owned(), scenario: scenario.to_owned(), run },
            made_of: MadeOf {
                lab: super::super::plan::LAB.to_owned(),
                kernel: format!("content of {kernel}"),
                scenario: format!("content of {scenario}"),
                deadline_s: None,
            },
            surroundings: Surroundings {
                kernel_build: format!("build of {kernel}"),
                device: "0123456789ab".to_owned(),
                machine: "2 x processor, 24 GiB, Debian GNU/Linux 12, Linux 6.1".to_owned(),
                accel: "tcg".to_owned(),
            },
            ended: "2026-11-26T18:35:45Z".to_owned(),
            said,
            again: Vec::new(),
            whole: run == 1,
        }
    }

    #[test]
    fn an_entry_is_the_same_when_it_is_read_again() {
        let mut made = entry("6.1", "sd7-idle-race", 2, Ending::Inconclusive);
        made.again = vec![Attempt { reason: "waited 900 s".to_owned(), wall_s: 900.0 }];
        let text = serde_json::to_string(&made).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), made);
    }

    #[test]
    fn what_a_run_said_is_read_from_its_result() {
        let result = serde_json::to_value(crate::result::tests::fault()).unwrap();
        let said = Said::of(&result).unwrap();
        assert_eq!(said.outcome, Ending::Fault);
        assert_eq!(said.release, "6.1.0-56-amd64");
        assert!(said.headline.unwrap().starts_with("BUG: unable to handle page fault"));
        assert!(
            said.means.starts_with(".remove unmapped the BAR while the idle callback was still reading it")
        );
        let names: Vec<&str> = said.course.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names.first(), names.last()), (Some(&"switch requested"), Some(&"reader removed")));
        assert!(said.course.is_sorted_by(|(_, left), (_, right)| left <= right));
        let result = serde_json::to_value(crate::result::tests::inconclusive("x")).unwrap();
        assert_eq!(Said::of(&result).unwrap().reason.as_deref(), Some("x"));
    }

    #[test]
    fn what_newer_results_say_is_taken() {
        let result = serde_json::json!({
            "outcome": "hang", "reason": null, "removal_ms": 12.5, "idle_callbacks_on_dead_device": 2,
            "warnings": ["WARNING: possible circular locking dependency detected"],
            "hang": { "headline": "INFO: task irq/25-pciehp:77 blocked for more than 20 seconds." },
        });
        let said = Said::of(&result).unwrap();
        assert_eq!((said.outcome, said.removal_ms), (Ending::Hang, Some(12.5)));
        assert_eq!(said.idle_callbacks_on_dead_device, Some(2));
        assert!(said.headline.unwrap().contains("pciehp:77 blocked"));
        assert!(Said::of(&serde_json::json!({ "outcome": "odd" })).is_err());
    }
}
