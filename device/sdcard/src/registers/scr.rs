//! SD configuration register (5.6): what ACMD51 sends.

use crate::capacity::CapacityKind;
use crate::profile::{Profile, Version};
use crate::registers::field::put;

/// The SCR register, first byte first.
#[must_use]
pub fn scr(profile: &Profile) -> [u8; 8] {
    let mut register = [0; 8];
    let mut field = |high, low, value: u64| put(&mut register, high, low, value);
    // SD_SPEC 2 stands for 2.00 and, with the bits that follow, for all later versions.
    field(59, 56, 2);
    // DATA_STAT_AFTER_ERASE stays 0: what was erased reads as zeros.
    field(
        54,
        52,
        match profile.capacity.kind() {
            CapacityKind::Standard => 2,
            CapacityKind::High => 3,
            CapacityKind::Extended | CapacityKind::Ultra => 4,
        },
    );
    // SD_BUS_WIDTHS: 1 and 4 bits.
    field(51, 48, 0b0101);
    field(47, 47, u64::from(profile.version >= Version::V3));
    field(42, 42, u64::from(profile.version >= Version::V4));
    field(
        41,
        38,
        match profile.version {
            Version::V2 | Version::V3 | Version::V4 => 0,
            Version::V5 => 1,
            Version::V6 => 2,
            Version::V7 => 3,
            Version::V8 => 4,
            Version::V9 => 5,
        },
    );
    field(33, 33, u64::from(profile.has_block_count()));
    field(32, 32, u64::from(profile.has_speed_class_control()));
    register
}
