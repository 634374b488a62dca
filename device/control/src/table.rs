//! The table of commands: what parsing, `query-commands`, the help and the reference are made of.

use crate::nearest::{did_you_mean, quoted};
use crate::size::Size;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// The name on the wire.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Its arguments.
    pub arguments: &'static [ArgumentSpec],
    /// What a successful reply carries.
    pub returns: &'static str,
    /// Arguments that are legal together, as JSON text.
    pub example: &'static str,
}

/// One argument of a command.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentSpec {
    /// The name on the wire.
    pub name: &'static str,
    /// What it has to be.
    pub kind: ArgumentType,
    /// Whether it can be left out.
    pub optional: bool,
    /// What it means, in one line.
    pub summary: &'static str,
}

/// What an argument has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentType {
    /// `true` or `false`.
    Boolean,
    /// A number without sign or fraction.
    Integer,
    /// A number of bytes, or a string with a unit.
    Size,
    /// Any string.
    String,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// An array of strings.
    Strings,
    /// A JSON object.
    Object,
    /// An array of JSON objects.
    Objects,
    /// A JSON object, or an array of them.
    ObjectOrObjects,
}

const fn required(name: &'static str, kind: ArgumentType, summary: &'static str) -> ArgumentSpec {
    ArgumentSpec { name, kind, optional: false, summary }
}

const fn optional(name: &'static str, kind: ArgumentType, summary: &'static str) -> ArgumentSpec {
    ArgumentSpec { name, kind, optional: true, summary }
}

/// What there is to say of a card.
const NEW_CARD: &[ArgumentSpec] = &[
    required(
        "kind",
        ArgumentType::OneOf(&["sd", "sd-express", "none"]),
        "sd: an SD card; sd-express: an SD 7.0 card; none: an empty adapter (the presence switch closes, no card answers)",
    ),
    optional("image", ArgumentType::String, "the file that keeps its blocks; in memory if left out"),
    optional(
        "format",
        ArgumentType::OneOf(&["raw", "qcow2"]),
        "the image's format; qcow2 is recognised if left out",
    ),
    optional("size", ArgumentType::Size, "the size of a card in memory; 64 GiB if left out"),
    optional("read-only", ArgumentType::Boolean, "whether the card refuses to be changed"),
    optional(
        "write-protect",
        ArgumentType::Boolean,
        "whether the switch on its edge is at \"lock\"; the reader sees it, the card does not",
    ),
    optional("serial", ArgumentType::Integer, "the serial number in its CID"),
];

