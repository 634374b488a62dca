//! Triggers, what narrows them, and chains.

use std::time::Duration;

use sdmorph_faults::{MAX_PENDING, MAX_RULES, Outcome, Rule};
use sdmorph_pci::{Access, Answer, Direction, Event, Happening, ResetKind};
use serde_json::json;

use crate::bench::{Bench, SWITCH, ms, names_of, reader, rule, vanish};

// Triggers

#[test]
fn write_trigger_hits_on_writes_of_that_register_only() {
    let mut bench = Bench::with(json!({ "write": "HAIMR" }));
    assert_eq!(bench.read("HAIMR", 0).fired, []);
    assert_eq!(bench.write("BIPR", 0).fired, []);
    let fired = bench.write("HAIMR", 0).fired;
    assert_eq!(names_of(&fired), ["r"]);
    assert_eq!(fired[0].hit, 1);
    assert_eq!(serde_json::to_value(&fired[0].actions).unwrap(), json!([{ "bar": "vanish" }]));
}

#[test]
fn read_trigger_hits_on_reads_and_access_trigger_on_both() {
    let mut bench = Bench::new(vec![
        rule("reads", json!({ "read": "HAIMR" }), vanish()),
        rule("both", json!({ "access": "HAIMR" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["reads", "both"]);
    assert_eq!(names_of(&bench.write("HAIMR", 0).fired), ["both"]);
}

#[test]
fn value_and_mask_compare_the_data() {
    let mut bench = Bench::new(vec![
        rule("exact", json!({ "write": "HAIMR", "value": "0x80" }), vanish()),
        rule("masked", json!({ "write": "HAIMR", "value": "0x80", "mask": "0xff" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.write("HAIMR", 0x80).fired), ["exact", "masked"]);
    assert_eq!(names_of(&bench.write("HAIMR", 0xfe80).fired), ["masked"]);
    assert_eq!(bench.write("HAIMR", 0xfe81).fired, []);
}

#[test]
fn dword_access_to_a_word_register_is_compared_by_the_word() {
    let mut bench = Bench::with(json!({ "write": "PCI_COMMAND", "function": "reader", "value": 6 }));
    let dword = Access { size: 4, ..reader("PCI_COMMAND", Direction::Write, 0x0010_0006) };
    assert_eq!(names_of(&bench.access("reader", dword).fired), ["r"]);
}

#[test]
fn function_qualifier_leaves_the_other_function_alone() {
    let mut bench = Bench::with(json!({ "write": "PCI_COMMAND", "function": "port" }));
    assert_eq!(bench.write("PCI_COMMAND", 0).fired, []);
    let access = reader("PCI_COMMAND", Direction::Write, 0);
    assert_eq!(names_of(&bench.access("port", access).fired), ["r"]);
}

#[test]
fn access_that_a_dead_function_answers_matches_and_one_nobody_answers_does_not() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "value": "0xffffffff", "nth": 2 }));
    let dead = Access { answer: Answer::Dead, ..reader("HAIMR", Direction::Read, 0xffff_ffff) };
    let absent = Access { answer: Answer::Absent, ..dead };
    assert_eq!(bench.access("reader", dead).fired, []);
    assert_eq!(bench.access("reader", absent).fired, []);
    assert_eq!(names_of(&bench.access("reader", dead).fired), ["r"]);
}

#[test]
fn event_trigger_ignores_the_event_s_data_and_heeds_the_function() {
    let mut bench = Bench::new(vec![
        rule("any", json!({ "event": "reset" }), vanish()),
        rule("port-only", json!({ "event": "reset", "function": "port" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.event(Event::Reset { kind: ResetKind::Hot }).fired), ["any"]);
    let event = Happening::Event(Event::Reset { kind: ResetKind::Cold });
    assert_eq!(names_of(&bench.engine.observe(ms(1), "port", &event).fired), ["any", "port-only"]);
    assert_eq!(bench.event(Event::LinkDown).fired, []);
}

#[test]
fn every_event_of_the_seam_can_be_waited_for() {
    for name in Event::NAMES {
        let slow = json!({ "read-latency": "1ms" });
        Bench::new(vec![rule("r", json!({ "event": name, "after": name }), slow)]);
    }
}

#[test]
fn command_trigger_compares_the_argument() {
    let mut bench = Bench::with(json!({ "command": "CMD8", "value": "0x1000", "mask": "0x3000" }));
    assert_eq!(bench.command("CMD8", 0x01aa).fired, []);
    assert_eq!(bench.command("CMD0", 0x1000).fired, []);
    assert_eq!(names_of(&bench.command("CMD8", 0x11aa).fired), ["r"]);
}

#[test]
fn nvme_command_is_one_when_it_is_fetched_and_not_again_when_it_ends() {
    let mut bench = Bench::with(json!({ "command": "CMD8", "value": 7 }));
    assert_eq!(bench.nvme("CMD8", 6, None).fired, []);
    assert_eq!(names_of(&bench.nvme("CMD8", 0x1_0000_0007, None).fired), ["r"], "dword 10 is its argument");
    let mut bench = Bench::with(json!({ "command": "CMD8" }));
    assert_eq!(bench.nvme("CMD8", 7, Some(0)).fired, []);
}

#[test]
fn start_trigger_is_due_its_delay_after_the_rule_was_added() {
    let mut bench = Bench::new(vec![]);
    bench.now = ms(100);
    bench.engine.add(rule("late", json!({ "start": true, "delay": "20ms" }), vanish()), bench.now).unwrap();
    bench.engine.add(rule("now", json!({ "start": true }), vanish()), bench.now).unwrap();
    assert_eq!(bench.engine.next_deadline(), Some(ms(100)));
    assert_eq!(bench.wait(ms(0)), ["now"]);
    assert_eq!(bench.engine.next_deadline(), Some(ms(120)));
    assert_eq!(bench.wait(Duration::from_micros(19_999)), [""; 0]);
    assert_eq!(bench.wait(Duration::from_micros(1)), ["late"]);
    assert_eq!(bench.engine.next_deadline(), None);
    assert!(!bench.status("now").armed);
}

// Qualifiers

#[test]
fn nth_hits_at_that_match_and_at_no_other() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "nth": 3 }));
    let hits: Vec<usize> = (0..6).map(|_| bench.read("HAIMR", 0).fired.len()).collect();
    assert_eq!(hits, [0, 0, 1, 0, 0, 0]);
    assert!(!bench.status("r").armed);
}

#[test]
fn nth_counts_only_what_matches_and_only_after_arming() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "value": 1, "nth": 2, "after": "link-down" }));
    bench.read("HAIMR", 1);
    bench.event(Event::LinkDown);
    assert_eq!(bench.read("HAIMR", 1).fired, []);
    assert_eq!(bench.read("HAIMR", 0).fired, []);
    assert_eq!(names_of(&bench.read("HAIMR", 1).fired), ["r"]);
}

