//! A function with one register and one interrupt, below a port, below VMD.

use sdmorph_pci::capability::Msi;
use sdmorph_pci::config::{Bar, Identity, command, offset};
use sdmorph_pci::port::{PortProfile, RootPort};
use sdmorph_pci::seam;
use sdmorph_pci::topology::RootBus;
use sdmorph_pci::{ConfigSpace, Ctx, DmaError, PciFunction, ResetKind};
use sdmorph_testkit::Bench;
use sdmorph_vmd::Vmd;
use serde_json::Value;

/// Offset of [`Toy`]'s MSI capability.
pub(crate) const TOY_MSI: u16 = 0x50;
/// ECAM offsets of the port, and of the function once buses are numbered.
pub(crate) const PORT: u64 = 0x1c << 15;
pub(crate) const TOY: u64 = 1 << 20;
/// Where a guest puts VMD's windows.
pub(crate) const WINDOW_1: u64 = 0xc000_0000;
pub(crate) const WINDOW_2: u64 = 0xc400_0000;

#[derive(Debug)]
pub(crate) struct Toy {
    config: ConfigSpace,
    msi: Msi,
    data: u64,
    pub(crate) resets: Vec<ResetKind>,
}

impl Toy {
    fn new() -> Self {
        let identity =
            Identity { vendor: 0x1234, device: 0x5678, class: 0x02_00_00, revision: 0, subsystem: (0, 0) };
        let mut config = ConfigSpace::endpoint(identity, &[(0, Bar { size: 0x1000, is_64bit: false })]);
        let msi = Msi::add(&mut config, TOY_MSI);
        Self { config, msi, data: 0, resets: Vec::new() }
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

    fn bar_register(&self, _bar: u8, _offset: u64) -> Option<&'static str> {
        Some("DATA")
    }

    fn bar_read(&mut self, _ctx: &mut Ctx<'_>, _bar: u8, _offset: u64, size: u8) -> u64 {
        self.data & sdmorph_pci::mask_of_size(size)
    }

    fn bar_write(&mut self, _ctx: &mut Ctx<'_>, _bar: u8, _offset: u64, _size: u8, value: u64) {
        self.data = value;
    }

    fn wake(&mut self, _ctx: &mut Ctx<'_>) {}

    fn reset(&mut self, _ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { config, msi, data, resets } = self;
        config.reset(kind);
        msi.reset();
        *data = 0;
        resets.push(kind);
    }

    fn snapshot(&self) -> Value {
        self.config.snapshot()
    }
}

/// VMD with a [`Toy`] in its slot, and a world around it.
pub(crate) struct Carrier {
    pub(crate) vmd: Vmd<Toy>,
    pub(crate) bench: Bench,
}

impl Carrier {
    /// As after power-on.
    pub(crate) fn new() -> Self {
        let vmd = Vmd::new(RootBus::new(0, RootPort::new(PortProfile::default(), Toy::new())));
        Self { vmd, bench: Bench::default() }
    }

    /// As the `vmd` driver and the PCI core leave it; the function's message is VMD's vector `vector`.
    pub(crate) fn programmed(vector: u8) -> Self {
        let mut carrier = Self::new();
        carrier.config_write(offset::BASE_ADDRESS_0, 4, 0xd000_0000);
        carrier.config_write(0x18, 4, WINDOW_1 as u32);
        carrier.config_write(0x20, 4, WINDOW_2 as u32);
        carrier.config_write(offset::COMMAND, 2, u32::from(command::MEMORY | command::MASTER));
        carrier.config_write(0x82, 2, 0x8000);
        for entry in 0..16 {
            carrier.write(4, 16 * entry, 8, 0xfee0_0000);
            carrier.write(4, 16 * entry + 8, 8, 0x40 + entry);
        }
        carrier.write(0, PORT | 0x18, 4, 0x0001_0100);
        carrier.write(0, PORT | 0x20, 4, 0xc400_c000);
        carrier.write(0, PORT | 0x04, 2, 6);
        carrier.write(0, TOY | 0x10, 4, WINDOW_1);
        carrier.write(0, TOY | 0x04, 2, 6);
        carrier.write(0, TOY | u64::from(TOY_MSI + 4), 4, 0xfee0_0000 | u64::from(vector) << 12);
        carrier.write(0, TOY | u64::from(TOY_MSI + 2), 2, 1);
        carrier.bench.log.clear();
        carrier
    }

    pub(crate) fn config_write(&mut self, at: u16, size: u8, value: u32) {
        self.bench.config_write(&mut self.vmd, at, size, value);
    }

    pub(crate) fn config_read(&mut self, at: u16, size: u8) -> u32 {
        self.bench.config_read(&mut self.vmd, at, size)
    }

    /// An access of the host to one of VMD's BARs.
    pub(crate) fn read(&mut self, bar: u8, offset: u64, size: u8) -> u64 {
        self.bench.with(&mut self.vmd, |vmd, ctx| vmd.bar_read(ctx, bar, offset, size))
    }

    pub(crate) fn write(&mut self, bar: u8, offset: u64, size: u8, value: u64) {
        self.bench.with(&mut self.vmd, |vmd, ctx| vmd.bar_write(ctx, bar, offset, size, value));
    }

    fn with_toy<R>(&mut self, act: impl FnOnce(&mut Toy, &mut Ctx<'_>) -> R) -> R {
        let Self { vmd, bench } = self;
        let result = bench.with(vmd, |vmd, ctx| {
            vmd.with_bus(ctx, |bus, above| {
                let port = bus.port_mut();
                let mut ctx = seam::inside(port, above);
                port.with_function(&mut ctx, act)
            })
        });
        result.expect("the slot is not empty")
    }

    /// The function's interrupt rises; the vectors that VMD sends for it, with their data.
    pub(crate) fn interrupt(&mut self) -> Vec<(u16, u32)> {
        self.with_toy(|toy, ctx| toy.msi.set_active(&toy.config, ctx, 0));
        self.with_toy(|toy, ctx| toy.msi.set_active(&toy.config, ctx, 1));
        self.sent()
    }

    pub(crate) fn sent(&mut self) -> Vec<(u16, u32)> {
        self.bench.interrupts.take_new().iter().map(|message| (message.vector, message.data)).collect()
    }

    pub(crate) fn dma(&mut self) -> Result<(), DmaError> {
        let address = self.bench.memory.base();
        self.with_toy(|_, ctx| ctx.dma_read(address, &mut [0; 4]))
    }

    pub(crate) fn resets(&self) -> &[ResetKind] {
        &self.vmd.bus().port().slot().function().expect("the slot is not empty").resets
    }

    pub(crate) fn stray_messages(&self) -> u64 {
        self.vmd.snapshot()["stray-messages"].as_u64().expect("a number")
    }
}
