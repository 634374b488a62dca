//! Every chip under the sequences of its driver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod row_card;

use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use row_card::{Row, State};
use sdmorph_pci::{Event, PciFunction, ResetKind, SdCard, Space};
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::model::{Detector, Model, Rail, ScatterFormat};
use sdmorph_rtsx::vendor_config::{Settings, SettingsFormat};
use sdmorph_sdcard::{Capacity, MemoryCard, Profile};
use sdmorph_testkit::driver::data::{Transfer, scatter_entry, scatter_entry_whole};
use sdmorph_testkit::{Bench, DriverError, RtsxDriver, TestMedia};
use serde_json::Value;

const BUFFER: u64 = (1 << 20) + 0x10000;
const HAIMR: u64 = 0x10;
const BIPR: u64 = 0x14;

struct Lab {
    bench: Bench,
    reader: Rtsx,
    driver: RtsxDriver,
}

impl Lab {
    fn bound(model: &'static Model) -> Self {
        let mut lab = Self { bench: Bench::default(), reader: Rtsx::of(model), driver: RtsxDriver::new() };
        lab.driver.probe(&mut lab.bench, &mut lab.reader).unwrap();
        lab
    }

    /// With a card in it that has been powered.
    fn with_row(model: &'static Model) -> (Self, Arc<Mutex<State>>) {
        let mut lab = Self::bound(model);
        let state = Arc::new(Mutex::new(State::of_blocks(1024)));
        lab.insert(Box::new(Row(state.clone())));
        lab.rescan();
        (lab, state)
    }

    fn insert(&mut self, card: Box<dyn SdCard + Send>) {
        self.bench.with(&mut self.reader, |reader, ctx| reader.insert(ctx, card));
        assert_eq!(self.driver.interrupt(&mut self.bench, &mut self.reader), Ok(true));
    }

    fn rescan(&mut self) -> bool {
        self.driver.rescan(&mut self.bench, &mut self.reader).unwrap()
    }

    fn get(&mut self, address: u32) -> u8 {
        let bar = self.reader.model().bar;
        self.bench.write_bar(&mut self.reader, bar, HAIMR, 0x8000_0000 | (address & 0x3fff) << 16);
        (self.bench.read_bar(&mut self.reader, bar, HAIMR) & 0xff) as u8
    }

    fn put(&mut self, address: u32, mask: u8, data: u8) {
        let bar = self.reader.model().bar;
        let command = 0xc000_0000 | (address & 0x3fff) << 16 | u32::from(mask) << 8 | u32::from(data);
        self.bench.write_bar(&mut self.reader, bar, HAIMR, command);
    }

    fn pending(&mut self) -> u32 {
        let bar = self.reader.model().bar;
        self.bench.read_bar(&mut self.reader, bar, BIPR) & 0xffc0_0000
    }

    fn command(&mut self) -> Result<u32, DriverError> {
        self.driver.command(&mut self.bench, &mut self.reader, 13, 0)
    }
}

fn card(profile: fn(u32, Capacity) -> Profile) -> Box<MemoryCard> {
    let profile = profile(0x1234_5678, Capacity::DEFAULT);
    let medium = TestMedia::new(profile.capacity.blocks());
    Box::new(MemoryCard::new(profile, Box::new(medium)).unwrap())
}

