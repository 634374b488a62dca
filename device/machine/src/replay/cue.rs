//! The host of a replay: it says what the host said when the record was made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sdmorph_pci::media::{MediaError, MediaRequest, MediaResult};
use sdmorph_pci::{DmaError, GuestMemory, Media};

use crate::inputs::MediumPlan;
use crate::tap::{Answered, HostAnswer};

/// The answers of the call that is replayed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cue(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    asked: u64,
    answers: VecDeque<HostAnswer>,
    /// The first question that has no answer.
    astray: Option<String>,
}

impl Cue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer of the next call.
    pub(crate) fn push(&self, answer: HostAnswer) {
        self.lock().answers.push_back(answer);
    }

    /// The call has ended. If the device asked what it had not asked before: what was the first of these.
    pub(crate) fn end(&self) -> Option<String> {
        std::mem::take(&mut *self.lock()).astray
    }

    /// The answer to the question at hand, if it is the one that `take` is after.
    fn next<T>(&self, take: impl FnOnce(&Answered) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        let at = state.asked;
        state.asked += 1;
        let answer = state.answers.front().filter(|answer| answer.at == at)?;
        let taken = take(&answer.what)?;
        state.answers.pop_front();
        Some(taken)
    }

    fn go_astray(&self, question: impl FnOnce() -> String) {
        let mut state = self.lock();
        if state.astray.is_none() {
            state.astray = Some(question());
        }
    }
}

/// Guest memory as it was.
pub(crate) struct CuedMemory(pub(crate) Cue);

impl GuestMemory for CuedMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let answer = self.0.next(|answered| match answered {
            Answered::MemoryRead { address: there, length, result }
                if (*there, *length) == (address, data.len() as u64) =>
            {
                Some(result.clone())
            }
            _ => None,
        });
        match answer {
            Some(Ok(contents)) => {
                // A record whose length is not that of its data is one that somebody made up.
                data.iter_mut().zip(contents.iter()).for_each(|(to, from)| *to = *from);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => {
                self.0.go_astray(|| format!("it reads {} bytes of guest memory at {address:#x}", data.len()));
                Err(DmaError::Refused { address })
            }
        }
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let answer = self.0.next(|answered| match answered {
            Answered::MemoryWritten { address: there, length, result }
                if (*there, *length) == (address, data.len() as u64) =>
            {
                Some(*result)
            }
            _ => None,
        });
        match answer {
            Some(result) => result.map(|_| ()),
            None => {
                self.0
                    .go_astray(|| format!("it writes {} bytes of guest memory at {address:#x}", data.len()));
                Err(DmaError::Refused { address })
            }
        }
    }
}

/// A medium of the host's as it was.
#[derive(Debug)]
pub(crate) struct CuedMedia {
    plan: MediumPlan,
    cue: Cue,
}

impl CuedMedia {
    pub(crate) fn new(plan: MediumPlan, cue: Cue) -> Self {
        Self { plan, cue }
    }
}

impl Media for CuedMedia {
    fn blocks(&self) -> u64 {
        self.plan.blocks
    }

    fn is_read_only(&self) -> bool {
        self.plan.read_only
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        let answer = self.cue.next(|answered| match answered {
            Answered::MediumBegun { tag: there, result } if *there == tag => Some(result.clone()),
            _ => None,
        });
        let Some(answer) = answer else {
            self.cue.go_astray(|| format!("it asks the medium for {request:?}"));
            return Some(Err(MediaError::Io));
        };
        answer.map(|result| result.map(|contents| contents.to_vec()))
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        self.cue.next(|answered| match answered {
            Answered::MediumEnded { tag, result } => Some((*tag, result.clone().map(|data| data.to_vec()))),
            _ => None,
        })
    }
}
