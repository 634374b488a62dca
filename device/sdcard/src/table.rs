//! The command table (4.7.4). A command that has no row here is illegal, as is one whose row does not have the card's
//! state (4.8, Table 4-35), or that the card's profile or mode does not provide.

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

/// What a command needs beside a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A standard-capacity card, with write protect groups.
    StandardCapacity,
    /// A card above 2 TiB.
    UltraCapacity,
    /// CMD23, as the SCR says.
    BlockCount,
    /// CMD20, as the SCR says.
    SpeedClassControl,
    /// 1.8 V signalling.
    LowVoltage,
}

/// What a handler says about the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out: the response of the row's format follows.
    Answer,
    /// Not for this card, or nothing it answers: no response and no error.
    Silent,
    /// Illegal for a reason that the table does not have.
    Illegal,
}

/// Carries a command out: current time and argument.
pub type Handler = fn(&mut MemoryCard, Duration, u32) -> Outcome;

/// One command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Bits 45:40 of the command.
    pub index: u8,
    /// Its class (CCC); an application command has that of CMD55.
    pub class: u8,
    /// How it is addressed.
    pub kind: Kind,
    /// The response's format.
    pub format: Format,
    /// States in which it is legal.
    pub states: States,
    /// What it needs beside.
    pub needs: Needs,
    /// The upper half of its argument is a card's address, and it is for no other card.
    pub is_for_one_card: bool,
    /// A locked card takes it (4.3.7.5).
    pub works_locked: bool,
    /// Its abbreviation.
    pub name: &'static str,
    /// Carries it out.
    pub handler: Handler,
    /// Where the specification tells what it does.
    pub section: &'static str,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.index, self.name)
    }
}

impl Command {
    const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    const fn for_one_card(self) -> Self {
        Self { is_for_one_card: true, ..self }
    }

    const fn works_locked(self) -> Self {
        Self { works_locked: true, ..self }
    }
}

#[rustfmt::skip]
#[allow(clippy::too_many_arguments, reason = "a row of the table")]
const fn row(
    index: u8, class: u8, kind: Kind, format: Format, states: States, section: &'static str, name: &'static str,
    handler: Handler,
) -> Command {
    // Class 0 and class 7 work on a locked card.
    let works_locked = class == 0 || class == 7;
    Command { index, class, kind, format, states, needs: Needs::Nothing, is_for_one_card: false, works_locked, name,
        handler, section }
}

use Format::{R1, R1b, R2Cid, R2Csd, R3, R6, R7};
use Kind::{Ac, Adtc, Bc, Bcr};

const IDLE: States = States::of(&[State::Idle]);
const READY: States = States::of(&[State::Ready]);
const STBY: States = States::of(&[State::StandBy]);
const TRAN: States = States::of(&[State::Transfer]);
const IDENT_STBY: States = States::of(&[State::Identification, State::StandBy]);
const DATA_RCV: States = States::of(&[State::SendingData, State::ReceiveData]);
const ADDRESSED: States = States::ADDRESSED;
const IDLE_ADDRESSED: States = States::ADDRESSED.or(IDLE);

