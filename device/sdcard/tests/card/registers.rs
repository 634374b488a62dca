//! CID, CSD, SCR, SD Status: golden bytes, and a decoder that knows the specification's fields and not the crate.

use sdmorph_sdcard::crc7::crc7;
use sdmorph_sdcard::registers::cid::cid;
use sdmorph_sdcard::registers::csd::{Programmable, csd};
use sdmorph_sdcard::registers::scr::scr;
use sdmorph_sdcard::registers::ssr::ssr;
use sdmorph_sdcard::{Capacity, Profile, Version};

use crate::host::{SDHC, SDSC, SDUC, SDXC};

/// Bits `high` to `low` of a register, through a string of its digits.
fn field(register: &[u8], high: usize, low: usize) -> u64 {
    let digits: String = register.iter().map(|byte| format!("{byte:08b}")).collect();
    let last = digits.len() - 1;
    u64::from_str_radix(&digits[last - high..=last - low], 2).unwrap()
}

fn profile(bytes: u64) -> Profile {
    Profile::legacy(0x1234_5678, Capacity::new(bytes).unwrap())
}

fn csd_of(bytes: u64) -> [u8; 16] {
    csd(&profile(bytes), Programmable::default(), 0)
}

/// The capacity as 5.3.2, 5.3.3 and 5.3.4 have it.
fn capacity(csd: &[u8]) -> u64 {
    match field(csd, 127, 126) {
        0 => {
            let blocks = (field(csd, 73, 62) + 1) << (field(csd, 49, 47) + 2);
            blocks << field(csd, 83, 80)
        }
        1 => (field(csd, 69, 48) + 1) * 512 * 1024,
        2 => (field(csd, 75, 48) + 1) * 512 * 1024,
        other => panic!("CSD structure {other}"),
    }
}

#[test]
fn csd_says_what_the_card_is() {
    for (bytes, structure, classes) in [
        (2048, 0, 0x5f5),
        (SDSC, 0, 0x5f5),
        (1 << 30, 0, 0x5f5),
        (2 << 30, 0, 0x5f5),
        (SDHC, 1, 0x5b5),
        (SDXC, 1, 0x5b5),
        (2 << 40, 1, 0x5b5),
        (SDUC, 2, 0x5b5),
        (128 << 40, 2, 0x5b5),
    ] {
        let csd = csd_of(bytes);
        assert_eq!(field(&csd, 127, 126), structure, "{bytes}");
        assert_eq!(capacity(&csd), bytes);
        assert_eq!(field(&csd, 103, 96), 0x32);
        assert_eq!(field(&csd, 95, 84), classes);
        // ERASE_BLK_EN, and SECTOR_SIZE 128.
        assert_eq!((field(&csd, 46, 46), field(&csd, 45, 39)), (1, 0x7f));
        assert_eq!(field(&csd, 28, 26), 2);
        assert_eq!(field(&csd, 25, 22), field(&csd, 83, 80));
        assert_eq!(field(&csd, 15, 8), 0);
        assert_eq!(field(&csd, 7, 1), u64::from(crc7(&csd[..15])));
        assert_eq!(field(&csd, 0, 0), 1);
        // Reserved in all versions.
        assert_eq!((field(&csd, 125, 120), field(&csd, 30, 29), field(&csd, 20, 16)), (0, 0, 0));
    }
}

#[test]
fn csd_bytes_are_these() {
    assert_eq!(csd_of(64 << 30)[..15], *b"\x40\x0e\x00\x32\x5b\x59\x00\x01\xff\xff\x7f\x80\x0a\x40\x00");
    assert_eq!(csd_of(128 << 40)[..15], *b"\x80\x0e\x00\x32\x5b\x59\x0f\xff\xff\xff\x7f\x80\x0a\x40\x00");
    assert_eq!(csd_of(2 << 30)[..15], *b"\x00\x0e\x00\x32\x5f\x5a\x83\xff\xe4\x93\xff\xff\x8a\x80\x00");
}

