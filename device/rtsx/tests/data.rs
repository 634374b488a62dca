//! Data transfer, as the driver does it, as a slow card has it, and as a hostile guest might ask for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod row_card;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proptest::prelude::*;
use row_card::{Row, State};
use sdmorph_pci::{Bus, DataError, Event, Lines, PciFunction, mask_of_size, seam};
use sdmorph_rtsx::data_dma::MAX_ENTRIES;
use sdmorph_rtsx::model::RTS5261;
use sdmorph_rtsx::{BAR_REGISTERS, Rtsx};
use sdmorph_testkit::driver::data::{Transfer, scatter_entry};
use sdmorph_testkit::{Bench, DriverError, RtsxDriver};

/// Where data is in guest memory, behind the driver's own buffer.
const BUFFER: u64 = (1 << 20) + 0x10000;
const HDBAR: u64 = 0x08;
const HDBCTLR: u64 = 0x0c;
const BIPR: u64 = 0x14;
const TRANS_FAIL: u32 = 1 << 28;
const SD_OC_INT: u32 = 1 << 22;
const START_ADMA_TO_HOST: u32 = 1 << 31 | 1 << 29 | 1 << 27;

struct Lab {
    bench: Bench,
    reader: Rtsx,
    driver: RtsxDriver,
    state: Arc<Mutex<State>>,
}

