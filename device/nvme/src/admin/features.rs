//! Get and Set Features (5.13, 5.21). Nothing is saved: the saved value of every feature is its default (7.8).

use std::time::Duration;

use sdmorph_pci::{Ctx, MediaRequest};
use serde_json::{Value, json};

use crate::Nvme;
use crate::command::{BROADCAST, Command, Ended};
use crate::events::AsyncEvent;
use crate::in_flight::Step;
use crate::io::Work;
use crate::namespace::NAMESPACE;
use crate::power;
use crate::registers::MAX_IO_QUEUES;
use crate::smart::WARNING_TEMPERATURE;
use crate::status::Status;

/// Feature identifiers (figure 271).
mod id {
    pub(super) const ARBITRATION: u8 = 0x01;
    pub(super) const POWER_MANAGEMENT: u8 = 0x02;
    pub(super) const TEMPERATURE_THRESHOLD: u8 = 0x04;
    pub(super) const ERROR_RECOVERY: u8 = 0x05;
    pub(super) const VOLATILE_WRITE_CACHE: u8 = 0x06;
    pub(super) const NUMBER_OF_QUEUES: u8 = 0x07;
    pub(super) const INTERRUPT_COALESCING: u8 = 0x08;
    pub(super) const INTERRUPT_VECTOR_CONFIGURATION: u8 = 0x09;
    pub(super) const WRITE_ATOMICITY: u8 = 0x0a;
    pub(super) const ASYNC_EVENT_CONFIGURATION: u8 = 0x0b;
    pub(super) const AUTONOMOUS_POWER_STATE_TRANSITION: u8 = 0x0c;
    pub(super) const TIMESTAMP: u8 = 0x0e;
}

/// The supported features.
const SUPPORTED: [u8; 12] = [
    id::ARBITRATION,
    id::POWER_MANAGEMENT,
    id::TEMPERATURE_THRESHOLD,
    id::ERROR_RECOVERY,
    id::VOLATILE_WRITE_CACHE,
    id::NUMBER_OF_QUEUES,
    id::INTERRUPT_COALESCING,
    id::INTERRUPT_VECTOR_CONFIGURATION,
    id::WRITE_ATOMICITY,
    id::ASYNC_EVENT_CONFIGURATION,
    id::AUTONOMOUS_POWER_STATE_TRANSITION,
    id::TIMESTAMP,
];

/// RAB: the arbitration burst that is recommended, 2^3 commands, and that holds after reset.
pub(crate) const ARBITRATION_BURST: u32 = 3;
/// Save, in dword 10 of Set Features.
const SAVE: u32 = 1 << 31;
/// Bytes of the table of autonomous power state transitions.
const TRANSITIONS_BYTES: usize = 256;
/// Asynchronous event configuration: SMART critical warnings by bit, and namespace attribute notices.
const EVENTS_WRITABLE: u32 = 0x1f | NAMESPACE_NOTICES;
const NAMESPACE_NOTICES: u32 = 1 << 8;
/// The under temperature threshold after reset: no temperature is below.
const NO_UNDER_TEMPERATURE: u16 = 0;

/// What SEL of Get Features asks for (figure 178).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Select {
    Current,
    Default,
    Capabilities,
}

/// A time of the guest's, that goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Timestamp {
    /// Milliseconds since 1970, or since reset if the guest has not set it.
    milliseconds: u64,
    set_at: Duration,
    is_set: bool,
}

impl Timestamp {
    /// Figure 297: 48 bits of milliseconds, and where they come from.
    fn bytes(self, now: Duration) -> [u8; 8] {
        const ORIGIN_HOST: u64 = 0b001 << 1;
        let since = now.saturating_sub(self.set_at).as_millis() as u64;
        let value = self.milliseconds.wrapping_add(since) & ((1 << 48) - 1);
        let origin = if self.is_set { ORIGIN_HOST } else { 0 };
        (value | origin << 48).to_le_bytes()
    }
}

/// The features, but for those that are kept where they are used.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    arbitration: u32,
    power_management: u32,
    pub(crate) over_temperature: u16,
    pub(crate) under_temperature: u16,
    error_recovery: u32,
    pub(crate) write_cache: bool,
    /// Most identifiers of I/O queues.
    pub(crate) submission_queues: u16,
    pub(crate) completion_queues: u16,
    write_atomicity: u32,
    async_events: u32,
    transitions_enabled: bool,
    transitions: [u8; TRANSITIONS_BYTES],
    timestamp: Timestamp,
}

