//! Reading and writing (4.3.3, 4.3.4).

use sdmorph_pci::{Bus, DataError};
use sdmorph_sdcard::{State, status};

use crate::host::{Host, SDHC, SDSC, SDUC, SDXC, pattern, patterns};

#[test]
fn single_block_is_written_and_read_back() {
    for bytes in [SDSC, SDHC, SDXC, SDUC] {
        let mut host = Host::selected(bytes);
        let address = if bytes == SDSC { 5 * 512 } else { 5 };
        host.r1(24, address);
        assert_eq!(host.write(512, pattern(5)), Ok(()));
        assert_eq!(host.state(), State::Transfer);
        assert_eq!(host.media.peek(5, 1), pattern(5));
        host.r1(17, address);
        assert_eq!(host.read(512, 1), Ok(pattern(5)));
        assert_eq!(host.state(), State::Transfer);
        assert_eq!(host.errors(), 0);
    }
}

#[test]
fn open_ended_transfers_go_on_until_cmd12() {
    let mut host = Host::selected(SDXC);
    host.r1(25, 100);
    host.write(512, patterns(100, 3)).unwrap();
    host.write(512, patterns(103, 2)).unwrap();
    assert_eq!(host.state(), State::ReceiveData);
    host.r1(12, 0);
    assert_eq!(host.state(), State::Transfer);
    assert_eq!(host.written(), 5);
    host.r1(18, 99);
    assert_eq!(host.read(512, 2).unwrap(), [vec![0; 512], pattern(100)].concat());
    assert_eq!(host.read(512, 3).unwrap(), patterns(101, 3));
    host.r1(12, 0);
    assert_eq!((host.state(), host.errors()), (State::Transfer, 0));
}

#[test]
fn counted_transfers_end_by_themselves_and_the_count_is_for_one_command() {
    let mut host = Host::selected(SDXC);
    host.r1(23, 4);
    host.r1(25, 10);
    host.write(512, patterns(10, 4)).unwrap();
    assert_eq!(host.state(), State::Transfer);
    host.r1(23, 4);
    host.r1(18, 10);
    assert_eq!(host.read(512, 9).unwrap(), patterns(10, 4));
    assert_eq!(host.state(), State::Transfer);
    host.r1(18, 10);
    host.read(512, 4).unwrap();
    assert_eq!(host.state(), State::SendingData);
    host.r1(12, 0);
    // Another command drops the count; the status does not.
    host.r1(23, 1);
    host.r1(16, 512);
    host.r1(18, 10);
    host.read(512, 2).unwrap();
    assert_eq!(host.state(), State::SendingData);
    host.r1(12, 0);
    host.r1(23, 1);
    host.status();
    host.r1(18, 10);
    assert_eq!(host.read(512, 2).unwrap().len(), 512);
    assert_eq!(host.state(), State::Transfer);
}

#[test]
fn blocks_beyond_the_count_get_no_crc_status_and_are_not_written() {
    let mut host = Host::selected(SDXC);
    host.r1(23, 2);
    host.r1(25, 10);
    assert_eq!(host.write(512, patterns(10, 3)), Err(DataError::Timeout));
    assert_eq!(host.state(), State::Transfer);
    assert_eq!(host.media.peek(10, 3), [patterns(10, 2), vec![0; 512]].concat());
    assert_eq!(host.written(), 2);
}

#[test]
fn single_transfer_gives_and_takes_one_block_however_many_are_asked_for() {
    let mut host = Host::selected(SDXC);
    host.r1(17, 0);
    assert_eq!(host.read(512, 8).unwrap().len(), 512);
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    host.r1(24, 0);
    assert_eq!(host.write(512, patterns(0, 2)), Err(DataError::Timeout));
    assert_eq!(host.media.peek(0, 2), [pattern(0), vec![0; 512]].concat());
}

