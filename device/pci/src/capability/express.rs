//! The PCI Express capability (PCIe 7.5.3) and the extended capabilities of a link: LTR, L1 PM substates.

use crate::config::ConfigSpace;
use crate::port::Equipment;
use crate::register::Register;

const SOURCE: &str = "PCIe 7.5.3";
const LTR: &str = "PCIe 7.8.2";
const L1SS: &str = "PCIe 7.8.3";
const DSN: &str = "PCIe 7.9.3";

/// Offsets in the PCI Express capability, and the bits a model acts on.
pub struct EXP;

#[allow(missing_docs)] // Names of pci_regs.h.
impl EXP {
    pub const DEVCAP: u16 = 0x4;
    pub const DEVCTL: u16 = 0x8;
    pub const DEVSTA: u16 = 0xa;
    pub const LNKCTL: u16 = 0x10;
    pub const LNKSTA: u16 = 0x12;
    pub const SLTCTL: u16 = 0x18;
    pub const SLTSTA: u16 = 0x1a;
    pub const RTCTL: u16 = 0x1c;
    pub const RTSTA: u16 = 0x20;
    pub const DEVCTL_CERE: u32 = 1 << 0;
    pub const DEVCTL_NFERE: u32 = 1 << 1;
    pub const DEVCTL_FERE: u32 = 1 << 2;
    pub const DEVSTA_CED: u32 = 1 << 0;
    pub const DEVSTA_NFED: u32 = 1 << 1;
    pub const DEVSTA_FED: u32 = 1 << 2;
    pub const DEVSTA_URD: u32 = 1 << 3;
    pub const LNKCTL_LD: u32 = 1 << 4;
    pub const LNKSTA_LT: u32 = 1 << 11;
    pub const LNKSTA_DLLLA: u32 = 1 << 13;
    pub const LNKSTA_SLC: u32 = 1 << 12;
    pub const SLTCAP_ABP: u32 = 1 << 0;
    pub const SLTCAP_PCP: u32 = 1 << 1;
    pub const SLTCAP_MRLSP: u32 = 1 << 2;
    pub const SLTCAP_AIP: u32 = 1 << 3;
    pub const SLTCAP_PIP: u32 = 1 << 4;
    pub const SLTCAP_HPS: u32 = 1 << 5;
    pub const SLTCAP_HPC: u32 = 1 << 6;
    pub const SLTCAP_NCCS: u32 = 1 << 18;
    pub const SLTSTA_ABP: u32 = 1 << 0;
    pub const SLTSTA_PFD: u32 = 1 << 1;
    pub const SLTSTA_MRLSC: u32 = 1 << 2;
    pub const SLTSTA_PDC: u32 = 1 << 3;
    pub const SLTSTA_CC: u32 = 1 << 4;
    pub const SLTSTA_MRLSS: u32 = 1 << 5;
    pub const SLTSTA_PDS: u32 = 1 << 6;
    pub const SLTSTA_DLLSC: u32 = 1 << 8;
    pub const SLTCTL_ABPE: u32 = 1 << 0;
    pub const SLTCTL_PFDE: u32 = 1 << 1;
    pub const SLTCTL_MRLSCE: u32 = 1 << 2;
    pub const SLTCTL_PDCE: u32 = 1 << 3;
    pub const SLTCTL_CCIE: u32 = 1 << 4;
    pub const SLTCTL_HPIE: u32 = 1 << 5;
    pub const SLTCTL_AIC: u32 = 3 << 6;
    pub const SLTCTL_PIC: u32 = 3 << 8;
    /// Power Controller Control: set is off.
    pub const SLTCTL_PCC: u32 = 1 << 10;
    pub const SLTCTL_DLLSCE: u32 = 1 << 12;
    pub const SLTCTL_IBPD_DISABLE: u32 = 1 << 14;
    pub const SLTCAP2_IBPD: u32 = 1 << 0;
    pub const RTCTL_PMEIE: u32 = 1 << 3;
    /// PME Requester ID.
    pub const RTSTA_REQUESTER: u32 = 0xffff;
    pub const RTSTA_PME: u32 = 1 << 16;
    pub const RTSTA_PENDING: u32 = 1 << 17;
}

/// What a link can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Speed code: 1 is 2.5 GT/s, 2 is 5, 3 is 8, 4 is 16 (PCIe 7.5.3.6).
    pub speed: u8,
    /// Lanes.
    pub width: u8,
}

/// DEVCTL after reset: relaxed ordering, no snoop, 512 byte read requests.
const DEVCTL_RESET: u64 = 0x2810;
/// Error reporting, relaxed ordering, payload, extended tag, phantom, aux, no snoop, read request.
const DEVCTL_WRITABLE: u64 = 0x7fff;
/// DEVCTL: initiate function level reset.
const DEVCTL_BCR_FLR: u32 = 1 << 15;
const DEVCAP_FLR: u64 = 1 << 28;
/// Role-based error reporting.
const DEVCAP_RBER: u64 = 1 << 15;
const DEVCAP2_LTR: u64 = 1 << 11;
/// Completion time-out disable supported.
const DEVCAP2_CTO_DISABLE: u64 = 1 << 4;
/// Completion time-out value and disable, LTR enable.
const DEVCTL2_WRITABLE: u64 = 0x041f;
const LNKCAP_ASPM_L0S_L1: u64 = 0b11 << 10;
const LNKCAP_CLKPM: u64 = 1 << 18;
const LNKCAP_DLLLARC: u64 = 1 << 20;
/// ASPM optionality compliance.
const LNKCAP_AOC: u64 = 1 << 22;

