//! A guest: what its PCI core programs, and the way of the mini driver through VMD's BARs.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sdmorph_machine::record::Recorded;
use sdmorph_machine::{Host, Machine, Medium, Record, Region, Setup};
use sdmorph_media::{Format, MediaStatus, OpenOptions};
use sdmorph_pci::{
    Clock, ConfigSpace, Ctx, DmaError, GuestMemory, InterruptSink, Message, PciFunction, ResetKind,
};
use sdmorph_rtsx::Rtsx;
use sdmorph_testkit::{Bench, DriverError, RtsxDriver, TestMemory};
use serde_json::Value;

/// ECAM offsets.
pub(crate) const PORT: u64 = 0x1c << 15;
pub(crate) const READER: u64 = 1 << 20;
/// The root port's PCI Express capability, and registers in it.
pub(crate) const SLTSTA: u64 = PORT | 0x8a;
pub(crate) const LNKSTA: u64 = PORT | 0x82;
const SLTCTL: u64 = PORT | 0x88;
pub(crate) const DLLSC: u64 = 1 << 8;
pub(crate) const PDC: u64 = 1 << 3;
pub(crate) const PDS: u64 = 1 << 6;
const HPIE: u64 = 1 << 5;
const DLLSCE: u64 = 1 << 12;
/// VMD's vectors: the reader's message as the mini driver programs it, and the port's.
pub(crate) const READER_VECTOR: u16 = 0;
pub(crate) const PORT_VECTOR: u16 = 1;
pub(crate) const WINDOW: u64 = 0xc000_0000;
/// Bytes that a command list may take.
const LIST_BYTES: usize = 1024;

/// [`TestMemory`] that a machine can hold.
struct SharedMemory(Mutex<TestMemory>);

impl GuestMemory for SharedMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.0.lock().unwrap().read(address, data)
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.0.lock().unwrap().write(address, data)
    }
}

#[derive(Clone, Default)]
pub(crate) struct Messages(Arc<Mutex<Vec<Message>>>);

impl Messages {
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl InterruptSink for Messages {
    fn send(&mut self, message: Message) {
        self.0.lock().unwrap().push(message);
    }
}

/// A machine as after power-on, its guest memory (1 MiB at 1 MiB) and its messages.
pub(crate) fn machine() -> (Machine, Arc<dyn GuestMemory + Send + Sync>, Messages) {
    machine_with(Setup::default())
}

pub(crate) fn machine_with(setup: Setup) -> (Machine, Arc<dyn GuestMemory + Send + Sync>, Messages) {
    let memory = Arc::new(SharedMemory(Mutex::new(TestMemory::new(1 << 20, 1 << 20))));
    let messages = Messages::default();
    let host = Host { memory: memory.clone(), interrupts: Box::new(messages.clone()) };
    (Machine::with_setup(host, setup), memory, messages)
}

/// An image of which the guest asks for one thing at a time.
pub(crate) struct Image {
    status: MediaStatus,
    /// How often its threads have said that something has ended: once for each request that was theirs.
    wakes: Arc<AtomicU64>,
    /// How many of these have been given back.
    given_back: u64,
}

impl Image {
    /// Opens a raw image.
    pub(crate) fn open(path: &Path) -> (Medium, Self) {
        let wakes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&wakes);
        let waker = Arc::new(move || {
            counter.fetch_add(1, SeqCst);
        });
        let options = OpenOptions { format: Some(Format::Raw), ..OpenOptions::new(waker) };
        let medium = sdmorph_media::open(path, options).unwrap();
        let status = medium.status();
        (medium.into(), Self { status, wakes, given_back: 0 })
    }

