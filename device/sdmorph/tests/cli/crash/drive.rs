//! The card as a drive: many commands under way, Flush and Force Unit Access among them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sdmorph_testkit::nvme::{Completion, Entry};
use sdmorph_testkit::{Bench, NvmeDriver, Remote};

use super::area::{Area, BLOCK_BYTES, BLOCKS, Chance, Write};
use crate::server::Server;

/// Commands under way, at most.
const DEPTH: usize = 16;
/// Commands until the kill, at most.
const MOST_COMMANDS: u64 = 600;
/// The kill is up to this much later.
const LATER_US: u64 = 500;
/// For one completion of any; nobody waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

const WRITE: u8 = 1;
const FLUSH: u8 = 0;
const FUA: u32 = 1 << 30;

enum Sent {
    /// With its data's page.
    Write { write: Write, fua: bool, page: u64 },
    /// With the writes that had ended when it was sent.
    Flush { ended: Vec<u64> },
}

/// The drive of a running server, and its driver.
pub(super) struct Drive {
    driver: NvmeDriver,
    bench: Bench,
    remote: Remote,
    under_way: BTreeMap<u16, Sent>,
    /// Pages for data that no command has.
    pages: Vec<u64>,
    /// Commands that have ended: writes, those with FUA, flushes.
    pub(super) counts: [u64; 3],
}

impl Drive {
    /// Brings the drive of a server up.
    pub(super) fn of(server: &Server) -> Self {
        let (mut remote, mut bench) = Remote::attach(&server.vfio_user()).unwrap();
        remote.switch(&mut bench).unwrap();
        let mut driver = NvmeDriver::default();
        (driver.io_queues, driver.uses_shadow_doorbells) = (1, true);
        driver.probe(&mut bench, &mut remote).unwrap();
        assert_eq!(driver.block_bytes as usize, BLOCK_BYTES);
        let pages = (0..DEPTH).map(|_| driver.pages(1)).collect();
        Self { driver, bench, remote, under_way: BTreeMap::new(), pages, counts: [0; 3] }
    }

    pub(super) fn read_area(&mut self) -> Vec<u8> {
        self.driver.read(&mut self.bench, &mut self.remote, 0, BLOCKS as u32).unwrap()
    }

    /// One command, unless its blocks are being written: in which order the drive does two such writes is its own affair.
    fn send(&mut self, chance: &mut Chance, area: &mut Area) {
        if chance.below(8) == 0 {
            self.submit(Entry::new(FLUSH, 1), Sent::Flush { ended: area.all_ended() });
            return;
        }
        let blocks = Area::any_blocks(chance);
        let fua = chance.below(4) == 0;
        let is_busy = self.under_way.values().any(|sent| match sent {
            Sent::Write { write, .. } => write.blocks.start < blocks.end && blocks.start < write.blocks.end,
            Sent::Flush { .. } => false,
        });
        if is_busy {
            return;
        }
        let write = area.write(blocks);
        let page = self.pages.pop().expect("a page for each command");
        let data = write.data();
        assert!(self.bench.memory.poke(page, &data));
        let entry = Entry::new(WRITE, 1).prps(page, 0);
        let entry = entry.blocks(write.blocks.start, (data.len() / BLOCK_BYTES) as u32);
        let entry = if fua { entry.with(12, entry.dwords[12] | FUA) } else { entry };
        self.submit(entry, Sent::Write { write, fua, page });
    }

    fn submit(&mut self, entry: Entry, sent: Sent) {
        let id = self.driver.submit(&mut self.bench, &mut self.remote, 1, entry);
        self.under_way.insert(id, sent);
    }

    fn reap(&mut self, area: &mut Area) {
        for completion in self.driver.reap(&mut self.bench, &mut self.remote, 1) {
            self.ended(completion, area);
        }
    }

    fn ended(&mut self, completion: Completion, area: &mut Area) {
        assert_eq!(completion.status, 0, "{completion:?}");
        match self.under_way.remove(&completion.id).expect("a completion of what was not sent") {
            Sent::Write { write, fua, page } => {
                self.pages.push(page);
                self.counts[usize::from(fua)] += 1;
                if fua { area.ended_safely(&write) } else { area.ended(&write) }
            }
            Sent::Flush { ended } => {
                self.counts[2] += 1;
                area.flushed(&ended);
            }
        }
    }

    /// Writes until the server is dead, and takes what it has acknowledged until then.
    pub(super) fn write_until_killed(&mut self, chance: &mut Chance, area: &mut Area, server: &mut Server) {
        let mut left = 1 + chance.below(MOST_COMMANDS);
        let later = Duration::from_micros(chance.below(LATER_US));
        let mut kill_at = None;
        while kill_at.is_none_or(|at| Instant::now() < at) {
            self.reap(area);
            if self.under_way.len() < DEPTH {
                self.send(chance, area);
                left = left.saturating_sub(1);
            } else if self.remote.wait(PATIENCE).is_empty() {
                panic!("nothing ends; the server says: {}", server.log());
            }
            if left == 0 {
                kill_at = kill_at.or(Some(Instant::now() + later));
            }
            self.bench.log.clear();
        }
        server.signal(Signal::KILL);
        server.ended();
        // The memory is still here, and so is what a guest would have found in it.
        self.reap(area);
    }
}
