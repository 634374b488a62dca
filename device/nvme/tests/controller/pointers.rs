//! PRPs and SGLs.

use proptest::prelude::*;
use sdmorph_testkit::nvme::{Entry, sgl_descriptor};
use sdmorph_testkit::{Seen, nvme};

use crate::rig::{Rig, SCRATCH, pattern, status};

const DATA_TRANSFER_ERROR: u16 = 0x004;
const INVALID_FIELD: u16 = 0x002;
const INVALID_SGL_SEGMENT: u16 = 0x00d;
const INVALID_SGL_COUNT: u16 = 0x00e;
const DATA_SGL_LENGTH_INVALID: u16 = 0x00f;
const SGL_TYPE_INVALID: u16 = 0x011;
const PRP_OFFSET_INVALID: u16 = 0x013;
const PAGE: u64 = 4096;

fn read(first: u64, count: u32) -> Entry {
    Entry::new(2, 1).blocks(first, count)
}

/// A rig whose blocks from 0 on have contents.
fn filled() -> (Rig, Vec<u8>) {
    let rig = Rig::probed();
    let contents = pattern(1024, 7);
    rig.media.poke(0, &contents);
    (rig, contents)
}

fn poke_list(rig: &Rig, at: u64, entries: &[u64]) {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    assert!(rig.bench.memory.poke(at, &bytes));
}

#[test]
fn first_page_may_begin_anywhere() {
    let (mut rig, contents) = filled();
    for offset in [0, 4, 512, 4092] {
        let entry = read(0, 8).prps(SCRATCH + offset, SCRATCH + PAGE);
        assert_eq!(status(rig.io(entry)), 0);
        assert_eq!(rig.bench.memory.peek(SCRATCH + offset, 4096).unwrap(), contents[..4096], "{offset}");
    }
}

#[test]
fn list_may_begin_anywhere_and_go_on_in_another_page() {
    let (mut rig, contents) = filled();
    // 128 pages; a list of 4 entries at the end of a page, then the rest in another.
    let list = SCRATCH + PAGE - 32;
    let second = SCRATCH + PAGE;
    // Pages in reverse order.
    let data = |index: u64| SCRATCH + (2 + 200 - index) * PAGE;
    poke_list(&rig, list, &[data(1), data(2), data(3), second]);
    poke_list(&rig, second, &(4..128).map(data).collect::<Vec<_>>());
    assert_eq!(status(rig.io(read(0, 1024).prps(data(0), list))), 0);
    let read_back: Vec<u8> =
        (0..128).flat_map(|index| rig.bench.memory.peek(data(index), PAGE as usize).unwrap()).collect();
    assert!(read_back == contents);
}

#[test]
fn offsets_that_a_prp_cannot_have_are_refused() {
    let (mut rig, _) = filled();
    assert_eq!(status(rig.io(read(0, 1).prps(SCRATCH + 1, 0))), PRP_OFFSET_INVALID);
    assert_eq!(status(rig.io(read(0, 16).prps(SCRATCH, SCRATCH + PAGE + 8))), PRP_OFFSET_INVALID);
    assert_eq!(status(rig.io(read(0, 32).prps(SCRATCH, SCRATCH + PAGE + 4))), PRP_OFFSET_INVALID, "list");
    poke_list(&rig, SCRATCH, &[SCRATCH + PAGE, SCRATCH + 2 * PAGE + 512, SCRATCH]);
    assert_eq!(status(rig.io(read(0, 32).prps(SCRATCH + PAGE, SCRATCH))), PRP_OFFSET_INVALID, "in the list");
    // A second list that does not begin at a page.
    let end = SCRATCH + PAGE - 8;
    poke_list(&rig, end, &[end]);
    assert_eq!(status(rig.io(read(0, 32).prps(SCRATCH + PAGE, end))), PRP_OFFSET_INVALID, "endless");
    assert_eq!(rig.refused("PRP Offset Invalid"), 5);
}

