//! The reader under the sequences of Linux's driver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use sdmorph_pci::{CardError, CardResponse, Event, PciFunction, ResetKind, SdCard};
use sdmorph_rtsx::Rtsx;
use sdmorph_sdcard::{Capacity, MemoryCard, Profile};
use sdmorph_testkit::{Bench, DriverError, RtsxDriver, TestMedia};
use serde_json::Value;

fn memory_card(profile: Profile) -> MemoryCard {
    let medium = TestMedia::new(profile.capacity.blocks());
    MemoryCard::new(profile, Box::new(medium)).unwrap()
}

struct Lab {
    bench: Bench,
    reader: Rtsx,
    driver: RtsxDriver,
}

fn bound() -> Lab {
    let mut lab = Lab { bench: Bench::default(), reader: Rtsx::new(), driver: RtsxDriver::new() };
    lab.driver.probe(&mut lab.bench, &mut lab.reader).unwrap();
    lab
}

fn express_card() -> Box<MemoryCard> {
    Box::new(memory_card(Profile::express(0x1234_5678, Capacity::DEFAULT)))
}

fn legacy_card() -> Box<MemoryCard> {
    Box::new(memory_card(Profile::legacy(0x1234_5678, Capacity::DEFAULT)))
}

impl Lab {
    fn insert(&mut self, card: Box<dyn SdCard + Send>) {
        self.bench.with(&mut self.reader, |reader, ctx| reader.insert(ctx, card));
        assert_eq!(self.driver.interrupt(&mut self.bench, &mut self.reader), Ok(true));
    }

    fn rescan(&mut self) -> Result<bool, DriverError> {
        self.driver.rescan(&mut self.bench, &mut self.reader)
    }

    fn switches(&self) -> Vec<u32> {
        let relink_time = |event| match event {
            Event::ExpressSwitchRequested { relink_time } => Some(relink_time),
            _ => None,
        };
        self.bench.log.events().filter_map(relink_time).collect()
    }
}

#[test]
fn driver_binds_once_and_finds_the_newest_revision() {
    let lab = bound();
    let events: Vec<_> = lab.bench.log.events().collect();
    assert_eq!(events, [Event::DriverBound]);
    assert_eq!(lab.driver.ic_version, 3);
    assert!(lab.driver.offers_express);
}

#[test]
fn express_card_is_asked_with_cmd8_and_the_switch_is_requested_once() {
    let mut lab = bound();
    lab.insert(express_card());
    assert!(lab.driver.card_inserted);
    assert_eq!(lab.rescan(), Ok(true));
    assert_eq!(lab.bench.log.commands(), ["CMD0", "CMD8"]);
    assert_eq!(lab.switches(), [0x8fff]);
}

#[test]
fn runtime_idle_after_the_switch_ends_with_l1sub_config3_and_aspm() {
    let mut lab = bound();
    lab.insert(express_card());
    lab.rescan().unwrap();
    lab.bench.log.clear();
    lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
    let written: Vec<_> = lab
        .bench
        .log
        .accesses()
        .filter(|access| access.space == sdmorph_pci::Space::Internal)
        .map(|access| access.register.unwrap())
        .collect();
    assert_eq!(written, ["OLT_LED_CTL", "GPIO_CTL", "L1SUB_CONFIG3", "ASPM_FORCE_CTL"]);
    assert_eq!(lab.switches(), [0u32; 0]);
}

#[test]
fn legacy_card_is_not_switched_and_can_be_identified() {
    let mut lab = bound();
    lab.insert(legacy_card());
    assert_eq!(lab.rescan(), Ok(false));
    let (cid, csd) = lab.driver.identify(&mut lab.bench, &mut lab.reader).unwrap();
    assert_eq!(&cid[3..8], b"MORPH");
    assert_eq!(cid[9..13], [0x12, 0x34, 0x56, 0x78]);
    assert_eq!(csd[0], 0x40);
    assert_eq!(lab.switches(), [0u32; 0]);
}

#[test]
fn write_protected_card_stays_in_sd_mode() {
    let mut lab = bound();
    lab.reader.set_write_protect(true);
    lab.insert(express_card());
    assert_eq!(lab.rescan(), Ok(false));
    assert_eq!(lab.switches(), [0u32; 0]);
}

#[test]
fn express_link_failure_keeps_the_driver_from_offering_sd_express() {
    let mut bench = Bench::default();
    let mut reader = Rtsx::new();
    reader.set_express_link_failed(true);
    let mut driver = RtsxDriver::new();
    driver.probe(&mut bench, &mut reader).unwrap();
    assert!(!driver.offers_express);
}

