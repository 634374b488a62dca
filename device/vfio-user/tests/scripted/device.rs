//! A device that does what the tests need, and a server with it on a thread of its own.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfio_user_server::description::{IoEventfd, Mapping};
use vfio_user_server::interrupts::Change;
use vfio_user_server::{
    Description, Device, DmaError, Errno, GuestMemory, Interrupts, IrqType, Options, Region, Server, Stop,
    Visit,
};

use crate::client::Client;

/// Regions.
pub(crate) const REGISTERS: u32 = 0;
pub(crate) const READ_ONLY: u32 = 1;
pub(crate) const WRITE_ONLY: u32 = 2;
pub(crate) const SPARSE: u32 = 3;
pub(crate) const IO_EVENTFDS: u32 = 4;
pub(crate) const ABSENT: u32 = 5;
pub(crate) const MAPPED: u32 = 6;
pub(crate) const CONFIG: u32 = 7;
/// As long as the longest data, and a page more.
pub(crate) const LONG: u32 = 8;
pub(crate) const LONG_BYTES: u64 = (1 << 20) + 4096;

/// Registers; the rest of the page keeps what is written to it.
pub(crate) const ADDRESS: u64 = 0x100;
/// A write of a length reads so many bytes of guest memory to DATA, from ADDRESS on.
pub(crate) const FETCH: u64 = 0x108;
/// A write of a length writes so many bytes of DATA to guest memory.
pub(crate) const STORE: u64 = 0x110;
/// A write raises the interrupt that is written: type and vector, 32 bits each.
pub(crate) const RAISE: u64 = 0x118;
/// A write lets the device be busy until the test says go.
pub(crate) const BUSY: u64 = 0x120;
/// A write fails with the errno that is written.
pub(crate) const FAIL: u64 = 0x128;
/// A write panics.
pub(crate) const PANIC: u64 = 0x130;
pub(crate) const DATA: u64 = 0x200;

/// Interrupt types.
pub(crate) const INTX: u32 = 0;
pub(crate) const NO_VECTORS: u32 = 1;
pub(crate) const MSIX: u32 = 2;
pub(crate) const NO_EVENTFDS: u32 = 3;
pub(crate) const MASKABLE: u32 = 4;

/// What the device was asked for.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) reads: Vec<(u32, u64, usize)>,
    pub(crate) writes: Vec<(u32, u64, Vec<u8>)>,
    pub(crate) changes: Vec<(u32, u32, bool)>,
    pub(crate) dma: Vec<Result<(), DmaError>>,
    pub(crate) resets: u32,
    /// How often it was told that the server will wait.
    pub(crate) waits: u32,
    pub(crate) disconnects: u32,
}

pub(crate) struct TestDevice {
    page: Vec<u8>,
    memory: GuestMemory,
    interrupts: Interrupts,
    log: Arc<Mutex<Log>>,
    entered: Sender<()>,
    go: Receiver<()>,
}

fn number(data: &[u8]) -> u64 {
    u64::from_ne_bytes(data.try_into().unwrap())
}

impl TestDevice {
    fn register(&mut self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let at = DATA as usize;
        let address = number(&self.page[ADDRESS as usize..][..8]);
        match offset {
            FETCH => {
                let room = &mut self.page[at..at + number(data) as usize];
                let result = self.memory.read(address, room);
                self.log.lock().unwrap().dma.push(result);
            }
            STORE => {
                let result = self.memory.write(address, &self.page[at..at + number(data) as usize]);
                self.log.lock().unwrap().dma.push(result);
            }
            RAISE => {
                let (index, vector) = data.split_at(4);
                let field = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
                self.interrupts.trigger(field(index), field(vector));
            }
            BUSY => {
                self.entered.send(()).unwrap();
                self.go.recv().unwrap();
            }
            FAIL => return Err(Errno::from_raw_os_error(i32::try_from(number(data)).unwrap())),
            PANIC => panic!("the device panics, as it was told to"),
            _ => self.page[offset as usize..][..data.len()].copy_from_slice(data),
        }
        Ok(())
    }
}

impl Device for TestDevice {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.log.lock().unwrap().reads.push((region, offset, data.len()));
        assert!(data.iter().all(|byte| *byte == 0) && !data.is_empty());
        match region {
            REGISTERS if offset == FAIL => return Err(Errno::NODEV),
            REGISTERS => data.copy_from_slice(&self.page[offset as usize..][..data.len()]),
            _ => data.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = at as u8),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.log.lock().unwrap().writes.push((region, offset, data.to_vec()));
        if region == REGISTERS { self.register(offset, data) } else { Ok(()) }
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.log.lock().unwrap().resets += 1;
        self.page.fill(0);
        Ok(())
    }

    fn interrupt_changed(&mut self, change: Change) {
        let Change { index, vector, deliverable } = change;
        self.log.lock().unwrap().changes.push((index, vector, deliverable));
    }

    fn stay_away(&mut self) {
        self.log.lock().unwrap().waits += 1;
    }

    fn disconnected(&mut self) {
        self.log.lock().unwrap().disconnects += 1;
    }
}

pub(crate) fn new_eventfd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

pub(crate) fn memfd(name: &str, bytes: u64) -> OwnedFd {
    let file = memfd_create(name, MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, bytes).unwrap();
    file
}

/// Two ends; the first hangs up when the last copy of the second, which is sent away, is closed.
pub(crate) fn tracer() -> (OwnedFd, OwnedFd) {
    let (stays, goes) = UnixStream::pair().unwrap();
    (stays.into(), goes.into())
}

