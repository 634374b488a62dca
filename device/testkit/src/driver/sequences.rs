//! What the driver does differently from chip to chip, as data: the sequences of `rts5261.c` and its siblings.
//!
//! Registers are given by address; the reader's tables have the names. Sequences are those of a board without settings of
//! its own, without LTR and L1 substates, and with the default driver strength.

/// One step of a sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// `rtsx_pci_read_register`.
    Get(u16),
    /// `rtsx_pci_write_register`: address, mask, data.
    Put(u16, u8, u8),
    /// A command list of writes.
    List(&'static [Write]),
    /// `rtsx_pci_write_phy_register`.
    PhyPut(u8, u16),
    /// A PHY register read, and written back with only the bits of the first mask kept and those of the second set.
    PhyUpdate(u8, u16, u16),
    /// Several milliseconds.
    Sleep(u64),
    /// The latency of a running device, if LTR is on.
    Ltr,
    /// Settings from EFUSE and configuration space (`rts5261_init_from_hw`).
    EfuseSettings,
    /// DUM_REG, read and written with bit 0 set.
    Dum,
    /// One or the other sequence, as a firmware's settings allow RTD3 or not.
    ByRtd3 { on: &'static [Act], off: &'static [Act] },
}

/// A write: address, mask, data.
pub(crate) type Write = (u16, u8, u8);

/// How the driver turns ASPM on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aspm {
    /// By ASPM_FORCE_CTL alone (`rtsx_comm_set_aspm`).
    Forced,
    /// By ASPM_FORCE_CTL and LNKCTL (`rts5261_set_aspm`).
    ForcedAndConfigured,
}

/// The clock that a card is identified with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// SD_CFG1: the divider.
    pub(crate) divider: u8,
    /// CLK_DIV.
    pub(crate) clk_div: u8,
    /// SSC_CTL2: the depth.
    pub(crate) ssc_depth: u8,
    /// SSC_DIV_N_0.
    pub(crate) div_n: u8,
    /// What comes after that.
    pub(crate) more: &'static [Write],
}

/// The driver of one chip.
#[derive(Debug)]
pub(crate) struct Sequences {
    pub(crate) device: u16,
    pub(crate) bar: u8,
    /// The chip can do SD Express.
    pub(crate) express: bool,
    /// The driver looks for settings in PCR_SETTING_REG1 before it does anything else.
    pub(crate) reads_settings: bool,
    /// The bit of PCR_SETTING_REG2 that allows runtime suspend; 0 if the driver looks for none.
    pub(crate) rtd3: u32,
    /// Interrupts beside those of all chips.
    pub(crate) interrupts: u32,
    /// `rtsx_pci_init_hw` before HCBAR.
    pub(crate) before: &'static [Act],
    /// The SSC's power comes on.
    pub(crate) ssc_on: &'static [Act],
    pub(crate) optimize_phy: &'static [Act],
    /// SSC_CTL2.
    pub(crate) ssc_ctl2: u8,
    /// PM_CLK_FORCE_CTL follows the list.
    pub(crate) clock_pm: bool,
    pub(crate) init_ocp: &'static [Act],
    pub(crate) extra_init: &'static [Act],
    pub(crate) aspm: Aspm,
    pub(crate) led_off: Write,
    /// `set_l1off_cfg_sub_d0` looks whether there is a card.
    pub(crate) l1off_asks_for_card: bool,
    pub(crate) pull_on: &'static [Write],
    pub(crate) pull_off: &'static [Write],
    /// `card_power_on`.
    pub(crate) power_on: &'static [Act],
    /// `card_power_off`.
    pub(crate) power_off: &'static [Act],
    /// The driver stops what is under way, and goes back to 3.3 V, before it switches the card off.
    pub(crate) prepares_power_off: bool,
    pub(crate) to_3v3: &'static [Act],
    pub(crate) to_1v8: &'static [Act],
    /// `stop_cmd`: the register that resets the DMA.
    pub(crate) stop: Write,
    pub(crate) clock: Clock,
    /// `force_power_down`, with D3_DELINK_MODE_EN set only for S3 if `delink_in_s3`.
    pub(crate) delink: Write,
    pub(crate) delink_in_s3: bool,
    pub(crate) power_down: &'static [Act],
    /// What comes before it if the system goes to sleep, and if only the reader does.
    pub(crate) disarm: &'static [Act],
    pub(crate) stay_armed: &'static [Act],
    /// A scatter list's entry has 20 bits of length in one piece.
    pub(crate) whole_length: bool,
    /// Before the switch to SD Express the link's speed is lowered and raised, and what resets the chip is chosen.
    pub(crate) limits_link_speed: bool,
    /// LDO_VCC_CFG0 for the switch: the most current.
    pub(crate) current_limit: u8,
}