impl Lab {
    /// A reader with its driver and a powered card of 4096 blocks, whose bytes differ from block to block.
    fn new() -> Self {
        let state = Arc::new(Mutex::new(State::of_blocks(4096)));
        let mut lab = Self {
            bench: Bench::default(),
            reader: Rtsx::new(),
            driver: RtsxDriver::new(),
            state: state.clone(),
        };
        lab.driver.probe(&mut lab.bench, &mut lab.reader).unwrap();
        lab.bench.with(&mut lab.reader, |reader, ctx| reader.insert(ctx, Box::new(Row(state))));
        lab.driver.interrupt(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.rescan(&mut lab.bench, &mut lab.reader).unwrap();
        lab.driver.set_bus(&mut lab.bench, &mut lab.reader, 4, 0).unwrap();
        lab.card().commands.clear();
        lab
    }

    fn card(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn read(&mut self, first: u32, blocks: u16, pieces: &[(u64, u32)]) -> Result<(), DriverError> {
        let transfer = Transfer { index: 18, argument: first, block_bytes: 512, blocks };
        self.driver.read_long(&mut self.bench, &mut self.reader, transfer, pieces)
    }

    fn write(&mut self, first: u32, blocks: u16, pieces: &[(u64, u32)]) -> Result<(), DriverError> {
        let transfer = Transfer { index: 25, argument: first, block_bytes: 512, blocks };
        self.driver.write_long(&mut self.bench, &mut self.reader, transfer, pieces)
    }

    fn memory(&self, at: u64, length: usize) -> Vec<u8> {
        self.bench.memory.peek(at, length).unwrap()
    }

    fn blocks(&self, first: usize, count: usize) -> Vec<u8> {
        self.card().blocks[first * 512..(first + count) * 512].to_vec()
    }
}

#[test]
fn blocks_come_into_scattered_memory_in_order() {
    let mut lab = Lab::new();
    // Not whole blocks, not in the order of addresses.
    let pieces = [(BUFFER + 0x4000, 1000), (BUFFER, 24), (BUFFER + 0x2000, 512), (BUFFER + 0x100, 512)];
    lab.read(5, 4, &pieces).unwrap();
    let arrived: Vec<u8> = pieces.iter().flat_map(|(at, length)| lab.memory(*at, *length as usize)).collect();
    assert_eq!(arrived, lab.blocks(5, 4));
    assert_eq!(lab.card().commands, [18]);
    // And the reader is ready for the next one.
    lab.read(0, 1, &[(BUFFER, 512)]).unwrap();
    assert_eq!(lab.memory(BUFFER, 512), lab.blocks(0, 1));
}

#[test]
fn blocks_go_to_the_card_from_scattered_memory_in_order() {
    let mut lab = Lab::new();
    let data: Vec<u8> = (0..2048u32).map(|at| (at * 13 % 256) as u8).collect();
    let pieces = [(BUFFER + 0x800, 700), (BUFFER, 1348)];
    lab.bench.memory.poke(BUFFER + 0x800, &data[..700]);
    lab.bench.memory.poke(BUFFER, &data[700..]);
    lab.write(9, 4, &pieces).unwrap();
    assert_eq!(lab.blocks(9, 4), data);
    assert_eq!(lab.card().commands, [25]);
}

#[test]
fn segment_of_more_than_64_kib_keeps_its_length() {
    let mut lab = Lab::new();
    lab.read(0, 300, &[(BUFFER, 300 * 512)]).unwrap();
    assert_eq!(lab.memory(BUFFER, 300 * 512), lab.blocks(0, 300));
}

#[test]
fn one_block_goes_through_the_ping_pong_buffer_both_ways() {
    let mut lab = Lab::new();
    let (bench, reader) = (&mut lab.bench, &mut lab.reader);
    let status = Transfer { index: 13, argument: 3, block_bytes: 64, blocks: 1 };
    let arrived = lab.driver.read_short(bench, reader, status).unwrap();
    let whole = Transfer { index: 56, argument: 4, block_bytes: 512, blocks: 1 };
    let data: Vec<u8> = (0..512u32).map(|at| (at * 3 % 256) as u8).collect();
    lab.driver.write_short(bench, reader, whole, &data).unwrap();
    let read_back = lab.driver.read_short(bench, reader, whole).unwrap();
    assert_eq!(arrived, lab.blocks(3, 1)[..64]);
    assert_eq!(read_back, data);
    assert_eq!(lab.blocks(4, 1), data);
}

#[test]
fn transfer_waits_for_a_card_that_has_no_data_yet_and_ends_with_one_interrupt() {
    let mut lab = Lab::new();
    lab.card().ready_bytes = 1024;
    let list_at = lab.bench.memory.base();
    let transfer = Transfer { index: 18, argument: 0, block_bytes: 512, blocks: 8 };
    // The driver's patience is over before the card has its data.
    let result = lab.driver.read_long(&mut lab.bench, &mut lab.reader, transfer, &[(BUFFER, 4096)]);
    assert_eq!(result, Err(DriverError::NoInterrupt));
    assert_eq!(lab.memory(BUFFER, 1024), lab.blocks(0, 2));
    // The same once more, with a card that thinks in the middle.
    lab.card().ready_bytes = 1024;
    let entry = scatter_entry((BUFFER, 4096), true);
    lab.bench.memory.poke(BUFFER + 0x8000, &entry.to_le_bytes());
    start_read(&mut lab, list_at, 8);
    lab.bench.write(&mut lab.reader, HDBAR, (BUFFER + 0x8000) as u32);
    lab.bench.write(&mut lab.reader, HDBCTLR, START_ADMA_TO_HOST);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000, 0, "ended already");
    assert_eq!(lab.bench.read(&mut lab.reader, HDBCTLR) >> 31, 1, "DMA is not busy");
    assert_eq!(lab.bench.read(&mut lab.reader, 0x04) >> 31, 1, "the list is not busy");
    lab.card().ready_bytes = usize::MAX;
    lab.bench.interrupts.take_new();
    lab.bench.with(&mut lab.reader, |reader, ctx| reader.wake(ctx));
    assert_eq!(lab.bench.interrupts.take_new().len(), 1);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000, 1 << 29);
    assert_eq!(lab.bench.read(&mut lab.reader, HDBCTLR) >> 31, 0);
    assert_eq!(lab.memory(BUFFER, 4096), lab.blocks(0, 8));
}

