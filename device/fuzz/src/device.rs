//! The device behind the server: memory, a signature, and a register that makes it use guest memory and interrupts.

use std::sync::{Arc, OnceLock};

use vfio_user_server::description::{IoEventfd, Mapping};
use vfio_user_server::memory::Access;
use vfio_user_server::spec::{IRQ_AUTOMASKED, IRQ_EVENTFD, IRQ_MASKABLE, pci_irq, pci_region};
use vfio_user_server::{Description, Device, Errno, GuestMemory, Interrupts, IrqType, Region};

use crate::files;

/// Region that keeps what is written to it.
pub const RAM: u32 = pci_region::BAR0;
/// Region whose writes are orders: see [`Fuzzed::order`].
pub const ORDERS: u32 = 1;
/// Region that can only be read, and always gives [`signature`].
pub const SIGNATURE: u32 = 2;
/// Region that can only be written.
pub const WRITE_ONLY: u32 = 3;
/// Region that can be mapped in part, and has parts that signal eventfds.
pub const MAPPED: u32 = 4;
/// Bytes of RAM; the other regions are larger.
pub const RAM_BYTES: usize = 4096;
/// Bytes of the signature: more than a message may have.
pub const SIGNATURE_BYTES: u64 = 1 << 20;
/// Most bytes that one order moves.
pub const MOST_MOVED: usize = 600;

/// The byte at `offset` in [`SIGNATURE`].
#[must_use]
pub fn signature(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ 0xa5) as u8
}

/// What the device tells of itself. It is made once: it holds descriptors.
#[must_use]
pub fn description() -> &'static Arc<Description> {
    static DESCRIPTION: OnceLock<Arc<Description>> = OnceLock::new();
    DESCRIPTION.get_or_init(|| Arc::new(describe()))
}

fn describe() -> Description {
    let file = || Arc::new(files::of_kind(0).try_clone_to_owned().expect("a descriptor"));
    let mut regions = vec![Region::default(); pci_region::COUNT as usize];
    regions[RAM as usize] = Region::read_write(RAM_BYTES as u64);
    regions[ORDERS as usize] = Region::read_write(64);
    regions[SIGNATURE as usize] = Region { size: SIGNATURE_BYTES, readable: true, ..Region::default() };
    regions[WRITE_ONLY as usize] = Region { size: u64::MAX, writable: true, ..Region::default() };
    regions[MAPPED as usize] = Region {
        mapping: Some(Mapping { file: file(), offset: 4096, sparse_areas: vec![(0, 4096), (8192, 4096)] }),
        io_eventfds: (0..20)
            .map(|part| IoEventfd { offset: part * 8, size: 8, eventfd: file(), flags: 0, datamatch: 0 })
            .collect(),
        ..Region::read_write(4 << 12)
    };
    regions[pci_region::CONFIG as usize] = Region::read_write(256);
    let mut irqs = vec![IrqType::default(); pci_irq::COUNT as usize];
    irqs[pci_irq::INTX as usize] = IrqType { count: 1, flags: IRQ_EVENTFD | IRQ_MASKABLE | IRQ_AUTOMASKED };
    irqs[pci_irq::MSI as usize] = IrqType { count: 4, flags: IRQ_EVENTFD | IRQ_MASKABLE };
    irqs[pci_irq::MSIX as usize] = IrqType::eventfds(300);
    // One that signals nothing.
    irqs[pci_irq::REQ as usize] = IrqType { count: 1, flags: 0 };
    Description { regions, irqs, resettable: true }
}

/// The device.
#[derive(Debug)]
pub struct Fuzzed {
    ram: Vec<u8>,
    memory: GuestMemory,
    interrupts: Interrupts,
}

impl Fuzzed {
    /// A device that uses `memory` and `interrupts`.
    #[must_use]
    pub fn new(memory: GuestMemory, interrupts: Interrupts) -> Self {
        Self { ram: vec![0; RAM_BYTES], memory, interrupts }
    }

    /// Does what a write to [`ORDERS`] says: the first byte what, the second with how much, the rest where.
    fn order(&mut self, order: &[u8]) -> Result<(), Errno> {
        let [what, amount, place @ ..] = order else { return Err(Errno::INVAL) };
        let mut address = [0; 8];
        address.iter_mut().zip(place).for_each(|(to, from)| *to = *from);
        let address = u64::from_le_bytes(address);
        let count = usize::from(*amount) * MOST_MOVED / 255;
        let failed = |_| Errno::FAULT;
        match what % 6 {
            0 => self.memory.read(address, &mut self.ram[..count]).map_err(failed),
            1 => self.memory.write(address, &self.ram[..count]).map_err(failed),
            // What was read is written back, a byte further on.
            2 => {
                let mut data = vec![0; count];
                self.memory.read(address, &mut data).map_err(failed)?;
                self.memory.write(address.wrapping_add(1), &data).map_err(failed)
            }
            3 => {
                let buffer = self.memory.hold(address, count, Access::Write).map_err(failed)?;
                assert_eq!(buffer.len(), count);
                buffer.write(&self.ram[..count / 2]).map_err(failed)
            }
            4 => {
                self.interrupts.trigger(address as u32 % 6, u32::from(*amount) * 2);
                Ok(())
            }
            _ => {
                self.interrupts.set_masked(address as u32 % 6, u32::from(*amount), address & 0x100 != 0);
                Ok(())
            }
        }
    }
}

impl Device for Fuzzed {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        assert!(!data.is_empty() && data.iter().all(|byte| *byte == 0), "no room, or not zeroed");
        match region {
            RAM => {
                let at = offset as usize;
                data.copy_from_slice(&self.ram[at..at + data.len()]);
            }
            SIGNATURE => {
                assert!(offset + data.len() as u64 <= SIGNATURE_BYTES);
                (offset..).zip(data).for_each(|(at, byte)| *byte = signature(at));
            }
            WRITE_ONLY => panic!("a region that cannot be read was read"),
            ORDERS if offset == 0 => return Err(Errno::BUSY),
            _ => {}
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        assert!(!data.is_empty(), "nothing to write");
        match region {
            RAM => {
                let at = offset as usize;
                self.ram[at..at + data.len()].copy_from_slice(data);
                Ok(())
            }
            ORDERS => self.order(data),
            SIGNATURE => panic!("a region that cannot be written was written"),
            _ => Ok(()),
        }
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.ram.fill(0);
        Ok(())
    }

    /// As new for the next client, interrupts included: an input gives the same result whatever came before it.
    fn disconnected(&mut self) {
        self.ram.fill(0);
        self.interrupts.forget_pending();
    }
}