#[test]
fn times_bounds_the_hits_delayed_ones_included() {
    let mut limited = rule("r", json!({ "read": "HAIMR", "delay": "1ms" }), vanish());
    limited.times = std::num::NonZeroU64::new(2);
    let mut bench = Bench::new(vec![limited]);
    for _ in 0..5 {
        bench.read("HAIMR", 0);
    }
    assert_eq!((bench.hits("r"), bench.status("r").pending, bench.status("r").armed), (0, 2, false));
    assert_eq!(bench.wait(ms(1)), ["r", "r"]);
    bench.read("HAIMR", 0);
    assert_eq!(bench.wait(ms(10)), [""; 0]);
    assert_eq!((bench.hits("r"), bench.status("r").last_hit), (2, Some(ms(1))));
}

#[test]
fn after_arms_once_the_event_was_seen_and_the_rule_stays_armed() {
    let mut bench = Bench::with(json!({ "write": "L1SUB_CONFIG3", "after": "express-switch-requested" }));
    assert_eq!(bench.write("L1SUB_CONFIG3", 0).fired, []);
    assert!(!bench.status("r").armed);
    bench.event(SWITCH);
    assert!(bench.status("r").armed);
    assert_eq!(names_of(&bench.write("L1SUB_CONFIG3", 0).fired), ["r"]);
    assert_eq!(names_of(&bench.write("L1SUB_CONFIG3", 0).fired), ["r"]);
}

#[test]
fn event_before_the_rule_was_added_does_not_arm_it() {
    let mut bench = Bench::new(vec![]);
    bench.event(SWITCH);
    let late = rule("r", json!({ "write": "HAIMR", "after": "express-switch-requested" }), vanish());
    bench.engine.add(late, bench.now).unwrap();
    assert_eq!(bench.write("HAIMR", 0).fired, []);
}

#[test]
fn event_that_arms_a_rule_does_not_match_it() {
    let mut bench = Bench::with(json!({ "event": "link-down", "after": "link-down" }));
    assert_eq!(bench.event(Event::LinkDown).fired, []);
    assert_eq!(names_of(&bench.event(Event::LinkDown).fired), ["r"]);
}

#[test]
fn delayed_hits_come_by_time_then_by_the_order_of_their_match() {
    let mut bench = Bench::new(vec![
        rule("slow", json!({ "read": "HAIMR", "delay": "3ms" }), vanish()),
        rule("first", json!({ "read": "HAIMR", "delay": "2ms" }), vanish()),
        rule("second", json!({ "read": "HAIMR", "delay": "2ms" }), vanish()),
    ]);
    assert_eq!(bench.read("HAIMR", 0).fired, []);
    assert_eq!(bench.engine.next_deadline(), Some(ms(2)));
    assert_eq!(bench.wait(ms(1)), [""; 0]);
    assert_eq!(bench.wait(ms(5)), ["first", "second", "slow"]);
}

