//! When rules match, hit, wait and are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use sdmorph_faults::{
    Action, Engine, Fired, MAX_LATENCY, MAX_PENDING, MAX_RULES, Outcome, ReadLatency, Registry, Rule,
    RuleError, RuleStatus,
};
use sdmorph_pci::{Access, Answer, Direction, Event, Happening, Register, ResetKind, Space};
use serde_json::{Value, json};

const BAR: &[Register] = &[
    Register::new("HAIMR", 0x10, 4, 0, "include/linux/rtsx_pci.h"),
    Register::new("BIPR", 0x14, 4, 0, "include/linux/rtsx_pci.h"),
];
const INTERNAL: &[Register] = &[
    Register::new("L1SUB_CONFIG1", 0xfe8d, 1, 0, "include/linux/rtsx_pci.h"),
    Register::new("L1SUB_CONFIG2", 0xfe8e, 1, 0, "include/linux/rtsx_pci.h"),
    Register::new("L1SUB_CONFIG3", 0xfe8f, 1, 0, "include/linux/rtsx_pci.h"),
    Register::new("OLT_LED_CTL", 0xfc1e, 1, 0, "include/linux/rtsx_pci.h"),
];
const CONFIG: &[Register] = &[Register::new("PCI_COMMAND", 0x04, 2, 0, "PCI 3.0 6.2.2")];

const SWITCH: Event = Event::ExpressSwitchRequested { relink_time: 0 };

fn names() -> Registry {
    let mut names = Registry::new();
    names.add_table("reader", Space::Bar(0), BAR, &[("HAIMR", 0x8000_0000)]);
    names.add_table("reader", Space::Internal, INTERNAL, &[]);
    names.add_table("reader", Space::Config, CONFIG, &[]);
    names.add_table("port", Space::Config, CONFIG, &[]);
    names.add_commands(["CMD0", "CMD8", "ACMD41"]);
    names
}

