//! The Python package `qemu.qmp` against the server: its asyncio client, and `qmp-shell`.
//!
//! Needs a Python with the package: `QMP_PYTHON=venv/bin/python cargo test -p sdmorph-control -- --ignored`.

use crate::toy_device::ToyDevice;
use sdmorph_control::{ServerOptions, bind};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs Python while a server listens, until the server has been told to quit; both have to end well.
fn python_against_server(arguments: &[&str], input: &str) -> Output {
    let python = std::env::var("QMP_PYTHON").expect("QMP_PYTHON names a Python that has qemu.qmp");
    let directory = tempfile::tempdir().unwrap();
    let socket = bind(&directory.path().join("ctl.sock")).unwrap();
    std::fs::write(directory.path().join("input"), input).unwrap();
    let server = ToyDevice::new(64).server(ServerOptions::default());
    let child = Command::new(python)
        .args(arguments)
        .arg(socket.path())
        // qmp-shell keeps its history there.
        .env("HOME", directory.path())
        .stdin(std::fs::File::open(directory.path().join("input")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = std::thread::spawn({
        let server = server.clone();
        move || {
            let output = child.wait_with_output().unwrap();
            server.stop();
            output
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.run(socket.listener())).unwrap();
    let output = waiting.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
#[ignore = "needs QMP_PYTHON, a Python with the package qemu.qmp"]
fn the_asyncio_client_negotiates_executes_and_receives_events() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/qemu_qmp.py");
    let output = python_against_server(&[script.to_str().unwrap()], "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n");
}

#[test]
#[ignore = "needs QMP_PYTHON, a Python with the package qemu.qmp"]
fn qmp_shell_drives_the_commands_and_shows_replies_errors_and_events() {
    let shell = "from qemu.qmp.qmp_shell import main; main()";
    let input = "card-insert kind=sd-express\nquery-status\ncard-inset\nlink-set up=false\n\
                 rule-add rule.name=slow rule.when.nth=2\nscenario-load name=s rules=[{'name':'a'}]\nquery-rules\n\n";
    let output = python_against_server(&["-c", shell], input);
    let shown = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "Connected to QEMU 0.1.0",
        "\"return\": {\"card\": \"sd-express\"}",
        "did you mean 'card-insert'",
        "\"return\": {\"name\": \"slow\"}",
        "\"return\": [\"a\"]",
        "'event': 'CARD_INSERTED'",
        "'event': 'LINK_CHANGED'",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in:\n{shown}");
    }
}
