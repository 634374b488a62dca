//! Everything that a device reports.

use std::time::Duration;

use sdmorph_pci::{
    Access, Answer, DataChange, Direction, DmaError, Doorbell, Effect, Event, Happening, Message,
    NvmeCommand, Observer, Space,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When.
    pub now: Duration,
    /// To which function.
    pub function: &'static str,
    /// What.
    pub what: Seen,
}

/// [`Happening`], kept.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The fields are those of `Happening`.
pub enum Seen {
    /// A register was read or written.
    Access(Access),
    /// An interrupt message left.
    Interrupt(Message),
    /// A DMA was tried.
    Dma { direction: Direction, address: u64, length: u64, result: Result<(), DmaError> },
    /// A command reached the card.
    Command { name: String, argument: u32, response: Option<Vec<u8>> },
    /// An NVMe command was fetched or ended.
    Nvme(NvmeCommand),
    /// A doorbell has a new value.
    Doorbell(Doorbell),
    /// An event.
    Event(Event),
}

impl From<&Happening<'_>> for Seen {
    fn from(what: &Happening<'_>) -> Self {
        match *what {
            Happening::Access(access) => Seen::Access(access),
            Happening::Interrupt(message) => Seen::Interrupt(message),
            Happening::Dma { direction, address, length, result } => {
                Seen::Dma { direction, address, length, result }
            }
            Happening::Command { name, argument, response } => {
                Seen::Command { name: name.to_owned(), argument, response: response.map(<[u8]>::to_vec) }
            }
            Happening::Nvme(command) => Seen::Nvme(command),
            Happening::Doorbell(doorbell) => Seen::Doorbell(doorbell),
            Happening::Event(event) => Seen::Event(event),
        }
    }
}

/// Keeps every report, and makes reads of chosen registers show bits stuck.
#[derive(Debug, Default)]
pub struct EventLog {
    records: Vec<Record>,
    stuck: Vec<(&'static str, u64)>,
}

impl EventLog {
    /// All reports in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Forgets all reports.
    pub fn clear(&mut self) {
        self.records.clear();
    }

    /// From now on reads of the register called `name` show `bits` set.
    pub fn stick(&mut self, name: &'static str, bits: u64) {
        self.stuck.push((name, bits));
    }

    /// No bits are stuck any more.
    pub fn unstick(&mut self) {
        self.stuck.clear();
    }

    /// Events in order.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.records.iter().filter_map(|record| match record.what {
            Seen::Event(event) => Some(event),
            _ => None,
        })
    }

    /// Accesses in order.
    pub fn accesses(&self) -> impl Iterator<Item = Access> + '_ {
        self.records.iter().filter_map(|record| match record.what {
            Seen::Access(access) => Some(access),
            _ => None,
        })
    }

    /// Accesses to registers that no table has.
    #[must_use]
    pub fn unmodelled(&self) -> Vec<Access> {
        self.accesses().filter(|access| access.answer == Answer::Unmodelled).collect()
    }

    /// Values written to the internal register called `name`, in order.
    #[must_use]
    pub fn written(&self, name: &str) -> Vec<u64> {
        self.accesses()
            .filter(|access| {
                access.space == Space::Internal
                    && access.direction == Direction::Write
                    && access.register == Some(name)
            })
            .map(|access| access.value)
            .collect()
    }

    /// Names of the card commands, in order.
    #[must_use]
    pub fn commands(&self) -> Vec<&str> {
        let names = self.records.iter().filter_map(|record| match &record.what {
            Seen::Command { name, .. } => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }
}

impl Observer for EventLog {
    fn happened(&mut self, now: Duration, function: &'static str, what: &Happening<'_>) -> Effect {
        self.records.push(Record { now, function, what: what.into() });
        if let Happening::Access(Access { direction: Direction::Read, register: Some(register), .. }) = what {
            let stuck = self.stuck.iter().filter(|(name, _)| name == register);
            let change = stuck
                .fold(DataChange::NONE, |change, (_, bits)| change.then(DataChange::give(*bits, u64::MAX)));
            return Effect::Data(change);
        }
        Effect::None
    }
}
