//! The state table (4.8, Table 4-35): every command in every state.

use sdmorph_pci::CardError;
use sdmorph_sdcard::table::{APP_COMMANDS, COMMANDS};
use sdmorph_sdcard::{Capacity, Profile, State, status};

use crate::host::{HCS, HO2T, Host, S18R, SDSC, SDUC, SDXC, VDD_33};

const STATES: [State; 10] = [
    State::Idle,
    State::Ready,
    State::Identification,
    State::StandBy,
    State::Transfer,
    State::SendingData,
    State::ReceiveData,
    State::Programming,
    State::Disconnect,
    State::Inactive,
];

/// What the argument of a command in the table is to be.
#[derive(Clone, Copy)]
enum Argument {
    Is(u32),
    Address,
}
use Argument::{Address, Is};

/// Written by hand from the specification, not from the crate's table: the states that a command leads to from idle,
/// ready, ident, stby, tran, data, rcv, prg, dis and ina; `-` where it is illegal, `.` where it is not for this card.
#[rustfmt::skip]
const TABLE: &[(&str, Argument, u64, &str)] = &[
    ("CMD0",   Is(0),      SDXC, "idle idle  idle  idle idle idle idle idle idle -"),
    ("CMD1",   Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD2",   Is(0),      SDXC, "-    ident -     -    -    -    -    -    -    -"),
    ("CMD3",   Is(0),      SDXC, "-    -     stby  stby -    -    -    -    -    -"),
    ("CMD4",   Is(0),      SDXC, "-    -     -     stby -    -    -    -    -    -"),
    ("CMD5",   Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD6",   Is(0),      SDXC, "-    -     -     -    data -    -    -    -    -"),
    ("CMD7",   Address,    SDXC, "-    -     -     tran -    -    -    -    prg  -"),
    ("CMD7",   Is(0xffff_0000), SDXC, "- -     -     .    stby stby -    dis  .    -"),
    ("CMD8",   Is(0x1aa),  SDXC, "idle -     -     -    -    -    -    -    -    -"),
    ("CMD9",   Address,    SDXC, "-    -     -     stby -    -    -    -    -    -"),
    ("CMD10",  Address,    SDXC, "-    -     -     stby -    -    -    -    -    -"),
    ("CMD11",  Is(0),      SDXC, "-    ready -     -    -    -    -    -    -    -"),
    ("CMD12",  Is(0),      SDXC, "-    -     -     -    -    tran prg  -    -    -"),
    ("CMD13",  Address,    SDXC, "-    -     -     stby tran data rcv  prg  dis  -"),
    ("CMD15",  Address,    SDXC, "-    -     -     ina  ina  ina  ina  ina  ina  -"),
    ("CMD16",  Is(512),    SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("CMD17",  Is(0),      SDXC, "-    -     -     -    data -    -    -    -    -"),
    ("CMD18",  Is(0),      SDXC, "-    -     -     -    data -    -    -    -    -"),
    // At 3.3 V; at 1.8 V it is tested with the voltage switch.
    ("CMD19",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD20",  Is(0),      SDXC, "-    -     -     -    prg  -    -    -    -    -"),
    ("CMD20",  Is(0),      SDSC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD21",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD22",  Is(1),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD22",  Is(1),      SDUC, "-    -     -     -    tran -    -    -    -    -"),
    ("CMD23",  Is(1),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("CMD24",  Is(0),      SDXC, "-    -     -     -    rcv  -    -    -    -    -"),
    ("CMD25",  Is(0),      SDXC, "-    -     -     -    rcv  -    -    -    -    -"),
    ("CMD26",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD27",  Is(0),      SDXC, "-    -     -     -    rcv  -    -    -    -    -"),
    ("CMD28",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD28",  Is(0),      SDSC, "-    -     -     -    prg  -    -    -    -    -"),
    ("CMD29",  Is(0),      SDSC, "-    -     -     -    prg  -    -    -    -    -"),
    ("CMD30",  Is(0),      SDSC, "-    -     -     -    data -    -    -    -    -"),
    ("CMD32",  Is(0),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("CMD33",  Is(0),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    // Without blocks to erase it is an error, and legal.
    ("CMD38",  Is(0),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("CMD42",  Is(0),      SDXC, "-    -     -     -    rcv  -    -    -    -    -"),
    ("CMD48",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD52",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("CMD55",  Address,    SDXC, "idle -     -     stby tran data rcv  prg  dis  -"),
    ("CMD56",  Is(0),      SDXC, "-    -     -     -    rcv  -    -    -    -    -"),
    ("CMD56",  Is(1),      SDXC, "-    -     -     -    data -    -    -    -    -"),
    ("CMD63",  Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("ACMD6",  Is(0),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("ACMD13", Is(0),      SDXC, "-    -     -     -    data -    -    -    -    -"),
    ("ACMD18", Is(0),      SDXC, "-    -     -     -    -    -    -    -    -    -"),
    ("ACMD22", Is(0),      SDXC, "-    -     -     -    data -    -    -    -    -"),
    ("ACMD23", Is(1),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("ACMD41", Is(0),      SDXC, "idle -     -     -    -    -    -    -    -    -"),
    ("ACMD42", Is(0),      SDXC, "-    -     -     -    tran -    -    -    -    -"),
    ("ACMD51", Is(0),      SDXC, "-    -     -     -    data -    -    -    -    -"),
];

/// A card in `state`. What it programs does not end.
fn in_state(bytes: u64, state: State) -> Host {
    let mut host = Host::with(Profile::express(7, Capacity::new(bytes).unwrap()));
    let order = STATES.iter().position(|other| *other == state).unwrap();
    if order >= 1 {
        host.make_ready(HCS | HO2T | S18R | VDD_33);
    }
    if order >= 2 {
        host.cmd(2, 0).unwrap();
    }
    if order >= 3 {
        host.rca = host.short(3, 0) & 0xffff_0000;
    }
    if order >= 4 {
        host.r1(7, host.rca);
    }
    match state {
        State::SendingData => drop(host.r1(18, 0)),
        State::ReceiveData => drop(host.r1(25, 0)),
        State::Programming | State::Disconnect => {
            host.media.hold();
            host.r1(24, 0);
            host.write(512, vec![1; 512]).unwrap();
        }
        State::Inactive => drop(host.cmd(15, host.rca).unwrap()),
        _ => {}
    }
    if state == State::Disconnect {
        assert_eq!(host.cmd(7, 0), Err(CardError::Timeout));
    }
    assert_eq!(host.card.state(), state);
    host
}

fn check(name: &str, argument: Argument, bytes: u64, from: State, to: &str) {
    let mut host = in_state(bytes, from);
    let (app, index) = match name.strip_prefix("ACMD") {
        Some(index) => (true, index.parse().unwrap()),
        None => (false, name.strip_prefix("CMD").unwrap().parse().unwrap()),
    };
    let argument = match argument {
        Is(argument) => argument,
        Address => host.rca,
    };
    if app {
        if [State::Ready, State::Identification, State::Inactive].contains(&from) {
            // CMD55 is not legal there.
            assert_eq!(to, "-");
            return;
        }
        host.r1(55, host.rca);
    }
    let what = format!("{name} {argument:#x} of {bytes} bytes in {from:?}");
    let result = host.cmd(index, argument);
    assert_eq!(
        host.card.last_command(),
        if from == State::Inactive { format!("CMD{index}") } else { name.to_owned() }
    );
    let refused = u64::from(to == "-" && from != State::Inactive);
    assert_eq!(host.card.illegal_commands(), refused, "{what}");
    match to {
        "-" | "." => {
            assert_eq!(result, Err(CardError::Timeout), "{what}");
            assert_eq!(host.card.state(), from, "{what}");
        }
        // With nothing to program, it is over at once.
        "prg" if from == State::Transfer || from == State::ReceiveData => {
            assert!(result.is_ok(), "{what}");
            assert_eq!(host.card.state(), State::Transfer, "{what}");
        }
        _ => {
            // Deselection has no response.
            assert_eq!(result.is_ok(), !(index == 7 && argument != host.rca), "{what}");
            assert_eq!(host.card.state().name(), to, "{what}");
        }
    }
    if to == "-" && from.has_status() {
        let status = if from == State::Idle { host.short(55, 0) } else { host.status() };
        assert_ne!(status & status::ILLEGAL_COMMAND, 0, "{what}");
        let again = if from == State::Idle { host.short(55, 0) } else { host.status() };
        assert_eq!(again & status::ILLEGAL_COMMAND, 0, "{what}");
    }
}

trait HasStatus {
    fn has_status(&self) -> bool;
}

impl HasStatus for State {
    /// Whether the host can ask for the status there.
    fn has_status(&self) -> bool {
        ![State::Ready, State::Identification, State::Inactive].contains(self)
    }
}

use sdmorph_pci::SdCard;

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    for (name, argument, bytes, columns) in TABLE {
        let columns: Vec<_> = columns.split_whitespace().collect();
        assert_eq!(columns.len(), STATES.len(), "{name}");
        for (from, to) in STATES.into_iter().zip(columns) {
            check(name, *argument, *bytes, from, to);
        }
    }
}

#[test]
fn table_of_this_test_has_every_command_of_the_card() {
    let has = |name: String| TABLE.iter().any(|(other, ..)| *other == name);
    assert!(COMMANDS.iter().all(|command| has(format!("CMD{}", command.index))));
    assert!(APP_COMMANDS.iter().all(|command| has(format!("ACMD{}", command.index))));
}

#[test]
fn commands_without_a_row_are_illegal_wherever_the_card_is() {
    let known: Vec<_> = COMMANDS.iter().map(|command| command.index).collect();
    for index in (0..64).filter(|index| !known.contains(index)) {
        in_state(SDXC, State::Transfer).is_illegal(index, 0);
    }
}

#[test]
fn status_shows_the_state_that_the_command_found() {
    for (state, ready) in [
        (State::StandBy, true),
        (State::Transfer, true),
        (State::SendingData, true),
        (State::ReceiveData, true),
    ]
    .into_iter()
    .chain([(State::Programming, false), (State::Disconnect, false)])
    {
        let mut host = in_state(SDXC, state);
        assert_eq!(host.status(), (state as u32) << 9 | u32::from(ready) << 8, "{state:?}");
    }
}

#[test]
fn programming_ends_in_the_transfer_state_or_if_deselected_in_stand_by() {
    let mut host = in_state(SDXC, State::Programming);
    assert!(host.is_busy());
    host.media.release();
    assert!(!host.is_busy());
    assert_eq!(host.state(), State::Transfer);
    let mut host = in_state(SDXC, State::Disconnect);
    // It has let go of the line.
    assert!(!host.is_busy());
    host.r1(7, host.rca);
    assert!(host.is_busy());
    assert_eq!(host.cmd(7, 0), Err(CardError::Timeout));
    host.media.release();
    assert_eq!(host.state(), State::StandBy);
}

#[test]
fn valid_command_clears_illegal_command_even_if_its_response_has_no_status() {
    let mut host = in_state(SDXC, State::StandBy);
    assert_eq!(host.cmd(17, 0), Err(CardError::Timeout));
    host.cmd(9, host.rca).unwrap();
    assert_eq!(host.errors(), 0);
}
