//! BIPR, BIER and the MSI message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use sdmorph_pci::{Event, Message, PciFunction, ResetKind};
use sdmorph_rtsx::Rtsx;
use sdmorph_sdcard::{Capacity, MemoryCard, Profile};
use sdmorph_testkit::{Bench, TestMedia};

fn memory_card(profile: Profile) -> MemoryCard {
    let medium = TestMedia::new(profile.capacity.blocks());
    MemoryCard::new(profile, Box::new(medium)).unwrap()
}

const HCBCTLR: u64 = 0x04;
const BIPR: u64 = 0x14;
const BIER: u64 = 0x18;
const TRANS_OK: u32 = 1 << 29;
const TRANS_FAIL: u32 = 1 << 28;
const SD_INT: u32 = 1 << 25;
const SD_EXIST: u32 = 1 << 16;
const SD_WRITE_PROTECT: u32 = 1 << 19;
const MSI: u16 = 0x90;

fn with_msi() -> (Bench, Rtsx) {
    let mut bench = Bench::default();
    let mut reader = Rtsx::new();
    bench.config_write(&mut reader, 0x04, 2, 0x0006);
    bench.config_write(&mut reader, MSI + 4, 4, 0xfee0_1000);
    bench.config_write(&mut reader, MSI + 0xc, 2, 0x42);
    bench.config_write(&mut reader, MSI + 2, 2, 1);
    (bench, reader)
}

fn insert(bench: &mut Bench, reader: &mut Rtsx) {
    let card = Box::new(memory_card(Profile::express(1, Capacity::DEFAULT)));
    bench.with(reader, |reader, ctx| reader.insert(ctx, card));
}

/// An empty command list: raises TRANS_OK.
fn raise_trans_ok(bench: &mut Bench, reader: &mut Rtsx) {
    bench.write(reader, HCBCTLR, 0xc000_0000);
}

#[test]
fn card_insertion_sets_the_source_and_the_presence_bit_and_sends_the_message() {
    let (mut bench, mut reader) = with_msi();
    bench.write(&mut reader, BIER, SD_INT);
    insert(&mut bench, &mut reader);
    assert_eq!(bench.read(&mut reader, BIPR), SD_INT | SD_EXIST);
    assert_eq!(bench.interrupts.all(), [Message { vector: 0, address: 0xfee0_1000, data: 0x42 }]);
}

#[test]
fn presence_bits_cannot_be_written_and_sources_clear_by_writing_one() {
    let (mut bench, mut reader) = with_msi();
    reader.set_write_protect(true);
    assert_eq!(bench.read(&mut reader, BIPR), 0);
    insert(&mut bench, &mut reader);
    raise_trans_ok(&mut bench, &mut reader);
    let presence = SD_EXIST | SD_WRITE_PROTECT;
    assert_eq!(bench.read(&mut reader, BIPR), SD_INT | TRANS_OK | presence);
    bench.write(&mut reader, BIPR, 0);
    assert_eq!(bench.read(&mut reader, BIPR), SD_INT | TRANS_OK | presence);
    bench.write(&mut reader, BIPR, SD_INT | presence);
    assert_eq!(bench.read(&mut reader, BIPR), TRANS_OK | presence);
    bench.write(&mut reader, BIPR, u32::MAX);
    assert_eq!(bench.read(&mut reader, BIPR), presence);
}

#[test]
fn each_source_sends_one_message_when_it_comes_up() {
    let (mut bench, mut reader) = with_msi();
    bench.write(&mut reader, BIER, SD_INT | TRANS_OK);
    insert(&mut bench, &mut reader);
    assert_eq!(bench.interrupts.take_new().len(), 1);
    // Another source while the first is pending.
    raise_trans_ok(&mut bench, &mut reader);
    assert_eq!(bench.interrupts.take_new().len(), 1);
    // The same source again, while it is pending.
    raise_trans_ok(&mut bench, &mut reader);
    assert_eq!(bench.interrupts.take_new().len(), 0);
    // Clearing one leaves the other pending and sends nothing.
    bench.write(&mut reader, BIPR, TRANS_OK);
    assert_eq!(bench.interrupts.take_new().len(), 0);
    raise_trans_ok(&mut bench, &mut reader);
    assert_eq!(bench.interrupts.take_new().len(), 1);
}

