//! The page on fault rules (`docs/src/rules.md`): its examples are rules of this machine, its messages are ours.

use std::time::Duration;

use sdmorph_machine::faults::Rule;
use sdmorph_machine::{Equipment, Machine, Setup};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::guest::{machine, machine_with};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/rules.md");

#[derive(Deserialize)]
struct Scenario {
    rule: Vec<Rule>,
}

fn page() -> String {
    std::fs::read_to_string(PAGE).unwrap()
}

/// The code blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A value as TOML has it after the `=`.
fn toml_value(text: &str) -> Value {
    let table: Value =
        toml::from_str(&format!("it = {text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    table["it"].clone()
}

/// A machine whose slot has all that an action of the page may need.
fn equipped() -> Machine {
    let equipment = Equipment::from_words(Equipment::WORDS.iter().copied());
    machine_with(Setup::default().with_equipment(equipment)).0
}

/// Adds a rule to a machine that has the rule which the page's chains wait for.
fn accept(on: &Value, action: &Value) {
    let mut machine = equipped();
    for (name, on, action) in
        [("bar-dies", &json!({ "start": true }), &json!({ "bar": "vanish" })), ("example", on, action)]
    {
        let rule = Rule::from_json(&json!({ "name": name, "on": on, "do": action }));
        let rule = rule.unwrap_or_else(|error| panic!("{error}: {on} {action}"));
        machine.rule_add(Duration::ZERO, rule).unwrap_or_else(|error| panic!("{error}: {on} {action}"));
    }
}

fn accept_on(text: &str) {
    accept(&toml_value(text), &json!({ "link": "down" }));
}

fn accept_do(text: &str) {
    accept(&json!({ "message": "region-read" }), &toml_value(text));
}

#[test]
fn whole_rules_of_the_page_are_loaded_one_block_at_a_time() {
    let page = page();
    let whole = blocks(&page, "toml").into_iter().filter(|block| block.contains("[[rule]]"));
    let mut rules: Vec<Vec<Rule>> = whole
        .map(|block| toml::from_str::<Scenario>(block).unwrap_or_else(|error| panic!("{error}")).rule)
        .collect();
    rules.extend(blocks(&page, "json").into_iter().map(|block| vec![serde_json::from_str(block).unwrap()]));
    assert!(rules.len() >= 3, "the page's first rule in both forms, and the faults at the wire");
    for set in rules {
        let loaded = equipped().scenario_load(Duration::ZERO, "page", set, true);
        loaded.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn triggers_and_actions_of_the_page_are_accepted() {
    let page = page();
    let mut seen = 0;
    for line in
        blocks(&page, "toml").into_iter().filter(|block| !block.contains("[[rule]]")).flat_map(str::lines)
    {
        match line.split_once(" = ") {
            Some(("on", on)) => accept_on(on),
            Some(("do", action)) => accept_do(action),
            _ => continue,
        }
        seen += 1;
    }
    // What stands in the cells of tables: `on = …` anywhere, actions in the first cell and where they are undone.
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        for text in line.split('`').skip(1).step_by(2) {
            match text.split_once(" = ") {
                Some(("on", on)) => accept_on(on),
                Some((action, value)) if value != "…" && !action.starts_with('{') => {
                    accept_do(&format!("{{ {action} = {value} }}"))
                }
                _ => continue,
            }
            seen += 1;
        }
    }
    assert!(seen >= 30, "{seen}: the page's form has changed, and this test does not know it");
}

#[test]
fn messages_of_refused_rules_stand_in_the_page_as_they_are() {
    let page = page();
    let message = |name: &str, on: Value, action: Value| {
        let rule = Rule::from_json(&json!({ "name": name, "on": on, "do": action }));
        rule.and_then(|rule| machine().0.rule_add(Duration::ZERO, rule)).unwrap_err().to_string()
    };
    let read = || json!({ "read": "HAIMR" });
    let vanish = || json!({ "bar": "vanish" });
    let messages = [
        message("bar-dies", json!({ "write": "L1SUB_CONFIG4" }), vanish()),
        message("bar-dies", json!({ "wrte": "HAIMR" }), vanish()),
        message("slow", read(), json!({ "read-latency": "5s" })),
        message("slow", read(), json!({ "read-latency": "-1ms" })),
        message("gone", read(), json!({ "interrupt": { "what": "drop", "tims": 3 } })),
        message("fails", read(), json!({ "nvme": { "what": "fail", "status": "Internal Eror" } })),
        message("lost", json!({ "message": "region-raed" }), json!({ "wire": "drop" })),
        message("lost", read(), json!({ "wire": "drop" })),
        message(
            "reset-fails",
            json!({ "message": "device-reset" }),
            json!({ "wire": { "error": "ETIMEOUT" } }),
        ),
        message("master-on", json!({ "write": "COMMAND" }), vanish()),
        message("pressed", read(), json!({ "attention-button": "press" })),
        message("error", read(), json!({ "aer": "UNSUPP" })),
    ];
    let refused: Vec<&str> = blocks(&page, "text")
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.starts_with("rule "))
        .collect();
    assert_eq!(refused, messages);
}
