//! The lanes of the time line: what there is to draw, where, and how. The page, the picture and the trace have the same.

use crate::evidence::Row;

/// Where something is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lane {
    Pciehp,
    Remove,
    Idle,
    Bar,
    Link,
    Presence,
}

/// A lane: its name, and what is in it.
#[derive(Debug)]
pub(crate) struct LaneRow {
    pub(crate) name: &'static str,
    /// What that is, for who asks.
    pub(crate) about: &'static str,
    pub(crate) content: Content,
    /// Whether the still picture has it.
    pub(crate) still: bool,
}

/// What is in a lane.
#[derive(Debug)]
pub(crate) enum Content {
    Spans(Lane),
    Ticks(&'static [Kind]),
    /// Lines of the guest's log.
    Log,
}

const fn row(name: &'static str, about: &'static str, content: Content, still: bool) -> LaneRow {
    LaneRow { name, about, content, still }
}

/// All lanes, from top to bottom: the guest's kernel, the BAR, the slot, and the rest of the device.
pub(crate) static LANES: [LaneRow; 18] = [
    row(
        "pciehp thread",
        "handles the slot's event, and removes the reader",
        Content::Spans(Lane::Pciehp),
        false,
    ),
    row(
        "removal",
        "until .remove is at the BAR, and from there until the reader has gone",
        Content::Spans(Lane::Remove),
        true,
    ),
    row(
        "idle callback",
        "rtsx_pci_runtime_idle, in the pm workqueue's worker",
        Content::Spans(Lane::Idle),
        true,
    ),
    row("kernel log", "lines of the guest's log", Content::Log, false),
    row("reads, answered", "reads of a BAR that a register answered", Content::Ticks(&[Kind::Read]), true),
    row("reads, dead", "reads of a BAR that has gone: all-ones", Content::Ticks(&[Kind::DeadRead]), true),
    row("writes, answered", "writes to a BAR that a register took", Content::Ticks(&[Kind::Write]), true),
    row("writes, lost", "writes to a BAR that has gone", Content::Ticks(&[Kind::LostWrite]), true),
    row("BAR", "whether the BAR answers", Content::Spans(Lane::Bar), true),
    row("link", "the slot's link (DLLLA)", Content::Spans(Lane::Link), true),
    row("presence", "what the slot says of a card in it (PDS)", Content::Spans(Lane::Presence), true),
    row(
        "slot registers",
        "pciehp's accesses to SLTSTA, SLTCTL, LNKSTA, LNKCTL",
        Content::Ticks(&[Kind::Slot]),
        true,
    ),
    row("interrupts", "messages sent", Content::Ticks(&[Kind::Interrupt]), true),
    row("DMA", "to and from the guest's memory", Content::Ticks(&[Kind::Dma, Kind::DmaFailed]), true),
    row("rules", "hits of the scenario's rules", Content::Ticks(&[Kind::Rule]), true),
    row("commands", "of the card's or the NVMe interface", Content::Ticks(&[Kind::Command]), false),
    row(
        "events, markers",
        "what happened in the device, and what somebody noted",
        Content::Ticks(&[Kind::Event, Kind::Marker]),
        false,
    ),
    row(
        "config, internal",
        "configuration space, and the reader's internal registers",
        Content::Ticks(&[Kind::Config, Kind::Internal]),
        false,
    ),
];

/// The name of a virtual processor's lane, which a run has that was traced. They stand above all others.
pub(crate) fn cpu_name(cpu: u32) -> String {
    format!("vCPU {cpu}")
}

/// How a span is drawn. No two differ by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Look {
    /// Something runs, or is there: filled.
    Solid,
    /// Something waits: hatched one way.
    Waiting,
    /// Something runs on what has gone: cross-hatched, with a thick border.
    Broken,
    /// Something is not there: an empty frame.
    Gone,
}

/// What an entry of the record is, for whoever draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read = 0,
    DeadRead = 1,
    Write = 2,
    LostWrite = 3,
    Internal = 4,
    Config = 5,
    /// What pciehp does at the port: slot status and control, link status.
    Slot = 6,
    Interrupt = 7,
    Dma = 8,
    DmaFailed = 9,
    Command = 10,
    Event = 11,
    Rule = 12,
    Marker = 13,
}

impl Kind {
    pub(crate) fn of(row: &Row) -> Self {
        match row.kind.as_str() {
            "access" if row.is_memory() => match (row.is_read(), row.is_lost()) {
                (true, false) => Self::Read,
                (true, true) => Self::DeadRead,
                (false, false) => Self::Write,
                (false, true) => Self::LostWrite,
            },
            "access" if row.space.as_deref() == Some("internal") => Self::Internal,
            "access" => {
                let slot = ["SLTSTA", "SLTCTL", "LNKSTA", "LNKCTL"];
                let of_slot = row.reg.as_deref().is_some_and(|reg| slot.contains(&reg));
                if of_slot && row.function.as_deref() == Some("port") { Self::Slot } else { Self::Config }
            }
            "interrupt" => Self::Interrupt,
            "dma" if row.error.is_some() => Self::DmaFailed,
            "dma" => Self::Dma,
            "command" => Self::Command,
            "rule" => Self::Rule,
            "marker" => Self::Marker,
            _ => Self::Event,
        }
    }
}
