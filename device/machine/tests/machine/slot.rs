//! What rules do to the slot and its port, by a clock that is moved.

use std::time::Duration;

use sdmorph_machine::faults::Rule;
use sdmorph_machine::morph::{PRESENCE_LAG, TRAINING};
use sdmorph_machine::{CardKind, Equipment, Setup};
use serde_json::{Value, json};

use crate::guest::{DLLSC, Guest, LNKSTA, Lab, PDC, PORT, READER, SLTSTA};

const LINK_TRAINING: u64 = 1 << 11;
const SLTCTL: u64 = PORT | 0x88;
const POWER_OFF: u64 = 1 << 10;
/// SLTSTA: attention button pressed, power fault detected, MRL sensor changed and its state, command completed.
const ABP: u64 = 1 << 0;
const PFD: u64 = 1 << 1;
const MRLSC: u64 = 1 << 2;
const CC: u64 = 1 << 4;
const MRLSS: u64 = 1 << 5;
const ROOT_STATUS: u64 = PORT | 0x130;
const DPC_STATUS: u64 = PORT | 0x158;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn equipped(words: &[&str]) -> Guest {
    let equipment = Equipment::from_words(words.iter().copied());
    let mut guest = Guest::with_setup(Setup::default().with_equipment(equipment));
    guest.boot();
    guest.advance_to(ms(1));
    guest
}

fn rule(name: &str, on: Value, actions: Value) -> Rule {
    Rule::from_json(&json!({ "name": name, "on": on, "do": actions })).unwrap()
}

/// Does it now.
fn act(guest: &mut Guest, actions: Value) {
    let name = format!("r{}", guest.machine.rules().len());
    let now = guest.now();
    guest.machine.rule_add(now, rule(&name, json!({ "start": true }), actions)).unwrap();
    guest.advance_to(now);
}

fn after(guest: &mut Guest, time: u64) {
    let now = guest.now();
    guest.advance_to(now + ms(time));
}

fn status(guest: &mut Guest) -> u64 {
    guest.read(0, SLTSTA, 2)
}

/// Times in ms from `from`, names of the events since then.
fn events(guest: &Guest, from: Duration) -> Vec<(u64, String)> {
    let since = guest.notices().into_iter().filter(|(at, name)| *at >= from && !name.ends_with(" 1"));
    since.map(|(at, name)| ((at - from).as_millis() as u64, name)).collect()
}

fn pairs(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(at, name)| (*at, (*name).to_owned())).collect()
}

#[test]
fn flap_is_a_fall_and_a_rise_after_its_time_and_leaves_presence() {
    let mut guest = equipped(&[]);
    let from = guest.now();
    act(&mut guest, json!({ "link": { "flap": "20ms" } }));
    assert!(!guest.link_active() && guest.present());
    assert_eq!(guest.slot_events(), DLLSC);
    after(&mut guest, 19);
    assert!(!guest.link_active());
    after(&mut guest, 1);
    assert!(guest.link_active() && guest.present());
    assert_eq!(guest.slot_events(), DLLSC);
    assert_eq!(events(&guest, from), pairs(&[(0, "link-down"), (0, "reset"), (20, "link-up")]));
    assert_eq!(guest.machine.next_deadline(), None);
}

#[test]
fn flap_of_a_link_that_is_down_does_nothing_and_one_that_is_forced_down_stays_down() {
    let mut guest = equipped(&[]);
    act(&mut guest, json!({ "link": "down" }));
    after(&mut guest, 100);
    act(&mut guest, json!({ "link": { "flap": "20ms" } }));
    after(&mut guest, 100);
    assert!(!guest.link_active());
    act(&mut guest, json!({ "link": "up" }));
    act(&mut guest, json!([{ "link": { "flap": "20ms" } }, { "link": "down" }]));
    after(&mut guest, 100);
    assert!(!guest.link_active());
}

#[test]
fn flap_before_the_switch_is_the_fall_that_it_waits_for() {
    let mut lab = Lab::bound();
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    act(&mut lab.guest, json!({ "link": { "flap": "20ms" } }));
    assert_eq!(lab.guest.machine.status()["phase"], "away");
    after(&mut lab.guest, 20);
    assert!(!lab.guest.link_active(), "the reader has let go of it");
    after(&mut lab.guest, 100);
    assert_eq!(lab.guest.machine.status()["phase"], "drive");
    assert!(lab.guest.link_active());
}

