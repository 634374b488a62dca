//! The table of the switch: as it stands, as the book shows it, and as the machine runs it.

use std::time::Duration;

use sdmorph_machine::faults::Rule;
use sdmorph_machine::morph::{self, Input, PRESENCE_LAG, Phase, TABLE, TRAINING, relink_time, transition};
use sdmorph_machine::{CardKind, NewCard};
use serde_json::{Value, json};

use crate::guest::{DLLSC, Lab, PDC, PORT};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/morph.md");

/// Where each input leads from each phase; a dot is where it does nothing.
const EXPECTED: &str = "
                    reader     switching  away       drive      returning
    switch requested  switching  switching  .          .          .
    relink time over  .          switching  .          .          .
    link fell         .          away       .          .          .
    training over     .          .          drive      .          reader
    training failed   .          .          returning  .          .
    card ejected      .          reader     returning  returning  returning
    reset             .          reader     .          .          .
    link forced up    reader     switching  reader     drive      reader
    link forced down  reader     switching  away       drive      reader
    power cycle       .          reader     reader     reader     reader
";

#[test]
fn table_leads_where_it_should_from_every_phase_with_every_input() {
    let mut lines = EXPECTED.lines().filter(|line| !line.is_empty());
    let phases: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(phases, Phase::ALL.iter().map(|phase| phase.name()).collect::<Vec<_>>());
    for (line, input) in lines.zip(Input::ALL) {
        let fields = line.trim().strip_prefix(input.text()).unwrap_or_else(|| panic!("{line}: {input:?}"));
        for (phase, expected) in Phase::ALL.iter().zip(fields.split_whitespace()) {
            let next = transition(*phase, *input).map_or(".", |row| row.next.name());
            assert_eq!(next, expected, "{} in {}", input.text(), phase.name());
        }
    }
    let known =
        EXPECTED.split_whitespace().filter(|field| Phase::ALL.iter().any(|phase| phase.name() == *field));
    assert_eq!(known.count(), TABLE.len() + Phase::ALL.len(), "no row stands twice, none is missing");
}

#[test]
fn page_of_the_book_shows_the_table_as_it_is() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once("```mermaid\n").unwrap();
    let (_, after) = rest.split_once("```\n").unwrap();
    let (text, rest) = after.split_once("<!-- the table -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- its end -->\n").unwrap_or(("", rest));
    let now = format!(
        "{before}```mermaid\n{}```\n{text}<!-- the table -->\n\n{}\n<!-- its end -->\n{after}",
        morph::diagram(),
        morph::markdown()
    );
    if std::env::var_os("SDMORPH_BLESS").is_some() {
        std::fs::write(PAGE, now).unwrap();
    } else {
        assert!(page == now, "docs/src/morph.md is not of this table: SDMORPH_BLESS=1 writes it anew");
    }
}

fn phase(lab: &Lab) -> String {
    lab.guest.machine.status()["phase"].as_str().unwrap().to_owned()
}

pub(crate) fn rule(lab: &mut Lab, on: &Value, action: &Value) {
    let now = lab.guest.now();
    let name = format!("r{}", lab.guest.machine.rules().len());
    let rule = Rule::from_json(&json!({ "name": name, "on": on, "do": action })).unwrap();
    lab.guest.machine.rule_add(now, rule).unwrap();
    lab.guest.machine.advance(now);
}

fn relink() -> Duration {
    relink_time(0x8fff)
}

/// A machine in `phase`, with an SD Express card.
fn in_phase(phase_wanted: Phase) -> Lab {
    let mut lab = Lab::bound();
    lab.insert();
    if phase_wanted != Phase::Reader {
        assert_eq!(lab.rescan(), Ok(true));
    }
    match phase_wanted {
        Phase::Reader | Phase::Switching => {}
        Phase::Away => lab.sleep(relink() + PRESENCE_LAG),
        Phase::Drive => lab.sleep(relink() + PRESENCE_LAG + TRAINING),
        Phase::Returning => {
            rule(&mut lab, &json!({ "start": true }), &json!({ "relink": "fail" }));
            lab.sleep(relink() + PRESENCE_LAG + TRAINING);
        }
    }
    assert_eq!(phase(&lab), phase_wanted.name());
    lab
}

/// Has `input` come from outside. False if it cannot come in this phase.
fn give(lab: &mut Lab, at: Phase, input: Input) -> bool {
    let now = lab.guest.now();
    match input {
        Input::SwitchRequested => {
            if at != Phase::Reader {
                return false;
            }
            assert_eq!(lab.rescan(), Ok(true));
        }
        Input::RelinkOver => {
            if at != Phase::Switching {
                return false;
            }
            lab.sleep(relink());
        }
        // Link Disable, by the guest.
        Input::LinkFell => lab.guest.write(0, PORT | 0x80, 2, 0x10),
        Input::TrainingOver => lab.sleep(TRAINING),
        Input::TrainingFailed => {
            rule(lab, &json!({ "start": true }), &json!({ "relink": "fail" }));
            lab.sleep(TRAINING);
        }
        Input::CardEjected => lab.guest.machine.card_eject(now).unwrap(),
        Input::Reset => lab.guest.machine.reset(now),
        Input::ForcedUp | Input::ForcedDown => lab.guest.machine.link_set(now, input == Input::ForcedUp),
        Input::PowerCycled => lab.guest.machine.power_cycle(now),
    }
    true
}

