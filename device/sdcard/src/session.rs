//! What the card knows until power is cut, and which of it CMD0 leaves (4.2.1).

use std::time::Duration;

use crate::capacity::BLOCK_BYTES;
use crate::state::State;
use crate::switch::Functions;
use crate::transfer::{Transfer, Work};
use crate::voltage::Signalling;

/// All that is lost with power.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: State,
    /// Published by CMD3; 0 until then.
    pub(crate) address: u16,
    /// Error bits that wait to be sent.
    pub(crate) errors: u32,
    /// The command before this one was CMD55.
    pub(crate) app: bool,
    /// CMD8 was answered since power-up or CMD0, so that the host may ask for high capacity.
    pub(crate) interface_condition: bool,
    /// When power-up will be finished; `None` until the first ACMD41.
    pub(crate) powered_up_at: Option<Duration>,
    /// S18A was sent: CMD11 is legal.
    pub(crate) voltage_switch_accepted: bool,
    /// What R7 answers to the CMD8 at hand.
    pub(crate) r7: u32,
    /// What R3 answers to the ACMD41 at hand.
    pub(crate) operating_conditions: u32,
    /// The bus has 4 bits (ACMD6).
    pub(crate) wide: bool,
    /// The pull-up on DAT3 is connected (ACMD42).
    pub(crate) card_detect: bool,
    /// As CMD6 has chosen.
    pub(crate) functions: Functions,
    /// Set by CMD16.
    pub(crate) block_length: u16,
    /// Upper bits of the next command's address (CMD22).
    pub(crate) address_extension: u8,
    /// Blocks of the transfer that comes next (CMD23).
    pub(crate) block_count: Option<u32>,
    /// First and last block of the erase that comes next (CMD32, CMD33).
    pub(crate) erase_from: Option<u64>,
    pub(crate) erase_to: Option<u64>,
    /// Blocks that the last write command has written well (ACMD22).
    pub(crate) written: u32,
    pub(crate) transfer: Transfer,
    pub(crate) work: Work,
    pub(crate) signalling: Signalling,
    pub(crate) locked: bool,
}

impl Session {
    /// After power-up. A card with a password is locked then.
    pub(crate) fn new(locked: bool) -> Self {
        Self {
            state: State::Idle,
            address: 0,
            errors: 0,
            app: false,
            interface_condition: false,
            powered_up_at: None,
            voltage_switch_accepted: false,
            r7: 0,
            operating_conditions: 0,
            wide: false,
            card_detect: true,
            functions: Functions::default(),
            block_length: BLOCK_BYTES,
            address_extension: 0,
            block_count: None,
            erase_from: None,
            erase_to: None,
            written: 0,
            transfer: Transfer::None,
            work: Work::None,
            signalling: Signalling::High,
            locked,
        }
    }

    /// After CMD0: signal voltage and lock stay as they are.
    pub(crate) fn reset(&mut self) {
        *self = Self { signalling: self.signalling, ..Self::new(self.locked) };
    }

    /// Raises error bits that the next response has.
    pub(crate) fn raise(&mut self, errors: u32) {
        self.errors |= errors;
    }
}
