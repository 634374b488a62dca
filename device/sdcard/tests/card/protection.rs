//! Write protection (4.3.6) and CMD27.

use sdmorph_pci::{CardResponse, DataError, SdCard};
use sdmorph_sdcard::crc7::end_byte;
use sdmorph_sdcard::{State, status};

use crate::host::{Host, SDSC, SDXC, pattern, patterns};

const GROUP: u32 = 16384 * 512;

fn bits(host: &mut Host, address: u32) -> u32 {
    host.r1(30, address);
    u32::from_be_bytes(host.read(4, 1).unwrap().try_into().unwrap())
}

#[test]
fn groups_are_protected_and_released_by_any_address_in_them() {
    let mut host = Host::selected(SDSC);
    assert_eq!(bits(&mut host, 0), 0);
    host.r1(28, GROUP + 1234);
    host.r1(28, 7 * GROUP);
    assert_eq!(bits(&mut host, 0), 0b1000_0010);
    assert_eq!(bits(&mut host, GROUP), 0b0100_0001);
    host.r1(29, GROUP);
    assert_eq!(bits(&mut host, 0), 0b1000_0000);
    for index in [28, 29, 30] {
        assert_eq!(host.short(index, SDSC as u32) >> 31, 1);
        assert_eq!(host.state(), State::Transfer);
    }
}

#[test]
fn protected_group_cannot_be_written_and_ends_a_write_that_reaches_it() {
    let mut host = Host::selected(SDSC);
    host.r1(28, GROUP);
    assert_eq!(host.short(24, GROUP + 512), status::WP_VIOLATION | 0x900);
    assert_eq!(host.state(), State::Transfer);
    host.r1(25, GROUP - 512);
    assert_eq!(host.write(512, patterns(0, 2)), Err(DataError::Timeout));
    assert_eq!(host.errors(), status::WP_VIOLATION);
    host.r1(12, 0);
    assert_eq!(host.written(), 1);
    assert_eq!(host.media.peek(16383, 2), [pattern(0), vec![0; 512]].concat());
    host.r1(17, GROUP);
    assert!(host.read(512, 1).is_ok());
}

fn csd(host: &mut Host) -> [u8; 16] {
    assert!(host.cmd(7, 0).is_err());
    let Ok(CardResponse::Long([_, csd @ ..])) = host.cmd(9, host.rca) else { panic!() };
    host.short(7, host.rca);
    csd
}

/// CMD27 with a CSD whose 14th byte is `byte`, and what the status says then.
fn program(host: &mut Host, byte: u8) -> u32 {
    let mut csd = csd(host);
    csd[14] = byte;
    csd[15] = end_byte(&csd[..15]);
    host.r1(27, 0);
    host.write(16, csd.to_vec()).unwrap();
    host.errors()
}

#[test]
fn temporary_protection_is_set_and_cleared() {
    let mut host = Host::selected(SDXC);
    assert_eq!(program(&mut host, 0x10), 0);
    assert_eq!(csd(&mut host)[14], 0x10);
    assert_eq!(host.short(24, 0), status::WP_VIOLATION | 0x900);
    assert_eq!(program(&mut host, 0x00), 0);
    host.r1(24, 0);
}

#[test]
fn copy_and_permanent_protection_are_set_once() {
    let mut host = Host::selected(SDXC);
    assert_eq!(program(&mut host, 0x60), 0);
    for byte in [0x00, 0x20, 0x40] {
        assert_eq!(program(&mut host, byte), status::CSD_OVERWRITE, "{byte:#x}");
    }
    assert_eq!(program(&mut host, 0x70), 0);
    host.card.power_cycle();
    host.select();
    assert_eq!(csd(&mut host)[14], 0x70);
}

#[test]
fn file_format_can_be_programmed_on_a_standard_capacity_card_only() {
    let mut host = Host::selected(SDSC);
    assert_eq!(program(&mut host, 0x84), 0);
    assert_eq!(program(&mut host, 0x80), status::CSD_OVERWRITE);
    let mut host = Host::selected(SDXC);
    assert_eq!(program(&mut host, 0x04), status::CSD_OVERWRITE);
}

#[test]
fn csd_that_differs_in_other_bits_or_in_its_crc_is_not_programmed() {
    let mut host = Host::selected(SDXC);
    let old = csd(&mut host);
    for byte in [0, 3, 8, 14] {
        let mut new = old;
        new[byte] ^= 1;
        new[15] = end_byte(&new[..15]);
        host.r1(27, 0);
        host.write(16, new.to_vec()).unwrap();
        assert_eq!(host.errors(), status::CSD_OVERWRITE, "{byte}");
    }
    let mut new = old;
    new[15] ^= 0x10;
    host.r1(27, 0);
    host.write(16, new.to_vec()).unwrap();
    assert_eq!(host.errors(), status::ERROR);
    assert_eq!(csd(&mut host), old);
}