#[test]
fn training_that_fails_shows_presence_and_link_training_and_the_next_one_is_as_ever() {
    let mut guest = equipped(&[]);
    act(&mut guest, json!([{ "link": "train-fail" }, { "link": "down" }]));
    after(&mut guest, 100);
    assert_eq!(guest.read(0, LNKSTA, 2) & LINK_TRAINING, 0);
    act(&mut guest, json!({ "link": "up" }));
    assert!(guest.present() && !guest.link_active());
    assert_ne!(guest.read(0, LNKSTA, 2) & LINK_TRAINING, 0);
    after(&mut guest, 10_000);
    assert!(!guest.link_active());
    assert_eq!(guest.read(0, READER, 4), 0xffff_ffff);
    act(&mut guest, json!({ "link": "up" }));
    assert!(guest.link_active());
    assert_eq!(guest.read(0, LNKSTA, 2) & LINK_TRAINING, 0);
}

#[test]
fn training_fails_for_a_drive_that_comes_up_and_rules_that_are_loaded_anew_forget_it() {
    for anew in [false, true] {
        let mut lab = Lab::bound();
        lab.insert();
        assert_eq!(lab.rescan(), Ok(true));
        act(&mut lab.guest, json!({ "link": "train-fail" }));
        let now = lab.guest.now();
        if anew {
            lab.guest.machine.scenario_load(now, "none", Vec::new(), true).unwrap();
        }
        after(&mut lab.guest, 1000);
        assert_eq!(lab.guest.machine.status()["phase"], "drive");
        assert!(lab.guest.present());
        assert_eq!(lab.guest.link_active(), anew);
    }
}

#[test]
fn bounce_changes_presence_so_often_and_leaves_what_comes_of_it() {
    for changes in [1, 4, 5] {
        let mut guest = equipped(&[]);
        let from = guest.now();
        act(&mut guest, json!({ "presence": { "bounce": changes, "every": "5ms" } }));
        after(&mut guest, 1000);
        let expected: Vec<_> = (0..changes).map(|n| (5 * n, "presence-changed")).collect();
        assert_eq!(events(&guest, from), pairs(&expected));
        assert_eq!(guest.present(), changes % 2 == 0);
        assert!(guest.link_active());
        assert_eq!(guest.slot_events(), PDC);
    }
}

#[test]
fn bounce_ends_when_presence_is_set_or_the_slot_loses_or_gets_its_link() {
    let endings = [
        (json!({ "presence": true }), true),
        (json!({ "presence": false }), false),
        (json!({ "link": "down" }), false),
        (json!([{ "link": "down" }, { "link": "up" }]), true),
    ];
    for (ending, present) in endings {
        let mut guest = equipped(&[]);
        act(&mut guest, json!({ "presence": { "bounce": 999, "every": "5ms" } }));
        after(&mut guest, 12);
        act(&mut guest, ending.clone());
        after(&mut guest, 10);
        let settled = guest.now();
        after(&mut guest, 1000);
        assert_eq!(guest.present(), present, "{ending}");
        assert_eq!(events(&guest, settled + ms(1)), [], "{ending}");
    }
}

#[test]
fn absence_lag_is_from_the_link_s_fall_to_the_loss_of_presence() {
    let mut guest = equipped(&[]);
    act(&mut guest, json!({ "absence-lag": "244ms" }));
    let from = guest.now();
    act(&mut guest, json!({ "link": "down" }));
    after(&mut guest, 243);
    assert!(guest.present());
    after(&mut guest, 1);
    assert!(!guest.present());
    let expected = [(0, "link-down"), (0, "reset"), (244, "presence-changed")];
    assert_eq!(events(&guest, from), pairs(&expected));
}

#[test]
fn absence_lead_is_from_the_loss_of_presence_to_the_link_s_fall() {
    let mut guest = equipped(&[]);
    act(&mut guest, json!({ "absence-lead": "244ms" }));
    let from = guest.now();
    act(&mut guest, json!({ "link": "down" }));
    assert!(!guest.present() && guest.link_active());
    after(&mut guest, 243);
    assert!(guest.link_active());
    after(&mut guest, 1);
    assert!(!guest.link_active());
    after(&mut guest, 1000);
    let expected = [(0, "presence-changed"), (244, "link-down"), (244, "reset")];
    assert_eq!(events(&guest, from), pairs(&expected));
    assert_eq!(guest.slot_events(), DLLSC | PDC);
}

