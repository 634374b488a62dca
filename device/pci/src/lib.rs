//! PCI Express building blocks, and the seams that every device of sdmorph is written against.
//!
//! Read the modules in this order:
//!
//! 1. [`seam`]: what a function may see of the world ([`Ctx`]) and what it must offer ([`PciFunction`]); [`happening`]:
//!    what recorders and fault rules are told; [`card`]: the seam between a reader and its card; [`media`]: the seam between
//!    storage and what keeps its blocks;
//! 2. [`register`]: a register is a table row; [`RegisterFile`] gives rows their behaviour;
//! 3. [`config`]: a function's 4 KiB of configuration space, BAR sizing and decoding;
//! 4. [`capability`]: power management, MSI, MSI-X, PCI Express, AER, LTR and L1 PM substates;
//! 5. [`slot`]: the hot-plug slot: presence, link, the function in it, and a BAR that can vanish;
//! 6. [`port`]: the root port in front of the slot: bus numbers, windows, hot-plug, PME and error status and their interrupt;
//! 7. [`topology`]: the root bus that routes a configuration or memory access to the one it is meant for.
//!
//! Specification: PCI Express Base Specification 6.0, PCI Local Bus 3.0 (type 0 header), PCI-to-PCI Bridge 1.2 (type 1
//! header). Names of registers and bits are those of Linux's `include/uapi/linux/pci_regs.h`.
//!
//! # Not modelled
//!
//! - I/O space, INTx and legacy interrupts: the carrier (Intel VMD) has neither below it;
//! - expansion ROMs, VPD, ATS, SR-IOV, peer-to-peer traffic between functions;
//! - the physical and data link layers: the link is up, down, disabled or trains without end;
//! - sticky register bits: a hot reset clears what only a cold one should, such as PME_En and PME_Status;
//! - D1, D2 and D3cold; the port's own PME (a hot-plug event in D3hot); repetition of a PM_PME message that nobody serves
//!   (PCIe 5.3.3.3), which guests poll for;
//! - a secondary bus reset as a link event: it resets what is below, and the link stays up;
//! - an electromechanical interlock; what an open retention latch does to power; auxiliary power;
//! - the header log of AER, advisory non-fatal errors, ERR_COR of DPC, its RP PIO extensions, and that DPC ends requests:
//!   an error is what it says in registers, and no request fails by it.

pub mod capability;
pub mod card;
pub mod config;
pub mod happening;
pub mod media;
pub mod port;
pub mod register;
pub mod seam;
pub mod slot;
pub mod topology;

pub use card::{Bus, Card, CardError, CardResponse, DataError, DisturbError, Disturbance, Lines, SdCard};
pub use config::ConfigSpace;
pub use happening::{
    Access, Answer, DataChange, Direction, DmaError, DmaFault, Doorbell, DoorbellKind, Effect, Event,
    Happening, Message, NvmeCommand, ResetKind, Space,
};
pub use media::{Media, MediaError, MediaRequest, MediaResult};
pub use register::{Register, RegisterFile, mask_of_size};
pub use seam::{Clock, Ctx, GuestMemory, InterruptSink, Observer, PciFunction, World};
