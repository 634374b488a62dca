//! Actions on the function in the slot.

use sdmorph_pci::{Direction, Disturbance};

use super::{
    Parsed, Table, Value, boolean, count, describe, long_time, named, number, suggestion, table, text, word,
};
use crate::function::{
    DmaAction, DmaChange, DmaFailure, InterruptAction, InterruptFault, MAX_BITS, NvmeAction, NvmeFault,
};
use crate::nearest::quoted;
use crate::read_data::{ReadAnswer, ReadData, ReadTarget};
use crate::rule::SpaceKind;

const READ_KEYS: &[&str] = &["register", "space", "function", "give", "and", "or", "xor", "clear"];
const ANSWER_KEYS: &[&str] = &["give", "and", "or", "xor", "clear"];
const INTERRUPTS: &[&str] = &["drop", "duplicate", "delay", "spurious", "normal"];
const DMAS: &[&str] = &["drop", "corrupt", "fail", "delay", "normal"];
const NVMES: &[&str] = &["fail", "drop-completion", "fatal", "ready-stuck", "normal"];
const CORRUPTIONS: &[&str] =
    &["response-crc", "response-timeout", "data-crc", "data-timeout", "busy", "bad-blocks", "heal"];

/// `read-data`.
pub(super) fn read_data(place: &str, value: &Value) -> Parsed<ReadData> {
    let table = table(place, value, READ_KEYS)?;
    let of = match (table.get("register"), table.get("space")) {
        (Some(register), None) => ReadTarget::Register(text(&format!("{place}.register"), register)?),
        (None, Some(space)) => ReadTarget::Space(named(&format!("{place}.space"), space, SpaceKind::NAMES)?),
        (Some(_), Some(_)) => return Err(format!("{place}: register and space are two targets")),
        (None, None) => return Err(format!("{place}: register or space is needed")),
    };
    let function =
        table.get("function").map(|value| text(&format!("{place}.function"), value)).transpose()?;
    let mut answers = ANSWER_KEYS.iter().filter_map(|key| Some((*key, table.get(*key)?)));
    let (key, value) =
        answers.next().ok_or_else(|| format!("{place}: one of {} is needed", ANSWER_KEYS.join(", ")))?;
    if let Some((other, _)) = answers.next() {
        return Err(format!("{place}: {key} and {other} do not go together; make it two actions"));
    }
    let place = format!("{place}.{key}");
    let answer = match key {
        "give" => match value {
            Value::String(word) if word == "ones" => ReadAnswer::Ones,
            Value::String(word) if word == "zeros" => ReadAnswer::Zeros,
            Value::String(word) if word == "stale" => ReadAnswer::Stale,
            Value::String(word) if !word.starts_with("0x") && !word.starts_with("0X") => {
                let suggestion = suggestion(word, &["ones", "zeros", "stale"]);
                return Err(format!(
                    "{place}: unknown word {}{suggestion}; a number will do, too",
                    quoted(word)
                ));
            }
            _ => ReadAnswer::Value(number(&place, value)?),
        },
        "and" => ReadAnswer::And(number(&place, value)?),
        "or" => ReadAnswer::Or(super::mask(&place, value)?),
        "xor" => ReadAnswer::Xor(super::mask(&place, value)?),
        _ if boolean(&place, value)? => ReadAnswer::Clear,
        _ => return Err(format!("{place}: true is needed, or the key left out")),
    };
    Ok(ReadData { of, function, answer })
}

/// `interrupt`.
pub(super) fn interrupt(place: &str, value: &Value) -> Parsed<InterruptAction> {
    let what = What::read(place, value, INTERRUPTS)?;
    let (keys, fault): (&[&str], _) = match what.word {
        "drop" => (&["function", "vector", "times"], InterruptFault::Drop),
        "duplicate" => (&["function", "vector", "times"], InterruptFault::Duplicate),
        "delay" => {
            let time = what.time("\"5ms\"")?;
            (&["function", "vector", "times", "time"], InterruptFault::Delay(time))
        }
        "spurious" => (&["function", "vector"], InterruptFault::Spurious),
        _ => (&["function", "vector"], InterruptFault::Normal),
    };
    what.allow(keys)?;
    let vector = |place: &str, value: &Value| {
        let vector = number(place, value)?;
        u16::try_from(vector).map_err(|_| format!("{place}: there are no {vector} messages"))
    };
    Ok(InterruptAction {
        what: fault,
        function: what.get("function", text)?,
        vector: what.get("vector", vector)?,
        times: what.get("times", count)?,
    })
}

/// `dma`.
pub(super) fn dma(place: &str, value: &Value) -> Parsed<DmaAction> {
    let what = What::read(place, value, DMAS)?;
    let (keys, change): (&[&str], _) = match what.word {
        "drop" => (&["direction", "times"], DmaChange::Drop),
        "corrupt" => {
            let bits = |place: &str, value: &Value| {
                let bits = count(place, value)?.get();
                let fits = u32::try_from(bits).ok().filter(|bits| *bits <= MAX_BITS);
                fits.ok_or_else(|| format!("{place}: {bits} is above the limit of {MAX_BITS} a transfer"))
            };
            let bits = what.get("bits", bits)?.unwrap_or(1);
            let seed = what.get("seed", number)?.unwrap_or(0);
            (&["direction", "times", "bits", "seed"], DmaChange::Corrupt { bits, seed })
        }
        "fail" => {
            let error = what.get("error", |place, value| named(place, value, DmaFailure::NAMES))?;
            let error = error.unwrap_or(DmaFailure::UnsupportedRequest);
            (&["direction", "times", "error"], DmaChange::Fail(error))
        }
        "delay" => (&["time"], DmaChange::Delay(what.time("\"50ms\"")?)),
        _ => (&["direction"], DmaChange::Normal),
    };
    what.allow(keys)?;
    let directions = &[("read", Direction::Read), ("write", Direction::Write)];
    Ok(DmaAction {
        what: change,
        direction: what.get("direction", |place, value| named(place, value, directions))?,
        times: what.get("times", count)?,
    })
}

