//! What the program prints of itself.

use std::process::Stdio;

use crate::server::{program, run, sdmorph};

#[test]
fn registers_as_json_have_haimr_with_its_address_and_source() {
    let tables = sdmorph(&["registers", "--json"]).json();
    let haimr = tables
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|table| table["registers"].as_array().unwrap())
        .find(|register| register["name"] == "HAIMR")
        .unwrap();
    assert_eq!(haimr["address"], 0x10);
    assert!(haimr["source"].as_str().is_some_and(|source| source.contains("rtsx_pci.h")));
}

#[test]
fn registers_as_text_and_as_a_page_name_the_same_ones() {
    let (text, page) = (sdmorph(&["registers"]), sdmorph(&["registers", "--markdown"]));
    for name in ["HAIMR", "L1SUB_CONFIG3", "RTS5261_FW_STATUS"] {
        assert!(text.out.contains(name) && page.out.contains(&format!("`{name}`")), "{name}");
    }
    sdmorph(&["registers", "--markdown", "--json"]).fails_with(2, &["cannot be used with"]);
}

#[test]
fn completions_are_a_script_for_the_shell_asked_for() {
    let run = sdmorph(&["completions", "bash"]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("_sdmorph()") && run.out.contains("--socket-path"));
    sdmorph(&["completions", "teletype"]).fails_with(2, &["teletype"]);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let run = sdmorph(&["--help"]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("Examples:") && run.out.contains("Exit codes:"));
    for command in ["serve", "ctl"] {
        assert!(sdmorph(&[command, "--help"]).out.contains("Examples:"), "{command}");
    }
    assert!(sdmorph(&["--version"]).out.starts_with("sdmorph "));
}

#[test]
fn wrong_flag_or_command_ends_with_2_and_the_usage() {
    sdmorph(&["serve", "--sockt-path", "x"]).fails_with(2, &["--sockt-path", "--socket-path", "Usage"]);
    sdmorph(&["server"]).fails_with(2, &["server", "serve"]);
    sdmorph(&[]).fails_with(2, &["Usage"]);
}

#[test]
fn reader_that_leaves_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["registers"][..],
        &["registers", "--json"],
        &["completions", "bash"],
        &["ctl", "commands"],
        &["lab", "list"],
    ] {
        // A pipe whose reader has gone before the first byte.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let mut child = program(dir.path());
        let run = run(child.args(arguments).stdout(Stdio::from(writer)));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn full_disk_behind_standard_output_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    run(program(dir.path()).arg("registers").stdout(full))
        .fails_with(1, &["standard output", "No space left"]);
}
