//! Replay: the same calls give the same record, and what is not as it was is found.

use std::time::Duration;

use proptest::prelude::*;
use sdmorph_machine::faults::Rule;
use sdmorph_machine::replay::{Outcome, Replay, ReplayError};
use sdmorph_machine::{CardKind, Equipment, Medium, NewCard, Record, Setup};
use sdmorph_pci::Disturbance;
use sdmorph_testkit::RtsxDriver;
use sdmorph_testkit::driver::data::Transfer;
use serde_json::{Value, json};

use crate::guest::{Guest, Image, Lab, PORT, READER};
use crate::nvme::{BUFFER, NvmeDriver};

/// Replays a record that is whole.
pub(crate) fn replay(records: &[Record]) -> Outcome {
    replay_lines(records.iter().map(|record| record.to_json().to_string())).unwrap()
}

fn replay_lines(lines: impl IntoIterator<Item = String>) -> Result<Outcome, ReplayError> {
    let mut replay = Replay::default();
    for line in lines {
        replay.line(&line)?;
    }
    replay.finish()
}

/// A session in which a bit of everything comes in: all lines of its record.
fn session() -> Vec<Value> {
    let mut lab = Lab::bound();
    lab.insert();
    let now = lab.guest.now();
    lab.guest.machine.inject(now, "pulled", &json!([{"link": "down"}, {"read-latency": "1ms"}])).unwrap();
    lab.sleep(Duration::from_secs(1));
    lab.guest.read(2, 0x14, 4);
    let records = lab.guest.machine.records_since(0, usize::MAX);
    records.iter().map(Record::to_json).collect()
}

fn lines(values: &[Value]) -> impl Iterator<Item = String> + '_ {
    values.iter().map(Value::to_string)
}

#[test]
fn record_replays_to_its_end_with_the_time_and_the_number_of_calls_it_had() {
    let session = session();
    let outcome = replay_lines(lines(&session)).unwrap();
    assert_eq!(outcome.difference, None);
    assert_eq!((outcome.lines, outcome.unfinished), (session.len() as u64, 0));
    let calls = session.iter().filter(|line| line["kind"] == "call").count();
    assert_eq!(outcome.calls, calls as u64);
    assert_eq!(json!(outcome.time.as_nanos() as u64), session.last().unwrap()["t_ns"]);
    assert!(session.iter().any(|line| line["kind"] == "memory"), "command lists are read from guest memory");
}

#[test]
fn answer_that_is_not_as_it_was_is_found_with_its_line_field_and_context() {
    let mut session = session();
    let index = session.iter().rposition(|line| line["reg"] == "BIPR" && line["dir"] == "read").unwrap();
    assert_eq!(session[index]["value"], "0xffffffff", "the link is down");
    session[index]["value"] = json!("0x10000");
    let outcome = replay_lines(lines(&session)).unwrap();
    let difference = outcome.difference.unwrap();
    assert_eq!(difference.line, index as u64 + 1);
    assert_eq!(difference.call, "read");
    assert_eq!(difference.fields, ["value"]);
    assert_eq!(difference.expected.unwrap()["value"], "0x10000");
    assert_eq!(difference.got.unwrap()["value"], "0xffffffff");
    assert_eq!(difference.before, session[index - 8..index]);
    assert_eq!(difference.astray, None);
}

#[test]
fn line_too_many_and_line_too_few_are_differences() {
    let session = session();
    let event = session.iter().position(|line| line["name"] == "card-inserted").unwrap();
    let renumber = |mut lines: Vec<Value>| {
        for (seq, line) in lines.iter_mut().enumerate() {
            line["seq"] = json!(seq);
        }
        lines
    };
    let mut less = session.clone();
    less.remove(event);
    let difference = replay_lines(lines(&renumber(less))).unwrap().difference.unwrap();
    assert_eq!(difference.line, event as u64 + 1);
    assert_eq!(difference.got.unwrap()["name"], "card-inserted");
    let mut more = session.clone();
    more.insert(event, session[event].clone());
    let difference = replay_lines(lines(&renumber(more))).unwrap().difference.unwrap();
    assert_eq!(difference.line, event as u64 + 2);
    assert_eq!(difference.expected.unwrap()["name"], "card-inserted");
}

