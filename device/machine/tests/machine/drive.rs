//! The card as a drive, and as a card again: whatever is done in between, the same bytes.

use std::path::Path;
use std::time::Duration;

use sdmorph_machine::morph::{PRESENCE_LAG, TRAINING, relink_time};
use sdmorph_machine::{CardKind, Medium, NewCard};
use sdmorph_testkit::RtsxDriver;
use sdmorph_testkit::driver::data::Transfer;
use serde_json::{Value, json};

use crate::guest::{DLLSC, Image, Lab, PDC, READER};
use crate::morph::rule;
use crate::nvme::{Gone, NvmeDriver, SUCCESS, WRITE_PROTECTED};

/// Blocks of the cards here: an SDHC card.
const BLOCKS: u64 = 8 << 20;

fn switch_time() -> Duration {
    relink_time(0x8fff) + PRESENCE_LAG + TRAINING
}

pub(crate) fn block(byte: u8) -> Vec<u8> {
    (0..512u32).map(|at| byte ^ (at % 251) as u8).collect()
}

pub(crate) fn memory_card() -> NewCard {
    NewCard { medium: Some(Medium::memory(BLOCKS * 512)), ..CardKind::SdExpress.into() }
}

fn phase(lab: &Lab) -> Value {
    lab.guest.machine.status()["phase"].clone()
}

/// A reader in use as an SD card reader, and its card.
pub(crate) struct Sd<'a>(&'a mut Lab);

impl<'a> Sd<'a> {
    /// The card goes in, and the driver, which does not ask for PCIe, identifies it.
    pub(crate) fn insert(lab: &'a mut Lab, card: NewCard) -> Self {
        let now = lab.guest.now();
        lab.guest.machine.card_insert(now, card).unwrap();
        Self::use_card(lab)
    }

    fn use_card(lab: &'a mut Lab) -> Self {
        lab.interrupt();
        lab.driver.offers_express = false;
        assert_eq!(lab.rescan(), Ok(false));
        lab.driver.identify(&mut lab.bench, &mut lab.guest).unwrap();
        Self(lab)
    }

    pub(crate) fn transfer(index: u8, first: u32) -> Transfer {
        Transfer { index, argument: first, block_bytes: 512, blocks: 1 }
    }

    /// Ends when the card is not busy any more.
    pub(crate) fn write(&mut self, first: u32, data: &[u8]) {
        let Lab { bench, guest, driver } = self.0;
        driver.write_short(bench, guest, Self::transfer(24, first), data).unwrap();
    }

    fn read(&mut self, first: u32) -> Vec<u8> {
        let Lab { bench, guest, driver } = self.0;
        driver.read_short(bench, guest, Self::transfer(17, first)).unwrap()
    }
}

/// Has the driver ask for the switch, and waits until the drive is there.
pub(crate) fn switch(lab: &mut Lab) -> NvmeDriver {
    ask_for_switch(lab);
    lab.sleep(switch_time());
    assert_eq!(phase(lab), "drive");
    lab.guest.slot_events();
    NvmeDriver::probe(&mut lab.guest).unwrap()
}

fn ask_for_switch(lab: &mut Lab) {
    lab.driver.offers_express = true;
    assert_eq!(lab.rescan(), Ok(true));
}

pub(crate) fn eject(lab: &mut Lab) {
    // What it was asked for last is not waited for.
    lab.guest.image = None;
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
}

/// The reader's driver is bound again.
fn rebind(lab: &mut Lab) {
    assert_eq!(phase(lab), "reader");
    assert!(lab.guest.link_active() && lab.guest.present());
    lab.guest.slot_events();
    lab.guest.place_reader();
    lab.driver = RtsxDriver::new();
    lab.probe().unwrap();
}

fn reader_back(lab: &mut Lab) {
    lab.sleep(PRESENCE_LAG + TRAINING);
    rebind(lab);
}

