//! Writes the seeds of the target `codec`: one good message of every request, and all of them in one stream.
//!
//!     cargo run --manifest-path device/fuzz/Cargo.toml --example seeds -- device/fuzz/seeds/codec
//!
//! `connection` needs none: any bytes are a script of mostly good messages.

use std::path::PathBuf;

use sdmorph_fuzz::wire;
use vfio_user_server::request::{DmaMap, DmaUnmap, IrqAction, IrqData, RegionAccess, Request, SetIrqs};
use vfio_user_server::version::{Capabilities, Proposal};

/// How the target decodes its input: the limit in units of 16 bytes, then receives, of which there are none, then the
/// stream.
const BEFORE_STREAM: [u8; 3] = [0x00, 0x01, 0x00];

fn main() -> std::io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).expect("usage: seeds DIRECTORY"));
    std::fs::create_dir_all(&directory)?;
    let capabilities = Capabilities {
        max_msg_fds: Some(8),
        max_data_xfer_size: Some(1 << 20),
        max_dma_maps: Some(65535),
        pgsizes: Some(4096),
        write_multiple: Some(true),
    };
    let access = RegionAccess { offset: 16, region: 0, count: 4 };
    let irqs = |data, action| SetIrqs { action, data, index: 2, start: 0, count: 3 };
    let requests = [
        Request::Version(Proposal { major: 0, minor: 1, capabilities: Some(capabilities) }),
        Request::Version(Proposal { major: 0, minor: 1, capabilities: None }),
        Request::DmaMap(DmaMap {
            readable: true,
            writable: true,
            offset: 0,
            address: 1 << 20,
            size: 1 << 12,
        }),
        Request::DmaUnmap(DmaUnmap { argsz: 24, flags: 0, address: 1 << 20, size: 1 << 12 }),
        Request::DmaUnmap(DmaUnmap { argsz: 24, flags: 1, address: 1 << 20, size: 1 << 12 }),
        Request::DmaUnmap(DmaUnmap { argsz: 24, flags: 2, address: 0, size: 0 }),
        Request::DeviceGetInfo,
        Request::DeviceGetRegionInfo { argsz: 32, index: 7 },
        Request::DeviceGetRegionIoFds { argsz: 16, index: 0 },
        Request::DeviceGetIrqInfo { index: 2 },
        Request::DeviceSetIrqs(irqs(IrqData::None, IrqAction::Trigger)),
        Request::DeviceSetIrqs(irqs(IrqData::Bool(&[1, 0, 1]), IrqAction::Mask)),
        Request::DeviceSetIrqs(irqs(IrqData::Eventfd, IrqAction::Unmask)),
        Request::RegionRead(access),
        Request::RegionWrite(access, &[1, 2, 3, 4]),
        Request::RegionWriteMulti(vec![(access, &[1, 2, 3, 4]), (access, &[5, 6, 7, 8])]),
        Request::DeviceReset,
    ];
    let mut all = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let (command, body) = wire::encode(request);
        let message = wire::message(number as u16, command.number(), 0, 0, &body);
        let name = format!("{number:02}-{}", command.name().to_lowercase().replace('_', "-"));
        std::fs::write(directory.join(name), [&BEFORE_STREAM[..], &message].concat())?;
        all.extend(message);
    }
    std::fs::write(directory.join("all"), [&BEFORE_STREAM[..], &all].concat())
}
