//! Requests: the body of a client's command, decoded. No I/O.
//!
//! Every length is exact: a body that is shorter or longer than its command's layout says is refused, and never read
//! beyond its end.

use rustix::io::Errno;

use crate::header::{Header, Refusal};
use crate::spec::{
    Command, DMA_MAP_READ, DMA_MAP_WRITE, DMA_UNMAP_ALL, DMA_UNMAP_GET_DIRTY_BITMAP, IRQ_SET_ACTION_MASK,
    IRQ_SET_ACTION_TRIGGER, IRQ_SET_ACTION_UNMASK, IRQ_SET_DATA_BOOL, IRQ_SET_DATA_EVENTFD,
    IRQ_SET_DATA_NONE,
};
use crate::version::Proposal;

/// Bytes of one write in REGION_WRITE_MULTI.
const MULTI_WRITE_BYTES: usize = 24;
/// Bytes that one write in REGION_WRITE_MULTI can carry.
const MULTI_DATA_BYTES: usize = 8;

/// A client's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// VERSION.
    Version(Proposal),
    /// DMA_MAP.
    DmaMap(DmaMap),
    /// DMA_UNMAP.
    DmaUnmap(DmaUnmap),
    /// DEVICE_GET_INFO.
    DeviceGetInfo,
    /// DEVICE_GET_REGION_INFO.
    DeviceGetRegionInfo {
        /// Largest body the client takes, in bytes.
        argsz: u32,
        /// The region.
        index: u32,
    },
    /// DEVICE_GET_REGION_IO_FDS.
    DeviceGetRegionIoFds {
        /// Largest body the client takes, in bytes.
        argsz: u32,
        /// The region.
        index: u32,
    },
    /// DEVICE_GET_IRQ_INFO.
    DeviceGetIrqInfo {
        /// The interrupt type.
        index: u32,
    },
    /// DEVICE_SET_IRQS.
    DeviceSetIrqs(SetIrqs<'a>),
    /// REGION_READ.
    RegionRead(RegionAccess),
    /// REGION_WRITE, with as many bytes as its `count` says.
    RegionWrite(RegionAccess, &'a [u8]),
    /// REGION_WRITE_MULTI.
    RegionWriteMulti(Vec<(RegionAccess, &'a [u8])>),
    /// DEVICE_RESET.
    DeviceReset,
}

/// A range of guest memory that the device may use from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaMap {
    /// The device may read it.
    pub readable: bool,
    /// The device may write it.
    pub writable: bool,
    /// Where it begins in the descriptor's file, in bytes.
    pub offset: u64,
    /// Where it begins in the device's address space.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
}

/// A range of guest memory that the device may not use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaUnmap {
    /// What the client takes as reply, in bytes.
    pub argsz: u32,
    /// As sent; the reply echoes them.
    pub flags: u32,
    /// Where it begins.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
}

impl DmaUnmap {
    /// Does the client mean every range?
    #[must_use]
    pub fn all(&self) -> bool {
        self.flags & DMA_UNMAP_ALL != 0
    }

    /// Does the client want to know which pages were written?
    #[must_use]
    pub fn dirty_bitmap(&self) -> bool {
        self.flags & DMA_UNMAP_GET_DIRTY_BITMAP != 0
    }
}

/// Which bytes of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionAccess {
    /// First byte.
    pub offset: u64,
    /// The region.
    pub region: u32,
    /// Bytes.
    pub count: u32,
}

/// What SET_IRQS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqAction {
    /// Hold interrupts back.
    Mask,
    /// Let them through again.
    Unmask,
    /// Raise them.
    Trigger,
}

/// On what SET_IRQS does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqData<'a> {
    /// Now, on every vector of the range.
    None,
    /// Now, on those vectors of the range whose byte is not 0.
    Bool(&'a [u8]),
    /// Not now: the eventfds that came with the message are signalled whenever it happens.
    Eventfd,
}

