//! What was claimed in the thread, held against the table. The claims are data (`guest-tests/claims.toml`); whether one
//! holds follows from the cells.

use serde::Deserialize;

use super::entry::Ending;
use super::verdicts::{Cell, Finding, Verdicts};

/// The claims that come with the lab.
const SHIPPED: &str = include_str!("../../../claims.toml");

/// A thread, and what was claimed in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The thread's title.
    pub thread: String,
    /// In the thread's order.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
}

/// Something that somebody said would happen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who.
    pub who: String,
    /// In a few words.
    pub title: String,
    /// In whole sentences.
    pub says: String,
    /// Where it is said.
    pub source: String,
    /// The cells that answer it.
    pub answers: Vec<Answer>,
}

/// What a cell has to be for the claim to hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The kernel's name.
    pub kernel: String,
    /// The scenario's name.
    pub scenario: String,
    /// What the runs have to be.
    pub is: Expectation,
}

/// What the runs of a cell have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// All of them without fault and hang.
    Clean,
    /// At least one with the fault.
    Fault,
    /// At least one with a hang.
    Hang,
}

impl Expectation {
    /// As a sentence has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => Ending::Clean.as_str(),
            Self::Fault => Ending::Fault.as_str(),
            Self::Hang => Ending::Hang.as_str(),
        }
    }
}

/// What the table says to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Every cell is as it has to be.
    Holds,
    /// At least one is not.
    DoesNotHold,
    /// None contradicts, and of at least one nothing is known.
    Open,
}

impl Judgement {
    /// As a heading has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::Open => "not decided",
        }
    }
}

impl Claims {
    /// Those of the thread that this project began with.
    ///
    /// # Errors
    /// What is wrong with the file; a test sees that there is nothing.
    pub fn shipped() -> Result<Self, String> {
        toml::from_str(SHIPPED).map_err(|error| format!("claims.toml: {error}"))
    }

    /// Those that the table has a cell for.
    pub fn about<'a>(&'a self, verdicts: &'a Verdicts) -> impl Iterator<Item = &'a Claim> {
        let has = |answer: &Answer| verdicts.cell(&answer.kernel, &answer.scenario).is_some();
        self.claims.iter().filter(move |claim| claim.answers.iter().any(has))
    }
}

impl Claim {
    /// What the table says to it.
    #[must_use]
    pub fn judge(&self, verdicts: &Verdicts) -> Judgement {
        let mut judgement = Judgement::Holds;
        for answer in &self.answers {
            match answer.judge(verdicts) {
                Judgement::DoesNotHold => return Judgement::DoesNotHold,
                Judgement::Open => judgement = Judgement::Open,
                Judgement::Holds => {}
            }
        }
        judgement
    }
}

impl Answer {
    /// The cell, if the table has it.
    #[must_use]
    pub fn cell<'a>(&self, verdicts: &'a Verdicts) -> Option<&'a Cell> {
        verdicts.cell(&self.kernel, &self.scenario)
    }

    /// Whether the cell is as it has to be.
    #[must_use]
    pub fn judge(&self, verdicts: &Verdicts) -> Judgement {
        let Some(Cell { summary, .. }) = self.cell(verdicts) else { return Judgement::Open };
        let holds = match (summary.finding(), self.is) {
            (Finding::Open, _) => return Judgement::Open,
            (finding, Expectation::Clean) => finding == Finding::Holds,
            (_, Expectation::Fault) => summary.faults.hits > 0,
            (_, Expectation::Hang) => summary.hangs > 0,
        };
        if holds { Judgement::Holds } else { Judgement::DoesNotHold }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdicts::tests::verdicts;
    use super::*;

    fn claim(answers: &[(&str, &str, Expectation)]) -> Claim {
        let answer = |(kernel, scenario, is): &(&str, &str, Expectation)| Answer {
            kernel: (*kernel).to_owned(),
            scenario: (*scenario).to_owned(),
            is: *is,
        };
        Claim {
            who: "A".into(),
            title: "T".into(),
            says: "S".into(),
            source: "X".into(),
            answers: answers.iter().map(answer).collect(),
        }
    }

    #[test]
    fn a_claim_holds_if_every_cell_is_as_it_has_to_be() {
        use Expectation::{Clean, Fault, Hang};
        let verdicts = verdicts();
        let judge = |answers: &[(&str, &str, Expectation)]| claim(answers).judge(&verdicts);
        let (none, diff) = ("6.1-none", "6.1-diff-2");
        assert_eq!(
            judge(&[(none, "sd7-idle-race", Fault), (diff, "sd7-idle-race", Clean)]),
            Judgement::Holds
        );
        assert_eq!(judge(&[(none, "card-pull", Hang)]), Judgement::Holds);
        assert_eq!(judge(&[(none, "card-pull", Clean)]), Judgement::DoesNotHold);
        assert_eq!(judge(&[(none, "card-pull", Fault)]), Judgement::DoesNotHold);
        // What was not run, or not to a verdict, neither holds nor does not; a contradiction elsewhere decides.
        assert_eq!(judge(&[(diff, "sd7-idle-race", Clean), (diff, "card-pull", Clean)]), Judgement::Open);
        assert_eq!(judge(&[("6.1-v3", "sd7-idle-race", Clean)]), Judgement::Open);
        assert_eq!(judge(&[(diff, "card-pull", Clean), (none, "card-pull", Clean)]), Judgement::DoesNotHold);
    }

    #[test]
    fn the_shipped_claims_are_about_what_is_run_if_nothing_is_said() {
        use super::super::{KERNELS, SCENARIOS};
        for Answer { kernel, scenario, .. } in
            Claims::shipped().unwrap().claims.iter().flat_map(|claim| &claim.answers)
        {
            assert!(
                KERNELS.contains(&kernel.as_str()) && SCENARIOS.contains(&scenario.as_str()),
                "{kernel} {scenario}"
            );
        }
        let scenarios: Vec<String> = SCENARIOS.iter().map(|name| (*name).to_owned()).collect();
        let named = |name: &&str| {
            let name = (*name).to_owned();
            crate::assets::KernelChoice::named(crate::assets::NamedKernel { name, ..Default::default() })
                .unwrap()
        };
        let kernels: Vec<_> = KERNELS.iter().map(named).collect();
        let plan = super::super::Plan::new(&kernels, &scenarios, 3, None).unwrap();
        assert_eq!(plan.runs.len(), 6 * 8 * 3);
    }

    #[test]
    fn the_shipped_claims_can_be_read_and_each_has_an_answer() {
        let claims = Claims::shipped().unwrap();
        assert!(claims.claims.iter().all(|claim| !claim.answers.is_empty()));
        let verdicts = verdicts();
        let about: Vec<&str> = claims.about(&verdicts).map(|claim| claim.title.as_str()).collect();
        assert_eq!(about.first(), Some(&"The report"));
    }
}