/// Commands (Tables 4-23 to 4-31).
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    row( 0,  0, Bc,   Format::None, States::ACTIVE, "4.2.1",   "GO_IDLE_STATE",        MemoryCard::go_idle),
    row( 2,  0, Bcr,  R2Cid, READY,          "4.2.3",   "ALL_SEND_CID",         MemoryCard::all_send_cid),
    row( 3,  0, Bcr,  R6,    IDENT_STBY,     "4.2.3",   "SEND_RELATIVE_ADDR",   MemoryCard::send_relative_address),
    row( 4,  0, Bc,   Format::None, STBY,           "5.5",     "SET_DSR",              MemoryCard::accept),
    row( 6, 10, Adtc, R1,    TRAN,           "4.3.10",  "SWITCH_FUNC",          MemoryCard::switch_function),
    row( 7,  0, Ac,   R1b,   ADDRESSED,      "4.3",     "SELECT/DESELECT_CARD", MemoryCard::select),
    row( 8,  0, Bcr,  R7,    IDLE,           "4.3.13",  "SEND_IF_COND",         MemoryCard::send_if_cond),
    row( 9,  0, Ac,   R2Csd, STBY,           "4.3",     "SEND_CSD",             MemoryCard::accept).for_one_card(),
    row(10,  0, Ac,   R2Cid, STBY,           "4.3",     "SEND_CID",             MemoryCard::accept).for_one_card(),
    row(11,  0, Ac,   R1,    READY,          "4.2.4.2", "VOLTAGE_SWITCH",       MemoryCard::switch_voltage),
    row(12,  0, Ac,   R1b,   DATA_RCV,       "4.3.3",   "STOP_TRANSMISSION",    MemoryCard::stop_transmission),
    row(13,  0, Ac,   R1,    ADDRESSED,      "4.10.1",  "SEND_STATUS",          MemoryCard::accept).for_one_card(),
    row(15,  0, Ac,   Format::None, ADDRESSED,      "4.2.2",   "GO_INACTIVE_STATE",    MemoryCard::go_inactive).for_one_card(),
    row(16,  2, Ac,   R1,    TRAN,           "4.3.2",   "SET_BLOCKLEN",         MemoryCard::set_block_length).works_locked(),
    row(17,  2, Adtc, R1,    TRAN,           "4.3.3",   "READ_SINGLE_BLOCK",    MemoryCard::read_single),
    row(18,  2, Adtc, R1,    TRAN,           "4.3.3",   "READ_MULTIPLE_BLOCK",  MemoryCard::read_multiple),
    row(19,  2, Adtc, R1,    TRAN,           "4.2.4.5", "SEND_TUNING_BLOCK",    MemoryCard::send_tuning_block).needs(Needs::LowVoltage),
    row(20,  2, Ac,   R1b,   TRAN,           "4.13.2",  "SPEED_CLASS_CONTROL",  MemoryCard::control_speed_class).needs(Needs::SpeedClassControl),
    row(22,  2, Ac,   R1,    TRAN,           "4.3.14",  "ADDRESS_EXTENSION",    MemoryCard::extend_address).needs(Needs::UltraCapacity),
    row(23,  2, Ac,   R1,    TRAN,           "4.7.4",   "SET_BLOCK_COUNT",      MemoryCard::set_block_count).needs(Needs::BlockCount),
    row(24,  4, Adtc, R1,    TRAN,           "4.3.4",   "WRITE_BLOCK",          MemoryCard::write_single),
    row(25,  4, Adtc, R1,    TRAN,           "4.3.4",   "WRITE_MULTIPLE_BLOCK", MemoryCard::write_multiple),
    row(27,  4, Adtc, R1,    TRAN,           "4.3.4",   "PROGRAM_CSD",          MemoryCard::program_csd),
    row(28,  6, Ac,   R1b,   TRAN,           "4.3.6",   "SET_WRITE_PROT",       MemoryCard::set_write_protection).needs(Needs::StandardCapacity),
    row(29,  6, Ac,   R1b,   TRAN,           "4.3.6",   "CLR_WRITE_PROT",       MemoryCard::clear_write_protection).needs(Needs::StandardCapacity),
    row(30,  6, Adtc, R1,    TRAN,           "4.3.6",   "SEND_WRITE_PROT",      MemoryCard::send_write_protection).needs(Needs::StandardCapacity),
    row(32,  5, Ac,   R1,    TRAN,           "4.3.5",   "ERASE_WR_BLK_START",   MemoryCard::erase_from),
    row(33,  5, Ac,   R1,    TRAN,           "4.3.5",   "ERASE_WR_BLK_END",     MemoryCard::erase_to),
    row(38,  5, Ac,   R1b,   TRAN,           "4.3.5",   "ERASE",                MemoryCard::erase),
    row(42,  7, Adtc, R1,    TRAN,           "4.3.7",   "LOCK_UNLOCK",          MemoryCard::lock_unlock),
    row(55,  8, Ac,   R1,    IDLE_ADDRESSED, "4.3.9.1", "APP_CMD",              MemoryCard::app_command).for_one_card().works_locked(),
    row(56,  8, Adtc, R1,    TRAN,           "4.3.9.2", "GEN_CMD",              MemoryCard::general),
];

/// Application commands: the ones that follow CMD55 (4.7.4, Table 4-32).
#[rustfmt::skip]
pub const APP_COMMANDS: &[Command] = &[
    row( 6, 8, Ac,   R1, TRAN, "4.7.4",  "SET_BUS_WIDTH",          MemoryCard::set_bus_width),
    row(13, 8, Adtc, R1, TRAN, "4.10.2", "SD_STATUS",              MemoryCard::send_sd_status),
    row(22, 8, Adtc, R1, TRAN, "4.3.4",  "SEND_NUM_WR_BLOCKS",     MemoryCard::send_written_blocks),
    row(23, 8, Ac,   R1, TRAN, "4.3.4",  "SET_WR_BLK_ERASE_COUNT", MemoryCard::accept),
    row(41, 8, Bcr,  R3, IDLE, "4.2.3",  "SD_SEND_OP_COND",        MemoryCard::send_op_cond).works_locked(),
    row(42, 8, Ac,   R1, TRAN, "4.7.4",  "SET_CLR_CARD_DETECT",    MemoryCard::set_card_detect).works_locked(),
    row(51, 8, Adtc, R1, TRAN, "5.6",    "SEND_SCR",               MemoryCard::send_scr),
];

/// Application commands that the specification keeps for others (DPS, content protection) and this card has not. An index
/// that is no application command is taken as the ordinary command (4.3.9); these are not, or ACMD18 would be answered as
/// CMD18.
pub const MISSING_APP_COMMANDS: &[u8] = &[14, 15, 16, 18, 25, 26, 38, 43, 44, 45, 46, 47, 48, 49];

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
        assert_eq!(find(13, true).0.map(|command| command.name), Some("SD_STATUS"));
        assert!(matches!(find(18, true), (None, true)));
    }
}
