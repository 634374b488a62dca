//! Bits of the card status (4.10.1, Table 4-42) that this card sets, and how they are cleared.

/// SET_BLOCKLEN with a length the card does not take. Cleared when it has been sent.
pub const BLOCK_LEN_ERROR: u32 = 1 << 29;
/// The command before this one was not legal. Cleared when the next legal command has been answered.
pub const ILLEGAL_COMMAND: u32 = 1 << 22;
/// A general error. Never set here; it has a place in R6.
pub const ERROR: u32 = 1 << 19;
/// Where CURRENT_STATE begins: the state when the command came, before it took effect.
pub const CURRENT_STATE_SHIFT: u32 = 9;
/// The card takes data.
pub const READY_FOR_DATA: u32 = 1 << 8;
/// The next command is taken as an application command, or this one was.
pub const APP_CMD: u32 = 1 << 5;

/// The 16 status bits of R6 (4.9.5): bits 23, 22, 19 and 12:0.
#[must_use]
pub const fn in_r6(status: u32) -> u16 {
    let high = status >> 8 & 0xc000;
    let error = status >> 6 & 0x2000;
    (high | error | status & 0x1fff) as u16
}
