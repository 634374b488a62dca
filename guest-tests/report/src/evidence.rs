//! What a run has left in its directory, read back.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use sdmorph_lab::klog::Klog;
use sdmorph_lab::record::Entry;
use sdmorph_lab::scenario::Origin;
use serde::Deserialize;

use crate::ftrace::Ftrace;

/// The files that a report is made of, as `sdmorph lab run` names them.
pub(crate) const RESULT: &str = "result.json";
const RECORD: &str = "record.jsonl";
const CONSOLE: &str = "console.log";
/// There only if the run was traced.
const TRACE: &str = "trace.txt";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is neither a run's nor a scenario's.
    #[error(
        "{path} has no run: a run's directory has {RESULT}, {RECORD} and {CONSOLE}, a scenario's has the directories \
         of its runs (without-fix, with-fix). {found}",
        path = path.display()
    )]
    NoRun {
        /// What was given.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
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
    /// The verdict's document is none.
    #[error("{path} is not the result of a run: {source}", path = path.display())]
    Result {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line of the device's record is no entry.
    #[error("{path}, line {line}: not an entry of the device's record: {source}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// For `map_err`: an operation on a file that failed.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// The parts of `result.json` that a report shows. What is newer than this program is passed over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunResult {
    pub(crate) scenario: String,
    pub(crate) origin: Origin,
    /// `without-fix`, `with-fix` or `on-trial`.
    pub(crate) variant: String,
    pub(crate) run: u32,
    pub(crate) as_expected: bool,
    /// `fault`, `clean` or `inconclusive`.
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) disagreements: Vec<String>,
    pub(crate) means: String,
    pub(crate) kernel: String,
    pub(crate) qemu: String,
    pub(crate) moments: Vec<MomentTime>,
    pub(crate) zero_ns: Option<u64>,
    pub(crate) kernel_log: Vec<String>,
    pub(crate) oops: Option<Oops>,
    pub(crate) inlined: Vec<Inlined>,
}

/// One of the scenario's moments.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MomentTime {
    pub(crate) name: String,
    pub(crate) t_ms: Option<f64>,
    /// `device` or `guest`.
    pub(crate) clock: String,
}

/// The oops that the verdict is about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Oops {
    pub(crate) headline: String,
    pub(crate) time_us: Option<u64>,
    pub(crate) address: Option<String>,
    pub(crate) cpu: Option<u32>,
    pub(crate) comm: Option<String>,
    pub(crate) workqueue: Option<String>,
    pub(crate) work: Option<String>,
    pub(crate) rip: Option<Frame>,
    pub(crate) chain: Vec<Frame>,
    pub(crate) text: Vec<String>,
}

/// One entry of a call chain.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Frame {
    pub(crate) symbol: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) module: Option<String>,
    pub(crate) reliable: bool,
}

/// A function that the oops has without a frame of its own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Inlined {
    pub(crate) function: String,
    pub(crate) chain_index: usize,
}

/// One line of the device's record, read and as it is.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    entry: Entry,
    /// The line itself.
    pub(crate) raw: String,
}

impl Row {
    pub(crate) fn from_line(line: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self { entry: serde_json::from_slice(line)?, raw: String::from_utf8_lossy(line).into_owned() })
    }
}

impl Deref for Row {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Borrow<Entry> for Row {
    fn borrow(&self) -> &Entry {
        &self.entry
    }
}

/// A run's evidence.
#[derive(Debug)]
pub(crate) struct Run {
    /// The directory, relative to the one that was asked for; empty if it is the same.
    pub(crate) directory: String,
    pub(crate) result: RunResult,
    pub(crate) rows: Vec<Row>,
    pub(crate) log: Klog,
    pub(crate) trace: Option<Ftrace>,
    /// The number of the record's last line, if its end is missing.
    pub(crate) cut_line: Option<usize>,
}

impl Run {
    fn read(path: &Path, directory: String) -> Result<Self, Error> {
        let result = read_result(path)?;
        let console = path.join(CONSOLE);
        let log = Klog::from_bytes(&fs::read(&console).map_err(Error::file("read", &console))?);
        let trace = path.join(TRACE);
        let trace = match fs::read(&trace) {
            Ok(text) => Some(Ftrace::parse(&String::from_utf8_lossy(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("read", &trace)(error)),
        };
        let (rows, cut_line) = read_record(&path.join(RECORD))?;
        Ok(Self { directory, result, rows, log, trace, cut_line })
    }
}

/// Reads the verdict's document of the run in a directory.
pub(crate) fn read_result(path: &Path) -> Result<RunResult, Error> {
    let path = path.join(RESULT);
    let text = fs::read(&path).map_err(Error::file("read", &path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Result { path, source })
}

/// Reads the device's record; says which line its last one is if that is cut off.
fn read_record(path: &Path) -> Result<(Vec<Row>, Option<usize>), Error> {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::file("read", path))?);
    let mut rows = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        lines.read_until(b'\n', &mut bytes).map_err(Error::file("read", path))?;
        let Some(text) = bytes.strip_suffix(b"\n") else {
            let cut = !bytes.trim_ascii().is_empty();
            return Ok((rows, cut.then_some(line)));
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        let row = Row::from_line(text);
        rows.push(row.map_err(|source| Error::Line { path: path.to_owned(), line, source })?);
    }
    Ok((rows, None))
}

/// The runs below a directory: the one that it is of, or the first of each variant of a scenario, without the fix first.
pub(crate) fn read(path: &Path) -> Result<Vec<Run>, Error> {
    if path.join(RESULT).is_file() {
        return Ok(vec![Run::read(path, String::new())?]);
    }
    let entries = fs::read_dir(path).map_err(Error::file("read the directory", path))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    // Of a series, `with-fix-001` and so on, the first.
    let mut first = BTreeMap::new();
    for name in names.iter().filter(|name| path.join(name).join(RESULT).is_file()) {
        let variant = ["without-fix", "with-fix"].iter().position(|variant| name.starts_with(variant));
        first.entry(variant.unwrap_or(usize::MAX)).or_insert_with(|| name.clone());
    }
    if first.is_empty() {
        return Err(Error::NoRun { path: path.to_owned(), found: what_is_there(path, &names) });
    }
    first.into_values().map(|name| Run::read(&path.join(&name), name)).collect()
}

/// For somebody who gave the wrong directory.
fn what_is_there(path: &Path, names: &[String]) -> String {
    if names.iter().any(|name| name == RECORD) {
        return format!("It has {RECORD}, but no {RESULT}: the run did not come to its end.");
    }
    let below = |name: &&String| {
        fs::read_dir(path.join(name)).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let path = entry.path();
                path.join(RESULT).is_file() || path.join("with-fix").join(RESULT).is_file()
            })
        })
    };
    match names.iter().find(below) {
        Some(name) => format!("There are runs further down, in {name}."),
        None if names.is_empty() => "It is empty.".to_owned(),
        None => {
            let some: Vec<&str> = names.iter().take(6).map(String::as_str).collect();
            format!("It has: {}{}", some.join(", "), if names.len() > 6 { ", …" } else { "" })
        }
    }
}
