//! A device of the tests' own behind the server, in this process: a page of memory that remembers what was done to it.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use vfio_user_server::spec::{pci_irq, pci_region};
use vfio_user_server::{
    Description, Device, DmaError, Errno, GuestMemory, Interrupts, IrqType, Options, Region, Server, Stop,
    Visit,
};

use crate::qemu::HANG;

/// MSI-X vectors.
pub(crate) const VECTORS: u32 = 16;
/// BAR 0: a page that keeps what is written.
pub(crate) const PAGE_BYTES: usize = 4096;
/// BAR 1: the MSI-X table at 0, which QEMU keeps to itself, and the PBA, which it asks the server for.
pub(crate) const PBA: u64 = 0x800;
/// Where the MSI-X capability is.
pub(crate) const MSIX: u8 = 0x40;
/// BAR 0: a read of this dword has the device read guest memory at the address that was written to [`DMA_ADDRESS`].
pub(crate) const DMA_NOW: u64 = 0xff0;
pub(crate) const DMA_ADDRESS: u64 = 0xff8;

/// Something that was asked of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Read(u32, u64, usize),
    Write(u32, u64, Vec<u8>),
    Reset,
    Disconnected,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) asked: Vec<Asked>,
    pub(crate) config: Vec<u8>,
    pub(crate) page: Vec<u8>,
    /// What a read of [`DMA_NOW`] came to.
    pub(crate) dma: Vec<Result<u32, DmaError>>,
}

impl State {
    fn new(msix: bool) -> Self {
        let mut config = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &[0x34, 0x12, 0xea, 0x11, 0, 0, 0x10, 0]);
        put(0x08, &[0x01, 0x00, 0x00, 0xff]);
        put(0x34, &[if msix { MSIX } else { 0 }]);
        // MSI-X: table in BAR 1 at 0, PBA in BAR 1 at 0x800.
        put(usize::from(MSIX), &[0x11, 0, u8::try_from(VECTORS - 1).unwrap(), 0, 1, 0, 0, 0, 1, 0x08, 0, 0]);
        // What the tests look for: vendor's own registers, and one in extended configuration space.
        put(0xc0, &[0x10, 0x32, 0x54, 0x76]);
        put(0xf00, &[0x98, 0xba, 0xdc, 0xfe]);
        Self { asked: Vec::new(), config, page: vec![0; PAGE_BYTES], dma: Vec::new() }
    }

    /// What was asked since the last time.
    pub(crate) fn take(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }
}

struct Toy {
    state: Arc<Mutex<State>>,
    memory: GuestMemory,
    interrupts: Interrupts,
}

