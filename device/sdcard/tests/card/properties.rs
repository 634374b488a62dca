//! Any host, however mad.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sdmorph_pci::{Bus, CardError, CardResponse, Disturbance, MediaError, SdCard};
use sdmorph_sdcard::crc7::crc7;
use sdmorph_sdcard::table::{self, Format};
use sdmorph_sdcard::{Capacity, MemoryCard, Profile, State, status};
use sdmorph_testkit::TestMedia;

use crate::host::{Host, SDHC, SDSC, SDUC, SDXC, ms};

/// What a host does to a card.
#[derive(Debug, Clone)]
enum Step {
    Command(u8, u32),
    /// To the card's own address.
    Addressed(u8),
    App(u8, u32),
    Read(u16, u32),
    Write(u16, usize),
    Bus(Bus),
    Wait(u64),
    Hold,
    Release,
    ReleaseOne,
    Fail(u64),
    PowerCycle,
    Disturb(Disturbance),
    /// Brings the card where things happen, at 1.8 V if it has that.
    Select {
        low_voltage: bool,
    },
}

fn argument() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(0u32),
        2 => Just(0x1aa),
        4 => Just(0x4930_0000),
        4 => 0u32..64,
        2 => (0u32..64).prop_map(|block| block * 512),
        2 => Just(0x80ff_fff1),
        1 => Just(0x80ff_fff4),
        1 => Just(512u32),
        1 => any::<u32>(),
    ]
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    prop_oneof![
        (0u32..3).prop_map(Disturbance::ResponseCrc),
        (0u32..3).prop_map(Disturbance::ResponseTimeout),
        (0u32..3).prop_map(Disturbance::DataCrc),
        (0u32..3).prop_map(Disturbance::DataTimeout),
        (0u64..50).prop_map(|time| Disturbance::Busy(ms(time))),
        (0u64..64, any::<u64>()).prop_map(|(first, count)| Disturbance::BadBlocks { first, count }),
        Just(Disturbance::Heal),
    ]
}

fn command(indices: Vec<u8>) -> impl Strategy<Value = Vec<Step>> {
    (prop::sample::select(indices), argument())
        .prop_map(|(index, argument)| vec![Step::Command(index, argument)])
}

/// What a host does in a row, mostly.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = || prop::sample::select(vec![512u16, 512, 512, 512, 64, 16, 8, 4, 0, 1]);
    let bus = (prop::sample::select(vec![1u8, 4, 8]), any::<bool>(), any::<bool>(), any::<bool>());
    let one = |strategy: BoxedStrategy<Step>| strategy.prop_map(|step| vec![step]);
    prop_oneof![
        20 => command(vec![6, 12, 12, 16, 17, 18, 19, 20, 22, 23, 24, 25, 27, 28, 29, 30, 32, 33, 38, 42, 56]),
        2 => command(vec![0, 2, 3, 8, 11]),
        2 => (any::<u8>(), argument()).prop_map(|(index, argument)| vec![Step::Command(index, argument)]),
        8 => one(prop::sample::select(vec![7u8, 7, 9, 10, 13, 13, 13, 55, 55, 15]).prop_map(Step::Addressed).boxed()),
        // Another card is selected.
        3 => Just(vec![Step::Command(7, 0)]),
        4 => (prop::sample::select(vec![6u8, 13, 22, 23, 41, 42, 51, 18]), argument())
            .prop_map(|(index, argument)| vec![Step::App(index, argument)]),
        8 => (lengths(), 0u32..5000).prop_map(|(length, blocks)| vec![Step::Read(length, blocks)]),
        8 => (lengths(), 0usize..9).prop_map(|(length, blocks)| vec![Step::Write(length, blocks)]),
        6 => (argument(), 1u32..9)
            .prop_map(|(at, blocks)| vec![Step::Command(18, at), Step::Read(512, blocks)]),
        6 => (argument(), 1usize..9)
            .prop_map(|(at, blocks)| vec![Step::Command(25, at), Step::Write(512, blocks)]),
        4 => argument().prop_map(|at| vec![Step::Command(24, at), Step::Write(512, 1)]),
        4 => (argument(), argument(), 0u32..3).prop_map(|(first, last, argument)| {
            vec![Step::Command(32, first), Step::Command(33, last), Step::Command(38, argument)]
        }),
        // CMD42 with one byte: erase, or something wrong.
        2 => any::<bool>().prop_map(|erases| {
            let bytes = if erases { 1 } else { 4 };
            vec![Step::Command(16, bytes), Step::Command(42, 0), Step::Write(bytes as u16, 1)]
        }),
        1 => one(bus.prop_map(|(width, ddr, low_voltage, clock)| {
            Step::Bus(Bus { width, ddr, low_voltage, clock })
        }).boxed()),
        3 => one((0u64..30).prop_map(Step::Wait).boxed()),
        2 => Just(vec![Step::Hold]),
        1 => Just(vec![Step::Release]),
        4 => Just(vec![Step::ReleaseOne]),
        1 => one((0u64..64).prop_map(Step::Fail).boxed()),
        1 => Just(vec![Step::PowerCycle]),
        1 => one(disturbance().prop_map(Step::Disturb).boxed()),
        8 => one(any::<bool>().prop_map(|low_voltage| Step::Select { low_voltage }).boxed()),
    ]
}

