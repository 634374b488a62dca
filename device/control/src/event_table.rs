//! The events, described for people and programs.

use std::fmt::Write as _;

use crate::table::{ArgumentSpec, ArgumentType};

/// One event, or what it has in common with others of its kind.
#[derive(Clone, Copy, Debug)]
pub struct EventSpec {
    /// The name, in capitals.
    pub name: &'static str,
    /// When it is sent.
    pub summary: &'static str,
    /// Its data, beside [`COMMON_DATA`].
    pub data: &'static [ArgumentSpec],
}

const fn member(name: &'static str, kind: ArgumentType, summary: &'static str) -> ArgumentSpec {
    ArgumentSpec { name, kind, optional: false, summary }
}

const fn event(name: &'static str, summary: &'static str, data: &'static [ArgumentSpec]) -> EventSpec {
    EventSpec { name, summary, data }
}

/// What the data of every event begins with.
pub const COMMON_DATA: &[ArgumentSpec] = &[
    member("seq", ArgumentType::Integer, "the number of its entry in the flight record"),
    member("t_ns", ArgumentType::Integer, "nanoseconds since the device started"),
    ArgumentSpec {
        name: "fn",
        kind: ArgumentType::String,
        optional: true,
        summary: "the function that reported it: `vmd`, `port`, `reader` or `nvme`; not of a rule's hit",
    },
];

/// Every event there is.
pub const EVENTS: &[EventSpec] = &[
    event("CARD_INSERTED", "The card detect switch has closed", &[]),
    event("CARD_EJECTED", "The card detect switch has opened", &[]),
    event("OVER_CURRENT", "The card has drawn too much current, and the reader has noticed", &[]),
    event(
        "DRIVER_BOUND",
        "Since the reset a driver has enabled the reader's first interrupt source, or the drive has become ready",
        &[],
    ),
    event(
        "EXPRESS_SWITCH_REQUESTED",
        "The driver asks the reader's firmware to hand the slot to the card",
        &[member("relink_time", ArgumentType::Integer, "as the driver programmed it, in units of 10 us")],
    ),
    event("BAR_VANISHED", "The BAR of the function in the slot stops answering", &[]),
    event("BAR_RETURNED", "It answers again", &[]),
    event("LINK_DOWN", "The slot's data link goes down", &[]),
    event("LINK_UP", "The slot's data link comes up", &[]),
    event(
        "PRESENCE_CHANGED",
        "The slot's presence detect state changes",
        &[member("present", ArgumentType::Boolean, "the new state")],
    ),
    event("ATTENTION_BUTTON_PRESSED", "The slot's attention button is pressed", &[]),
    event(
        "MRL_SENSOR_CHANGED",
        "The slot's manually operated retention latch is opened or closed",
        &[member("open", ArgumentType::Boolean, "whether it is open now")],
    ),
    event(
        "POWER_FAULT",
        "The slot's power controller has detected a fault, and taken the main power away",
        &[],
    ),
    event(
        "SLOT_POWER",
        "The slot gets main power, or loses it",
        &[member("on", ArgumentType::Boolean, "whether it has power now")],
    ),
    event("COMMAND_COMPLETED", "A hot-plug command has completed", &[]),
    event(
        "ERROR_DETECTED",
        "A function has detected an error, and has AER to tell of it",
        &[
            member("error", ArgumentType::String, "its name, as in [rules](rules.md#errors)"),
            member(
                "message",
                ArgumentType::OneOf(&["correctable", "non-fatal", "fatal"]),
                "what went up for it; null if nothing did",
            ),
        ],
    ),
    event(
        "CONTAINED",
        "The port has contained an error: it holds the link down until the guest lets it go",
        &[],
    ),
    event(
        "MORPH",
        "The slot enters another phase of [the switch](morph.md)",
        &[member("phase", ArgumentType::String, "the phase that it enters")],
    ),
    event(
        "PME_RECEIVED",
        "The root port receives a PM_PME message",
        &[member("requester", ArgumentType::Integer, "bus in bits 15:8, device and function below")],
    ),
    event(
        "RESET",
        "A function is reset",
        &[member("reset", ArgumentType::OneOf(&["cold", "hot", "function"]), "how")],
    ),
    event(
        "RULE_HIT",
        "A rule hits, or actions are injected",
        &[
            member("name", ArgumentType::String, "the rule's name, or that of the injection"),
            member("hit", ArgumentType::Integer, "which hit of the rule it is, from 1"),
            member(
                "actions",
                ArgumentType::Objects,
                "what it does, as in a rule's `do`; of a trace of latencies, how many it has",
            ),
        ],
    ),
];

/// The reference of the events, in Markdown: a section for each.
pub fn events_markdown() -> String {
    let mut text = String::new();
    let mut table = |heading: String, rows: &[ArgumentSpec]| {
        text.push_str(&heading);
        if rows.is_empty() {
            return;
        }
        text.push_str("| member | type | meaning |\n| --- | --- | --- |\n");
        for row in rows {
            let kind = row.kind.describe().replace('|', "\\|");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| `{}` | {kind} | {} |", row.name, row.summary);
        }
        text.push('\n');
    };
    table("## What all have\n\n".to_owned(), COMMON_DATA);
    for spec in EVENTS {
        table(format!("## `{}`\n\n{}.\n\n", spec.name, spec.summary), spec.data);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_has_a_section_for_every_event_and_a_row_for_every_member() {
        let text = events_markdown();
        for spec in EVENTS {
            assert!(text.contains(&format!("## `{}`\n", spec.name)));
            for member in spec.data {
                assert!(text.contains(&format!("| `{}` |", member.name)), "{}", member.name);
            }
        }
        assert!(text.contains("\"cold\" \\| \"hot\""), "{text}");
    }
}