#[test]
fn memory_that_is_not_there_is_a_data_transfer_error() {
    let (mut rig, _) = filled();
    assert_eq!(status(rig.io(read(0, 1).prps(0, 0))), DATA_TRANSFER_ERROR, "read");
    assert_eq!(status(rig.io(Entry::new(1, 1).blocks(0, 1).prps(!4095, 0))), DATA_TRANSFER_ERROR, "write");
    assert_eq!(status(rig.io(read(0, 32).prps(SCRATCH, 0))), DATA_TRANSFER_ERROR, "list");
    poke_list(&rig, SCRATCH, &[SCRATCH + PAGE, 0, 0]);
    assert_eq!(status(rig.io(read(0, 32).prps(SCRATCH, SCRATCH))), DATA_TRANSFER_ERROR, "in the list");
    rig.bench.memory.make_read_only(SCRATCH..SCRATCH + PAGE);
    assert_eq!(status(rig.io(read(0, 1).prps(SCRATCH, 0))), DATA_TRANSFER_ERROR, "read-only");
    assert_eq!(status(rig.io(Entry::new(1, 1).blocks(0, 1).prps(SCRATCH, 0))), 0);
}

#[test]
fn pages_that_lie_together_are_moved_together() {
    let (mut rig, _) = filled();
    rig.bench.log.clear();
    let entry = nvme::with_prps(&rig.bench, read(0, 256), SCRATCH + PAGE, 128 << 10);
    assert_eq!(status(rig.io(entry)), 0);
    let moved = rig
        .bench
        .log
        .records()
        .iter()
        .filter(|record| matches!(record.what, Seen::Dma { length, .. } if length >= PAGE));
    assert_eq!(moved.count(), 1);
}

#[test]
fn data_block_in_the_command_is_all_of_an_sgl() {
    let (mut rig, contents) = filled();
    let entry = read(4, 2).sgl(sgl_descriptor(0, SCRATCH + 1, 1024));
    assert_eq!(status(rig.io(entry)), 0);
    assert_eq!(rig.bench.memory.peek(SCRATCH + 1, 1024).unwrap(), contents[2048..3072], "at any address");
    let longer = read(4, 2).sgl(sgl_descriptor(0, SCRATCH, 4096));
    assert_eq!(status(rig.io(longer)), 0, "longer than the data");
    let shorter = read(4, 2).sgl(sgl_descriptor(0, SCRATCH, 1023));
    assert_eq!(status(rig.io(shorter)), DATA_SGL_LENGTH_INVALID);
}

#[test]
fn segments_lead_from_one_to_the_next() {
    let (mut rig, contents) = filled();
    let (first, last) = (SCRATCH, SCRATCH + PAGE);
    let data = SCRATCH + 2 * PAGE;
    let segment =
        [sgl_descriptor(0, data, 100), sgl_descriptor(1, 0, 12), sgl_descriptor(3, last, 32)].concat();
    assert!(rig.bench.memory.poke(first, &segment));
    let segment = [sgl_descriptor(0, data + 100, 0), sgl_descriptor(0, data + 100, 400)].concat();
    assert!(rig.bench.memory.poke(last, &segment));
    assert_eq!(status(rig.io(read(0, 1).sgl(sgl_descriptor(2, first, 48)))), 0);
    let got = rig.bench.memory.peek(data, 500).unwrap();
    assert_eq!(got[..100], contents[..100]);
    assert_eq!(got[100..], contents[112..512], "what the bit bucket took is gone");
    // A bit bucket has nothing to give.
    let write = Entry::new(1, 1).blocks(0, 1).sgl(sgl_descriptor(2, first, 48));
    assert_eq!(status(rig.io(write)), DATA_SGL_LENGTH_INVALID);
}

