//! Signal voltage: 3.3 V after power-up, and the switch to 1.8 V (4.2.4.2).
//!
//! After CMD11's response the card holds CMD and DAT3 to DAT0 low. The host stops the clock for at least 5 ms, changes
//! its voltage meanwhile, and starts the clock again; within 1 ms the card lets go of the lines. If the host does
//! something else, the lines stay low and no command is answered: only power brings the card back.

use std::time::Duration;

use sdmorph_pci::Bus;

/// How long the clock must have stopped at least.
pub(crate) const CLOCK_STOP: Duration = Duration::from_millis(5);
/// When the card lets go of the lines after the clock has started again.
pub(crate) const LINES_RISE: Duration = Duration::from_millis(1);

/// The card's signal voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signalling {
    /// 3.3 V.
    High,
    /// CMD11 was answered.
    Switching {
        /// When the clock stopped, if it has.
        stopped_at: Option<Duration>,
    },
    /// The clock runs again at 1.8 V.
    Rising {
        /// When the lines will be high.
        high_at: Duration,
    },
    /// 1.8 V, until power is cut.
    Low,
}

impl Signalling {
    /// CMD11 was answered.
    pub(crate) fn start(&mut self, now: Duration, bus: Bus) {
        *self = Signalling::Switching { stopped_at: (!bus.clock).then_some(now) };
    }

    /// The host changed the bus.
    pub(crate) fn bus_changed(&mut self, now: Duration, bus: Bus) {
        let Signalling::Switching { stopped_at } = *self else { return };
        *self = match stopped_at {
            Some(stopped_at) if !bus.clock => Signalling::Switching { stopped_at: Some(stopped_at) },
            Some(stopped_at) if bus.low_voltage && now.saturating_sub(stopped_at) >= CLOCK_STOP => {
                Signalling::Rising { high_at: now.saturating_add(LINES_RISE) }
            }
            _ => Signalling::Switching { stopped_at: (!bus.clock).then_some(now) },
        };
    }

    /// Time passed.
    pub(crate) fn settle(&mut self, now: Duration) {
        if matches!(self, Signalling::Rising { high_at } if now >= *high_at) {
            *self = Signalling::Low;
        }
    }

    /// Whether the card holds all lines low.
    pub(crate) fn holds_lines(self) -> bool {
        matches!(self, Signalling::Switching { .. } | Signalling::Rising { .. })
    }

    /// Whether a command of a host with this bus reaches the card. At 1.8 V, a host gives the lines no level that is high
    /// for a card at 3.3 V; the other way round it works, and Linux relies on it.
    pub(crate) fn hears(self, bus: Bus) -> bool {
        match self {
            Signalling::High => !bus.low_voltage,
            Signalling::Switching { .. } | Signalling::Rising { .. } => false,
            Signalling::Low => true,
        }
    }

    pub(crate) fn deadline(self) -> Option<Duration> {
        match self {
            Signalling::Rising { high_at } => Some(high_at),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Signalling::High => "3.3 V",
            Signalling::Switching { .. } | Signalling::Rising { .. } => "switching",
            Signalling::Low => "1.8 V",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: Bus = Bus { width: 1, ddr: false, low_voltage: false, clock: true };
    const STOPPED: Bus = Bus { clock: false, ..RUNS };
    const STOPPED_LOW: Bus = Bus { low_voltage: true, ..STOPPED };
    const RUNS_LOW: Bus = Bus { low_voltage: true, ..RUNS };

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn after(steps: &[(u64, Bus)]) -> Signalling {
        let mut signalling = Signalling::High;
        signalling.start(at(0), RUNS);
        for (milliseconds, bus) in steps {
            signalling.bus_changed(at(*milliseconds), *bus);
        }
        signalling.settle(at(1000));
        signalling
    }

    #[test]
    fn switch_in_the_order_of_the_specification_ends_at_1v8() {
        assert_eq!(after(&[(1, STOPPED), (2, STOPPED_LOW), (6, RUNS_LOW)]), Signalling::Low);
    }

    #[test]
    fn lines_rise_one_millisecond_after_the_clock() {
        let mut signalling = Signalling::Switching { stopped_at: Some(at(0)) };
        signalling.bus_changed(at(10), RUNS_LOW);
        assert_eq!(signalling.deadline(), Some(at(11)));
        signalling.settle(at(10));
        assert!(signalling.holds_lines());
        signalling.settle(at(11));
        assert!(!signalling.holds_lines() && signalling.hears(RUNS_LOW));
    }

    #[test]
    fn other_orders_leave_the_lines_low() {
        let wrong: &[&[(u64, Bus)]] = &[
            &[],
            &[(1, STOPPED)],
            // The voltage did not change.
            &[(1, STOPPED), (10, RUNS)],
            // The clock did not stop, or not for long enough.
            &[(1, RUNS_LOW)],
            &[(1, STOPPED_LOW), (5, RUNS_LOW)],
            &[(1, RUNS), (2, STOPPED), (3, STOPPED_LOW), (6, RUNS_LOW)],
        ];
        for steps in wrong {
            assert!(after(steps).holds_lines(), "{steps:?}");
        }
    }

    #[test]
    fn clock_that_stood_already_counts_from_the_command() {
        let mut signalling = Signalling::High;
        signalling.start(at(0), STOPPED);
        signalling.bus_changed(at(5), RUNS_LOW);
        assert_eq!(signalling.deadline(), Some(at(6)));
    }
}
