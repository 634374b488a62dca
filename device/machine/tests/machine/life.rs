//! A life of the reader: boot, probe, card, switch, away, back.

use std::time::Duration;

use sdmorph_machine::morph::{PRESENCE_LAG, TRAINING, relink_time};
use sdmorph_machine::record::Recorded;
use sdmorph_machine::{CardKind, InsertError};
use sdmorph_pci::Event;
use sdmorph_testkit::RtsxDriver;

use crate::guest::{DLLSC, Guest, Lab, PDC, READER};

/// As the driver programs it: 0x8fff.
fn relink() -> Duration {
    relink_time(0x8fff)
}

fn names(lab: &Lab) -> Vec<String> {
    lab.guest.notices().into_iter().map(|(_, name)| name).collect()
}

/// Bound, a card switched: the link falls `relink()` from now.
fn switched() -> Lab {
    let mut lab = Lab::bound();
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab
}

/// Gone, pciehp has heard of it.
fn away() -> Lab {
    let mut lab = switched();
    lab.sleep(relink() + PRESENCE_LAG);
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    lab
}

fn phase(guest: &Guest) -> String {
    guest.machine.status()["phase"].as_str().unwrap().to_owned()
}

#[test]
fn driver_binds_through_vmd_and_finds_no_card() {
    let lab = Lab::bound();
    assert_eq!(names(&lab), ["driver-bound"]);
    assert!(!lab.driver.card_inserted);
    assert!(lab.driver.offers_express);
}

#[test]
fn card_that_is_inserted_interrupts_the_driver_on_its_vector() {
    let mut lab = Lab::bound();
    lab.insert();
    assert_eq!(names(&lab), ["driver-bound", "card-inserted"]);
    assert_eq!(lab.guest.port_messages, 0);
}

#[test]
fn switch_makes_the_link_fall_after_the_relink_time_and_presence_follow() {
    let mut lab = switched();
    assert_eq!(phase(&lab.guest), "switching");
    let notices = lab.guest.notices();
    let [.., requested, morph] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!((requested.1.as_str(), morph.1.as_str()), ("express-switch-requested", "morph"));
    let falls = requested.0 + relink();
    assert_eq!(lab.guest.machine.next_deadline(), Some(falls));

    lab.guest.advance_to(falls - Duration::from_nanos(1));
    assert!(lab.guest.link_active());
    lab.guest.advance_to(falls);
    assert!(!lab.guest.link_active());
    assert!(lab.guest.present());
    assert_eq!(lab.guest.port_messages, 1);
    assert_eq!(lab.guest.slot_events(), DLLSC);
    assert_eq!(phase(&lab.guest), "away");

    lab.guest.advance_to(falls + PRESENCE_LAG - Duration::from_nanos(1));
    assert!(lab.guest.present());
    lab.guest.advance_to(falls + PRESENCE_LAG);
    assert!(!lab.guest.present());
    assert_eq!(lab.guest.port_messages, 2);
    assert_eq!(lab.guest.slot_events(), PDC);
    let trained = falls + PRESENCE_LAG + TRAINING;
    assert_eq!(lab.guest.machine.next_deadline(), Some(trained));

    let notices = lab.guest.notices();
    let tail: Vec<_> = notices.iter().rev().take(4).rev().map(|(at, name)| (*at, name.as_str())).collect();
    let fall = [(falls, "link-down"), (falls, "reset"), (falls, "morph")];
    assert_eq!(tail[..3], fall);
    assert_eq!(tail[3], (falls + PRESENCE_LAG, "presence-changed"));
}

#[test]
fn reader_that_is_away_answers_nothing() {
    let mut lab = away();
    assert_eq!(lab.guest.read(0, READER, 4), 0xffff_ffff);
    assert_eq!(lab.guest.read(2, 0x10, 4), 0xffff_ffff);
    lab.guest.write(0, READER | 4, 2, 6);
    assert_eq!(lab.guest.machine.counters().dead_writes, 1);
}

#[test]
fn whole_life_touches_no_unmodelled_register() {
    let mut lab = away();
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    lab.sleep(TRAINING);
    lab.guest.slot_events();
    lab.guest.place_reader();
    lab.driver = RtsxDriver::new();
    lab.probe().unwrap();
    assert_eq!(lab.runtime_idle(), Ok(()));
    lab.driver.remove(&mut lab.bench, &mut lab.guest).unwrap();
    let counters = lab.guest.machine.counters();
    assert_eq!(counters.unmodelled, 0, "{:?}", counters.unmodelled_registers);
    assert_eq!(counters.dma_errors, 0);
}

#[test]
fn eject_after_the_switch_brings_the_reader_back_and_it_can_be_probed() {
    let mut lab = away();
    let ejected = lab.guest.now();
    lab.guest.machine.card_eject(ejected).unwrap();
    assert!(!lab.guest.present() && !lab.guest.link_active());
    assert_eq!(lab.guest.slot_events(), 0);
    assert_eq!(phase(&lab.guest), "returning");
    assert_eq!(lab.guest.machine.next_deadline(), Some(ejected + TRAINING));
    lab.sleep(TRAINING);
    assert!(lab.guest.present() && lab.guest.link_active());
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    assert_eq!(phase(&lab.guest), "reader");
    lab.guest.place_reader();
    lab.driver = RtsxDriver::new();
    assert_eq!(lab.probe(), Ok(()));
    assert!(!lab.driver.card_inserted);
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true), "and it can be switched again");
}

#[test]
fn eject_right_after_the_fall_takes_presence_first() {
    let mut lab = switched();
    lab.sleep(relink());
    let ejected = lab.guest.now();
    lab.guest.machine.card_eject(ejected).unwrap();
    lab.sleep(PRESENCE_LAG);
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    assert_eq!(lab.guest.machine.next_deadline(), Some(ejected + PRESENCE_LAG + TRAINING));
    lab.sleep(TRAINING);
    assert!(lab.guest.link_active() && lab.guest.present());
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
}

