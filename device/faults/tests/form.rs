//! The form of a rule: what is read, what is written back, what is refused and with which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::num::NonZeroU64;
use std::time::Duration;

use sdmorph_faults::{
    Action, Aer, BarAction, Bounce, CardAction, Cause, Chance, Conditions, Errno, LinkAction, Moment,
    Pattern, ReadLatency, Rule, RuleName, SlotAction, SpaceKind, Span, StuckBusy, Trigger, WireAction,
};
use sdmorph_pci::capability::AerError;
use sdmorph_pci::port::CommandCompletion;
use sdmorph_pci::{Direction, DoorbellKind};
use serde_json::{Value, json};

fn rule(on: Value, action: Value) -> Rule {
    Rule::from_json(&json!({ "name": "r", "on": on, "do": action })).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(value: Value) -> String {
    Rule::from_json(&value).expect_err("is refused").to_string()
}

fn access(direction: Option<Direction>, value: Option<Pattern>) -> Cause {
    Cause::Access { direction, register: "HAIMR".into(), function: None, value }
}

fn any_access(direction: Option<Direction>, function: Option<String>, space: Option<SpaceKind>) -> Cause {
    Cause::AnyAccess { direction, function, space, offset: None, value: None }
}

fn once(cause: Cause) -> Trigger {
    Trigger::from(cause)
}

#[test]
fn every_trigger_is_read_and_written_back_in_the_same_form() {
    let nth = NonZeroU64::new(3);
    let cases = [
        (json!({ "read": "HAIMR" }), once(access(Some(Direction::Read), None))),
        (
            json!({ "write": "HAIMR", "value": "0x80" }),
            once(access(Some(Direction::Write), Some(Pattern { value: 0x80, mask: None }))),
        ),
        (
            json!({ "access": "HAIMR", "value": "0x0", "mask": "0x80000000" }),
            once(access(None, Some(Pattern { value: 0, mask: Some(0x8000_0000) }))),
        ),
        (
            json!({ "event": "reset", "function": "reader", "nth": 3, "after": "link-up", "delay": "5ms" }),
            Trigger {
                nth,
                after: Some(Moment::Event("link-up".into())),
                delay: Duration::from_millis(5),
                ..once(Cause::Event { name: "reset".into(), function: Some("reader".into()) })
            },
        ),
        (json!({ "event": "morph" }), once(Cause::Event { name: "morph".into(), function: None })),
        (json!({ "phase": "drive" }), once(Cause::Phase("drive".into()))),
        (json!({ "read": "*" }), once(any_access(Some(Direction::Read), None, None))),
        (
            json!({ "access": "*", "function": "port", "space": "config", "offset": { "from": "0x80", "to": "0x8b" } }),
            once(Cause::AnyAccess {
                function: Some("port".into()),
                direction: None,
                space: Some(SpaceKind::Config),
                offset: Some(Span { from: 0x80, to: 0x8b }),
                value: None,
            }),
        ),
        (
            json!({ "write": "*", "space": "bar", "offset": "0x10", "value": "0x1", "mask": "0x1" }),
            once(Cause::AnyAccess {
                value: Some(Pattern { value: 1, mask: Some(1) }),
                direction: Some(Direction::Write),
                function: None,
                space: Some(SpaceKind::Bar),
                offset: Some(Span { from: 0x10, to: 0x10 }),
            }),
        ),
        (
            json!({ "doorbell": "sq", "queue": 1, "value": "0x0" }),
            once(Cause::Doorbell {
                kind: Some(DoorbellKind::SubmissionTail),
                queue: Some(1),
                value: Some(Pattern { value: 0, mask: None }),
            }),
        ),
        (json!({ "doorbell": "*" }), once(Cause::Doorbell { kind: None, queue: None, value: None })),
        (
            json!({ "interrupt": 2, "function": "nvme" }),
            once(Cause::Interrupt { vector: Some(2), function: Some("nvme".into()), data: None }),
        ),
        (
            json!({ "interrupt": "*", "value": "0x21" }),
            once(Cause::Interrupt {
                vector: None,
                function: None,
                data: Some(Pattern { value: 0x21, mask: None }),
            }),
        ),
        (
            json!({ "dma": "write", "function": "reader", "address": { "from": "0x1000" } }),
            once(Cause::Dma {
                direction: Some(Direction::Write),
                function: Some("reader".into()),
                address: Some(Span { from: 0x1000, to: u64::MAX }),
            }),
        ),
        (json!({ "dma": "*" }), once(Cause::Dma { direction: None, function: None, address: None })),
        (
            json!({ "dma": "*", "probability": 0.25, "seed": "0x7", "every": 3 }),
            Trigger {
                chance: Some(Chance { parts: 250_000_000, seed: 7 }),
                every: nth,
                ..once(Cause::Dma { direction: None, function: None, address: None })
            },
        ),
        (
            json!({
                "phase": "drive", "after": { "rule": "a" }, "until": "link-down",
                "while": {
                    "phase": ["away", "drive"], "link": "up", "presence": false, "bar": "vanished", "card": "ejected",
                    "d0": "port", "d3hot": "reader",
                },
            }),
            Trigger {
                after: Some(Moment::Rule(RuleName::new("a").unwrap())),
                until: Some(Moment::Event("link-down".into())),
                conditions: Conditions {
                    phase: vec!["away".into(), "drive".into()],
                    link_up: Some(true),
                    presence: Some(false),
                    bar_answers: Some(false),
                    card_in: Some(false),
                    d0: Some("port".into()),
                    d3hot: Some("reader".into()),
                },
                ..once(Cause::Phase("drive".into()))
            },
        ),
        (
            json!({ "phase": "drive", "while": { "phase": "drive", "bar": "answers", "card": "inserted" } }),
            Trigger {
                conditions: Conditions {
                    phase: vec!["drive".into()],
                    bar_answers: Some(true),
                    card_in: Some(true),
                    ..Conditions::default()
                },
                ..once(Cause::Phase("drive".into()))
            },
        ),
        (json!({ "rule": "other-one" }), once(Cause::Rule(RuleName::new("other-one").unwrap()))),
        (
            json!({ "command": "CMD8", "value": "0x31aa" }),
            once(Cause::Command {
                name: "CMD8".into(),
                argument: Some(Pattern { value: 0x31aa, mask: None }),
            }),
        ),
        (
            json!({ "message": "region-read", "nth": 3, "after": "link-up" }),
            Trigger {
                nth,
                after: Some(Moment::Event("link-up".into())),
                ..once(Cause::Message("region-read".into()))
            },
        ),
        (
            json!({ "start": true, "delay": "1500us" }),
            Trigger { delay: Duration::from_micros(1500), ..once(Cause::Start) },
        ),
    ];
    for (on, expected) in cases {
        let rule = rule(on.clone(), json!({ "bar": "vanish" }));
        assert_eq!(rule.on, expected, "{on}");
        assert_eq!(rule.to_json()["on"], on);
    }
}

#[test]
fn every_action_is_read_and_written_back_in_the_same_form() {
    let stuck =
        |mask, clear| Action::StuckBusy(StuckBusy { register: "HAIMR".into(), function: None, mask, clear });
    let ms = Duration::from_millis;
    let cases = [
        (json!({ "bar": "vanish" }), Action::Bar(BarAction::Vanish)),
        (json!({ "bar": "return" }), Action::Bar(BarAction::Return)),
        (json!({ "link": "down" }), Action::Link(LinkAction::Down)),
        (json!({ "link": "up" }), Action::Link(LinkAction::Up)),
        (json!({ "presence": true }), Action::Presence(true)),
        (json!({ "presence": false }), Action::Presence(false)),
        (json!({ "relink": "250ms" }), Action::Relink(Duration::from_millis(250))),
        (json!({ "relink": "fail" }), Action::RelinkFails),
        (json!({ "presence-lead": "50ms" }), Action::PresenceLead(Duration::from_millis(50))),
        (json!({ "presence-lag": "0s" }), Action::PresenceLag(Duration::ZERO)),
        (json!({ "card": "eject" }), Action::Card(CardAction::Eject)),
        (json!({ "card": "insert" }), Action::Card(CardAction::Insert)),
        (json!({ "card": "over-current" }), Action::Card(CardAction::OverCurrent)),
        (json!({ "read-latency": "0s" }), Action::ReadLatency(ReadLatency::Off)),
        (json!({ "read-latency": "4s" }), Action::ReadLatency(ReadLatency::Fixed(ms(4000)))),
        (
            json!({ "read-latency": { "min": "1ms", "max": "2ms", "seed": "0x2a" } }),
            Action::ReadLatency(ReadLatency::Uniform { min: ms(1), max: ms(2), seed: 42 }),
        ),
        (json!({ "stuck-busy": "HAIMR" }), stuck(None, false)),
        (json!({ "stuck-busy": { "register": "HAIMR", "mask": "0x80" } }), stuck(Some(0x80), false)),
        (json!({ "stuck-busy": { "register": "HAIMR", "clear": true } }), stuck(None, true)),
    ];
    for (action, expected) in cases {
        let rule = rule(json!({ "read": "HAIMR" }), action.clone());
        assert_eq!(rule.actions, [expected], "{action}");
        assert_eq!(rule.to_json()["do"], action);
    }
    // Their meaning is shown by what they do.
    let more = [
        json!({ "read-latency": { "mean": "1ms", "seed": "0x2a" } }),
        json!({ "read-latency": { "trace-ns": [1500, 0, 70000] } }),
        json!({ "read-data": { "register": "HAIMR", "give": "ones" } }),
        json!({ "read-data": { "register": "COMMAND", "function": "port", "give": "zeros" } }),
        json!({ "read-data": { "space": "config", "give": "stale" } }),
        json!({ "read-data": { "space": "bar", "give": "0x2a" } }),
        json!({ "read-data": { "space": "internal", "and": "0x0" } }),
        json!({ "read-data": { "register": "HAIMR", "or": "0x80" } }),
        json!({ "read-data": { "register": "HAIMR", "xor": "0x80" } }),
        json!({ "read-data": { "register": "HAIMR", "clear": true } }),
        json!({ "interrupt": "drop" }),
        json!({ "interrupt": { "what": "duplicate", "times": 3 } }),
        json!({ "interrupt": { "what": "delay", "time": "5ms", "function": "port", "vector": 0 } }),
        json!({ "interrupt": { "what": "spurious", "vector": 2 } }),
        json!({ "interrupt": "normal" }),
        json!({ "dma": { "what": "drop", "direction": "write" } }),
        json!({ "dma": { "what": "corrupt", "bits": 2, "seed": "0x7", "times": 1 } }),
        json!({ "dma": { "what": "fail", "error": "completion-timeout" } }),
        json!({ "dma": { "what": "delay", "time": "50ms" } }),
        json!({ "dma": "normal" }),
        json!({ "nvme": { "what": "fail", "status": "Internal Error", "command": "Write", "times": 2 } }),
        json!({ "nvme": "drop-completion" }),
        json!({ "nvme": "fatal" }),
        json!({ "nvme": "ready-stuck" }),
        json!({ "nvme": "normal" }),
        json!({ "card-corrupt": { "what": "response-crc", "times": 2 } }),
        json!({ "card-corrupt": { "what": "busy", "duration": "500ms" } }),
        json!({ "card-corrupt": { "what": "bad-blocks", "first": 8, "count": 2 } }),
        json!({ "card-corrupt": { "what": "heal" } }),
        json!({ "config": "vanish" }),
        json!({ "config": "return" }),
        json!({ "power-state": "stuck" }),
        json!({ "power-state": "normal" }),
    ];
    for action in more {
        assert_eq!(rule(json!({ "read": "HAIMR" }), action.clone()).to_json()["do"], action);
    }
    let list = json!([{ "bar": "vanish" }, { "link": "down" }]);
    let rule = rule(json!({ "read": "HAIMR" }), list.clone());
    assert_eq!(rule.actions, [Action::Bar(BarAction::Vanish), Action::Link(LinkAction::Down)]);
    assert_eq!(rule.to_json()["do"], list);
}

#[test]
fn every_action_on_the_slot_is_read_and_written_back_in_the_same_form() {
    let ms = Duration::from_millis;
    let aer = |name, function: Option<&str>| {
        let error = AerError::by_name(name).unwrap();
        SlotAction::Aer(Aer { error, function: function.map(str::to_owned) })
    };
    let cases = [
        (json!({ "link": "train-fail" }), Action::Link(LinkAction::TrainFails)),
        (json!({ "link": { "flap": "20ms" } }), Action::Link(LinkAction::Flap(ms(20)))),
        (
            json!({ "presence": { "bounce": 5, "every": "5ms" } }),
            Action::Slot(SlotAction::PresenceBounces(Bounce { changes: 5, every: ms(5) })),
        ),
        (json!({ "absence-lead": "244ms" }), Action::Slot(SlotAction::AbsenceLead(ms(244)))),
        (json!({ "absence-lag": "244ms" }), Action::Slot(SlotAction::AbsenceLag(ms(244)))),
        (json!({ "attention-button": "press" }), Action::Slot(SlotAction::AttentionButton)),
        (json!({ "mrl-sensor": "open" }), Action::Slot(SlotAction::MrlSensor { open: true })),
        (json!({ "mrl-sensor": "closed" }), Action::Slot(SlotAction::MrlSensor { open: false })),
        (json!({ "power-fault": true }), Action::Slot(SlotAction::PowerFault(true))),
        (
            json!({ "command-completed": "lost" }),
            Action::Slot(SlotAction::CommandCompleted(CommandCompletion::Untold)),
        ),
        (
            json!({ "command-completed": "500ms" }),
            Action::Slot(SlotAction::CommandCompleted(CommandCompletion::After(ms(500)))),
        ),
        (
            json!({ "command-completed": "0s" }),
            Action::Slot(SlotAction::CommandCompleted(CommandCompletion::AtOnce)),
        ),
        (json!({ "aer": "COMP_TIME" }), Action::Slot(aer("COMP_TIME", None))),
        (json!({ "aer": { "error": "SDN", "function": "port" } }), Action::Slot(aer("SDN", Some("port")))),
        (json!({ "dpc": "trigger" }), Action::Slot(SlotAction::Dpc)),
    ];
    for (action, expected) in cases {
        let rule = rule(json!({ "read": "HAIMR" }), action.clone());
        assert_eq!(rule.actions, [expected], "{action}");
        assert_eq!(rule.to_json()["do"], action);
    }
}

#[test]
fn wrong_actions_on_the_slot_are_refused_with_the_place_and_the_remedy() {
    let cases = [
        (json!({ "link": "flap" }), "do.link: unknown word \"flap\"; known are down, up, train-fail"),
        (
            json!({ "link": "train-fial" }),
            "do.link: unknown word \"train-fial\"; did you mean \"train-fail\"?",
        ),
        (json!({ "link": { "flop": "1ms" } }), "do.link: unknown key \"flop\"; did you mean \"flap\"?"),
        (json!({ "link": {} }), "do.link.flap: is needed, such as \"20ms\""),
        (json!({ "link": { "flap": 20 } }), "do.link.flap: 20 has no unit"),
        (json!({ "presence": { "bounce": 3 } }), "do.presence.every: is needed, such as \"5ms\""),
        (json!({ "presence": { "every": "5ms" } }), "do.presence.bounce: is needed, such as 5"),
        (
            json!({ "presence": { "bounce": 0, "every": "5ms" } }),
            "do.presence.bounce: a whole number from 1 is needed, not the number 0",
        ),
        (
            json!({ "presence": { "bounce": 1001, "every": "5ms" } }),
            "do.presence.bounce: 1001 changes are above the limit of 1000",
        ),
        (
            json!({ "presence": { "bounce": 3, "every": "0s" } }),
            "do.presence.every: 0 s: nobody could see the changes",
        ),
        (json!({ "absense-lag": "1ms" }), "do: unknown key \"absense-lag\"; did you mean \"absence-lag\"?"),
        (json!({ "absence-lead": "-1ms" }), "do.absence-lead: a lead cannot be negative"),
        (json!({ "attention-button": true }), "do.attention-button: one of press is needed, not true"),
        (json!({ "mrl-sensor": "close" }), "do.mrl-sensor: unknown word \"close\"; did you mean \"closed\"?"),
        (json!({ "power-fault": "yes" }), "do.power-fault: true or false is needed"),
        (json!({ "command-completed": true }), "do.command-completed: a duration such as"),
        (json!({ "aer": "UNSUPP" }), "do.aer: unknown error \"UNSUPP\"; did you mean \"UNSUP\"?"),
        (json!({ "aer": { "function": "port" } }), "do.aer.error: is needed, such as \"UNSUP\""),
        (
            json!({ "aer": { "error": "COMP_TIMEOUT", "functon": "port" } }),
            "do.aer: unknown key \"functon\"; did you mean \"function\"?",
        ),
        (json!({ "dpc": "triger" }), "do.dpc: unknown word \"triger\"; did you mean \"trigger\"?"),
    ];
    for (action, expected) in cases {
        let text = action.to_string();
        let message = refusal(json!({ "name": "slot", "on": { "start": true }, "do": action }));
        assert!(message.contains(expected), "{text}\n  says: {message}\n  not:  {expected}");
    }
}

#[test]
fn every_fault_at_the_wire_is_read_and_written_back_in_the_same_form() {
    let error = |number| WireAction::Error(Errno::from_number(number).unwrap());
    let cases = [
        (json!({ "delay": "10ms" }), WireAction::Delay(Duration::from_millis(10))),
        (json!({ "delay": "4s" }), WireAction::Delay(Duration::from_secs(4))),
        (json!("drop"), WireAction::Drop),
        (json!({ "error": "EIO" }), error(5)),
        (json!({ "error": "EREMOTEIO" }), error(121)),
        (json!({ "error": 3 }), error(3)),
        (json!({ "error": 4095 }), error(4095)),
        (json!("close"), WireAction::Close),
        (json!({ "truncate": 0 }), WireAction::Truncate(0)),
        (json!({ "truncate": 8 }), WireAction::Truncate(8)),
    ];
    for (wire, expected) in cases {
        let action = json!({ "wire": wire });
        let rule = rule(json!({ "message": "region-read" }), action.clone());
        assert_eq!(rule.actions, [Action::Wire(expected)], "{action}");
        assert_eq!(rule.to_json()["do"], action);
        assert_eq!(Action::from_json(&action), Ok(Action::Wire(expected)), "by itself");
    }
    let error = Action::from_json(&json!({ "wire": "drp" })).unwrap_err().to_string();
    assert_eq!(error, "do.wire: unknown word \"drp\"; did you mean \"drop\"?");
    let by_number = rule(json!({ "message": "version" }), json!({ "wire": { "error": 5 } }));
    assert_eq!(by_number.to_json()["do"], json!({ "wire": { "error": "EIO" } }), "a number that has a name");
    let list = json!([{ "wire": "drop" }, { "link": "down" }]);
    let rule = rule(json!({ "message": "device-reset" }), list.clone());
    assert_eq!(rule.to_json()["do"], list, "with other actions");
}

#[test]
fn wrong_faults_at_the_wire_are_refused_with_the_place_and_the_remedy() {
    let rule = |on: Value, action: Value| json!({ "name": "lost", "on": on, "do": action });
    let wire = |fault: Value| rule(json!({ "message": "region-read" }), json!({ "wire": fault }));
    let cases = [
        (wire(json!("drp")), "rule \"lost\": do.wire: unknown word \"drp\"; did you mean \"drop\"?"),
        (wire(json!("delay")), "do.wire: delay needs a value: wire = { delay = … }"),
        (wire(json!({ "close": true })), "do.wire: close has no value: wire = \"close\""),
        (wire(json!({ "eror": "EIO" })), "do.wire: unknown key \"eror\"; did you mean \"error\"?"),
        (wire(json!({})), "do.wire: one of delay, drop, error, close, truncate is needed"),
        (wire(json!(true)), "do.wire: a table is needed, not true"),
        (
            wire(json!({ "delay": "1ms", "error": "EIO" })),
            "do.wire: a message has one fault, not delay and error",
        ),
        (
            wire(json!({ "delay": "4001ms" })),
            "do.wire.delay: 4001 ms is above the limit of 4 s (QEMU gives up on a reply after 5 s)",
        ),
        (wire(json!({ "delay": "-1ms" })), "do.wire.delay: a delay cannot be negative"),
        (wire(json!({ "delay": 10 })), "do.wire.delay: 10 has no unit"),
        (
            wire(json!({ "error": "EOI" })),
            "do.wire.error: unknown error \"EOI\"; did you mean \"EIO\"?; a number will do, too",
        ),
        (
            wire(json!({ "error": 0 })),
            "do.wire.error: a name such as \"EIO\" or a number from 1 to 4095 is needed, not the number 0",
        ),
        (wire(json!({ "error": 4096 })), "or a number from 1 to 4095 is needed, not the number 4096"),
        (wire(json!({ "error": -5 })), "or a number from 1 to 4095 is needed, not the number -5"),
        (wire(json!({ "truncate": -1 })), "do.wire.truncate: a whole number from 0"),
        (wire(json!({ "truncate": 1u64 << 32 })), "do.wire.truncate: no answer has 4294967296 bytes"),
        (
            rule(json!({ "read": "HAIMR" }), json!({ "wire": "drop" })),
            "do.wire: happens to a message of the client: on = { message = … } is needed",
        ),
        (
            rule(json!({ "rule": "other" }), json!([{ "bar": "vanish" }, { "wire": "drop" }])),
            "do.wire: happens to a message of the client: on = { message = … } is needed",
        ),
        (
            rule(json!({ "message": "region-read", "delay": "1ms" }), json!({ "wire": "drop" })),
            "on.delay: does not go with wire, which happens to the message at hand; to have it answered later, write do = { wire = { delay = … } }",
        ),
        (
            rule(json!({ "message": "region-read" }), json!([{ "wire": "drop" }, { "wire": "close" }])),
            "do: a message has one fault, not 2; make it 2 rules",
        ),
        (
            rule(json!({ "message": "region-read", "value": 1 }), json!({ "wire": "drop" })),
            "on.value: does not go with message",
        ),
        (
            rule(json!({ "message": 9 }), json!({ "wire": "drop" })),
            "on.message: a name is needed, not the number 9",
        ),
    ];
    for (value, expected) in cases {
        let text = value.to_string();
        let message = refusal(value);
        assert!(message.contains(expected), "{text}\n  says: {message}\n  not:  {expected}");
    }
}

#[test]
fn rule_from_toml_is_the_rule_from_json() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Scenario {
        rule: Vec<Rule>,
    }
    let text = r#"
        [[rule]]
        name = "bar-dies"
        on = { write = "L1SUB_CONFIG3", value = 0x80, mask = "0xff", after = "express-switch-requested" }
        do = { bar = "vanish" }
        times = 1

        [[rule]]
        name = "sticks"
        on = { rule = "bar-dies", delay = "5ms" }
        do = [{ stuck-busy = { register = "HAIMR", mask = 0x80000000 } }, { read-latency = { min = "1us", max = "500µs" } }]
    "#;
    let scenario: Scenario = toml::from_str(text).unwrap();
    let expected = json!([
        {
            "name": "bar-dies",
            "on": { "write": "L1SUB_CONFIG3", "value": "0x80", "mask": "0xff", "after": "express-switch-requested" },
            "do": { "bar": "vanish" },
            "times": 1,
        },
        {
            "name": "sticks",
            "on": { "rule": "bar-dies", "delay": "5ms" },
            "do": [
                { "stuck-busy": { "register": "HAIMR", "mask": "0x80000000" } },
                { "read-latency": { "min": "1us", "max": "500us", "seed": "0x0" } },
            ],
        },
    ]);
    assert_eq!(serde_json::to_value(&scenario.rule).unwrap(), expected);
    assert_eq!(serde_json::from_value::<Vec<Rule>>(expected).unwrap(), scenario.rule);
    let again: Scenario = toml::from_str(&toml::to_string(&scenario).unwrap()).unwrap();
    assert_eq!(again.rule, scenario.rule);
}