/// DEVICE_SET_IRQS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetIrqs<'a> {
    /// What.
    pub action: IrqAction,
    /// On what.
    pub data: IrqData<'a>,
    /// The interrupt type.
    pub index: u32,
    /// First vector.
    pub start: u32,
    /// Vectors.
    pub count: u32,
}

/// A body that is read from front to back.
struct Fields<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Fields<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| Refusal::invalid(format!("a body of {} bytes is too short", self.whole)))?;
        self.rest = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, Refusal> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_ne_bytes)
    }

    /// The size that a client gives of its own structure, which must be at least `least` bytes.
    fn argsz(&mut self, least: u32) -> Result<u32, Refusal> {
        let argsz = self.u32()?;
        if argsz < least {
            return Err(Refusal::invalid(format!("argsz {argsz} is less than {least}")));
        }
        Ok(argsz)
    }

    #[inline]
    fn access(&mut self) -> Result<RegionAccess, Refusal> {
        Ok(RegionAccess { offset: self.u64()?, region: self.u32()?, count: self.u32()? })
    }

    /// What is left, which must be `count` bytes.
    fn data(self, count: usize) -> Result<&'a [u8], Refusal> {
        if self.rest.len() == count {
            return Ok(self.rest);
        }
        let is = self.rest.len();
        Err(Refusal::invalid(format!("{count} bytes of data are announced, and {is} are there")))
    }

    fn end(self) -> Result<(), Refusal> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let more = self.rest.len();
        Err(Refusal::invalid(format!("a body of {} bytes is {more} too long", self.whole)))
    }
}

impl<'a> Request<'a> {
    /// Decodes `body` as the command in `header`.
    ///
    /// # Errors
    /// EINVAL: an unknown command, or a body that is not laid out as the command's is. EOPNOTSUPP: a command of the
    /// protocol that this server does not offer.
    pub fn decode(header: &Header, body: &'a [u8]) -> Result<Self, Refusal> {
        let command = Command::from_number(header.command)
            .ok_or_else(|| Refusal::invalid(format!("there is no command {}", header.command)))?;
        let mut fields = Fields { rest: body, whole: body.len() };
        let request = match command {
            Command::Version => {
                let (major, minor) = (fields.u16()?, fields.u16()?);
                return Proposal::decode(major, minor, fields.rest).map(Request::Version);
            }
            Command::DmaMap => {
                fields.argsz(32)?;
                let flags = fields.u32()?;
                let map = DmaMap {
                    readable: flags & DMA_MAP_READ != 0,
                    writable: flags & DMA_MAP_WRITE != 0,
                    offset: fields.u64()?,
                    address: fields.u64()?,
                    size: fields.u64()?,
                };
                if flags & !(DMA_MAP_READ | DMA_MAP_WRITE) != 0 || flags == 0 {
                    return Err(Refusal::invalid(format!("DMA_MAP with flags {flags:#x}")));
                }
                Request::DmaMap(map)
            }
            Command::DmaUnmap => {
                let unmap = DmaUnmap {
                    argsz: fields.argsz(24)?,
                    flags: fields.u32()?,
                    address: fields.u64()?,
                    size: fields.u64()?,
                };
                if unmap.flags & !(DMA_UNMAP_ALL | DMA_UNMAP_GET_DIRTY_BITMAP) != 0 {
                    return Err(Refusal::invalid(format!("DMA_UNMAP with flags {:#x}", unmap.flags)));
                }
                if unmap.dirty_bitmap() {
                    // Page size and size of the bitmap follow (`struct vfio_bitmap`).
                    fields.array::<16>()?;
                }
                Request::DmaUnmap(unmap)
            }
            Command::DeviceGetInfo => {
                fields.argsz(16)?;
                fields.array::<12>()?;
                Request::DeviceGetInfo
            }
            Command::DeviceGetRegionInfo => {
                let argsz = fields.argsz(32)?;
                fields.u32()?;
                let index = fields.u32()?;
                fields.array::<20>()?;
                Request::DeviceGetRegionInfo { argsz, index }
            }
            Command::DeviceGetRegionIoFds => {
                let argsz = fields.argsz(16)?;
                let flags = fields.u32()?;
                let index = fields.u32()?;
                let count = fields.u32()?;
                if flags != 0 || count != 0 {
                    return Err(Refusal::invalid(
                        "DEVICE_GET_REGION_IO_FDS with flags or count that are not 0",
                    ));
                }
                Request::DeviceGetRegionIoFds { argsz, index }
            }
            Command::DeviceGetIrqInfo => {
                fields.argsz(16)?;
                fields.u32()?;
                let index = fields.u32()?;
                fields.u32()?;
                Request::DeviceGetIrqInfo { index }
            }
            Command::DeviceSetIrqs => return Self::set_irqs(fields),
            Command::RegionRead => Request::RegionRead(fields.access()?),
            Command::RegionWrite => {
                let access = fields.access()?;
                return Ok(Request::RegionWrite(access, fields.data(to_usize(access.count))?));
            }
            Command::RegionWriteMulti => return Self::write_multi(fields),
            Command::DeviceReset => Request::DeviceReset,
            Command::DmaRead | Command::DmaWrite => {
                return Err(Refusal::invalid(format!(
                    "{} goes from the server to the client",
                    command.name()
                )));
            }
            Command::DeviceFeature | Command::MigDataRead | Command::MigDataWrite => {
                return Err(Refusal::not_offered(format!("{} is not offered: no migration", command.name())));
            }
        };
        fields.end()?;
        Ok(request)
    }

