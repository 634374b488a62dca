//! An Intel VMD endpoint: one PCI function that carries a whole PCIe domain.
//!
//! The function looks like 8086:a77f (class 0x010400) to the `vmd` driver of Linux
//! (`drivers/pci/controller/vmd.c`), which makes a PCI domain of it:
//!
//! - BAR0, 8 MiB: the configuration space of the domain, as ECAM (PCIe 7.2.2), 1 MiB for each of 8 buses;
//! - BAR2, 32 MiB: the first memory window; an access is one at the same address in the domain;
//! - BAR4, 1 MiB: the MSI-X table at 0, the pending bits at 0x1000, and from 0x2000 the second memory window;
//! - MSI-X, 16 vectors: a child's message whose address has `n` in bits 19:12 is sent as VMD's vector `n`.
//!
//! # Not modelled
//!
//! - MEMBAR shadow registers, bus restrictions (VMCAP and VMCONFIG read zero) and MSI remapping off (28c0 only);
//! - the VMD-owned management functions, hot-plug of whole domains, DMA remapping by requester ID.

use sdmorph_pci::capability::{MsiX, MsiXPlace};
use sdmorph_pci::config::{Bar, Identity};
use sdmorph_pci::seam;
use sdmorph_pci::topology::{RootBus, RoutedId};
use sdmorph_pci::{
    Access, Answer, ConfigSpace, Ctx, Direction, InterruptSink, Message, PciFunction, Register, ResetKind,
    Space, mask_of_size,
};
use serde_json::{Value, json};

/// Sizes of BAR0, BAR2 and BAR4 in bytes.
pub const BAR_SIZES: [(u8, u64); 3] = [(0, 8 << 20), (2, 32 << 20), (4, 1 << 20)];
/// MSI-X vectors.
pub const VECTORS: u16 = 16;

const ECAM: u8 = 0;
const WINDOW_1: u8 = 2;
const WINDOW_2: u8 = 4;
/// Where the second window begins in BAR4: behind the MSI-X table and pending bits.
const WINDOW_2_START: u64 = 0x2000;
const SOURCE: &str = "Linux drivers/pci/controller/vmd.c";

/// The endpoint and the domain behind it.
#[derive(Debug)]
pub struct Vmd<F> {
    config: ConfigSpace,
    msix: MsiX,
    bus: RootBus<F>,
    /// Messages of children whose address is no VMD vector.
    stray_messages: u64,
}

impl<F: PciFunction> Vmd<F> {
    /// A VMD that carries `bus`.
    #[must_use]
    pub fn new(bus: RootBus<F>) -> Self {
        let identity = Identity {
            vendor: 0x8086,
            device: 0xa77f,
            class: 0x01_04_00,
            revision: 0,
            subsystem: (0x8086, 0xa77f),
        };
        let bars = BAR_SIZES.map(|(index, size)| (index, Bar { size, is_64bit: false }));
        let mut config = ConfigSpace::endpoint(identity, &bars);
        config.add_row(Register::new("VMCAP", 0x40, 2, 0, SOURCE));
        config.add_row(Register::new("VMCONFIG", 0x44, 2, 0, SOURCE));
        config.add_row(Register::new("VMLOCK", 0x70, 4, 0, SOURCE));
        // Capabilities stay above 0x80: below are VMD's own registers.
        let msix = MsiX::add(
            &mut config,
            0x80,
            VECTORS,
            MsiXPlace { bar: WINDOW_2, offset: 0 },
            MsiXPlace { bar: WINDOW_2, offset: 0x1000 },
        );
        Self { config, msix, bus, stray_messages: 0 }
    }

    /// The domain.
    pub fn bus(&self) -> &RootBus<F> {
        &self.bus
    }

    /// A host that keeps the MSI-X table itself (VFIO) routed a vector, or took the route away.
    pub fn set_vector_masked(&mut self, ctx: &mut Ctx<'_>, vector: u16, masked: bool) {
        self.msix.set_masked(&self.config, ctx, vector, masked);
    }

