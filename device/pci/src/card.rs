//! The seam between a host controller and the card in its socket.

use std::time::Duration;

use serde_json::Value;

/// An SD card as a host controller sees it: commands in, responses and data blocks out. A scripted card can stand in.
pub trait SdCard {
    /// Runs one command. `now` is the time since the machine was made.
    ///
    /// # Errors
    /// [`CardError`]: no response, or one with a bad CRC.
    fn command(&mut self, now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError>;

    /// Power was cut or restored: back to the state after power-up.
    fn power_cycle(&mut self);

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

/// A boxed card: what a reader has in its socket.
pub type Card = Box<dyn SdCard + Send>;
