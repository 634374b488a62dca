//! Errors at the root port: those it detects itself, the messages that it receives (AER, PCIe 6.2.4), and what it does to
//! contain them (DPC, 6.2.11).

use super::{CONTAINED, DEVFN, ERRORS, Equipment, RootPort};
use crate::capability::{self, AerError, DPC, ERR, EXP, Severity};
use crate::config::{ConfigSpace, offset};
use crate::happening::Event;
use crate::seam::{Ctx, PciFunction};

/// Where the extended capabilities are.
const AER: u16 = offset::EXTENDED;
const CONTAINMENT: u16 = 0x150;

const BRIDGE_CONTROL_SERR: u32 = 1 << 1;
/// SEC_STATUS: Received System Error.
const SEC_STATUS_SYSTEM_ERROR: u32 = 1 << 14;

/// Why an error is contained (DPC Trigger Reason, and its extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The port has detected an unmasked uncorrectable error.
    Unmasked,
    NonFatalReceived,
    FatalReceived,
    Software,
}

impl Reason {
    fn bits(self) -> u32 {
        match self {
            Reason::Unmasked => 0,
            Reason::NonFatalReceived => 1 << 1,
            Reason::FatalReceived => 2 << 1,
            Reason::Software => 3 << 1 | 1 << 5,
        }
    }
}

/// AER, and DPC behind it, if the port is to have them.
pub(super) fn add_capabilities(config: &mut ConfigSpace, equipment: Equipment) {
    if equipment.aer || equipment.dpc {
        capability::aer_root_port(config, AER);
    }
    if equipment.dpc {
        capability::dpc(config, CONTAINMENT);
    }
}

/// The interrupt sources that want one: an error message that is reported (PCIe 6.2.4.1.2), an error that is contained
/// (6.2.11.1). Where there is no capability, its bytes read as zero.
pub(super) fn wanted(config: &ConfigSpace) -> u32 {
    let command = config.read(AER + ERR::ROOT_COMMAND, 4);
    let status = config.read(AER + ERR::ROOT_STATUS, 4);
    let reported = [
        (ERR::ROOT_CMD_COR_EN, ERR::ROOT_COR_RCV),
        (ERR::ROOT_CMD_NONFATAL_EN, ERR::ROOT_NONFATAL_RCV),
        (ERR::ROOT_CMD_FATAL_EN, ERR::ROOT_FATAL_RCV),
    ];
    let errors = reported.iter().any(|(enable, received)| command & enable != 0 && status & received != 0);
    let contained = config.read(CONTAINMENT + DPC::CTL, 2) & DPC::CTL_INT_EN != 0
        && config.read(CONTAINMENT + DPC::STATUS, 2) & DPC::STATUS_INTERRUPT != 0;
    (if errors { ERRORS } else { 0 }) | if contained { CONTAINED } else { 0 }
}

impl<F: PciFunction> RootPort<F> {
    /// The port itself detects an error. Without AER, it does not notice.
    pub fn detect_error(&mut self, ctx: &mut Ctx<'_>, error: &AerError) {
        if self.config.aer.is_none() {
            return;
        }
        let message = capability::detect(&mut self.config, error);
        ctx.event(Event::ErrorDetected { error: error.name, message });
        if let Some(severity) = message {
            let primary = self.config.read(offset::PRIMARY_BUS, 1) & 0xff;
            self.receive_error(ctx, severity, primary << 8 | u32::from(DEVFN), Reason::Unmasked);
        }
    }

    /// The function in the slot detects an error. Its message needs the link.
    pub fn detect_error_below(&mut self, ctx: &mut Ctx<'_>, error: &AerError) {
        let active = self.slot.link_active();
        let detected = self.slot.with_function(ctx, |function, ctx| {
            let config = function.config_mut();
            config.aer?;
            let message = capability::detect(config, error).filter(|_| active);
            ctx.event(Event::ErrorDetected { error: error.name, message });
            message
        });
        let Some(severity) = detected.flatten() else { return };
        let secondary = self.config.read(offset::SECONDARY_BUS, 1) & 0xff;
        if severity != Severity::Correctable {
            let status = self.config.read(offset::SEC_STATUS, 2) | SEC_STATUS_SYSTEM_ERROR;
            self.config.store(offset::SEC_STATUS, 2, u64::from(status));
        }
        // Bridge Control's SERR# Enable forwards messages of all three kinds (PCIe 7.5.1.3.13).
        if self.config.read(offset::BRIDGE_CONTROL, 2) & BRIDGE_CONTROL_SERR != 0 {
            let reason = match severity {
                Severity::Fatal => Reason::FatalReceived,
                Severity::NonFatal | Severity::Correctable => Reason::NonFatalReceived,
            };
            self.receive_error(ctx, severity, secondary << 8, reason);
        }
    }

