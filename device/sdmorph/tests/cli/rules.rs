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
fn trace_s_latencies_are_read_from_a_file_beside_the_scenario() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("my")).unwrap();
    let text = SCENARIO.replace("read-latency = \"500us\"", "read-latency = { trace-file = \"board.txt\" }");
    fs::write(dir.path().join("my/traced.toml"), text).unwrap();
    let board = dir.path().join("my/board.txt");
    fs::write(&board, "12\n").unwrap();
    let wrong = format!("do.read-latency.trace-file: {}:1: \"12\" is not a duration", board.display());
    let refused = run(program(dir.path()).args(["serve", "--rules"]).arg(dir.path().join("my/traced.toml")));
    refused.fails_with(2, &["my/traced.toml:", &wrong]);
    fs::write(&board, "# of a board\n850ns\n1.2us\n").unwrap();
    let server = Server::start_in(dir, &["--rules", "my/traced.toml"]);
    let rules = server.done(&["query-rules"]).json();
    let mut rules = rules.as_array().unwrap().iter().map(|rule| &rule["rule"]);
    let slow = rules.find(|rule| rule["name"] == "dead-reads-slow").unwrap();
    assert_eq!(slow["do"]["read-latency"]["trace-ns"], serde_json::json!([850, 1200]));
}

/// Where `text` is in the scenario in which `from` has become `to`, as errors say it.
fn place(from: &str, to: &str, text: &str) -> String {
    let broken = SCENARIO.replace(from, to);
    let at = broken.find(text).unwrap();
    let line = broken[..at].matches('\n').count() + 1;
    let column = broken[..at].rsplit('\n').next().unwrap().chars().count() + 1;
    format!("broken.toml:{line}:{column}: ")
}

#[test]
fn rule_that_is_wrong_ends_with_2_its_place_in_the_file_its_key_and_the_nearest_word() {
    for (from, to, key, says) in [
        // What the names of the machine say, and what the rule's form does.
        (
            "\"L1SUB_CONFIG3\"",
            "\"L1SUB_CONFIG\"",
            "write = ",
            "on.write: no register \"L1SUB_CONFIG\"; did you mean L1SUB_CONFIG",
        ),
        (
            "after = \"express-switch",
            "after = \"expres-switch",
            "after = ",
            "on.after: no event \"expres-switch-requested\"; did you mean express-switch-requested?",
        ),
        (
            "after = \"express-switch-requested\"",
            "until = { rule = \"dead-reads-slo\" }",
            "until = ",
            "on.until: no rule \"dead-reads-slo\"; did you mean dead-reads-slow?",
        ),
        (
            "after = \"express-switch-requested\"",
            "while = { phase = \"swiching\" }",
            "phase = ",
            "on.while.phase: no phase \"swiching\"; did you mean switching?",
        ),
        ("\"500us\"", "\"-500us\"", "read-latency = ", "do.read-latency: a latency cannot be negative"),
        ("delay = \"5ms\"", "delay = 5", "delay = ", "on.delay: 5 has no unit"),
        (
            "on = { rule = \"bar-dies\" }",
            "on = { rul = \"bar-dies\" }",
            "on = { rul",
            "on: unknown key \"rul\"; did you mean \"rule\"?",
        ),
        (
            "bar = \"vanish\"",
            "bar = \"vanihs\"",
            "bar = ",
            "do.bar: unknown word \"vanihs\"; did you mean \"vanish\"?",
        ),
        (
            "name = \"link-falls\"",
            "name = \"bar-dies\"",
            "[[rule]]\nname = \"bar-dies\"\non = { rule",
            "there is a rule of this name already",
        ),
    ] {
        serve_with(from, to).fails_with(2, &[&place(from, to, key), says]);
    }
}

#[test]
fn rule_that_the_scenario_s_slot_is_not_equipped_for_is_refused_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let lab_run = |device: &str| {
        let text = SCENARIO.replacen("bar = \"vanish\"", "attention-button = \"press\"", 1) + device;
        let file = dir.path().join("slot.toml");
        fs::write(&file, text).unwrap();
        // No QEMU is where this one is looked for.
        run(program(dir.path()).args(["lab", "run"]).arg(file).env("QEMU", "/nonexistent/qemu"))
    };
    lab_run("").fails_with(2, &["slot.toml:", "do", "the slot is without attention-button"]);
    lab_run("\n[device.slot]\nattention_button = true\n").fails_with(3, &["/nonexistent/qemu"]);
}

#[test]
fn pieces_of_a_slot_are_those_of_the_machine() {
    for word in sdmorph_machine::Equipment::WORDS {
        let text = format!("{SCENARIO}\n[device.slot]\n{} = true\n", word.replace('-', "_"));
        let scenario = sdmorph_lab::scenario::Scenario::parse("slot", "slot.toml", &text).unwrap();
        assert_eq!(scenario.device.slot.words(), [*word]);
    }
}

#[test]
fn unknown_key_ends_with_2_and_names_it() {
    let then = ("do = { bar", "then = { bar");
    serve_with(then.0, then.1).fails_with(2, &["broken.toml:", "unknown key \"then\""]);
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
