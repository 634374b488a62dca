//! The actions that the engine keeps itself, and how actions are handed out.

use std::time::Duration;

use sdmorph_faults::{Action, MAX_LATENCY, Outcome, ReadLatency};
use sdmorph_pci::{Direction, DmaError, DmaFault, Effect, Happening, Message};
use serde_json::{Value, json};

use crate::bench::{Bench, ms, names_of, rule, vanish};

/// What a read of `value` answers.
fn shown(outcome: &Outcome, value: u64) -> u64 {
    match outcome.effect {
        Effect::Data(change) => change.apply(value),
        Effect::None => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stuck_busy_shows_from_the_next_read_on_until_it_is_released() {
    let release = json!({ "stuck-busy": { "register": "HAIMR", "clear": true } });
    let mut bench = Bench::new(vec![
        rule("stick", json!({ "read": "HAIMR", "nth": 1 }), json!({ "stuck-busy": "HAIMR" })),
        rule("release", json!({ "write": "BIPR" }), release),
    ]);
    assert_eq!(bench.read("HAIMR", 0).effect, Effect::None, "the triggering read is answered as ever");
    assert_eq!(shown(&bench.read("HAIMR", 0), 1), 0x8000_0001);
    assert_eq!(bench.write("HAIMR", 0).effect, Effect::None, "nothing sticks in a write");
    let effects = serde_json::to_value(bench.engine.effects()).unwrap();
    let and = "0xffffffff7fffffff";
    assert_eq!(
        effects,
        json!({
            "read-latency": "0s",
            "read-data": [{ "function": "reader", "register": "HAIMR", "and": and, "xor": "0x80000000" }],
            "read-spaces": [], "interrupt": [], "dma": [], "nvme": [],
        })
    );
    bench.write("BIPR", 0);
    assert_eq!(bench.read("HAIMR", 0).effect, Effect::None);
    assert_eq!(bench.engine.effects().read_data, []);
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
    assert_eq!(shown(&bench.read("BIPR", 0), 0), 0x30);
    bench.command("CMD8", 0);
    assert_eq!(shown(&bench.read("BIPR", 0), 0), 0x20);
}

/// A bench in which this has been done.
fn done(action: Value) -> Bench {
    let mut bench = Bench::new(vec![rule("does", json!({ "command": "CMD0" }), action)]);
    bench.command("CMD0", 0);
    bench
}

#[test]
fn read_data_of_a_register_is_as_the_action_says() {
    let cases = [
        (json!({ "give": "ones" }), 0xffff_ffff),
        (json!({ "give": "zeros" }), 0),
        (json!({ "give": "0x12345678" }), 0x1234_5678),
        (json!({ "and": "0xff" }), 0x2a),
        (json!({ "or": "0x80000000" }), 0x8000_052a),
        (json!({ "xor": "0xff" }), 0x5d5),
        (json!({ "clear": true }), 0x52a),
    ];
    for (mut data, expected) in cases {
        data["register"] = json!("HAIMR");
        let mut bench = done(json!({ "read-data": data }));
        assert_eq!(shown(&bench.read("HAIMR", 0x52a), 0x52a), expected, "{data}");
        assert_eq!(bench.read("BIPR", 0x52a).effect, Effect::None, "{data}");
    }
}

#[test]
fn read_data_builds_on_what_is_there_and_clear_takes_all_of_it() {
    let of = |data: Value| {
        let mut data = data;
        data["register"] = json!("HAIMR");
        json!({ "read-data": data })
    };
    let mut bench =
        done(json!([of(json!({ "give": "0xf0" })), of(json!({ "xor": "0xff" })), { "stuck-busy": "HAIMR" }]));
    assert_eq!(shown(&bench.read("HAIMR", 0), 0), 0x8000_000f);
    bench
        .engine
        .add(rule("clears", json!({ "command": "CMD8" }), of(json!({ "clear": true }))), ms(0))
        .unwrap();
    bench.command("CMD8", 0);
    assert_eq!(bench.read("HAIMR", 0).effect, Effect::None);
}

#[test]
fn stale_data_of_a_register_is_what_its_last_read_answered() {
    let mut bench = Bench::new(vec![rule(
        "stale",
        json!({ "command": "CMD0" }),
        json!({ "read-data": { "register": "HAIMR", "give": "stale" } }),
    )]);
    bench.read("HAIMR", 0x11);
    bench.read("HAIMR", 0x22);
    bench.write("HAIMR", 0x33);
    bench.command("CMD0", 0);
    assert_eq!(shown(&bench.read("HAIMR", 0x44), 0x44), 0x22);
    assert_eq!(shown(&bench.read("HAIMR", 0x55), 0x55), 0x22);
    // Before any read there is nothing to be stale.
    let mut bench = done(json!({ "read-data": { "register": "HAIMR", "give": "stale" } }));
    assert_eq!(bench.read("HAIMR", 0x44).effect, Effect::None);
}

#[test]
fn read_data_of_a_space_is_that_of_its_reads_only_and_has_a_value_for_each_dword() {
    let mut bench = done(json!({ "read-data": { "space": "bar", "give": "0x12345678" } }));
    assert_eq!(shown(&bench.read("HAIMR", 0), 0) & 0xffff_ffff, 0x1234_5678);
    assert_eq!(bench.write("HAIMR", 0).effect, Effect::None);
    let mut bench = done(json!({ "read-data": { "space": "config", "give": "ones" } }));
    assert_eq!(bench.read("HAIMR", 0).effect, Effect::None);
}

fn interrupt(bench: &mut Bench, function: &'static str, vector: u16) -> Effect {
    let message = Message { vector, address: 0xfee0_0000, data: 0 };
    bench.engine.observe(bench.now, function, &Happening::Interrupt(message)).effect
}

#[test]
fn interrupt_fault_meets_so_many_messages_of_its_function_and_vector() {
    let mut bench = done(json!([
        { "interrupt": { "what": "drop", "times": 2 } },
        { "interrupt": { "what": "delay", "time": "5ms", "function": "port", "vector": 0 } },
    ]));
    assert_eq!(interrupt(&mut bench, "reader", 0), Effect::Lost);
    assert_eq!(interrupt(&mut bench, "port", 1), Effect::None);
    assert_eq!(interrupt(&mut bench, "port", 0), Effect::Late(ms(5)));
    assert_eq!(interrupt(&mut bench, "nvme", 3), Effect::Lost);
    assert_eq!(interrupt(&mut bench, "nvme", 3), Effect::None);
    let again = rule("again", json!({ "command": "CMD8" }), json!([{ "interrupt": "duplicate" }]));
    bench.engine.add(again, ms(0)).unwrap();
    bench.command("CMD8", 0);
    assert_eq!(interrupt(&mut bench, "reader", 0), Effect::Twice);
    let standing = serde_json::to_value(bench.engine.effects()).unwrap()["interrupt"].clone();
    let delay = json!({ "what": "delay", "time": "5ms", "function": "port", "vector": 0 });
    assert_eq!(standing, json!([delay, "duplicate"]));
    let normal = rule("normal", json!({ "command": "CMD9" }), json!([{ "interrupt": "normal" }]));
    bench.engine.add(normal, ms(0)).unwrap();
    bench.command("CMD9", 0);
    assert_eq!(interrupt(&mut bench, "reader", 0), Effect::None);
    assert_eq!(interrupt(&mut bench, "port", 0), Effect::Late(ms(5)), "another function's fault stays");
}

#[test]
fn dma_fault_meets_its_direction_and_is_the_same_for_the_same_seed() {
    let dma = |bench: &mut Bench, direction| bench.engine.dma_fault("reader", direction, 0x1000, 64);
    let mut bench =
        done(json!({ "dma": { "what": "fail", "direction": "read", "error": "completer-abort" } }));
    assert_eq!(dma(&mut bench, Direction::Write), None);
    let refused = DmaFault::Failed(DmaError::Refused { address: 0x1000 });
    assert_eq!(dma(&mut bench, Direction::Read), Some(refused));
    assert_eq!(bench.engine.dma_fault("port", Direction::Read, 0, 4), None, "not in the slot");
    let draw = |seed: u64| -> Vec<DmaFault> {
        let corrupt = json!({ "dma": { "what": "corrupt", "bits": 3, "seed": seed, "times": 2 } });
        let mut bench = done(corrupt);
        (0..3).filter_map(|_| dma(&mut bench, Direction::Write)).collect()
    };
    let drawn = draw(7);
    assert_eq!(drawn.len(), 2);
    assert_eq!(drawn, draw(7));
    assert_ne!(drawn, draw(8));
    for fault in &drawn {
        let DmaFault::Flipped(bits) = fault else { panic!("{fault:?}") };
        assert!((1..=3).contains(&bits.len()) && bits.iter().all(|bit| *bit < 512), "{bits:?}");
    }
}

#[test]
fn dma_that_is_held_goes_on_at_its_time_or_when_all_is_normal() {
    let mut bench = done(json!({ "dma": { "what": "delay", "time": "50ms" } }));
    assert_eq!(bench.engine.dma_held_until(ms(0), "nvme"), Some(ms(50)));
    assert_eq!(bench.engine.dma_held_until(ms(50), "nvme"), None);
    bench
        .engine
        .add(rule("normal", json!({ "command": "CMD8" }), json!({ "dma": "normal" })), ms(0))
        .unwrap();
    bench.command("CMD8", 0);
    assert_eq!(bench.engine.dma_held_until(ms(0), "nvme"), None);
}

#[test]
fn nvme_fault_meets_commands_of_its_name_when_they_are_fetched_or_have_ended() {
    let nvme = |bench: &mut Bench, name, status| bench.nvme(name, 0, status).effect;
    let mut bench = done(json!([
        { "nvme": { "what": "fail", "status": "Internal Error", "command": "Write", "times": 1 } },
        { "nvme": { "what": "drop-completion", "command": "Read", "times": 1 } },
    ]));
    assert_eq!(nvme(&mut bench, "Read", None), Effect::None);
    assert_eq!(nvme(&mut bench, "Write", None), Effect::Status(6));
    assert_eq!(nvme(&mut bench, "Write", Some(6)), Effect::None);
    assert_eq!(nvme(&mut bench, "Write", None), Effect::None);
    assert_eq!(nvme(&mut bench, "Read", Some(0)), Effect::Lost);
    assert_eq!(nvme(&mut bench, "Read", Some(0)), Effect::None);
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
