//! Standard output.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context;

use crate::Failure;

/// Whether what is written may have colours.
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Writes a value as JSON, for people and programs.
///
/// # Errors
/// As [`print()`].
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.into()))?;
    print(&format!("{text}\n"))
}

/// Writes `text`.
///
/// # Errors
/// Exit code 0 if whoever read has gone: `head` has what it wanted, and there is nobody to go on for. Exit code 1 for
/// anything else, such as a full disk.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Shown(0)),
        result => result.context("standard output").map_err(Failure::Failed),
    }
}
