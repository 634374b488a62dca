//! What holds for any input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;
use sdmorph_faults::{Engine, MAX_PENDING, RegisterInfo, Registry, Rule};
use sdmorph_pci::{Access, Answer, Direction, Doorbell, DoorbellKind, Event, Happening, Message, Space};
use serde_json::{Map, Value, json};

const REGISTERS: [&str; 3] = ["HAIMR", "BIPR", "BIER"];

fn registry() -> Registry {
    let mut names = Registry::new();
    for (index, name) in REGISTERS.into_iter().enumerate() {
        let address = 4 * index as u64;
        names.add_register(RegisterInfo {
            function: "reader",
            space: Space::Bar(0),
            name,
            address,
            size: 4,
            busy: 1,
        });
    }
    names.add_phases(["reader", "drive"]);
    names.add_commands(["CMD0", "CMD8"]);
    names
}

/// Any JSON, most of it made of the words of rules.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        "\\PC*",
        "-?[0-9]{0,20}(\\.[0-9]{0,12})? ?(ns|us|µs|ms|s)?",
        "0x[0-9a-f_]{0,18}",
        prop::sample::select(vec![
            "HAIMR",
            "link-down",
            "CMD8",
            "vanish",
            "return",
            "down",
            "up",
            "a-rule",
            "region-read",
            "drop",
            "close",
            "EIO",
            "*",
            "bar",
            "sq",
            "drive",
            "reader",
        ])
        .prop_map(String::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "name",
        "on",
        "do",
        "times",
        "read",
        "write",
        "access",
        "event",
        "rule",
        "command",
        "start",
        "function",
        "value",
        "mask",
        "nth",
        "after",
        "delay",
        "bar",
        "read-latency",
        "link",
        "presence",
        "presence-lead",
        "presence-lag",
        "stuck-busy",
        "min",
        "max",
        "seed",
        "register",
        "clear",
        "message",
        "wire",
        "error",
        "truncate",
        "read-data",
        "space",
        "give",
        "interrupt",
        "dma",
        "nvme",
        "card-corrupt",
        "what",
        "status",
        "mean",
        "trace-ns",
        "trace-file",
        "other",
        "phase",
        "doorbell",
        "interrupt",
        "dma",
        "space",
        "offset",
        "queue",
        "address",
        "from",
        "to",
        "while",
        "probability",
        "every",
        "until",
        "d3hot",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

fn duration() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0u32..5_000, prop::sample::select(vec!["ns", "us", "µs", "ms"]))
            .prop_map(|(n, unit)| json!(format!("{n}{unit}"))),
        (0u32..10, 0u32..1000).prop_map(|(whole, fraction)| json!(format!("{whole}.{fraction}us"))),
    ]
}

/// Numbers, small ones more often: those are what the steps below have.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => (0u32..4).prop_map(|n| json!(n)),
        1 => any::<u32>().prop_map(|n| json!(n)),
        1 => any::<u32>().prop_map(|n| json!(format!("{n:#x}"))),
    ]
}

/// A table of some of these keys.
fn some_of(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    keys.into_iter()
        .map(|(key, value)| (Just(key), prop::option::of(value)))
        .collect::<Vec<_>>()
        .prop_map(|pairs| {
            pairs
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect::<Map<_, _>>()
                .into()
        })
        .boxed()
}

