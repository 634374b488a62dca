//! The campaign as a file: which kernels, which scenarios, and every run of theirs, each by itself.
//!
//! The file is made by `sdmorph lab verdicts --plan FILE`, and lies in every output directory as `campaign.json`. It says
//! what each kernel and each scenario was when it was made, so that results of something else do not get into the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::kernels;
use crate::assets::{KernelChoice, guest_module_source};
use crate::failure::Failure;
use crate::misreading::{Misreading, nearest};
use crate::scenario::Scenario;

/// The version of the file; counted up when a field changes its meaning or goes away.
pub const FORMAT: u32 = 1;
/// The version of the lab, as the file has it.
pub const LAB: &str = env!("CARGO_PKG_VERSION");

/// A list of independent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// [`LAB`]: another version may judge otherwise.
    pub lab: String,
    /// Wall time for one run in seconds; the scenario's if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// The kernels on trial: the table's columns, in this order.
    pub kernels: Vec<PlannedKernel>,
    /// What they are tried by: the table's rows, in this order.
    pub scenarios: Vec<PlannedScenario>,
    /// Every run, in the order in which they are made.
    pub runs: Vec<PlannedRun>,
}

/// A kernel on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedKernel {
    /// Its name in the table and in paths.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// SHA-256 of what it is made from, in hexadecimal.
    pub content: String,
    /// How it is obtained.
    pub choice: KernelChoice,
}

/// A scenario of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedScenario {
    /// Its name in the table and in paths.
    pub name: String,
    /// Its file, if it does not come with the lab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// SHA-256 of the scenario's text and of all scripts that its guest is given, in hexadecimal.
    pub content: String,
}

impl PlannedScenario {
    /// What [`Scenario::load`] finds it by.
    pub fn name_or_path(&self) -> &str {
        self.file.as_deref().unwrap_or(&self.name)
    }
}

/// One run of a cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// The kernel's name.
    pub kernel: String,
    /// The scenario's name.
    pub scenario: String,
    /// The run's number in its cell, from 1.
    pub run: u32,
}

impl fmt::Display for PlannedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, run {}", self.kernel, self.scenario, self.run)
    }
}

/// A part of a campaign: every run whose place in the list, counted from 0, is `index - 1` modulo `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { index: 1, count: 1 };

    /// Whether the run at this place of the list is in it.
    #[must_use]
    pub fn has(self, place: usize) -> bool {
        place % self.count == self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `i/n`, with 1 <= i <= n.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            Some((index, count)) => Err(format!(
                "there is no shard {index} of {count}: they are counted from 1 to the second number"
            )),
            None => Err(format!("`{text}` is no shard: I/N is the I-th of N, such as 1/4")),
        }
    }
}

/// Why a campaign file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file says something that is not legal.
    #[error(transparent)]
    Invalid(#[from] Misreading),
    /// It was made for something else than this lab has.
    #[error("{file}: {message}")]
    Other {
        /// The file.
        file: String,
        /// What differs.
        message: String,
    },
}

impl Plan {
    /// Every scenario on every kernel, `repeat` times: the first run of each cell first, so that a campaign that is cut
    /// off has said something of all of them.
    ///
    /// # Errors
    /// A scenario or a kernel cannot be read, or two of them have one name.
    pub fn new(
        kernels: &[KernelChoice],
        scenarios: &[String],
        repeat: u32,
        deadline_s: Option<u64>,
    ) -> Result<Self, Failure> {
        let mut kernels = kernels.iter().map(kernels::plan).collect::<Result<Vec<_>, _>>()?;
        tell_apart(&mut kernels);
        let scenarios = scenarios.iter().map(|name| plan_scenario(name)).collect::<Result<Vec<_>, _>>()?;
        let mut runs = Vec::new();
        for run in 1..=repeat {
            for kernel in &kernels {
                runs.extend(scenarios.iter().map(|scenario| PlannedRun {
                    kernel: kernel.name.clone(),
                    scenario: scenario.name.clone(),
                    run,
                }));
            }
        }
        let plan = Self { format: FORMAT, lab: LAB.to_owned(), deadline_s, kernels, scenarios, runs };
        match plan.problem() {
            None => Ok(plan),
            Some((_, message)) => Err(Failure::Options(message)),
        }
    }