impl Link {
    fn lnkcap(self) -> u64 {
        u64::from(self.speed) | u64::from(self.width) << 4 | LNKCAP_ASPM_L0S_L1 | LNKCAP_AOC
    }

    /// What two ends that can do `self` and `other` train to.
    #[must_use]
    pub fn trained_with(self, other: Self) -> Self {
        Self { speed: self.speed.min(other.speed), width: self.width.min(other.width) }
    }

    /// LNKSTA of a link that is up, without DLLLA.
    #[must_use]
    pub fn lnksta(self) -> u32 {
        u32::from(self.speed) | u32::from(self.width) << 4 | EXP::LNKSTA_SLC
    }

    /// LNKCAP2: every speed up to the highest.
    fn lnkcap2(self) -> u64 {
        ((1u64 << self.speed) - 1) << 1
    }
}

/// What an endpoint's capability and a root port's have in common; they differ in type, link capabilities and the bits
/// of LNKCTL.
fn link_rows(link: Link, flags: u64, lnkcap: u64, lnkctl_writable: u64) -> Vec<Register> {
    vec![
        Register::new("FLAGS", 0x2, 2, flags, SOURCE),
        Register::new("DEVCAP", 0x4, 4, DEVCAP_RBER, SOURCE),
        Register::new("DEVCTL", 0x8, 2, DEVCTL_RESET, SOURCE).rw(DEVCTL_WRITABLE),
        Register::new("DEVSTA", 0xa, 2, 0, SOURCE).w1c(0x000f),
        Register::new("LNKCAP", 0xc, 4, link.lnkcap() | lnkcap, SOURCE),
        Register::new("LNKCTL", 0x10, 2, 0, SOURCE).rw(lnkctl_writable),
        Register::new("DEVCAP2", 0x24, 4, DEVCAP2_LTR | DEVCAP2_CTO_DISABLE, SOURCE),
        Register::new("DEVCTL2", 0x28, 2, 0, SOURCE).rw(DEVCTL2_WRITABLE),
        Register::new("DEVSTA2", 0x2a, 2, 0, SOURCE),
        Register::new("LNKCAP2", 0x2c, 4, link.lnkcap2(), SOURCE),
        Register::new("LNKCTL2", 0x30, 2, u64::from(link.speed), SOURCE).rw(0xffff),
        Register::new("LNKSTA2", 0x32, 2, 0, SOURCE),
    ]
}

/// A PCI Express endpoint (version 2), LTR and clock power management supported.
pub fn express_endpoint(config: &mut ConfigSpace, at: u16, link: Link) {
    const ENDPOINT: u64 = 0x0002;
    // ASPM, read completion boundary, common clock, extended synch, clock power management, autonomous width.
    const LNKCTL_WRITABLE: u64 = 0x03cb;
    let mut rows = link_rows(link, ENDPOINT, LNKCAP_CLKPM, LNKCTL_WRITABLE);
    rows.push(Register::new("LNKSTA", 0x12, 2, u64::from(link.lnksta()), SOURCE));
    config.add_capability(at, 0x10, "EXP_CAP", &rows);
    config.express = Some(at);
    config.link = Some(link);
}

/// Adds function level reset (PCIe 6.6.2) to the capability of an endpoint at `at`. The function looks at every write with
/// [`function_level_reset_asked`], and resets itself.
pub fn function_level_reset(config: &mut ConfigSpace, at: u16) {
    config.change_row(at + EXP::DEVCAP, |row| Register { reset: row.reset | DEVCAP_FLR, ..row });
    config.change_row(at + EXP::DEVCTL, |row| row.rw(DEVCTL_WRITABLE | u64::from(DEVCTL_BCR_FLR)));
}

/// Whether a guest has written 1 to Initiate Function Level Reset of the capability at `at`. The bit reads as zero once the
/// reset is done: all of configuration space has its reset value then.
#[must_use]
pub fn function_level_reset_asked(config: &ConfigSpace, at: u16) -> bool {
    config.read(at + EXP::DEVCTL, 2) & DEVCTL_BCR_FLR != 0
}

