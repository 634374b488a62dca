//! Triggers that are not a register's access, an event or a command: any access, phases, doorbells, interrupts, DMA.

use sdmorph_pci::{
    Access, Answer, Direction, DmaError, Doorbell, DoorbellKind, Event, Happening, Message, Space,
};
use serde_json::json;

use crate::bench::{Bench, names_of, reader, rule, vanish};

fn unnamed(space: Space, direction: Direction, offset: u64, size: u8, value: u64) -> Access {
    Access { space, direction, offset, size, register: None, value, answer: Answer::Unmodelled }
}

#[test]
fn star_is_any_register_with_or_without_a_name() {
    let mut bench = Bench::new(vec![
        rule("all", json!({ "access": "*" }), vanish()),
        rule("named", json!({ "read": "HAIMR" }), vanish()),
        rule("reads", json!({ "read": "*", "function": "reader" }), vanish()),
        rule("bars", json!({ "access": "*", "space": "bar" }), vanish()),
        rule("inside", json!({ "write": "*", "space": "internal" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.read("HAIMR", 0).fired), ["all", "named", "reads", "bars"]);
    let (read, write) = (Direction::Read, Direction::Write);
    for (function, space, direction, hits) in [
        ("reader", Space::Bar(1), write, &["all", "bars"][..]),
        ("reader", Space::Internal, write, &["all", "inside"]),
        ("reader", Space::Internal, read, &["all", "reads"]),
        ("port", Space::Config, read, &["all"]),
    ] {
        let fired = bench.access(function, unnamed(space, direction, 0x40, 4, 0)).fired;
        assert_eq!(names_of(&fired), hits, "{function} {space:?} {direction:?}");
    }
    let absent = Access { answer: Answer::Absent, ..reader("HAIMR", read, 0) };
    assert_eq!(bench.access("reader", absent).fired, [], "nobody's");
}

#[test]
fn offsets_are_those_of_any_byte_of_the_access() {
    let on = json!({ "write": "*", "space": "bar", "offset": { "from": "0x10", "to": "0x17" }, "value": "0x80", "mask": "0xf0" });
    let mut bench = Bench::with(on);
    let mut write = |offset, size, value| {
        let access = unnamed(Space::Bar(0), Direction::Write, offset, size, value);
        !bench.access("reader", access).fired.is_empty()
    };
    assert!(write(0x10, 4, 0x8f) && write(0x17, 1, 0x80) && write(0x0c, 8, 0x80));
    assert!(!write(0x18, 4, 0x80) && !write(0x0c, 4, 0x80) && !write(0x10, 4, 0x70));
    let mut bench = Bench::with(json!({ "read": "*", "space": "config", "offset": 4 }));
    let mut read = |offset, size| {
        let access = unnamed(Space::Config, Direction::Read, offset, size, 0);
        !bench.access("port", access).fired.is_empty()
    };
    assert!(read(4, 1) && read(4, 4) && !read(5, 1) && !read(0, 4));
}

#[test]
fn value_of_any_access_is_compared_as_it_was_carried() {
    let mut bench = Bench::with(json!({ "read": "*", "value": "0xffff" }));
    let mut read = |size, value| {
        let access = unnamed(Space::Config, Direction::Read, 0, size, value);
        !bench.access("reader", access).fired.is_empty()
    };
    assert!(read(2, 0xffff) && read(4, 0xffff) && !read(4, 0xffff_ffff));
}

#[test]
fn phase_is_one_that_the_slot_enters() {
    let mut bench = Bench::new(vec![
        rule("drive", json!({ "phase": "drive" }), vanish()),
        rule("any", json!({ "event": "morph" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.event(Event::Morph { phase: "away" }).fired), ["any"]);
    assert_eq!(names_of(&bench.event(Event::Morph { phase: "drive" }).fired), ["drive", "any"]);
}

#[test]
fn doorbell_is_told_by_kind_queue_and_value() {
    let mut bench = Bench::new(vec![
        rule("any", json!({ "doorbell": "*" }), vanish()),
        rule("submits", json!({ "doorbell": "sq" }), vanish()),
        rule("takes", json!({ "doorbell": "cq", "queue": 2 }), vanish()),
        rule("wraps", json!({ "doorbell": "sq", "queue": 1, "value": 0 }), vanish()),
    ]);
    let mut ring =
        |kind, queue, value| bench.seen("nvme", &Happening::Doorbell(Doorbell { kind, queue, value }));
    let (sq, cq) = (DoorbellKind::SubmissionTail, DoorbellKind::CompletionHead);
    assert_eq!(ring(sq, 1, 7), ["any", "submits"]);
    assert_eq!(ring(sq, 1, 0), ["any", "submits", "wraps"]);
    assert_eq!(ring(sq, 2, 0), ["any", "submits"]);
    assert_eq!(ring(cq, 2, 0), ["any", "takes"]);
    assert_eq!(ring(cq, 1, 0), ["any"]);
}

#[test]
fn interrupt_is_told_by_function_vector_and_data() {
    let mut bench = Bench::new(vec![
        rule("any", json!({ "interrupt": "*" }), vanish()),
        rule("drive", json!({ "interrupt": "*", "function": "nvme" }), vanish()),
        rule("queue", json!({ "interrupt": 1, "function": "nvme" }), vanish()),
        rule("data", json!({ "interrupt": "*", "value": "0x40", "mask": "0xf0" }), vanish()),
    ]);
    let mut send = |function, vector, data| {
        bench.seen(function, &Happening::Interrupt(Message { vector, address: 0xfee0_0000, data }))
    };
    assert_eq!(send("reader", 1, 0x21), ["any"]);
    assert_eq!(send("nvme", 0, 0x21), ["any", "drive"]);
    assert_eq!(send("nvme", 1, 0x4f), ["any", "drive", "queue", "data"]);
}

#[test]
fn dma_is_told_by_direction_function_and_address_whether_or_not_it_succeeds() {
    let range = json!({ "from": "0x1000", "to": "0x1fff" });
    let mut bench = Bench::new(vec![
        rule("any", json!({ "dma": "*" }), vanish()),
        rule("writes", json!({ "dma": "write", "address": range }), vanish()),
        rule("drive", json!({ "dma": "*", "function": "nvme", "address": { "from": "0x1800" } }), vanish()),
    ]);
    let mut dma = |function, direction, address, length| {
        let result = if address == 0 { Err(DmaError::NotBusMaster) } else { Ok(()) };
        bench.seen(function, &Happening::Dma { direction, address, length, result })
    };
    assert_eq!(dma("reader", Direction::Read, 0x1000, 0x1000), ["any"]);
    assert_eq!(dma("reader", Direction::Write, 0xfff, 2), ["any", "writes"]);
    assert_eq!(dma("reader", Direction::Write, 0xfff, 1), ["any"]);
    assert_eq!(dma("nvme", Direction::Write, 0x17ff, 1), ["any", "writes"]);
    assert_eq!(dma("nvme", Direction::Read, 0x17ff, 2), ["any", "drive"]);
    assert_eq!(dma("nvme", Direction::Write, 0, 0x2000), ["any", "writes", "drive"]);
    assert_eq!(dma("nvme", Direction::Write, u64::MAX, 0x2000), ["any", "drive"]);
}

#[test]
fn rules_of_all_kinds_keep_their_order_and_chains_come_last() {
    let mut bench = Bench::new(vec![
        rule("chained", json!({ "rule": "star" }), vanish()),
        rule("value", json!({ "read": "BIPR", "value": 1 }), vanish()),
        rule("star", json!({ "read": "*", "space": "bar" }), vanish()),
        rule("plain", json!({ "read": "BIPR" }), vanish()),
    ]);
    assert_eq!(names_of(&bench.read("BIPR", 1).fired), ["value", "star", "plain", "chained"]);
}
