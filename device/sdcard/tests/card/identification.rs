//! From power-up to an address.

use std::time::Duration;

use proptest::prelude::*;
use sdmorph_pci::{CardError, CardResponse, SdCard};
use sdmorph_sdcard::crc7::{crc7, end_byte};
use sdmorph_sdcard::{Capacity, Express, MemoryCard, Profile, State};
use sdmorph_testkit::TestMedia;

const START: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(2);
const HCS_33: u32 = 0x4010_0000;

fn card(profile: Profile) -> MemoryCard {
    let medium = TestMedia::new(profile.capacity.blocks());
    MemoryCard::new(profile, Box::new(medium)).unwrap()
}

fn express() -> MemoryCard {
    card(Profile::express(0xcafe, Capacity::gibibytes(64)))
}

fn content(response: Result<CardResponse, CardError>) -> u32 {
    match response {
        Ok(CardResponse::Short([_, a, b, c, d, _])) => u32::from_be_bytes([a, b, c, d]),
        other => panic!("{other:?} is not a response of 48 bits"),
    }
}

/// Runs the identification of 4.2.3 and returns the address.
fn identify(card: &mut MemoryCard) -> u32 {
    assert_eq!(card.command(START, 0, 0), Ok(CardResponse::None));
    assert_eq!(content(card.command(START, 8, 0x1aa)), 0x1aa);
    for now in [START, LATER] {
        assert_eq!(content(card.command(now, 55, 0)), 0x120);
        let ocr = content(card.command(now, 41, HCS_33));
        assert_eq!(ocr, if now == START { 0x00ff_8000 } else { 0xc0ff_8000 });
    }
    assert!(matches!(card.command(LATER, 2, 0), Ok(CardResponse::Long(_))));
    content(card.command(LATER, 3, 0)) & 0xffff_0000
}

#[test]
fn cmd8_with_pcie_bits_is_echoed_by_an_express_card() {
    let mut card = express();
    card.command(START, 0, 0).unwrap();
    assert_eq!(content(card.command(START, 8, 0x31aa)), 0x31aa);
    assert_eq!(content(card.command(START, 8, 0x11aa)), 0x11aa);
}

#[test]
fn cmd8_without_pcie_bits_gets_none_from_an_express_card() {
    let mut card = express();
    assert_eq!(content(card.command(START, 8, 0x1aa)), 0x1aa);
    // 1.2 V alone asks for nothing.
    assert_eq!(content(card.command(START, 8, 0x21aa)), 0x1aa);
}

#[test]
fn cmd8_with_pcie_bits_gets_none_from_a_legacy_card() {
    let mut card = card(Profile::legacy(1, Capacity::gibibytes(32)));
    assert_eq!(content(card.command(START, 8, 0x31aa)), 0x1aa);
}

#[test]
fn cmd8_1v2_bit_is_cleared_by_a_card_without_vdd3() {
    let profile = Profile {
        express: Some(Express { supports_1v2: false }),
        ..Profile::express(1, Capacity::gibibytes(64))
    };
    assert_eq!(content(card(profile).command(START, 8, 0x31aa)), 0x11aa);
}

#[test]
fn cmd8_with_another_voltage_gets_no_response_and_is_not_illegal() {
    let mut card = express();
    assert_eq!(card.command(START, 8, 0x2aa), Err(CardError::Timeout));
    assert_eq!(content(card.command(START, 55, 0)), 0x120);
    assert_eq!(card.illegal_commands(), 0);
}

#[test]
fn identification_ends_selected_with_cid_csd_and_status_readable() {
    let mut card = express();
    let address = identify(&mut card);
    assert_ne!(address, 0);
    for command in [9, 10] {
        let Ok(CardResponse::Long(bytes)) = card.command(LATER, command, address) else { panic!() };
        assert_eq!(bytes[0], 0x3f);
        assert_eq!(bytes[16], end_byte(&bytes[1..16]));
    }
    assert_eq!(content(card.command(LATER, 7, address)), 0x700);
    assert_eq!(content(card.command(LATER, 13, address)), 0x900);
    assert_eq!(card.command(LATER, 7, 0), Err(CardError::Timeout));
    assert_eq!(card.state(), State::StandBy);
    assert_eq!(card.illegal_commands(), 0);
}

