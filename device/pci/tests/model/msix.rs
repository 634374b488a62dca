//! MSI-X: masks, pending bits, and accesses of every size and alignment.

use proptest::prelude::*;
use sdmorph_pci::capability::{MsiX, MsiXPlace};
use sdmorph_pci::{ConfigSpace, Ctx, Message, World};
use sdmorph_testkit::Bench;

use crate::toy::IDENTITY;

const AT: u16 = 0x80;
const VECTORS: u16 = 70;
const BAR: u8 = 4;
const TABLE: u64 = 0x100;
const PENDING: u64 = 0x1000;
const ENABLE: u32 = 1 << 15;
const FUNCTION_MASK: u32 = 1 << 14;
const NONE: [u16; 0] = [];

struct Bed {
    config: ConfigSpace,
    msix: MsiX,
    bench: Bench,
    master: bool,
}

impl Bed {
    fn new() -> Self {
        let mut config = ConfigSpace::endpoint(IDENTITY, &[]);
        let table = MsiXPlace { bar: BAR, offset: TABLE as u32 };
        let pending = MsiXPlace { bar: BAR, offset: PENDING as u32 };
        let msix = MsiX::add(&mut config, AT, VECTORS, table, pending);
        Self { config, msix, bench: Bench::default(), master: true }
    }

    /// Enabled, and vector `n` unmasked with address `0xfee0_0000 + n * 0x1000` and data `n`.
    fn enabled() -> Self {
        let mut bed = Self::new();
        for vector in 0..VECTORS {
            let entry = TABLE + 16 * u64::from(vector);
            bed.write(entry, 4, 0xfee0_0000 + 0x1000 * u64::from(vector));
            bed.write(entry + 8, 4, u64::from(vector));
            bed.write(entry + 12, 4, 0);
        }
        bed.flags(ENABLE);
        bed
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut MsiX, &ConfigSpace, &mut Ctx<'_>) -> R) -> R {
        let world = World {
            memory: &self.bench.memory,
            irq: &mut self.bench.interrupts,
            clock: &self.bench.clock,
            observer: &mut self.bench.log,
        };
        act(&mut self.msix, &self.config, &mut Ctx::new(world, "test", self.master))
    }

    fn flags(&mut self, bits: u32) {
        self.config.write(AT + 2, 2, bits);
        self.call(|msix, config, ctx| msix.config_written(config, ctx));
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) -> bool {
        self.call(|msix, config, ctx| msix.bar_write(config, ctx, BAR, offset, size, value))
    }

    fn read(&self, offset: u64, size: u8) -> Option<u64> {
        self.msix.bar_read(BAR, offset, size)
    }

    fn mask(&mut self, vector: u64, masked: bool) {
        self.write(TABLE + 16 * vector + 12, 4, u64::from(masked));
    }

    fn fire(&mut self, vector: u16) -> bool {
        self.call(|msix, config, ctx| msix.fire(config, ctx, vector))
    }

    fn sent(&mut self) -> Vec<u16> {
        self.bench.interrupts.take_new().iter().map(|message| message.vector).collect()
    }
}

#[test]
fn capability_tells_size_and_places() {
    let bed = Bed::new();
    assert_eq!(bed.config.read(AT + 2, 2), u32::from(VECTORS) - 1);
    assert_eq!(bed.config.read(AT + 4, 4), TABLE as u32 | u32::from(BAR));
    assert_eq!(bed.config.read(AT + 8, 4), PENDING as u32 | u32::from(BAR));
    assert_eq!(bed.msix.vectors(), VECTORS);
}

#[test]
fn capability_asked_for_no_vector_has_one() {
    let mut config = ConfigSpace::endpoint(IDENTITY, &[]);
    let place = MsiXPlace { bar: 0, offset: 0 };
    let msix = MsiX::add(&mut config, AT, 0, place, MsiXPlace { bar: 0, offset: 0x800 });
    assert_eq!((u32::from(msix.vectors()), config.read(AT + 2, 2)), (1, 0));
}