#[test]
fn card_that_is_in_the_socket_at_probe_is_found_without_interrupt() {
    let mut bench = Bench::default();
    let mut reader = Rtsx::new();
    bench.with(&mut reader, |reader, ctx| reader.insert(ctx, express_card()));
    bench.with(&mut reader, |reader, ctx| reader.reset(ctx, ResetKind::Hot));
    let mut driver = RtsxDriver::new();
    driver.probe(&mut bench, &mut reader).unwrap();
    assert!(driver.card_inserted);
    assert_eq!(driver.rescan(&mut bench, &mut reader), Ok(true));
}

#[test]
fn ejected_card_is_seen_gone() {
    let mut lab = bound();
    lab.insert(express_card());
    lab.bench.with(&mut lab.reader, |reader, ctx| reader.eject(ctx));
    assert_eq!(lab.driver.interrupt(&mut lab.bench, &mut lab.reader), Ok(true));
    assert!(lab.driver.card_removed);
    assert_eq!(lab.rescan(), Ok(false));
    assert_eq!(lab.bench.log.commands(), [""; 0]);
}

#[test]
fn no_register_of_the_driver_is_unmodelled_from_probe_to_removal() {
    let mut lab = bound();
    lab.insert(legacy_card());
    lab.rescan().unwrap();
    lab.driver.identify(&mut lab.bench, &mut lab.reader).unwrap();
    lab.driver.power_off_card(&mut lab.bench, &mut lab.reader).unwrap();
    lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
    lab.driver.suspend_and_resume(&mut lab.bench, &mut lab.reader).unwrap();
    lab.insert(express_card());
    assert_eq!(lab.rescan(), Ok(true));
    lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
    lab.driver.shutdown(&mut lab.bench, &mut lab.reader).unwrap();
    lab.driver.remove(&mut lab.bench, &mut lab.reader).unwrap();
    assert_eq!(lab.bench.log.unmodelled(), []);
}

#[test]
fn vendor_settings_of_a_firmware_are_taken_and_copied() {
    let mut lab = Lab { bench: Bench::default(), reader: Rtsx::new(), driver: RtsxDriver::new() };
    lab.bench.config_write(&mut lab.reader, 0x724, 4, 0x1234_5678);
    lab.bench.config_write(&mut lab.reader, 0x814, 4, 0x8101_0010);
    lab.driver.probe(&mut lab.bench, &mut lab.reader).unwrap();
    assert_eq!(lab.bench.config_read(&mut lab.reader, 0x818, 4), 0x1234_5678);
    assert_eq!(lab.bench.config_read(&mut lab.reader, 0x81c, 4), 0x0001_0010);
    assert_eq!(lab.bench.log.written("VENDOR_SETTING1_3"), [0x12]);
    assert_eq!(lab.bench.log.unmodelled(), []);
}

#[test]
fn stuck_haimr_makes_probe_time_out_after_its_1024_reads() {
    let mut lab = Lab { bench: Bench::default(), reader: Rtsx::new(), driver: RtsxDriver::new() };
    lab.bench.log.stick("HAIMR", 1 << 31);
    assert_eq!(lab.driver.probe(&mut lab.bench, &mut lab.reader), Err(DriverError::Timeout));
    assert_eq!(lab.bench.log.accesses().filter(|access| access.register == Some("HAIMR")).count(), 1025);
    lab.bench.log.unstick();
    assert_eq!(lab.driver.probe(&mut lab.bench, &mut lab.reader), Ok(()));
}

#[test]
fn stuck_efuse_makes_probe_time_out() {
    let mut lab = Lab { bench: Bench::default(), reader: Rtsx::new(), driver: RtsxDriver::new() };
    lab.bench.log.stick("RTS5261_EFUSE_CTL", 0x80);
    assert_eq!(lab.driver.probe(&mut lab.bench, &mut lab.reader), Err(DriverError::Timeout));
}

#[test]
fn stuck_start_bit_of_sd_transfer_does_not_hide_an_answer() {
    let mut lab = bound();
    lab.insert(express_card());
    lab.bench.log.stick("SD_TRANSFER", 0x80);
    assert_eq!(lab.rescan(), Ok(true));
}