#[test]
fn device_that_asks_the_host_for_something_else_is_found_out() {
    let mut session = session();
    let index = session.iter().position(|line| line["kind"] == "memory" && line["dir"] == "read").unwrap();
    session[index]["address"] = json!("0x4000");
    let difference = replay_lines(lines(&session)).unwrap().difference.unwrap();
    let astray = difference.astray.unwrap();
    assert!(astray.starts_with("it reads ") && astray.contains("guest memory at 0x1"), "{astray}");
}

#[test]
fn record_that_cannot_be_replayed_is_refused_with_the_reason() {
    let session = session();
    let refusal = |values: &[Value]| replay_lines(lines(values)).unwrap_err();
    assert_eq!(refusal(&[]), ReplayError::Empty);
    assert_eq!(refusal(&session[1..]), ReplayError::NoSetup);
    assert_eq!(
        replay_lines(["nonsense".to_owned()]).unwrap_err().to_string(),
        "line 1: no JSON: expected ident at line 1 column 2"
    );
    let mut gap = session.clone();
    gap.drain(5..9);
    assert_eq!(refusal(&gap), ReplayError::Gap { line: 6, before: 4, after: 9 });
    let mut other = session.clone();
    other[0]["format"] = json!(99);
    assert_eq!(
        refusal(&other).to_string(),
        "line 1: the record has format 99, and this program replays format 1"
    );
    let mut wrong = session.clone();
    let call = wrong.iter().position(|line| line["call"] == "read").unwrap();
    wrong[call]["region"] = json!("bra2");
    assert_eq!(
        refusal(&wrong).to_string(),
        format!("line {}: `region`: config, or bar and a number is needed, not \"bra2\"", call + 1)
    );
    // What is there is compared; what nobody can tell any more is said.
    let cut = &session[..session.len() - 1];
    let outcome = replay_lines(lines(cut)).unwrap();
    assert_eq!(outcome.difference, None);
    assert!(outcome.unfinished > 0);
}

#[test]
fn setup_is_part_of_the_record() {
    let words = ["rtd3", "aspm=l0s-l1", "drive-1v8=2"];
    let settings = sdmorph_machine::Settings::from_words(words).unwrap();
    let model = sdmorph_machine::Model::by_name("rts5264").unwrap();
    let slot = Equipment::from_words(["mrl-sensor", "dpc"]);
    let setup = Setup::new(model, Some(settings)).unwrap().with_equipment(slot);
    let mut guest = Guest::with_setup(setup);
    guest.boot();
    // Where the settings are, and the slot's capabilities.
    guest.read(0, READER | 0x724, 4);
    guest.read(0, PORT | 0x84, 4);
    let mut session: Vec<_> =
        guest.machine.records_since(0, usize::MAX).iter().map(Record::to_json).collect();
    let first = &session[0];
    assert_eq!((&first["chip"], &first["vendor-settings"]["aspm"]), (&json!("rts5264"), &json!("l0s-l1")));
    assert_eq!(first["slot-equipment"], json!(["mrl-sensor", "aer", "dpc"]));
    session[0]["slot-equipment"] = json!(["aer", "dpc"]);
    let difference = replay_lines(lines(&session)).unwrap().difference.unwrap();
    assert_eq!(difference.fields, ["value"]);
    session[0]["slot-equipment"] = json!(["mlr-sensor"]);
    assert_eq!(
        replay_lines(lines(&session)).unwrap_err().to_string(),
        "line 1: `slot-equipment`: a list of what a slot can be equipped with is needed, not [\"mlr-sensor\"]"
    );
}

#[test]
fn machine_that_records_no_inputs_records_what_it_did_before() {
    let (mut machine, ..) = crate::guest::machine();
    machine.marker(Duration::ZERO, "alone");
    let records = machine.records_since(0, usize::MAX);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].to_json()["kind"], "marker");
}

