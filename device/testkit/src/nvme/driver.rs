//! The driver's sequences.

use std::time::Duration;

use sdmorph_pci::PciFunction;

use super::PAGE_BYTES;
use super::command::{Completion, Entry};
use super::queue::{QueuePair, Shadow};
use crate::{Bench, TestMemory};

/// Where a sequence of the driver would have returned an error, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NvmeError {
    /// CSTS.RDY or CSTS.SHST did not come in the time of CAP.TO (`-ENODEV`).
    NotReady,
    /// The function lacks a capability that the driver needs.
    NoCapability(u8),
    /// No completion came for a command.
    TimedOut,
    /// A command ended with this status code type and status code.
    Status(u16),
}

/// Guest memory of [`NvmeDriver::bench`]: where it begins and how long it is.
pub(crate) const MEMORY_BASE: u64 = 1 << 20;
pub(crate) const MEMORY_BYTES: usize = 16 << 20;
/// Where the data of [`NvmeDriver::read`] and the like is: 1 MiB, and a page for a PRP list before it.
const DATA: u64 = MEMORY_BASE + (8 << 20);
/// How long the driver waits for a completion (NVME_ADMIN_TIMEOUT).
const TIMEOUT: Duration = Duration::from_secs(60);
/// Entries of the admin queue (NVME_AQ_DEPTH).
const ADMIN_ENTRIES: u32 = 32;

/// The driver's state.
#[derive(Debug, Clone)]
pub struct NvmeDriver {
    /// The admin queue, and then the I/O queues.
    pub queues: Vec<QueuePair>,
    /// Whether the driver uses shadow doorbells, if the controller has them.
    pub uses_shadow_doorbells: bool,
    /// Most I/O queues that the driver makes.
    pub io_queues: u16,
    /// Entries of an I/O queue.
    pub io_entries: u32,
    /// Bytes of a logical block, from Identify.
    pub block_bytes: u32,
    next_page: u64,
    next_id: u16,
    shadow: Option<Shadow>,
}

impl Default for NvmeDriver {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            uses_shadow_doorbells: false,
            io_queues: 2,
            io_entries: 64,
            block_bytes: 512,
            next_page: MEMORY_BASE,
            next_id: 0,
            shadow: None,
        }
    }
}

impl NvmeDriver {
    /// A bench with memory enough for the driver.
    #[must_use]
    pub fn bench() -> Bench {
        Bench { memory: TestMemory::new(MEMORY_BASE, MEMORY_BYTES), ..Bench::default() }
    }

    /// Address of `count` new pages of guest memory, zeros if nothing has been there.
    pub fn pages(&mut self, count: u64) -> u64 {
        let address = self.next_page;
        self.next_page += count * PAGE_BYTES;
        address
    }

    /// `nvme_probe` and `nvme_reset_work`: from a function without a driver to a namespace that can be read.
    ///
    /// # Errors
    /// [`NvmeError`] where probe would fail.
    pub fn probe(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), NvmeError> {
        bench.config_write(function, 0x04, 2, 0x0006);
        self.enable_msi_x(bench, function)?;
        self.enable(bench, function)?;
        self.set_up(bench, function)
    }

    /// `pci_alloc_irq_vectors`: every vector's address is its number, in units of 4096 bytes.
    ///
    /// # Errors
    /// [`NvmeError::NoCapability`] without MSI-X.
    pub fn enable_msi_x(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
    ) -> Result<(), NvmeError> {
        let at = capability(bench, function, 0x11).ok_or(NvmeError::NoCapability(0x11))?;
        let vectors = (bench.config_read(function, at + 2, 2) & 0x7ff) + 1;
        let table = u64::from(bench.config_read(function, at + 4, 4) & !7);
        for vector in 0..u64::from(vectors) {
            let entry = table + 16 * vector;
            bench.write(function, entry, 0xfee0_0000 | (vector as u32) << 12);
            bench.write(function, entry + 4, 0);
            bench.write(function, entry + 8, 0);
            bench.write(function, entry + 12, 0);
        }
        bench.config_write(function, at + 2, 2, 0x8000);
        Ok(())
    }

    /// `nvme_pci_configure_admin_queue`: disables the controller and enables it with a new admin queue.
    ///
    /// # Errors
    /// [`NvmeError::NotReady`].
    pub fn enable(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), NvmeError> {
        let status = bench.read(function, CSTS);
        if status & 1 != 0 {
            self.disable(bench, function)?;
        }
        self.next_page = MEMORY_BASE;
        self.shadow = None;
        let (submission, completion) = (self.pages(1), self.pages(1));
        bench.memory.poke(submission, &[0; PAGE_BYTES as usize]);
        bench.memory.poke(completion, &[0; PAGE_BYTES as usize]);
        self.queues = vec![QueuePair::new(0, ADMIN_ENTRIES, submission, completion)];
        let entries = ADMIN_ENTRIES - 1;
        bench.write(function, 0x24, entries << 16 | entries);
        for (register, address) in [(0x28, submission), (0x30, completion)] {
            bench.write(function, register, address as u32);
            bench.write(function, register + 4, (address >> 32) as u32);
        }
        // Pages of 4 KiB, entries of 64 and 16 bytes; first without and then with Enable.
        bench.write(function, CC, 0x0046_0000);
        bench.write(function, CC, 0x0046_0001);
        wait_for(bench, function, 1, 1)
    }

