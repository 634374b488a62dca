//! Selecting the card, and settings of the selected card that need no data (4.3).

use std::time::Duration;

use crate::capacity::BLOCK_BYTES;
use crate::card::MemoryCard;
use crate::state::State;
use crate::status;
use crate::table::Outcome;

/// ACMD6: 1 bit and 4 bits.
const BUS_WIDTH: u32 = 0b11;
const BUS_WIDTH_1: u32 = 0b00;
const BUS_WIDTH_4: u32 = 0b10;
/// ACMD42: connect the pull-up.
const SET_CD: u32 = 1;
/// CMD22: the bits 37:32 of an address.
const EXTENSION: u32 = 0x3f;

impl MemoryCard {
    /// CMD7: selects the card with this address and deselects every other. What the table calls illegal is so.
    pub(crate) fn select(&mut self, _now: Duration, argument: u32) -> Outcome {
        let (next, outcome) = match (self.session.state, self.is_addressed(argument)) {
            (State::StandBy, true) => (State::Transfer, Outcome::Answer),
            (State::Disconnect, true) => (State::Programming, Outcome::Answer),
            (State::Transfer | State::SendingData, false) => {
                self.end_of_data();
                (State::StandBy, Outcome::Silent)
            }
            (State::Programming, false) => (State::Disconnect, Outcome::Silent),
            // Another card is selected.
            (state @ (State::StandBy | State::Disconnect), false) => (state, Outcome::Silent),
            (state, _) => (state, Outcome::Illegal),
        };
        self.session.state = next;
        outcome
    }

    /// CMD55: the next command is an application command.
    pub(crate) fn app_command(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.session.app = true;
        Outcome::Answer
    }

    /// CMD4 (there is no DSR), CMD9, CMD10, CMD13, ACMD23 (erasing ahead makes nothing faster here): the response is all.
    pub(crate) fn accept(&mut self, _now: Duration, _argument: u32) -> Outcome {
        Outcome::Answer
    }

    /// CMD16: from SDHC on it counts for CMD42 only.
    pub(crate) fn set_block_length(&mut self, _now: Duration, argument: u32) -> Outcome {
        match u16::try_from(argument) {
            Ok(length @ 1..=BLOCK_BYTES) => self.session.block_length = length,
            _ => self.session.raise(status::BLOCK_LEN_ERROR),
        }
        Outcome::Answer
    }

    /// CMD20: everything is fast enough.
    pub(crate) fn control_speed_class(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.session.state = State::Programming;
        Outcome::Answer
    }

    /// CMD22.
    pub(crate) fn extend_address(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.session.address_extension = (argument & EXTENSION) as u8;
        Outcome::Answer
    }

    /// CMD23: 0 leaves the transfer open-ended.
    pub(crate) fn set_block_count(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.session.block_count = (argument != 0).then_some(argument);
        Outcome::Answer
    }

    /// ACMD6.
    pub(crate) fn set_bus_width(&mut self, _now: Duration, argument: u32) -> Outcome {
        match argument & BUS_WIDTH {
            BUS_WIDTH_1 => self.session.wide = false,
            BUS_WIDTH_4 => self.session.wide = true,
            _ => self.session.raise(status::OUT_OF_RANGE),
        }
        Outcome::Answer
    }

    /// ACMD42.
    pub(crate) fn set_card_detect(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.session.card_detect = argument & SET_CD != 0;
        Outcome::Answer
    }
}
