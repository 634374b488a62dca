//! Command lists, as a driver makes them and as a hostile guest might.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use sdmorph_pci::Direction;
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::command_list::MAX_BYTES;
use sdmorph_testkit::{Bench, Seen};

const HCBAR: u64 = 0x00;
const HCBCTLR: u64 = 0x04;
const HDBCTLR: u64 = 0x0c;
const BIPR: u64 = 0x14;
const START: u32 = 0xc000_0000;
const TRANS_OK: u32 = 1 << 29;
const TRANS_FAIL: u32 = 1 << 28;
const AT: u64 = 1 << 20;

const CLK_DIV: u32 = 0x3c03;
const SSC_CTL1: u32 = 0x3c11;

fn read(address: u32) -> u32 {
    address << 16
}

fn write(address: u32, mask: u32, data: u32) -> u32 {
    1 << 30 | address << 16 | mask << 8 | data
}

fn check(address: u32, mask: u32, data: u32) -> u32 {
    2 << 30 | address << 16 | mask << 8 | data
}

fn powered() -> (Bench, Rtsx) {
    let mut bench = Bench::default();
    let mut reader = Rtsx::new();
    bench.config_write(&mut reader, 0x04, 2, 0x0006);
    (bench, reader)
}

/// Runs what is at `at` and returns the interrupt sources that came of it.
fn run_at(bench: &mut Bench, reader: &mut Rtsx, at: u64, control: u32) -> u32 {
    bench.write(reader, HCBAR, u32::try_from(at & 0xffff_ffff).unwrap());
    bench.write(reader, HCBCTLR, control);
    assert_eq!(bench.read(reader, HCBCTLR) & 1 << 31, 0, "still busy");
    let pending = bench.read(reader, BIPR);
    bench.write(reader, BIPR, pending);
    pending
}

fn run(bench: &mut Bench, reader: &mut Rtsx, list: &[u32]) -> u32 {
    let bytes: Vec<u8> = list.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(bench.memory.poke(AT, &bytes));
    run_at(bench, reader, AT, START | u32::try_from(bytes.len()).unwrap())
}

fn dma_count(bench: &Bench, wanted: Direction) -> usize {
    let is_wanted = |what: &Seen| matches!(what, Seen::Dma { direction, .. } if *direction == wanted);
    bench.log.records().iter().filter(|record| is_wanted(&record.what)).count()
}

#[test]
fn reads_and_checks_are_answered_at_the_start_of_the_buffer_and_writes_are_not() {
    let (mut bench, mut reader) = powered();
    let list = [
        write(CLK_DIV, 0xff, 0xa5),
        read(CLK_DIV),
        write(SSC_CTL1, 0xf0, 0xff),
        check(SSC_CTL1, 0x30, 0x30),
        read(SSC_CTL1),
    ];
    assert_eq!(run(&mut bench, &mut reader, &list), TRANS_OK);
    let buffer = bench.memory.peek(AT, 5).unwrap();
    assert_eq!(buffer[..3], [0xa5, 0xf0, 0xf0]);
    // The rest of the buffer is as it was.
    assert_eq!(
        buffer[3..],
        list[0].to_le_bytes()[3..].iter().chain(&list[1].to_le_bytes()[..1]).copied().collect::<Vec<_>>()
    );
}

#[test]
fn failed_check_ends_the_list_there() {
    let (mut bench, mut reader) = powered();
    let list = [write(CLK_DIV, 0xff, 1), check(CLK_DIV, 0xff, 2), write(CLK_DIV, 0xff, 3), read(CLK_DIV)];
    assert_eq!(run(&mut bench, &mut reader, &list), TRANS_FAIL);
    assert_eq!(bench.memory.peek(AT, 1).unwrap(), [1]);
    assert_eq!(run(&mut bench, &mut reader, &[check(CLK_DIV, 0xff, 1)]), TRANS_OK);
}

#[test]
fn check_compares_only_masked_bits() {
    let (mut bench, mut reader) = powered();
    let list = [write(CLK_DIV, 0xff, 0x5a), check(CLK_DIV, 0x0f, 0xfa), check(CLK_DIV, 0, 0xff)];
    assert_eq!(run(&mut bench, &mut reader, &list), TRANS_OK);
}

#[test]
fn stuck_bit_fails_the_check_that_sees_it() {
    let (mut bench, mut reader) = powered();
    bench.log.stick("CLK_DIV", 0x80);
    assert_eq!(run(&mut bench, &mut reader, &[check(CLK_DIV, 0x80, 0)]), TRANS_FAIL);
}

#[test]
fn command_without_a_type_fails() {
    let (mut bench, mut reader) = powered();
    assert_eq!(run(&mut bench, &mut reader, &[3 << 30 | CLK_DIV << 16]), TRANS_FAIL);
}

#[test]
fn empty_list_ends_well_without_dma() {
    let (mut bench, mut reader) = powered();
    assert_eq!(run(&mut bench, &mut reader, &[]), TRANS_OK);
    assert_eq!(dma_count(&bench, Direction::Read) + dma_count(&bench, Direction::Write), 0);
}