/// A root port (version 2) with a hot-plug slot of this physical number. The slot is capable of surprise removal, and of
/// what `equipment` says.
pub fn express_root_port(config: &mut ConfigSpace, at: u16, link: Link, slot: u16, equipment: Equipment) {
    const ROOT_PORT_WITH_SLOT: u64 = 0x0142;
    // As an endpoint's, and Link Disable. Retrain Link (bit 5) always reads as zero.
    const LNKCTL_WRITABLE: u64 = 0x03db;
    // Every event's enable bit.
    const ENABLES: u32 = EXP::SLTCTL_ABPE
        | EXP::SLTCTL_PFDE
        | EXP::SLTCTL_MRLSCE
        | EXP::SLTCTL_PDCE
        | EXP::SLTCTL_CCIE
        | EXP::SLTCTL_HPIE
        | EXP::SLTCTL_DLLSCE;
    const EVENTS: u32 = EXP::SLTSTA_ABP
        | EXP::SLTSTA_PFD
        | EXP::SLTSTA_MRLSC
        | EXP::SLTSTA_PDC
        | EXP::SLTSTA_CC
        | EXP::SLTSTA_DLLSC;
    // The attention indicator is off, the power indicator on: there is a function in the slot.
    const INDICATORS_AT_RESET: u32 = 0b11 << 6 | 0b01 << 8;
    let Equipment { attention_button, indicators, mrl_sensor, power_controller, .. } = equipment;
    let bits = |pairs: &[(bool, u32)]| pairs.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
    let sltcap = EXP::SLTCAP_HPS
        | EXP::SLTCAP_HPC
        | bits(&[
            (attention_button, EXP::SLTCAP_ABP),
            (power_controller, EXP::SLTCAP_PCP),
            (mrl_sensor, EXP::SLTCAP_MRLSP),
            (indicators, EXP::SLTCAP_AIP | EXP::SLTCAP_PIP),
            (!equipment.command_completed, EXP::SLTCAP_NCCS),
        ])
        | u32::from(slot & 0x1fff) << 19;
    // The controls of what the slot does not have read as zero.
    let controls = bits(&[
        (indicators, EXP::SLTCTL_AIC | EXP::SLTCTL_PIC),
        (power_controller, EXP::SLTCTL_PCC),
        (equipment.in_band_presence_disable, EXP::SLTCTL_IBPD_DISABLE),
    ]);
    let sltctl = if indicators { INDICATORS_AT_RESET } else { 0 };
    let sltcap2 = bits(&[(equipment.in_band_presence_disable, EXP::SLTCAP2_IBPD)]);
    let mut rows = link_rows(link, ROOT_PORT_WITH_SLOT, LNKCAP_DLLLARC, LNKCTL_WRITABLE);
    rows.extend([
        // Bits 15:14 (link bandwidth) never come up; the rest is derived from the slot.
        Register::new("LNKSTA", 0x12, 2, 0, SOURCE).w1c(0xc000),
        Register::new("SLTCAP", 0x14, 4, u64::from(sltcap), SOURCE),
        Register::new("SLTCTL", 0x18, 2, u64::from(sltctl), SOURCE).rw(u64::from(ENABLES | controls)),
        Register::new("SLTSTA", 0x1a, 2, 0, SOURCE).w1c(u64::from(EVENTS)),
        Register::new("RTCTL", 0x1c, 2, 0, SOURCE).rw(0x001f),
        Register::new("RTCAP", 0x1e, 2, 0, SOURCE),
        // Requester ID and Pending are the port's.
        Register::new("RTSTA", 0x20, 4, 0, SOURCE).w1c(EXP::RTSTA_PME as u64),
        Register::new("SLTCAP2", 0x34, 4, u64::from(sltcap2), SOURCE),
        Register::new("SLTCTL2", 0x38, 2, 0, SOURCE),
        Register::new("SLTSTA2", 0x3a, 2, 0, SOURCE),
    ]);
    config.add_capability(at, 0x10, "EXP_CAP", &rows);
    config.express = Some(at);
}

/// Latency Tolerance Reporting.
pub fn ltr(config: &mut ConfigSpace, at: u16) {
    config.add_extended(
        at,
        0x0018,
        1,
        "LTR_CAP",
        &[
            Register::new("LTR_MAX_SNOOP_LAT", 0x4, 2, 0, LTR).rw(0x1fff),
            Register::new("LTR_MAX_NOSNOOP_LAT", 0x6, 2, 0, LTR).rw(0x1fff),
        ],
    );
}

/// L1 PM substates: PCI-PM and ASPM L1.1 and L1.2.
pub fn l1_substates(config: &mut ConfigSpace, at: u16) {
    // All four supported; common mode restore 60 us, power on 2 us x 20 (the values a guest computes with).
    const CAPABLE: u64 = 0x1f | 60 << 8 | 20 << 19;
    config.add_extended(
        at,
        0x001e,
        1,
        "L1SS_CAP_HEADER",
        &[
            Register::new("L1SS_CAP", 0x4, 4, CAPABLE, L1SS),
            Register::new("L1SS_CTL1", 0x8, 4, 0, L1SS).rw(0xe3ff_ff0f),
            Register::new("L1SS_CTL2", 0xc, 4, 0x28, L1SS).rw(0xfb),
        ],
    );
}

/// Device Serial Number.
pub fn device_serial_number(config: &mut ConfigSpace, at: u16, serial: u64) {
    config.add_extended(at, 0x0003, 1, "DSN_CAP", &[Register::new("DSN_SERIAL", 0x4, 8, serial, DSN)]);
}
