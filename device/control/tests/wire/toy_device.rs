//! A device that is only state enough to see which commands arrive.

use sdmorph_control::{
    CardCorruptArgs, CardInsertArgs, CardKind, CommandError, ErrorClass, EventSender, Handler, InjectArgs,
    JsonObject, RecordDumpArgs, RecordStartArgs, RuleAdded, ScenarioLoadArgs, Server, ServerOptions,
    Timestamp,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The clock of the tests always says this.
pub(crate) const NOW: Timestamp = Timestamp { seconds: 1_709_294_400, microseconds: 123_456 };

pub(crate) struct ToyDevice {
    pub(crate) events: EventSender,
    card: Mutex<Option<CardKind>>,
    rules: Mutex<Vec<String>>,
    /// What was carried out, in order.
    pub(crate) done: Mutex<Vec<String>>,
}

impl ToyDevice {
    pub(crate) fn new(event_capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            events: EventSender::new(event_capacity, || NOW),
            card: Mutex::new(None),
            rules: Mutex::new(Vec::new()),
            done: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn server(self: &Arc<Self>, options: ServerOptions) -> Server {
        Server::new(self.clone(), self.events.clone(), options)
    }

    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn note(&self, what: impl Into<String>) {
        self.done.lock().unwrap().push(what.into());
    }
}

fn object(value: Value) -> JsonObject {
    value.as_object().unwrap().clone()
}

impl Handler for ToyDevice {
    fn card_insert(&self, card: CardInsertArgs) -> Result<(), CommandError> {
        let kind = card.kind;
        let mut card = self.card.lock().unwrap();
        if card.is_some() {
            return Err(CommandError::generic("there is a card in the reader already"));
        }
        *card = Some(kind);
        self.note("card-insert");
        self.events.send("CARD_INSERTED", object(json!({"kind": kind})));
        Ok(())
    }

    fn card_eject(&self) -> Result<(), CommandError> {
        if self.card.lock().unwrap().take().is_none() {
            return Err(CommandError::new(ErrorClass::DeviceNotActive, "there is nothing in the reader"));
        }
        self.note("card-eject");
        self.events.send("CARD_EJECTED", JsonObject::new());
        Ok(())
    }

    fn card_prepare(&self, card: CardInsertArgs) -> Result<(), CommandError> {
        self.note(format!("card-prepare {:?}", card.kind));
        Ok(())
    }

    fn card_corrupt(&self, corruption: CardCorruptArgs) -> Result<(), CommandError> {
        self.note(format!("card-corrupt {:?}", corruption.what));
        Ok(())
    }

    fn over_current(&self) -> Result<(), CommandError> {
        self.note("over-current");
        Ok(())
    }

    fn link_set(&self, up: bool) -> Result<(), CommandError> {
        self.note(format!("link-set {up}"));
        self.events.send("LINK_CHANGED", object(json!({"up": up})));
        Ok(())
    }

    fn inject(&self, injection: InjectArgs) -> Result<RuleAdded, CommandError> {
        self.note(format!("inject {}", injection.r#do));
        Ok(RuleAdded { name: injection.name.unwrap_or_else(|| "injected".to_owned()) })
    }

    fn query_status(&self) -> Result<Value, CommandError> {
        Ok(json!({"card": *self.card.lock().unwrap()}))
    }

    fn rule_add(&self, rule: JsonObject) -> Result<RuleAdded, CommandError> {
        let name = rule.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| CommandError::generic("the rule has no name"))?.to_owned();
        self.rules.lock().unwrap().push(name.clone());
        Ok(RuleAdded { name })
    }

    fn rule_remove(&self, name: &str) -> Result<(), CommandError> {
        let mut rules = self.rules.lock().unwrap();
        let at = rules.iter().position(|rule| rule == name);
        let at =
            at.ok_or_else(|| CommandError::new(ErrorClass::DeviceNotFound, format!("no rule '{name}'")))?;
        rules.remove(at);
        Ok(())
    }

    fn query_rules(&self) -> Result<Value, CommandError> {
        Ok(json!(*self.rules.lock().unwrap()))
    }

    fn scenario_load(&self, scenario: ScenarioLoadArgs) -> Result<(), CommandError> {
        let mut rules = self.rules.lock().unwrap();
        if scenario.replace {
            rules.clear();
        }
        rules.extend(scenario.rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned()));
        Ok(())
    }

    fn marker(&self, text: &str) -> Result<(), CommandError> {
        self.note(format!("marker {text}"));
        Ok(())
    }

    fn record_start(&self, start: RecordStartArgs) -> Result<Value, CommandError> {
        self.note(format!("record-start {} {}", start.file, start.past));
        Ok(json!({"first": 0}))
    }

    fn record_stop(&self) -> Result<Value, CommandError> {
        Err(CommandError::generic("no record is being written"))
    }

    fn record_dump(&self, dump: RecordDumpArgs) -> Result<Value, CommandError> {
        Ok(json!([{"seq": 7, "last": dump.last}]))
    }
}
