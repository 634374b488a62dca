//! What becomes of the slot when a card is switched to SD Express, and taken out again: one table, [`TABLE`].
//!
//! The machine tells the table what happens ([`Input`]) and does the steps that it answers with. [`diagram`] draws the
//! table, and `docs/src/morph.md` shows it.
//!
//! Presence follows the link by itself, since the slot detects it in-band (PCIe 6.7.1: no presence without a receiver that
//! answers), and moves no phase. Nor does a card that is put in: it is in the reader, whoever is at the link, and the
//! reader's driver finds it when it can.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// One unit of the relink time that a driver programs into 0xff01..0xff03.
///
/// DEVNOTE: no public document has the unit. Linux programs 0x8fff (`rtsx_pci_sdmmc.c`); with 10 us that is 369 ms,
/// which leaves the driver the time it takes on the board of the report, whose link fell while the idle callback of
/// the 200 ms autosuspend was running.
pub const RELINK_UNIT: Duration = Duration::from_micros(10);

/// From the link's fall to the loss of in-band presence. Late enough for `Link Down` to be an event of its own, as in
/// the report.
pub const PRESENCE_LAG: Duration = Duration::from_millis(10);

/// From power for whoever is to come up, drive or reader, to a trained link. It begins when the presence of the one before
/// is gone.
///
/// DEVNOTE: how long a card or the reader takes is not published. PCIe gives a device 20 ms to begin training after its
/// fundamental reset, and 100 ms until software may send it configuration requests (6.6.1). It is the longest that it may
/// take, and well within the second that pciehp waits for a link.
pub const TRAINING: Duration = Duration::from_millis(100);

/// Where the slot is in the switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The reader is at the link. (A person or a rule may have taken that down.)
    #[default]
    Reader,
    /// The driver has asked for the switch; the link falls when the relink time is over.
    Switching,
    /// The reader has let go of the link, and the card trains as a PCIe device.
    Away,
    /// The drive is at the link.
    Drive,
    /// The reader trains.
    Returning,
}

/// Something that may move the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The driver has asked the reader's firmware to hand the link to the card.
    SwitchRequested,
    /// The relink time is over.
    RelinkOver,
    /// The link has fallen, for whatever reason.
    LinkFell,
    /// Who trains is ready.
    TrainingOver,
    /// The card has not come up: it has no PCIe interface, there is none, or a rule says so.
    TrainingFailed,
    /// The card was taken out.
    CardEjected,
    /// A function was reset. (A falling link resets too, and is seen first.)
    Reset,
    /// A person or a rule brings the link up.
    ForcedUp,
    /// A person or a rule takes the link down.
    ForcedDown,
    /// Power was off.
    PowerCycled,
}

/// Something that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The relink time begins.
    BeginRelink,
    /// The link does not fall by itself any more.
    EndRelink,
    /// The next function is powered, and trains for [`TRAINING`].
    Train,
    /// It does so no longer.
    EndTraining,
    /// The drive takes its place at the link's other end.
    PutDrive,
    /// The reader does.
    PutReader,
    /// Presence and link come up, with the lead or lag that a rule has set. A BAR that had vanished answers again.
    Connect,
    /// The link goes down; presence follows after [`PRESENCE_LAG`].
    Disconnect,
    /// The reader's firmware forgets that it was asked for the switch.
    ForgetRequest,
    /// The reader shows RTS5261_EXPRESS_LINK_FAIL.
    TellFailure,
    /// It does so no longer.
    ForgetFailure,
}

/// What an input does in a phase. What has no row does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// In which phase.
    pub phase: Phase,
    /// What happens.
    pub input: Input,
    /// The phase from then on.
    pub next: Phase,
    /// What is done, in this order.
    pub steps: &'static [Step],
}

const fn row(phase: Phase, input: Input, next: Phase, steps: &'static [Step]) -> Row {
    Row { phase, input, next, steps }
}

/// The state machine.
///
/// A link that comes up by force while nobody is at it has the reader at its end: that is who answers there without power
/// for the card. One that goes down by force stays down until it comes up by force, or the card is taken out; but while the
/// reader waits to let go of it, that is the fall that it waits for.
pub const TABLE: &[Row] = {
    use Input::*;
    use Phase::*;
    use Step::*;
    &[
        row(Reader, SwitchRequested, Switching, &[BeginRelink]),
        row(Reader, ForcedUp, Reader, &[Connect]),
        row(Reader, ForcedDown, Reader, &[Disconnect]),
        // The driver has asked again.
        row(Switching, SwitchRequested, Switching, &[BeginRelink]),
        // The fall itself is what moves on.
        row(Switching, RelinkOver, Switching, &[Disconnect]),
        // The guest may have disabled the link, and may enable it again while nobody is there.
        row(Switching, LinkFell, Away, &[EndRelink, Disconnect, Train]),
        row(Switching, CardEjected, Reader, &[EndRelink, ForgetRequest]),
        // The registers that asked for the switch are clear again.
        row(Switching, Reset, Reader, &[EndRelink]),
        row(Switching, ForcedUp, Switching, &[Connect]),
        row(Switching, ForcedDown, Switching, &[Disconnect]),
        row(Switching, PowerCycled, Reader, &[EndRelink]),
        row(Away, TrainingOver, Drive, &[PutDrive, Connect]),
        row(Away, TrainingFailed, Returning, &[TellFailure, Train]),
        row(Away, CardEjected, Returning, &[Train]),
        row(Away, ForcedUp, Reader, &[EndTraining, Connect]),
        row(Away, ForcedDown, Away, &[EndTraining, Disconnect]),
        row(Away, PowerCycled, Reader, &[EndTraining]),
        row(Drive, CardEjected, Returning, &[Disconnect, Train]),
        row(Drive, ForcedUp, Drive, &[Connect]),
        row(Drive, ForcedDown, Drive, &[Disconnect]),
        row(Drive, PowerCycled, Reader, &[PutReader]),
        row(Returning, TrainingOver, Reader, &[PutReader, Connect]),
        row(Returning, CardEjected, Returning, &[ForgetFailure]),
        row(Returning, ForcedUp, Reader, &[EndTraining, PutReader, Connect]),
        row(Returning, ForcedDown, Reader, &[EndTraining, PutReader, Disconnect]),
        row(Returning, PowerCycled, Reader, &[EndTraining, PutReader]),
    ]
};

