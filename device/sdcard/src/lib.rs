//! An SD memory card as a host controller sees it: commands in, responses out.
//!
//! Specification: SD Specifications, Part 1, Physical Layer Simplified Specification 7.10; section numbers in this
//! crate are its. Read the modules in this order:
//!
//! 1. [`state`]: the card's states (4.1) and sets of them;
//! 2. [`table`]: the command table (4.7.4): one row a command, with the states in which it is legal (4.8);
//! 3. [`card`]: [`MemoryCard`], which runs the table: status bits, addresses, application commands, power-up time;
//! 4. [`registers`]: CID, CSD and OCR, made from a [`Profile`];
//! 5. [`status`]: the bits of the card status and how each is cleared (4.10.1);
//! 6. [`crc7`]: the checksum of commands and responses (4.5).
//!
//! # Modelled
//!
//! - identification in SD mode: CMD0, CMD2, CMD3, CMD8, CMD55, ACMD41, with power-up in virtual time;
//! - the PCIe bits of CMD8 (SD Express, 4.3.13): a card with a PCIe interface says so when the host asks;
//! - selection and status: CMD7, CMD9, CMD10, CMD13, CMD15, CMD16, ACMD6, ACMD42;
//! - a command that is unknown or not legal in the card's state: no response, `ILLEGAL_COMMAND` in the next status, and
//!   counted by name;
//! - a command to another card's address: no response and no error.
//!
//! # Not modelled
//!
//! - data transfer: no block is read or written; CMD6, CMD12, CMD17, CMD18, CMD24, CMD25, ACMD13, ACMD22, ACMD23 and
//!   ACMD51 are not in the table, so a host that goes on in SD mode stops at the SCR register;
//! - 1.8 V signalling (CMD11, UHS-I) and UHS-II: the OCR says that the card has neither;
//! - erase, write protection, passwords, boot partitions, extension registers, command queueing;
//! - the SPI mode, and standard-capacity cards (2 GB and below) with byte addresses;
//! - the CRC of commands: the host's is taken to be right, so `COM_CRC_ERROR` never shows.

pub mod card;
pub mod crc7;
pub mod profile;
pub mod registers;
pub mod state;
pub mod status;
pub mod table;

pub use card::MemoryCard;
pub use profile::{Capacity, CapacityError, Express, Profile};
pub use state::{State, States};
pub use table::command_names;

/// The block of 64 bytes that a card sends for tuning (CMD19, 4.2.4.5).
pub const TUNING_BLOCK: [u8; 64] = [0; 64];
