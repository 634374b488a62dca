//! `on`: when a rule matches.

use std::time::Duration;

use sdmorph_pci::{Direction, DoorbellKind};
use serde_json::Value;

use super::{
    Parsed, Table, boolean, count, describe, long_time, mask, named, number, rule_name, table, text, word,
};
use crate::rule::{Cause, Chance, Conditions, Moment, Pattern, SpaceKind, Span, Trigger, hexadecimal};
use crate::trigger::{ANY, BAR, CARD, LINK};

/// Every trigger, with the keys that go with it alone; [`COMMON`] go with all but `start`.
const CAUSES: &[(&str, &[&str])] = &[
    ("read", ACCESS),
    ("write", ACCESS),
    ("access", ACCESS),
    ("event", &["function"]),
    ("phase", &[]),
    ("command", &["value", "mask"]),
    ("doorbell", &["queue", "value", "mask"]),
    ("interrupt", &["function", "value", "mask"]),
    ("dma", &["function", "address"]),
    ("message", &[]),
    ("rule", &[]),
    ("start", &[]),
];
const ACCESS: &[&str] = &["function", "space", "offset", "value", "mask"];
const COMMON: &[&str] = &["while", "probability", "seed", "nth", "every", "after", "until", "delay"];
const WHILE_KEYS: &[&str] = &["phase", "link", "presence", "bar", "card", "d0", "d3hot"];
const DOORBELLS: &[(&str, Option<DoorbellKind>)] =
    &[("sq", Some(DoorbellKind::SubmissionTail)), ("cq", Some(DoorbellKind::CompletionHead)), (ANY, None)];
const DMAS: &[(&str, Option<Direction>)] =
    &[("read", Some(Direction::Read)), ("write", Some(Direction::Write)), (ANY, None)];
const SPAN_KEYS: &[&str] = &["from", "to"];

fn cause_names() -> String {
    CAUSES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Every key there is, triggers first.
fn keys() -> Vec<&'static str> {
    let own = CAUSES.iter().flat_map(|(_, keys)| *keys);
    let mut keys: Vec<_> = CAUSES.iter().map(|(name, _)| name).chain(own).chain(COMMON).copied().collect();
    let mut seen = std::collections::HashSet::new();
    keys.retain(|key| seen.insert(*key));
    keys
}

pub(super) fn trigger(value: &Value) -> Parsed<Trigger> {
    let on = table("on", value, &keys())?;
    let mut causes =
        on.iter().filter_map(|(key, value)| Some((CAUSES.iter().find(|(name, _)| name == key)?, value)));
    let ((key, own), target) =
        causes.next().ok_or_else(|| format!("on: one of {} is needed", cause_names()))?;
    if let Some(((other, _), _)) = causes.next() {
        let hint = if matches!((*key, *other), ("read", "write")) {
            "; access is both"
        } else {
            "; make it two rules"
        };
        return Err(format!("on: only one trigger is possible, not {key} and {other}{hint}"));
    }
    let common = if *key == "start" { &["delay"] } else { COMMON };
    let fits = |name: &str| name == *key || own.contains(&name) || common.contains(&name);
    if let Some(name) = on.keys().find(|name| !fits(name)) {
        return Err(format!("on.{name}: does not go with {key}"));
    }
    let cause = cause(key, target, on)?;
    let nth = on.get("nth").map(|value| count("on.nth", value)).transpose()?;
    let every = on.get("every").map(|value| count("on.every", value)).transpose()?;
    if nth.is_some() && every.is_some() {
        return Err("on.every: does not go with nth".into());
    }
    let after = on.get("after").map(|value| moment("on.after", value)).transpose()?;
    let until = on.get("until").map(|value| moment("on.until", value)).transpose()?;
    if after.is_some() && after == until {
        return Err("on.until: it is the same as after, so that nothing could match".into());
    }
    let delay =
        on.get("delay").map_or(Ok(Duration::ZERO), |value| long_time("on.delay", value, "a delay"))?;
    let conditions = on.get("while").map_or(Ok(Conditions::default()), conditions)?;
    Ok(Trigger { cause, conditions, chance: chance(on)?, nth, every, after, until, delay })
}

fn cause(key: &str, target: &Value, on: &Table) -> Parsed<Cause> {
    let place = format!("on.{key}");
    let function = on.get("function").map(|value| text("on.function", value)).transpose()?;
    Ok(match key {
        "event" => Cause::Event { name: text(&place, target)?, function },
        "phase" => Cause::Phase(text(&place, target)?),
        "command" => Cause::Command { name: text(&place, target)?, argument: pattern(on)? },
        "doorbell" => {
            let kind = named(&place, target, DOORBELLS)?;
            let queue = on.get("queue").map(|value| small("on.queue", value)).transpose()?;
            Cause::Doorbell { kind, queue, value: pattern(on)? }
        }
        "interrupt" => {
            let vector = if target == ANY { None } else { Some(small(&place, target)?) };
            Cause::Interrupt { vector, function, data: pattern(on)? }
        }
        "dma" => {
            let direction = named(&place, target, DMAS)?;
            let address = on.get("address").map(|value| span("on.address", value)).transpose()?;
            Cause::Dma { direction, function, address }
        }
        "message" => Cause::Message(text(&place, target)?),
        "rule" => Cause::Rule(rule_name(&place, target)?),
        "start" if *target == Value::Bool(true) => Cause::Start,
        "start" => return Err(format!("on.start: true is needed, not {}", describe(target))),
        _ => {
            let direction = match key {
                "read" => Some(Direction::Read),
                "write" => Some(Direction::Write),
                _ => None,
            };
            let value = pattern(on)?;
            if target == ANY {
                any_access(direction, function, value, on)?
            } else if let Some(name) = ["space", "offset"].iter().find(|name| on.contains_key(**name)) {
                return Err(format!("on.{name}: goes with {key} = \"*\", not with a register's name"));
            } else {
                Cause::Access { direction, register: text(&place, target)?, function, value }
            }
        }
    })
}

