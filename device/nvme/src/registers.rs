//! The controller's registers (3.1) and doorbells, as rows; what they do is in [`Nvme`](crate::Nvme).

use sdmorph_pci::Register;

/// Bytes of BAR 0: registers, doorbells, the MSI-X table and its pending bits, a page each.
pub const BAR_BYTES: u64 = 0x4000;
/// Offset of the MSI-X table in BAR 0.
pub const MSIX_TABLE: u32 = 0x2000;
/// Offset of the MSI-X pending bit array in BAR 0.
pub const MSIX_PENDING: u32 = 0x3000;
/// Offset of the first doorbell (3.1.24). CAP.DSTRD is 0: 4 bytes apart.
pub const DOORBELLS: u32 = 0x1000;

/// Most I/O queue pairs.
pub const MAX_IO_QUEUES: u16 = 16;
/// Most entries of an I/O queue: CAP.MQES + 1.
pub const MAX_QUEUE_ENTRIES: u32 = 1024;

/// CAP: controller capabilities.
pub const CAP: u32 = 0x00;
/// VS: version.
pub const VS: u32 = 0x08;
/// INTMS: interrupt mask set.
pub const INTMS: u32 = 0x0c;
/// INTMC: interrupt mask clear.
pub const INTMC: u32 = 0x10;
/// CC: controller configuration.
pub const CC: u32 = 0x14;
/// CSTS: controller status.
pub const CSTS: u32 = 0x1c;
/// NSSR: NVM subsystem reset.
pub const NSSR: u32 = 0x20;
/// AQA: admin queue attributes.
pub const AQA: u32 = 0x24;
/// ASQ: admin submission queue base address.
pub const ASQ: u32 = 0x28;
/// ACQ: admin completion queue base address.
pub const ACQ: u32 = 0x30;

/// Version 1.4.0.
pub const VERSION: u32 = 0x0001_0400;

/// Fields of CAP (3.1.1).
pub mod cap {
    use super::MAX_QUEUE_ENTRIES;

    /// MPSMAX: memory pages of up to 2^(12 + 4) bytes, 64 KiB.
    pub const MPSMAX: u64 = 4;
    /// TO, in units of 500 ms: the longest that CSTS.RDY may take to follow CC.EN. It takes as long as the medium needs to
    /// end what is under way.
    pub const TIMEOUT: u64 = 30;
    /// CQR: queues are physically contiguous.
    const CQR: u64 = 1 << 16;
    /// CSS bit 37: the NVM command set.
    const CSS_NVM: u64 = 1 << 37;

    /// The whole register. MPSMIN, DSTRD, AMS, NSSRS, BPS, PMRS and CMBS are 0.
    pub const VALUE: u64 = (MAX_QUEUE_ENTRIES as u64 - 1) | CQR | TIMEOUT << 24 | CSS_NVM | MPSMAX << 52;
}

/// Fields of CC (3.1.5).
pub mod cc {
    /// EN.
    pub const ENABLE: u32 = 1;
    /// EN, CSS, MPS, AMS, SHN, IOSQES, IOCQES.
    pub const WRITABLE: u32 = 0x00ff_fff1;

    /// CSS, the command set.
    #[must_use]
    pub const fn command_set(cc: u32) -> u32 {
        cc >> 4 & 7
    }

    /// MPS: memory pages have 2^(12 + this) bytes.
    #[must_use]
    pub const fn page_size(cc: u32) -> u32 {
        cc >> 7 & 0xf
    }

    /// AMS, the arbitration mechanism.
    #[must_use]
    pub const fn arbitration(cc: u32) -> u32 {
        cc >> 11 & 7
    }

    /// SHN: 0 none, 1 normal, 2 abrupt shutdown.
    #[must_use]
    pub const fn shutdown(cc: u32) -> u32 {
        cc >> 14 & 3
    }

    /// IOSQES: entries of I/O submission queues have 2^this bytes.
    #[must_use]
    pub const fn submission_entry(cc: u32) -> u32 {
        cc >> 16 & 0xf
    }

    /// IOCQES: likewise for completion queues.
    #[must_use]
    pub const fn completion_entry(cc: u32) -> u32 {
        cc >> 20 & 0xf
    }
}

/// Fields of CSTS (3.1.6).
pub mod csts {
    /// RDY.
    pub const READY: u32 = 1;
    /// CFS: controller fatal status.
    pub const FATAL: u32 = 1 << 1;
    /// SHST: nothing, under way, complete.
    pub const SHUTDOWN_MASK: u32 = 3 << 2;
    /// SHST: shutdown is under way.
    pub const SHUTDOWN_RUNS: u32 = 1 << 2;
    /// SHST: shutdown is complete.
    pub const SHUTDOWN_COMPLETE: u32 = 2 << 2;
}

