//! Actions on the slot and its port.

use std::num::NonZeroU64;

use sdmorph_pci::capability::AerError;
use sdmorph_pci::port::CommandCompletion;
use serde_json::Value;

use super::{Parsed, boolean, count, long_time, named, spaced, suggestion, table, text};
use crate::nearest::quoted;
use crate::rule::{Action, LinkAction};
use crate::slot::{Aer, Bounce, SlotAction};

const LINK_WORDS: &[(&str, LinkAction)] =
    &[("down", LinkAction::Down), ("up", LinkAction::Up), ("train-fail", LinkAction::TrainFails)];
const FLAP_KEYS: &[&str] = &["flap"];
const BOUNCE_KEYS: &[&str] = &["bounce", "every"];
const AER_KEYS: &[&str] = &["error", "function"];

pub(super) fn link(place: &str, value: &Value) -> Parsed<LinkAction> {
    if let Value::Object(_) = value {
        let time = table(place, value, FLAP_KEYS)?.get("flap");
        let place = format!("{place}.flap");
        let time = time.ok_or_else(|| format!("{place}: is needed, such as \"20ms\""))?;
        return long_time(&place, time, "a flap").map(LinkAction::Flap);
    }
    named(place, value, LINK_WORDS)
}

pub(super) fn presence(place: &str, value: &Value) -> Parsed<Action> {
    let Value::Object(_) = value else { return boolean(place, value).map(Action::Presence) };
    let table = table(place, value, BOUNCE_KEYS)?;
    let inner = |key: &str, example: &str| {
        let place = format!("{place}.{key}");
        let value = table.get(key).ok_or_else(|| format!("{place}: is needed, such as {example}"))?;
        Ok::<_, String>((place, value))
    };
    let (changes_place, changes) = inner("bounce", "5")?;
    let changes = count(&changes_place, changes)?;
    let most = Bounce::MAX_CHANGES;
    let changes = u32::try_from(NonZeroU64::get(changes))
        .ok()
        .filter(|changes| *changes <= most)
        .ok_or_else(|| format!("{changes_place}: {changes} changes are above the limit of {most}"))?;
    let (every_place, every) = inner("every", "\"5ms\"")?;
    let every = long_time(&every_place, every, "the time between two changes")?;
    if every.is_zero() {
        return Err(format!("{every_place}: {}: nobody could see the changes", spaced(every)));
    }
    Ok(Action::Slot(SlotAction::PresenceBounces(Bounce { changes, every })))
}

pub(super) fn command_completed(place: &str, value: &Value) -> Parsed<CommandCompletion> {
    if value == "lost" {
        return Ok(CommandCompletion::Untold);
    }
    let time = long_time(place, value, "the time of a command")?;
    Ok(if time.is_zero() { CommandCompletion::AtOnce } else { CommandCompletion::After(time) })
}

pub(super) fn aer(place: &str, value: &Value) -> Parsed<Aer> {
    let Value::Object(_) = value else {
        return Ok(Aer { error: aer_error(place, value)?, function: None });
    };
    let table = table(place, value, AER_KEYS)?;
    let error_place = format!("{place}.error");
    let error = table.get("error").ok_or_else(|| format!("{error_place}: is needed, such as \"UNSUP\""))?;
    let error = aer_error(&error_place, error)?;
    let function =
        table.get("function").map(|value| text(&format!("{place}.function"), value)).transpose()?;
    Ok(Aer { error, function })
}

fn aer_error(place: &str, value: &Value) -> Parsed<&'static AerError> {
    let name = text(place, value)?;
    AerError::by_name(&name).ok_or_else(|| {
        let known: Vec<&str> = AerError::ALL.iter().map(|error| error.name).collect();
        format!("{place}: unknown error {}{}", quoted(&name), suggestion(&name, &known))
    })
}
