//! Commands that start and stop data transfers (4.3.3, 4.3.4). The data themselves move in `crate::data`.

use std::time::Duration;

use crate::capacity::BLOCK_BYTES;
use crate::card::MemoryCard;
use crate::registers::scr::scr;
use crate::registers::ssr::ssr;
use crate::state::State;
use crate::status;
use crate::switch::Functions;
use crate::table::Outcome;
use crate::tuning::TUNING_BLOCK;

/// CMD56: the card sends.
const GENERAL_READ: u32 = 1;
/// Bytes of a CSD.
const CSD_BYTES: u16 = 16;

/// The data that the last command is about.
#[derive(Debug)]
pub(crate) enum Transfer {
    /// There are none.
    None,
    /// One block to the host that is no user data, and what happens when it has been sent.
    Send { block: Vec<u8>, then: Then },
    /// User data to the host.
    Read(Read),
    /// User data from the host.
    Write(Write),
    /// One block from the host that is no user data.
    Take { what: Take, length: u16 },
}

/// What happens when a block has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The functions that CMD6 has chosen are used.
    Functions(Functions),
}

/// CMD17, CMD18.
#[derive(Debug)]
pub(crate) struct Read {
    /// The next byte.
    pub(crate) at: u64,
    /// Bytes of a block on the bus.
    pub(crate) length: u16,
    /// Blocks that are left; `None` if only CMD12 ends it.
    pub(crate) left: Option<u32>,
    /// Came from the medium and was not sent yet.
    pub(crate) buffer: Vec<u8>,
    /// No more data come; CMD12 is waited for.
    pub(crate) has_failed: bool,
    pub(crate) is_multiple: bool,
}

/// CMD24, CMD25.
#[derive(Debug)]
pub(crate) struct Write {
    /// The next block.
    pub(crate) at: u64,
    /// Blocks that are left; `None` if only CMD12 ends it.
    pub(crate) left: Option<u32>,
    /// No more data are taken; CMD12 is waited for.
    pub(crate) has_failed: bool,
    pub(crate) is_multiple: bool,
}

/// A block that is no user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// CMD27.
    Csd,
    /// CMD42.
    Lock,
    /// CMD56.
    General,
}

/// What the medium is at work on for the card.
#[derive(Debug)]
pub(crate) enum Work {
    None,
    /// Of what is read, `bytes` from `skip` on are sent.
    Read {
        skip: usize,
        bytes: usize,
    },
    /// `blocks` of the write at hand; then, from `next` on, what was too much for one request.
    Write {
        blocks: u32,
        next: u64,
        rest: Vec<u8>,
    },
    /// Runs of blocks that are erased after the one at hand.
    Erase {
        runs: Vec<(u64, u64)>,
        is_forced: bool,
    },
}

impl Work {
    /// Whether the card holds DAT0 low for it.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Work::Write { .. } | Work::Erase { .. })
    }
}

impl MemoryCard {
    /// The byte that a data command's argument means. Uses up what CMD22 said.
    pub(crate) fn user_address(&mut self, argument: u32) -> u64 {
        let extension = std::mem::take(&mut self.session.address_extension);
        let address = u64::from(extension) << 32 | u64::from(argument);
        if self.profile.capacity.is_standard() { address } else { address * u64::from(BLOCK_BYTES) }
    }

    /// Bytes of a block of user data (CMD16 counts for standard-capacity cards only).
    fn user_block_length(&self) -> u16 {
        if self.profile.capacity.is_standard() { self.session.block_length } else { BLOCK_BYTES }
    }

    /// CMD17.
    pub(crate) fn read_single(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.read(argument, Some(1), false)
    }

    /// CMD18.
    pub(crate) fn read_multiple(&mut self, _now: Duration, argument: u32) -> Outcome {
        let count = self.session.block_count.take();
        self.read(argument, count, true)
    }

    fn read(&mut self, argument: u32, left: Option<u32>, is_multiple: bool) -> Outcome {
        let at = self.user_address(argument);
        let length = self.user_block_length();
        let errors = if at >= self.profile.capacity.bytes() {
            status::OUT_OF_RANGE
        } else if at % u64::from(BLOCK_BYTES) + u64::from(length) > u64::from(BLOCK_BYTES) {
            status::ADDRESS_ERROR
        } else {
            0
        };
        self.session.raise(errors);
        let has_failed = errors != 0;
        // A transfer of many blocks waits for its end, whatever is wrong; one of a single block is over.
        if is_multiple || !has_failed {
            let buffer = Vec::new();
            self.session.transfer =
                Transfer::Read(Read { at, length, left, buffer, has_failed, is_multiple });
            self.session.state = State::SendingData;
        }
        Outcome::Answer
    }

