//! The device is plugged and unplugged while QEMU runs.

use std::path::Path;

use sdmorph_control::ClientError;
use serde_json::json;
use vfio_user_server::Ended;

use crate::pci::Function;
use crate::qemu::{Machine, Memory, Options, device};
use crate::sdmorph::Sdmorph;
use crate::toy::Served;

/// The function in the slot.
const PLUGGED: Function = Function { bus: 1, slot: 0 };

/// A root port, and what a guest's hot-plug driver does to it.
struct Slot {
    port: Function,
    control: u8,
}

impl Slot {
    const ARGUMENTS: [&'static str; 4] = [
        "-global",
        "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "-device",
        "pcie-root-port,id=root_port,bus=pcie.0,addr=0x1c,chassis=1",
    ];

    fn new(machine: &mut Machine) -> Self {
        let port = Function { bus: 0, slot: 0x1c };
        port.write(&mut machine.qtest, 0x18, 4, 0x0001_0100);
        let mut capability = u8::try_from(port.read(&mut machine.qtest, 0x34, 1)).unwrap();
        while port.read(&mut machine.qtest, capability, 1) != 0x10 {
            capability = u8::try_from(port.read(&mut machine.qtest, capability + 1, 1)).unwrap();
            assert_ne!(capability, 0);
        }
        Self { port, control: capability + 0x18 }
    }

    /// Turns the slot's power, and its indicator, on or off.
    fn power(&self, machine: &mut Machine, on: bool) {
        self.port.write(&mut machine.qtest, self.control, 2, if on { 0x0100 } else { 0x0700 });
    }

    /// Turns them off, and does not wait for that to be done.
    fn post_power_off(&self, machine: &mut Machine) {
        self.port.post(&mut machine.qtest, self.control, 2, 0x0700);
    }
}

/// A machine with an empty slot.
fn machine(memory: Memory) -> (Machine, Slot) {
    let mut options = Options::new(memory, Path::new(""));
    options.devices.clear();
    options.more = Slot::ARGUMENTS.map(str::to_owned).to_vec();
    let mut machine = Machine::start(&options);
    let slot = Slot::new(&mut machine);
    (machine, slot)
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn device_that_is_unplugged_and_plugged_again_is_a_client_that_left_and_a_new_one() {
    for memory in [Memory::Shared, Memory::Private] {
        let served = Served::without_msix();
        let (mut machine, slot) = machine(memory);
        for _ in 0..5 {
            machine.execute("device_add", device(&served.socket(), "card", "root_port", 0).into());
            slot.power(&mut machine, true);
            assert_eq!(PLUGGED.read(&mut machine.qtest, 0, 4), 0x11ea_1234);
            assert_ne!(served.memory.ranges(), 0);
            machine.execute("device_del", json!({ "id": "card" }));
            slot.power(&mut machine, false);
            machine.wait_for_event("DEVICE_DELETED");
            let visit = served.next_visit();
            assert_eq!((visit.ended, visit.counters.refused), (Ended::ClientLeft, 0));
            assert_eq!(served.memory.ranges(), 0);
            assert_eq!(PLUGGED.read(&mut machine.qtest, 0, 4), 0xffff_ffff);
        }
    }
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn device_add_of_a_socket_that_is_in_use_fails_and_the_machine_goes_on() {
    let served = Served::without_msix();
    let mut first = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    let (mut machine, slot) = machine(Memory::Shared);
    for _ in 0..5 {
        let refused = machine.qmp.execute("device_add", device(&served.socket(), "card", "root_port", 0));
        let Err(ClientError::Command(why)) = refused else { panic!("{refused:?}") };
        // Which of the two: whether its VERSION was there before the server closed the connection.
        let reasons = ["version reply: Device or resource busy", "Unable to write to socket: Broken pipe"];
        assert!(reasons.iter().any(|reason| why.desc.ends_with(reason)), "{why}");
        assert_eq!(PLUGGED.read(&mut machine.qtest, 0, 4), 0xffff_ffff);
    }
    assert_eq!(Function::DEVICE.read(&mut first.qtest, 0, 4), 0x11ea_1234);
    drop(first);
    assert_eq!(served.next_visit().turned_away, 5);
    machine.execute("device_add", device(&served.socket(), "card", "root_port", 0).into());
    slot.power(&mut machine, true);
    assert_eq!(PLUGGED.read(&mut machine.qtest, 0, 4), 0x11ea_1234);
}

/// QEMU 11.1.3 does not survive that: it takes the PBA's memory region out of a BAR that let go of it before
/// (`vfio_user_msix_teardown`, called by the finalizer after the object's children are gone), and aborts.
#[test]
#[ignore = "needs QEMU; make test runs them"]
fn device_with_msix_that_is_unplugged_leaves_nothing_behind_whatever_becomes_of_qemu() {
    let server = Sdmorph::new();
    let before = server.holdings();
    for _ in 0..3 {
        let (mut machine, slot) = machine(Memory::Shared);
        machine.execute("device_add", device(&server.socket(), "card", "root_port", 0).into());
        slot.power(&mut machine, true);
        assert_eq!(PLUGGED.read(&mut machine.qtest, 0, 4), 0xa77f_8086);
        assert!(server.holdings().maps_guest_memory());
        machine.execute("device_del", json!({ "id": "card" }));
        slot.post_power_off(&mut machine);
        server.wait_for_holdings(&before);
    }
}
