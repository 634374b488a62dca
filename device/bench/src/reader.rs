//! The reader without guest, QEMU and socket: what a command, a transfer and a register access cost in the device itself.
//!
//! The testkit's driver does, access by access, what Linux's does. It is part of what is measured, and so is its log of
//! all accesses; the machine's flight record and fault rules are not.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use sdmorph_media::{FileMedia, OpenOptions, RamMedia};
use sdmorph_pci::media::{Media, MediaRequest, MediaResult};
use sdmorph_rtsx::Rtsx;
use sdmorph_sdcard::{Capacity, MemoryCard, Profile};
use sdmorph_testkit::driver::data::{Piece, Transfer};
use sdmorph_testkit::{Bench, DriverError, MessageLog, RtsxDriver};

use crate::report::{DiskWork, InProcess, MeasuredStep, Settings, Step, Storage};

/// Of the card: an SDHC one, as in the guest.
const CARD_BYTES: u64 = 4 << 30;
/// What of it is read and written.
const RANGE_BLOCKS: u32 = (64 << 20) / 512;
/// Where data is in guest memory: behind the driver's own buffer.
const BUFFER: u64 = (1 << 20) + 0x10000;
/// Guest memory comes in pages.
const PAGE_BYTES: u32 = 4096;
const HAIMR: u64 = 0x10;
/// To HAIMR: read SD_STAT1.
const READ_SD_STAT1: u32 = 1 << 31 | 0x3da3 << 16;
/// Between two looks at the clock.
const BATCH: u32 = 16;

/// Measures everything, in rounds.
pub(crate) fn measure(settings: &Settings) -> Result<InProcess> {
    let (rounds, length) = (settings.reader_rounds, Duration::from_millis(settings.reader_ms.into()));
    crate::say(&format!("the reader alone: {rounds} rounds of {} ms a row", settings.reader_ms));
    let directory = tempfile::tempdir().context("a directory for an image")?;
    let image = directory.path().join("card.raw");
    std::fs::File::create(&image)
        .and_then(|file| file.set_len(CARD_BYTES))
        .with_context(|| image.display().to_string())?;
    let (mut memory, mut raw) = (Driven::new(ram())?, Driven::new(file(&image)?)?);
    for driven in [&mut memory, &mut raw] {
        // What is read has been written: there are no holes.
        for block in (0..RANGE_BLOCKS).step_by(256) {
            driven.transfer(true, block, 256)?;
        }
    }
    let mut steps = Step::ALL.map(|step| (step, Vec::new()));
    for _ in 0..rounds {
        for (step, values) in &mut steps {
            let driven = if step.storage() == Some(Storage::Raw) { &mut raw } else { &mut memory };
            values.push(driven.measure(*step, length)?);
        }
    }
    let steps = steps.into_iter().map(|(step, rounds)| MeasuredStep::new(step, rounds).context("no rounds"));
    Ok(InProcess { steps: steps.collect::<Result<_>>()? })
}

fn ram() -> Box<dyn Media> {
    Box::new(RamMedia::new(CARD_BYTES / 512, CARD_BYTES))
}

fn file(image: &std::path::Path) -> Result<Box<dyn Media>> {
    let woken: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let tell = Arc::clone(&woken);
    let waker = move || {
        *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        tell.1.notify_one();
    };
    let medium = sdmorph_media::open(image, OpenOptions::new(Arc::new(waker)))?;
    Ok(Box::new(Awaited { medium, woken }))
}

/// A medium whose requests are waited for. Where the machine would do something else meanwhile, this sleeps.
#[derive(Debug)]
struct Awaited {
    medium: FileMedia,
    woken: Arc<(Mutex<bool>, Condvar)>,
}

impl Media for Awaited {
    fn blocks(&self) -> u64 {
        self.medium.blocks()
    }

