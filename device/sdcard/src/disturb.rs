//! Disturbances from outside, for tests: a worn or badly seated card.

use std::ops::Range;
use std::time::Duration;

use sdmorph_pci::{DataError, DisturbError, Disturbance};
use serde_json::{Value, json};

/// What disturbs the card, and how often it has.
#[derive(Debug, Default)]
pub(crate) struct Disturbances {
    response_crc: u32,
    response_timeout: u32,
    data_crc: u32,
    data_timeout: u32,
    busy_until: Option<Duration>,
    bad: Vec<Range<u64>>,
    felt: Felt,
}

/// How often a disturbance was felt.
#[derive(Debug, Default)]
struct Felt {
    response_crc: u64,
    response_timeout: u64,
    data_crc: u64,
    data_timeout: u64,
    bad_blocks: u64,
}

/// Most ranges of bad blocks: every request looks through them.
const MAX_BAD_RANGES: usize = 256;

/// Uses one up, if there is one.
fn spend(left: &mut u32, felt: &mut u64) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    *felt = felt.saturating_add(1);
    true
}

impl Disturbances {
    pub(crate) fn add(&mut self, now: Duration, disturbance: Disturbance) -> Result<(), DisturbError> {
        match disturbance {
            Disturbance::BadBlocks { .. } if self.bad.len() >= MAX_BAD_RANGES => {
                return Err(DisturbError::TooManyBadBlocks);
            }
            Disturbance::ResponseCrc(count) => self.response_crc = count,
            Disturbance::ResponseTimeout(count) => self.response_timeout = count,
            Disturbance::DataCrc(count) => self.data_crc = count,
            Disturbance::DataTimeout(count) => self.data_timeout = count,
            Disturbance::Busy(time) => self.busy_until = Some(now.saturating_add(time)),
            Disturbance::BadBlocks { first, count } => self.bad.push(first..first.saturating_add(count)),
            Disturbance::Heal => {
                let Self { response_crc, response_timeout, data_crc, data_timeout, busy_until, bad, felt: _ } =
                    self;
                (*response_crc, *response_timeout, *data_crc, *data_timeout) = (0, 0, 0, 0);
                *busy_until = None;
                bad.clear();
            }
        }
        Ok(())
    }

    /// The command at hand is not received.
    pub(crate) fn swallows_command(&mut self) -> bool {
        spend(&mut self.response_timeout, &mut self.felt.response_timeout)
    }

    /// The response at hand is spoilt.
    pub(crate) fn spoils_response(&mut self) -> bool {
        spend(&mut self.response_crc, &mut self.felt.response_crc)
    }

    /// What becomes of the data transfer at hand.
    pub(crate) fn spoils_data(&mut self) -> Option<DataError> {
        if spend(&mut self.data_timeout, &mut self.felt.data_timeout) {
            return Some(DataError::Timeout);
        }
        spend(&mut self.data_crc, &mut self.felt.data_crc).then_some(DataError::Crc)
    }

    /// How many blocks from `first` on are good, up to `count`.
    pub(crate) fn good_blocks(&self, first: u64, count: u32) -> u32 {
        let end = first.saturating_add(u64::from(count));
        let hit = self.bad.iter().filter(|bad| bad.start < end && first < bad.end && !bad.is_empty());
        let good = hit.map(|bad| bad.start.saturating_sub(first)).min().unwrap_or(u64::from(count));
        u32::try_from(good).unwrap_or(count)
    }

    /// A bad block was met.
    pub(crate) fn met_bad_block(&mut self) {
        self.felt.bad_blocks = self.felt.bad_blocks.saturating_add(1);
    }

    /// Time passed.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.busy_until = self.busy_until.filter(|until| now < *until);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy_until.is_some()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.busy_until
    }

    pub(crate) fn snapshot(&self) -> Value {
        let bad: Vec<_> =
            self.bad.iter().map(|bad| json!({"first": bad.start, "count": bad.end - bad.start})).collect();
        json!({
            "pending": {
                "response-crc": self.response_crc,
                "response-timeout": self.response_timeout,
                "data-crc": self.data_crc,
                "data-timeout": self.data_timeout,
                "busy": self.is_busy(),
                "bad-blocks": bad,
            },
            "felt": {
                "response-crc": self.felt.response_crc,
                "response-timeout": self.felt.response_timeout,
                "data-crc": self.felt.data_crc,
                "data-timeout": self.felt.data_timeout,
                "bad-blocks": self.felt.bad_blocks,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_blocks_end_at_the_first_bad_one() {
        let mut disturbances = Disturbances::default();
        disturbances.add(Duration::ZERO, Disturbance::BadBlocks { first: 20, count: 1 }).unwrap();
        disturbances.add(Duration::ZERO, Disturbance::BadBlocks { first: 10, count: 5 }).unwrap();
        disturbances.add(Duration::ZERO, Disturbance::BadBlocks { first: 1, count: 0 }).unwrap();
        let good = |first, count| disturbances.good_blocks(first, count);
        assert_eq!([good(0, 8), good(0, 100), good(12, 3), good(15, 5), good(15, 6)], [8, 10, 0, 5, 5]);
        assert_eq!(good(u64::MAX, 2), 2);
    }

    #[test]
    fn counts_run_out_and_are_counted() {
        let mut disturbances = Disturbances::default();
        disturbances.add(Duration::ZERO, Disturbance::DataCrc(1)).unwrap();
        disturbances.add(Duration::ZERO, Disturbance::DataTimeout(1)).unwrap();
        let spoilt: Vec<_> = (0..3).map(|_| disturbances.spoils_data()).collect();
        assert_eq!(spoilt, [Some(DataError::Timeout), Some(DataError::Crc), None]);
        assert_eq!(disturbances.snapshot()["felt"]["data-crc"], 1);
    }
}
