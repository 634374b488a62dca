//! Fault rules: triggers, actions, counters; pure data and matching.
//!
//! A [`Rule`] says *when X happens, do Y*. It is data: the same table in a scenario file (TOML) and on the control
//! socket (JSON). The [`Engine`] is shown everything that happens in the machine ([`Engine::observe`]) and answers
//! which rules hit. Messages of the vfio-user client come before anything happens in the machine, and are shown to it by
//! their number ([`Engine::message`]). It has no I/O, no thread and no clock; time comes in with each call, as the time
//! since the machine was made, so the same calls always have the same result.
//!
//! Read the modules in this order: [`rule`] (what a rule is), [`registry`] (which names it may use), [`latency`] (how
//! slow reads are drawn), [`slot`] (actions on the slot and its port), [`wire`] (messages of the client, and what can
//! become of them), [`engine`] (when a rule matches and when it hits); [`read_data`] and [`function`] are about what
//! functions can be made to do.
//!
//! # Who does what
//!
//! | Action | Carried out by |
//! |---|---|
//! | `bar`, `link`, `presence`, `presence-lead`, `presence-lag`, `relink`, those of [`slot`] | the machine, when it finds them in [`Outcome::fired`] or in what [`Engine::due`] returns |
//! | `read-latency` | the engine keeps it, [`Engine::read_latency`] draws it, the transport sleeps it off |
//! | `wire` | the transport; the machine hands it the first one that a message meets |
//! | `stuck-busy`, `read-data` | the engine: [`Outcome::effect`] says what becomes of a read |
//! | `interrupt`, `nvme` | the engine, likewise; but for what happens to the function and not to a message or command: the machine |
//! | `dma` | the engine: [`Engine::dma_fault`], [`Engine::dma_held_until`] |
//! | `card-corrupt`, `config`, `power-state` | the machine |
//!
//! # Not modelled
//!
//! - several triggers, or several moments that arm a rule, in one rule: chains do that;
//! - accesses that nobody answers ([`sdmorph_pci::Answer::Absent`]) as triggers;
//! - changing what a write stores, dropping one access;
//! - what is in a message of the client, as a condition: a rule waits for a command of the protocol;
//! - undoing what a rule did when the rule is removed: a fault stays until an action takes it back.

mod candidates;
mod duration;
pub mod engine;
mod error;
pub mod function;
pub mod latency;
mod loops;
mod nearest;
mod parse;
mod random;
pub mod read_data;
pub mod registry;
mod resolve;
pub mod rule;
pub mod slot;
mod standing;
mod state;
mod trigger;
mod watch;
pub mod wire;

pub use duration::parse as parse_duration;
pub use engine::{
    ChangedRegister, Effects, Engine, Fired, MAX_LATENCIES, MAX_PENDING, MAX_RULES, Outcome, RuleStatus,
};
pub use error::RuleError;
pub use function::{DmaAction, InterruptAction, InterruptFault, NvmeAction, NvmeFault};
pub use latency::{MAX_LATENCY, ReadLatency};
pub use nearest::Nearest;
pub use parse::{MAX_ACTIONS, disturbance as parse_disturbance, trace_from_text};
pub use read_data::{ReadAnswer, ReadData, ReadTarget};
pub use registry::{RegisterInfo, Registry};
pub use rule::{
    Action, BarAction, CardAction, Cause, Chance, Conditions, LinkAction, Moment, Pattern, Rule, RuleName,
    SpaceKind, Span, StuckBusy, Trigger,
};
pub use slot::{Aer, Bounce, SlotAction};
pub use wire::{Errno, MESSAGES, WireAction};