/// What a driver and a person do to the device, in whatever order.
#[derive(Debug, Clone)]
enum Act {
    Insert { image: bool, locked: bool },
    Eject,
    Identify,
    SdWrite(u32, u8),
    SdRead(u32),
    Switch,
    DriveWrite(u32, u8),
    DriveRead(u32),
    Inject(usize),
    Rule(usize),
    Corrupt(usize),
    OverCurrent,
    PowerCycle,
    Reset,
    Marker,
    Sleep(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(image, locked)| Act::Insert { image, locked }),
        1 => Just(Act::Eject),
        4 => Just(Act::Identify),
        4 => (0u32..64, any::<u8>()).prop_map(|(at, byte)| Act::SdWrite(at, byte)),
        4 => (0u32..64).prop_map(Act::SdRead),
        2 => Just(Act::Switch),
        3 => (0u32..64, any::<u8>()).prop_map(|(at, byte)| Act::DriveWrite(at, byte)),
        3 => (0u32..64).prop_map(Act::DriveRead),
        2 => (0..ACTIONS).prop_map(Act::Inject),
        2 => (0..ACTIONS).prop_map(Act::Rule),
        1 => (0usize..4).prop_map(Act::Corrupt),
        1 => Just(Act::OverCurrent),
        1 => Just(Act::PowerCycle),
        1 => Just(Act::Reset),
        1 => Just(Act::Marker),
        3 => (0u64..2_000_000_000).prop_map(Act::Sleep),
    ]
}

/// Half of the sessions begin with a drive on an image, as few would come to one by chance.
fn acts() -> impl Strategy<Value = Vec<Act>> {
    (any::<bool>(), prop::collection::vec(act(), 0..32)).prop_map(|(drive, mut acts)| {
        if drive {
            acts.splice(0..0, [Act::Insert { image: true, locked: false }, Act::Switch]);
        }
        acts
    })
}

const ACTIONS: usize = 17;

fn action(index: usize) -> Value {
    match index {
        0 => json!({"link": "down"}),
        1 => json!({"link": "up"}),
        2 => json!([{"bar": "vanish"}, {"read-latency": {"min": "1us", "max": "1ms", "seed": 7}}]),
        3 => json!({"bar": "return"}),
        4 => json!({"interrupt": {"what": "delay", "time": "7ms"}}),
        5 => json!([{"interrupt": {"what": "duplicate", "times": 1}}, {"interrupt": "spurious"}]),
        6 => json!({"dma": {"what": "corrupt", "times": 2, "seed": 9}}),
        7 => json!({"dma": {"what": "fail", "error": "completion-timeout", "times": 1}}),
        8 => json!({"dma": {"what": "delay", "time": "30ms"}}),
        9 => json!({"card-corrupt": {"what": "busy", "duration": "15ms"}}),
        10 => json!({"presence": {"bounce": 5, "every": "2ms"}}),
        11 => json!({"nvme": {"what": "drop-completion", "times": 1}}),
        12 => json!({"read-data": {"space": "bar", "give": "stale"}}),
        13 => json!({"aer": "MALF_TLP"}),
        14 => json!([{"attention-button": "press"}, {"command-completed": "1ms"}, {"dpc": "trigger"}]),
        15 => json!([{"power-fault": true}, {"absence-lead": "4ms"}, {"presence-lag": "3ms"}]),
        _ => json!({"card": "eject"}),
    }
}

