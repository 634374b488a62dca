//! The machine, and who takes its lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sdmorph_machine::{Host, Machine, Timebase};
use vfio_user_server::{GuestMemory, Interrupts, Limits};

use crate::endpoint::description;
use crate::host::{Memory, Vectors};

/// What the transport, the control socket and the timers share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The machine. An access is answered while the lock is held.
    pub machine: Arc<Mutex<Machine>>,
    /// Guest memory as the client shares it; the machine reads and writes it.
    pub memory: GuestMemory,
    /// Where the client wants interrupts; the machine raises them.
    pub interrupts: Interrupts,
    /// Virtual time as the host's clock drives it.
    pub time: Timebase,
    /// Told after each call that made an earlier deadline, or a record that clients of the control socket are told of.
    pub changed: Arc<tokio::sync::Notify>,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// A machine after power-on, without guest memory and with interrupts that go nowhere. Its time starts now.
    #[must_use]
    pub fn new() -> Self {
        let ranges = usize::try_from(Limits::default().max_dma_maps).unwrap_or(usize::MAX);
        let memory = GuestMemory::new(ranges);
        let interrupts = Interrupts::new(&description());
        let host = Host {
            memory: Arc::new(Memory(memory.clone())),
            interrupts: Box::new(Vectors(interrupts.clone())),
        };
        Self {
            machine: Arc::new(Mutex::new(Machine::new(host))),
            memory,
            interrupts,
            time: Timebase::start(),
            changed: Arc::default(),
        }
    }

    /// Calls `act` on the machine, at the time it is now; then tells whoever waits for deadlines and events, if there
    /// is a reason to.
    pub fn with_machine<R>(&self, act: impl FnOnce(&mut Machine, Duration) -> R) -> R {
        let mut machine = self.lock();
        let (deadline, notices) = (machine.next_deadline(), machine.notices());
        let result = act(&mut machine, self.time.now());
        // Whoever sleeps until a deadline that has moved on, or that is gone, wakes for nothing, once. To be woken for
        // each would cost the guest more: a device sets its deadlines anew in the middle of accesses.
        let earlier = machine.next_deadline().is_some_and(|now| deadline.is_none_or(|before| now < before));
        let told = machine.notices() != notices;
        drop(machine);
        if earlier || told {
            self.changed.notify_one();
        }
        result
    }

    /// A poisoned lock is one whose holder panicked: the machine forbids that to itself, and is still whole.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
