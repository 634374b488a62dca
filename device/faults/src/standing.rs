//! The faults of functions that are in force, and what they make of what happens.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use sdmorph_pci::{Direction, DmaError, DmaFault, Effect, Message};
use serde_json::{Map, Value, json};

use crate::function::{
    DmaAction, DmaChange, DmaFailure, InterruptAction, InterruptFault, NvmeAction, NvmeFault,
};
use crate::random::Random;
use crate::read_data::is_in_slot;
use crate::registry::Registry;

/// The faults of functions that are in force. Few: each is looked at in turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    interrupts: Vec<Interrupts>,
    dma: Vec<Dma>,
    /// Until when the function in the slot does not get to guest memory.
    dma_held_until: Option<Duration>,
    nvme: Vec<Nvme>,
}

/// One function's messages, or one message of it.
#[derive(Debug, Clone)]
struct Interrupts {
    action: InterruptAction,
    left: Left,
}

/// One direction, or both.
#[derive(Debug, Clone)]
struct Dma {
    action: DmaAction,
    random: Random,
    left: Left,
}

/// Commands of one name, or all.
#[derive(Debug, Clone)]
struct Nvme {
    action: NvmeAction,
    /// The status that commands end with; `None` is that their completions are lost.
    status: Option<u16>,
    left: Left,
}

/// How many more a fault meets; `None` is all.
#[derive(Debug, Clone, Copy)]
struct Left(Option<NonZeroU64>);

impl Left {
    /// It has met one; whether it meets more.
    fn spend(&mut self) -> bool {
        let Some(left) = self.0 else { return true };
        self.0 = NonZeroU64::new(left.get() - 1);
        self.0.is_some()
    }
}

/// Has the first fault that fits meet what is at hand, and takes it out when it is used up.
fn meet<T, R>(
    faults: &mut Vec<T>,
    fits: impl Fn(&T) -> bool,
    act: impl FnOnce(&mut T) -> (R, bool),
) -> Option<R> {
    let at = faults.iter().position(fits)?;
    let (result, goes_on) = act(faults.get_mut(at)?);
    if !goes_on {
        faults.remove(at);
    }
    Some(result)
}

impl Standing {
    /// Sets or takes back what becomes of interrupts; a fault of the same messages goes.
    pub(crate) fn set_interrupt(&mut self, action: &InterruptAction) {
        if action.what == InterruptFault::Spurious {
            return;
        }
        let takes_all = action.what == InterruptFault::Normal && action.vector.is_none();
        self.interrupts.retain(|fault| {
            let same_vector = takes_all || fault.action.vector == action.vector;
            fault.action.function != action.function || !same_vector
        });
        if action.what != InterruptFault::Normal {
            self.interrupts.push(Interrupts { action: action.clone(), left: Left(action.times) });
        }
    }

    /// Sets or takes back what becomes of DMA.
    pub(crate) fn set_dma(&mut self, now: Duration, action: &DmaAction) {
        if let DmaChange::Delay(time) = action.what {
            self.dma_held_until = Some(now.saturating_add(time));
            return;
        }
        let is_normal = action.what == DmaChange::Normal;
        let takes_all = is_normal && action.direction.is_none();
        if takes_all {
            self.dma_held_until = None;
        }
        self.dma.retain(|fault| !takes_all && fault.action.direction != action.direction);
        if !is_normal {
            let seed = if let DmaChange::Corrupt { seed, .. } = action.what { seed } else { 0 };
            let (random, left) = (Random::new(seed), Left(action.times));
            self.dma.push(Dma { action: action.clone(), random, left });
        }
    }

    /// Sets or takes back what becomes of NVMe commands.
    pub(crate) fn set_nvme(&mut self, action: &NvmeAction, names: &Registry) {
        let status = match &action.what {
            // The rule was refused if there is no such status.
            NvmeFault::Fail(name) => names.status(name),
            NvmeFault::DropCompletion | NvmeFault::Normal => None,
            NvmeFault::Fatal | NvmeFault::ReadyStuck => return,
        };
        let is_normal = action.what == NvmeFault::Normal;
        let takes_all = is_normal && action.command.is_none();
        self.nvme.retain(|fault| !takes_all && fault.action.command != action.command);
        if !is_normal {
            self.nvme.push(Nvme { action: action.clone(), status, left: Left(action.times) });
        }
    }