use Act::{ByRtd3, Dum, EfuseSettings, Get, List, Ltr, PhyPut, PhyUpdate, Put, Sleep};

/// The sequence that a chip is driven with.
pub(crate) fn of(device: u16) -> Option<&'static Sequences> {
    ALL.iter().copied().find(|sequences| sequences.device == device)
}

const ALL: &[&Sequences] = &[&RTS5261, &RTS5260, &RTS5228, &RTS525A, &RTS522A, &RTS5264];

/// PM_WAKE_EN, and FORCE_PM_CONTROL with or without FORCE_PM_VALUE.
const ARM: Act = ByRtd3 {
    on: &[Put(0xff7e, 0x01, 0x01), Put(0xff78, 0x30, 0x30)],
    off: &[Put(0xff7e, 0x01, 0x00), Put(0xff78, 0x30, 0x20)],
};
/// `force_power_down`, not for runtime suspend: a card that comes or goes wakes nobody.
const DISARM: &[Act] = &[Put(0xff7c, 0xf0, 0x00), Put(0xff7e, 0x01, 0x00), Put(0xff78, 0x30, 0x20)];

/// CARD_PULL_CTL2 and CARD_PULL_CTL3.
const PULL_ON: &[Write] = &[(0xfd61, 0xff, 0xaa), (0xfd62, 0xff, 0xe9)];
const PULL_OFF: &[Write] = &[(0xfd61, 0xff, 0x55), (0xfd62, 0xff, 0xd5)];

/// What `card_power_on` of the newer chips ends with.
macro_rules! power_on {
    ($($first:expr),* $(,)?) => {
        &[
            $($first,)*
            Sleep(20),
            Put(0xfd55, 0x04, 0x04),
            Put(0xfda0, 0xff, 0x80),
            Put(0xfda7, 0xff, 0x00),
            Put(0xfda8, 0xff, 0x00),
            Put(0xfd54, 0x44, 0x44),
            Put(0xfda2, 0x10, 0x00),
            Put(0xfdb8, 0x07, 0x00),
            Put(0xfda0, 0x1c, 0x18),
            Put(0xfc02, 0x01, 0x01),
            Put(0xfc2e, 0xff, 0x21),
            Put(0xfc02, 0x01, 0x00),
        ]
    };
}

/// `switch_output_voltage` of the RTS5261 and the RTS5228.
macro_rules! switch_5261 {
    ($keep:expr, $set:expr, $tune:expr, $pad:expr, $drive:expr) => {
        &[
            Put(0xfd50, 0x20, 0x20),
            PhyUpdate(0x08, $keep, $set),
            Put(0xff71, 0x70, $tune),
            Put(0xfda6, 0x80, $pad),
            Put(0xfd5a, 0xff, $drive),
            Put(0xfd5e, 0xff, $drive),
            Put(0xfd5f, 0xff, $drive),
        ]
    };
}

