//! Messages as a client writes them, straight from the specification's tables.

use vfio_user_server::request::{DmaMap, DmaUnmap, IrqAction, IrqData, RegionAccess, Request, SetIrqs};
use vfio_user_server::spec::{Command, FLAG_ERROR, TYPE_REPLY};

/// Bytes of a header.
pub const HEADER: usize = 16;

/// A message: header and body.
#[must_use]
pub fn message(id: u16, command: u16, flags: u32, error: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_ne_bytes().to_vec();
    bytes.extend(command.to_ne_bytes());
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(error.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// A client's reply to `command`, with an error unless `errno` is None. The errno may be 0, as no client should have it.
#[must_use]
pub fn reply(id: u16, command: u16, errno: Option<u32>, body: &[u8]) -> Vec<u8> {
    let flags = TYPE_REPLY | errno.map_or(0, |_| FLAG_ERROR);
    message(id, command, flags, errno.unwrap_or(0), body)
}

struct Body(Vec<u8>);

impl Body {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn access(self, access: &RegionAccess) -> Self {
        self.u64(access.offset).u32(access.region).u32(access.count)
    }
}

/// The command and the body of a request, with every reserved field 0.
#[must_use]
pub fn encode(request: &Request<'_>) -> (Command, Vec<u8>) {
    let body = Body(Vec::new());
    let (command, body) = match request {
        Request::Version(proposal) => (Command::Version, Body(proposal.encode())),
        Request::DmaMap(DmaMap { readable, writable, offset, address, size }) => {
            let flags = u32::from(*readable) | u32::from(*writable) << 1;
            (Command::DmaMap, body.u32(32).u32(flags).u64(*offset).u64(*address).u64(*size))
        }
        Request::DmaUnmap(DmaUnmap { argsz, flags, address, size }) => {
            let body = body.u32(*argsz).u32(*flags).u64(*address).u64(*size);
            // A request for a dirty bitmap says where it goes.
            (Command::DmaUnmap, if flags & 1 == 0 { body } else { body.u64(0).u64(0) })
        }
        Request::DeviceGetInfo => (Command::DeviceGetInfo, body.u32(16).u32(0).u64(0)),
        Request::DeviceGetRegionInfo { argsz, index } => {
            (Command::DeviceGetRegionInfo, body.u32(*argsz).u32(0).u32(*index).u32(0).u64(0).u64(0))
        }
        Request::DeviceGetRegionIoFds { argsz, index } => {
            (Command::DeviceGetRegionIoFds, body.u32(*argsz).u32(0).u32(*index).u32(0))
        }
        Request::DeviceGetIrqInfo { index } => {
            (Command::DeviceGetIrqInfo, body.u32(16).u32(0).u32(*index).u32(0))
        }
        Request::DeviceSetIrqs(SetIrqs { action, data, index, start, count }) => {
            let action = match action {
                IrqAction::Mask => 1 << 3,
                IrqAction::Unmask => 1 << 4,
                IrqAction::Trigger => 1 << 5,
            };
            let (kind, bools): (u32, &[u8]) = match data {
                IrqData::None => (1 << 0, &[]),
                IrqData::Bool(bools) => (1 << 1, bools),
                IrqData::Eventfd => (1 << 2, &[]),
            };
            let argsz = 20 + bools.len() as u32;
            let body = body.u32(argsz).u32(kind | action).u32(*index).u32(*start).u32(*count);
            (Command::DeviceSetIrqs, body.bytes(bools))
        }
        Request::RegionRead(access) => (Command::RegionRead, body.access(access)),
        Request::RegionWrite(access, data) => (Command::RegionWrite, body.access(access).bytes(data)),
        Request::RegionWriteMulti(writes) => {
            let all = writes.iter().fold(body.u64(writes.len() as u64), |body, (access, data)| {
                let mut field = [0; 8];
                field[..data.len()].copy_from_slice(data);
                body.access(access).bytes(&field)
            });
            (Command::RegionWriteMulti, all)
        }
        Request::DeviceReset => (Command::DeviceReset, body),
    };
    (command, body.0)
}
