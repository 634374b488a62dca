//! The switch function command (4.3.10): bus speed mode, driver strength and current limit.

use std::time::Duration;

use crate::card::MemoryCard;
use crate::profile::Profile;
use crate::registers::field::put;
use crate::table::Outcome;
use crate::transfer::Then;
use crate::voltage::Signalling;

/// Mode 1: set. Otherwise the command asks what it would do.
const MODE_SET: u32 = 1 << 31;
/// In an argument: the group stays as it is. In a result: there is no such function.
const NO_FUNCTION: u8 = 0xf;
/// Functions 0 and 15 are in every group.
const ALWAYS: u16 = 0x8001;
/// DDR50 in group 1.
const DDR50: u8 = 4;

/// The functions chosen in groups 1 to 4: access mode, command system, driver strength, current limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Functions([u8; 4]);

impl Functions {
    /// Group 1: the bus speed mode. 0 is default speed or SDR12, 1 high speed or SDR25, then SDR50, SDR104, DDR50.
    pub(crate) fn access_mode(self) -> u8 {
        let [access_mode, ..] = self.0;
        access_mode
    }

    /// Data changes on both edges of the clock.
    pub(crate) fn is_double_rate(self) -> bool {
        self.access_mode() == DDR50
    }

    /// The bus speed mode's name.
    pub(crate) fn mode_name(self, low_voltage: bool) -> &'static str {
        match (self.access_mode(), low_voltage) {
            (0, false) => "default",
            (1, false) => "high-speed",
            (0, true) => "SDR12",
            (1, true) => "SDR25",
            (2, _) => "SDR50",
            (3, _) => "SDR104",
            _ => "DDR50",
        }
    }
}

/// The functions of groups 1 to 4 that a card has at this voltage. SDR50, SDR104, DDR50, driver types A, C and D and the
/// current limits are functions of 1.8 V signalling.
fn supported(profile: &Profile, low_voltage: bool) -> [u16; 4] {
    let Some(uhs) = profile.uhs().filter(|_| low_voltage) else {
        return [ALWAYS | 0b10, ALWAYS, ALWAYS, ALWAYS];
    };
    let modes = u16::from(uhs.sdr50) << 2 | u16::from(uhs.sdr104) << 3 | u16::from(uhs.ddr50) << DDR50;
    [ALWAYS | 0b10 | modes, ALWAYS, ALWAYS | 0b1110, ALWAYS | 0b1110]
}

/// Most current in mA that the chosen functions draw.
fn current_ma(functions: Functions) -> u16 {
    let [access_mode, _, _, limit] = functions.0;
    let limit = [200, 400, 600, 800].get(usize::from(limit)).copied().unwrap_or(200);
    match access_mode {
        0 => 100,
        1 => 200,
        _ => limit,
    }
}

/// The 64 bytes that CMD6 sends, and the functions that are set when it has.
fn switch(profile: &Profile, low_voltage: bool, old: Functions, argument: u32) -> ([u8; 64], Functions) {
    let supported = supported(profile, low_voltage);
    let mut new = old.0;
    let mut fails = false;
    // Result and support bits for groups 1 to 6. The last two have no functions but 0.
    let groups: [(u16, u8); 6] = std::array::from_fn(|group| {
        let wanted = (argument >> (4 * group) & 0xf) as u8;
        let support = supported.get(group).copied().unwrap_or(ALWAYS);
        let current = old.0.get(group).copied().unwrap_or(0);
        let result = match wanted {
            NO_FUNCTION => current,
            wanted if support >> wanted & 1 != 0 => wanted,
            _ => NO_FUNCTION,
        };
        fails |= result == NO_FUNCTION;
        if let Some(slot) = new.get_mut(group) {
            *slot = result;
        }
        (support, result)
    });
    let mut status = [0; 64];
    // 0 mA says that it failed.
    put(&mut status, 511, 496, if fails { 0 } else { u64::from(current_ma(Functions(new))) });
    for (group, (support, result)) in (0u16..).zip(groups) {
        put(&mut status, 400 + 16 * group + 15, 400 + 16 * group, u64::from(support));
        put(&mut status, 376 + 4 * group + 3, 376 + 4 * group, u64::from(result));
    }
    // Structure version 1: the busy bits (367:272) are there. No function is ever busy.
    put(&mut status, 375, 368, 1);
    let sets = argument & MODE_SET != 0 && !fails;
    (status, if sets { Functions(new) } else { old })
}

impl MemoryCard {
    /// CMD6.
    pub(crate) fn switch_function(&mut self, _now: Duration, argument: u32) -> Outcome {
        let low_voltage = self.session.signalling == Signalling::Low;
        let (status, functions) = switch(&self.profile, low_voltage, self.session.functions, argument);
        self.send_block(status.to_vec(), Then::Functions(functions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::Capacity;

    fn profile() -> Profile {
        Profile::legacy(1, Capacity::DEFAULT)
    }

    fn chosen(status: &[u8; 64]) -> [u8; 3] {
        [status[14], status[15], status[16]]
    }

    #[test]
    fn check_at_3v3_shows_default_and_high_speed_only() {
        let (status, after) = switch(&profile(), false, Functions::default(), 0x00ff_fff1);
        assert_eq!(status[..14], [0, 200, 0x80, 1, 0x80, 1, 0x80, 1, 0x80, 1, 0x80, 1, 0x80, 3]);
        assert_eq!(chosen(&status), [0, 0, 1]);
        assert_eq!(status[17], 1);
        assert!(status[18..].iter().all(|byte| *byte == 0));
        assert_eq!(after, Functions::default());
    }

    #[test]
    fn check_at_1v8_shows_all_modes_strengths_and_limits() {
        let (status, _) = switch(&profile(), true, Functions::default(), 0x00ff_ffff);
        assert_eq!(status[6..14], [0x80, 0x0f, 0x80, 0x0f, 0x80, 0x01, 0x80, 0x1f]);
    }

    #[test]
    fn set_changes_what_was_asked_for_and_leaves_the_rest() {
        let old = Functions([0, 0, 1, 0]);
        let (status, after) = switch(&profile(), true, old, MODE_SET | 0x00ff_1ff3);
        assert_eq!(after, Functions([3, 0, 1, 1]));
        assert_eq!(chosen(&status), [0, 0x11, 0x03]);
        assert_eq!(status[..2], [0x01, 0x90]);
    }

    #[test]
    fn set_of_a_function_that_is_not_there_changes_nothing() {
        // SDR104 needs 1.8 V; the driver strength alone would be right.
        let (status, after) = switch(&profile(), false, Functions::default(), MODE_SET | 0x00ff_f0f3);
        assert_eq!(after, Functions::default());
        assert_eq!(chosen(&status), [0, 0, 0x0f]);
        assert_eq!(status[..2], [0, 0]);
        let (status, after) = switch(&profile(), true, Functions::default(), MODE_SET | 0x001f_ffff);
        assert_eq!((chosen(&status), after), ([0xf0, 0, 0], Functions::default()));
    }
}
