//! A scripted card, for tests of data transfer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sdmorph_pci::{Bus, CardError, CardResponse, DataError, Lines, SdCard};
use sdmorph_sdcard::TUNING_BLOCK;
use sdmorph_sdcard::crc7::end_byte;
use serde_json::Value;

/// What the test sees of the card, and does to it.
pub(crate) struct State {
    pub(crate) blocks: Vec<u8>,
    /// Byte at which the next data is.
    pub(crate) at: usize,
    /// Bytes that the card gives or takes before it has to think.
    pub(crate) ready_bytes: usize,
    pub(crate) busy_until: Option<Duration>,
    pub(crate) fails: Option<DataError>,
    pub(crate) bus: Bus,
    pub(crate) lines: Lines,
    pub(crate) commands: Vec<u8>,
    pub(crate) tuning: bool,
}

impl State {
    /// A card of so many blocks, whose bytes differ from block to block.
    pub(crate) fn of_blocks(count: usize) -> Self {
        Self {
            blocks: (0..count * 512).map(|at| (at / 512 * 7 + at % 251) as u8).collect(),
            at: 0,
            ready_bytes: usize::MAX,
            busy_until: None,
            fails: None,
            bus: Bus::INITIAL,
            lines: Lines::IDLE,
            commands: Vec::new(),
            tuning: false,
        }
    }
}

/// A card that takes any command and is one long row of bytes. Past its end it neither gives nor takes data.
pub(crate) struct Row(pub(crate) Arc<Mutex<State>>);

impl SdCard for Row {
    fn command(&mut self, _now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError> {
        let mut state = self.0.lock().unwrap();
        state.commands.push(index);
        state.at = argument as usize * 512;
        state.tuning = index == 19;
        let content = [index, 0, 0, 9, 0];
        Ok(CardResponse::Short([index, 0, 0, 9, 0, end_byte(&content)]))
    }

    fn read_data(&mut self, _now: Duration, block_bytes: u16, blocks: u32) -> Result<Vec<u8>, DataError> {
        let mut state = self.0.lock().unwrap();
        if state.tuning {
            return Ok(TUNING_BLOCK.to_vec());
        }
        if let Some(error) = state.fails {
            return Err(error);
        }
        let block = usize::from(block_bytes);
        let count = (state.ready_bytes / block).min(blocks as usize) * block;
        let range = state.at..state.at + count;
        let data = state.blocks.get(range.clone()).ok_or(DataError::Timeout)?.to_vec();
        state.ready_bytes -= count;
        state.at = range.end;
        Ok(data)
    }

    fn write_data(&mut self, _now: Duration, _block_bytes: u16, data: Vec<u8>) -> Result<(), DataError> {
        let mut state = self.0.lock().unwrap();
        if let Some(error) = state.fails {
            return Err(error);
        }
        let range = state.at..state.at + data.len();
        state.blocks.get_mut(range.clone()).ok_or(DataError::Timeout)?.copy_from_slice(&data);
        state.at = range.end;
        Ok(())
    }

    fn lines(&mut self, now: Duration) -> Lines {
        let state = self.0.lock().unwrap();
        if state.busy_until.is_some_and(|until| now < until) {
            return Lines { cmd: true, dat: 0xe };
        }
        state.lines
    }

    fn set_bus(&mut self, _now: Duration, bus: Bus) {
        self.0.lock().unwrap().bus = bus;
    }

    fn power_cycle(&mut self) {}

    fn next_deadline(&self) -> Option<Duration> {
        self.0.lock().unwrap().busy_until
    }

    fn last_command(&self) -> String {
        "row".to_owned()
    }

    fn snapshot(&self) -> Value {
        Value::Null
    }
}
