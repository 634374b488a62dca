//! An SD memory card as a host controller sees it: commands and data in, responses and data out.
//!
//! Specification: SD Specifications, Part 1, Physical Layer Simplified Specification 7.10; section numbers in this
//! crate are its. The contents are in a [`Media`](sdmorph_pci::Media). Read the modules in this order:
//!
//! 1. [`state`]: the card's states (4.1) and sets of them;
//! 2. [`table`]: the command table (4.7.4): one row a command, with the states in which it is legal (4.8);
//! 3. [`card`]: [`MemoryCard`], which runs the table and stands at the host's seam; `session`: what it forgets without
//!    power;
//! 4. the commands: `identification`, `selection`, `switch` (CMD6), `transfer` (reads and writes), `erase`,
//!    `protection`, `lock`;
//! 5. `data`: what moves on the data lines; `store`: one request to the medium at a time;
//! 6. `voltage`: the switch to 1.8 V; `disturb`: faults from outside;
//! 7. [`profile`] and [`capacity`]: what kind of card it is; [`registers`]: OCR, CID, CSD, SCR and SD Status, made from it;
//! 8. [`status`]: the bits of the card status and how each is cleared (4.10.1);
//! 9. [`crc7`], [`crc16`], [`tuning`]: checksums and the tuning block.
//!
//! # Modelled
//!
//! - SDSC, SDHC, SDXC and SDUC, by capacity; CSD versions 1, 2 and 3; byte addresses and partial reads of SDSC,
//!   CMD22's upper address bits of SDUC;
//! - all commands of classes 0, 2, 4, 5, 6, 7, 8 and 10 and the application commands that are not for content protection;
//! - a command that is unknown, not legal in the card's state, or not provided by this card: no response,
//!   `ILLEGAL_COMMAND` in the next status, and counted by name; a command to another card's address: no response and no
//!   error;
//! - 1 and 4 bits, default and high speed, and in 1.8 V signalling SDR12, SDR25, SDR50, SDR104 and DDR50. A host that
//!   runs the bus otherwise gets CRC errors; the clock's frequency is not seen;
//! - write-through: the card is busy until its medium has ended a write or an erase;
//! - write protection by groups (SDSC), by the CSD, and of a medium that is read-only; passwords with forced erase;
//! - the PCIe bits of CMD8 (SD Express, 4.3.13): a card with a PCIe interface says so when the host asks;
//! - disturbances: responses and data that are spoilt or do not come, busy, bad blocks.
//!
//! # Not modelled
//!
//! - the SPI mode, UHS-II, SD Express itself (another crate is the NVMe device), SDIO;
//! - class 11 with what needs it: extension registers (CMD48, CMD49, CMD58, CMD59), cache, command queueing (CMD43 to
//!   CMD46), power-off notification; boot partitions and fast boot (CMD0 with an argument, CMD63); CMD53, CMD54;
//! - content protection (ACMD18, ACMD25, ACMD26, ACMD38, ACMD43 to ACMD49) and its protected area; DPS; card ownership
//!   protection (COP, CMD42's bits 7:4);
//! - DSR: the CSD says that the card has none, and CMD4 does nothing;
//! - recording speeds: CMD20 and ACMD23 are taken and change nothing; what the profile says about speed is not kept to;
//! - the CRC of commands: the host's is taken to be right, so `COM_CRC_ERROR` never shows; nor do `CC_ERROR`,
//!   `CARD_ECC_DISABLED`, `FX_EVENT` and `AKE_SEQ_ERROR`;
//! - wear, and memory of password, programmed CSD and protected groups beyond the life of the value.

pub mod capacity;
pub mod card;
pub mod crc16;
pub mod crc7;
mod data;
mod disturb;
mod erase;
mod identification;
mod lock;
pub mod profile;
mod protection;
pub mod registers;
mod selection;
mod session;
mod snapshot;
pub mod state;
pub mod status;
mod store;
mod switch;
pub mod table;
mod transfer;
pub mod tuning;
mod voltage;

pub use capacity::{Capacity, CapacityError, CapacityKind};
pub use card::{MediumError, MemoryCard};
pub use profile::{Express, Profile, Version};
pub use state::{State, States};
pub use table::command_names;
pub use tuning::TUNING_BLOCK;