#[test]
fn long_transfers_are_cut_into_requests_of_a_mebibyte() {
    let mut host = Host::selected(SDXC);
    host.r1(25, 1);
    host.write(512, patterns(1, 5000)).unwrap();
    host.r1(12, 0);
    assert_eq!(host.written(), 5000);
    let requests = host.media.take_requests();
    assert_eq!(requests, ["Write { 2048 from 1 }", "Write { 2048 from 2049 }", "Write { 904 from 4097 }"]);
    host.r1(18, 1);
    let first = host.read(512, 5000).unwrap();
    assert_eq!(first.len(), 2048 * 512);
    assert_eq!(first, patterns(1, 2048));
    assert_eq!(host.read(512, 2952).unwrap(), patterns(2049, 2048));
    assert_eq!(host.read(512, 904).unwrap(), patterns(4097, 904));
}

#[test]
fn transfer_past_the_end_stops_there_with_out_of_range() {
    let mut host = Host::selected(SDHC);
    let last = (SDHC / 512 - 1) as u32;
    host.r1(25, last - 1);
    assert_eq!(host.write(512, patterns(1, 3)), Err(DataError::Timeout));
    assert_eq!(host.media.peek(u64::from(last) - 1, 2), patterns(1, 2));
    // Whatever follows is ignored until the stop.
    assert_eq!(host.write(512, pattern(0)), Err(DataError::Timeout));
    assert_eq!(host.short(12, 0) & status::OUT_OF_RANGE, status::OUT_OF_RANGE);
    assert_eq!((host.state(), host.errors()), (State::Transfer, 0));
    assert_eq!(host.written(), 2);
    host.r1(18, last - 1);
    assert_eq!(host.read(512, 3).unwrap(), patterns(1, 2));
    // Reading the last block is no error yet.
    assert_eq!(host.errors(), 0);
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    assert_eq!(host.errors(), status::OUT_OF_RANGE);
    host.r1(12, 0);
}

#[test]
fn address_beyond_the_end_is_an_error_of_the_command() {
    let mut host = Host::selected(SDHC);
    let end = (SDHC / 512) as u32;
    for single in [17, 24] {
        assert_eq!(host.short(single, end) >> 31, 1);
        assert_eq!((host.state(), host.errors()), (State::Transfer, 0));
    }
    for (many, state) in [(18, State::SendingData), (25, State::ReceiveData)] {
        assert_eq!(host.short(many, end) >> 31, 1);
        assert_eq!(host.state(), state);
        host.r1(12, 0);
    }
    assert!(host.media.take_requests().is_empty());
}

#[test]
fn short_blocks_of_a_standard_capacity_card_stay_inside_a_block() {
    let mut host = Host::selected(SDSC);
    host.media.poke(0, &patterns(0, 2));
    host.r1(16, 100);
    host.r1(17, 411);
    assert_eq!(host.read(100, 1).unwrap(), pattern(0)[411..511]);
    assert_eq!(host.short(17, 413) & status::ADDRESS_ERROR, status::ADDRESS_ERROR);
    host.r1(16, 128);
    host.r1(18, 256);
    assert_eq!(host.read(128, 2).unwrap(), pattern(0)[256..]);
    assert_eq!(host.read(128, 4).unwrap(), pattern(1));
    host.r1(12, 0);
    // There are no partial writes.
    assert_eq!(host.short(24, 0) & status::BLOCK_LEN_ERROR, status::BLOCK_LEN_ERROR);
    host.r1(16, 512);
    assert_eq!(host.short(24, 1) & status::ADDRESS_ERROR, status::ADDRESS_ERROR);
    assert_eq!(host.short(17, 1) & status::ADDRESS_ERROR, status::ADDRESS_ERROR);
}

#[test]
fn cmd16_has_no_effect_on_the_blocks_of_larger_cards() {
    let mut host = Host::selected(SDXC);
    host.r1(16, 64);
    host.r1(17, 3);
    assert_eq!(host.read(512, 1).unwrap().len(), 512);
    for wrong in [0, 513, 1 << 20] {
        assert_eq!(host.short(16, wrong) & status::BLOCK_LEN_ERROR, status::BLOCK_LEN_ERROR);
        assert_eq!(host.errors(), 0);
    }
}