#[test]
fn source_that_is_not_enabled_is_pending_and_sends_when_it_is() {
    let (mut bench, mut reader) = with_msi();
    insert(&mut bench, &mut reader);
    assert_eq!(bench.interrupts.take_new().len(), 0);
    bench.write(&mut reader, BIER, TRANS_FAIL);
    assert_eq!(bench.interrupts.take_new().len(), 0);
    bench.write(&mut reader, BIER, SD_INT);
    assert_eq!(bench.interrupts.take_new().len(), 1);
    bench.write(&mut reader, BIER, SD_INT);
    assert_eq!(bench.interrupts.take_new().len(), 0);
}

#[test]
fn message_waits_for_msi_and_bus_mastering() {
    let (mut bench, mut reader) = with_msi();
    bench.config_write(&mut reader, MSI + 2, 2, 0);
    bench.write(&mut reader, BIER, SD_INT);
    insert(&mut bench, &mut reader);
    assert_eq!(bench.interrupts.take_new().len(), 0);
    bench.config_write(&mut reader, 0x04, 2, 0x0002);
    bench.config_write(&mut reader, MSI + 2, 2, 1);
    assert_eq!(bench.interrupts.take_new().len(), 0);
    bench.config_write(&mut reader, 0x04, 2, 0x0006);
    assert_eq!(bench.interrupts.take_new().len(), 1);
}

#[test]
fn driver_is_bound_at_the_first_enabled_source_after_each_reset() {
    let (mut bench, mut reader) = with_msi();
    for value in [0, 0x003f_ffff, SD_INT, 0, SD_INT] {
        bench.write(&mut reader, BIER, value);
    }
    let bound = |bench: &Bench| bench.log.events().filter(|event| *event == Event::DriverBound).count();
    assert_eq!(bound(&bench), 1);
    bench.with(&mut reader, |reader, ctx| reader.reset(ctx, ResetKind::Function));
    bench.write(&mut reader, BIER, SD_INT);
    assert_eq!(bound(&bench), 2);
}

#[test]
fn reset_forgets_what_is_pending_and_keeps_the_card() {
    let (mut bench, mut reader) = with_msi();
    bench.write(&mut reader, BIER, SD_INT);
    insert(&mut bench, &mut reader);
    bench.with(&mut reader, |reader, ctx| reader.reset(ctx, ResetKind::Hot));
    assert_eq!(bench.read(&mut reader, BIPR), SD_EXIST);
    assert_eq!(bench.interrupts.take_new().len(), 1);
}

#[test]
fn second_card_takes_the_place_of_the_first_with_both_events() {
    let (mut bench, mut reader) = with_msi();
    insert(&mut bench, &mut reader);
    insert(&mut bench, &mut reader);
    let events: Vec<_> = bench.log.events().collect();
    assert_eq!(events, [Event::CardInserted, Event::CardEjected, Event::CardInserted]);
}

/// What can happen to the interrupt sources.
#[derive(Debug, Clone)]
enum Step {
    Insert,
    Eject,
    List,
    Clear(u32),
    Enable(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let sources = prop::sample::select(vec![0, SD_INT, TRANS_OK, SD_INT | TRANS_OK, u32::MAX]);
    prop_oneof![
        Just(Step::Insert),
        Just(Step::Eject),
        Just(Step::List),
        sources.clone().prop_map(Step::Clear),
        sources.prop_map(Step::Enable),
    ]
}

proptest! {
    #[test]
    fn message_is_sent_exactly_when_a_source_becomes_pending_and_enabled(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (mut bench, mut reader) = with_msi();
        for step in steps {
            let before = bench.read(&mut reader, BIPR) & bench.read(&mut reader, BIER);
            match step {
                // Ejecting first would make two changes of one step.
                Step::Insert if reader.has_card() => {}
                Step::Insert => insert(&mut bench, &mut reader),
                Step::Eject => drop(bench.with(&mut reader, |reader, ctx| reader.eject(ctx))),
                Step::List => raise_trans_ok(&mut bench, &mut reader),
                Step::Clear(sources) => bench.write(&mut reader, BIPR, sources),
                Step::Enable(sources) => bench.write(&mut reader, BIER, sources),
            }
            let after = bench.read(&mut reader, BIPR) & bench.read(&mut reader, BIER);
            let risen = after & !before != 0;
            prop_assert_eq!(bench.interrupts.take_new().len(), usize::from(risen));
        }
    }
}
