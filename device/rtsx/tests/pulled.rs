//! A card that is pulled out at any moment, many times: between two accesses of the driver, or while its storage works.
//!
//! The moments are pseudo-random. `SDMORPH_SEED=` has others, and `SDMORPH_CYCLES=` more or fewer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sdmorph_pci::media::BLOCK_BYTES;
use sdmorph_pci::{ConfigSpace, Ctx, Event, Media, MediaRequest, MediaResult, PciFunction, ResetKind};
use sdmorph_rtsx::Rtsx;
use sdmorph_sdcard::{Capacity, MemoryCard, Profile};
use sdmorph_testkit::driver::data::Transfer;
use sdmorph_testkit::{Bench, DriverError, RtsxDriver, TestMedia};
use serde_json::Value;

const SEED: u64 = 0x5d_5261;
const CYCLES: u64 = 1000;
/// 4 GiB, of which the first blocks are used.
const BLOCKS: u64 = 8 << 20;
const USED: u64 = 4096;
/// The address that a card chooses first, as an argument.
const ADDRESS: u32 = 1 << 16;
/// Most blocks of one transfer.
const LONGEST: u64 = 300;
/// Where data is in guest memory, behind the driver's own buffer.
const BUFFER: u64 = (1 << 20) + 0x1_0000;
/// Most moments until the card is pulled: those in which it is identified, and some transfers.
const MOMENTS: u64 = 1500;
/// Most moments that one request takes the storage.
const STORAGE: u64 = 60;

/// Pseudo-random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).map_or(default, |text| text.parse().unwrap());
    println!("{name}={value}");
    value
}

/// A medium that tells by the count of its token whether the card that has it is still there.
#[derive(Debug)]
struct Counted {
    medium: TestMedia,
    _token: Arc<()>,
}

impl Media for Counted {
    fn blocks(&self) -> u64 {
        self.medium.blocks()
    }

    fn is_read_only(&self) -> bool {
        self.medium.is_read_only()
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        self.medium.begin(tag, request)
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        self.medium.ended()
    }
}

/// The reader, whose card somebody pulls out after so many moments.
struct Pulled {
    reader: Rtsx,
    medium: TestMedia,
    moments_left: u64,
    pulled: bool,
    /// How many moments the storage takes for what it has been asked.
    storage_takes: u64,
    random: Random,
}

impl Pulled {
    /// One more moment: an access of the driver, or a millisecond in which it waits.
    fn moment(&mut self, ctx: &mut Ctx<'_>) {
        self.moments_left = self.moments_left.saturating_sub(1);
        if self.moments_left == 0 && self.reader.eject(ctx).is_some() {
            self.pulled = true;
        }
        if self.pulled || self.medium.under_way() == 0 {
            return;
        }
        self.storage_takes = self.storage_takes.saturating_sub(1);
        if self.storage_takes == 0 {
            self.medium.release_one();
            self.storage_takes = 1 + self.random.below(STORAGE);
            self.reader.wake(ctx);
        } else {
            ctx.wake_after(Duration::from_millis(1));
        }
    }
}

impl PciFunction for Pulled {
    fn name(&self) -> &'static str {
        self.reader.name()
    }

    fn config(&self) -> &ConfigSpace {
        self.reader.config()
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        self.reader.config_mut()
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, offset: u16, size: u8, before: u32) {
        self.reader.config_written(ctx, offset, size, before);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        self.reader.bar_register(bar, offset)
    }

    fn bar_read(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
        let value = self.reader.bar_read(ctx, bar, offset, size);
        self.moment(ctx);
        value
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8, value: u64) {
        self.reader.bar_write(ctx, bar, offset, size, value);
        self.moment(ctx);
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.reader.wake(ctx);
        self.moment(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind) {
        self.reader.reset(ctx, kind);
    }

    fn snapshot(&self) -> Value {
        self.reader.snapshot()
    }
}

/// Nothing: a card is used until something fails.
#[derive(Debug)]
enum Never {}