#[test]
fn upper_address_bits_of_an_sduc_card_are_for_the_next_transfer_only() {
    let mut host = Host::selected(SDUC);
    let block = 1 << 32 | 7;
    host.r1(22, 1);
    host.r1(23, 1);
    host.r1(25, 7);
    host.write(512, pattern(1)).unwrap();
    assert_eq!(host.media.peek(block, 1), pattern(1));
    host.r1(24, 7);
    host.write(512, pattern(2)).unwrap();
    assert_eq!(host.media.peek(7, 1), pattern(2));
    host.r1(23, 1);
    host.r1(22, 1);
    host.r1(18, 7);
    assert_eq!(host.read(512, 1).unwrap(), pattern(1));
    host.r1(22, 1);
    host.acmd(23, 1);
    host.r1(17, 7);
    assert_eq!(host.read(512, 1).unwrap(), pattern(2));
    host.r1(22, 2);
    assert_eq!(host.short(17, 0) >> 31, 1);
}

#[test]
fn bus_that_is_not_run_as_the_card_does_spoils_the_data() {
    let mut host = Host::selected(SDXC);
    host.set_bus(Bus { width: 4, ..host.bus });
    host.r1(17, 0);
    assert_eq!(host.read(512, 1), Err(DataError::Crc));
    assert_eq!(host.state(), State::Transfer);
    host.r1(24, 0);
    assert_eq!(host.write(512, pattern(1)), Err(DataError::Crc));
    assert_eq!(host.state(), State::Transfer);
    assert!(host.media.take_requests().is_empty());
    host.r1(55, host.rca);
    host.r1(6, 2);
    host.r1(17, 0);
    assert!(host.read(512, 1).is_ok());
    host.set_bus(Bus { width: 1, ..host.bus });
    host.r1(25, 0);
    assert_eq!(host.write(512, pattern(1)), Err(DataError::Crc));
    assert_eq!(host.state(), State::ReceiveData);
    host.r1(12, 0);
    assert_eq!(host.written_on_one_line(), DataError::Crc);
}

impl Host {
    fn written_on_one_line(&mut self) -> DataError {
        self.acmd(22, 0);
        self.read(4, 1).unwrap_err()
    }
}

#[test]
fn reserved_bus_width_is_out_of_range() {
    let mut host = Host::selected(SDXC);
    for width in [1, 3] {
        host.r1(55, host.rca);
        assert_eq!(host.short(6, width) >> 31, 1);
    }
}

#[test]
fn block_of_another_length_than_the_cards_has_a_wrong_crc() {
    let mut host = Host::selected(SDXC);
    host.r1(17, 0);
    assert_eq!(host.read(256, 1), Err(DataError::Crc));
    host.acmd(51, 0);
    assert_eq!(host.read(16, 1), Err(DataError::Crc));
    host.r1(24, 0);
    assert_eq!(host.write(256, vec![0; 512]), Err(DataError::Crc));
    host.r1(24, 0);
    assert_eq!(host.write(512, vec![0; 700]), Err(DataError::Crc));
    assert_eq!(host.state(), State::Transfer);
    assert!(host.media.take_requests().is_empty());
}

#[test]
fn without_a_transfer_no_data_move() {
    let mut host = Host::selected(SDXC);
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    assert_eq!(host.write(512, pattern(0)), Err(DataError::Timeout));
    host.r1(24, 0);
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    assert_eq!(host.write(512, Vec::new()), Ok(()));
    assert_eq!(host.state(), State::ReceiveData);
}

#[test]
fn cmd56_gives_back_what_it_took() {
    let mut host = Host::selected(SDXC);
    host.r1(56, 1);
    assert_eq!(host.read(512, 1).unwrap(), [0; 512]);
    host.r1(56, 0);
    host.write(512, pattern(9)).unwrap();
    host.r1(56, 1);
    assert_eq!(host.read(512, 1).unwrap(), pattern(9));
}

#[test]
fn cmd7_ends_a_read() {
    let mut host = Host::selected(SDXC);
    host.r1(18, 0);
    assert!(host.cmd(7, 0).is_err());
    assert_eq!(host.state(), State::StandBy);
    host.r1(7, host.rca);
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    assert_eq!(host.errors(), 0);
}