#[test]
fn what_was_written_as_a_card_is_on_the_drive_and_the_other_way_round() {
    let mut lab = Lab::bound();
    Sd::insert(&mut lab, memory_card()).write(7, &block(1));
    let mut drive = switch(&mut lab);
    assert_eq!(drive.read(&mut lab.guest, 7), Ok(block(1)));
    assert_eq!(drive.write(&mut lab.guest, 7, &block(2), false), Ok(SUCCESS));
    assert_eq!(drive.write(&mut lab.guest, 8, &block(3), true), Ok(SUCCESS));
    // Back without the card's leaving, as by a rule: the reader has the card that it had.
    let now = lab.guest.now();
    lab.guest.machine.power_cycle(now);
    lab.guest.boot();
    lab.driver = RtsxDriver::new();
    lab.probe().unwrap();
    let mut card = Sd::use_card(&mut lab);
    assert_eq!((card.read(7), card.read(8)), (block(2), block(3)));
    let counters = lab.guest.machine.counters();
    assert_eq!(counters.unmodelled, 0, "{:?}", counters.unmodelled_registers);
}

#[test]
fn drive_says_what_it_is_and_status_shows_the_reader_behind_it() {
    let mut lab = Lab::bound();
    lab.insert();
    let _drive = switch(&mut lab);
    assert_eq!(lab.guest.read(0, READER | 8, 4) >> 8, 0x01_0802);
    let status = lab.guest.machine.status();
    let function = &status["vmd"]["port"]["slot"]["function"];
    assert_eq!(function["name"], "nvme");
    assert_eq!(function["state"]["behind"]["name"], "reader");
    let card = &function["state"]["behind"]["state"]["internal"]["card"];
    assert!(card.is_object(), "{card}");
    let records = lab.guest.records();
    assert!(records.iter().any(|record| record.to_json()["fn"] == "nvme" && record.to_json()["reg"] == "CC"));
}

#[test]
fn card_is_without_power_behind_the_drive_and_starts_from_idle_when_the_reader_is_back() {
    let mut lab = Lab::bound();
    Sd::insert(&mut lab, memory_card());
    ask_for_switch(&mut lab);
    rule(&mut lab, &json!({ "start": true }), &json!({ "relink": "fail" }));
    lab.sleep(switch_time());
    lab.sleep(TRAINING);
    let state = |lab: &Lab| {
        lab.guest.machine.status()["vmd"]["port"]["slot"]["function"]["state"]["internal"]["card"].clone()
    };
    assert_eq!(state(&lab)["state"], "idle", "{}", state(&lab));
    rebind(&mut lab);
    assert!(lab.driver.card_inserted && !lab.driver.offers_express);
    Sd::use_card(&mut lab).write(1, &block(9));
}

#[test]
fn locked_card_that_is_switched_nevertheless_is_a_read_only_drive() {
    let mut lab = Lab::bound();
    Sd::insert(&mut lab, NewCard { write_protect: true, ..memory_card() });
    let mut drive = switch(&mut lab);
    assert_eq!(drive.write(&mut lab.guest, 3, &block(1), false), Ok(WRITE_PROTECTED));
    assert_eq!(drive.read(&mut lab.guest, 3), Ok(vec![0; 512]));
    assert_eq!(drive.flush(&mut lab.guest), Ok(SUCCESS));
}

#[test]
fn surprise_removal_takes_link_and_presence_and_the_reader_returns_without_a_card() {
    let mut lab = Lab::bound();
    lab.insert();
    let mut drive = switch(&mut lab);
    eject(&mut lab);
    assert!(!lab.guest.link_active() && lab.guest.present());
    assert_eq!(lab.guest.slot_events(), DLLSC);
    // The driver goes on for a while, and its accesses are those of a drive that is gone.
    assert_eq!(drive.read(&mut lab.guest, 0), Err(Gone));
    let last = lab.guest.records().pop().unwrap().to_json();
    assert_eq!((&last["fn"], &last["reg"], &last["dead"]), (&json!("nvme"), &json!("CSTS"), &json!(true)));
    lab.sleep(PRESENCE_LAG);
    assert_eq!(lab.guest.slot_events(), PDC);
    lab.sleep(TRAINING);
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    // Still, until the reader has been placed: the mapping means the drive.
    assert_eq!(drive.read(&mut lab.guest, 0), Err(Gone));
    assert_eq!(lab.guest.records().pop().unwrap().to_json()["fn"], "nvme");
    rebind(&mut lab);
    assert!(!lab.driver.card_inserted && lab.driver.offers_express);
    assert_eq!(lab.guest.read(2, 0x18, 4) >> 28 & 1, 1, "BIER of the reader is where the drive was");
}

