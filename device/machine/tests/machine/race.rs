//! The scenario of the report, rule by rule.

use std::time::Duration;

use sdmorph_machine::Record;
use sdmorph_machine::faults::Rule;
use sdmorph_machine::record::Recorded;
use sdmorph_pci::{Answer, Direction};
use sdmorph_testkit::DriverError;
use serde_json::{Value, json};

use crate::guest::{DLLSC, Lab};

const SCENARIO: &str = include_str!("../../../../guest-tests/scenarios/sd7-idle-race.toml");
const LATENCY: Duration = Duration::from_micros(500);
/// MAX_RW_REG_CNT of the driver.
const POLLS: usize = 1024;

fn rules() -> Vec<Rule> {
    let scenario: Value = toml::from_str(SCENARIO).unwrap();
    scenario["rule"].as_array().unwrap().iter().map(|rule| Rule::from_json(rule).unwrap()).collect()
}

/// Switched, with the scenario's rules; the idle callback runs 250 ms later.
fn raced() -> Lab {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    lab.guest.machine.scenario_load(now, "race", rules(), true).unwrap();
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab.sleep(Duration::from_millis(250));
    assert_eq!(lab.runtime_idle(), Err(DriverError::Timeout));
    lab
}

/// HAIMR reads since the BAR vanished.
fn dead_polls(records: &[Record]) -> Vec<&Record> {
    let is_poll = |record: &&Record| match record.what {
        Recorded::Access("reader", access) => {
            access.register == Some("HAIMR")
                && access.direction == Direction::Read
                && access.answer == Answer::Dead
        }
        _ => false,
    };
    records.iter().filter(is_poll).collect()
}

#[test]
fn bar_vanishes_at_the_idle_callback_s_write_and_the_link_falls_5_ms_later() {
    let lab = raced();
    let notices = lab.guest.notices();
    let from = notices.iter().position(|(_, name)| name == "express-switch-requested").unwrap();
    let (names, times): (Vec<_>, Vec<_>) =
        notices[from + 1..].iter().map(|(at, name)| (name.as_str(), *at)).unzip();
    assert_eq!(
        names,
        [
            "morph",
            "bar-dies 1",
            "dead-reads-slow 1",
            "bar-vanished",
            "link-falls 1",
            "link-down",
            "reset",
            "morph",
            "presence-changed",
            // The drive has come up while the callback still reads.
            "morph",
            "bar-returned",
            "presence-changed",
            "link-up",
        ]
    );
    let vanished = times[1];
    assert_eq!(times[1..4], [vanished; 3]);
    assert_eq!(times[4..8], [vanished + Duration::from_millis(5); 4]);
    assert_eq!(times[8], vanished + Duration::from_millis(15));
    assert_eq!(times[9..], [vanished + Duration::from_millis(115); 4]);
}

#[test]
fn write_that_the_rule_waits_for_is_recorded_before_the_rule() {
    let lab = raced();
    let records = lab.guest.records();
    let hit = records
        .iter()
        .position(|record| matches!(&record.what, Recorded::Rule { name, .. } if name == "bar-dies"))
        .unwrap();
    let Recorded::Access("reader", write) = records[hit - 1].what else { panic!("{:?}", records[hit - 1]) };
    assert_eq!((write.register, write.direction), (Some("L1SUB_CONFIG3"), Direction::Write));
}

#[test]
fn every_read_of_the_dead_bar_is_slow_all_ones_and_known_by_name_on_both_sides_of_the_fall() {
    let lab = raced();
    let records = lab.guest.records();
    let polls = dead_polls(&records);
    assert_eq!(polls.len(), POLLS, "the loop runs to its end");
    assert_eq!(lab.guest.latencies, vec![LATENCY; POLLS]);
    for pair in polls.windows(2) {
        assert_eq!(pair[1].time - pair[0].time, LATENCY);
    }
    for record in &polls {
        let Recorded::Access(_, access) = record.what else { unreachable!() };
        assert_eq!(access.value, 0xffff_ffff);
    }
    assert_eq!(lab.guest.machine.counters().dead_reads, POLLS as u64);
}