#[test]
fn cmd3_again_publishes_another_address() {
    let mut card = express();
    let first = identify(&mut card);
    let second = content(card.command(LATER, 3, 0)) & 0xffff_0000;
    assert_ne!(first, second);
    assert_eq!(card.command(LATER, 9, first), Err(CardError::Timeout));
}

#[test]
fn acmd41_without_hcs_leaves_a_high_capacity_card_busy() {
    let mut card = express();
    card.command(START, 8, 0x1aa).unwrap();
    for _ in 0..3 {
        card.command(LATER, 55, 0).unwrap();
        assert_eq!(content(card.command(LATER, 41, 0x0010_0000)) >> 31, 0);
    }
    assert_eq!(card.state(), State::Idle);
}

#[test]
fn acmd41_without_cmd8_leaves_a_high_capacity_card_busy_and_not_a_standard_one() {
    for (capacity, ocr) in [(8 << 30, 0x00ff_8000), (1 << 30, 0x80ff_8000)] {
        let mut card = card(Profile::legacy(1, Capacity::new(capacity).unwrap()));
        let mut last = 0;
        for now in [START, LATER] {
            card.command(now, 55, 0).unwrap();
            last = content(card.command(now, 41, HCS_33));
        }
        assert_eq!(last, ocr);
    }
}

#[test]
fn acmd41_inquiry_does_not_start_initialisation() {
    let mut card = express();
    card.command(START, 8, 0x1aa).unwrap();
    card.command(START, 55, 0).unwrap();
    assert_eq!(content(card.command(START, 41, 0)), 0x00ff_8000);
    card.command(LATER, 55, 0).unwrap();
    assert_eq!(content(card.command(LATER, 41, HCS_33)) >> 31, 0);
}

#[test]
fn acmd41_of_an_sduc_card_needs_a_host_that_takes_over_two_terabytes() {
    let mut card = card(Profile::express(1, Capacity::new(4 << 40).unwrap()));
    card.command(START, 8, 0x1aa).unwrap();
    for (argument, expected) in [(HCS_33, 0x00ff_8000), (HCS_33 | 1 << 27, 0x00ff_8000)] {
        card.command(START, 55, 0).unwrap();
        assert_eq!(content(card.command(START, 41, argument)), expected);
    }
    card.command(LATER, 55, 0).unwrap();
    assert_eq!(content(card.command(LATER, 41, HCS_33 | 1 << 27)), 0xc8ff_8000);
}

#[test]
fn acmd41_with_no_common_voltage_makes_the_card_inactive_until_power_is_cycled() {
    let mut card = express();
    card.command(START, 55, 0).unwrap();
    assert_eq!(card.command(START, 41, 0x0000_0100), Err(CardError::Timeout));
    assert_eq!(card.state(), State::Inactive);
    assert_eq!(card.command(START, 0, 0), Err(CardError::Timeout));
    card.power_cycle();
    assert_eq!(content(card.command(START, 8, 0x1aa)), 0x1aa);
}

#[test]
fn illegal_command_is_silent_counted_and_shown_in_the_next_status_only() {
    let mut card = express();
    assert_eq!(card.command(START, 17, 0), Err(CardError::Timeout));
    assert_eq!(card.command(START, 2, 0), Err(CardError::Timeout));
    assert_eq!(content(card.command(START, 55, 0)), 0x0040_0120);
    assert_eq!(card.command(START, 51, 0), Err(CardError::Timeout));
    assert_eq!(card.last_command(), "ACMD51");
    assert_eq!(content(card.command(START, 55, 0)), 0x0040_0120);
    assert_eq!(content(card.command(START, 55, 0)), 0x120);
    assert_eq!(card.illegal_commands(), 3);
    assert_eq!(card.snapshot()["illegal_commands"], serde_json::json!({"CMD2": 1, "CMD17": 1, "ACMD51": 1}));
}

