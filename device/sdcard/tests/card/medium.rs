//! The card on a medium that is late, fails, or cannot be written.

use sdmorph_pci::{CardError, DataError, MediaError, SdCard};
use sdmorph_sdcard::{Capacity, MemoryCard, Profile, State, status};
use sdmorph_testkit::TestMedia;

use crate::host::{ERRORS, Host, SDHC, SDXC, pattern, patterns};

#[test]
fn medium_of_another_size_is_refused() {
    let profile = Profile::legacy(1, Capacity::new(SDHC).unwrap());
    let error = MemoryCard::new(profile, Box::new(TestMedia::new(8))).unwrap_err();
    assert_eq!(error.to_string(), "the card has 16777216 blocks of 512 bytes, and its medium 8");
}

#[test]
fn read_waits_for_the_medium_without_being_busy() {
    let mut host = Host::selected(SDXC);
    host.media.poke(0, &patterns(0, 4));
    host.media.hold();
    host.r1(18, 0);
    assert_eq!(host.read(512, 2), Ok(vec![]));
    assert_eq!(host.read(512, 2), Ok(vec![]));
    assert!(!host.is_busy());
    assert_eq!(host.media.take_requests(), ["Read { 2 from 0 }"]);
    host.media.release_one();
    // The host may take less at a time than it asked for first.
    assert_eq!(host.read(512, 1).unwrap(), pattern(0));
    assert_eq!(host.read(512, 5).unwrap(), pattern(1));
    assert_eq!(host.read(512, 2), Ok(vec![]));
    host.r1(12, 0);
    assert_eq!(host.state(), State::Transfer);
}

#[test]
fn write_is_busy_until_the_medium_has_it() {
    let mut host = Host::selected(SDXC);
    host.media.hold();
    host.r1(24, 8);
    host.write(512, pattern(8)).unwrap();
    assert!(host.is_busy());
    // Programming, and no room for data.
    assert_eq!(host.status(), 0x0e00);
    host.is_illegal(17, 0);
    host.media.release();
    assert!(!host.is_busy());
    assert_eq!(host.status(), 0x0900);
}

#[test]
fn busy_card_takes_no_block_and_cmd12_waits_for_the_medium() {
    let mut host = Host::selected(SDXC);
    host.media.hold();
    host.r1(25, 8);
    host.write(512, pattern(8)).unwrap();
    assert_eq!(host.write(512, pattern(9)), Err(DataError::Timeout));
    assert_eq!(host.status(), 0x0c00);
    host.r1(12, 0);
    assert_eq!((host.state(), host.is_busy()), (State::Programming, true));
    host.media.release();
    assert_eq!((host.state(), host.is_busy()), (State::Transfer, false));
    assert_eq!(host.written(), 1);
    assert_eq!(host.media.peek(8, 2), [pattern(8), vec![0; 512]].concat());
}

#[test]
fn medium_that_fails_shows_in_the_status_and_in_the_number_of_written_blocks() {
    for (error, bit) in [
        (MediaError::Io, status::CARD_ECC_FAILED),
        (MediaError::Full, status::ERROR),
        (MediaError::ReadOnly, status::WP_VIOLATION),
    ] {
        let mut host = Host::selected(SDXC);
        host.media.fail(4..5, error);
        host.r1(25, 0);
        host.write(512, patterns(0, 4)).unwrap();
        // The block is taken, and lost while it is programmed.
        assert_eq!(host.write(512, pattern(4)), Ok(()));
        assert_eq!(host.write(512, pattern(5)), Err(DataError::Timeout));
        assert_eq!(host.status() & ERRORS, bit);
        host.r1(12, 0);
        assert_eq!(host.written(), 4);
        // A single block.
        host.r1(24, 4);
        host.write(512, pattern(4)).unwrap();
        assert_eq!(host.errors(), bit);
        assert_eq!(host.written(), 0);
    }
}

#[test]
fn failed_read_gives_no_data() {
    let mut host = Host::selected(SDXC);
    host.media.fail(4..5, MediaError::Io);
    host.r1(17, 4);
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    assert_eq!((host.state(), host.errors()), (State::Transfer, status::CARD_ECC_FAILED));
    host.r1(18, 3);
    assert_eq!(host.read(512, 1).map(|data| data.len()), Ok(512));
    assert_eq!(host.read(512, 1), Err(DataError::Timeout));
    assert_eq!(host.state(), State::SendingData);
    assert_eq!(host.short(12, 0) & status::CARD_ECC_FAILED, status::CARD_ECC_FAILED);
    assert_eq!((host.state(), host.errors()), (State::Transfer, 0));
}

