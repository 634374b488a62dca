//! A controller, its medium, a driver, and the world around them.

use sdmorph_nvme::{Identity, Nvme};
use sdmorph_pci::{PciFunction, seam};
use sdmorph_testkit::nvme::{Completion, Entry, NvmeDriver, NvmeError};
use sdmorph_testkit::{Bench, TestMedia};
use serde_json::Value;

/// The CID of a card: MID 0x03, OID "SD", PNM "MORPH", PRV 1.2, PSN 0xdeadbeef, made in June 2024.
pub(crate) const CID: [u8; 16] =
    [0x03, b'S', b'D', b'M', b'O', b'R', b'P', b'H', 0x12, 0xde, 0xad, 0xbe, 0xef, 0x01, 0x86, 0x01];
/// Blocks of 512 bytes of the medium.
pub(crate) const BLOCKS: u64 = 1 << 16;
/// Where tests may put data: behind what the driver uses.
pub(crate) const SCRATCH: u64 = 12 << 20;

pub(crate) const CC: u64 = 0x14;
pub(crate) const CSTS: u64 = 0x1c;

pub(crate) struct Rig {
    pub(crate) bench: Bench,
    pub(crate) nvme: Nvme,
    pub(crate) driver: NvmeDriver,
    pub(crate) media: TestMedia,
}

impl Rig {
    /// A controller that nobody has touched.
    pub(crate) fn untouched() -> Self {
        let media = TestMedia::new(BLOCKS);
        Self::with_medium(&media, &media)
    }

    /// The same whose medium cannot be written.
    pub(crate) fn read_only() -> Self {
        let media = TestMedia::new(BLOCKS);
        Self::with_medium(&media.read_only(), &media)
    }

    fn with_medium(device: &TestMedia, media: &TestMedia) -> Self {
        let nvme = Nvme::new(Identity::of_card(&CID), Box::new(device.clone()));
        Self { bench: NvmeDriver::bench(), nvme, driver: NvmeDriver::default(), media: media.clone() }
    }

    /// A controller with a driver bound to it.
    pub(crate) fn probed() -> Self {
        Self::untouched().probe()
    }

    /// The same with shadow doorbells.
    pub(crate) fn shadowed() -> Self {
        let mut rig = Self::untouched();
        rig.driver.uses_shadow_doorbells = true;
        rig.probe()
    }

    pub(crate) fn probe(mut self) -> Self {
        self.driver.probe(&mut self.bench, &mut self.nvme).unwrap();
        let _ = self.bench.interrupts.take_new();
        let _ = self.media.take_requests();
        self
    }

    pub(crate) fn admin(&mut self, entry: Entry) -> Result<u32, NvmeError> {
        self.driver.admin(&mut self.bench, &mut self.nvme, entry)
    }

    pub(crate) fn io(&mut self, entry: Entry) -> Result<u32, NvmeError> {
        self.driver.run(&mut self.bench, &mut self.nvme, 1, entry)
    }

    pub(crate) fn submit(&mut self, queue: usize, entry: Entry) -> u16 {
        self.driver.submit(&mut self.bench, &mut self.nvme, queue, entry)
    }

    pub(crate) fn reap(&mut self, queue: usize) -> Vec<Completion> {
        self.driver.reap(&mut self.bench, &mut self.nvme, queue)
    }

    pub(crate) fn read_blocks(&mut self, first: u64, count: u32) -> Result<Vec<u8>, NvmeError> {
        self.driver.read(&mut self.bench, &mut self.nvme, first, count)
    }

    pub(crate) fn write_blocks(&mut self, first: u64, data: &[u8]) -> Result<(), NvmeError> {
        self.driver.write(&mut self.bench, &mut self.nvme, first, data)
    }

    pub(crate) fn identify(&mut self, cns: u32, namespace: u32) -> Result<Vec<u8>, NvmeError> {
        self.driver.identify(&mut self.bench, &mut self.nvme, cns, namespace)
    }

    pub(crate) fn log_page(&mut self, page: u8, length: u32) -> Vec<u8> {
        self.driver.log_page(&mut self.bench, &mut self.nvme, page, 0, length).unwrap()
    }

    pub(crate) fn get(&mut self, at: u64) -> u32 {
        self.bench.read(&mut self.nvme, at)
    }

    pub(crate) fn set(&mut self, at: u64, value: u32) {
        self.bench.write(&mut self.nvme, at, value);
    }

    pub(crate) fn write_sized(&mut self, at: u64, size: u8, value: u64) {
        seam::bar_write(&mut self.nvme, &mut self.bench.above(), 0, at, size, value);
    }

    pub(crate) fn read_sized(&mut self, at: u64, size: u8) -> u64 {
        seam::bar_read(&mut self.nvme, &mut self.bench.above(), 0, at, size)
    }

    /// The medium has ended something: the machine wakes everybody.
    pub(crate) fn wake(&mut self) {
        self.bench.wake(&mut self.nvme);
    }

    pub(crate) fn poll(&mut self) -> bool {
        self.bench.with(&mut self.nvme, |nvme, ctx| nvme.poll(ctx))
    }

    pub(crate) fn rest(&mut self) -> bool {
        self.bench.with(&mut self.nvme, |nvme, ctx| nvme.rest(ctx))
    }

    pub(crate) fn fail_fatally(&mut self) {
        self.bench.with(&mut self.nvme, |nvme, ctx| nvme.fail_fatally(ctx));
    }

    pub(crate) fn snapshot(&self) -> Value {
        self.nvme.snapshot()
    }

    /// How many commands were refused with this status.
    pub(crate) fn refused(&self, name: &str) -> u64 {
        self.snapshot()["refused"][name].as_u64().unwrap_or(0)
    }

    pub(crate) fn is_fatal(&mut self) -> bool {
        self.get(CSTS) & 2 != 0
    }
}

/// The status that an error is, as status code type and status code.
pub(crate) fn status<T: std::fmt::Debug>(result: Result<T, NvmeError>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(NvmeError::Status(code)) => code,
        Err(other) => panic!("{other:?}"),
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Contents that are different in every byte and block.
pub(crate) fn pattern(blocks: usize, seed: u8) -> Vec<u8> {
    (0..blocks * 512).map(|at| (at as u8) ^ (at / 512) as u8 ^ seed).collect()
}