/// Starts a command list that reads `blocks` blocks from block 0, up to its check.
fn start_read(lab: &mut Lab, list_at: u64, blocks: u16) {
    let [low, high] = blocks.to_le_bytes();
    let write = |address: u32, data: u8| 1 << 30 | (address & 0x3fff) << 16 | 0xff00 | u32::from(data);
    let list = [
        write(0xfda9, 0x52),
        write(0xfdaa, 0),
        write(0xfdab, 0),
        write(0xfdac, 0),
        write(0xfdad, 0),
        write(0xfdb1, low),
        write(0xfdb2, high),
        write(0xfdaf, 0),
        write(0xfdb0, 2),
        write(0xfe2c, 0x23),
        write(0xfd5b, 0),
        write(0xfda1, 0x01),
        write(0xfdb3, 0x8e),
        2 << 30 | 0x3db3 << 16 | 0x4040,
    ];
    let bytes: Vec<u8> = list.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    lab.bench.memory.poke(list_at, &bytes);
    lab.bench.write(&mut lab.reader, 0x00, list_at as u32);
    lab.bench.write(&mut lab.reader, 0x04, 0xc000_0000 | bytes.len() as u32);
}

#[test]
fn busy_card_is_waited_for_before_it_is_sent_more_and_asks_to_be_asked_again() {
    let mut lab = Lab::new();
    let now = seam_now(&lab);
    lab.card().busy_until = Some(now + Duration::from_millis(40));
    // The driver moves time on while it waits, which wakes the reader.
    lab.bench.memory.poke(BUFFER, &[0xa5; 512]);
    lab.write(2, 1, &[(BUFFER, 512)]).unwrap();
    assert_eq!(lab.blocks(2, 1), [0xa5; 512]);
    assert!(seam_now(&lab) >= now + Duration::from_millis(40));
}

fn seam_now(lab: &Lab) -> Duration {
    sdmorph_pci::Clock::now(&lab.bench.clock)
}

#[test]
fn crc_error_and_silence_end_the_transfer_with_an_error_and_the_next_one_works() {
    for error in [DataError::Crc, DataError::Timeout] {
        let mut lab = Lab::new();
        lab.card().fails = Some(error);
        assert_eq!(lab.read(0, 2, &[(BUFFER, 1024)]), Err(DriverError::ListFailed));
        lab.card().fails = None;
        lab.read(0, 2, &[(BUFFER, 1024)]).unwrap();
        assert_eq!(lab.memory(BUFFER, 1024), lab.blocks(0, 2));
    }
    for error in [DataError::Crc, DataError::Timeout] {
        let mut lab = Lab::new();
        lab.card().fails = Some(error);
        assert_eq!(lab.write(0, 1, &[(BUFFER, 512)]), Err(DriverError::ListFailed));
        lab.card().fails = None;
        lab.write(0, 1, &[(BUFFER, 512)]).unwrap();
    }
}

#[test]
fn card_that_goes_in_mid_transfer_fails_it_at_once() {
    let mut lab = Lab::new();
    lab.card().ready_bytes = 512;
    let list_at = lab.bench.memory.base();
    start_read(&mut lab, list_at, 4);
    let entry = scatter_entry((BUFFER, 2048), true);
    lab.bench.memory.poke(BUFFER + 0x8000, &entry.to_le_bytes());
    lab.bench.write(&mut lab.reader, HDBAR, (BUFFER + 0x8000) as u32);
    lab.bench.write(&mut lab.reader, HDBCTLR, START_ADMA_TO_HOST);
    lab.bench.with(&mut lab.reader, |reader, ctx| reader.eject(ctx)).unwrap();
    let pending = lab.bench.read(&mut lab.reader, BIPR);
    assert_eq!(pending & TRANS_FAIL, TRANS_FAIL, "{pending:#x}");
    assert_eq!(lab.bench.read(&mut lab.reader, HDBCTLR) >> 31, 0);
}

#[test]
fn transfer_that_waits_for_dma_does_not_ask_to_be_woken_for_what_the_card_is_done_with() {
    let mut lab = Lab::new();
    let list_at = lab.bench.memory.base();
    lab.card().busy_until = Some(seam_now(&lab) + Duration::from_millis(5));
    start_read(&mut lab, list_at, 1);
    lab.bench.advance(&mut lab.reader, Duration::from_millis(10));
    // Nothing but the driver can move this on.
    assert_eq!(lab.bench.clock.next_deadline(), None);
}

