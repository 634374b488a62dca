//! MSI-X. A message is a write to memory: without a guest its address can be in RAM, where the test finds it.

use std::time::Instant;

use vfio_user_server::interrupts::Delivery;
use vfio_user_server::spec::{Command, IRQ_SET_ACTION_TRIGGER, IRQ_SET_DATA_EVENTFD, pci_irq};

use crate::pci::{Function, MASTER, MEMORY, WINDOW};
use crate::qemu::{HANG, Machine, Memory, Options};
use crate::qtest::Qtest;
use crate::relay::{From, Relay};
use crate::toy::{MSIX, PBA, Served, VECTORS};

const DEVICE: Function = Function::DEVICE;
/// Where the messages go, 4 bytes each.
const MESSAGES: u64 = 0x20_0000;
/// MSI-X message control: enable, and mask of the whole function.
const ENABLE: u32 = 1 << 15;
const MASK_ALL: u32 = 1 << 14;

fn data(vector: u32) -> u32 {
    0xc0de_0000 | vector
}

/// Places BAR 1, and fills the table: one message a vector, none of them masked.
fn fill_table(qtest: &mut Qtest) {
    DEVICE.place(qtest, 1, WINDOW);
    DEVICE.command(qtest, MEMORY | MASTER);
    for vector in 0..VECTORS {
        let entry = WINDOW + 16 * u64::from(vector);
        let address = u32::try_from(MESSAGES).unwrap() + 4 * vector;
        for (at, value) in [(0, address), (4, 0), (8, data(vector)), (12, 0)] {
            qtest.write(entry + at, 4, value.into());
        }
    }
}

fn set_masked(qtest: &mut Qtest, vector: u32, masked: bool) {
    qtest.write(WINDOW + 16 * u64::from(vector) + 12, 4, masked.into());
}

fn control(qtest: &mut Qtest, bits: u32) {
    DEVICE.write(qtest, MSIX + 2, 2, bits);
}

/// Waits until the message of `vector` is there, and takes it away.
fn take_message(qtest: &mut Qtest, vector: u32) -> u32 {
    let (at, began) = (MESSAGES + 4 * u64::from(vector), Instant::now());
    loop {
        let value = u32::try_from(qtest.read(at, 4)).unwrap();
        if value != 0 {
            qtest.write(at, 4, 0);
            return value;
        }
        assert!(began.elapsed() < HANG, "no message of vector {vector}");
    }
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn every_vector_arrives_as_its_own_message() {
    for memory in [Memory::Shared, Memory::Private] {
        let served = Served::new();
        let mut machine = Machine::start(&Options::new(memory, &served.socket()));
        fill_table(&mut machine.qtest);
        control(&mut machine.qtest, ENABLE);
        for vector in (0..VECTORS).rev() {
            assert_eq!(served.interrupts.trigger(pci_irq::MSIX, vector), Delivery::Sent);
            assert_eq!(take_message(&mut machine.qtest, vector), data(vector));
        }
        assert!(machine.qtest.memory(MESSAGES, 4 * VECTORS as usize).iter().all(|byte| *byte == 0));
    }
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn interrupts_before_msix_is_enabled_are_pending_and_come_when_it_is() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    fill_table(&mut machine.qtest);
    assert_eq!(served.interrupts.trigger(pci_irq::MSIX, 3), Delivery::Pending);
    assert_eq!(machine.qtest.read(WINDOW + PBA, 4), 1 << 3, "the PBA is the server's");
    control(&mut machine.qtest, ENABLE);
    assert_eq!(take_message(&mut machine.qtest, 3), data(3));
    assert_eq!(machine.qtest.read(WINDOW + PBA, 4), 0);
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn masked_vector_is_delivered_when_it_is_unmasked() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    fill_table(qtest);
    control(qtest, ENABLE);
    set_masked(qtest, 5, true);
    served.interrupts.trigger(pci_irq::MSIX, 5);
    served.interrupts.trigger(pci_irq::MSIX, 6);
    assert_eq!(take_message(qtest, 6), data(6));
    assert_eq!(qtest.read(MESSAGES + 4 * 5, 4), 0);
    set_masked(qtest, 5, false);
    assert_eq!(take_message(qtest, 5), data(5));
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn disabled_msix_holds_interrupts_back_until_it_is_enabled_again() {
    let served = Served::new();
    let mut machine = Machine::start(&Options::new(Memory::Shared, &served.socket()));
    let qtest = &mut machine.qtest;
    fill_table(qtest);
    control(qtest, ENABLE);
    served.interrupts.trigger(pci_irq::MSIX, 0);
    assert_eq!(take_message(qtest, 0), data(0));
    control(qtest, 0);
    assert_eq!(served.interrupts.trigger(pci_irq::MSIX, 0), Delivery::Pending);
    control(qtest, ENABLE);
    assert_eq!(take_message(qtest, 0), data(0));
    assert_eq!(served.interrupts.is_pending(pci_irq::MSIX, 0), Some(false));
}

/// One SET_IRQS for eventfds: first vector, vectors, descriptors.
type Routing = (u32, u32, usize);

/// The messages by which 16 vectors are routed.
fn routing(most_fds: u32, enable: impl Fn(&mut Qtest)) -> Vec<Routing> {
    let served = Served::with_msg_fds(most_fds);
    let relay = Relay::new(served.dir(), &served.socket());
    let mut machine = Machine::start(&Options::new(Memory::Shared, relay.socket()));
    fill_table(&mut machine.qtest);
    enable(&mut machine.qtest);
    let field = |body: &[u8], at: usize| u32::from_ne_bytes(body[at..at + 4].try_into().unwrap());
    let all = relay.seen(From::Qemu, Command::DeviceSetIrqs);
    assert!(all.iter().all(|seen| field(&seen.body, 8) == pci_irq::MSIX));
    assert!(all.iter().all(|seen| field(&seen.body, 4) == IRQ_SET_DATA_EVENTFD | IRQ_SET_ACTION_TRIGGER));
    all.iter().map(|seen| (field(&seen.body, 12), field(&seen.body, 16), seen.fds)).collect()
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn sixteen_vectors_that_are_unmasked_before_take_two_messages_with_16_descriptors_each_and_17_with_one() {
    let enable = |qtest: &mut Qtest| control(qtest, ENABLE);
    // Vector 0 without a descriptor comes first: QEMU enables MSI-X before it knows which vectors are in use.
    assert_eq!(routing(16, enable), [(0, 1, 0), (0, 16, 16)]);
    let one_by_one: Vec<Routing> = (0..VECTORS).map(|vector| (vector, 1, 1)).collect();
    assert_eq!(routing(1, enable), [&[(0, 1, 0)][..], &one_by_one].concat());
}

#[test]
#[ignore = "needs QEMU; make test runs them"]
fn vectors_that_are_unmasked_after_as_linux_does_take_a_message_each() {
    let enable = |qtest: &mut Qtest| {
        control(qtest, ENABLE | MASK_ALL);
        control(qtest, ENABLE);
    };
    let one_by_one: Vec<Routing> = (0..VECTORS).map(|vector| (vector, 1, 1)).collect();
    assert_eq!(routing(16, enable), [&[(0, 1, 0)][..], &one_by_one].concat());
}
