//! What a device tells a client of itself: regions and interrupt types. It does not change while the server runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::spec::{
    IRQ_AUTOMASKED, IRQ_EVENTFD, IRQ_MASKABLE, REGION_CAPS, REGION_MMAP, REGION_READ, REGION_WRITE,
};

/// Regions and interrupt types of a device, both by their index.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Regions: for a PCI device the BARs, the ROM, configuration space and VGA ([`crate::spec::pci_region`]).
    pub regions: Vec<Region>,
    /// Interrupt types: for a PCI device INTx, MSI, MSI-X, ERR and REQ ([`crate::spec::pci_irq`]).
    pub irqs: Vec<IrqType>,
    /// DEVICE_RESET is there.
    pub resettable: bool,
}

/// One region. The default one has no bytes and no access: it is not there.
#[derive(Debug, Clone, Default)]
pub struct Region {
    /// Its bytes.
    pub size: u64,
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// Memory of the region that the client may map.
    ///
    /// DEVNOTE: QEMU posts no writes to a device with such a region; each then costs a round trip.
    pub mapping: Option<Mapping>,
    /// Parts of the region whose writes signal an eventfd (`KVM_IOEVENTFD`) instead of sending a message.
    pub io_eventfds: Vec<IoEventfd>,
}

impl Region {
    /// A region of `size` bytes that can be read and written, and not mapped.
    #[must_use]
    pub fn read_write(size: u64) -> Self {
        Self { size, readable: true, writable: true, ..Self::default() }
    }

    /// Its flags on the wire.
    #[must_use]
    pub fn flags(&self) -> u32 {
        let sparse = self.mapping.as_ref().is_some_and(|mapping| !mapping.sparse_areas.is_empty());
        let flags = [
            (self.readable, REGION_READ),
            (self.writable, REGION_WRITE),
            (self.mapping.is_some(), REGION_MMAP),
            (sparse, REGION_CAPS),
        ];
        flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag)
    }
}

/// Memory that a client may map instead of sending messages.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// Where the region begins in it, in bytes.
    pub offset: u64,
    /// The areas of the region that can be mapped, as offset in the region and bytes; all of it if there are none.
    pub sparse_areas: Vec<(u64, u64)>,
}

/// A part of a region whose writes signal an eventfd.
#[derive(Debug, Clone)]
pub struct IoEventfd {
    /// Where it begins in the region, in bytes.
    pub offset: u64,
    /// Its bytes; 0 if the size of the access does not matter.
    pub size: u64,
    /// The eventfd.
    pub eventfd: Arc<OwnedFd>,
    /// `KVM_IOEVENTFD_FLAG_*`.
    pub flags: u32,
    /// The value that signals, if the flags say that one does.
    pub datamatch: u64,
}

/// One interrupt type. The default one has no vectors: it is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IrqType {
    /// Vectors.
    pub count: u32,
    /// Flags on the wire: [`IRQ_EVENTFD`], [`IRQ_MASKABLE`] and so on.
    pub flags: u32,
}

impl IrqType {
    /// `count` vectors that signal eventfds.
    #[must_use]
    pub fn eventfds(count: u32) -> Self {
        Self { count, flags: if count == 0 { 0 } else { IRQ_EVENTFD } }
    }

    pub(crate) fn signals_eventfds(self) -> bool {
        self.flags & IRQ_EVENTFD != 0
    }

    pub(crate) fn maskable(self) -> bool {
        self.flags & IRQ_MASKABLE != 0
    }

    pub(crate) fn masks_itself(self) -> bool {
        self.flags & IRQ_AUTOMASKED != 0
    }
}
