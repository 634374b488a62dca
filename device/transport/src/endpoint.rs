//! What a client asks for, put onto the machine.

use std::collections::BTreeSet;

use sdmorph_machine::{HOST_BAR_SIZES, HOST_VECTORS, Machine, Region};
use sdmorph_media::Helper;
use vfio_user_server::interrupts::Change;
use vfio_user_server::spec::{pci_irq, pci_region};
use vfio_user_server::{Description, Device, Errno, IrqType, Look};

use crate::latency::Latency;
use crate::server::OnDisconnect;
use crate::shared::Shared;

/// The interrupts that the device has.
pub(crate) const MSIX: u32 = pci_irq::MSIX;

/// Largest region access that is answered, in bytes. See the crate's text.
const MAX_ACCESS_BYTES: usize = sdmorph_pci::config::SIZE;

/// What a client is told of the device: configuration space and VMD's BARs, which can be read and written and not mapped;
/// MSI-X vectors by eventfd; nothing else.
#[must_use]
pub fn description() -> Description {
    let size_of = |index: u32| {
        if index == pci_region::CONFIG {
            return sdmorph_pci::config::SIZE as u64;
        }
        HOST_BAR_SIZES.iter().find(|(bar, _)| u32::from(*bar) == index).map_or(0, |(_, size)| *size)
    };
    let region = |index| match size_of(index) {
        0 => vfio_user_server::Region::default(),
        size => vfio_user_server::Region::read_write(size),
    };
    let irq = |index| if index == MSIX { IrqType::eventfds(HOST_VECTORS.into()) } else { IrqType::default() };
    Description {
        regions: (0..pci_region::COUNT).map(region).collect(),
        irqs: (0..pci_irq::COUNT).map(irq).collect(),
        resettable: true,
    }
}

/// The machine as a client's device.
#[derive(Debug)]
pub(crate) struct Endpoint {
    shared: Shared,
    on_disconnect: OnDisconnect,
    latency: Latency,
    /// Vectors that can be delivered.
    routed: BTreeSet<u16>,
    /// The guest announces work in its memory. It begins to with an access, and so is looked at after each.
    announces: bool,
    /// Short writes to the card's image are done by this thread, when it has answered.
    helper: Helper,
}

impl Endpoint {
    /// For the thread that calls this, and no other.
    pub(crate) fn new(shared: Shared, on_disconnect: OnDisconnect, latency: Latency) -> Self {
        Self {
            shared,
            on_disconnect,
            latency,
            routed: BTreeSet::new(),
            announces: false,
            helper: Helper::new(),
        }
    }
}

/// The machine's name for a region of the client's, for an access of `length` bytes.
fn region(index: u32, length: usize) -> Result<Region, Errno> {
    match (index, u8::try_from(index)) {
        _ if length > MAX_ACCESS_BYTES => Err(Errno::INVAL),
        (pci_region::CONFIG, _) => Ok(Region::Config),
        (pci_region::BAR0..=pci_region::BAR5, Ok(bar)) => Ok(Region::Bar(bar)),
        _ => Err(Errno::INVAL),
    }
}

impl Device for Endpoint {
    fn region_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let region = region(index, data.len())?;
        let delay = self.shared.with_machine(|machine, now| machine.read(now, region, offset, data));
        // What the card has begun to write meanwhile does not wait for that.
        if !delay.is_zero() {
            self.helper.hand_over();
        }
        self.latency.sleep_off(delay);
        Ok(())
    }

    fn region_write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let region = region(index, data.len())?;
        self.announces = self.shared.with_machine(|machine, now| {
            machine.write(now, region, offset, data);
            machine.has_shadow_doorbells()
        });
        Ok(())
    }

    /// Resets the registers. The client's routes outlive that, and so a vector that has one is unmasked again: the table
    /// in the device follows the client's.
    fn reset(&mut self) -> Result<(), Errno> {
        self.shared.with_machine(|machine, now| {
            machine.reset(now);
            // One that another thread raised since the server forgot what was pending.
            self.shared.interrupts.forget_pending();
            for vector in &self.routed {
                machine.set_vector_masked(now, *vector, false);
            }
        });
        Ok(())
    }

    fn interrupt_changed(&mut self, change: Change) {
        let Ok(vector) = u16::try_from(change.vector) else { return };
        if change.index != MSIX {
            return;
        }
        if change.deliverable {
            self.routed.insert(vector);
        } else {
            self.routed.remove(&vector);
        }
        self.shared.with_machine(|machine, now| machine.set_vector_masked(now, vector, !change.deliverable));
    }

    fn look(&mut self) -> Look {
        if self.helper.help() {
            return Look::Work;
        }
        if !self.announces {
            return Look::Nowhere;
        }
        match self.shared.with_machine(Machine::look) {
            true => Look::Work,
            false => Look::Nothing,
        }
    }

    fn rest(&mut self) -> bool {
        let left = self.shared.with_machine(Machine::rest);
        // What was due then, or in the last look, may have begun to write.
        self.helper.help() || left
    }

    fn stay_away(&mut self) {
        self.helper.hand_over();
    }

    fn disconnected(&mut self) {
        self.announces = false;
        self.helper.hand_over();
        match self.on_disconnect {
            OnDisconnect::Reset => {
                self.shared.with_machine(|machine, now| {
                    machine.power_cycle(now);
                    // One that another thread raised when its route was being taken away.
                    self.shared.interrupts.forget_pending();
                });
                tracing::info!("the device is as after power-on");
            }
            OnDisconnect::Keep => tracing::info!("the device stays as the client left it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use sdmorph_media::OpenOptions;
    use sdmorph_pci::media::{Media, MediaRequest};

    use super::*;

    /// Longer than any write takes.
    const HANG: Duration = Duration::from_secs(120);

    /// A write is begun by this thread, as by the machine in `call`. Where the file system takes it at once, it has ended, and
    /// there is nothing to forget; ext4 never does. A worker that has not gone to sleep yet may be there first, and be at it
    /// when `call` returns.
    fn ends_with(call: impl FnOnce(&mut Endpoint)) {
        let mut endpoint = Endpoint::new(Shared::new(), OnDisconnect::Reset, Latency::default());
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let (told, ended) = channel();
        let waker = Arc::new(move || told.send(()).unwrap_or_default());
        let mut medium = sdmorph_media::open(image.path(), OpenOptions::new(waker)).unwrap();
        let write = MediaRequest::Write { first: 0, data: vec![7; 512] };
        if medium.begin(0, write).is_some() {
            return;
        }
        call(&mut endpoint);
        ended.recv_timeout(HANG).unwrap();
    }

    #[test]
    fn server_does_not_sleep_over_a_write_that_this_thread_has_to_do() {
        ends_with(|endpoint| assert_eq!(endpoint.look(), Look::Work));
        ends_with(|endpoint| assert!(endpoint.rest()));
    }
}
