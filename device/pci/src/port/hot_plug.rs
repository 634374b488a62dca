//! What a hot-plug slot may be equipped with (PCIe 6.7.1, 7.5.3.9 to 7.5.3.11): attention button, indicators, MRL sensor,
//! power controller, and commands that take their time.

use std::time::Duration;

use super::{EXPRESS, RootPort};
use crate::capability::EXP;
use crate::happening::{Event, ResetKind};
use crate::seam::{Ctx, PciFunction};

/// What slot and port have beside presence and link. By default nothing: the slot of the report has none of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Equipment {
    /// An attention button (SLTCAP.ABP).
    pub attention_button: bool,
    /// An attention and a power indicator (SLTCAP.AIP, PIP).
    pub indicators: bool,
    /// A sensor of the manually operated retention latch (SLTCAP.MRLSP).
    pub mrl_sensor: bool,
    /// A power controller (SLTCAP.PCP).
    pub power_controller: bool,
    /// Commands complete with a notification (no SLTCAP.NCCS).
    pub command_completed: bool,
    /// A guest can have presence detected out-of-band only (SLTCAP2.IBPD).
    pub in_band_presence_disable: bool,
    /// The port has Advanced Error Reporting.
    pub aer: bool,
    /// The port has Downstream Port Containment, and AER with it.
    pub dpc: bool,
}

impl Equipment {
    /// The word for each piece, as a command line has it.
    pub const WORDS: &'static [&'static str] = &[
        "attention-button",
        "indicators",
        "mrl-sensor",
        "power-controller",
        "command-completed",
        "in-band-presence-disable",
        "aer",
        "dpc",
    ];

    fn piece(&mut self, word: &str) -> Option<&mut bool> {
        Some(match word {
            "attention-button" => &mut self.attention_button,
            "indicators" => &mut self.indicators,
            "mrl-sensor" => &mut self.mrl_sensor,
            "power-controller" => &mut self.power_controller,
            "command-completed" => &mut self.command_completed,
            "in-band-presence-disable" => &mut self.in_band_presence_disable,
            "aer" => &mut self.aer,
            "dpc" => &mut self.dpc,
            _ => return None,
        })
    }

    /// What these words name. A word that names nothing is passed over.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut equipment = Self::default();
        for word in words {
            if let Some(piece) = equipment.piece(word) {
                *piece = true;
            }
        }
        equipment
    }

    /// Whether the piece of this name is there; AER is where DPC is.
    #[must_use]
    pub fn has(mut self, word: &str) -> bool {
        self.aer |= self.dpc;
        self.piece(word).is_some_and(|piece| *piece)
    }

    /// The words for what there is.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        Self::WORDS.iter().copied().filter(|word| self.has(word)).collect()
    }
}

/// When a hot-plug command completes. A guest hears of it only if the slot notifies of completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommandCompletion {
    /// At once.
    #[default]
    AtOnce,
    /// So long after it was written.
    After(Duration),
    /// It does, and nobody is told.
    Untold,
}

/// The slot's hot-plug controller: what is no register of its own.
#[derive(Debug)]
pub(super) struct Controller {
    equipment: Equipment,
    /// The retention latch is open.
    mrl_open: bool,
    /// The power controller's main power fault latch (PCIe 6.7.1.8).
    power_fault: bool,
    completion: CommandCompletion,
    /// When the command at hand completes.
    completes: Option<Duration>,
}

impl Controller {
    pub(super) fn new(equipment: Equipment) -> Self {
        Self {
            equipment,
            mrl_open: false,
            power_fault: false,
            completion: CommandCompletion::AtOnce,
            completes: None,
        }
    }

    /// The bits of SLTSTA that are a state of the controller's.
    pub(super) fn status(&self) -> u32 {
        if self.mrl_open { EXP::SLTSTA_MRLSS } else { 0 }
    }

    pub(super) fn has_power_fault(&self) -> bool {
        self.power_fault
    }

