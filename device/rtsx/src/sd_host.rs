//! The SD host block: one command and its response at a time.
//!
//! The driver puts the command in SD_CMD0 to SD_CMD4 and the response's length in SD_CFG2, writes the mode with the
//! start bit to SD_TRANSFER, and finds the response in SD_CMD0 to SD_CMD5, or, if it has 17 bytes, the first 16 of them
//! in the ping-pong buffer.

use sdmorph_pci::{CardError, CardResponse, Ctx};
use sdmorph_sdcard::crc7::end_byte;

use crate::chip::Chip;
use crate::registers::address;

/// SD_TRANSFER: start.
pub(crate) const START: u8 = 0x80;
/// SD_TRANSFER: ended well.
const END: u8 = 0x40;
/// SD_TRANSFER: nothing under way.
const IDLE: u8 = 0x20;
/// SD_TRANSFER: ended with an error.
const ERROR: u8 = 0x10;
/// SD_TRANSFER: the mode.
const MODE: u8 = 0x0f;
/// The mode that sends a command and takes its response (SD_TM_CMD_RSP).
const COMMAND_AND_RESPONSE: u8 = 0x08;
/// Modes with this bit send a command; the others move data only.
const WITH_COMMAND: u8 = 0x08;
/// Modes with this bit read from the card; the others write, but for COMMAND_AND_RESPONSE.
const READ: u8 = 0x04;
/// SD_CFG2: the response's length.
const RESPONSE_LENGTH: u8 = 0x03;
const RESPONSE_NONE: u8 = 0x00;
const RESPONSE_17: u8 = 0x02;
/// SD_CFG2: the response has no CRC7.
const NO_CHECK_CRC7: u8 = 0x04;
/// SD_STAT1.
const CRC7_ERROR: u8 = 0x80;
/// SD_STAT1: no CRC status came after a written block (GET_CRC_TIME_OUT).
const CRC_STATUS_TIMEOUT: u8 = 0x02;
/// SD_STAT2: no response came (SD_RSP_80CLK_TIMEOUT).
const RESPONSE_TIMEOUT: u8 = 0x01;

/// Stops what is under way and clears errors.
pub(crate) fn stop(chip: &mut Chip) {
    chip.set(address::SD_STAT1, 0);
    chip.set(address::SD_STAT2, 0);
    end(chip, IDLE);
}

/// Does what SD_TRANSFER was written for.
pub(crate) fn transfer(chip: &mut Chip, ctx: &mut Ctx<'_>) {
    chip.set(address::SD_STAT1, 0);
    chip.set(address::SD_STAT2, 0);
    let mode = chip.get(address::SD_TRANSFER) & MODE;
    if mode & WITH_COMMAND != 0 && !command(chip, ctx) {
        chip.set(address::SD_STAT2, RESPONSE_TIMEOUT);
        // DEVNOTE: that END stays clear, so that a command list which checks for it fails, follows from what the driver
        // does next. On hardware it may be the driver's own time-out that ends such a list.
        end(chip, ERROR | IDLE);
        return;
    }
    if mode == COMMAND_AND_RESPONSE {
        end(chip, END | IDLE);
        return;
    }
    // No data lines yet: a block to the card gets no CRC status, one from it never starts.
    if mode & READ == 0 {
        chip.set(address::SD_STAT1, CRC_STATUS_TIMEOUT);
    }
    end(chip, ERROR | IDLE);
}

fn end(chip: &mut Chip, status: u8) {
    let mode = chip.get(address::SD_TRANSFER) & MODE;
    chip.set(address::SD_TRANSFER, status | mode);
}

/// Sends the command in SD_CMD0 to SD_CMD4. False if a response was due and none came.
fn command(chip: &mut Chip, ctx: &mut Ctx<'_>) -> bool {
    let [index, a, b, c, d] = [0, 1, 2, 3, 4].map(|offset| chip.get(address::SD_CMD0 + offset));
    let index = index & 0x3f;
    let argument = u32::from_be_bytes([a, b, c, d]);
    let now = ctx.now();
    let (name, result) = match chip.reachable_card() {
        Some(card) => {
            let result = card.command(now, index, argument);
            (card.last_command(), result)
        }
        None => (format!("CMD{index}"), Err(CardError::Timeout)),
    };
    ctx.command(&name, argument, result.as_ref().ok().map(CardResponse::bytes));

    let config = chip.get(address::SD_CFG2);
    if config & RESPONSE_LENGTH == RESPONSE_NONE {
        return true;
    }
    let intact = match &result {
        Ok(CardResponse::None) | Err(CardError::Timeout) => return false,
        Ok(response) => receive(chip, config, response.bytes()),
        // The bits on the line are not known; what is left in the registers must not look like a response.
        Err(CardError::Crc) => false,
    };
    if !intact && config & NO_CHECK_CRC7 == 0 {
        chip.set(address::SD_STAT1, CRC7_ERROR);
    }
    true
}

/// Takes a response of the length that the host expects; the line is high where the card sends less. True if the CRC7
/// is right.
fn receive(chip: &mut Chip, config: u8, bytes: &[u8]) -> bool {
    let mut line = [0xff; 17];
    for (slot, byte) in line.iter_mut().zip(bytes) {
        *slot = *byte;
    }
    if config & RESPONSE_LENGTH == RESPONSE_17 {
        let [head @ .., last] = line;
        for (slot, byte) in chip.ping_pong.iter_mut().zip(head) {
            *slot = byte;
        }
        let [_, register @ ..] = head;
        return end_byte(&register) == last;
    }
    let [index, a, b, c, d, last, ..] = line;
    for (address, byte) in (address::SD_CMD0..).zip([index, a, b, c, d, last]) {
        chip.set(address, byte);
    }
    end_byte(&[index, a, b, c, d]) == last
}
