//! A server that is killed while its drive is written: what was acknowledged as safe is in the image, and nothing is that
//! was never written.
//!
//! SIGKILL ends the process, and the page cache stays: this shows that nothing acknowledged is only in the process. That
//! Flush and Force Unit Access also reach the disk is `fdatasync`'s part, which the tests of `sdmorph-media` look at.
//!
//! `SDMORPH_KILLS=200` kills more often than 20 times, `SDMORPH_SEED=` repeats a run as far as that is in this side's hands:
//! the same commands, killed after the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use sdmorph_testkit::nvme::{Completion, Entry};
use sdmorph_testkit::{Bench, NvmeDriver, Remote};

use crate::server::Server;

const IMAGE: &str = "card.img";
/// An SDHC card.
const IMAGE_BYTES: u64 = 4 << 30;
const BLOCK_BYTES: usize = 512;
/// What is written: few blocks, so that each is written often.
const AREA_BLOCKS: u64 = 256;
/// Blocks of a write, at most: a page.
const MOST_BLOCKS: u64 = 8;
/// Commands under way, at most.
const DEPTH: u16 = 16;
/// Commands until the kill, at most.
const MOST_COMMANDS: u64 = 600;
/// The kill is up to this much later.
const LATER_US: u64 = 500;
/// For one completion of any; nobody waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

const WRITE: u8 = 1;
const FLUSH: u8 = 0;
const FUA: u32 = 1 << 30;

/// What stands in for chance (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The contents of a block after the write of this number: the two, over and over.
fn contents(block: u64, number: u64) -> Vec<u8> {
    let stamp = [block.to_le_bytes(), number.to_le_bytes()].concat();
    stamp.iter().copied().cycle().take(BLOCK_BYTES).collect()
}

/// What may be in a block.
#[derive(Clone)]
struct Block {
    /// The number of the last write that was acknowledged as safe.
    safe: u64,
    /// Of the last write that has ended, whether it is safe or not.
    ended: u64,
    /// Of all writes since `safe`, with that one. 0 is no write: zeros.
    written: BTreeSet<u64>,
}

impl Block {
    fn holding(number: u64) -> Self {
        Self { safe: number, ended: number, written: [number].into() }
    }

    fn safe_from(&mut self, number: u64) {
        self.safe = self.safe.max(number);
    }
}

enum Sent {
    Write {
        first: u64,
        count: u64,
        number: u64,
        fua: bool,
    },
    /// With the writes that had ended when it was sent.
    Flush {
        ended: Vec<u64>,
    },
}

/// Keeps the drive busy, and knows what may be on it.
struct Writer {
    blocks: Vec<Block>,
    under_way: BTreeMap<u16, Sent>,
    /// Pages for data that no command has.
    pages: Vec<u64>,
    used_pages: BTreeMap<u16, u64>,
    last_number: u64,
    /// Commands that have ended: writes, those with FUA, flushes.
    counts: [u64; 3],
}

impl Writer {
    fn new() -> Self {
        Self {
            blocks: vec![Block::holding(0); AREA_BLOCKS as usize],
            under_way: BTreeMap::new(),
            pages: Vec::new(),
            used_pages: BTreeMap::new(),
            last_number: 0,
            counts: [0; 3],
        }
    }

