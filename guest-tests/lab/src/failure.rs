//! Why the lab could not come to a verdict at all, and the exit codes.

use std::path::{Path, PathBuf};

use crate::assets;
use crate::campaign::PlanError;
use crate::record::RecordError;
use crate::scenario::{Scenario, ScenarioError, Since};

/// Every verdict was the expected one.
pub const EXIT_EXPECTED: u8 = 0;
/// A verdict was another than the expected one.
pub const EXIT_UNEXPECTED: u8 = 1;
/// The user's input cannot be used.
pub const EXIT_USAGE: u8 = 2;
/// A run was inconclusive, or the lab itself failed.
pub const EXIT_INCONCLUSIVE: u8 = 3;

/// A failure of the lab, or of what was asked of it. A run that merely has no verdict is no failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The device refuses the scenario's rules.
    #[error("the device refuses the scenario `{scenario}`: {reason}")]
    Rules {
        /// The scenario's name.
        scenario: String,
        /// What the device said.
        reason: String,
    },
    /// The kernel is older than what the scenario needs.
    #[error("the scenario {scenario} needs Linux {since} or newer, and the kernel is {release}")]
    TooOld {
        /// The scenario's name.
        scenario: String,
        /// The first release that would do.
        since: Since,
        /// The kernel's.
        release: String,
    },
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// The campaign cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What was to be joined contradicts itself.
    #[error("{0}")]
    Contradiction(String),
    /// QEMU, kernel or another asset is not to be had.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// The device's process could not be started, or did not answer.
    #[error("the device's process {what}; its log ends:\n{log}")]
    Server {
        /// What it did, or did not.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// The device's record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file cannot be read or written.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    File {
        /// The operation, as a verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another lab is at work in the output directory.
    #[error("another sdmorph writes into {path}: wait for its end, or give this one a place of its own (--out)", path = .0.display())]
    OutputInUse(PathBuf),
    /// The user ended it.
    #[error("interrupted; everything that was started has been ended")]
    Interrupted,
}

impl Failure {
    /// The exit code that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Scenario(_)
            | Self::Rules { .. }
            | Self::TooOld { .. }
            | Self::Options(_)
            | Self::Plan(_)
            | Self::Contradiction(_) => EXIT_USAGE,
            Self::Assets(_)
            | Self::Server { .. }
            | Self::Record(_)
            | Self::File { .. }
            | Self::OutputInUse(_)
            | Self::Interrupted => EXIT_INCONCLUSIVE,
        }
    }

    /// [`Failure::TooOld`], unless a kernel of this release has what the scenario needs.
    pub(crate) fn unless_as_new(scenario: &Scenario, release: &str) -> Result<(), Self> {
        match scenario.kernel.since.filter(|since| !since.is_met_by(release)) {
            Some(since) => {
                Err(Self::TooOld { scenario: scenario.name.clone(), since, release: release.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// For `map_err`: an operation on a file that failed.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}
