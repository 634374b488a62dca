//! What can be put into the reader.

use std::fmt;
use std::time::Duration;

use sdmorph_media::{Face, FileMedia, MediaStatus, RamMedia, SharedMedia};
use sdmorph_pci::{Card, CardError, CardResponse, DisturbError, Media, SdCard};
use sdmorph_sdcard::registers::cid::cid;
use sdmorph_sdcard::{Capacity, CapacityError, MediumError, MemoryCard, Profile};
use serde_json::{Value, json};
use thiserror::Error;

use crate::inputs::{CardPlan, Inputs, MediumPlan};
use crate::tap::TappedMedia;

/// Most bytes that a card in memory keeps. What is written beyond finds it full, as on an image whose disk is full.
pub const MEMORY_LIMIT_BYTES: u64 = 1 << 30;

/// What can be put into the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardKind {
    /// An SD card.
    Sd,
    /// An SD 7.0 card with a PCIe interface.
    SdExpress,
    /// An empty adapter: the switch closes, and no card answers.
    Empty,
}

impl CardKind {
    /// As the control protocol spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CardKind::Sd => "sd",
            CardKind::SdExpress => "sd-express",
            CardKind::Empty => "none",
        }
    }
}

/// What keeps a card's blocks, and what tells about it.
#[derive(Debug)]
pub struct Medium {
    media: Box<dyn Media>,
    status: MediaStatus,
    /// What it answers is the host's to know: it is not in memory.
    host: bool,
}

impl Medium {
    /// A medium in memory, empty, of `bytes`, rounded down to whole blocks.
    #[must_use]
    pub fn memory(bytes: u64) -> Self {
        RamMedia::new(bytes / sdmorph_pci::media::BLOCK_BYTES as u64, MEMORY_LIMIT_BYTES).into()
    }

    /// A medium that answers as one of the host's did.
    pub(crate) fn replayed(media: Box<dyn Media>) -> Self {
        let status = RamMedia::new(media.blocks(), 0).status();
        Self { media, status, host: true }
    }
}

impl From<RamMedia> for Medium {
    fn from(media: RamMedia) -> Self {
        let status = media.status();
        Self { media: Box::new(media), status, host: false }
    }
}

impl From<FileMedia> for Medium {
    fn from(media: FileMedia) -> Self {
        let status = media.status();
        Self { media: Box::new(media), status, host: true }
    }
}

/// A card, or what looks like one to the switch, on its way into the reader.
#[derive(Debug)]
pub struct NewCard {
    /// What it is.
    pub kind: CardKind,
    /// What keeps its blocks; 64 GiB in memory if there is none. An empty adapter needs none.
    pub medium: Option<Medium>,
    /// The switch on its edge is at "lock".
    pub write_protect: bool,
    /// Its serial number (PSN).
    pub serial: u32,
}

impl From<CardKind> for NewCard {
    fn from(kind: CardKind) -> Self {
        Self { kind, medium: None, write_protect: false, serial: 1 }
    }
}

/// Why a card cannot be put in, taken out, or disturbed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InsertError {
    /// The slot of the reader is taken.
    #[error("there is a card in the reader; eject it first")]
    Occupied,
    /// There is nothing to take out.
    #[error("there is no card in the reader")]
    Empty,
    /// No card has such a medium.
    #[error("no SD card is like this: {0}")]
    Capacity(#[from] CapacityError),
    /// The card cannot be disturbed like that.
    #[error(transparent)]
    Disturb(#[from] DisturbError),
    /// The medium and the capacity do not go together.
    #[error(transparent)]
    Medium(#[from] MediumError),
}

/// The card that is in the reader, as the machine knows it.
#[derive(Debug)]
pub(crate) struct Inserted {
    pub(crate) kind: CardKind,
    pub(crate) write_protect: bool,
    /// `None` for an empty adapter.
    store: Option<Store>,
}

/// What a card has, whichever of its interfaces is in use.
#[derive(Debug)]
struct Store {
    medium: SharedMedia,
    status: MediaStatus,
    cid: [u8; 16],
}

impl Inserted {
    pub(crate) fn status(&self) -> Value {
        json!(self.store.as_ref().map(|store| store.status.info()))
    }

    /// Whether it has a PCIe interface.
    pub(crate) fn trains(&self) -> bool {
        self.kind == CardKind::SdExpress
    }

    /// What its PCIe interface shows: who it is, and its medium. A switch at "lock" protects that from writes as well.
    pub(crate) fn drive_face(&self) -> Option<([u8; 16], Face)> {
        let store = self.store.as_ref().filter(|_| self.trains())?;
        Some((store.cid, store.medium.face(self.write_protect)))
    }

    /// It is out of the reader: whoever still has a face of its medium finds nothing there.
    pub(crate) fn take_away(self) {
        if let Some(store) = self.store {
            store.medium.take_away();
        }
    }
}

/// A card that is ready to go in.
pub(crate) struct Ready {
    pub(crate) card: Card,
    pub(crate) inserted: Inserted,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ready").field(&self.inserted).finish()
    }
}

impl NewCard {
    /// What a replay has to know of it.
    pub(crate) fn plan(&self) -> CardPlan {
        let Self { kind, medium, write_protect, serial } = self;
        let medium = medium.as_ref().map(|Medium { media, host, status: _ }| MediumPlan {
            blocks: media.blocks(),
            read_only: media.is_read_only(),
            host: *host,
        });
        CardPlan { kind: *kind, write_protect: *write_protect, serial: *serial, medium }
    }

    /// Makes the card. What a medium of the host's answers is recorded, if inputs are.
    pub(crate) fn make(self, inputs: Option<&Inputs>) -> Result<Ready, InsertError> {
        let Self { kind, medium, write_protect, serial } = self;
        if kind == CardKind::Empty {
            let inserted = Inserted { kind, write_protect, store: None };
            return Ok(Ready { card: Box::new(EmptyAdapter { last: 0 }), inserted });
        }
        let medium = medium.unwrap_or_else(|| Medium::memory(Capacity::DEFAULT.bytes()));
        let capacity = Capacity::of_blocks(medium.media.blocks())?;
        let profile = match kind {
            CardKind::SdExpress => Profile::express(serial, capacity),
            _ => Profile::legacy(serial, capacity),
        };
        let cid = cid(&profile);
        let Medium { media, status, host } = medium;
        let media = match inputs.filter(|_| host) {
            Some(inputs) => Box::new(TappedMedia::new(media, inputs.tap.clone())),
            None => media,
        };
        let medium = SharedMedia::new(media);
        // The switch is the reader's to look at: the card's SD side does not know of it.
        let card = Box::new(MemoryCard::new(profile, Box::new(medium.face(false)))?);
        let store = Some(Store { medium, status, cid });
        Ok(Ready { card, inserted: Inserted { kind, write_protect, store } })
    }
}

/// Closes the switch and answers nothing.
struct EmptyAdapter {
    /// Index of the last command, for the record.
    last: u8,
}

impl fmt::Debug for EmptyAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmptyAdapter")
    }
}

impl SdCard for EmptyAdapter {
    fn command(&mut self, _now: Duration, index: u8, _argument: u32) -> Result<CardResponse, CardError> {
        self.last = index;
        Err(CardError::Timeout)
    }

    fn power_cycle(&mut self) {}

    fn last_command(&self) -> String {
        format!("CMD{}", self.last)
    }

    fn snapshot(&self) -> Value {
        json!({"kind": "empty adapter"})
    }
}