#[test]
fn eject_before_the_fall_calls_the_switch_off() {
    let mut lab = switched();
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    lab.sleep(2 * relink());
    assert!(lab.guest.link_active());
    assert_eq!(phase(&lab.guest), "reader");
    assert!(!lab.interrupt(), "with the switch, the driver turned card detection off");
}

#[test]
fn reset_before_the_fall_calls_the_switch_off() {
    // By the host, and by the guest: secondary bus reset.
    for by_host in [true, false] {
        let mut lab = switched();
        if by_host {
            let now = lab.guest.now();
            lab.guest.machine.reset(now);
            lab.guest.boot();
        } else {
            lab.guest.write(0, crate::guest::PORT | 0x3e, 2, 0x40);
        }
        assert_eq!(phase(&lab.guest), "reader");
        lab.sleep(2 * relink());
        assert!(lab.guest.link_active(), "by host: {by_host}");
        assert_eq!(lab.guest.slot_events(), 0);
    }
}

#[test]
fn link_that_comes_back_without_an_eject_ends_the_switch() {
    let mut lab = away();
    let now = lab.guest.now();
    lab.guest.machine.link_set(now, true);
    assert_eq!(phase(&lab.guest), "reader");
    assert!(lab.guest.present() && lab.guest.link_active());
    lab.guest.place_reader();
    lab.driver = RtsxDriver::new();
    assert_eq!(lab.probe(), Ok(()));
    assert!(lab.driver.card_inserted, "the card is still in the reader");
}

#[test]
fn link_taken_down_while_it_trains_stays_down() {
    let mut lab = away();
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    lab.guest.machine.link_set(now, false);
    lab.sleep(2 * TRAINING);
    assert!(!lab.guest.link_active() && !lab.guest.present());
}

#[test]
fn link_set_down_and_up_moves_presence_and_link_both_ways() {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    lab.guest.machine.link_set(now, false);
    assert!(!lab.guest.link_active() && lab.guest.present());
    lab.sleep(PRESENCE_LAG);
    assert!(!lab.guest.present());
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    let now = lab.guest.now();
    lab.guest.machine.link_set(now, true);
    assert!(lab.guest.link_active() && lab.guest.present());
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
}

#[test]
fn second_card_and_second_eject_are_refused_and_change_nothing() {
    let mut guest = Guest::new();
    let now = Duration::from_millis(1);
    assert_eq!(guest.machine.card_eject(now), Err(InsertError::Empty));
    guest.machine.card_insert(now, CardKind::Empty).unwrap();
    assert_eq!(guest.machine.card_insert(now, CardKind::SdExpress), Err(InsertError::Occupied));
    assert_eq!(guest.machine.status()["card"], "none");
    guest.machine.card_eject(now).unwrap();
    assert_eq!(guest.machine.card_eject(now), Err(InsertError::Empty));
    let names: Vec<_> = guest.notices().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["card-inserted", "card-ejected"]);
}

#[test]
fn adapter_without_a_card_is_not_switched() {
    let mut lab = Lab::bound();
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, CardKind::Empty).unwrap();
    lab.interrupt();
    assert_eq!(lab.rescan(), Ok(false));
    assert_eq!(phase(&lab.guest), "reader");
}

#[test]
fn power_cycle_restores_everything_but_the_card_and_interrupts_nobody() {
    let mut lab = away();
    let messages = lab.guest.port_messages;
    let now = lab.guest.now();
    lab.guest.machine.power_cycle(now);
    lab.guest.collect();
    assert_eq!(lab.guest.port_messages, messages);
    let status = lab.guest.machine.status();
    let fresh = Guest::new().machine.status();
    assert_eq!(status["vmd"]["config"], fresh["vmd"]["config"]);
    assert_eq!(status["vmd"]["msix"], fresh["vmd"]["msix"]);
    assert_eq!(status["vmd"]["port"]["config"], fresh["vmd"]["port"]["config"]);
    assert_eq!(status["vmd"]["port"]["slot"]["present"], true);
    assert_eq!(status["vmd"]["port"]["slot"]["link-active"], true);
    assert_eq!((status["phase"].as_str(), status["card"].as_str()), (Some("reader"), Some("sd-express")));
    assert_eq!(lab.guest.machine.next_deadline(), None);
    lab.guest.boot();
    lab.driver = RtsxDriver::new();
    assert_eq!(lab.probe(), Ok(()));
    assert!(lab.driver.card_inserted);
}

#[test]
fn host_reset_keeps_card_and_record() {
    let mut lab = Lab::bound();
    lab.insert();
    let before = lab.guest.machine.next_record();
    let now = lab.guest.now();
    lab.guest.machine.reset(now);
    assert_eq!(lab.guest.machine.status()["card"], "sd-express");
    let after = lab.guest.machine.records_since(before, usize::MAX);
    let resets: Vec<_> = after
        .iter()
        .filter_map(|record| match record.what {
            Recorded::Event(function, Event::Reset { .. }) => Some(function),
            _ => None,
        })
        .collect();
    assert_eq!(resets, ["vmd", "port", "reader"]);
    assert_eq!(lab.guest.read(0, READER, 4), 0xffff_ffff, "VMD's memory is off");
}

#[test]
fn same_calls_give_the_same_record() {
    let run = || {
        let lab = away();
        let records: Vec<_> = lab.guest.records().iter().map(sdmorph_machine::Record::to_json).collect();
        (records, lab.guest.machine.status())
    };
    assert_eq!(run(), run());
}