pub(crate) static RTS5261: Sequences = Sequences {
    device: 0x5261,
    bar: 0,
    express: true,
    reads_settings: false,
    rtd3: 0x08,
    interrupts: 0,
    before: &[],
    ssc_on: &[Put(0xff55, 0x02, 0), Put(0xff60, 0x01, 0)],
    optimize_phy: &[],
    ssc_ctl2: 0x03,
    clock_pm: true,
    init_ocp: &[
        Put(0xff72, 0x12, 0x12),
        Put(0xff72, 0xe0, 0xa0),
        Put(0xff72, 0x0c, 0x0c),
        Put(0xfd6c, 0x0f, 0x05),
        Put(0xff72, 0x12, 0x12),
        Put(0xfd6a, 0xff, 0x0c),
    ],
    extra_init: &[
        Put(0xff7c, 0xf0, 0xf0),
        Ltr,
        EfuseSettings,
        Put(0xff78, 0x03, 0x00),
        Put(0xfe8d, 0x01, 0x00),
        Put(0xfe8f, 0xff, 0x00),
        Dum,
        Put(0xff7f, 0x20, 0x00),
        Put(0xff7f, 0x40, 0x00),
        Put(0xfe59, 0x02, 0x02),
        Put(0xfe55, 0x20, 0x20),
        Put(0xfe71, 0x08, 0x08),
        Put(0xfe58, 0x01, 0x01),
        Put(0xfc1e, 0x0f, 0x02),
        Put(0xfd5a, 0xff, 0x96),
        Put(0xfd5e, 0xff, 0x96),
        Put(0xfd5f, 0xff, 0x96),
        Put(0xff03, 0x30, 0x00),
        Put(0xff03, 0x80, 0x80),
        Put(0xfe76, 0xff, 0xfb),
        ARM,
        Put(0xff7e, 0x10, 0x00),
        Put(0xff5f, 0x20, 0x00),
    ],
    aspm: Aspm::ForcedAndConfigured,
    led_off: (0xfc1f, 0x02, 0x00),
    l1off_asks_for_card: false,
    pull_on: PULL_ON,
    pull_off: PULL_OFF,
    power_on: power_on![
        Put(0xff72, 0x12, 0x12),
        Put(0xfd6a, 0xff, 0x0c),
        Put(0xfd71, 0x01, 0x01),
        Put(0xff73, 0x0e, 0x0e),
        Put(0xff70, 0x01, 0x01),
        Put(0xff70, 0x08, 0x08),
    ],
    power_off: &[
        Put(0xff70, 0x0f, 0x00),
        Put(0xfd71, 0x01, 0x00),
        Put(0xfd6a, 0x0c, 0x00),
        Put(0xff72, 0x12, 0x00),
    ],
    prepares_power_off: true,
    to_3v3: switch_5261!(0xffff, 0x0200, 0x70, 0x00, 0x96),
    to_1v8: switch_5261!(0xfdff, 0x0000, 0x20, 0x80, 0xb3),
    stop: (0xfebf, 0xc0, 0xc0),
    clock: Clock { divider: 0xc0, clk_div: 0x25, ssc_depth: 0x03, div_n: 0x39, more: &[] },
    delink: (0xff7e, 0x10, 0x10),
    delink_in_s3: true,
    disarm: DISARM,
    // RTS5261_INFORM_RTD3_COLD, RTS5261_FORCE_PRSNT_LOW.
    stay_armed: &[Put(0xff78, 0x30, 0x00), Put(0xff5f, 0x20, 0x20), Put(0xff7f, 0x40, 0x40)],
    power_down: &[Put(0xff60, 0x01, 0x01)],
    whole_length: false,
    limits_link_speed: false,
    current_limit: 0xa0,
};

/// The clock of identification where `rtsx_pci_switch_clock` does not branch off.
const COMMON_CLOCK: Clock = Clock { divider: 0x80, clk_div: 0x37, ssc_depth: 0x01, div_n: 0x76, more: &[] };

/// CARD_PULL_CTL1 to CARD_PULL_CTL4.
const PULL4_ON: &[Write] =
    &[(0xfd60, 0xff, 0x66), (0xfd61, 0xff, 0xaa), (0xfd62, 0xff, 0xe9), (0xfd63, 0xff, 0xaa)];
const PULL4_OFF: &[Write] =
    &[(0xfd60, 0xff, 0x66), (0xfd61, 0xff, 0x55), (0xfd62, 0xff, 0xd5), (0xfd63, 0xff, 0x55)];

/// MS_INT_EN, of chips with two slots.
const MS_INT: u32 = 1 << 26;