/// Checks what is true of a response whatever came before.
fn check_response(card: &MemoryCard, index: u8, response: &Result<CardResponse, CardError>) {
    let Ok(response) = response else { return };
    let app = card.last_command().starts_with('A');
    let (command, _) = table::find(index & 0x3f, app);
    let command = command.expect("an illegal command has no response");
    match (response, command.format) {
        (CardResponse::None, Format::None) => {}
        (CardResponse::Long(bytes), Format::R2Cid | Format::R2Csd) => {
            assert_eq!(bytes[0], 0x3f);
            assert_eq!(bytes[16], crc7(&bytes[1..16]) << 1 | 1);
        }
        (CardResponse::Short(bytes), Format::R3) => assert_eq!((bytes[0], bytes[5]), (0x3f, 0xff)),
        (CardResponse::Short(bytes), format) => {
            assert_eq!(bytes[0], index & 0x3f);
            assert_eq!(bytes[5], crc7(&bytes[..5]) << 1 | 1);
            if matches!(format, Format::R1 | Format::R1b) {
                let status = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                let modelled = status::FIELDS.iter().filter(|field| field.is_modelled);
                let known = modelled.fold(0, |mask, field| mask | field.mask);
                assert_eq!(status & !known, 0, "{status:#x}");
                assert!(status >> 9 & 0xf <= 8);
            }
        }
        (response, format) => panic!("{response:?} for {format:?}"),
    }
}

/// Where a command may lead, with what may end at the same time (4.8).
fn may_lead(from: State, command: &str, to: State) -> bool {
    use State::{
        Disconnect, Identification, Idle, Inactive, Programming, Ready, ReceiveData, SendingData, StandBy,
        Transfer,
    };
    let ends = matches!((from, to), (Programming, Transfer) | (Disconnect, StandBy));
    from == to
        || ends
        || match command {
            "CMD0" => from != Inactive && to == Idle,
            "ACMD41" => from == Idle && (to == Ready || to == Inactive),
            "CMD2" => (from, to) == (Ready, Identification),
            "CMD3" => (from, to) == (Identification, StandBy),
            "CMD7" => matches!(
                (from, to),
                (StandBy | Disconnect, Transfer)
                    | (Transfer | SendingData | Programming, StandBy)
                    | (Programming, Disconnect)
                    | (Disconnect, Programming)
            ),
            "CMD12" => {
                matches!((from, to), (SendingData | ReceiveData, Transfer) | (ReceiveData, Programming))
            }
            "CMD15" => from != Inactive && to == Inactive,
            "CMD6" | "CMD17" | "CMD18" | "CMD19" | "CMD30" | "ACMD13" | "ACMD22" | "ACMD51" => {
                matches!(from, Transfer | Programming) && to == SendingData
            }
            "CMD24" | "CMD25" | "CMD27" | "CMD42" => {
                matches!(from, Transfer | Programming) && to == ReceiveData
            }
            "CMD56" => matches!(from, Transfer | Programming) && (to == SendingData || to == ReceiveData),
            "CMD20" | "CMD28" | "CMD29" | "CMD38" => from == Transfer && to == Programming,
            "read" => (from, to) == (SendingData, Transfer),
            "write" => from == ReceiveData && (to == Programming || to == Transfer),
            _ => false,
        }
}