#[test]
fn link_that_is_forced_up_or_down_again_does_not_wait_for_its_lead() {
    let mut guest = equipped(&[]);
    act(&mut guest, json!([{ "absence-lead": "244ms" }, { "link": "down" }]));
    after(&mut guest, 100);
    act(&mut guest, json!({ "link": "up" }));
    after(&mut guest, 1000);
    assert!(guest.link_active() && guest.present());
    act(&mut guest, json!([{ "link": "down" }, { "link": "down" }]));
    assert!(!guest.link_active() && !guest.present());
}

#[test]
fn switch_with_presence_that_leads_goes_on_from_the_link_s_fall() {
    let mut lab = Lab::bound();
    lab.insert();
    act(&mut lab.guest, json!([{ "absence-lead": "50ms" }, { "relink": "10ms" }]));
    assert_eq!(lab.rescan(), Ok(true));
    let asked = lab.guest.now();
    lab.guest.advance_to(asked + ms(10));
    assert!(!lab.guest.present() && lab.guest.link_active());
    assert_eq!(lab.guest.machine.status()["phase"], "switching");
    lab.guest.advance_to(asked + ms(60));
    assert_eq!(lab.guest.machine.status()["phase"], "away");
    lab.guest.advance_to(asked + ms(60) + TRAINING);
    assert_eq!(lab.guest.machine.status()["phase"], "drive");
    assert!(lab.guest.present() && lab.guest.link_active());
}

#[test]
fn card_that_is_ejected_while_presence_leads_keeps_the_reader_and_brings_presence_back() {
    let mut lab = Lab::bound();
    lab.insert();
    act(&mut lab.guest, json!([{ "absence-lead": "50ms" }, { "relink": "10ms" }]));
    assert_eq!(lab.rescan(), Ok(true));
    let asked = lab.guest.now();
    lab.guest.advance_to(asked + ms(20));
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    after(&mut lab.guest, 1000);
    assert_eq!(lab.guest.machine.status()["phase"], "reader");
    assert!(lab.guest.present() && lab.guest.link_active());
}

#[test]
fn drive_that_is_pulled_while_presence_leads_is_back_as_reader_after_both_have_gone() {
    let mut lab = Lab::bound();
    lab.insert();
    act(&mut lab.guest, json!({ "relink": "10ms" }));
    assert_eq!(lab.rescan(), Ok(true));
    after(&mut lab.guest, 1000);
    assert_eq!(lab.guest.machine.status()["phase"], "drive");
    act(&mut lab.guest, json!({ "absence-lead": "244ms" }));
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    assert!(!lab.guest.present() && lab.guest.link_active());
    lab.guest.advance_to(now + ms(244));
    assert!(!lab.guest.link_active());
    lab.guest.advance_to(now + ms(244) + TRAINING);
    assert_eq!(lab.guest.machine.status()["phase"], "reader");
    assert!(lab.guest.present() && lab.guest.link_active());
}

#[test]
fn button_and_latch_show_in_the_slot_s_status() {
    let mut guest = equipped(&["attention-button", "mrl-sensor"]);
    act(&mut guest, json!([{ "attention-button": "press" }, { "mrl-sensor": "open" }]));
    assert_eq!(status(&mut guest) & 0x3f, ABP | MRLSC | MRLSS);
    guest.write(0, SLTSTA, 2, ABP | MRLSC);
    act(&mut guest, json!({ "mrl-sensor": "closed" }));
    assert_eq!(status(&mut guest) & 0x3f, MRLSC);
}