impl Features {
    /// As after a reset.
    pub(crate) fn new() -> Self {
        Self {
            arbitration: ARBITRATION_BURST,
            power_management: 0,
            over_temperature: WARNING_TEMPERATURE,
            under_temperature: NO_UNDER_TEMPERATURE,
            error_recovery: 0,
            write_cache: true,
            submission_queues: MAX_IO_QUEUES,
            completion_queues: MAX_IO_QUEUES,
            write_atomicity: 0,
            async_events: 0,
            transitions_enabled: false,
            transitions: [0; TRANSITIONS_BYTES],
            timestamp: Timestamp::default(),
        }
    }

    /// Most commands that one queue gets fetched before another has its turn.
    pub(crate) fn arbitration_burst(&self) -> u32 {
        match self.arbitration & 7 {
            7 => u32::MAX,
            burst => 1 << burst,
        }
    }

    pub(crate) fn notices_namespace_attributes(&self) -> bool {
        self.async_events & NAMESPACE_NOTICES != 0
    }

    pub(crate) fn snapshot(&self) -> Value {
        json!({
            "write-cache": self.write_cache,
            "power-state": self.power_management & 0x1f,
            "autonomous-power-state-transitions": self.transitions_enabled,
            "submission-queues": self.submission_queues,
            "completion-queues": self.completion_queues,
            "async-events": format!("{:#x}", self.async_events),
        })
    }
}

/// Both numbers of queues, counted from zero.
fn queues(submission: u16, completion: u16) -> u32 {
    u32::from(submission - 1) | u32::from(completion - 1) << 16
}

