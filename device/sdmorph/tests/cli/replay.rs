//! `sdmorph replay`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::server::{Server, program, run, sdmorph};

/// A server's record with inputs, in a directory that is gone with the server.
fn session() -> (Server, PathBuf) {
    let mut server =
        Server::start(&["--record", "run.jsonl", "--record-inputs", "--vendor-settings", "rtd3"]);
    let rule = r#"rule={"name":"slow","on":{"event":"card-inserted"},"do":{"read-latency":"1us"}}"#;
    server.done(&["rule-add", rule]);
    server.done(&["card-insert", "kind=sd-express"]);
    server.done(&["inject", "do.link=down"]);
    drop(server.client());
    server.done(&["marker", "text=the end"]);
    assert_eq!(server.quit(), Some(0));
    let path = server.path("run.jsonl");
    (server, path)
}

fn replay(arguments: &[&str], path: &Path) -> crate::server::Run {
    run(program(path.parent().unwrap()).arg("replay").args(arguments).arg(path))
}

#[test]
fn record_of_a_server_replays_to_the_same_answers() {
    let (_server, path) = session();
    let told = replay(&[], &path);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{}", told.out);
    assert!(told.out.starts_with("the same: "), "{}", told.out);
    let outcome = replay(&["--json"], &path).json();
    let lines = fs::read_to_string(&path).unwrap().lines().count();
    assert_eq!((&outcome["same"], &outcome["lines"]), (&json!(true), &json!(lines)));
}

#[test]
fn difference_ends_with_1_and_is_shown_and_the_record_of_now_can_be_written() {
    let (_server, path) = session();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"name\":\"link-down\"", "\"name\":\"link-up\"", 1)).unwrap();
    let told = replay(&[], &path);
    assert_eq!(told.code, 1);
    for words in ["expected: {", "got:      {", "name differs", "in a call of inject"] {
        assert!(told.out.contains(words), "no {words:?} in {}", told.out);
    }
    let outcome = replay(&["--json"], &path);
    assert_eq!((outcome.code, &outcome.json()["difference"]["fields"]), (1, &json!(["name"])));
    let now = path.with_file_name("now.jsonl");
    assert_eq!(replay(&["--write", now.to_str().unwrap()], &path).code, 1);
    // Neither the record of now is replaced, nor the one that is replayed.
    let before = fs::read(&path).unwrap();
    for there in [&now, &path] {
        replay(&["--write", there.to_str().unwrap()], &path).fails_with(3, &["is there already"]);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_to_string(&now).unwrap(), text);
}

#[test]
fn record_without_inputs_and_what_is_no_record_end_with_2_and_the_reason() {
    let mut server = Server::start(&["--record", "run.jsonl"]);
    server.done(&["marker", "text=alone"]);
    assert_eq!(server.quit(), Some(0));
    replay(&[], &server.path("run.jsonl")).fails_with(2, &["run.jsonl", "--record-inputs"]);
    fs::write(server.path("empty"), "").unwrap();
    replay(&[], &server.path("empty")).fails_with(2, &["the record is empty"]);
    replay(&[], &server.path("log")).fails_with(2, &["line 1: no JSON"]);
    sdmorph(&["replay", "/no/such/record"]).fails_with(2, &["/no/such/record", "No such file"]);
}

/// Records of stock kernels, as `guest-tests/tools/record-boots.sh` makes them.
fn boots() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "xz"));
    paths.sort();
    paths
}

/// A change of the device that is seen in records is one to look at; then the script makes these anew.
#[test]
fn recorded_boots_of_stock_kernels_get_the_same_answers() {
    let boots = boots();
    assert_eq!(boots.len(), 3, "{boots:?}");
    for path in boots {
        let told = replay(&["--json"], &path);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{}: {}", path.display(), told.out);
        let outcome: Value = told.json();
        assert!(outcome["calls"].as_u64().unwrap() > 1000, "{outcome}");
        assert_eq!(outcome["unfinished"], 0, "{outcome}");
    }
}