fn rule(name: &str, on: Value, action: Value) -> Rule {
    Rule::from_json(&json!({ "name": name, "on": on, "do": action }))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn vanish() -> Value {
    json!({ "bar": "vanish" })
}

/// An engine with a hand on the clock.
struct Bench {
    engine: Engine,
    now: Duration,
}

impl Bench {
    fn new(rules: Vec<Rule>) -> Self {
        let mut engine = Engine::new(names());
        engine.load(rules, Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
        Self { engine, now: Duration::ZERO }
    }

    fn with(on: Value) -> Self {
        Self::new(vec![rule("r", on, vanish())])
    }

    fn access(&mut self, function: &'static str, access: Access) -> Outcome {
        self.engine.observe(self.now, function, &Happening::Access(access))
    }

    fn read(&mut self, name: &'static str, value: u64) -> Outcome {
        self.access("reader", reader(name, Direction::Read, value))
    }

    fn write(&mut self, name: &'static str, value: u64) -> Outcome {
        self.access("reader", reader(name, Direction::Write, value))
    }

    fn event(&mut self, event: Event) -> Outcome {
        self.engine.observe(self.now, "reader", &Happening::Event(event))
    }

    fn command(&mut self, name: &str, argument: u32) -> Outcome {
        self.engine.observe(self.now, "reader", &Happening::Command { name, argument, response: None })
    }

    fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let fired = self.engine.due(self.now);
        names_of(&fired)
    }

    fn status(&self, name: &str) -> RuleStatus {
        let list = self.engine.list();
        list.into_iter().find(|status| status.rule.name.as_str() == name).expect("the rule is there")
    }

    fn hits(&self, name: &str) -> u64 {
        self.status(name).hits
    }
}

fn reader(name: &'static str, direction: Direction, value: u64) -> Access {
    let row = BAR.iter().chain(INTERNAL).chain(CONFIG).find(|row| row.name == name).unwrap();
    Access {
        space: Space::Bar(0),
        direction,
        offset: u64::from(row.address),
        size: row.size,
        register: Some(name),
        value,
        answer: Answer::Modelled,
    }
}

fn names_of(fired: &[Fired]) -> Vec<String> {
    fired.iter().map(|fired| fired.rule.to_string()).collect()
}

fn refusal(rules: Vec<Rule>) -> String {
    let mut engine = Engine::new(names());
    let error = engine.load(rules, Duration::ZERO).expect_err("is refused").to_string();
    assert!(engine.list().is_empty(), "nothing of a refused set is kept");
    error
}

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

// The engine's own actions

#[test]
fn stuck_busy_shows_from_the_next_read_on_until_it_is_released() {
    let release = json!({ "stuck-busy": { "register": "HAIMR", "clear": true } });
    let mut bench = Bench::new(vec![
        rule("stick", json!({ "read": "HAIMR", "nth": 1 }), json!({ "stuck-busy": "HAIMR" })),
        rule("release", json!({ "write": "BIPR" }), release),
    ]);
    assert_eq!(bench.read("HAIMR", 0).effect.stuck, 0, "the triggering read is answered as ever");
    assert_eq!(bench.read("HAIMR", 0).effect.stuck, 0x8000_0000);
    assert_eq!(bench.write("HAIMR", 0).effect.stuck, 0, "nothing sticks in a write");
    let effects = serde_json::to_value(bench.engine.effects()).unwrap();
    let stuck = json!([{ "function": "reader", "register": "HAIMR", "mask": "0x80000000" }]);
    assert_eq!(effects, json!({ "read-latency": "0s", "stuck-busy": stuck }));
    bench.write("BIPR", 0);
    assert_eq!(bench.read("HAIMR", 0).effect.stuck, 0);
    assert_eq!(bench.engine.effects().stuck_busy, []);
}

#[test]
fn stuck_busy_with_a_mask_sticks_and_releases_those_bits() {
    let stick = json!({ "stuck-busy": { "register": "BIPR", "mask": "0x30" } });
    let release = json!({ "stuck-busy": { "register": "BIPR", "mask": "0x10", "clear": true } });
    let mut bench = Bench::new(vec![
        rule("stick", json!({ "command": "CMD0" }), stick),
        rule("release", json!({ "command": "CMD8" }), release),
    ]);
    bench.command("CMD0", 0);
    assert_eq!(bench.read("BIPR", 0).effect.stuck, 0x30);
    bench.command("CMD8", 0);
    assert_eq!(bench.read("BIPR", 0).effect.stuck, 0x20);
}

#[test]
fn stuck_bits_are_part_of_the_value_that_rules_see() {
    let mut bench = Bench::new(vec![
        rule("stick", json!({ "start": true }), json!({ "stuck-busy": "HAIMR" })),
        rule("sees", json!({ "read": "HAIMR", "value": "0x80000001" }), vanish()),
    ]);
    assert_eq!(bench.wait(ms(0)), ["stick"]);
    assert_eq!(names_of(&bench.read("HAIMR", 1).fired), ["sees"]);
}

#[test]
fn read_latency_is_set_replaced_and_turned_off() {
    let mut bench = Bench::new(vec![
        rule("slow", json!({ "command": "CMD0" }), json!({ "read-latency": "4s" })),
        rule("off", json!({ "command": "CMD8" }), json!({ "read-latency": "0s" })),
    ]);
    assert_eq!(bench.engine.read_latency(), None);
    bench.command("CMD0", 0);
    assert_eq!(bench.engine.read_latency(), Some(MAX_LATENCY));
    assert_eq!(bench.engine.read_latency(), Some(MAX_LATENCY));
    bench.command("CMD8", 0);
    assert_eq!(bench.engine.read_latency(), None);
}

#[test]
fn uniform_latency_is_the_same_for_the_same_seed_and_another_for_another() {
    let draw = |seed: u64| -> Vec<Duration> {
        let uniform = json!({ "read-latency": { "min": "100us", "max": "900us", "seed": seed } });
        let mut bench = Bench::new(vec![rule("slow", json!({ "read": "HAIMR" }), uniform)]);
        // The rule hits before every draw: its sequence must go on, not begin again.
        (0..32)
            .map(|_| {
                bench.read("HAIMR", 0);
                bench.engine.read_latency().unwrap()
            })
            .collect()
    };
    let first = draw(1);
    assert_eq!(first, draw(1));
    assert_ne!(first, draw(2));
    assert!(first.iter().all(|latency| (100..=900).contains(&latency.as_micros())), "{first:?}");
    assert!(first.iter().any(|latency| *latency != first[0]), "{first:?}");
}

#[test]
fn list_of_actions_is_handed_out_in_its_order() {
    let actions =
        json!([{ "link": "down" }, { "presence": false }, { "read-latency": "1ms" }, { "bar": "return" }]);
    let mut bench = Bench::new(vec![rule("r", json!({ "read": "HAIMR" }), actions.clone())]);
    let fired = bench.read("HAIMR", 0).fired;
    assert_eq!(serde_json::to_value(&fired[0].actions).unwrap(), actions);
    assert_eq!(fired[0].actions[2], Action::ReadLatency(ReadLatency::Fixed(ms(1))));
}

// Adding and removing

#[test]
fn status_is_the_rule_as_data_with_its_counters() {
    let mut bench = Bench::with(json!({ "read": "HAIMR" }));
    let rule = json!({ "name": "r", "on": { "read": "HAIMR" }, "do": { "bar": "vanish" } });
    let status = |bench: &Bench| serde_json::to_value(bench.engine.list()).unwrap();
    assert_eq!(
        status(&bench),
        json!([{ "rule": rule, "hits": 0, "armed": true, "pending": 0, "dropped": 0 }])
    );
    bench.now = ms(2);
    bench.read("HAIMR", 0);
    assert_eq!(
        status(&bench),
        json!([{ "rule": rule, "hits": 1, "armed": true, "last-hit-ns": 2_000_000, "pending": 0, "dropped": 0 }])
    );
}

#[test]
fn removed_rule_neither_matches_nor_hits_later() {
    let mut bench = Bench::new(vec![
        rule("a", json!({ "read": "HAIMR", "delay": "1ms" }), vanish()),
        rule("b", json!({ "event": "link-down", "after": "link-up" }), vanish()),
        rule("c", json!({ "command": "CMD8" }), vanish()),
    ]);
    bench.read("HAIMR", 0);
    assert_eq!(bench.engine.remove("a").unwrap().name.as_str(), "a");
    bench.engine.remove("b").unwrap();
    bench.engine.remove("c").unwrap();
    assert_eq!(bench.engine.next_deadline(), None);
    bench.read("HAIMR", 0);
    bench.event(Event::LinkUp);
    assert_eq!(bench.event(Event::LinkDown).fired, []);
    assert_eq!(bench.command("CMD8", 0).fired, []);
    assert_eq!(bench.wait(ms(10)), [""; 0]);
    assert!(bench.engine.list().is_empty());
    bench.engine.add(rule("a", json!({ "read": "HAIMR" }), vanish()), bench.now).unwrap();
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["a"]);
}