    /// Waits until what a thread is at has ended; who asked for it may not have looked yet.
    fn wait(&mut self) {
        loop {
            let info = self.status.info();
            if info.under_way == 0 {
                self.given_back = info.by_worker;
                return;
            }
            if self.wakes.load(SeqCst) > self.given_back {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// The machine with its guest's view of it. As a [`PciFunction`] it is the reader, wherever the guest has put it: the
/// mini driver's accesses go through VMD's regions.
pub(crate) struct Guest {
    pub(crate) machine: Machine,
    pub(crate) memory: Arc<dyn GuestMemory + Send + Sync>,
    messages: Messages,
    /// The clock's time at the last call, and what reads have taken on top of it.
    clock: Duration,
    slept: Duration,
    /// What tells of the card's image, whose threads are waited for after each access; `None` lets them be.
    pub(crate) image: Option<Image>,
    /// Latency of each read that had one.
    pub(crate) latencies: Vec<Duration>,
    /// Messages on the port's vector.
    pub(crate) port_messages: usize,
    /// Messages on the reader's vector that the driver has not been given.
    reader_messages: Vec<Message>,
    /// What the driver writes passes through here: it has the reader's own rows.
    written: ConfigSpace,
    /// The BAR that has the reader's registers.
    reader_bar: u8,
}

impl Guest {
    /// After power-on.
    pub(crate) fn new() -> Self {
        Self::with_setup(Setup::default())
    }

    pub(crate) fn with_setup(setup: Setup) -> Self {
        let (machine, memory, messages) = machine_with(setup.with_inputs_recorded());
        Self {
            machine,
            memory,
            messages,
            clock: Duration::ZERO,
            slept: Duration::ZERO,
            image: None,
            latencies: Vec::new(),
            port_messages: 0,
            reader_messages: Vec::new(),
            written: Rtsx::with_settings(setup.model(), setup.settings()).config().clone(),
            reader_bar: setup.model().bar,
        }
    }

    /// Programs VMD, the port with its hot-plug interrupt, and the reader's BAR.
    pub(crate) fn boot(&mut self) {
        self.config_write(0x10, 4, 0xd000_0000);
        self.config_write(0x18, 4, WINDOW);
        self.config_write(0x20, 4, 0xd100_0000);
        self.config_write(0x04, 2, 6);
        self.config_write(0x82, 2, 0x8000);
        for vector in 0..16 {
            self.write(4, 16 * vector, 8, 0xfee0_0000);
            self.write(4, 16 * vector + 8, 8, 0x40 + vector);
        }
        self.write(0, PORT | 0x18, 4, 0x0001_0100);
        self.write(0, PORT | 0x20, 4, 0xc000_c000);
        self.write(0, PORT | 0x24, 4, 0x0000_fff0);
        self.write(0, PORT | 0x54, 4, 0xfee0_1000);
        self.write(0, PORT | 0x52, 2, 1);
        self.write(0, PORT | 0x04, 2, 6);
        self.write(0, SLTCTL, 2, HPIE | DLLSCE | PDC);
        self.place_reader();
    }

    /// What the PCI core does to the function when the slot has come up.
    pub(crate) fn place_reader(&mut self) {
        self.write(0, READER | (0x10 + 4 * u64::from(self.reader_bar)), 4, WINDOW);
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.clock + self.slept
    }

    fn access_read(&mut self, region: Region, offset: u64, size: u8) -> u64 {
        let mut data = [0; 8];
        let latency = self.machine.read(self.now(), region, offset, &mut data[..usize::from(size)]);
        if !latency.is_zero() {
            self.latencies.push(latency);
            self.slept += latency;
        }
        self.collect();
        u64::from_le_bytes(data)
    }

    fn access_write(&mut self, region: Region, offset: u64, size: u8, value: u64) {
        self.machine.write(self.now(), region, offset, &value.to_le_bytes()[..usize::from(size)]);
        self.collect();
    }

    fn config_write(&mut self, offset: u64, size: u8, value: u64) {
        self.access_write(Region::Config, offset, size, value);
    }

    pub(crate) fn read(&mut self, bar: u8, offset: u64, size: u8) -> u64 {
        self.access_read(Region::Bar(bar), offset, size)
    }

    pub(crate) fn write(&mut self, bar: u8, offset: u64, size: u8, value: u64) {
        self.access_write(Region::Bar(bar), offset, size, value);
    }

    /// Does what is due at `now`, as the host's timer would.
    pub(crate) fn advance_to(&mut self, now: Duration) {
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= now) {
            self.machine.advance(at);
        }
        self.machine.advance(now);
        self.slept = now - self.clock;
        self.collect();
    }

    /// Whether the image has something to do, so that what the guest waits for may come.
    pub(crate) fn image_is_at_work(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.status.info().under_way > 0)
    }

    /// Lets the image's threads go on for a while, or until they have ended something: each of a guest's polls is in the
    /// record, which a slow disk must not fill.
    pub(crate) fn let_image_work(&self) {
        let Some(image) = &self.image else { return };
        let ended = |image: &Image| image.status.info().by_worker;
        let before = ended(image);
        for _ in 0..10_000 {
            if ended(image) != before {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Sorts new messages by vector, when the image's threads have come to an end.
    pub(crate) fn collect(&mut self) {
        if let Some(image) = &mut self.image {
            image.wait();
            let now = self.now();
            self.machine.storage_ended(now);
        }
        for message in self.messages.take() {
            match message.vector {
                READER_VECTOR => self.reader_messages.push(message),
                PORT_VECTOR => self.port_messages += 1,
                other => panic!("message on vector {other}"),
            }
        }
    }

    /// pciehp's handler: reads and clears until nothing is left, or until the port does not answer; what it has seen.
    pub(crate) fn slot_events(&mut self) -> u64 {
        let mut seen = 0;
        for _ in 0..100 {
            let status = self.read(0, SLTSTA, 2);
            let events = status & (DLLSC | PDC);
            if status == 0xffff || events == 0 {
                return seen;
            }
            self.write(0, SLTSTA, 2, events);
            seen |= events;
        }
        panic!("the slot's events cannot be cleared");
    }

    pub(crate) fn present(&mut self) -> bool {
        self.read(0, SLTSTA, 2) & PDS != 0
    }

    pub(crate) fn link_active(&mut self) -> bool {
        self.read(0, LNKSTA, 2) >> 13 & 1 != 0
    }

    /// What happened. What came in, which is there for the replay, is left out.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = self.machine.records_since(0, usize::MAX);
        records.retain(|record| !is_input(record));
        records
    }

    /// Events by name and hits of rules, with their times.
    pub(crate) fn notices(&self) -> Vec<(Duration, String)> {
        let notices = self.records().into_iter().filter_map(|record| {
            let name = match record.what {
                Recorded::Event(_, event) => event.name().to_owned(),
                Recorded::Rule { name, hit, .. } => format!("{name} {hit}"),
                _ => return None,
            };
            Some((record.time, name))
        });
        notices.collect()
    }

    fn at(&mut self, ctx: &Ctx<'_>) {
        self.clock = ctx.now();
    }

    /// Hands the reader's messages to the driver, and asks for the next deadline.
    fn deliver(&mut self, ctx: &mut Ctx<'_>) {
        for message in std::mem::take(&mut self.reader_messages) {
            ctx.send(message);
        }
        if let Some(at) = self.machine.next_deadline() {
            ctx.wake_after(at.saturating_sub(self.now()));
        }
    }
}

pub(crate) fn is_input(record: &Record) -> bool {
    matches!(record.what, Recorded::Setup(_) | Recorded::Host(_) | Recorded::Call(_))
}

/// Records longer than this are not replayed at the end of a test: it would take longer than the test.
const REPLAYED: usize = 20_000;

/// Every test's record has to replay to the same answers.
impl Drop for Guest {
    fn drop(&mut self) {
        let records = self.machine.records_since(0, usize::MAX);
        let whole = records.first().is_some_and(|first| first.seq == 0) && records.len() <= REPLAYED;
        if whole && !std::thread::panicking() {
            let outcome = crate::replay::replay(&records);
            assert_eq!(outcome.difference, None);
        }
    }
}

impl PciFunction for Guest {
    fn name(&self) -> &'static str {
        "guest"
    }

    fn config(&self) -> &ConfigSpace {
        &self.written
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.written
    }

    fn config_read(&mut self, offset: u16, size: u8) -> u32 {
        self.read(0, READER | u64::from(offset), size) as u32
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, offset: u16, size: u8, _before: u32) {
        self.at(ctx);
        let value = self.written.read(offset, size);
        self.write(0, READER | u64::from(offset), size, u64::from(value));
        self.deliver(ctx);
    }

    fn bar_register(&self, _bar: u8, _offset: u64) -> Option<&'static str> {
        Some("reader")
    }

    fn bar_read(&mut self, ctx: &mut Ctx<'_>, _bar: u8, offset: u64, size: u8) -> u64 {
        self.at(ctx);
        let value = self.read(2, offset, size);
        self.deliver(ctx);
        value
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, _bar: u8, offset: u64, size: u8, value: u64) {
        self.at(ctx);
        // The driver's command list is in its own memory: there and back again.
        let mut list = [0; LIST_BYTES];
        let base = 1 << 20;
        let shared = ctx.dma_read(base, &mut list).and_then(|()| self.memory.write(base, &list));
        self.write(2, offset, size, value);
        if shared.is_ok() {
            self.memory.read(base, &mut list).and_then(|()| ctx.dma_write(base, &list)).unwrap();
        }
        self.deliver(ctx);
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.at(ctx);
        self.advance_to(self.now());
        self.deliver(ctx);
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, _kind: ResetKind) {}

    fn snapshot(&self) -> Value {
        self.machine.status()
    }
}

/// A guest, its driver, and the driver's world.
pub(crate) struct Lab {
    pub(crate) guest: Guest,
    pub(crate) driver: RtsxDriver,
    pub(crate) bench: Bench,
}

impl Lab {
    /// Booted, with the driver bound.
    pub(crate) fn bound() -> Self {
        Self::bound_to(Setup::default())
    }

    pub(crate) fn bound_to(setup: Setup) -> Self {
        let mut lab =
            Self { guest: Guest::with_setup(setup), driver: RtsxDriver::new(), bench: Bench::default() };
        lab.guest.boot();
        lab.probe().unwrap();
        lab
    }

    pub(crate) fn probe(&mut self) -> Result<(), DriverError> {
        self.driver.probe(&mut self.bench, &mut self.guest)
    }

    /// Puts a card in; the driver sees it.
    pub(crate) fn insert(&mut self) {
        let now = self.guest.now();
        self.guest.machine.card_insert(now, sdmorph_machine::CardKind::SdExpress).unwrap();
        self.interrupt();
        assert!(self.driver.card_inserted);
    }

    /// The driver takes its interrupt, if there is one.
    pub(crate) fn interrupt(&mut self) -> bool {
        self.guest.collect();
        self.bench.with(&mut self.guest, Guest::deliver);
        self.driver.interrupt(&mut self.bench, &mut self.guest).unwrap()
    }

    /// Card detection, up to and with the switch.
    pub(crate) fn rescan(&mut self) -> Result<bool, DriverError> {
        self.driver.rescan(&mut self.bench, &mut self.guest)
    }

    pub(crate) fn runtime_idle(&mut self) -> Result<(), DriverError> {
        self.driver.runtime_idle(&mut self.bench, &mut self.guest)
    }

    /// Lets time pass.
    pub(crate) fn sleep(&mut self, time: Duration) {
        let slept = self.guest.now();
        self.bench.clock.advance(time);
        self.guest.clock = self.bench.clock.now();
        self.guest.advance_to(slept + time);
    }
}
