//! What Linux's mmc core does to a card that it finds, in the order in which it does it.

use sdmorph_pci::{Bus, CardError, CardResponse, SdCard};
use sdmorph_sdcard::{Capacity, Profile, State};

use crate::host::{Host, S18R, SDHC, SDSC, SDUC, SDXC, ms, pattern, patterns};

/// What the core learns.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    blocks: u64,
    is_block_addressed: bool,
    mode: u8,
    has_block_count: bool,
    discards: bool,
    erase_unit_bytes: u64,
}

/// A field of R2 or of the SCR, as `UNSTUFF_BITS` takes it.
fn field(register: &[u8], low: usize, width: usize) -> u64 {
    (0..width).fold(0, |value, bit| {
        let at = low + bit;
        let byte = register[register.len() - 1 - at / 8];
        value | u64::from(byte >> (at % 8) & 1) << bit
    })
}

/// `mmc_rescan_try_freq` and `mmc_attach_sd`, at a host that can do UHS-I or cannot.
fn attach(host: &mut Host, uhs: bool) -> Found {
    // mmc_power_up, sdio_reset, mmc_go_idle, mmc_send_if_cond.
    for (argument, index) in [(0x8000_0c08, 52), (0x0000_0c00, 52)].map(|(argument, index)| (argument, index))
    {
        assert_eq!(host.cmd(index, argument), Err(CardError::Timeout));
    }
    host.cmd(0, 0).unwrap();
    assert_eq!(host.short(8, 0x1aa), 0x1aa);
    // mmc_attach_sdio.
    for _ in 0..4 {
        assert_eq!(host.cmd(5, 0), Err(CardError::Timeout));
    }
    // mmc_attach_sd asks first, and then says what it has.
    host.short(55, 0);
    assert_eq!(host.short(41, 0), 0x00ff_8000);
    host.cmd(0, 0).unwrap();
    host.short(8, 0x1aa);
    let argument = 0x4030_0000 | if uhs { S18R } else { 0 } | 1 << 27;
    let ocr = (0..100)
        .find_map(|_| {
            host.short(55, 0);
            let ocr = host.short(41, argument);
            host.now += ms(10);
            (ocr >> 31 != 0).then_some(ocr)
        })
        .unwrap();
    let low_voltage = uhs && ocr & S18R != 0;
    if low_voltage {
        // mmc_set_uhs_voltage; the clock is stopped twice, by the core and by the driver.
        host.short(11, 0);
        host.now += ms(1);
        assert!(host.is_busy());
        host.set_bus(Bus { clock: false, ..host.bus });
        host.set_bus(Bus { low_voltage: true, ..host.bus });
        host.now += ms(50);
        host.set_bus(Bus { clock: true, ..host.bus });
        host.now += ms(20);
        assert!(!host.is_busy());
    }
    host.cmd(2, 0).unwrap();
    host.rca = host.short(3, 0) & 0xffff_0000;
    let Ok(CardResponse::Long([_, csd @ ..])) = host.cmd(9, host.rca) else { panic!() };
    host.r1(7, host.rca);
    // mmc_sd_setup_card.
    host.acmd(51, 0);
    let scr = host.read(8, 1).unwrap();
    assert_eq!((field(&scr, 60, 4), field(&scr, 56, 4), field(&scr, 48, 4)), (0, 2, 5));
    host.acmd(13, 0);
    let ssr = host.read(64, 1).unwrap();
    let status = host.switch(0x00ff_fff0);
    let mut found = Found {
        is_block_addressed: field(&csd, 126, 2) != 0,
        has_block_count: field(&scr, 33, 1) != 0,
        discards: field(&scr, 38, 4) > 0 && field(&ssr, 313, 1) != 0,
        erase_unit_bytes: 8192 << field(&ssr, 428, 4),
        ..Found::default()
    };
    found.blocks = match field(&csd, 126, 2) {
        0 => (field(&csd, 62, 12) + 1) << (field(&csd, 47, 3) + 2 + field(&csd, 80, 4) - 9),
        1 => (field(&csd, 48, 22) + 1) << 10,
        _ => (field(&csd, 48, 28) + 1) << 10,
    };
    if low_voltage {
        // mmc_sd_init_uhs_card: SDR104, 400 mA.
        host.widen();
        assert_eq!(status[13] & 0x1c, 0x1c);
        let status = host.switch(1 << 31 | 0x00ff_1fff);
        assert_eq!(status[15] >> 4, 1);
        let status = host.switch(1 << 31 | 0x00ff_fff3);
        found.mode = status[16] & 0xf;
        for _ in 0..96 {
            host.r1(19, 0);
            assert_eq!(host.read(64, 1).unwrap()[..4], [0xff, 0x0f, 0xff, 0x00]);
        }
    } else {
        assert_eq!(status[13], 3);
        let status = host.switch(1 << 31 | 0x00ff_fff1);
        found.mode = status[16] & 0xf;
        host.widen();
    }
    assert_eq!(host.errors(), 0);
    found
}

