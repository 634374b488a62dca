//! Adding, listing and removing rules, and what is refused.

use sdmorph_faults::{MAX_LATENCIES, MAX_RULES, Rule, RuleError};
use sdmorph_pci::Event;
use serde_json::{Value, json};

use crate::bench::{Bench, ms, names_of, refusal, rule, vanish};

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
fn latencies_of_all_traces_together_are_bounded() {
    let latency = json!({ "read-latency": { "trace-ns": vec![850; 4096] } });
    let slow = |name: &str, actions: usize| {
        rule(name, json!({ "start": true }), Value::Array(vec![latency.clone(); actions]))
    };
    let rules: Vec<_> = (0..MAX_LATENCIES / 4096 / 16).map(|index| slow(&format!("r{index}"), 16)).collect();
    let mut bench = Bench::new(rules);
    let too_many = Err(RuleError::TooManyLatencies { limit: MAX_LATENCIES });
    assert_eq!(bench.engine.add(slow("one-more", 1), ms(0)), too_many);
    bench.engine.add(rule("short", json!({ "start": true }), vanish()), ms(0)).unwrap();
    bench.engine.remove("r0").unwrap();
    bench.engine.add(slow("one-more", 16), ms(0)).unwrap();
}

#[test]
fn names_and_numbers_that_do_not_fit_are_refused_with_the_remedy() {
    let does = |action: Value| rule("r", json!({ "start": true }), action);
    let stuck = |stuck: Value| does(json!({ "stuck-busy": stuck }));
    let on = |on: Value| rule("r", on, vanish());
    let cases = [
        (
            rule("bar-dies", json!({ "write": "L1SUB_CONFIG4" }), vanish()),
            "rule \"bar-dies\": on.write: no register \"L1SUB_CONFIG4\"; did you mean L1SUB_CONFIG1, L1SUB_CONFIG2, L1SUB_CONFIG3?",
        ),
        (on(json!({ "read": "haimr" })), "on.read: no register \"haimr\"; did you mean HAIMR?"),
        (on(json!({ "read": "LED" })), "no register \"LED\"; did you mean OLT_LED_CTL?"),
        (on(json!({ "read": "QQQ" })), "no register \"QQQ\"; the nearest are "),
        (on(json!({ "event": "link-dwon" })), "on.event: no event \"link-dwon\"; did you mean link-down?"),
        (
            on(json!({ "read": "HAIMR", "after": "conquest" })),
            "on.after: no event \"conquest\"; the nearest are ",
        ),
        (on(json!({ "command": "CMD88" })), "on.command: no command \"CMD88\"; did you mean CMD8?"),
        (on(json!({ "rule": "bar-dies" })), "on.rule: no rule \"bar-dies\"; none is known"),
        (
            on(json!({ "read": "HAIMR", "function": "raeder" })),
            "on.function: no function \"raeder\"; did you mean reader?",
        ),
        (
            on(json!({ "event": "reset", "function": "prot" })),
            "on.function: no function \"prot\"; did you mean port?",
        ),
        (
            on(json!({ "read": "HAIMR", "function": "port" })),
            "on.read: function \"port\" has no register \"HAIMR\", but \"reader\" has",
        ),
        (
            on(json!({ "write": "PCI_COMMAND" })),
            "on.write: register \"PCI_COMMAND\" is in more than one function; add function = \"reader\" or \"port\"",
        ),
        (
            on(json!({ "write": "L1SUB_CONFIG3", "value": "0x100" })),
            "on.value: value 0x100 does not fit L1SUB_CONFIG3, which is 1 byte wide",
        ),
        (
            on(json!({ "write": "HAIMR", "value": 0, "mask": "0x100000000" })),
            "on.mask: mask 0x100000000 does not fit HAIMR, which is 4 bytes wide",
        ),
        (
            on(json!({ "command": "CMD8", "value": "0x100000000" })),
            "on.value: value 0x100000000 does not fit a command's argument, which is 4 bytes wide",
        ),
        (on(json!({ "phase": "drvie" })), "on.phase: no phase \"drvie\"; did you mean drive?"),
        (
            on(json!({ "read": "HAIMR", "while": { "phase": ["drive", "awy"] } })),
            "on.while.phase: no phase \"awy\"; did you mean away?",
        ),
        (
            on(json!({ "read": "HAIMR", "while": { "d3hot": "raeder" } })),
            "on.while.d3hot: no function \"raeder\"; did you mean reader?",
        ),
        (
            on(json!({ "read": "HAIMR", "until": { "rule": "other" } })),
            "on.until: no rule \"other\"; none is known",
        ),
        (on(json!({ "dma": "*", "function": "nmve" })), "on.function: no function \"nmve\""),
        (on(json!({ "read": "*", "function": "raeder" })), "on.function: no function \"raeder\""),
        (
            on(json!({ "doorbell": "sq", "value": "0x10000" })),
            "on.value: value 0x10000 does not fit a doorbell's value, which is 2 bytes wide",
        ),
        (
            on(json!({ "interrupt": "*", "value": 1, "mask": "0x100000001" })),
            "on.mask: mask 0x100000001 does not fit a message's data, which is 4 bytes wide",
        ),
        (
            rule("r", json!({ "start": true }), json!([{ "link": "up" }, { "stuck-busy": "BIPR" }])),
            "do[1].stuck-busy: register \"BIPR\" has no known busy bit",
        ),
        (
            stuck(json!("BIPR")),
            "do.stuck-busy: register \"BIPR\" has no known busy bit; say which bits: stuck-busy = { register = \"BIPR\", mask = 0x… }",
        ),
        (stuck(json!("HAIMRR")), "do.stuck-busy: no register \"HAIMRR\"; did you mean HAIMR?"),
        (
            stuck(json!({ "register": "L1SUB_CONFIG3", "mask": "0x1ff" })),
            "do.stuck-busy: mask 0x1ff does not fit L1SUB_CONFIG3, which is 1 byte wide",
        ),
        (
            does(json!({ "read-data": { "register": "HAIMRR", "give": "ones" } })),
            "no register \"HAIMRR\"; did you mean HAIMR?",
        ),
        (
            does(json!({ "read-data": { "register": "L1SUB_CONFIG3", "give": "0x1ff" } })),
            "value 0x1ff does not fit L1SUB_CONFIG3, which is 1 byte wide",
        ),
        (
            does(json!({ "read-data": { "space": "bar", "give": "0x100000000" } })),
            "value 0x100000000 does not fit a dword of a space, which is 4 bytes wide",
        ),
        (
            does(json!({ "read-data": { "space": "bar", "function": "prot", "give": "ones" } })),
            "no function \"prot\"; did you mean port?",
        ),
        (
            does(json!({ "interrupt": { "what": "drop", "function": "raeder" } })),
            "no function \"raeder\"; did you mean reader?",
        ),
        (
            does(json!({ "nvme": { "what": "drop-completion", "command": "Wriet" } })),
            "no command \"Wriet\"; did you mean Write?",
        ),
        (
            does(json!({ "nvme": { "what": "fail", "status": "Internal Eror" } })),
            "no status \"Internal Eror\"; did you mean Internal Error?",
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
fn rules_that_arm_each_other_are_refused_and_one_that_ends_itself_is_not() {
    let armed = |name: &str, other: &str| {
        rule(name, json!({ "read": "HAIMR", "after": { "rule": other } }), vanish())
    };
    let waits = "wait for each other and can never hit";
    assert!(refusal(vec![armed("a", "b"), armed("b", "a")]).contains(waits));
    assert!(refusal(vec![armed("a", "a")]).contains(waits));
    let chained = rule("b", json!({ "rule": "a" }), vanish());
    assert!(refusal(vec![armed("a", "b"), chained]).contains(waits));
    let mut bench = Bench::with(json!({ "read": "HAIMR", "until": { "rule": "r" } }));
    let hits: Vec<usize> = (0..3).map(|_| bench.read("HAIMR", 0).fired.len()).collect();
    assert_eq!(hits, [1, 0, 0]);
    bench.engine.remove("r").unwrap();
}

#[test]
fn rule_that_arms_another_cannot_be_removed_before_it_and_one_that_ends_it_can() {
    let set = |key: &str| {
        Bench::new(vec![
            rule("head", json!({ "write": "HAIMR" }), vanish()),
            rule("tail", json!({ "read": "HAIMR", key: { "rule": "head" } }), vanish()),
        ])
    };
    let mut bench = set("after");
    assert!(matches!(bench.engine.remove("head"), Err(RuleError::InUse { .. })));
    bench.engine.remove("tail").unwrap();
    bench.engine.remove("head").unwrap();
    let mut bench = set("until");
    bench.engine.remove("head").unwrap();
    bench.engine.add(rule("head", json!({ "write": "HAIMR" }), vanish()), ms(0)).unwrap();
    bench.write("HAIMR", 0);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["tail"], "the one that would have ended it is gone");
}

#[test]
fn of_rules_that_end_each_other_the_first_to_hit_is_the_only_one() {
    let mut bench = Bench::new(vec![
        rule("reads", json!({ "read": "HAIMR", "until": { "rule": "writes" } }), vanish()),
        rule("writes", json!({ "write": "HAIMR", "until": { "rule": "reads" } }), vanish()),
    ]);
    bench.write("HAIMR", 0);
    bench.read("HAIMR", 0);
    bench.write("HAIMR", 0);
    assert_eq!((bench.hits("reads"), bench.hits("writes")), (0, 2));
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
fn spurious_interrupt_that_its_own_rule_waits_for_is_refused() {
    let more = |on: Value, spurious: Value| rule("more", on, json!({ "interrupt": spurious }));
    let all = || json!({ "interrupt": "*" });
    assert_eq!(
        refusal(vec![more(all(), json!("spurious"))]),
        "rules \"more\" -> \"more\" could set each other off without end; give one of them a delay, times or nth"
    );
    let of =
        |function: &str, vector: u16| json!({ "what": "spurious", "function": function, "vector": vector });
    let vector = |vector: u16| json!({ "what": "spurious", "vector": vector });
    let from = |function: &str, vector: Value| json!({ "interrupt": vector, "function": function });
    for (on, spurious) in [
        (all(), of("port", 0)),
        (json!({ "interrupt": 3 }), vector(3)),
        // A function that has two messages sends its message 1.
        (json!({ "interrupt": 1 }), vector(3)),
        (from("nvme", json!("*")), json!("spurious")),
        (from("nvme", json!(3)), of("nvme", 3)),
        (from("port", json!("*")), of("port", 0)),
    ] {
        let refused = Bench::new(vec![]).engine.add(more(on.clone(), spurious.clone()), ms(0));
        assert!(matches!(refused, Err(RuleError::Endless { .. })), "{on} {spurious}");
    }
    for (on, spurious) in [
        (json!({ "interrupt": 2 }), vector(3)),
        (json!({ "interrupt": 3 }), vector(1)),
        (from("port", json!("*")), json!("spurious")),
        (from("port", json!("*")), of("nvme", 0)),
        (from("nvme", json!("*")), of("reader", 0)),
        (all(), json!("drop")),
        (json!({ "interrupt": "*", "nth": 1 }), json!("spurious")),
        (json!({ "interrupt": "*", "delay": "1ms" }), json!("spurious")),
    ] {
        Bench::new(vec![more(on, spurious)]);
    }
    // Through a chain, and through another function's.
    let chained =
        [more(json!({ "rule": "seen" }), json!("spurious")), rule("seen", all(), json!({ "link": "up" }))];
    assert!(
        refusal(chained.to_vec())
            .starts_with("rules \"more\" -> \"seen\" -> \"more\" could set each other off")
    );
    let back = rule("back", from("nvme", json!("*")), json!({ "interrupt": of("port", 0) }));
    let forth = rule("forth", from("port", json!("*")), json!({ "interrupt": of("nvme", 0) }));
    assert!(refusal(vec![back, forth]).starts_with("rules \"back\" -> \"forth\" -> \"back\" could"));
}
