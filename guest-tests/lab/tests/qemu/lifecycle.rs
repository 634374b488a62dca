//! QEMUs come and go, by every way there is, and leave nothing behind in the server.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::machine::{bring_up, start_list};
use crate::pci::{Function, MASTER, MEMORY, WINDOW};
use crate::qemu::{Machine, Memory, Options, Starting};
use crate::sdmorph::Sdmorph;
use crate::toy::Served;

const DEVICE: Function = Function::DEVICE;
/// What the device is: Intel's VMD.
const IDENTITY: u32 = 0xa77f_8086;

/// Pseudo-random numbers (xorshift): a run that fails can be had again.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("SDMORPH_SEED").ok().map(|seed| seed.parse().unwrap());
        let time = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = seed.unwrap_or_else(|| time().as_nanos() as u64 | 1);
        println!("SDMORPH_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Attaches a QEMU, sees that the device works, and has it leave.
fn visit(server: &Sdmorph, memory: Memory) {
    let mut machine = Machine::start(&Options::new(memory, &server.socket()));
    assert_eq!(DEVICE.read(&mut machine.qtest, 0, 4), IDENTITY);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn qemus_that_are_killed_at_any_moment_leave_nothing_behind() {
    let mut random = Random::new();
    let server = Sdmorph::new();
    let before = server.holdings();
    let began = Instant::now();
    visit(&server, Memory::Shared);
    let start_us = u64::try_from(began.elapsed().as_micros()).unwrap();
    for number in 0..30 {
        let memory = if random.below(2) == 0 { Memory::Shared } else { Memory::Private };
        let options = Options::new(memory, &server.socket());
        if number % 2 == 0 {
            // Anywhere in its start, or just behind it.
            let mut starting = Starting::new(&options);
            std::thread::sleep(Duration::from_micros(random.below(start_us * 5 / 4)));
            starting.child.kill().unwrap();
            starting.child.wait().unwrap();
        } else {
            // With accesses and DMA under way.
            let mut machine = Machine::start(&options);
            bring_up(&mut machine.qtest);
            start_list(&mut machine.qtest);
            machine.qtest.send_many(WINDOW, 500);
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
        }
        visit(&server, memory);
    }
    server.wait_for_holdings(&before);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn second_qemu_is_refused_at_once_and_the_first_goes_on() {
    let server = Sdmorph::new();
    let options = Options::new(Memory::Shared, &server.socket());
    let mut first = Machine::start(&options);
    for _ in 0..4 {
        let stderr = Machine::try_start(&options).err().expect("the second one is refused");
        let reasons = ["version reply: Device or resource busy", "Unable to write to socket: Broken pipe"];
        assert!(reasons.iter().any(|reason| stderr.contains(reason)), "{stderr}");
        assert_eq!(DEVICE.read(&mut first.qtest, 0, 4), IDENTITY);
    }
    server.wait_for_log("turned a client away", 3);
    drop(first);
    visit(&server, Memory::Shared);
}

/// QEMU 11.1.3 aborts if a connection ends with ECONNRESET, as one does that is closed with bytes unread.
#[test]
#[ignore = "needs QEMU; make test runs them"]
fn qemu_survives_a_server_that_stops_with_writes_unread() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    DEVICE.place(&mut machine.qtest, 0, WINDOW);
    DEVICE.command(&mut machine.qtest, MEMORY | MASTER);
    let state = served.state.clone();
    let slow = state.lock().unwrap();
    (0..100).for_each(|number| machine.qtest.write(WINDOW, 4, number));
    served.stop();
    drop(slow);
    drop(served);
    assert_eq!(machine.qtest.read(WINDOW, 4), 0xffff_ffff);
    assert!(machine.runs());
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn reboot_of_the_machine_resets_the_device_and_leaves_nothing_behind() {
    let mut server = Sdmorph::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &server.socket()));
    let fresh = server.status();
    let before = server.holdings();
    for _ in 0..3 {
        DEVICE.place(&mut machine.qtest, 0, WINDOW);
        DEVICE.command(&mut machine.qtest, MEMORY | MASTER);
        machine.execute("system_reset", json!({}));
        machine.wait_for_event("RESET");
        assert_eq!(DEVICE.read(&mut machine.qtest, 0x04, 2) & (MEMORY | MASTER), 0);
        assert_eq!(DEVICE.read(&mut machine.qtest, 0x10, 4), 0);
    }
    server.wait_for_holdings(&before);
    let after = server.status();
    assert_eq!(after["vmd"], fresh["vmd"]);
    assert_eq!(after["phase"], fresh["phase"]);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn server_that_is_terminated_ends_in_good_order_and_qemu_lives_on() {
    let mut server = Sdmorph::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &server.socket()));
    DEVICE.place(&mut machine.qtest, 0, WINDOW);
    DEVICE.command(&mut machine.qtest, MEMORY | MASTER);
    assert!(server.terminate().success());
    assert_eq!(machine.qtest.read(WINDOW, 4), 0xffff_ffff);
    machine.qtest.write(WINDOW, 4, 0);
    assert_eq!(DEVICE.read(&mut machine.qtest, 0, 4), 0xffff_ffff);
    assert!(machine.runs());
}