#[test]
fn check_waits_for_the_register_that_it_names() {
    let mut lab = Lab::new();
    let list_at = lab.bench.memory.base();
    set_internal(&mut lab, 0xfc03, 0xff, 0xa5);
    start_read(&mut lab, list_at, 1);
    // Another list, while the transfer waits for its DMA: CLK_DIV has the value, so it ends.
    lab.bench.write(&mut lab.reader, 0x04, 1 << 28);
    let check = 2u32 << 30 | 0x3c03 << 16 | 0xffa5;
    lab.bench.memory.poke(list_at, &check.to_le_bytes());
    lab.bench.write(&mut lab.reader, 0x04, 0xc000_0004);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000, 1 << 29);
    // And one for a value that it has not waits.
    let pending = lab.bench.read(&mut lab.reader, BIPR);
    lab.bench.write(&mut lab.reader, BIPR, pending);
    let check = 2u32 << 30 | 0x3c03 << 16 | 0xff00;
    lab.bench.memory.poke(list_at, &check.to_le_bytes());
    lab.bench.write(&mut lab.reader, 0x04, 0xc000_0004);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000, 0);
    assert_eq!(lab.bench.read(&mut lab.reader, 0x04) >> 31, 1);
}

#[test]
fn dma_without_a_transfer_that_waits_for_it_fails() {
    let mut lab = Lab::new();
    let entry = scatter_entry((BUFFER, 512), true);
    lab.bench.memory.poke(BUFFER + 0x8000, &entry.to_le_bytes());
    lab.bench.write(&mut lab.reader, HDBAR, (BUFFER + 0x8000) as u32);
    lab.bench.write(&mut lab.reader, HDBCTLR, START_ADMA_TO_HOST);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & TRANS_FAIL, TRANS_FAIL);
}

#[test]
fn dma_in_the_wrong_direction_moves_nothing() {
    let mut lab = Lab::new();
    let list_at = lab.bench.memory.base();
    start_read(&mut lab, list_at, 1);
    let entry = scatter_entry((BUFFER, 512), true);
    lab.bench.memory.poke(BUFFER, &[0x5a; 512]);
    lab.bench.memory.poke(BUFFER + 0x8000, &entry.to_le_bytes());
    lab.bench.write(&mut lab.reader, HDBAR, (BUFFER + 0x8000) as u32);
    lab.bench.write(&mut lab.reader, HDBCTLR, START_ADMA_TO_HOST & !(1 << 29));
    assert_eq!(lab.memory(BUFFER, 512), [0x5a; 512]);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000, 0);
}

#[test]
fn memory_that_is_not_there_fails_the_transfer_and_nothing_else_is_touched() {
    for bad in [0x10_0000u64 * 3, 0xffff_f000, 0] {
        let mut lab = Lab::new();
        lab.bench.memory.poke(BUFFER, &[0x77; 2048]);
        let result = lab.read(0, 4, &[(BUFFER, 1024), (bad, 1024)]);
        assert_eq!(result, Err(DriverError::ListFailed), "{bad:#x}");
        assert_eq!(lab.memory(BUFFER + 1024, 1024), [0x77; 1024]);
        lab.read(0, 4, &[(BUFFER, 2048)]).unwrap();
        assert_eq!(lab.memory(BUFFER, 2048), lab.blocks(0, 4));
    }
}

/// What becomes of a read whose scatter list is `entries`, of as many blocks.
fn read_with_list(lab: &mut Lab, at: u64, entries: &[u64], blocks: u16) -> u32 {
    let list_at = lab.bench.memory.base();
    start_read(lab, list_at, blocks);
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    lab.bench.memory.poke(at, &bytes);
    lab.bench.write(&mut lab.reader, HDBAR, at as u32);
    lab.bench.write(&mut lab.reader, HDBCTLR, START_ADMA_TO_HOST);
    lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000
}

#[test]
fn list_without_an_end_fails_after_a_bounded_number_of_entries() {
    let mut lab = Lab::new();
    let at = BUFFER + 0x20000;
    // An entry that does nothing, then one that goes back to it.
    let link = at << 32 | 0x31;
    assert_eq!(read_with_list(&mut lab, at, &[0x01, link], 1), TRANS_FAIL);
    let endless = vec![scatter_entry((BUFFER, 512), false); MAX_ENTRIES + 1];
    let mut lab = Lab::new();
    assert_eq!(read_with_list(&mut lab, at, &endless, 1), TRANS_FAIL);
}

