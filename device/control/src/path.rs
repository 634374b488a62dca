//! A part of the status tree, by a path.

use std::collections::VecDeque;

use serde_json::Value;

use crate::nearest::{did_you_mean, quoted};

/// What is at `path`, names joined by dots, in `tree`.
///
/// Each name is looked for below the one before it, the nearest first, so that levels can be left out: `reader.BIPR` is
/// `vmd.port.slot.function.state.bar0.BIPR`. An object that has a `name` is found by that, too. Entries of an array are
/// numbers, from 0.
///
/// # Errors
/// A sentence with the name that is not there and the nearest ones that are, or with the places that it may mean.
pub fn find_path<'a>(tree: &'a Value, path: &str) -> Result<&'a Value, String> {
    let mut at = tree;
    let mut walked = String::new();
    for name in path.split('.') {
        let found = look(at, name);
        at = match found.as_slice() {
            [(_, only)] => only,
            [] => {
                let below = names_below(at);
                let near = did_you_mean(name, below.iter().map(String::as_str));
                let place = if walked.is_empty() { "the status".to_owned() } else { quoted(&walked) };
                return Err(format!("Parameter 'path': there is no {} in {place}{near}", quoted(name)));
            }
            several => {
                let places: Vec<_> = several.iter().map(|(place, _)| place.as_str()).collect();
                return Err(format!(
                    "Parameter 'path': {} is in more than one place: '{}'",
                    quoted(name),
                    places.join("', '")
                ));
            }
        };
        if !walked.is_empty() {
            walked.push('.');
        }
        walked.push_str(name);
    }
    Ok(at)
}

/// The members of an object or array, with their names.
fn members(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    }
}

/// Where `name` is below `tree`, all places that are equally near.
fn look<'a>(tree: &'a Value, name: &str) -> Vec<(String, &'a Value)> {
    let mut level = VecDeque::from([(String::new(), tree)]);
    while !level.is_empty() {
        let mut found = Vec::new();
        let mut below = VecDeque::new();
        for (place, value) in level {
            for (key, member) in members(value) {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                if key == name || member.get("name").and_then(Value::as_str) == Some(name) {
                    found.push((place, member));
                } else {
                    below.push_back((place, member));
                }
            }
        }
        if !found.is_empty() {
            return found;
        }
        level = below;
    }
    Vec::new()
}

fn names_below(tree: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut left = vec![tree];
    while let Some(value) = left.pop() {
        for (key, member) in members(value) {
            if value.is_object() {
                names.push(key);
            }
            names.extend(member.get("name").and_then(Value::as_str).map(str::to_owned));
            left.push(member);
        }
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tree() -> Value {
        json!({
            "phase": "reader",
            "vmd": {
                "config": {"COMMAND": "0x0006"},
                "port": {
                    "config": {"COMMAND": "0x0007"},
                    "slot": {
                        "link-active": true,
                        "function": {"name": "reader", "state": {
                            "bar0": {"BIPR": "0x1", "SAME": 1},
                            "internal": {"registers": {"BCTL": "0x00"}, "SAME": 2},
                        }},
                    },
                },
                "msix": [{"masked": true}, {"masked": false}],
            },
        })
    }

    #[test]
    fn levels_can_be_left_out_and_functions_are_found_by_name() {
        let tree = tree();
        for (path, value) in [
            ("phase", json!("reader")),
            ("vmd.port.slot.link-active", json!(true)),
            ("slot.link-active", json!(true)),
            ("reader.BIPR", json!("0x1")),
            ("reader.registers.BCTL", json!("0x00")),
            ("COMMAND", json!("0x0006")),
            ("port.COMMAND", json!("0x0007")),
            ("msix.1.masked", json!(false)),
        ] {
            assert_eq!(find_path(&tree, path), Ok(&value), "{path}");
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_nearest_and_one_of_several_places_with_all() {
        let tree = tree();
        let refusal = |path| find_path(&tree, path).unwrap_err();
        assert_eq!(
            refusal("slot.link"),
            "Parameter 'path': there is no 'link' in 'slot'; did you mean 'link-active'?"
        );
        assert_eq!(
            refusal("reader.BIRP"),
            "Parameter 'path': there is no 'BIRP' in 'reader'; did you mean 'BIPR'?"
        );
        assert_eq!(refusal("qqq"), "Parameter 'path': there is no 'qqq' in the status");
        assert_eq!(refusal(""), "Parameter 'path': there is no '' in the status");
        assert_eq!(refusal("phase.reader"), "Parameter 'path': there is no 'reader' in 'phase'");
        assert_eq!(
            refusal("reader.SAME"),
            "Parameter 'path': 'SAME' is in more than one place: 'state.bar0.SAME', 'state.internal.SAME'"
        );
    }
}
