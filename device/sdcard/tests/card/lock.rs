//! Locking (4.3.7).

use sdmorph_pci::{DataError, SdCard};
use sdmorph_sdcard::table::{APP_COMMANDS, COMMANDS};
use sdmorph_sdcard::{State, status};

use crate::host::{ERRORS, HCS, HO2T, Host, SDSC, SDXC, VDD_33, pattern};

const SET: u8 = 1;
const CLEAR: u8 = 2;
const LOCK: u8 = 4;
const ERASE: u8 = 8;
const FAILED: u32 = status::LOCK_UNLOCK_FAILED;
const LOCKED: u32 = status::CARD_IS_LOCKED;

/// CMD42, and what the status says then.
fn lock(host: &mut Host, mode: u8, password: &str) -> u32 {
    let mut block = vec![mode, password.len() as u8];
    block.extend(password.bytes());
    host.short(16, block.len() as u32);
    host.short(42, 0);
    let length = block.len() as u16;
    host.write(length, block).unwrap();
    host.status() & (FAILED | LOCKED)
}

#[test]
fn card_is_locked_and_unlocked_with_its_password() {
    let mut host = Host::selected(SDXC);
    assert_eq!(lock(&mut host, SET, "secret"), 0);
    assert_eq!(lock(&mut host, LOCK, "wrong"), FAILED);
    assert_eq!(lock(&mut host, LOCK, "secret"), LOCKED);
    assert_eq!(lock(&mut host, LOCK, "secret"), LOCKED | FAILED);
    assert_eq!(lock(&mut host, 0, "wrong"), LOCKED | FAILED);
    assert_eq!(lock(&mut host, 0, "secret"), 0);
    assert_eq!(lock(&mut host, SET | LOCK, "secretnew"), LOCKED);
    assert_eq!(lock(&mut host, CLEAR, "new"), 0);
    assert_eq!(lock(&mut host, LOCK, "new"), FAILED);
}

#[test]
fn card_with_a_password_is_locked_after_power_up_and_cmd0_does_not_change_that() {
    let mut host = Host::selected(SDXC);
    lock(&mut host, SET, "x");
    host.cmd(0, 0).unwrap();
    host.select();
    assert_eq!(host.status() & LOCKED, 0);
    host.card.power_cycle();
    host.make_ready(HCS | HO2T | VDD_33);
    host.make_stand_by();
    assert_eq!(host.short(7, host.rca) & LOCKED, LOCKED);
    assert_eq!(lock(&mut host, 0, "x"), 0);
    host.r1(17, 0);
}

#[test]
fn locked_card_takes_only_what_the_specification_lists() {
    let mut host = Host::selected(SDXC);
    lock(&mut host, SET | LOCK, "x");
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for command in COMMANDS.iter().filter(|command| command.states.contain(State::Transfer)) {
        // CMD0, CMD7 and CMD15 would leave the state.
        if matches!(command.index, 0 | 7 | 15) {
            continue;
        }
        let before = host.card.illegal_commands();
        let argument = if command.is_for_one_card { host.rca } else { 1 };
        let _ = host.cmd(command.index, argument);
        let list = if host.card.illegal_commands() == before { &mut taken } else { &mut refused };
        list.push(command.index);
        if host.card.state() != State::Transfer {
            host.short(12, 0);
        }
    }
    assert_eq!(taken, [13, 16, 42, 55]);
    assert!([6, 17, 18, 24, 25, 27, 32, 38, 56].iter().all(|index| refused.contains(index)));
    for command in APP_COMMANDS.iter().filter(|command| command.states.contain(State::Transfer)) {
        let before = host.card.illegal_commands();
        host.short(55, host.rca);
        let _ = host.cmd(command.index, 0);
        assert_eq!(host.card.illegal_commands() == before, command.index == 42, "{command:?}");
    }
}

#[test]
fn locked_card_is_still_identified() {
    let mut host = Host::selected(SDXC);
    lock(&mut host, SET | LOCK, "x");
    host.make_ready(HCS | HO2T | VDD_33);
    host.make_stand_by();
    assert!(host.cmd(9, host.rca).is_ok());
    assert_eq!(host.short(7, host.rca) & (ERRORS | LOCKED), LOCKED);
}

#[test]
fn force_erase_takes_contents_password_and_protection() {
    let mut host = Host::selected(SDSC);
    host.media.poke(5, &pattern(5));
    host.r1(28, 0);
    lock(&mut host, SET | LOCK, "x");
    host.media.hold();
    host.short(16, 1);
    host.short(42, 0);
    host.write(1, vec![ERASE]).unwrap();
    assert!(host.is_busy());
    assert_eq!(host.status() & LOCKED, LOCKED);
    host.media.release();
    assert_eq!(host.status(), 0x900);
    assert_eq!(host.media.peek(5, 1), [0; 512]);
    assert_eq!(host.card.snapshot()["password"], false);
    host.r1(16, 512);
    host.r1(24, 0);
    host.write(512, pattern(0)).unwrap();
    assert_eq!(host.errors(), 0);
}

#[test]
fn force_erase_of_an_unlocked_or_failing_card_fails() {
    let mut host = Host::selected(SDXC);
    assert_eq!(lock(&mut host, ERASE, ""), FAILED);
    lock(&mut host, SET | LOCK, "x");
    host.media.fail(0..1, sdmorph_pci::MediaError::Io);
    assert_eq!(lock(&mut host, ERASE, ""), LOCKED | FAILED);
}

#[test]
fn block_of_another_length_than_cmd16_says_has_a_wrong_crc() {
    let mut host = Host::selected(SDXC);
    host.r1(16, 6);
    host.r1(42, 0);
    assert_eq!(host.write(8, vec![0; 8]), Err(DataError::Crc));
    assert_eq!((host.state(), host.errors()), (State::Transfer, 0));
}

#[test]
fn password_is_in_no_snapshot() {
    let mut host = Host::selected(SDXC);
    lock(&mut host, SET, "hunter2");
    assert!(!host.card.snapshot().to_string().contains("hunter2"));
    assert!(!format!("{:?}", host.card).contains("104, 117, 110"));
}
