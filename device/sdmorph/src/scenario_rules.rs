//! The fault rules of a scenario file: read, checked, and given to a machine. What is wrong with one is said with its line.

use sdmorph_lab::scenario::Scenario;
use sdmorph_machine::faults::{Rule, RuleError};
use sdmorph_machine::{Equipment, Setup};
use sdmorph_transport::Shared;

/// A scenario and its rules; what else a scenario has is the lab's business.
pub(crate) struct ScenarioRules {
    scenario: Scenario,
    rules: Vec<Rule>,
}

impl ScenarioRules {
    /// Reads the rules of a shipped scenario, or of a file.
    pub(crate) fn read(name_or_path: &str) -> anyhow::Result<Self> {
        let scenario = Scenario::load(name_or_path)?;
        let mut rules = Vec::new();
        for (number, table) in scenario.rules_json()?.iter().enumerate() {
            let wrong = |error: RuleError| scenario.wrong_rule(number, error.place(), error.to_string());
            rules.push(Rule::from_json(table).map_err(wrong)?);
        }
        Ok(Self { scenario, rules })
    }

    /// Whether the scenario's machine would take them.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let equipment = Equipment::from_words(self.scenario.device.slot.words());
        self.load(&Shared::with_setup(Setup::default().with_equipment(equipment)))
    }

    /// Gives them to a machine, in place of those that it has.
    pub(crate) fn load(&self, shared: &Shared) -> anyhow::Result<()> {
        let (name, rules) = (&self.scenario.name, self.rules.clone());
        let loaded = shared.with_machine(|machine, now| machine.scenario_load(now, name, rules, true));
        loaded.map_err(|error| self.wrong(error))
    }

    fn wrong(&self, error: RuleError) -> anyhow::Error {
        // The last of that name: if there are two, it is the second that is too many.
        let number = self.rules.iter().rposition(|rule| Some(rule.name.as_str()) == error.rule());
        match number {
            Some(number) => self.scenario.wrong_rule(number, error.place(), error.to_string()).into(),
            None => anyhow::Error::from(error).context(format!("scenario {}", self.scenario.name)),
        }
    }
}