/// `nvme`.
pub(super) fn nvme(place: &str, value: &Value) -> Parsed<NvmeAction> {
    let what = What::read(place, value, NVMES)?;
    let (keys, fault): (&[&str], _) = match what.word {
        "fail" => {
            let status = what.get("status", text)?;
            let status =
                status.ok_or_else(|| format!("{place}.status: is needed, such as \"Internal Error\""))?;
            (&["command", "times", "status"], NvmeFault::Fail(status))
        }
        "drop-completion" => (&["command", "times"], NvmeFault::DropCompletion),
        "fatal" => (&[], NvmeFault::Fatal),
        "ready-stuck" => (&[], NvmeFault::ReadyStuck),
        _ => (&["command"], NvmeFault::Normal),
    };
    what.allow(keys)?;
    Ok(NvmeAction { what: fault, command: what.get("command", text)?, times: what.get("times", count)? })
}

/// A disturbance of a card, as the action and the command `card-corrupt` have it. Messages begin with the key.
///
/// # Errors
/// A sentence that says what is expected.
pub fn disturbance(value: &Value) -> Result<Disturbance, String> {
    card_corrupt("card-corrupt", value)
}

/// `card-corrupt`.
pub(super) fn card_corrupt(place: &str, value: &Value) -> Parsed<Disturbance> {
    let what = What::read(place, value, CORRUPTIONS)?;
    let times = |place: &str, value: &Value| {
        let times = number(place, value)?;
        u32::try_from(times).map_err(|_| format!("{place}: {times} is above the limit of {}", u32::MAX))
    };
    let (keys, disturbance): (&[&str], _) = match what.word {
        "busy" => {
            let busy = what.get("duration", |place, value| long_time(place, value, "a busy time"))?;
            let busy =
                busy.ok_or_else(|| format!("{place}.duration: is needed with busy, such as \"500ms\""))?;
            (&["duration"], Disturbance::Busy(busy))
        }
        "bad-blocks" => {
            let first = what.get("first", number)?;
            let first = first.ok_or_else(|| format!("{place}.first: is needed with bad-blocks"))?;
            let count = what.get("count", number)?.unwrap_or(1);
            (&["first", "count"], Disturbance::BadBlocks { first, count })
        }
        "heal" => (&[], Disturbance::Heal),
        word => {
            let times = what.get("times", times)?.unwrap_or(1);
            let disturbance = match word {
                "response-crc" => Disturbance::ResponseCrc(times),
                "response-timeout" => Disturbance::ResponseTimeout(times),
                "data-crc" => Disturbance::DataCrc(times),
                _ => Disturbance::DataTimeout(times),
            };
            (&["times"], disturbance)
        }
    };
    what.allow(keys)?;
    Ok(disturbance)
}

/// An action that is one of a few words, alone or as `what` in a table with more.
struct What<'a> {
    place: &'a str,
    word: &'a str,
    more: Option<&'a Table>,
}

impl<'a> What<'a> {
    fn read(place: &'a str, value: &'a Value, words: &[&'a str]) -> Parsed<Self> {
        match value {
            Value::String(_) => Ok(Self { place, word: word(place, value, words)?, more: None }),
            Value::Object(table) => {
                let what = table
                    .get("what")
                    .ok_or_else(|| format!("{place}.what: one of {} is needed", words.join(", ")))?;
                Ok(Self { place, word: word(&format!("{place}.what"), what, words)?, more: Some(table) })
            }
            _ => Err(format!(
                "{place}: one of {} is needed, or a table, not {}",
                words.join(", "),
                describe(value)
            )),
        }
    }

    /// Refuses keys that do not go with the word.
    fn allow(&self, keys: &[&str]) -> Parsed<()> {
        let mut given = self.more.into_iter().flat_map(|table| table.keys());
        let Some(refused) = given.find(|key| *key != "what" && !keys.contains(&key.as_str())) else {
            return Ok(());
        };
        let (place, word) = (self.place, self.word);
        if keys.is_empty() {
            return Err(format!("{place}: {word} stands alone, without {}", quoted(refused)));
        }
        let suggestion = suggestion(refused, keys);
        Err(format!("{place}: {} does not go with {word}{suggestion}", quoted(refused)))
    }

    fn get<T>(&self, key: &str, read: impl FnOnce(&str, &Value) -> Parsed<T>) -> Parsed<Option<T>> {
        let value = self.more.and_then(|table| table.get(key));
        value.map(|value| read(&format!("{}.{key}", self.place), value)).transpose()
    }

    /// Its `time`, which it needs.
    fn time(&self, example: &str) -> Parsed<std::time::Duration> {
        let time = self.get("time", |place, value| long_time(place, value, "a delay"))?;
        time.ok_or_else(|| format!("{}.time: is needed with {}, such as {example}", self.place, self.word))
    }
}
