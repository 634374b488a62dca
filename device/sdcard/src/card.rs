//! The card itself: runs the command table, and stands at the host's seam.

use std::collections::BTreeMap;
use std::time::Duration;

use sdmorph_pci::{Bus, CardError, CardResponse, DataError, DisturbError, Disturbance, Lines, Media, SdCard};
use serde_json::Value;

use crate::capacity::Capacity;
use crate::crc7::end_byte;
use crate::disturb::Disturbances;
use crate::lock::Password;
use crate::profile::Profile;
use crate::protection::Groups;
use crate::registers::cid::cid;
use crate::registers::csd::{Programmable, csd};
use crate::session::Session;
use crate::state::State;
use crate::status::{self, Clear};
use crate::store::Store;
use crate::table::{self, Command, Format, Needs, Outcome};
use crate::voltage::Signalling;

/// Commands that do not end an erase sequence (4.3.5): what belongs to it, and asking for the status.
const IN_ERASE_SEQUENCE: &[u8] = &[13, 22, 32, 33, 38];
/// Commands that may stand between CMD22 or CMD23 and the command that they are for.
const BEFORE_TRANSFER: &[u8] = &[13, 22, 23];

/// A medium that does not fit the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the card has {} blocks of 512 bytes, and its medium {medium_blocks}", capacity.blocks())]
pub struct MediumError {
    /// What the profile says.
    pub capacity: Capacity,
    /// What there is.
    pub medium_blocks: u64,
}

/// What the card keeps without power.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) programmed: Programmable,
    pub(crate) password: Password,
    pub(crate) groups: Groups,
    /// What CMD56 wrote last, one block.
    pub(crate) general: Vec<u8>,
}

/// Counted for the whole life of the card.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commands: u64,
    pub(crate) blocks_read: u64,
    pub(crate) blocks_written: u64,
    pub(crate) erases: u64,
    pub(crate) discards: u64,
    /// Commands that were illegal, and how often: at most 128 names.
    pub(crate) refused: BTreeMap<(bool, u8), u64>,
}

/// An SD memory card.
#[derive(Debug)]
pub struct MemoryCard {
    pub(crate) profile: Profile,
    pub(crate) durable: Durable,
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) disturbances: Disturbances,
    pub(crate) counters: Counters,
    /// How the host runs the bus.
    pub(crate) bus: Bus,
    /// The last time that the card has heard of.
    pub(crate) seen: Duration,
    pub(crate) last: (u8, bool),
}

impl MemoryCard {
    /// A card that has just been powered, with its contents in `medium`. It is write protected for ever
    /// (PERM_WRITE_PROTECT, which Linux looks at) if the medium is read-only.
    ///
    /// # Errors
    /// [`MediumError`] if the medium has not as many blocks as the profile says. [`Capacity::of_blocks`] makes a capacity
    /// that fits.
    pub fn new(profile: Profile, medium: Box<dyn Media>) -> Result<Self, MediumError> {
        if medium.blocks() != profile.capacity.blocks() {
            return Err(MediumError { capacity: profile.capacity, medium_blocks: medium.blocks() });
        }
        let store = Store::new(medium);
        let programmed =
            Programmable { permanent_write_protect: store.is_read_only(), ..Programmable::default() };
        let groups = Groups::new(&profile);
        Ok(Self {
            profile,
            durable: Durable { programmed, password: Password::default(), groups, general: Vec::new() },
            session: Session::new(false),
            store,
            disturbances: Disturbances::default(),
            counters: Counters::default(),
            bus: Bus::INITIAL,
            seen: Duration::ZERO,
            last: (0, false),
        })
    }

    /// What kind of card it is.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Its state, as of the last call.
    #[must_use]
    pub fn state(&self) -> State {
        self.session.state
    }

    /// How often a command was illegal.
    #[must_use]
    pub fn illegal_commands(&self) -> u64 {
        self.counters.refused.values().sum()
    }

    pub(crate) fn is_addressed(&self, argument: u32) -> bool {
        argument >> 16 == u32::from(self.session.address)
    }

