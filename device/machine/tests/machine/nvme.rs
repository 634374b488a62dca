//! What the `nvme` driver does to a drive in the slot, as far as a block to be written or read needs it.

use crate::guest::{Guest, READER, WINDOW};

const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;
const ENTRIES: u16 = 16;
/// Queues and a buffer, behind what the reader's driver has.
const MEMORY: u64 = (1 << 20) + 0x4_0000;
pub(crate) const BUFFER: u64 = MEMORY + 0x1_0000;
/// Status: successful completion.
pub(crate) const SUCCESS: u16 = 0;
/// Status: namespace is write protected.
pub(crate) const WRITE_PROTECTED: u16 = 0x20;
const FUA: u32 = 1 << 30;

#[derive(Default)]
struct Queue {
    tail: u16,
    head: u16,
    phase: bool,
    /// Commands sent, for identifiers.
    sent: u16,
}

/// A driver that is bound to the drive, with one I/O queue pair.
pub(crate) struct NvmeDriver {
    queues: [Queue; 2],
}

/// The drive does not answer, or not to a command, or has been reset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

fn submission(queue: u16) -> u64 {
    MEMORY + 0x2000 * u64::from(queue)
}

fn completion(queue: u16) -> u64 {
    submission(queue) + 0x1000
}

impl NvmeDriver {
    /// What the PCI core and the driver do when the slot has come up.
    pub(crate) fn probe(guest: &mut Guest) -> Result<Self, Gone> {
        // A 64-bit BAR of 16 KiB.
        guest.write(0, READER | 0x10, 4, 0xffff_ffff);
        assert_eq!(guest.read(0, READER | 0x10, 4), 0xffff_c004);
        guest.write(0, READER | 0x10, 4, WINDOW | 4);
        guest.write(0, READER | 0x14, 4, 0);
        guest.write(0, READER | 4, 2, 6);
        guest.write(2, CC, 4, 0);
        for queue in 0..2 {
            guest.memory.write(submission(queue), &[0; 0x2000]).unwrap();
        }
        guest.write(2, AQA, 4, u64::from(ENTRIES - 1) << 16 | u64::from(ENTRIES - 1));
        guest.write(2, ASQ, 8, submission(0));
        guest.write(2, ACQ, 8, completion(0));
        guest.write(2, CC, 4, 4 << 20 | 6 << 16 | 1);
        if guest.read(2, CSTS, 4) != 1 {
            return Err(Gone);
        }
        let mut driver = Self { queues: Default::default() };
        let size = u32::from(ENTRIES - 1) << 16 | 1;
        let made = driver.command(guest, 0, [5, 0, size, 1], completion(1))?;
        if made != SUCCESS {
            return Err(Gone);
        }
        let made = driver.command(guest, 0, [1, 0, size, 1 << 16 | 1], submission(1))?;
        if made == SUCCESS { Ok(driver) } else { Err(Gone) }
    }

    /// Sends a command: opcode, namespace, dwords 10 and 11; PRP 1. Dword 12 is zero, but for what the opcode holds above
    /// its byte: one block, and Force Unit Access.
    pub(crate) fn send(
        &mut self,
        guest: &mut Guest,
        queue: u16,
        [opcode, namespace, dword10, dword11]: [u32; 4],
        prp: u64,
    ) {
        let state = &mut self.queues[usize::from(queue)];
        let mut entry = [0u8; 64];
        let mut put = |at: usize, value: u32| entry[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, opcode & 0xff | u32::from(state.sent) << 16);
        put(4, namespace);
        put(24, prp as u32);
        put(28, (prp >> 32) as u32);
        put(40, dword10);
        put(44, dword11);
        put(48, opcode & FUA);
        state.sent = state.sent.wrapping_add(1);
        guest.memory.write(submission(queue) + 64 * u64::from(state.tail), &entry).unwrap();
        state.tail = (state.tail + 1) % ENTRIES;
        let tail = u64::from(state.tail);
        guest.write(2, DOORBELLS + 8 * u64::from(queue), 4, tail);
    }

    /// The status of the next command that has ended, if one has.
    pub(crate) fn ended(&mut self, guest: &mut Guest, queue: u16) -> Option<u16> {
        let state = &mut self.queues[usize::from(queue)];
        let mut entry = [0; 16];
        guest.memory.read(completion(queue) + 16 * u64::from(state.head), &mut entry).unwrap();
        let status = u16::from_le_bytes([entry[14], entry[15]]);
        if (status & 1 != 0) == state.phase {
            return None;
        }
        state.head = (state.head + 1) % ENTRIES;
        state.phase ^= state.head == 0;
        let head = u64::from(state.head);
        guest.write(2, DOORBELLS + 8 * u64::from(queue) + 4, 4, head);
        Some(status >> 1 & 0x7ff)
    }

    /// Sends a command, and gives its status.
    pub(crate) fn command(
        &mut self,
        guest: &mut Guest,
        queue: u16,
        command: [u32; 4],
        prp: u64,
    ) -> Result<u16, Gone> {
        self.send(guest, queue, command, prp);
        loop {
            if let Some(status) = self.ended(guest, queue) {
                return Ok(status);
            }
            // Reading also has the image's threads waited for: a write with Force Unit Access is two requests to it.
            let status = guest.read(2, CSTS, 4);
            if status == 0xffff_ffff || status & 1 == 0 {
                return Err(Gone);
            }
            if !guest.image_is_at_work() {
                // Nothing here takes time but an image.
                return self.ended(guest, queue).ok_or(Gone);
            }
            // Unless a rule holds up the drive's DMA until then.
            if let Some(at) = guest.machine.next_deadline() {
                let now = guest.now();
                guest.advance_to(at.max(now));
            }
            guest.let_image_work();
        }
    }

    pub(crate) fn write(
        &mut self,
        guest: &mut Guest,
        block: u32,
        data: &[u8],
        fua: bool,
    ) -> Result<u16, Gone> {
        guest.memory.write(BUFFER, data).unwrap();
        self.command(guest, 1, [if fua { FUA | 1 } else { 1 }, 1, block, 0], BUFFER)
    }

    pub(crate) fn read(&mut self, guest: &mut Guest, block: u32) -> Result<Vec<u8>, Gone> {
        let mut data = vec![0xa5; 512];
        guest.memory.write(BUFFER, &data).unwrap();
        assert_eq!(self.command(guest, 1, [2, 1, block, 0], BUFFER)?, SUCCESS);
        guest.memory.read(BUFFER, &mut data).unwrap();
        Ok(data)
    }

    pub(crate) fn flush(&mut self, guest: &mut Guest) -> Result<u16, Gone> {
        self.command(guest, 1, [0, 1, 0, 0], 0)
    }

    /// `nvme_disable_ctrl` with a shutdown.
    pub(crate) fn shut_down(self, guest: &mut Guest) {
        let configuration = guest.read(2, CC, 4);
        guest.write(2, CC, 4, configuration | 1 << 14);
        assert_eq!(guest.read(2, CSTS, 4) >> 2 & 3, 2, "shutdown complete");
    }
}
