//! A function with nothing to it, and a root bus with a port that holds one.

use sdmorph_pci::capability::{self, EXP, Link, Msi};
use sdmorph_pci::config::{Bar, Identity, command, offset};
use sdmorph_pci::port::{Equipment, PortProfile, RootPort};
use sdmorph_pci::topology::{RootBus, RoutedId};
use sdmorph_pci::{ConfigSpace, Ctx, DmaError, Message, PciFunction, ResetKind, Space};
use sdmorph_testkit::Bench;
use serde_json::Value;

pub(crate) const IDENTITY: Identity =
    Identity { vendor: 0x1234, device: 0x5678, class: 0x02_00_00, revision: 3, subsystem: (0x1111, 0x2222) };
/// Bytes of BAR0, 32-bit.
pub(crate) const BAR0_BYTES: u64 = 0x1000;
/// Bytes of BAR2 and BAR3, 64-bit.
pub(crate) const BAR2_BYTES: u64 = 0x4_0000;
/// BAR0 offset: reads and writes of the one data register.
pub(crate) const DATA: u64 = 0x10;

/// An endpoint's configuration space with every capability there is.
pub(crate) fn full_config() -> (ConfigSpace, Msi) {
    let bars =
        [(0, Bar { size: BAR0_BYTES, is_64bit: false }), (2, Bar { size: BAR2_BYTES, is_64bit: true })];
    let mut config = ConfigSpace::endpoint(IDENTITY, &bars);
    capability::power_management(&mut config, 0x40);
    let msi = Msi::add(&mut config, 0x50);
    capability::express_endpoint(&mut config, 0x70, Link { speed: 3, width: 4 });
    capability::aer(&mut config, 0x100);
    capability::ltr(&mut config, 0x150);
    capability::l1_substates(&mut config, 0x160);
    capability::device_serial_number(&mut config, 0x180, 0x0123_4567_89ab_cdef);
    (config, msi)
}

/// One data register, one interrupt, and a count of what was done to it.
#[derive(Debug)]
pub(crate) struct Toy {
    pub(crate) config: ConfigSpace,
    msi: Msi,
    pub(crate) data: u64,
    pub(crate) resets: Vec<ResetKind>,
    pub(crate) wakes: usize,
}

impl Toy {
    pub(crate) fn new() -> Self {
        let (config, msi) = full_config();
        Self { config, msi, data: 0, resets: Vec::new(), wakes: 0 }
    }

    /// Wants an interrupt, or no longer does.
    pub(crate) fn set_interrupt(&mut self, ctx: &mut Ctx<'_>, level: bool) {
        self.msi.set_active(&self.config, ctx, u32::from(level));
    }
}

impl PciFunction for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, _offset: u16, _size: u8, _before: u32) {
        self.msi.config_written(&self.config, ctx);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        (bar == 0 && offset == DATA).then_some("DATA")
    }

    fn bar_read(&mut self, _ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
        let value = if bar == 0 && offset == DATA { self.data } else { u64::from(bar) << 32 | offset };
        value & sdmorph_pci::mask_of_size(size)
    }

    fn bar_write(&mut self, _ctx: &mut Ctx<'_>, bar: u8, offset: u64, _size: u8, value: u64) {
        if bar == 0 && offset == DATA {
            self.data = value;
        }
    }

    fn wake(&mut self, _ctx: &mut Ctx<'_>) {
        self.wakes += 1;
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { config, msi, data, resets, wakes: _ } = self;
        config.reset(kind);
        msi.reset();
        *data = 0;
        resets.push(kind);
    }

    fn snapshot(&self) -> Value {
        self.config.snapshot()
    }
}

/// The port's place on the root bus.
pub(crate) const PORT: RoutedId = RoutedId { bus: 0, devfn: 0x1c << 3 };
/// The function's place once buses are numbered.
pub(crate) const CHILD: RoutedId = RoutedId { bus: 1, devfn: 0 };
/// Where [`Domain::programmed`] puts the function's BAR0.
pub(crate) const BAR0: u64 = 0xe000_0000;
/// Offset of the port's PCI Express capability.
pub(crate) const EXPRESS: u16 = 0x70;
const PORT_MSI: u16 = 0x50;

/// A root bus with a port and a [`Toy`] in its slot, and a world around them.
pub(crate) struct Domain {
    pub(crate) bus: RootBus<Toy>,
    pub(crate) bench: Bench,
}

impl Domain {
    /// As after power-on.
    pub(crate) fn new() -> Self {
        Self::equipped(Equipment::default())
    }

    fn equipped(equipment: Equipment) -> Self {
        let profile = PortProfile { equipment, ..PortProfile::default() };
        Self { bus: RootBus::new(0, RootPort::new(profile, Toy::new())), bench: Bench::default() }
    }

    /// Buses numbered, a window open, BARs placed, memory and mastering on, the port's MSI on.
    pub(crate) fn programmed() -> Self {
        Self::new().program()
    }