#[test]
fn linked_lists_and_entries_that_do_nothing_are_followed() {
    let mut lab = Lab::new();
    let (first, second) = (BUFFER + 0x20000, BUFFER + 0x21000);
    lab.bench.memory.poke(second, &scatter_entry((BUFFER + 512, 512), true).to_le_bytes());
    let list =
        [scatter_entry((BUFFER, 512), false), 0x01, scatter_entry((BUFFER, 0), false), second << 32 | 0x31];
    assert_eq!(read_with_list(&mut lab, first, &list, 2), 1 << 29);
    assert_eq!(lab.memory(BUFFER, 1024), lab.blocks(0, 2));
}

#[test]
fn entries_that_are_none_fail() {
    for entry in [0, 0x20, 0x11 | 512 << 16, !1, 3 << 32 | 0x31] {
        let mut lab = Lab::new();
        assert_eq!(read_with_list(&mut lab, BUFFER + 0x20000, &[entry], 1), TRANS_FAIL, "{entry:#x}");
    }
    let mut lab = Lab::new();
    assert_eq!(
        read_with_list(&mut lab, BUFFER + 0x20004, &[scatter_entry((BUFFER, 512), true)], 1),
        TRANS_FAIL
    );
}

#[test]
fn list_at_the_end_of_memory_is_read_no_further_than_it_goes() {
    let mut lab = Lab::new();
    let at = lab.bench.memory.end() - 8;
    assert_eq!(read_with_list(&mut lab, at, &[scatter_entry((BUFFER, 512), true)], 1), 1 << 29);
    assert_eq!(lab.memory(BUFFER, 512), lab.blocks(0, 1));
}

#[test]
fn stop_and_reset_of_each_part_let_the_next_transfer_work() {
    type Stop = fn(&mut Lab);
    let stops: [Stop; 4] = [
        |lab| lab.bench.write(&mut lab.reader, 0x04, 1 << 28),
        |lab| lab.bench.write(&mut lab.reader, HDBCTLR, 1 << 28),
        |lab| lab.bench.write(&mut lab.reader, 0x10, 0xc000_0000 | 0x3ebf << 16 | 0xc0c0),
        |lab| lab.bench.write(&mut lab.reader, 0x10, 0xc000_0000 | 0x3d54 << 16 | 0x4444),
    ];
    for stop in stops {
        let mut lab = Lab::new();
        lab.card().ready_bytes = 0;
        assert_eq!(read_with_list(&mut lab, BUFFER + 0x20000, &[scatter_entry((BUFFER, 512), true)], 1), 0);
        stop(&mut lab);
        lab.card().ready_bytes = usize::MAX;
        // What the driver does after a time-out, and then the next request.
        for (at, value) in [(0x04, 1u32 << 28), (HDBCTLR, 1 << 28)] {
            lab.bench.write(&mut lab.reader, at, value);
        }
        lab.bench.write(&mut lab.reader, 0x10, 0xc000_0000 | 0x3d54 << 16 | 0x4444);
        let pending = lab.bench.read(&mut lab.reader, BIPR);
        lab.bench.write(&mut lab.reader, BIPR, pending);
        lab.bench.interrupts.take_new();
        lab.read(1, 1, &[(BUFFER, 512)]).unwrap();
        assert_eq!(lab.memory(BUFFER, 512), lab.blocks(1, 1));
    }
}

#[test]
fn guest_that_asks_for_more_than_a_call_may_move_gets_it_in_several() {
    let mut lab = Lab::new();
    // 4 MiB and a half, all into the same 64 KiB.
    let list = vec![scatter_entry((BUFFER, 0x10000), false); 71];
    let list: Vec<u64> = list.into_iter().chain([scatter_entry((BUFFER, 0x10000), true)]).collect();
    lab.card().blocks = vec![0x42; 72 * 0x10000];
    assert_eq!(read_with_list(&mut lab, BUFFER + 0x20000, &list, 72 * 128), 0);
    lab.bench.advance(&mut lab.reader, Duration::ZERO);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & 0xffc0_0000, 1 << 29);
    assert_eq!(lab.memory(BUFFER, 0x10000), [0x42; 0x10000]);
}

