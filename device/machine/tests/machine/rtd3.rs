//! RTD3 through VMD and the port: registers that are off, PME at the port, and what the status tells.

use sdmorph_machine::{CardKind, Model, Settings, SettingsError, Setup};
use serde_json::{Value, json};

use crate::guest::{Lab, PORT, READER};

const RTCTL: u64 = PORT | 0x8c;
const RTSTA: u64 = PORT | 0x90;
const PMEIE: u64 = 1 << 3;
const PMCSR: u64 = READER | 0x84;
/// VMD's window at the reader's BAR.
const BIPR: u64 = 0x14;
const PME_STATUS: u64 = 1 << 15;

fn setup() -> Setup {
    Setup::new(Model::DEFAULT, Some(Settings { rtd3: true, ..Settings::default() })).unwrap()
}

/// The driver has bound, and put the reader to sleep.
fn asleep() -> Lab {
    let mut lab = Lab::bound_to(setup());
    lab.guest.write(0, RTCTL, 2, PMEIE);
    lab.driver.runtime_suspend(&mut lab.bench, &mut lab.guest).unwrap();
    lab
}

fn power_state(lab: &Lab) -> Value {
    lab.guest.machine.status()["vmd"]["port"]["slot"]["function"]["power-state"].clone()
}

fn events(lab: &Lab) -> Vec<String> {
    let events = lab.guest.notices().into_iter().map(|(_, name)| name);
    events.skip_while(|name| name != "d3hot-entered").collect()
}

#[test]
fn sleeping_reader_answers_in_configuration_space_only() {
    let mut lab = asleep();
    assert_eq!(power_state(&lab), "D3hot");
    let before = lab.guest.machine.counters().clone();
    assert_eq!(lab.guest.read(2, BIPR, 4), 0xffff_ffff);
    lab.guest.write(2, BIPR, 4, 0);
    let after = lab.guest.machine.counters();
    assert_eq!((after.dead_reads - before.dead_reads, after.dead_writes - before.dead_writes), (1, 1));
    assert_eq!(lab.guest.read(0, READER, 4), 0x5261_10ec);
}

#[test]
fn card_wakes_the_guest_through_the_port_and_is_there_when_the_reader_is_back() {
    let mut lab = asleep();
    let messages = lab.guest.port_messages;
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, CardKind::SdExpress).unwrap();
    lab.guest.collect();
    assert_eq!(lab.guest.port_messages, messages + 1);
    assert_eq!(lab.guest.read(0, RTSTA, 4), 0x0001_0100, "bus 1, device 0");

    // pcie_pme_irq and its work.
    lab.guest.write(0, RTCTL, 2, 0);
    lab.guest.write(0, RTSTA, 4, 0x0001_0000);
    let pmcsr = lab.guest.read(0, PMCSR, 2);
    assert_eq!(pmcsr & PME_STATUS, PME_STATUS);
    lab.guest.write(0, PMCSR, 2, PME_STATUS | pmcsr & 3);
    lab.guest.write(0, RTCTL, 2, PMEIE);
    lab.driver.runtime_resume(&mut lab.bench, &mut lab.guest).unwrap();

    assert_eq!(power_state(&lab), "D0");
    assert_eq!(events(&lab), ["d3hot-entered", "card-inserted", "pme-received", "d0-entered"]);
    // The driver has taken the card's interrupt beside those of its command lists.
    assert!(lab.driver.card_inserted);
    assert_eq!(lab.guest.port_messages, messages + 1);
    assert_eq!(lab.rescan(), Ok(true));
    assert_eq!(lab.guest.machine.counters().unmodelled, 0);
}

/// Clients of the control socket are told of the card and the PME, and not of the D-state.
#[test]
fn nobody_is_told_that_the_reader_sleeps() {
    let mut lab = Lab::bound_to(setup());
    let told = |lab: &Lab| lab.guest.machine.notices();
    let before = told(&lab);
    lab.driver.runtime_suspend(&mut lab.bench, &mut lab.guest).unwrap();
    lab.driver.runtime_resume(&mut lab.bench, &mut lab.guest).unwrap();
    assert_eq!(told(&lab), before);
    lab.driver.runtime_suspend(&mut lab.bench, &mut lab.guest).unwrap();
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, CardKind::Sd).unwrap();
    assert_eq!(told(&lab), before + 2);
}

#[test]
fn power_cycle_ends_the_sleep_and_forgets_the_pme() {
    let mut lab = asleep();
    let now = lab.guest.now();
    lab.guest.machine.card_insert(now, CardKind::Sd).unwrap();
    lab.guest.machine.power_cycle(now);
    assert_eq!(power_state(&lab), "D0");
    lab.guest.boot();
    assert_eq!(lab.guest.read(0, RTSTA, 4), 0);
    assert_eq!(lab.guest.read(0, PMCSR, 2) & PME_STATUS, 0);
    // Settings are the board's: they stay. (As the PCI core does with every function that it finds.)
    lab.bench.config_write(&mut lab.guest, 0x84, 2, 0);
    lab.probe().unwrap();
    assert!(lab.driver.rtd3);
}

#[test]
fn status_tells_the_settings_and_a_setup_that_cannot_be_is_refused() {
    let status = |lab: &Lab| lab.guest.machine.status()["vendor-settings"].clone();
    assert_eq!(status(&Lab::bound()), Value::Null);
    assert_eq!(
        status(&Lab::bound_to(setup())),
        json!({
            "rtd3": true, "mmc": false, "reverse-socket": false, "aspm": "off", "drive-1v8": 0, "drive-3v3": 0,
        })
    );
    let rts5260 = Model::by_name("rts5260").unwrap();
    let error = Setup::new(rts5260, Some(Settings { rtd3: true, ..Settings::default() })).unwrap_err();
    assert_eq!(error, SettingsError::Lacks { chip: "rts5260", setting: "rtd3" });
    assert!(Setup::new(rts5260, Some(Settings::default())).is_ok());
}
