//! The commands and their arguments, as types.
//!
//! Names and arguments are described once more, for people and for good error messages, in [`crate::COMMANDS`]; a
//! test holds the two together.

use serde::{Deserialize, Serialize};

use crate::size::Size;

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
    /// `card-prepare`: keeps a card at hand, for rules that insert it.
    CardPrepare(CardInsertArgs),
    /// `card-corrupt`: disturbs the card in the reader, as a worn or badly seated one would be.
    CardCorrupt(CardCorruptArgs),
    /// `over-current`: the card draws too much current.
    OverCurrent,
    /// `inject`: does the actions of a rule at once; the reply is a [`crate::RuleAdded`].
    Inject(InjectArgs),
    /// `query-status`: the device, or a part of it, as a JSON tree with register names.
    QueryStatus(QueryStatusArgs),
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
    /// `query-qmp-schema`: commands and events as QMP describes them. The server carries it out itself.
    QueryQmpSchema,
    /// `query-version`: the version of the greeting. The server carries it out itself.
    QueryVersion,
    /// `marker`: writes a line of text into the flight record.
    Marker(MarkerArgs),
    /// `record-start`: has the flight record written to a file.
    RecordStart(RecordStartArgs),
    /// `record-stop`: ends that.
    RecordStop,
    /// `record-dump`: what of the flight record is in memory.
    RecordDump(RecordDumpArgs),
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

/// Arguments of `card-insert` and `card-prepare`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CardInsertArgs {
    /// What goes into the reader.
    pub kind: CardKind,
    /// The file that keeps the card's blocks. Without one they are in memory, and gone with the card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The file's format; it is looked for in the file if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
    /// The card's size, without an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Nothing on the card can be changed: the image is opened for reading only, and the card says so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// The switch on the card's edge is at "lock".
    #[serde(default, skip_serializing_if = "is_false")]
    pub write_protect: bool,
    /// The card's serial number, in its CID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
}

impl CardInsertArgs {
    /// A card of this kind, with everything else left out.
    pub fn new(kind: CardKind) -> Self {
        Self {
            kind,
            image: None,
            format: None,
            size: None,
            read_only: false,
            write_protect: false,
            serial: None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference.
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// How an image keeps blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// `raw`: block after block.
    Raw,
    /// `qcow2`: QEMU's format.
    Qcow2,
}

/// What can be put into the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardKind {
    /// `sd`: an SD card.
    Sd,
    /// `sd-express`: an SD 7.0 card, which answers CMD8 with its PCIe bits.
    SdExpress,
    /// `none`: an empty adapter. The presence switch closes, but no card answers.
    None,
}

/// Arguments of `card-corrupt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CardCorruptArgs {
    /// What is done to the card.
    pub what: Corruption,
    /// How many responses, commands or transfers it meets; 1 if left out. Not for `busy`, `bad-blocks` and `heal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// With `busy`, and needed there: for how long, such as `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// With `bad-blocks`, and needed there: the first block, of 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// With `bad-blocks`: how many; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// What can be done to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corruption {
    /// `response-crc`: responses with a wrong CRC7.
    ResponseCrc,
    /// `response-timeout`: commands without a response.
    ResponseTimeout,
    /// `data-crc`: data with a wrong CRC16.
    DataCrc,
    /// `data-timeout`: no data.
    DataTimeout,
    /// `busy`: DAT0 is held low for a time.
    Busy,
    /// `bad-blocks`: blocks that cannot be read or written.
    BadBlocks,
    /// `heal`: takes all of these back.
    Heal,
}

/// Arguments of `inject`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InjectArgs {
    /// An action or a list of them, as a rule's `do` has them.
    pub r#do: serde_json::Value,
    /// By which name it stands in the record; `injected` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Arguments of `query-status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QueryStatusArgs {
    /// Which part of the tree: see [`crate::find_path`]. All of it if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Arguments of `record-start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecordStartArgs {
    /// The file, which is made.
    pub file: String,
    /// Whether what is in memory comes first. True unless it is given.
    #[serde(default = "true_unless_told_otherwise")]
    pub past: bool,
}

/// Arguments of `record-dump`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecordDumpArgs {
    /// The file, which is made. The entries are the reply if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many of the newest entries; all with a file, 100 without, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
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
    #[serde(default = "true_unless_told_otherwise")]
    pub replace: bool,
}

fn true_unless_told_otherwise() -> bool {
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
