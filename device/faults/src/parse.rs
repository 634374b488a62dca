//! From a tree of JSON values to a rule, with messages that say where and why.
//!
//! Messages begin with the place, such as `on.delay` or `do[1].link`; [`rule`] puts the rule's name in front.

mod function;
mod latency;
mod slot;
mod trigger;

use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::duration::{self, MAX_DELAY};
use crate::error::RuleError;
use crate::nearest::{Nearest, quoted};
use crate::rule::{Action, BarAction, CardAction, Cause, Rule, RuleName, StuckBusy, Trigger};
use crate::slot::SlotAction;
use crate::wire::{Errno, WireAction};

pub use function::disturbance;
pub use latency::trace_from_text;

type Table = Map<String, Value>;
type Parsed<T> = Result<T, String>;

const RULE_KEYS: &[&str] = &["name", "on", "do", "times"];
const ACTIONS: &[&str] = &[
    "bar",
    "read-latency",
    "link",
    "presence",
    "presence-lead",
    "presence-lag",
    "absence-lead",
    "absence-lag",
    "attention-button",
    "mrl-sensor",
    "power-fault",
    "command-completed",
    "aer",
    "dpc",
    "relink",
    "card",
    "stuck-busy",
    "read-data",
    "interrupt",
    "dma",
    "nvme",
    "card-corrupt",
    "config",
    "power-state",
    "wire",
];
const BAR_WORDS: &[(&str, BarAction)] = &[("vanish", BarAction::Vanish), ("return", BarAction::Return)];
const CARD_WORDS: &[(&str, CardAction)] = &[
    ("eject", CardAction::Eject),
    ("insert", CardAction::Insert),
    ("over-current", CardAction::OverCurrent),
];
const STUCK_KEYS: &[&str] = &["register", "function", "mask", "clear"];
const WIRE_KINDS: &[&str] = &["delay", "drop", "error", "close", "truncate"];

/// Most actions of one rule. More would be several rules.
pub const MAX_ACTIONS: usize = 16;

/// Reads a rule.
pub(crate) fn rule(value: &Value) -> Result<Rule, RuleError> {
    // The name first: every other message begins with it.
    let name = value.get("name").and_then(Value::as_str).and_then(|name| RuleName::new(name).ok());
    let result = rule_parts(value);
    result
        .map_err(|message| RuleError::Malformed { rule: name.map(|name| name.as_str().to_owned()), message })
}

fn rule_parts(value: &Value) -> Parsed<Rule> {
    let table = table("a rule", value, RULE_KEYS)?;
    let name = match table.get("name") {
        None => return Err("name: a rule needs a name, such as \"bar-dies\"".into()),
        Some(name) => rule_name("name", name)?,
    };
    let on = trigger::trigger(table.get("on").unwrap_or(&Value::Object(Table::new())))?;
    let actions = table.get("do").map_or(Ok(Vec::new()), action_list)?;
    wire_fits(&on, &actions)?;
    let times = table.get("times").map(|value| count("times", value)).transpose()?;
    let once = on.nth.is_some() && !on.comes_again() || on.cause == Cause::Start;
    if once && times.is_some_and(|times| times.get() > 1) {
        return Err("times: a rule with start, or with nth that is armed only once, hits once at most".into());
    }
    Ok(Rule { name, on, actions, times })
}

fn action_list(value: &Value) -> Parsed<Vec<Action>> {
    let Value::Array(list) = value else { return Ok(vec![action("do", value)?]) };
    if list.is_empty() {
        return Err("do: the list is empty; a rule that only counts has no do".into());
    }
    if list.len() > MAX_ACTIONS {
        return Err(format!("do: {} actions are above the limit of {MAX_ACTIONS} a rule", list.len()));
    }
    list.iter().enumerate().map(|(index, value)| action(&format!("do[{index}]"), value)).collect()
}

