//! Get and Set Features.

use std::time::Duration;

use sdmorph_testkit::nvme::{Entry, set_feature};

use crate::rig::{Rig, SCRATCH, status, u64_at};

const INVALID_FIELD: u16 = 0x002;

fn get(feature: u32, select: u32) -> Entry {
    Entry::new(10, 0).with(10, select << 8 | feature).prps(SCRATCH, 0)
}

/// Feature, default, a value to set, and what is read back.
const PLAIN: &[(u32, u32, u32, u32)] = &[
    (0x01, 3, 0x0102_0305, 0x0102_0305),
    (0x02, 0, 2, 2),
    (0x04, 343, 350, 350),
    (0x06, 1, 0, 0),
    (0x08, 0, 0x0a05, 0x0a05),
    (0x0a, 0, 1, 1),
    (0x0b, 0x100, 0x1ff, 0x11f),
];

#[test]
fn features_keep_what_is_set_and_know_their_defaults() {
    for &(feature, default, value, read) in PLAIN {
        let mut rig = Rig::probed();
        assert_eq!(rig.admin(get(feature, 0)), Ok(default), "{feature:#x}");
        assert_eq!(rig.admin(set_feature(feature, value)), Ok(0), "{feature:#x}");
        assert_eq!(rig.admin(get(feature, 0)), Ok(read), "{feature:#x}");
        let default = if feature == 0x0b { 0 } else { default };
        assert_eq!(rig.admin(get(feature, 1)), Ok(default), "{feature:#x} default");
        assert_eq!(rig.admin(get(feature, 2)), Ok(default), "{feature:#x} saved");
        assert_eq!(rig.admin(get(feature, 3)), Ok(4), "{feature:#x}: changeable, not saveable");
        rig.driver.enable(&mut rig.bench, &mut rig.nvme).unwrap();
        assert_eq!(rig.admin(get(feature, 0)), Ok(default), "{feature:#x} after reset");
    }
}

#[test]
fn features_that_are_not_there_cannot_be_saved_or_select_nothing_are_refused() {
    let mut rig = Rig::probed();
    // Host memory buffer, Keep Alive timer, thermal management, a reserved one, a vendor's.
    for feature in [0x00, 0x03, 0x0d, 0x0f, 0x10, 0x11, 0x16, 0x7f, 0xc0, 0xff] {
        assert_eq!(status(rig.admin(get(feature, 0))), INVALID_FIELD, "{feature:#x}");
        assert_eq!(status(rig.admin(set_feature(feature, 0))), INVALID_FIELD, "{feature:#x}");
    }
    assert_eq!(status(rig.admin(set_feature(6 | 1 << 31, 1))), 0x10d);
    for select in 4..8 {
        assert_eq!(status(rig.admin(get(6, select))), INVALID_FIELD);
    }
}

#[test]
fn features_of_the_controller_and_of_the_namespace_are_told_apart() {
    let mut rig = Rig::probed();
    let with = |entry: Entry, namespace| entry.with(1, namespace);
    assert_eq!(status(rig.admin(with(set_feature(6, 1), 1))), 0x10f);
    assert_eq!(status(rig.admin(with(set_feature(6, 1), 0xffff_ffff))), 0);
    assert_eq!(status(rig.admin(with(set_feature(5, 77), 0))), 0x00b);
    assert_eq!(status(rig.admin(with(set_feature(5, 77), 1))), 0);
    assert_eq!(rig.admin(with(get(5, 0), 1)), Ok(77));
    assert_eq!(status(rig.admin(with(get(5, 0), 9))), 0x00b);
    assert_eq!(rig.admin(with(get(5, 3), 1)), Ok(6), "of the namespace, changeable");
    assert_eq!(status(rig.admin(with(set_feature(5, 1 << 16), 1))), INVALID_FIELD, "DULBE");
}

#[test]
fn power_states_that_are_not_there_are_refused() {
    let mut rig = Rig::probed();
    assert_eq!(status(rig.admin(set_feature(2, 3))), INVALID_FIELD);
    assert_eq!(rig.admin(get(2, 0)), Ok(0));
}