    /// What lies outside of the registers stays: a latch that is open, a fault, how long commands take.
    pub(super) fn reset(&mut self, kind: ResetKind) {
        let Self { equipment: _, mrl_open: _, power_fault, completion: _, completes } = self;
        *completes = None;
        if kind == ResetKind::Cold {
            *power_fault = false;
        }
    }
}

impl<F: PciFunction> RootPort<F> {
    /// What the slot and the port are equipped with.
    pub fn equipment(&self) -> Equipment {
        self.controller.equipment
    }

    /// Somebody presses the attention button. Without one, nothing happens.
    pub fn press_attention_button(&mut self, ctx: &mut Ctx<'_>) {
        if self.controller.equipment.attention_button {
            ctx.event(Event::AttentionButtonPressed);
            self.latch(ctx, EXP::SLTSTA_ABP);
        }
    }

    /// Somebody opens or closes the retention latch. Without a sensor, or if it is open or closed already, nothing happens.
    pub fn set_mrl_open(&mut self, ctx: &mut Ctx<'_>, open: bool) {
        if self.controller.equipment.mrl_sensor && self.controller.mrl_open != open {
            self.controller.mrl_open = open;
            ctx.event(Event::MrlSensorChanged { open });
            self.latch(ctx, EXP::SLTSTA_MRLSC);
        }
    }

    /// The main power has a fault: the power controller latches that and takes the power away (PCIe 6.7.1.8), until the
    /// guest has turned the power off and on again; or with `false`, until now. Without a power controller, nothing happens.
    pub fn set_power_fault(&mut self, ctx: &mut Ctx<'_>, fault: bool) {
        if !self.controller.equipment.power_controller || self.controller.power_fault == fault {
            return;
        }
        self.controller.power_fault = fault;
        if fault {
            ctx.event(Event::PowerFault);
            self.latch(ctx, EXP::SLTSTA_PFD);
        }
        self.update_power(ctx);
    }

    /// When hot-plug commands complete, from now on.
    pub fn set_command_completion(&mut self, completion: CommandCompletion) {
        self.controller.completion = completion;
    }

    /// Power follows Power Controller Control, and a fault.
    fn update_power(&mut self, ctx: &mut Ctx<'_>) {
        let off = self.config.read(EXPRESS + EXP::SLTCTL, 2) & EXP::SLTCTL_PCC != 0;
        if self.slot.set_powered(ctx, !off && !self.controller.power_fault) {
            self.latch(ctx, EXP::SLTSTA_DLLSC);
        }
    }

    /// A guest's write to Slot Control is a command to the controller (PCIe 6.7.3.2).
    pub(super) fn command_written(&mut self, ctx: &mut Ctx<'_>) {
        if self.controller.equipment.power_controller {
            if self.config.read(EXPRESS + EXP::SLTCTL, 2) & EXP::SLTCTL_PCC != 0 {
                self.controller.power_fault = false;
            }
            self.update_power(ctx);
        }
        if self.controller.equipment.command_completed {
            self.controller.completes = match self.controller.completion {
                CommandCompletion::AtOnce => Some(ctx.now()),
                CommandCompletion::After(time) => Some(ctx.wake_after(time)),
                CommandCompletion::Untold => None,
            };
            self.complete_command(ctx);
        }
    }

    /// Tells of the command that has completed by now, if there is one.
    pub(super) fn complete_command(&mut self, ctx: &mut Ctx<'_>) {
        if self.controller.completes.is_some_and(|at| at <= ctx.now()) {
            self.controller.completes = None;
            ctx.event(Event::CommandCompleted);
            self.latch(ctx, EXP::SLTSTA_CC);
        }
    }

    /// A power fault that is still latched inside is not cleared by a write of its status bit.
    pub(super) fn keep_power_fault(&mut self) {
        if self.controller.power_fault {
            let status = self.config.read(EXPRESS + EXP::SLTSTA, 2) | EXP::SLTSTA_PFD;
            self.config.store(EXPRESS + EXP::SLTSTA, 2, u64::from(status));
        }
    }
}
