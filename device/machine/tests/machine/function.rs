//! What rules do to the function in the slot: reads, interrupts, DMA, commands, power states.

use std::time::Duration;

use sdmorph_machine::{CardKind, Record};
use sdmorph_testkit::DriverError;
use serde_json::{Value, json};

use crate::drive::{Sd, block, memory_card, switch};
use crate::guest::{DLLSC, Lab, PORT, READER};
use crate::morph::rule;
use crate::nvme::{Gone, NvmeDriver, SUCCESS};

const HAIMR: u64 = 0x10;
const BIPR: u64 = 0x14;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
/// Of the reader and of the drive.
const PMCSR: u64 = READER | 0x84;
const SD_INSERTED: u64 = 1 << 25;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn act(lab: &mut Lab, action: &Value) {
    rule(lab, &json!({ "start": true }), action);
}

/// What the record says faults have made of things, and how often.
fn faults(lab: &Lab) -> Vec<String> {
    let records = lab.guest.records();
    let records = records.iter().map(Record::to_json).filter(|record| record["kind"] == "fault");
    records.map(|record| format!("{} {}", record["fn"], record["what"]).replace('"', "")).collect()
}

/// A reader in use with a card that has data in block 3.
fn with_card() -> Lab {
    let mut lab = Lab::bound();
    Sd::insert(&mut lab, memory_card()).write(3, &block(7));
    lab
}

fn read_block(lab: &mut Lab) -> Result<Vec<u8>, DriverError> {
    lab.driver.read_short(&mut lab.bench, &mut lab.guest, Sd::transfer(17, 3))
}

fn with_drive() -> (Lab, NvmeDriver) {
    let mut lab = Lab::bound();
    Sd::insert(&mut lab, memory_card()).write(3, &block(7));
    let drive = switch(&mut lab);
    (lab, drive)
}

#[test]
fn read_data_is_what_the_guest_gets_and_what_the_record_has() {
    let mut lab = Lab::bound();
    let id = lab.guest.read(0, READER, 4);
    act(&mut lab, &json!({ "read-data": { "register": "BIPR", "give": "0x12345678" } }));
    assert_eq!(lab.guest.read(2, BIPR, 4), 0x1234_5678);
    assert_eq!(lab.guest.records().pop().unwrap().to_json()["value"], "0x12345678");
    assert_eq!(lab.guest.read(2, BIPR + 1, 1), 0x56);
    act(&mut lab, &json!({ "read-data": { "register": "BIPR", "clear": true } }));
    assert_eq!(lab.guest.read(2, BIPR, 4), 0);

    act(&mut lab, &json!({ "read-data": { "space": "bar", "give": "0x12345678" } }));
    assert_eq!((lab.guest.read(2, BIPR, 4), lab.guest.read(2, BIPR + 2, 2)), (0x1234_5678, 0x1234));
    assert_eq!(lab.guest.read(2, HAIMR, 8), 0x1234_5678_1234_5678);
    assert_eq!(lab.guest.read(0, READER, 4), id, "not configuration space");
    act(&mut lab, &json!({ "read-data": { "space": "bar", "clear": true } }));

    act(&mut lab, &json!({ "read-data": { "space": "config", "give": "zeros" } }));
    assert_eq!(lab.guest.read(0, READER, 4), 0);
    assert_ne!(lab.guest.read(0, PORT, 4), 0, "the port is not in the slot");
    act(&mut lab, &json!({ "read-data": { "space": "config", "clear": true } }));
    assert_eq!(lab.guest.read(0, READER, 4), id);
}

#[test]
fn internal_register_answers_a_value_through_haimr() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!({ "read-data": { "register": "SD_STAT1", "give": "0xa5" } }));
    // SD_STAT1, by HAIMR: start, address, no write.
    lab.guest.write(2, HAIMR, 4, 1 << 31 | 0xfda3 << 16 & 0x3fff_0000);
    assert_eq!(lab.guest.read(2, HAIMR, 4) & 0xff, 0xa5);
}