impl Device for Toy {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if (region, offset) == (pci_region::BAR0, DMA_NOW) {
            // Not with the state locked: this waits for the client.
            let address =
                self.state.lock().unwrap().page[DMA_ADDRESS as usize..].first_chunk().copied().unwrap();
            let mut value = [0; 4];
            let read = self.memory.read(u64::from_le_bytes(address), &mut value);
            self.state.lock().unwrap().dma.push(read.map(|()| u32::from_le_bytes(value)));
            data.copy_from_slice(&value[..data.len()]);
            return Ok(());
        }
        let mut state = self.state.lock().unwrap();
        state.asked.push(Asked::Read(region, offset, data.len()));
        let at = usize::try_from(offset).unwrap();
        match region {
            pci_region::CONFIG => data.copy_from_slice(&state.config[at..at + data.len()]),
            pci_region::BAR0 => data.copy_from_slice(&state.page[at..at + data.len()]),
            _ => {
                for (byte, at) in data.iter_mut().zip(offset..) {
                    *byte = (0..8u32)
                        .filter(|bit| {
                            let vector = at
                                .checked_sub(PBA)
                                .and_then(|at| u32::try_from(at).ok())
                                .map(|at| 8 * at + bit);
                            vector.and_then(|vector| self.interrupts.is_pending(pci_irq::MSIX, vector))
                                == Some(true)
                        })
                        .fold(0, |byte, bit| byte | 1 << bit);
                }
            }
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        state.asked.push(Asked::Write(region, offset, data.to_vec()));
        let at = usize::try_from(offset).unwrap();
        match region {
            pci_region::CONFIG => {
                for (at, byte) in (at..).zip(data) {
                    // COMMAND, the upper bits of two BARs of 4 KiB, MSI-X control, the vendor's own registers.
                    let mask = match at {
                        0x04 | 0x12 | 0x13 | 0x16 | 0x17 | 0xc0..=0xff | 0xf00.. => 0xff,
                        0x11 | 0x15 => 0xf0,
                        0x43 => 0xc0,
                        _ => 0,
                    };
                    state.config[at] = state.config[at] & !mask | byte & mask;
                }
            }
            pci_region::BAR0 => state.page[at..at + data.len()].copy_from_slice(data),
            _ => {}
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        let fresh = State::new(state.config[0x34] != 0);
        (state.config, state.page) = (fresh.config, fresh.page);
        state.asked.push(Asked::Reset);
        Ok(())
    }

    fn disconnected(&mut self) {
        self.state.lock().unwrap().asked.push(Asked::Disconnected);
    }
}

/// A server with the device, on a thread of its own. Dropping it stops it.
pub(crate) struct Served {
    dir: tempfile::TempDir,
    pub(crate) memory: GuestMemory,
    pub(crate) interrupts: Interrupts,
    pub(crate) state: Arc<Mutex<State>>,
    visits: Receiver<Visit>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::with(Options::default(), true)
    }

    /// One whose device has no interrupts.
    pub(crate) fn without_msix() -> Self {
        Self::with(Options::default(), false)
    }

    /// One that takes so many descriptors in a message.
    pub(crate) fn with_msg_fds(most: u32) -> Self {
        let mut options = Options::default();
        options.limits.max_msg_fds = most;
        Self::with(options, true)
    }

    /// One that gives DMA messages up so soon.
    pub(crate) fn with_dma_timeout(dma_timeout: Duration) -> Self {
        Self::with(Options { dma_timeout, ..Options::default() }, true)
    }

    fn with(options: Options, msix: bool) -> Self {
        let description = Description {
            regions: (0..pci_region::COUNT)
                .map(|index| match index {
                    pci_region::BAR0 | 1 => Region::read_write(PAGE_BYTES as u64),
                    pci_region::CONFIG => Region::read_write(4096),
                    _ => Region::default(),
                })
                .collect(),
            irqs: (0..pci_irq::COUNT)
                .map(|index| IrqType::eventfds(if msix && index == pci_irq::MSIX { VECTORS } else { 0 }))
                .collect(),
            resettable: true,
        };
        let dir = sdmorph_lab::vm::run_dir().unwrap();
        let listener = UnixListener::bind(dir.path().join("device")).unwrap();
        let memory = GuestMemory::new();
        let interrupts = Interrupts::new(&description);
        let state = Arc::new(Mutex::new(State::new(msix)));
        let mut toy = Toy { state: state.clone(), memory: memory.clone(), interrupts: interrupts.clone() };
        let server = Server::new(listener, description, memory.clone(), interrupts.clone(), options).unwrap();
        let stop = server.stopper();
        let (ended, visits) = channel();
        let thread = std::thread::spawn(move || {
            while let Some(visit) = server.serve_one(&mut toy).unwrap() {
                let _ = ended.send(visit);
            }
        });
        Self { dir, memory, interrupts, state, visits, stop, thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("device")
    }

    /// Stops it; what it does just now it does to its end.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// A private directory, for other sockets.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The next client's visit, once it is over.
    pub(crate) fn next_visit(&self) -> Visit {
        self.visits.recv_timeout(HANG).unwrap()
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().take()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.stop();
        let joined = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            joined.unwrap().unwrap();
        }
    }
}