/// Reads an action.
pub(crate) fn action(place: &str, value: &Value) -> Parsed<Action> {
    let table = table(place, value, ACTIONS)?;
    let mut entries = table.iter();
    let (key, value) =
        entries.next().ok_or_else(|| format!("{place}: one of {} is needed", ACTIONS.join(", ")))?;
    if let Some((other, _)) = entries.next() {
        return Err(format!(
            "{place}: {key} and {other} are two actions; write a list, in the order they are to happen: do = [{{ {key} = … }}, {{ {other} = … }}]"
        ));
    }
    let place = format!("{place}.{key}");
    Ok(match key.as_str() {
        "bar" => Action::Bar(named(&place, value, BAR_WORDS)?),
        "link" => Action::Link(slot::link(&place, value)?),
        "presence" => slot::presence(&place, value)?,
        "presence-lead" => Action::PresenceLead(long_time(&place, value, "a lead")?),
        "presence-lag" => Action::PresenceLag(long_time(&place, value, "a lag")?),
        "absence-lead" => Action::Slot(SlotAction::AbsenceLead(long_time(&place, value, "a lead")?)),
        "absence-lag" => Action::Slot(SlotAction::AbsenceLag(long_time(&place, value, "a lag")?)),
        "attention-button" => {
            word(&place, value, &["press"])?;
            Action::Slot(SlotAction::AttentionButton)
        }
        "mrl-sensor" => {
            let open = word(&place, value, &["open", "closed"])? == "open";
            Action::Slot(SlotAction::MrlSensor { open })
        }
        "power-fault" => Action::Slot(SlotAction::PowerFault(boolean(&place, value)?)),
        "command-completed" => {
            Action::Slot(SlotAction::CommandCompleted(slot::command_completed(&place, value)?))
        }
        "aer" => Action::Slot(SlotAction::Aer(slot::aer(&place, value)?)),
        "dpc" => {
            word(&place, value, &["trigger"])?;
            Action::Slot(SlotAction::Dpc)
        }
        "relink" if value == "fail" => Action::RelinkFails,
        "relink" => Action::Relink(long_time(&place, value, "a relink time")?),
        "card" => Action::Card(named(&place, value, CARD_WORDS)?),
        "read-latency" => Action::ReadLatency(latency::read_latency(&place, value)?),
        "stuck-busy" => Action::StuckBusy(stuck_busy(&place, value)?),
        "read-data" => Action::ReadData(function::read_data(&place, value)?),
        "interrupt" => Action::Interrupt(function::interrupt(&place, value)?),
        "dma" => Action::Dma(function::dma(&place, value)?),
        "nvme" => Action::Nvme(function::nvme(&place, value)?),
        "card-corrupt" => Action::CardCorrupt(function::card_corrupt(&place, value)?),
        "config" => Action::Config(named(&place, value, BAR_WORDS)?),
        "power-state" => Action::PowerState { stuck: word(&place, value, &["stuck", "normal"])? == "stuck" },
        _ => Action::Wire(wire(&place, value)?),
    })
}

fn stuck_busy(place: &str, value: &Value) -> Parsed<StuckBusy> {
    if let Value::String(_) = value {
        return Ok(StuckBusy { register: text(place, value)?, function: None, mask: None, clear: false });
    }
    let table = table(place, value, STUCK_KEYS)?;
    let inner = |key: &str| (format!("{place}.{key}"), table.get(key));
    let register = match inner("register") {
        (place, None) => return Err(format!("{place}: is needed, such as \"HAIMR\"")),
        (place, Some(value)) => text(&place, value)?,
    };
    let (function_place, function) = inner("function");
    let (mask_place, mask_value) = inner("mask");
    let (clear_place, clear) = inner("clear");
    Ok(StuckBusy {
        register,
        function: function.map(|value| text(&function_place, value)).transpose()?,
        mask: mask_value.map(|value| mask(&mask_place, value)).transpose()?,
        clear: clear.map_or(Ok(false), |value| boolean(&clear_place, value))?,
    })
}

fn wire(place: &str, value: &Value) -> Parsed<WireAction> {
    if let Value::String(kind) = value {
        return match word(place, value, WIRE_KINDS)? {
            "drop" => Ok(WireAction::Drop),
            "close" => Ok(WireAction::Close),
            _ => Err(format!("{place}: {kind} needs a value: wire = {{ {kind} = … }}")),
        };
    }
    let table = table(place, value, WIRE_KINDS)?;
    let mut entries = table.iter();
    let (kind, value) =
        entries.next().ok_or_else(|| format!("{place}: one of {} is needed", WIRE_KINDS.join(", ")))?;
    if let Some((other, _)) = entries.next() {
        return Err(format!("{place}: a message has one fault, not {kind} and {other}"));
    }
    let inner = format!("{place}.{kind}");
    match kind.as_str() {
        "delay" => Ok(WireAction::Delay(latency::latency(&inner, value, "a delay")?)),
        "error" => Ok(WireAction::Error(errno(&inner, value)?)),
        "truncate" => {
            let bytes = number(&inner, value)?;
            let fits = u32::try_from(bytes).map(WireAction::Truncate);
            fits.map_err(|_| format!("{inner}: no answer has {bytes} bytes"))
        }
        _ => Err(format!("{place}: {kind} has no value: wire = \"{kind}\"")),
    }
}

/// An error by its name or its number.
fn errno(place: &str, value: &Value) -> Parsed<Errno> {
    let known: Vec<&str> = Errno::NAMES.iter().map(|(_, name)| *name).collect();
    if let Value::String(name) = value {
        return Errno::from_name(name).ok_or_else(|| {
            let suggestion = suggestion(name, &known);
            format!("{place}: unknown error {}{suggestion}; a number will do, too", quoted(name))
        });
    }
    value.as_u64().and_then(Errno::from_number).ok_or_else(|| {
        let (most, what) = (Errno::MAX, describe(value));
        format!("{place}: a name such as \"EIO\" or a number from 1 to {most} is needed, not {what}")
    })
}

