//! A run for people: one HTML page that needs nothing else, a still picture of the critical moments, and a trace for
//! Perfetto. Made of the files that a run has left, not of machines.
//!
//! In the order of the work:
//! - `evidence`: `result.json`, `record.jsonl` and `console.log`, read back; `ftrace`: the trace of the guest's kernel;
//! - `clocks`: the guest's clocks laid over the device's, and how far off that can be;
//! - `kernel`: the calls of a trace, in rows;
//! - `story`: spans, moments and the verdict in words; everything below draws these;
//! - `lanes`: what is drawn where, on paper and screen; `wording`: numbers and times as text;
//! - `drawing`, made with a `pen`, and `svg`, `png`: the still picture;
//! - `page`: the HTML page; `page/` has its style and its script;
//! - `index`: the page of a series of runs;
//! - `trace`: the Chrome JSON trace event format;
//! - `escape`: what a guest says is text, never markup.
//!
//! What it does not do:
//! - judge: the verdict is the lab's, from `result.json`;
//! - show more than the first run of each variant at a time: a series has a page for each, and one that links to them;
//! - put more than [`RECORDS_LIMIT`] entries of a record into a page: the trace has them all.

mod clocks;
mod drawing;
mod escape;
mod evidence;
mod ftrace;
mod index;
mod kernel;
mod lanes;
mod page;
mod pen;
mod png;
mod story;
mod svg;
mod trace;
mod wording;

use std::path::{Path, PathBuf};

pub use evidence::Error;
pub use page::RECORDS_LIMIT;

use story::Story;

/// The file name of a page beside a run.
pub const PAGE: &str = "report.html";

/// The file name of the page of a series.
pub const INDEX: &str = "index.html";

/// Writes the page of each run below a directory beside it, and one with a line for each into the directory: runs of
/// before that lie there are among them. `each` is told of every page that has warnings, and of every run that is not what
/// it should be, which has no line.
///
/// # Errors
/// If the directory cannot be read, or a page cannot be written.
pub fn series(directory: &Path, mut each: impl FnMut(&Path, &[String])) -> Result<PathBuf, Error> {
    let found = index::find(directory, |path, error| each(path, &[error.to_string()]))?;
    let mut entries = Vec::new();
    for entry in found {
        let path = directory.join(&entry.place);
        let report = match Report::read(&path) {
            Ok(report) => report,
            Err(error) => {
                each(&path, &[error.to_string()]);
                continue;
            }
        };
        let warnings = report.warnings();
        if !warnings.is_empty() {
            each(&path, &warnings);
        }
        Report::save(&path.join(PAGE), report.html())?;
        entries.push(entry);
    }
    let path = directory.join(INDEX);
    Report::save(&path, index::write(&entries))?;
    Ok(path)
}

/// What one or two runs tell.
#[derive(Debug)]
pub struct Report {
    story: Story,
}

impl Report {
    /// Reads the directory of a run, or that of a scenario with a run of each variant.
    ///
    /// # Errors
    /// If it is neither, or a file in it is not what it should be: says which, and which line.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        Ok(Self { story: Story::of(evidence::read(directory)?) })
    }

    /// What the reader should know of the evidence, such as a record that is cut off. Empty if all is well.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.story.panels.iter().flat_map(page::warnings).collect()
    }

    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        page::write(&self.story)
    }

    /// The still picture as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::write(&drawing::draw(&self.story))
    }

    /// The still picture as PNG, two pixels for each unit of the SVG.
    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        png::write(&drawing::draw(&self.story))
    }

    /// All entries as a trace that Perfetto's user interface opens.
    #[must_use]
    pub fn trace(&self) -> String {
        trace::write(&self.story)
    }

    /// Writes what one of the others has made.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
        std::fs::write(path, content).map_err(Error::file("write", path))
    }
}
