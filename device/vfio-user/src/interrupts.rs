//! Interrupts: the eventfds that a client routes them to, masks, and what is pending.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::description::{Description, IrqType};
use crate::header::Refusal;
use crate::request::{IrqAction, IrqData, SetIrqs};

/// What became of an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Its eventfd was signalled.
    Sent,
    /// It is masked, or the client has routed it nowhere: it is sent as soon as neither is so.
    Pending,
    /// The device has no such vector.
    NoSuchVector,
}

#[derive(Debug, Default)]
struct Vector {
    trigger: Option<OwnedFd>,
    /// Signalled when the vector is masked, and unmasked.
    on_mask: Option<OwnedFd>,
    on_unmask: Option<OwnedFd>,
    masked: bool,
    pending: bool,
}

#[derive(Debug)]
struct Type {
    is: IrqType,
    vectors: Vec<Vector>,
}

/// A device's interrupts, shared by whoever raises them and the server, which routes them.
#[derive(Debug, Clone)]
pub struct Interrupts {
    types: Arc<Mutex<Vec<Type>>>,
}

/// A vector that can be delivered from now on, or cannot be any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The interrupt type.
    pub index: u32,
    /// The vector.
    pub vector: u32,
    /// It is routed and not masked.
    pub deliverable: bool,
}

impl Vector {
    fn deliverable(&self) -> bool {
        self.trigger.is_some() && !self.masked
    }

    fn raise(&mut self, is: IrqType) -> Delivery {
        match &self.trigger {
            Some(eventfd) if !self.masked => {
                signal(eventfd);
                self.pending = false;
                self.masked = is.masks_itself();
                Delivery::Sent
            }
            _ => {
                self.pending = true;
                Delivery::Pending
            }
        }
    }

    fn set_masked(&mut self, is: IrqType, masked: bool) {
        if self.masked != masked {
            self.masked = masked;
            if let Some(eventfd) = if masked { &self.on_mask } else { &self.on_unmask } {
                signal(eventfd);
            }
        }
        self.settle(is);
    }

    /// Sends what was pending, if it can be delivered now.
    fn settle(&mut self, is: IrqType) {
        if self.pending && self.deliverable() {
            self.raise(is);
        }
    }
}

/// Adds one to an eventfd, unless that would block: a client that never reads it has enough to read.
///
/// DEVNOTE: an eventfd of the client's may block, and a client may fill it between these two calls.
fn signal(eventfd: &OwnedFd) {
    let mut ready = [PollFd::new(eventfd, PollFlags::OUT)];
    let result = match poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(0) => Err(rustix::io::Errno::AGAIN),
        Ok(_) => rustix::io::write(eventfd.as_fd(), &1u64.to_ne_bytes()).map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "the client's eventfd does not take an interrupt");
    }
}

impl Interrupts {
    /// The interrupts of the device that is described, routed nowhere.
    #[must_use]
    pub fn new(description: &Description) -> Self {
        let of = |is: &IrqType| Type { is: *is, vectors: (0..is.count).map(|_| Vector::default()).collect() };
        Self { types: Arc::new(Mutex::new(description.irqs.iter().map(of).collect())) }
    }

    /// Raises an interrupt.
    pub fn trigger(&self, index: u32, vector: u32) -> Delivery {
        self.with_vector(index, vector, |is, vector| vector.raise(is)).unwrap_or(Delivery::NoSuchVector)
    }

    /// Masks or unmasks a vector, on the device's side; what is pending is sent. False if there is no such vector.
    pub fn set_masked(&self, index: u32, vector: u32, masked: bool) -> bool {
        self.with_vector(index, vector, |is, vector| vector.set_masked(is, masked)).is_some()
    }

    /// Is an interrupt held back? None if there is no such vector.
    #[must_use]
    pub fn is_pending(&self, index: u32, vector: u32) -> Option<bool> {
        self.with_vector(index, vector, |_, vector| vector.pending)
    }

    /// Takes what is pending back, as a reset of the device does. Routes and masks stay.
    pub fn forget_pending(&self) {
        self.lock().iter_mut().flat_map(|of| &mut of.vectors).for_each(|vector| vector.pending = false);
    }