/// A fault at the wire needs a message that it happens to, and a message has only one.
fn wire_fits(on: &Trigger, actions: &[Action]) -> Parsed<()> {
    let faults = actions.iter().filter(|action| matches!(action, Action::Wire(_))).count();
    match (faults, &on.cause) {
        (0, _) => Ok(()),
        (1, Cause::Message(_)) if on.delay.is_zero() => Ok(()),
        (1, Cause::Message(_)) => Err(concat!(
            "on.delay: does not go with wire, which happens to the message at hand; to have it answered later, write ",
            "do = { wire = { delay = … } }"
        )
        .into()),
        (_, Cause::Message(_)) => Err(format!("do: a message has one fault, not {faults}; make it {faults} rules")),
        _ => Err("do.wire: happens to a message of the client: on = { message = … } is needed".into()),
    }
}

/// A table that has no other keys than these.
fn table<'a>(place: &str, value: &'a Value, known: &[&str]) -> Parsed<&'a Table> {
    let Value::Object(table) = value else {
        return Err(format!("{place}: a table is needed, not {}", describe(value)));
    };
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(table),
        Some(key) => Err(format!("{place}: unknown key {}{}", quoted(key), suggestion(key, known))),
    }
}

/// One of a few words.
fn word<'a>(place: &str, value: &Value, known: &[&'a str]) -> Parsed<&'a str> {
    let Value::String(text) = value else {
        return Err(format!("{place}: one of {} is needed, not {}", known.join(", "), describe(value)));
    };
    let found = known.iter().find(|word| **word == text);
    found.copied().ok_or_else(|| format!("{place}: unknown word {}{}", quoted(text), suggestion(text, known)))
}

/// One of a few words, each of which stands for something.
fn named<T: Copy>(place: &str, value: &Value, names: &[(&'static str, T)]) -> Parsed<T> {
    let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let word = word(place, value, &words)?;
    let found = names.iter().find(|(name, _)| *name == word).map(|(_, named)| *named);
    found.ok_or_else(|| format!("{place}: one of {} is needed", words.join(", ")))
}

/// The end of a message about a word that is none of a few: what was meant, or if that is not clear, all of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    let nearest = Nearest::new(word, known.iter().copied());
    match nearest.names().first() {
        Some(name) if nearest.is_likely() => format!("; did you mean \"{name}\"?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}

fn rule_name(place: &str, value: &Value) -> Parsed<RuleName> {
    let name = text(place, value)?;
    RuleName::new(&name).map_err(|error| format!("{place}: {error}"))
}

fn text(place: &str, value: &Value) -> Parsed<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("{place}: a name is needed, not {}", describe(value))),
    }
}

fn boolean(place: &str, value: &Value) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| format!("{place}: true or false is needed, not {}", describe(value)))
}

/// A count from 1.
fn count(place: &str, value: &Value) -> Parsed<NonZeroU64> {
    value
        .as_u64()
        .and_then(NonZeroU64::new)
        .ok_or_else(|| format!("{place}: a whole number from 1 is needed, not {}", describe(value)))
}

/// A mask of one bit or more.
fn mask(place: &str, value: &Value) -> Parsed<u64> {
    match number(place, value)? {
        0 => Err(format!("{place}: no bit is set in it")),
        mask => Ok(mask),
    }
}

/// A number of up to 64 bits: an integer, or hexadecimal digits in a text.
fn number(place: &str, value: &Value) -> Parsed<u64> {
    let wrong = || {
        let what = describe(value);
        format!("{place}: a whole number from 0 or a text such as \"0x80\" is needed, not {what}")
    };
    if let Value::String(text) = value {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or_else(wrong)?;
        // Underscores group digits, as in TOML's own integers.
        let digits: String = digits.chars().filter(|c| *c != '_').collect();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        return u64::from_str_radix(&digits, 16)
            .map_err(|_| format!("{place}: {} has more than 64 bits", quoted(text)));
    }
    value.as_u64().ok_or_else(wrong)
}

/// A duration of at most `limit`, which messages call `limit_text`.
fn time(place: &str, value: &Value, what: &str, limit: Duration, limit_text: &str) -> Parsed<Duration> {
    let duration = match value {
        Value::String(text) => duration::parse(text, what),
        Value::Number(number) if number.as_f64().is_some_and(|number| number < 0.0) => {
            Err(format!("{what} cannot be negative"))
        }
        Value::Number(number) => {
            Err(format!("{number} has no unit; write a text with ns, us, ms or s, such as \"{number}ms\""))
        }
        _ => Err(format!("a duration such as \"500us\" is needed, not {}", describe(value))),
    };
    let duration = duration.map_err(|message| format!("{place}: {message}"))?;
    if duration > limit {
        return Err(format!("{place}: {} is above the limit of {limit_text}", spaced(duration)));
    }
    Ok(duration)
}

/// A delay, or how long a card or the slot takes for something.
fn long_time(place: &str, value: &Value, what: &str) -> Parsed<Duration> {
    time(place, value, what, MAX_DELAY, "24 h")
}

/// A duration as prose has it, with a space before the unit.
fn spaced(duration: Duration) -> String {
    let text = duration::text(duration);
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    format!("{number} {unit}")
}

/// What a value is, for messages.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a table".into(),
    }
}
