//! The host as the machine sees it: guest memory and interrupts of whichever client there is.

use sdmorph_pci::{DmaError, InterruptSink, Message};
use vfio_user_server::{GuestMemory, Interrupts};

use crate::endpoint::MSIX;

/// Guest memory behind the machine's seam.
pub(crate) struct Memory(pub(crate) GuestMemory);

/// MSI-X vectors behind the machine's seam.
pub(crate) struct Vectors(pub(crate) Interrupts);

impl sdmorph_pci::GuestMemory for Memory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let length = data.len();
        self.0.read(address, data).map_err(|error| dma_error(error, address, length))
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.0.write(address, data).map_err(|error| dma_error(error, address, data.len()))
    }
}

/// How a DMA of `length` bytes at `address` ended, as a device sees it.
fn dma_error(error: vfio_user_server::DmaError, address: u64, length: usize) -> DmaError {
    use vfio_user_server::DmaError as Wire;
    match error {
        Wire::Unmapped { address, length } => DmaError::Unmapped { address, length },
        Wire::ReadOnly { address } => DmaError::ReadOnly { address },
        Wire::WriteOnly { address } => DmaError::WriteOnly { address },
        Wire::Refused(_) => DmaError::Refused { address },
        Wire::TimedOut => DmaError::TimedOut { address },
        // Its memory has gone with it.
        Wire::Gone => DmaError::Unmapped { address, length: length as u64 },
    }
}

impl InterruptSink for Vectors {
    /// Signals the vector's eventfd. A vector that just lost its route stays pending until it gets another.
    fn send(&mut self, message: Message) {
        self.0.trigger(MSIX, u32::from(message.vector));
    }
}