static RTS5260: Sequences = Sequences {
    device: 0x5260,
    bar: 0,
    express: false,
    reads_settings: true,
    rtd3: 0,
    interrupts: MS_INT,
    before: &[],
    ssc_on: &[Put(0xfc00, 0x01, 0)],
    optimize_phy: &[],
    ssc_ctl2: 0x12,
    clock_pm: true,
    init_ocp: &[
        Put(0xff73, 0x70, 0x50),
        Put(0xff71, 0x70, 0x60),
        Put(0xfd6c, 0x0f, 0x52),
        Put(0xff73, 0x84, 0x84),
        Put(0xfd6a, 0xff, 0x0c),
    ],
    extra_init: &[
        Put(0xfc03, 0x7f, 0x07),
        Put(0xfc0f, 0xff, 0x5d),
        // rts5260_pwr_saving_setting.
        Put(0xfe57, 0xff, 0x00),
        Put(0xf200, 0xff, 0x09),
        Put(0xf201, 0xff, 0x09),
        Put(0xf20e, 0xff, 0x1b),
        Put(0xf20c, 0xff, 0x1b),
        Put(0xf214, 0xff, 0x1b),
        Put(0xf216, 0xff, 0x1b),
        Put(0xf210, 0xff, 0x1b),
        Put(0xf204, 0xff, 0xbf),
        Put(0xf205, 0xff, 0xff),
        Put(0xf206, 0xff, 0x01),
        Put(0xf207, 0xff, 0x00),
        Put(0xf253, 0xff, 0x03),
        Put(0xf219, 0xff, 0x18),
        Put(0xf212, 0xff, 0x0c),
        Ltr,
        Put(0xff7f, 0xff, 0x8a),
        Put(0xff72, 0x70, 0x70),
        Put(0xfe55, 0x20, 0x20),
        List(&[
            (0xfe8d, 0x01, 0x00),
            (0xfe8f, 0xff, 0x00),
            (0xfe58, 0x01, 0x01),
            (0xfe76, 0xff, 0xff),
            (0xfe75, 0x01, 0x01),
            (0xfe97, 0x10, 0x10),
            (0xfe34, 0x20, 0x00),
            (0xff03, 0xb0, 0x80),
            (0xfe4c, 0x03, 0x00),
        ]),
        Put(0xff73, 0x70, 0x50),
        Put(0xff71, 0x70, 0x60),
        Put(0xfd6c, 0x0f, 0x52),
        Put(0xff73, 0x84, 0x84),
        Put(0xfd6a, 0xff, 0x0c),
        Put(0xff03, 0x80, 0x80),
        Put(0xff7e, 0x10, 0x00),
    ],
    aspm: Aspm::Forced,
    led_off: (0xfc1a, 0x01, 0x00),
    l1off_asks_for_card: true,
    pull_on: PULL4_ON,
    pull_off: PULL4_OFF,
    power_on: &[
        Put(0xfd6a, 0xff, 0x0c),
        Put(0xff71, 0x04, 0x04),
        Put(0xff72, 0x70, 0x70),
        Put(0xff73, 0x08, 0x08),
        Put(0xff71, 0x08, 0x08),
        Sleep(20),
        Put(0xfda0, 0x1c, 0x18),
        Put(0xfc02, 0x01, 0x01),
        Put(0xfc2e, 0xff, 0x21),
        Put(0xfc02, 0x01, 0x00),
        Put(0xfda0, 0xff, 0x80),
        Put(0xfda7, 0xff, 0x00),
        Put(0xfda8, 0xff, 0x00),
        Put(0xfd54, 0x44, 0x44),
        Put(0xfda2, 0x10, 0x00),
        Put(0xfdb8, 0x07, 0x00),
        Put(0xfd70, 0x01, 0x00),
    ],
    power_off: &[Put(0xff73, 0x08, 0x00), Put(0xff71, 0x08, 0x00), Put(0xfd6a, 0x0c, 0x00)],
    prepares_power_off: true,
    to_3v3: &[
        Put(0xff71, 0x04, 0x04),
        Put(0xff70, 0x70, 0x70),
        Put(0xfda6, 0x80, 0x00),
        Put(0xfd5a, 0xff, 0x33),
        Put(0xfd5e, 0xff, 0x33),
        Put(0xfd5f, 0xff, 0x33),
    ],
    to_1v8: &[
        Put(0xff71, 0x04, 0x04),
        Put(0xff70, 0x70, 0x30),
        Put(0xfda6, 0x80, 0x80),
        Put(0xfd5a, 0xff, 0x9b),
        Put(0xfd5e, 0xff, 0x99),
        Put(0xfd5f, 0xff, 0x99),
    ],
    stop: (0xfebf, 0xc0, 0xc0),
    clock: COMMON_CLOCK,
    delink: (0xff7e, 0x10, 0x10),
    delink_in_s3: false,
    disarm: &[],
    stay_armed: &[],
    power_down: &[Put(0xfc00, 0x03, 0x03)],
    whole_length: true,
    limits_link_speed: false,
    current_limit: 0,
};

