//! `--rules`: a scenario's rules at the start.

use std::fs;

use crate::server::{Run, Server, program, run};

const SCENARIO: &str = include_str!("../../../../guest-tests/scenarios/sd7-idle-race.toml");

/// The server's end with a scenario in which `from` has become `to`.
fn serve_with(from: &str, to: &str) -> Run {
    assert!(SCENARIO.contains(from), "{from}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.toml");
    fs::write(&file, SCENARIO.replace(from, to)).unwrap();
    let run = run(program(dir.path()).args(["serve", "--rules"]).arg(&file));
    assert!(!dir.path().join("sdmorph/vfu.sock").exists());
    run
}

#[test]
fn shipped_scenario_s_rules_are_there_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good.toml"), SCENARIO).unwrap();
    let mut server = Server::start_in(dir, &["--rules", "good.toml"]);
    let rules = server.done(&["query-rules"]).json();
    let names: Vec<_> =
        rules.as_array().unwrap().iter().map(|rule| rule["rule"]["name"].as_str().unwrap()).collect();
    for name in ["bar-dies", "dead-reads-slow", "link-falls"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(server.quit(), Some(0));
}

#[test]
fn wrong_register_ends_with_2_and_the_nearest_names() {
    serve_with("\"L1SUB_CONFIG3\"", "\"L1SUB_CONFIG\"")
        .fails_with(2, &["bar-dies", "\"L1SUB_CONFIG\"", "did you mean", "L1SUB_CONFIG3"]);
}

#[test]
fn negative_latency_ends_with_2_and_names_the_rule() {
    serve_with("\"500us\"", "\"-500us\"").fails_with(2, &["broken.toml", "dead-reads-slow", "negative"]);
}

#[test]
fn unknown_key_ends_with_2_and_names_it() {
    serve_with("do = { bar", "then = { bar").fails_with(2, &["broken.toml", "then"]);
    serve_with("deadline_s", "deadline_secs").fails_with(2, &["broken.toml", "deadline_secs"]);
}

#[test]
fn toml_that_does_not_parse_ends_with_2_and_its_place() {
    serve_with("deadline_s = 900", "deadline_s 900").fails_with(2, &["broken.toml:", "expected `=`"]);
}

#[test]
fn file_that_is_not_there_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    run(program(dir.path()).args(["serve", "--rules", "/nonexistent.toml"]))
        .fails_with(2, &["/nonexistent.toml", "No such file"]);
}
