//! What the commands of the control socket do.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sdmorph_control::{
    CardCorruptArgs, CardInsertArgs, CommandError, EventSender, InjectArgs, JsonObject, RecordDumpArgs,
    RecordStartArgs, RuleAdded, ScenarioLoadArgs,
};
use sdmorph_lab::scenario::TraceFiles;
use sdmorph_machine::faults::{MAX_RULES, Rule, RuleError, parse_disturbance};
use sdmorph_machine::record::Recorded;
use sdmorph_machine::{InsertError, Record};
use sdmorph_transport::Shared;
use serde_json::{Value, json};

use super::recording::Recordings;
use super::{cards, timestamp};

/// Longest marker: the record is bounded by its number of entries, and so they have to be.
const MARKER_BYTES: usize = 1024;
/// The name of what is injected without one.
const INJECTED: &str = "injected";
/// Records looked through at once for notices.
const BATCH: usize = 4096;

/// Commands put onto the machine.
pub(crate) struct Handler {
    shared: Shared,
    events: EventSender,
    /// Where images of cards and traces of latencies have to be, if not anywhere.
    images: Option<PathBuf>,
    recordings: Arc<Recordings>,
    /// The first record that has not been looked at for notices.
    next: Mutex<u64>,
}

impl Handler {
    pub(crate) fn new(
        shared: Shared,
        events: EventSender,
        images: Option<PathBuf>,
        recordings: Arc<Recordings>,
    ) -> Self {
        Self { shared, events, images, recordings, next: Mutex::new(0) }
    }

    /// Reads a rule, with what is in the files that it names. `files` are those of the message.
    fn read_rule(&self, mut rule: Value, files: &mut TraceFiles) -> Result<Rule, RuleError> {
        self.read_traces(&mut rule, files)?;
        Rule::from_json(&rule)
    }

    fn read_traces(&self, rule: &mut Value, files: &mut TraceFiles) -> Result<(), RuleError> {
        files.read_into(rule, |file| cards::find_file(file, self.images.as_deref()))
    }

    /// Tells clients of the events and rule hits that came since the last time.
    pub(crate) fn forward_notices(&self) {
        // Held all the while, so that two callers do not mix up the order.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let records = self.shared.with_machine(|machine, _| machine.records_since(*next, BATCH));
            let Some(last) = records.last().map(|record| record.seq) else { return };
            for record in records.iter().filter(|record| record.what.is_notice()) {
                let (name, data) = notice(record);
                let timestamp = timestamp(self.shared.time.wall_clock(record.time));
                self.events.send_event(&sdmorph_control::Event { name, data, timestamp });
            }
            *next = last + 1;
        }
    }
}

/// A record of which clients are told: the event's name and its data.
fn notice(record: &Record) -> (String, JsonObject) {
    let name = match &record.what {
        Recorded::Event(_, event) => event.name().replace('-', "_").to_uppercase(),
        _ => "RULE_HIT".to_owned(),
    };
    let mut data = match record.to_json() {
        Value::Object(data) => data,
        _ => JsonObject::new(),
    };
    data.remove("kind");
    if !matches!(record.what, Recorded::Rule { .. }) {
        data.remove("name");
    }
    (name, data)
}

fn refused(error: InsertError) -> CommandError {
    CommandError::generic(error.to_string())
}

fn bad_rule(error: RuleError) -> CommandError {
    CommandError::generic(error.to_string())
}

impl sdmorph_control::Handler for Handler {
    fn card_insert(&self, card: CardInsertArgs) -> Result<(), CommandError> {
        // Before the image is opened, which would be for nothing: whoever has it then could be the card that is there.
        if self.shared.with_machine(|machine, _| machine.has_card()) {
            return Err(refused(InsertError::Occupied));
        }
        let card = cards::new_card(&card, self.images.as_deref(), self.shared.waker())
            .map_err(CommandError::generic)?;
        let result = self.shared.with_machine(|machine, now| machine.card_insert(now, card));
        self.forward_notices();
        result.map_err(refused)
    }

    fn card_eject(&self) -> Result<(), CommandError> {
        let result = self.shared.with_machine(|machine, now| machine.card_eject(now));
        self.forward_notices();
        result.map_err(refused)
    }

    fn card_prepare(&self, card: CardInsertArgs) -> Result<(), CommandError> {
        let card = cards::new_card(&card, self.images.as_deref(), self.shared.waker())
            .map_err(CommandError::generic)?;
        self.shared.with_machine(|machine, _| machine.card_prepare(card)).map_err(refused)
    }

    fn card_corrupt(&self, corruption: CardCorruptArgs) -> Result<(), CommandError> {
        let disturbance = parse_disturbance(&json!(corruption)).map_err(CommandError::generic)?;
        let result = self.shared.with_machine(|machine, now| machine.card_disturb(now, disturbance));
        self.forward_notices();
        result.map_err(refused)
    }

    fn over_current(&self) -> Result<(), CommandError> {
        let detected = self.shared.with_machine(|machine, now| machine.over_current(now));
        self.forward_notices();
        if detected {
            return Ok(());
        }
        Err(CommandError::generic("no driver has set the reader to look for an over-current".to_owned()))
    }

    fn link_set(&self, up: bool) -> Result<(), CommandError> {
        self.shared.with_machine(|machine, now| machine.link_set(now, up));
        self.forward_notices();
        Ok(())
    }