static RTS5228: Sequences = Sequences {
    device: 0x5228,
    bar: 0,
    express: false,
    reads_settings: true,
    rtd3: 0x02,
    interrupts: 0,
    before: &[Put(0xff73, 0xc0, 0x80)],
    ssc_on: &[Put(0xfc00, 0x01, 0)],
    optimize_phy: &[PhyPut(0x07, 0x8f40)],
    ssc_ctl2: 0x03,
    clock_pm: true,
    init_ocp: &[
        Put(0xff72, 0x12, 0x12),
        Put(0xff72, 0xe0, 0x60),
        Put(0xff72, 0x0c, 0x08),
        Get(0xff72),
        Put(0xfd6c, 0x0f, 0x05),
        Put(0xfd6a, 0xff, 0x0c),
        Put(0xff72, 0x12, 0x12),
    ],
    extra_init: &[
        Put(0xff7c, 0xf0, 0xf0),
        PhyUpdate(0x01, 0xffff, 0x0200),
        Put(0xfea6, 0xff, 0x32),
        Put(0xfea7, 0xff, 0x05),
        Put(0xfea8, 0xff, 0x83),
        Put(0xfea9, 0xff, 0xde),
        Put(0xfe57, 0xff, 0x00),
        Ltr,
        Put(0xfe8d, 0x01, 0x00),
        Put(0xfe8f, 0xff, 0x00),
        Put(0xfe59, 0x02, 0x02),
        Put(0xfe55, 0x20, 0x20),
        Put(0xfe71, 0x08, 0x08),
        Put(0xfe58, 0x01, 0x01),
        Put(0xfc1e, 0x0f, 0x02),
        Put(0xfd5a, 0xff, 0x96),
        Put(0xfd5e, 0xff, 0x96),
        Put(0xfd5f, 0xff, 0x96),
        Put(0xff03, 0x30, 0x00),
        Put(0xff03, 0x80, 0x80),
        Put(0xfe76, 0xff, 0xfb),
        ARM,
        Put(0xff7e, 0x10, 0x00),
    ],
    aspm: Aspm::ForcedAndConfigured,
    led_off: (0xfc1f, 0x02, 0x00),
    l1off_asks_for_card: false,
    pull_on: PULL_ON,
    pull_off: PULL_OFF,
    power_on: power_on![
        Put(0xfd6a, 0xff, 0x0c),
        Put(0xff72, 0x12, 0x12),
        Put(0xfd71, 0x01, 0x01),
        Put(0xff73, 0x0e, 0x0e),
        Put(0xff70, 0x03, 0x01),
        Sleep(2),
        Put(0xff70, 0x03, 0x03),
        Put(0xff70, 0x08, 0x08),
    ],
    power_off: &[
        Put(0xff70, 0x0f, 0x00),
        Put(0xfd71, 0x01, 0x00),
        Put(0xfd6a, 0x0c, 0x00),
        Put(0xff72, 0x12, 0x00),
    ],
    prepares_power_off: true,
    to_3v3: switch_5261!(0xffff, 0x0200, 0x70, 0x00, 0x96),
    to_1v8: switch_5261!(0xfdff, 0x0000, 0x20, 0x80, 0x6b),
    stop: (0xfebf, 0xc0, 0xc0),
    clock: Clock { divider: 0x80, clk_div: 0x37, ssc_depth: 0x02, div_n: 0x39, more: &[] },
    delink: (0xff7e, 0x10, 0x10),
    delink_in_s3: false,
    disarm: DISARM,
    stay_armed: &[],
    power_down: &[Put(0xfc00, 0x01, 0x01)],
    whole_length: false,
    limits_link_speed: false,
    current_limit: 0,
};

/// `rtsx_pci_enable_oobs_polling` without the PHY.
macro_rules! oobs_polling {
    ($($act:expr),* $(,)?) => {
        &[
            Put(0xfea6, 0xff, 0x32),
            Put(0xfea7, 0xff, 0x05),
            Put(0xfea8, 0xff, 0x83),
            Put(0xfea9, 0xff, 0xde),
            $($act,)*
        ]
    };
}

/// SD30_CLK_DRIVE_SEL, SD30_CMD_DRIVE_SEL, SD30_DAT_DRIVE_SEL in a command list.
const DRIVE_96: &[Write] = &[(0xfd5a, 0xff, 0x96), (0xfd5e, 0xff, 0x96), (0xfd5f, 0xff, 0x96)];
const DRIVE_B3: &[Write] = &[(0xfd5a, 0xff, 0xb3), (0xfd5e, 0xff, 0xb3), (0xfd5f, 0xff, 0xb3)];

/// `rtsx_pci_init_ocp` where a chip has none of its own; the threshold is the chip's.
macro_rules! init_ocp {
    ($threshold:expr) => {
        &[
            Put(0xfc00, 0x02, 0x00),
            Put(0xfd6b, 0x07, 0x05),
            Put(0xfd6d, 0x07, $threshold),
            Put(0xfd6c, 0x0f, 0x0f),
            Put(0xfc00, 0x02, 0x00),
            Put(0xfd6a, 0xff, 0x0c),
        ]
    };
}

