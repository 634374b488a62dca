//! What becomes of the slot when a card is inserted, switched to SD Express and ejected.
//!
//! ```text
//!            card-insert, detect, CMD0, CMD8           driver: FW_ENTER_EXPRESS, DRIVER_ENABLE_FW
//!  ┌────────┐ ─────────────────────────────▶ ┌────────┐ ─────────────────────────────▶ ┌───────────┐
//!  │ reader │         (a plain reader)       │ reader │                                │ switching │
//!  └────────┘ ◀───────────────────────────── └────────┘                                └─────┬─────┘
//!       ▲            card-eject                                     relink time is over,     │
//!       │                                                           or a rule drops the link │
//!       │  TRAINING after presence        card-eject                                         ▼
//!       └──────────────────────────────────────────────────────────────────────────────┌───────────┐
//!                                                                                      │   away    │
//!                                                                                      └───────────┘
//! ```
//!
//! A switch that fails (a rule's `relink = "fail"`) lets go of the slot, too. When the card has had the time to train and
//! has not, the reader comes back with RTS5261_EXPRESS_LINK_FAIL set, and the card in it.
//!
//! A reset of the reader while it is switching takes the switch back: the registers that asked for it are clear again.
//! A link that comes up while the reader is away (a rule, `link-set`) has the reader at its end.
//!
//! The link can also go down and come up without a switch, by a rule or by `link-set`; presence follows it, since the
//! slot detects presence in-band (PCIe 6.7.1.1.2: no presence without a receiver that answers).

use std::time::Duration;

use serde::Serialize;

/// One unit of the relink time that a driver programs into 0xff01..0xff03.
///
/// DEVNOTE: no public document has the unit. Linux programs 0x8fff (`rtsx_pci_sdmmc.c`); with 10 us that is 369 ms,
/// which leaves the driver the time it takes on the board of the report, whose link fell while the idle callback of
/// the 200 ms autosuspend was running.
pub const RELINK_UNIT: Duration = Duration::from_micros(10);

/// From the link's fall to the loss of in-band presence. Late enough for `Link Down` to be an event of its own, as in
/// the report.
pub const PRESENCE_LAG: Duration = Duration::from_millis(10);

/// From presence to a trained link, when the reader comes back.
pub const TRAINING: Duration = Duration::from_millis(100);

/// Where the slot is in the switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The reader is in the slot.
    #[default]
    Reader,
    /// The driver has asked for the switch; the link falls when the relink time is over.
    Switching,
    /// The reader has let go of the slot.
    Away,
}

/// Something the slot does later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Later {
    /// The relink time is over.
    LinkFalls,
    /// In-band presence follows the link.
    PresenceGoes,
    /// Training is over.
    LinkTrains,
    /// The firmware gives up on the card, and comes back as a reader.
    SwitchFails,
}

/// The relink time for a register value.
#[must_use]
pub fn relink_time(register: u32) -> Duration {
    RELINK_UNIT * register
}