/// Every command there is, in the order of the reference.
pub const COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "qmp_capabilities",
        summary: "End the negotiation; has to be the first command of a connection",
        arguments: &[optional("enable", ArgumentType::Strings, "capabilities; the server offers none")],
        returns: "an empty object",
        example: "{}",
    },
    CommandSpec {
        name: "card-insert",
        summary: "Put a card into the reader",
        arguments: NEW_CARD,
        returns: "an empty object",
        example: r#"{"kind": "sd", "size": "8 GiB", "write-protect": true}"#,
    },
    CommandSpec {
        name: "card-eject",
        summary: "Take out whatever is in the reader",
        arguments: &[],
        returns: "an empty object",
        example: "{}",
    },
    CommandSpec {
        name: "card-prepare",
        summary: "Keep a card at hand, in place of the one that is: a rule's `card = \"insert\"` puts it into the reader",
        arguments: NEW_CARD,
        returns: "an empty object",
        example: r#"{"kind": "sd", "size": "8 GiB"}"#,
    },
    CommandSpec {
        name: "card-corrupt",
        summary: "Disturb the card in the reader, as a worn or badly seated one would be",
        arguments: &[
            required(
                "what",
                ArgumentType::OneOf(&[
                    "response-crc",
                    "response-timeout",
                    "data-crc",
                    "data-timeout",
                    "busy",
                    "bad-blocks",
                    "heal",
                ]),
                "wrong CRC7, no response, wrong CRC16, no data; DAT0 held low; blocks that cannot be read or written; an end to all of these",
            ),
            optional(
                "times",
                ArgumentType::Integer,
                "how many responses, commands or transfers the first four meet; 1 if left out",
            ),
            optional("duration", ArgumentType::String, "with busy: for how long, such as 500ms"),
            optional("first", ArgumentType::Integer, "with bad-blocks: the first block, of 512 bytes"),
            optional("count", ArgumentType::Integer, "with bad-blocks: how many; 1 if left out"),
        ],
        returns: "an empty object",
        example: r#"{"what": "data-crc", "times": 3}"#,
    },
    CommandSpec {
        name: "over-current",
        summary: "Have the card draw too much current, which the reader reports and may cut off",
        arguments: &[],
        returns: "an empty object",
        example: "{}",
    },
    CommandSpec {
        name: "link-set",
        summary: "Take the slot's link down or bring it up",
        arguments: &[required("up", ArgumentType::Boolean, "true: up; false: down")],
        returns: "an empty object",
        example: r#"{"up": false}"#,
    },
    CommandSpec {
        name: "inject",
        summary: "Do the actions of a fault rule at once; all but `wire`, which needs a message that it happens to",
        arguments: &[
            required("do", ArgumentType::ObjectOrObjects, "an action or several, as a rule's `do` has them"),
            optional(
                "name",
                ArgumentType::String,
                "by which name it stands in the flight record, as a rule's hit; `injected` if left out",
            ),
        ],
        returns: "an object with that `name`",
        example: r#"{"do": [{"bar": "vanish"}, {"link": "down"}], "name": "pulled"}"#,
    },
    CommandSpec {
        name: "query-status",
        summary: "The device as one tree, registers by name, or a part of it",
        arguments: &[optional(
            "path",
            ArgumentType::String,
            "names joined by dots, each looked for below the one before: `slot.link-active`, `reader.BIPR`, `counters`",
        )],
        returns: "the tree, or what is at the path",
        example: r#"{"path": "reader.BIPR"}"#,
    },
    CommandSpec {
        name: "rule-add",
        summary: "Add a fault rule",
        arguments: &[required("rule", ArgumentType::Object, "the rule, as it stands in a scenario")],
        returns: "an object with the rule's `name`",
        example: r#"{"rule": {"name": "slow-haimr", "on": {"read": "HAIMR"}, "do": {"read-latency": "500us"}}}"#,
    },
    CommandSpec {
        name: "rule-remove",
        summary: "Remove a fault rule",
        arguments: &[required("name", ArgumentType::String, "the rule's name, from rule-add or query-rules")],
        returns: "an empty object",
        example: r#"{"name": "slow-haimr"}"#,
    },
    CommandSpec {
        name: "query-rules",
        summary: "The fault rules with their counters",
        arguments: &[],
        returns: "an array of objects",
        example: "{}",
    },
    CommandSpec {
        name: "scenario-load",
        summary: "Load a set of fault rules at once: all of them, or none if one is wrong",
        arguments: &[
            required("name", ArgumentType::String, "the scenario's name, for the flight record"),
            required("rules", ArgumentType::Objects, "the rules, each as rule-add takes it"),
            optional(
                "replace",
                ArgumentType::Boolean,
                "whether all rules of before go first; true if left out",
            ),
        ],
        returns: "an empty object",
        example: r#"{"name": "no-faults", "rules": [], "replace": true}"#,
    },
    CommandSpec {
        name: "marker",
        summary: "Write a line of text into the flight record",
        arguments: &[required("text", ArgumentType::String, "the text")],
        returns: "an empty object",
        example: r#"{"text": "the drivers are bound"}"#,
    },
    CommandSpec {
        name: "record-start",
        summary: "Have the flight record written to a file, from now on and until `record-stop`",
        arguments: &[
            required("file", ArgumentType::String, "the file, which must not be there yet"),
            optional(
                "past",
                ArgumentType::Boolean,
                "whether what is still in memory comes first; true if left out",
            ),
        ],
        returns: "an object: `first`, the number of the first entry that the file can have",
        example: r#"{"file": "run.jsonl", "past": false}"#,
    },
    CommandSpec {
        name: "record-stop",
        summary: "End the file of the flight record, whether `record-start` or `serve --record` began it",
        arguments: &[],
        returns: "an object: `file`, `records` (how many are in it), `lost` (how many the file could not keep up with)",
        example: "{}",
    },
    CommandSpec {
        name: "record-dump",
        summary: "What of the flight record is in memory, as a file or as the reply",
        arguments: &[
            optional(
                "file",
                ArgumentType::String,
                "the file, which must not be there yet; it is there when it is whole",
            ),
            optional(
                "last",
                ArgumentType::Integer,
                "how many of the newest entries; all with a file and 100 without if left out, 1000 without at most",
            ),
        ],
        returns: "an array of entries; with a file, an object: `first` (the number of the first entry), `records`",
        example: r#"{"last": 20}"#,
    },
    CommandSpec {
        name: "query-qmp-schema",
        summary: "Commands and events as QMP describes them (QAPI introspection)",
        arguments: &[],
        returns: "an array of objects, each with name and meta-type",
        example: "{}",
    },
    CommandSpec {
        name: "query-commands",
        summary: "This table",
        arguments: &[],
        returns: "an array of objects: name, summary, arguments, returns, example",
        example: "{}",
    },
    CommandSpec {
        name: "query-version",
        summary: "The version of the greeting",
        arguments: &[],
        returns: "an object: qemu (major, minor, micro: of sdmorph), package",
        example: "{}",
    },
    CommandSpec {
        name: "quit",
        summary: "End the server, after the reply",
        arguments: &[],
        returns: "an empty object",
        example: "{}",
    },
];