#[test]
fn guest_hears_of_the_fall_while_the_callback_still_reads() {
    let mut lab = raced();
    assert!(lab.guest.port_messages >= 1);
    assert_eq!(lab.guest.slot_events() & DLLSC, DLLSC);
    // .remove turns the reader's interrupts off through the mapping that it still has.
    lab.guest.write(2, 0x18, 4, 0);
    let last = lab.guest.records().pop().unwrap();
    let Recorded::Access("reader", access) = last.what else { panic!("{last:?}") };
    assert_eq!((access.register, access.answer), (Some("BIER"), Answer::Dead));
}

#[test]
fn race_touches_no_unmodelled_register_and_repeats_exactly() {
    let (first, second) = (raced(), raced());
    assert_eq!(first.guest.machine.counters().unmodelled, 0);
    assert_eq!(first.guest.records(), second.guest.records());
}

#[test]
fn rules_that_are_wrong_leave_the_old_ones() {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    lab.guest.machine.scenario_load(now, "race", rules(), true).unwrap();
    let wrong = json!({"name": "w", "on": {"write": "L1SUB_CONFIG9"}, "do": {"bar": "vanish"}});
    let wrong = Rule::from_json(&wrong).unwrap();
    for replace in [true, false] {
        let fine = json!({"name": "fine", "on": {"start": true}, "do": {"link": "down"}});
        let set = vec![Rule::from_json(&fine).unwrap(), wrong.clone()];
        let error = lab.guest.machine.scenario_load(now, "wrong", set, replace).unwrap_err();
        assert!(error.to_string().contains("L1SUB_CONFIG3"), "the nearest name: {error}");
        assert_eq!(lab.guest.machine.rules().len(), rules().len());
    }
    assert!(lab.guest.machine.rule_add(now, wrong).is_err());
    assert!(lab.guest.machine.rule_remove("bar-die").is_err());
    assert!(lab.guest.machine.rule_remove("bar-dies").is_err(), "others are chained to it");
    assert_eq!(lab.guest.machine.rules().len(), rules().len());
    lab.guest.machine.rule_remove("link-falls").unwrap();
    assert_eq!(lab.guest.machine.rules().len(), rules().len() - 1);
}

#[test]
fn replaced_scenario_takes_latency_and_stuck_bits_with_it() {
    let mut lab = Lab::bound();
    let rule = |name: &str, act: Value| {
        Rule::from_json(&json!({"name": name, "on": {"start": true}, "do": act})).unwrap()
    };
    let set = vec![
        rule("slow", json!({"read-latency": "3ms"})),
        rule("stuck", json!({"stuck-busy": {"register": "HAIMR"}})),
    ];
    let now = lab.guest.now();
    lab.guest.machine.scenario_load(now, "slow", set, true).unwrap();
    lab.guest.advance_to(now);
    assert_eq!(lab.guest.read(2, 0x10, 4) >> 31, 1);
    assert_eq!(lab.guest.latencies, [Duration::from_millis(3)]);
    let now = lab.guest.now();
    lab.guest.machine.scenario_load(now, "none", Vec::new(), true).unwrap();
    assert_eq!(lab.guest.read(2, 0x10, 4) >> 31, 0);
    assert_eq!(lab.guest.latencies.len(), 1);
}

#[test]
fn what_is_due_by_the_old_rules_happens_before_they_are_replaced() {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    let rule = json!({"name": "fall", "on": {"start": true, "delay": "5ms"}, "do": {"link": "down"}});
    lab.guest.machine.rule_add(now, Rule::from_json(&rule).unwrap()).unwrap();
    let later = now + Duration::from_millis(6);
    lab.guest.machine.scenario_load(later, "none", Vec::new(), true).unwrap();
    let names: Vec<_> = lab.guest.notices().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["driver-bound", "fall 1", "link-down", "reset"]);
}
