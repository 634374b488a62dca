//! The internal registers: one byte each, at 0xc000 to 0xffff, reached through HAIMR and command lists.
//!
//! Here are those that all chips have; what a chip has beside them is in its module of [`crate::model`]. Together they are
//! every register that the driver's paths for the chip reach, and those that `rtsx_pci.h` names for the blocks which
//! this reader has (it has no Memory Stick and no xD slot, so their blocks are left out).
//!
//! What is known of a register is what the driver does with it. So a bit is writable unless it is known to be status or
//! to clear itself, and resets to zero unless the driver's use says otherwise. Where two names share an address, the row
//! has the name that the chip's code uses, and the other is in a comment.

use sdmorph_pci::Register;

/// Lowest address; HAIMR and command lists carry the 14 bits above it.
pub const BASE: u32 = 0xc000;
/// The address bits that HAIMR and command lists carry.
pub const ADDRESS_MASK: u32 = 0x3fff;

/// Names `rtsx_pci.h` gives.
pub(crate) const PCI_H: &str = "include/linux/rtsx_pci.h";
/// Names `rtsx_pcr.h` gives.
pub(crate) const PCR_H: &str = "drivers/misc/cardreader/rtsx_pcr.h";
/// Addresses that code uses without giving a name.
const SDMMC_C: &str = "drivers/mmc/host/rtsx_pci_sdmmc.c";

/// Addresses that the model of every chip acts on.
#[allow(missing_docs)] // The rows below say what they are.
pub mod address {
    pub const PPBUF_BASE2: u32 = 0xfa00;
    pub const FPDCTL: u32 = 0xfc00;
    pub const SD_VPRX_CTL: u32 = 0xfc2b;
    pub const CARD_STOP: u32 = 0xfd54;
    pub const CARD_OE: u32 = 0xfd55;
    pub const CARD_DATA_SOURCE: u32 = 0xfd5b;
    pub const CARD_CLK_EN: u32 = 0xfd69;
    pub const REG_OCPCTL: u32 = 0xfd6a;
    pub const REG_OCPSTAT: u32 = 0xfd6e;
    pub const REG_CRC_DUMMY_0: u32 = 0xfd71;
    pub const SD_CFG1: u32 = 0xfda0;
    pub const SD_CFG2: u32 = 0xfda1;
    pub const SD_STAT1: u32 = 0xfda3;
    pub const SD_STAT2: u32 = 0xfda4;
    pub const SD_BUS_STAT: u32 = 0xfda5;
    pub const SD_PAD_CTL: u32 = 0xfda6;
    pub const SD_CMD0: u32 = 0xfda9;
    pub const SD_BYTE_CNT_L: u32 = 0xfdaf;
    pub const SD_BLOCK_CNT_L: u32 = 0xfdb1;
    pub const SD_TRANSFER: u32 = 0xfdb3;
    pub const SD_DATA_STATE: u32 = 0xfdb6;
    pub const IRQSTAT0: u32 = 0xfe21;
    pub const RTS524A_PME_FORCE_CTL: u32 = 0xff78;
    pub const RTS524A_AUTOLOAD_CFG1: u32 = 0xff7c;
    pub const RTS524A_PM_CTRL3: u32 = 0xff7e;
    pub const DMACTL: u32 = 0xfe2c;
    pub const PHYRWCTL: u32 = 0xfe3c;
    pub const PHYDATA0: u32 = 0xfe3d;
    pub const PHYDATA1: u32 = 0xfe3e;
    pub const PHYADDR: u32 = 0xfe3f;
    pub const PWR_GATE_CTRL: u32 = 0xfe75;
    pub const RTS5260_DMA_RST_CTL_0: u32 = 0xfebf;
    pub const RELINK_TIME_0: u32 = 0xff01;
    pub const RELINK_TIME_1: u32 = 0xff02;
    pub const PETXCFG: u32 = 0xff03;
}

pub(crate) const fn rw(name: &'static str, address: u32, source: &'static str) -> Register {
    Register::new(name, address, 1, 0, source).rw(0xff)
}

pub(crate) const fn row(
    name: &'static str,
    address: u32,
    reset: u8,
    writable: u8,
    source: &'static str,
) -> Register {
    Register::new(name, address, 1, reset as u64, source).rw(writable as u64)
}

const fn w1c(name: &'static str, address: u32, source: &'static str) -> Register {
    Register::new(name, address, 1, 0, source).w1c(0xff)
}

/// The row that tells the chip's revision (IC_VERSION_MASK).
pub(crate) const fn revision(revision: u8) -> Register {
    row("DUMMY_REG_RESET_0", 0xfe90, revision, 0xf0, PCI_H)
}