    /// `nvme_disable_ctrl`: clears Enable.
    ///
    /// # Errors
    /// [`NvmeError::NotReady`].
    pub fn disable(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), NvmeError> {
        let control = bench.read(function, CC) & !0xc001;
        bench.write(function, CC, control);
        wait_for(bench, function, 1, 0)
    }

    /// `nvme_shutdown_ctrl`: asks for a normal shutdown.
    ///
    /// # Errors
    /// [`NvmeError::NotReady`] if it does not complete.
    pub fn shut_down(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), NvmeError> {
        let control = bench.read(function, CC) & !0xc000 | 0x4000;
        bench.write(function, CC, control);
        wait_for(bench, function, 0xc, 0x8)
    }

    /// What follows once the admin queue is there: `nvme_init_ctrl_finish`, `nvme_dbbuf_set`, `nvme_setup_io_queues` and
    /// the scan of namespaces.
    ///
    /// # Errors
    /// [`NvmeError`] if a command fails.
    pub fn set_up(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> Result<(), NvmeError> {
        let controller = self.identify(bench, function, 1, 0)?;
        // The limits of the command set, which every controller is asked for.
        self.identify(bench, function, 6, 0)?;
        let shadow = controller.get(257).is_some_and(|byte| byte & 1 != 0);
        if self.uses_shadow_doorbells && shadow {
            let shadow = Shadow { doorbells: self.pages(1), indices: self.pages(1) };
            bench.memory.poke(shadow.doorbells, &[0; 2 * PAGE_BYTES as usize]);
            let command = Entry::new(0x7c, 0).prps(shadow.doorbells, shadow.indices);
            self.admin(bench, function, command)?;
            self.shadow = Some(shadow);
        }
        let wanted = u32::from(self.io_queues) - 1;
        let result = self.admin(bench, function, set_feature(7, wanted << 16 | wanted))?;
        let queues = self.io_queues.min((result & 0xffff) as u16 + 1);
        for id in 1..=queues {
            self.create_queues(bench, function, id, id)?;
        }
        // Namespace attribute notices.
        self.admin(bench, function, set_feature(0x0b, 0x100))?;
        self.request_event(bench, function);
        self.identify(bench, function, 2, 0)?;
        self.identify(bench, function, 3, 1)?;
        let namespace = self.identify(bench, function, 0, 1)?;
        let byte = |at: usize| namespace.get(at).copied().unwrap_or(0);
        let format = usize::from(byte(26) & 0xf);
        self.block_bytes = 1 << byte(128 + 4 * format + 2);
        Ok(())
    }

    /// `nvme_create_queue`: a pair of I/O queues with this identifier and vector.
    ///
    /// # Errors
    /// [`NvmeError::Status`].
    pub fn create_queues(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        id: u16,
        vector: u16,
    ) -> Result<(), NvmeError> {
        let pages = u64::from(self.io_entries * 64).div_ceil(PAGE_BYTES);
        let (submission, completion) = (self.pages(pages), self.pages(pages));
        bench.memory.poke(completion, &vec![0; (pages * PAGE_BYTES) as usize]);
        let size = (self.io_entries - 1) << 16 | u32::from(id);
        let vector = u32::from(vector) << 16 | 3;
        let command = Entry::new(5, 0).prps(completion, 0).with(10, size).with(11, vector);
        self.admin(bench, function, command)?;
        let command = Entry::new(1, 0).prps(submission, 0).with(10, size).with(11, u32::from(id) << 16 | 1);
        self.admin(bench, function, command)?;
        let mut queue = QueuePair::new(id, self.io_entries, submission, completion);
        queue.shadow = self.shadow;
        self.queues.push(queue);
        Ok(())
    }

    /// Leaves an Asynchronous Event Request with the controller. Returns its command identifier.
    pub fn request_event(&mut self, bench: &mut Bench, function: &mut dyn PciFunction) -> u16 {
        self.submit(bench, function, 0, Entry::new(0x0c, 0))
    }

    /// A data structure of Identify.
    ///
    /// # Errors
    /// [`NvmeError::Status`].
    pub fn identify(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        cns: u32,
        namespace: u32,
    ) -> Result<Vec<u8>, NvmeError> {
        self.admin(bench, function, Entry::new(6, namespace).prps(DATA, 0).with(10, cns))?;
        Ok(bench.memory.peek(DATA, PAGE_BYTES as usize).unwrap_or_default())
    }

    /// `length` bytes of a log page from `offset` on, at most a page.
    ///
    /// # Errors
    /// [`NvmeError::Status`].
    pub fn log_page(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        page: u8,
        offset: u32,
        length: u32,
    ) -> Result<Vec<u8>, NvmeError> {
        let dwords = (length / 4 - 1) << 16 | u32::from(page);
        let command = Entry::new(2, 0xffff_ffff).prps(DATA, 0).with(10, dwords).with(12, offset);
        self.admin(bench, function, command)?;
        Ok(bench.memory.peek(DATA, length as usize).unwrap_or_default())
    }

    /// Runs an admin command and returns dword 0 of its completion.
    ///
    /// # Errors
    /// [`NvmeError::Status`].
    pub fn admin(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        entry: Entry,
    ) -> Result<u32, NvmeError> {
        self.run(bench, function, 0, entry)
    }

    /// Runs a command of a queue and returns dword 0 of its completion.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub fn run(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        queue: usize,
        entry: Entry,
    ) -> Result<u32, NvmeError> {
        let id = self.submit(bench, function, queue, entry);
        let deadline = bench.now() + TIMEOUT;
        let mut wait = Duration::from_micros(100);
        loop {
            let completions = self.reap(bench, function, queue);
            if let Some(completion) = completions.into_iter().find(|completion| completion.id == id) {
                let code = completion.code();
                return if code == 0 { Ok(completion.result) } else { Err(NvmeError::Status(code)) };
            }
            if bench.now() > deadline {
                return Err(NvmeError::TimedOut);
            }
            bench.advance(function, wait);
            wait = (2 * wait).min(Duration::from_secs(1));
        }
    }

