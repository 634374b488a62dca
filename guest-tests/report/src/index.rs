//! A series of runs: a line each, with its verdict and a link to its page.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::PAGE;
use crate::escape::markup;
use crate::evidence::{Error, RunResult, read_result};
use crate::page;
use crate::wording::capital;

/// How far down a run's directory can be: `SCENARIO/KERNEL/VARIANT` of a test.
const DEEP: usize = 3;

/// A run below a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to the directory.
    pub(crate) place: PathBuf,
    result: RunResult,
}

/// The runs below a directory, by their paths, whenever they were made. `damaged` gets what cannot be read.
pub(crate) fn find(directory: &Path, mut damaged: impl FnMut(&Path, &Error)) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    let mut level = vec![PathBuf::new()];
    for _ in 0..DEEP {
        let mut below = Vec::new();
        for place in level {
            let path = directory.join(&place);
            for entry in fs::read_dir(&path).map_err(Error::file("read the directory", &path))?.flatten() {
                if entry.path().is_dir() {
                    below.push(place.join(entry.file_name()));
                }
            }
        }
        below.sort();
        let is_run = |place: &PathBuf| directory.join(place).join(crate::evidence::RESULT).is_file();
        let (runs, others): (Vec<PathBuf>, Vec<PathBuf>) = below.into_iter().partition(is_run);
        for place in runs {
            match read_result(&directory.join(&place)) {
                Ok(result) => found.push(Entry { place, result }),
                Err(error) => damaged(&directory.join(&place), &error),
            }
        }
        level = others;
    }
    Ok(found)
}

/// The page of a series.
pub(crate) fn write(entries: &[Entry]) -> String {
    let mut html = page::start(
        "Runs",
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    );
    let unexpected = entries.iter().filter(|entry| !entry.result.as_expected).count();
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<header><h1>Runs</h1><p class=\"headline\">{} runs, {}.</p></header>\n<main>\n<table class=\"moments\"><thead><tr>\
         <th scope=\"col\">run</th><th scope=\"col\">scenario</th><th scope=\"col\">kernel</th>\
         <th scope=\"col\">verdict</th><th scope=\"col\"></th></tr></thead><tbody>\n",
        entries.len(),
        if unexpected == 0 { "all as expected".to_owned() } else { format!("{unexpected} not as expected") }
    );
    for Entry { place, result } in entries {
        let place = place.to_string_lossy();
        let why = match (&result.reason, &result.oops) {
            (Some(reason), _) => reason.as_str(),
            (None, Some(oops)) => oops.headline.as_str(),
            (None, None) => "",
        };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><a href=\"{link}/{PAGE}\">{name}</a></th><td>{}</td><td>{}</td><td>{}: {}</td><td>{}</td></tr>",
            markup(&result.scenario),
            markup(&result.kernel),
            markup(&capital(&result.outcome)),
            if result.as_expected { "as expected" } else { "✕ NOT as expected" },
            markup(why),
            link = markup(&place.replace('%', "%25").replace('#', "%23").replace('?', "%3F")),
            name = markup(&place),
        );
    }
    html.push_str("</tbody></table>\n</main>\n</body>\n</html>\n");
    html
}