#[test]
fn stale_space_answers_what_each_place_answered_before() {
    let mut lab = Lab::bound();
    rule(
        &mut lab,
        &json!({ "event": "card-inserted" }),
        &json!({ "read-data": { "space": "bar", "give": "stale" } }),
    );
    assert_eq!(lab.guest.read(2, BIPR, 4), 0);
    lab.guest.machine.card_insert(lab.guest.now(), CardKind::SdExpress).unwrap();
    assert_eq!(lab.guest.read(2, BIPR, 4), 0, "the card does not show");
    let enabled = lab.guest.read(2, 0x18, 4);
    assert_ne!(enabled, 0, "BIER was never read before");
    act(&mut lab, &json!({ "read-data": { "space": "bar", "clear": true } }));
    assert_ne!(lab.guest.read(2, BIPR, 4) & SD_INSERTED, 0);
}

#[test]
fn data_of_a_dead_function_are_all_ones_whatever_rules_say() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!([{ "bar": "vanish" }, { "read-data": { "space": "bar", "give": "zeros" } }]));
    assert_eq!(lab.guest.read(2, BIPR, 4), 0xffff_ffff);
}

#[test]
fn latencies_of_a_trace_and_of_a_distribution_are_given_to_reads() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!({ "read-latency": { "trace-ns": [1000, 0, 3000] } }));
    for _ in 0..4 {
        lab.guest.read(2, BIPR, 4);
    }
    assert_eq!(lab.guest.latencies, [1000, 3000, 1000].map(Duration::from_nanos));
    act(&mut lab, &json!({ "read-latency": { "mean": "1ms", "seed": 3 } }));
    lab.guest.read(2, BIPR, 4);
    lab.guest.read(2, BIPR, 4);
    let [.., first, second] = lab.guest.latencies[..] else { panic!("{:?}", lab.guest.latencies) };
    assert!(first != second && first < ms(100) && second < ms(100), "{first:?} {second:?}");
}

#[test]
fn configuration_space_that_has_vanished_answers_nothing_until_it_returns_or_the_link_comes_anew() {
    let mut lab = Lab::bound();
    let id = lab.guest.read(0, READER, 4);
    act(&mut lab, &json!({ "config": "vanish" }));
    assert_eq!(lab.guest.read(0, READER, 4), 0xffff_ffff);
    lab.guest.write(0, READER | 0x3c, 1, 0x5a);
    assert_eq!(lab.guest.records().pop().unwrap().to_json()["dead"], true);
    assert_ne!(lab.guest.read(2, 0x18, 4), 0xffff_ffff, "the BAR answers");
    act(&mut lab, &json!({ "config": "return" }));
    assert_eq!(lab.guest.read(0, READER, 4), id);
    assert_ne!(lab.guest.read(0, READER | 0x3c, 1), 0x5a, "the write was lost");
    act(&mut lab, &json!([{ "config": "vanish" }, { "link": "down" }, { "link": "up" }]));
    assert_eq!(lab.guest.read(0, READER, 4), id);
}

#[test]
fn function_that_is_stuck_in_d3hot_stays_there_until_it_is_let_go() {
    let mut lab = Lab::bound();
    lab.guest.write(0, PMCSR, 2, 3);
    act(&mut lab, &json!({ "power-state": "stuck" }));
    lab.guest.write(0, PMCSR, 2, 0);
    assert_eq!(lab.guest.read(0, PMCSR, 2) & 3, 3);
    assert_eq!(lab.guest.read(2, BIPR, 4), 0xffff_ffff);
    act(&mut lab, &json!({ "power-state": "normal" }));
    lab.guest.write(0, PMCSR, 2, 0);
    assert_eq!(lab.guest.read(0, PMCSR, 2) & 3, 0);
    assert_ne!(lab.guest.read(2, BIPR, 4), 0xffff_ffff);
}

#[test]
fn lost_interrupt_is_lost_and_the_next_one_comes() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!({ "interrupt": { "what": "drop", "times": 1 } }));
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, CardKind::SdExpress).unwrap();
    assert!(!lab.interrupt(), "no message");
    assert_ne!(lab.guest.read(2, BIPR, 4) & SD_INSERTED, 0, "but BIPR tells");
    assert_eq!(faults(&lab), ["reader interrupt-lost"]);
    lab.guest.write(2, BIPR, 4, SD_INSERTED);
    lab.guest.machine.card_eject(now).unwrap();
    assert!(lab.interrupt());
}

