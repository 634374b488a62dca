//! Data: the part of `rtsx_pci_sdmmc.c` that moves it, and `rtsx_pci_dma_transfer`.

use super::access::{HDBAR, HDBCTLR, Step};
use super::host::Response;
use super::{DriverError, Port};

/// Bytes of the driver's buffer that command lists have; the scatter list has the rest (HOST_CMDS_BUF_LEN).
const LIST_BYTES: u64 = 1024;
/// TRIG_DMA and ADMA_MODE.
const START_DMA: u32 = 1 << 31 | 0b10 << 26;
/// DEVICE_TO_HOST.
const TO_HOST: u32 = 1 << 29;
/// How long the driver waits for the end of a transfer (10 s), in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// Options of an entry of the scatter list: RTSX_SG_VALID, RTSX_SG_TRANS_DATA.
const ENTRY: u64 = 0x21;
/// RTSX_SG_END.
const LAST: u64 = 0x02;

/// A piece of guest memory: address, length in bytes.
pub type Piece = (u64, u32);

/// A command that moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The command's index, such as 18.
    pub index: u8,
    /// Its argument.
    pub argument: u32,
    /// Bytes of a block.
    pub block_bytes: u16,
    /// How many blocks.
    pub blocks: u16,
}

/// An entry of the scatter list as an RTS5261 takes it (`rtsx_pci_add_sg_tbl`).
#[must_use]
pub fn scatter_entry((address, length): Piece, last: bool) -> u64 {
    let length = u64::from(length);
    let high = if length > 0xffff { (length >> 16) << 6 } else { 0 };
    address << 32 | (length & 0xffff) << 16 | high | ENTRY | if last { LAST } else { 0 }
}

/// The same for the chips whose entries have the length in one piece.
#[must_use]
pub fn scatter_entry_whole((address, length): Piece, last: bool) -> u64 {
    address << 32 | u64::from(length) << 12 | ENTRY | if last { LAST } else { 0 }
}