    /// Read a campaign from its text. `file` is what errors call it.
    ///
    /// # Errors
    /// When it is not legal; whether this lab has the same scenarios and kernels is [`Plan::check`]'s.
    pub fn parse(file: &str, text: &str) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_str(text).map_err(|error| {
            let said = error.to_string();
            let message = said.rsplit_once(" at line ").map_or(said.as_str(), |(message, _)| message);
            Misreading {
                file: file.to_owned(),
                line: error.line().max(1),
                column: error.column().max(1),
                message: format!("{message}{}", field_at(text, error.line())),
            }
        })?;
        if let Some((word, message)) = plan.problem() {
            // The word is wrong wherever it stands: its last place is in the list of runs, where there are any.
            let at = text.rfind(&format!("\"{word}\"")).unwrap_or(0);
            return Err(Misreading::at(file, text, at, message).into());
        }
        Ok(plan)
    }

    /// What is not legal, and the word that it is about.
    fn problem(&self) -> Option<(String, String)> {
        if self.format != FORMAT {
            let message = format!("format {} is not known here: this lab reads {FORMAT}", self.format);
            return Some(("format".to_owned(), message));
        }
        let kernels = || self.kernels.iter().map(|kernel| kernel.name.as_str());
        let scenarios = || self.scenarios.iter().map(|scenario| scenario.name.as_str());
        for (what, names) in [("kernel", kernels().collect::<Vec<_>>()), ("scenario", scenarios().collect())]
        {
            let mut seen = BTreeSet::new();
            for name in names {
                if !is_path_component(name) {
                    let message = format!(
                        "the {what} `{name}` cannot be the name of a directory: letters, digits, and any of .+-_ inside"
                    );
                    return Some((name.to_owned(), message));
                }
                if !seen.insert(name) {
                    return Some((
                        name.to_owned(),
                        format!("two of the campaign's {what}s are called `{name}`"),
                    ));
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (place, run) in self.runs.iter().enumerate() {
            let PlannedRun { kernel, scenario, run: number } = run;
            let unknown = |what: &str, name: &str, hint: String| {
                let message = format!("runs[{place}].{what}: the campaign has no {what} `{name}`{hint}");
                Some((name.to_owned(), message))
            };
            if !kernels().any(|name| name == kernel) {
                return unknown("kernel", kernel, nearest(kernel, kernels()));
            }
            if !scenarios().any(|name| name == scenario) {
                return unknown("scenario", scenario, nearest(scenario, scenarios()));
            }
            if *number == 0 {
                return Some(("run".to_owned(), format!("runs[{place}].run is 0: runs are counted from 1")));
            }
            if !seen.insert(run) {
                return Some((kernel.clone(), format!("runs[{place}] is in the list twice: {run}")));
            }
        }
        self.runs.is_empty().then(|| ("runs".to_owned(), "runs: there is nothing to run".to_owned()))
    }

    /// Whether this lab would make it the same way: its version, and what it has by the names of the scenarios and
    /// kernels.
    ///
    /// # Errors
    /// If not: names what differs.
    pub fn check(&self, file: &str) -> Result<(), Failure> {
        let other = |message: String| Failure::from(PlanError::Other { file: file.to_owned(), message });
        if self.lab != LAB {
            let lab = &self.lab;
            return Err(other(format!("made for sdmorph {lab}, and this is {LAB}: make it anew (--plan)")));
        }
        for planned in &self.scenarios {
            let here = plan_scenario(planned.name_or_path())?;
            if here.content != planned.content {
                let name = &planned.name;
                return Err(other(format!(
                    "the scenario {name} is another one here, or its guest's scripts are: make the campaign anew (--plan)"
                )));
            }
        }
        for planned in &self.kernels {
            let here = kernels::plan(&planned.choice)?;
            if here.content != planned.content {
                let name = &planned.name;
                return Err(other(format!(
                    "the kernel {name} is made from something else here: make the campaign anew (--plan)"
                )));
            }
        }
        Ok(())
    }

    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<&PlannedKernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// The scenario of that name.
    pub fn scenario(&self, name: &str) -> Option<&PlannedScenario> {
        self.scenarios.iter().find(|scenario| scenario.name == name)
    }

    /// How many runs a cell is to have.
    pub fn runs_of(&self, kernel: &str, scenario: &str) -> usize {
        self.runs.iter().filter(|run| run.kernel == kernel && run.scenario == scenario).count()
    }

    /// In what another campaign differs from this one, apart from the list of runs; `None`: in nothing.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.lab != other.lab {
            return Some(format!("it was made by sdmorph {}, and not {}", other.lab, self.lab));
        }
        if self.deadline_s != other.deadline_s {
            return Some("its runs have another deadline".to_owned());
        }
        let kernel = |name: &str| other.kernel(name).map(|kernel| &kernel.content);
        if let Some(ours) =
            self.kernels.iter().find(|ours| kernel(&ours.name).is_some_and(|it| *it != ours.content))
        {
            return Some(format!("its kernel {} is made from something else", ours.name));
        }
        let scenario = |name: &str| other.scenario(name).map(|scenario| &scenario.content);
        let mut scenarios = self.scenarios.iter();
        let differs = scenarios.find(|ours| scenario(&ours.name).is_some_and(|it| *it != ours.content));
        if let Some(ours) = differs {
            return Some(format!("its scenario {} is another one", ours.name));
        }
        (self != other).then(|| "its kernels, scenarios or runs are others".to_owned())
    }
}