    /// An error message arrives, or is the port's own. One that is contained goes no further.
    fn receive_error(&mut self, ctx: &mut Ctx<'_>, severity: Severity, requester: u32, reason: Reason) {
        let enabled = match self.config.read(CONTAINMENT + DPC::CTL, 2) & DPC::CTL_EN_MASK {
            DPC::CTL_EN_FATAL => severity == Severity::Fatal,
            DPC::CTL_EN_NONFATAL => severity != Severity::Correctable,
            _ => false,
        };
        if enabled {
            self.contain(ctx, reason, requester);
        }
        if self.config.aer.is_some() && !(enabled && reason != Reason::Unmasked) {
            self.log_message(severity, requester);
        }
        self.update_interrupt(ctx);
    }

    /// ERR_ROOT_STATUS and the source's register: the first of a kind leaves its requester, later ones a bit.
    fn log_message(&mut self, severity: Severity, requester: u32) {
        let status = self.config.read(AER + ERR::ROOT_STATUS, 4);
        let (received, multiple, source) = match severity {
            Severity::Correctable => (ERR::ROOT_COR_RCV, ERR::ROOT_MULTI_COR_RCV, ERR::ROOT_COR_SRC),
            _ => (ERR::ROOT_UNCOR_RCV, ERR::ROOT_MULTI_UNCOR_RCV, ERR::ROOT_UNCOR_SRC),
        };
        let first = status & received == 0;
        let kind = match severity {
            Severity::Correctable => 0,
            Severity::NonFatal => ERR::ROOT_NONFATAL_RCV,
            Severity::Fatal if first => ERR::ROOT_FATAL_RCV | ERR::ROOT_FIRST_FATAL,
            Severity::Fatal => ERR::ROOT_FATAL_RCV,
        };
        let status = status | kind | if first { received } else { multiple };
        self.config.store(AER + ERR::ROOT_STATUS, 4, u64::from(status));
        if first {
            self.config.store(AER + source, 2, u64::from(requester));
        }
    }

    /// Something makes the port contain an error now, as its own Software Trigger would. Not if it has no DPC, the guest has
    /// not turned that on, or it does so already.
    pub fn trigger_containment(&mut self, ctx: &mut Ctx<'_>) {
        if self.config.read(CONTAINMENT + DPC::CTL, 2) & DPC::CTL_EN_MASK != 0 {
            self.contain(ctx, Reason::Software, 0);
            self.update_interrupt(ctx);
        }
    }

    fn contain(&mut self, ctx: &mut Ctx<'_>, reason: Reason, requester: u32) {
        let status = self.config.read(CONTAINMENT + DPC::STATUS, 2);
        if status & DPC::STATUS_TRIGGER != 0 {
            return;
        }
        let status = status & !(DPC::STATUS_TRIGGER_RSN | DPC::STATUS_TRIGGER_RSN_EXT)
            | DPC::STATUS_TRIGGER
            | DPC::STATUS_INTERRUPT
            | reason.bits();
        self.config.store(CONTAINMENT + DPC::STATUS, 2, u64::from(status));
        if matches!(reason, Reason::NonFatalReceived | Reason::FatalReceived) {
            self.config.store(CONTAINMENT + DPC::SOURCE_ID, 2, u64::from(requester));
        }
        ctx.event(Event::Contained);
        if self.slot.set_contained(ctx, true) {
            self.latch(ctx, EXP::SLTSTA_DLLSC);
        }
    }

    /// The guest wrote configuration space: it may have triggered containment, or let the link go.
    pub(super) fn containment_written(&mut self, ctx: &mut Ctx<'_>) {
        let control = self.config.read(CONTAINMENT + DPC::CTL, 2);
        if control & DPC::CTL_SW_TRIGGER != 0 {
            self.config.store(CONTAINMENT + DPC::CTL, 2, u64::from(control & !DPC::CTL_SW_TRIGGER));
            self.trigger_containment(ctx);
        }
        let held = self.config.read(CONTAINMENT + DPC::STATUS, 2) & DPC::STATUS_TRIGGER != 0;
        if !held && self.slot.set_contained(ctx, false) {
            self.latch(ctx, EXP::SLTSTA_DLLSC);
        }
    }
}
