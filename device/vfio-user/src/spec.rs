//! Numbers of the protocol: commands, flags, sizes. Layout only, no behaviour.
//!
//! Source: QEMU, `docs/interop/vfio-user.rst` (protocol version 0.1), and `<linux/vfio.h>` where that page refers to it.

/// Protocol version that is spoken here.
pub const VERSION_MAJOR: u16 = 0;
/// See [`VERSION_MAJOR`].
pub const VERSION_MINOR: u16 = 1;

/// Bytes of the header that every message begins with ("Header").
pub const HEADER_BYTES: usize = 16;
/// Largest data of one transfer if a side names none ("Version", `max_data_xfer_size`).
pub const DEFAULT_MAX_DATA_XFER_BYTES: u32 = 1 << 20;
/// Descriptors in one message if a side names no number ("Version", `max_msg_fds`).
pub const DEFAULT_MAX_MSG_FDS: u32 = 1;
/// Most descriptors that Linux passes in one message (`SCM_MAX_FD`, include/net/scm.h).
pub const SCM_MAX_FDS: usize = 253;

/// Commands ("Commands").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Command {
    /// First message of a connection.
    Version = 1,
    /// A range of guest memory is there.
    DmaMap = 2,
    /// It is not any more.
    DmaUnmap = 3,
    /// How many regions and interrupt types there are.
    DeviceGetInfo = 4,
    /// Size and access of a region.
    DeviceGetRegionInfo = 5,
    /// Descriptors that take accesses to parts of a region.
    DeviceGetRegionIoFds = 6,
    /// Number and abilities of an interrupt type.
    DeviceGetIrqInfo = 7,
    /// Routes, masks, unmasks or triggers interrupts.
    DeviceSetIrqs = 8,
    /// Reads from a region.
    RegionRead = 9,
    /// Writes to a region.
    RegionWrite = 10,
    /// The server reads guest memory. Server to client.
    DmaRead = 11,
    /// The server writes guest memory. Server to client.
    DmaWrite = 12,
    /// Resets the device.
    DeviceReset = 13,
    /// Several writes in one message.
    RegionWriteMulti = 15,
    /// Migration and dirty page logging.
    DeviceFeature = 16,
    /// Device state, out.
    MigDataRead = 17,
    /// Device state, in.
    MigDataWrite = 18,
}

/// Every command with its name in the specification, without `VFIO_USER_`.
pub const COMMANDS: [(Command, &str); 17] = [
    (Command::Version, "VERSION"),
    (Command::DmaMap, "DMA_MAP"),
    (Command::DmaUnmap, "DMA_UNMAP"),
    (Command::DeviceGetInfo, "DEVICE_GET_INFO"),
    (Command::DeviceGetRegionInfo, "DEVICE_GET_REGION_INFO"),
    (Command::DeviceGetRegionIoFds, "DEVICE_GET_REGION_IO_FDS"),
    (Command::DeviceGetIrqInfo, "DEVICE_GET_IRQ_INFO"),
    (Command::DeviceSetIrqs, "DEVICE_SET_IRQS"),
    (Command::RegionRead, "REGION_READ"),
    (Command::RegionWrite, "REGION_WRITE"),
    (Command::DmaRead, "DMA_READ"),
    (Command::DmaWrite, "DMA_WRITE"),
    (Command::DeviceReset, "DEVICE_RESET"),
    (Command::RegionWriteMulti, "REGION_WRITE_MULTI"),
    (Command::DeviceFeature, "DEVICE_FEATURE"),
    (Command::MigDataRead, "MIG_DATA_READ"),
    (Command::MigDataWrite, "MIG_DATA_WRITE"),
];