    fn inject(&self, injection: InjectArgs) -> Result<RuleAdded, CommandError> {
        let InjectArgs { r#do: actions, name } = injection;
        let name = name.unwrap_or_else(|| INJECTED.to_owned());
        let mut rule = json!({ "name": name, "do": actions });
        self.read_traces(&mut rule, &mut TraceFiles::default()).map_err(bad_rule)?;
        let actions = rule.get_mut("do").map(Value::take).unwrap_or_default();
        self.shared.with_machine(|machine, now| machine.inject(now, &name, &actions)).map_err(bad_rule)?;
        self.forward_notices();
        Ok(RuleAdded { name })
    }

    fn query_status(&self) -> Result<Value, CommandError> {
        Ok(self.shared.with_machine(|machine, now| {
            machine.advance(now);
            machine.status()
        }))
    }

    fn rule_add(&self, rule: JsonObject) -> Result<RuleAdded, CommandError> {
        let rule = self.read_rule(Value::Object(rule), &mut TraceFiles::default()).map_err(bad_rule)?;
        let name = rule.name.as_str().to_owned();
        self.shared.with_machine(|machine, now| machine.rule_add(now, rule)).map_err(bad_rule)?;
        Ok(RuleAdded { name })
    }

    fn rule_remove(&self, name: &str) -> Result<(), CommandError> {
        self.shared.with_machine(|machine, _| machine.rule_remove(name)).map(drop).map_err(bad_rule)
    }

    fn query_rules(&self) -> Result<Value, CommandError> {
        let rules = self.shared.with_machine(|machine, _| machine.rules());
        serde_json::to_value(rules).map_err(|error| CommandError::generic(error.to_string()))
    }

    fn scenario_load(&self, scenario: ScenarioLoadArgs) -> Result<(), CommandError> {
        // Before the files of so many are read.
        if scenario.rules.len() > MAX_RULES {
            return Err(bad_rule(RuleError::TooMany { limit: MAX_RULES }));
        }
        let mut files = TraceFiles::default();
        let rules = scenario
            .rules
            .into_iter()
            .map(|rule| self.read_rule(Value::Object(rule), &mut files))
            .collect::<Result<Vec<_>, _>>()
            .map_err(bad_rule)?;
        let ScenarioLoadArgs { name, replace, .. } = scenario;
        self.shared
            .with_machine(|machine, now| machine.scenario_load(now, &name, rules, replace))
            .map_err(bad_rule)?;
        self.forward_notices();
        Ok(())
    }

    fn marker(&self, text: &str) -> Result<(), CommandError> {
        if text.len() > MARKER_BYTES {
            let length = text.len();
            let why = format!("a marker may have {MARKER_BYTES} bytes, and this one has {length}");
            return Err(CommandError::generic(why));
        }
        self.shared.with_machine(|machine, now| machine.marker(now, text));
        Ok(())
    }

    fn record_start(&self, start: RecordStartArgs) -> Result<Value, CommandError> {
        self.recordings.start(&start.file, start.past).map_err(CommandError::generic)
    }

    fn record_stop(&self) -> Result<Value, CommandError> {
        self.recordings.stop().map_err(CommandError::generic)
    }

    fn record_dump(&self, dump: RecordDumpArgs) -> Result<Value, CommandError> {
        self.recordings.dump(dump.file.as_deref(), dump.last).map_err(CommandError::generic)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use sdmorph_control::{COMMON_DATA, EVENTS};
    use sdmorph_pci::{Event, ResetKind};

    use super::*;

    /// One event of each kind.
    const SAMPLES: &[Event] = &[
        Event::CardInserted,
        Event::CardEjected,
        Event::OverCurrent,
        Event::DriverBound,
        Event::ExpressSwitchRequested { relink_time: 1 },
        Event::BarVanished,
        Event::BarReturned,
        Event::LinkDown,
        Event::LinkUp,
        Event::PresenceChanged { present: true },
        Event::AttentionButtonPressed,
        Event::MrlSensorChanged { open: true },
        Event::PowerFault,
        Event::SlotPower { on: false },
        Event::CommandCompleted,
        Event::ErrorDetected { error: "SDN", message: None },
        Event::Contained,
        Event::Morph { phase: "drive" },
        Event::D3hotEntered,
        Event::D0Entered,
        Event::PmeReceived { requester: 8 },
        Event::Reset { kind: ResetKind::Hot },
    ];

    #[test]
    fn table_of_events_has_every_event_that_clients_are_told_of_with_its_data_and_no_other() {
        let sampled: BTreeSet<_> = SAMPLES.iter().map(Event::name).collect();
        let names: BTreeSet<_> = Event::NAMES.iter().copied().collect();
        assert_eq!(sampled, names, "an event has no sample here");
        let events = SAMPLES.iter().map(|event| Recorded::Event("port", *event));
        let hit = Recorded::Rule { name: "a".to_owned(), hit: 1, actions: Vec::new() };
        let mut told = BTreeSet::new();
        for what in events.chain([hit]).filter(Recorded::is_notice) {
            let record = Record { seq: 0, time: Duration::ZERO, what };
            let (name, data) = notice(&record);
            let spec = EVENTS.iter().find(|spec| spec.name == name);
            let spec = spec.unwrap_or_else(|| panic!("{name} is not in the table of events"));
            let common = COMMON_DATA.iter().filter(|member| !member.optional || name != "RULE_HIT");
            let members: BTreeSet<_> = common.chain(spec.data).map(|member| member.name.to_owned()).collect();
            let told_of: BTreeSet<_> = data.keys().cloned().collect();
            assert_eq!(members, told_of, "{name}");
            told.insert(name);
        }
        let known: BTreeSet<_> = EVENTS.iter().map(|spec| spec.name.to_owned()).collect();
        assert_eq!(told, known);
    }
}