    /// One command, unless its blocks are being written: in which order the drive does two such writes is its own affair.
    fn send(&mut self, chance: &mut Chance, driver: &mut NvmeDriver, bench: &mut Bench, drive: &mut Remote) {
        if chance.below(8) == 0 {
            let ended = self.blocks.iter().map(|block| block.ended).collect();
            let id = driver.submit(bench, drive, 1, Entry::new(FLUSH, 1));
            self.under_way.insert(id, Sent::Flush { ended });
            return;
        }
        let count = 1 + chance.below(MOST_BLOCKS);
        let first = chance.below(AREA_BLOCKS - count + 1);
        let fua = chance.below(4) == 0;
        let range = first..first + count;
        let is_busy = self.under_way.values().any(|sent| match sent {
            Sent::Write { first, count, .. } => *first < range.end && range.start < first + count,
            Sent::Flush { .. } => false,
        });
        if is_busy {
            return;
        }
        self.last_number += 1;
        let number = self.last_number;
        for block in range.clone() {
            self.blocks[block as usize].written.insert(number);
        }
        let page = self.pages.pop().expect("a page for each command");
        let data: Vec<u8> = range.flat_map(|block| contents(block, number)).collect();
        assert!(bench.memory.poke(page, &data));
        let entry = Entry::new(WRITE, 1).prps(page, 0).blocks(first, count as u32);
        let entry = if fua { entry.with(12, entry.dwords[12] | FUA) } else { entry };
        let id = driver.submit(bench, drive, 1, entry);
        self.used_pages.insert(id, page);
        self.under_way.insert(id, Sent::Write { first, count, number, fua });
    }

    fn ended(&mut self, completion: Completion) {
        assert_eq!(completion.status, 0, "{completion:?}");
        self.pages.extend(self.used_pages.remove(&completion.id));
        match self.under_way.remove(&completion.id).expect("a completion of what was not sent") {
            Sent::Write { first, count, number, fua } => {
                self.counts[usize::from(fua)] += 1;
                for block in &mut self.blocks[first as usize..(first + count) as usize] {
                    block.ended = number;
                    if fua {
                        block.safe_from(number);
                    }
                }
            }
            Sent::Flush { ended } => {
                self.counts[2] += 1;
                self.blocks.iter_mut().zip(ended).for_each(|(block, number)| block.safe_from(number));
            }
        }
    }

    /// Writes until the server is dead, and takes what it has acknowledged until then.
    fn write_until_killed(
        &mut self,
        chance: &mut Chance,
        server: &mut Server,
        (driver, bench, drive): (&mut NvmeDriver, &mut Bench, &mut Remote),
    ) {
        self.under_way.clear();
        self.used_pages.clear();
        self.pages = (0..DEPTH).map(|_| driver.pages(1)).collect();
        let mut left = 1 + chance.below(MOST_COMMANDS);
        let later = Duration::from_micros(chance.below(LATER_US));
        let mut kill_at = None;
        while kill_at.is_none_or(|at| Instant::now() < at) {
            driver.reap(bench, drive, 1).into_iter().for_each(|completion| self.ended(completion));
            if self.under_way.len() < usize::from(DEPTH) {
                self.send(chance, driver, bench, drive);
                left = left.saturating_sub(1);
            } else if drive.wait(PATIENCE).is_empty() {
                panic!("nothing ends; the server says: {}", server.log());
            }
            if left == 0 {
                kill_at = kill_at.or(Some(Instant::now() + later));
            }
            bench.log.clear();
        }
        server.signal(Signal::KILL);
        server.ended();
        // The memory is still here, and so is what a guest would have found in it.
        driver.reap(bench, drive, 1).into_iter().for_each(|completion| self.ended(completion));
    }

    /// Judges the area, which is all that is known of it from then on.
    fn judge(&mut self, area: &[u8], who: &str) {
        for (index, (block, found)) in (0..).zip(self.blocks.iter_mut().zip(area.chunks(BLOCK_BYTES))) {
            let number = u64::from_le_bytes(found[8..16].try_into().unwrap());
            let expected = if number == 0 { vec![0; BLOCK_BYTES] } else { contents(index, number) };
            assert!(found == expected, "{who}: block {index} has what was never written: {:?}", &found[..32]);
            assert!(
                block.written.contains(&number) && number >= block.safe,
                "{who}: block {index} has write {number}, {} was acknowledged as safe, and there were {:?}",
                block.safe,
                block.written
            );
            *block = Block::holding(number);
        }
    }
}

/// Brings the drive of a server up.
fn drive(server: &Server) -> (NvmeDriver, Bench, Remote) {
    let (mut drive, mut bench) = Remote::attach(&server.vfio_user()).unwrap();
    drive.switch(&mut bench).unwrap();
    let mut driver = NvmeDriver::default();
    (driver.io_queues, driver.uses_shadow_doorbells) = (1, true);
    driver.probe(&mut bench, &mut drive).unwrap();
    (driver, bench, drive)
}

