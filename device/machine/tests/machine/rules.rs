//! Rules and the whole machine: everything that a rule can wait for is there to be waited for, and what a rule thinks the
//! machine is like is what it is like.

use std::time::Duration;

use sdmorph_machine::faults::{Engine, Rule};
use sdmorph_machine::names::{registry, tables};
use sdmorph_machine::{CardKind, Machine};
use sdmorph_pci::{Access, Answer, Direction, Happening, mask_of_size};
use serde_json::{Value, json};

use crate::drive::{eject, memory_card, switch};
use crate::guest::{Lab, PORT};

const ZERO: Duration = Duration::ZERO;
const SLTCTL: u64 = PORT | 0x88;
const LNKCTL: u64 = PORT | 0x80;

/// A rule that only counts.
fn counting(name: &str, on: &Value) -> Rule {
    Rule::from_json(&json!({ "name": name, "on": on })).unwrap_or_else(|error| panic!("{error}"))
}

fn add(machine: &mut Machine, now: Duration, name: &str, on: Value) {
    machine.rule_add(now, counting(name, &on)).unwrap_or_else(|error| panic!("{error}"));
}

fn hits(machine: &Machine, name: &str) -> u64 {
    let rules = machine.rules();
    rules.iter().find(|status| status.rule.name.as_str() == name).expect("the rule is there").hits
}

#[test]
fn every_register_of_every_table_can_be_waited_for_by_its_name_and_data() {
    for table in tables() {
        for row in &table.rows {
            let value = mask_of_size(row.size) & 0x8040_2010_8040_2010;
            let on = json!({ "write": row.name, "function": table.function, "value": format!("{value:#x}") });
            let mut engine = Engine::new(registry());
            engine.add(counting("r", &on), ZERO).unwrap_or_else(|error| panic!("{}: {error}", table.title));
            let access = Access {
                space: table.space,
                direction: Direction::Write,
                offset: row.address.into(),
                size: row.size,
                register: Some(row.name),
                value,
                answer: Answer::Modelled,
            };
            let hits =
                |access| engine.clone().observe(ZERO, table.function, &Happening::Access(access)).fired;
            assert_eq!(hits(access).len(), 1, "{}: {}", table.title, row.name);
            assert!(hits(Access { value: value ^ 1, ..access }).is_empty(), "{}: {}", table.title, row.name);
        }
    }
}

#[test]
fn guest_s_writes_to_the_slot_s_registers_are_seen_bit_by_bit() {
    let mut lab = Lab::bound();
    let port = |register: &str, value: u64, mask: u64| json!({ "write": register, "function": "port", "value": value, "mask": mask });
    let now = lab.guest.now();
    let machine = &mut lab.guest.machine;
    add(machine, now, "interrupts-off", port("SLTCTL", 0, 0x20));
    add(machine, now, "blinks", port("SLTCTL", 0x200, 0x300));
    add(machine, now, "takes-event", port("SLTSTA", 0x100, 0x100));
    add(machine, now, "disables", port("LNKCTL", 0x10, 0x10));
    let counts = |lab: &Lab| {
        ["interrupts-off", "blinks", "takes-event", "disables"].map(|name| hits(&lab.guest.machine, name))
    };
    lab.guest.write(0, SLTCTL, 2, 0x1028);
    assert_eq!(counts(&lab), [0, 0, 0, 0]);
    lab.guest.write(0, SLTCTL, 2, 0x1008);
    lab.guest.write(0, SLTCTL, 2, 0x1228);
    assert_eq!(counts(&lab), [1, 1, 0, 0]);
    lab.guest.write(0, LNKCTL, 2, 0x10);
    assert_eq!(counts(&lab), [1, 1, 0, 1]);
    lab.guest.slot_events();
    assert_eq!(counts(&lab), [1, 1, 1, 1]);
    // A dword covers the status, too, whose first byte is not where it begins.
    lab.guest.write(0, SLTCTL, 4, 0x1008);
    assert_eq!(counts(&lab), [2, 1, 1, 1]);
}

#[test]
fn card_s_way_to_a_drive_sets_off_triggers_of_every_kind() {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    let machine = &mut lab.guest.machine;
    let memory = json!({ "from": "0x100000", "to": "0x1fffff" });
    for (name, on) in [
        ("bar", json!({ "write": "HCBAR" })),
        ("internal", json!({ "write": "L1SUB_CONFIG3" })),
        ("config", json!({ "write": "COMMAND", "function": "nvme", "value": 6, "mask": 6 })),
        ("drive-register", json!({ "write": "CC", "value": 1, "mask": 1 })),
        ("any-of-drive", json!({ "read": "*", "function": "nvme", "space": "bar" })),
        ("express", json!({ "command": "CMD8", "value": "0x3000", "mask": "0x3000" })),
        ("identify", json!({ "command": "Create I/O Submission Queue" })),
        ("list", json!({ "dma": "read", "function": "reader", "address": memory.clone() })),
        ("elsewhere", json!({ "dma": "*", "address": { "from": "0x200000" } })),
        ("reader-interrupt", json!({ "interrupt": "*", "function": "reader" })),
        ("port-interrupt", json!({ "interrupt": "*", "function": "port" })),
        ("away", json!({ "phase": "away" })),
        ("drive", json!({ "phase": "drive" })),
        ("admin-tail", json!({ "doorbell": "sq", "queue": 0 })),
        ("admin-head", json!({ "doorbell": "cq", "queue": 0, "value": 1 })),
        ("after-drive", json!({ "write": "CC", "after": { "rule": "drive" }, "nth": 1 })),
    ] {
        add(machine, now, name, on);
    }
    lab.insert();
    let _drive = switch(&mut lab);
    let never: Vec<_> = lab.guest.machine.rules().into_iter().filter(|status| status.hits == 0).collect();
    let never: Vec<_> = never.iter().map(|status| status.rule.name.as_str()).collect();
    assert_eq!(never, ["elsewhere"], "all of the guest's memory is below");
    assert_eq!(hits(&lab.guest.machine, "admin-tail"), hits(&lab.guest.machine, "identify") + 1);
    assert_eq!(["away", "drive"].map(|name| hits(&lab.guest.machine, name)), [1, 1]);
}

