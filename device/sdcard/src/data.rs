//! Data on the lines, and what the medium does for them.

use std::time::Duration;

use sdmorph_pci::media::MAX_TRANSFER_BLOCKS;
use sdmorph_pci::{DataError, MediaError, MediaRequest, MediaResult};

use crate::capacity::BLOCK_BYTES;
use crate::card::MemoryCard;
use crate::state::State;
use crate::status;
use crate::transfer::{Take, Then, Transfer, Work};

/// [`BLOCK_BYTES`] as a length.
const BLOCK_LENGTH: usize = BLOCK_BYTES as usize;
/// Most bytes of one request to the medium.
const REQUEST_BYTES: usize = MAX_TRANSFER_BLOCKS as usize * BLOCK_LENGTH;

/// How the card tells what went wrong with its medium.
fn error_bits(error: MediaError) -> u32 {
    match error {
        MediaError::OutOfRange => status::OUT_OF_RANGE,
        MediaError::ReadOnly => status::WP_VIOLATION,
        MediaError::Full => status::ERROR,
        MediaError::Io => status::CARD_ECC_FAILED,
    }
}

/// Whole blocks of 512 bytes in `data`.
fn blocks_of(data: &[u8]) -> u32 {
    u32::try_from(data.len() / BLOCK_LENGTH).unwrap_or(u32::MAX)
}

