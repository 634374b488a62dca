//! Messages of the vfio-user client: what the machine says of them.

use std::time::Duration;

use sdmorph_machine::faults::{Rule, WireAction};
use sdmorph_machine::{Machine, Record};
use serde_json::{Value, json};

use crate::guest::{Guest, READER, machine};

const ZERO: Duration = Duration::ZERO;
/// Numbers of the commands on the wire.
const REGION_READ: u16 = 9;
const DEVICE_RESET: u16 = 13;

fn rule(name: &str, on: Value, action: Value) -> Rule {
    Rule::from_json(&json!({ "name": name, "on": on, "do": action })).unwrap()
}

fn rules_in(records: &[Record]) -> Vec<Value> {
    records.iter().map(Record::to_json).filter(|record| record["kind"] == "rule").collect()
}

fn with(rules: impl IntoIterator<Item = Rule>) -> Machine {
    let (mut machine, ..) = machine();
    for rule in rules {
        machine.rule_add(ZERO, rule).unwrap();
    }
    machine
}

#[test]
fn watch_follows_every_way_that_rules_come_and_go() {
    let lost = || rule("lost", json!({ "message": "region-read" }), json!({ "wire": "drop" }));
    let (mut machine, ..) = machine();
    let watch = machine.message_watch();
    let waits = || [REGION_READ, DEVICE_RESET].map(|number| watch.waits_for(number));
    assert_eq!(waits(), [false, false]);
    machine.rule_add(ZERO, lost()).unwrap();
    assert_eq!(waits(), [true, false]);
    machine.rule_add(ZERO, lost()).expect_err("the name is taken");
    assert_eq!(waits(), [true, false]);
    machine.rule_remove("lost").unwrap();
    assert_eq!(waits(), [false, false]);
    let resets = rule("resets", json!({ "message": "device-reset" }), json!({ "wire": "close" }));
    machine.scenario_load(ZERO, "more", vec![lost(), resets.clone()], false).unwrap();
    assert_eq!(waits(), [true, true]);
    machine.scenario_load(ZERO, "other", vec![resets], true).unwrap();
    assert_eq!(waits(), [false, true], "the rules of before are gone");
    machine.power_cycle(ZERO);
    assert_eq!(waits(), [false, true], "rules stay, whatever becomes of the client");
}

#[test]
fn hit_of_a_message_is_recorded_and_told_like_every_other() {
    let slow = json!({ "wire": { "delay": "10ms" } });
    let mut machine = with([rule("slow", json!({ "message": "region-read", "nth": 2 }), slow)]);
    let before = machine.notices();
    assert_eq!(machine.message(ZERO, REGION_READ), None, "not the second one");
    assert_eq!(machine.notices(), before);
    let at = Duration::from_micros(3);
    assert_eq!(machine.message(at, REGION_READ), Some(WireAction::Delay(Duration::from_millis(10))));
    assert_eq!(machine.notices(), before + 1);
    let expected = json!({
        "seq": 0, "t_ns": 3000, "kind": "rule", "name": "slow", "hit": 1,
        "actions": [{ "wire": { "delay": "10ms" } }],
    });
    assert_eq!(rules_in(&machine.records_since(0, 10)), [expected]);
    assert_eq!(machine.message(at, REGION_READ), None, "nth hits once");
}

#[test]
fn message_meets_the_first_fault_and_all_hits_count() {
    let on = || json!({ "message": "region-read" });
    let mut machine = with([
        rule("marks", on(), json!({ "presence": false })),
        rule("drops", on(), json!({ "wire": "drop" })),
        rule("closes", on(), json!({ "wire": "close" })),
    ]);
    assert_eq!(machine.message(ZERO, REGION_READ), Some(WireAction::Drop));
    let hits: Vec<u64> = machine.rules().iter().map(|status| status.hits).collect();
    assert_eq!(hits, [1, 1, 1]);
}

#[test]
fn what_else_a_rule_does_is_done_when_its_message_is_acted_on() {
    let mut guest = Guest::new();
    guest.boot();
    guest.write(0, READER | 4, 2, 6);
    assert_ne!(guest.read(2, 0x1c, 4), 0xffff_ffff);
    let dies = rule("bar-dies", json!({ "message": "region-read" }), json!({ "bar": "vanish" }));
    guest.machine.rule_add(ZERO, dies).unwrap();
    assert_eq!(guest.machine.message(ZERO, REGION_READ), None, "it is acted on");
    assert_eq!(guest.read(2, 0x1c, 4), 0xffff_ffff);
}

#[test]
fn messages_without_rules_leave_nothing_behind() {
    let (mut machine, ..) = machine();
    let before = machine.status();
    for number in [0, REGION_READ, 14, 31, 32, u16::MAX] {
        assert_eq!(machine.message(ZERO, number), None);
    }
    assert_eq!(machine.status(), before);
}