impl Command {
    /// The command of that number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        COMMANDS.iter().map(|(command, _)| *command).find(|command| command.number() == number)
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Its name in the specification, without `VFIO_USER_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        COMMANDS.iter().find(|(command, _)| *command == self).map_or("?", |(_, name)| name)
    }
}

/// Header flags, bits 3:0: type of the message.
pub const TYPE_MASK: u32 = 0xf;
/// A command.
pub const TYPE_COMMAND: u32 = 0;
/// A reply.
pub const TYPE_REPLY: u32 = 1;
/// Header flags, bit 4: the sender of the command wants no reply.
pub const FLAG_NO_REPLY: u32 = 1 << 4;
/// Header flags, bit 5: the reply says that the command failed, and its error field why.
pub const FLAG_ERROR: u32 = 1 << 5;

/// DMA_MAP flags: the device may read the range.
pub const DMA_MAP_READ: u32 = 1 << 0;
/// DMA_MAP flags: the device may write the range.
pub const DMA_MAP_WRITE: u32 = 1 << 1;
/// DMA_UNMAP flags: answer with the pages written (`VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP`).
pub const DMA_UNMAP_GET_DIRTY_BITMAP: u32 = 1 << 0;
/// DMA_UNMAP flags: every range (`VFIO_DMA_UNMAP_FLAG_ALL`).
pub const DMA_UNMAP_ALL: u32 = 1 << 1;

/// DEVICE_GET_INFO flags: DEVICE_RESET is there.
pub const DEVICE_FLAGS_RESET: u32 = 1 << 0;
/// DEVICE_GET_INFO flags: a PCI device.
pub const DEVICE_FLAGS_PCI: u32 = 1 << 1;

/// Region flags: can be read.
pub const REGION_READ: u32 = 1 << 0;
/// Region flags: can be written.
pub const REGION_WRITE: u32 = 1 << 1;
/// Region flags: the reply carries a descriptor that can be mapped.
pub const REGION_MMAP: u32 = 1 << 2;
/// Region flags: capabilities follow.
pub const REGION_CAPS: u32 = 1 << 3;
/// Region capability: only these areas can be mapped.
pub const REGION_CAP_SPARSE_MMAP: u16 = 1;

/// Interrupt flags: can signal an eventfd.
pub const IRQ_EVENTFD: u32 = 1 << 0;
/// Interrupt flags: can be masked and unmasked.
pub const IRQ_MASKABLE: u32 = 1 << 1;
/// Interrupt flags: masks itself when it is triggered.
pub const IRQ_AUTOMASKED: u32 = 1 << 2;
/// Interrupt flags: vectors are set up all at once.
pub const IRQ_NORESIZE: u32 = 1 << 3;

/// SET_IRQS flags: no data.
pub const IRQ_SET_DATA_NONE: u32 = 1 << 0;
/// SET_IRQS flags: one byte for each vector, act where it is not 0.
pub const IRQ_SET_DATA_BOOL: u32 = 1 << 1;
/// SET_IRQS flags: one descriptor for each vector, or none at all.
pub const IRQ_SET_DATA_EVENTFD: u32 = 1 << 2;
/// SET_IRQS flags: mask.
pub const IRQ_SET_ACTION_MASK: u32 = 1 << 3;
/// SET_IRQS flags: unmask.
pub const IRQ_SET_ACTION_UNMASK: u32 = 1 << 4;
/// SET_IRQS flags: trigger.
pub const IRQ_SET_ACTION_TRIGGER: u32 = 1 << 5;

/// Type of a sub-region of DEVICE_GET_REGION_IO_FDS: a write signals an eventfd (`KVM_IOEVENTFD`).
pub const IO_FD_TYPE_IOEVENTFD: u32 = 0;

/// Regions of a PCI device (`<linux/vfio.h>`, `VFIO_PCI_BAR0_REGION_INDEX` and the following).
pub mod pci_region {
    /// BAR 0; BAR n is n.
    pub const BAR0: u32 = 0;
    /// BAR 5.
    pub const BAR5: u32 = 5;
    /// Expansion ROM.
    pub const ROM: u32 = 6;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// Legacy VGA.
    pub const VGA: u32 = 8;
    /// How many there are.
    pub const COUNT: u32 = 9;
}

/// Interrupt types of a PCI device (`<linux/vfio.h>`, `VFIO_PCI_INTX_IRQ_INDEX` and the following).
pub mod pci_irq {
    /// INTx.
    pub const INTX: u32 = 0;
    /// MSI.
    pub const MSI: u32 = 1;
    /// MSI-X.
    pub const MSIX: u32 = 2;
    /// A fatal error; QEMU stops the VM.
    pub const ERR: u32 = 3;
    /// The host wants the device back.
    pub const REQ: u32 = 4;
    /// How many there are.
    pub const COUNT: u32 = 5;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_number_and_nothing_else_is() {
        for (command, name) in COMMANDS {
            assert_eq!(Command::from_number(command.number()), Some(command));
            assert_eq!(command.name(), name);
        }
        for number in [0, 14, 19, 0xffff] {
            assert_eq!(Command::from_number(number), None);
        }
    }
}