#[test]
fn machine_does_in_every_phase_with_every_input_what_the_table_says() {
    for at in Phase::ALL {
        for input in Input::ALL {
            let mut lab = in_phase(*at);
            if !give(&mut lab, *at, *input) {
                continue;
            }
            let expected = match (at, input) {
                // The fall by which the relink time ends, or by force, is an input of its own.
                (Phase::Switching, Input::RelinkOver | Input::ForcedDown) => Phase::Away,
                // The relink time is longer.
                (Phase::Switching, Input::TrainingOver | Input::TrainingFailed) => Phase::Switching,
                // The reader always trains.
                (Phase::Returning, Input::TrainingFailed) => Phase::Reader,
                _ => transition(*at, *input).map_or(*at, |row| row.next),
            };
            let case = format!("{} in {}", input.text(), at.name());
            assert_eq!(phase(&lab), expected.name(), "{case}");

            // When nothing more comes by itself, the slot has come to rest in a way that can be left again.
            lab.sleep(Duration::from_secs(2));
            assert_eq!(lab.guest.machine.next_deadline(), None, "{case}");
            let rest = phase(&lab);
            assert!(["reader", "drive", "away"].contains(&rest.as_str()), "{case}: {rest}");
            let held = *input == Input::ForcedDown || *input == Input::LinkFell;
            assert!(
                rest != "away" || *input == Input::ForcedDown && *at == Phase::Away,
                "{case}: nobody comes"
            );
            if *input != Input::Reset && !held {
                assert!(lab.guest.machine.status()["vmd"]["port"]["slot"]["link-active"] == true, "{case}");
            }
            let name = &lab.guest.machine.status()["vmd"]["port"]["slot"]["function"]["name"];
            assert_eq!(name, if rest == "drive" { "nvme" } else { "reader" }, "{case}");
            // Without the card and with power anew, everything is as after power-on.
            let now = lab.guest.now();
            let _ = lab.guest.machine.card_eject(now);
            lab.sleep(Duration::from_secs(1));
            lab.guest.machine.power_cycle(lab.guest.now());
            lab.guest.boot();
            lab.driver = sdmorph_testkit::RtsxDriver::new();
            lab.probe().unwrap_or_else(|error| panic!("{case}: {error:?}"));
            lab.insert();
            assert_eq!(lab.rescan(), Ok(true), "{case}");
        }
    }
}

/// What the port has latched when presence and link come up, one after the other, and how far apart.
fn coming_up(action: &Value) -> (u64, Duration, u64) {
    let mut lab = Lab::bound();
    rule(&mut lab, &json!({ "start": true }), action);
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab.sleep(relink() + PRESENCE_LAG);
    lab.guest.slot_events();
    lab.sleep(TRAINING);
    let first = lab.guest.slot_events();
    let Some(at) = lab.guest.machine.next_deadline() else { return (first, Duration::ZERO, 0) };
    let apart = at - lab.guest.now();
    lab.sleep(apart);
    assert!(lab.guest.link_active() && lab.guest.present());
    assert_eq!(lab.guest.machine.next_deadline(), None);
    (first, apart, lab.guest.slot_events())
}

#[test]
fn presence_and_link_come_together_or_as_far_apart_as_a_rule_says() {
    let apart = Duration::from_millis(30);
    assert_eq!(coming_up(&json!({ "presence": false })), (DLLSC | PDC, Duration::ZERO, 0));
    assert_eq!(coming_up(&json!({ "presence-lead": "30ms" })), (PDC, apart, DLLSC));
    assert_eq!(coming_up(&json!({ "presence-lag": "30ms" })), (DLLSC, apart, PDC));
}

#[test]
fn presence_that_comes_with_the_link_is_reported_before_it() {
    let lab = in_phase(Phase::Drive);
    let names: Vec<_> = lab.guest.notices().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names[names.len() - 3..], ["morph", "presence-changed", "link-up"]);
}

#[test]
fn link_that_the_guest_disables_in_the_switch_and_enables_again_has_nobody_at_it_until_the_drive_has_trained()
{
    let mut lab = in_phase(Phase::Switching);
    lab.guest.write(0, PORT | 0x80, 2, 0x10);
    assert_eq!(phase(&lab), "away");
    lab.guest.write(0, PORT | 0x80, 2, 0);
    assert!(!lab.guest.link_active());
    lab.sleep(PRESENCE_LAG + TRAINING);
    assert!(lab.guest.link_active());
    assert_eq!(phase(&lab), "drive");
}

#[test]
fn card_taken_out_between_presence_and_link_stops_the_link() {
    let mut lab = Lab::bound();
    rule(&mut lab, &json!({ "start": true }), &json!({ "presence-lead": "500ms" }));
    lab.insert();
    assert_eq!(lab.rescan(), Ok(true));
    lab.sleep(relink() + PRESENCE_LAG + TRAINING);
    assert!(lab.guest.present() && !lab.guest.link_active());
    let now = lab.guest.now();
    lab.guest.machine.card_eject(now).unwrap();
    lab.sleep(PRESENCE_LAG + TRAINING);
    assert_eq!(phase(&lab), "reader");
    assert!(lab.guest.present() && !lab.guest.link_active(), "the reader, too, has its link later");
    lab.sleep(Duration::from_millis(500));
    assert!(lab.guest.link_active());
}

#[test]
fn card_without_pcie_that_is_switched_comes_back_in_a_reader_that_says_so() {
    for kind in [CardKind::Sd, CardKind::Empty] {
        let mut lab = in_phase(Phase::Switching);
        // Another card, while the relink time runs: the switch is called off, and asked for again for this one.
        let now = lab.guest.now();
        rule(&mut lab, &json!({ "event": "link-down" }), &json!([{ "card": "eject" }, { "card": "insert" }]));
        lab.guest.machine.card_prepare(NewCard::from(kind)).unwrap();
        lab.guest.machine.link_set(now, false);
        assert_eq!(phase(&lab), "returning");
        lab.sleep(Duration::from_secs(1));
        assert_eq!(phase(&lab), "reader");
        assert_eq!(lab.guest.machine.status()["card"], kind.name());
    }
}