#[test]
fn error_in_toml_names_the_rule_and_the_line() {
    #[derive(Debug, serde::Deserialize)]
    struct Scenario {
        #[allow(dead_code, reason = "only its errors are looked at")]
        rule: Vec<Rule>,
    }
    let text = "[[rule]]\nname = \"slow\"\non = { start = true }\ndo = { read-latency = \"-1ms\" }\n";
    let error = toml::from_str::<Scenario>(text).unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    assert!(error.contains("rule \"slow\": do.read-latency: a latency cannot be negative"), "{error}");
}

#[test]
fn wrong_tables_are_refused_with_the_place_and_the_remedy() {
    let on = |on: Value| json!({ "name": "bar-dies", "on": on, "do": { "bar": "vanish" } });
    let act = |action: Value| json!({ "name": "bar-dies", "on": { "read": "HAIMR" }, "do": action });
    let whole = |key: &str, value: Value| {
        let mut rule = on(json!({ "read": "HAIMR" }));
        rule[key] = value;
        rule
    };
    let cases = [
        (json!(5), "a rule: a table is needed, not the number 5"),
        (json!({}), "name: a rule needs a name, such as \"bar-dies\""),
        (
            whole("name", json!("Bar dies")),
            "name: \"Bar dies\" is not a rule's name: it takes words of a-z and 0-9",
        ),
        (whole("name", json!("a--b")), "is not a rule's name"),
        (whole("name", json!("-a")), "is not a rule's name"),
        (whole("name", json!("")), "name: \"\" is not a rule's name"),
        (whole("name", json!("x".repeat(65))), "is not a rule's name"),
        (whole("tmes", json!(1)), "rule \"bar-dies\": a rule: unknown key \"tmes\"; did you mean \"times\"?"),
        (whole("times", json!(0)), "times: a whole number from 1 is needed, not the number 0"),
        (
            json!({ "name": "a", "do": { "bar": "vanish" } }),
            "rule \"a\": on: one of read, write, access, event, phase, command, doorbell, interrupt, dma, message, rule, start is needed",
        ),
        (
            on(json!({ "delay": "5ms" })),
            "on: one of read, write, access, event, phase, command, doorbell, interrupt, dma, message, rule, start is needed",
        ),
        (on(json!({})), "on: one of read, write, access, event, phase"),
        (on(json!({ "delay": "5ms" })), "on: one of read, write, access, event, phase"),
        (on(json!({ "wrte": "HAIMR" })), "on: unknown key \"wrte\"; did you mean \"write\"?"),
        (
            on(json!({ "read": "HAIMR", "xyzzy": 1 })),
            "on: unknown key \"xyzzy\"; known are read, write, access",
        ),
        (
            on(json!({ "read": "HAIMR", "write": "HAIMR" })),
            "on: only one trigger is possible, not read and write; access is both",
        ),
        (
            on(json!({ "read": "HAIMR", "event": "reset" })),
            "on: only one trigger is possible, not event and read; make it two rules",
        ),
        (on(json!({ "read": 16 })), "on.read: a name is needed, not the number 16"),
        (on(json!({ "start": false })), "on.start: true is needed, not false"),
        (on(json!({ "start": true, "after": "link-down" })), "on.after: does not go with start"),
        (on(json!({ "event": "reset", "value": 1 })), "on.value: does not go with event"),
        (on(json!({ "command": "CMD8", "function": "reader" })), "on.function: does not go with command"),
        (on(json!({ "rule": "Bar" })), "on.rule: \"Bar\" is not a rule's name"),
        (
            on(json!({ "read": "HAIMR", "mask": 1 })),
            "on.mask: it says which bits of value count, and there is no value",
        ),
        (on(json!({ "read": "HAIMR", "value": 3, "mask": 1 })), "on.value: bits 0x2 are outside of mask"),
        (on(json!({ "read": "HAIMR", "value": 3, "mask": 0 })), "on.mask: no bit is set in it"),
        (
            on(json!({ "read": "HAIMR", "value": -3 })),
            "on.value: a whole number from 0 or a text such as \"0x80\" is needed, not the number -3",
        ),
        (
            on(json!({ "read": "HAIMR", "value": "80" })),
            "on.value: a whole number from 0 or a text such as \"0x80\" is needed, not the text \"80\"",
        ),
        (on(json!({ "read": "HAIMR", "value": "0x+1" })), "on.value: a whole number"),
        (on(json!({ "read": "HAIMR", "value": "0x1_0000_0000_0000_0000" })), "has more than 64 bits"),
        (
            on(json!({ "read": "HAIMR", "nth": 0 })),
            "on.nth: a whole number from 1 is needed, not the number 0",
        ),
        (
            on(json!({})),
            "on: one of read, write, access, event, phase, command, doorbell, interrupt, dma, message, rule, start is needed",
        ),
        (on(json!({ "reed": "HAIMR" })), "on: unknown key \"reed\"; did you mean \"read\"?"),
        (on(json!({ "read": "HAIMR", "wile": {} })), "on: unknown key \"wile\"; did you mean \"while\"?"),
        (
            on(json!({ "read": "HAIMR", "space": "bar" })),
            "on.space: goes with read = \"*\", not with a register's name",
        ),
        (on(json!({ "write": "HAIMR", "offset": 4 })), "on.offset: goes with write = \"*\""),
        (on(json!({ "read": "*", "space": "br" })), "on.space: unknown word \"br\"; did you mean \"bar\"?"),
        (
            on(json!({ "read": "*", "offset": 4 })),
            "on.space: is needed, since offsets are in one: config, bar, internal",
        ),
        (
            on(json!({ "read": "*", "space": "bar", "offset": { "to": 4 } })),
            "on.offset.from: is needed, such as \"0x10\"",
        ),
        (
            on(json!({ "read": "*", "space": "bar", "offset": { "from": 4, "two": 5 } })),
            "on.offset: unknown key \"two\"; did you mean \"to\"?",
        ),
        (
            on(json!({ "dma": "*", "address": { "from": 5, "to": 4 } })),
            "on.address: from (0x5) is above to (0x4)",
        ),
        (on(json!({ "dma": "reed" })), "on.dma: unknown word \"reed\"; did you mean \"read\"?"),
        (on(json!({ "dma": "*", "value": 1 })), "on.value: does not go with dma"),
        (on(json!({ "doorbell": "sqq" })), "on.doorbell: unknown word \"sqq\"; did you mean \"sq\"?"),
        (
            on(json!({ "doorbell": "sq", "queue": 65536 })),
            "on.queue: 65536 is above the highest that there is, 65535",
        ),
        (
            on(json!({ "interrupt": "all" })),
            "on.interrupt: a whole number from 0 or a text such as \"0x80\" is needed",
        ),
        (on(json!({ "interrupt": 65536 })), "on.interrupt: 65536 is above"),
        (on(json!({ "phase": 3 })), "on.phase: a name is needed, not the number 3"),
        (on(json!({ "read": "HAIMR", "nth": 2, "every": 2 })), "on.every: does not go with nth"),
        (on(json!({ "read": "HAIMR", "every": 0 })), "on.every: a whole number from 1 is needed"),
        (
            on(json!({ "read": "HAIMR", "probability": 1.5 })),
            "on.probability: a number above 0 and up to 1 is needed, such as 0.25, not the number 1.5",
        ),
        (on(json!({ "read": "HAIMR", "probability": "often" })), "on.probability: a number above 0"),
        (
            on(json!({ "read": "HAIMR", "probability": 0 })),
            "on.probability: 0 is 0 to nine decimals, so that nothing could match",
        ),
        (on(json!({ "read": "HAIMR", "seed": 7 })), "on.seed: it goes with probability, and there is none"),
        (
            on(json!({ "read": "HAIMR", "after": 7 })),
            "on.after: the name of an event or { rule = … } is needed, not the number 7",
        ),
        (
            on(json!({ "read": "HAIMR", "until": { "rle": "a" } })),
            "on.until: unknown key \"rle\"; did you mean \"rule\"?",
        ),
        (on(json!({ "read": "HAIMR", "until": {} })), "on.until.rule: is needed"),
        (
            on(json!({ "read": "HAIMR", "until": { "rule": "A" } })),
            "on.until.rule: \"A\" is not a rule's name",
        ),
        (
            on(json!({ "read": "HAIMR", "after": "reset", "until": "reset" })),
            "on.until: it is the same as after, so that nothing could match",
        ),
        (on(json!({ "start": true, "until": "reset" })), "on.until: does not go with start"),
        (on(json!({ "start": true, "while": { "link": "up" } })), "on.while: does not go with start"),
        (
            on(json!({ "read": "HAIMR", "while": {} })),
            "on.while: one of phase, link, presence, bar, card, d0, d3hot is needed",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "lnik": "up" } })),
            "on.while: unknown key \"lnik\"; did you mean \"link\"?",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "link": "dwon" } })),
            "on.while.link: unknown word \"dwon\"; did you mean \"down\"?",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "bar": "vanish" } })),
            "on.while.bar: unknown word \"vanish\"; did you mean \"vanished\"?",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "card": true } })),
            "on.while.card: one of inserted, ejected is needed, not true",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "presence": "up" } })),
            "on.while.presence: true or false is needed",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "phase": [] } })),
            "on.while.phase: the list is empty, so that nothing could match",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "phase": [1] } })),
            "on.while.phase: a name is needed, not the number 1",
        ),
        (
            on(json!({ "read": "HAIMR", "delay": 5 })),
            "on.delay: 5 has no unit; write a text with ns, us, ms or s, such as \"5ms\"",
        ),
        (on(json!({ "read": "HAIMR", "delay": "-5ms" })), "on.delay: a delay cannot be negative"),
        (on(json!({ "read": "HAIMR", "delay": "86401s" })), "on.delay: 86401 s is above the limit of 24 h"),
        (
            act(json!({})),
            "do: one of bar, read-latency, link, presence, presence-lead, presence-lag, absence-lead, absence-lag, attention-button, mrl-sensor, power-fault, command-completed, aer, dpc, relink, card, stuck-busy, read-data, interrupt, dma, nvme, card-corrupt, config, power-state, wire is needed",
        ),
        (act(json!([])), "do: the list is empty; a rule that only counts has no do"),
        (act(json!("vanish")), "do: a table is needed, not the text \"vanish\""),
        (
            act(json!({ "bar": "vanish", "link": "down" })),
            "do: bar and link are two actions; write a list, in the order they are to happen: do = [{ bar = … }, { link = … }]",
        ),
        (
            act(json!([{ "bar": "vanish" }, { "lnk": "down" }])),
            "do[1]: unknown key \"lnk\"; did you mean \"link\"?",
        ),
        (act(json!({ "bar": "vanis" })), "do.bar: unknown word \"vanis\"; did you mean \"vanish\"?"),
        (act(json!({ "link": true })), "do.link: one of down, up, train-fail is needed, not true"),
        (
            act(json!({ "presence-leed": "1ms" })),
            "do: unknown key \"presence-leed\"; did you mean \"presence-lead\"?",
        ),
        (act(json!({ "presence-lag": "-1ms" })), "do.presence-lag: a lag cannot be negative"),
        (act(json!({ "presence": "true" })), "do.presence: true or false is needed, not the text \"true\""),
        (
            act(json!({ "read-latency": "5s" })),
            "do.read-latency: 5 s is above the limit of 4 s (QEMU gives up on a reply after 5 s)",
        ),
        (act(json!({ "read-latency": "-500us" })), "do.read-latency: a latency cannot be negative"),
        (act(json!({ "read-latency": -500 })), "do.read-latency: a latency cannot be negative"),
        (
            act(json!({ "read-latency": true })),
            "do.read-latency: a duration such as \"500us\" is needed, not true",
        ),
        (
            act(json!({ "read-latency": { "min": "1ms" } })),
            "do.read-latency.max: is needed, such as \"500us\"",
        ),
        (
            act(json!({ "read-latency": { "min": "2ms", "max": "1ms" } })),
            "do.read-latency: min (2 ms) is above max (1 ms)",
        ),
        (
            act(json!({ "read-latency": { "min": "1ms", "max": "4001ms" } })),
            "do.read-latency.max: 4001 ms is above the limit of 4 s",
        ),
        (act(json!({ "stuck-busy": { "mask": 1 } })), "do.stuck-busy.register: is needed, such as \"HAIMR\""),
        (
            act(json!({ "stuck-busy": { "register": "HAIMR", "mask": 0 } })),
            "do.stuck-busy.mask: no bit is set in it",
        ),
        (
            act(json!({ "stuck-busy": { "register": "HAIMR", "claer": true } })),
            "do.stuck-busy: unknown key \"claer\"; did you mean \"clear\"?",
        ),
        (
            act(json!({ "read-latency": { "mean": "1ms", "min": "1ms" } })),
            "do.read-latency.min: does not go with mean",
        ),
        (
            act(json!({ "read-latency": { "trace-ns": [] } })),
            "do.read-latency.trace-ns: a trace has from 1 to 4096 latencies, not 0",
        ),
        (
            act(json!({ "read-latency": { "trace-ns": [1, "1us"] } })),
            "do.read-latency.trace-ns[1]: a whole number from 0",
        ),
        (
            act(json!({ "read-latency": { "trace-file": "board.txt" } })),
            "do.read-latency.trace-file: nobody has read the file; write trace-ns = […]",
        ),
        (
            act(json!({ "read-latency": { "trace-file": "board.txt", "seed": 1 } })),
            "do.read-latency.seed: does not go with trace-file",
        ),
        (
            act(json!({ "read-latency": { "trace-files": "board.txt" } })),
            "do.read-latency: unknown key \"trace-files\"; did you mean \"trace-file\"?",
        ),
        (act(json!({ "read-data": { "give": "ones" } })), "do.read-data: register or space is needed"),
        (
            act(json!({ "read-data": { "register": "HAIMR", "space": "bar" } })),
            "do.read-data: register and space are two targets",
        ),
        (
            act(json!({ "read-data": { "space": "baar", "give": "ones" } })),
            "do.read-data.space: unknown word \"baar\"; did you mean \"bar\"?",
        ),
        (
            act(json!({ "read-data": { "space": "bar", "give": "one" } })),
            "do.read-data.give: unknown word \"one\"; did you mean \"ones\"?; a number will do, too",
        ),
        (
            act(json!({ "read-data": { "space": "bar", "or": 1, "xor": 1 } })),
            "do.read-data: or and xor do not go together; make it two actions",
        ),
        (
            act(json!({ "read-data": { "space": "bar" } })),
            "do.read-data: one of give, and, or, xor, clear is needed",
        ),
        (act(json!({ "interrupt": "dorp" })), "do.interrupt: unknown word \"dorp\"; did you mean \"drop\"?"),
        (
            act(json!({ "interrupt": { "times": 1 } })),
            "do.interrupt.what: one of drop, duplicate, delay, spurious, normal is needed",
        ),
        (act(json!({ "interrupt": "delay" })), "do.interrupt.time: is needed with delay, such as \"5ms\""),
        (
            act(json!({ "interrupt": { "what": "drop", "tims": 1 } })),
            "do.interrupt: \"tims\" does not go with drop; did you mean \"times\"?",
        ),
        (
            act(json!({ "interrupt": { "what": "drop", "vector": 65536 } })),
            "do.interrupt.vector: there are no",
        ),
        (
            act(json!({ "dma": { "what": "corrupt", "bits": 65 } })),
            "do.dma.bits: 65 is above the limit of 64 a transfer",
        ),
        (
            act(json!({ "dma": { "what": "fail", "error": "completer-abord" } })),
            "do.dma.error: unknown word \"completer-abord\"; did you mean \"completer-abort\"?",
        ),
        (act(json!({ "nvme": "fail" })), "do.nvme.status: is needed, such as \"Internal Error\""),
        (
            act(json!({ "nvme": { "what": "fatal", "times": 1 } })),
            "do.nvme: fatal stands alone, without \"times\"",
        ),
        (
            act(json!({ "card-corrupt": { "what": "busy", "times": 1 } })),
            "do.card-corrupt.duration: is needed with busy, such as \"500ms\"",
        ),
        (
            act(json!({ "card-corrupt": { "what": "data-crc", "count": 1 } })),
            "do.card-corrupt: \"count\" does not go with data-crc; known are times",
        ),
        (
            act(json!({ "config": "vanishes" })),
            "do.config: unknown word \"vanishes\"; did you mean \"vanish\"?",
        ),
        (act(json!({ "power-state": true })), "do.power-state: one of stuck, normal is needed, not true"),
        (
            json!({ "name": "a", "on": { "start": true }, "do": { "link": "up" }, "times": 2 }),
            "times: a rule with start, or with nth that is armed only once, hits once at most",
        ),
    ];
    for (value, expected) in cases {
        let text = value.to_string();
        let message = refusal(value);
        assert!(message.contains(expected), "{text}\n  says: {message}\n  not:  {expected}");
    }
}

