//! The card itself: runs the command table.

use std::collections::BTreeMap;
use std::time::Duration;

use sdmorph_pci::{CardError, CardResponse, SdCard};
use serde_json::{Value, json};

use crate::crc7::end_byte;
use crate::profile::Profile;
use crate::registers::{cid, csd, ocr};
use crate::state::State;
use crate::status;
use crate::table::{self, Command, Format, Outcome};

/// How long initialisation takes after the first ACMD41 (4.2.3 allows a second).
const POWER_UP: Duration = Duration::from_millis(20);
/// VHS in CMD8's argument (4.3.13): the host supplies 2.7 V to 3.6 V.
const VHS_27_36: u32 = 0x1;
/// PCIe Availability in CMD8's argument, PCIe Response in R7.
const CMD8_PCIE: u32 = 1 << 12;
/// PCIe 1.2V Support in both.
const CMD8_PCIE_1V2: u32 = 1 << 13;
/// Bits of CMD8's argument that the response gives back as they came: VHS and the check pattern.
const CMD8_ECHO: u32 = 0xfff;
/// Blocks of every high-capacity card have this length (4.3.2).
const BLOCK_BYTES: u32 = 512;

/// An SD memory card.
#[derive(Debug, Clone)]
pub struct MemoryCard {
    profile: Profile,
    state: State,
    /// Published by CMD3; 0 until then.
    address: u16,
    /// Error bits that wait to be sent.
    errors: u32,
    /// The command before this one was CMD55.
    app: bool,
    /// CMD8 was answered since power-up or CMD0, so that the host may ask for high capacity.
    interface_condition: bool,
    /// When power-up will be finished; `None` until the first ACMD41.
    powered_up_at: Option<Duration>,
    /// What R7 answers to the CMD8 at hand.
    r7: u32,
    /// What R3 answers to the ACMD41 at hand.
    operating_conditions: u32,
    last: (u8, bool),
    /// Commands that were illegal, and how often: at most 128 names.
    refused: BTreeMap<(bool, u8), u64>,
}

