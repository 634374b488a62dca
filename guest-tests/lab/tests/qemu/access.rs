//! Configuration space and BARs, in accesses of every size.

use vfio_user_server::spec::{Command, pci_region};

use crate::pci::{BAR0, Function, MASTER, MEMORY, WINDOW};
use crate::qemu::{Machine, Memory, Options};
use crate::relay::{From, Relay};
use crate::toy::{Asked, Served};

const DEVICE: Function = Function::DEVICE;
/// Memory-mapped configuration space, where the tests put it, and the host bridge's register for that (PCIEXBAR).
const ECAM: u64 = 0xb000_0000;
const HOST_BRIDGE: Function = Function { bus: 0, slot: 0 };
const PCIEXBAR: u8 = 0x60;

/// A machine whose device has BAR 0 at [`WINDOW`].
fn machine(options: &Options) -> Machine {
    let mut machine = Machine::start(options);
    DEVICE.place(&mut machine.qtest, 0, WINDOW);
    DEVICE.command(&mut machine.qtest, MEMORY | MASTER);
    machine
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn configuration_space_is_read_and_written_in_bytes_words_and_dwords() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    assert_eq!(DEVICE.read(qtest, 0x00, 4), 0x11ea_1234);
    assert_eq!(DEVICE.read(qtest, 0x02, 2), 0x11ea);
    assert_eq!([0, 1, 2, 3].map(|at| DEVICE.read(qtest, 0xc0 + at, 1)), [0x10, 0x32, 0x54, 0x76]);
    DEVICE.write(qtest, 0xc1, 1, 0xaa);
    DEVICE.write(qtest, 0xc2, 2, 0xbbcc);
    assert_eq!(DEVICE.read(qtest, 0xc0, 4), 0xbbcc_aa10);
    DEVICE.write(qtest, 0xc0, 4, 0x0102_0304);
    assert_eq!(served.state.lock().unwrap().config[0xc0..0xc4], [4, 3, 2, 1]);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn extended_configuration_space_is_reached_through_memory() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    HOST_BRIDGE.write(qtest, PCIEXBAR, 4, u32::try_from(ECAM).unwrap() | 1);
    let function = ECAM + (u64::from(DEVICE.slot) << 15);
    assert_eq!(qtest.read(function + 0xf00, 4), 0xfedc_ba98);
    qtest.write(function + 0xf01, 1, 0x11);
    assert_eq!(qtest.read(function + 0xf00, 2), 0x1198);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn bar_has_the_size_that_the_server_says_and_is_there_only_with_memory_space_on() {
    let served = Served::new();
    let mut machine = machine(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    qtest.write(WINDOW, 4, 0x1234);
    assert_eq!(qtest.read(WINDOW, 4), 0x1234);
    DEVICE.command(qtest, MASTER);
    served.asked();
    qtest.read(WINDOW, 4);
    qtest.write(WINDOW, 4, 0x5678);
    DEVICE.write(qtest, BAR0, 4, u32::MAX);
    assert_eq!(DEVICE.read(qtest, BAR0, 4), 0xffff_f000);
    let of_bar = |asked: &Asked| matches!(asked, Asked::Read(0, ..) | Asked::Write(0, ..));
    assert!(!served.asked().iter().any(of_bar));
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn accesses_of_every_size_reach_the_bar_as_they_are() {
    let served = Served::new();
    let mut machine = machine(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    served.asked();
    for (at, bytes) in [(0x101, 1), (0x102, 2), (0x104, 4), (0x108, 8)] {
        let value = 0x8877_6655_4433_2211 & (u64::MAX >> (64 - 8 * bytes));
        qtest.write(WINDOW + at, bytes, value);
        assert_eq!(qtest.read(WINDOW + at, bytes), value, "{bytes} bytes");
        let written = value.to_le_bytes()[..bytes].to_vec();
        let bar = pci_region::BAR0;
        assert_eq!(served.asked(), [Asked::Write(bar, at, written), Asked::Read(bar, at, bytes)]);
    }
    assert_eq!(qtest.read(WINDOW + 0x100, 8), 0x4433_2211_2211_1100);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn writes_that_cross_a_dword_arrive_with_every_byte() {
    let served = Served::new();
    let mut machine = machine(&Options::new(Memory::Shared, &served.socket()));
    machine.qtest.write(WINDOW + 0x203, 4, 0x4433_2211);
    assert_eq!(machine.qtest.read(WINDOW + 0x200, 8), 0x0044_3322_1100_0000);
    assert_eq!(served.state.lock().unwrap().page[0x203..0x207], [0x11, 0x22, 0x33, 0x44]);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn read_sees_every_posted_write_before_it() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = machine(&Options::new(Memory::Shared, relay.socket()));
    let before = relay.seen(From::Qemu, Command::RegionWrite).len();
    let writes: Vec<_> = (0..1000).map(|number| (WINDOW + 0x300, number)).collect();
    assert_eq!(machine.qtest.write_many_and_read(&writes, WINDOW + 0x300), 999);
    let sent = relay.seen(From::Qemu, Command::RegionWrite).split_off(before);
    assert_eq!(sent.len(), 1000);
    assert!(sent.iter().all(|seen| seen.header.no_reply()), "QEMU posts writes to a BAR");
    let bytes: Vec<_> = (0..1000u32).map(|number| number.to_le_bytes()).collect();
    assert!(sent.iter().zip(&bytes).all(|(seen, value)| seen.body.ends_with(value)), "in another order");
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn writes_that_are_not_posted_are_answered_each() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut options = Options::new(Memory::Shared, relay.socket());
    options.properties.insert("x-no-posted-writes".to_owned(), true.into());
    let mut machine = machine(&options);
    machine.qtest.write(WINDOW + 0x300, 4, 0x1234);
    assert_eq!(
        served.state.lock().unwrap().page[0x300..0x304],
        [0x34, 0x12, 0, 0],
        "written when it is answered"
    );
    assert!(relay.seen(From::Qemu, Command::RegionWrite).iter().all(|seen| !seen.header.no_reply()));
}

/// QEMU puts writes together only when more than a thousand messages wait for a server that takes none.
#[test]
#[ignore = "needs QEMU; make test runs them"]
fn writes_that_a_slow_server_makes_qemu_put_together_arrive_all_of_them_and_in_order() {
    let served = Served::new();
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = machine(&Options::new(Memory::Shared, relay.socket()));
    served.asked();
    let slow = served.state.lock().unwrap();
    for number in 0..8000 {
        machine.qtest.write(WINDOW + 0x300 + number % 2 * 8, 4, number);
    }
    drop(slow);
    assert_eq!(machine.qtest.read(WINDOW + 0x300, 4), 7998);
    assert_eq!(machine.qtest.read(WINDOW + 0x308, 4), 7999);
    assert!(!relay.seen(From::Qemu, Command::RegionWriteMulti).is_empty());
    let written = served.asked().into_iter().filter_map(|asked| match asked {
        Asked::Write(0, _, data) => Some(u32::from_le_bytes(data.try_into().unwrap())),
        _ => None,
    });
    assert!(written.eq(0..8000));
}