#[test]
fn delayed_hits_beyond_the_limit_are_dropped_and_counted() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "delay": "1s" }));
    for _ in 0..MAX_PENDING + 7 {
        bench.read("HAIMR", 0);
    }
    assert_eq!((bench.status("r").pending, bench.status("r").dropped), (MAX_PENDING, 7));
    assert_eq!(bench.wait(ms(1000)).len(), MAX_PENDING);
    assert_eq!(bench.hits("r"), MAX_PENDING as u64);
}

#[test]
fn rule_with_start_hits_however_many_others_wait() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "delay": "1s" }));
    for _ in 0..MAX_PENDING {
        bench.read("HAIMR", 0);
    }
    for (name, on) in [
        ("at-once", json!({ "start": true })),
        ("later", json!({ "start": true, "delay": "5ms" })),
        ("last", json!({ "start": true, "delay": "2s" })),
    ] {
        bench.engine.add(rule(name, on, vanish()), ms(0)).unwrap();
        assert_eq!((bench.status(name).pending, bench.status(name).dropped), (1, 0), "{name}");
    }
    assert_eq!(bench.wait(ms(5)), ["at-once", "later"]);
    bench.read("HAIMR", 0);
    assert_eq!(bench.status("r").dropped, 1, "others still find no room");
    assert_eq!(bench.wait(ms(2000)).pop().as_deref(), Some("last"));
}

// Chains

#[test]
fn chained_rules_hit_in_the_same_step_after_all_that_matched() {
    let mut bench = Bench::new(vec![
        rule("grandchild", json!({ "rule": "child" }), vanish()),
        rule("child", json!({ "rule": "a" }), vanish()),
        rule("a", json!({ "read": "HAIMR" }), vanish()),
        rule("b", json!({ "read": "HAIMR" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["a", "b", "child", "grandchild"]);
}

#[test]
fn rule_chained_to_a_delayed_rule_waits_for_its_hit() {
    let mut bench = Bench::new(vec![
        rule("falls", json!({ "read": "HAIMR", "delay": "5ms" }), json!({ "link": "down" })),
        rule("at-once", json!({ "rule": "falls" }), vanish()),
        rule("comes-back", json!({ "rule": "falls", "delay": "2ms" }), json!({ "link": "up" })),
    ]);
    assert_eq!(bench.read("HAIMR", 0).fired, []);
    assert_eq!(bench.wait(ms(5)), ["falls", "at-once"]);
    assert_eq!(bench.engine.next_deadline(), Some(ms(7)));
    assert_eq!(bench.wait(ms(2)), ["comes-back"]);
}

#[test]
fn long_chain_is_followed_to_its_end() {
    let mut rules = vec![rule("r0", json!({ "read": "HAIMR" }), vanish())];
    for index in 1..MAX_RULES {
        rules.push(rule(&format!("r{index}"), json!({ "rule": format!("r{}", index - 1) }), vanish()));
    }
    let mut bench = Bench::new(rules);
    assert_eq!(bench.read("HAIMR", 0).fired.len(), MAX_RULES);
}

#[test]
fn the_reported_race_s_rules_run_as_the_scenario_means_them() {
    let text = r#"
        [[rule]]
        name = "bar-dies"
        on = { write = "L1SUB_CONFIG3", after = "express-switch-requested" }
        do = { bar = "vanish" }
        times = 1

        [[rule]]
        name = "dead-reads-slow"
        on = { rule = "bar-dies" }
        do = { read-latency = "500us" }
        times = 1

        [[rule]]
        name = "link-falls"
        on = { rule = "bar-dies", delay = "5ms" }
        do = { link = "down" }
        times = 1
    "#;
    let mut table: toml::Table = toml::from_str(text).unwrap();
    let rules: Vec<Rule> = table.remove("rule").unwrap().try_into().unwrap();
    let mut bench = Bench::new(rules);
    assert_eq!(bench.write("L1SUB_CONFIG3", 0).fired, [], "probe writes it, too");
    bench.event(SWITCH);
    bench.now = ms(250);
    assert_eq!(bench.engine.read_latency(), None);
    assert_eq!(names_of(&bench.write("L1SUB_CONFIG3", 0).fired), ["bar-dies", "dead-reads-slow"]);
    assert_eq!(bench.engine.read_latency(), Some(Duration::from_micros(500)));
    assert_eq!(bench.engine.next_deadline(), Some(ms(255)));
    assert_eq!(bench.wait(ms(5)), ["link-falls"]);
    assert!(bench.engine.list().iter().all(|status| status.hits == 1 && !status.armed));
}

#[test]
fn access_without_a_register_s_name_and_other_happenings_lead_to_nothing() {
    let mut bench = Bench::with(json!({ "access": "HAIMR" }));
    let nameless = Access { register: None, ..reader("HAIMR", Direction::Read, 0) };
    assert_eq!(bench.access("reader", nameless), Outcome::default());
    assert_eq!(bench.access("nvme", reader("HAIMR", Direction::Read, 0)), Outcome::default());
    let dma = Happening::Dma { direction: Direction::Read, address: 0, length: 4, result: Ok(()) };
    assert_eq!(bench.engine.observe(ms(0), "reader", &dma), Outcome::default());
}
