//! What fault rules cost an access that does not set them off.
//!
//! Two things are measured: the round trip of a register read over the vfio-user socket, by `sdmorph serve` in a process of
//! its own, and the same read of a machine in this process, in which nothing but the device's own work is left. A rule's
//! cost is some nanoseconds, and the round trip's own spread is a hundred times that: what is judged is the difference
//! that rules make in the machine, next to the round trip. That of the round trip itself is shown beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sdmorph_machine::faults::Rule;
use sdmorph_machine::{Host, Machine, Region};
use sdmorph_pci::PciFunction;
use sdmorph_rtsx::BAR_REGISTERS;
use sdmorph_testkit::{Bench, MessageLog, Remote, RtsxDriver, TestMemory};
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::GuestOptions;
use crate::report::Settings;
use crate::serving::{Serving, device_program};
use crate::statistics::{Percentiles, median, nanoseconds};

/// BIPR: reading it changes nothing.
const REGISTER: &str = "BIPR";
const OFFSET: u64 = 0x14;
/// Most rules at a time.
pub(crate) const MANY: u32 = 1000;
/// VMD's registers and the port's, as a guest programs them: configuration space and ECAM.
const WINDOW: u32 = 0xc000_0000;
const PORT: u64 = 0x1c << 15;
const SLOT: u64 = 1 << 20;

/// Rules that no read of the register sets off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    OtherRegisters,
    OtherValues,
    OtherOffsets,
    OtherPhase,
    NotArmed,
    OtherThings,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::OtherRegisters,
        Self::OtherValues,
        Self::OtherOffsets,
        Self::OtherPhase,
        Self::NotArmed,
        Self::OtherThings,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::OtherRegisters => "other registers",
            Self::OtherValues => "other values of that register",
            Self::OtherOffsets => "any register, at other offsets",
            Self::OtherPhase => "that register, in another phase",
            Self::NotArmed => "that register, not armed yet",
            Self::OtherThings => "interrupts, DMA, doorbells",
        }
    }

    /// The trigger of the rule of that number.
    fn trigger(self, number: u32) -> Value {
        let others = BAR_REGISTERS.iter().filter(|row| row.name != REGISTER);
        match self {
            Self::OtherRegisters => {
                let number = usize::try_from(number).unwrap_or(0);
                let row = others.cycle().nth(number % BAR_REGISTERS.len());
                json!({ "read": row.map(|row| row.name), "function": "reader" })
            }
            Self::OtherValues => json!({ "read": REGISTER, "value": 0xdead_0000 + number }),
            Self::OtherOffsets => {
                json!({ "read": "*", "function": "reader", "space": "bar", "offset": 0x100 + number })
            }
            Self::OtherPhase => json!({ "read": REGISTER, "while": { "phase": "drive" } }),
            Self::NotArmed => json!({ "read": REGISTER, "after": "card-inserted" }),
            Self::OtherThings => match number % 3 {
                0 => json!({ "interrupt": number, "function": "reader" }),
                1 => json!({ "dma": "*", "address": number }),
                _ => json!({ "doorbell": "sq", "queue": number }),
            },
        }
    }

    fn rules(self, count: u32) -> Vec<Value> {
        let rule = |number| {
            let (name, on) = (format!("r{number}"), self.trigger(number));
            json!({ "name": name, "on": on, "do": { "bar": "vanish" } })
        };
        (0..count).map(rule).collect()
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct RuleCosts {
    /// Without rules.
    pub(crate) without: Cost,
    pub(crate) rows: Vec<Row>,
}

/// Rules of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) rules: u32,
    pub(crate) cost: Cost,
}

/// What a read takes, one entry a round.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// Of the round trip over the socket, the median.
    pub(crate) round_trip_ns: Vec<f64>,
    /// In the machine.
    pub(crate) machine_ns: Vec<f64>,
}

impl Cost {
    pub(crate) fn medians(&self) -> Option<(f64, f64)> {
        Some((median(self.round_trip_ns.iter().copied())?, median(self.machine_ns.iter().copied())?))
    }
}

/// Measures everything, in rounds.
///
/// # Errors
/// There is no device, or it does not do what it is asked for.
pub(crate) fn measure(settings: &Settings, options: &GuestOptions) -> Result<RuleCosts> {
    let device = device_program(options)?;
    let (rounds, reads) = (settings.rounds, settings.reads);
    crate::say(&format!("rules: {rounds} rounds of {reads} reads a row"));
    let (mut served, mut alone) = (Served::start(&device, options)?, Alone::new());
    let counts = Kind::ALL.into_iter().flat_map(|kind| [(kind, 1), (kind, MANY)]);
    let mut rows: Vec<_> = counts.map(|(kind, rules)| Row { kind, rules, cost: Cost::default() }).collect();
    let mut without = Cost::default();
    for _ in 0..rounds {
        let all = rows.iter_mut().map(|row| (row.kind.rules(row.rules), &mut row.cost));
        for (rules, cost) in std::iter::once((Vec::new(), &mut without)).chain(all) {
            served.load(&rules)?;
            alone.load(&rules)?;
            cost.round_trip_ns.push(served.reads(reads)?);
            cost.machine_ns.push(alone.reads(reads)?);
        }
    }
    served.end();
    Ok(RuleCosts { without, rows })
}