    /// CMD24.
    pub(crate) fn write_single(&mut self, _now: Duration, argument: u32) -> Outcome {
        self.write(argument, Some(1), false)
    }

    /// CMD25.
    pub(crate) fn write_multiple(&mut self, _now: Duration, argument: u32) -> Outcome {
        let count = self.session.block_count.take();
        self.write(argument, count, true)
    }

    fn write(&mut self, argument: u32, left: Option<u32>, is_multiple: bool) -> Outcome {
        let address = self.user_address(argument);
        let at = address / u64::from(BLOCK_BYTES);
        let errors = if self.user_block_length() != BLOCK_BYTES {
            // WRITE_BL_PARTIAL is 0.
            status::BLOCK_LEN_ERROR
        } else if address >= self.profile.capacity.bytes() {
            status::OUT_OF_RANGE
        } else if address % u64::from(BLOCK_BYTES) != 0 {
            status::ADDRESS_ERROR
        } else if self.durable.programmed.is_write_protected() || self.durable.groups.is_protected(at) {
            status::WP_VIOLATION
        } else {
            0
        };
        self.session.raise(errors);
        self.session.written = 0;
        let has_failed = errors != 0;
        if is_multiple || !has_failed {
            self.session.transfer = Transfer::Write(Write { at, left, has_failed, is_multiple });
            self.session.state = State::ReceiveData;
        }
        Outcome::Answer
    }

    /// CMD12. What the card has taken is programmed; what it has not sent is dropped.
    pub(crate) fn stop_transmission(&mut self, _now: Duration, _argument: u32) -> Outcome {
        if self.session.state == State::ReceiveData {
            self.session.transfer = Transfer::None;
            self.session.state = State::Programming;
        } else {
            self.end_of_data();
        }
        Outcome::Answer
    }

    /// A transfer is over, and nothing has to be programmed.
    pub(crate) fn end_of_data(&mut self) {
        if matches!(self.session.work, Work::Read { .. }) {
            self.session.work = Work::None;
            self.store.abandon();
        }
        self.session.transfer = Transfer::None;
        self.session.state = State::Transfer;
    }

    /// A command is answered with this block.
    pub(crate) fn send_block(&mut self, block: Vec<u8>, then: Then) -> Outcome {
        self.session.transfer = Transfer::Send { block, then };
        self.session.state = State::SendingData;
        Outcome::Answer
    }

    fn take_block(&mut self, what: Take, length: u16) -> Outcome {
        self.session.transfer = Transfer::Take { what, length };
        self.session.state = State::ReceiveData;
        Outcome::Answer
    }

    /// CMD19.
    pub(crate) fn send_tuning_block(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.send_block(TUNING_BLOCK.to_vec(), Then::Nothing)
    }

    /// ACMD13.
    pub(crate) fn send_sd_status(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.send_block(ssr(&self.profile, self.session.wide).to_vec(), Then::Nothing)
    }

    /// ACMD51.
    pub(crate) fn send_scr(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.send_block(scr(&self.profile).to_vec(), Then::Nothing)
    }

    /// ACMD22.
    pub(crate) fn send_written_blocks(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.send_block(self.session.written.to_be_bytes().to_vec(), Then::Nothing)
    }

    /// CMD27.
    pub(crate) fn program_csd(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.take_block(Take::Csd, CSD_BYTES)
    }

    /// CMD42: the one command for which CMD16 counts on every card.
    pub(crate) fn lock_unlock(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.take_block(Take::Lock, self.session.block_length)
    }

    /// CMD56: what the host sends, it can read back; the specification leaves the use to the maker.
    pub(crate) fn general(&mut self, _now: Duration, argument: u32) -> Outcome {
        let length = self.user_block_length();
        if argument & GENERAL_READ == 0 {
            return self.take_block(Take::General, length);
        }
        let mut block = self.durable.general.clone();
        block.resize(usize::from(length), 0);
        self.send_block(block, Then::Nothing)
    }
}