fn host(bytes: u64) -> Host {
    Host::with(Profile::legacy(3, Capacity::new(bytes).unwrap()))
}

#[test]
fn standard_capacity_card_ends_in_high_speed_with_four_bits() {
    let mut host = host(SDSC);
    let found = attach(&mut host, true);
    let expected = Found {
        blocks: SDSC / 512,
        is_block_addressed: false,
        mode: 1,
        has_block_count: true,
        discards: false,
        erase_unit_bytes: 64 << 10,
    };
    assert_eq!(found, expected);
    // mmc_blk: CMD23 and CMD18, in bytes; then the polling for the end of a write.
    host.r1(23, 8);
    host.r1(25, 8 * 512);
    host.write(512, patterns(8, 8)).unwrap();
    assert_eq!(host.status(), 0x900);
    host.r1(23, 8);
    host.r1(18, 8 * 512);
    assert_eq!(host.read(512, 8).unwrap(), patterns(8, 8));
    assert_eq!(host.status(), 0x900);
}

#[test]
fn high_capacity_card_in_a_host_without_uhs_ends_in_high_speed() {
    let mut host = host(SDHC);
    let found = attach(&mut host, false);
    assert_eq!((found.blocks, found.mode, found.is_block_addressed), (SDHC / 512, 1, true));
    assert_eq!(found.erase_unit_bytes, 4 << 20);
    host.r1(17, 7);
    assert_eq!(host.read(512, 1).unwrap(), [0; 512]);
}

#[test]
fn extended_capacity_card_ends_in_sdr104_and_discards() {
    let mut host = host(SDXC);
    let found = attach(&mut host, true);
    assert_eq!((found.blocks, found.mode, found.discards), (SDXC / 512, 3, true));
    // mmc_blk_issue_discard_rq.
    host.media.poke(64, &pattern(64));
    host.r1(32, 64);
    host.r1(33, 127);
    host.r1(38, 1);
    assert_eq!(host.media.take_requests().last().unwrap(), "Discard { 64 from 64 }");
    // A write that is stopped by CMD12, and polled with CMD13.
    host.media.hold();
    host.r1(25, 64);
    host.write(512, patterns(64, 16)).unwrap();
    host.r1(12, 0);
    assert_eq!(host.status(), 0x0e00);
    host.media.release();
    assert_eq!(host.status(), 0x0900);
}

#[test]
fn ultra_capacity_card_is_attached_by_a_host_that_knows_it() {
    let mut host = host(SDUC);
    let found = attach(&mut host, true);
    assert_eq!((found.blocks, found.mode), (SDUC / 512, 3));
    // As mmc_send_ext_addr does: before CMD23.
    host.r1(22, 1);
    host.r1(23, 1);
    host.r1(18, 0);
    assert!(host.read(512, 1).is_ok());
    assert_eq!(host.media.take_requests(), ["Read { 1 from 4294967296 }"]);
}

#[test]
fn card_that_lost_no_power_is_attached_again() {
    // mmc_hw_reset without power: v18 fixup.
    let mut host = host(SDXC);
    attach(&mut host, true);
    let bus = Bus { width: 1, low_voltage: false, ..host.bus };
    host.set_bus(bus);
    let found = {
        host.cmd(0, 0).unwrap();
        host.make_ready(0x4030_0000 | S18R)
    };
    // S18A is not given again, and the switch status shows why.
    assert_eq!(found & S18R, 0);
    host.make_stand_by();
    host.r1(7, host.rca);
    assert_eq!(host.switch(0x00ff_fff0)[13] & 0x1c, 0x1c);
}

#[test]
fn error_recovery_stops_what_is_left_and_finds_the_card_in_the_transfer_state() {
    // mmc_blk_fix_state: the status, CMD12 if data are moving, the status again.
    let mut host = host(SDXC);
    attach(&mut host, true);
    host.card.disturb(host.now, sdmorph_pci::Disturbance::DataCrc(1)).unwrap();
    host.r1(18, 0);
    assert!(host.read(512, 8).is_err());
    assert_eq!(host.status() >> 9 & 0xf, 5);
    host.r1(12, 0);
    assert_eq!(host.status(), 0x900);
    assert_eq!(host.state(), State::Transfer);
}
