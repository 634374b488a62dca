//! Fault rules: triggers, actions, counters; pure data and matching.
//!
//! A [`Rule`] says *when X happens, do Y*. It is data: the same table in a scenario file (TOML) and on the control
//! socket (JSON). The [`Engine`] is shown everything that happens in the machine ([`Engine::observe`]) and answers
//! which rules hit. Messages of the vfio-user client come before anything happens in the machine, and are shown to it by
//! their number ([`Engine::message`]). It has no I/O, no thread and no clock; time comes in with each call, as the time
//! since the machine was made, so the same calls always have the same result.
//!
//! Read the modules in this order: [`rule`] (what a rule is), [`registry`] (which names it may use), [`latency`] (how
//! slow reads are drawn), [`slot`] (actions on the slot and its port), [`wire`] (messages of the client, and what can become of them), [`engine`] (when a rule
//! matches and when it hits).
//!
//! # Who does what
//!
//! | Action | Carried out by |
//! |---|---|
//! | `bar`, `link`, `presence`, `presence-lead`, `presence-lag`, `relink`, those of [`slot`] | the machine, when it finds them in [`Outcome::fired`] or in what [`Engine::due`] returns |
//! | `read-latency` | the engine keeps it, [`Engine::read_latency`] draws it, the transport sleeps it off |
//! | `wire` | the transport; the machine hands it the first one that a message meets |
//! | `stuck-busy` | the engine: reads of the register show the bits in [`Outcome::effect`] |
//!
//! # Not modelled
//!
//! - conditions on more than one thing: a rule has one trigger and at most one event that arms it; chains do the rest;
//! - accesses that nobody answers ([`sdmorph_pci::Answer::Absent`]), interrupts and DMA as triggers;
//! - changing what a write stores, dropping one access, or reads that answer something else than stuck bits;
//! - what is in a message of the client, as a condition: a rule waits for a command of the protocol;
//! - undoing what a rule did when the rule is removed: a fault stays until an action takes it back.

mod duration;
pub mod engine;
mod error;
pub mod latency;
mod loops;
mod nearest;
mod parse;
pub mod registry;
mod resolve;
pub mod rule;
pub mod slot;
mod watch;
pub mod wire;

pub use duration::parse as parse_duration;
pub use engine::{Effects, Engine, Fired, MAX_PENDING, MAX_RULES, Outcome, RuleStatus, StuckBits};
pub use error::RuleError;
pub use latency::{MAX_LATENCY, ReadLatency};
pub use nearest::Nearest;
pub use registry::{RegisterInfo, Registry};
pub use rule::{
    Action, BarAction, CardAction, Cause, LinkAction, Pattern, Rule, RuleName, StuckBusy, Trigger,
};
pub use slot::{Aer, Bounce, SlotAction};
pub use wire::{Errno, MESSAGES, WireAction};