#[test]
fn conditions_hold_through_a_whole_life_of_the_slot() {
    let mut lab = Lab::bound();
    let check = |lab: &mut Lab, what: &str| {
        let now = lab.guest.now();
        let wrong = misjudged(&mut lab.guest.machine, now);
        assert_eq!(wrong, [""; 0], "{what}");
    };
    check(&mut lab, "bound");
    lab.insert();
    check(&mut lab, "inserted");
    let _drive = switch(&mut lab);
    check(&mut lab, "a drive");
    eject(&mut lab);
    check(&mut lab, "ejected");
    lab.sleep(Duration::from_secs(1));
    check(&mut lab, "a reader again");
    lab.guest.write(0, LNKCTL, 2, 0x10);
    check(&mut lab, "link disabled");
    let now = lab.guest.now();
    lab.guest.machine.scenario_load(now, "none", Vec::new(), true).unwrap();
    check(&mut lab, "rules anew");
    lab.guest.machine.power_cycle(now);
    check(&mut lab, "power cycled");
}

/// What a rule's conditions say of the machine that its own state denies.
pub(crate) fn misjudged(machine: &mut Machine, now: Duration) -> Vec<String> {
    machine.advance(now);
    let status = machine.status();
    let slot = &status["vmd"]["port"]["slot"];
    let is = |value: &Value| value.as_bool().unwrap_or_else(|| panic!("{slot}"));
    let phase = status["phase"].as_str().unwrap();
    let cases = [
        (json!({ "phase": phase }), true),
        (json!({ "link": "up" }), is(&slot["link-active"])),
        (json!({ "presence": true }), is(&slot["present"])),
        (json!({ "bar": "answers" }), !is(&slot["bar-vanished"])),
        (json!({ "card": "inserted" }), !status["card"].is_null()),
        (json!({ "card": "ejected" }), status["card"].is_null()),
    ];
    let mut wrong = Vec::new();
    for (conditions, expected) in cases {
        add(machine, now, "asks", json!({ "message": "mig-data-read", "while": conditions }));
        machine.message(now, 17);
        if (hits(machine, "asks") == 1) != expected {
            wrong.push(format!("{conditions} is not {expected}"));
        }
        machine.rule_remove("asks").unwrap();
    }
    wrong
}

/// What a guest's work with chance in it leaves behind: the whole record as text, without times.
fn record_with(seed: u64) -> Vec<String> {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    let slow = json!({ "read-latency": { "min": "0s", "max": "400us", "seed": seed } });
    let rules = [
        json!({ "name": "slow", "on": { "event": "card-inserted" }, "do": slow }),
        json!({ "name": "some-reads", "on": { "read": "HAIMR", "probability": 0.1, "seed": seed }, "do": { "presence-lag": "5ms" } }),
        json!({ "name": "some-accesses", "on": { "access": "*", "probability": 0.05, "seed": seed + 1, "every": 3 } }),
        json!({ "name": "some-dma", "on": { "dma": "*", "probability": 0.3, "seed": seed + 2, "delay": "100us" } }),
        json!({ "name": "some-doorbells", "on": { "doorbell": "*", "probability": 0.5, "seed": seed + 3 } }),
        json!({ "name": "chained", "on": { "rule": "some-dma", "probability": 0.5, "seed": seed + 4, "while": { "phase": "drive" } } }),
    ];
    let rules = rules.iter().map(|rule| Rule::from_json(rule).unwrap()).collect();
    lab.guest.machine.scenario_load(now, "chance", rules, true).unwrap();
    lab.guest.machine.card_insert(now, memory_card()).unwrap();
    lab.interrupt();
    let mut drive = switch(&mut lab);
    for block in 0..20 {
        drive.write(&mut lab.guest, block, &[block as u8; 512], false).unwrap();
    }
    lab.sleep(Duration::from_millis(1));
    eject(&mut lab);
    lab.sleep(Duration::from_secs(1));
    for name in ["slow", "some-reads", "some-accesses", "some-dma", "some-doorbells", "chained"] {
        assert_ne!(hits(&lab.guest.machine, name), 0, "{name} tests nothing");
    }
    let records = lab.guest.records().into_iter().map(|record| {
        let mut json = record.to_json();
        json.as_object_mut().unwrap().remove("t_ns");
        json.to_string()
    });
    records.collect()
}

#[test]
fn same_seed_gives_the_same_record_and_another_one_does_not() {
    let record = record_with(7);
    assert!(record.len() > 500, "{}", record.len());
    assert_eq!(record_with(7), record);
    assert_ne!(record_with(8), record);
}

#[test]
fn card_that_goes_while_the_drive_is_there_is_known_to_be_gone() {
    let mut lab = Lab::bound();
    lab.insert();
    let now = lab.guest.now();
    let on = json!({ "event": "card-ejected", "while": { "phase": "reader", "card": "ejected" } });
    add(&mut lab.guest.machine, now, "out", on);
    eject(&mut lab);
    assert_eq!(hits(&lab.guest.machine, "out"), 1);
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, CardKind::Empty).unwrap();
    assert_eq!(misjudged(&mut lab.guest.machine, now), [""; 0]);
}