/// The rows of a chip: [`COMMON`] and its own, which are sorted as well, in one table of `N`.
pub(crate) const fn with_common<const N: usize>(own: &[Register]) -> [Register; N] {
    assert!(COMMON.len() + own.len() == N, "N is not the number of rows");
    let (mut common, mut own) = (COMMON, own);
    let mut table = [Register::new("", 0, 1, 0, ""); N];
    let mut left: &mut [Register] = &mut table;
    while let Some((slot, rest)) = left.split_first_mut() {
        left = rest;
        match (common.split_first(), own.split_first()) {
            (Some((first, rest)), None) => (*slot, common) = (*first, rest),
            (None, Some((first, rest))) => (*slot, own) = (*first, rest),
            (Some((first, rest)), Some((other, _))) if first.address < other.address => {
                (*slot, common) = (*first, rest);
            }
            (_, Some((first, rest))) => (*slot, own) = (*first, rest),
            (None, None) => {}
        }
    }
    table
}

/// The rows that all chips have, sorted by address.
#[rustfmt::skip]
pub const COMMON: &[Register] = &[
    // The first byte of the ping-pong buffer stands for all 512: the name in records and rules.
    rw("PPBUF_BASE2",                 address::PPBUF_BASE2, PCI_H),

    // Clocks, LED, EFUSE.
    rw("FPDCTL",                      0xfc00, PCI_H),
    rw("PDINFO",                      0xfc01, PCI_H),
    rw("CLK_CTL",                     0xfc02, PCI_H),
    rw("CLK_DIV",                     0xfc03, PCI_H),
    rw("CLK_SEL",                     0xfc04, PCI_H),
    rw("SSC_DIV_N_0",                 0xfc0f, PCI_H),
    rw("SSC_DIV_N_1",                 0xfc10, PCI_H),
    rw("SSC_CTL1",                    0xfc11, PCI_H),
    rw("SSC_CTL2",                    0xfc12, PCI_H),
    rw("SRCTL",                       0xfc13, PCI_H),
    // Bit 0, F_HIGH, resets to 1 (comment in rtsx_pci_init_hw).
    row("RCCTL",                      0xfc14, 0x01, 0xff, PCI_H),
    rw("FPGA_PULL_CTL",               0xfc1d, PCI_H),
    rw("OLT_LED_CTL",                 0xfc1e, PCI_H), // also LDO_CTL
    rw("GPIO_CTL",                    0xfc1f, PCI_H),
    rw("SD_VPCLK0_CTL",               0xfc2a, PCI_H), // also SD_VPTX_CTL
    rw("SD_VPCLK1_CTL",               address::SD_VPRX_CTL, PCI_H), // also SD_VPRX_CTL
    rw("CARD_CLK_SOURCE",             0xfc2e, PCI_H),
    // Card interface: power, pads, pull-ups, over-current.
    rw("CARD_CLK_SWITCH",             0xfd51, PCI_H), // also RTL8411B_PACKAGE_MODE
    rw("CARD_SHARE_MODE",             0xfd52, PCI_H),
    rw("CARD_DRIVE_SEL",              0xfd53, PCI_H),
    // Each bit stops a block or clears its errors, and clears itself.
    row("CARD_STOP",                  address::CARD_STOP, 0, 0, PCI_H),
    rw("CARD_OE",                     address::CARD_OE, PCI_H),
    rw("CARD_AUTO_BLINK",             0xfd56, PCI_H),
    rw("CARD_GPIO_DIR",               0xfd57, PCI_H),
    rw("CARD_GPIO",                   0xfd58, PCI_H),
    rw("SD30_CLK_DRIVE_SEL",          0xfd5a, PCI_H),
    rw("CARD_DATA_SOURCE",            address::CARD_DATA_SOURCE, PCI_H),
    rw("CARD_SELECT",                 0xfd5c, PCI_H),
    rw("SD30_CMD_DRIVE_SEL",          0xfd5e, PCI_H), // also SD30_DRIVE_SEL
    rw("SD30_DAT_DRIVE_SEL",          0xfd5f, PCI_H),
    rw("CARD_PULL_CTL1",              0xfd60, PCI_H),
    rw("CARD_PULL_CTL2",              0xfd61, PCI_H),
    rw("CARD_PULL_CTL3",              0xfd62, PCI_H),
    rw("CARD_PULL_CTL4",              0xfd63, PCI_H),
    rw("CARD_PULL_CTL5",              0xfd64, PCI_H),
    rw("CARD_PULL_CTL6",              0xfd65, PCI_H),
    rw("CARD_CLK_EN",                 address::CARD_CLK_EN, PCI_H),
    rw("REG_OCPCTL",                  address::REG_OCPCTL, PCI_H),
    rw("REG_OCPPARA1",                0xfd6b, PCI_H), // also SDIO_CTRL
    rw("REG_OCPGLITCH",               0xfd6c, PCI_H),
    rw("REG_OCPPARA2",                0xfd6d, PCI_H),
    // Status of the card's supply: SD_OC_NOW, SD_OC_EVER.
    row("REG_OCPSTAT",                address::REG_OCPSTAT, 0, 0, PCI_H),
    rw("REG_PRE_RW_MODE",             0xfd70, PCI_H),
    rw("REG_CRC_DUMMY_0",             address::REG_CRC_DUMMY_0, PCI_H),
    rw("CD_PAD_CTL",                  0xfd73, PCI_H),

    // SD host.
    rw("SD_CFG1",                     address::SD_CFG1, PCI_H),
    rw("SD_CFG2",                     address::SD_CFG2, PCI_H),
    rw("SD_CFG3",                     0xfda2, PCI_H),
    row("SD_STAT1",                   address::SD_STAT1, 0, 0, PCI_H),
    row("SD_STAT2",                   address::SD_STAT2, 0, 0, PCI_H),
    // Bits 4:0 are the levels of DAT3:0 and CMD, as the card or pull-ups leave them.
    row("SD_BUS_STAT",                address::SD_BUS_STAT, 0x1f, 0xe0, PCI_H),
    rw("SD_PAD_CTL",                  address::SD_PAD_CTL, PCI_H),
    rw("SD_SAMPLE_POINT_CTL",         0xfda7, PCI_H),
    rw("SD_PUSH_POINT_CTL",           0xfda8, PCI_H),
    rw("SD_CMD0",                     address::SD_CMD0, PCI_H),
    rw("SD_CMD1",                     0xfdaa, PCI_H),
    rw("SD_CMD2",                     0xfdab, PCI_H),
    rw("SD_CMD3",                     0xfdac, PCI_H),
    rw("SD_CMD4",                     0xfdad, PCI_H),
    rw("SD_CMD5",                     0xfdae, PCI_H),
    rw("SD_BYTE_CNT_L",               address::SD_BYTE_CNT_L, PCI_H),
    rw("SD_BYTE_CNT_H",               0xfdb0, PCI_H),
    rw("SD_BLOCK_CNT_L",              address::SD_BLOCK_CNT_L, PCI_H),
    rw("SD_BLOCK_CNT_H",              0xfdb2, PCI_H),
    // Bit 7 starts; bits 6:4 are END, IDLE and ERR; bits 3:0 are the mode.
    row("SD_TRANSFER",                address::SD_TRANSFER, 0x20, 0x0f, PCI_H),
    // Bit 7 of both: idle.
    row("SD_CMD_STATE",               0xfdb5, 0x80, 0, PCI_H),
    row("SD_DATA_STATE",              address::SD_DATA_STATE, 0x80, 0, PCI_H),
    rw("REG_SD_STOP_SDCLK_CFG",       0xfdb8, PCI_H),

    // PCI Express side: interrupts, DMA, PHY access, messages, power management.
    rw("IRQEN0",                      0xfe20, PCI_H),
    w1c("IRQSTAT0",                   address::IRQSTAT0, PCI_H),
    rw("IRQEN1",                      0xfe22, PCI_H),
    w1c("IRQSTAT1",                   0xfe23, PCI_H),
    rw("TLPRIEN",                     0xfe24, PCI_H),
    w1c("TLPRISTAT",                  0xfe25, PCI_H),
    rw("TLPTIEN",                     0xfe26, PCI_H),
    w1c("TLPTISTAT",                  0xfe27, PCI_H),
    rw("DMATC0",                      0xfe28, PCI_H),
    rw("DMATC1",                      0xfe29, PCI_H),
    rw("DMATC2",                      0xfe2a, PCI_H),
    rw("DMATC3",                      0xfe2b, PCI_H),
    // Bit 7 resets and clears itself, bit 2 is busy.
    row("DMACTL",                     address::DMACTL, 0, 0x7b, PCI_H),
    rw("BCTL",                        0xfe2d, PCI_H),
    rw("RBBC0",                       0xfe2e, PCI_H),
    rw("RBBC1",                       0xfe2f, PCI_H),
    rw("RBDAT",                       0xfe30, PCI_H),
    // Bit 7, flush, clears itself.
    row("RBCTL",                      0xfe34, 0, 0x7f, PCI_H),
    rw("CFGADDR0",                    0xfe35, PCI_H),
    rw("CFGADDR1",                    0xfe36, PCI_H),
    rw("CFGDATA0",                    0xfe37, PCI_H),
    rw("CFGDATA1",                    0xfe38, PCI_H),
    rw("CFGDATA2",                    0xfe39, PCI_H),
    rw("CFGDATA3",                    0xfe3a, PCI_H),
    rw("CFGRWCTL",                    0xfe3b, PCI_H),
    // Bit 7 starts and is busy, bit 0 says write.
    row("PHYRWCTL",                   address::PHYRWCTL, 0, 0x7f, PCI_H),
    rw("PHYDATA0",                    address::PHYDATA0, PCI_H),
    rw("PHYDATA1",                    address::PHYDATA1, PCI_H),
    rw("PHYADDR",                     address::PHYADDR, PCI_H),
    rw("MSGRXDATA0",                  0xfe40, PCI_H),
    rw("MSGRXDATA1",                  0xfe41, PCI_H),
    rw("MSGRXDATA2",                  0xfe42, PCI_H),
    rw("MSGRXDATA3",                  0xfe43, PCI_H),
    rw("MSGTXDATA0",                  0xfe44, PCI_H),
    rw("MSGTXDATA1",                  0xfe45, PCI_H),
    rw("MSGTXDATA2",                  0xfe46, PCI_H),
    rw("MSGTXDATA3",                  0xfe47, PCI_H),
    rw("MSGTXCTL",                    0xfe48, PCI_H),
    rw("LTR_CTL",                     0xfe4a, PCI_H),
    rw("OBFF_CFG",                    0xfe4c, PCI_H),
    rw("CDRESUMECTL",                 0xfe52, PCI_H),
    rw("CDGW",                        0xfe53, PCI_H), // from Linux 6.11 on
    rw("WAKE_SEL_CTL",                0xfe54, PCI_H),
    rw("PCLK_CTL",                    0xfe55, PCI_H),
    rw("PME_FORCE_CTL",               0xfe56, PCI_H),
    // Bits 5:4 clear: ASPM is not forced, which the driver takes for "enabled".
    rw("ASPM_FORCE_CTL",              0xfe57, PCI_H),
    rw("PM_CLK_FORCE_CTL",            0xfe58, PCI_H),
    rw("FUNC_FORCE_CTL",              0xfe59, PCI_H),
    rw("CHANGE_LINK_STATE",           0xfe5b, PCI_H),
    rw("PERST_GLITCH_WIDTH",          0xfe5c, PCI_H),
    rw("RESET_LOAD_REG",              0xfe5e, PCI_H),
    rw("EFUSE_CONTENT",               0xfe5f, PCI_H),
    rw("HOST_SLEEP_STATE",            0xfe60, PCI_H),
    rw("SDIO_CFG",                    0xfe70, PCI_H),
    rw("PM_EVENT_DEBUG",              0xfe71, PCI_H),
    rw("NFTS_TX_CTRL",                0xfe72, PCI_H),
    rw("PWR_GATE_CTRL",               0xfe75, PCI_H),
    rw("PWD_SUSPEND_EN",              0xfe76, PCI_H),
    rw("LDO_PWR_SEL",                 0xfe78, PCI_H),
    rw("SD40_LDO_CTL1",               0xfe7d, PCI_H),
    rw("L1SUB_CONFIG1",               0xfe8d, PCI_H),
    rw("L1SUB_CONFIG2",               0xfe8e, PCI_H),
    rw("L1SUB_CONFIG3",               0xfe8f, PCI_H),
    rw("REG_CFG_OOBS_OFF_TIMER",      0xfea6, PCI_H),
    rw("REG_CFG_OOBS_ON_TIMER",       0xfea7, PCI_H),
    rw("REG_CFG_VCM_ON_TIMER",        0xfea8, PCI_H),
    rw("REG_CFG_OOBS_POLLING",        0xfea9, PCI_H),

    // Autoload and power management: kept in the always-on domain. Regulators are above, and differ from chip to chip.
    rw("AUTOLOAD_CFG_BASE",           0xff00, PCI_H),
    // The driver writes AUTOLOAD_CFG_BASE + 1 and + 2, and 0xff01 and 0xff02; it calls what is in them relink_time.
    rw("RELINK_TIME_0",               address::RELINK_TIME_0, SDMMC_C),
    rw("RELINK_TIME_1",               address::RELINK_TIME_1, SDMMC_C),
    // Bit 0 is the highest bit of the relink time.
    rw("PETXCFG",                     address::PETXCFG, PCI_H),
    rw("PM_CTRL1",                    0xff44, PCI_H),
    rw("PM_CTRL2",                    0xff45, PCI_H),
    rw("PM_CTRL3",                    0xff46, PCI_H),
    rw("PM_CTRL4",                    0xff47, PCI_H),
];
