//! Whatever a guest does, the controller stays defined, its work limited, and its hands off what it was not given.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use sdmorph_nvme::BAR_REGISTERS;
use sdmorph_pci::{Direction, PciFunction, ResetKind};
use sdmorph_testkit::Seen;
use sdmorph_testkit::nvme::{Entry, PAGE_BYTES};

use crate::rig::{CC, CSTS, Rig, SCRATCH, pattern};

/// Something that a guest, or the medium, does.
#[derive(Debug, Clone)]
enum Act {
    Write { at: u64, size: u8, value: u64 },
    Config { at: u16, size: u8, value: u32 },
    Poke { at: u64, data: Vec<u8> },
    Submit { queue: usize, entry: Entry },
    Ring { doorbell: u64, value: u32 },
    Hold,
    Release { place: usize },
    Wake,
    Poll,
    Reap { queue: usize },
    Reset { kind: ResetKind },
    Pass { micros: u64 },
}

fn register() -> impl Strategy<Value = u64> {
    let known: Vec<u64> = BAR_REGISTERS.iter().map(|row| u64::from(row.address)).collect();
    prop_oneof![4 => proptest::sample::select(known), 1 => 0u64..0x4000]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0u64..64).prop_map(|page| SCRATCH + page * PAGE_BYTES),
        2 => (0u64..0x4_0000).prop_map(|offset| SCRATCH + offset),
        1 => (0u64..32).prop_map(|page| (1 << 20) + page * PAGE_BYTES),
        1 => any::<u64>(),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let opcode = prop_oneof![
        4 => proptest::sample::select(vec![0u8, 1, 2, 4, 5, 6, 8, 9, 0x0a, 0x0c, 0x7c, 0x80]),
        1 => any::<u8>(),
    ];
    let flags =
        prop_oneof![6 => Just(0u32), 2 => Just(1 << 14), 1 => (0u32..256).prop_map(|flags| flags << 8)];
    let namespace = prop_oneof![6 => Just(1u32), 2 => Just(0), 1 => any::<u32>()];
    let small =
        prop_oneof![4 => 0u32..64, 2 => any::<u32>(), 1 => (0u32..64).prop_map(|value| value << 16 | 3)];
    (opcode, flags, namespace, address(), address(), proptest::collection::vec(small, 6), 0u16..8).prop_map(
        |(opcode, flags, namespace, first, second, dwords, id)| {
            let entry = Entry::new(opcode, namespace).prps(first, second).with(0, u32::from(opcode) | flags);
            let entry = (10..).zip(dwords).fold(entry, |entry, (at, value)| entry.with(at, value));
            entry.id(id)
        },
    )
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pointers = proptest::collection::vec(address(), 1..64)
        .prop_map(|list| list.into_iter().flat_map(u64::to_le_bytes).collect());
    let descriptors = proptest::collection::vec((0u8..6, address(), 0u32..0x2000), 1..32).prop_map(|list| {
        let each = |(kind, address, length)| sdmorph_testkit::nvme::sgl_descriptor(kind, address, length);
        list.into_iter().flat_map(each).collect()
    });
    prop_oneof![pointers, descriptors, proptest::collection::vec(any::<u8>(), 1..256)]
}

fn act() -> impl Strategy<Value = Act> {
    let size = proptest::sample::select(vec![1u8, 2, 4, 8]);
    let value = prop_oneof![any::<u64>(), 0u64..32, Just(0x0046_0001), Just(0x0046_4001), Just(0)];
    let kind = proptest::sample::select(vec![ResetKind::Function, ResetKind::Hot, ResetKind::Cold]);
    prop_oneof![
        3 => (register(), size, value)
            .prop_map(|(at, size, value)| Act::Write { at: at & !(u64::from(size) - 1), size, value }),
        1 => (0u16..0x200, any::<u32>()).prop_map(|(at, value)| Act::Config { at: at & !3, size: 4, value }),
        3 => (address(), bytes()).prop_map(|(at, data)| Act::Poke { at, data }),
        12 => (0usize..3, entry()).prop_map(|(queue, entry)| Act::Submit { queue, entry }),
        2 => (0u64..40, 0u32..80).prop_map(|(doorbell, value)| Act::Ring { doorbell, value }),
        1 => Just(Act::Hold),
        3 => (0usize..8).prop_map(|place| Act::Release { place }),
        3 => Just(Act::Wake),
        2 => Just(Act::Poll),
        3 => (0usize..3).prop_map(|queue| Act::Reap { queue }),
        1 => kind.prop_map(|kind| Act::Reset { kind }),
        2 => (1u64..100_000).prop_map(|micros| Act::Pass { micros }),
    ]
}

impl Rig {
    fn perform(&mut self, act: &Act) {
        match act {
            Act::Write { at, size, value } => self.write_sized(*at, *size, *value),
            Act::Config { at, size, value } => {
                self.bench.config_write(&mut self.nvme, *at, *size, *value);
            }
            Act::Poke { at, data } => {
                self.bench.memory.poke(*at, data);
            }
            Act::Submit { queue, entry } => {
                self.driver.queues[*queue].put(&self.bench, entry);
                self.driver.queues[*queue].ring(&mut self.bench, &mut self.nvme);
            }
            Act::Ring { doorbell, value } => self.set(0x1000 + 4 * doorbell, *value),
            Act::Hold => self.media.hold(),
            Act::Release { place } => {
                if !self.media.release_at(*place) {
                    self.media.release();
                }
            }
            Act::Wake => self.wake(),
            Act::Poll => {
                self.poll();
            }
            Act::Reap { queue } => {
                self.reap(*queue);
            }
            Act::Reset { kind } => self.bench.with(&mut self.nvme, |nvme, ctx| nvme.reset(ctx, *kind)),
            Act::Pass { micros } => self.bench.advance(&mut self.nvme, Duration::from_micros(*micros)),
        }
    }