/// ` (field `x`)`: the field that a line of JSON is about, if it is about one.
fn field_at(text: &str, line: usize) -> String {
    let line = line.checked_sub(1).and_then(|index| text.lines().nth(index)).unwrap_or_default();
    let key = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
    match key {
        Some((key, rest)) if rest.trim_start().starts_with(':') => format!(" (field `{key}`)"),
        _ => String::new(),
    }
}

/// Whether a name can be a directory's, on every file system, and can be nothing else than below its parent.
pub(crate) fn is_path_component(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte);
    name.bytes().all(legal) && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Images in different places often have one name: the second `bzImage` becomes `bzImage-2`.
fn tell_apart(kernels: &mut [PlannedKernel]) {
    let mut seen = BTreeMap::new();
    for kernel in kernels.iter_mut().filter(|kernel| !matches!(kernel.choice, KernelChoice::Named(_))) {
        let times = seen.entry(kernel.name.clone()).and_modify(|times| *times += 1).or_insert(1);
        if *times > 1 {
            kernel.name = format!("{}-{times}", kernel.name);
        }
    }
}

fn plan_scenario(name_or_path: &str) -> Result<PlannedScenario, Failure> {
    let scenario = Scenario::load(name_or_path)?;
    let path = Path::new(name_or_path);
    let file = (scenario.name != name_or_path).then(|| name_or_path.to_owned());
    let scripts = scenario.test_files(file.is_some().then_some(path))?;
    let mut digest = Sha256::new();
    for (name, text) in parts(&scenario, &scripts)? {
        // With their lengths, so that nothing can move from one part to the next unnoticed.
        digest.update(format!("{} {} {} ", name, name.len(), text.len()));
        digest.update(text);
    }
    Ok(PlannedScenario { name: scenario.name, file, content: hexadecimal(&digest.finalize()) })
}

/// All that a scenario's run in a guest is up to, by name: another part, another scenario.
fn parts(scenario: &Scenario, scripts: &[(String, String)]) -> Result<Vec<(String, String)>, Failure> {
    let mut parts = vec![("scenario".to_owned(), scenario.source.text.clone())];
    // Those of all scenarios are put into every guest; the one that it runs, and what that includes, are what it is about.
    parts.extend(scripts.iter().filter(|(name, _)| uses(scripts, &scenario.guest.test, name)).cloned());
    for module in &scenario.guest.kernel_modules {
        parts.push((module.clone(), guest_module_source(module)?));
    }
    // The scenario's text has only the names of the files that were read into its rules.
    let rules = serde_json::Value::from(scenario.rules_json()?);
    if serde_json::to_value(&scenario.rules).is_ok_and(|written| written != rules) {
        parts.push(("rules".to_owned(), rules.to_string()));
    }
    Ok(parts)
}