#[test]
fn temperature_thresholds_are_of_the_composite_temperature_and_raise_an_event() {
    let mut rig = Rig::probed();
    assert_eq!(status(rig.admin(set_feature(4, 1 << 16 | 300))), INVALID_FIELD, "no sensor 1");
    assert_eq!(status(rig.admin(set_feature(4, 2 << 20 | 300))), INVALID_FIELD, "reserved");
    rig.admin(set_feature(0x0b, 2)).unwrap();
    // Under temperature threshold above the temperature.
    rig.admin(set_feature(4, 1 << 20 | 400)).unwrap();
    assert_eq!(rig.admin(get(4, 0).with(11, 1 << 20)), Ok(400));
    assert_eq!(rig.log_page(2, 512)[0], 2, "critical warning");
    let mut rig = Rig::probed();
    rig.admin(set_feature(0x0b, 2)).unwrap();
    rig.submit(0, set_feature(4, 300));
    let results: Vec<_> = rig.reap(0).iter().map(|completion| completion.result).collect();
    assert!(results.contains(&0x0002_0101), "SMART event, temperature threshold: {results:x?}");
}

#[test]
fn interrupt_vectors_are_configured_one_by_one() {
    let mut rig = Rig::probed();
    rig.admin(set_feature(9, 1 << 16 | 2)).unwrap();
    assert_eq!(rig.admin(get(9, 0).with(11, 2)), Ok(1 << 16 | 2));
    assert_eq!(rig.admin(get(9, 0).with(11, 1)), Ok(1));
    assert_eq!(rig.admin(get(9, 1).with(11, 2)), Ok(2), "default");
    assert_eq!(status(rig.admin(set_feature(9, 17))), INVALID_FIELD);
    assert_eq!(status(rig.admin(get(9, 0).with(11, 17))), INVALID_FIELD);
}

#[test]
fn autonomous_transitions_are_kept_and_checked() {
    let mut rig = Rig::probed();
    // To state 2 after 100 ms, as Linux writes it.
    let entry = u64::from(2u32 << 3 | 100 << 8).to_le_bytes();
    let mut table = vec![0; 256];
    table[..8].copy_from_slice(&entry);
    assert!(rig.bench.memory.poke(SCRATCH, &table));
    rig.admin(set_feature(0x0c, 1).prps(SCRATCH, 0)).unwrap();
    assert!(rig.bench.memory.poke(SCRATCH, &[0xee; 256]));
    assert_eq!(rig.admin(get(0x0c, 0)), Ok(1));
    assert_eq!(rig.bench.memory.peek(SCRATCH, 256).unwrap(), table);
    for state in [1u32, 3, 31] {
        table[0] = (state << 3) as u8;
        assert!(rig.bench.memory.poke(SCRATCH, &table));
        assert_eq!(status(rig.admin(set_feature(0x0c, 1).prps(SCRATCH, 0))), INVALID_FIELD, "state {state}");
    }
}

#[test]
fn timestamp_goes_on_from_what_was_set() {
    let mut rig = Rig::probed();
    let set = 1_700_000_000_000u64;
    assert!(rig.bench.memory.poke(SCRATCH, &set.to_le_bytes()));
    rig.admin(set_feature(0x0e, 0).prps(SCRATCH, 0)).unwrap();
    rig.bench.advance(&mut rig.nvme, Duration::from_millis(1234));
    rig.admin(get(0x0e, 0)).unwrap();
    let value = u64_at(&rig.bench.memory.peek(SCRATCH, 8).unwrap(), 0);
    assert_eq!(value & ((1 << 48) - 1), set + 1234);
    assert_eq!(value >> 48, 2, "set by the host");
}

#[test]
fn write_cache_that_is_switched_off_is_flushed_first() {
    let mut rig = Rig::probed();
    rig.media.hold();
    rig.submit(0, set_feature(6, 0));
    assert_eq!(rig.reap(0), []);
    assert_eq!(rig.media.take_requests(), ["Flush"]);
    rig.media.release();
    rig.wake();
    assert_eq!(rig.reap(0).len(), 1);
    assert_eq!(rig.admin(get(6, 0)), Ok(0));
    rig.admin(set_feature(6, 1)).unwrap();
    assert_eq!(rig.admin(get(6, 0)), Ok(1));
}