impl Nvme {
    pub(super) fn set_features(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Result<Step, Status> {
        let [feature, ..] = command.dword(10).to_le_bytes();
        let value = command.dword(11);
        if !SUPPORTED.contains(&feature) {
            return Err(Status::INVALID_FIELD);
        }
        if command.dword(10) & SAVE != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        match (feature, command.namespace) {
            (id::ERROR_RECOVERY, NAMESPACE | BROADCAST) => {}
            (id::ERROR_RECOVERY, _) => return Err(Status::INVALID_NAMESPACE),
            (_, 0 | BROADCAST) => {}
            _ => return Err(Status::FEATURE_NOT_OF_NAMESPACE),
        }
        let mut result = 0;
        match feature {
            id::ARBITRATION => self.features.arbitration = value & 0xffff_ff07,
            id::POWER_MANAGEMENT => {
                if (value & 0x1f) as usize >= power::STATES.len() {
                    return Err(Status::INVALID_FIELD);
                }
                self.features.power_management = value & 0xff;
            }
            id::TEMPERATURE_THRESHOLD => *self.threshold(value)? = (value & 0xffff) as u16,
            id::ERROR_RECOVERY => {
                // DULBE: deallocated blocks are no error here (NSFEAT).
                if value >> 16 & 1 != 0 {
                    return Err(Status::INVALID_FIELD);
                }
                self.features.error_recovery = value & 0xffff;
            }
            id::VOLATILE_WRITE_CACHE if value & 1 == 0 && self.features.write_cache => {
                return Ok(Step::Asks(MediaRequest::Flush, Work::CacheOff));
            }
            id::VOLATILE_WRITE_CACHE => self.features.write_cache = value & 1 != 0,
            id::NUMBER_OF_QUEUES => result = self.set_number_of_queues(value)?,
            id::INTERRUPT_COALESCING => self.interrupts.set_coalescing(value),
            id::INTERRUPT_VECTOR_CONFIGURATION => {
                let never_waits = self.interrupts.never_waits(value as u16).ok_or(Status::INVALID_FIELD)?;
                *never_waits = value >> 16 & 1 != 0;
            }
            id::WRITE_ATOMICITY => self.features.write_atomicity = value & 1,
            id::ASYNC_EVENT_CONFIGURATION => self.features.async_events = value & EVENTS_WRITABLE,
            id::AUTONOMOUS_POWER_STATE_TRANSITION => {
                let transitions = self.take(ctx, command)?;
                check_transitions(&transitions)?;
                self.features.transitions = transitions;
                self.features.transitions_enabled = value & 1 != 0;
            }
            _ => {
                let data: [u8; 8] = self.take(ctx, command)?;
                let milliseconds = u64::from_le_bytes(data) & ((1 << 48) - 1);
                self.features.timestamp = Timestamp { milliseconds, set_at: ctx.now(), is_set: true };
            }
        }
        self.look_at_temperature();
        Ok(Step::Ended(Ok(result)))
    }

    /// The event that a temperature beyond its threshold is, if it is enabled.
    fn look_at_temperature(&mut self) {
        if u32::from(self.critical_warning()) & self.features.async_events != 0 {
            self.events.report(AsyncEvent::Temperature);
        }
    }

    /// The threshold that dword 11 selects: of the composite temperature, there being no other sensor.
    fn threshold(&mut self, value: u32) -> Result<&mut u16, Status> {
        const COMPOSITE: u32 = 0;
        const ALL: u32 = 0xf;
        match (value >> 16 & 0xf, value >> 20 & 3) {
            (COMPOSITE | ALL, 0) => Ok(&mut self.features.over_temperature),
            (COMPOSITE | ALL, 1) => Ok(&mut self.features.under_temperature),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    fn set_number_of_queues(&mut self, value: u32) -> Ended {
        let (submission, completion) = (value & 0xffff, value >> 16);
        if submission == 0xffff || completion == 0xffff {
            return Err(Status::INVALID_FIELD);
        }
        if self.queues.has_io_queues() {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        let allocated = |wanted: u32| (wanted as u16).saturating_add(1).min(MAX_IO_QUEUES);
        self.features.submission_queues = allocated(submission);
        self.features.completion_queues = allocated(completion);
        Ok(queues(self.features.submission_queues, self.features.completion_queues))
    }

    pub(super) fn get_features(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Ended {
        let [feature, select, ..] = command.dword(10).to_le_bytes();
        if !SUPPORTED.contains(&feature) {
            return Err(Status::INVALID_FIELD);
        }
        if feature == id::ERROR_RECOVERY && !matches!(command.namespace, NAMESPACE | BROADCAST) {
            return Err(Status::INVALID_NAMESPACE);
        }
        let select = match select & 7 {
            0 => Select::Current,
            // Saved: there is nothing saved.
            1 | 2 => Select::Default,
            3 => Select::Capabilities,
            _ => return Err(Status::INVALID_FIELD),
        };
        if select == Select::Capabilities {
            const OF_NAMESPACE: u32 = 1 << 1;
            const CHANGEABLE: u32 = 1 << 2;
            return Ok(CHANGEABLE | if feature == id::ERROR_RECOVERY { OF_NAMESPACE } else { 0 });
        }
        let is_default = select == Select::Default;
        let default = Features::new();
        let features = if is_default { &default } else { &self.features };
        let value = command.dword(11);
        Ok(match feature {
            id::ARBITRATION => features.arbitration,
            id::POWER_MANAGEMENT => features.power_management,
            id::TEMPERATURE_THRESHOLD => match (value >> 16 & 0xf, value >> 20 & 3) {
                (0, 0) => u32::from(features.over_temperature),
                (0, 1) => u32::from(features.under_temperature),
                _ => return Err(Status::INVALID_FIELD),
            },
            id::ERROR_RECOVERY => features.error_recovery,
            id::VOLATILE_WRITE_CACHE => u32::from(features.write_cache),
            id::NUMBER_OF_QUEUES => queues(features.submission_queues, features.completion_queues),
            id::INTERRUPT_COALESCING if is_default => 0,
            id::INTERRUPT_COALESCING => self.interrupts.coalescing(),
            id::INTERRUPT_VECTOR_CONFIGURATION => {
                let vector = value & 0xffff;
                let never_waits = *self.interrupts.never_waits(vector as u16).ok_or(Status::INVALID_FIELD)?;
                vector | u32::from(never_waits && !is_default) << 16
            }
            id::WRITE_ATOMICITY => features.write_atomicity,
            id::ASYNC_EVENT_CONFIGURATION => features.async_events,
            id::AUTONOMOUS_POWER_STATE_TRANSITION => {
                self.give(ctx, command, &features.transitions)?;
                u32::from(features.transitions_enabled)
            }
            _ => {
                let bytes = features.timestamp.bytes(ctx.now());
                self.give(ctx, command, &bytes)?;
                0
            }
        })
    }
}

/// Each entry (figure 291) leads to a state that there is, and that processes no I/O commands, or nowhere.
fn check_transitions(table: &[u8; TRANSITIONS_BYTES]) -> Result<(), Status> {
    for entry in table.chunks_exact(8) {
        let [state, t0, t1, t2, ..] = entry else { continue };
        let idle_time = u32::from_le_bytes([*t0, *t1, *t2, 0]);
        let state = power::STATES.get(usize::from(state >> 3));
        if idle_time != 0 && !state.is_some_and(power::PowerState::is_non_operational) {
            return Err(Status::INVALID_FIELD);
        }
    }
    Ok(())
}
