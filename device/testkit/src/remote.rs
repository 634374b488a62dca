//! A function in another process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sdmorph_pci::config::{Identity, SIZE};
use sdmorph_pci::{ConfigSpace, Ctx, Message, PciFunction, Register, ResetKind};
use serde_json::Value;
use vfio_user::Client;

use crate::nvme::{MEMORY_BASE, MEMORY_BYTES};
use crate::{Bench, RtsxDriver, TestMemory};

/// Regions by their VFIO index, and the index of the MSI-X interrupts.
const ECAM: u32 = 0;
const WINDOW: u32 = 2;
const VMD_CONFIG: u32 = 7;
const MSIX: u32 = 2;
/// DATA_EVENTFD and ACTION_TRIGGER of SET_IRQS (`linux/vfio.h`).
const TRIGGER_BY_EVENTFD: u32 = 1 << 2 | 1 << 5;
/// Configuration spaces of VMD's domain, in the ECAM region.
const PORT: u64 = 0x1c << 15;
const SLOT: u64 = 1 << 20;
/// Where VMD's memory window is, and at its beginning the function's BAR, in guest physical addresses.
const WINDOW_AT: u32 = 0xe000_0000;
const MEMORY_AND_MASTER: u16 = 0x6;
/// VMD's vectors that the drivers here use: the reader's and the admin queue's, and those of the I/O queues.
const VECTORS: u32 = 4;
/// The class of an NVMe controller.
const NVME_CLASS: u32 = 0x01_0802;
/// How long the slot may take to become a drive, and how often it is looked at.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(60);
const SWITCH_LOOK: Duration = Duration::from_millis(10);

/// The function in the slot of a server, over its vfio-user socket, as one that the drivers of this crate can drive.
///
/// Its registers are in VMD's window, its configuration space is in VMD's ECAM region, guest memory is a memfd that both
/// processes have, and its interrupts are eventfds of VMD's vectors. Time is that of the host: where a driver moves the
/// clock of its [`Bench`], this sleeps for as long, or until an interrupt comes. When the server is gone, registers read
/// as all ones.
pub struct Remote {
    client: Client,
    vectors: Vec<OwnedFd>,
    /// What a driver writes passes through here.
    written: ConfigSpace,
    /// The bench's time at the last call.
    now: Duration,
    gone: bool,
}

impl Remote {
    /// Attaches to the server at `path`, and does what `vmd` and the PCI core do before a driver of the slot is bound.
    /// Also returns the world of its driver, whose memory is the server's guest memory.
    ///
    /// # Errors
    /// There is no server, or it refuses.
    pub fn attach(path: &Path) -> io::Result<(Self, Bench)> {
        let mut client = Client::new(path).map_err(io::Error::other)?;
        let file = guest_memory()?;
        client.dma_map(0, MEMORY_BASE, MEMORY_BYTES as u64, file.as_raw_fd()).map_err(io::Error::other)?;
        let vectors = (0..VECTORS)
            .map(|_| eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC))
            .collect::<Result<Vec<_>, _>>()?;
        let numbers: Vec<RawFd> = vectors.iter().map(AsRawFd::as_raw_fd).collect();
        client.set_irqs(MSIX, TRIGGER_BY_EVENTFD, 0, VECTORS, &numbers).map_err(io::Error::other)?;
        let mut remote = Self { client, vectors, written: any_bytes(), now: Duration::ZERO, gone: false };
        remote.bring_up();
        if remote.gone {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let memory = TestMemory::in_file(MEMORY_BASE, MEMORY_BYTES, file);
        Ok((remote, Bench { memory, ..Bench::default() }))
    }

    /// VMD's window and vectors, the port's bus numbers and its window, and the function in the slot.
    fn bring_up(&mut self) {
        self.put(VMD_CONFIG, 0x18, &WINDOW_AT.to_le_bytes());
        self.put(VMD_CONFIG, 0x04, &MEMORY_AND_MASTER.to_le_bytes());
        // MSI-X enabled.
        self.put(VMD_CONFIG, 0x82, &0x8000u16.to_le_bytes());
        self.put(ECAM, PORT + 0x18, &0x0001_0100u32.to_le_bytes());
        self.put(ECAM, PORT + 0x20, &(WINDOW_AT | WINDOW_AT >> 16).to_le_bytes());
        self.put(ECAM, PORT + 0x04, &MEMORY_AND_MASTER.to_le_bytes());
        self.place();
    }

    /// Gives the function that is in the slot its address.
    fn place(&mut self) {
        let is_64bit = self.config_read(0x10, 4) >> 1 & 3 == 2;
        self.put(ECAM, SLOT + 0x10, &WINDOW_AT.to_le_bytes());
        if is_64bit {
            self.put(ECAM, SLOT + 0x14, &[0; 4]);
        }
    }