#[test]
fn malformed_sgls_have_their_statuses() {
    let (mut rig, _) = filled();
    let mut refusal = |descriptor| status(rig.io(read(0, 1).sgl(descriptor)));
    for kind in [4, 5, 6, 0xf] {
        assert_eq!(refusal(sgl_descriptor(kind, SCRATCH, 512)), SGL_TYPE_INVALID, "type {kind}");
    }
    let mut offset = sgl_descriptor(0, SCRATCH, 512);
    offset[15] |= 1;
    assert_eq!(refusal(offset), SGL_TYPE_INVALID, "an offset");
    for length in [0, 8, 17] {
        assert_eq!(refusal(sgl_descriptor(3, SCRATCH, length)), INVALID_SGL_SEGMENT, "{length} bytes");
    }
    assert_eq!(refusal(sgl_descriptor(3, SCRATCH, 16 * 1025)), INVALID_SGL_COUNT);
    assert_eq!(refusal(sgl_descriptor(3, SCRATCH, 0xffff_fff0)), INVALID_SGL_COUNT);
    assert_eq!(refusal(sgl_descriptor(3, 0, 16)), DATA_TRANSFER_ERROR);
    // A segment that does not end with another one.
    assert!(rig.bench.memory.poke(SCRATCH, &sgl_descriptor(0, SCRATCH, 512)));
    assert_eq!(status(rig.io(read(0, 1).sgl(sgl_descriptor(2, SCRATCH, 16)))), INVALID_SGL_SEGMENT);
    // The last segment with another one in it, and one that leads to itself.
    assert!(rig.bench.memory.poke(SCRATCH, &sgl_descriptor(2, SCRATCH, 16)));
    assert_eq!(status(rig.io(read(0, 1).sgl(sgl_descriptor(3, SCRATCH, 16)))), INVALID_SGL_SEGMENT);
    assert_eq!(status(rig.io(read(0, 1).sgl(sgl_descriptor(2, SCRATCH, 16)))), INVALID_SGL_COUNT);
    let middle = [sgl_descriptor(2, SCRATCH, 16), sgl_descriptor(3, SCRATCH, 16)].concat();
    assert!(rig.bench.memory.poke(SCRATCH, &middle));
    assert_eq!(status(rig.io(read(0, 1).sgl(sgl_descriptor(2, SCRATCH, 32)))), INVALID_SGL_SEGMENT);
}

#[test]
fn metadata_by_sgl_and_the_reserved_kind_of_pointer_are_refused() {
    let (mut rig, _) = filled();
    for kind in [2, 3] {
        assert_eq!(status(rig.io(read(0, 1).prps(SCRATCH, 0).with(0, 2 | kind << 14))), INVALID_FIELD);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Data arrives wherever its pages are, in any order, and nowhere else.
    #[test]
    fn prps_reach_exactly_the_pages_that_they_name(
        blocks in 1u32..=1024,
        offset in (0u64..1024).prop_map(|dwords| dwords * 4),
        list_slot in 0u64..512,
        seed in any::<u64>(),
    ) {
        let (mut rig, contents) = filled();
        let length = u64::from(blocks) * 512;
        let pages = (offset + length).div_ceil(PAGE);
        // A permutation of 130 pages behind two for lists.
        let data = |index: u64| SCRATCH + 2 * PAGE + (index * 37 + seed % 131) % 131 * PAGE;
        let list = SCRATCH + list_slot * 8;
        let second = match pages {
            1 => 0,
            2 => data(1),
            _ => {
                let room = 512 - list_slot;
                let entries: Vec<_> = (1..pages).map(data).collect();
                if entries.len() as u64 > room {
                    let (head, tail) = entries.split_at(room as usize - 1);
                    poke_list(&rig, list, &[head, &[SCRATCH + PAGE]].concat());
                    poke_list(&rig, SCRATCH + PAGE, tail);
                } else {
                    poke_list(&rig, list, &entries);
                }
                list
            }
        };
        prop_assert_eq!(status(rig.io(read(0, blocks).prps(data(0) + offset, second))), 0);
        let mut got = rig.bench.memory.peek(data(0) + offset, (PAGE - offset) as usize).unwrap();
        for index in 1..pages {
            got.extend(rig.bench.memory.peek(data(index), PAGE as usize).unwrap());
        }
        prop_assert!(got[..length as usize] == contents[..length as usize]);
        prop_assert!(got[length as usize..].iter().all(|byte| *byte == 0), "behind the data");
    }
}