fn walk(bytes: u64, steps: Vec<Vec<Step>>) -> Host {
    let mut host = Host::with(Profile::express(1, Capacity::new(bytes).unwrap()));
    for step in steps.into_iter().flatten() {
        let before = host.state();
        let mut did = String::new();
        match step {
            Step::Command(index, argument) => {
                let response = host.cmd(index, argument);
                did = host.card.last_command();
                check_response(&host.card, index, &response);
            }
            Step::Addressed(index) => {
                let response = host.cmd(index, host.rca);
                did = host.card.last_command();
                check_response(&host.card, index, &response);
            }
            Step::App(index, argument) => {
                let _ = host.cmd(55, host.rca);
                let response = host.cmd(index, argument);
                did = host.card.last_command();
                check_response(&host.card, index, &response);
            }
            Step::Read(length, blocks) => {
                did = "read".into();
                if let Ok(data) = host.read(length, blocks) {
                    assert!(data.len() <= 1 << 20 && data.len() <= usize::from(length) * blocks as usize);
                    assert_eq!(data.len() % usize::from(length.max(1)), 0);
                }
            }
            Step::Write(length, blocks) => {
                did = "write".into();
                let _ = host.write(length, vec![7; usize::from(length) * blocks]);
            }
            Step::Bus(bus) => host.set_bus(bus),
            Step::Wait(time) => host.now += ms(time),
            Step::Hold => host.media.hold(),
            Step::Release => host.media.release(),
            Step::ReleaseOne => drop(host.media.release_one()),
            Step::Fail(block) => host.media.fail(block..block + 1, MediaError::Io),
            Step::Disturb(disturbance) => drop(host.card.disturb(host.now, disturbance)),
            Step::PowerCycle => {
                host.card.power_cycle();
                assert_eq!(host.card.state(), State::Idle);
                continue;
            }
            Step::Select { low_voltage } => {
                reach_transfer(&mut host, low_voltage && bytes != SDSC);
                continue;
            }
        }
        let after = host.card.state();
        assert!(may_lead(before, &did, after), "{before:?} -{did}-> {after:?}");
        if let Ok(CardResponse::Short([3, high, low, ..])) = host.cmd_if_published(before) {
            host.rca = u32::from_be_bytes([high, low, 0, 0]);
        }
        host.is_busy();
        assert!(host.card.next_deadline().is_none_or(|deadline| deadline > host.now));
        // One request at a time.
        assert!(host.media.under_way() <= 1);
        host.card.snapshot();
    }
    host
}

impl Host {
    /// The walk finds out the address as a host does that lost it: by asking for a new one.
    fn cmd_if_published(&mut self, before: State) -> Result<CardResponse, CardError> {
        if before == State::Identification && self.card.state() == State::StandBy {
            return self.cmd(3, 0);
        }
        Err(CardError::Timeout)
    }
}

/// Power, and the way to the transfer state, past whatever disturbs it.
fn reach_transfer(host: &mut Host, low_voltage: bool) {
    host.card.disturb(host.now, Disturbance::Heal).unwrap();
    host.media.heal();
    host.card.power_cycle();
    host.set_bus(Bus { clock: true, ..Bus::INITIAL });
    host.now += ms(1);
    host.make_ready(if low_voltage { 0x4930_0000 } else { 0x4830_0000 });
    if low_voltage {
        host.switch_voltage();
    }
    host.make_stand_by();
    let status = host.short(7, host.rca);
    assert_eq!(status & status::ILLEGAL_COMMAND, 0);
    assert_eq!(host.state(), State::Transfer);
    if low_voltage {
        host.widen();
    }
}

fn capacity() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![SDSC, SDHC, SDXC, SDUC])
}

/// What a well-behaved host does with data.
#[derive(Debug, Clone)]
enum Io {
    Write { at: u64, count: u32, counted: bool, pieces: u32 },
    Read { at: u64, count: u32, counted: bool, pieces: u32 },
    Erase { at: u64, count: u32 },
    Late(bool),
    Reset,
    PowerCycle,
}

const AREA: u64 = 40;

fn io() -> impl Strategy<Value = Io> {
    let range = || (0..AREA, 1u32..12, any::<bool>(), 1u32..5);
    prop_oneof![
        6 => range().prop_map(|(at, count, counted, pieces)| Io::Write { at, count, counted, pieces }),
        6 => range().prop_map(|(at, count, counted, pieces)| Io::Read { at, count, counted, pieces }),
        2 => (0..AREA, 1u32..12).prop_map(|(at, count)| Io::Erase { at, count }),
        1 => any::<bool>().prop_map(Io::Late),
        1 => Just(Io::Reset),
        1 => Just(Io::PowerCycle),
    ]
}

/// Does `work` while the medium is late or not, until the card is not busy.
fn until_idle(host: &mut Host) {
    for _ in 0..100 {
        if !host.is_busy() && host.status() & status::READY_FOR_DATA != 0 {
            return;
        }
        host.media.release_one();
    }
    panic!("never ready");
}

fn address(bytes: u64, block: u64) -> u32 {
    (if bytes == SDSC { block * 512 } else { block }) as u32
}