#[test]
fn nth_may_hit_again_in_a_rule_that_is_armed_again() {
    let on =
        |on: Value| Rule::from_json(&json!({ "name": "a", "on": on, "times": 2 })).map(|rule| rule.times);
    let again = json!({ "read": "HAIMR", "nth": 3, "after": "link-down", "until": "link-up" });
    assert_eq!(on(again).unwrap(), NonZeroU64::new(2));
    assert!(on(json!({ "read": "HAIMR", "nth": 3, "until": "link-up" })).is_err());
}

#[test]
fn place_of_what_is_wrong_is_told_apart_from_the_message() {
    let place = |value: Value| Rule::from_json(&value).unwrap_err().place().to_owned();
    let rule = |on: Value| json!({ "name": "a", "on": on });
    assert_eq!(place(rule(json!({ "read": "HAIMR", "delay": "5" }))), "on.delay");
    assert_eq!(place(rule(json!({ "read": "HAIMR", "while": { "link": 1 } }))), "on.while.link");
    assert_eq!(
        place(json!({ "name": "a", "on": { "start": true }, "do": [{ "link": "up" }, { "bar": "x" }] })),
        "do[1].bar"
    );
    assert_eq!(place(json!({ "name": "A" })), "name");
}

#[test]
fn more_than_sixteen_actions_are_refused() {
    let actions = vec![json!({ "link": "up" }); 17];
    let message = refusal(json!({ "name": "a", "on": { "start": true }, "do": actions }));
    assert!(message.contains("do: 17 actions are above the limit of 16 a rule"), "{message}");
}

#[test]
fn long_text_is_not_repeated_in_full() {
    let message = refusal(json!({ "name": "y".repeat(1 << 20) }));
    assert!(message.len() < 400, "{}", message.len());
    let message = refusal(json!({ "name": "a", "y".repeat(1 << 20): 1 }));
    assert!(message.len() < 400, "{}", message.len());
}
