//! What is answered to a request: the protocol's state, without I/O.

use std::sync::Arc;

use crate::description::Description;
use crate::device::Device;
use crate::framing::Message;
use crate::header::{Header, Refusal};
use crate::interrupts::{Change, Interrupts};
use crate::memory::{GuestMemory, PAGE_BYTES};
use crate::reply::Reply;
use crate::request::{RegionAccess, Request};
use crate::spec::{
    Command, DEFAULT_MAX_DATA_XFER_BYTES, DEVICE_FLAGS_PCI, DEVICE_FLAGS_RESET, HEADER_BYTES, SCM_MAX_FDS,
    VERSION_MAJOR, VERSION_MINOR,
};
use crate::version::{Capabilities, Proposal};
use rustix::io::Errno;

/// What a client is told to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most data in one message, in bytes. QEMU takes at most 64 MiB.
    pub max_data_xfer_bytes: u32,
    /// Most descriptors in one message, as the client is told. QEMU takes at most 16; what comes is taken, up to 253.
    pub max_msg_fds: u32,
    /// Most ranges of guest memory at one time, as the client is told. Each may hold a descriptor; QEMU maps a dozen.
    pub max_dma_maps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_data_xfer_bytes: DEFAULT_MAX_DATA_XFER_BYTES, max_msg_fds: 16, max_dma_maps: 512 }
    }
}

impl Limits {
    /// Longest message that can be meant: the longest fixed part is REGION_WRITE's and DMA_READ's, 16 bytes.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        usize::try_from(self.max_data_xfer_bytes).unwrap_or(usize::MAX).saturating_add(HEADER_BYTES + 16)
    }
}

/// What to do when a message has been answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send the reply, if it is not empty, and go on.
    Continue,
    /// Send the reply, if it is not empty, and end the connection.
    Close(Refusal),
}

/// What a connection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages that were received.
    pub messages: u64,
    /// Of these: commands whose sender wanted no reply.
    pub posted: u64,
    /// Of these: refused, whether the sender was told or not.
    pub refused: u64,
    /// Of these: replies that nobody waited for.
    pub stray_replies: u64,
}

/// One client's connection, from its VERSION on.
#[derive(Debug)]
pub struct Session {
    description: Arc<Description>,
    memory: GuestMemory,
    interrupts: Interrupts,
    limits: Limits,
    /// What the client is answered to its VERSION, once it sent one; and what it said of itself.
    negotiated: Option<(Proposal, Capabilities)>,
    counters: Counters,
}

impl Session {
    /// A connection on which nothing was said yet.
    #[must_use]
    pub fn new(
        description: Arc<Description>,
        memory: GuestMemory,
        interrupts: Interrupts,
        limits: Limits,
    ) -> Self {
        Self { description, memory, interrupts, limits, negotiated: None, counters: Counters::default() }
    }

