//! From a JSON object to a command.

use crate::command::{Command, JsonObject};
use crate::message::CommandError;
use crate::nearest::{did_you_mean, quoted};
use crate::table::{command_spec, type_of};
use serde_json::{Map, Value};

/// A client's message: a command and the id under which its reply goes back.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// Any JSON value; the reply repeats it.
    pub id: Option<Value>,
}

/// A message that is no legal command, with the id for the error's reply.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestError {
    /// What is wrong.
    pub error: CommandError,
    /// The id of the message, if it had one.
    pub id: Option<Value>,
}

/// The members that a client's message can have.
const MEMBERS: [&str; 3] = ["execute", "arguments", "id"];

impl Request {
    /// Takes a client's message apart.
    ///
    /// # Errors
    /// The class is `CommandNotFound` for an unknown name and `GenericError` for anything else: a member or an
    /// argument that is unknown, missing or of the wrong type. The description names it.
    pub fn parse(mut message: Map<String, Value>) -> Result<Self, RequestError> {
        let id = message.remove("id");
        match parse_command(message) {
            Ok(command) => Ok(Self { command, id }),
            Err(error) => Err(RequestError { error, id }),
        }
    }
}

/// Whether this is a message that only a server sends: seen here, it is a terminal's echo of our own line.
pub(crate) fn is_echo(message: &Map<String, Value>) -> bool {
    !message.contains_key("execute")
        && ["QMP", "return", "error", "event"].iter().any(|member| message.contains_key(*member))
}

fn parse_command(mut message: Map<String, Value>) -> Result<Command, CommandError> {
    if message.contains_key("exec-oob") {
        return Err(CommandError::generic("Out-of-band execution is not supported: use 'execute'"));
    }
    if let Some(unknown) = message.keys().find(|member| !MEMBERS.contains(&member.as_str())) {
        return Err(CommandError::generic(format!(
            "QMP input member {} is unexpected{}",
            quoted(unknown),
            did_you_mean(unknown, MEMBERS)
        )));
    }
    let name = match message.remove("execute") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(wrong_member("execute", "a string", &other)),
        None => return Err(CommandError::generic("QMP input lacks member 'execute'")),
    };
    let arguments = match message.remove("arguments") {
        Some(Value::Object(arguments)) => arguments,
        Some(other) => return Err(wrong_member("arguments", "an object", &other)),
        None => JsonObject::new(),
    };
    let spec = command_spec(&name).ok_or_else(|| CommandError::command_not_found(&name))?;
    spec.check_arguments(&arguments).map_err(CommandError::generic)?;
    let mut checked = Map::new();
    if !spec.arguments.is_empty() {
        checked.insert("arguments".into(), Value::Object(arguments));
    }
    checked.insert("execute".into(), Value::String(name));
    // The table has found nothing wrong; should it ever be laxer than the types, theirs is the last word.
    serde_json::from_value(Value::Object(checked)).map_err(|error| CommandError::generic(error.to_string()))
}

