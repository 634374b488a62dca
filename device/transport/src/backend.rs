//! What the vfio-user protocol asks for, put onto the machine.

use std::fs::File;
use std::io;
use std::time::Duration;

use sdmorph_machine::Region;
use sdmorph_machine::faults::MAX_LATENCY;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TYPE_MASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

use crate::server::Shared;

/// Largest region access that is answered: more than QEMU ever asks for, and what a register file can be.
const MAX_ACCESS_BYTES: usize = 4096;

/// One client's view of the machine.
#[derive(Debug)]
pub struct Backend {
    shared: Shared,
}

impl Backend {
    /// A view for the next client.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Finds the region and checks that the access is inside it.
    fn region(&self, index: u32, offset: u64, length: usize) -> io::Result<Region> {
        let region = match index {
            VFIO_PCI_BAR0_REGION_INDEX..=VFIO_PCI_BAR5_REGION_INDEX => Region::Bar(index as u8),
            VFIO_PCI_CONFIG_REGION_INDEX => Region::Config,
            _ => return Err(invalid(format!("region {index} has nothing to access"))),
        };
        let size = region_size(index);
        let inside =
            length <= MAX_ACCESS_BYTES && offset.checked_add(length as u64).is_some_and(|end| end <= size);
        if !inside {
            return Err(invalid(format!(
                "{length} bytes at {offset:#x} are not inside region {index} of {size:#x} bytes"
            )));
        }
        Ok(region)
    }
}

fn invalid(why: String) -> io::Error {
    tracing::warn!(%why, "refused a request of the client");
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn region_size(index: u32) -> u64 {
    if index == VFIO_PCI_CONFIG_REGION_INDEX {
        return sdmorph_pci::config::SIZE as u64;
    }
    let bars = sdmorph_machine::HOST_BAR_SIZES;
    bars.iter().find(|(bar, _)| u32::from(*bar) == index).map_or(0, |(_, size)| *size)
}

/// The regions a client is told of.
#[must_use]
pub fn regions() -> Vec<ServerRegion> {
    (0..VFIO_PCI_NUM_REGIONS)
        .map(|index| {
            let size = region_size(index);
            let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
            ServerRegion {
                region_info: vfio_region_info {
                    argsz: size_of::<vfio_region_info>() as u32,
                    flags: if size == 0 { 0 } else { access },
                    index,
                    cap_offset: 0,
                    size,
                    offset: 0,
                },
                sparse_areas: Vec::new(),
                mmap_fd: None,
            }
        })
        .collect()
}

/// The interrupts a client is told of: MSI-X only.
#[must_use]
pub fn irqs() -> Vec<IrqInfo> {
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| {
            let count =
                if index == VFIO_PCI_MSIX_IRQ_INDEX { u32::from(sdmorph_machine::HOST_VECTORS) } else { 0 };
            IrqInfo { index, flags: if count == 0 { 0 } else { VFIO_IRQ_INFO_EVENTFD }, count }
        })
        .collect()
}

/// An injected delay is slept off here, outside the machine's lock. An access in pieces adds up their delays, and must
/// not: QEMU gives an answer up after 5 s, and takes a late one for that to its next question.
fn sleep_off(delay: Duration) {
    if !delay.is_zero() {
        std::thread::sleep(delay.min(MAX_LATENCY));
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), io::Error> {
        let region = self.region(index, offset, data.len())?;
        let delay = self.shared.with_machine(|machine, now| machine.read(now, region, offset, data));
        sleep_off(delay);
        Ok(())
    }

    fn region_write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let region = self.region(index, offset, data.len())?;
        self.shared.with_machine(|machine, now| machine.write(now, region, offset, data));
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> Result<(), io::Error> {
        // A range without a descriptor (a ROM, or memory that is not shared) cannot be reached: nothing to map.
        let Some(file) = fd else {
            tracing::debug!(address = %format_args!("{address:#x}"), size, "a range without a descriptor");
            return Ok(());
        };
        let writable = flags.contains(DmaMapFlags::WRITE);
        self.shared.ram.map(address, size, file, offset, writable).map_err(|error| invalid(error.to_string()))
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> Result<(), io::Error> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.shared.ram.clear();
            return Ok(());
        }
        // None at all is well: a range without a descriptor was never mapped here.
        self.shared.ram.unmap(address, size).map(drop).map_err(|error| invalid(error.to_string()))
    }

    fn reset(&mut self) -> Result<(), io::Error> {
        self.shared.with_machine(|machine, now| machine.reset(now));
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> Result<(), io::Error> {
        let vectors =
            if index == VFIO_PCI_MSIX_IRQ_INDEX { u32::from(sdmorph_machine::HOST_VECTORS) } else { 0 };
        if start.checked_add(count).is_none_or(|end| end > vectors) {
            return Err(invalid(format!("interrupt {index} has no vectors {start}+{count}")));
        }
        if flags & VFIO_IRQ_SET_ACTION_TYPE_MASK != VFIO_IRQ_SET_ACTION_TRIGGER {
            return Err(invalid(format!("SET_IRQS with flags {flags:#x}: only the trigger action is there")));
        }
        // No data and no vectors: all of them off. Eventfds: one for each vector, a missing one takes the route away.
        let (first, end) = if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            (start, start + count)
        } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 && count == 0 {
            (0, vectors)
        } else {
            return Err(invalid(format!(
                "SET_IRQS with flags {flags:#x}: a client cannot trigger interrupts"
            )));
        };
        let mut fds = fds.into_iter();
        for vector in first..end {
            let eventfd = fds.next().filter(|_| flags & VFIO_IRQ_SET_DATA_EVENTFD != 0);
            let masked = eventfd.is_none();
            self.shared.eventfds.route(vector, eventfd);
            self.shared.with_machine(|machine, now| machine.set_vector_masked(now, vector as u16, masked));
        }
        Ok(())
    }
}