/// One block's bytes: no two writes of a test leave the same.
fn contents(write: u64, block: u64) -> [u8; BLOCK_BYTES] {
    let mut bytes = [0; BLOCK_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (write.wrapping_mul(31).wrapping_add(block * 7).wrapping_add(at as u64) & 0xff) as u8;
    }
    bytes[..8].copy_from_slice(&write.to_le_bytes());
    bytes[8..16].copy_from_slice(&block.to_le_bytes());
    bytes
}

struct Lab {
    bench: Bench,
    function: Pulled,
    driver: RtsxDriver,
    random: Random,
    /// What the card has to have.
    sure: BTreeMap<u64, [u8; BLOCK_BYTES]>,
    /// Of a write that the card was pulled out of: first block and count, with its number.
    torn: Option<(u64, u64, u64)>,
    writes: u64,
    acknowledged: u64,
    /// Those of this cycle.
    acknowledged_blocks: Vec<u64>,
    token: Arc<()>,
}

impl Lab {
    fn new(seed: u64) -> Self {
        let medium = TestMedia::new(BLOCKS);
        medium.hold();
        let function = Pulled {
            reader: Rtsx::new(),
            medium,
            moments_left: u64::MAX,
            pulled: false,
            storage_takes: 1,
            random: Random(seed ^ 1 << 40),
        };
        let mut lab = Self {
            bench: Bench::default(),
            function,
            driver: RtsxDriver::new(),
            random: Random(seed),
            sure: BTreeMap::new(),
            torn: None,
            writes: 0,
            acknowledged: 0,
            acknowledged_blocks: Vec::new(),
            token: Arc::new(()),
        };
        lab.driver.probe(&mut lab.bench, &mut lab.function).unwrap();
        lab
    }

    /// A card goes in, is used, and is pulled out. Nothing fails before that, and nothing that the driver waits for stays
    /// away: it is told of a failure, and does not run out of patience.
    fn cycle(&mut self, number: u64) {
        self.bench.log.clear();
        let serial = u32::try_from(number + 1).unwrap();
        let profile = Profile::legacy(serial, Capacity::of_blocks(BLOCKS).unwrap());
        let medium = Counted { medium: self.function.medium.clone(), _token: self.token.clone() };
        let card = MemoryCard::new(profile, Box::new(medium)).unwrap();
        self.bench.with(&mut self.function, |function, ctx| function.reader.insert(ctx, Box::new(card)));
        self.function.pulled = false;
        self.function.moments_left = 1 + self.random.below(MOMENTS);
        let end = self.use_card();
        let told = matches!(end, Err(DriverError::ListFailed | DriverError::BadResponse));
        assert!(told && self.function.pulled, "cycle {number}: {end:?}, pulled: {}", self.function.pulled);
        self.without_card(number);
    }

    fn use_card(&mut self) -> Result<Never, DriverError> {
        let Self { driver, bench, function, .. } = self;
        while driver.interrupt(bench, function)? {}
        driver.rescan(bench, function)?;
        driver.identify(bench, function)?;
        let status = driver.command(bench, function, 13, ADDRESS)?;
        assert_eq!(status >> 9 & 0xf, 4, "not in transfer state");
        // Until the card is pulled.
        loop {
            let blocks = 1 + self.random.below(LONGEST);
            let first = self.random.below(USED - blocks);
            if self.random.below(2) == 0 { self.read(first, blocks)? } else { self.write(first, blocks)? }
        }
    }

    fn read(&mut self, first: u64, blocks: u64) -> Result<(), DriverError> {
        let transfer = transfer(18, first, blocks);
        let length = usize::try_from(blocks).unwrap() * BLOCK_BYTES;
        let pieces = [(BUFFER, u32::try_from(length).unwrap())];
        self.driver.read_long(&mut self.bench, &mut self.function, transfer, &pieces)?;
        let data = self.bench.memory.peek(BUFFER, length).unwrap();
        for (block, data) in (first..).zip(data.chunks_exact(BLOCK_BYTES)) {
            assert!(data == self.expected(block), "block {block} was read wrongly");
        }
        self.stop()
    }

