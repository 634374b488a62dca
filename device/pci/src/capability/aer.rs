//! Advanced Error Reporting (PCIe 7.8.4, 6.2) and Downstream Port Containment (7.9.14, 6.2.11): their registers, the
//! errors by name, and what a function does when it has detected one.

use serde::Serialize;

use super::EXP;
use crate::config::{ConfigSpace, command};
use crate::register::Register;

const SOURCE: &str = "PCIe 7.8.4";
const DPC_SOURCE: &str = "PCIe 7.9.14";

/// Offsets in the AER capability, and the bits a model acts on.
pub struct ERR;

#[allow(missing_docs)] // Names of pci_regs.h.
impl ERR {
    pub const UNCOR_STATUS: u16 = 0x04;
    pub const UNCOR_MASK: u16 = 0x08;
    pub const UNCOR_SEVER: u16 = 0x0c;
    pub const COR_STATUS: u16 = 0x10;
    pub const COR_MASK: u16 = 0x14;
    pub const CAP: u16 = 0x18;
    /// First Error Pointer.
    pub const CAP_FEP: u32 = 0x1f;
    pub const ROOT_COMMAND: u16 = 0x2c;
    pub const ROOT_CMD_COR_EN: u32 = 1 << 0;
    pub const ROOT_CMD_NONFATAL_EN: u32 = 1 << 1;
    pub const ROOT_CMD_FATAL_EN: u32 = 1 << 2;
    pub const ROOT_STATUS: u16 = 0x30;
    pub const ROOT_COR_RCV: u32 = 1 << 0;
    pub const ROOT_MULTI_COR_RCV: u32 = 1 << 1;
    pub const ROOT_UNCOR_RCV: u32 = 1 << 2;
    pub const ROOT_MULTI_UNCOR_RCV: u32 = 1 << 3;
    pub const ROOT_FIRST_FATAL: u32 = 1 << 4;
    pub const ROOT_NONFATAL_RCV: u32 = 1 << 5;
    pub const ROOT_FATAL_RCV: u32 = 1 << 6;
    pub const ROOT_COR_SRC: u16 = 0x34;
    pub const ROOT_UNCOR_SRC: u16 = 0x36;
}

/// Offsets in the DPC capability, and the bits a model acts on.
pub struct DPC;

#[allow(missing_docs)] // Names of pci_regs.h.
impl DPC {
    pub const CTL: u16 = 0x6;
    pub const CTL_EN_FATAL: u32 = 1 << 0;
    pub const CTL_EN_NONFATAL: u32 = 1 << 1;
    pub const CTL_EN_MASK: u32 = 3;
    pub const CTL_INT_EN: u32 = 1 << 3;
    /// Software Trigger: reads as zero.
    pub const CTL_SW_TRIGGER: u32 = 1 << 6;
    pub const STATUS: u16 = 0x8;
    pub const STATUS_TRIGGER: u32 = 1 << 0;
    pub const STATUS_TRIGGER_RSN: u32 = 3 << 1;
    pub const STATUS_INTERRUPT: u32 = 1 << 3;
    pub const STATUS_TRIGGER_RSN_EXT: u32 = 3 << 5;
    pub const SOURCE_ID: u16 = 0xa;
}

/// An error that a function can detect (PCIe 6.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AerError {
    /// As aer-inject and QEMU's `pcie_aer_inject_error` call it.
    pub name: &'static str,
    /// Whether its bit is one of the correctable errors' registers, or of the uncorrectable ones'.
    pub correctable: bool,
    /// The number of its bit.
    pub bit: u8,
}

const fn uncorrectable(name: &'static str, bit: u8) -> AerError {
    AerError { name, correctable: false, bit }
}

const fn correctable(name: &'static str, bit: u8) -> AerError {
    AerError { name, correctable: true, bit }
}

impl AerError {
    /// All that there are. `TRAIN` is that of PCIe 1.0a, whose bit has been undefined since.
    pub const ALL: &'static [AerError] = &[
        uncorrectable("TRAIN", 0),
        uncorrectable("DLP", 4),
        uncorrectable("SDN", 5),
        uncorrectable("POISON_TLP", 12),
        uncorrectable("FCP", 13),
        uncorrectable("COMP_TIME", 14),
        uncorrectable("COMP_ABORT", 15),
        uncorrectable("UNX_COMP", 16),
        uncorrectable("RX_OVER", 17),
        uncorrectable("MALF_TLP", 18),
        uncorrectable("ECRC", 19),
        uncorrectable("UNSUP", 20),
        uncorrectable("ACSV", 21),
        uncorrectable("INTN", 22),
        uncorrectable("MCBTLP", 23),
        uncorrectable("ATOP_EBLOCKED", 24),
        uncorrectable("TLP_PRF_BLOCKED", 25),
        correctable("RCVR", 0),
        correctable("BAD_TLP", 6),
        correctable("BAD_DLLP", 7),
        correctable("REP_ROLL", 8),
        correctable("REP_TIMER", 12),
        correctable("ADV_NONFATAL", 13),
        correctable("INTERNAL", 14),
        correctable("HL_OVERFLOW", 15),
    ];

    /// The error of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|error| error.name == name)
    }

    /// Unsupported Request, which DEVSTA has a bit for.
    const UNSUPPORTED_REQUEST: u8 = 20;
}

/// The message that tells the root port of an error (PCIe 2.2.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// ERR_COR.
    Correctable,
    /// ERR_NONFATAL.
    NonFatal,
    /// ERR_FATAL.
    Fatal,
}

const UNCORRECTABLE: u64 = 0x07ff_f030;
const CORRECTABLE: u64 = 0x0000_f1c1;
/// The bit of `TRAIN`: it can be seen and cleared, and is neither masked nor fatal.
const TRAIN: u64 = 1 << 0;