    fn has(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::StandardCapacity => self.profile.capacity.is_standard(),
            Needs::UltraCapacity => self.profile.capacity.is_ultra(),
            Needs::BlockCount => self.profile.has_block_count(),
            Needs::SpeedClassControl => self.profile.has_speed_class_control(),
            Needs::LowVoltage => self.session.signalling == Signalling::Low,
        }
    }

    fn is_legal(&self, command: &Command) -> bool {
        command.states.contain(self.session.state)
            && self.has(command.needs)
            && (command.works_locked || !self.session.locked)
    }

    fn run(&mut self, now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError> {
        self.settle(now);
        // An ordinary command, unless the card is there to know better.
        self.last = (index, false);
        let hears = self.session.signalling.hears(self.bus) && self.session.state != State::Inactive;
        if !hears || self.disturbances.swallows_command() {
            return Err(CardError::Timeout);
        }
        self.counters.commands = self.counters.commands.saturating_add(1);
        let app = std::mem::take(&mut self.session.app);
        let (command, taken_as_app) = table::find(index, app);
        self.last = (index, taken_as_app);
        if command.is_some_and(|command| command.is_for_one_card && !self.is_addressed(argument)) {
            return Err(CardError::Timeout);
        }
        let Some(command) = command.filter(|command| self.is_legal(command)) else { return self.refuse() };
        // The status shows the state that the command found, not the one it leads to (4.10.1).
        let found = (self.session.state as u32) << status::CURRENT_STATE_SHIFT
            | if self.is_busy() { 0 } else { status::READY_FOR_DATA }
            | if self.session.locked { status::CARD_IS_LOCKED } else { 0 };
        match (command.handler)(self, now, argument) {
            Outcome::Answer => {}
            Outcome::Silent => return Err(CardError::Timeout),
            Outcome::Illegal => return self.refuse(),
        }
        self.end_sequences(index, taken_as_app);
        let response = self.respond(command, found, taken_as_app);
        self.settle(now);
        let has_response = response != CardResponse::None;
        if has_response && self.disturbances.spoils_response() { Err(CardError::Crc) } else { Ok(response) }
    }

    fn refuse(&mut self) -> Result<CardResponse, CardError> {
        let (index, app) = self.last;
        let count = self.counters.refused.entry((app, index)).or_default();
        *count = count.saturating_add(1);
        self.session.raise(status::ILLEGAL_COMMAND);
        Err(CardError::Timeout)
    }

    /// A command that does not belong to what others before it began ends that.
    fn end_sequences(&mut self, index: u8, app: bool) {
        if (app || !IN_ERASE_SEQUENCE.contains(&index)) && self.forget_erase() {
            self.session.raise(status::ERASE_RESET);
        }
        if app || !BEFORE_TRANSFER.contains(&index) {
            self.session.block_count = None;
            self.session.address_extension = 0;
        }
    }

    fn respond(&mut self, command: &Command, found: u32, taken_as_app: bool) -> CardResponse {
        let app = if taken_as_app || self.session.app { status::APP_CMD } else { 0 };
        let status = self.session.errors | found | app;
        // What a valid command clears is cleared, whether its response could show it or not.
        let mut cleared = status::cleared_by(Clear::ValidCommand);
        let response = match command.format {
            Format::None => CardResponse::None,
            Format::R1 | Format::R1b => {
                cleared |= status::cleared_by(Clear::Read);
                short(command.index, status)
            }
            Format::R2Cid => long(cid(&self.profile)),
            Format::R2Csd => {
                long(csd(&self.profile, self.durable.programmed, self.session.functions.access_mode()))
            }
            Format::R3 => {
                let [a, b, c, d] = self.session.operating_conditions.to_be_bytes();
                CardResponse::Short([0x3f, a, b, c, d, 0xff])
            }
            Format::R6 => {
                // R6 carries these only; others wait for an R1.
                cleared |= status::cleared_by(Clear::Read) & status::IN_R6;
                let address = u32::from(self.session.address) << 16;
                short(command.index, address | u32::from(status::in_r6(status)))
            }
            Format::R7 => short(command.index, self.session.r7),
        };
        self.session.errors &= !cleared;
        response
    }
}

fn short(index: u8, content: u32) -> CardResponse {
    let [a, b, c, d] = content.to_be_bytes();
    CardResponse::Short([index, a, b, c, d, end_byte(&[index, a, b, c, d])])
}

fn long(register: [u8; 16]) -> CardResponse {
    // Start bit, transmission bit, six reserved ones; then the register with its own CRC7.
    let mut bytes = [0x3f; 17];
    let [_, body @ ..] = &mut bytes;
    *body = register;
    CardResponse::Long(bytes)
}

impl SdCard for MemoryCard {
    fn command(&mut self, now: Duration, index: u8, argument: u32) -> Result<CardResponse, CardError> {
        self.run(now, index & 0x3f, argument)
    }

    fn read_data(&mut self, now: Duration, block_bytes: u16, blocks: u32) -> Result<Vec<u8>, DataError> {
        self.settle(now);
        self.send(block_bytes, blocks)
    }

    fn write_data(&mut self, now: Duration, block_bytes: u16, data: Vec<u8>) -> Result<(), DataError> {
        self.settle(now);
        let result = self.receive(block_bytes, data);
        self.settle(now);
        result
    }

    fn lines(&mut self, now: Duration) -> Lines {
        self.settle(now);
        if self.session.signalling.holds_lines() {
            return Lines { cmd: false, dat: 0 };
        }
        // A card that is not selected lets go of DAT0, whatever it is at.
        let works = self.session.work.is_busy() && self.session.state != State::Disconnect;
        if works || self.disturbances.is_busy() { Lines { dat: 0xe, ..Lines::IDLE } } else { Lines::IDLE }
    }

    fn set_bus(&mut self, now: Duration, bus: Bus) {
        self.settle(now);
        self.bus = bus;
        self.session.signalling.bus_changed(now, bus);
    }

    fn power_cycle(&mut self) {
        let Self {
            profile: _,
            durable,
            session,
            store,
            // They are of the world, not of the card.
            disturbances: _,
            counters: _,
            bus: _,
            seen: _,
            last,
        } = self;
        store.abandon();
        *session = Session::new(durable.password.is_set());
        *last = (0, false);
    }

    fn next_deadline(&self) -> Option<Duration> {
        let power_up = self.session.powered_up_at.filter(|_| self.session.state == State::Idle);
        let deadlines = [power_up, self.session.signalling.deadline(), self.disturbances.deadline()];
        deadlines.into_iter().flatten().filter(|deadline| *deadline > self.seen).min()
    }

    fn disturb(&mut self, now: Duration, disturbance: Disturbance) -> Result<(), DisturbError> {
        let result = self.disturbances.add(now, disturbance);
        self.settle(now);
        result
    }

    fn last_command(&self) -> String {
        table::name(self.last.0, self.last.1)
    }

    fn snapshot(&self) -> Value {
        self.as_json()
    }
}
