//! What rules do to the card.

use std::time::Duration;

use sdmorph_machine::faults::Rule;
use sdmorph_machine::morph::{PRESENCE_LAG, TRAINING, relink_time};
use sdmorph_machine::{CardKind, InsertError, NewCard};
use sdmorph_testkit::RtsxDriver;
use serde_json::{Value, json};

use crate::guest::{DLLSC, Lab, PDC};

/// As the driver programs it: 0x8fff.
fn relink() -> Duration {
    relink_time(0x8fff)
}

fn add(lab: &mut Lab, on: &Value, action: &Value) {
    let now = lab.guest.now();
    let rule = Rule::from_json(&json!({ "name": "r", "on": on, "do": action })).unwrap();
    lab.guest.machine.rule_add(now, rule).unwrap();
    // A rule with `start` is due now.
    lab.guest.machine.advance(now);
}

fn status(lab: &Lab, key: &str) -> Value {
    lab.guest.machine.status()[key].clone()
}

fn names(lab: &Lab) -> Vec<String> {
    lab.guest.notices().into_iter().map(|(_, name)| name).collect()
}

#[test]
fn card_that_is_at_hand_takes_the_place_of_the_other_at_the_access_that_a_rule_waits_for() {
    let mut lab = Lab::bound();
    lab.insert();
    let other = NewCard { serial: 2, ..CardKind::Sd.into() };
    lab.guest.machine.card_prepare(other).unwrap();
    assert_eq!(status(&lab, "card-at-hand"), "sd");
    let change = json!([{ "card": "eject" }, { "card": "insert" }]);
    add(&mut lab, &json!({ "write": "RTS5261_REG_FPDCTL", "value": 1, "mask": 1 }), &change);
    lab.driver.suspend_and_resume(&mut lab.bench, &mut lab.guest).unwrap();
    assert_eq!(status(&lab, "card"), "sd");
    assert_eq!(status(&lab, "card-at-hand"), Value::Null);
    assert_eq!(names(&lab)[1..5], ["card-inserted", "r 1", "card-ejected", "card-inserted"]);
}

#[test]
fn nothing_to_take_out_and_nothing_at_hand_is_no_error() {
    let mut lab = Lab::bound();
    add(&mut lab, &json!({ "start": true }), &json!([{ "card": "eject" }, { "card": "insert" }]));
    assert_eq!(names(&lab), ["driver-bound", "r 1"]);
    assert_eq!(status(&lab, "card"), Value::Null);
}

#[test]
fn card_at_hand_stays_there_while_there_is_no_room() {
    let mut lab = Lab::bound();
    lab.insert();
    lab.guest.machine.card_prepare(CardKind::Sd).unwrap();
    add(&mut lab, &json!({ "start": true }), &json!({ "card": "insert" }));
    assert_eq!((status(&lab, "card"), status(&lab, "card-at-hand")), (json!("sd-express"), json!("sd")));
    // And nobody but a rule takes it.
    let now = lab.guest.now();
    assert_eq!(lab.guest.machine.card_insert(now, CardKind::Sd), Err(InsertError::Occupied));
}

#[test]
fn card_that_a_rule_has_draw_too_much_current_does_so_whenever_it_is_powered() {
    let mut lab = Lab::bound();
    let on = json!({ "write": "RTS5261_LDO1233318_POW_CTL", "value": 1, "mask": 1 });
    add(&mut lab, &on, &json!({ "card": "over-current" }));
    lab.insert();
    assert!(!lab.rescan().unwrap());
    let supplies = lab.guest.machine.status().to_string();
    assert!(names(&lab).contains(&"over-current".to_owned()), "{supplies}");
}

#[test]
fn switch_that_fails_brings_the_reader_back_with_the_card_and_it_says_so() {
    let mut lab = Lab::bound();
    add(&mut lab, &json!({ "start": true }), &json!({ "relink": "fail" }));
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab.sleep(relink() + PRESENCE_LAG);
    assert!(!lab.guest.link_active() && !lab.guest.present());
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    assert_eq!(status(&lab, "phase"), "away");
    lab.sleep(TRAINING);
    assert!(!lab.guest.link_active() && !lab.guest.present());
    assert_eq!(status(&lab, "phase"), "returning");
    lab.sleep(TRAINING);
    assert!(lab.guest.link_active() && lab.guest.present());
    assert_eq!(lab.guest.slot_events(), DLLSC | PDC);
    assert_eq!(status(&lab, "phase"), "reader");
    assert_eq!(lab.guest.machine.next_deadline(), None);
    lab.guest.place_reader();
    lab.driver = RtsxDriver::new();
    lab.probe().unwrap();
    assert!(lab.driver.card_inserted && !lab.driver.offers_express);
    assert_eq!(lab.rescan(), Ok(false), "it is used as an SD card");

    // Once only: with the card out and in again, the driver asks again, and the drive comes up.
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    lab.interrupt();
    assert_eq!(lab.rescan(), Ok(false));
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab.sleep(relink() + PRESENCE_LAG + TRAINING);
    assert!(lab.guest.link_active());
    assert_eq!(status(&lab, "phase"), "drive");
}

#[test]
fn card_that_is_taken_out_before_the_switch_has_failed_leaves_a_reader_that_knows_of_no_failure() {
    let mut lab = Lab::bound();
    add(&mut lab, &json!({ "start": true }), &json!({ "relink": "fail" }));
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab.sleep(relink() + PRESENCE_LAG);
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    lab.sleep(3 * TRAINING);
    assert!(lab.guest.link_active());
    lab.guest.slot_events();
    lab.guest.place_reader();
    lab.driver = RtsxDriver::new();
    lab.probe().unwrap();
    assert!(lab.driver.offers_express);
}