impl MemoryCard {
    /// A card that has just been powered.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            state: State::Idle,
            address: 0,
            errors: 0,
            app: false,
            interface_condition: false,
            powered_up_at: None,
            r7: 0,
            operating_conditions: 0,
            last: (0, false),
            refused: BTreeMap::new(),
        }
    }

    /// What kind of card it is.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How often a command was illegal.
    #[must_use]
    pub fn illegal_commands(&self) -> u64 {
        self.refused.values().sum()
    }

    fn is_addressed(&self, argument: u32) -> bool {
        argument >> 16 == u32::from(self.address)
    }

    fn run(&mut self, now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError> {
        let app = std::mem::take(&mut self.app);
        let (command, taken_as_app) = table::find(index, app);
        self.last = (index, taken_as_app);
        let Some(command) = command.filter(|command| command.states.contain(self.state)) else {
            let count = self.refused.entry((taken_as_app, index)).or_default();
            *count = count.saturating_add(1);
            self.errors |= status::ILLEGAL_COMMAND;
            return Err(CardError::Timeout);
        };
        // The status shows the state that the command found, not the one it leads to (4.10.1).
        let found = self.state;
        match (command.handler)(self, now, argument) {
            Outcome::Answer => Ok(self.respond(command, found, taken_as_app)),
            Outcome::Silent => Err(CardError::Timeout),
        }
    }

    fn respond(&mut self, command: &Command, found: State, taken_as_app: bool) -> CardResponse {
        let app = if taken_as_app || self.app { status::APP_CMD } else { 0 };
        let state = (found as u32) << status::CURRENT_STATE_SHIFT;
        let status = self.errors | state | status::READY_FOR_DATA | app;
        match command.format {
            Format::None => CardResponse::None,
            Format::R1 | Format::R1b => {
                self.errors = 0;
                short(command.index, status)
            }
            Format::R2Cid => long(cid(&self.profile)),
            Format::R2Csd => long(csd(&self.profile)),
            Format::R3 => {
                let [a, b, c, d] = self.operating_conditions.to_be_bytes();
                CardResponse::Short([0x3f, a, b, c, d, 0xff])
            }
            Format::R6 => {
                // R6 carries these two only; others wait for an R1.
                self.errors &= !(status::ILLEGAL_COMMAND | status::ERROR);
                short(command.index, u32::from(self.address) << 16 | u32::from(status::in_r6(status)))
            }
            Format::R7 => short(command.index, self.r7),
        }
    }

    /// CMD0.
    pub(crate) fn go_idle(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.back_to_idle();
        Outcome::Answer
    }

    fn back_to_idle(&mut self) {
        self.state = State::Idle;
        self.address = 0;
        self.errors = 0;
        self.app = false;
        self.interface_condition = false;
        self.powered_up_at = None;
    }

    /// CMD8: the card answers only if it takes the voltage.
    pub(crate) fn send_if_cond(&mut self, _now: Duration, argument: u32) -> Outcome {
        if argument >> 8 & 0xf != VHS_27_36 {
            return Outcome::Silent;
        }
        self.interface_condition = true;
        let pcie = match self.profile.express {
            // A card answers about PCIe only a host that says it has it.
            Some(express) if argument & CMD8_PCIE != 0 => {
                CMD8_PCIE | if express.supports_1v2 { argument & CMD8_PCIE_1V2 } else { 0 }
            }
            _ => 0,
        };
        self.r7 = argument & CMD8_ECHO | pcie;
        Outcome::Answer
    }

    /// ACMD41 (4.2.3.1): an inquiry if its voltage window is zero; otherwise it starts initialisation or polls it.
    pub(crate) fn send_op_cond(&mut self, now: Duration, argument: u32) -> Outcome {
        self.operating_conditions = ocr::VDD_27_36;
        if argument & ocr::VOLTAGES == 0 {
            return Outcome::Answer;
        }
        if argument & ocr::VDD_27_36 == 0 {
            self.state = State::Inactive;
            return Outcome::Silent;
        }
        // A host that cannot use the card sees it busy for ever.
        let ultra = self.profile.capacity.is_ultra();
        let host_can =
            self.interface_condition && argument & ocr::HCS != 0 && (!ultra || argument & ocr::HO2T != 0);
        let ready_at = *self.powered_up_at.get_or_insert(now.saturating_add(POWER_UP));
        if host_can && now >= ready_at {
            self.operating_conditions |= ocr::POWERED_UP | ocr::CCS | if ultra { ocr::CO2T } else { 0 };
            self.state = State::Ready;
        }
        Outcome::Answer
    }

    /// CMD2.
    pub(crate) fn all_send_cid(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.state = State::Identification;
        Outcome::Answer
    }

    /// CMD3: the card chooses an address, another one each time, never 0.
    pub(crate) fn send_relative_address(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.address = self.address.wrapping_add(1).max(1);
        self.state = State::StandBy;
        Outcome::Answer
    }

    /// CMD7: selects the card with this address and deselects every other.
    pub(crate) fn select(&mut self, _now: Duration, argument: u32) -> Outcome {
        let (next, outcome) = match (self.state, self.is_addressed(argument)) {
            (State::StandBy, true) => (State::Transfer, Outcome::Answer),
            (State::Disconnect, true) => (State::Programming, Outcome::Answer),
            (State::Transfer | State::SendingData, false) => (State::StandBy, Outcome::Silent),
            (State::Programming, false) => (State::Disconnect, Outcome::Silent),
            // Selecting it twice is answered, and changes nothing.
            (state, true) => (state, Outcome::Answer),
            (state, false) => (state, Outcome::Silent),
        };
        self.state = next;
        outcome
    }

    /// CMD9, CMD10, CMD13: the row's response, if it is this card that is meant.
    pub(crate) fn addressed(&mut self, _now: Duration, argument: u32) -> Outcome {
        if self.is_addressed(argument) { Outcome::Answer } else { Outcome::Silent }
    }

    /// CMD15.
    pub(crate) fn go_inactive(&mut self, _now: Duration, argument: u32) -> Outcome {
        if !self.is_addressed(argument) {
            return Outcome::Silent;
        }
        self.state = State::Inactive;
        Outcome::Answer
    }

    /// CMD16: a high-capacity card takes 512 bytes whatever is set, and refuses more.
    pub(crate) fn set_block_length(&mut self, _now: Duration, argument: u32) -> Outcome {
        if argument > BLOCK_BYTES {
            self.errors |= status::BLOCK_LEN_ERROR;
        }
        Outcome::Answer
    }

    /// CMD55: the next command is an application command.
    pub(crate) fn app_command(&mut self, _now: Duration, argument: u32) -> Outcome {
        if !self.is_addressed(argument) {
            return Outcome::Silent;
        }
        self.app = true;
        Outcome::Answer
    }

    /// ACMD6, ACMD42: bus width and pull-up are not visible without data lines.
    pub(crate) fn accept(&mut self, _now: Duration, _argument: u32) -> Outcome {
        Outcome::Answer
    }
}

fn short(index: u8, content: u32) -> CardResponse {
    let [a, b, c, d] = content.to_be_bytes();
    CardResponse::Short([index, a, b, c, d, end_byte(&[index, a, b, c, d])])
}

fn long(register: [u8; 16]) -> CardResponse {
    // Start bit, transmission bit, six reserved ones; then the register with its own CRC7.
    let mut bytes = [0x3f; 17];
    let [_, body @ ..] = &mut bytes;
    *body = register;
    CardResponse::Long(bytes)
}

impl SdCard for MemoryCard {
    fn command(&mut self, now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError> {
        self.run(now, index & 0x3f, argument)
    }

    fn power_cycle(&mut self) {
        let Self {
            profile: _,
            state: _,
            address: _,
            errors: _,
            app: _,
            interface_condition: _,
            powered_up_at: _,
            r7,
            operating_conditions,
            last,
            // Counted for the whole life of the card.
            refused: _,
        } = self;
        *r7 = 0;
        *operating_conditions = 0;
        *last = (0, false);
        self.back_to_idle();
    }

    fn last_command(&self) -> String {
        table::name(self.last.0, self.last.1)
    }

    fn snapshot(&self) -> Value {
        let refused: serde_json::Map<_, _> = self
            .refused
            .iter()
            .map(|(&(app, index), &count)| (table::name(index, app), count.into()))
            .collect();
        json!({
            "state": self.state.name(),
            "address": format!("{:#06x}", self.address),
            "serial": format!("{:#010x}", self.profile.serial),
            "capacity_bytes": self.profile.capacity.bytes(),
            "express": self.profile.express.is_some(),
            "last_command": self.last_command(),
            "illegal_commands": refused,
        })
    }
}