static RTS525A: Sequences = Sequences {
    device: 0x525a,
    bar: 1,
    express: false,
    reads_settings: true,
    rtd3: 0x04,
    interrupts: MS_INT,
    before: &[],
    ssc_on: &[Put(0xfc00, 0x01, 0)],
    optimize_phy: &[Put(0xff7e, 0x10, 0x00), PhyPut(0x1d, 0x99ff), PhyPut(0x03, 0x2748)],
    ssc_ctl2: 0x12,
    clock_pm: true,
    init_ocp: init_ocp!(0x05),
    extra_init: oobs_polling![
        Ltr,
        // rts52xa_save_content_to_autoload_space, without a blank EFUSE's content.
        Get(0xfe5e),
        Put(0xff00, 0xff, 0x80),
        Put(0xff04, 0xff, 0xec),
        Put(0xff05, 0xff, 0x10),
        Put(0xff06, 0xff, 0x5a),
        Put(0xff07, 0xff, 0x52),
        List(&[
            (0xfe8f, 0xff, 0x00),
            (0xfc1f, 0x02, 0x02),
            (0xfe57, 0x3f, 0x00),
            (0xfe78, 0x03, 0x00),
            (0xfe78, 0x03, 0x01),
            (0xfc1e, 0x0f, 0x02),
            (0xfd5a, 0xff, 0x96),
            (0xfd5e, 0xff, 0x96),
            (0xfd5f, 0xff, 0x96),
            (0xff03, 0xb0, 0x80),
        ]),
        Put(0xfe97, 0x10, 0x10),
        Put(0xff7c, 0xf0, 0xf0),
        ARM,
        Put(0xff03, 0x80, 0x80),
        Put(0xff7e, 0x10, 0x00),
        Put(0xff78, 0x03, 0x00),
        Put(0xff79, 0xf0, 0xf0),
        Put(0xfe55, 0x20, 0x20),
    ],
    aspm: Aspm::Forced,
    led_off: (0xfc1f, 0x02, 0x00),
    l1off_asks_for_card: true,
    pull_on: PULL4_ON,
    pull_off: PULL4_OFF,
    power_on: &[
        Put(0xff73, 0x07, 0x07),
        Put(0xfc00, 0x02, 0x00),
        Put(0xfd6a, 0xff, 0x0c),
        List(&[(0xfd50, 0x03, 0x02), (0xfe75, 0x06, 0x02)]),
        Sleep(5),
        List(&[(0xfd50, 0x03, 0x00), (0xfe75, 0x06, 0x06)]),
    ],
    power_off: &[
        Put(0xfd6a, 0x0c, 0x00),
        Put(0xfc00, 0x02, 0x02),
        Put(0xfd50, 0x03, 0x03),
        Put(0xfe75, 0x06, 0x00),
    ],
    prepares_power_off: false,
    to_3v3: &[Put(0xff71, 0x07, 0x07), Put(0xfda6, 0x80, 0x00), List(DRIVE_96)],
    to_1v8: &[Put(0xff71, 0x07, 0x02), Put(0xfda6, 0x80, 0x80), List(DRIVE_B3)],
    stop: (0xfe2c, 0x80, 0x80),
    clock: COMMON_CLOCK,
    delink: (0xff7e, 0x10, 0x10),
    delink_in_s3: false,
    disarm: DISARM,
    stay_armed: &[],
    power_down: &[Put(0xfc00, 0x03, 0x03)],
    whole_length: true,
    limits_link_speed: false,
    current_limit: 0,
};

/// The command list of `rts5227_extra_init_hw`, with PM_WAKE_EN and RTS522A_PME_FORCE_CTL.
macro_rules! list_522a {
    ($wake:expr, $force:expr) => {
        [
            (0xfc1f, 0x02, 0x02),
            (0xfe57, 0x3f, 0x00),
            (0xfe78, 0x03, 0x00),
            (0xfe78, 0x03, 0x01),
            (0xfc1e, 0x0f, 0x02),
            (0xfe4c, 0x03, 0x03),
            (0xfd5a, 0xff, 0x96),
            (0xfd5e, 0xff, 0x96),
            (0xfd5f, 0xff, 0x96),
            (0xff03, 0x30, 0x00),
            (0xff7c, 0xf0, 0xf0),
            (0xff7e, 0x01, $wake),
            (0xff78, 0x30, $force),
            (0xff03, 0x80, 0x80),
            (0xff7e, 0x10, 0x00),
        ]
    };
}