impl MemoryCard {
    /// Takes note of the time and of what the medium has ended.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.seen = self.seen.max(now);
        self.session.signalling.settle(now);
        self.disturbances.settle(now);
        while let Some(result) = self.store.result() {
            self.work_ended(result);
        }
        if !self.is_busy() {
            match self.session.state {
                State::Programming => self.session.state = State::Transfer,
                State::Disconnect => self.session.state = State::StandBy,
                _ => {}
            }
        }
    }

    /// Whether the card takes no data: it works, or is disturbed.
    pub(crate) fn is_busy(&self) -> bool {
        self.session.work.is_busy() || self.disturbances.is_busy()
    }

    fn work_ended(&mut self, result: MediaResult) {
        let work = std::mem::replace(&mut self.session.work, Work::None);
        let data = match result {
            Ok(data) => data,
            Err(error) => {
                if matches!(work, Work::Erase { is_forced: true, .. }) {
                    self.session.raise(status::LOCK_UNLOCK_FAILED);
                }
                return self.work_failed(error);
            }
        };
        match work {
            Work::None => {}
            Work::Read { skip, bytes } => self.came(data, skip, bytes),
            Work::Write { blocks, next, rest } => {
                self.session.written = self.session.written.saturating_add(blocks);
                self.counters.blocks_written = self.counters.blocks_written.saturating_add(blocks.into());
                if !rest.is_empty() {
                    self.write_blocks(next, rest);
                }
            }
            Work::Erase { runs, is_forced } => self.erase_next(runs, is_forced),
        }
    }

    fn work_failed(&mut self, error: MediaError) {
        self.session.raise(error_bits(error));
        match &mut self.session.transfer {
            Transfer::Read(read) => read.has_failed = true,
            Transfer::Write(write) => write.has_failed = true,
            _ => {}
        }
    }

    /// The medium has the data of a read.
    fn came(&mut self, mut data: Vec<u8>, skip: usize, bytes: usize) {
        if data.len() < skip.saturating_add(bytes) {
            return self.work_failed(MediaError::Io);
        }
        data.truncate(skip.saturating_add(bytes));
        data.drain(..skip);
        if let Transfer::Read(read) = &mut self.session.transfer {
            read.buffer = data;
        }
    }

    /// Whether the host runs the bus as the card does.
    fn bus_fits(&self) -> bool {
        let width = if self.session.wide { 4 } else { 1 };
        self.bus.width == width && self.bus.ddr == self.session.functions.is_double_rate()
    }

    /// What a host that clocks in data finds wrong with them, whatever they are.
    fn spoilt(&mut self) -> Option<DataError> {
        self.disturbances.spoils_data().or_else(|| (!self.bus_fits()).then_some(DataError::Crc))
    }

    pub(crate) fn send(&mut self, block_bytes: u16, blocks: u32) -> Result<Vec<u8>, DataError> {
        if self.session.state != State::SendingData {
            return Err(DataError::Timeout);
        }
        if blocks == 0 {
            return Ok(Vec::new());
        }
        match &mut self.session.transfer {
            Transfer::Send { block, then } => {
                let (block, then) = (std::mem::take(block), *then);
                self.end_of_data();
                let error = self.spoilt();
                // The card has sent it, unless it sent nothing: whether the host got it, or counted right, or not.
                match then {
                    Then::Functions(functions) if error != Some(DataError::Timeout) => {
                        self.session.functions = functions;
                    }
                    Then::Nothing | Then::Functions(_) => {}
                }
                if let Some(error) = error {
                    return Err(error);
                }
                if block.len() == usize::from(block_bytes) { Ok(block) } else { Err(DataError::Crc) }
            }
            Transfer::Read(read) => {
                if read.has_failed {
                    return self.failed_read(DataError::Timeout);
                }
                if block_bytes != read.length {
                    return self.failed_read(DataError::Crc);
                }
                let is_under_way = matches!(self.session.work, Work::Read { .. });
                if !is_under_way && read.buffer.is_empty() {
                    // A transfer is spoilt once, when the host starts to wait for it.
                    if let Some(error) = self.spoilt() {
                        return self.failed_read(error);
                    }
                    self.fetch(blocks);
                }
                self.settle(self.seen);
                self.hand_out(blocks)
            }
            _ => Err(DataError::Timeout),
        }
    }

    /// No more data come.
    fn failed_read(&mut self, error: DataError) -> Result<Vec<u8>, DataError> {
        match &mut self.session.transfer {
            Transfer::Read(read) if read.is_multiple => {
                read.has_failed = true;
                read.buffer = Vec::new();
            }
            _ => self.end_of_data(),
        }
        Err(error)
    }

    /// Asks the medium for up to `wanted` blocks.
    fn fetch(&mut self, wanted: u32) {
        let Transfer::Read(read) = &mut self.session.transfer else { return };
        let (at, length) = (read.at, u64::from(read.length));
        let first = at / u64::from(BLOCK_BYTES);
        let offset = at % u64::from(BLOCK_BYTES);
        let wanted = wanted.min(read.left.unwrap_or(u32::MAX)).min(MAX_TRANSFER_BLOCKS);
        let there = self.profile.capacity.blocks().saturating_sub(first);
        let error = if there == 0 {
            status::OUT_OF_RANGE
        } else if offset + length > u64::from(BLOCK_BYTES) {
            status::ADDRESS_ERROR
        } else {
            0
        };
        // Short blocks (SDSC only) come from one block of the medium at a time.
        let is_whole = read.length == BLOCK_BYTES;
        let blocks = if is_whole { wanted.min(u32::try_from(there).unwrap_or(u32::MAX)) } else { 1 };
        let good = self.disturbances.good_blocks(first, blocks);
        if error != 0 || good == 0 {
            read.has_failed = true;
            if error == 0 {
                self.disturbances.met_bad_block();
            }
            self.session.raise(if error == 0 { status::CARD_ECC_FAILED } else { error });
            return;
        }
        let (skip, bytes) = if is_whole {
            (0, good as usize * BLOCK_LENGTH)
        } else {
            let fits = (u64::from(BLOCK_BYTES) - offset) / length;
            (offset as usize, (u64::from(wanted).min(fits) * length) as usize)
        };
        self.session.work = Work::Read { skip, bytes };
        self.store.ask(MediaRequest::Read { first, count: good, buffer: Vec::new() });
    }

    /// Gives the host up to `blocks` blocks of what there is.
    fn hand_out(&mut self, blocks: u32) -> Result<Vec<u8>, DataError> {
        let Transfer::Read(read) = &mut self.session.transfer else { return Err(DataError::Timeout) };
        if read.has_failed {
            return self.failed_read(DataError::Timeout);
        }
        let length = usize::from(read.length);
        let bytes = (blocks as usize).saturating_mul(length).min(read.buffer.len());
        let rest = read.buffer.split_off(bytes);
        let data = std::mem::replace(&mut read.buffer, rest);
        let sent = u32::try_from(data.len() / length.max(1)).unwrap_or(u32::MAX);
        read.at = read.at.saturating_add(data.len() as u64);
        read.left = read.left.map(|left| left.saturating_sub(sent));
        let is_over = read.left == Some(0);
        self.counters.blocks_read = self.counters.blocks_read.saturating_add(sent.into());
        if is_over {
            self.end_of_data();
        }
        Ok(data)
    }

    pub(crate) fn receive(&mut self, block_bytes: u16, data: Vec<u8>) -> Result<(), DataError> {
        if self.session.state != State::ReceiveData || self.is_busy() {
            return Err(DataError::Timeout);
        }
        if data.is_empty() {
            return Ok(());
        }
        let (expected, has_failed) = match &self.session.transfer {
            Transfer::Write(write) => (BLOCK_BYTES, write.has_failed),
            Transfer::Take { length, .. } => (*length, false),
            _ => return Err(DataError::Timeout),
        };
        if has_failed {
            return Err(DataError::Timeout);
        }
        let is_whole = block_bytes == expected && data.len() % usize::from(expected.max(1)) == 0;
        let error = self.spoilt().or_else(|| (!is_whole).then_some(DataError::Crc));
        if let Some(error) = error {
            return self.failed_write(error);
        }
        match self.session.transfer {
            Transfer::Take { what, .. } => self.take(what, data, expected),
            _ => self.receive_blocks(data),
        }
    }

    /// The card takes no more data.
    fn failed_write(&mut self, error: DataError) -> Result<(), DataError> {
        match &mut self.session.transfer {
            Transfer::Write(write) if write.is_multiple => write.has_failed = true,
            _ => self.end_of_data(),
        }
        Err(error)
    }

    /// One block that is no user data; what is longer gets no CRC status for the rest.
    fn take(&mut self, what: Take, mut data: Vec<u8>, length: u16) -> Result<(), DataError> {
        let is_one = data.len() == usize::from(length);
        data.truncate(usize::from(length));
        self.session.transfer = Transfer::None;
        self.session.state = State::Programming;
        match what {
            Take::Csd => self.take_csd(&data),
            Take::Lock => self.take_lock(&data),
            Take::General => self.durable.general = data,
        }
        if is_one { Ok(()) } else { Err(DataError::Timeout) }
    }

    fn receive_blocks(&mut self, mut data: Vec<u8>) -> Result<(), DataError> {
        let Transfer::Write(write) = &mut self.session.transfer else { return Err(DataError::Timeout) };
        let (at, sent) = (write.at, blocks_of(&data));
        let expected = sent.min(write.left.unwrap_or(u32::MAX));
        let there = self.profile.capacity.blocks().saturating_sub(at);
        let fitting = expected.min(u32::try_from(there).unwrap_or(u32::MAX));
        let writable = self.durable.groups.writable_blocks(at, fitting);
        let good = self.disturbances.good_blocks(at, writable);
        write.at = at.saturating_add(good.into());
        write.left = write.left.map(|left| left.saturating_sub(good));
        let is_over = write.left == Some(0);
        let error = if good < writable {
            self.disturbances.met_bad_block();
            status::CARD_ECC_FAILED
        } else if writable < fitting {
            status::WP_VIOLATION
        } else if fitting < expected {
            status::OUT_OF_RANGE
        } else {
            0
        };
        data.truncate(good as usize * BLOCK_LENGTH);
        if good > 0 {
            self.write_blocks(at, data);
        }
        if error != 0 {
            self.session.raise(error);
            return self.failed_write(DataError::Timeout);
        }
        if is_over {
            self.session.transfer = Transfer::None;
            self.session.state = State::Programming;
        }
        // What is beyond the count that was agreed on gets no CRC status.
        if good < sent { Err(DataError::Timeout) } else { Ok(()) }
    }

    /// Has the medium write, in as many requests as it takes.
    fn write_blocks(&mut self, first: u64, mut data: Vec<u8>) {
        let rest = if data.len() > REQUEST_BYTES { data.split_off(REQUEST_BYTES) } else { Vec::new() };
        let blocks = blocks_of(&data);
        self.session.work = Work::Write { blocks, next: first.saturating_add(blocks.into()), rest };
        self.store.ask(MediaRequest::Write { first, data });
    }
}
