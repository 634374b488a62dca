//! `--record`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::server::{Server, program, run};

fn records(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn record_is_complete_after_quit_and_has_the_marker() {
    let mut server = Server::start(&["--record", "run.jsonl"]);
    server.done(&["card-insert", "kind=sd-express"]);
    drop(vfio_user::Client::new(&server.vfio_user()).unwrap());
    server.done(&["marker", "text=the end"]);
    assert_eq!(server.quit(), Some(0));
    let records = records(&server.path("run.jsonl"));
    for (seq, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], seq, "{record}");
    }
    let has = |key: &str, value: &str| records.iter().any(|record| record[key] == value);
    assert!(has("name", "card-inserted") && has("text", "the end"));
    assert!(records.windows(2).all(|two| two[0]["t_ns"].as_u64() <= two[1]["t_ns"].as_u64()));
}

#[test]
fn old_record_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("run.jsonl"), "old ".repeat(100_000)).unwrap();
    let mut server = Server::start_in(dir, &["--record", "run.jsonl"]);
    server.done(&["marker", "text=new"]);
    assert_eq!(server.quit(), Some(0));
    assert_eq!(records(&server.path("run.jsonl")).last().unwrap()["text"], "new");
}

#[test]
fn record_is_started_and_stopped_by_command_and_replaces_no_file() {
    let mut server = Server::start(&[]);
    server.done(&["marker", "text=before"]);
    assert_eq!(
        server.done(&["record-start", "file=run.jsonl", "past=false"]).json(),
        serde_json::json!({"first": 1})
    );
    server.ctl(&["record-start", "file=other.jsonl"]).fails_with(1, &["written to run.jsonl", "record-stop"]);
    server.done(&["marker", "text=between"]);
    let stopped = server.done(&["record-stop"]).json();
    assert_eq!(stopped, serde_json::json!({"file": "run.jsonl", "records": 1, "lost": 0}));
    server.done(&["marker", "text=after"]);
    let texts: Vec<_> =
        records(&server.path("run.jsonl")).iter().map(|record| record["text"].clone()).collect();
    assert_eq!(texts, ["between"]);
    server.ctl(&["record-start", "file=run.jsonl"]).fails_with(1, &["run.jsonl is there already"]);
    server.ctl(&["record-dump", "file=run.jsonl"]).fails_with(1, &["run.jsonl is there already"]);
    server.done(&["record-start", "file=whole.jsonl"]);
    assert_eq!(server.quit(), Some(0));
    assert_eq!(records(&server.path("whole.jsonl")).len(), 3);
}

#[test]
fn dump_has_the_newest_entries_and_is_there_when_it_is_whole() {
    let mut server = Server::start(&[]);
    for text in ["text=a", "text=b", "text=c"] {
        server.done(&["marker", text]);
    }
    let newest = server.done(&["record-dump", "last=1"]).json();
    assert_eq!((newest[0]["text"].as_str(), newest.as_array().unwrap().len()), (Some("c"), 1));
    let reply = server.done(&["record-dump", "file=dump.jsonl", "last=2"]).json();
    assert_eq!(reply, serde_json::json!({"first": 1, "records": 2}));
    assert_eq!(server.quit(), Some(0));
    let texts: Vec<_> =
        records(&server.path("dump.jsonl")).iter().map(|record| record["text"].clone()).collect();
    assert_eq!(texts, ["b", "c"]);
    assert!(!server.path("dump.jsonl.part").exists());
}

#[test]
fn server_with_a_directory_for_records_writes_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("records")).unwrap();
    let server = Server::start_in(dir, &["--records", "records"]);
    for file in ["file=../run.jsonl", "file=/tmp/run.jsonl"] {
        server.ctl(&["record-start", file]).fails_with(1, &["run.jsonl is not in", "--records"]);
    }
    server.done(&["record-start", "file=run.jsonl"]);
    server.done(&["record-stop"]);
    assert!(server.path("records/run.jsonl").exists());
}

#[test]
fn record_that_cannot_be_made_ends_with_3_and_leaves_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let out = run(program(dir.path()).args(["serve", "--record", "/nonexistent/run.jsonl"]));
    out.fails_with(3, &["--record /nonexistent/run.jsonl", "No such file"]);
    assert!(!dir.path().join("sdmorph").exists());
}

#[test]
fn full_disk_is_said_at_once_and_again_at_the_end_and_the_device_goes_on() {
    let mut server = Server::start(&["--record", "/dev/full"]);
    server.done(&["marker", "text=lost"]);
    while !server.log().contains("the flight record's file ends here") {
        std::thread::yield_now();
    }
    server.done(&["card-insert", "kind=sd-express"]);
    assert_eq!(server.quit(), Some(3));
    assert!(server.log().contains("No space left on device"), "{}", server.log());
    assert!(!server.control().exists());
}

#[test]
fn second_server_on_the_same_paths_does_not_empty_the_first_one_s_record() {
    let mut server = Server::start(&["--record", "run.jsonl"]);
    server.done(&["marker", "text=kept"]);
    let second = run(program(server.dir.path()).args(["serve", "--record"]).arg(server.path("run.jsonl")));
    second.fails_with(3, &["already listening"]);
    server.done(&["marker", "text=and more"]);
    assert_eq!(server.quit(), Some(0));
    let records = records(&server.path("run.jsonl"));
    assert!(records.iter().any(|record| record["text"] == "kept"));
    assert!(records.iter().any(|record| record["text"] == "and more"));
}