#[test]
fn cmd16_longer_than_a_block_is_an_error_that_is_cleared_by_reading_it() {
    let mut card = express();
    let address = identify(&mut card);
    card.command(LATER, 7, address).unwrap();
    assert_eq!(content(card.command(LATER, 16, 513)), 0x2000_0900);
    assert_eq!(content(card.command(LATER, 13, address)), 0x900);
}

#[test]
fn cmd15_to_another_address_is_ignored() {
    let mut card = express();
    let address = identify(&mut card);
    assert_eq!(card.command(LATER, 15, 0), Err(CardError::Timeout));
    assert_eq!(card.state(), State::StandBy);
    assert_eq!(card.command(LATER, 15, address), Ok(CardResponse::None));
    assert_eq!(card.state(), State::Inactive);
}

/// The transitions of Table 4-35 that the commands of this card make. A command not listed leaves the state.
fn may_lead(from: State, command: &str, to: State) -> bool {
    use State::{Disconnect, Identification, Idle, Inactive, Programming, Ready, StandBy, Transfer};
    from == to
        || match command {
            "CMD0" => from != Inactive && to == Idle,
            "ACMD41" => from == Idle && (to == Ready || to == Inactive),
            "CMD2" => (from, to) == (Ready, Identification),
            "CMD3" => (from, to) == (Identification, StandBy),
            "CMD7" => matches!(
                (from, to),
                (StandBy, Transfer)
                    | (Transfer, StandBy)
                    | (Programming, Disconnect)
                    | (Disconnect, Programming)
            ),
            "CMD15" => to == Inactive,
            _ => false,
        }
}

/// Commands as a host sends them, mostly ones that lead on.
fn command() -> impl Strategy<Value = (u8, u32)> {
    let index = prop_oneof![
        8 => prop::sample::select(vec![0u8, 2, 3, 4, 7, 8, 9, 10, 13, 15, 16, 41, 55]),
        1 => any::<u8>(),
    ];
    let argument = prop_oneof![
        3 => Just(0u32),
        2 => Just(0x1aa),
        2 => Just(HCS_33),
        3 => Just(0x1_0000),
        1 => any::<u32>(),
    ];
    (index, argument)
}

proptest! {
    #[test]
    fn any_sequence_of_commands_makes_only_transitions_of_the_specification(
        commands in prop::collection::vec(command(), 1..200)
    ) {
        let mut card = express();
        for (step, (index, argument)) in commands.into_iter().enumerate() {
            let before = card.state();
            let response = card.command(Duration::from_millis(10 * step as u64), index, argument);
            let name = card.last_command();
            prop_assert!(may_lead(before, &name, card.state()), "{before:?} -{name}-> {:?}", card.state());
            match response {
                // R3 has no CRC, and its index field is all ones.
                Ok(CardResponse::Short(bytes)) if bytes[0] != 0x3f => {
                    prop_assert_eq!(bytes[0], index & 0x3f);
                    prop_assert_eq!(bytes[5], crc7(&bytes[..5]) << 1 | 1);
                }
                Ok(CardResponse::Short(bytes)) => prop_assert_eq!(bytes[5], 0xff),
                Ok(CardResponse::Long(bytes)) => prop_assert_eq!(bytes[16], crc7(&bytes[1..16]) << 1 | 1),
                Ok(CardResponse::None) => prop_assert!(["CMD0", "CMD4", "CMD15"].contains(&name.as_str())),
                Err(error) => prop_assert_eq!(error, CardError::Timeout),
            }
        }
    }

    #[test]
    fn power_cycle_after_any_sequence_leaves_a_card_that_identifies(
        commands in prop::collection::vec(command(), 0..50)
    ) {
        let mut card = express();
        for (index, argument) in commands {
            let _ = card.command(START, index, argument);
        }
        card.power_cycle();
        prop_assert_ne!(identify(&mut card), 0);
    }
}