fn rows() -> Vec<Register> {
    vec![
        Register::new("ERR_UNCOR_STATUS", 0x04, 4, 0, SOURCE).w1c(UNCORRECTABLE | TRAIN),
        Register::new("ERR_UNCOR_MASK", 0x08, 4, 0, SOURCE).rw(UNCORRECTABLE),
        Register::new("ERR_UNCOR_SEVER", 0x0c, 4, 0x0046_2030, SOURCE).rw(UNCORRECTABLE),
        Register::new("ERR_COR_STATUS", 0x10, 4, 0, SOURCE).w1c(CORRECTABLE),
        Register::new("ERR_COR_MASK", 0x14, 4, 0x2000, SOURCE).rw(CORRECTABLE),
        // The First Error Pointer is the function's.
        Register::new("ERR_CAP", 0x18, 4, 0, SOURCE),
        Register::new("ERR_HEADER_LOG", 0x1c, 8, 0, SOURCE),
        Register::new("ERR_HEADER_LOG_8", 0x24, 8, 0, SOURCE),
    ]
}

/// Advanced Error Reporting of an endpoint. Errors are those that [`detect`] is told of; no header is logged.
pub fn aer(config: &mut ConfigSpace, at: u16) {
    config.add_extended(at, 0x0001, 2, "ERR_CAP_HEADER", &rows());
    config.aer = Some(at);
}

/// Advanced Error Reporting of a root port, which receives error messages.
pub fn aer_root_port(config: &mut ConfigSpace, at: u16) {
    let mut rows = rows();
    rows.extend([
        Register::new("ERR_ROOT_COMMAND", 0x2c, 4, 0, SOURCE).rw(0x7),
        // Interrupt message number 0 in bits 31:27.
        Register::new("ERR_ROOT_STATUS", 0x30, 4, 0, SOURCE).w1c(0x7f),
        // The correctable error's source below, the uncorrectable one's above.
        Register::new("ERR_ROOT_ERR_SRC", 0x34, 4, 0, SOURCE),
    ]);
    config.add_extended(at, 0x0001, 2, "ERR_CAP_HEADER", &rows);
    config.aer = Some(at);
}

/// Downstream Port Containment of a root port: a trigger by error message or software, no RP extensions.
pub fn dpc(config: &mut ConfigSpace, at: u16) {
    const SOFTWARE_TRIGGER: u64 = 1 << 7;
    config.add_extended(
        at,
        0x001d,
        1,
        "DPC_CAP_HEADER",
        &[
            Register::new("DPC_CAP", 0x4, 2, SOFTWARE_TRIGGER, DPC_SOURCE),
            // Trigger enable, completion control, interrupt enable, ERR_COR enable. Software Trigger reads as zero.
            Register::new("DPC_CTL", 0x6, 2, 0, DPC_SOURCE).rw(0x005f),
            Register::new("DPC_STATUS", 0x8, 2, 0, DPC_SOURCE)
                .w1c(u64::from(DPC::STATUS_TRIGGER | DPC::STATUS_INTERRUPT)),
            Register::new("DPC_SOURCE_ID", 0xa, 2, 0, DPC_SOURCE),
        ],
    );
}

/// A function has detected `error`: its status registers say so from now on. Returns the message that it sends, unless a
/// mask or the Device Control register keeps it from that (PCIe 6.2.5). A function without AER does not notice.
///
/// An advisory non-fatal error (6.2.3.2.4) is not told apart from another uncorrectable one.
pub fn detect(config: &mut ConfigSpace, error: &AerError) -> Option<Severity> {
    let (express, aer) = (config.express?, config.aer?);
    let bit = 1u32 << (error.bit & 31);
    let raise = |config: &mut ConfigSpace, at: u16, size: u8, bits: u32| {
        let value = config.read(at, size) | bits;
        config.store(at, size, u64::from(value));
    };
    let (status, mask) = if error.correctable {
        (ERR::COR_STATUS, ERR::COR_MASK)
    } else {
        (ERR::UNCOR_STATUS, ERR::UNCOR_MASK)
    };
    let severity = match (error.correctable, config.read(aer + ERR::UNCOR_SEVER, 4) & bit != 0) {
        (true, _) => Severity::Correctable,
        (false, false) => Severity::NonFatal,
        (false, true) => Severity::Fatal,
    };
    let (detected, enable) = match severity {
        Severity::Correctable => (EXP::DEVSTA_CED, EXP::DEVCTL_CERE),
        Severity::NonFatal => (EXP::DEVSTA_NFED, EXP::DEVCTL_NFERE),
        Severity::Fatal => (EXP::DEVSTA_FED, EXP::DEVCTL_FERE),
    };
    let unsupported = !error.correctable && error.bit == AerError::UNSUPPORTED_REQUEST;
    raise(config, express + EXP::DEVSTA, 2, detected | if unsupported { EXP::DEVSTA_URD } else { 0 });
    let masked = config.read(aer + mask, 4);
    let earlier = config.read(aer + status, 4);
    raise(config, aer + status, 4, bit);
    if masked & bit != 0 {
        return None;
    }
    if !error.correctable && earlier & !masked == 0 {
        let pointer = config.read(aer + ERR::CAP, 4) & !ERR::CAP_FEP | u32::from(error.bit);
        config.store(aer + ERR::CAP, 4, u64::from(pointer));
    }
    let by_serr = !error.correctable && config.command() & command::SERR != 0;
    let enabled = config.read(express + EXP::DEVCTL, 2) & enable != 0;
    (enabled || by_serr).then_some(severity)
}