/// The area, read through the drive.
fn read_area((driver, bench, drive): (&mut NvmeDriver, &mut Bench, &mut Remote)) -> Vec<u8> {
    assert_eq!(driver.block_bytes as usize, BLOCK_BYTES);
    driver.read(bench, drive, 0, AREA_BLOCKS as u32).unwrap()
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn insert(server: &Server, format: &str) {
    server.done(&["card-insert", "kind=sd-express", &format!("image={IMAGE}"), &format!("format={format}")]);
}

/// The area of a raw image, read without a server.
fn in_raw_image(path: &Path) -> Vec<u8> {
    let mut area = vec![0; AREA_BLOCKS as usize * BLOCK_BYTES];
    File::open(path).unwrap().read_exact_at(&mut area, 0).unwrap();
    area
}

/// An empty qcow2 image of version 3 with clusters of 64 KiB (QEMU, `docs/interop/qcow2.rst`): header, refcount table, its
/// only block, and the L1 table.
#[cfg(feature = "qcow2")]
fn make_qcow2(path: &Path) {
    const CLUSTER: u64 = 1 << 16;
    let file = File::create(path).unwrap();
    file.set_len(4 * CLUSTER).unwrap();
    let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16u32.to_be_bytes());
    put(24, &IMAGE_BYTES.to_be_bytes());
    // An L2 table is for 512 MiB.
    put(36, &((IMAGE_BYTES >> 29) as u32).to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes());
    put(48, &CLUSTER.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    // Refcounts of 1 << 4 bits; a header of 104 bytes.
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    put(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
}

/// Kills the server again and again, always over the same image. `in_image` reads the area without a server.
fn kill_again_and_again(
    server: &mut Server,
    format: &str,
    kills: u64,
    in_image: Option<fn(&Path) -> Vec<u8>>,
) {
    let seed = number_from_environment("SDMORPH_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("SDMORPH_SEED={seed}");
    let mut chance = Chance(seed);
    let mut writer = Writer::new();
    for kill in 0..kills {
        insert(server, format);
        let (mut driver, mut bench, mut remote) = drive(server);
        let area = read_area((&mut driver, &mut bench, &mut remote));
        writer.judge(&area, &format!("drive, kill {kill}"));
        writer.write_until_killed(&mut chance, server, (&mut driver, &mut bench, &mut remote));
        if let Some(read) = in_image {
            writer.judge(&read(&server.path(IMAGE)), &format!("image, kill {kill}"));
        }
        server.start_again(&[]);
    }
    let [writes, fua, flushes] = writer.counts;
    println!("{format}: {kills} kills; acknowledged: {writes} writes, {fua} with FUA, {flushes} flushes");
    assert!(writes > 0 && fua > 0 && flushes > 0);
    insert(server, format);
    let (mut driver, mut bench, mut remote) = drive(server);
    writer.judge(&read_area((&mut driver, &mut bench, &mut remote)), "drive, at the end");
    assert_eq!(server.quit(), Some(0), "{}", server.log());
}

fn kills() -> u64 {
    number_from_environment("SDMORPH_KILLS").unwrap_or(20)
}

#[test]
fn killed_server_has_lost_nothing_that_was_acknowledged_as_safe() {
    let mut server = Server::start(&[]);
    File::create(server.path(IMAGE)).unwrap().set_len(IMAGE_BYTES).unwrap();
    kill_again_and_again(&mut server, "raw", kills(), Some(in_raw_image));
}

/// Here there are tables as well, which the process keeps until a flush: the next server is who reads the image.
#[cfg(feature = "qcow2")]
#[test]
fn killed_server_has_lost_nothing_of_a_qcow2_image() {
    let mut server = Server::start(&[]);
    make_qcow2(&server.path(IMAGE));
    kill_again_and_again(&mut server, "qcow2", kills(), None);
}
