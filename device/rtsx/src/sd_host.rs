//! The SD host block: a command and its response, and the data that follows.
//!
//! The driver puts the command in SD_CMD0 to SD_CMD4 and the response's length in SD_CFG2, writes the mode with the
//! start bit to SD_TRANSFER, and finds the response in SD_CMD0 to SD_CMD5, or, if it has 17 bytes, the first 16 of them
//! in the ping-pong buffer.
//!
//! Data is SD_BLOCK_CNT blocks of SD_BYTE_CNT bytes. It goes through the ping-pong buffer, which the driver reads and
//! writes as registers, or through the ring buffer, which the [data DMA](crate::data_dma) empties and fills
//! (CARD_DATA_SOURCE says which). A transfer ends when the last block has come or has been taken; one that waits, for
//! the card, its storage or the DMA, goes on when [`advance`] is called again.

use sdmorph_pci::media::{BLOCK_BYTES, MAX_TRANSFER_BLOCKS};
use sdmorph_pci::{CardError, CardResponse, Ctx, DataError};
use sdmorph_sdcard::crc7::end_byte;

use crate::chip::{Chip, PING_PONG_BYTES};
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
/// Modes with this bit send a command first; the others move data only.
const WITH_COMMAND: u8 = 0x08;
/// SD_CFG2: the response's length.
const RESPONSE_LENGTH: u8 = 0x03;
const RESPONSE_NONE: u8 = 0x00;
const RESPONSE_17: u8 = 0x02;
/// SD_CFG2: the response has no CRC7.
const NO_CHECK_CRC7: u8 = 0x04;
/// SD_CFG2: the transfer ends when the card lets go of DAT0.
const WAIT_BUSY_END: u8 = 0x08;
/// SD_STAT1.
const CRC7_ERROR: u8 = 0x80;
/// SD_STAT1: a block from the card.
const CRC16_ERROR: u8 = 0x40;
/// SD_STAT1: the card says so of a block that it was sent (SD_CRC_WRITE_ERR).
const CRC_WRITE_ERROR: u8 = 0x20;
/// SD_STAT1: no CRC status came after a written block (GET_CRC_TIME_OUT).
const CRC_STATUS_TIMEOUT: u8 = 0x02;
/// SD_STAT1: the tuning block was not received well.
const TUNING_COMPARE_ERROR: u8 = 0x01;
/// SD_STAT2: no response came (SD_RSP_80CLK_TIMEOUT).
const RESPONSE_TIMEOUT: u8 = 0x01;
/// SD_VPRX_CTL: the phase at which data is sampled (PHASE_SELECT_MASK).
const PHASE: u8 = 0x1f;
/// Most bytes moved in one go: what a card's storage takes in one request.
const MAX_BYTES_AT_ONCE: u64 = MAX_TRANSFER_BLOCKS as u64 * BLOCK_BYTES as u64;

/// What is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// Nothing.
    #[default]
    None,
    /// Only the card's busy signal is waited for.
    WaitsForCard,
    /// Data.
    Data(Data),
}

/// Data under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data {
    path: Path,
    /// At least 1.
    block_bytes: u16,
    /// At least 1.
    blocks_left: u16,
    /// Where in the ping-pong buffer the next block goes or comes from.
    at: usize,
}

/// Where data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    CardToPingPong,
    PingPongToCard,
    CardToRing,
    RingToCard,
    /// To be compared with the tuning block, and kept nowhere.
    Tuning,
}

impl Transfer {
    pub(crate) fn is_under_way(self) -> bool {
        self != Transfer::None
    }

    /// Whether data lines are in use.
    pub(crate) fn moves_data(self) -> bool {
        matches!(self, Transfer::Data(_))
    }
}

/// What [`advance`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Nothing: there is nothing under way, or it waits.
    Nothing,
    /// So many bytes were moved, or the transfer ended.
    Moved(u64),
    /// The data DMA cannot go on.
    DmaFailed,
}

/// Stops what is under way and clears errors.
pub(crate) fn stop(chip: &mut Chip) {
    chip.set(address::SD_STAT1, 0);
    chip.set(address::SD_STAT2, 0);
    end(chip, IDLE);
}

