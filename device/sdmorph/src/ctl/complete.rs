//! How a command line of `sdmorph ctl` may go on: commands, arguments, words, events, registers, rules.
//!
//! The names of rules come from a server, if one runs at the default place; all else is known without one.

use std::collections::BTreeSet;
use std::time::Duration;

use clap_complete::Shell;
use sdmorph_control::{ArgumentType, Client, JsonObject, command_spec};
use serde_json::Value;

use super::{COMMANDS, EVENTS, WATCH};
use crate::serve::places;
use crate::{Failure, output};

/// Flags whose value is a word of its own, unless it stands behind a `=`.
const FLAGS_WITH_VALUES: &[&str] = &["--socket", "--timeout", "--log", "--log-format"];

/// A person waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints how the last word of the line may go on, one word a line.
pub(crate) fn run(line: &str) -> Result<(), Failure> {
    let words = candidates(line, rules).into_iter().map(|word| word + "\n");
    output::print(&words.collect::<String>())
}

fn candidates(line: &str, rules: impl FnOnce() -> Vec<String>) -> BTreeSet<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let last = if line.ends_with(char::is_whitespace) { "" } else { words.pop().unwrap_or_default() };
    // The program and `ctl`; flags are completed by the shell's own script, and are not of interest, nor their values.
    let mut is_value = false;
    let mut words = words.into_iter().skip(2).filter(|word| {
        let is_named = !std::mem::replace(&mut is_value, FLAGS_WITH_VALUES.contains(word));
        is_named && !word.starts_with('-')
    });
    let all: Vec<String> = match words.next() {
        None => {
            let commands = sdmorph_control::COMMANDS.iter().map(|spec| spec.name);
            commands.chain([COMMANDS, EVENTS, WATCH]).map(str::to_owned).collect()
        }
        Some(EVENTS) => sdmorph_control::EVENTS.iter().map(|spec| spec.name.to_owned()).collect(),
        Some(WATCH) => paths(),
        Some(command) => arguments(command, last, &words.collect::<Vec<_>>(), rules),
    };
    all.into_iter().filter(|word| word.starts_with(last)).collect()
}

fn arguments(command: &str, last: &str, given: &[&str], rules: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let Some(spec) = command_spec(command) else { return Vec::new() };
    let Some((key, _)) = last.split_once('=') else {
        let is_given = |name: &str| given.iter().any(|word| word.split('=').next() == Some(name));
        let names = spec.arguments.iter().map(|argument| argument.name);
        return names.filter(|name| !is_given(name)).map(|name| format!("{name}=")).collect();
    };
    let Some(argument) = spec.arguments.iter().find(|argument| argument.name == key) else {
        return Vec::new();
    };
    let values: Vec<String> = match (command, argument.kind) {
        ("query-status", _) => paths(),
        ("rule-remove", _) => rules(),
        (_, ArgumentType::OneOf(words)) => words.iter().map(|word| (*word).to_owned()).collect(),
        (_, ArgumentType::Boolean) => vec!["true".to_owned(), "false".to_owned()],
        _ => Vec::new(),
    };
    values.into_iter().map(|value| format!("{key}={value}")).collect()
}

/// Paths of the status that name a register, and a few more.
fn paths() -> Vec<String> {
    let tables = sdmorph_machine::names::tables();
    let registers = tables
        .iter()
        .flat_map(|table| table.rows.iter().map(move |row| format!("{}.{}", table.function, row.name)));
    let others =
        ["phase", "card", "medium", "counters", "faults", "slot", "slot.link-active", "slot.present"];
    registers.chain(others.map(str::to_owned)).collect()
}

/// The rules of a server at the default place. None if there is none.
fn rules() -> Vec<String> {
    let ask = || {
        let path = places::directory().join(places::CONTROL);
        Client::connect(&path, PATIENCE)?.execute("query-rules", JsonObject::new())
    };
    let Ok(Value::Array(rules)) = ask() else { return Vec::new() };
    rules.iter().filter_map(|rule| rule.get("rule")?.get("name")?.as_str().map(str::to_owned)).collect()
}

/// What goes after the script that knows the flags.
pub(crate) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => "",
    }
}

const BASH: &str = r#"
_sdmorph_ctl() {
    local line=${COMP_LINE:0:COMP_POINT} candidate candidates word strip=
    if [[ $line =~ ^[^[:space:]]+[[:space:]]+ctl[[:space:]] ]]; then
        candidates=$("$1" complete "$line" 2>/dev/null)
        if [[ -n $candidates ]]; then
            word=${line##*[[:space:]]}
            # What is before a word break is not replaced.
            if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
                strip=${word%%=*}=
            fi
            COMPREPLY=()
            while IFS= read -r candidate; do
                COMPREPLY+=("${candidate#"$strip"}")
            done <<<"$candidates"
            if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
                compopt -o nospace 2>/dev/null
            fi
            return 0
        fi
    fi
    _sdmorph "$@"
}
complete -F _sdmorph_ctl -o bashdefault -o default sdmorph
"#;

const ZSH: &str = r#"
_sdmorph_ctl() {
    if [[ $LBUFFER =~ '^[^[:space:]]+[[:space:]]+ctl[[:space:]]' ]]; then
        local -a candidates
        candidates=("${(@f)$(sdmorph complete "$LBUFFER" 2>/dev/null)}")
        if [[ -n ${candidates[1]} ]]; then
            compadd -- $candidates
            return
        fi
    fi
    _sdmorph "$@"
}
compdef _sdmorph_ctl sdmorph
"#;

const FISH: &str = r#"
complete -c sdmorph -n '__fish_seen_subcommand_from ctl' -f -a '(sdmorph complete (commandline -cp))'
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let rules = || vec!["bar-dies".to_owned(), "link-falls".to_owned()];
        candidates(line, rules).into_iter().collect()
    }

    #[test]
    fn commands_arguments_words_and_names_are_completed() {
        assert_eq!(complete("sdmorph ctl card-e"), ["card-eject"]);
        assert_eq!(complete("sdmorph ctl --json wa"), ["watch"]);
        assert_eq!(complete("sdmorph ctl --socket /x.sock link-set "), ["up="]);
        assert_eq!(complete("sdmorph ctl --socket=/x.sock --timeout 5 link-set "), ["up="]);
        assert_eq!(complete("sdmorph ctl link-set "), ["up="]);
        assert_eq!(complete("sdmorph ctl link-set up="), ["up=false", "up=true"]);
        assert_eq!(complete("sdmorph ctl card-insert kind=sd"), ["kind=sd", "kind=sd-express"]);
        assert!(!complete("sdmorph ctl card-insert kind=sd ").contains(&"kind=".to_owned()));
        assert_eq!(complete("sdmorph ctl rule-remove name=b"), ["name=bar-dies"]);
        assert_eq!(complete("sdmorph ctl query-status path=reader.HAI"), ["path=reader.HAIMR"]);
        assert_eq!(complete("sdmorph ctl watch nvme.CST"), ["nvme.CSTS"]);
        assert_eq!(complete("sdmorph ctl events LINK"), ["LINK_DOWN", "LINK_UP"]);
        assert!(complete("sdmorph ctl no-such-command x").is_empty());
    }
}
