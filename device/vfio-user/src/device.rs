//! What a device does when a client asks.

use rustix::io::Errno;

use crate::interrupts::Change;

/// What a device found when it looked for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// There is no place where work could be left.
    Nowhere,
    /// There is one, and it was empty.
    Nothing,
    /// There was work, and it was done or begun.
    Work,
}

/// A device behind the server. Its methods are called by the one thread that serves, in the order of the client's
/// messages.
///
/// Accesses are checked before: they lie inside a region that can be read or written, and are not empty.
pub trait Device {
    /// Fills `data`, zeroes so far, from `offset` in `region` on.
    ///
    /// # Errors
    /// The errno that the client is answered.
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno>;

    /// Writes `data` from `offset` in `region` on.
    ///
    /// # Errors
    /// The errno that the client is answered, unless it wants no answer.
    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// Resets the device. Called only if its description says that it can be reset.
    ///
    /// # Errors
    /// The errno that the client is answered.
    fn reset(&mut self) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// A vector can be delivered from now on, or cannot be any more: the client routed or masked it.
    fn interrupt_changed(&mut self, change: Change) {
        let _ = change;
    }

    /// Looks for work that the client leaves in memory, without a message for each piece of it, and does what it finds
    /// (an NVMe controller has such a place in its shadow doorbells). Called again and again for as long as it pays, when
    /// there is no message; to be quick, therefore.
    fn look(&mut self) -> Look {
        Look::Nowhere
    }

    /// Nobody will look until the next message: from now on the client has to send one when it leaves work. True if it
    /// left some before it could know; the server looks again then. Called only if the last look was
    /// [`Look::Nothing`].
    fn rest(&mut self) -> bool {
        false
    }

    /// Nobody will call for a while: the server waits before it answers, since a fault at the wire says so. What the device
    /// has kept for [`Device::look`] is to be done by others.
    fn stay_away(&mut self) {}

    /// The client has gone. Its memory and its eventfds are let go already. The specification wants the device's state
    /// to be retained; a device that shall be as new for the next client resets itself here.
    fn disconnected(&mut self) {}
}