#[test]
fn delayed_interrupt_comes_at_its_time() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!({ "interrupt": { "what": "delay", "time": "5ms" } }));
    lab.guest.machine.card_insert(lab.guest.now(), CardKind::SdExpress).unwrap();
    assert!(!lab.interrupt());
    assert!(lab.guest.machine.next_deadline().is_some_and(|at| at <= lab.guest.now() + ms(5)));
    lab.sleep(ms(4));
    assert!(!lab.interrupt());
    lab.sleep(ms(1));
    assert!(lab.interrupt());
    assert_eq!(faults(&lab), ["reader interrupt-delayed"]);
}

#[test]
fn port_s_interrupts_are_duplicated_and_spurious_ones_come_from_whom_they_should() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!({ "interrupt": { "what": "duplicate", "function": "port", "times": 1 } }));
    let before = lab.guest.port_messages;
    lab.guest.machine.link_set(lab.guest.now(), false);
    lab.guest.collect();
    assert_eq!(lab.guest.port_messages, before + 2);
    assert_eq!(faults(&lab), ["port interrupt-duplicated"]);
    assert_eq!(lab.guest.slot_events() & DLLSC, DLLSC);
    let before = lab.guest.port_messages;
    act(&mut lab, &json!({ "interrupt": { "what": "spurious", "function": "port" } }));
    lab.guest.collect();
    assert_eq!(lab.guest.port_messages, before + 1);
    assert_eq!(lab.guest.slot_events(), 0);
}

#[test]
fn spurious_interrupt_of_the_reader_tells_nothing() {
    let mut lab = Lab::bound();
    act(&mut lab, &json!({ "interrupt": "spurious" }));
    assert!(lab.interrupt(), "a message");
    assert_eq!(lab.guest.read(2, BIPR, 4), 0);
}

#[test]
fn command_list_whose_dma_fails_is_told_to_the_driver_as_failed() {
    let mut lab = with_card();
    act(&mut lab, &json!({ "dma": { "what": "fail", "error": "completion-timeout", "times": 1 } }));
    assert_eq!(read_block(&mut lab), Err(DriverError::ListFailed));
    assert_eq!(read_block(&mut lab), Ok(block(7)));
    assert_eq!(faults(&lab), ["reader dma-failed"]);
    assert_eq!(lab.guest.machine.counters().dma_errors, 1);
}

#[test]
fn held_dma_lets_a_command_list_end_later() {
    let mut lab = with_card();
    act(&mut lab, &json!({ "dma": { "what": "delay", "time": "50ms" } }));
    let before = lab.guest.now();
    assert_eq!(read_block(&mut lab), Ok(block(7)));
    assert!(lab.guest.now() >= before + ms(50), "{:?} {:?}", before, lab.guest.now());
    let before = lab.guest.now();
    assert_eq!(read_block(&mut lab), Ok(block(7)));
    assert!(lab.guest.now() < before + ms(50));
}

#[test]
fn card_can_be_disturbed_by_a_rule_as_by_the_command() {
    let mut lab = with_card();
    act(&mut lab, &json!({ "card-corrupt": { "what": "data-crc" } }));
    assert!(read_block(&mut lab).is_err());
    assert_eq!(read_block(&mut lab), Ok(block(7)));
    act(&mut lab, &json!({ "card-corrupt": { "what": "response-timeout", "times": 5 } }));
    assert!(read_block(&mut lab).is_err());
    act(&mut lab, &json!({ "card-corrupt": { "what": "heal" } }));
    assert_eq!(read_block(&mut lab), Ok(block(7)));
}