#[test]
fn csd_follows_the_bus_speed_mode() {
    let speeds = [0, 1, 2, 3, 4].map(|mode| csd(&profile(SDXC), Programmable::default(), mode)[3]);
    assert_eq!(speeds, [0x32, 0x5a, 0x0b, 0x2b, 0x0b]);
}

#[test]
fn cid_bytes_are_these() {
    let cid = cid(&profile(SDXC));
    assert_eq!(cid[..15], *b"\xffSMMORPH\x10\x12\x34\x56\x78\x01\x82");
    // 2024, February.
    assert_eq!((field(&cid, 19, 12), field(&cid, 11, 8)), (24, 2));
    assert_eq!(field(&cid, 7, 1), u64::from(crc7(&cid[..15])));
}

#[test]
fn scr_tells_version_widths_and_commands() {
    let with = |bytes, version| scr(&Profile { version, ..profile(bytes) });
    assert_eq!(with(SDHC, Version::V2), [0x02, 0x35, 0, 0, 0, 0, 0, 0]);
    assert_eq!(with(SDHC, Version::V3), [0x02, 0x35, 0x80, 0x02, 0, 0, 0, 0]);
    assert_eq!(with(SDXC, Version::V6), [0x02, 0x45, 0x84, 0x83, 0, 0, 0, 0]);
    // SD_SPEC, SD_SPEC3, SD_SPEC4, SD_SPECX.
    let version =
        |scr: [u8; 8]| [field(&scr, 59, 56), field(&scr, 47, 47), field(&scr, 42, 42), field(&scr, 41, 38)];
    assert_eq!(version(with(SDXC, Version::V4)), [2, 1, 1, 0]);
    assert_eq!(version(with(SDXC, Version::V5)), [2, 1, 1, 1]);
    assert_eq!(version(with(SDUC, Version::V7)), [2, 1, 1, 3]);
    assert_eq!(version(with(SDUC, Version::V9)), [2, 1, 1, 5]);
    // Class 11 is not there.
    for bytes in [SDSC, SDHC, SDXC, SDUC] {
        assert_eq!(field(&scr(&profile(bytes)), 36, 34), 0);
    }
    assert_eq!(scr(&profile(SDSC))[1], 0x25);
}

#[test]
fn sd_status_tells_speeds_and_erase_times() {
    let status = ssr(&profile(SDXC), true);
    let fields = [
        ("DAT_BUS_WIDTH", 511, 510, 2),
        ("SECURED_MODE", 509, 509, 0),
        ("SD_CARD_TYPE", 495, 480, 0),
        ("SIZE_OF_PROTECTED_AREA", 479, 448, 0),
        ("SPEED_CLASS", 447, 440, 4),
        ("PERFORMANCE_MOVE", 439, 432, 0),
        ("AU_SIZE", 431, 428, 12),
        ("ERASE_SIZE", 423, 408, 16),
        ("ERASE_TIMEOUT", 407, 402, 2),
        ("ERASE_OFFSET", 401, 400, 1),
        ("UHS_SPEED_GRADE", 399, 396, 3),
        ("UHS_AU_SIZE", 395, 392, 12),
        ("VIDEO_SPEED_CLASS", 391, 384, 30),
        ("VSC_AU_SIZE", 377, 368, 16),
        ("SUS_ADDR", 367, 346, 0),
        ("APP_PERF_CLASS", 339, 336, 1),
        ("PERFORMANCE_ENHANCE", 335, 328, 0),
        ("DISCARD_SUPPORT", 313, 313, 1),
        ("FULE_SUPPORT", 312, 312, 1),
    ];
    for (name, high, low, expected) in fields {
        assert_eq!(field(&status, high, low), expected, "{name}");
    }
    let narrow = ssr(&profile(SDSC), false);
    // Speed class 4 and 64 KiB units is all that a small card has to say.
    assert_eq!(narrow[8..11], [2, 0, 0x30]);
    assert!(narrow[..8].iter().chain(&narrow[11..]).all(|byte| *byte == 0));
}