/// Begins what SD_TRANSFER was written for.
pub(crate) fn start(chip: &mut Chip, ctx: &mut Ctx<'_>) {
    chip.set(address::SD_STAT1, 0);
    chip.set(address::SD_STAT2, 0);
    let mode = chip.peek(address::SD_TRANSFER) & MODE;
    // Under way: neither END nor IDLE.
    chip.set(address::SD_TRANSFER, mode);
    if mode & WITH_COMMAND != 0 && !command(chip, ctx) {
        chip.set(address::SD_STAT2, RESPONSE_TIMEOUT);
        // DEVNOTE: that END stays clear, so that a command list which checks for it fails, follows from what the driver
        // does next. On hardware it may be the driver's own time-out that ends such a list.
        return end(chip, ERROR | IDLE);
    }
    let through_ping_pong = chip.data_goes_through_ping_pong();
    // DEVNOTE: the driver uses WRITE_3, READ_2, NORMAL_READ and TUNING. That _1 and _2, or _3 and _4, differ in a
    // command after the last block (CMD12) may be guessed; here they do not, and the driver sends it itself.
    let path = match (mode, through_ping_pong) {
        (0x8, _) => return end_when_idle(chip, ctx),
        (0x0..=0x2 | 0x9 | 0xa, true) => Path::PingPongToCard,
        (0x0..=0x2 | 0x9 | 0xa, false) => Path::RingToCard,
        (0x5 | 0x6 | 0xc..=0xe, true) => Path::CardToPingPong,
        (0x5 | 0x6 | 0xc..=0xe, false) => Path::CardToRing,
        (0xf, _) => Path::Tuning,
        // Not modes.
        _ => return end(chip, ERROR | IDLE),
    };
    let block_bytes = chip.peek_word(address::SD_BYTE_CNT_L);
    let blocks_left = chip.peek_word(address::SD_BLOCK_CNT_L);
    if block_bytes == 0 || blocks_left == 0 {
        return end(chip, ERROR | IDLE);
    }
    chip.transfer = Transfer::Data(Data { path, block_bytes, blocks_left, at: 0 });
}

/// Goes on with what is under way, by one piece.
pub(crate) fn advance(chip: &mut Chip, ctx: &mut Ctx<'_>) -> Advance {
    match chip.transfer {
        Transfer::None => Advance::Nothing,
        Transfer::WaitsForCard => {
            if chip.card_is_busy(ctx) {
                return Advance::Nothing;
            }
            end(chip, END | IDLE);
            Advance::Moved(0)
        }
        Transfer::Data(data) => advance_data(chip, ctx, data),
    }
}

fn advance_data(chip: &mut Chip, ctx: &mut Ctx<'_>, data: Data) -> Advance {
    let block_bytes = u64::from(data.block_bytes);
    let room = match data.path {
        Path::CardToPingPong | Path::PingPongToCard => PING_PONG_BYTES.saturating_sub(data.at) as u64,
        Path::Tuning => block_bytes,
        Path::CardToRing => chip.ring_bytes(true),
        Path::RingToCard => chip.ring_bytes(false),
    };
    let blocks = (room.min(MAX_BYTES_AT_ONCE) / block_bytes).min(u64::from(data.blocks_left)) as u16;
    if blocks == 0 {
        return match data.path {
            Path::CardToRing | Path::RingToCard => Advance::Nothing,
            // More than the buffer holds will never fit.
            _ => fail(chip, 0),
        };
    }
    let moved = match data.path {
        Path::PingPongToCard | Path::RingToCard => to_card(chip, ctx, data, blocks),
        _ => from_card(chip, ctx, data, blocks),
    };
    match moved {
        Ok(0) => Advance::Nothing,
        Ok(moved) => {
            match data.blocks_left - moved {
                0 => end_when_idle(chip, ctx),
                blocks_left => {
                    let at = data.at + usize::from(moved) * usize::from(data.block_bytes);
                    chip.transfer = Transfer::Data(Data { blocks_left, at, ..data });
                }
            }
            Advance::Moved(block_bytes * u64::from(moved))
        }
        Err(ended) => ended,
    }
}