/// The row of a command.
pub fn command_spec(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|spec| spec.name == name)
}

impl ArgumentType {
    /// The type in words, as error messages and the reference have it.
    pub fn describe(&self) -> String {
        match self {
            Self::Boolean => "boolean".into(),
            Self::Integer => "integer".into(),
            Self::Size => "size".into(),
            Self::String => "string".into(),
            Self::OneOf(words) => format!("\"{}\"", words.join("\" | \"")),
            Self::Strings => "array of strings".into(),
            Self::Object => "object".into(),
            Self::Objects => "array of objects".into(),
            Self::ObjectOrObjects => "object or array of objects".into(),
        }
    }

    fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        let all = |is: fn(&Value) -> bool| value.as_array().is_some_and(|items| items.iter().all(is));
        let fits = match self {
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.is_u64(),
            Self::Size => match value {
                Value::String(_) | Value::Number(_) => {
                    let size = Size::from_json(value);
                    return size.map(drop).map_err(|why| format!("Parameter '{name}': {why}"));
                }
                _ => false,
            },
            Self::String => value.is_string(),
            Self::OneOf(words) => match value.as_str() {
                Some(word) if !words.contains(&word) => {
                    return Err(format!(
                        "Parameter '{name}' does not accept value {}: {}{}",
                        quoted(word),
                        self.describe(),
                        did_you_mean(word, words.iter().copied())
                    ));
                }
                word => word.is_some(),
            },
            Self::Strings => all(Value::is_string),
            Self::Object => value.is_object(),
            Self::Objects => all(Value::is_object),
            Self::ObjectOrObjects => value.is_object() || all(Value::is_object),
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "Invalid type of parameter '{name}': expected {}, found {}",
            self.describe(),
            type_of(value)
        ))
    }
}

/// A value's JSON type, in words.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl CommandSpec {
    /// Checks names and types of arguments.
    ///
    /// # Errors
    /// A sentence that names the argument, and the nearest legal word if there is one.
    pub fn check_arguments(&self, arguments: &crate::JsonObject) -> Result<(), String> {
        for (name, value) in arguments {
            let Some(argument) = self.arguments.iter().find(|argument| argument.name == name) else {
                let near = did_you_mean(name, self.arguments.iter().map(|argument| argument.name));
                let legal = match self.arguments {
                    [] => format!("; {} takes no arguments", self.name),
                    _ => near,
                };
                return Err(format!("Parameter {} is unexpected{legal}", quoted(name)));
            };
            argument.kind.check(name, value)?;
        }
        match self
            .arguments
            .iter()
            .find(|argument| !argument.optional && !arguments.contains_key(argument.name))
        {
            Some(missing) => {
                Err(format!("Parameter '{}' is missing: {}", missing.name, missing.kind.describe()))
            }
            None => Ok(()),
        }
    }
}