#[test]
fn longest_list_runs_and_anything_longer_or_crooked_fails_without_dma() {
    let (mut bench, mut reader) = powered();
    let longest = u32::try_from(MAX_BYTES).unwrap();
    assert_eq!(run_at(&mut bench, &mut reader, AT, START | longest), TRANS_OK);
    bench.log.clear();
    for length in [longest + 4, 0x00ff_fffc, 0x00ff_ffff, 1, 2, 3, 6] {
        assert_eq!(run_at(&mut bench, &mut reader, AT, START | length), TRANS_FAIL, "{length}");
    }
    for at in [AT + 1, AT + 2, AT + 3] {
        assert_eq!(run_at(&mut bench, &mut reader, at, START | 4), TRANS_FAIL, "{at:#x}");
    }
    assert_eq!(dma_count(&bench, Direction::Read), 0);
}

#[test]
fn list_outside_guest_memory_fails() {
    let (mut bench, mut reader) = powered();
    let end = bench.memory.end();
    for at in [0, end - 4, end, 0xffff_fffc] {
        assert_eq!(run_at(&mut bench, &mut reader, at, START | 8), TRANS_FAIL, "{at:#x}");
    }
}

#[test]
fn answer_that_cannot_be_stored_fails_and_a_list_without_answers_does_not() {
    let (mut bench, mut reader) = powered();
    bench.memory.make_read_only(AT..AT + 0x1000);
    assert_eq!(run(&mut bench, &mut reader, &[read(CLK_DIV)]), TRANS_FAIL);
    assert_eq!(run(&mut bench, &mut reader, &[write(CLK_DIV, 0xff, 1)]), TRANS_OK);
    // Without auto response nothing is stored.
    bench.memory.poke(AT, &read(CLK_DIV).to_le_bytes());
    assert_eq!(run_at(&mut bench, &mut reader, AT, 1 << 31 | 4), TRANS_OK);
}

#[test]
fn list_without_bus_mastering_fails_and_touches_nothing() {
    let (mut bench, mut reader) = powered();
    bench.config_write(&mut reader, 0x04, 2, 0x0002);
    assert_eq!(run(&mut bench, &mut reader, &[write(CLK_DIV, 0xff, 1), read(CLK_DIV)]), TRANS_FAIL);
    assert_eq!(bench.interrupts.all(), []);
    bench.config_write(&mut reader, 0x04, 2, 0x0006);
    assert_eq!(run(&mut bench, &mut reader, &[check(CLK_DIV, 0xff, 0)]), TRANS_OK);
}

#[test]
fn list_that_cannot_be_fetched_fails() {
    let (mut bench, mut reader) = powered();
    bench.memory.make_failing(AT + 4..AT + 8);
    assert_eq!(run(&mut bench, &mut reader, &[read(CLK_DIV)]), TRANS_OK);
    assert_eq!(run(&mut bench, &mut reader, &[read(CLK_DIV), read(CLK_DIV)]), TRANS_FAIL);
}

#[test]
fn list_that_starts_every_engine_it_can_ends() {
    let (mut bench, mut reader) = powered();
    // SD_TRANSFER, PHYRWCTL, EFUSE_CTL, over and over.
    let list: Vec<u32> = [write(0x3db3, 0xff, 0x88), write(0x3e3c, 0xff, 0x81), write(0x3c30, 0xff, 0x80)]
        .into_iter()
        .cycle()
        .take(MAX_BYTES / 4)
        .collect();
    assert_eq!(run(&mut bench, &mut reader, &list), TRANS_OK);
}

#[test]
fn stop_is_accepted_at_any_time_and_starts_nothing() {
    let (mut bench, mut reader) = powered();
    bench.write(&mut reader, HCBCTLR, 1 << 28);
    bench.write(&mut reader, HDBCTLR, 1 << 28);
    // Stop wins over start.
    bench.write(&mut reader, HCBCTLR, START | 1 << 28 | 4);
    assert_eq!(bench.read(&mut reader, BIPR), 0);
}

#[test]
fn data_transfer_fails_at_once() {
    let (mut bench, mut reader) = powered();
    // TRIG_DMA, to the host, scatter list.
    bench.write(&mut reader, HDBCTLR, 1 << 31 | 1 << 29 | 2 << 26);
    assert_eq!(bench.read(&mut reader, BIPR), TRANS_FAIL);
    assert_eq!(dma_count(&bench, Direction::Read), 0);
}

#[test]
fn data_command_fails_its_list() {
    let (mut bench, mut reader) = powered();
    for mode in [0x00, 0x01, 0x02, 0x05, 0x06, 0x09, 0x0a, 0x0c, 0x0d, 0x0e, 0x0f] {
        let list = [write(0x3db3, 0xff, 0x80 | mode), check(0x3db3, 0x40, 0x40)];
        assert_eq!(run(&mut bench, &mut reader, &list), TRANS_FAIL, "mode {mode:#x}");
    }
}
