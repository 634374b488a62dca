//! I/O commands, each with its statuses, and what they ask the medium for.

use sdmorph_testkit::nvme::{Entry, set_feature, with_prps};

use crate::rig::{BLOCKS, Rig, SCRATCH, pattern, status};

const INVALID_FIELD: u16 = 0x002;
const INVALID_NAMESPACE: u16 = 0x00b;
const WRITE_PROTECTED: u16 = 0x020;
const LBA_OUT_OF_RANGE: u16 = 0x080;
const COMPARE_FAILURE: u16 = 0x285;
const FUA: u32 = 1 << 30;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const COMPARE: u8 = 0x05;
const WRITE_ZEROES: u8 = 0x08;
const DATASET_MANAGEMENT: u8 = 0x09;
const VERIFY: u8 = 0x0c;

fn at_scratch(opcode: u8, first: u64, count: u32) -> Entry {
    Entry::new(opcode, 1).prps(SCRATCH, 0).blocks(first, count)
}

#[test]
fn what_is_written_is_read_back_and_is_on_the_medium() {
    let mut rig = Rig::probed();
    for (first, blocks) in [(0, 1), (7, 8), (100, 9), (1000, 256), (2000, 1024), (BLOCKS - 1, 1)] {
        let contents = pattern(blocks, first as u8);
        rig.write_blocks(first, &contents).unwrap();
        assert_eq!(rig.media.peek(first, blocks as u32), contents);
        assert_eq!(rig.read_blocks(first, blocks as u32).unwrap(), contents);
    }
}

#[test]
fn blocks_behind_the_end_are_out_of_range_for_every_command() {
    let mut rig = Rig::probed();
    for opcode in [WRITE, READ, COMPARE, WRITE_ZEROES, VERIFY] {
        for (first, count) in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 2)] {
            let code = status(rig.io(at_scratch(opcode, first, count)));
            assert_eq!(code, LBA_OUT_OF_RANGE, "{opcode:#x} {count} from {first}");
        }
    }
    assert_eq!(rig.media.take_requests(), Vec::<String>::new());
}

#[test]
fn namespaces_that_are_not_there_are_refused() {
    let mut rig = Rig::probed();
    for opcode in [FLUSH, WRITE, READ, COMPARE, WRITE_ZEROES, DATASET_MANAGEMENT, VERIFY] {
        for namespace in [0, 2, 0xffff_fffe] {
            let entry = at_scratch(opcode, 0, 1).with(1, namespace);
            assert_eq!(status(rig.io(entry)), INVALID_NAMESPACE, "{opcode:#x} {namespace}");
        }
    }
    assert_eq!(status(rig.io(at_scratch(READ, 0, 1).with(1, 0xffff_ffff))), INVALID_NAMESPACE);
    assert_eq!(status(rig.io(Entry::new(FLUSH, 0xffff_ffff))), 0, "all namespaces");
}

#[test]
fn transfers_are_as_long_as_mdts_and_not_longer() {
    let mut rig = Rig::probed();
    let most = with_prps(&rig.bench, Entry::new(READ, 1).blocks(0, 1024), SCRATCH, 512 << 10);
    assert_eq!(status(rig.io(most)), 0);
    for opcode in [READ, WRITE, COMPARE] {
        let entry = with_prps(&rig.bench, Entry::new(opcode, 1).blocks(0, 1025), SCRATCH, 513 << 10);
        assert_eq!(status(rig.io(entry)), INVALID_FIELD);
    }
    // They move nothing to or from the guest.
    assert_eq!(status(rig.io(at_scratch(VERIFY, 0, 65536))), 0);
    assert_eq!(status(rig.io(at_scratch(WRITE_ZEROES, 0, 65536))), 0);
}

#[test]
fn fused_commands_and_directives_are_refused() {
    let mut rig = Rig::probed();
    for fuse in [1, 2, 3] {
        let entry = at_scratch(COMPARE, 0, 1).with(0, u32::from(COMPARE) | fuse << 8);
        assert_eq!(status(rig.io(entry)), INVALID_FIELD);
    }
    let streams = at_scratch(WRITE, 0, 1).with(12, 1 << 20);
    assert_eq!(status(rig.io(streams)), INVALID_FIELD);
}

#[test]
fn compare_tells_same_from_different() {
    let mut rig = Rig::probed();
    let contents = pattern(2, 9);
    rig.write_blocks(30, &contents).unwrap();
    assert!(rig.bench.memory.poke(SCRATCH, &contents));
    assert_eq!(status(rig.io(at_scratch(COMPARE, 30, 2))), 0);
    assert!(rig.bench.memory.poke(SCRATCH + 1023, &[contents[1023] ^ 1]));
    assert_eq!(status(rig.io(at_scratch(COMPARE, 30, 2))), COMPARE_FAILURE);
    assert_eq!(status(rig.io(at_scratch(COMPARE, 30, 1))), 0, "the first block is the same");
}

#[test]
fn write_zeroes_discards_and_the_blocks_read_as_zeros() {
    let mut rig = Rig::probed();
    rig.write_blocks(0, &pattern(8, 1)).unwrap();
    let _ = rig.media.take_requests();
    assert_eq!(status(rig.io(Entry::new(WRITE_ZEROES, 1).blocks(2, 3))), 0);
    assert_eq!(rig.media.take_requests(), ["Discard { 3 from 2 }"]);
    let blocks = rig.read_blocks(0, 8).unwrap();
    let zeros: Vec<_> =
        (0..8).filter(|block| blocks[512 * block..512 * (block + 1)].iter().all(|b| *b == 0)).collect();
    assert_eq!(zeros, [2, 3, 4]);
}

