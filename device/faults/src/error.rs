//! What is wrong with a rule, in words for the person who wrote it.

use crate::nearest::Nearest;

/// Why a rule was refused. The text says which rule, where in it, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The rule's form is wrong: an unknown key, a missing one, or a value that is not what its place needs.
    #[error("{}{message}", prefix(rule.as_deref()))]
    Malformed {
        /// The rule's name, where it could be read.
        rule: Option<String>,
        /// Place and fault.
        message: String,
    },
    /// A register, function, event, phase, command, status, message or rule that does not exist.
    #[error("rule {rule:?}: {place}: no {kind} {word:?}{nearest}")]
    UnknownName {
        /// The rule.
        rule: String,
        /// Where in the rule.
        place: Box<str>,
        /// What kind of name it is, such as `register` or `event`.
        kind: &'static str,
        /// The name as written.
        word: String,
        /// The names nearest to it.
        nearest: Nearest,
    },
    /// The function has no register of that name, but others have.
    #[error(
        "rule {rule:?}: {place}: function {function:?} has no register {register:?}, but {} has",
        alternatives(functions)
    )]
    NotInFunction {
        /// The rule.
        rule: String,
        /// Where in the rule.
        place: Box<str>,
        /// The register.
        register: String,
        /// The function that the rule names.
        function: String,
        /// The functions that have it.
        functions: Vec<String>,
    },
    /// Several functions have a register of that name.
    #[error(
        "rule {rule:?}: {place}: register {register:?} is in more than one function; add function = {}",
        alternatives(functions)
    )]
    AmbiguousRegister {
        /// The rule.
        rule: String,
        /// Where in the rule.
        place: Box<str>,
        /// The register.
        register: String,
        /// The functions that have it.
        functions: Vec<String>,
    },
    /// A value or a mask has bits that what it is compared with does not have.
    #[error("rule {rule:?}: {place}: {what} {value:#x} does not fit {target}, which is {size_bytes} byte{} wide", plural(*size_bytes))]
    TooWide {
        /// The rule.
        rule: String,
        /// Where in the rule.
        place: Box<str>,
        /// `value` or `mask`.
        what: &'static str,
        /// The number that does not fit.
        value: u64,
        /// What it is compared with: a register's name, or the argument of a command.
        target: String,
        /// Its width.
        size_bytes: u8,
    },
    /// `stuck-busy` without a mask on a register that has no busy bit in its table.
    #[error(
        "rule {rule:?}: {place}: register {register:?} has no known busy bit; say which bits: stuck-busy = {{ register = {register:?}, mask = 0x… }}"
    )]
    NoBusyBit {
        /// The rule.
        rule: String,
        /// Where in the rule.
        place: Box<str>,
        /// The register.
        register: String,
    },
    /// The action needs what the slot or its port is not equipped with.
    #[error(
        "rule {rule:?}: do.{action}: the slot is without {word}; `--slot {word}` gives it one, or in a scenario [device.slot] {} = true",
        word.replace('-', "_")
    )]
    NotEquipped {
        /// The rule.
        rule: String,
        /// The action's key.
        action: &'static str,
        /// What is missing, as [`sdmorph_pci::port::Equipment::WORDS`] has it.
        word: &'static str,
    },
    /// A rule of this name is there already.
    #[error("rule {rule:?}: there is a rule of this name already; remove it first or choose another name")]
    Duplicate {
        /// The rule.
        rule: String,
    },
    /// Rules that wait for each other's hit and so can never have one.
    #[error(
        "rules {} wait for each other and can never hit; one of them needs another trigger",
        chain(rules)
    )]
    Cycle {
        /// The rules, in the order they wait.
        rules: Vec<String>,
    },
    /// Rules whose actions bring about their own triggers at once, without end.
    #[error(
        "rules {} could set each other off without end; give one of them a delay, times or nth",
        chain(rules)
    )]
    Endless {
        /// The rules, in the order they set each other off.
        rules: Vec<String>,
    },
    /// More rules than the engine holds.
    #[error("there are too many rules; the limit is {limit}")]
    TooMany {
        /// How many it holds.
        limit: usize,
    },
    /// More latencies of recorded traces than the engine holds.
    #[error("there are too many latencies in the traces of all rules together; the limit is {limit}")]
    TooManyLatencies {
        /// How many it holds.
        limit: usize,
    },
    /// A rule that others are chained to cannot be removed.
    #[error("rule {rule:?} cannot be removed: rule {by:?} waits for it; remove that one first")]
    InUse {
        /// The rule.
        rule: String,
        /// One of those that wait for its hits.
        by: String,
    },
    /// There is no rule of this name to remove.
    #[error("no rule {rule:?}{nearest}")]
    NoSuchRule {
        /// The name as given.
        rule: String,
        /// The names nearest to it.
        nearest: Nearest,
    },
}

impl RuleError {
    /// The rule that is wrong, where it is one rule and has a name.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Malformed { rule, .. } => rule.as_deref(),
            Self::UnknownName { rule, .. }
            | Self::NotInFunction { rule, .. }
            | Self::AmbiguousRegister { rule, .. }
            | Self::TooWide { rule, .. }
            | Self::NoBusyBit { rule, .. }
            | Self::NotEquipped { rule, .. }
            | Self::Duplicate { rule }
            | Self::InUse { rule, .. }
            | Self::NoSuchRule { rule, .. } => Some(rule),
            Self::Cycle { rules } | Self::Endless { rules } => rules.first().map(String::as_str),
            Self::TooMany { .. } | Self::TooManyLatencies { .. } => None,
        }
    }

    /// Where in the rule it is wrong: keys from the outside to the inside, such as `on.delay` or `do[1].link`. Empty if it
    /// is the rule as a whole.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            // Its message begins with the place.
            Self::Malformed { message, .. } => message.split(": ").next().unwrap_or_default(),
            Self::UnknownName { place, .. }
            | Self::NotInFunction { place, .. }
            | Self::AmbiguousRegister { place, .. }
            | Self::TooWide { place, .. }
            | Self::NoBusyBit { place, .. } => place,
            Self::NotEquipped { .. } => "do",
            Self::Duplicate { .. }
            | Self::Cycle { .. }
            | Self::Endless { .. }
            | Self::TooMany { .. }
            | Self::TooManyLatencies { .. }
            | Self::InUse { .. }
            | Self::NoSuchRule { .. } => "",
        }
    }
}

fn prefix(rule: Option<&str>) -> String {
    rule.map(|name| format!("rule {name:?}: ")).unwrap_or_default()
}

fn plural(count: u8) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn alternatives(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}

/// The names with arrows, and the first one again at the end.
fn chain(rules: &[String]) -> String {
    rules.iter().chain(rules.first()).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" -> ")
}