fn any_access(
    direction: Option<Direction>,
    function: Option<String>,
    value: Option<Pattern>,
    on: &Table,
) -> Parsed<Cause> {
    let space = on.get("space").map(|value| named("on.space", value, SpaceKind::NAMES)).transpose()?;
    let offset = on.get("offset").map(|value| span("on.offset", value)).transpose()?;
    if offset.is_some() && space.is_none() {
        let names: Vec<&str> = SpaceKind::NAMES.iter().map(|(name, _)| *name).collect();
        return Err(format!("on.space: is needed, since offsets are in one: {}", names.join(", ")));
    }
    Ok(Cause::AnyAccess { direction, function, space, offset, value })
}

fn pattern(on: &Table) -> Parsed<Option<Pattern>> {
    let mask = on.get("mask").map(|value| mask("on.mask", value)).transpose()?;
    let Some(value) = on.get("value") else {
        return match mask {
            Some(_) => Err("on.mask: it says which bits of value count, and there is no value".into()),
            None => Ok(None),
        };
    };
    let value = number("on.value", value)?;
    let outside = value & !mask.unwrap_or(u64::MAX);
    if outside != 0 {
        let outside = hexadecimal(outside);
        return Err(format!("on.value: bits {outside} are outside of mask, so that nothing could match"));
    }
    Ok(Some(Pattern { value, mask }))
}

/// One number, or all from one to another.
fn span(place: &str, value: &Value) -> Parsed<Span> {
    let Value::Object(_) = value else {
        let number = number(place, value)?;
        return Ok(Span { from: number, to: number });
    };
    let ends = table(place, value, SPAN_KEYS)?;
    let end = |key: &str| ends.get(key).map(|value| number(&format!("{place}.{key}"), value)).transpose();
    let from = end("from")?.ok_or_else(|| format!("{place}.from: is needed, such as \"0x10\""))?;
    let to = end("to")?.unwrap_or(u64::MAX);
    if from > to {
        let (from, to) = (hexadecimal(from), hexadecimal(to));
        return Err(format!("{place}: from ({from}) is above to ({to})"));
    }
    Ok(Span { from, to })
}

/// The number of a queue or of a vector.
fn small(place: &str, value: &Value) -> Parsed<u16> {
    let number = number(place, value)?;
    u16::try_from(number).map_err(|_| format!("{place}: {number} is above the highest that there is, 65535"))
}

fn chance(on: &Table) -> Parsed<Option<Chance>> {
    let seed = on.get("seed").map(|value| number("on.seed", value)).transpose()?;
    let Some(value) = on.get("probability") else {
        return match seed {
            Some(_) => Err("on.seed: it goes with probability, and there is none".into()),
            None => Ok(None),
        };
    };
    let probability = value.as_f64().filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| {
        let what = describe(value);
        format!("on.probability: a number above 0 and up to 1 is needed, such as 0.25, not {what}")
    })?;
    let parts = (probability * f64::from(Chance::WHOLE)).round() as u32;
    if parts == 0 {
        return Err(format!("on.probability: {value} is 0 to nine decimals, so that nothing could match"));
    }
    Ok(Some(Chance { parts, seed: seed.unwrap_or(0) }))
}

fn moment(place: &str, value: &Value) -> Parsed<Moment> {
    let Value::Object(_) = value else {
        let name = value.as_str().ok_or_else(|| {
            let what = describe(value);
            format!("{place}: the name of an event or {{ rule = … }} is needed, not {what}")
        })?;
        return Ok(Moment::Event(name.to_owned()));
    };
    let name = table(place, value, &["rule"])?.get("rule");
    let name = name.ok_or_else(|| format!("{place}.rule: is needed"))?;
    Ok(Moment::Rule(rule_name(&format!("{place}.rule"), name)?))
}

fn conditions(value: &Value) -> Parsed<Conditions> {
    let table = table("on.while", value, WHILE_KEYS)?;
    if table.is_empty() {
        return Err(format!("on.while: one of {} is needed", WHILE_KEYS.join(", ")));
    }
    let place = |key: &str| format!("on.while.{key}");
    let either = |key: &str, words: [&str; 2]| {
        let word = table.get(key).map(|value| word(&place(key), value, &words)).transpose()?;
        Parsed::Ok(word.map(|word| words.first() == Some(&word)))
    };
    let name = |key: &str| table.get(key).map(|value| text(&place(key), value)).transpose();
    let phase = match table.get("phase") {
        None => Vec::new(),
        Some(Value::Array(list)) if list.is_empty() => {
            return Err("on.while.phase: the list is empty, so that nothing could match".into());
        }
        Some(Value::Array(list)) => {
            list.iter().map(|value| text("on.while.phase", value)).collect::<Parsed<_>>()?
        }
        Some(value) => vec![text("on.while.phase", value)?],
    };
    Ok(Conditions {
        phase,
        link_up: either("link", LINK)?,
        presence: table.get("presence").map(|value| boolean(&place("presence"), value)).transpose()?,
        bar_answers: either("bar", BAR)?,
        card_in: either("card", CARD)?,
        d0: name("d0")?,
        d3hot: name("d3hot")?,
    })
}