fn one_of(words: &[&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(words.to_vec()).prop_map(Value::from).boxed()
}

fn merge(a: Value, b: Value) -> Value {
    let (Value::Object(mut a), Value::Object(b)) = (a, b) else { panic!("tables are merged") };
    a.extend(b);
    Value::Object(a)
}

/// Rules whose form is right, by and large.
fn likely_rule(name: impl Strategy<Value = String>) -> impl Strategy<Value = Value> {
    let event = one_of(&["link-down", "link-up", "reset"]);
    let nth = (1u64..5).prop_map(Value::from).boxed();
    let moment = prop_oneof![
        2 => event.clone(),
        1 => "r[0-7]".prop_map(|name| json!({ "rule": name })),
    ]
    .boxed();
    let counted = prop_oneof![
        nth.clone().prop_map(|nth| json!({ "nth": nth })),
        nth.clone().prop_map(|every| json!({ "every": every })),
        (prop::sample::select(vec![0.01, 0.25, 0.5, 1.0]), number())
            .prop_map(|(probability, seed)| json!({ "probability": probability, "seed": seed })),
        Just(json!({})),
    ];
    let conditions = some_of(vec![
        ("phase", one_of(&["reader", "drive"])),
        ("link", one_of(&["up", "down"])),
        ("card", one_of(&["inserted", "ejected"])),
        ("d0", one_of(&["reader"])),
    ]);
    let conditions = conditions.prop_filter("a condition", |table| table != &json!({})).boxed();
    let common = some_of(vec![
        ("after", moment.clone()),
        ("until", moment),
        ("while", conditions),
        ("delay", duration().boxed()),
    ]);
    let common = (common, counted).prop_map(|(common, counted)| merge(common, counted)).boxed();
    let data = some_of(vec![("value", number().boxed())]);
    let on = prop_oneof![
        (one_of(&["read", "write", "access"]), one_of(&REGISTERS), data.clone(), common.clone()).prop_map(
            |(kind, register, data, common)| merge(
                merge(json!({ kind.as_str().unwrap(): register }), data),
                common
            )
        ),
        (event, common.clone()).prop_map(|(event, common)| merge(json!({ "event": event }), common)),
        (one_of(&["CMD0", "CMD8"]), data, common.clone())
            .prop_map(|(name, data, common)| merge(merge(json!({ "command": name }), data), common)),
        (one_of(&["region-read", "device-reset"]), common.clone())
            .prop_map(|(name, common)| merge(json!({ "message": name }), common)),
        ("r[0-7]", common.clone()).prop_map(|(name, common)| merge(json!({ "rule": name }), common)),
        (one_of(&["reader", "drive"]), common.clone())
            .prop_map(|(phase, common)| merge(json!({ "phase": phase }), common)),
        (one_of(&["read", "write", "access"]), 0u64..12, common.clone()).prop_map(
            |(kind, offset, common)| {
                let any =
                    json!({ kind.as_str().unwrap(): "*", "space": "bar", "offset": { "from": offset } });
                merge(any, common)
            }
        ),
        (one_of(&["sq", "cq", "*"]), 0u16..3, common.clone())
            .prop_map(|(kind, queue, common)| merge(json!({ "doorbell": kind, "queue": queue }), common)),
        (0u16..3, common.clone()).prop_map(|(vector, common)| merge(json!({ "interrupt": vector }), common)),
        (one_of(&["read", "write", "*"]), 0u64..4, common.clone())
            .prop_map(|(way, address, common)| merge(json!({ "dma": way, "address": address }), common)),
        duration().prop_map(|delay| json!({ "start": true, "delay": delay })),
    ];
    let action = prop_oneof![
        one_of(&["vanish", "return"]).prop_map(|word| json!({ "bar": word })),
        one_of(&["down", "up"]).prop_map(|word| json!({ "link": word })),
        any::<bool>().prop_map(|present| json!({ "presence": present })),
        (0u32..10_000).prop_map(|time| json!({ "relink": format!("{time}ms") })),
        Just(json!({ "relink": "fail" })),
        duration().prop_map(|time| json!({ "presence-lead": time })),
        duration().prop_map(|time| json!({ "presence-lag": time })),
        one_of(&["eject", "insert", "over-current"]).prop_map(|what| json!({ "card": what })),
        duration().prop_map(|latency| json!({ "read-latency": latency })),
        (duration(), duration(), number())
            .prop_map(|(min, max, seed)| json!({ "read-latency": { "min": min, "max": max, "seed": seed } })),
        one_of(&["drop", "close"]).prop_map(|word| json!({ "wire": word })),
        duration().prop_map(|delay| json!({ "wire": { "delay": delay } })),
        number().prop_map(|errno| json!({ "wire": { "error": errno } })),
        number().prop_map(|bytes| json!({ "wire": { "truncate": bytes } })),
        (one_of(&REGISTERS), number(), any::<bool>())
            .prop_map(|(register, mask, clear)| json!({ "stuck-busy": { "register": register, "mask": mask, "clear": clear } })),
        (duration(), number()).prop_map(|(mean, seed)| json!({ "read-latency": { "mean": mean, "seed": seed } })),
        (one_of(&REGISTERS), prop::sample::select(vec!["give", "and", "or", "xor"]), number())
            .prop_map(|(register, key, value)| json!({ "read-data": { "register": register, (key): value } })),
        (one_of(&["bar", "config", "internal"]), one_of(&["ones", "zeros", "stale"]))
            .prop_map(|(space, give)| json!({ "read-data": { "space": space, "give": give } })),
        (one_of(&["drop", "duplicate"]), number())
            .prop_map(|(what, times)| json!({ "interrupt": { "what": what, "times": times } })),
        (one_of(&["drop", "corrupt", "fail"]), one_of(&["read", "write"]))
            .prop_map(|(what, direction)| json!({ "dma": { "what": what, "direction": direction } })),
        one_of(&["drop-completion", "fatal", "ready-stuck", "normal"]).prop_map(|what| json!({ "nvme": what })),
        (one_of(&["response-crc", "data-timeout"]), number())
            .prop_map(|(what, times)| json!({ "card-corrupt": { "what": what, "times": times } })),
        one_of(&["vanish", "return"]).prop_map(|what| json!({ "config": what })),
        one_of(&["stuck", "normal"]).prop_map(|what| json!({ "power-state": what })),
    ];
    let actions = prop_oneof![action.clone(), prop::collection::vec(action, 1..4).prop_map(Value::Array)];
    (name, on, actions, some_of(vec![("times", nth)]))
        .prop_map(|(name, on, actions, times)| merge(json!({ "name": name, "on": on, "do": actions }), times))
}

#[derive(Debug, Clone)]
enum Step {
    Access(&'static str, Direction, u64, Answer),
    Event(Event),
    Command(&'static str, u32),
    Message(u16),
    Doorbell(Doorbell),
    Interrupt(u16),
    Dma(Direction, u64, u64),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop::sample::select(vec![Answer::Modelled, Answer::Dead, Answer::Absent]);
    let direction = prop::sample::select(vec![Direction::Read, Direction::Write]);
    let kind = prop::sample::select(vec![DoorbellKind::SubmissionTail, DoorbellKind::CompletionHead]);
    prop_oneof![
        (kind, 0u16..3, 0u16..4).prop_map(|(kind, queue, value)| Step::Doorbell(Doorbell {
            kind,
            queue,
            value
        })),
        (0u16..3).prop_map(Step::Interrupt),
        (direction.clone(), any::<u64>().prop_map(|at| at % 8), any::<u64>())
            .prop_map(|(direction, address, length)| Step::Dma(direction, address, length)),
        (prop::sample::select(REGISTERS.to_vec()), direction, 0u64..4, answer)
            .prop_map(|(name, direction, value, answer)| Step::Access(name, direction, value, answer)),
        prop::sample::select(vec![
            Event::LinkDown,
            Event::LinkUp,
            Event::CardInserted,
            Event::D3hotEntered,
            Event::Morph { phase: "drive" },
        ])
        .prop_map(Step::Event),
        (prop::sample::select(vec!["CMD0", "CMD8", "CMD99"]), 0u32..4)
            .prop_map(|(name, argument)| Step::Command(name, argument)),
        prop::sample::select(vec![9, 13, 14, u16::MAX]).prop_map(Step::Message),
        (0u64..3_000_000_000).prop_map(Step::Time),
    ]
}

proptest! {
    #[test]
    fn any_json_is_a_rule_that_is_written_back_equal_or_an_error(value in any_json()) {
        if let Ok(rule) = serde_json::from_value::<Rule>(value) {
            prop_assert_eq!(Rule::from_json(&rule.to_json()).unwrap(), rule);
        }
    }

    #[test]
    fn likely_rules_are_written_back_equal_or_refused(value in likely_rule("[a-z-]{1,8}")) {
        if let Ok(rule) = Rule::from_json(&value) {
            let text = serde_json::to_string(&rule).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule);
        }
    }

    #[test]
    fn hits_never_exceed_times_and_everything_due_is_fired(
        rules in prop::collection::vec(likely_rule("r[0-7]"), 1..16),
        steps in prop::collection::vec(step(), 0..256),
    ) {
        let mut engine = Engine::new(registry());
        // Names that are not taken, and that chains may have.
        let named = rules.into_iter().enumerate().map(|(index, mut rule)| {
            rule["name"] = json!(format!("r{index}"));
            rule
        });
        let rules: Vec<Rule> = named.filter_map(|rule| Rule::from_json(&rule).ok()).collect();
        // A set with a clash or a dangling chain is refused whole; then each on its own, as far as it goes.
        if engine.load(rules.clone(), Duration::ZERO).is_err() {
            prop_assert!(engine.list().is_empty());
            for rule in rules {
                let before = engine.list();
                if engine.add(rule, Duration::ZERO).is_err() {
                    prop_assert_eq!(engine.list(), before);
                }
            }
        }
        let mut twin = engine.clone();
        let mut now = Duration::ZERO;
        let mut fired = 0;
        for step in steps {
            let mut show = |what: &Happening<'_>| {
                let outcome = engine.observe(now, "reader", what);
                assert_eq!(twin.observe(now, "reader", what), outcome);
                fired += outcome.fired.len() as u64;
            };
            match step {
                Step::Access(name, direction, value, answer) => show(&Happening::Access(Access {
                    space: Space::Bar(0),
                    direction,
                    offset: 4 * REGISTERS.iter().position(|register| *register == name).unwrap() as u64,
                    size: 4,
                    register: Some(name),
                    value,
                    answer,
                })),
                Step::Event(event) => show(&Happening::Event(event)),
                Step::Command(name, argument) => show(&Happening::Command { name, argument, response: None }),
                Step::Doorbell(doorbell) => show(&Happening::Doorbell(doorbell)),
                Step::Interrupt(vector) => {
                    show(&Happening::Interrupt(Message { vector, address: 0, data: vector.into() }));
                }
                Step::Dma(direction, address, length) => {
                    show(&Happening::Dma { direction, address, length, result: Ok(()) });
                }
                Step::Message(number) => {
                    let hits = engine.message(now, number);
                    prop_assert_eq!(&twin.message(now, number), &hits);
                    fired += hits.len() as u64;
                }
                Step::Time(nanoseconds) => {
                    now += Duration::from_nanos(nanoseconds);
                    let due = engine.due(now);
                    prop_assert_eq!(&twin.due(now), &due);
                    fired += due.len() as u64;
                    prop_assert!(engine.next_deadline().is_none_or(|at| at > now));
                }
            }
            prop_assert_eq!(engine.read_latency(), twin.read_latency());
        }
        let list = engine.list();
        for status in &list {
            if let Some(times) = status.rule.times {
                prop_assert!(status.hits + status.pending as u64 <= times.get(), "{:?}", status);
            }
            let on = &status.rule.on;
            if on.nth.is_some() && (on.after.is_none() || on.until.is_none()) {
                prop_assert!(status.hits + status.pending as u64 <= 1, "{:?}", status);
            }
        }
        prop_assert_eq!(list.iter().map(|status| status.hits).sum::<u64>(), fired);
        prop_assert!(list.iter().map(|status| status.pending).sum::<usize>() <= MAX_PENDING);
        // A rule that is not armed is in nobody's way, and goes without a trace; so do all.
        let mut left: Vec<_> = list.iter().map(|status| status.rule.name.to_string()).collect();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|name| engine.remove(name).is_err());
            prop_assert!(left.len() < before, "rules that wait for each other in a circle: {:?}", left);
        }
        prop_assert_eq!(engine.next_deadline(), None);
        prop_assert_eq!(engine.watched_messages(), 0);
    }
}
