//! Erasing (4.3.5).

use sdmorph_pci::{MediaError, SdCard};
use sdmorph_sdcard::{Capacity, Profile, State, status};

use crate::host::{Host, SDHC, SDSC, SDUC, patterns};

fn erase(host: &mut Host, first: u32, last: u32, argument: u32) -> u32 {
    host.r1(32, first);
    host.r1(33, last);
    host.short(38, argument)
}

fn zeros(host: &Host, blocks: std::ops::Range<u64>) -> Vec<u64> {
    blocks.filter(|block| host.media.peek(*block, 1) == [0; 512]).collect()
}

#[test]
fn erased_and_discarded_blocks_read_as_zeros() {
    for (bytes, unit, argument) in [(SDSC, 512, 0), (SDHC, 1, 0), (SDHC, 1, 1), (SDHC, 1, 0xffff_ffff)] {
        let mut host = Host::selected(bytes);
        host.media.poke(0, &patterns(1, 10));
        assert_eq!(erase(&mut host, 3 * unit, 5 * unit, argument), 0x900);
        assert_eq!(zeros(&host, 0..10), [3, 4, 5]);
        assert_eq!(host.state(), State::Transfer);
    }
}

#[test]
fn erase_is_busy_until_the_medium_has_done_it() {
    let mut host = Host::selected(SDHC);
    host.media.hold();
    erase(&mut host, 0, 7, 0);
    assert_eq!((host.is_busy(), host.status()), (true, 0x0e00));
    host.media.release();
    assert_eq!((host.is_busy(), host.status()), (false, 0x0900));
}

#[test]
fn commands_in_the_wrong_order_are_a_sequence_error_and_start_over() {
    let mut host = Host::selected(SDHC);
    assert_eq!(host.short(38, 0), status::ERASE_SEQ_ERROR | 0x900);
    assert_eq!(host.short(33, 0), status::ERASE_SEQ_ERROR | 0x900);
    host.r1(32, 0);
    assert_eq!(host.short(38, 0), status::ERASE_SEQ_ERROR | 0x900);
    host.r1(32, 0);
    host.r1(33, 1);
    assert_eq!(host.short(33, 1), status::ERASE_SEQ_ERROR | 0x900);
    assert_eq!(host.short(38, 0), status::ERASE_SEQ_ERROR | 0x900);
    assert!(host.media.take_requests().is_empty());
}

#[test]
fn another_command_resets_the_sequence_and_is_done() {
    let mut host = Host::selected(SDHC);
    host.r1(32, 0);
    host.status();
    assert_eq!(host.short(16, 512), status::ERASE_RESET | 0x900);
    assert_eq!(host.short(33, 0), status::ERASE_SEQ_ERROR | 0x900);
    // An illegal command is not taken.
    host.r1(32, 0);
    assert!(host.cmd(2, 0).is_err());
    host.status();
    host.r1(33, 0);
    host.r1(38, 0);
    assert_eq!(host.media.take_requests(), ["Discard { 1 from 0 }"]);
}

#[test]
fn blocks_that_are_not_there_or_in_reverse_are_errors() {
    let mut host = Host::selected(SDHC);
    assert_eq!(erase(&mut host, 5, 4, 0), status::ERASE_PARAM | 0x900);
    let end = (SDHC / 512) as u32;
    assert_eq!(host.short(32, end) >> 31, 1);
    assert_eq!(host.short(33, 0), status::ERASE_SEQ_ERROR | 0x900);
    host.r1(32, 0);
    assert_eq!(host.short(33, end) >> 31, 1);
    assert_eq!(host.short(38, 0), status::ERASE_SEQ_ERROR | 0x900);
    assert!(host.media.take_requests().is_empty());
}

#[test]
fn full_erase_is_of_everything_or_an_error_if_the_card_has_it() {
    let mut host = Host::selected(SDHC);
    let last = (SDHC / 512 - 1) as u32;
    assert_eq!(erase(&mut host, 0, last - 1, 2), status::ERASE_PARAM | 0x900);
    host.r1(32, 0);
    host.r1(33, last);
    host.r1(38, 2);
    assert_eq!(host.media.take_requests(), ["Discard { 16777216 from 0 }"]);
    // Elsewhere these are stuff bits.
    let mut host = Host::selected(SDSC);
    assert_eq!(erase(&mut host, 0, 0, 2), 0x900);
    assert_eq!(host.media.take_requests(), ["Discard { 1 from 0 }"]);
}

#[test]
fn protected_groups_are_skipped() {
    let mut host = Host::selected(SDSC);
    let group = 16384 * 512;
    host.r1(28, group);
    host.r1(28, 3 * group);
    assert_eq!(erase(&mut host, group - 512, 4 * group, 0), status::WP_ERASE_SKIP | 0x900);
    assert_eq!(
        host.media.take_requests(),
        ["Discard { 1 from 16383 }", "Discard { 16384 from 32768 }", "Discard { 1 from 65536 }"]
    );
}

#[test]
fn upper_address_bits_go_with_both_ends() {
    let mut host = Host::selected(SDUC);
    host.r1(22, 1);
    host.r1(32, 5);
    host.r1(22, 1);
    host.r1(33, 6);
    host.r1(38, 1);
    assert_eq!(host.media.take_requests(), ["Discard { 2 from 4294967301 }"]);
}

#[test]
fn medium_that_fails_shows_in_the_next_status() {
    let mut host = Host::selected(SDHC);
    host.media.fail(0..1, MediaError::Io);
    assert_eq!(erase(&mut host, 0, 0, 0), 0x900);
    assert_eq!(host.errors(), status::CARD_ECC_FAILED);
    assert_eq!(host.state(), State::Transfer);
}

#[test]
fn discards_are_counted_where_the_card_has_them() {
    let mut profile = Profile::legacy(1, Capacity::new(SDHC).unwrap());
    profile.erase.discard = false;
    for (profile, discards) in [(profile.clone(), 0), (Profile::express(1, profile.capacity), 1)] {
        let mut host = Host::with(profile);
        host.select();
        erase(&mut host, 0, 0, 1);
        assert_eq!(host.card.snapshot()["counters"]["erases"], 1);
        assert_eq!(host.card.snapshot()["counters"]["discards"], discards);
    }
}