fn wrong_member(name: &str, expected: &str, found: &Value) -> CommandError {
    CommandError::generic(format!("QMP input member '{name}' must be {expected}, found {}", type_of(found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CardInsertArgs, CardKind, ScenarioLoadArgs};
    use crate::message::ErrorClass;
    use crate::table::{ArgumentType, COMMANDS};
    use serde_json::json;

    fn parse(message: Value) -> Result<Request, RequestError> {
        Request::parse(message.as_object().unwrap().clone())
    }

    fn refusal(message: Value) -> String {
        let RequestError { error, .. } = parse(message).unwrap_err();
        assert_eq!(error.class, ErrorClass::GenericError);
        error.desc
    }

    fn with(name: &str, arguments: &JsonObject) -> Value {
        json!({"execute": name, "arguments": arguments})
    }

    #[test]
    fn every_example_of_the_table_is_a_command_and_survives_a_round_trip() {
        for spec in COMMANDS {
            let arguments: JsonObject = serde_json::from_str(spec.example).unwrap();
            let request = parse(with(spec.name, &arguments)).unwrap_or_else(|error| panic!("{error:?}"));
            let back = serde_json::to_value(&request.command).unwrap();
            assert_eq!(back["execute"], spec.name);
            assert_eq!(parse(back).unwrap(), request);
        }
    }

    #[test]
    fn the_table_and_the_types_agree_on_which_arguments_are_optional_and_on_their_types() {
        let sample = |kind: ArgumentType| match kind {
            ArgumentType::Boolean => json!(true),
            ArgumentType::Integer => json!(1),
            ArgumentType::Size => json!("1 MiB"),
            ArgumentType::String => json!("x"),
            ArgumentType::OneOf(words) => json!(words[0]),
            ArgumentType::Strings => json!(["x"]),
            ArgumentType::Object => json!({}),
            ArgumentType::Objects => json!([{}]),
            ArgumentType::ObjectOrObjects => json!({}),
        };
        for spec in COMMANDS.iter().filter(|spec| !spec.arguments.is_empty()) {
            let full: JsonObject = spec
                .arguments
                .iter()
                .map(|argument| (argument.name.to_owned(), sample(argument.kind)))
                .collect();
            let typed =
                |arguments: &JsonObject| serde_json::from_value::<Command>(with(spec.name, arguments));
            typed(&full).unwrap_or_else(|error| panic!("{}: {error}", spec.name));
            let mut unknown = full.clone();
            unknown.insert("no-such-argument".into(), json!(1));
            assert!(typed(&unknown).is_err(), "{}", spec.name);
            for argument in spec.arguments {
                let mut less = full.clone();
                less.remove(argument.name);
                assert_eq!(typed(&less).is_ok(), argument.optional, "{} {}", spec.name, argument.name);
                assert_eq!(spec.check_arguments(&less).is_ok(), argument.optional);
                let mut wrong = full.clone();
                wrong.insert(argument.name.into(), json!([1]));
                assert!(spec.check_arguments(&wrong).is_err());
                // Any JSON is an action to the type; what it says is for whoever knows actions.
                assert!(typed(&wrong).is_err() || argument.kind == ArgumentType::ObjectOrObjects);
                if let ArgumentType::OneOf(words) = argument.kind {
                    for word in words {
                        let mut other = full.clone();
                        other.insert(argument.name.into(), json!(word));
                        typed(&other).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn arguments_can_be_left_out_or_empty_where_none_is_required() {
        assert_eq!(parse(json!({"execute": "quit"})).unwrap().command, Command::Quit);
        assert_eq!(parse(json!({"execute": "quit", "arguments": {}})).unwrap().command, Command::Quit);
        let load = parse(json!({"execute": "scenario-load", "arguments": {"name": "a", "rules": []}}));
        let expected = ScenarioLoadArgs { name: "a".into(), rules: vec![], replace: true };
        assert_eq!(load.unwrap().command, Command::ScenarioLoad(expected));
    }

    #[test]
    fn the_empty_adapter_is_a_kind_of_card() {
        let request =
            parse(json!({"execute": "card-insert", "arguments": {"kind": "none"}, "id": [1]})).unwrap();
        assert_eq!(request.command, Command::CardInsert(CardInsertArgs::new(CardKind::None)));
        assert_eq!(request.id, Some(json!([1])));
    }

    #[test]
    fn an_unknown_command_is_refused_with_the_nearest_names_and_its_id() {
        let RequestError { error, id } = parse(json!({"execute": "card-inset", "id": {"a": 1}})).unwrap_err();
        assert_eq!(error.class, ErrorClass::CommandNotFound);
        assert!(
            error.desc.starts_with("The command 'card-inset' has not been found; did you mean 'card-insert'"),
            "{}",
            error.desc
        );
        assert_eq!(id, Some(json!({"a": 1})));
    }

    #[test]
    fn what_is_wrong_with_arguments_is_named_with_the_nearest_legal_word() {
        let insert = |arguments: Value| refusal(json!({"execute": "card-insert", "arguments": arguments}));
        assert_eq!(insert(json!({"knd": "none"})), "Parameter 'knd' is unexpected; did you mean 'kind'?");
        assert_eq!(
            insert(json!({"kind": "sdexpress"})),
            "Parameter 'kind' does not accept value 'sdexpress': \"sd\" | \"sd-express\" | \"none\"; did you mean 'sd-express', 'sd'?"
        );
        assert_eq!(
            insert(json!({"kind": 7})),
            "Invalid type of parameter 'kind': expected \"sd\" | \"sd-express\" | \"none\", found number"
        );
        assert_eq!(insert(json!({})), "Parameter 'kind' is missing: \"sd\" | \"sd-express\" | \"none\"");
        assert_eq!(
            refusal(json!({"execute": "quit", "arguments": {"now": true}})),
            "Parameter 'now' is unexpected; quit takes no arguments"
        );
        assert_eq!(
            refusal(json!({"execute": "link-set", "arguments": {"up": "true"}})),
            "Invalid type of parameter 'up': expected boolean, found string"
        );
    }

    #[test]
    fn what_is_wrong_with_the_message_itself_is_named() {
        assert_eq!(refusal(json!({"id": 1})), "QMP input lacks member 'execute'");
        assert_eq!(
            refusal(json!({"execute": 1})),
            "QMP input member 'execute' must be a string, found number"
        );
        assert_eq!(
            refusal(json!({"execute": "quit", "arguments": []})),
            "QMP input member 'arguments' must be an object, found array"
        );
        assert_eq!(
            refusal(json!({"execute": "quit", "argument": {}})),
            "QMP input member 'argument' is unexpected; did you mean 'arguments'?"
        );
        assert!(refusal(json!({"exec-oob": "quit"})).contains("not supported"));
    }

    #[test]
    fn sizes_and_numbers_out_of_range_are_refused_by_name() {
        let insert = |arguments: Value| refusal(json!({"execute": "card-insert", "arguments": arguments}));
        assert!(
            insert(json!({"kind": "sd", "size": "64 MB"}))
                .starts_with("Parameter 'size': '64 MB' is not a size; a number of bytes")
        );
        assert_eq!(
            insert(json!({"kind": "sd", "serial": -1})),
            "Invalid type of parameter 'serial': expected integer, found number"
        );
        assert!(insert(json!({"kind": "sd", "serial": 1u64 << 32})).contains("u32"));
    }

    #[test]
    fn only_a_servers_own_message_is_taken_for_an_echo() {
        let echo = |message: Value| is_echo(message.as_object().unwrap());
        assert!(echo(json!({"error": {"class": "GenericError", "desc": "x"}})));
        assert!(echo(json!({"QMP": {}})));
        assert!(!echo(json!({"execute": "quit", "error": 1})));
        assert!(!echo(json!({"id": 1})));
    }
}
