//! An engine with a small reader's names, and the words the tests speak in.

use std::time::Duration;

use sdmorph_faults::{Engine, Fired, Outcome, Registry, Rule, RuleStatus};
use sdmorph_pci::{Access, Answer, Direction, Event, Happening, NvmeCommand, Register, Space};
use serde_json::{Value, json};

const BAR: &[Register] = &[
    Register::new("HAIMR", 0x10, 4, 0, "include/linux/rtsx_pci.h"),
    Register::new("BIPR", 0x14, 4, 0, "include/linux/rtsx_pci.h"),
];
const INTERNAL: &[Register] = &[
    Register::new("L1SUB_CONFIG1", 0xfe8d, 1, 0, "include/linux/rtsx_pci.h"),
    Register::new("L1SUB_CONFIG2", 0xfe8e, 1, 0, "include/linux/rtsx_pci.h"),
    Register::new("L1SUB_CONFIG3", 0xfe8f, 1, 0, "include/linux/rtsx_pci.h"),
    Register::new("OLT_LED_CTL", 0xfc1e, 1, 0, "include/linux/rtsx_pci.h"),
];
const CONFIG: &[Register] = &[Register::new("PCI_COMMAND", 0x04, 2, 0, "PCI 3.0 6.2.2")];

pub(crate) const SWITCH: Event = Event::ExpressSwitchRequested { relink_time: 0 };

fn names() -> Registry {
    let mut names = Registry::new();
    names.add_table("reader", Space::Bar(0), BAR, &[("HAIMR", 0x8000_0000)]);
    names.add_table("reader", Space::Internal, INTERNAL, &[]);
    names.add_table("reader", Space::Config, CONFIG, &[]);
    names.add_table("port", Space::Config, CONFIG, &[]);
    names.add_table("nvme", Space::Config, CONFIG, &[]);
    names.add_phases(["reader", "switching", "away", "drive"]);
    names.add_commands(["CMD0", "CMD8", "CMD9", "ACMD41", "Read", "Write"]);
    names.add_statuses([("Internal Error", 0x006), ("Namespace Not Ready", 0x082)]);
    names
}

pub(crate) fn rule(name: &str, on: Value, action: Value) -> Rule {
    Rule::from_json(&json!({ "name": name, "on": on, "do": action }))
        .unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn vanish() -> Value {
    json!({ "bar": "vanish" })
}

/// An engine with a hand on the clock.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) now: Duration,
}

impl Bench {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let mut engine = Engine::new(names());
        engine.load(rules, Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
        Self { engine, now: Duration::ZERO }
    }

    pub(crate) fn with(on: Value) -> Self {
        Self::new(vec![rule("r", on, vanish())])
    }

    pub(crate) fn access(&mut self, function: &'static str, access: Access) -> Outcome {
        self.engine.observe(self.now, function, &Happening::Access(access))
    }

    pub(crate) fn read(&mut self, name: &'static str, value: u64) -> Outcome {
        self.access("reader", reader(name, Direction::Read, value))
    }

    pub(crate) fn write(&mut self, name: &'static str, value: u64) -> Outcome {
        self.access("reader", reader(name, Direction::Write, value))
    }

    pub(crate) fn event(&mut self, event: Event) -> Outcome {
        self.engine.observe(self.now, "reader", &Happening::Event(event))
    }

    /// Something that is no access, of `function`.
    pub(crate) fn seen(&mut self, function: &'static str, what: &Happening<'_>) -> Vec<String> {
        names_of(&self.engine.observe(self.now, function, what).fired)
    }

    pub(crate) fn command(&mut self, name: &str, argument: u32) -> Outcome {
        self.engine.observe(self.now, "reader", &Happening::Command { name, argument, response: None })
    }

    pub(crate) fn nvme(&mut self, name: &'static str, argument: u64, status: Option<u16>) -> Outcome {
        let command = NvmeCommand { name, queue: 1, id: 3, namespace: 1, argument, status };
        self.engine.observe(self.now, "nvme", &Happening::Nvme(command))
    }

    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let fired = self.engine.due(self.now);
        names_of(&fired)
    }

    pub(crate) fn status(&self, name: &str) -> RuleStatus {
        let list = self.engine.list();
        list.into_iter().find(|status| status.rule.name.as_str() == name).expect("the rule is there")
    }

    pub(crate) fn hits(&self, name: &str) -> u64 {
        self.status(name).hits
    }
}

pub(crate) fn reader(name: &'static str, direction: Direction, value: u64) -> Access {
    let row = BAR.iter().chain(INTERNAL).chain(CONFIG).find(|row| row.name == name).unwrap();
    Access {
        space: Space::Bar(0),
        direction,
        offset: u64::from(row.address),
        size: row.size,
        register: Some(name),
        value,
        answer: Answer::Modelled,
    }
}

pub(crate) fn names_of(fired: &[Fired]) -> Vec<String> {
    fired.iter().map(|fired| fired.rule.to_string()).collect()
}

pub(crate) fn refusal(rules: Vec<Rule>) -> String {
    let mut engine = Engine::new(names());
    let error = engine.load(rules, Duration::ZERO).expect_err("is refused").to_string();
    assert!(engine.list().is_empty(), "nothing of a refused set is kept");
    error
}
