//! The seam between a host controller and the card in its socket.
//!
//! The host sends commands ([`SdCard::command`]), clocks data over the DAT lines ([`SdCard::read_data`],
//! [`SdCard::write_data`]) and sees their levels ([`SdCard::lines`]). Nothing of it blocks: what a card cannot do yet
//! it does later, and the host asks again when it is woken.

use std::time::Duration;

use serde_json::Value;

/// An SD card as a host controller sees it. A scripted card can stand in; what it leaves out is as if nothing were
/// connected to the DAT lines.
///
/// `now` is the time since the machine was made.
pub trait SdCard {
    /// Runs one command. The card is supplied and clocked.
    ///
    /// # Errors
    /// [`CardError`]: no response, or one with a bad CRC.
    fn command(&mut self, now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError>;

    /// The host clocks in up to `blocks` blocks of `block_bytes` bytes of the data that the last command is answered
    /// with. Returns whole blocks, at most as many as asked for; none if the card has no data yet, and the host asks again when it is woken.
    ///
    /// # Errors
    /// [`DataError`]; the block it belongs to, and what follows it, is lost.
    fn read_data(&mut self, now: Duration, block_bytes: u16, blocks: u32) -> Result<Vec<u8>, DataError> {
        let _ = (now, block_bytes, blocks);
        Err(DataError::Timeout)
    }

    /// The host sends whole blocks of `block_bytes` bytes, while the card is not busy ([`Lines::busy`]).
    ///
    /// # Errors
    /// [`DataError`]: the CRC status of a block was negative, or none came.
    fn write_data(&mut self, now: Duration, block_bytes: u16, data: Vec<u8>) -> Result<(), DataError> {
        let _ = (now, block_bytes, data);
        Err(DataError::Timeout)
    }

    /// The levels that the card gives to the lines while it has nothing to send.
    fn lines(&mut self, now: Duration) -> Lines {
        let _ = now;
        Lines::IDLE
    }

    /// The host changed how it runs the bus.
    fn set_bus(&mut self, now: Duration, bus: Bus) {
        let _ = (now, bus);
    }

    /// Power was cut or restored: back to the state after power-up.
    fn power_cycle(&mut self);

    /// When something ends by itself that a host may wait for: the time to ask again.
    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// Disturbs the card from outside, for a test.
    ///
    /// # Errors
    /// [`DisturbError`]; the card is as before then.
    fn disturb(&mut self, now: Duration, disturbance: Disturbance) -> Result<(), DisturbError> {
        let _ = (now, disturbance);
        Ok(())
    }

    /// The card's name for the last command, `ACMDn` where it took it as application command.
    fn last_command(&self) -> String;

    /// The whole state as JSON.
    fn snapshot(&self) -> Value;
}

/// A response as it stands on the CMD line, start bit to end bit: 6 bytes, or 17 for R2 (SD Physical 4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardResponse {
    /// The command has none (CMD0, CMD4, CMD15).
    None,
    /// 48 bits: R1, R1b, R3, R6, R7.
    Short([u8; 6]),
    /// 136 bits: R2.
    Long([u8; 17]),
}

impl CardResponse {
    /// The bytes on the line, first byte first; empty for none.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            CardResponse::None => &[],
            CardResponse::Short(bytes) => bytes,
            CardResponse::Long(bytes) => bytes,
        }
    }
}

/// A command that got no usable response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// No response within N_CR: no card, an illegal command, or a card that does not take it in its state.
    #[error("no response")]
    Timeout,
    /// The response's CRC7 is wrong.
    #[error("response CRC error")]
    Crc,
}

/// A block that did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// No start bit came within N_AC, or no CRC status after a block that was sent: the card sends or takes no data.
    #[error("no data")]
    Timeout,
    /// The CRC16 of a block is wrong, or the card says so of a block that it was sent.
    #[error("data CRC error")]
    Crc,
}

/// Levels of the lines, as the card drives them or pull-ups leave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// CMD is high.
    pub cmd: bool,
    /// DAT3 to DAT0 in bits 3:0; 1 is high.
    pub dat: u8,
}

impl Lines {
    /// Nobody pulls anything down.
    pub const IDLE: Lines = Lines { cmd: true, dat: 0xf };

    /// Whether the card holds DAT0 low: it programs, erases or switches its voltage.
    #[must_use]
    pub fn busy(self) -> bool {
        self.dat & 1 == 0
    }
}

/// How the host runs the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bus {
    /// Data lines in use: 1, 4 or 8.
    pub width: u8,
    /// Data changes on both edges of the clock (DDR50).
    pub ddr: bool,
    /// Signals have 1.8 V; otherwise 3.3 V.
    pub low_voltage: bool,
    /// The clock runs.
    pub clock: bool,
}

impl Bus {
    /// As after power-up, before the host starts the clock.
    pub const INITIAL: Bus = Bus { width: 1, ddr: false, low_voltage: false, clock: false };
}

/// What can be done to a card from outside, as a worn or badly seated one would show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The next so many responses have a wrong CRC7.
    ResponseCrc(u32),
    /// The next so many commands are not answered (and not done).
    ResponseTimeout(u32),
    /// The next so many data transfers have a wrong CRC16.
    DataCrc(u32),
    /// In the next so many data transfers no data comes.
    DataTimeout(u32),
    /// The card holds DAT0 low for so long, from now on.
    Busy(Duration),
    /// These blocks of 512 bytes cannot be read or written any more: CARD_ECC_FAILED.
    BadBlocks {
        /// First block.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Takes all of these back.
    Heal,
}

/// Why a card cannot be disturbed like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DisturbError {
    /// It keeps a list, which has an end.
    #[error("the card has as many ranges of bad blocks as it can have; heal it first")]
    TooManyBadBlocks,
}

/// A boxed card: what a reader has in its socket.
pub type Card = Box<dyn SdCard + Send>;
