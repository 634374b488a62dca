//! The machine, and who takes its lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sdmorph_machine::{Host, Machine, Setup, Timebase};
use vfio_user_server::{GuestMemory, Interrupts};

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
        Self::with_setup(Setup::default())
    }

    /// The same with another reader.
    #[must_use]
    pub fn with_setup(setup: Setup) -> Self {
        let memory = GuestMemory::new();
        let interrupts = Interrupts::new(&description());
        let host = Host {
            memory: Arc::new(Memory(memory.clone())),
            interrupts: Box::new(Vectors(interrupts.clone())),
        };
        Self {
            machine: Arc::new(Mutex::new(Machine::with_setup(host, setup))),
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

    /// For a medium, to be called when it has ended something. It does nothing once the machine is gone.
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        // The card, and with it the medium and this, belong to the machine.
        let machine = Arc::downgrade(&self.machine);
        let Self { machine: _, memory, interrupts, time, changed } = self.clone();
        Arc::new(move || {
            if let Some(machine) = machine.upgrade() {
                let (memory, interrupts, changed) = (memory.clone(), interrupts.clone(), changed.clone());
                let shared = Self { machine, memory, interrupts, time, changed };
                shared.with_machine(Machine::storage_ended);
            }
        })
    }

    /// A poisoned lock is one whose holder panicked: the machine forbids that to itself, and is still whole.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use sdmorph_machine::{CardKind, Region};

    use super::*;

    /// Was somebody told since the last time?
    fn told(shared: &Shared) -> bool {
        let notified = pin!(shared.changed.notified());
        notified.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn access_wakes_nobody_and_an_event_does() {
        let shared = Shared::new();
        let read = || shared.with_machine(|machine, now| machine.read(now, Region::Config, 0, &mut [0; 4]));
        read();
        assert!(!told(&shared));
        shared.with_machine(|machine, now| machine.card_insert(now, CardKind::SdExpress)).unwrap();
        assert!(told(&shared));
        read();
        assert!(!told(&shared));
    }

    #[test]
    fn new_deadline_is_told_of_and_a_call_that_makes_none_is_not() {
        let shared = Shared::new();
        // The link falls, and presence follows later.
        shared.with_machine(|machine, now| machine.link_set(now, false));
        assert!(shared.with_machine(|machine, _| machine.next_deadline()).is_some());
        assert!(told(&shared));
        // An hour later presence follows, which is an event; no deadline is left then.
        shared.with_machine(|machine, now| machine.advance(now + Duration::from_secs(3600)));
        assert!(told(&shared));
        shared.with_machine(|machine, now| machine.advance(now));
        assert!(shared.with_machine(|machine, _| machine.next_deadline()).is_none());
        assert!(!told(&shared));
    }
}