#[test]
fn phases_of_a_window_are_good_for_a_card_at_uhs_speed_and_all_for_others() {
    let mut lab = Lab::new();
    lab.driver.set_bus(&mut lab.bench, &mut lab.reader, 4, 0x08).unwrap();
    let map: Vec<bool> =
        (0..32).map(|phase| lab.driver.tune(&mut lab.bench, &mut lab.reader, phase).unwrap()).collect();
    let good = map.iter().filter(|good| **good).count();
    assert!((8..=20).contains(&good), "{map:?}");
    assert!(!map[0] && !map[31]);
    let first = map.iter().position(|good| *good).unwrap();
    assert!(map[first..first + good].iter().all(|good| *good), "{map:?}");
    // Data is received as the tuning block is.
    lab.driver.tune(&mut lab.bench, &mut lab.reader, 0).unwrap();
    assert_eq!(lab.read(0, 1, &[(BUFFER, 512)]), Err(DriverError::ListFailed));
    lab.driver.tune(&mut lab.bench, &mut lab.reader, (first + good / 2) as u8).unwrap();
    lab.read(0, 1, &[(BUFFER, 512)]).unwrap();
    lab.driver.set_bus(&mut lab.bench, &mut lab.reader, 4, 0x00).unwrap();
    assert!(lab.driver.tune(&mut lab.bench, &mut lab.reader, 0).unwrap());
}

fn internal(lab: &mut Lab, address: u32) -> u8 {
    lab.bench.write(&mut lab.reader, 0x10, 0x8000_0000 | (address & 0x3fff) << 16);
    (lab.bench.read(&mut lab.reader, 0x10) & 0xff) as u8
}

fn set_internal(lab: &mut Lab, address: u32, mask: u8, data: u8) {
    let command = (address & 0x3fff) << 16 | u32::from(mask) << 8 | u32::from(data);
    lab.bench.write(&mut lab.reader, 0x10, 0xc000_0000 | command);
}

#[test]
fn card_sees_width_voltage_and_clock_and_the_driver_sees_its_lines() {
    let mut lab = Lab::new();
    assert_eq!(lab.card().bus, Bus { width: 4, ddr: false, low_voltage: false, clock: true });
    // SD_CFG1: eight lines, DDR.
    set_internal(&mut lab, 0xfda0, 0x0f, 0x06);
    // SD_PAD_CTL: 1.8 V. SD_BUS_STAT: SD_CLK_FORCE_STOP.
    set_internal(&mut lab, 0xfda6, 0x80, 0x80);
    set_internal(&mut lab, 0xfda5, 0xff, 0x40);
    assert_eq!(lab.card().bus, Bus { width: 8, ddr: true, low_voltage: true, clock: false });
    lab.card().lines = Lines { cmd: false, dat: 0b0101 };
    assert_eq!(internal(&mut lab, 0xfda5), 0x40 | 0b01010);
    lab.card().lines = Lines::IDLE;
    assert_eq!(internal(&mut lab, 0xfda5) & 0x1f, 0x1f);
}

#[test]
fn over_current_is_reported_cut_off_and_cleared() {
    let mut lab = Lab::new();
    lab.bench.interrupts.take_new();
    assert!(lab.bench.with(&mut lab.reader, |reader, ctx| reader.over_current(ctx)));
    assert_eq!(lab.bench.interrupts.take_new().len(), 1);
    assert_eq!(lab.bench.read(&mut lab.reader, BIPR) & SD_OC_INT, SD_OC_INT);
    assert_eq!(internal(&mut lab, 0xfd6e) & 0x06, 0x06);
    // CFG_SD_POW_AUTO_PD has cut the supply, so that no command reaches the card.
    assert_eq!(internal(&mut lab, 0xff70) & 0x01, 0);
    lab.card().commands.clear();
    let result = lab.driver.command(&mut lab.bench, &mut lab.reader, 13, 0);
    assert_eq!(result, Err(DriverError::ListFailed));
    assert!(lab.card().commands.is_empty());
    // rts5261_clear_ocpstat.
    set_internal(&mut lab, 0xfd6a, 0x03, 0x03);
    assert_eq!(internal(&mut lab, 0xfd6e) & 0x06, 0);
    assert_eq!(lab.bench.log.events().filter(|event| *event == Event::OverCurrent).count(), 1);
}

