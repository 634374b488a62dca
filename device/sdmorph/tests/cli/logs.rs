//! Logs and their filters.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::server::{Server, program, run, sdmorph};

#[test]
fn json_log_is_one_object_a_line() {
    let mut server = Server::start(&["--log-format", "json", "--log", "debug"]);
    server.done(&["card-insert", "kind=sd-express"]);
    // A VERSION whose data does not end in NUL: it is refused, and that client's connection closed.
    let mut malformed = UnixStream::connect(server.vfio_user()).unwrap();
    malformed.write_all(b"\0\0\x01\0\x16\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0{}").unwrap();
    malformed.read_to_end(&mut Vec::new()).unwrap();
    drop(server.client());
    assert_eq!(server.quit(), Some(0));
    let log = server.log();
    assert!(log.contains("no version was agreed on: version data without exactly one NUL"), "{log}");
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["fields"].is_object(), "{line}");
    }
}

#[test]
fn client_that_is_turned_away_is_in_the_log_with_the_reason() {
    let mut server = Server::start(&[]);
    let first = server.client();
    let mut second = UnixStream::connect(server.vfio_user()).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    drop(first);
    assert_eq!(server.quit(), Some(0));
    let log = server.log();
    let turned_away: Vec<_> = log.lines().filter(|line| line.contains("turned a client away")).collect();
    assert_eq!(turned_away.len(), 1, "{log}");
    assert!(turned_away[0].contains("another one is being served"), "{log}");
}

#[test]
fn text_log_says_where_the_sockets_are_and_error_level_does_not() {
    let mut server = Server::start(&[]);
    assert_eq!(server.quit(), Some(0));
    assert!(server.log().contains("vfu.sock") && server.log().contains("control.sock"), "{}", server.log());
    let mut server = Server::start(&["--log", "error"]);
    assert_eq!(server.quit(), Some(0));
    assert_eq!(server.log(), "");
}

#[test]
fn wrong_filter_ends_with_2_from_the_flag_and_from_the_environment() {
    sdmorph(&["--log", "sdmorph=loud", "registers"]).fails_with(2, &["sdmorph=loud", "error, warn, info"]);
    let dir = tempfile::tempdir().unwrap();
    run(program(dir.path()).env("RUST_LOG", "a=b=c").arg("registers")).fails_with(2, &["a=b=c"]);
    let run = run(program(dir.path()).env("RUST_LOG", "a=b=c").args(["--log", "info", "registers"]));
    assert_eq!(run.code, 0, "the flag wins: {}", run.err);
}
