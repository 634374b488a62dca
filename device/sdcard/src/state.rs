//! The card's states (4.1, Table 4-1) and sets of them.

/// A state of the card; the discriminant is CURRENT_STATE in the card status (4.10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Powered, waiting for ACMD41.
    Idle = 0,
    /// Voltage agreed, waiting for CMD2.
    Ready = 1,
    /// Its CID was sent; it waits for CMD3.
    Identification = 2,
    /// It has an address and is not selected.
    StandBy = 3,
    /// Selected.
    Transfer = 4,
    /// Sending data.
    SendingData = 5,
    /// Receiving data.
    ReceiveData = 6,
    /// Programming.
    Programming = 7,
    /// Programming, and not selected.
    Disconnect = 8,
    /// Out of use until power is cycled. It answers nothing, so this value never shows in a status.
    Inactive = 9,
}

impl State {
    /// Short name, as the specification abbreviates it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Ready => "ready",
            State::Identification => "ident",
            State::StandBy => "stby",
            State::Transfer => "tran",
            State::SendingData => "data",
            State::ReceiveData => "rcv",
            State::Programming => "prg",
            State::Disconnect => "dis",
            State::Inactive => "ina",
        }
    }
}

/// A set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States(u16);

impl States {
    /// The states of data transfer mode that take addressed commands: all from stand-by on.
    pub const ADDRESSED: States = States::of(&[
        State::StandBy,
        State::Transfer,
        State::SendingData,
        State::ReceiveData,
        State::Programming,
        State::Disconnect,
    ]);

    /// Every state but inactive.
    pub const ACTIVE: States =
        States::ADDRESSED.or(States::of(&[State::Idle, State::Ready, State::Identification]));

    /// The set of `states`.
    #[must_use]
    pub const fn of(states: &[State]) -> Self {
        let mut bits = 0;
        let mut rest = states;
        while let [first, others @ ..] = rest {
            bits |= 1 << *first as u8;
            rest = others;
        }
        Self(bits)
    }

    /// The states of either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `state` is one of them.
    #[must_use]
    pub const fn contain(self, state: State) -> bool {
        self.0 & 1 << state as u8 != 0
    }
}
