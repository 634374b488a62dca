//! What can go wrong while the lab gets what it needs, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kernels::KernelsError;

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
    /// There is no kernel of that name, or what was to be added to it cannot be read.
    #[error(transparent)]
    Kernels(#[from] KernelsError),
    /// A patch does not fit a kernel's source.
    #[error("{patch} does not apply to {kernel}{}", indented(said))]
    Patch {
        /// The patch's file.
        patch: String,
        /// The kernel that it was for.
        kernel: String,
        /// What patch(1) said.
        said: String,
    },
    /// A kernel does not build.
    #[error("{kernel} does not build ({status}){}", indented(said))]
    Build {
        /// The kernel.
        kernel: String,
        /// How make ended.
        status: String,
        /// What the compiler, or make, said of it.
        said: String,
    },
    /// There is no space left for what is made.
    #[error("no space left in {} for {what}{}{}", path.display(), indented(said), SPACE_HINT)]
    DiskFull {
        /// What it was needed for.
        what: String,
        /// Where.
        path: PathBuf,
        /// What was said, or what is left.
        said: String,
    },
    /// The user ended it.
    #[error("interrupted while {0}")]
    Interrupted(String),
    /// Something given by the user, or found in a file, cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// What kind of failure it is, for those who go on with something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// A patch does not apply.
    Patch,
    /// A kernel does not build.
    Build,
    /// The archive could not be reached, or does not have it.
    Fetch,
    /// There is no space left.
    DiskFull,
    /// A kernel that lacks something, or a name, file or option of the user's that cannot be used.
    Unusable,
    /// The user ended it.
    Interrupted,
    /// The host: a file, or a program.
    Host,
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if is_full(source) => ErrorKind::DiskFull,
            Self::Command { stderr, .. } | Self::Archive { stderr, .. } if says_full(stderr) => {
                ErrorKind::DiskFull
            }
            Self::Io { .. } | Self::MissingTool { .. } | Self::Command { .. } => ErrorKind::Host,
            Self::Archive { .. } | Self::NoArchive { .. } => ErrorKind::Fetch,
            Self::Patch { .. } => ErrorKind::Patch,
            Self::Build { .. } => ErrorKind::Build,
            Self::DiskFull { .. } => ErrorKind::DiskFull,
            Self::Interrupted(_) => ErrorKind::Interrupted,
            Self::Kernel { .. } | Self::Kernels(_) | Self::Unusable(_) => ErrorKind::Unusable,
        }
    }

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

const SPACE_HINT: &str = "\nThe cache needs about 2.5 GB while setting up and 1 GB afterwards, and another 2.5 GB for \
                          building kernels (XDG_CACHE_HOME moves it).";

fn disk_full_hint(source: &io::Error) -> &'static str {
    if is_full(source) { SPACE_HINT } else { "" }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A program has said that the disk is full: strerror's words, programs being run with `LC_ALL=C`.
pub(crate) fn says_full(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
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
    fn a_full_disk_is_a_full_disk_whoever_says_so() {
        let full = Error::io("write", Path::new("x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.kind(), ErrorKind::DiskFull);
        let stderr = "tar: x: Cannot write: No space left on device\n".to_owned();
        let told = Error::Command { what: "unpacking".into(), status: "exit 2".into(), stderr };
        assert_eq!(told.kind(), ErrorKind::DiskFull);
        let other = Error::io("write", Path::new("x"))(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(other.kind(), ErrorKind::Host);
    }

    #[test]
    fn a_failed_command_shows_the_end_of_its_stderr() {
        let stderr: String = (0..40).map(|n| format!("line {n}\n")).collect();
        let text = Error::Command { what: "make".into(), status: "exit 2".into(), stderr }.to_string();
        assert!(text.starts_with("make failed (exit 2)\n  line 25\n"), "{text}");
        assert!(text.ends_with("line 39"), "{text}");
    }
}
