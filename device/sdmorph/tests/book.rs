//! Pages of the book that the program writes are those that it would write now.
//!
//! `SDMORPH_BLESS=1 cargo test -p sdmorph --test book` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A page, and the arguments that print it.
const PAGES: &[(&str, &[&str])] = &[
    ("registers.md", &["registers", "--markdown"]),
    ("control-commands.md", &["ctl", "commands", "--markdown"]),
    ("control-events.md", &["ctl", "events", "--markdown"]),
    ("scenario-list.md", &["lab", "list", "--markdown"]),
    ("verdict.md", &["lab", "verdicts", "--render", "../../guest-tests/results/verdicts.json"]),
];

const BLESS: &str = "SDMORPH_BLESS";

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src")
}

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sdmorph")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The first line in which the page in the book is not what is printed now.
fn difference(page: &str, now: &str) -> String {
    let number = page.lines().zip(now.lines()).take_while(|(old, new)| old == new).count();
    let line = |text: &str| text.lines().nth(number).unwrap_or("(the page ends)").to_owned();
    format!("line {}\n  in the book: {}\n  now:         {}", number + 1, line(page), line(now))
}

#[test]
fn generated_pages_are_current() {
    let bless = std::env::var_os(BLESS).is_some();
    let mut stale = Vec::new();
    for (name, arguments) in PAGES {
        let (path, now) = (book().join(name), printed(arguments));
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        if page == now {
            continue;
        }
        if bless {
            std::fs::write(&path, now).unwrap();
        } else {
            stale.push(format!("docs/src/{name}, {}", difference(&page, &now)));
        }
    }
    assert!(
        stale.is_empty(),
        "{}\nto write them anew: {BLESS}=1 cargo test -p sdmorph --test book",
        stale.join("\n")
    );
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let book = book();
    let contents = std::fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    for directory in ["", "decisions/"] {
        for entry in std::fs::read_dir(book.join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") && name != "SUMMARY.md" {
                assert!(contents.contains(&format!("({directory}{name})")), "{directory}{name}");
            }
        }
    }
}

#[test]
fn page_of_commands_is_for_commands_only() {
    let output = Command::new(env!("CARGO_BIN_EXE_sdmorph"))
        .args(["ctl", "query-status", "--markdown"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`commands` and `events` only"));
}
