//! What the server sends: greeting, replies, errors.

use crate::nearest::did_you_mean;
use crate::table::COMMANDS;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version, in the shape that QMP clients expect from QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The version's three numbers. The name is QMP's: clients look for it.
    pub qemu: Triple,
    /// Name and version of the program.
    pub package: String,
}

/// A version's three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
}

/// The version of this build.
pub fn version() -> Version {
    // Cargo guarantees three numbers.
    let number = |text: &str| text.parse().unwrap_or(0);
    Version {
        qemu: Triple {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            micro: number(env!("CARGO_PKG_VERSION_PATCH")),
        },
        package: concat!("sdmorph ", env!("CARGO_PKG_VERSION")).into(),
    }
}

#[derive(Serialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    qmp: GreetingBody,
}

#[derive(Serialize)]
struct GreetingBody {
    version: Version,
    capabilities: [&'static str; 0],
}

/// The greeting's line.
pub(crate) fn greeting_line() -> String {
    line(&Greeting { qmp: GreetingBody { version: version(), capabilities: [] } })
}

/// What `rule-add` returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleAdded {
    /// The name under which the rule is listed and can be removed.
    pub name: String,
}

/// The classes of errors that QMP has (QEMU's `qapi/error.json`), as far as they can happen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// Anything that has no class of its own; most errors.
    GenericError,
    /// There is no such command, or not before or after the negotiation.
    CommandNotFound,
    /// The device is not in a state for this: no card to eject, for one.
    DeviceNotActive,
    /// What the command names does not exist: a rule, for one.
    DeviceNotFound,
}

/// Why a command was not carried out. On the wire: `{"class": …, "desc": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{desc}")]
pub struct CommandError {
    /// For programs.
    pub class: ErrorClass,
    /// For people: one sentence.
    pub desc: String,
}

impl CommandError {
    /// An error of a class.
    pub fn new(class: ErrorClass, desc: impl Into<String>) -> Self {
        Self { class, desc: desc.into() }
    }

    /// An error of no particular class.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self::new(ErrorClass::GenericError, desc)
    }

    /// There is no command of this name; the description has the nearest ones.
    pub(crate) fn command_not_found(name: &str) -> Self {
        let near = did_you_mean(name, COMMANDS.iter().map(|spec| spec.name));
        let hint = if near.is_empty() { "; query-commands lists all" } else { near.as_str() };
        let name = crate::nearest::quoted(name);
        Self::new(ErrorClass::CommandNotFound, format!("The command {name} has not been found{hint}"))
    }
}

#[derive(Serialize)]
struct Success<'a> {
    r#return: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a CommandError,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
}

/// The line of a reply.
pub(crate) fn reply_line(result: &Result<Value, CommandError>, id: Option<&Value>) -> String {
    match result {
        Ok(value) => line(&Success { r#return: value, id }),
        Err(error) => line(&Failure { error, id }),
    }
}

/// A message as one line.
pub(crate) fn line(message: &impl Serialize) -> String {
    // Serialising fails for maps with keys that are no strings; no message has one. A client would take an empty
    // line for nothing at all, hence the error object.
    let mut text = serde_json::to_string(message).unwrap_or_else(|error| {
        tracing::error!(%error, "a message cannot be written as JSON");
        r#"{"error":{"class":"GenericError","desc":"the reply cannot be written as JSON"}}"#.into()
    });
    text.push('\n');
    text
}