static RTS522A: Sequences = Sequences {
    device: 0x522a,
    bar: 0,
    express: false,
    reads_settings: true,
    rtd3: 0x02,
    interrupts: MS_INT,
    before: &[],
    ssc_on: &[Put(0xfc00, 0x01, 0)],
    optimize_phy: &[Put(0xff7e, 0x10, 0x00)],
    ssc_ctl2: 0x12,
    clock_pm: false,
    init_ocp: init_ocp!(0x06),
    extra_init: &[
        PhyUpdate(0x01, 0xffff, 0x0200),
        Put(0xfea6, 0xff, 0x32),
        Put(0xfea7, 0xff, 0x05),
        Put(0xfea8, 0xff, 0x83),
        Put(0xfea9, 0xff, 0xde),
        Ltr,
        ByRtd3 { on: &[List(&list_522a!(0x01, 0x30))], off: &[List(&list_522a!(0x00, 0x20))] },
        // The driver does not know of a card yet, whether there is one or not.
        Put(0xfc00, 0x02, 0x02),
        Put(0xfe59, 0x02, 0x02),
        Put(0xfe55, 0x04, 0x04),
        Put(0xfe71, 0x08, 0x08),
        Put(0xfe58, 0xff, 0x11),
    ],
    aspm: Aspm::Forced,
    led_off: (0xfc1f, 0x02, 0x00),
    l1off_asks_for_card: false,
    pull_on: PULL_ON,
    pull_off: PULL_OFF,
    power_on: &[
        Put(0xfc00, 0x02, 0x00),
        Put(0xfd6a, 0xff, 0x0c),
        List(&[(0xfd50, 0x03, 0x01), (0xfe75, 0x06, 0x02)]),
        Sleep(20),
        List(&[(0xfd50, 0x03, 0x00), (0xfe75, 0x06, 0x06), (0xfd55, 0x04, 0x04), (0xfd55, 0x08, 0x08)]),
    ],
    power_off: &[
        Put(0xfd6a, 0x0c, 0x00),
        Put(0xfc00, 0x02, 0x02),
        Put(0xfd50, 0x13, 0x03),
        Put(0xfe75, 0x06, 0x00),
    ],
    prepares_power_off: false,
    to_3v3: &[PhyPut(0x08, 0x57e4), List(DRIVE_96)],
    to_1v8: &[PhyPut(0x11, 0x3c02), PhyPut(0x08, 0x54a4), List(DRIVE_B3)],
    stop: (0xfe2c, 0x80, 0x80),
    clock: COMMON_CLOCK,
    delink: (0xff7e, 0x10, 0x10),
    delink_in_s3: false,
    disarm: DISARM,
    stay_armed: &[],
    power_down: &[Put(0xfc00, 0x03, 0x03)],
    whole_length: true,
    limits_link_speed: false,
    current_limit: 0,
};

/// SD_OVP_INT_EN.
const SD_OVP_INT: u32 = 1 << 23;

