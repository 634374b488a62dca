//! Disturbances from outside.

use sdmorph_pci::{CardError, DataError, DisturbError, Disturbance, SdCard};
use sdmorph_sdcard::{State, status};

use crate::host::{Host, SDXC, ms, pattern, patterns};

fn disturb(host: &mut Host, disturbance: Disturbance) {
    host.card.disturb(host.now, disturbance).unwrap();
}

fn felt(host: &Host, name: &str) -> serde_json::Value {
    host.card.snapshot()["disturbances"]["felt"][name].clone()
}

#[test]
fn list_of_bad_blocks_has_an_end_and_begins_anew_when_the_card_heals() {
    let mut host = Host::selected(SDXC);
    let bad = |first| Disturbance::BadBlocks { first, count: 1 };
    (0..256).for_each(|first| disturb(&mut host, bad(first)));
    assert_eq!(host.card.disturb(host.now, bad(256)), Err(DisturbError::TooManyBadBlocks));
    disturb(&mut host, Disturbance::Heal);
    disturb(&mut host, bad(256));
}

#[test]
fn spoilt_response_is_of_a_command_that_was_done() {
    let mut host = Host::selected(SDXC);
    disturb(&mut host, Disturbance::ResponseCrc(2));
    assert_eq!(host.cmd(16, 64), Err(CardError::Crc));
    assert_eq!(host.cmd(18, 0), Err(CardError::Crc));
    assert_eq!(host.state(), State::SendingData);
    host.r1(12, 0);
    assert_eq!(felt(&host, "response-crc"), 2);
}

#[test]
fn swallowed_command_was_not_done() {
    let mut host = Host::selected(SDXC);
    host.r1(55, host.rca);
    disturb(&mut host, Disturbance::ResponseTimeout(1));
    assert_eq!(host.cmd(13, 0), Err(CardError::Timeout));
    // The card still waits for an application command.
    host.r1(13, 0);
    assert_eq!(host.read(64, 1).map(|data| data.len()), Ok(64));
    assert_eq!(host.card.illegal_commands(), 0);
    assert_eq!(felt(&host, "response-timeout"), 1);
}

#[test]
fn spoilt_data_are_lost_in_both_directions() {
    for (disturbance, error) in
        [(Disturbance::DataCrc(4), DataError::Crc), (Disturbance::DataTimeout(4), DataError::Timeout)]
    {
        let mut host = Host::selected(SDXC);
        disturb(&mut host, disturbance);
        host.r1(17, 0);
        assert_eq!(host.read(512, 1), Err(error));
        assert_eq!(host.state(), State::Transfer);
        host.r1(18, 0);
        assert_eq!(host.read(512, 8), Err(error));
        assert_eq!(host.state(), State::SendingData);
        host.r1(12, 0);
        host.r1(24, 0);
        assert_eq!(host.write(512, pattern(1)), Err(error));
        host.r1(25, 0);
        assert_eq!(host.write(512, patterns(1, 2)), Err(error));
        host.r1(12, 0);
        assert!(host.media.take_requests().is_empty());
        host.r1(17, 0);
        assert!(host.read(512, 1).is_ok());
        assert_eq!(host.errors(), 0);
    }
}

#[test]
fn busy_ends_by_itself_at_its_deadline() {
    let mut host = Host::selected(SDXC);
    disturb(&mut host, Disturbance::Busy(ms(30)));
    assert!(host.is_busy());
    assert_eq!(host.status(), 0x0800);
    let end = host.now + ms(30);
    assert_eq!(host.card.next_deadline(), Some(end));
    host.r1(24, 0);
    assert_eq!(host.write(512, pattern(0)), Err(DataError::Timeout));
    host.now = end;
    assert!(!host.is_busy());
    assert_eq!(host.card.next_deadline(), None);
    host.write(512, pattern(0)).unwrap();
}

#[test]
fn bad_blocks_end_transfers_where_they_are() {
    let mut host = Host::selected(SDXC);
    host.media.poke(0, &patterns(0, 10));
    disturb(&mut host, Disturbance::BadBlocks { first: 3, count: 2 });
    host.r1(18, 1);
    assert_eq!(host.read(512, 8).unwrap(), patterns(1, 2));
    assert_eq!(host.read(512, 6), Err(DataError::Timeout));
    assert_eq!(host.short(12, 0) & status::CARD_ECC_FAILED, status::CARD_ECC_FAILED);
    host.r1(25, 1);
    assert_eq!(host.write(512, patterns(51, 8)), Err(DataError::Timeout));
    assert_eq!(host.short(12, 0) & status::CARD_ECC_FAILED, status::CARD_ECC_FAILED);
    assert_eq!(host.written(), 2);
    assert_eq!(host.media.peek(1, 3), [patterns(51, 2), pattern(3)].concat());
    for index in [17, 24] {
        host.r1(index, 4);
        let result = if index == 17 { host.read(512, 1).map(drop) } else { host.write(512, pattern(0)) };
        assert_eq!(result, Err(DataError::Timeout));
        assert_eq!((host.state(), host.errors()), (State::Transfer, status::CARD_ECC_FAILED));
    }
    assert_eq!(felt(&host, "bad-blocks"), 4);
    disturb(&mut host, Disturbance::Heal);
    host.r1(17, 4);
    assert_eq!(host.read(512, 1).unwrap(), pattern(4));
}

#[test]
fn heal_takes_everything_back() {
    let mut host = Host::selected(SDXC);
    for disturbance in [
        Disturbance::ResponseCrc(9),
        Disturbance::ResponseTimeout(9),
        Disturbance::DataCrc(9),
        Disturbance::DataTimeout(9),
        Disturbance::Busy(ms(1 << 20)),
        Disturbance::Heal,
    ] {
        disturb(&mut host, disturbance);
    }
    assert!(!host.is_busy());
    host.r1(17, 0);
    assert!(host.read(512, 1).is_ok());
}

#[test]
fn disturbances_stay_when_power_is_cut() {
    let mut host = Host::selected(SDXC);
    disturb(&mut host, Disturbance::ResponseTimeout(1));
    host.card.power_cycle();
    assert_eq!(host.cmd(0, 0), Err(CardError::Timeout));
    host.select();
}

/// The host believes that nothing has changed, and is right only if the card sent nothing.
#[test]
fn function_is_switched_if_its_status_was_sent_and_spoilt_and_is_not_if_it_was_not_sent() {
    for (disturbance, error, function) in
        [(Disturbance::DataCrc(1), DataError::Crc, 1), (Disturbance::DataTimeout(1), DataError::Timeout, 0)]
    {
        let mut host = Host::selected(SDXC);
        disturb(&mut host, disturbance);
        // CMD6: set group 1 to high speed, leave the others.
        host.r1(6, 0x80ff_fff1);
        assert_eq!(host.read(64, 1), Err(error));
        // Bits 379:376 of the status of a check that changes nothing: the function of group 1 as it is.
        assert_eq!(host.switch(0x00ff_ffff)[16] & 0xf, function);
    }
}