fn do_io(host: &mut Host, bytes: u64, io: &Io, model: &mut BTreeMap<u64, u8>, stamp: u8) {
    match *io {
        Io::Late(late) => {
            if late {
                host.media.hold();
            } else {
                host.media.release();
            }
        }
        Io::Reset => host.select(),
        Io::PowerCycle => reach_transfer(host, false),
        Io::Erase { at, count } => {
            host.r1(32, address(bytes, at));
            host.r1(33, address(bytes, at + u64::from(count) - 1));
            host.r1(38, u32::from(stamp & 1));
            until_idle(host);
            for block in at..at + u64::from(count) {
                model.remove(&block);
            }
        }
        Io::Write { at, count, counted, pieces } => {
            if counted {
                host.r1(23, count);
            }
            host.r1(25, address(bytes, at));
            let mut left = count;
            while left > 0 {
                let piece = left.min(pieces);
                host.write(512, vec![stamp; piece as usize * 512]).unwrap();
                until_idle(host);
                left -= piece;
            }
            if !counted {
                host.r1(12, 0);
            }
            until_idle(host);
            for block in at..at + u64::from(count) {
                model.insert(block, stamp);
            }
        }
        Io::Read { at, count, counted, pieces } => {
            if counted {
                host.r1(23, count);
            }
            host.r1(18, address(bytes, at));
            let mut data = Vec::new();
            while data.len() < count as usize * 512 {
                let left = count - (data.len() / 512) as u32;
                let piece = host.read(512, left.min(pieces)).unwrap();
                if piece.is_empty() {
                    assert!(host.media.release_one());
                }
                data.extend(piece);
            }
            if !counted {
                host.r1(12, 0);
            }
            let expected: Vec<u8> = (at..at + u64::from(count))
                .flat_map(|block| vec![model.get(&block).copied().unwrap_or(0); 512])
                .collect();
            assert!(data == expected, "{io:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_host_leaves_a_card_that_keeps_to_the_table_and_can_be_used(
        bytes in capacity(),
        steps in prop::collection::vec(steps(), 1..150),
    ) {
        let mut host = walk(bytes, steps);
        host.media.release();
        reach_transfer(&mut host, bytes != SDSC);
    }

    #[test]
    fn what_is_written_is_read_back_whatever_is_between(
        bytes in capacity(),
        steps in prop::collection::vec(io(), 1..40),
    ) {
        let mut host = Host::selected(bytes);
        let mut model = BTreeMap::new();
        for (number, io) in steps.iter().enumerate() {
            do_io(&mut host, bytes, io, &mut model, number as u8 | 0x80);
        }
        for block in 0..AREA + 12 {
            let expected = model.get(&block).copied().unwrap_or(0);
            prop_assert_eq!(host.media.peek(block, 1), vec![expected; 512]);
        }
    }

    #[test]
    fn abandoned_write_never_undoes_a_later_one(
        first in 0u64..4, later in 0u64..4, releases in prop::collection::vec(any::<bool>(), 0..6),
    ) {
        let mut host = Host::selected(SDXC);
        host.media.hold();
        host.r1(24, first as u32);
        host.write(512, vec![1; 512]).unwrap();
        host.select();
        host.r1(24, later as u32);
        host.write(512, vec![2; 512]).unwrap();
        for release in releases {
            if release {
                host.media.release_one();
            }
            host.is_busy();
        }
        until_idle(&mut host);
        prop_assert_eq!(host.media.peek(later, 1), vec![2; 512]);
    }

    #[test]
    fn capacity_of_any_number_of_blocks_is_one_the_card_can_have_or_names_two(blocks in any::<u64>(), small in 0u64..1 << 23) {
        for blocks in [blocks, small] {
            match Capacity::of_blocks(blocks) {
                Ok(capacity) => {
                    prop_assert_eq!(capacity.blocks(), blocks);
                    let profile = Profile::legacy(1, capacity);
                    prop_assert!(MemoryCard::new(profile, Box::new(TestMedia::new(blocks))).is_ok());
                }
                Err(sdmorph_sdcard::CapacityError::NotWholeUnits { below, above, bytes, .. }) => {
                    prop_assert!(below < bytes && bytes < above);
                    prop_assert!(Capacity::new(below).is_ok() && Capacity::new(above).is_ok());
                }
                Err(_) => prop_assert!(!(4..=1 << 38).contains(&blocks)),
            }
        }
    }
}

#[test]
fn power_up_is_a_deadline() {
    let mut host = Host::with(Profile::legacy(1, Capacity::new(SDXC).unwrap()));
    assert_eq!(host.card.next_deadline(), None);
    host.short(8, 0x1aa);
    host.short(55, 0);
    host.short(41, 0x4030_0000);
    let ready: Duration = host.now + ms(20);
    assert_eq!(host.card.next_deadline(), Some(ready));
    host.now = ready;
    // It has passed, whether the host asks or not.
    assert!(!host.is_busy());
    assert_eq!(host.card.next_deadline(), None);
    host.short(55, 0);
    assert_eq!(host.short(41, 0x4030_0000) >> 31, 1);
    assert_eq!(host.card.next_deadline(), None);
}