fn ranges(list: &[(u64, u32)]) -> Vec<u8> {
    let entry = |(first, count): &(u64, u32)| {
        [0u32.to_le_bytes(), count.to_le_bytes()].concat().into_iter().chain(first.to_le_bytes())
    };
    list.iter().flat_map(entry).collect()
}

fn deallocate(count: u32) -> Entry {
    Entry::new(DATASET_MANAGEMENT, 1).prps(SCRATCH, 0).with(10, count - 1).with(11, 4)
}

#[test]
fn dataset_management_deallocates_every_range() {
    let mut rig = Rig::probed();
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&[(5, 10), (100, 0), (BLOCKS - 1, 1)])));
    assert_eq!(status(rig.io(deallocate(3))), 0);
    let last = format!("Discard {{ 1 from {} }}", BLOCKS - 1);
    assert_eq!(rig.media.take_requests(), ["Discard { 10 from 5 }", &last]);
    // 256 ranges are the most.
    let many: Vec<_> = (0..256).map(|index| (index * 2, 1)).collect();
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&many)));
    assert_eq!(status(rig.io(deallocate(256))), 0);
    assert_eq!(rig.media.take_requests().len(), 256);
}

#[test]
fn dataset_management_checks_every_range_before_it_begins() {
    let mut rig = Rig::probed();
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&[(5, 10), (BLOCKS, 1)])));
    assert_eq!(status(rig.io(deallocate(2))), LBA_OUT_OF_RANGE);
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&[(u64::MAX, 2)])));
    assert_eq!(status(rig.io(deallocate(1))), LBA_OUT_OF_RANGE);
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&[(5, 10)])));
    assert_eq!(status(rig.io(deallocate(1).with(11, 3))), 0, "hints only");
    assert_eq!(rig.media.take_requests(), Vec::<String>::new());
}

#[test]
fn verify_reads_everything_and_moves_nothing() {
    let mut rig = Rig::probed();
    let dma_before = rig.bench.log.records().len();
    assert_eq!(status(rig.io(Entry::new(VERIFY, 1).blocks(10, 5000))), 0);
    let requests = rig.media.take_requests();
    assert_eq!(requests, ["Read { 2048 from 10 }", "Read { 2048 from 2058 }", "Read { 904 from 4106 }"]);
    let data = rig.bench.log.records()[dma_before..]
        .iter()
        .filter(|record| matches!(record.what, sdmorph_testkit::Seen::Dma { length, .. } if length > 64));
    assert_eq!(data.count(), 0);
    rig.media.fail(5009..5010, sdmorph_pci::MediaError::Io);
    assert_eq!(status(rig.io(Entry::new(VERIFY, 1).blocks(10, 5000))), 0x281);
}

#[test]
fn write_protected_namespace_refuses_what_would_change_it() {
    let mut rig = Rig::read_only().probe();
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&[(5, 10)])));
    assert_eq!(status(rig.io(at_scratch(WRITE, 0, 1))), WRITE_PROTECTED);
    assert_eq!(status(rig.io(at_scratch(WRITE_ZEROES, 0, 1))), WRITE_PROTECTED);
    assert_eq!(status(rig.io(deallocate(1))), WRITE_PROTECTED);
    assert_eq!(status(rig.io(at_scratch(READ, 0, 1))), 0);
    assert_eq!(status(rig.io(Entry::new(FLUSH, 1))), 0);
    assert_eq!(rig.refused("Namespace is Write Protected"), 3);
}

#[test]
fn forced_unit_access_ends_after_a_flush_that_follows_the_data() {
    for (opcode, change) in [(WRITE, "Write { 1 from 3 }"), (WRITE_ZEROES, "Discard { 1 from 3 }")] {
        let mut rig = Rig::probed();
        rig.media.hold();
        rig.submit(1, at_scratch(opcode, 3, 1).with(12, FUA));
        assert_eq!(rig.media.take_requests(), [change]);
        rig.media.release_one();
        rig.wake();
        assert_eq!(rig.reap(1), [], "{change}: the flush is under way");
        assert_eq!(rig.media.take_requests(), ["Flush"]);
        rig.media.release_one();
        rig.wake();
        assert_eq!(rig.reap(1)[0].code(), 0);
    }
}

#[test]
fn without_a_write_cache_everything_that_changes_is_flushed() {
    let mut rig = Rig::probed();
    rig.admin(set_feature(6, 0)).unwrap();
    assert!(rig.bench.memory.poke(SCRATCH, &ranges(&[(5, 10)])));
    for entry in [at_scratch(WRITE, 3, 1), at_scratch(WRITE_ZEROES, 3, 1), deallocate(1)] {
        let _ = rig.media.take_requests();
        assert_eq!(status(rig.io(entry)), 0);
        let requests = rig.media.take_requests();
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert_eq!(requests[1], "Flush");
    }
    let _ = rig.media.take_requests();
    assert_eq!(status(rig.io(at_scratch(READ, 3, 1))), 0);
    assert_eq!(rig.media.take_requests(), ["Read { 1 from 3 }"]);
}

#[test]
fn write_with_a_cache_needs_no_flush() {
    let mut rig = Rig::probed();
    rig.write_blocks(0, &[1; 512]).unwrap();
    assert_eq!(rig.media.take_requests(), ["Write { 1 from 0 }"]);
}

#[test]
fn flush_completes_when_the_medium_s_flush_has() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(1, Entry::new(FLUSH, 1));
    assert_eq!(rig.reap(1), []);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.reap(1)[0].code(), 0);
}