#[test]
fn another_card_can_go_in_while_the_reader_returns_and_has_its_own_bytes() {
    let mut lab = Lab::bound();
    Sd::insert(&mut lab, memory_card()).write(0, &block(1));
    switch(&mut lab).shut_down(&mut lab.guest);
    eject(&mut lab);
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, NewCard { serial: 2, ..memory_card() }).unwrap();
    reader_back(&mut lab);
    assert!(lab.driver.card_inserted);
    let mut card = Sd::use_card(&mut lab);
    assert_eq!(card.read(0), vec![0; 512]);
    card.write(0, &block(2));
    let mut drive = switch(&mut lab);
    assert_eq!(drive.read(&mut lab.guest, 0), Ok(block(2)));
}

/// An image of so many blocks, empty.
fn image(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("card.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(BLOCKS * 512).unwrap();
    path
}

/// A card of that image, which the guest waits for.
fn card_of(lab: &mut Lab, path: &Path, kind: CardKind) -> NewCard {
    let (medium, image) = Image::open(path);
    lab.guest.image = Some(image);
    NewCard { medium: Some(medium), ..kind.into() }
}

/// What the host's file has. Whoever reads it needs no lock, and would find the same if the server had been killed.
fn in_file(path: &Path, first: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut data = vec![0; 512];
    std::fs::File::open(path).unwrap().read_exact_at(&mut data, first * 512).unwrap();
    data
}

#[test]
fn what_either_face_has_acknowledged_is_in_the_image_at_once_and_the_image_is_free_after_the_eject() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path());
    let mut lab = Lab::bound();
    let card = card_of(&mut lab, &path, CardKind::SdExpress);
    Sd::insert(&mut lab, card).write(5, &block(1));
    assert_eq!(in_file(&path, 5), block(1));
    let mut drive = switch(&mut lab);
    assert_eq!(drive.read(&mut lab.guest, 5), Ok(block(1)));
    assert_eq!(drive.write(&mut lab.guest, 5, &block(2), true), Ok(SUCCESS));
    assert_eq!(in_file(&path, 5), block(2));
    assert_eq!(drive.write(&mut lab.guest, 6, &block(3), false), Ok(SUCCESS));
    assert_eq!(drive.flush(&mut lab.guest), Ok(SUCCESS));
    assert_eq!(in_file(&path, 6), block(3));
    eject(&mut lab);
    // The same image, while the drive's shell is still there.
    let card = card_of(&mut lab, &path, CardKind::Sd);
    reader_back(&mut lab);
    let mut card = Sd::insert(&mut lab, card);
    assert_eq!((card.read(5), card.read(6)), (block(2), block(3)));
}

