//! The tables of commands and events as QMP describes itself: QAPI introspection (QEMU, `qapi/introspect.json`).
//!
//! QEMU numbers the types that its users have no need to know by name; here they have names that say what they are for.

use serde_json::{Value, json};

use crate::event_table::{COMMON_DATA, EVENTS};
use crate::table::{ArgumentSpec, ArgumentType, COMMANDS};

/// The object without members: of commands that take none, or answer with none.
const EMPTY: &str = "empty";

/// The reply to `query-qmp-schema`: an array of SchemaInfo.
pub fn query_qmp_schema() -> Value {
    let mut schema = Schema::default();
    for (name, json_type) in [("str", "string"), ("int", "int"), ("bool", "boolean"), ("any", "value")] {
        schema.0.push(json!({"name": name, "meta-type": "builtin", "json-type": json_type}));
    }
    for element in ["str", "any"] {
        let name = format!("[{element}]");
        schema.0.push(json!({"name": name, "meta-type": "array", "element-type": element}));
    }
    schema.0.push(json!({"name": EMPTY, "meta-type": "object", "members": []}));
    let size = json!([{"type": "int"}, {"type": "str"}]);
    schema.0.push(json!({"name": "size", "meta-type": "alternate", "members": size}));
    let actions = json!([{"type": "any"}, {"type": "[any]"}]);
    schema.0.push(json!({"name": "actions", "meta-type": "alternate", "members": actions}));
    for spec in COMMANDS {
        let arguments = schema.object(&format!("{}-arguments", spec.name), spec.arguments.iter());
        let returns = if spec.returns == "an empty object" { EMPTY } else { "any" };
        schema.0.push(json!({
            "name": spec.name,
            "meta-type": "command",
            "arg-type": arguments,
            "ret-type": returns,
            "allow-oob": false,
        }));
    }
    for spec in EVENTS {
        let is_hit = spec.name == "RULE_HIT";
        let common = COMMON_DATA.iter().filter(|member| !(is_hit && member.name == "fn"));
        let data = schema.object(&format!("{}-data", spec.name), common.chain(spec.data));
        schema.0.push(json!({"name": spec.name, "meta-type": "event", "arg-type": data}));
    }
    Value::Array(schema.0)
}

#[derive(Default)]
struct Schema(Vec<Value>);

impl Schema {
    /// Adds the object type of these members and returns its name.
    fn object<'a>(&mut self, name: &str, members: impl Iterator<Item = &'a ArgumentSpec>) -> String {
        let members: Vec<Value> = members.map(|member| self.member(name, member)).collect();
        if members.is_empty() {
            return EMPTY.to_owned();
        }
        self.0.push(json!({"name": name, "meta-type": "object", "members": members}));
        name.to_owned()
    }

    fn member(&mut self, object: &str, member: &ArgumentSpec) -> Value {
        let kind = match member.kind {
            ArgumentType::Boolean => "bool".to_owned(),
            ArgumentType::Integer => "int".to_owned(),
            ArgumentType::Size => "size".to_owned(),
            ArgumentType::String => "str".to_owned(),
            ArgumentType::Strings => "[str]".to_owned(),
            ArgumentType::Object => "any".to_owned(),
            ArgumentType::Objects => "[any]".to_owned(),
            ArgumentType::ObjectOrObjects => "actions".to_owned(),
            ArgumentType::OneOf(words) => {
                let name = format!("{object}-{}", member.name);
                let members: Vec<Value> = words.iter().map(|word| json!({"name": word})).collect();
                self.0.push(json!({
                    "name": name,
                    "meta-type": "enum",
                    "members": members,
                    "values": words,
                }));
                name
            }
        };
        // "default": null is how QAPI says that a member is optional.
        match member.optional {
            true => json!({"name": member.name, "type": kind, "default": null}),
            false => json!({"name": member.name, "type": kind}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_type_that_is_named_is_described_once_and_every_command_and_event_is_there() {
        let schema = query_qmp_schema();
        let entries = schema.as_array().unwrap();
        let names: HashSet<&str> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), entries.len());
        for entry in entries {
            let own = ["arg-type", "ret-type", "element-type"].map(|key| entry[key].as_str());
            let members = entry["members"].as_array().into_iter().flatten();
            let of_members = members.map(|member| member["type"].as_str());
            for name in own.into_iter().chain(of_members).flatten() {
                assert!(names.contains(name), "{name} in {entry}");
            }
        }
        assert!(COMMANDS.iter().all(|spec| names.contains(spec.name)));
        assert!(EVENTS.iter().all(|spec| names.contains(spec.name)));
    }

    #[test]
    fn optional_member_has_a_default_and_a_rule_hit_has_no_function() {
        let schema = query_qmp_schema();
        let entry = |name: &str| {
            schema.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone()
        };
        let members = entry("card-insert-arguments")["members"].as_array().unwrap().clone();
        let kind = members.iter().find(|member| member["name"] == "kind").unwrap();
        assert_eq!(*kind, json!({"name": "kind", "type": "card-insert-arguments-kind"}));
        assert_eq!(entry("card-insert-arguments-kind")["values"], json!(["sd", "sd-express", "none"]));
        let image = members.iter().find(|member| member["name"] == "image").unwrap();
        assert_eq!(*image, json!({"name": "image", "type": "str", "default": null}));
        assert_eq!(entry("quit")["arg-type"], "empty");
        let hit = entry("RULE_HIT-data");
        assert!(hit["members"].as_array().unwrap().iter().all(|member| member["name"] != "fn"));
    }
}
