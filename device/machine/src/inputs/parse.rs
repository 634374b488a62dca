//! From a line of a record to what it tells of.

use std::sync::Arc;
use std::time::Duration;

use sdmorph_faults::rule::Action;
use sdmorph_faults::{Rule, RuleError};
use sdmorph_pci::DmaError;
use sdmorph_pci::media::MediaError;
use sdmorph_pci::port::Equipment;
use sdmorph_rtsx::vendor_config::Settings;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{Call, CardPlan, FORMAT, MediumPlan};
use crate::machine::Region;
use crate::tap::{Answered, HostAnswer};
use crate::{CardKind, Model, Setup};

/// Why a line cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// A field is not there, or not what it has to be.
    #[error("`{field}`: {expected} is needed, not {found}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The record is from another time.
    #[error("the record has format {0}, and this program replays format {FORMAT}")]
    Format(u64),
    /// What a field says makes no sense.
    #[error("`{field}`: {why}")]
    Sense {
        /// The field.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The fields of a line.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(field: &'static str, value: &'a Value) -> Result<Self, ParseError> {
        value.as_object().map(Self).ok_or_else(|| wrong(field, "an object", value))
    }

    fn get(&self, field: &'static str) -> &'a Value {
        self.0.get(field).unwrap_or(&Value::Null)
    }

    fn take<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, ParseError> {
        let value = self.get(field);
        take(value).ok_or_else(|| wrong(field, expected, value))
    }

    fn number<T: TryFrom<u64>>(&self, field: &'static str) -> Result<T, ParseError> {
        self.take(field, "a number", |value| T::try_from(value.as_u64()?).ok())
    }

    fn hex(&self, field: &'static str) -> Result<u64, ParseError> {
        self.take(field, "a hexadecimal number", |value| {
            u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
        })
    }

    fn flag(&self, field: &'static str) -> Result<bool, ParseError> {
        self.take(field, "true or false", Value::as_bool)
    }

    fn text(&self, field: &'static str) -> Result<&'a str, ParseError> {
        self.take(field, "a text", Value::as_str)
    }

    fn bytes(&self, field: &'static str) -> Result<Vec<u8>, ParseError> {
        self.take(field, "bytes in hexadecimal", |value| hex_bytes(value.as_str()?))
    }

    fn rule(&self) -> Result<Rule, ParseError> {
        rule("rule", self.get("rule"))
    }
}

fn wrong(field: &'static str, expected: &'static str, found: &Value) -> ParseError {
    let mut found = found.to_string();
    if found.chars().count() > 80 {
        found = found.chars().take(80).chain(['…']).collect();
    }
    ParseError::Field { field, expected, found }
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect()
}

fn rule(field: &'static str, value: &Value) -> Result<Rule, ParseError> {
    Rule::from_json(value).map_err(|error| senseless(field, &error))
}

fn action(field: &'static str, value: &Value) -> Result<Action, ParseError> {
    Action::from_json(value).map_err(|error| senseless(field, &error))
}

fn senseless(field: &'static str, error: &RuleError) -> ParseError {
    ParseError::Sense { field, why: error.to_string() }
}

/// The first line.
pub(crate) fn setup(line: &Value) -> Result<Setup, ParseError> {
    let fields = Fields::of("line", line)?;
    let format = fields.number("format")?;
    if format != FORMAT {
        return Err(ParseError::Format(format));
    }
    let model = fields.take("chip", "the name of a chip", |value| Model::by_name(value.as_str()?))?;
    let settings = match fields.get("vendor-settings") {
        Value::Null => None,
        value => Some(settings(&Fields::of("vendor-settings", value)?)?),
    };
    let sense =
        |error: crate::SettingsError| ParseError::Sense { field: "vendor-settings", why: error.to_string() };
    let equipment = fields.take("slot-equipment", "a list of what a slot can be equipped with", equipment)?;
    Ok(Setup::new(model, settings).map_err(sense)?.with_equipment(equipment))
}

/// Of a record from before slots were equipped it is null.
fn equipment(words: &Value) -> Option<Equipment> {
    if words.is_null() {
        return Some(Equipment::default());
    }
    let words: Vec<_> = words.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
    words.iter().all(|word| Equipment::WORDS.contains(word)).then(|| Equipment::from_words(words))
}

fn settings(fields: &Fields<'_>) -> Result<Settings, ParseError> {
    Ok(Settings {
        rtd3: fields.flag("rtd3")?,
        mmc: fields.flag("mmc")?,
        reverse_socket: fields.flag("reverse-socket")?,
        aspm: fields.take("aspm", "off, l0s, l1 or l0s-l1", |value| match value.as_str()? {
            "off" => Some(0),
            "l0s" => Some(1),
            "l1" => Some(2),
            "l0s-l1" => Some(3),
            _ => None,
        })?,
        drive_1v8: fields.number("drive-1v8")?,
        drive_3v3: fields.number("drive-3v3")?,
    })
}

/// A line of kind `memory` or `medium`.
pub(crate) fn host_answer(line: &Value) -> Result<HostAnswer, ParseError> {
    let fields = Fields::of("line", line)?;
    let at = fields.number("at")?;
    let is = |field: &'static str, word: &str| fields.get(field).as_str() == Some(word);
    let what = if is("kind", "memory") {
        let (address, length) = (fields.hex("address")?, fields.number("length")?);
        let error = match fields.get("error") {
            Value::Null => None,
            value => Some(dma_error(&Fields::of("error", value)?)?),
        };
        if is("dir", "read") {
            let result = match error {
                None => Ok(Arc::from(fields.bytes("data")?)),
                Some(error) => Err(error),
            };
            Answered::MemoryRead { address, length, result }
        } else {
            let result = match error {
                None => Ok(fields.hex("digest")?),
                Some(error) => Err(error),
            };
            Answered::MemoryWritten { address, length, result }
        }
    } else {
        let tag = fields.number("tag")?;
        let result = match (fields.get("data"), fields.get("error")) {
            (Value::Null, Value::Null) => None,
            (_, Value::Null) => Some(Ok(Arc::from(fields.bytes("data")?))),
            _ => Some(Err(media_error(&fields)?)),
        };
        match (is("request", "ended"), result) {
            (true, Some(result)) => Answered::MediumEnded { tag, result },
            (true, None) => return Err(wrong("data", "bytes in hexadecimal", &Value::Null)),
            (false, result) => Answered::MediumBegun { tag, result },
        }
    };
    Ok(HostAnswer { at, what })
}

fn media_error(fields: &Fields<'_>) -> Result<MediaError, ParseError> {
    fields.take("error", "out-of-range, read-only, full or io", |value| match value.as_str()? {
        "out-of-range" => Some(MediaError::OutOfRange),
        "read-only" => Some(MediaError::ReadOnly),
        "full" => Some(MediaError::Full),
        "io" => Some(MediaError::Io),
        _ => None,
    })
}

fn dma_error(fields: &Fields<'_>) -> Result<DmaError, ParseError> {
    let address = || fields.hex("address");
    Ok(match fields.text("name")? {
        "not-bus-master" => DmaError::NotBusMaster,
        "unmapped" => DmaError::Unmapped { address: address()?, length: fields.number("length")? },
        "read-only" => DmaError::ReadOnly { address: address()? },
        "write-only" => DmaError::WriteOnly { address: address()? },
        "refused" => DmaError::Refused { address: address()? },
        "timed-out" => DmaError::TimedOut { address: address()? },
        _ => return Err(wrong("name", "the name of an error", fields.get("name"))),
    })
}

/// A line of kind `call`.
pub(crate) fn call(line: &Value) -> Result<Call, ParseError> {
    let fields = Fields::of("line", line)?;
    let region = || {
        fields.take("region", "config, or bar and a number", |value| match value.as_str()? {
            "config" => Some(Region::Config),
            bar => Some(Region::Bar(bar.strip_prefix("bar")?.parse().ok()?)),
        })
    };
    Ok(match fields.text("call")? {
        "read" => Call::Read {
            region: region()?,
            offset: fields.hex("offset")?,
            answer: fields.bytes("answer")?,
            delay: match fields.get("delay_ns") {
                Value::Null => Duration::ZERO,
                _ => Duration::from_nanos(fields.number("delay_ns")?),
            },
        },
        "write" => {
            Call::Write { region: region()?, offset: fields.hex("offset")?, data: fields.bytes("data")? }
        }
        "vector-masked" => {
            Call::VectorMasked { vector: fields.number("vector")?, masked: fields.flag("masked")? }
        }
        "message" => {
            let wire = match fields.get("action") {
                Value::Null => None,
                value => match action("action", value)? {
                    Action::Wire(wire) => Some(wire),
                    _ => return Err(wrong("action", "an action at the wire", value)),
                },
            };
            Call::Message { number: fields.number("number")?, wire }
        }
        "reset" => Call::Reset,
        "power-cycle" => Call::PowerCycle,
        "storage-ended" => Call::StorageEnded,
        "advance" => Call::Advance,
        "look" => Call::Look { worked: fields.flag("worked")? },
        "rest" => Call::Rest { worked: fields.flag("worked")? },
        "marker" => Call::Marker { text: fields.text("text")?.to_owned() },
        "card-insert" => Call::CardInsert(card(&fields)?),
        "card-prepare" => Call::CardPrepare(card(&fields)?),
        "card-eject" => Call::CardEject,
        "card-disturb" => {
            let field = "card-corrupt";
            match action(field, &json!({ field: fields.get(field) }))? {
                Action::CardCorrupt(disturbance) => Call::CardDisturb(disturbance),
                _ => return Err(wrong(field, "a disturbance", fields.get(field))),
            }
        }
        "over-current" => Call::OverCurrent { detected: fields.flag("detected")? },
        "link-set" => Call::LinkSet { up: fields.flag("up")? },
        "rule-add" => Call::RuleAdd(fields.rule()?),
        "inject" => Call::Inject(fields.rule()?),
        "rule-remove" => Call::RuleRemove { name: fields.text("name")?.to_owned() },
        "scenario-load" => Call::ScenarioLoad {
            name: fields.text("name")?.to_owned(),
            rules: fields
                .take("rules", "a list", Value::as_array)?
                .iter()
                .map(|value| rule("rules", value))
                .collect::<Result<_, _>>()?,
            replace: fields.flag("replace")?,
        },
        _ => return Err(wrong("call", "the name of a call", fields.get("call"))),
    })
}

fn card(fields: &Fields<'_>) -> Result<CardPlan, ParseError> {
    let medium = match fields.get("medium") {
        Value::Null => None,
        value => {
            let fields = Fields::of("medium", value)?;
            Some(MediumPlan {
                blocks: fields.number("blocks")?,
                read_only: fields.flag("read-only")?,
                host: fields.flag("host")?,
            })
        }
    };
    Ok(CardPlan {
        kind: fields.take("card", "sd, sd-express or none", |value| match value.as_str()? {
            "sd" => Some(CardKind::Sd),
            "sd-express" => Some(CardKind::SdExpress),
            "none" => Some(CardKind::Empty),
            _ => None,
        })?,
        write_protect: fields.flag("write-protect")?,
        serial: fields.number("serial")?,
        medium,
    })
}
