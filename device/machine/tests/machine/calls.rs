//! The machine's calls, without a driver.

use std::time::Duration;

use sdmorph_machine::faults::{MAX_LATENCY, MAX_PENDING, Rule};
use sdmorph_machine::record::Recorded;
use sdmorph_machine::{HOST_BAR_SIZES, Region};
use serde_json::json;

use crate::guest::{Guest, PORT, READER};

const ZERO: Duration = Duration::ZERO;

fn booted() -> Guest {
    let mut guest = Guest::new();
    guest.boot();
    guest.write(0, READER | 4, 2, 6);
    guest
}

fn rule(value: &serde_json::Value) -> Rule {
    Rule::from_json(value).unwrap()
}

#[test]
fn region_reads_of_any_length_are_the_bytes_of_single_reads() {
    let mut guest = booted();
    for (offset, length) in [(0usize, 256usize), (1, 7), (0x34, 1), (0x3d, 3), (0x7e, 9)] {
        let mut all = vec![0; length];
        guest.machine.read(ZERO, Region::Config, offset as u64, &mut all);
        let mut single = vec![0; length];
        for (at, byte) in single.iter_mut().enumerate() {
            guest.machine.read(ZERO, Region::Config, (offset + at) as u64, std::slice::from_mut(byte));
        }
        assert_eq!(all, single, "{length} bytes at {offset:#x}");
    }
}

#[test]
fn access_that_is_not_in_its_region_reads_all_ones_and_is_lost() {
    let mut guest = booted();
    // That the access was made is in the record, for a replay; nothing else is.
    let state = |guest: &Guest| {
        let mut status = guest.machine.status();
        status["records"] = guest.records().len().into();
        status
    };
    let before = state(&guest);
    let ends = HOST_BAR_SIZES.map(|(bar, size)| (Region::Bar(bar), size));
    let places =
        [(Region::Config, 0x1000), (Region::Config, 0x1_0000), (Region::Bar(1), 0), (Region::Bar(200), 0)];
    for (region, end) in places.into_iter().chain(ends) {
        for offset in [end, end + 4, u64::MAX - 3, u64::MAX] {
            let mut data = [0; 8];
            guest.machine.read(ZERO, region, offset, &mut data);
            assert_eq!(data, [0xff; 8], "{region:?} {offset:#x}");
            guest.machine.write(ZERO, region, offset, &[0; 8]);
        }
    }
    assert_eq!(state(&guest), before, "no register, no counter, no record");
    let mut data = [0; 8];
    guest.machine.read(ZERO, Region::Config, 0xffc, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "half in, half out");
}

#[test]
fn memory_enable_of_vmd_off_makes_its_bars_dead() {
    let mut guest = booted();
    assert_eq!(guest.read(0, PORT, 4), 0x000c_1b36);
    guest.machine.write(ZERO, Region::Config, 4, &[4, 0]);
    for (bar, offset) in [(0, PORT), (2, 0x10), (4, 0)] {
        assert_eq!(guest.read(bar, offset, 4), 0xffff_ffff);
        guest.write(bar, offset, 4, 0);
    }
    guest.machine.write(ZERO, Region::Config, 4, &[6, 0]);
    assert_eq!(guest.read(4, 0, 4), 0xfee0_0000);
}

#[test]
fn latency_of_one_call_is_bounded_however_many_reads_are_in_it() {
    let mut guest = booted();
    let slow = rule(&json!({"name": "slow", "on": {"start": true}, "do": {"read-latency": "4s"}}));
    guest.machine.rule_add(ZERO, slow).unwrap();
    guest.machine.advance(ZERO);
    let latency = guest.machine.read(ZERO, Region::Bar(2), 0, &mut [0; 4096]);
    assert_eq!(latency, MAX_LATENCY);
    assert_eq!(guest.machine.read(ZERO, Region::Bar(0), PORT, &mut [0; 4]), ZERO, "the reader's BAR only");
}

#[test]
fn unmodelled_access_is_counted_and_named() {
    let mut guest = booted();
    guest.read(2, 0x40, 4);
    guest.read(2, 0x40, 4);
    guest.write(2, 0x44, 4, 1);
    let counters = guest.machine.counters();
    assert_eq!(counters.unmodelled, 3);
    let names: Vec<_> =
        counters.unmodelled_registers.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(names, [("reader bar0 0x40 read", 2), ("reader bar0 0x44 write", 1)]);
}

#[test]
fn unmodelled_registers_are_told_apart_up_to_a_bound() {
    let mut guest = booted();
    for at in (0x40..0x1000).step_by(4) {
        guest.read(2, at, 4);
    }
    let counters = guest.machine.counters();
    assert_eq!(counters.unmodelled, 1008);
    assert_eq!(counters.unmodelled_registers.len(), 257);
    assert_eq!(counters.unmodelled_registers["others"], 1008 - 256);
}

#[test]
fn clock_that_is_set_back_stands_still() {
    let mut guest = Guest::new();
    guest.machine.marker(Duration::from_millis(5), "first");
    guest.machine.marker(Duration::from_millis(3), "second");
    let times: Vec<_> = guest.records().iter().map(|record| record.time.as_millis()).collect();
    assert_eq!(times, [5, 5]);
}

#[test]
fn delayed_rule_is_a_deadline_and_hits_when_it_is_over() {
    let mut guest = booted();
    let delayed =
        rule(&json!({"name": "later", "on": {"start": true, "delay": "5ms"}, "do": {"presence": false}}));
    guest.machine.rule_add(Duration::from_millis(1), delayed).unwrap();
    let due = Duration::from_millis(6);
    assert_eq!(guest.machine.next_deadline(), Some(due));
    guest.machine.advance(due - Duration::from_nanos(1));
    assert!(guest.notices().is_empty());
    guest.machine.advance(due);
    let names: Vec<_> = guest.notices().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["later 1", "presence-changed"]);
    assert_eq!(guest.machine.next_deadline(), None);
}

#[test]
fn what_is_injected_is_done_however_many_delayed_hits_wait() {
    let mut guest = booted();
    let later =
        rule(&json!({"name": "later", "on": {"read": "HAIMR", "delay": "3600s"}, "do": {"link": "down"}}));
    guest.machine.rule_add(ZERO, later).unwrap();
    for _ in 0..MAX_PENDING + 1 {
        guest.read(2, 0x10, 4);
    }
    assert_eq!((guest.machine.rules()[0].pending, guest.machine.rules()[0].dropped), (MAX_PENDING, 1));
    guest.machine.inject(ZERO, "pulled", &json!({"bar": "vanish"})).unwrap();
    assert_eq!(guest.read(2, 0x10, 4), 0xffff_ffff);
    assert_eq!(guest.machine.counters().dead_reads, 1);
}

#[test]
fn rules_that_chase_each_other_through_the_slot_come_to_an_end() {
    let mut guest = booted();
    let set = [
        json!({"name": "up", "on": {"event": "link-down"}, "do": {"link": "up"}}),
        json!({"name": "down", "on": {"event": "link-up"}, "do": {"link": "down"}}),
    ];
    // Refused as a loop, or loaded and stopped: either will do, hanging will not.
    let loaded = guest.machine.scenario_load(ZERO, "loop", set.iter().map(rule).collect(), true);
    guest.machine.link_set(ZERO, false);
    if loaded.is_ok() {
        assert!(guest.machine.next_record() > 100);
    }
    guest.machine.marker(ZERO, "alive");
    assert_eq!(guest.records().pop().unwrap().what, Recorded::Marker("alive".to_owned()));
}