    /// What becomes of an interrupt message of `function`.
    pub(crate) fn interrupt(&mut self, function: &str, message: Message) -> Effect {
        let fits = |fault: &Interrupts| {
            let InterruptAction { function: wanted, vector, .. } = &fault.action;
            vector.is_none_or(|vector| vector == message.vector)
                && wanted.as_deref().map_or_else(|| is_in_slot(function), |wanted| wanted == function)
        };
        let met = meet(&mut self.interrupts, fits, |fault| (fault.action.what, fault.left.spend()));
        match met {
            Some(InterruptFault::Drop) => Effect::Lost,
            Some(InterruptFault::Duplicate) => Effect::Twice,
            Some(InterruptFault::Delay(time)) => Effect::Late(time),
            Some(InterruptFault::Spurious | InterruptFault::Normal) | None => Effect::None,
        }
    }

    /// What becomes of a DMA of `function`.
    pub(crate) fn dma(
        &mut self,
        function: &str,
        direction: Direction,
        address: u64,
        length: u64,
    ) -> Option<DmaFault> {
        if self.dma.is_empty() || !is_in_slot(function) {
            return None;
        }
        let fits = |fault: &Dma| fault.action.direction.is_none_or(|wanted| wanted == direction);
        let met = meet(&mut self.dma, fits, |fault| {
            let met = match fault.action.what {
                DmaChange::Drop => Some(DmaFault::Lost),
                DmaChange::Corrupt { bits, .. } => {
                    // As a set: a bit that was inverted twice would be as before.
                    let places = (0..bits).map(|_| fault.random.below(length.saturating_mul(8)));
                    Some(DmaFault::Flipped(places.collect::<BTreeSet<_>>().into_iter().collect()))
                }
                DmaChange::Fail(failure) => Some(DmaFault::Failed(error(failure, address, length))),
                DmaChange::Delay(_) | DmaChange::Normal => None,
            };
            (met, fault.left.spend())
        });
        met.flatten()
    }

    /// When `function` gets to guest memory again, if it does not now.
    pub(crate) fn dma_held_until(&self, now: Duration, function: &str) -> Option<Duration> {
        self.dma_held_until.filter(|until| now < *until && is_in_slot(function))
    }

    /// What becomes of an NVMe command that was fetched, or of the completion of one that has ended.
    pub(crate) fn nvme(&mut self, name: &str, has_ended: bool) -> Effect {
        let fits = |fault: &Nvme| {
            fault.status.is_none() == has_ended
                && fault.action.command.as_deref().is_none_or(|only| only == name)
        };
        let met = meet(&mut self.nvme, fits, |fault| (fault.status, fault.left.spend()));
        met.map_or(Effect::None, |status| status.map_or(Effect::Lost, Effect::Status))
    }

    /// The faults in the form of the actions that set them, with how many they still meet.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let with_left = |mut action: Value, left: Left| {
            if let (Some(table), Some(left)) = (action.as_object_mut(), left.0) {
                table.insert("times".into(), json!(left));
            }
            action
        };
        let interrupts = self.interrupts.iter().map(|fault| with_left(fault.action.to_json(), fault.left));
        let dma = self.dma.iter().map(|fault| with_left(fault.action.to_json(), fault.left));
        let nvme = self.nvme.iter().map(|fault| with_left(fault.action.to_json(), fault.left));
        let mut table = Map::new();
        table.insert("interrupt".into(), interrupts.collect());
        table.insert("dma".into(), dma.collect());
        table.insert("nvme".into(), nvme.collect());
        table
    }
}

fn error(failure: DmaFailure, address: u64, length: u64) -> DmaError {
    match failure {
        DmaFailure::UnsupportedRequest => DmaError::Unmapped { address, length },
        DmaFailure::CompleterAbort => DmaError::Refused { address },
        DmaFailure::CompletionTimeout => DmaError::TimedOut { address },
    }
}
