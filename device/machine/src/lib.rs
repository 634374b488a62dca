//! The machine: a VMD that carries a root port, a hot-plug slot with a card reader in it, the card, and the drive that the
//! card becomes.
//!
//! - [`Machine`]: the composition; accesses of the host go in, answers and delays come out;
//! - [`Setup`]: which reader it is;
//! - [`card`]: what can be put into the reader; `insertion`: how it goes in and out;
//! - [`morph`]: what becomes of the slot when a card is switched to SD Express and ejected, as one table; `slot`: what is
//!   done of it; `occupant`: reader and drive, one of which is at the link;
//! - `rules`: what fault rules do to the machine;
//! - [`bench`]: the one hook that everything passes: recorder, counters and fault rules;
//! - [`record`]: the flight recorder; [`inputs`]: what it has to have for a replay, `tap`: what the host answers;
//! - [`replay`]: the same calls once more, without a host;
//! - [`messages`]: which messages of the vfio-user client rules wait for;
//! - [`time`]: virtual time, and what the host's clock has to do with it;
//! - [`names`]: all registers, events and commands by name, for rules, control and the docs.
//!
//! The machine has no thread and does not sleep. Each call brings the time with it and first does what was due before;
//! an injected latency is *returned*, for the transport to sleep off outside the lock. Driven with a manual clock, the
//! same calls give the same results and the same record.
//!
//! # Not modelled
//!
//! - disturbances of a card while it is a drive: they are felt by its SD side only;
//! - more than one slot.

mod bench;
pub mod card;
pub mod inputs;
mod insertion;
mod machine;
pub mod messages;
pub mod morph;
pub mod names;
mod occupant;
pub mod record;
pub mod replay;
mod rules;
mod setup;
mod slot;
pub mod tap;
pub mod time;

pub use bench::Counters;
pub use card::{CardKind, InsertError, MEMORY_LIMIT_BYTES, Medium, NewCard};
pub use machine::{Host, Machine, Region};
pub use messages::MessageWatch;
pub use record::{Record, Recorder};
pub use sdmorph_pci::port::Equipment;
pub use sdmorph_rtsx::model::Model;
pub use sdmorph_rtsx::vendor_config::{Settings, SettingsError};
pub use sdmorph_vmd::{BAR_SIZES as HOST_BAR_SIZES, VECTORS as HOST_VECTORS};
pub use setup::Setup;
pub use time::Timebase;

pub use sdmorph_faults as faults;