    fn write(&mut self, first: u64, blocks: u64) -> Result<(), DriverError> {
        self.writes += 1;
        let write = self.writes;
        let data: Vec<u8> = (first..first + blocks).flat_map(|block| contents(write, block)).collect();
        self.bench.memory.poke(BUFFER, &data);
        self.torn = Some((first, blocks, write));
        let pieces = [(BUFFER, u32::try_from(data.len()).unwrap())];
        let transfer = transfer(25, first, blocks);
        self.driver.write_long(&mut self.bench, &mut self.function, transfer, &pieces)?;
        self.stop()?;
        // mmc_blk_card_busy: until the card says that it is ready for data again.
        for _ in 0..STORAGE {
            let status = self.driver.command(&mut self.bench, &mut self.function, 13, ADDRESS)?;
            assert_eq!(status & 0xfdf9_8008, 0, "errors in the status: {status:#010x}");
            if status & 0x1f00 == 0x0900 {
                self.acknowledged += 1;
                self.torn = None;
                self.acknowledged_blocks.extend(first..first + blocks);
                self.sure.extend((first..first + blocks).map(|block| (block, contents(write, block))));
                return Ok(());
            }
        }
        panic!("the card stays busy");
    }

    fn stop(&mut self) -> Result<(), DriverError> {
        self.driver.command(&mut self.bench, &mut self.function, 12, 0).map(drop)
    }

    fn expected(&self, block: u64) -> [u8; BLOCK_BYTES] {
        self.sure.get(&block).copied().unwrap_or([0; BLOCK_BYTES])
    }

    /// The driver sees the card gone; nothing of it is left; what it had acknowledged is in the medium.
    fn without_card(&mut self, number: u64) {
        while self.driver.interrupt(&mut self.bench, &mut self.function).unwrap() {}
        // Its interrupt may have been cleared with that of the insertion: the driver looks before it does anything.
        let there = self.driver.card_detect(&mut self.bench, &mut self.function);
        assert!(!there, "cycle {number}: the card is still there");
        self.driver.rescan(&mut self.bench, &mut self.function).unwrap();
        assert_eq!(Arc::strong_count(&self.token), 1, "cycle {number}: the card was not let go of");
        assert_eq!(self.bench.log.unmodelled(), []);
        assert_eq!(self.bench.log.events().filter(|event| *event == Event::CardEjected).count(), 1);
        let snapshot = self.function.snapshot();
        assert_eq!(snapshot["internal"]["transfer"], "None", "cycle {number}");
        let torn = self.torn.map_or(0..0, |(first, blocks, _)| first..first + blocks);
        for block in std::mem::take(&mut self.acknowledged_blocks) {
            if !torn.contains(&block) {
                self.check(block, number);
            }
        }
        // What the storage was at work on ends all the same.
        while self.function.medium.release_one() {}
        let mut ended = self.function.medium.clone();
        while ended.ended().is_some() {}
        let _ = self.function.medium.take_requests();
        if let Some((first, blocks, write)) = self.torn.take() {
            for block in first..first + blocks {
                let now: [u8; BLOCK_BYTES] = self.function.medium.peek(block, 1).try_into().unwrap();
                let new = contents(write, block);
                assert!(now == new || now == self.expected(block), "cycle {number}: block {block} is torn");
                self.sure.insert(block, now);
            }
        }
    }

    fn check(&self, block: u64, number: u64) {
        let is_there = self.function.medium.peek(block, 1) == self.expected(block);
        assert!(is_there, "cycle {number}: block {block} was lost");
    }
}

fn transfer(index: u8, first: u64, blocks: u64) -> Transfer {
    Transfer {
        index,
        argument: u32::try_from(first).unwrap(),
        block_bytes: BLOCK_BYTES as u16,
        blocks: u16::try_from(blocks).unwrap(),
    }
}

#[test]
fn what_was_acknowledged_is_there_whenever_the_card_is_pulled() {
    let mut lab = Lab::new(from_environment("SDMORPH_SEED", SEED));
    let cycles = from_environment("SDMORPH_CYCLES", CYCLES);
    for number in 0..cycles {
        lab.cycle(number);
    }
    for block in 0..USED {
        lab.check(block, cycles);
    }
    println!("{} of {} writes acknowledged", lab.acknowledged, lab.writes);
    // It was not always too early, and often enough in the middle of one.
    assert!(cycles < 100 || lab.acknowledged > cycles && lab.writes - lab.acknowledged > cycles / 10);
}