#[test]
fn over_current_that_nobody_looks_for_is_not_noticed() {
    let mut bench = Bench::default();
    let mut reader = Rtsx::new();
    assert!(!bench.with(&mut reader, |reader, ctx| reader.over_current(ctx)));
    assert_eq!(bench.log.events().count(), 0);
}

/// Bits of a BAR register that a write of its own cannot change: not writable, and not cleared by 1.
fn unwritable(row: &sdmorph_pci::Register) -> u64 {
    !(row.writable | row.w1c) & mask_of_size(row.size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in the list and wherever it is: the transfer ends or waits, and memory that no entry names keeps
    /// what it has.
    #[test]
    fn hostile_scatter_lists_end_or_wait_and_touch_nothing_else(
        entries in prop::collection::vec((0u64..0x20, 0u64..0x500, 0u8..8, any::<bool>()), 0..40),
        blocks in 1u16..64,
    ) {
        let mut lab = Lab::new();
        let list: Vec<u64> = entries
            .iter()
            .map(|(page, length, kind, last)| {
                let address = match kind {
                    0 => 0xffff_ff00,
                    1 => page << 12,
                    _ => BUFFER + (page << 8),
                };
                let option = [0x21, 0x21, 0x21, 0x21, 0x21, 0x01, 0x31, 0x20][usize::from(*kind)];
                address << 32 | length << 16 | option | if *last { 2 } else { 0 }
            })
            .collect();
        let guard = BUFFER + 0x40000;
        lab.bench.memory.poke(guard, &[0xee; 4096]);
        let pending = read_with_list(&mut lab, BUFFER + 0x20000, &list, blocks);
        prop_assert!([0, 1 << 29, TRANS_FAIL].contains(&pending), "{pending:#x}");
        prop_assert_eq!(lab.memory(guard, 4096), vec![0xee; 4096]);
        // The driver's way out of anything.
        lab.bench.write(&mut lab.reader, 0x04, 1 << 28);
        lab.bench.write(&mut lab.reader, HDBCTLR, 1 << 28);
        set_internal(&mut lab, 0xfd54, 0x44, 0x44);
        let pending = lab.bench.read(&mut lab.reader, BIPR);
        lab.bench.write(&mut lab.reader, BIPR, pending);
        lab.bench.interrupts.take_new();
        lab.read(1, 1, &[(BUFFER, 512)]).unwrap();
        prop_assert_eq!(lab.memory(BUFFER, 512), lab.blocks(1, 1));
    }

    /// Any writes to any registers, with a card and its data behind them, change only what is writable.
    #[test]
    fn any_register_writes_leave_unwritable_bits_alone(
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>(), any::<bool>()), 1..60),
    ) {
        let mut lab = Lab::new();
        for (which, value, to_bar) in writes {
            if to_bar {
                let row = which.get(BAR_REGISTERS);
                let at = u64::from(row.address);
                let before = u64::from(lab.bench.read(&mut lab.reader, at));
                seam::bar_write(&mut lab.reader, &mut lab.bench.above(), 0, at, 4, u64::from(value));
                let after = u64::from(lab.bench.read(&mut lab.reader, at));
                // Busy bits, pending sources and presence are the reader's own to change.
                let own = match row.name {
                    "HCBCTLR" | "HDBCTLR" => 1 << 31,
                    "BIPR" => u64::MAX,
                    "HAIMR" => u64::MAX,
                    _ => 0,
                };
                prop_assert_eq!((before ^ after) & unwritable(row) & !own, 0, "{}", row.name);
            } else {
                let row = which.get(RTS5261.registers);
                set_internal(&mut lab, row.address, (value >> 8) as u8, value as u8);
                internal(&mut lab, row.address);
            }
        }
    }
}