    /// What the client said of itself, once it did.
    #[must_use]
    pub fn client(&self) -> Option<Capabilities> {
        self.negotiated.as_ref().map(|(_, client)| *client)
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Acts on `message` and puts what is to be sent into `reply`, which is empty if nothing is.
    pub fn handle(&mut self, message: &mut Message, device: &mut dyn Device, reply: &mut Reply) -> Next {
        let header = message.header;
        reply.clear();
        self.counters.messages += 1;
        if header.is_reply() {
            self.counters.stray_replies += 1;
            if self.counters.stray_replies.is_power_of_two() {
                let count = self.counters.stray_replies;
                tracing::warn!(id = header.id, count, "dropped a reply that nobody waits for");
            }
            message.fds.clear();
            return Next::Continue;
        }
        self.counters.posted += u64::from(header.no_reply());
        reply.begin(&header);
        let result = self.act(message, device, reply);
        // Those of a refused message: closed by the time its sender is told.
        message.fds.clear();
        let mut next = Next::Continue;
        match result {
            Ok(()) => reply.finish(),
            Err(refusal) => {
                self.refused(&header, &refusal);
                reply.fail(&header, refusal.errno);
                // Without a version there is no protocol to go on with.
                if header.command == Command::Version.number() && self.negotiated.is_none() {
                    next = Next::Close(refusal);
                }
            }
        }
        if header.no_reply() {
            reply.clear();
        }
        next
    }

    /// Refuses `message` as a fault wants it, without acting on it.
    pub fn refuse(&mut self, message: &Message, errno: Errno, reply: &mut Reply) {
        reply.clear();
        self.counters.messages += 1;
        self.counters.refused += 1;
        if message.header.is_command() && !message.header.no_reply() {
            reply.fail(&message.header, errno);
        }
    }

    /// Logs a refusal: a client may repeat it without end, so only the first, second, fourth and so on.
    fn refused(&mut self, header: &Header, refusal: &Refusal) {
        self.counters.refused += 1;
        let count = self.counters.refused;
        if count.is_power_of_two() {
            let (command, id, why) = (header.command_name(), header.id, &refusal.why);
            tracing::warn!(command, id, errno = %refusal.errno, why, count, "refused a message");
        }
    }

    fn act(
        &mut self,
        message: &mut Message,
        device: &mut dyn Device,
        reply: &mut Reply,
    ) -> Result<(), Refusal> {
        if let Some(damage) = message.damage.take() {
            return Err(damage);
        }
        let header = message.header;
        if !header.is_command() {
            return Err(Refusal::invalid(format!(
                "flags {:#x} are neither a command's nor a reply's",
                header.flags
            )));
        }
        let request = Request::decode(&header, &message.body)?;
        let mut fds = std::mem::take(&mut message.fds);
        match (&request, &self.negotiated) {
            (Request::Version(_), Some(_)) => return Err(Refusal::invalid("a second VERSION")),
            (Request::Version(_), None) | (_, Some(_)) => {}
            (_, None) => return Err(Refusal::new(Errno::PROTO, "a command before VERSION")),
        }
        if !fds.is_empty() && !matches!(request, Request::DmaMap(_) | Request::DeviceSetIrqs(_)) {
            let count = fds.len();
            return Err(Refusal::invalid(format!("{count} descriptors with {}", header.command_name())));
        }
        match request {
            Request::Version(proposal) => self.version(proposal, reply),
            Request::DmaMap(map) => {
                let fd = fds.pop();
                if !fds.is_empty() {
                    return Err(Refusal::invalid("DMA_MAP with more than one descriptor"));
                }
                let most = self.limits.max_dma_maps;
                if self.memory.ranges() >= usize::try_from(most).unwrap_or(usize::MAX) {
                    return Err(Refusal::new(Errno::NOSPC, format!("more than {most} ranges")));
                }
                self.memory.map(&map, fd)
            }
            Request::DmaUnmap(unmap) => {
                self.memory.unmap(&unmap)?;
                // The entry as it was, and no dirty pages.
                reply.u32(24);
                reply.u32(unmap.flags);
                reply.u64(unmap.address);
                reply.u64(unmap.size);
                Ok(())
            }
            Request::DeviceGetInfo => {
                let reset = if self.description.resettable { DEVICE_FLAGS_RESET } else { 0 };
                reply.u32(16);
                reply.u32(DEVICE_FLAGS_PCI | reset);
                reply.u32(count(&self.description.regions));
                reply.u32(count(&self.description.irqs));
                Ok(())
            }
            Request::DeviceGetRegionInfo { argsz, index } => {
                reply.region_info(index, self.region(index)?, argsz);
                Ok(())
            }
            Request::DeviceGetRegionIoFds { argsz, index } => {
                let region = self.region(index)?;
                if region.io_eventfds.is_empty() {
                    return Err(Refusal::not_offered(format!("region {index} has no io eventfds")));
                }
                let (parts, takes) = (region.io_eventfds.len(), self.client().unwrap_or_default().msg_fds());
                if parts > usize::try_from(takes).unwrap_or(usize::MAX).min(SCM_MAX_FDS) {
                    let why = format!("{parts} descriptors for a client that takes {takes}");
                    return Err(Refusal::new(Errno::TOOBIG, why));
                }
                reply.region_io_fds(index, region, argsz);
                Ok(())
            }
            Request::DeviceGetIrqInfo { index } => {
                let irqs = &self.description.irqs;
                let is = usize::try_from(index).ok().and_then(|at| irqs.get(at));
                let is = is.ok_or_else(|| Refusal::invalid(format!("there is no interrupt type {index}")))?;
                reply.u32(16);
                reply.u32(is.flags);
                reply.u32(index);
                reply.u32(is.count);
                Ok(())
            }
            Request::DeviceSetIrqs(set) => {
                let changes = self.interrupts.set(&set, fds)?;
                changes.into_iter().for_each(|change: Change| device.interrupt_changed(change));
                Ok(())
            }
            Request::RegionRead(access) => {
                let length = self.check(access, false)?;
                echo(reply, access);
                let room = reply.room(length);
                if length != 0 {
                    device.region_read(access.region, access.offset, room)?;
                }
                Ok(())
            }
            Request::RegionWrite(access, data) => {
                self.write(access, data, device)?;
                echo(reply, access);
                Ok(())
            }
            Request::RegionWriteMulti(writes) => self.write_multi(&writes, device, reply),
            Request::DeviceReset => {
                if !self.description.resettable {
                    return Err(Refusal::not_offered("the device cannot be reset"));
                }
                self.interrupts.forget_pending();
                device.reset()?;
                Ok(())
            }
        }
    }

    fn version(&mut self, proposal: Proposal, reply: &mut Reply) -> Result<(), Refusal> {
        if proposal.major != VERSION_MAJOR {
            let (major, minor) = (proposal.major, proposal.minor);
            return Err(Refusal::invalid(format!(
                "version {major}.{minor} is proposed, and {VERSION_MAJOR}.{VERSION_MINOR} is spoken here"
            )));
        }
        let ours = Capabilities {
            max_msg_fds: Some(self.limits.max_msg_fds),
            max_data_xfer_size: Some(self.limits.max_data_xfer_bytes),
            max_dma_maps: Some(self.limits.max_dma_maps),
            pgsizes: Some(PAGE_BYTES),
            write_multiple: Some(true),
        };
        let answer = Proposal {
            major: VERSION_MAJOR,
            minor: proposal.minor.min(VERSION_MINOR),
            capabilities: proposal.capabilities.map(|theirs| ours.among(&theirs)),
        };
        reply.put(&answer.encode());
        let client = proposal.capabilities.unwrap_or_default();
        tracing::debug!(?client, minor = proposal.minor, "version negotiated");
        self.negotiated = Some((answer, client));
        Ok(())
    }

    fn region(&self, index: u32) -> Result<&crate::description::Region, Refusal> {
        let region = usize::try_from(index).ok().and_then(|at| self.description.regions.get(at));
        region.ok_or_else(|| Refusal::invalid(format!("there is no region {index}")))
    }

    /// Checks that an access is one that the device can be asked for, and says how long it is.
    fn check(&self, access: RegionAccess, write: bool) -> Result<usize, Refusal> {
        let RegionAccess { offset, region: index, count } = access;
        let region = self.region(index)?;
        if count > self.limits.max_data_xfer_bytes {
            let most = self.limits.max_data_xfer_bytes;
            return Err(Refusal::invalid(format!("{count} bytes are more than {most}")));
        }
        if offset.checked_add(u64::from(count)).is_none_or(|end| end > region.size) {
            let size = region.size;
            let why =
                format!("{count} bytes at {offset:#x} are not inside region {index} of {size:#x} bytes");
            return Err(Refusal::invalid(why));
        }
        if !(if write { region.writable } else { region.readable }) {
            let what = if write { "written" } else { "read" };
            return Err(Refusal::new(Errno::ACCESS, format!("region {index} cannot be {what}")));
        }
        usize::try_from(count).map_err(|_| Refusal::invalid("more bytes than there can be"))
    }

    fn write(&self, access: RegionAccess, data: &[u8], device: &mut dyn Device) -> Result<(), Refusal> {
        if self.check(access, true)? != 0 {
            device.region_write(access.region, access.offset, data)?;
        }
        Ok(())
    }

    /// Does the writes in order, up to the first that cannot be done; the answer says how many were.
    fn write_multi(
        &self,
        writes: &[(RegionAccess, &[u8])],
        device: &mut dyn Device,
        reply: &mut Reply,
    ) -> Result<(), Refusal> {
        let agreed = self.negotiated.as_ref().and_then(|(answer, _)| answer.capabilities);
        if agreed.and_then(|capabilities| capabilities.write_multiple) != Some(true) {
            return Err(Refusal::not_offered("REGION_WRITE_MULTI was not negotiated"));
        }
        let mut done = 0u64;
        for (access, data) in writes {
            match self.write(*access, data, device) {
                Ok(()) => done += 1,
                Err(refusal) if done == 0 => return Err(refusal),
                Err(refusal) => {
                    tracing::debug!(%refusal, done, "a write of several was refused");
                    break;
                }
            }
        }
        reply.u64(done);
        Ok(())
    }
}

/// Puts what a region access was into its answer.
fn echo(reply: &mut Reply, access: RegionAccess) {
    reply.u64(access.offset);
    reply.u32(access.region);
    reply.u32(access.count);
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