    /// Submits a command with a new identifier, which it returns.
    pub fn submit(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        queue: usize,
        entry: Entry,
    ) -> u16 {
        self.next_id = self.next_id.wrapping_add(1) & 0x7fff;
        let id = self.next_id;
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.put(bench, &entry.id(id));
            queue.ring(bench, function);
        }
        id
    }

    /// Takes the completions of a queue.
    pub fn reap(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        queue: usize,
    ) -> Vec<Completion> {
        self.queues.get_mut(queue).map(|queue| queue.reap(bench, function)).unwrap_or_default()
    }

    /// Reads blocks, at most 1 MiB.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub fn read(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        first: u64,
        count: u32,
    ) -> Result<Vec<u8>, NvmeError> {
        let length = count * self.block_bytes;
        let entry = with_prps(bench, Entry::new(2, 1).blocks(first, count), DATA, length);
        self.run(bench, function, 1, entry)?;
        Ok(bench.memory.peek(DATA, length as usize).unwrap_or_default())
    }

    /// Writes whole blocks, at most 1 MiB.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub fn write(
        &mut self,
        bench: &mut Bench,
        function: &mut dyn PciFunction,
        first: u64,
        data: &[u8],
    ) -> Result<(), NvmeError> {
        bench.memory.poke(DATA, data);
        let count = data.len() as u32 / self.block_bytes;
        let entry = with_prps(bench, Entry::new(1, 1).blocks(first, count), DATA, data.len() as u32);
        self.run(bench, function, 1, entry).map(|_| ())
    }
}

const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;

/// Set Features with this value in dword 11.
#[must_use]
pub fn set_feature(feature: u32, value: u32) -> Entry {
    Entry::new(9, 0).with(10, feature).with(11, value)
}

/// `entry` with PRPs for `length` bytes at `address`, whose list, if it needs one, is in the page before.
#[must_use]
pub fn with_prps(bench: &Bench, entry: Entry, address: u64, length: u32) -> Entry {
    let pages = (address % PAGE_BYTES + u64::from(length)).div_ceil(PAGE_BYTES);
    let page = |index: u64| (address & !(PAGE_BYTES - 1)) + index * PAGE_BYTES;
    match pages {
        0 | 1 => entry.prps(address, 0),
        2 => entry.prps(address, page(1)),
        _ => {
            let list: Vec<u8> = (1..pages).flat_map(|index| page(index).to_le_bytes()).collect();
            let at = page(0) - PAGE_BYTES;
            bench.memory.poke(at, &list);
            entry.prps(address, at)
        }
    }
}

/// Where capability `id` is.
#[must_use]
pub fn capability(bench: &mut Bench, function: &mut dyn PciFunction, id: u8) -> Option<u16> {
    let mut at = bench.config_read(function, 0x34, 1) as u16;
    for _ in 0..48 {
        if at == 0 {
            return None;
        }
        let header = bench.config_read(function, at, 2);
        if header & 0xff == u32::from(id) {
            return Some(at);
        }
        at = (header >> 8) as u16;
    }
    None
}

/// Waits until the bits of `mask` in CSTS are `value`, as long as CAP.TO says.
fn wait_for(
    bench: &mut Bench,
    function: &mut dyn PciFunction,
    mask: u32,
    value: u32,
) -> Result<(), NvmeError> {
    let timeout = Duration::from_millis(500) * (bench.read(function, 0) >> 24);
    let deadline = bench.now() + timeout;
    while bench.read(function, CSTS) & mask != value {
        if bench.now() > deadline {
            return Err(NvmeError::NotReady);
        }
        bench.advance(function, Duration::from_millis(100));
    }
    Ok(())
}
