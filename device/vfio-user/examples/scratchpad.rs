//! A PCI device that is a page of memory: BAR 0 keeps what is written to it, and copies guest memory on demand.
//!
//!     cargo run --example scratchpad -- /tmp/scratchpad.sock
//!     qemu-system-x86_64 -machine q35 … -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/scratchpad.sock"}}'
//!
//! | BAR 0 | What a write does |
//! |---|---|
//! | 0x000 | keeps the guest address that the next copy begins at, 64 bits |
//! | 0x008 | copies as many bytes, at most 4080, from there to 0x010; then raises MSI-X vector 0 |
//! | 0x010 and up | keeps what is written |

use std::error::Error;
use std::os::unix::net::UnixListener;

use vfio_user_server::spec::{pci_irq, pci_region};
use vfio_user_server::{
    Description, Device, Errno, GuestMemory, Interrupts, IrqType, Options, Region, Server,
};

const PAGE_BYTES: usize = 4096;
const COMMAND: u64 = 0x4;
const ADDRESS: usize = 0x0;
const COPY: u64 = 0x8;
const DATA: usize = 0x10;

/// Configuration space: 1234:11e9, a device of no class, with a 4 KiB memory BAR and one MSI-X vector in BAR 1.
fn config_space() -> [u8; 256] {
    let mut config = [0; 256];
    let fields: [(usize, &[u8]); 7] = [
        (0x00, &[0x34, 0x12, 0xe9, 0x11]),
        (0x06, &[0x10, 0x00]),
        (0x0a, &[0x00, 0xff]),
        (0x34, &[0x40]),
        (0x40, &[0x11, 0x00, 0x00, 0x00]),
        (0x44, &[0x01, 0x00, 0x00, 0x00]),
        (0x48, &[0x01, 0x08, 0x00, 0x00]),
    ];
    for (at, bytes) in fields {
        config.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }
    config
}

struct Scratchpad {
    config: [u8; 256],
    page: [u8; PAGE_BYTES],
    memory: GuestMemory,
    interrupts: Interrupts,
}

impl Scratchpad {
    fn bytes(&mut self, region: u32, offset: u64, length: usize) -> Result<&mut [u8], Errno> {
        let at = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        let all = match region {
            pci_region::BAR0 => &mut self.page[..],
            pci_region::CONFIG => &mut self.config[..],
            // BAR 1: the MSI-X table, which QEMU keeps.
            _ => return Err(Errno::INVAL),
        };
        all.get_mut(at..at + length).ok_or(Errno::INVAL)
    }

    fn copy(&mut self, count: usize) -> Result<(), Errno> {
        let (head, data) = self.page.split_at_mut(DATA);
        let address = head.get(ADDRESS..).and_then(|field| field.first_chunk()).ok_or(Errno::INVAL)?;
        let data = data.get_mut(..count).ok_or(Errno::INVAL)?;
        self.memory.read(u64::from_le_bytes(*address), data).map_err(|_| Errno::FAULT)?;
        self.interrupts.trigger(pci_irq::MSIX, 0);
        Ok(())
    }
}

impl Device for Scratchpad {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.copy_from_slice(self.bytes(region, offset, data.len())?);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if (region, offset) == (pci_region::BAR0, COPY) {
            return self.copy(data.first_chunk().map_or(0, |count| u16::from_le_bytes(*count).into()));
        }
        // In configuration space only COMMAND is the device's to keep: QEMU keeps the BARs and MSI-X's control itself.
        if region == pci_region::CONFIG && offset != COMMAND {
            return Ok(());
        }
        self.bytes(region, offset, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        (self.config, self.page) = (config_space(), [0; PAGE_BYTES]);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let path = std::env::args_os().nth(1).ok_or("usage: scratchpad SOCKET")?;
    let region = |index| match index {
        pci_region::BAR0 | 1 => Region::read_write(4096),
        pci_region::CONFIG => Region::read_write(256),
        _ => Region::default(),
    };
    let irq = |index| IrqType::eventfds(u32::from(index == pci_irq::MSIX));
    let description = Description {
        regions: (0..pci_region::COUNT).map(region).collect(),
        irqs: (0..pci_irq::COUNT).map(irq).collect(),
        resettable: true,
    };
    let options = Options::default();
    let memory = GuestMemory::new();
    let interrupts = Interrupts::new(&description);
    let mut device = Scratchpad {
        config: config_space(),
        page: [0; PAGE_BYTES],
        memory: memory.clone(),
        interrupts: interrupts.clone(),
    };
    Server::new(UnixListener::bind(path)?, description, memory, interrupts, options)?.serve(&mut device)?;
    Ok(())
}
