//! The benchmark as its users run it, as short as it can be. What it measures is not looked at, only that it is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sdmorph-bench")).args(arguments).output().unwrap()
}

#[test]
fn every_server_is_measured_in_every_placement() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("bench.json");
    let few = ["--only", "wire", "--rounds", "1", "--reads", "100", "--no-qemu"];
    let output = bench(&[&few[..], &["--json", json.to_str().unwrap()]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let wire = report["wire"].as_array().unwrap();
    let names: Vec<_> = wire.iter().map(|placement| placement["placement"].as_str().unwrap()).collect();
    let expected: &[&str] = match names.len() {
        2 => &["one-core", "unpinned"],
        _ => &["one-core", "two-cores", "two-cores-awake", "unpinned"],
    };
    assert_eq!(names, expected);
    for placement in wire {
        let servers = placement["servers"].as_array().unwrap();
        let kinds: Vec<_> = servers.iter().map(|server| server["server"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["bare", "bare-taking", "bare-polling", "own", "own-sleeping", "crate"]);
        for server in servers {
            let median = &server["median"];
            for value in ["p50_ns", "p90_ns", "p99_ns", "reads_per_s", "cpu_ns"] {
                assert!(median[value].as_f64().unwrap() > 0.0, "{value}: {server}");
            }
            let is_bare = server["server"].as_str().unwrap().starts_with("bare");
            assert_eq!(median["posted_writes_per_s"].is_null(), is_bare);
        }
        // One receive and one send a message: VERSION, 300 reads that are not counted, and 100.
        for own in &servers[3..=4] {
            let calls = &own["rounds"][0]["calls"];
            for count in ["messages", "sends", "receives"] {
                assert_eq!(calls[count], 401, "{count}: {calls}");
            }
        }
        assert_eq!(servers[4]["rounds"][0]["calls"]["empty_receives"], 0);
    }
    let limits = report["limits"].as_array().unwrap();
    assert_eq!(limits.len(), 5);
    assert!(limits[4]["met"].is_null());
    let alone: Vec<_> = limits.iter().map(|limit| limit["alone"].is_number()).collect();
    assert_eq!(alone, [true, names.len() > 2, names.len() > 2, false, false]);

    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("not measured: reads through QEMU: --no-qemu was given"), "{table}");
}

#[test]
fn limit_that_could_not_be_judged_fails_the_check() {
    let output = bench(&["--only", "guest", "--no-qemu", "--check"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("not measured: reader and sdhci-pci in a guest: --no-qemu was given"), "{table}");
}

#[test]
fn reader_is_measured_with_a_card_in_memory_and_in_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("bench.json");
    let few = ["--only", "reader", "--reader-rounds", "2", "--reader-ms", "1", "--check"];
    let output = bench(&[&few[..], &["--json", json.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let steps = report["reader"]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 10);
    for step in steps {
        assert!(step["median_per_s"].as_f64().unwrap() > 0.0, "{step}");
        assert_eq!(step["rounds_per_s"].as_array().unwrap().len(), 2, "{step}");
    }
    assert!(report["wire"].as_array().unwrap().is_empty() && report["limits"].as_array().unwrap().is_empty());
}

#[test]
fn drive_without_a_device_is_not_measured_and_says_what_to_build() {
    let output = bench(&["--only", "socket-drive", "--quick", "--device", "/nonexistent/sdmorph"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.contains("not measured: the drive over its socket: there is no /nonexistent/sdmorph"),
        "{table}"
    );
}

#[test]
fn rules_without_a_device_are_not_measured_and_not_judged() {
    let output = bench(&["--only", "rules", "--quick", "--check", "--device", "/nonexistent/sdmorph"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("not measured: rules: there is no /nonexistent/sdmorph"), "{table}");
}