    fn set_irqs(mut fields: Fields<'a>) -> Result<Self, Refusal> {
        fields.argsz(20)?;
        let flags = fields.u32()?;
        let (index, start, count) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let bad = || Refusal::invalid(format!("DEVICE_SET_IRQS with flags {flags:#x}"));
        let data_flags = IRQ_SET_DATA_NONE | IRQ_SET_DATA_BOOL | IRQ_SET_DATA_EVENTFD;
        let action_flags = IRQ_SET_ACTION_MASK | IRQ_SET_ACTION_UNMASK | IRQ_SET_ACTION_TRIGGER;
        if flags & !(data_flags | action_flags) != 0 {
            return Err(bad());
        }
        let action = match flags & action_flags {
            IRQ_SET_ACTION_MASK => IrqAction::Mask,
            IRQ_SET_ACTION_UNMASK => IrqAction::Unmask,
            IRQ_SET_ACTION_TRIGGER => IrqAction::Trigger,
            _ => return Err(bad()),
        };
        let data = match flags & data_flags {
            IRQ_SET_DATA_NONE => {
                fields.end()?;
                IrqData::None
            }
            IRQ_SET_DATA_EVENTFD => {
                fields.end()?;
                IrqData::Eventfd
            }
            IRQ_SET_DATA_BOOL => IrqData::Bool(fields.data(to_usize(count))?),
            _ => return Err(bad()),
        };
        Ok(Request::DeviceSetIrqs(SetIrqs { action, data, index, start, count }))
    }

    fn write_multi(mut fields: Fields<'a>) -> Result<Self, Refusal> {
        let announced = fields.u64()?;
        // What is there decides how much is allocated, not what is announced.
        if announced.checked_mul(MULTI_WRITE_BYTES as u64) != Some(fields.rest.len() as u64) {
            let is = fields.rest.len();
            return Err(Refusal::invalid(format!(
                "{announced} writes are announced, and {is} bytes are there"
            )));
        }
        let mut writes = Vec::with_capacity(fields.rest.len() / MULTI_WRITE_BYTES);
        for piece in fields.rest.chunks_exact(MULTI_WRITE_BYTES) {
            let mut write = Fields { rest: piece, whole: piece.len() };
            let access = write.access()?;
            let data = write.data(MULTI_DATA_BYTES)?.get(..to_usize(access.count));
            let data = data.ok_or_else(|| {
                Refusal::new(Errno::INVAL, format!("a write of {} bytes in a field of 8", access.count))
            })?;
            writes.push((access, data));
        }
        Ok(Request::RegionWriteMulti(writes))
    }
}

/// A count on the wire as a length; one that does not fit is one that nothing has.
fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
