//! `sdmorph ctl watch`: what changes in the status, and events.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use sdmorph_control::{Client, ClientError, JsonObject};
use serde_json::{Value, json};

use super::{failed, show, show_event};
use crate::arguments::CtlOptions;
use crate::{Failure, output};

/// Between two looks at the status, if no event makes it sooner.
const INTERVAL: Duration = Duration::from_millis(500);
/// What changes with every look, or with every access.
const RESTLESS: &[&str] = &["time-ns", "records"];

/// Watches until the server ends.
pub(super) fn run(client: &mut Client, options: &CtlOptions) -> Result<(), Failure> {
    let mut arguments = JsonObject::new();
    let path = match options.arguments.as_slice() {
        [] => "",
        [path] => path,
        _ => return Err(Failure::BadInput(anyhow!("one path at the most can be watched"))),
    };
    if !path.is_empty() {
        arguments.insert("path".to_owned(), json!(path));
    }
    let mut before: Option<BTreeMap<String, Value>> = None;
    loop {
        let status = match client.execute("query-status", arguments.clone()) {
            Err(ClientError::Closed) => return Ok(()),
            status => status.map_err(failed)?,
        };
        if before.is_none() && !arguments.is_empty() {
            show(&status, options.json)?;
        }
        let now = leaves(path, &status);
        for change in before.as_ref().map(|before| changes(before, &now)).unwrap_or_default() {
            print(&change, options.json)?;
        }
        before = Some(now);
        let mut wait = INTERVAL;
        loop {
            match client.next_event(Some(wait)) {
                Ok(Some(event)) => show_event(&event, options.json)?,
                Ok(None) => break,
                Err(ClientError::Closed) => return Ok(()),
                Err(error) => return Err(Failure::Failed(error.into())),
            }
            // Those that are there already, and then a look at what they have changed.
            wait = Duration::ZERO;
        }
    }
}

struct Change {
    path: String,
    from: Option<Value>,
    to: Option<Value>,
}

fn print(Change { path, from, to }: &Change, json: bool) -> Result<(), Failure> {
    if json {
        return output::print(&format!("{}\n", json!({"path": path, "from": from, "to": to})));
    }
    let text = |value: &Option<Value>| value.as_ref().map_or("(none)".to_owned(), Value::to_string);
    output::print(&format!("{path}: {} -> {}\n", text(from), text(to)))
}

/// Everything in a tree, which is at `root`, that has nothing below it, by its path.
fn leaves(root: &str, tree: &Value) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    let mut left = vec![(root.to_owned(), tree)];
    while let Some((path, value)) = left.pop() {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                let members =
                    map.iter().filter(|(key, _)| !path.is_empty() || !RESTLESS.contains(&key.as_str()));
                left.extend(members.map(|(key, value)| (below(key), value)));
            }
            Value::Array(items) if !items.is_empty() => {
                left.extend(items.iter().enumerate().map(|(at, value)| (below(&at.to_string()), value)));
            }
            leaf => drop(leaves.insert(path, leaf.clone())),
        }
    }
    leaves
}

fn changes(before: &BTreeMap<String, Value>, now: &BTreeMap<String, Value>) -> Vec<Change> {
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    now.keys()
        .chain(gone)
        .map(|path| Change {
            path: path.clone(),
            from: before.get(path).cloned(),
            to: now.get(path).cloned(),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_told_by_its_path_and_what_changes_always_is_not() {
        let before = leaves("", &json!({"time-ns": 1, "slot": {"up": true, "list": [1, 2]}, "card": null}));
        let now = leaves("", &json!({"time-ns": 2, "slot": {"up": false, "list": [1]}, "card": "sd"}));
        let told: Vec<_> =
            changes(&before, &now).into_iter().map(|change| (change.path, change.from, change.to)).collect();
        let some = |value: Value| Some(value);
        assert_eq!(
            told,
            [
                ("card".to_owned(), some(Value::Null), some(json!("sd"))),
                ("slot.up".to_owned(), some(json!(true)), some(json!(false))),
                ("slot.list.1".to_owned(), some(json!(2)), None),
            ]
        );
    }
}