/// How often an eventfd was signalled since it was last asked.
pub(crate) fn signals(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(eventfd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(errno) => panic!("{errno}"),
    }
}

/// Waits until a descriptor of any kind can be read from, or has been hung up.
pub(crate) fn wait_readable(fd: &impl std::os::fd::AsFd) {
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(fd, PollFlags::IN)], None)).unwrap();
}

/// Can it be read from, or has it been hung up, right now?
pub(crate) fn is_readable(fd: &impl std::os::fd::AsFd) -> bool {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&zero))).unwrap() != 0
}

fn description() -> Description {
    let window = Arc::new(memfd("window", 0x8000));
    let part = |offset, size, datamatch| IoEventfd {
        offset,
        size,
        eventfd: Arc::new(new_eventfd()),
        flags: u32::from(datamatch != 0),
        datamatch,
    };
    let mapping = |offset, sparse_areas| Some(Mapping { file: window.clone(), offset, sparse_areas });
    let mut regions = vec![Region::default(); 9];
    regions[REGISTERS as usize] = Region::read_write(4096);
    regions[READ_ONLY as usize] = Region { size: 256, readable: true, ..Region::default() };
    regions[WRITE_ONLY as usize] = Region { size: 256, writable: true, ..Region::default() };
    regions[SPARSE as usize] = Region {
        mapping: mapping(0x4000, vec![(0x1000, 0x1000), (0x3000, 0x1000)]),
        ..Region::read_write(0x4000)
    };
    regions[IO_EVENTFDS as usize] =
        Region { io_eventfds: vec![part(0x10, 4, 0), part(0x20, 8, 0x1234)], ..Region::read_write(4096) };
    regions[MAPPED as usize] = Region { mapping: mapping(0x1000, Vec::new()), ..Region::read_write(0x1000) };
    regions[CONFIG as usize] = Region::read_write(256);
    regions[LONG as usize] = Region::read_write(LONG_BYTES);
    let mut irqs = vec![IrqType::default(); 5];
    irqs[INTX as usize] = IrqType { count: 1, flags: 0b111 };
    irqs[MSIX as usize] = IrqType::eventfds(16);
    irqs[NO_EVENTFDS as usize] = IrqType { count: 1, flags: 0 };
    irqs[MASKABLE as usize] = IrqType { count: 4, flags: 0b011 };
    Description { regions, irqs, resettable: true }
}

/// A server with the test device.
pub(crate) struct Rig {
    pub(crate) path: PathBuf,
    pub(crate) memory: GuestMemory,
    pub(crate) interrupts: Interrupts,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) stop: Stop,
    pub(crate) visits: Receiver<Visit>,
    pub(crate) entered: Receiver<()>,
    pub(crate) go: Sender<()>,
    /// None once it was waited for.
    pub(crate) serving: Option<JoinHandle<()>>,
    /// The directory of the serving thread in /proc.
    pub(crate) thread: PathBuf,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::of(options, |_| {})
    }

    /// A server for the test device, described otherwise.
    pub(crate) fn of(options: Options, change: impl FnOnce(&mut Description)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vfu.sock")).unwrap();
        Self::on(listener, dir, options, change)
    }

    /// A server on a socket that is there already, `vfu.sock` in `dir`.
    pub(crate) fn on(
        listener: UnixListener,
        dir: tempfile::TempDir,
        options: Options,
        change: impl FnOnce(&mut Description),
    ) -> Self {
        let path = dir.path().join("vfu.sock");
        let mut description = description();
        change(&mut description);
        let memory = GuestMemory::new();
        let interrupts = Interrupts::new(&description);
        let log = Arc::new(Mutex::new(Log::default()));
        let (entered, has_entered) = channel();
        let (goes, go) = channel();
        let (visited, visits) = channel();
        let (page, dma, irqs) = (vec![0; 4096], memory.clone(), interrupts.clone());
        let mut device = TestDevice { page, memory: dma, interrupts: irqs, log: log.clone(), entered, go };
        let server = Server::new(listener, description, memory.clone(), interrupts.clone(), options).unwrap();
        let stop = server.stopper();
        let (this_thread, thread) = channel();
        let serving = std::thread::spawn(move || {
            let this = std::fs::read_link("/proc/thread-self").unwrap();
            this_thread.send(PathBuf::from("/proc").join(this)).unwrap();
            while let Some(visit) = server.serve_one(&mut device).unwrap() {
                let _ = visited.send(visit);
            }
        });
        let thread = thread.recv().unwrap();
        let (entered, serving, go) = (has_entered, Some(serving), goes);
        Self { path, memory, interrupts, log, stop, visits, entered, go, serving, thread, _dir: dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.path)
    }

    pub(crate) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// The next visit that has ended.
    pub(crate) fn visit(&self) -> Visit {
        self.visits.recv().unwrap()
    }

    /// Waits until the serving thread sleeps.
    pub(crate) fn asleep(&self) {
        let stat = self.thread.join("stat");
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
    }

    /// What the device wrote to guest memory or read from it, last.
    pub(crate) fn last_dma(&self) -> Result<(), DmaError> {
        *self.log().dma.last().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.stop();
        // A device that is busy is let go, so that a test that fails ends.
        let (go, _) = channel();
        drop(std::mem::replace(&mut self.go, go));
        let served = self.serving.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(served.is_none_or(|served| served.is_ok()), "the serving thread has panicked");
        }
    }
}
