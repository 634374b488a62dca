//! Messages of the vfio-user client: which rules they set off, and what is told about them.

use sdmorph_faults::{Action, MESSAGES, WireAction};
use sdmorph_pci::Event;
use serde_json::json;

use crate::bench::{Bench, ms, names_of, refusal, rule, vanish};

/// Numbers of the commands on the wire.
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

#[test]
fn message_sets_off_the_rules_that_wait_for_it_and_no_others() {
    let mut bench = Bench::new(vec![
        rule("reads", json!({ "message": "region-read" }), json!({ "wire": "drop" })),
        rule("resets", json!({ "message": "device-reset" }), json!({ "link": "down" })),
        rule("registers", json!({ "read": "HAIMR" }), vanish()),
    ]);
    let fired = bench.engine.message(ms(7), REGION_READ);
    assert_eq!(names_of(&fired), ["reads"]);
    assert_eq!(fired[0].actions, [Action::Wire(WireAction::Drop)]);
    assert_eq!((fired[0].hit, bench.status("reads").last_hit), (1, Some(ms(7))));
    assert_eq!(names_of(&bench.engine.message(ms(8), DEVICE_RESET)), ["resets"]);
    for number in [REGION_WRITE, 0, 14, u16::MAX] {
        assert_eq!(bench.engine.message(ms(9), number), []);
    }
}

#[test]
fn message_trigger_counts_as_every_other_trigger_does() {
    let drop = || json!({ "wire": "drop" });
    let once = json!({ "name": "once", "on": { "message": "region-read" }, "do": drop(), "times": 1 });
    let mut bench = Bench::new(vec![
        rule("second", json!({ "message": "region-read", "nth": 2 }), drop()),
        rule("later", json!({ "message": "region-read", "after": "link-up" }), drop()),
        sdmorph_faults::Rule::from_json(&once).unwrap(),
        rule("chained", json!({ "rule": "second" }), vanish()),
        rule("delayed", json!({ "message": "region-read", "nth": 1, "delay": "5ms" }), vanish()),
    ]);
    let message = |bench: &mut Bench| names_of(&bench.engine.message(bench.now, REGION_READ));
    assert_eq!(message(&mut bench), ["once"]);
    assert_eq!(message(&mut bench), ["second", "chained"]);
    assert_eq!(bench.wait(ms(5)), ["delayed"]);
    bench.event(Event::LinkUp);
    assert_eq!(message(&mut bench), ["later"]);
}

#[test]
fn watched_messages_are_those_of_the_rules_that_are_there() {
    let mut bench = Bench::new(vec![
        rule("a", json!({ "message": "region-read" }), json!({ "wire": "drop" })),
        rule("b", json!({ "message": "region-read" }), json!({ "wire": "close" })),
        rule("c", json!({ "message": "device-reset" }), vanish()),
        rule("d", json!({ "read": "HAIMR" }), vanish()),
    ]);
    let is = |bench: &Bench| bench.engine.watched_messages();
    assert_eq!(is(&bench), 1 << REGION_READ | 1 << DEVICE_RESET);
    bench.engine.remove("a").unwrap();
    assert_eq!(is(&bench), 1 << REGION_READ | 1 << DEVICE_RESET, "another rule waits for it");
    bench.engine.remove("b").unwrap();
    assert_eq!(is(&bench), 1 << DEVICE_RESET);
    bench.engine.remove("c").unwrap();
    assert_eq!(is(&bench), 0);
}

#[test]
fn every_message_has_its_own_rule_and_bit() {
    let rules = MESSAGES.iter().map(|(_, name)| rule(name, json!({ "message": name }), vanish()));
    let mut bench = Bench::new(rules.collect());
    let bits = MESSAGES.iter().fold(0, |bits, (number, _)| bits | 1u32 << number);
    assert_eq!(bench.engine.watched_messages(), bits);
    for (number, name) in MESSAGES {
        assert_eq!(names_of(&bench.engine.message(ms(0), *number)), [*name]);
    }
}

#[test]
fn unknown_message_is_refused_with_the_nearest_names() {
    let of = |message: &str| refusal(vec![rule("lost", json!({ "message": message }), vanish())]);
    assert_eq!(
        of("region-raed"),
        "rule \"lost\": on.message: no message \"region-raed\"; did you mean region-read, region-write?"
    );
    assert_eq!(
        of("REGION_READ"),
        "rule \"lost\": on.message: no message \"REGION_READ\"; did you mean region-read?"
    );
    // The server sends it, not the client.
    assert!(of("dma-read").starts_with("rule \"lost\": on.message: no message \"dma-read\""));
}