#[test]
fn unmasked_vector_sends_its_own_address_and_data() {
    let mut bed = Bed::enabled();
    assert!(bed.fire(65));
    let message = Message { vector: 65, address: 0xfee4_1000, data: 65 };
    assert_eq!(bed.bench.interrupts.take_new(), [message]);
}

#[test]
fn masked_vector_is_pending_and_sent_once_when_unmasked() {
    let mut bed = Bed::enabled();
    bed.mask(3, true);
    bed.fire(3);
    bed.fire(3);
    assert_eq!(bed.sent(), NONE);
    assert_eq!(bed.read(PENDING, 8), Some(1 << 3));
    bed.mask(3, false);
    assert_eq!(bed.sent(), [3]);
    assert_eq!(bed.read(PENDING, 8), Some(0));
}

#[test]
fn masked_function_keeps_every_vector_pending_until_it_is_unmasked() {
    let mut bed = Bed::enabled();
    bed.flags(ENABLE | FUNCTION_MASK);
    bed.fire(0);
    bed.fire(69);
    assert_eq!(bed.sent(), NONE);
    assert_eq!((bed.read(PENDING, 8), bed.read(PENDING + 8, 8)), (Some(1), Some(1 << 5)));
    assert_eq!(bed.read(PENDING + 8, 4), Some(1 << 5));
    bed.flags(ENABLE);
    assert_eq!(bed.sent(), [0, 69]);
}

#[test]
fn vector_masked_in_a_masked_function_needs_both_masks_off() {
    let mut bed = Bed::enabled();
    bed.mask(1, true);
    bed.flags(ENABLE | FUNCTION_MASK);
    bed.fire(1);
    bed.flags(ENABLE);
    assert_eq!(bed.sent(), NONE);
    bed.mask(1, false);
    assert_eq!(bed.sent(), [1]);
}

#[test]
fn vector_fired_while_msix_is_off_is_dropped() {
    let mut bed = Bed::enabled();
    bed.flags(0);
    assert!(bed.fire(2), "there is such a vector");
    assert_eq!(bed.read(PENDING, 8), Some(0));
    bed.flags(ENABLE);
    assert_eq!(bed.sent(), NONE);
}

#[test]
fn vector_out_of_range_is_refused() {
    let mut bed = Bed::enabled();
    assert!(!bed.fire(VECTORS));
    assert!(!bed.fire(u16::MAX));
    bed.call(|msix, config, ctx| msix.set_masked(config, ctx, VECTORS, false));
    assert_eq!(bed.sent(), NONE);
}

#[test]
fn vector_fired_without_bus_mastering_stays_pending() {
    let mut bed = Bed::enabled();
    bed.master = false;
    bed.fire(4);
    assert_eq!(bed.sent(), NONE);
    assert_eq!(bed.read(PENDING, 8), Some(1 << 4));
    bed.master = true;
    bed.flags(ENABLE);
    assert_eq!(bed.sent(), [4]);
}

#[test]
fn host_that_routes_a_vector_unmasks_it() {
    let mut bed = Bed::new();
    bed.flags(ENABLE);
    bed.fire(7);
    assert_eq!(bed.sent(), NONE, "masked after reset");
    bed.call(|msix, config, ctx| msix.set_masked(config, ctx, 7, false));
    assert_eq!(bed.sent(), [7]);
}

#[test]
fn table_entry_written_with_all_ones_keeps_only_what_is_defined() {
    let mut bed = Bed::new();
    bed.write(TABLE, 8, u64::MAX);
    bed.write(TABLE + 8, 8, u64::MAX);
    assert_eq!(bed.read(TABLE, 8), Some(!3), "addresses are aligned to 4 bytes");
    assert_eq!(bed.read(TABLE + 8, 8), Some(0x1_ffff_ffff), "of vector control, the mask bit");
    assert_eq!(bed.read(TABLE + 4, 4), Some(0xffff_ffff));
}