#[test]
fn rule_that_others_wait_for_cannot_be_removed_before_them() {
    let mut bench = Bench::new(vec![
        rule("head", json!({ "read": "HAIMR" }), vanish()),
        rule("tail", json!({ "rule": "head" }), vanish()),
    ]);
    let error = bench.engine.remove("head").unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule \"head\" cannot be removed: rule \"tail\" waits for it; remove that one first"
    );
    bench.engine.remove("tail").unwrap();
    bench.engine.remove("head").unwrap();
}

#[test]
fn removal_of_an_unknown_rule_names_the_nearest() {
    let error =
        Bench::new(vec![rule("bar-dies", json!({ "read": "HAIMR" }), vanish())]).engine.remove("bar-dise");
    assert_eq!(error.unwrap_err().to_string(), "no rule \"bar-dise\"; did you mean bar-dies?");
    let error = Bench::new(vec![]).engine.remove("x").unwrap_err();
    assert_eq!(error.to_string(), "no rule \"x\"; none is known");
}

#[test]
fn load_keeps_all_rules_or_none() {
    let mut bench = Bench::with(json!({ "read": "HAIMR" }));
    let before = bench.engine.list();
    let set = vec![
        rule("good", json!({ "start": true }), vanish()),
        rule("bad", json!({ "read": "HIAMR" }), vanish()),
    ];
    assert!(bench.engine.load(set, ms(1)).is_err());
    assert_eq!(bench.engine.list(), before);
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn number_of_rules_is_bounded() {
    let rules = |count: usize| -> Vec<Rule> {
        (0..count).map(|index| rule(&format!("r{index}"), json!({ "start": true }), vanish())).collect()
    };
    assert_eq!(refusal(rules(MAX_RULES + 1)), format!("there are too many rules; the limit is {MAX_RULES}"));
    let mut bench = Bench::new(rules(MAX_RULES));
    let one_more = bench.engine.add(rule("one-more", json!({ "start": true }), vanish()), ms(0));
    assert_eq!(one_more, Err(RuleError::TooMany { limit: MAX_RULES }));
}

#[test]
fn names_and_numbers_that_do_not_fit_are_refused_with_the_remedy() {
    let stuck = |stuck: Value| rule("r", json!({ "start": true }), json!({ "stuck-busy": stuck }));
    let on = |on: Value| rule("r", on, vanish());
    let cases = [
        (
            rule("bar-dies", json!({ "write": "L1SUB_CONFIG4" }), vanish()),
            "rule \"bar-dies\": no register \"L1SUB_CONFIG4\"; did you mean L1SUB_CONFIG1, L1SUB_CONFIG2, L1SUB_CONFIG3?",
        ),
        (on(json!({ "read": "haimr" })), "no register \"haimr\"; did you mean HAIMR?"),
        (on(json!({ "read": "LED" })), "no register \"LED\"; did you mean OLT_LED_CTL?"),
        (on(json!({ "read": "QQQ" })), "no register \"QQQ\"; the nearest are "),
        (on(json!({ "event": "link-dwon" })), "no event \"link-dwon\"; did you mean link-down?"),
        (on(json!({ "read": "HAIMR", "after": "conquest" })), "no event \"conquest\"; the nearest are "),
        (on(json!({ "command": "CMD88" })), "no command \"CMD88\"; did you mean CMD8?"),
        (on(json!({ "rule": "bar-dies" })), "no rule \"bar-dies\"; none is known"),
        (
            on(json!({ "read": "HAIMR", "function": "raeder" })),
            "no function \"raeder\"; did you mean reader?",
        ),
        (on(json!({ "event": "reset", "function": "prot" })), "no function \"prot\"; did you mean port?"),
        (
            on(json!({ "read": "HAIMR", "function": "port" })),
            "function \"port\" has no register \"HAIMR\", but \"reader\" has",
        ),
        (
            on(json!({ "write": "PCI_COMMAND" })),
            "register \"PCI_COMMAND\" is in more than one function; add function = \"reader\" or \"port\"",
        ),
        (
            on(json!({ "write": "L1SUB_CONFIG3", "value": "0x100" })),
            "value 0x100 does not fit L1SUB_CONFIG3, which is 1 byte wide",
        ),
        (
            on(json!({ "write": "HAIMR", "value": 0, "mask": "0x100000000" })),
            "mask 0x100000000 does not fit HAIMR, which is 4 bytes wide",
        ),
        (
            on(json!({ "command": "CMD8", "value": "0x100000000" })),
            "value 0x100000000 does not fit a command's argument, which is 4 bytes wide",
        ),
        (
            stuck(json!("BIPR")),
            "register \"BIPR\" has no known busy bit; say which bits: stuck-busy = { register = \"BIPR\", mask = 0x… }",
        ),
        (stuck(json!("HAIMRR")), "no register \"HAIMRR\"; did you mean HAIMR?"),
        (
            stuck(json!({ "register": "L1SUB_CONFIG3", "mask": "0x1ff" })),
            "mask 0x1ff does not fit L1SUB_CONFIG3, which is 1 byte wide",
        ),
    ];
    for (rule, expected) in cases {
        let text = rule.to_json().to_string();
        let message = refusal(vec![rule]);
        assert!(message.starts_with("rule \""), "{message}");
        assert!(message.contains(expected), "{text}\n  says: {message}\n  not:  {expected}");
    }
}

#[test]
fn names_that_are_taken_are_refused_in_the_set_and_in_the_engine() {
    let same = || rule("r", json!({ "start": true }), vanish());
    let expected = "rule \"r\": there is a rule of this name already; remove it first or choose another name";
    assert_eq!(refusal(vec![same(), same()]), expected);
    let mut bench = Bench::new(vec![same()]);
    assert_eq!(bench.engine.add(same(), ms(0)).unwrap_err().to_string(), expected);
}

#[test]
fn rules_that_wait_for_each_other_are_refused() {
    let link = |name: &str, other: &str| rule(name, json!({ "rule": other, "delay": "1ms" }), vanish());
    assert_eq!(
        refusal(vec![link("a", "c"), link("b", "a"), link("c", "b")]),
        "rules \"a\" -> \"b\" -> \"c\" -> \"a\" wait for each other and can never hit; one of them needs another trigger"
    );
    assert!(refusal(vec![link("self", "self")]).contains("rules \"self\" -> \"self\" wait for each other"));
}

#[test]
fn rules_that_set_each_other_off_at_once_and_without_end_are_refused() {
    let down = |on: Value| rule("down", on, json!({ "link": "down" }));
    let up = rule("up", json!({ "event": "link-down" }), json!({ "link": "up" }));
    let endless = down(json!({ "event": "link-up" }));
    assert_eq!(
        refusal(vec![endless.clone(), up.clone()]),
        "rules \"down\" -> \"up\" -> \"down\" could set each other off without end; give one of them a delay, times or nth"
    );
    let mut once = endless.clone();
    once.times = std::num::NonZeroU64::new(1);
    for bounded in [
        once,
        down(json!({ "event": "link-up", "delay": "1ms" })),
        down(json!({ "event": "link-up", "nth": 1 })),
    ] {
        Bench::new(vec![bounded, up.clone()]);
    }
    // Through a chain, and with the other half already in the engine.
    let mut bench = Bench::new(vec![up, rule("tail", json!({ "rule": "up" }), vanish())]);
    let again = rule("again", json!({ "event": "bar-vanished" }), json!({ "link": "down" }));
    assert!(matches!(bench.engine.add(again, ms(0)), Err(RuleError::Endless { .. })));
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
