//! Card-specific data (5.3), in its versions 1 (SDSC), 2 (SDHC, SDXC) and 3 (SDUC), and what CMD27 may change of it.

use crate::capacity::{CapacityKind, StandardSize};
use crate::profile::Profile;
use crate::registers::cid::closed;
use crate::registers::field::put;

/// Bits of the CSD that a host can program (5.3.2, "Cell type" W or W(1)), by their numbers in the register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Programmable {
    /// FILE_FORMAT_GRP and FILE_FORMAT: bit 15 and bits 11:10. Fixed at 0 but in version 1; can be set once.
    pub file_format: u8,
    /// COPY, bit 14: can be set once.
    pub copy: bool,
    /// PERM_WRITE_PROTECT, bit 13: can be set once.
    pub permanent_write_protect: bool,
    /// TMP_WRITE_PROTECT, bit 12.
    pub temporary_write_protect: bool,
}

impl Programmable {
    /// Whether the host may not write.
    #[must_use]
    pub fn is_write_protected(self) -> bool {
        self.permanent_write_protect || self.temporary_write_protect
    }

    /// The 14th byte of a CSD.
    fn byte(self) -> u8 {
        self.file_format & 0x8c
            | u8::from(self.copy) << 6
            | u8::from(self.permanent_write_protect) << 5
            | u8::from(self.temporary_write_protect) << 4
    }

    fn of_byte(byte: u8) -> Self {
        Self {
            file_format: byte & 0x8c,
            copy: byte & 0x40 != 0,
            permanent_write_protect: byte & 0x20 != 0,
            temporary_write_protect: byte & 0x10 != 0,
        }
    }
}

/// Why a CSD cannot be programmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramError {
    /// The read-only part is not that of the card, or a bit that is set once was cleared: CSD_OVERWRITE.
    Overwrite,
    /// The CSD's own CRC7 is wrong.
    Crc,
}

/// Classes 0, 2, 4, 5, 7, 8 and 10 (CCC, 5.3.2).
const CLASSES: u64 = 0x5b5;
/// Class 6: write protection by groups.
const CLASS_WRITE_PROTECT: u64 = 1 << 6;

/// Write blocks of a write protect group: 128 sectors of 128 blocks, as SECTOR_SIZE and WP_GRP_SIZE say.
const GROUP_WRITE_BLOCKS: u64 = 128 * 128;

/// 512-byte blocks of a write protect group of a standard-capacity card; `None` for the others, which have no groups.
#[must_use]
pub fn group_blocks(profile: &Profile) -> Option<u64> {
    let size = profile.capacity.is_standard().then(|| profile.capacity.standard_size())?;
    Some(GROUP_WRITE_BLOCKS << size.read_bl_len.saturating_sub(9))
}

/// TRAN_SPEED (5.3.2) in bus speed mode `access_mode`, a function of group 1 of CMD6.
#[must_use]
pub fn tran_speed(access_mode: u8) -> u8 {
    match access_mode {
        1 => 0x5a,
        2 | 4 => 0x0b,
        3 => 0x2b,
        _ => 0x32,
    }
}

/// The CSD register as R2 carries it, with its CRC7 and end bit.
#[must_use]
pub fn csd(profile: &Profile, programmed: Programmable, access_mode: u8) -> [u8; 16] {
    let mut register = [0; 16];
    let mut field = |high, low, value: u64| put(&mut register, high, low, value);
    // TAAC 1 ms, NSAC 0: fixed from version 2 on.
    field(119, 112, 0x0e);
    field(103, 96, u64::from(tran_speed(access_mode)));
    // ERASE_BLK_EN; SECTOR_SIZE 128 write blocks; R2W_FACTOR 4.
    field(46, 46, 1);
    field(45, 39, 0x7f);
    field(28, 26, 2);
    match profile.capacity.kind() {
        CapacityKind::Standard => {
            let StandardSize { c_size_z, c_size_mult, read_bl_len } = profile.capacity.standard_size();
            field(95, 84, CLASSES | CLASS_WRITE_PROTECT);
            field(83, 80, u64::from(read_bl_len));
            // READ_BL_PARTIAL is always set; WRITE_BL_PARTIAL and both kinds of misalignment are not supported.
            field(79, 79, 1);
            field(73, 62, u64::from(c_size_z));
            // VDD_R_CURR_MIN 25 mA, VDD_R_CURR_MAX 35 mA, and the same for writing.
            field(61, 50, 0b100_100_100_100);
            field(49, 47, u64::from(c_size_mult));
            // WP_GRP_SIZE 128 sectors, WP_GRP_ENABLE.
            field(38, 32, 0x7f);
            field(31, 31, 1);
            field(25, 22, u64::from(read_bl_len));
        }
        kind => {
            field(127, 126, if kind == CapacityKind::Ultra { 2 } else { 1 });
            field(95, 84, CLASSES);
            field(83, 80, 9);
            // 22 bits in version 2 and 28 in version 3, whose upper 6 are reserved in version 2.
            field(75, 48, u64::from(profile.capacity.c_size_z()));
            field(25, 22, 9);
        }
    }
    field(15, 8, u64::from(programmed.byte()));
    let [body @ .., _] = register;
    closed(body)
}

/// What the card is programmed to if the host sends `new` with CMD27 (4.7.4).
///
/// # Errors
/// [`ProgramError`] if it is not: nothing changes.
pub fn program(profile: &Profile, old: Programmable, new: &[u8; 16]) -> Result<Programmable, ProgramError> {
    let [body @ .., end] = *new;
    let [.., byte] = body;
    let [.., end_of_own] = closed(body);
    if end | 1 != end_of_own {
        return Err(ProgramError::Crc);
    }
    let wanted = Programmable::of_byte(byte);
    // TRAN_SPEED follows the bus speed mode, and a host may have read it in another one.
    let same = (0..5).any(|mode| csd(profile, wanted, mode) == closed(body));
    let formats = profile.capacity.is_standard() || wanted.file_format == 0;
    let clears = old.copy && !wanted.copy
        || old.permanent_write_protect && !wanted.permanent_write_protect
        || old.file_format & !wanted.file_format != 0;
    if same && formats && !clears { Ok(wanted) } else { Err(ProgramError::Overwrite) }
}
