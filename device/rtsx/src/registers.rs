//! The internal registers: one byte each, at 0xc000 to 0xffff, reached through HAIMR and command lists.
//!
//! The table has every register that the driver's RTS5261 paths reach, and those that `rtsx_pci.h` names for the blocks
//! which this reader has (it has no Memory Stick and no xD slot, so their blocks are left out).
//!
//! What is known of a register is what the driver does with it. So a bit is writable unless it is known to be status or
//! to clear itself, and resets to zero unless the driver's use says otherwise. Where two names share an address, the row
//! has the name that the RTS5261 code uses, and the other is in a comment.

use sdmorph_pci::Register;

/// Lowest address; HAIMR and command lists carry the 14 bits above it.
pub const BASE: u32 = 0xc000;
/// The address bits that HAIMR and command lists carry.
pub const ADDRESS_MASK: u32 = 0x3fff;

/// Names `rtsx_pci.h` gives.
const PCI_H: &str = "include/linux/rtsx_pci.h";
/// Names `rts5261.h` gives.
const R5261_H: &str = "drivers/misc/cardreader/rts5261.h";
/// Addresses that code uses without giving a name.
const R5261_C: &str = "drivers/misc/cardreader/rts5261.c";
const SDMMC_C: &str = "drivers/mmc/host/rtsx_pci_sdmmc.c";

/// Addresses that the model acts on.
#[allow(missing_docs)] // The rows below say what they are.
pub mod address {
    pub const PPBUF_BASE2: u32 = 0xfa00;
    pub const SD_VPRX_CTL: u32 = 0xfc2b;
    pub const RTS5261_EFUSE_CTL: u32 = 0xfc30;
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
    pub const DMACTL: u32 = 0xfe2c;
    pub const PHYRWCTL: u32 = 0xfe3c;
    pub const PHYDATA0: u32 = 0xfe3d;
    pub const PHYDATA1: u32 = 0xfe3e;
    pub const PHYADDR: u32 = 0xfe3f;
    pub const RTS5260_DMA_RST_CTL_0: u32 = 0xfebf;
    pub const RELINK_TIME_0: u32 = 0xff01;
    pub const RELINK_TIME_1: u32 = 0xff02;
    pub const PETXCFG: u32 = 0xff03;
    pub const RTS5261_FW_CFG0: u32 = 0xff54;
    pub const RTS5261_FW_CFG1: u32 = 0xff55;
    pub const RTS5261_FW_STATUS: u32 = 0xff56;
    pub const RTS5261_LDO1233318_POW_CTL: u32 = 0xff70;
}

/// Revision D: the newest that the driver tells apart (it takes the slowest initial clock from there on).
const IC_VERSION: u8 = 3;

const fn rw(name: &'static str, address: u32, source: &'static str) -> Register {
    Register::new(name, address, 1, 0, source).rw(0xff)
}

const fn row(name: &'static str, address: u32, reset: u8, writable: u8, source: &'static str) -> Register {
    Register::new(name, address, 1, reset as u64, source).rw(writable as u64)
}

const fn w1c(name: &'static str, address: u32, source: &'static str) -> Register {
    Register::new(name, address, 1, 0, source).w1c(0xff)
}