/// A generator of numbers (Knuth's MMIX), so that a seed gives the same run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn hundred_cycles_lose_nothing_and_leave_nothing_behind() {
    const PLACES: u64 = 24;
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path());
    let mut draw = Draw(0x5d_0ff1);
    let mut model = vec![vec![0; 512]; PLACES as usize];
    let mut lab = Lab::bound();
    for cycle in 0..100u64 {
        let card = card_of(&mut lab, &path, CardKind::SdExpress);
        let mut card = Sd::insert(&mut lab, card);
        let mut place = || draw.below(PLACES);
        for write in 0..3 {
            let (read, written) = (place(), place());
            assert_eq!(card.read(read as u32), model[read as usize], "cycle {cycle}");
            model[written as usize] = block((cycle * 7 + write) as u8);
            card.write(written as u32, &model[written as usize]);
        }
        let mut drive = switch(&mut lab);
        for write in 3..7 {
            let (read, written) = (place(), place());
            assert_eq!(
                drive.read(&mut lab.guest, read as u32).as_ref(),
                Ok(&model[read as usize]),
                "cycle {cycle}"
            );
            model[written as usize] = block((cycle * 7 + write) as u8);
            let data = &model[written as usize];
            assert_eq!(drive.write(&mut lab.guest, written as u32, data, write % 2 == 0), Ok(SUCCESS));
        }
        if place() % 2 == 0 {
            drive.shut_down(&mut lab.guest);
        }
        eject(&mut lab);
        reader_back(&mut lab);
        assert_eq!(lab.guest.machine.next_deadline(), None, "cycle {cycle}");
    }
    for (place, contents) in (0..).zip(&model) {
        assert_eq!(in_file(&path, place), *contents);
    }
    let counters = lab.guest.machine.counters();
    assert_eq!((counters.unmodelled, counters.dma_errors), (0, 0), "{:?}", counters.unmodelled_registers);
}

#[test]
fn card_taken_out_at_any_moment_of_the_cycle_leaves_a_reader_that_works_and_what_was_acknowledged() {
    // How many steps of the cycle pass before the card goes: each of the slot's own deadlines, and the driver's steps.
    for steps in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let path = image(directory.path());
        let mut lab = Lab::bound();
        let card = card_of(&mut lab, &path, CardKind::SdExpress);
        Sd::insert(&mut lab, card).write(0, &block(1));
        ask_for_switch(&mut lab);
        let mut expected = block(1);
        let mut left = steps;
        let mut pass = || {
            left -= 1;
            left >= 0
        };
        let mut drive = None;
        while pass() {
            if let Some(at) = lab.guest.machine.next_deadline() {
                let now = lab.guest.now();
                lab.sleep(at - now);
            } else if drive.is_none() {
                drive = Some(NvmeDriver::probe(&mut lab.guest).unwrap());
            } else {
                break;
            }
        }
        let whole = left > 0;
        if let Some(drive) = &mut drive {
            assert_eq!(drive.write(&mut lab.guest, 0, &block(2), false), Ok(SUCCESS));
            expected = block(2);
            // One more, which nobody has acknowledged: it is there or not, and whole.
            lab.guest.image = None;
            drive.send(&mut lab.guest, 1, [1, 1, 1, 0], (1 << 20) + 0x5_0000);
        }
        eject(&mut lab);
        lab.sleep(Duration::from_secs(1));
        assert!(lab.guest.link_active() && lab.guest.present(), "{steps}");
        rebind(&mut lab);
        assert!(!lab.driver.card_inserted, "{steps}");
        let card = card_of(&mut lab, &path, CardKind::SdExpress);
        let mut card = Sd::insert(&mut lab, card);
        assert_eq!(card.read(0), expected, "{steps}");
        let second = card.read(1);
        assert!(second == vec![0; 512] || second == block(2), "{steps}: half a block");
        let mut drive = switch(&mut lab);
        assert_eq!(drive.read(&mut lab.guest, 0), Ok(expected), "{steps}");
        if whole {
            assert!(steps >= 5, "the cycle has more deadlines than that");
            return;
        }
    }
}

#[test]
fn server_that_stops_in_the_middle_of_the_switch_loses_nothing_that_was_acknowledged() {
    for sleep in [Duration::ZERO, relink_time(0x8fff), switch_time() - TRAINING, switch_time()] {
        let directory = tempfile::tempdir().unwrap();
        let path = image(directory.path());
        let mut lab = Lab::bound();
        let card = card_of(&mut lab, &path, CardKind::SdExpress);
        Sd::insert(&mut lab, card).write(3, &block(4));
        ask_for_switch(&mut lab);
        lab.sleep(sleep);
        drop(lab);
        assert!(sdmorph_media::wait_until_closed(Duration::from_secs(600)));
        assert_eq!(in_file(&path, 3), block(4));
        // And nobody holds the image.
        Image::open(&path);
    }
}