#[test]
fn power_off_makes_a_reader_of_the_drive_and_power_on_brings_it_up_after_its_training() {
    let mut lab = Lab::bound_to(Setup::default().with_equipment(Equipment::from_words(["power-controller"])));
    lab.insert();
    act(&mut lab.guest, json!({ "relink": "10ms" }));
    assert_eq!(lab.rescan(), Ok(true));
    after(&mut lab.guest, 1000);
    assert_eq!(lab.guest.machine.status()["phase"], "drive");
    let control = lab.guest.read(0, SLTCTL, 2);
    lab.guest.write(0, SLTCTL, 2, control | POWER_OFF);
    assert_eq!(lab.guest.machine.status()["phase"], "reader");
    assert!(!lab.guest.link_active() && lab.guest.present());
    act(&mut lab.guest, json!({ "link": "up" }));
    after(&mut lab.guest, 1000);
    assert!(!lab.guest.link_active(), "not without power");
    lab.guest.write(0, SLTCTL, 2, control);
    let on = lab.guest.now();
    lab.guest.advance_to(on + TRAINING - ms(1));
    assert!(!lab.guest.link_active());
    lab.guest.advance_to(on + TRAINING);
    assert!(lab.guest.link_active());
    lab.guest.place_reader();
    lab.driver = sdmorph_testkit::RtsxDriver::new();
    assert_eq!(lab.probe(), Ok(()));
    assert!(lab.driver.card_inserted, "the card is still in the reader");
}

#[test]
fn power_fault_lasts_until_it_is_taken_back_or_the_guest_has_turned_power_off_and_on() {
    for by_guest in [false, true] {
        let mut guest = equipped(&["power-controller"]);
        act(&mut guest, json!({ "power-fault": true }));
        assert!(!guest.link_active());
        guest.write(0, SLTSTA, 2, PFD);
        assert_ne!(status(&mut guest) & PFD, 0);
        if by_guest {
            let control = guest.read(0, SLTCTL, 2);
            guest.write(0, SLTCTL, 2, control | POWER_OFF);
            guest.write(0, SLTCTL, 2, control);
        } else {
            act(&mut guest, json!({ "power-fault": false }));
        }
        guest.write(0, SLTSTA, 2, PFD);
        assert_eq!(status(&mut guest) & PFD, 0);
        after(&mut guest, 100);
        assert!(guest.link_active());
    }
}

#[test]
fn commands_complete_late_or_are_not_told_of_until_that_is_taken_back() {
    let mut guest = equipped(&["command-completed"]);
    let command = |guest: &mut Guest| {
        guest.write(0, SLTSTA, 2, CC);
        let control = guest.read(0, SLTCTL, 2);
        guest.write(0, SLTCTL, 2, control);
    };
    assert_ne!(status(&mut guest) & CC, 0, "the guest's own at boot");
    act(&mut guest, json!({ "command-completed": "1500ms" }));
    command(&mut guest);
    after(&mut guest, 1499);
    assert_eq!(status(&mut guest) & CC, 0);
    after(&mut guest, 1);
    assert_ne!(status(&mut guest) & CC, 0);
    act(&mut guest, json!({ "command-completed": "lost" }));
    command(&mut guest);
    after(&mut guest, 60_000);
    assert_eq!(status(&mut guest) & CC, 0);
    act(&mut guest, json!({ "command-completed": "0s" }));
    command(&mut guest);
    assert_ne!(status(&mut guest) & CC, 0);
    act(&mut guest, json!({ "command-completed": "lost" }));
    let now = guest.now();
    guest.machine.scenario_load(now, "none", Vec::new(), true).unwrap();
    command(&mut guest);
    assert_ne!(status(&mut guest) & CC, 0, "new rules begin as ever");
}

/// As the guest sets error reporting up.
fn reporting(words: &[&str]) -> Guest {
    let mut guest = equipped(words);
    // Device Control of the port and of the reader.
    for register in [PORT | 0x78, READER | 0xb8] {
        guest.write(0, register, 2, 7);
    }
    guest.write(0, PORT | 0x3e, 2, 2);
    guest
}

#[test]
fn error_is_that_of_the_function_at_the_link_or_of_the_one_that_is_named() {
    let mut guest = reporting(&["aer"]);
    act(&mut guest, json!({ "aer": "COMP_TIME" }));
    assert_eq!(guest.read(0, PORT | 0x136, 2), 0x0100, "the reader's");
    assert_eq!(guest.read(0, ROOT_STATUS, 4) & 0x7f, 1 << 2 | 1 << 5);
    guest.write(0, ROOT_STATUS, 4, 0x7f);
    act(&mut guest, json!({ "aer": { "error": "COMP_TIME", "function": "nvme" } }));
    assert_eq!(guest.read(0, ROOT_STATUS, 4) & 0x7f, 0, "it is not at the link");
    act(&mut guest, json!({ "aer": { "error": "SDN", "function": "port" } }));
    assert_eq!(guest.read(0, PORT | 0x136, 2), 0x00e0, "the port's");
    assert_eq!(guest.read(0, ROOT_STATUS, 4) & 0x7f, 1 << 2 | 1 << 4 | 1 << 6);
}