    /// Has the reader's driver find the SD Express card that is in, and ask for the switch; waits until the drive is there,
    /// and places it. Its driver can be bound then.
    ///
    /// # Errors
    /// The driver fails, the card is none, or no drive comes.
    pub fn switch(&mut self, bench: &mut Bench) -> io::Result<()> {
        let mut driver = RtsxDriver::new();
        let asked = driver.probe(bench, self).and_then(|()| driver.rescan(bench, self));
        if asked != Ok(true) {
            return Err(io::Error::other(format!(
                "the reader's driver has not asked for the switch: {asked:?}"
            )));
        }
        let mut waited = Duration::ZERO;
        while self.config_read(0x08, 4) >> 8 != NVME_CLASS {
            if self.gone || waited > SWITCH_TIMEOUT {
                return Err(io::Error::other("no drive has come"));
            }
            self.wait(SWITCH_LOOK);
            waited += SWITCH_LOOK;
        }
        self.place();
        Ok(())
    }

    /// Waits for an interrupt, for `most` at most; not at all if the server is gone. Returns the vectors that were signalled
    /// since the last time.
    pub fn wait(&mut self, most: Duration) -> Vec<u16> {
        let most = if self.gone { Duration::ZERO } else { most };
        let mut fds: Vec<PollFd<'_>> = self
            .vectors
            .iter()
            .map(|vector| PollFd::from_borrowed_fd(vector.as_fd(), PollFlags::IN))
            .collect();
        let timeout = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        // Interrupted by a signal, it is as if nothing had come yet.
        if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
            return Vec::new();
        }
        let is_ready = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
        let ready: Vec<bool> = fds.iter().map(is_ready).collect();
        let signalled = (0..).zip(&self.vectors).zip(ready).filter(|(_, ready)| *ready);
        let taken = signalled.filter(|((_, vector), _)| rustix::io::read(vector, &mut [0; 8]).is_ok());
        taken.map(|((number, _), _)| number).collect()
    }

    fn get(&mut self, region: u32, offset: u64, data: &mut [u8]) {
        if self.gone || self.client.region_read(region, offset, data).is_err() {
            self.gone = true;
            data.fill(0xff);
        }
    }

    fn put(&mut self, region: u32, offset: u64, data: &[u8]) {
        self.gone = self.gone || self.client.region_write(region, offset, data).is_err();
    }

    /// Hands interrupts of the time until now to the driver, and asks for a look at the next time that it waits.
    fn deliver(&mut self, ctx: &mut Ctx<'_>, most: Duration) {
        for vector in self.wait(most) {
            // What the message was, VMD has kept to itself.
            ctx.send(Message { vector, address: 0, data: 0 });
        }
        self.now = ctx.now();
        ctx.wake_after(Duration::ZERO);
    }
}

/// Memory as QEMU shares it: it cannot shrink, so the server maps it.
fn guest_memory() -> io::Result<File> {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(MEMORY_BYTES as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK)?;
    Ok(file)
}

/// A configuration space that keeps whatever is written behind its header.
fn any_bytes() -> ConfigSpace {
    let nobody = Identity { vendor: 0, device: 0, class: 0, revision: 0, subsystem: (0, 0) };
    let mut space = ConfigSpace::endpoint(nobody, &[]);
    for address in (0x40..SIZE as u32).step_by(4) {
        space.add_row(Register::new("ANY", address, 4, 0, "the function's own tables").rw(0xffff_ffff));
    }
    space
}

impl PciFunction for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn config(&self) -> &ConfigSpace {
        &self.written
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.written
    }

    fn config_read(&mut self, offset: u16, size: u8) -> u32 {
        let mut data = [0; 4];
        if let Some(data) = data.get_mut(..usize::from(size)) {
            self.get(ECAM, SLOT + u64::from(offset), data);
        }
        u32::from_le_bytes(data)
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, offset: u16, size: u8, _before: u32) {
        let value = self.written.read(offset, size).to_le_bytes();
        self.put(ECAM, SLOT + u64::from(offset), value.get(..usize::from(size)).unwrap_or_default());
        self.deliver(ctx, Duration::ZERO);
    }

    fn bar_register(&self, _bar: u8, _offset: u64) -> Option<&'static str> {
        None
    }

    fn bar_read(&mut self, ctx: &mut Ctx<'_>, _bar: u8, offset: u64, size: u8) -> u64 {
        let mut data = [0; 8];
        if let Some(data) = data.get_mut(..usize::from(size)) {
            self.get(WINDOW, offset, data);
        }
        self.deliver(ctx, Duration::ZERO);
        u64::from_le_bytes(data)
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, _bar: u8, offset: u64, size: u8, value: u64) {
        self.put(WINDOW, offset, value.to_le_bytes().get(..usize::from(size)).unwrap_or_default());
        self.deliver(ctx, Duration::ZERO);
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.deliver(ctx, ctx.now().saturating_sub(self.now));
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, _kind: ResetKind) {}

    fn snapshot(&self) -> Value {
        Value::Null
    }
}