fn locked(state: &Arc<Mutex<State>>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

#[test]
fn no_register_of_the_driver_is_unmodelled_from_probe_to_removal() {
    for model in Model::ALL {
        let mut lab = Lab::bound(model);
        assert_eq!(lab.bench.log.events().collect::<Vec<_>>(), [Event::DriverBound], "{}", model.name);
        lab.insert(card(Profile::legacy));
        assert!(!lab.rescan());
        lab.driver.identify(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.switch_voltage(&mut lab.bench, &mut lab.reader, true).unwrap();
        lab.driver.power_off_card(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.suspend_and_resume(&mut lab.bench, &mut lab.reader).unwrap();
        lab.insert(card(Profile::express));
        lab.rescan();
        lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.shutdown(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.remove(&mut lab.bench, &mut lab.reader).unwrap();
        assert_eq!(lab.bench.log.unmodelled(), [], "{}", model.name);
    }
}

#[test]
fn registers_are_in_the_bar_that_the_driver_maps() {
    for model in Model::ALL {
        let mut lab = Lab::bound(model);
        let spaces = lab.bench.log.accesses().map(|access| access.space);
        let bars: Vec<_> = spaces.filter(|space| matches!(space, Space::Bar(_))).collect();
        assert!(!bars.is_empty() && bars.iter().all(|bar| *bar == Space::Bar(model.bar)), "{}", model.name);
        assert_eq!(lab.reader.bar_register(1 - model.bar, HAIMR), None);
        let size = |lab: &mut Lab, bar: u8| {
            let at = 0x10 + 4 * u16::from(bar);
            lab.bench.config_write(&mut lab.reader, at, 4, u32::MAX);
            lab.bench.config_read(&mut lab.reader, at, 4)
        };
        assert_eq!(size(&mut lab, model.bar), 0xffff_f000);
        assert_eq!(size(&mut lab, 1 - model.bar), 0);
        let snapshot = lab.reader.snapshot();
        assert_eq!(snapshot["chip"], Value::from(model.name));
        assert!(snapshot[format!("bar{}", model.bar)]["BIPR"].is_string());
    }
}

#[test]
fn only_a_chip_that_can_do_it_asks_an_express_card_and_the_others_identify_it_as_sd() {
    for model in Model::ALL {
        let mut lab = Lab::bound(model);
        assert_eq!(lab.driver.offers_express, model.express.is_some(), "{}", model.name);
        lab.insert(card(Profile::express));
        assert_eq!(lab.rescan(), model.express.is_some(), "{}", model.name);
        let switches: Vec<_> = lab
            .bench
            .log
            .events()
            .filter(|event| matches!(event, Event::ExpressSwitchRequested { .. }))
            .collect();
        if model.express.is_some() {
            assert_eq!(switches, [Event::ExpressSwitchRequested { relink_time: 0x8fff }]);
        } else {
            assert_eq!(switches, []);
            let (cid, _) = lab.driver.identify(&mut lab.bench, &mut lab.reader).unwrap();
            assert_eq!(&cid[3..8], b"MORPH");
        }
    }
}

#[test]
fn failed_switch_is_told_by_chips_that_can_switch() {
    for model in Model::ALL {
        let mut reader = Rtsx::of(model);
        reader.set_express_link_failed(true);
        let mut driver = RtsxDriver::new();
        driver.probe(&mut Bench::default(), &mut reader).unwrap();
        assert!(!driver.offers_express, "{}", model.name);
    }
}

#[test]
fn card_is_reached_while_both_of_its_supplies_are_on() {
    for model in Model::ALL {
        let (mut lab, state) = Lab::with_row(model);
        assert!(lab.command().is_ok(), "{}", model.name);
        for switch in [model.supply.card, model.supply.signals] {
            lab.put(switch.address, switch.mask, switch.off);
            locked(&state).commands.clear();
            assert_eq!(lab.command(), Err(DriverError::ListFailed), "{}", model.name);
            assert!(locked(&state).commands.is_empty());
            lab.put(switch.address, switch.mask, switch.on);
            assert!(lab.command().is_ok(), "{}", model.name);
        }
        lab.driver.power_off_card(&mut lab.bench, &mut lab.reader).unwrap();
        assert_eq!(lab.command(), Err(DriverError::ListFailed), "{}", model.name);
        lab.rescan();
        assert!(lab.command().is_ok(), "{}", model.name);
    }
}

#[test]
fn card_that_the_driver_switches_off_forgets_what_it_was() {
    for model in Model::ALL {
        let mut lab = Lab::bound(model);
        lab.insert(card(Profile::legacy));
        // Not supplied yet: nothing reaches it.
        assert_eq!(lab.command(), Err(DriverError::ListFailed), "{}", model.name);
        lab.rescan();
        lab.driver.identify(&mut lab.bench, &mut lab.reader).unwrap();
        let state = |lab: &Lab| lab.reader.snapshot()["internal"]["card"]["state"].clone();
        assert_eq!(state(&lab), "tran", "{}", model.name);
        lab.driver.power_off_card(&mut lab.bench, &mut lab.reader).unwrap();
        assert_eq!(state(&lab), "idle", "{}", model.name);
    }
}

/// What a chip writes while the current into an empty card is limited.
#[test]
fn supply_that_is_limited_is_not_on() {
    for (name, partly) in [("rts5228", 0x01), ("rts525a", 0x02), ("rts522a", 0x01)] {
        let Some(model) = Model::by_name(name) else { continue };
        let (mut lab, _) = Lab::with_row(model);
        let switch = model.supply.card;
        lab.put(switch.address, switch.mask, partly);
        assert_eq!(lab.command(), Err(DriverError::ListFailed), "{name}");
    }
}

#[test]
fn card_sees_the_voltage_of_signals() {
    for model in Model::ALL {
        let (mut lab, state) = Lab::with_row(model);
        assert!(!locked(&state).bus.low_voltage, "{}", model.name);
        lab.driver.switch_voltage(&mut lab.bench, &mut lab.reader, true).unwrap();
        assert!(locked(&state).bus.low_voltage, "{}", model.name);
        lab.driver.switch_voltage(&mut lab.bench, &mut lab.reader, false).unwrap();
        assert!(!locked(&state).bus.low_voltage, "{}", model.name);
    }
}

#[test]
fn blocks_move_through_scatter_lists_of_the_chips_own_format() {
    for model in Model::ALL {
        let (mut lab, state) = Lab::with_row(model);
        // One piece is longer than 16 bits say, and shorter ones follow.
        let pieces = [(BUFFER, 0x12000), (BUFFER + 0x20000, 0x200), (BUFFER + 0x30000, 0x200)];
        let transfer = Transfer { index: 18, argument: 3, block_bytes: 512, blocks: 0x92 };
        lab.driver.read_long(&mut lab.bench, &mut lab.reader, transfer, &pieces).unwrap();
        let arrived: Vec<u8> = pieces
            .iter()
            .flat_map(|(at, length)| lab.bench.memory.peek(*at, *length as usize).unwrap())
            .collect();
        assert_eq!(arrived, locked(&state).blocks[3 * 512..][..arrived.len()], "{}", model.name);
        lab.bench.memory.poke(BUFFER, &[0xa5; 1024]);
        let transfer = Transfer { index: 25, argument: 7, block_bytes: 512, blocks: 2 };
        lab.driver.write_long(&mut lab.bench, &mut lab.reader, transfer, &[(BUFFER, 1024)]).unwrap();
        assert_eq!(locked(&state).blocks[7 * 512..9 * 512], [0xa5; 1024], "{}", model.name);
    }
}

#[test]
fn entry_tells_its_length_in_the_format_of_the_chip() {
    let lengths = [1u32, 0x200, 0xffff, 0x1_0000, 0x1_2345, 0x8_0000];
    for length in lengths {
        let split = scatter_entry((0x1000, length), true);
        assert_eq!(ScatterFormat::Split.length_bytes(split), u64::from(length), "{length:#x}");
        let whole = scatter_entry_whole((0x1000, length), true);
        assert_eq!(ScatterFormat::Whole.length_bytes(whole), u64::from(length), "{length:#x}");
    }
    let longest = scatter_entry_whole((0, 0xf_ffff), false);
    assert_eq!(ScatterFormat::Whole.length_bytes(longest), 0xf_ffff);
}

/// Sets a detector to look, whatever it needs.
fn look(lab: &mut Lab, detector: &Detector) {
    if let Some(needed) = detector.needs {
        lab.put(needed.address, needed.mask, needed.value);
    }
    let both = detector.detect | detector.interrupt_enable;
    lab.put(detector.control, both, both);
}

#[test]
fn over_current_is_told_where_the_driver_looks_and_is_cleared() {
    for model in Model::ALL {
        for detector in model.over_current {
            let (mut lab, _) = Lab::with_row(model);
            look(&mut lab, detector);
            lab.bench.interrupts.take_new();
            let rail = detector.rail;
            assert!(lab.bench.with(&mut lab.reader, |reader, ctx| reader.over_current_at(ctx, rail)));
            assert_eq!(lab.bench.interrupts.take_new().len(), 1, "{} {rail:?}", model.name);
            assert_eq!(lab.pending(), detector.interrupt, "{} {rail:?}", model.name);
            assert_eq!(lab.get(detector.status) & detector.seen, detector.seen);
            // CFG_SD_POW_AUTO_PD, where the driver sets it; otherwise the driver switches the card off.
            let cut = lab.get(0xfd71) & 0x01 != 0;
            assert_eq!(lab.command().is_err(), cut, "{} {rail:?}", model.name);
            lab.put(detector.control, detector.clear, detector.clear);
            assert_eq!(lab.get(detector.status) & detector.seen, 0, "{} {rail:?}", model.name);
            lab.put(detector.control, detector.clear, 0);
        }
    }
}

#[test]
fn powered_card_is_looked_at_and_an_unpowered_one_is_not() {
    for model in Model::ALL {
        let (mut lab, _) = Lab::with_row(model);
        assert!(lab.bench.with(&mut lab.reader, |reader, ctx| reader.over_current(ctx)), "{}", model.name);
        let (mut lab, _) = Lab::with_row(model);
        lab.driver.power_off_card(&mut lab.bench, &mut lab.reader).unwrap();
        assert!(!lab.bench.with(&mut lab.reader, |reader, ctx| reader.over_current(ctx)), "{}", model.name);
        assert_eq!(lab.bench.log.events().filter(|event| *event == Event::OverCurrent).count(), 0);
    }
}

#[test]
fn rail_that_the_chip_does_not_look_at_has_no_over_current() {
    let rails = [Rail::Sd, Rail::SdVio, Rail::SdVdd3, Rail::Dv3318, Rail::OverVoltage];
    for model in Model::ALL {
        for rail in rails {
            let (mut lab, _) = Lab::with_row(model);
            for detector in model.over_current {
                look(&mut lab, detector);
            }
            let has = model.over_current.iter().any(|detector| detector.rail == rail);
            let seen = lab.bench.with(&mut lab.reader, |reader, ctx| reader.over_current_at(ctx, rail));
            assert_eq!(seen, has, "{} {rail:?}", model.name);
        }
    }
}

#[test]
fn reset_returns_every_row_of_every_chip_to_its_reset_value() {
    for model in Model::ALL {
        let (mut lab, state) = Lab::with_row(model);
        lab.driver.switch_voltage(&mut lab.bench, &mut lab.reader, true).unwrap();
        lab.bench.with(&mut lab.reader, |reader, ctx| reader.reset(ctx, ResetKind::Hot));
        let snapshot = lab.reader.snapshot();
        for row in model.registers {
            let text = snapshot["internal"]["registers"][row.name].as_str().unwrap();
            let value = u64::from_str_radix(&text.trim_start_matches("0x")[..2], 16).unwrap();
            assert_eq!(value, row.reset, "{} {}", model.name, row.name);
        }
        for row in model.phy {
            let value = snapshot["internal"]["phy"][row.name].as_str().unwrap();
            assert_eq!(value, format!("{:#06x}", row.reset), "{} {}", model.name, row.name);
        }
        // A driver that comes after that finds the card as it was after power-up.
        lab.driver = RtsxDriver::new();
        lab.driver.probe(&mut lab.bench, &mut lab.reader).unwrap();
        lab.rescan();
        assert!(!locked(&state).bus.low_voltage, "{}", model.name);
    }
}

/// What the driver makes of PCR_SETTING_REG1 and PCR_SETTING_REG2, in the words of its macros.
fn decoded(format: SettingsFormat, (reg1, reg2): (u32, u32)) -> Option<Settings> {
    let two = |value: u32, shift: u32| (value >> shift & 3) as u8;
    match format {
        SettingsFormat::Common { .. } if reg1 & 0x100_0000 != 0 => None,
        SettingsFormat::Common { rtd3 } => Some(Settings {
            rtd3: reg2 & rtd3 != 0,
            mmc: reg2 & 0x10 == 0,
            reverse_socket: reg2 & 0x4000 != 0,
            aspm: two(reg1, 28),
            drive_1v8: two(reg1, 26),
            drive_3v3: two(reg2, 5),
        }),
        SettingsFormat::Rts5261 { .. } if reg2 & 0x1_0000 == 0 => None,
        SettingsFormat::Rts5261 { mmc } => Some(Settings {
            rtd3: reg2 & 0x08 != 0,
            mmc: reg2 & mmc != 0,
            reverse_socket: reg2 & 0x04 != 0,
            aspm: (!reg1 >> 28 & 2 | reg1 >> 28 & 1) as u8,
            drive_1v8: two(reg1, 22),
            drive_3v3: two(reg1, 16),
        }),
    }
}

#[test]
fn settings_are_written_as_the_driver_reads_them() {
    for model in Model::ALL {
        let (rtd3, mmc) = match model.settings {
            SettingsFormat::Common { rtd3 } => (rtd3 != 0, true),
            SettingsFormat::Rts5261 { mmc } => (true, mmc != 0),
        };
        let all = Settings { rtd3, mmc, reverse_socket: true, aspm: 2, drive_1v8: 3, drive_3v3: 1 };
        let other = Settings { aspm: 1, drive_1v8: 2, drive_3v3: 2, ..Settings::default() };
        for settings in [None, Some(all), Some(other), Some(Settings::default())] {
            let mut reader = Rtsx::with_settings(model, settings);
            let mut bench = Bench::default();
            let mut register = |at| bench.config_read(&mut reader, at, 4);
            let found = decoded(model.settings, (register(0x724), register(0x814)));
            assert_eq!(found, settings, "{}", model.name);
        }
    }
}

#[test]
fn settings_that_are_valid_reach_the_driver_and_others_do_not() {
    for model in Model::ALL {
        for valid in [false, true] {
            let mut bench = Bench::default();
            let mut reader = Rtsx::with_settings(model, valid.then(Settings::default));
            let mut driver = RtsxDriver::new();
            driver.probe(&mut bench, &mut reader).unwrap();
            let second: Vec<_> =
                bench.log.accesses().filter(|access| access.register == Some("PCR_SETTING_REG1")).collect();
            let copied = !bench.log.written("VENDOR_SETTING1_0").is_empty();
            match model.settings {
                SettingsFormat::Common { .. } => {
                    assert_eq!(second.len(), 1, "{}", model.name);
                    let read = bench.log.accesses().any(|access| access.register == Some("PCR_SETTING_REG2"));
                    assert_eq!(read, valid, "{}", model.name);
                }
                SettingsFormat::Rts5261 { .. } => assert_eq!(copied, valid, "{}", model.name),
            }
            assert_eq!(bench.log.unmodelled(), [], "{}", model.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a guest writes to whatever registers of whatever chip, with a card in it: nothing panics, and bits that are
    /// not writable change only where the hardware acts on them.
    #[test]
    fn any_writes_leave_unwritable_bits_alone(
        which in any::<prop::sample::Index>(),
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..60),
    ) {
        let model = which.get(Model::ALL);
        let (mut lab, _) = Lab::with_row(model);
        for (row, mask, data) in writes {
            let row = row.get(model.registers);
            let before = u64::from(lab.get(row.address));
            lab.put(row.address, mask, data);
            let after = u64::from(lab.get(row.address));
            // END, IDLE and ERR.
            let own = if row.name == "SD_TRANSFER" { 0x70 } else { 0 };
            let fixed = 0xff & !(row.writable & u64::from(mask)) & !row.w1c & !own;
            prop_assert_eq!((before ^ after) & fixed, 0, "{} {}", model.name, row.name);
        }
        lab.bench.with(&mut lab.reader, |reader, ctx| reader.reset(ctx, ResetKind::Hot));
        prop_assert_eq!(RtsxDriver::new().probe(&mut lab.bench, &mut lab.reader), Ok(()));
        prop_assert_eq!(lab.bench.log.unmodelled(), []);
    }
}