#[test]
fn containment_holds_the_link_down_until_the_guest_lets_it_go() {
    let mut guest = equipped(&["dpc"]);
    act(&mut guest, json!({ "dpc": "trigger" }));
    assert!(guest.link_active(), "the guest has not turned it on");
    guest.write(0, PORT | 0x156, 2, 1);
    let from = guest.now();
    act(&mut guest, json!({ "dpc": "trigger" }));
    assert!(!guest.link_active() && guest.present());
    assert_eq!(guest.slot_events(), DLLSC);
    after(&mut guest, 1000);
    assert!(!guest.link_active());
    let status = guest.read(0, DPC_STATUS, 2);
    guest.write(0, DPC_STATUS, 2, status & 1);
    assert!(guest.link_active());
    assert_eq!(guest.slot_events(), DLLSC);
    let expected = [(0, "contained"), (0, "link-down"), (0, "reset"), (1000, "link-up")];
    assert_eq!(events(&guest, from), pairs(&expected));
}

#[test]
fn rule_that_needs_what_the_slot_does_not_have_is_refused_and_loads_nothing() {
    let needs = [
        (json!({ "attention-button": "press" }), "attention-button"),
        (json!({ "mrl-sensor": "open" }), "mrl-sensor"),
        (json!({ "power-fault": true }), "power-controller"),
        (json!({ "command-completed": "lost" }), "command-completed"),
        (json!({ "aer": { "error": "DLP", "function": "port" } }), "aer"),
        (json!({ "dpc": "trigger" }), "dpc"),
    ];
    for (action, word) in needs {
        let key = action.as_object().unwrap().keys().next().unwrap().clone();
        let mut guest = equipped(&[]);
        let now = guest.now();
        let wanted = || rule("wants", json!({ "event": "link-up" }), action.clone());
        let error = guest.machine.rule_add(now, wanted()).unwrap_err().to_string();
        let key_in_scenario = word.replace('-', "_");
        assert_eq!(
            error,
            format!(
                "rule \"wants\": do.{key}: the slot is without {word}; `--slot {word}` gives it one, or in a scenario [device.slot] {key_in_scenario} = true"
            )
        );
        let plain = rule("plain", json!({ "event": "link-up" }), json!({ "link": "down" }));
        guest.machine.scenario_load(now, "both", vec![plain, wanted()], true).unwrap_err();
        assert!(guest.machine.rules().is_empty());
        assert!(guest.machine.inject(now, "at-once", &action).unwrap_err().to_string().contains(word));
        let mut guest = equipped(&[word]);
        guest.machine.rule_add(now, wanted()).unwrap();
        guest.machine.inject(now, "at-once", &action).unwrap();
    }
}

#[test]
fn error_at_a_function_that_has_no_aer_is_refused_with_those_that_have() {
    let mut guest = equipped(&["aer"]);
    let now = guest.now();
    let at = |function: &str| {
        rule("r", json!({ "start": true }), json!({ "aer": { "error": "DLP", "function": function } }))
    };
    let error = guest.machine.rule_add(now, at("vmd")).unwrap_err().to_string();
    assert!(error.contains("function \"vmd\" has no register \"ERR_UNCOR_STATUS\""), "{error}");
    let error = guest.machine.rule_add(now, at("raeder")).unwrap_err().to_string();
    assert!(error.contains("no function \"raeder\"; did you mean reader"), "{error}");
}

#[test]
fn slot_s_equipment_shows_in_the_status_and_presence_lag_is_as_ever() {
    let mut guest = equipped(&["dpc", "indicators"]);
    assert_eq!(guest.machine.status()["slot-equipment"], json!(["indicators", "aer", "dpc"]));
    let now = guest.now();
    guest.machine.card_insert(now, CardKind::Empty).unwrap();
    act(&mut guest, json!({ "link": "down" }));
    let fell = guest.now();
    guest.advance_to(fell + PRESENCE_LAG);
    assert!(!guest.present());
}