/// Does it, if the driver can. What it meets does not matter, but what the record says of it.
fn perform(lab: &mut Lab, drive: &mut Option<NvmeDriver>, path: &std::path::Path, act: Act, serial: u32) {
    let now = lab.guest.now();
    if lab.guest.machine.status()["phase"] != "drive" {
        // pciehp has taken the driver from what is in the slot no more.
        *drive = None;
    }
    let transfer = |index, argument| Transfer { index, argument, block_bytes: 512, blocks: 1 };
    match act {
        Act::Insert { image, locked } => {
            let medium = if image && !lab.guest.machine.has_card() {
                // The one that went out is closed in its own time.
                assert!(sdmorph_media::wait_until_closed(Duration::from_secs(600)));
                let (medium, image) = Image::open(path);
                lab.guest.image = Some(image);
                medium
            } else {
                Medium::memory(4 << 30)
            };
            let card =
                NewCard { medium: Some(medium), write_protect: locked, serial, ..CardKind::SdExpress.into() };
            let _ = lab.guest.machine.card_insert(now, card);
            lab.guest.collect();
        }
        Act::Eject => {
            lab.guest.image = None;
            let _ = lab.guest.machine.card_eject(now);
        }
        Act::Identify => {
            lab.driver = RtsxDriver::new();
            lab.guest.slot_events();
            lab.guest.place_reader();
            if lab.probe().is_ok() {
                lab.driver.offers_express = false;
                let _ = lab.rescan().and_then(|_| {
                    let Lab { bench, guest, driver } = lab;
                    driver.identify(bench, guest).map(drop)
                });
            }
        }
        Act::SdWrite(at, byte) => {
            let Lab { bench, guest, driver } = lab;
            let _ = driver.write_short(bench, guest, transfer(24, at), &[byte; 512]);
        }
        Act::SdRead(at) => {
            let Lab { bench, guest, driver } = lab;
            let _ = driver.read_short(bench, guest, transfer(17, at));
        }
        Act::Switch => {
            lab.driver.offers_express = true;
            let _ = lab.rescan();
            lab.sleep(Duration::from_secs(1));
            lab.guest.slot_events();
            *drive = None;
            if lab.guest.machine.status()["phase"] == "drive" && lab.guest.link_active() {
                *drive = NvmeDriver::probe(&mut lab.guest).ok();
            }
        }
        Act::DriveWrite(at, byte) => {
            if let Some(drive) = drive {
                let _ = drive.write(&mut lab.guest, at, &[byte; 512], byte % 2 == 0);
            }
        }
        Act::DriveRead(at) => {
            if let Some(drive) = drive {
                let _ = drive.command(&mut lab.guest, 1, [2, 1, at, 0], BUFFER);
            }
        }
        Act::Inject(index) => {
            let _ = lab.guest.machine.inject(now, "at-once", &action(index));
        }
        Act::Rule(index) => {
            let rule = json!({
                "name": format!("rule-{index}"),
                "on": {"event": "reset", "probability": 0.5, "seed": 3, "delay": "3ms"},
                "do": action(index),
            });
            let _ = lab.guest.machine.rule_add(now, Rule::from_json(&rule).unwrap());
        }
        Act::Corrupt(index) => {
            let disturbance = match index {
                0 => Disturbance::ResponseCrc(1),
                1 => Disturbance::DataTimeout(2),
                2 => Disturbance::Busy(Duration::from_millis(20)),
                _ => Disturbance::BadBlocks { first: 3, count: 9 },
            };
            let _ = lab.guest.machine.card_disturb(now, disturbance);
        }
        Act::OverCurrent => {
            lab.guest.machine.over_current(now);
        }
        Act::PowerCycle => {
            lab.guest.machine.power_cycle(now);
            lab.guest.boot();
        }
        Act::Reset => {
            lab.guest.machine.reset(now);
            lab.guest.boot();
        }
        Act::Marker => lab.guest.machine.marker(now, "here"),
        Act::Sleep(time) => lab.sleep(Duration::from_nanos(time)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn record_of_any_session_of_the_drivers_replays_to_the_same_answers(
        acts in acts()
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card.img");
        std::fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
        let slot = Equipment::from_words(Equipment::WORDS.iter().copied());
        let mut lab = Lab::bound_to(Setup::default().with_equipment(slot));
        let mut drive = None;
        for (serial, act) in (1..).zip(acts) {
            perform(&mut lab, &mut drive, &path, act, serial);
        }
        let records = lab.guest.machine.records_since(0, usize::MAX);
        let outcome = replay(&records);
        prop_assert_eq!(outcome.difference, None);
        prop_assert_eq!(outcome.lines, records.len() as u64);
    }
}