impl Port<'_> {
    /// `sd_set_bus_width` and `sd_set_timing`, as far as a card notices: SD_CFG1.
    pub(crate) fn set_bus(&mut self, width: u8, timing: u8) -> Result<(), DriverError> {
        let width = match width {
            4 => 0x01,
            8 => 0x02,
            _ => 0x00,
        };
        self.put_all(&[(0xfda0, 0x03, width), (0xfda0, 0x0c, timing)])
    }

    fn data_length(&self, transfer: Transfer) -> [Step; 4] {
        let [blocks_low, blocks_high] = transfer.blocks.to_le_bytes();
        let [bytes_low, bytes_high] = transfer.block_bytes.to_le_bytes();
        [
            Step::Write(0xfdb1, 0xff, blocks_low),
            Step::Write(0xfdb2, 0xff, blocks_high),
            Step::Write(0xfdaf, 0xff, bytes_low),
            Step::Write(0xfdb0, 0xff, bytes_high),
        ]
    }

    fn dma_setup(&self, transfer: Transfer, direction: u8) -> [Step; 7] {
        let total = u32::from(transfer.blocks) * u32::from(transfer.block_bytes);
        let [a, b, c, d] = total.to_le_bytes();
        [
            Step::Write(0xfe21, 0x80, 0x80),
            Step::Write(0xfe2b, 0xff, d),
            Step::Write(0xfe2a, 0xff, c),
            Step::Write(0xfe29, 0xff, b),
            Step::Write(0xfe28, 0xff, a),
            Step::Write(0xfe2c, 0x33, direction | 0x21),
            // The ring buffer.
            Step::Write(0xfd5b, 0x01, 0x00),
        ]
    }

    fn command_steps(index: u8, argument: u32) -> [Step; 5] {
        let [a, b, c, d] = argument.to_be_bytes();
        [
            Step::Write(0xfda9, 0xff, 0x40 | index),
            Step::Write(0xfdaa, 0xff, a),
            Step::Write(0xfdab, 0xff, b),
            Step::Write(0xfdac, 0xff, c),
            Step::Write(0xfdad, 0xff, d),
        ]
    }

    /// `sd_read_long_data`.
    pub(crate) fn read_long(&mut self, transfer: Transfer, pieces: &[Piece]) -> Result<(), DriverError> {
        let mut steps = Vec::new();
        steps.extend(Self::command_steps(transfer.index, transfer.argument));
        steps.extend(self.data_length(transfer));
        steps.extend(self.dma_setup(transfer, 0x02));
        steps.extend([
            Step::Write(0xfda1, 0xff, 0x01),
            Step::Write(0xfdb3, 0xff, 0x8e),
            Step::Check(0xfdb3, 0x40, 0x40),
        ]);
        self.send_list(&steps);
        self.dma_transfer(pieces, TO_HOST)
    }

    /// `sd_write_long_data`.
    pub(crate) fn write_long(&mut self, transfer: Transfer, pieces: &[Piece]) -> Result<(), DriverError> {
        self.command(transfer.index, transfer.argument, Response::Short)?;
        let mut steps = Vec::new();
        steps.extend(self.data_length(transfer));
        steps.extend(self.dma_setup(transfer, 0x00));
        steps.extend([
            Step::Write(0xfda1, 0xff, 0x84),
            Step::Write(0xfdb3, 0xff, 0x81),
            Step::Check(0xfdb3, 0x40, 0x40),
        ]);
        self.send_list(&steps);
        self.dma_transfer(pieces, 0)
    }

    /// `rtsx_pci_dma_transfer`.
    pub(crate) fn dma_transfer(&mut self, pieces: &[Piece], direction: u32) -> Result<(), DriverError> {
        let at = self.driver.list_at + LIST_BYTES;
        let count = pieces.len();
        let entry = if self.sequences().whole_length { scatter_entry_whole } else { scatter_entry };
        let table: Vec<u8> = (1..)
            .zip(pieces)
            .flat_map(|(number, piece)| entry(*piece, number == count).to_le_bytes())
            .collect();
        self.bench.memory.poke(at, &table);
        self.driver.list_ended_well = None;
        self.bar_write(HDBAR, (at & 0xffff_ffff) as u32);
        self.bar_write(HDBCTLR, START_DMA | direction);
        let ended = self.wait_for_end(PATIENCE_MS);
        if ended.is_err() {
            self.stop()?;
            // sd_clear_error.
            self.put(0xfd54, 0x44, 0x44)?;
        }
        ended
    }

    /// `sd_read_data`: one block through the ping-pong buffer.
    pub(crate) fn read_short(&mut self, transfer: Transfer) -> Result<Vec<u8>, DriverError> {
        let mut steps = Vec::new();
        steps.extend(Self::command_steps(transfer.index, transfer.argument));
        steps.extend(self.data_length(transfer));
        steps.extend([
            Step::Write(0xfda1, 0xff, 0x01),
            Step::Write(0xfd5b, 0x01, 0x01),
            Step::Write(0xfdb3, 0xff, 0x8c),
            Step::Check(0xfdb3, 0x40, 0x40),
        ]);
        self.run(&steps)?;
        // rtsx_pci_read_ppbuf.
        let mut data = Vec::new();
        let end = 0xfa00 + transfer.block_bytes.min(512);
        for first in (0xfa00..end).step_by(256) {
            let steps: Vec<Step> = (first..end.min(first + 256)).map(Step::Read).collect();
            data.extend(self.run(&steps)?);
        }
        Ok(data)
    }

    /// `sd_write_data`: one block through the ping-pong buffer.
    pub(crate) fn write_short(&mut self, transfer: Transfer, data: &[u8]) -> Result<(), DriverError> {
        self.command(transfer.index, transfer.argument, Response::Short)?;
        // rtsx_pci_write_ppbuf.
        for (first, part) in (0xfa00..).step_by(256).zip(data.chunks(256)) {
            let steps: Vec<Step> =
                (first..).zip(part).map(|(at, byte)| Step::Write(at, 0xff, *byte)).collect();
            self.run(&steps)?;
        }
        let mut steps = Vec::new();
        steps.extend(self.data_length(transfer));
        steps.extend([
            Step::Write(0xfda1, 0xff, 0x00),
            Step::Write(0xfdb3, 0xff, 0x81),
            Step::Check(0xfdb3, 0x40, 0x40),
        ]);
        self.run(&steps).map(drop)
    }

    /// `sd_tuning_rx_cmd`: whether the tuning block is received well at this phase.
    pub(crate) fn tune(&mut self, phase: u8) -> Result<bool, DriverError> {
        // sd_change_phase.
        self.put_all(&[
            (0xfc02, 0x02, 0x02),
            (0xfc2b, 0x1f, phase),
            (0xfc2b, 0x40, 0x00),
            (0xfc2b, 0x40, 0x40),
            (0xfc02, 0x02, 0x00),
            (0xfda0, 0x10, 0x00),
        ])?;
        self.put(0xfda2, 0x01, 0x01)?;
        let transfer = Transfer { index: 19, argument: 0, block_bytes: 64, blocks: 1 };
        let mut steps = Vec::new();
        steps.extend(Self::command_steps(transfer.index, transfer.argument));
        steps.extend(self.data_length(transfer));
        steps.extend([
            Step::Write(0xfda1, 0xff, 0x01),
            Step::Write(0xfdb3, 0xff, 0x8f),
            Step::Check(0xfdb3, 0x40, 0x40),
        ]);
        let result = self.run(&steps);
        if result.is_err() {
            // sd_wait_data_idle, sd_clear_error.
            self.get(0xfdb6)?;
            self.put(0xfd54, 0x44, 0x44)?;
        }
        self.put(0xfda2, 0x01, 0x00)?;
        match result {
            Ok(_) => Ok(true),
            Err(DriverError::ListFailed) => Ok(false),
            Err(other) => Err(other),
        }
    }
}