/// The rows, sorted by address.
#[rustfmt::skip]
pub const REGISTERS: &[Register] = &[
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
    rw("RTS5260_REG_GPIO_CTL0",       0xfc1a, PCI_H),
    rw("FPGA_PULL_CTL",               0xfc1d, PCI_H),
    rw("OLT_LED_CTL",                 0xfc1e, PCI_H), // also LDO_CTL
    rw("GPIO_CTL",                    0xfc1f, PCI_H),
    rw("SD_VPCLK0_CTL",               0xfc2a, PCI_H), // also SD_VPTX_CTL
    rw("SD_VPCLK1_CTL",               address::SD_VPRX_CTL, PCI_H), // also SD_VPRX_CTL
    rw("CARD_CLK_SOURCE",             0xfc2e, PCI_H),
    // Bit 7, enable, is busy until the access has been made.
    row("RTS5261_EFUSE_CTL",          address::RTS5261_EFUSE_CTL, 0, 0x7f, R5261_H), // also EFUSE_CTL
    row("RTS5261_EFUSE_ADDR",         0xfc31, 0, 0x3f, R5261_H), // also EFUSE_ADD
    rw("RTS5261_EFUSE_WRITE_DATA",    0xfc32, R5261_H), // also SYS_VER
    // A blank EFUSE: bits 3:2 are 0, "default", so the driver takes its settings from configuration space.
    row("RTS5261_EFUSE_READ_DATA",    0xfc34, 0, 0, R5261_H), // also EFUSE_DATAL

    // Card interface: power, pads, pull-ups, over-current.
    rw("RTS5261_CARD_PWR_CTL",        0xfd50, R5261_H), // also CARD_PWR_CTL
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
    // Bits 3:0 are the revision.
    row("DUMMY_REG_RESET_0",          0xfe90, IC_VERSION, 0xf0, PCI_H),
    rw("RTS5261_REG_VREF",            0xfe97, R5261_H), // also REG_VREF
    rw("REG_CFG_OOBS_OFF_TIMER",      0xfea6, PCI_H),
    rw("REG_CFG_OOBS_ON_TIMER",       0xfea7, PCI_H),
    rw("REG_CFG_VCM_ON_TIMER",        0xfea8, PCI_H),
    rw("REG_CFG_OOBS_POLLING",        0xfea9, PCI_H),
    // Bits 7:6 reset and clear themselves.
    row("RTS5260_DMA_RST_CTL_0",      address::RTS5260_DMA_RST_CTL_0, 0, 0x3f, PCI_H),

    // Autoload, firmware, regulators: kept in the always-on domain.
    rw("AUTOLOAD_CFG_BASE",           0xff00, PCI_H),
    // The driver writes AUTOLOAD_CFG_BASE + 1 and + 2, and 0xff01 and 0xff02; it calls what is in them relink_time.
    rw("RELINK_TIME_0",               address::RELINK_TIME_0, SDMMC_C),
    rw("RELINK_TIME_1",               address::RELINK_TIME_1, SDMMC_C),
    // Bit 0 is the highest bit of the relink time.
    rw("PETXCFG",                     address::PETXCFG, PCI_H),
    // Copies of the vendor settings; written by number.
    rw("VENDOR_SETTING1_0",           0xff0c, R5261_C),
    rw("VENDOR_SETTING1_1",           0xff0d, R5261_C),
    rw("VENDOR_SETTING1_2",           0xff0e, R5261_C),
    rw("VENDOR_SETTING1_3",           0xff0f, R5261_C),
    rw("VENDOR_SETTING2_0",           0xff10, R5261_C),
    rw("VENDOR_SETTING2_1",           0xff11, R5261_C),
    rw("VENDOR_SETTING2_2",           0xff12, R5261_C),
    rw("PM_CTRL1",                    0xff44, PCI_H),
    rw("PM_CTRL2",                    0xff45, PCI_H),
    rw("PM_CTRL3",                    0xff46, PCI_H),
    rw("PM_CTRL4",                    0xff47, PCI_H),
    // Bit 0 clear: not the factory's test mode, which would force the switch to SD Express.
    row("RTS5261_FW_CFG_INFO0",       0xff50, 0, 0, PCI_H),
    rw("RTS5261_FW_CFG0",             address::RTS5261_FW_CFG0, PCI_H),
    rw("RTS5261_FW_CFG1",             address::RTS5261_FW_CFG1, PCI_H),
    // Bit 7: the last switch to SD Express failed; the driver clears it when a card goes.
    rw("RTS5261_FW_STATUS",           address::RTS5261_FW_STATUS, R5261_H),
    rw("RTS5261_FW_CTL",              0xff5f, R5261_H),
    rw("RTS5261_REG_FPDCTL",          0xff60, R5261_H),
    rw("RREF_CFG",                    0xff6c, PCI_H),
    rw("RTS5261_REG_LDO12_CFG",       0xff6e, R5261_H), // also OOBS_CONFIG
    rw("RTS5261_LDO1233318_POW_CTL",  address::RTS5261_LDO1233318_POW_CTL, R5261_H), // also LDO_DV18_CFG
    rw("RTS5261_DV3318_CFG",          0xff71, R5261_H), // also LDO_CONFIG2
    rw("RTS5261_LDO1_CFG0",           0xff72, PCI_H), // also LDO_VCC_CFG0
    rw("RTS5261_LDO1_CFG1",           0xff73, R5261_H), // also LDO_VCC_CFG1
    rw("RTS5261_LDO2_CFG0",           0xff74, R5261_H),
    rw("RTS5261_LDO2_CFG1",           0xff75, R5261_H), // also LDO_VIO_CFG
    rw("RTS5261_LDO3_CFG0",           0xff76, R5261_H), // also LDO_DV12S_CFG
    rw("RTS5261_LDO3_CFG1",           0xff77, R5261_H), // also LDO_AV12S_CFG
    rw("RTS5261_REG_PME_FORCE_CTL",   0xff78, R5261_H),
    rw("RTS5261_PAD_H3L1",            0xff79, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG0",       0xff7b, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG1",       0xff7c, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG2",       0xff7d, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG3",       0xff7e, R5261_H),
    rw("RTS5261_AUTOLOAD_CFG4",       0xff7f, R5261_H), // also RTS5260_AUTOLOAD_CFG4
];