    /// Bytes moved by DMA, and commands completed, since the log was cleared.
    fn moved(&self) -> u64 {
        let lengths = self.bench.log.records().iter().filter_map(|record| match record.what {
            Seen::Dma { length, .. } => Some(length),
            _ => None,
        });
        lengths.sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_guest_leaves_a_controller_that_a_reset_makes_whole(
        shadowed in any::<bool>(),
        acts in proptest::collection::vec(act(), 1..120),
    ) {
        let mut rig = if shadowed { Rig::shadowed() } else { Rig::probed() };
        for act in &acts {
            rig.bench.log.clear();
            rig.perform(act);
            // One call, or two for a poll: what is moved in it has a limit, whatever is asked for.
            let moved = rig.moved();
            prop_assert!(moved <= 2 * ((4 << 20) + 17 * (512 << 10)), "{moved} bytes in {act:?}");
            let status = rig.get(CSTS);
            prop_assert_eq!(status & !0xf, 0);
            prop_assert_ne!(status & 0xc, 0xc);
            let state = rig.snapshot();
            prop_assert!(state["media_requests_under_way"].as_u64().unwrap() <= 129 * 8, "{state}");
        }
        rig.media.heal();
        rig.media.release();
        rig.wake();
        rig.bench.with(&mut rig.nvme, |nvme, ctx| nvme.reset(ctx, ResetKind::Cold));
        rig.driver.uses_shadow_doorbells = false;
        rig.driver.io_queues = 2;
        rig.driver.probe(&mut rig.bench, &mut rig.nvme).unwrap();
        let blocks = rig.driver.block_bytes as usize / 512;
        let contents = pattern(4 * blocks, 1);
        rig.write_blocks(3, &contents).unwrap();
        prop_assert_eq!(rig.read_blocks(3, 4).unwrap(), contents);
    }

    /// A write changes the bits of its register that can be written, and no other register.
    #[test]
    fn only_writable_bits_of_the_register_written_change(
        writes in proptest::collection::vec((register(), any::<u32>()), 1..40),
    ) {
        let mut rig = Rig::untouched();
        for (at, value) in writes {
            let at = at & !3;
            // Enable has consequences of its own.
            let value = if at == CC { value & !0xc001 } else { value };
            if at >= 0x2000 {
                continue;
            }
            let before: Vec<u32> = (0..0x400).map(|index| rig.get(4 * index)).collect();
            rig.set(at, value);
            for (index, before) in (0..0x400u64).zip(before) {
                let now = rig.get(4 * index);
                let row = BAR_REGISTERS.iter().find(|row| row.contains((4 * index) as u32));
                let mask = row.map_or(0, |row| (row.writable >> (8 * (4 * index - u64::from(row.address)))) as u32);
                if matches!(4 * index, 0x0c | 0x10) && matches!(at, 0x0c | 0x10) {
                    continue;
                }
                let expected = if 4 * index == at { before & !mask | value & mask } else { before };
                prop_assert_eq!(now, expected, "{:#x} after {:#x} was written", 4 * index, at);
            }
        }
    }

    /// DMA goes to queues, to what PRPs name, and nowhere else.
    #[test]
    fn dma_stays_inside_what_was_named(
        opcode in proptest::sample::select(vec![1u8, 2, 5, 9]),
        first in 0u64..1000,
        count in 1u32..=64,
        offset in (0u64..1024).prop_map(|dwords| dwords * 4),
        pages in proptest::collection::btree_set(0u64..500, 10),
    ) {
        let mut rig = Rig::probed();
        let page = |index: usize| SCRATCH + PAGE_BYTES + pages.iter().nth(index).unwrap() * PAGE_BYTES;
        let length = if opcode == 9 { u64::from(count) * 16 } else { u64::from(count) * 512 };
        let used = (offset + length).div_ceil(PAGE_BYTES) as usize;
        let list: Vec<u8> = (1..10).flat_map(|index| page(index).to_le_bytes()).collect();
        prop_assert!(rig.bench.memory.poke(SCRATCH, &list));
        let second = match used { 1 => 0, 2 => page(1), _ => SCRATCH };
        let entry = Entry::new(opcode, 1).prps(page(0) + offset, second).blocks(first, count);
        let entry = if opcode == 9 { entry.with(10, count - 1).with(11, 0) } else { entry };
        rig.bench.log.clear();
        let _ = rig.io(entry);
        let queue = &rig.driver.queues[1];
        let mut allowed: BTreeSet<u64> = (0..used).map(|index| page(index) / PAGE_BYTES).collect();
        allowed.extend([queue.submission / PAGE_BYTES, queue.completion / PAGE_BYTES, SCRATCH / PAGE_BYTES]);
        for record in rig.bench.log.records() {
            if let Seen::Dma { address, length, direction, .. } = record.what {
                let touched = address / PAGE_BYTES..=(address + length - 1) / PAGE_BYTES;
                prop_assert!(touched.clone().all(|page| allowed.contains(&page)), "{record:?}");
                if direction == Direction::Write {
                    let own = address / PAGE_BYTES == queue.completion / PAGE_BYTES;
                    prop_assert!(own || opcode == 2, "{record:?}");
                }
            }
        }
    }
}
