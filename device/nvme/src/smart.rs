//! The SMART / health information log (5.14.1.2): counters of what the controller has done.

use std::time::Duration;

use crate::bytes::put;

/// Bytes of the log page.
pub(crate) const PAGE_BYTES: usize = 512;
/// The composite temperature, in kelvins. Nothing warms the card.
pub(crate) const TEMPERATURE: u16 = 313;
/// WCTEMP: the temperature at which the card warns, in kelvins.
pub(crate) const WARNING_TEMPERATURE: u16 = 343;
/// CCTEMP: that at which it stops.
pub(crate) const CRITICAL_TEMPERATURE: u16 = 358;

/// Critical warning: the temperature is at or beyond a threshold.
const WARNING_TEMPERATURE_BIT: u8 = 1 << 1;
/// Data units are of 1000 times 512 bytes.
const UNIT_BLOCKS: u64 = 1000;

/// The counters. They live as long as the card is in the slot.
#[derive(Debug)]
pub(crate) struct Smart {
    /// Blocks of 512 bytes that were read for the guest.
    pub(crate) blocks_read: u64,
    /// Likewise written.
    pub(crate) blocks_written: u64,
    /// Read and Compare commands.
    pub(crate) read_commands: u64,
    /// Write commands.
    pub(crate) write_commands: u64,
    /// Commands that ended with a media error.
    pub(crate) media_errors: u64,
    power_cycles: u64,
    unsafe_shutdowns: u64,
    /// When a driver first enabled the controller: the power-on hours count from there.
    used_since: Option<Duration>,
    /// How long I/O commands were under way.
    busy: Duration,
    busy_since: Option<Duration>,
}

impl Smart {
    pub(crate) fn new() -> Self {
        Self {
            blocks_read: 0,
            blocks_written: 0,
            read_commands: 0,
            write_commands: 0,
            media_errors: 0,
            power_cycles: 1,
            unsafe_shutdowns: 0,
            used_since: None,
            busy: Duration::ZERO,
            busy_since: None,
        }
    }

    /// A driver enables the controller.
    pub(crate) fn enabled(&mut self, now: Duration) {
        self.used_since.get_or_insert(now);
    }

    /// Power was off and is on again; `is_clean` if a shutdown had been completed, or nothing was enabled.
    pub(crate) fn power_cycle(&mut self, is_clean: bool) {
        self.power_cycles += 1;
        self.unsafe_shutdowns += u64::from(!is_clean);
    }

    /// Whether I/O commands are under way from now on.
    pub(crate) fn set_busy(&mut self, now: Duration, busy: bool) {
        match (self.busy_since, busy) {
            (None, true) => self.busy_since = Some(now),
            (Some(since), false) => {
                self.busy = self.busy.saturating_add(now.saturating_sub(since));
                self.busy_since = None;
            }
            _ => {}
        }
    }

    /// Critical warning, for these temperature thresholds.
    pub(crate) fn critical_warning(over: u16, under: u16) -> u8 {
        if TEMPERATURE >= over || TEMPERATURE <= under { WARNING_TEMPERATURE_BIT } else { 0 }
    }

    /// The log page.
    pub(crate) fn page(&self, now: Duration, critical_warning: u8, errors: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        put(&mut page, 0, &[critical_warning]);
        put(&mut page, 1, &TEMPERATURE.to_le_bytes());
        // Available spare and its threshold, in percent; nothing is used of the card's life.
        put(&mut page, 3, &[100, 10, 0]);
        let busy = self
            .busy
            .saturating_add(self.busy_since.map_or(Duration::ZERO, |since| now.saturating_sub(since)));
        let counters: [u64; 10] = [
            self.blocks_read.div_ceil(UNIT_BLOCKS),
            self.blocks_written.div_ceil(UNIT_BLOCKS),
            self.read_commands,
            self.write_commands,
            busy.as_secs() / 60,
            self.power_cycles,
            self.used_since.map_or(0, |since| now.saturating_sub(since).as_secs() / 3600),
            self.unsafe_shutdowns,
            self.media_errors,
            errors,
        ];
        for (at, counter) in (32..).step_by(16).zip(counters) {
            put(&mut page, at, &u128::from(counter).to_le_bytes());
        }
        page
    }
}
