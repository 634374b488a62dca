//! MSI: a message on each rising edge of "wanted, enabled, and allowed to master the bus".

use sdmorph_pci::config::{command, offset};
use sdmorph_pci::{Message, PciFunction, ResetKind};

use crate::toy::{CHILD, Domain};

const MSI: u16 = 0x50;

fn domain() -> Domain {
    let mut domain = Domain::programmed();
    domain.write(CHILD, MSI + 4, 4, 0xfee0_0000);
    domain.write(CHILD, MSI + 8, 4, 1);
    domain.write(CHILD, MSI + 0xc, 2, 0x77);
    domain
}

fn enable(domain: &mut Domain, on: bool) {
    domain.write(CHILD, MSI + 2, 2, u32::from(on));
}

fn set_level(domain: &mut Domain, level: bool) {
    domain.with_toy(|toy, ctx| toy.set_interrupt(ctx, level));
}

fn master(domain: &mut Domain, on: bool) {
    let bits = if on { command::MEMORY | command::MASTER } else { command::MEMORY };
    domain.write(CHILD, offset::COMMAND, 2, u32::from(bits));
}

#[test]
fn message_carries_the_programmed_address_and_data() {
    let mut domain = domain();
    enable(&mut domain, true);
    set_level(&mut domain, true);
    assert_eq!(domain.messages(), [Message { vector: 0, address: 0x1_fee0_0000, data: 0x77 }]);
}

#[test]
fn message_is_sent_once_for_each_rising_edge() {
    let mut domain = domain();
    enable(&mut domain, true);
    set_level(&mut domain, true);
    set_level(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
    set_level(&mut domain, false);
    assert!(domain.messages().is_empty());
    set_level(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
}

#[test]
fn condition_that_came_up_while_disabled_is_sent_when_enabled() {
    let mut domain = domain();
    set_level(&mut domain, true);
    assert!(domain.messages().is_empty());
    enable(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
}

#[test]
fn condition_that_went_away_while_disabled_is_not_sent() {
    let mut domain = domain();
    set_level(&mut domain, true);
    set_level(&mut domain, false);
    enable(&mut domain, true);
    assert!(domain.messages().is_empty());
}

#[test]
fn condition_that_came_up_without_bus_mastering_is_sent_once_it_is_on() {
    let mut domain = domain();
    enable(&mut domain, true);
    master(&mut domain, false);
    set_level(&mut domain, true);
    assert!(domain.messages().is_empty());
    master(&mut domain, true);
    assert_eq!(domain.messages().len(), 1);
    master(&mut domain, false);
    master(&mut domain, true);
    assert!(domain.messages().is_empty(), "the same edge is not sent twice");
}

#[test]
fn port_without_bus_mastering_lets_no_message_of_the_function_up() {
    let mut domain = domain();
    enable(&mut domain, true);
    domain.port_write(offset::COMMAND, 2, u32::from(command::MEMORY));
    set_level(&mut domain, true);
    assert!(domain.messages().is_empty());
}

#[test]
fn reset_turns_the_message_off_and_forgets_the_condition() {
    let mut domain = domain();
    set_level(&mut domain, true);
    domain.with_port(|port, ctx| port.reset(ctx, ResetKind::Cold));
    assert_eq!(domain.toy().config.read(MSI + 2, 2), 0x80, "64-bit capable, off");
    domain.port_write(offset::PRIMARY_BUS, 4, 0x0001_0100);
    domain.port_write(offset::COMMAND, 2, u32::from(command::MASTER));
    master(&mut domain, true);
    enable(&mut domain, true);
    assert!(domain.messages().is_empty());
}

mod several {
    //! A function with more than one message.

    use sdmorph_pci::capability::{self, Link, Msi};
    use sdmorph_pci::{ConfigSpace, Ctx, World};
    use sdmorph_testkit::Bench;

    use crate::toy::IDENTITY;

    const AT: u16 = 0x50;

    struct Several {
        bench: Bench,
        config: ConfigSpace,
        msi: Msi,
    }

    impl Several {
        /// 16 messages, of which the guest allows 2^`allowed`.
        fn new(allowed: u32) -> Self {
            let mut config = ConfigSpace::endpoint(IDENTITY, &[]);
            let msi = Msi::add_messages(&mut config, AT, 4);
            assert_eq!(config.read(AT + 2, 2), 0x0088, "Multiple Message Capable, 64-bit address");
            config.write(AT + 4, 4, 0xfee0_0000);
            config.write(AT + 0xc, 2, 0x5f);
            config.write(AT + 2, 2, 1 | allowed << 4);
            Self { bench: Bench::default(), config, msi }
        }

        fn set_level(&mut self, message: u16, level: bool) -> Vec<(u16, u32)> {
            let Self { bench, config, msi } = self;
            let world = World {
                memory: &bench.memory,
                irq: &mut bench.interrupts,
                clock: &bench.clock,
                observer: &mut bench.log,
            };
            msi.set_level_of(config, &mut Ctx::new(world, "toy", true), message, level);
            bench.interrupts.take_new().iter().map(|message| (message.vector, message.data)).collect()
        }
    }

    #[test]
    fn each_message_has_its_own_edge_and_its_number_in_the_data() {
        let mut several = Several::new(4);
        assert_eq!(several.msi.messages(&several.config), 16);
        assert_eq!(several.set_level(3, true), [(3, 0x53)]);
        assert_eq!(several.set_level(9, true), [(9, 0x59)]);
        assert_eq!(several.set_level(3, true), []);
        assert_eq!(several.set_level(3, false), []);
        assert_eq!(several.set_level(3, true), [(3, 0x53)]);
    }

    #[test]
    fn messages_that_the_guest_has_no_room_for_go_out_as_others() {
        let mut several = Several::new(1);
        assert_eq!(several.set_level(3, true), [(1, 0x5f)]);
        assert_eq!(several.set_level(2, true), [(0, 0x5e)]);
        let mut several = Several::new(0);
        assert_eq!(several.set_level(7, true), [(0, 0x5f)]);
        // More than there are.
        assert_eq!(Several::new(5).set_level(15, true), [(15, 0x5f)]);
    }

    #[test]
    fn function_level_reset_is_a_capability_and_a_bit_that_can_be_asked_for() {
        let mut config = ConfigSpace::endpoint(IDENTITY, &[]);
        capability::express_endpoint(&mut config, 0x70, Link { speed: 1, width: 1 });
        config.write(0x78, 2, 0xffff);
        assert!(!capability::function_level_reset_asked(&config, 0x70), "not without the capability");
        capability::function_level_reset(&mut config, 0x70);
        assert_eq!(config.read(0x74, 4) >> 28 & 1, 1);
        assert!(!capability::function_level_reset_asked(&config, 0x70));
        config.write(0x78, 2, 0x8000);
        assert!(capability::function_level_reset_asked(&config, 0x70));
        config.reset(sdmorph_pci::ResetKind::Function);
        assert!(!capability::function_level_reset_asked(&config, 0x70));
    }
}