static RTS5264: Sequences = Sequences {
    device: 0x5264,
    bar: 1,
    express: true,
    reads_settings: false,
    rtd3: 0x08,
    interrupts: SD_OVP_INT,
    before: &[],
    ssc_on: &[Put(0xff55, 0x02, 0), Put(0xff60, 0x01, 0)],
    optimize_phy: &[],
    ssc_ctl2: 0x03,
    clock_pm: true,
    init_ocp: &[
        Put(0xff72, 0xe0, 0x80),
        Put(0xff72, 0x0c, 0x0c),
        Put(0xff74, 0xe0, 0x60),
        Put(0xff74, 0x0c, 0x0c),
        Put(0xff76, 0xe0, 0x60),
        Put(0xff76, 0x0c, 0x0c),
        Put(0xff8a, 0x03, 0x01),
        Put(0xfd6c, 0xff, 0x55),
    ],
    extra_init: &[
        Put(0xff7c, 0xf0, 0xf0),
        Put(0xfe97, 0x10, 0x10),
        Put(0xfea6, 0xff, 0x32),
        Put(0xfea7, 0xff, 0x05),
        Put(0xfea8, 0xff, 0x83),
        Put(0xfea9, 0xff, 0xde),
        Put(0xfe57, 0xff, 0x00),
        Ltr,
        EfuseSettings,
        Put(0xff78, 0x03, 0x00),
        Put(0xff7d, 0x40, 0x00),
        Put(0xff6e, 0xc0, 0x00),
        Put(0xfe53, 0xff, 0x01),
        Put(0xff8b, 0x40, 0x40),
        Put(0xfdcb, 0x07, 0x01),
        Put(0xfdcc, 0x07, 0x01),
        Put(0xfc0f, 0xff, 0x5d),
        Put(0xff81, 0xf0, 0xf0),
        Put(0xfe8d, 0x01, 0x00),
        Put(0xfe8f, 0xff, 0x00),
        Put(0xff7f, 0x20, 0x00),
        Put(0xff7f, 0x40, 0x00),
        Put(0xfe55, 0x20, 0x20),
        Put(0xfc1e, 0x0f, 0x02),
        Put(0xfd5a, 0xff, 0x88),
        Put(0xfd5e, 0xff, 0x88),
        Put(0xfd5f, 0xff, 0x88),
        Put(0xff03, 0x30, 0x00),
        Put(0xff03, 0x80, 0x80),
        Put(0xfe76, 0xff, 0xff),
        Put(0xfe34, 0x20, 0x00),
        Put(0xff7f, 0x10, 0x00),
        ARM,
        Put(0xff7e, 0x10, 0x00),
        Put(0xff5f, 0x20, 0x00),
    ],
    aspm: Aspm::ForcedAndConfigured,
    led_off: (0xfc1f, 0x02, 0x00),
    l1off_asks_for_card: true,
    pull_on: PULL_ON,
    pull_off: PULL_OFF,
    power_on: power_on![
        Put(0xff72, 0x12, 0x12),
        Put(0xff74, 0x12, 0x12),
        Put(0xff76, 0x12, 0x12),
        Put(0xff8a, 0x04, 0x04),
        Put(0xfd6a, 0xcc, 0xcc),
        Put(0xfd89, 0x0c, 0x0c),
        Put(0xfd8d, 0x0c, 0x0c),
        Put(0xfd71, 0x01, 0x01),
        Put(0xff73, 0x0e, 0x0e),
        Put(0xff70, 0x01, 0x01),
        Put(0xff70, 0x08, 0x08),
    ],
    power_off: &[
        Put(0xff70, 0x0f, 0x00),
        Put(0xfd71, 0x01, 0x00),
        Put(0xfd6a, 0xcc, 0x00),
        Put(0xfd89, 0x0c, 0x00),
        Put(0xfd8d, 0x0c, 0x00),
        Put(0xff72, 0x12, 0x00),
        Put(0xff74, 0x12, 0x00),
        Put(0xff76, 0x12, 0x00),
        Put(0xff8a, 0x04, 0x00),
    ],
    prepares_power_off: true,
    to_3v3: &[
        Put(0xfd50, 0x20, 0x20),
        Put(0xff70, 0xc0, 0xc0),
        Put(0xff71, 0x70, 0x70),
        Put(0xfda6, 0x80, 0x00),
        Put(0xfd5a, 0xff, 0x88),
        Put(0xfd5e, 0xff, 0x88),
        Put(0xfd5f, 0xff, 0x88),
    ],
    to_1v8: &[
        Put(0xfd50, 0x20, 0x20),
        Put(0xff70, 0xc0, 0x80),
        Put(0xff71, 0x70, 0x20),
        Put(0xfda6, 0x80, 0x80),
        Put(0xfd5a, 0xff, 0x99),
        Put(0xfd5e, 0xff, 0x99),
        Put(0xfd5f, 0xff, 0x99),
    ],
    stop: (0xfe2c, 0x80, 0x80),
    clock: Clock {
        divider: 0x80,
        clk_div: 0x37,
        ssc_depth: 0x02,
        div_n: 0x39,
        more: &[(0xfc35, 0x04, 0x00)],
    },
    delink: (0xff7e, 0x10, 0x10),
    delink_in_s3: true,
    disarm: DISARM,
    // RTS5264_INFORM_RTD3_COLD, RTS5264_FORCE_PRSNT_LOW.
    stay_armed: &[
        Put(0xff78, 0x30, 0x00),
        Put(0xff7e, 0x01, 0x01),
        Put(0xff7e, 0x10, 0x00),
        Put(0xff5f, 0x20, 0x20),
        Put(0xff7f, 0x40, 0x40),
    ],
    power_down: &[Put(0xff60, 0x01, 0x01)],
    whole_length: true,
    limits_link_speed: true,
    current_limit: 0x80,
};
