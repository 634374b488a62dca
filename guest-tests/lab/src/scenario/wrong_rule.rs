//! Where in its file a rule is wrong. The device says what is wrong and with which of the rule's keys; it has not seen the
//! file.

use toml::de::{DeTable, DeValue};

use super::{Scenario, ScenarioError, Source};
use crate::misreading::Misreading;

impl Scenario {
    /// That a rule is wrong, with its line and column. `rule` counts the scenario's rules from 0; `place` is where in the
    /// rule, keys from the outside to the inside such as `on.delay` or `do[1].link`, as far as they are there.
    pub fn wrong_rule(&self, rule: usize, place: &str, message: impl Into<String>) -> ScenarioError {
        let Source { file, text, directory: _ } = &self.source;
        Misreading::at(file, text, find(text, rule, place).unwrap_or(0), message.into()).into()
    }
}

/// The byte at which the innermost key of `place` that is there begins, or the rule.
fn find(text: &str, rule: usize, place: &str) -> Option<usize> {
    let file = DeTable::parse(text).ok()?;
    let (_, rules) = member(file.get_ref(), "rule")?;
    let rule = rules.get_ref().as_array()?.get(rule)?;
    let (mut at, mut value) = (rule.span().start, rule.get_ref());
    for step in place.split('.') {
        let (name, index) = step.trim_end_matches(']').split_once('[').unwrap_or((step, ""));
        let Some((start, inner)) = value.as_table().and_then(|table| member(table, name)) else { break };
        (at, value) = (start, inner.get_ref());
        let item = index.parse::<usize>().ok().and_then(|index| value.as_array()?.get(index));
        if let Some(item) = item {
            (at, value) = (item.span().start, item.get_ref());
        }
    }
    Some(at)
}

/// A key's beginning, and its value.
fn member<'a>(table: &'a DeTable<'_>, name: &str) -> Option<(usize, &'a toml::Spanned<DeValue<'a>>)> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    Some((key.span().start, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
[[rule]]
name = "first"
on = { read = "HAIMR", delay = "5ms" }

[[rule]]
name = "second"
do = [{ link = "down" }, { bar = "vanish" }]
[rule.on]
read = "HAIMR"
[rule.on.while]
phase = ["drive", "away"]
"#;

    #[test]
    fn innermost_key_that_is_there_is_found() {
        for (rule, place, expected) in [
            (0, "on.delay", r#"delay = "5ms""#),
            (0, "on.nth", "on = {"),
            (0, "name", "name = \"first\""),
            (0, "", "[[rule]]\nname = \"first\""),
            (1, "do[1].bar", "bar = \"vanish\""),
            (1, "do[1]", "{ bar = \"vanish\""),
            (1, "on.while.phase", "phase = ["),
            (1, "on", "on]\nread"),
        ] {
            let at = find(RULES, rule, place).unwrap();
            assert!(RULES[at..].starts_with(expected), "{place}: {}", &RULES[at..]);
        }
        assert_eq!(find(RULES, 2, ""), None);
        assert_eq!(find("= broken", 0, ""), None);
    }

    #[test]
    fn error_names_file_line_and_column() {
        let shipped = Scenario::load("sd7-idle-race").unwrap();
        let rule = shipped.rules.iter().position(|rule| rule["name"].as_str() == Some("bar-dies")).unwrap();
        let message = shipped.wrong_rule(rule, "on.write", "no such register").to_string();
        let line = shipped.source.text.lines().position(|line| line.contains("L1SUB_CONFIG3")).unwrap() + 1;
        assert_eq!(message, format!("sd7-idle-race.toml:{line}:8: no such register"));
    }
}