#[test]
fn drive_s_data_are_lost_or_corrupted_in_one_direction() {
    let (mut lab, mut drive) = with_drive();
    let of = |what: &str| json!({ "dma": { "what": what, "direction": "write", "times": 1, "seed": 5 } });
    act(&mut lab, &json!({ "dma": { "what": "drop", "direction": "write", "times": 1 } }));
    assert_eq!(drive.read(&mut lab.guest, 3), Ok(vec![0xa5; 512]), "what was there before");
    let mut bits = |lab: &mut Lab| {
        act(lab, &of("corrupt"));
        let read = drive.read(&mut lab.guest, 3).unwrap();
        let pairs = read.iter().zip(block(7)).enumerate();
        let differ = pairs.map(|(at, (read, written))| (at, read ^ written)).filter(|(_, bits)| *bits != 0);
        differ.collect::<Vec<_>>()
    };
    let first = bits(&mut lab);
    assert!(first.len() == 1 && first[0].1.count_ones() == 1, "{first:?}");
    assert_eq!(bits(&mut lab), first, "the same seed");
    assert_eq!(drive.read(&mut lab.guest, 3), Ok(block(7)));
    assert_eq!(faults(&lab), ["nvme dma-lost", "nvme dma-corrupted", "nvme dma-corrupted"]);
}

#[test]
fn drive_whose_dma_is_held_ends_its_commands_later() {
    let (mut lab, mut drive) = with_drive();
    act(&mut lab, &json!({ "dma": { "what": "delay", "time": "50ms" } }));
    drive.send(&mut lab.guest, 1, [0, 1, 0, 0], 0);
    assert_eq!(drive.ended(&mut lab.guest, 1), None);
    lab.sleep(ms(49));
    assert_eq!(drive.ended(&mut lab.guest, 1), None);
    lab.sleep(ms(1));
    assert_eq!(drive.ended(&mut lab.guest, 1), Some(SUCCESS));
}

/// A drive with a command that waits for its DMA, which is held up for 50 ms; and what has ended once `end` is done.
fn held_dma_and(end: impl FnOnce(&mut Lab)) -> Option<u16> {
    let (mut lab, mut drive) = with_drive();
    act(&mut lab, &json!({ "dma": { "what": "delay", "time": "50ms" } }));
    drive.send(&mut lab.guest, 1, [0, 1, 0, 0], 0);
    assert_eq!(drive.ended(&mut lab.guest, 1), None);
    end(&mut lab);
    drive.ended(&mut lab.guest, 1)
}

#[test]
fn held_dma_goes_on_in_the_moment_that_the_hold_ends() {
    assert_eq!(held_dma_and(|lab| act(lab, &json!({ "dma": "normal" }))), Some(SUCCESS));
    let now_none = json!({ "dma": { "what": "delay", "time": "0s" } });
    assert_eq!(held_dma_and(|lab| act(lab, &now_none)), Some(SUCCESS));
    let load = |lab: &mut Lab, replace| {
        let now = lab.guest.now();
        lab.guest.machine.scenario_load(now, "none", Vec::new(), replace).unwrap();
    };
    assert_eq!(held_dma_and(|lab| load(lab, true)), Some(SUCCESS));
    assert_eq!(held_dma_and(|lab| load(lab, false)), None, "the old rules are still there");
}

#[test]
fn hold_of_dma_has_no_direction_and_is_not_ended_by_what_has_one() {
    for direction in ["read", "write"] {
        let normal = json!({ "dma": { "what": "normal", "direction": direction } });
        assert_eq!(held_dma_and(|lab| act(lab, &normal)), None, "{direction}");
    }
}

#[test]
fn hold_that_is_made_shorter_or_longer_ends_at_its_new_time() {
    for milliseconds in [10, 90] {
        let time = format!("{milliseconds}ms");
        let ended = held_dma_and(|lab| {
            act(lab, &json!({ "dma": { "what": "delay", "time": time } }));
            lab.sleep(ms(milliseconds - 1));
        });
        assert_eq!(ended, None, "{milliseconds}");
        let ended = held_dma_and(|lab| {
            act(lab, &json!({ "dma": { "what": "delay", "time": time } }));
            lab.sleep(ms(milliseconds));
        });
        assert_eq!(ended, Some(SUCCESS), "{milliseconds}");
    }
}

