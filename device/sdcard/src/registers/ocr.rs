//! Operation conditions: bits of the OCR (5.1) and of ACMD41's argument (4.2.3.1).

/// Card power-up status: set when it is finished.
pub const POWERED_UP: u32 = 1 << 31;
/// Card Capacity Status: high, extended or ultra capacity.
pub const CCS: u32 = 1 << 30;
/// Over 2 TB: SDUC.
pub const CO2T: u32 = 1 << 27;
/// Switching to 1.8 V accepted: CMD11 may follow.
pub const S18A: u32 = 1 << 24;
/// In ACMD41: the host supports high capacity.
pub const HCS: u32 = 1 << 30;
/// In ACMD41: the host can supply more than 150 mA.
pub const XPC: u32 = 1 << 28;
/// In ACMD41: the host supports over 2 TB.
pub const HO2T: u32 = 1 << 27;
/// In ACMD41: switching to 1.8 V requested.
pub const S18R: u32 = 1 << 24;
/// The voltages, in steps of 0.1 V.
pub const VOLTAGES: u32 = 0x00ff_ff00;
/// 2.7 V to 3.6 V: what every SD card takes.
pub const VDD_27_36: u32 = 0x00ff_8000;
