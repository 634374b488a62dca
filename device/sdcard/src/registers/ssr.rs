//! SD Status (4.10.2): what ACMD13 sends.

use crate::capacity::CapacityKind;
use crate::profile::Profile;
use crate::registers::field::put;

/// The SD Status, first byte first. `wide` says whether the bus has 4 bits.
#[must_use]
pub fn ssr(profile: &Profile, wide: bool) -> [u8; 64] {
    let mut register = [0; 64];
    let mut field = |high, low, value: u64| put(&mut register, high, low, value);
    let speed = profile.speed;
    field(511, 510, if wide { 2 } else { 0 });
    // SECURED_MODE, SD_CARD_TYPE and SIZE_OF_PROTECTED_AREA stay 0: a regular card without a protected area.
    field(447, 440, speed.class as u64);
    field(439, 432, u64::from(speed.moving));
    field(431, 428, speed.unit as u64);
    field(423, 408, u64::from(profile.erase.units));
    field(407, 402, u64::from(profile.erase.timeout_s));
    field(401, 400, u64::from(profile.erase.offset_s));
    if profile.uhs().is_some() {
        field(399, 396, speed.grade as u64);
        // UHS_AU_SIZE has the codes of AU_SIZE, from 1 MiB on.
        field(395, 392, if speed.unit.mebibytes() == 0 { 0 } else { speed.unit as u64 });
    }
    if profile.capacity.kind() != CapacityKind::Standard {
        field(391, 384, u64::from(speed.video));
        if speed.video != 0 {
            // VSC_AU_SIZE in MiB: the smallest that is allowed is 8.
            field(377, 368, u64::from(speed.unit.mebibytes().max(8)));
        }
        field(339, 336, u64::from(speed.application));
    }
    field(313, 313, u64::from(profile.erase.discard));
    field(312, 312, u64::from(profile.erase.full));
    register
}