/// The row for `input` in `phase`; `None` if it does nothing there.
#[must_use]
pub fn transition(phase: Phase, input: Input) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.phase == phase && row.input == input)
}

impl Phase {
    /// All phases.
    pub const ALL: &'static [Phase] =
        &[Phase::Reader, Phase::Switching, Phase::Away, Phase::Drive, Phase::Returning];

    /// As `query-status` and events show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Reader => "reader",
            Phase::Switching => "switching",
            Phase::Away => "away",
            Phase::Drive => "drive",
            Phase::Returning => "returning",
        }
    }
}

impl Input {
    /// All inputs.
    pub const ALL: &'static [Input] = &[
        Input::SwitchRequested,
        Input::RelinkOver,
        Input::LinkFell,
        Input::TrainingOver,
        Input::TrainingFailed,
        Input::CardEjected,
        Input::Reset,
        Input::ForcedUp,
        Input::ForcedDown,
        Input::PowerCycled,
    ];

    /// In a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Input::SwitchRequested => "switch requested",
            Input::RelinkOver => "relink time over",
            Input::LinkFell => "link fell",
            Input::TrainingOver => "training over",
            Input::TrainingFailed => "training failed",
            Input::CardEjected => "card ejected",
            Input::Reset => "reset",
            Input::ForcedUp => "link forced up",
            Input::ForcedDown => "link forced down",
            Input::PowerCycled => "power cycle",
        }
    }
}

impl Step {
    /// In a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Step::BeginRelink => "relink time begins",
            Step::EndRelink => "relink time ends",
            Step::Train => "training begins",
            Step::EndTraining => "training ends",
            Step::PutDrive => "the drive takes the link",
            Step::PutReader => "the reader takes the link",
            Step::Connect => "presence and link up",
            Step::Disconnect => "link down, then presence",
            Step::ForgetRequest => "the request is forgotten",
            Step::TellFailure => "EXPRESS_LINK_FAIL is set",
            Step::ForgetFailure => "EXPRESS_LINK_FAIL is cleared",
        }
    }
}

/// The table as a Mermaid state diagram, without what a person, a rule or the power does by force.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n    [*] --> reader\n");
    let forced = [Input::ForcedUp, Input::ForcedDown, Input::PowerCycled];
    for Row { phase, input, next, .. } in TABLE.iter().filter(|row| !forced.contains(&row.input)) {
        let _ = writeln!(text, "    {} --> {}: {}", phase.name(), next.name(), input.text());
    }
    text
}

/// The table as one of Markdown: a line for each input, a column for each phase.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| |");
    for phase in Phase::ALL {
        let _ = write!(text, " {} |", phase.name());
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Phase::ALL.len()));
    for input in Input::ALL {
        let _ = write!(text, "\n| **{}** |", input.text());
        for phase in Phase::ALL {
            text.push(' ');
            if let Some(row) = transition(*phase, *input) {
                let steps: Vec<_> = row.steps.iter().map(|step| step.text()).collect();
                if row.next != *phase {
                    let _ = write!(text, "→ **{}**: ", row.next.name());
                }
                text.push_str(&steps.join("; "));
                text.push(' ');
            }
            text.push('|');
        }
    }
    text.push('\n');
    text
}

/// Something the slot does later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Later {
    /// The relink time is over.
    RelinkOver,
    /// In-band presence follows the link down.
    PresenceGoes,
    /// The link, where it follows presence down.
    LinkGoes,
    /// Presence changes once more.
    PresenceBounces,
    /// Training is over.
    TrainingOver,
    /// Presence, where it does not come with the link.
    PresenceComes,
    /// The link, where it does not come with presence.
    LinkComes,
}

/// Presence that changes again and again, because a rule says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bouncing {
    /// Changes to come, one or more.
    pub(crate) left: u32,
    /// From one to the next.
    pub(crate) every: Duration,
}

/// When presence is detected, next to the link that comes up; and when it is lost, next to the one that goes down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Skew {
    /// In the same moment, and latched first.
    #[default]
    None,
    /// So long before.
    Lead(Duration),
    /// So long after.
    Lag(Duration),
}

/// The relink time for a register value.
#[must_use]
pub fn relink_time(register: u32) -> Duration {
    RELINK_UNIT * register
}