#[test]
fn access_that_is_narrow_or_unaligned_reads_zero_and_writes_nothing() {
    let mut bed = Bed::enabled();
    bed.mask(0, true);
    bed.fire(0);
    for (offset, size) in [(TABLE, 1), (TABLE, 2), (TABLE + 2, 4), (TABLE + 4, 8), (TABLE + 1, 8)] {
        assert_eq!(bed.read(offset, size), Some(0), "{offset:#x} {size}");
        assert!(bed.write(offset, size, u64::MAX));
    }
    assert_eq!(bed.read(TABLE, 8), Some(0xfee0_0000));
    assert_eq!(bed.read(PENDING, 1), Some(0));
    assert_eq!(bed.read(PENDING + 4, 8), Some(0));
    assert_eq!(bed.read(PENDING, 4), Some(1));
}

#[test]
fn access_elsewhere_is_not_the_tables() {
    let mut bed = Bed::new();
    let end = TABLE + 16 * u64::from(VECTORS);
    for offset in [0, TABLE - 4, end, PENDING - 4, PENDING + 16, u64::MAX] {
        assert_eq!(bed.read(offset, 4), None, "{offset:#x}");
        assert!(!bed.write(offset, 4, 0));
        assert_eq!(bed.msix.register(BAR, offset), None);
    }
    assert_eq!(bed.msix.bar_read(BAR + 1, TABLE, 4), None);
    assert_eq!(bed.msix.register(BAR, end - 1), Some("MSIX_TABLE_ENTRY"));
    assert_eq!(bed.msix.register(BAR, PENDING + 15), Some("MSIX_PENDING_BITS"));
}

#[test]
fn pending_bits_ignore_writes() {
    let mut bed = Bed::enabled();
    assert!(bed.write(PENDING, 8, u64::MAX));
    assert_eq!(bed.read(PENDING, 8), Some(0));
    assert_eq!(bed.sent(), NONE);
}

#[test]
fn reset_masks_every_vector_and_forgets_what_is_pending() {
    let mut bed = Bed::enabled();
    bed.mask(0, true);
    bed.fire(0);
    bed.msix.reset();
    assert_eq!(bed.read(PENDING, 8), Some(0));
    for vector in 0..u64::from(VECTORS) {
        assert_eq!(bed.read(TABLE + 16 * vector, 8), Some(0));
        assert_eq!(bed.read(TABLE + 16 * vector + 8, 8), Some(1 << 32));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Fire(u16),
    Mask(u64, bool),
    Flags(u32),
}

proptest! {
    /// Whatever is masked when: a vector that fired while MSI-X was on is pending or was sent, and never both.
    #[test]
    fn no_message_is_lost_or_doubled(steps in prop::collection::vec(prop_oneof![
        (0u16..4).prop_map(Step::Fire),
        (0u64..4, any::<bool>()).prop_map(|(vector, masked)| Step::Mask(vector, masked)),
        prop::sample::select(vec![ENABLE, ENABLE | FUNCTION_MASK]).prop_map(Step::Flags),
    ], 0..60)) {
        let mut bed = Bed::enabled();
        let mut owed = [false; 4];
        for step in steps {
            match step {
                Step::Fire(vector) => {
                    bed.fire(vector);
                    owed[usize::from(vector)] = true;
                }
                Step::Mask(vector, masked) => bed.mask(vector, masked),
                Step::Flags(flags) => bed.flags(flags),
            }
            for vector in bed.sent() {
                prop_assert!(std::mem::take(&mut owed[usize::from(vector)]), "vector {} sent for nothing", vector);
            }
            let pending = bed.read(PENDING, 8).unwrap();
            for (vector, owed) in owed.iter().enumerate() {
                prop_assert_eq!(pending >> vector & 1 == 1, *owed);
            }
        }
        bed.flags(ENABLE);
        (0..4).for_each(|vector| bed.mask(vector, false));
        prop_assert_eq!(bed.read(PENDING, 8), Some(0));
    }
}