#[test]
fn command_to_a_card_without_power_times_out() {
    let mut lab = bound();
    lab.insert(legacy_card());
    let answer = lab.driver.command(&mut lab.bench, &mut lab.reader, 8, 0x1aa);
    assert_eq!(answer, Err(DriverError::ListFailed));
    // It never reached the card.
    let snapshot = lab.reader.snapshot();
    assert_eq!(snapshot["internal"]["card"]["last_command"], Value::from("CMD0"));
    // The driver clears the error with CARD_STOP.
    assert_eq!(snapshot["internal"]["registers"]["SD_STAT2"], Value::from("0x00"));
    assert_eq!(snapshot["internal"]["registers"]["SD_TRANSFER"], Value::from("0x28"));
}

#[test]
fn card_power_off_puts_the_card_back_to_idle() {
    let mut lab = bound();
    lab.insert(legacy_card());
    lab.rescan().unwrap();
    lab.driver.identify(&mut lab.bench, &mut lab.reader).unwrap();
    assert_eq!(lab.reader.snapshot()["internal"]["card"]["state"], Value::from("tran"));
    lab.driver.power_off_card(&mut lab.bench, &mut lab.reader).unwrap();
    assert_eq!(lab.reader.snapshot()["internal"]["card"]["state"], Value::from("idle"));
}

/// Internal and BAR accesses as the trace has them: `r` or `w`, name, value.
fn trace(lab: &Lab) -> Vec<String> {
    let line = |access: sdmorph_pci::Access| {
        let register = access.register.filter(|name| !matches!(*name, "HAIMR" | "HCBAR"))?;
        let direction = if access.direction == sdmorph_pci::Direction::Read { 'r' } else { 'w' };
        let listed = access.space != sdmorph_pci::Space::Config;
        listed.then(|| format!("{direction} {register} {:#x}", access.value))
    };
    lab.bench.log.accesses().filter_map(line).collect()
}

#[test]
fn accesses_up_to_the_idle_callback_are_those_that_a_debian_kernel_made() {
    let mut lab = bound();
    lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
    lab.rescan().unwrap();
    lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();
    lab.insert(express_card());
    lab.driver.card_detect(&mut lab.bench, &mut lab.reader);
    lab.rescan().unwrap();
    lab.driver.runtime_idle(&mut lab.bench, &mut lab.reader).unwrap();

    let recorded: Vec<_> =
        include_str!("debian-6.1.trace").lines().filter(|line| !line.starts_with('#')).collect();
    let made = trace(&lab);
    for (number, (made, recorded)) in made.iter().zip(&recorded).enumerate() {
        assert_eq!(made, recorded, "access {number}");
    }
    assert_eq!(made.len(), recorded.len());
}

/// Answers every command the same way.
struct Scripted(Result<CardResponse, CardError>);

impl SdCard for Scripted {
    fn command(
        &mut self,
        _now: std::time::Duration,
        index: u8,
        _argument: u32,
    ) -> Result<CardResponse, CardError> {
        if index == 0 { Ok(CardResponse::None) } else { self.0 }
    }

    fn power_cycle(&mut self) {}

    fn last_command(&self) -> String {
        "scripted".to_owned()
    }

    fn snapshot(&self) -> Value {
        Value::Null
    }
}

#[test]
fn response_with_a_bad_crc_is_refused_by_the_driver() {
    for answer in [
        Ok(CardResponse::Short([0x08, 0, 0, 0x31, 0xaa, 0x15])),
        // A response of the wrong length.
        Ok(CardResponse::Long([0x3f; 17])),
        Err(CardError::Crc),
    ] {
        let mut lab = bound();
        lab.insert(Box::new(Scripted(answer)));
        assert_eq!(lab.rescan(), Ok(false), "{answer:?}");
        let answer = lab.driver.command(&mut lab.bench, &mut lab.reader, 8, 0x31aa);
        assert_eq!(answer, Err(DriverError::BadResponse));
        assert_eq!(lab.switches(), [0u32; 0]);
    }
}

#[test]
fn no_response_fails_the_list_and_leaves_the_reader_usable() {
    let mut lab = bound();
    lab.insert(Box::new(Scripted(Err(CardError::Timeout))));
    assert_eq!(lab.rescan(), Ok(false));
    lab.bench.with(&mut lab.reader, |reader, ctx| reader.eject(ctx));
    lab.driver.interrupt(&mut lab.bench, &mut lab.reader).unwrap();
    lab.insert(express_card());
    assert_eq!(lab.rescan(), Ok(true));
}
