//! Interrupts (7.5): a vector for each completion queue, by MSI-X or MSI, masked and coalesced.

use std::time::Duration;

use sdmorph_pci::capability::{Msi, MsiX};
use sdmorph_pci::{ConfigSpace, Ctx};
use serde_json::{Value, json};

use crate::config::VECTORS;
use crate::gathering::Gathering;

/// The unit of the aggregation time (5.21.1.8).
const TIME_UNIT: Duration = Duration::from_micros(100);

/// What one vector has to tell.
#[derive(Debug, Clone, Copy, Default)]
struct Vector {
    /// Completions since its last interrupt.
    untold: u32,
    /// One of them is not to wait.
    urgent: bool,
    /// When the oldest of them came.
    since: Duration,
    /// CD: its completions do not wait for others.
    never_waits: bool,
    gathering: Gathering,
}

/// The interrupts of a controller.
#[derive(Debug)]
pub(crate) struct Interrupts {
    pub(crate) msi: Msi,
    pub(crate) msi_x: MsiX,
    /// INTMS and INTMC: a bit for each vector that is held back. MSI-X has masks of its own.
    mask: u32,
    /// THR: completions that are told together, less one.
    threshold: u8,
    /// TIME: how long the first of them may wait, in [`TIME_UNIT`]; 0 is not at all.
    time: u8,
    vectors: [Vector; VECTORS as usize],
    sent: u64,
}

impl Interrupts {
    pub(crate) fn new(msi: Msi, msi_x: MsiX) -> Self {
        Self {
            msi,
            msi_x,
            mask: 0,
            threshold: 0,
            time: 0,
            vectors: [Vector::default(); VECTORS as usize],
            sent: 0,
        }
    }

    /// A reset of the controller: what it has to tell and how is forgotten, the capabilities stay as they are.
    pub(crate) fn controller_reset(&mut self) {
        let Self { msi: _, msi_x: _, mask, threshold, time, vectors, sent: _ } = self;
        *mask = 0;
        *threshold = 0;
        *time = 0;
        *vectors = [Vector::default(); VECTORS as usize];
    }

    /// A reset of the function.
    pub(crate) fn reset(&mut self) {
        self.controller_reset();
        self.msi.reset();
        self.msi_x.reset();
    }

    /// What INTMS and INTMC read as.
    pub(crate) fn mask(&self) -> u32 {
        self.mask
    }

    pub(crate) fn set_mask(&mut self, mask: u32) {
        self.mask = mask;
    }

    /// How many vectors a completion queue may choose from.
    pub(crate) fn vectors(&self, config: &ConfigSpace) -> u16 {
        if self.msi_x.enabled(config) {
            self.msi_x.vectors()
        } else if self.msi.enabled(config) {
            self.msi.messages(config)
        } else {
            1
        }
    }

    /// Interrupt Coalescing, as dword 11 of the feature has it: TIME and THR.
    pub(crate) fn coalescing(&self) -> u32 {
        u32::from(self.time) << 8 | u32::from(self.threshold)
    }

    pub(crate) fn set_coalescing(&mut self, value: u32) {
        let [threshold, time, ..] = value.to_le_bytes();
        self.threshold = threshold;
        self.time = time;
    }

    /// Interrupt Vector Configuration of a vector: whether coalescing is disabled. `None` if there is no such vector.
    pub(crate) fn never_waits(&mut self, vector: u16) -> Option<&mut bool> {
        self.vectors.get_mut(usize::from(vector)).map(|vector| &mut vector.never_waits)
    }

    /// `count` completions were posted. Those of the admin queue do not wait for others (7.5).
    pub(crate) fn posted(&mut self, now: Duration, vector: u16, count: u32, is_admin: bool) {
        if let Some(vector) = self.vectors.get_mut(usize::from(vector)) {
            if vector.untold == 0 {
                vector.since = now;
            }
            vector.untold = vector.untold.saturating_add(count);
            vector.urgent |= is_admin;
        }
    }

    /// Commands were fetched whose completions a vector tells.
    pub(crate) fn asked(&mut self, now: Duration, vector: u16) {
        if let Some(vector) = self.vectors.get_mut(usize::from(vector)) {
            vector.gathering.asked(now);
        }
    }

    /// Sends what is to be sent now. What nobody lets out is kept. Returns when the next one that waits is to be sent.
    /// `polled` says that this is called again and again: only then what may be told better with what comes next waits
    /// for it.
    pub(crate) fn tell(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, polled: bool) -> Option<Duration> {
        let now = ctx.now();
        let by_msi_x = self.msi_x.enabled(config);
        let by_msi = !by_msi_x && self.msi.enabled(config) && ctx.is_bus_master();
        let wait = TIME_UNIT * u32::from(self.time);
        let mut next: Option<Duration> = None;
        for (number, vector) in (0u16..).zip(&mut self.vectors) {
            let open = by_msi_x || by_msi && self.mask >> number & 1 == 0;
            if vector.untold == 0 || !open {
                continue;
            }
            let at = vector.since.saturating_add(wait);
            let waits = !vector.urgent
                && !vector.never_waits
                && vector.untold <= u32::from(self.threshold)
                && now < at;
            if waits {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            if polled && !vector.urgent && !vector.never_waits {
                if vector.gathering.waits(now, vector.since, vector.untold) {
                    continue;
                }
                vector.gathering.told(vector.untold);
            }
            vector.untold = 0;
            vector.urgent = false;
            self.sent += 1;
            if by_msi_x {
                self.msi_x.fire(config, ctx, number);
            } else {
                // An edge for each: the guest may have seen the one before and not what came after it.
                self.msi.set_level_of(config, ctx, number, true);
                self.msi.set_level_of(config, ctx, number, false);
            }
        }
        next
    }

    /// Sends a message though no completion was posted.
    pub(crate) fn send_spurious(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, vector: u16) {
        if self.msi_x.enabled(config) {
            self.msi_x.fire(config, ctx, vector);
        } else {
            self.msi.send_spurious(config, ctx, vector);
        }
    }

    /// The guest wrote configuration space.
    pub(crate) fn config_written(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        self.msi.config_written(config, ctx);
        self.msi_x.config_written(config, ctx);
    }

    pub(crate) fn snapshot(&self) -> Value {
        json!({
            "mask": format!("{:#x}", self.mask),
            "threshold": self.threshold,
            "time": self.time,
            "sent": self.sent,
            "msi-x": self.msi_x.snapshot(),
        })
    }
}
