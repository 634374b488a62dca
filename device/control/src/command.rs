//! The commands and their arguments, as types.
//!
//! Names and arguments are described once more, for people and for good error messages, in [`crate::COMMANDS`]; a
//! test holds the two together.

use serde::{Deserialize, Serialize};

/// A JSON object, as rules and arguments are passed on.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// A command whose arguments have the right names and types. Whether they make sense is the handler's to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "execute", content = "arguments", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// `qmp_capabilities`: ends the negotiation. The server carries it out itself.
    #[serde(rename = "qmp_capabilities")]
    QmpCapabilities(CapabilitiesArgs),
    /// `card-insert`: puts a card, or an empty adapter, into the reader.
    CardInsert(CardInsertArgs),
    /// `card-eject`: takes out whatever is in the reader.
    CardEject,
    /// `query-status`: the whole device as one JSON tree with register names.
    QueryStatus,
    /// `rule-add`: adds a fault rule; the reply is a [`crate::RuleAdded`].
    RuleAdd(RuleAddArgs),
    /// `rule-remove`: removes a fault rule.
    RuleRemove(RuleRemoveArgs),
    /// `query-rules`: the fault rules with their counters.
    QueryRules,
    /// `scenario-load`: loads a set of rules at once.
    ScenarioLoad(ScenarioLoadArgs),
    /// `link-set`: takes the slot's link down or up.
    LinkSet(LinkSetArgs),
    /// `query-commands`: the table of commands. The server carries it out itself.
    QueryCommands,
    /// `query-version`: the version of the greeting. The server carries it out itself.
    QueryVersion,
    /// `marker`: writes a line of text into the flight record.
    Marker(MarkerArgs),
    /// `quit`: ends the server, after the reply.
    Quit,
}

/// Arguments of `qmp_capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CapabilitiesArgs {
    /// Capabilities to enable. The server offers none, so that only an empty list is accepted.
    #[serde(default)]
    pub enable: Vec<String>,
}

/// Arguments of `card-insert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CardInsertArgs {
    /// What goes into the reader.
    pub kind: CardKind,
}

/// What can be put into the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardKind {
    /// `sd-express`: an SD 7.0 card, which answers CMD8 with its PCIe bits.
    SdExpress,
    /// `none`: an empty adapter. The presence switch closes, but no card answers.
    None,
}

/// Arguments of `rule-add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleAddArgs {
    /// The rule, in the form that the device's fault rules have in a scenario.
    pub rule: JsonObject,
}

/// Arguments of `rule-remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleRemoveArgs {
    /// The rule's name, as `rule-add` returned it or `query-rules` lists it.
    pub name: String,
}

/// Arguments of `scenario-load`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScenarioLoadArgs {
    /// The scenario's name, for the flight record.
    pub name: String,
    /// The rules; either all of them are added or none is.
    pub rules: Vec<JsonObject>,
    /// Whether all rules of before are removed first. True unless it is given.
    #[serde(default = "replace_unless_told_otherwise")]
    pub replace: bool,
}

fn replace_unless_told_otherwise() -> bool {
    true
}

/// Arguments of `link-set`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinkSetArgs {
    /// True brings the link up, false takes it down.
    pub up: bool,
}

/// Arguments of `marker`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MarkerArgs {
    /// The text, as it is to stand in the record.
    pub text: String,
}
