//! `sdmorph report`: pages, pictures and traces of what runs have left.

use std::path::{Path, PathBuf};

use sdmorph_report::{Error, PAGE, Report};

use crate::arguments::ReportOptions;
use crate::{Failure, output};

/// Writes what is asked for, and says where.
pub(crate) fn run(options: &ReportOptions) -> Result<(), Failure> {
    let ReportOptions { directory, html, svg, png, perfetto } = options;
    let report = read(directory)?;
    let alone = svg.is_none() && png.is_none() && perfetto.is_none();
    let html = html.clone().or_else(|| alone.then(|| directory.join(PAGE)));
    if let Some(path) = &html {
        save("page", path, report.html())?;
    }
    if let Some(path) = svg {
        save("picture", path, report.svg())?;
    }
    if let Some(path) = png {
        save("picture", path, report.png())?;
    }
    if let Some(path) = perfetto {
        save("trace", path, report.trace())?;
    }
    Ok(())
}

/// Writes the page of a scenario that has just been run. Returns where it is.
pub(crate) fn page(directory: &Path) -> Result<PathBuf, Failure> {
    let path = directory.join(PAGE);
    Report::save(&path, read(directory)?.html()).map_err(failure)?;
    Ok(path)
}

/// Writes the pages of a series of runs, and the one that links to them. Returns where that is.
pub(crate) fn series(directory: &Path) -> Result<PathBuf, Failure> {
    let warn = |path: &Path, warnings: &[String]| {
        for warning in warnings {
            tracing::warn!("{}: {warning}", path.display());
        }
    };
    sdmorph_report::series(directory, warn).map_err(failure)
}

fn read(directory: &Path) -> Result<Report, Failure> {
    let report = Report::read(directory).map_err(failure)?;
    for warning in report.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(report)
}

fn save(what: &str, path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    Report::save(path, content).map_err(failure)?;
    output::print(&format!("{what}: {}\n", path.display()))
}

fn failure(error: Error) -> Failure {
    match error {
        Error::NoRun { .. } | Error::Result { .. } | Error::Line { .. } => Failure::BadInput(error.into()),
        Error::File { what: "write", .. } => Failure::Failed(error.into()),
        Error::File { .. } => Failure::BadInput(error.into()),
    }
}
