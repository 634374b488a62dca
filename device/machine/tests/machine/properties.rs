//! What holds whatever the host, the guest and the person at the control socket do.

use std::time::Duration;

use proptest::prelude::*;
use sdmorph_machine::faults::Rule;
use sdmorph_machine::record::CAPACITY;
use sdmorph_machine::{CardKind, HOST_BAR_SIZES, Machine, Region};
use serde_json::json;

use crate::guest::{Guest, PORT, READER};
use crate::rules::misjudged;

#[derive(Debug, Clone)]
enum Step {
    Read(Region, u64, usize),
    Write(Region, u64, Vec<u8>),
    Insert(bool),
    Eject,
    /// The reader's firmware is asked to hand over the slot.
    Express,
    Link(bool),
    Reset,
    PowerCycle,
    Mask(u16, bool),
    Rules(Vec<usize>, bool),
    Clock(Duration),
}

fn rule(index: usize) -> Rule {
    let rule = match index {
        0 => json!({"name": "a", "on": {"write": "HAIMR"}, "do": {"bar": "vanish"}, "times": 2}),
        1 => json!({"name": "b", "on": {"event": "link-down"}, "do": {"link": "up"}}),
        2 => json!({"name": "c", "on": {"event": "link-up", "delay": "1ms"}, "do": {"link": "down"}}),
        3 => json!({"name": "d", "on": {"start": true}, "do": {"read-latency": "4s"}}),
        4 => json!({"name": "e", "on": {"event": "card-inserted"}, "do": {"presence": false}}),
        5 => json!({"name": "f", "on": {"event": "reset"}, "do": {"bar": "return"}}),
        6 => json!({"name": "h", "on": {"event": "morph"}, "do": {"presence-lag": "20ms"}}),
        7 => {
            json!({"name": "i", "on": {"event": "link-down"}, "do": [{"card": "eject"}, {"relink": "fail"}]})
        }
        _ => json!({"name": "g", "on": {"read": "BIPR"}, "do": {"stuck-busy": {"register": "HAIMR"}}}),
    };
    Rule::from_json(&rule).unwrap()
}

fn step() -> impl Strategy<Value = Step> {
    let region = prop_oneof![
        1 => Just(Region::Config),
        6 => prop::sample::select(vec![0u8, 2, 4]).prop_map(Region::Bar),
        1 => any::<u8>().prop_map(Region::Bar),
    ];
    // The places where registers are, and anywhere at all.
    let offset = prop_oneof![
        4 => 0u64..0x100,
        3 => (0u64..0x200).prop_map(|at| PORT + at),
        3 => (0u64..0x1000).prop_map(|at| READER + at),
        2 => 0u64..HOST_BAR_SIZES[0].1 + 64,
        1 => any::<u64>(),
    ];
    let data = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..17),
        1 => Just(vec![0xff; 8]),
        1 => prop::collection::vec(any::<u8>(), 4096),
    ];
    prop_oneof![
        6 => (region.clone(), offset.clone(), prop_oneof![8 => 0usize..17, 1 => Just(4096)])
            .prop_map(|(region, offset, length)| Step::Read(region, offset, length)),
        12 => (region, offset, data).prop_map(|(region, offset, data)| Step::Write(region, offset, data)),
        1 => any::<bool>().prop_map(Step::Insert),
        1 => Just(Step::Eject),
        2 => Just(Step::Express),
        1 => any::<bool>().prop_map(Step::Link),
        1 => Just(Step::Reset),
        1 => Just(Step::PowerCycle),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(vector, masked)| Step::Mask(vector, masked)),
        1 => (prop::collection::vec(0usize..9, 0..4), any::<bool>())
            .prop_map(|(rules, replace)| Step::Rules(rules, replace)),
        2 => (0u64..2_000_000_000).prop_map(|time| Step::Clock(Duration::from_nanos(time))),
    ]
}

/// RTS5261_FW_CFG0 and RTS5261_FW_CFG1, through HAIMR where the guest has put it.
fn ask_for_express(machine: &mut Machine, now: Duration) {
    for command in [0xff54_0101u32, 0xff55_0101] {
        machine.write(now, Region::Bar(2), 0x10, &command.to_le_bytes());
    }
}

#[test]
fn step_of_the_sequences_that_asks_for_the_switch_does_so() {
    let mut guest = Guest::new();
    guest.boot();
    guest.write(0, READER | 4, 2, 6);
    ask_for_express(&mut guest.machine, Duration::ZERO);
    assert_eq!(guest.machine.status()["phase"], "switching");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_sequence_of_calls_is_survived_in_bounded_memory(
        booted in any::<bool>(),
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut guest = Guest::new();
        if booted {
            guest.boot();
            guest.write(0, READER | 4, 2, 6);
        }
        let machine = &mut guest.machine;
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Read(region, offset, length) => {
                    let latency = machine.read(now, region, offset, &mut vec![0; length]);
                    prop_assert!(latency <= sdmorph_machine::faults::MAX_LATENCY);
                }
                Step::Write(region, offset, data) => machine.write(now, region, offset, &data),
                Step::Insert(express) => {
                    let kind = if express { CardKind::SdExpress } else { CardKind::Empty };
                    let _ = machine.card_insert(now, kind);
                }
                Step::Eject => {
                    let _ = machine.card_eject(now);
                }
                Step::Express => ask_for_express(machine, now),
                Step::Link(up) => machine.link_set(now, up),
                Step::Reset => machine.reset(now),
                Step::PowerCycle => machine.power_cycle(now),
                Step::Mask(vector, masked) => machine.set_vector_masked(now, vector, masked),
                Step::Rules(rules, replace) => {
                    let rules = rules.into_iter().map(rule).collect();
                    let _ = machine.scenario_load(now, "any", rules, replace);
                }
                Step::Clock(time) => {
                    now += time;
                    machine.advance(now);
                }
            }
            prop_assert!(machine.counters().unmodelled_registers.len() <= 257);
            prop_assert!(machine.next_deadline().is_none_or(|at| at >= now), "a deadline was missed");
        }
        prop_assert!(machine.records_since(0, usize::MAX).len() <= CAPACITY);
        // Rules know what the machine is like, however it came to that.
        let _ = machine.scenario_load(now, "none", Vec::new(), true);
        let wrong = misjudged(machine, now);
        prop_assert!(wrong.is_empty(), "{:?}", wrong);
        // The whole state can be shown, whatever it is.
        prop_assert!(machine.status()["vmd"]["port"]["slot"].is_object());
        // With the card out and power anew, there is a reader that answers.
        let _ = machine.card_eject(now);
        machine.power_cycle(now);
        let slot = &machine.status()["vmd"]["port"]["slot"];
        prop_assert_eq!((&slot["function"]["name"], &slot["link-active"]), (&json!("reader"), &json!(true)));
    }
}