    /// Calls `act` on the domain with the context it gets from VMD: interrupts are remapped on the way up.
    pub fn with_bus<R>(
        &mut self,
        ctx: &mut Ctx<'_>,
        act: impl FnOnce(&mut RootBus<F>, &mut Ctx<'_>) -> R,
    ) -> R {
        let mut messages = Collected::default();
        let result = act(&mut self.bus, &mut ctx.with_irq(&mut messages));
        for message in messages.0 {
            let vector = (message.address >> 12 & 0xff) as u16;
            if !self.msix.fire(&self.config, ctx, vector) {
                self.stray_messages = self.stray_messages.saturating_add(1);
            }
        }
        result
    }

    /// The address in the domain that byte `offset` of a window stands for.
    fn domain_address(&self, bar: u8, offset: u64) -> Option<u64> {
        Some(self.config.memory_bar(bar)?.start + offset)
    }

    fn own_access(&self, direction: Direction, bar: u8, offset: u64, size: u8, value: u64) -> Access {
        let register = self.bar_register(bar, offset);
        let answer = if register.is_some() { Answer::Modelled } else { Answer::Unmodelled };
        Access { space: Space::Bar(bar), direction, offset, size, register, value, answer }
    }
}

/// Keeps what children send until VMD has its hands free to remap it.
#[derive(Default)]
struct Collected(Vec<Message>);

impl InterruptSink for Collected {
    fn send(&mut self, message: Message) {
        self.0.push(message);
    }
}

/// ECAM: bus in bits 27:20, device and function in 19:12, register in 11:0 (PCIe 7.2.2).
fn ecam(offset: u64) -> (RoutedId, u16) {
    let id = RoutedId { bus: (offset >> 20) as u8, devfn: (offset >> 12) as u8 };
    (id, (offset & 0xfff) as u16)
}

/// An access of 8 bytes to configuration space is two of 4.
fn halves(offset: u64, size: u8) -> impl Iterator<Item = (u64, u8, u32)> {
    let piece = size.min(4);
    (0..u64::from(size / piece)).map(move |n| (offset + 4 * n, piece, 32 * n as u32))
}

impl<F: PciFunction> PciFunction for Vmd<F> {
    fn name(&self) -> &'static str {
        "vmd"
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, _offset: u16, _size: u8, _before: u32) {
        self.msix.config_written(&self.config, ctx);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        self.msix.register(bar, offset)
    }

    /// Forwards into the domain, where the access is reported; only the MSI-X table is reported as VMD's own.
    fn bar_read(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
        if bar == ECAM {
            return self.with_bus(ctx, |bus, ctx| {
                halves(offset, size).fold(0, |value, (offset, size, shift)| {
                    let (id, register) = ecam(offset);
                    value | u64::from(bus.config_read(ctx, id, register, size)) << shift
                })
            });
        }
        if bar == WINDOW_2 && offset < WINDOW_2_START {
            let value = self.msix.bar_read(bar, offset, size).unwrap_or(0);
            return ctx.observe_read(self.own_access(Direction::Read, bar, offset, size, value));
        }
        match self.domain_address(bar, offset).filter(|_| bar == WINDOW_1 || bar == WINDOW_2) {
            Some(address) => {
                self.with_bus(ctx, |bus, ctx| bus.memory_read(ctx, Space::Bar(bar), address, size))
            }
            None => mask_of_size(size),
        }
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8, value: u64) {
        if bar == ECAM {
            self.with_bus(ctx, |bus, ctx| {
                for (offset, size, shift) in halves(offset, size) {
                    let (id, register) = ecam(offset);
                    let value = (value >> shift & mask_of_size(size)) as u32;
                    bus.config_write(ctx, id, register, size, value);
                }
            });
        } else if bar == WINDOW_2 && offset < WINDOW_2_START {
            ctx.observe_write(self.own_access(Direction::Write, bar, offset, size, value));
            self.msix.bar_write(&self.config, ctx, bar, offset, size, value);
        } else if let Some(address) =
            self.domain_address(bar, offset).filter(|_| bar == WINDOW_1 || bar == WINDOW_2)
        {
            self.with_bus(ctx, |bus, ctx| bus.memory_write(ctx, Space::Bar(bar), address, size, value));
        }
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.with_bus(ctx, |bus, ctx| {
            let port = bus.port_mut();
            port.wake(&mut seam::inside(port, ctx));
        });
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind) {
        self.with_bus(ctx, |bus, ctx| {
            let port = bus.port_mut();
            port.reset(&mut seam::inside(port, ctx), kind);
        });
        let Self { config, msix, bus: _, stray_messages: _ } = self;
        config.reset(kind);
        msix.reset();
    }

    fn snapshot(&self) -> Value {
        json!({
            "config": self.config.snapshot(),
            "msix": self.msix.snapshot(),
            "stray-messages": self.stray_messages,
            "port": self.bus.port().snapshot(),
        })
    }
}
