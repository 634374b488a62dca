//! The command table (4.7.4). A command that has no row here is illegal, as is one whose row does not have the card's
//! state (4.8, Table 4-35).

use std::time::Duration;

use crate::card::MemoryCard;
use crate::state::{State, States};

/// How a command is addressed and whether data follows (4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Broadcast, no response.
    Bc,
    /// Broadcast with response.
    Bcr,
    /// Addressed, no data.
    Ac,
    /// Addressed, with data.
    Adtc,
}

/// The response's format (4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// None.
    None,
    /// Card status.
    R1,
    /// Card status, then busy on DAT0.
    R1b,
    /// CID.
    R2Cid,
    /// CSD.
    R2Csd,
    /// OCR, without CRC.
    R3,
    /// Published address and part of the status.
    R6,
    /// Accepted voltage, PCIe bits and check pattern.
    R7,
}

/// What a handler says about the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out: the response of the row's format follows.
    Answer,
    /// Not for this card, or nothing it answers: no response and no error.
    Silent,
}

/// One command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Bits 45:40 of the command.
    pub index: u8,
    /// How it is addressed.
    pub kind: Kind,
    /// The response's format.
    pub format: Format,
    /// States in which it is legal.
    pub states: States,
    /// Its abbreviation.
    pub name: &'static str,
    /// Carries it out: current time and argument.
    pub handler: fn(&mut MemoryCard, Duration, u32) -> Outcome,
}

const fn row(
    index: u8,
    kind: Kind,
    format: Format,
    states: States,
    name: &'static str,
    handler: fn(&mut MemoryCard, Duration, u32) -> Outcome,
) -> Command {
    Command { index, kind, format, states, name, handler }
}

const IDLE: States = States::of(&[State::Idle]);
const READY: States = States::of(&[State::Ready]);
const STAND_BY: States = States::of(&[State::StandBy]);
const TRANSFER: States = States::of(&[State::Transfer]);
const IDENT_OR_STAND_BY: States = States::of(&[State::Identification, State::StandBy]);
const SELECTABLE: States =
    States::of(&[State::StandBy, State::Transfer, State::SendingData, State::Programming, State::Disconnect]);

/// Commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row(0,  Kind::Bc,  Format::None,  States::ACTIVE,             "GO_IDLE_STATE",        MemoryCard::go_idle),
    row(2,  Kind::Bcr, Format::R2Cid, READY,                      "ALL_SEND_CID",         MemoryCard::all_send_cid),
    row(3,  Kind::Bcr, Format::R6,    IDENT_OR_STAND_BY,          "SEND_RELATIVE_ADDR",   MemoryCard::send_relative_address),
    row(7,  Kind::Ac,  Format::R1b,   SELECTABLE,                 "SELECT/DESELECT_CARD", MemoryCard::select),
    row(8,  Kind::Bcr, Format::R7,    IDLE,                       "SEND_IF_COND",         MemoryCard::send_if_cond),
    row(9,  Kind::Ac,  Format::R2Csd, STAND_BY,                   "SEND_CSD",             MemoryCard::addressed),
    row(10, Kind::Ac,  Format::R2Cid, STAND_BY,                   "SEND_CID",             MemoryCard::addressed),
    row(13, Kind::Ac,  Format::R1,    States::ADDRESSED,          "SEND_STATUS",          MemoryCard::addressed),
    row(15, Kind::Ac,  Format::None,  States::ADDRESSED,          "GO_INACTIVE_STATE",    MemoryCard::go_inactive),
    row(16, Kind::Ac,  Format::R1,    TRANSFER,                   "SET_BLOCKLEN",         MemoryCard::set_block_length),
    row(55, Kind::Ac,  Format::R1,    States::ADDRESSED.or(IDLE), "APP_CMD",              MemoryCard::app_command),
];

/// Application commands: the ones that follow CMD55 (4.7.4, Table 4-32).
#[rustfmt::skip]
pub const APP_COMMANDS: &[Command] = &[
    row(6,  Kind::Ac,  Format::R1, TRANSFER, "SET_BUS_WIDTH",       MemoryCard::accept),
    row(41, Kind::Bcr, Format::R3, IDLE,     "SD_SEND_OP_COND",     MemoryCard::send_op_cond),
    row(42, Kind::Ac,  Format::R1, TRANSFER, "SET_CLR_CARD_DETECT", MemoryCard::accept),
];

/// Application commands that the specification has and this card has not. An index that is no application command is
/// taken as the ordinary command (4.3.9); these are not, or ACMD13 would be answered as CMD13.
pub const MISSING_APP_COMMANDS: &[u8] = &[13, 22, 23, 51];

/// The row for `index`, and whether it was taken as an application command. `app` says whether CMD55 came before.
#[must_use]
pub fn find(index: u8, app: bool) -> (Option<&'static Command>, bool) {
    if app {
        if let Some(command) = APP_COMMANDS.iter().find(|command| command.index == index) {
            return (Some(command), true);
        }
        if MISSING_APP_COMMANDS.contains(&index) {
            return (None, true);
        }
    }
    (COMMANDS.iter().find(|command| command.index == index), false)
}

/// Names of the commands that can reach a card, as records and rules spell them: every index as a command, and the
/// application commands of the specification, whether this card has them or not.
pub fn command_names() -> impl Iterator<Item = String> {
    let app = APP_COMMANDS.iter().map(|command| command.index).chain(MISSING_APP_COMMANDS.iter().copied());
    (0..64).map(|index| name(index, false)).chain(app.map(|index| name(index, true)))
}

/// The name of a command: `CMD8`, `ACMD41`.
pub(crate) fn name(index: u8, app: bool) -> String {
    format!("{}CMD{index}", if app { "A" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_without_doubles_and_indices_have_six_bits() {
        for table in [COMMANDS, APP_COMMANDS] {
            assert!(table.windows(2).all(|pair| pair[0].index < pair[1].index));
            assert!(table.iter().all(|command| command.index < 64));
        }
    }

    #[test]
    fn broadcast_without_response_has_none_and_every_other_kind_has_one() {
        for command in COMMANDS.iter().chain(APP_COMMANDS) {
            match command.kind {
                Kind::Bc => assert_eq!(command.format, Format::None, "{}", command.name),
                Kind::Bcr | Kind::Adtc => assert_ne!(command.format, Format::None, "{}", command.name),
                // CMD15 is the one addressed command without response.
                Kind::Ac => {
                    assert_eq!(command.format == Format::None, command.index == 15, "{}", command.name)
                }
            }
        }
    }

    #[test]
    fn index_that_is_no_application_command_is_taken_as_the_ordinary_one() {
        assert_eq!(find(8, true).0.map(|command| command.name), Some("SEND_IF_COND"));
        assert_eq!(find(41, false).0.map(|command| command.name), None);
        assert!(matches!(find(13, true), (None, true)));
    }
}