    fn is_read_only(&self) -> bool {
        self.medium.is_read_only()
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        if let Some(result) = self.medium.begin(tag, request) {
            return Some(result);
        }
        loop {
            if let Some((_, result)) = self.medium.ended() {
                return Some(result);
            }
            let (woken, news) = &*self.woken;
            let mut woken = woken.lock().unwrap_or_else(PoisonError::into_inner);
            while !*woken {
                woken = news.wait(woken).unwrap_or_else(PoisonError::into_inner);
            }
            *woken = false;
        }
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        None
    }
}

/// A reader with a card that has been identified, and its driver.
struct Driven {
    bench: Bench,
    reader: Rtsx,
    driver: RtsxDriver,
    /// The state of what stands in for chance.
    random: u32,
}

impl Driven {
    fn new(medium: Box<dyn Media>) -> Result<Self> {
        let capacity = Capacity::of_blocks(medium.blocks())?;
        let card = MemoryCard::new(Profile::legacy(1, capacity), medium)?;
        let mut bench = Bench::default();
        let (mut reader, mut driver) = (Rtsx::new(), RtsxDriver::new());
        driver.probe(&mut bench, &mut reader).map_err(failed)?;
        bench.with(&mut reader, |reader, ctx| reader.insert(ctx, Box::new(card)));
        driver.interrupt(&mut bench, &mut reader).map_err(failed)?;
        driver.rescan(&mut bench, &mut reader).map_err(failed)?;
        driver.identify(&mut bench, &mut reader).map_err(failed)?;
        Ok(Self { bench, reader, driver, random: 1 })
    }

    fn command(&mut self, index: u8, argument: u32) -> Result<()> {
        self.driver.command(&mut self.bench, &mut self.reader, index, argument).map(drop).map_err(failed)
    }

    /// CMD18 or CMD25, and CMD12.
    fn transfer(&mut self, write: bool, block: u32, blocks: u16) -> Result<()> {
        let index = if write { 25 } else { 18 };
        let transfer = Transfer { index, argument: block, block_bytes: 512, blocks };
        let bytes = u32::from(blocks) * 512;
        let pieces: Vec<Piece> = (0..bytes)
            .step_by(PAGE_BYTES as usize)
            .map(|at| (BUFFER + u64::from(at), PAGE_BYTES.min(bytes - at)))
            .collect();
        let Self { bench, reader, driver, .. } = self;
        let moved = if write {
            driver.write_long(bench, reader, transfer, &pieces)
        } else {
            driver.read_long(bench, reader, transfer, &pieces)
        };
        moved.map_err(failed)?;
        self.command(12, 0)
    }

    fn once(&mut self, step: Step, number: u32) -> Result<()> {
        match step {
            Step::Haimr => {
                self.bench.write(&mut self.reader, HAIMR, READ_SD_STAT1);
                self.bench.read(&mut self.reader, HAIMR);
                Ok(())
            }
            Step::Command => self.command(13, self.driver.card_address),
            Step::Data { work: DiskWork::SequentialRead | DiskWork::SequentialWrite, .. } => {
                self.transfer(step.writes(), number.wrapping_mul(256) % RANGE_BLOCKS, 256)
            }
            Step::Data { .. } => {
                // Numerical Recipes' generator; its upper bits are the better ones.
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                self.transfer(step.writes(), (self.random >> 8) % (RANGE_BLOCKS / 8) * 8, 8)
            }
        }
    }

    /// How often a second.
    fn measure(&mut self, step: Step, length: Duration) -> Result<f64> {
        let mut number = 0;
        let began = Instant::now();
        loop {
            for _ in 0..BATCH {
                self.once(step, number)?;
                number += 1;
            }
            // They would only grow.
            self.bench.log.clear();
            self.bench.interrupts = MessageLog::default();
            let took = began.elapsed();
            if took >= length {
                return Ok(f64::from(number) / took.as_secs_f64());
            }
        }
    }
}

fn failed(error: DriverError) -> anyhow::Error {
    anyhow!("the driver failed: {error:?}")
}