/// `sdmorph serve` in a process of its own.
struct Served {
    serving: Serving,
    reader: Remote,
    bench: Bench,
}

impl Served {
    fn start(device: &Path, options: &GuestOptions) -> Result<Self> {
        let serving = Serving::start(device, options, "sd-express")?;
        let (mut reader, mut bench) = Remote::attach(&serving.socket)?;
        let probed = RtsxDriver::new().probe(&mut bench, &mut reader);
        probed.map_err(|error| anyhow!("the reader's driver does not bind: {error:?}"))?;
        let mut served = Self { serving, reader, bench };
        served.reads(1000)?;
        Ok(served)
    }

    fn load(&self, rules: &[Value]) -> Result<()> {
        self.serving.server.load_rules("cost", rules.into())?;
        Ok(())
    }

    /// The median of the times of so many reads.
    fn reads(&mut self, count: u32) -> Result<f64> {
        let mut times_ns = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            let value = self.bench.with(&mut self.reader, |reader, ctx| reader.bar_read(ctx, 0, OFFSET, 4));
            times_ns.push(nanoseconds(began.elapsed()));
            if value == 0xffff_ffff {
                bail!("the reader does not answer");
            }
        }
        Ok(Percentiles::of(times_ns).context("no reads")?.p50_ns as f64)
    }

    fn end(self) {
        drop(self.reader);
        self.serving.server.quit();
    }
}

/// A machine in this process.
struct Alone {
    machine: Machine,
    now: Duration,
}

impl Alone {
    /// The reader is placed, as a guest does it.
    fn new() -> Self {
        let machine = Machine::new(Host {
            memory: Arc::new(TestMemory::new(0, 0)),
            interrupts: Box::new(MessageLog::default()),
        });
        let mut alone = Self { machine, now: Duration::ZERO };
        let mut put = |region, at, data: &[u8]| alone.machine.write(Duration::ZERO, region, at, data);
        put(Region::Config, 0x18, &WINDOW.to_le_bytes());
        put(Region::Config, 0x04, &[6, 0]);
        put(Region::Bar(0), PORT + 0x18, &[0, 1, 1, 0]);
        put(Region::Bar(0), PORT + 0x20, &(WINDOW | WINDOW >> 16).to_le_bytes());
        put(Region::Bar(0), PORT + 0x04, &[6, 0]);
        put(Region::Bar(0), SLOT + 0x10, &WINDOW.to_le_bytes());
        put(Region::Bar(0), SLOT + 0x04, &[6, 0]);
        alone
    }

    fn load(&mut self, rules: &[Value]) -> Result<()> {
        let rules = rules.iter().map(Rule::from_json).collect::<Result<_, _>>()?;
        self.machine.scenario_load(self.now, "cost", rules, true)?;
        Ok(())
    }

    /// What a read takes, on average over so many.
    fn reads(&mut self, count: u32) -> Result<f64> {
        let mut data = [0; 4];
        let began = Instant::now();
        for _ in 0..count {
            self.now += Duration::from_micros(10);
            self.machine.read(self.now, Region::Bar(2), OFFSET, &mut data);
        }
        let took = began.elapsed();
        if data == [0xff; 4] {
            bail!("the reader does not answer");
        }
        Ok(took.as_nanos() as f64 / f64::from(count.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_is_set_off_by_the_reads_and_all_are_taken() {
        let mut alone = Alone::new();
        for kind in Kind::ALL {
            alone.load(&kind.rules(MANY)).unwrap();
            alone.reads(10).unwrap();
            let rules = alone.machine.rules();
            assert_eq!(rules.len(), MANY as usize, "{kind:?}");
            assert!(rules.iter().all(|status| status.hits == 0), "{kind:?}");
            assert_eq!(rules.iter().all(|status| status.armed), kind != Kind::NotArmed, "{kind:?}");
        }
        // And one would be.
        alone.load(&[json!({ "name": "r", "on": { "read": REGISTER, "nth": 10 } })]).unwrap();
        alone.reads(10).unwrap();
        assert_eq!(alone.machine.rules().first().map(|status| status.hits), Some(1));
    }
}