/// The reply to `query-commands`: an array of objects with `name` as QMP has it, and `summary`, `arguments` (each
/// `name`, `type`, `optional`, `summary`), `returns` and `example`.
pub fn query_commands() -> Value {
    let argument = |argument: &ArgumentSpec| {
        json!({
            "name": argument.name,
            "type": argument.kind.describe(),
            "optional": argument.optional,
            "summary": argument.summary,
        })
    };
    let command = |spec: &CommandSpec| {
        json!({
            "name": spec.name,
            "summary": spec.summary,
            "arguments": spec.arguments.iter().map(argument).collect::<Vec<_>>(),
            "returns": spec.returns,
            "example": spec.example,
        })
    };
    Value::Array(COMMANDS.iter().map(command).collect())
}

/// The commands for a terminal: a line for each command, `name key=TYPE [key=TYPE]`, and a line for what it does.
pub fn usage() -> String {
    let mut text = String::new();
    for spec in COMMANDS {
        text.push_str(spec.name);
        for argument in spec.arguments {
            let kind = match argument.kind {
                ArgumentType::OneOf(words) => words.join("|"),
                ArgumentType::Boolean => "true|false".into(),
                ArgumentType::Integer => "NUMBER".into(),
                ArgumentType::Size => "SIZE".into(),
                ArgumentType::String => "TEXT".into(),
                ArgumentType::Object | ArgumentType::ObjectOrObjects => "'{…}'".into(),
                ArgumentType::Strings | ArgumentType::Objects => "'[…]'".into(),
            };
            let pair = format!("{}={kind}", argument.name);
            // Writing to a String cannot fail.
            let _ = if argument.optional { write!(text, " [{pair}]") } else { write!(text, " {pair}") };
        }
        let _ = writeln!(text, "\n    {}", spec.summary);
    }
    text
}

/// The reference of the commands, in Markdown: a section for each.
pub fn reference_markdown() -> String {
    let mut text = String::new();
    for spec in COMMANDS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "## `{}`\n\n{}.\n", spec.name, spec.summary);
        if !spec.arguments.is_empty() {
            text.push_str("| argument | type | required | meaning |\n| --- | --- | --- | --- |\n");
            for argument in spec.arguments {
                let kind = argument.kind.describe().replace('|', "\\|");
                let required = if argument.optional { "no" } else { "yes" };
                let _ =
                    writeln!(text, "| `{}` | {kind} | {required} | {} |", argument.name, argument.summary);
            }
            text.push('\n');
        }
        let _ = writeln!(text, "Returns {}.\n", spec.returns);
        let example = match spec.example {
            "{}" => format!("{{\"execute\": \"{}\"}}", spec.name),
            arguments => format!("{{\"execute\": \"{}\", \"arguments\": {arguments}}}", spec.name),
        };
        let _ = writeln!(text, "```json\n{example}\n```\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_and_reference_show_every_command_with_its_arguments_and_a_row_of_query_commands_each() {
        let (usage, reference, replied) = (usage(), reference_markdown(), query_commands());
        assert!(usage.contains("scenario-load name=TEXT rules='[…]' [replace=true|false]\n"), "{usage}");
        assert!(
            usage
                .contains("card-insert kind=sd|sd-express|none [image=TEXT] [format=raw|qcow2] [size=SIZE] "),
            "{usage}"
        );
        for (spec, row) in COMMANDS.iter().zip(replied.as_array().unwrap()) {
            assert!(reference.contains(&format!("## `{}`\n", spec.name)));
            assert_eq!(row["name"], spec.name);
            assert_eq!(row["arguments"].as_array().unwrap().len(), spec.arguments.len());
            for argument in spec.arguments {
                let required = if argument.optional { "no" } else { "yes" };
                assert!(reference.contains(&format!("| `{}` |", argument.name)));
                assert!(reference.contains(&format!(" | {required} | {} |\n", argument.summary)));
            }
        }
        assert_eq!(replied.as_array().unwrap().len(), COMMANDS.len());
    }
}
