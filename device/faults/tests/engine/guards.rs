//! What narrows a trigger: which matches count, and when a rule is armed.

use sdmorph_faults::Rule;
use sdmorph_pci::{Event, ResetKind};
use serde_json::{Value, json};

use crate::bench::{Bench, SWITCH, ms, names_of, rule, vanish};

/// Which of so many reads of HAIMR set the rule off, from 1.
fn hits_of(bench: &mut Bench, reads: usize) -> Vec<usize> {
    (1..=reads).filter(|_| !bench.read("HAIMR", 0).fired.is_empty()).collect()
}

fn counting(name: &str, on: Value) -> Rule {
    Rule::from_json(&json!({ "name": name, "on": on })).unwrap()
}

#[test]
fn every_counts_from_the_moment_that_the_rule_was_armed() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "every": 3 }));
    assert_eq!(hits_of(&mut bench, 10), [3, 6, 9]);
    let mut limited = rule("r", json!({ "read": "HAIMR", "every": 3, "after": "link-down" }), vanish());
    limited.times = std::num::NonZeroU64::new(2);
    let mut bench = Bench::new(vec![limited]);
    assert_eq!(hits_of(&mut bench, 5), [0; 0]);
    bench.event(Event::LinkDown);
    assert_eq!(hits_of(&mut bench, 2), [0; 0]);
    bench.event(Event::LinkDown);
    assert_eq!(hits_of(&mut bench, 10), [1, 4], "it was armed already");
    assert!(!bench.status("r").armed);
}

#[test]
fn probability_picks_the_same_matches_for_the_same_seed() {
    let picks = |seed: u64| {
        let mut bench = Bench::with(json!({ "read": "HAIMR", "probability": 0.25, "seed": seed }));
        hits_of(&mut bench, 4000)
    };
    let seven = picks(7);
    assert_eq!(picks(7), seven);
    assert_ne!(picks(8), seven);
    assert!((900..1100).contains(&seven.len()), "{}", seven.len());
    let mut bench = Bench::with(json!({ "read": "HAIMR", "probability": 1 }));
    assert_eq!(hits_of(&mut bench, 100).len(), 100);
}

#[test]
fn nth_and_every_count_what_probability_leaves() {
    let on = |extra: Value| {
        let mut on = json!({ "read": "HAIMR", "probability": 0.5, "seed": 3 });
        on.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        on
    };
    let all = hits_of(&mut Bench::with(on(json!({}))), 200);
    let second: Vec<_> = all.iter().copied().skip(1).step_by(2).collect();
    assert_eq!(hits_of(&mut Bench::with(on(json!({ "every": 2 }))), 200), second);
    assert_eq!(hits_of(&mut Bench::with(on(json!({ "nth": 5 }))), 200), all[4..5]);
}

#[test]
fn chance_is_drawn_only_for_what_the_rest_of_the_trigger_matches() {
    let on = json!({ "read": "HAIMR", "value": 1, "while": { "link": "up" }, "probability": 0.5 });
    let picks = |between: &dyn Fn(&mut Bench)| -> Vec<bool> {
        let mut bench = Bench::with(on.clone());
        let mut pick = |_| {
            between(&mut bench);
            !bench.read("HAIMR", 1).fired.is_empty()
        };
        (0..64).map(&mut pick).collect()
    };
    let expected = picks(&|_| ());
    let others = picks(&|bench| {
        bench.read("HAIMR", 0);
        bench.event(Event::LinkDown);
        bench.read("HAIMR", 1);
        bench.event(Event::LinkUp);
    });
    assert_eq!(others, expected);
}

#[test]
fn until_ends_what_after_began_and_after_begins_it_anew() {
    let mut bench =
        Bench::with(json!({ "read": "HAIMR", "nth": 2, "after": "link-down", "until": "link-up" }));
    assert_eq!(hits_of(&mut bench, 3), [0; 0]);
    for _ in 0..2 {
        bench.event(Event::LinkDown);
        assert_eq!(hits_of(&mut bench, 3), [2], "counted anew");
        assert!(!bench.status("r").armed);
        bench.event(Event::LinkUp);
        assert_eq!(hits_of(&mut bench, 3), [0; 0]);
    }
    assert_eq!(bench.hits("r"), 2);
}

#[test]
fn without_after_a_rule_is_armed_at_once_and_until_is_its_end() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "until": "link-down" }));
    assert_eq!(hits_of(&mut bench, 1), [1]);
    bench.event(Event::LinkDown);
    bench.event(Event::LinkUp);
    assert_eq!(hits_of(&mut bench, 3), [0; 0]);
}

#[test]
fn what_ends_a_rule_still_matches_it_and_delayed_hits_come() {
    let mut bench = Bench::new(vec![
        rule("same", json!({ "event": "link-down", "until": "link-down" }), vanish()),
        rule("late", json!({ "read": "HAIMR", "delay": "5ms", "until": "link-down" }), vanish()),
    ]);
    bench.read("HAIMR", 0);
    assert_eq!(names_of(&bench.event(Event::LinkDown).fired), ["same"]);
    assert_eq!(bench.event(Event::LinkDown).fired, []);
    assert_eq!(bench.wait(ms(5)), ["late"]);
}

