//! `key=value` words to command arguments, as qmp-shell writes them.

use crate::command::JsonObject;
use serde_json::{Map, Value};

/// Why words are no arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// There is no `=`, or nothing before it.
    #[error("'{0}' is not of the form key=value (for instance kind=sd-express)")]
    NotAPair(String),
    /// Dots with nothing between them.
    #[error("'{0}': a dotted key needs a name on both sides of each dot")]
    EmptyKeyPart(String),
    /// The same key again.
    #[error("'{0}' is given twice")]
    Twice(String),
    /// A key that holds a value, and other keys below it.
    #[error("'{0}' cannot hold a value and have keys below it")]
    ValueAndObject(String),
    /// The value looks like JSON and is not.
    #[error("the value of '{key}' begins as JSON and is not: {reason}")]
    Json {
        /// The key.
        key: String,
        /// What the JSON parser says.
        reason: String,
    },
}

/// Arguments from `key=value` words.
///
/// A value that is JSON is taken as JSON (`up=true`, `rules=[]`, `rule={"name":"a"}`, `text="5"` for the string 5),
/// `True` and `False` are booleans, and anything else is a string. A dotted key nests: `rule.name=a` is
/// `{"rule":{"name":"a"}}`.
///
/// # Errors
/// See [`KeyValueError`]; each names the word or key.
pub fn parse_key_values(words: &[impl AsRef<str>]) -> Result<JsonObject, KeyValueError> {
    let mut arguments = JsonObject::new();
    for word in words {
        let word = word.as_ref();
        let Some((key, text)) = word.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(KeyValueError::NotAPair(word.into()));
        };
        let value = parse_value(key, text)?;
        insert(&mut arguments, key, value)?;
    }
    Ok(arguments)
}

fn parse_value(key: &str, text: &str) -> Result<Value, KeyValueError> {
    if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        return Ok(Value::Bool(text.eq_ignore_ascii_case("true")));
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) if text.starts_with(['{', '[', '"']) => {
            Err(KeyValueError::Json { key: key.into(), reason: error.to_string() })
        }
        Err(_) => Ok(Value::String(text.into())),
    }
}

fn insert(arguments: &mut JsonObject, key: &str, value: Value) -> Result<(), KeyValueError> {
    let mut parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(KeyValueError::EmptyKeyPart(key.into()));
    }
    let last = parts.pop().unwrap_or(key);
    let mut object = arguments;
    for part in parts {
        let Value::Object(inner) = object.entry(part).or_insert_with(|| Value::Object(Map::new())) else {
            return Err(KeyValueError::ValueAndObject(part.into()));
        };
        object = inner;
    }
    match object.get(last) {
        None => {
            object.insert(last.into(), value);
            Ok(())
        }
        Some(Value::Object(_)) => Err(KeyValueError::ValueAndObject(key.into())),
        Some(_) => Err(KeyValueError::Twice(key.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(words: &[&str]) -> Result<Value, KeyValueError> {
        parse_key_values(words).map(Value::Object)
    }

    #[test]
    fn plain_words_are_strings_and_json_is_json() {
        assert_eq!(
            parse(&[
                "kind=sd-express",
                "up=True",
                "n=-5",
                "f=1.5",
                "list=[1,2]",
                "s=\"5\"",
                "eq=a=b",
                "empty=",
                "x=null"
            ]),
            Ok(json!({
                "kind": "sd-express", "up": true, "n": -5, "f": 1.5, "list": [1, 2], "s": "5", "eq": "a=b",
                "empty": "", "x": null,
            }))
        );
        assert_eq!(parse(&[]), Ok(json!({})));
    }

    #[test]
    fn dotted_keys_nest_and_join_an_object_given_as_json() {
        assert_eq!(
            parse(&["rule={\"name\":\"a\"}", "rule.when.read=HAIMR", "rule.when.nth=2"]),
            Ok(json!({"rule": {"name": "a", "when": {"read": "HAIMR", "nth": 2}}}))
        );
    }

    #[test]
    fn each_mistake_is_refused_with_the_word_that_made_it() {
        assert_eq!(parse(&["sd-express"]), Err(KeyValueError::NotAPair("sd-express".into())));
        assert_eq!(parse(&["=1"]), Err(KeyValueError::NotAPair("=1".into())));
        assert_eq!(parse(&["a..b=1"]), Err(KeyValueError::EmptyKeyPart("a..b".into())));
        assert_eq!(parse(&["a=1", "a=2"]), Err(KeyValueError::Twice("a".into())));
        assert_eq!(parse(&["a=1", "a.b=2"]), Err(KeyValueError::ValueAndObject("a".into())));
        assert_eq!(parse(&["a.b=2", "a=1"]), Err(KeyValueError::ValueAndObject("a".into())));
        assert!(matches!(parse(&["rule={\"a\":"]), Err(KeyValueError::Json { key, .. }) if key == "rule"));
    }
}