/// Whether a script is another one, or includes it, itself or through others. Scripts name what they include.
fn uses(scripts: &[(String, String)], script: &str, other: &str) -> bool {
    let mut seen = BTreeSet::from([script]);
    let mut open = vec![script];
    while let Some(name) = open.pop() {
        let text = scripts.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text.as_str());
        for (included, _) in scripts.iter().filter(|(included, _)| text.contains(&format!("/{included}"))) {
            if seen.insert(included) {
                open.push(included);
            }
        }
    }
    seen.contains(other)
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(kernels: &[&str], scenarios: &[&str], repeat: u32) -> Plan {
        let kernel = |name: &&str| PlannedKernel {
            name: (*name).to_owned(),
            title: format!("kernel {name}"),
            content: format!("content of {name}"),
            choice: KernelChoice::default(),
        };
        let scenario = |name: &&str| PlannedScenario {
            name: (*name).to_owned(),
            file: None,
            content: format!("content of {name}"),
        };
        let mut runs = Vec::new();
        for run in 1..=repeat {
            for kernel in kernels {
                for scenario in scenarios {
                    let (kernel, scenario) = ((*kernel).to_owned(), (*scenario).to_owned());
                    runs.push(PlannedRun { kernel, scenario, run });
                }
            }
        }
        Plan {
            format: FORMAT,
            lab: LAB.to_owned(),
            deadline_s: None,
            kernels: kernels.iter().map(kernel).collect(),
            scenarios: scenarios.iter().map(scenario).collect(),
            runs,
        }
    }

    fn text() -> String {
        serde_json::to_string_pretty(&plan(&["6.1", "6.12"], &["sd7-idle-race"], 2)).unwrap()
    }

    fn error(from: &str, to: &str) -> String {
        let text = text();
        assert!(text.contains(from), "{from} is not in {text}");
        Plan::parse("c.json", &text.replacen(from, to, 1)).unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_is_its_file_its_scripts_and_its_guest_modules() {
        let scenario = Scenario::load("idle-between").unwrap();
        let scripts = scenario.test_files(None).unwrap();
        let parts = parts(&scenario, &scripts).unwrap();
        let mut names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let scripts = ["control.sh", "idle-between.sh", "ktap.sh", "race.sh", "reader.sh"];
        assert_eq!(names, [&scripts[..], &["scenario", "sdmorph_race"]].concat());
        let (_, module) = parts.last().unwrap();
        assert!(module.contains("hooked_driver_idle") && module.contains("obj-m := sdmorph_race.o"));
    }

    #[test]
    fn a_scenario_is_also_what_is_in_the_trace_files_of_its_rules() {
        let directory = tempfile::tempdir().unwrap();
        let (file, trace) = (directory.path().join("slow.toml"), directory.path().join("board.txt"));
        let race = Scenario::load("sd7-idle-race").unwrap().source.text;
        let text = race.replace("read-latency = \"500us\"", "read-latency = { trace-file = \"board.txt\" }");
        assert_ne!(text, race);
        std::fs::write(&file, text).unwrap();
        let content = |latencies: &str| {
            std::fs::write(&trace, latencies).unwrap();
            plan_scenario(file.to_str().unwrap()).unwrap().content
        };
        let first = content("850ns\n");
        assert_ne!(content("90us\n"), first);
        assert_eq!(content("# the same\n850ns\n"), first);
        std::fs::remove_file(&trace).unwrap();
        let error = plan_scenario(file.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("board.txt"), "{error}");
    }

    #[test]
    fn a_campaign_is_the_same_when_it_is_read_again() {
        assert_eq!(Plan::parse("c.json", &text()).unwrap(), plan(&["6.1", "6.12"], &["sd7-idle-race"], 2));
    }

    #[test]
    fn every_run_is_in_exactly_one_shard() {
        for count in 1..=7 {
            let shards: Vec<Shard> =
                (1..=count).map(|index| format!("{index}/{count}").parse().unwrap()).collect();
            for place in 0..50 {
                assert_eq!(shards.iter().filter(|shard| shard.has(place)).count(), 1, "{place} of {count}");
            }
        }
        let second: Shard = "2/3".parse().unwrap();
        assert_eq!((0..7).filter(|place| second.has(*place)).collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn shards_that_cannot_be_are_refused() {
        for text in ["0/3", "4/3", "1/0", "1", "a/b", "-1/2", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert!("4/3".parse::<Shard>().unwrap_err().contains("counted from 1"));
    }

    #[test]
    fn a_malformed_campaign_is_named_by_line_and_field() {
        let message = error("\"format\": 1", "\"format\": \"one\"");
        assert!(message.starts_with("c.json:2:"), "{message}");
        assert!(message.contains("(field `format`)"), "{message}");
        let message = error("\"run\": 1", "\"run\": -1");
        assert!(message.contains("(field `run`)") && message.contains("-1"), "{message}");
        let message = error("\"title\"", "\"titel\"");
        assert!(message.contains("unknown field `titel`, expected one of `name`, `title`"), "{message}");
        let message = error("\"lab\"", "\"lab");
        assert!(message.starts_with("c.json:"), "{message}");
        let cut = Plan::parse("c.json", &text()[..200]).unwrap_err().to_string();
        assert!(cut.starts_with("c.json:") && cut.contains("EOF"), "{cut}");
    }

    #[test]
    fn a_run_of_an_unknown_kernel_is_named_by_its_line() {
        let text = text();
        let last = text.rfind("\"kernel\": \"6.12\"").unwrap();
        let wrong = format!("{}\"kernel\": \"6.21\"{}", &text[..last], &text[last + 16..]);
        let message = Plan::parse("c.json", &wrong).unwrap_err().to_string();
        let line = text[..last].matches('\n').count() + 1;
        assert!(message.starts_with(&format!("c.json:{line}:")), "{message}");
        assert!(message.contains("runs[3].kernel: the campaign has no kernel `6.21` (did you mean `6.12`?)"));
    }

    #[test]
    fn runs_twice_run_0_and_no_run_are_refused() {
        assert!(error("\"run\": 2", "\"run\": 1").contains("in the list twice"));
        assert!(error("\"run\": 2", "\"run\": 0").contains("counted from 1"));
        let mut empty = plan(&["6.1"], &["a"], 1);
        empty.runs.clear();
        let text = serde_json::to_string_pretty(&empty).unwrap();
        assert!(Plan::parse("c.json", &text).unwrap_err().to_string().contains("nothing to run"));
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_output_directory() {
        for name in ["..", "../x", "a/b", "", ".hidden", "a b"] {
            assert!(!is_path_component(name), "{name}");
        }
        assert!(is_path_component("6.1-diff-2+my_patch"));
        let mut plan = plan(&["6.1"], &["a"], 1);
        plan.kernels[0].name = "../6.1".to_owned();
        plan.runs[0].kernel = "../6.1".to_owned();
        let text = serde_json::to_string_pretty(&plan).unwrap();
        assert!(Plan::parse("c.json", &text).unwrap_err().to_string().contains("the name of a directory"));
    }

    #[test]
    fn a_scenario_s_content_is_of_its_text_and_of_the_scripts_that_it_uses() {
        let scripts = [
            ("a.sh".to_owned(), ". /tests/lib.sh".to_owned()),
            ("lib.sh".to_owned(), ". /tests/deep.sh".to_owned()),
            ("deep.sh".to_owned(), String::new()),
            ("other.sh".to_owned(), String::new()),
        ];
        let used = |name: &str| uses(&scripts, "a.sh", name);
        assert!(used("a.sh") && used("lib.sh") && used("deep.sh") && !used("other.sh"));
        let race = plan_scenario("sd7-idle-race").unwrap();
        assert_eq!(race.content.len(), 64);
        assert_ne!(race.content, plan_scenario("boot-insert-remove").unwrap().content);
        assert_eq!(race, plan_scenario("sd7-idle-race").unwrap());
    }

    #[test]
    fn a_plan_of_another_lab_or_scenario_is_refused() {
        let good = Plan::new(&[KernelChoice::default()], &["sd7-idle-race".to_owned()], 1, None).unwrap();
        good.check("c.json").unwrap();
        let older = Plan { lab: "0.0.1".into(), ..good.clone() };
        assert!(older.check("c.json").unwrap_err().to_string().contains("made for sdmorph 0.0.1"));
        let mut other = good;
        other.scenarios[0].content = "0".repeat(64);
        let message = other.check("c.json").unwrap_err().to_string();
        assert!(message.contains("the scenario sd7-idle-race is another one here"), "{message}");
    }

    #[test]
    fn two_images_of_one_name_are_told_apart_and_one_kernel_twice_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let own = |directory: &str| {
            let directory = root.path().join(directory);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("bzImage"), directory.to_str().unwrap()).unwrap();
            let image = directory.join("bzImage");
            KernelChoice::Own(crate::assets::OwnKernel { image, modules: None, tree: None })
        };
        let scenario = ["sd7-idle-race".to_owned()];
        let plan = Plan::new(&[own("a"), own("b")], &scenario, 1, None).unwrap();
        let names: Vec<&str> = plan.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        assert_eq!(names, ["bzImage", "bzImage-2"]);
        assert_ne!(plan.kernels[0].content, plan.kernels[1].content);
        plan.check("c.json").unwrap();
        let stock = [KernelChoice::default(), KernelChoice::default()];
        let message = Plan::new(&stock, &scenario, 1, None).unwrap_err().to_string();
        assert!(message.contains("two of the campaign's kernels are called `6.1`"), "{message}");
    }

    #[test]
    fn the_difference_of_two_campaigns_is_named() {
        let ours = plan(&["6.1"], &["a"], 1);
        assert_eq!(ours.difference(&ours.clone()), None);
        let mut theirs = ours.clone();
        theirs.kernels[0].content = "x".to_owned();
        assert!(ours.difference(&theirs).unwrap().contains("its kernel 6.1"));
        let more = plan(&["6.1"], &["a"], 2);
        assert!(ours.difference(&more).unwrap().contains("runs"));
    }
}
