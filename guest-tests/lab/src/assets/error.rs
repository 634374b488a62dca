//! What can go wrong while the lab gets what it needs, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in [`crate::assets`] and [`crate::vm`].
pub type Result<T> = std::result::Result<T, Error>;

/// A failure to fetch, build or use one of the lab's assets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be used.
    #[error("cannot {what} {}: {source}{}", path.display(), disk_full_hint(source))]
    Io {
        /// The operation, as a verb: "read", "create".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of the host is missing.
    #[error("the host has no `{tool}`, needed to {purpose}; {remedy}")]
    MissingTool {
        /// The program's name.
        tool: String,
        /// What it is needed for, as a verb phrase.
        purpose: &'static str,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A program ran and failed.
    #[error("{what} failed ({status}){}", indented(stderr))]
    Command {
        /// What was attempted.
        what: String,
        /// How the program ended.
        status: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// The archive could not be reached, or does not hold what was asked for.
    #[error(
        "{what}{}\nThe archive is the one this host's apt uses; SDMORPH_MIRROR=URI names another one.{}",
        indented(stderr),
        own_files_hint()
    )]
    Archive {
        /// What was attempted.
        what: String,
        /// The end of what apt wrote to stderr.
        stderr: String,
    },
    /// This host has no Debian archive to fetch from.
    #[error("{why}: nothing can be fetched here.{}", own_files_hint())]
    NoArchive {
        /// What is missing.
        why: String,
    },
    /// A kernel lacks something without which the device cannot be driven.
    #[error("kernel {kernel}: {}", problems.join("; "))]
    Kernel {
        /// Release or path of the kernel.
        kernel: String,
        /// One sentence for each thing that is missing.
        problems: Vec<String>,
    },
    /// Something given by the user, or found in a file, cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// An [`Error::Io`] builder for `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// The error for a program that could not be started.
    pub(crate) fn spawn(tool: &str, purpose: &'static str, remedy: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::MissingTool { tool: tool.to_owned(), purpose, remedy }
        } else {
            Self::Io { what: "start", path: PathBuf::from(tool), source }
        }
    }
}

fn disk_full_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; about 2.5 GB are needed while setting up, 1 GB afterwards (XDG_CACHE_HOME moves the cache)"
        }
        _ => "",
    }
}

fn own_files_hint() -> &'static str {
    "\nQEMU=, BUSYBOX=, KERNEL= and MODULES= take files of your own instead."
}

/// The last lines of a program's stderr, each on a line of its own under the message.
fn indented(stderr: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(LINES)).map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_names_the_space_that_is_needed() {
        let full = Error::io("write", Path::new("x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.to_string().contains("XDG_CACHE_HOME"), "{full}");
        let other = Error::io("write", Path::new("x"))(io::Error::from(io::ErrorKind::NotFound));
        assert!(!other.to_string().contains("XDG_CACHE_HOME"), "{other}");
    }

    #[test]
    fn a_failed_command_shows_the_end_of_its_stderr() {
        let stderr: String = (0..40).map(|n| format!("line {n}\n")).collect();
        let text = Error::Command { what: "make".into(), status: "exit 2".into(), stderr }.to_string();
        assert!(text.starts_with("make failed (exit 2)\n  line 25\n"), "{text}");
        assert!(text.ends_with("line 39"), "{text}");
    }
}
