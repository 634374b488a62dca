//! Where client and server run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::client::Waits;

/// Where client and server run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "placement", rename_all = "kebab-case")]
pub(crate) enum Placement {
    /// Both on one core.
    OneCore { cpu: usize },
    /// Each on a core of its own.
    TwoCores { client: usize, server: usize },
    /// The same, with a client that looks for its answer without sleeping: the time that it takes to wake the client is
    /// the kernel's and the same for all servers.
    TwoCoresAwake { client: usize, server: usize },
    /// Wherever the kernel puts them.
    Unpinned,
}

impl Placement {
    pub(crate) fn client_cpu(self) -> Option<usize> {
        match self {
            Self::OneCore { cpu }
            | Self::TwoCores { client: cpu, .. }
            | Self::TwoCoresAwake { client: cpu, .. } => Some(cpu),
            Self::Unpinned => None,
        }
    }

    pub(crate) fn server_cpu(self) -> Option<usize> {
        match self {
            Self::OneCore { cpu }
            | Self::TwoCores { server: cpu, .. }
            | Self::TwoCoresAwake { server: cpu, .. } => Some(cpu),
            Self::Unpinned => None,
        }
    }

    /// How the client waits for an answer.
    pub(crate) fn client_waits(self) -> Waits {
        match self {
            Self::TwoCoresAwake { .. } => Waits::Awake,
            Self::OneCore { .. } | Self::TwoCores { .. } | Self::Unpinned => Waits::Asleep,
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::OneCore { cpu } => format!("both ends on one core (CPU {cpu})"),
            Self::TwoCores { client, server } => {
                format!("two cores (client on CPU {client}, server on CPU {server})")
            }
            Self::TwoCoresAwake { client, server } => {
                format!(
                    "two cores, the client does not sleep (client on CPU {client}, server on CPU {server})"
                )
            }
            Self::Unpinned => "not pinned".to_owned(),
        }
    }
}

/// The placements this machine has, and why not the others.
///
/// # Errors
/// The kernel does not say which processors there are.
pub(crate) fn possible() -> Result<(Vec<Placement>, Vec<String>)> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    let cpu = *cpus.first().context("there is no processor to be on")?;
    let mut placements = vec![Placement::OneCore { cpu }];
    let mut not = Vec::new();
    // Two threads of one core share what a polling server uses up.
    let siblings = siblings(cpu);
    match cpus.iter().find(|other| **other != cpu && !siblings.contains(other)) {
        Some(server) => {
            let server = *server;
            placements.push(Placement::TwoCores { client: cpu, server });
            placements.push(Placement::TwoCoresAwake { client: cpu, server });
        }
        None => not.push("two cores: there is only one to be on".to_owned()),
    }
    placements.push(Placement::Unpinned);
    Ok((placements, not))
}

/// The processors that are threads of the same core, as far as the kernel says.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    parse_list(&fs::read_to_string(Path::new(&path)).unwrap_or_default())
}

/// Numbers as the kernel lists them: `0,4-7`.
fn parse_list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Keeps the calling thread, and whatever it starts, on one core.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("cannot be on CPU {cpu} only"))
}

/// The calling thread on one core, until this is dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// None for wherever the kernel puts it.
    pub(crate) fn to(cpu: Option<usize>) -> Result<Self> {
        let before = sched_getaffinity(None).context("sched_getaffinity")?;
        if let Some(cpu) = cpu {
            pin(cpu)?;
        }
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed there before.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_have_numbers_and_ranges() {
        assert_eq!(parse_list("0,4-6\n"), [0, 4, 5, 6]);
        assert_eq!(parse_list(""), [0; 0]);
    }

    #[test]
    fn thread_is_where_it_was_after_it_was_pinned() {
        let before = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap();
        {
            let _pinned = Pinned::to(Some(cpu)).unwrap();
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        }
        assert_eq!(sched_getaffinity(None).unwrap().count(), before.count());
    }
}