    /// Closes every eventfd and takes every mask away, as the end of a connection does. What is pending stays so.
    /// Returns the vectors that could be delivered before.
    pub(crate) fn disconnect(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (index, of) in (0u32..).zip(self.lock().iter_mut()) {
            for (number, vector) in (0u32..).zip(&mut of.vectors) {
                if vector.deliverable() {
                    changes.push(Change { index, vector: number, deliverable: false });
                }
                *vector = Vector { pending: vector.pending, ..Vector::default() };
            }
        }
        changes
    }

    /// Does what a SET_IRQS says. Returns the vectors that it made deliverable or not.
    ///
    /// # Errors
    /// EINVAL: vectors that are not there, a number of descriptors that does not fit, or something that the type of
    /// interrupt cannot do. Nothing is changed then.
    pub(crate) fn set(&self, set: &SetIrqs<'_>, fds: Vec<OwnedFd>) -> Result<Vec<Change>, Refusal> {
        let mut types = self.lock();
        let of = to_usize(set.index).and_then(|index| types.get_mut(index));
        let of = of.ok_or_else(|| Refusal::invalid(format!("there is no interrupt type {}", set.index)))?;
        let is = of.is;
        check(set, is, fds.len())?;
        // No data, no vectors: all of them off.
        let off = set.data == IrqData::None && set.count == 0;
        let (start, count) = if off { (0, is.count) } else { (set.start, set.count) };
        let numbers = start..start.saturating_add(count);
        let mut fds = fds.into_iter();
        let mut changes = Vec::new();
        let vectors = of.vectors.iter_mut().skip(to_usize(start).unwrap_or(usize::MAX));
        for (offset, (number, vector)) in numbers.zip(vectors).enumerate() {
            let before = vector.deliverable();
            let chosen = match set.data {
                IrqData::None => !off,
                IrqData::Bool(flags) => flags.get(offset).is_some_and(|flag| *flag != 0),
                IrqData::Eventfd => false,
            };
            match (set.action, set.data) {
                (action, IrqData::Eventfd) => {
                    let eventfd = fds.next();
                    match action {
                        IrqAction::Trigger => vector.trigger = eventfd,
                        IrqAction::Mask => vector.on_mask = eventfd,
                        IrqAction::Unmask => vector.on_unmask = eventfd,
                    }
                    vector.settle(is);
                }
                // As at the beginning: a mask of before must not hold back what is routed anew (Linux: vfio_intx_enable).
                _ if off => *vector = Vector { pending: vector.pending, ..Vector::default() },
                (IrqAction::Trigger, _) if chosen => {
                    vector.raise(is);
                }
                (IrqAction::Mask, _) if chosen => vector.set_masked(is, true),
                (IrqAction::Unmask, _) if chosen => vector.set_masked(is, false),
                _ => {}
            }
            let deliverable = vector.deliverable();
            if before != deliverable {
                changes.push(Change { index: set.index, vector: number, deliverable });
            }
        }
        Ok(changes)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Type>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_vector<R>(
        &self,
        index: u32,
        vector: u32,
        act: impl FnOnce(IrqType, &mut Vector) -> R,
    ) -> Option<R> {
        let mut types = self.lock();
        let of = types.get_mut(to_usize(index)?)?;
        Some(act(of.is, of.vectors.get_mut(to_usize(vector)?)?))
    }
}

fn check(set: &SetIrqs<'_>, is: IrqType, fds: usize) -> Result<(), Refusal> {
    let SetIrqs { action, data, index, start, count } = *set;
    if start.checked_add(count).is_none_or(|end| end > is.count) {
        let has = is.count;
        return Err(Refusal::invalid(format!(
            "interrupt type {index} has {has} vectors, not {start}+{count}"
        )));
    }
    let off = data == IrqData::None && action == IrqAction::Trigger && start == 0;
    if count == 0 && !off {
        return Err(Refusal::invalid("DEVICE_SET_IRQS for no vectors"));
    }
    if action != IrqAction::Trigger && !is.maskable() {
        return Err(Refusal::invalid(format!("interrupt type {index} cannot be masked")));
    }
    match data {
        IrqData::Eventfd if !is.signals_eventfds() => {
            Err(Refusal::invalid(format!("interrupt type {index} signals no eventfds")))
        }
        IrqData::Eventfd if fds != 0 && to_usize(count) != Some(fds) => {
            Err(Refusal::invalid(format!("{fds} descriptors for {count} vectors")))
        }
        IrqData::None | IrqData::Bool(_) if fds != 0 => {
            Err(Refusal::invalid(format!("{fds} descriptors that nothing is to be done with")))
        }
        _ => Ok(()),
    }
}

fn to_usize(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}