    /// The same with a slot and a port that are equipped with what these words say.
    pub(crate) fn programmed_with(words: &[&str]) -> Self {
        Self::equipped(Equipment::from_words(words.iter().copied())).program()
    }

    fn program(self) -> Self {
        let mut domain = self;
        domain.port_write(offset::PRIMARY_BUS, 4, 0x0001_0100);
        domain.port_write(offset::MEMORY_BASE, 4, 0xe000_e000);
        domain.port_write(offset::PREF_MEMORY_BASE, 4, 0x0000_fff0);
        domain.port_write(offset::COMMAND, 2, u32::from(command::MEMORY | command::MASTER));
        domain.port_write(PORT_MSI + 4, 4, 0xfee0_1000);
        domain.port_write(PORT_MSI + 0xc, 2, 0x55);
        domain.port_write(PORT_MSI + 2, 2, 1);
        domain.program_child();
        domain.bench.log.clear();
        domain
    }

    /// Names of the events so far.
    pub(crate) fn events(&self) -> Vec<&'static str> {
        self.bench.log.events().map(|event| event.name()).collect()
    }

    /// What a guest does to the function after each reset.
    pub(crate) fn program_child(&mut self) {
        self.write(CHILD, offset::BASE_ADDRESS_0, 4, (BAR0 & 0xffff_ffff) as u32);
        self.write(CHILD, offset::COMMAND, 2, u32::from(command::MEMORY | command::MASTER));
    }

    pub(crate) fn read(&mut self, id: RoutedId, at: u16, size: u8) -> u32 {
        let Self { bus, bench } = self;
        bus.config_read(&mut bench.above(), id, at, size)
    }

    pub(crate) fn write(&mut self, id: RoutedId, at: u16, size: u8, value: u32) {
        let Self { bus, bench } = self;
        bus.config_write(&mut bench.above(), id, at, size, value);
    }

    pub(crate) fn port_read(&mut self, at: u16, size: u8) -> u32 {
        self.read(PORT, at, size)
    }

    pub(crate) fn port_write(&mut self, at: u16, size: u8, value: u32) {
        self.write(PORT, at, size, value);
    }

    pub(crate) fn memory_read(&mut self, address: u64, size: u8) -> u64 {
        let Self { bus, bench } = self;
        bus.memory_read(&mut bench.above(), Space::Bar(2), address, size)
    }

    pub(crate) fn memory_write(&mut self, address: u64, size: u8, value: u64) {
        let Self { bus, bench } = self;
        bus.memory_write(&mut bench.above(), Space::Bar(2), address, size, value);
    }

    /// The slot's event-enable bits, and Hot-Plug Interrupt Enable if `interrupt`.
    pub(crate) fn enable(&mut self, events: u32, interrupt: bool) {
        let hpie = if interrupt { EXP::SLTCTL_HPIE } else { 0 };
        self.port_write(EXPRESS + EXP::SLTCTL, 2, events | hpie);
    }

    pub(crate) fn slot_status(&mut self) -> u32 {
        self.port_read(EXPRESS + EXP::SLTSTA, 2)
    }

    pub(crate) fn clear(&mut self, events: u32) {
        self.port_write(EXPRESS + EXP::SLTSTA, 2, events);
    }

    pub(crate) fn link_is_active(&mut self) -> bool {
        self.port_read(EXPRESS + EXP::LNKSTA, 2) & EXP::LNKSTA_DLLLA != 0
    }

    /// Calls `act` on the port as the machine does.
    pub(crate) fn with_port<R>(&mut self, act: impl FnOnce(&mut RootPort<Toy>, &mut Ctx<'_>) -> R) -> R {
        let Self { bus, bench } = self;
        bench.with(bus.port_mut(), act)
    }

    pub(crate) fn set_link(&mut self, up: bool) {
        self.with_port(|port, ctx| port.set_link(ctx, up));
    }

    pub(crate) fn set_presence(&mut self, present: bool) {
        self.with_port(|port, ctx| port.set_presence(ctx, present));
    }

    /// Calls `act` on the function with the context that it gets below the port.
    pub(crate) fn with_toy<R>(&mut self, act: impl FnOnce(&mut Toy, &mut Ctx<'_>) -> R) -> R {
        self.with_port(|port, ctx| port.with_function(ctx, act)).expect("the slot is not empty")
    }

    pub(crate) fn toy(&self) -> &Toy {
        self.bus.port().slot().function().expect("the slot is not empty")
    }

    /// Messages since the last call.
    pub(crate) fn messages(&mut self) -> Vec<Message> {
        self.bench.interrupts.take_new()
    }

    /// Whether the function can read guest memory.
    pub(crate) fn dma(&mut self) -> Result<(), DmaError> {
        let address = self.bench.memory.base();
        self.with_toy(|_, ctx| ctx.dma_read(address, &mut [0; 4]).and(ctx.dma_write(address, &[1; 4])))
    }
}
