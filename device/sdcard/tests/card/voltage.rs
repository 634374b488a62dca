//! Bus speed modes and the signal voltage (4.2.4, 4.3.10).

use sdmorph_pci::{Bus, CardError, DataError, SdCard};
use sdmorph_sdcard::tuning::TUNING_BLOCK;
use sdmorph_sdcard::{Capacity, Profile, State};

use crate::host::{HCS, Host, S18R, SDSC, SDXC, VDD_33, ms, pattern};

const SET: u32 = 1 << 31 | 0x00ff_fff0;

fn ready() -> Host {
    let mut host = Host::with(Profile::legacy(1, Capacity::new(SDXC).unwrap()));
    assert_ne!(host.make_ready(HCS | S18R | VDD_33) & S18R, 0);
    host
}

#[test]
fn switch_to_1v8_is_offered_once_and_only_to_a_host_that_asks() {
    let mut host = Host::with(Profile::legacy(1, Capacity::new(SDXC).unwrap()));
    assert_eq!(host.make_ready(HCS | VDD_33) & S18R, 0);
    host.cmd(11, 0).unwrap_err();
    assert_eq!(host.card.illegal_commands(), 1);
    let mut host = Host::selected_low_voltage(SDXC);
    // CMD0 leaves the voltage as it is.
    host.set_bus(Bus { width: 1, ..host.bus });
    assert_eq!(host.make_ready(HCS | S18R | VDD_33) & S18R, 0);
    let mut host = Host::with(Profile::legacy(1, Capacity::new(SDSC).unwrap()));
    assert_eq!(host.make_ready(HCS | S18R | VDD_33), 0x80ff_8000);
}

#[test]
fn lines_are_low_from_cmd11_until_a_millisecond_after_the_clock() {
    let mut host = ready();
    host.short(11, 0);
    assert_eq!(host.card.lines(host.now).dat, 0);
    assert!(!host.card.lines(host.now).cmd);
    host.set_bus(Bus { clock: false, ..host.bus });
    host.set_bus(Bus { low_voltage: true, ..host.bus });
    host.now += ms(5);
    host.set_bus(Bus { clock: true, ..host.bus });
    assert_eq!(host.card.next_deadline(), Some(host.now + ms(1)));
    assert!(!host.card.lines(host.now).cmd);
    host.now += ms(1);
    assert_eq!(host.card.lines(host.now), sdmorph_pci::Lines::IDLE);
    assert_eq!(host.card.next_deadline(), None);
    assert!(host.cmd(2, 0).is_ok());
}

#[test]
fn failed_switch_answers_nothing_until_power_is_cut() {
    let mut host = ready();
    host.short(11, 0);
    // The clock goes on, and the host has given up.
    host.now += ms(100);
    for index in [2, 0, 13] {
        assert_eq!(host.cmd(index, 0), Err(CardError::Timeout));
    }
    assert!(!host.card.lines(host.now).cmd);
    assert_eq!(host.card.illegal_commands(), 0);
    host.card.power_cycle();
    assert!(host.card.lines(host.now).cmd);
    host.select();
}

#[test]
fn card_at_3v3_does_not_hear_a_host_at_1v8() {
    let mut host = Host::selected(SDXC);
    host.set_bus(Bus { low_voltage: true, ..host.bus });
    assert_eq!(host.cmd(13, host.rca), Err(CardError::Timeout));
    host.set_bus(Bus { low_voltage: false, ..host.bus });
    assert_eq!(host.errors(), 0);
}

#[test]
fn cmd19_sends_the_tuning_block_at_1v8_only() {
    let mut host = Host::selected_low_voltage(SDXC);
    for _ in 0..40 {
        host.r1(19, 0);
        assert_eq!(host.read(64, 1).unwrap(), TUNING_BLOCK);
    }
    Host::selected(SDXC).is_illegal(19, 0);
}

#[test]
fn new_mode_is_used_when_the_status_has_been_sent() {
    let mut host = Host::selected_low_voltage(SDXC);
    let status = host.switch(SET | 4);
    assert_eq!(status[16] & 0xf, 4);
    // DDR50 is on now.
    host.r1(17, 0);
    assert_eq!(host.read(512, 1), Err(DataError::Crc));
    host.set_bus(Bus { ddr: true, ..host.bus });
    host.r1(24, 0);
    host.write(512, pattern(1)).unwrap();
    host.r1(17, 0);
    assert_eq!(host.read(512, 1).unwrap(), pattern(1));
    let status = host.switch(SET | 3);
    assert_eq!(status[16] & 0xf, 3);
    host.set_bus(Bus { ddr: false, ..host.bus });
    host.r1(17, 0);
    assert!(host.read(512, 1).is_ok());
    assert_eq!(host.card.snapshot()["bus"]["mode"], "SDR104");
}

#[test]
fn status_that_is_not_fetched_switches_nothing() {
    let mut host = Host::selected(SDXC);
    host.r1(6, SET | 1);
    host.r1(12, 0);
    assert_eq!(host.card.snapshot()["bus"]["mode"], "default");
    host.switch(SET | 1);
    assert_eq!(host.card.snapshot()["bus"]["mode"], "high-speed");
    host.cmd(0, 0).unwrap();
    assert_eq!(host.card.snapshot()["bus"]["mode"], "default");
}

#[test]
fn power_cycle_goes_back_to_3v3_one_bit_and_default_speed() {
    let mut host = Host::selected_low_voltage(SDXC);
    host.switch(SET | 3);
    host.card.power_cycle();
    assert_eq!(host.state(), State::Idle);
    let bus = host.card.snapshot()["bus"].clone();
    assert_eq!(
        (&bus["signalling"], &bus["mode"], &bus["width"]),
        (&"3.3 V".into(), &"default".into(), &1.into())
    );
    host.set_bus(Bus { clock: true, ..Bus::INITIAL });
    assert_ne!(host.make_ready(HCS | S18R | VDD_33) & S18R, 0);
}