/// Moves up to `blocks` blocks from the card. How many, or how the transfer has ended.
fn from_card(chip: &mut Chip, ctx: &mut Ctx<'_>, data: Data, blocks: u16) -> Result<u16, Advance> {
    let Data { path, block_bytes, at, .. } = data;
    let sampled_well =
        !chip.samples_by_phase() || chip.model().good_phases.contains(&(chip.sample_phase() & PHASE));
    let now = ctx.now();
    let Some(card) = chip.reachable_card() else { return Err(fail(chip, 0)) };
    let bytes = match card.read_data(now, block_bytes, u32::from(blocks)) {
        Ok(bytes) if bytes.is_empty() => return Ok(0),
        Ok(bytes) if sampled_well => bytes,
        Ok(_) | Err(DataError::Crc) => {
            return Err(fail(chip, if path == Path::Tuning { TUNING_COMPARE_ERROR } else { CRC16_ERROR }));
        }
        // DEVNOTE: whether hardware has a time-out of its own here is not known. It ends at once, or the driver would
        // wait 10 s for each.
        Err(DataError::Timeout) => return Err(fail(chip, 0)),
    };
    match path {
        Path::CardToRing => chip.dma.put(ctx, &bytes).map_err(|_| Advance::DmaFailed)?,
        Path::CardToPingPong => {
            for (slot, byte) in chip.ping_pong.iter_mut().skip(at).zip(&bytes) {
                *slot = *byte;
            }
        }
        Path::Tuning if bytes != sdmorph_sdcard::TUNING_BLOCK => {
            return Err(fail(chip, TUNING_COMPARE_ERROR));
        }
        Path::Tuning | Path::PingPongToCard | Path::RingToCard => {}
    }
    Ok((bytes.len() / usize::from(block_bytes)) as u16)
}

/// Moves up to `blocks` blocks to the card, likewise.
fn to_card(chip: &mut Chip, ctx: &mut Ctx<'_>, data: Data, blocks: u16) -> Result<u16, Advance> {
    let Data { path, block_bytes, at, .. } = data;
    let now = ctx.now();
    let Some(card) = chip.reachable_card() else { return Err(fail(chip, CRC_STATUS_TIMEOUT)) };
    if card.lines(now).busy() {
        return Ok(0);
    }
    let count = usize::from(block_bytes) * usize::from(blocks);
    let bytes = if path == Path::RingToCard {
        chip.dma.take(ctx, count).map_err(|_| Advance::DmaFailed)?
    } else {
        chip.ping_pong.iter().skip(at).take(count).copied().collect()
    };
    let written = chip
        .reachable_card()
        .map_or(Err(DataError::Timeout), |card| card.write_data(now, block_bytes, bytes));
    match written {
        Ok(()) => Ok(blocks),
        Err(DataError::Crc) => Err(fail(chip, CRC_WRITE_ERROR)),
        Err(DataError::Timeout) => Err(fail(chip, CRC_STATUS_TIMEOUT)),
    }
}

/// Ends the transfer with an error, and these bits in SD_STAT1.
fn fail(chip: &mut Chip, status: u8) -> Advance {
    chip.set(address::SD_STAT1, status);
    end(chip, ERROR | IDLE);
    Advance::Moved(0)
}

/// Ends the transfer well, after the card's busy signal if that is asked for.
fn end_when_idle(chip: &mut Chip, ctx: &mut Ctx<'_>) {
    if chip.peek(address::SD_CFG2) & WAIT_BUSY_END != 0 && chip.card_is_busy(ctx) {
        chip.transfer = Transfer::WaitsForCard;
    } else {
        end(chip, END | IDLE);
    }
}

fn end(chip: &mut Chip, status: u8) {
    chip.transfer = Transfer::None;
    let mode = chip.peek(address::SD_TRANSFER) & MODE;
    chip.set(address::SD_TRANSFER, status | mode);
}

/// Sends the command in SD_CMD0 to SD_CMD4. False if a response was due and none came.
fn command(chip: &mut Chip, ctx: &mut Ctx<'_>) -> bool {
    let [index, a, b, c, d] = [0, 1, 2, 3, 4].map(|offset| chip.peek(address::SD_CMD0 + offset));
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

    let config = chip.peek(address::SD_CFG2);
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