#[test]
fn hit_of_a_rule_arms_and_ends_others() {
    let mut bench = Bench::new(vec![
        rule(
            "r",
            json!({ "read": "HAIMR", "after": { "rule": "begin" }, "until": { "rule": "end" } }),
            vanish(),
        ),
        counting("begin", json!({ "write": "HAIMR", "nth": 2 })),
        counting("end", json!({ "read": "HAIMR", "nth": 4 })),
    ]);
    bench.write("HAIMR", 0);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), [""; 0]);
    let fired = bench.write("HAIMR", 0).fired;
    assert_eq!((names_of(&fired), fired[0].actions.len()), (vec!["begin".to_owned()], 0));
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["r"]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["r"]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["r", "end"], "what ends it still matches");
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), [""; 0]);
}

#[test]
fn hit_that_arms_a_rule_does_not_match_it() {
    let mut bench = Bench::new(vec![
        counting("begin", json!({ "read": "HAIMR" })),
        rule("r", json!({ "rule": "begin", "after": { "rule": "begin" } }), vanish()),
        rule("same", json!({ "read": "HAIMR", "after": { "rule": "begin" } }), vanish()),
    ]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["begin"]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["begin", "same", "r"]);
}

#[test]
fn while_looks_at_what_the_machine_is_like_at_the_match() {
    let event = |event| move |bench: &mut Bench| drop(bench.event(event));
    type Act = Box<dyn Fn(&mut Bench)>;
    let cases: [(Value, Act, Act); 9] = [
        (json!({ "link": "down" }), Box::new(event(Event::LinkDown)), Box::new(event(Event::LinkUp))),
        (
            json!({ "presence": false }),
            Box::new(event(Event::PresenceChanged { present: false })),
            Box::new(event(Event::PresenceChanged { present: true })),
        ),
        (
            json!({ "bar": "vanished" }),
            Box::new(event(Event::BarVanished)),
            Box::new(event(Event::BarReturned)),
        ),
        (
            json!({ "card": "inserted" }),
            Box::new(event(Event::CardInserted)),
            Box::new(event(Event::CardEjected)),
        ),
        (
            json!({ "d3hot": "reader" }),
            Box::new(event(Event::D3hotEntered)),
            Box::new(event(Event::D0Entered)),
        ),
        (
            json!({ "d3hot": "reader" }),
            Box::new(event(Event::D3hotEntered)),
            Box::new(event(Event::Reset { kind: ResetKind::Hot })),
        ),
        (
            json!({ "phase": "switching" }),
            Box::new(event(Event::Morph { phase: "switching" })),
            Box::new(event(Event::Morph { phase: "away" })),
        ),
        (
            json!({ "phase": ["away", "drive"] }),
            Box::new(event(Event::Morph { phase: "drive" })),
            Box::new(event(Event::Morph { phase: "reader" })),
        ),
        (
            json!({ "link": "down", "d0": "reader" }),
            Box::new(event(Event::LinkDown)),
            Box::new(event(Event::D3hotEntered)),
        ),
    ];
    for (conditions, begins, ends) in cases {
        let mut bench = Bench::with(json!({ "read": "HAIMR", "while": conditions }));
        assert_eq!(hits_of(&mut bench, 2), [0; 0], "{conditions}");
        begins(&mut bench);
        assert_eq!(hits_of(&mut bench, 2), [1, 2], "{conditions}");
        assert!(bench.status("r").armed);
        ends(&mut bench);
        assert_eq!(hits_of(&mut bench, 2), [0; 0], "{conditions}");
    }
}

#[test]
fn event_has_changed_the_machine_when_it_is_matched() {
    let mut bench = Bench::new(vec![
        rule("after", json!({ "event": "link-down", "while": { "link": "down" } }), vanish()),
        rule("before", json!({ "event": "link-down", "while": { "link": "up" } }), vanish()),
    ]);
    assert_eq!(names_of(&bench.event(Event::LinkDown).fired), ["after"]);
}

#[test]
fn matches_that_the_machine_does_not_fit_are_not_counted() {
    let mut bench = Bench::with(json!({ "read": "HAIMR", "nth": 2, "while": { "link": "down" } }));
    hits_of(&mut bench, 5);
    bench.event(Event::LinkDown);
    assert_eq!(hits_of(&mut bench, 5), [2]);
}

#[test]
fn engine_without_rules_knows_what_the_machine_is_like() {
    let mut bench = Bench::with(json!({ "read": "HAIMR" }));
    bench.event(SWITCH);
    bench.event(Event::LinkDown);
    bench.engine = bench.engine.without_rules();
    assert!(bench.engine.list().is_empty());
    let late = rule("r", json!({ "read": "HAIMR", "while": { "link": "down" } }), vanish());
    bench.engine.add(late, bench.now).unwrap();
    assert_eq!(hits_of(&mut bench, 1), [1]);
}

#[test]
fn rule_without_actions_counts() {
    let mut bench = Bench::new(vec![
        counting("reads", json!({ "read": "HAIMR" })),
        rule("third", json!({ "rule": "reads", "nth": 3 }), vanish()),
    ]);
    for _ in 0..3 {
        bench.read("HAIMR", 0);
    }
    assert_eq!((bench.hits("reads"), bench.hits("third")), (3, 1));
    assert!(bench.status("reads").rule.to_json().get("do").is_none());
}