#[test]
fn command_list_that_is_held_up_ends_in_the_moment_that_dma_is_normal() {
    let mut lab = with_card();
    act(&mut lab, &json!({ "dma": { "what": "delay", "time": "50ms" } }));
    rule(&mut lab, &json!({ "start": true, "delay": "5ms" }), &json!({ "dma": "normal" }));
    let before = lab.guest.now();
    assert_eq!(read_block(&mut lab), Ok(block(7)));
    let took = lab.guest.now() - before;
    assert!((ms(5)..ms(50)).contains(&took), "{took:?}");
}

#[test]
fn command_of_the_name_fails_with_the_status_and_is_not_done() {
    let (mut lab, mut drive) = with_drive();
    act(
        &mut lab,
        &json!({ "nvme": { "what": "fail", "status": "Namespace Not Ready", "command": "Write", "times": 1 } }),
    );
    assert_eq!(drive.flush(&mut lab.guest), Ok(SUCCESS));
    assert_eq!(drive.write(&mut lab.guest, 3, &block(1), false), Ok(0x82));
    assert_eq!(drive.read(&mut lab.guest, 3), Ok(block(7)));
    assert_eq!(drive.write(&mut lab.guest, 3, &block(1), false), Ok(SUCCESS));
    assert_eq!(faults(&lab), ["nvme command-failed"]);
}

#[test]
fn dropped_completion_never_comes_and_the_command_is_done() {
    let (mut lab, mut drive) = with_drive();
    act(&mut lab, &json!({ "nvme": { "what": "drop-completion", "times": 1 } }));
    drive.send(&mut lab.guest, 1, [0, 1, 0, 0], 0);
    lab.sleep(Duration::from_secs(60));
    assert_eq!(drive.ended(&mut lab.guest, 1), None);
    assert_eq!(drive.flush(&mut lab.guest), Ok(SUCCESS));
    assert_eq!(faults(&lab), ["nvme completion-lost"]);
}

#[test]
fn controller_that_fails_fatally_does_nothing_until_it_is_reset() {
    let (mut lab, mut drive) = with_drive();
    act(&mut lab, &json!({ "nvme": "fatal" }));
    assert_eq!(lab.guest.read(2, CSTS, 4), 0b11);
    drive.send(&mut lab.guest, 1, [0, 1, 0, 0], 0);
    assert_eq!(drive.ended(&mut lab.guest, 1), None);
    let mut drive = NvmeDriver::probe(&mut lab.guest).unwrap();
    assert_eq!(drive.flush(&mut lab.guest), Ok(SUCCESS));
}

#[test]
fn ready_that_is_stuck_follows_enable_in_neither_direction() {
    let (mut lab, _drive) = with_drive();
    act(&mut lab, &json!({ "nvme": "ready-stuck" }));
    lab.guest.write(2, CC, 4, 0);
    assert_eq!(lab.guest.read(2, CSTS, 4) & 1, 1, "disabled, and still ready");
    act(&mut lab, &json!({ "nvme": "normal" }));
    assert_eq!(lab.guest.read(2, CSTS, 4) & 1, 0);
    act(&mut lab, &json!({ "nvme": "ready-stuck" }));
    assert_eq!(NvmeDriver::probe(&mut lab.guest).err(), Some(Gone), "enabled, and never ready");
    act(&mut lab, &json!({ "nvme": "normal" }));
    assert_eq!(lab.guest.read(2, CSTS, 4) & 1, 1);
}

#[test]
fn rules_of_another_scenario_find_none_of_the_faults_that_the_engine_keeps() {
    let mut lab = Lab::bound();
    act(
        &mut lab,
        &json!([
            { "read-data": { "space": "bar", "give": "ones" } },
            { "interrupt": "drop" },
            { "dma": { "what": "fail" } },
        ]),
    );
    let faults = |lab: &Lab| lab.guest.machine.status()["faults"].clone();
    assert_eq!(faults(&lab)["interrupt"], json!(["drop"]));
    let now = lab.guest.now();
    lab.guest.machine.scenario_load(now, "none", Vec::new(), true).unwrap();
    for kind in ["read-data", "read-spaces", "interrupt", "dma", "nvme"] {
        assert_eq!(faults(&lab)[kind], json!([]), "{kind}");
    }
    assert_ne!(lab.guest.read(2, 0x18, 4), 0xffff_ffff);
}