#[test]
fn read_after_an_abandoned_write_waits_for_it_and_ignores_its_result() {
    for cut_power in [false, true] {
        let mut host = Host::selected(SDXC);
        host.media.hold();
        host.r1(24, 8);
        host.write(512, pattern(8)).unwrap();
        if cut_power {
            host.card.power_cycle();
        }
        host.select();
        assert!(!host.is_busy());
        host.r1(17, 8);
        assert_eq!(host.read(512, 1), Ok(vec![]));
        // The medium has one request at a time.
        assert_eq!(host.media.under_way(), 1);
        assert!(host.media.release_one());
        assert_eq!(host.read(512, 1), Ok(vec![]));
        assert!(host.media.release_one());
        assert_eq!(host.read(512, 1), Ok(pattern(8)));
        assert_eq!((host.written(), host.errors()), (0, 0));
    }
}

#[test]
fn error_of_an_abandoned_request_is_nobodys() {
    let mut host = Host::selected(SDXC);
    host.media.fail(8..9, MediaError::Io);
    host.media.hold();
    host.r1(17, 8);
    host.read(512, 1).unwrap();
    host.r1(12, 0);
    host.r1(17, 9);
    host.read(512, 1).unwrap();
    host.media.release_one();
    assert_eq!(host.read(512, 1), Ok(vec![]));
    host.media.release_one();
    assert_eq!(host.read(512, 1), Ok(vec![0; 512]));
    assert_eq!(host.errors(), 0);
}

#[test]
fn read_only_medium_makes_a_write_protected_card() {
    let capacity = Capacity::new(SDHC).unwrap();
    let media = TestMedia::new(capacity.blocks()).read_only();
    let mut host = Host::on(Profile::legacy(1, capacity), media);
    host.select();
    assert_eq!(host.short(24, 0) & status::WP_VIOLATION, status::WP_VIOLATION);
    assert_eq!(host.write(512, pattern(0)), Err(DataError::Timeout));
    assert_eq!(host.state(), State::Transfer);
    assert_eq!(host.short(25, 0) & status::WP_VIOLATION, status::WP_VIOLATION);
    assert_eq!(host.state(), State::ReceiveData);
    host.r1(12, 0);
    host.r1(32, 0);
    host.r1(33, 9);
    assert_eq!(host.short(38, 0) & status::WP_ERASE_SKIP, status::WP_ERASE_SKIP);
    assert!(host.media.take_requests().is_empty());
    assert_eq!(host.card.snapshot()["write_protected"]["permanent"], true);
}

#[test]
fn cmd0_while_the_medium_works_leaves_an_idle_card_that_is_not_busy() {
    let mut host = Host::selected(SDXC);
    host.media.hold();
    host.r1(24, 8);
    host.write(512, pattern(8)).unwrap();
    host.cmd(0, 0).unwrap();
    assert_eq!((host.state(), host.is_busy()), (State::Idle, false));
    assert_eq!(host.cmd(13, 0), Err(CardError::Timeout));
    assert_eq!(host.card.snapshot()["medium"], "ends an abandoned request");
    host.media.release();
    assert_eq!(host.state(), State::Idle);
    assert_eq!(host.card.snapshot()["medium"], "idle");
}

#[test]
fn error_of_a_write_that_a_reset_cut_off_is_nobodys() {
    for cut_power in [false, true] {
        let mut host = Host::selected(SDXC);
        host.media.fail(8..9, MediaError::Io);
        host.media.hold();
        host.r1(24, 8);
        host.write(512, pattern(8)).unwrap();
        if cut_power {
            host.card.power_cycle();
        } else {
            host.cmd(0, 0).unwrap();
        }
        host.media.release();
        assert_eq!(host.short(55, 0) & ERRORS, 0);
    }
}

#[test]
fn r6_shows_and_clears_what_it_has_room_for() {
    for (error, shown, left) in [(MediaError::Full, 0x2000, 0), (MediaError::Io, 0, status::CARD_ECC_FAILED)]
    {
        let mut host = Host::selected(SDXC);
        host.media.fail(8..9, error);
        host.media.hold();
        host.r1(24, 8);
        host.write(512, pattern(8)).unwrap();
        assert!(host.cmd(7, 0).is_err());
        host.media.release();
        assert_eq!(host.state(), State::StandBy);
        let r6 = host.short(3, 0);
        assert_eq!(r6 & 0xe000, shown);
        host.rca = r6 & 0xffff_0000;
        assert_eq!(host.errors(), left);
    }
}
