//! `sdmorph report`: which files it writes, and what it says of directories that it can make nothing of.

use std::fs;
use std::path::{Path, PathBuf};

use crate::server::sdmorph;

fn race() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-tests/report/fixtures/race")
}

/// A copy of the fixture, and its path as an argument.
fn copy() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for run in ["without-fix", "with-fix"] {
        fs::create_dir(directory.path().join(run)).unwrap();
        for name in ["result.json", "record.jsonl", "console.log"] {
            fs::copy(race().join(run).join(name), directory.path().join(run).join(name)).unwrap();
        }
    }
    let path = directory.path().to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn report_writes_the_page_beside_the_runs_and_says_where() {
    let (directory, path) = copy();
    let run = sdmorph(&["report", &path]);
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, format!("page: {path}/report.html\n").as_str()),
        "{}",
        run.err
    );
    assert!(fs::read_to_string(directory.path().join("report.html")).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn report_writes_only_what_is_asked_for() {
    let (directory, path) = copy();
    let file = |name: &str| format!("{path}/{name}");
    let (svg, png, trace) = (file("a.svg"), file("a.png"), file("a.json"));
    let run = sdmorph(&["report", &path, "--svg", &svg, "--png", &png, "--perfetto", &trace]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!directory.path().join("report.html").exists());
    assert!(fs::read(svg).unwrap().starts_with(b"<svg "));
    assert!(fs::read(png).unwrap().starts_with(b"\x89PNG"));
    assert!(fs::read(trace).unwrap().starts_with(b"{\"displayTimeUnit\""));
}

#[test]
fn report_of_what_is_no_run_says_what_one_has_and_exits_2() {
    let (directory, path) = copy();
    sdmorph(&["report", "/nonexistent"]).fails_with(2, &["cannot read the directory /nonexistent"]);
    let record = directory.path().join("with-fix/record.jsonl");
    fs::write(&record, "{\"t_ns\":1,\"kind\":\"event\"}\nnonsense\n").unwrap();
    sdmorph(&["report", &path]).fails_with(2, &["with-fix/record.jsonl, line 2"]);
    fs::remove_file(record).unwrap();
    sdmorph(&["report", &path]).fails_with(2, &["cannot read", "with-fix/record.jsonl"]);
    fs::remove_file(directory.path().join("with-fix/result.json")).unwrap();
    sdmorph(&["report", &format!("{path}/with-fix")]).fails_with(2, &["a run's directory has result.json"]);
    let page = format!("{path}/no/such/page.html");
    sdmorph(&["report", &path, "--html", &page]).fails_with(1, &["cannot write", "page.html"]);
}
