//! System calls a request, counted by strace in a run of its own: nothing is timed under it.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::process::{How, ServerProcess};
use crate::report::Settings;
use crate::servers::ServerKind;

/// Requests that are counted.
const MOST_READS: u32 = 2_000;

/// System calls of one server.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SystemCalls {
    pub(crate) server: ServerKind,
    /// For one read: those that did something. A receive that finds nothing while polling did not; how many of them
    /// there are depends on time, and strace takes most of it.
    pub(crate) per_read: f64,
}

/// Counts for every server but the one that only polls.
///
/// # Errors
/// There is no strace, or it may not trace.
pub(crate) fn count(settings: &Settings) -> Result<Vec<SystemCalls>> {
    let version =
        Command::new("strace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        bail!("there is no strace");
    }
    crate::say("system calls, under strace");
    let reads = settings.reads.min(MOST_READS);
    let count = |server| {
        // The same without reads: what it takes to start, to accept, and to end.
        let calls = total(server, reads)?.saturating_sub(total(server, 0)?);
        Ok(SystemCalls { server, per_read: calls as f64 / f64::from(reads) })
    };
    // One that lets others run again and again makes as many calls as there is time for, and they succeed. The
    // server that polls for a while gives that up under strace, since nothing comes soon enough.
    ServerKind::ALL.into_iter().filter(|kind| *kind != ServerKind::BarePolling).map(count).collect()
}

/// System calls that succeeded in a server's whole life, with that many reads in it.
fn total(kind: ServerKind, reads: u32) -> Result<u64> {
    let output = tempfile::NamedTempFile::new().context("a file for strace")?;
    let server = ServerProcess::start(kind, How { strace: Some(output.path()), ..How::default() })
        .context("strace cannot trace it")?;
    let client = server.connect()?;
    client.reads(reads, &mut Vec::new())?;
    drop(client);
    server.wait_left()?;
    server.finish()?;
    let summary = fs::read_to_string(output.path()).context("strace's summary")?;
    parse_total(&summary).context("strace's summary has no total")
}

/// Calls less errors, from the last line of `strace -c`: `100.00 0.1 2 4000 [17] total`.
fn parse_total(summary: &str) -> Option<u64> {
    let line = summary.lines().find(|line| line.trim_end().ends_with(" total"))?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let calls: u64 = fields.get(3)?.parse().ok()?;
    let errors = if fields.len() == 6 { fields.get(4)?.parse().ok()? } else { 0 };
    calls.checked_sub(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_calls_less_errors() {
        let with = "% time     seconds  usecs/call     calls    errors syscall\n\
                    100.00    0.000100           1       290        15 total\n";
        assert_eq!(parse_total(with), Some(275));
        assert_eq!(parse_total("100.00    0.000000           0        29           total\n"), Some(29));
        assert_eq!(parse_total("strace: Process 5 attached\n"), None);
    }
}