/// Rows of BAR 0 but for the MSI-X table and its pending bits. Optional registers that the capabilities deny are there
/// and read as zero: drivers and tools read them before they ask.
#[rustfmt::skip]
pub const REGISTERS: &[Register] = &[
    Register::new("CAP",      CAP,   8, cap::VALUE,         "NVMe 1.4, 3.1.1"),
    Register::new("VS",       VS,    4, VERSION as u64,     "NVMe 1.4, 3.1.2"),
    // Writing 1 sets and clears bits of the same mask, which both read as.
    Register::new("INTMS",    INTMS, 4, 0,                  "NVMe 1.4, 3.1.3"),
    Register::new("INTMC",    INTMC, 4, 0,                  "NVMe 1.4, 3.1.4"),
    Register::new("CC",       CC,    4, 0,                  "NVMe 1.4, 3.1.5").rw(cc::WRITABLE as u64),
    Register::new("CSTS",     CSTS,  4, 0,                  "NVMe 1.4, 3.1.6"),
    Register::new("NSSR",     NSSR,  4, 0,                  "NVMe 1.4, 3.1.7"),
    Register::new("AQA",      AQA,   4, 0,                  "NVMe 1.4, 3.1.8").rw(0x0fff_0fff),
    Register::new("ASQ",      ASQ,   8, 0,                  "NVMe 1.4, 3.1.9").rw(!0xfff),
    Register::new("ACQ",      ACQ,   8, 0,                  "NVMe 1.4, 3.1.10").rw(!0xfff),
    Register::new("CMBLOC",   0x38,  4, 0,                  "NVMe 1.4, 3.1.11"),
    Register::new("CMBSZ",    0x3c,  4, 0,                  "NVMe 1.4, 3.1.12"),
    Register::new("BPINFO",   0x40,  4, 0,                  "NVMe 1.4, 3.1.13"),
    Register::new("BPRSEL",   0x44,  4, 0,                  "NVMe 1.4, 3.1.14"),
    Register::new("BPMBL",    0x48,  8, 0,                  "NVMe 1.4, 3.1.15"),
    Register::new("CMBMSC",   0x50,  8, 0,                  "NVMe 1.4, 3.1.16"),
    Register::new("CMBSTS",   0x58,  4, 0,                  "NVMe 1.4, 3.1.17"),
    // Of later versions, which nvme-cli shows whatever VS says.
    Register::new("CMBEBS",   0x5c,  4, 0,                  "NVMe 2.0, 3.1.3.18"),
    Register::new("CMBSWTP",  0x60,  4, 0,                  "NVMe 2.0, 3.1.3.19"),
    Register::new("NSSD",     0x64,  4, 0,                  "NVMe 2.0, 3.1.3.20"),
    Register::new("CRTO",     0x68,  4, 0,                  "NVMe 2.0, 3.1.3.21"),
    Register::new("PMRCAP",   0xe00, 4, 0,                  "NVMe 1.4, 3.1.18"),
    Register::new("PMRCTL",   0xe04, 4, 0,                  "NVMe 1.4, 3.1.19"),
    Register::new("PMRSTS",   0xe08, 4, 0,                  "NVMe 1.4, 3.1.20"),
    Register::new("PMREBS",   0xe0c, 4, 0,                  "NVMe 1.4, 3.1.21"),
    Register::new("PMRSWTP",  0xe10, 4, 0,                  "NVMe 1.4, 3.1.22"),
    Register::new("PMRMSCL",  0xe14, 4, 0,                  "NVMe 1.4, 3.1.23"),
    Register::new("PMRMSCU",  0xe18, 4, 0,                  "NVMe 1.4, 3.1.23"),
    doorbell("SQ0TDBL",  0),  doorbell("CQ0HDBL",  1),  doorbell("SQ1TDBL",  2),  doorbell("CQ1HDBL",  3),
    doorbell("SQ2TDBL",  4),  doorbell("CQ2HDBL",  5),  doorbell("SQ3TDBL",  6),  doorbell("CQ3HDBL",  7),
    doorbell("SQ4TDBL",  8),  doorbell("CQ4HDBL",  9),  doorbell("SQ5TDBL",  10), doorbell("CQ5HDBL",  11),
    doorbell("SQ6TDBL",  12), doorbell("CQ6HDBL",  13), doorbell("SQ7TDBL",  14), doorbell("CQ7HDBL",  15),
    doorbell("SQ8TDBL",  16), doorbell("CQ8HDBL",  17), doorbell("SQ9TDBL",  18), doorbell("CQ9HDBL",  19),
    doorbell("SQ10TDBL", 20), doorbell("CQ10HDBL", 21), doorbell("SQ11TDBL", 22), doorbell("CQ11HDBL", 23),
    doorbell("SQ12TDBL", 24), doorbell("CQ12HDBL", 25), doorbell("SQ13TDBL", 26), doorbell("CQ13HDBL", 27),
    doorbell("SQ14TDBL", 28), doorbell("CQ14HDBL", 29), doorbell("SQ15TDBL", 30), doorbell("CQ15HDBL", 31),
    doorbell("SQ16TDBL", 32), doorbell("CQ16HDBL", 33),
];

/// A doorbell reads as zero and keeps nothing: what is written goes to its queue.
const fn doorbell(name: &'static str, index: u32) -> Register {
    Register::new(name, DOORBELLS + 4 * index, 4, 0, "NVMe 1.4, 3.1.24, 3.1.25")
}
