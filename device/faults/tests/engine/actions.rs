//! The actions that the engine keeps itself, and how actions are handed out.

use std::time::Duration;

use sdmorph_faults::{Action, MAX_LATENCY, ReadLatency};
use serde_json::json;

use crate::bench::{Bench, ms, names_of, rule, vanish};

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
