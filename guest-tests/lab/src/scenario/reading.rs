//! Reading: from a file to a scenario, and what is wrong with one that is none.

use std::path::{Path, PathBuf};

use sdmorph_faults::{MAX_RULES, RuleError};

use super::{
    BLOCK_BYTES, Check, Criteria, Expected, Guest, SHIPPED, SHIPPED_TESTS, Scenario, Source, TraceFiles,
    VendorSettings,
};
use crate::assets::{guest_module, tools};
use crate::image::ImageFormat;
use crate::misreading::{Misreading, find_key, is_word, nearest};
use crate::verdict::Outcome;

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// There is no such scenario.
    #[error("there is no scenario `{name}`{hint}; the names are {names}, or give the path of a .toml file")]
    Unknown {
        /// What was asked for.
        name: String,
        /// ` (did you mean …?)`, or nothing.
        hint: String,
        /// The legal names.
        names: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says something that is not legal.
    #[error(transparent)]
    Invalid(#[from] Misreading),
}

impl Scenario {
    /// Find a scenario: the name of a shipped one, or the path of a file.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is not legal.
    pub fn load(name_or_path: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(name, &format!("{name}.toml"), text);
        }
        let path = Path::new(name_or_path);
        let looks_like_path = name_or_path.contains('/') || path.extension().is_some_and(|end| end == "toml");
        if !looks_like_path {
            let names = || SHIPPED.iter().map(|(name, _)| *name);
            return Err(ScenarioError::Unknown {
                name: name_or_path.to_owned(),
                hint: nearest(name_or_path, names()),
                names: names().collect::<Vec<_>>().join(", "),
            });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: name_or_path.to_owned(), source })?;
        let name = path
            .file_stem()
            .map_or_else(|| name_or_path.to_owned(), |stem| stem.to_string_lossy().into_owned());
        let mut scenario = Self::parse(&name, name_or_path, &text)?;
        scenario.source.directory = path.parent().map(Path::to_owned);
        Ok(scenario)
    }

    /// Read a scenario from its text. `file` is what errors call it.
    ///
    /// # Errors
    /// When it is not legal.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self =
            toml::from_str(text).map_err(|error| Misreading::of_toml(file, text, &error))?;
        name.clone_into(&mut scenario.name);
        scenario.source = Source { file: file.to_owned(), text: text.to_owned(), directory: None };
        let invalid = |key: &str, value: &str, message: String| {
            Misreading::at(file, text, find_key(text, key, value), message)
        };
        scenario.check().map_err(|(key, message)| invalid(key, "", message))?;
        scenario.check_cards().map_err(|misfit| invalid(misfit.key, &misfit.value, misfit.message))?;
        Ok(scenario)
    }

    /// What the types alone do not say. The error is the key to point at, and the message.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.deadline_s == 0 {
            return Err(("deadline_s", "deadline_s is 0: no run could ever end in time".to_owned()));
        }
        if !(1..=64).contains(&self.guest.vcpus) {
            return Err(("vcpus", format!("guest.vcpus is {}, and has to be 1 to 64", self.guest.vcpus)));
        }
        if self.guest.memory_mib().is_none() {
            let memory = &self.guest.memory;
            let message =
                format!("guest.memory is `{memory}`, and has to be a number and M or G, such as 512M");
            return Err(("memory", message));
        }
        if self.guest.test.contains('/') || !self.guest.test.ends_with(".sh") {
            let test = &self.guest.test;
            return Err((
                "test",
                format!("guest.test is `{test}`, and has to be the file name of a .sh script"),
            ));
        }
        let settings = self.device.vendor_settings;
        if let Some((key, strength)) = settings.and_then(VendorSettings::out_of_range) {
            return Err((key, format!("device.vendor_settings.{key} is {strength}, and has to be 0 to 3")));
        }
        let Criteria { fault, hang, clean } = &self.verdict;
        for evidence in fault.iter().chain(hang).chain([clean]) {
            let names = || self.moments.iter().map(|moment| moment.name.as_str());
            if let Some(unknown) = evidence.order.iter().find(|name| !names().any(|known| known == *name)) {
                let hint = nearest(unknown, names());
                return Err(("order", format!("order: there is no [[time]] called `{unknown}`{hint}")));
            }
            if let Some(unknown) = evidence.never.iter().find(|name| !names().any(|known| known == *name)) {
                let hint = nearest(unknown, names());
                return Err(("never", format!("never: there is no [[time]] called `{unknown}`{hint}")));
            }
        }
        let places = [("verdict.fault.blocked", fault.as_ref()), ("verdict.clean.blocked", Some(clean))];
        let elsewhere =
            places.iter().find(|(_, place)| place.is_some_and(|evidence| evidence.blocked.is_some()));
        if let Some((key, _)) = elsewhere {
            return Err((key, "a task that hangs is looked for in [verdict.hang.blocked] only".to_owned()));
        }
        if let Some(hang) = hang {
            if hang.blocked.as_ref().is_none_or(|blocked| blocked.chain.is_empty()) {
                let message = "verdict.hang has no [verdict.hang.blocked] with a `chain` to know it by";
                return Err(("verdict.hang", message.to_owned()));
            }
            if hang.oops.is_some() {
                return Err((
                    "verdict.hang.oops",
                    "an oops is looked for in [verdict.fault.oops] only".to_owned(),
                ));
            }
        }
        let fault_expected =
            [self.expect.without_fix, Some(self.expect.with_fix)].contains(&Some(Expected::Fault));
        let known = self.verdict.fault.as_ref().is_some_and(|evidence| evidence.oops.is_some());
        if fault_expected && !known {
            let message = "`fault` is expected, and there is no [verdict.fault.oops] to know it by";
            return Err(("expect", message.to_owned()));
        }
        let hang_expected =
            [self.expect.without_fix, Some(self.expect.with_fix)].contains(&Some(Expected::Hang));
        if hang_expected && hang.is_none() {
            return Err((
                "expect",
                "`hang` is expected, and there is no [verdict.hang] to know it by".to_owned(),
            ));
        }
        let oops = self.verdict.fault.as_ref().and_then(|evidence| evidence.oops.as_ref());
        for inlined in &self.kernel.inlined {
            let function = &inlined.function;
            if !oops.is_some_and(|oops| oops.chain.contains(function)) {
                return Err((
                    "function",
                    format!("inlined function `{function}` is not in the oops's `chain`"),
                ));
            }
            if inlined.calls.is_empty() {
                return Err(("calls", format!("nothing would prove that `{function}` was inlined")));
            }
        }
        for moment in &self.moments {
            let one = match (&moment.first, &moment.last) {
                (Some(one), None) | (None, Some(one)) => one,
                _ => return Err(("time", format!("time `{}` needs one of `first` and `last`", moment.name))),
            };
            let words = [&one.event, &one.read, &one.write, &one.log, &one.note].into_iter().flatten();
            let numbers = [one.dead_read, one.dead_write].into_iter().flatten();
            if words.count() + numbers.count() != 1 {
                let name = &moment.name;
                let message = format!(
                    "time `{name}` needs one of `event`, `read`, `write`, `dead_read`, `dead_write`, `log` and `note`"
                );
                return Err(("time", message));
            }
        }
        Ok(())
    }

    /// What the types do not say of programs, modules and images.
    fn check_cards(&self) -> Result<(), Misfit> {
        let Guest { modules, packages, tools, kernel_modules, .. } = &self.guest;
        if let Some(name) = tools.iter().find(|name| !tools::names().any(|known| known == *name)) {
            let hint = nearest(name, tools::names());
            return Err(Misfit::new("tools", name, format!("tools: the lab has no program `{name}`{hint}")));
        }
        let own = || guest_module::names();
        if let Some(name) = kernel_modules.iter().find(|name| !own().any(|known| known == *name)) {
            let hint = nearest(name, own());
            let message = format!("kernel_modules: the lab has no kernel module `{name}`{hint}");
            return Err(Misfit::new("kernel_modules", name, message));
        }
        if let Some(name) = modules.iter().find(|name| !is_word(name, "_-")) {
            return Err(Misfit::new("modules", name, format!("`{name}` is no name of a kernel module")));
        }
        for (package, programs) in packages {
            if !is_word(package, "+-.") || package.starts_with(['-', '.', '+']) {
                return Err(Misfit::new("packages", package, format!("`{package}` is no name of a package")));
            }
            if programs.is_empty() {
                let message = format!("packages: say which programs of `{package}` the guest needs");
                return Err(Misfit::new("packages", package, message));
            }
            if let Some(name) = programs.iter().find(|name| !is_word(name, "+-._")) {
                let message = format!("packages: `{name}` is no name of a program");
                return Err(Misfit::new("packages", name, message));
            }
        }
        for (index, image) in self.images.iter().enumerate() {
            let name = &image.name;
            if !is_word(name, "-") {
                let message = format!(
                    "image `{name}`: a name has lower-case letters, digits and hyphens: it is a file's name"
                );
                return Err(Misfit::new("name", name, message));
            }
            if self.images.iter().skip(index + 1).any(|other| other.name == *name) {
                return Err(Misfit::new("name", name, format!("there are two images called `{name}`")));
            }
            if !image.files.is_empty() && image.format != ImageFormat::Raw {
                return Err(Misfit::new(
                    "name",
                    name,
                    format!("the image `{name}` has files, and only a raw image can have any"),
                ));
            }
            if let Some(file) = image.files.keys().find(|file| file.is_empty() || file.contains('/')) {
                return Err(Misfit::new(
                    "name",
                    name,
                    format!(
                        "the image `{name}` has a file called `{file}`: they are all in its root directory"
                    ),
                ));
            }
            if image.size_bytes().is_none() {
                let size = &image.size;
                let message = format!(
                    "the size of the image `{name}` is `{size}`, and has to be a number with K, M, G or T, such as \
                     64M, and a multiple of {BLOCK_BYTES} bytes"
                );
                return Err(Misfit::new("size", size, message));
            }
        }
        self.checks.iter().try_for_each(|check| self.check_range(check))
    }

    fn check_range(&self, check: &Check) -> Result<(), Misfit> {
        let name = &check.image;
        let Some(image) = self.images.iter().find(|image| image.name == *name) else {
            let hint = nearest(name, self.images.iter().map(|image| image.name.as_str()));
            return Err(Misfit::new(
                "image",
                name,
                format!("check: there is no [[image]] called `{name}`{hint}"),
            ));
        };
        let Check { offset, length, .. } = check;
        let Some((first, count)) = check.range() else {
            let message = format!(
                "check of `{name}`: offset `{offset}` and length `{length}` have to be numbers, with K, M, G or T if \
                 not of bytes, and the length more than 0"
            );
            return Err(Misfit::new("length", length, message));
        };
        let size_bytes = image.size_bytes().unwrap_or_default();
        if first.saturating_add(count) > size_bytes {
            let message =
                format!("check of `{name}`: {count} bytes at {first} end beyond the image's {size_bytes}");
            return Err(Misfit::new("length", length, message));
        }
        Ok(())
    }

    /// The rules as the device takes them: in JSON, with what is in the files that they name, otherwise unchanged.
    ///
    /// # Errors
    /// When a rule holds something that JSON has no word for, a file is not what its rule needs, or there are more rules
    /// than [`MAX_RULES`]: then no file is read.
    pub fn rules_json(&self) -> Result<Vec<serde_json::Value>, ScenarioError> {
        if self.rules.len() > MAX_RULES {
            let refused = RuleError::TooMany { limit: MAX_RULES };
            return Err(self.wrong_rule(MAX_RULES, "", refused.to_string()));
        }
        let mut files = TraceFiles::default();
        let find = |name: &str| {
            let directory = self.source.directory.as_ref();
            let found = directory.map(|directory| directory.join(name));
            found.ok_or_else(|| "a scenario that comes with the lab has no files beside it".to_owned())
        };
        let one = |(number, rule): (usize, &toml::Table)| {
            let mut rule =
                serde_json::to_value(rule).map_err(|error| self.wrong_rule(number, "", error.to_string()))?;
            let read = files.read_into(&mut rule, find);
            read.map_err(|error| self.wrong_rule(number, error.place(), error.to_string()))?;
            Ok(rule)
        };
        self.rules.iter().enumerate().map(one).collect()
    }

    /// What a verdict says about the kernel; empty for `inconclusive`.
    pub fn meaning(&self, outcome: Outcome) -> &str {
        match outcome {
            Outcome::Fault => self.verdict.fault.as_ref().map_or("", |evidence| evidence.means.as_str()),
            Outcome::Hang => self.verdict.hang.as_ref().map_or("", |evidence| evidence.means.as_str()),
            Outcome::Clean => &self.verdict.clean.means,
            Outcome::Inconclusive => "",
        }
    }

    /// The guest's test script and what it sources: file name and contents. A file that lies beside the scenario,
    /// or in `../tests` of it, goes before a shipped one of the same name.
    ///
    /// # Errors
    /// When the test script is nowhere.
    pub fn test_files(&self, scenario_file: Option<&Path>) -> Result<Vec<(String, String)>, ScenarioError> {
        let mut files: Vec<(String, String)> =
            SHIPPED_TESTS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let Some(directory) = scenario_file.and_then(Path::parent) else { return self.with_test(files) };
        for directory in [directory.join("../tests"), directory.to_owned()] {
            for path in scripts_in(&directory) {
                let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                    continue;
                };
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| ScenarioError::Read { path: path.display().to_string(), source })?;
                files.retain(|(known, _)| *known != name);
                files.push((name, text));
            }
        }
        self.with_test(files)
    }

    fn with_test(&self, files: Vec<(String, String)>) -> Result<Vec<(String, String)>, ScenarioError> {
        if files.iter().any(|(name, _)| *name == self.guest.test) {
            return Ok(files);
        }
        let hint = nearest(&self.guest.test, files.iter().map(|(name, _)| name.as_str()));
        let message = format!("there is no test script `{}`{hint}", self.guest.test);
        Err(Misreading { file: self.name.clone(), line: 1, column: 1, message }.into())
    }
}

/// Something that is not legal: the key to point at, what stands there, and the message.
struct Misfit {
    key: &'static str,
    value: String,
    message: String,
}

impl Misfit {
    fn new(key: &'static str, value: &str, message: String) -> Self {
        Self { key, value: value.to_owned(), message }
    }
}

fn scripts_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "sh"))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Needs;

    const RACE: &str = include_str!("../../../scenarios/sd7-idle-race.toml");

    fn error(text: &str) -> String {
        Scenario::parse("x", "x.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn every_shipped_scenario_is_legal_and_has_its_test() {
        for (name, _) in SHIPPED {
            let scenario = Scenario::load(name).unwrap();
            assert_eq!(scenario.name, *name);
            scenario.test_files(None).unwrap();
            scenario.rules_json().unwrap();
        }
    }

    fn is_of_a_name(c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '-'
    }

    #[test]
    fn every_evidence_names_only_rules_that_the_scenario_or_its_script_has() {
        for (name, _) in SHIPPED {
            let scenario = Scenario::load(name).unwrap();
            let mut names: Vec<_> = scenario.rules.iter().filter_map(|rule| rule["name"].as_str()).collect();
            // What the script adds, by itself or by what it has sourced.
            let text = |file: &str| SHIPPED_TESTS.iter().find(|(name, _)| *name == file).unwrap().1;
            let script = text(&scenario.guest.test);
            let sourced =
                script.lines().filter_map(|line| line.strip_prefix(". \"$tests/")?.strip_suffix('"'));
            for part in sourced.map(text).chain([script]) {
                for adds in ["rule_once ", "sleep_in_s3_with ", "\\\"name\\\":\\\""] {
                    let named = part.split(adds).skip(1);
                    names.extend(named.filter_map(|rest| rest.split(|c: char| !is_of_a_name(c)).next()));
                }
            }
            let evidences = scenario.verdict.fault.iter().chain([&scenario.verdict.clean]);
            for rule in evidences.flat_map(|evidence| &evidence.rules) {
                assert!(names.contains(&rule.as_str()), "{name}: no rule {rule}");
            }
        }
    }

    #[test]
    fn rules_are_handed_on_unchanged() {
        let rules = Scenario::load("sd7-idle-race").unwrap().rules_json().unwrap();
        assert_eq!(
            rules[1],
            serde_json::json!({
                "name": "bar-dies",
                "on": { "write": "L1SUB_CONFIG3", "after": "express-switch-requested" },
                "do": { "bar": "vanish" },
                "times": 1,
            })
        );
    }

    #[test]
    fn a_scenario_can_have_its_kernel_traced() {
        let guest = |line: &str| RACE.replace("vcpus = 2", &format!("vcpus = 2\n{line}"));
        let trace = |line: &str| Scenario::parse("x", "x.toml", &guest(line)).unwrap().guest.trace;
        assert_eq!((trace(""), trace("trace = false"), trace("trace = true")), (false, false, true));
        let line = RACE.lines().position(|line| line == "vcpus = 2").unwrap() + 2;
        let message = error(&guest("trace = [\"pciehp_ist\"]"));
        assert!(
            message.starts_with(&format!("x.toml:{line}:9: ")) && message.contains("boolean"),
            "{message}"
        );
        let message = error(&guest("traec = true"));
        assert!(message.contains("unknown field `traec`"), "{message}");
        assert!(message.contains("did you mean `trace`?"), "{message}");
    }

    #[test]
    fn trace_of_a_rule_is_looked_for_beside_the_scenario() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("slow.toml");
        let text = RACE.replace("read-latency = \"500us\"", "read-latency = { trace-file = \"board.txt\" }");
        assert_ne!(text, RACE);
        std::fs::write(&file, &text).unwrap();
        std::fs::write(directory.path().join("board.txt"), "850ns\n90us # the first after L1\n").unwrap();
        let scenario = Scenario::load(file.to_str().unwrap()).unwrap();
        let rules = scenario.rules_json().unwrap();
        let slow = rules.iter().find(|rule| rule["name"] == "dead-reads-slow").unwrap();
        assert_eq!(slow["do"], serde_json::json!({ "read-latency": { "trace-ns": [850, 90_000] } }));

        std::fs::write(directory.path().join("board.txt"), "850ns\n90\n").unwrap();
        let error = scenario.rules_json().unwrap_err().to_string();
        let line = text.lines().position(|line| line.contains("trace-file")).unwrap() + 1;
        assert!(error.starts_with(&format!("{}:{line}:", file.display())), "{error}");
        assert!(error.contains("board.txt:2: \"90\" is not a duration"), "{error}");

        let more = "[[rule]]\nname = \"none\"\ndo = { read-latency = { trace-file = \"none.txt\" } }\n";
        let many = format!("{text}\n{}", more.repeat(MAX_RULES));
        let error =
            Scenario::parse("slow", "slow.toml", &many).unwrap().rules_json().unwrap_err().to_string();
        assert!(error.ends_with("there are too many rules; the limit is 4096"), "{error}");

        let error =
            Scenario::parse("slow", "slow.toml", &text).unwrap().rules_json().unwrap_err().to_string();
        assert!(error.ends_with("a scenario that comes with the lab has no files beside it"), "{error}");
    }

    #[test]
    fn a_misspelt_field_is_refused_with_place_and_nearest_word() {
        let message = error(&RACE.replace("vcpus = 2", "vcpu = 2"));
        assert!(message.starts_with("x.toml:"), "{message}");
        assert!(
            message.contains("unknown field `vcpu`") && message.contains("did you mean `vcpus`?"),
            "{message}"
        );
        let line: usize = message.split(':').nth(1).unwrap().parse().unwrap();
        assert_eq!(RACE.lines().nth(line - 1).unwrap(), "vcpus = 2");
    }

    #[test]
    fn a_misspelt_verdict_is_refused_with_the_nearest_word() {
        let message = error(&RACE.replace("with_fix = \"clean\"", "with_fix = \"claen\""));
        assert!(message.contains("did you mean `clean`?"), "{message}");
    }

    #[test]
    fn a_value_out_of_range_is_refused_at_its_line() {
        let line = |key: &str| RACE.lines().position(|line| line.starts_with(key)).unwrap() + 1;
        for (from, to, key) in [
            ("deadline_s = 900", "deadline_s = 0", "deadline_s"),
            ("vcpus = 2", "vcpus = 0", "vcpus"),
            ("\"512M\"", "\"512\"", "memory"),
            ("\"sd7-idle-race.sh\"", "\"../sd7-idle-race.sh\"", "test"),
        ] {
            let message = error(&RACE.replace(from, to));
            assert!(message.starts_with(&format!("x.toml:{}:", line(key))), "{message}");
        }
    }

    #[test]
    fn a_fault_that_could_not_be_known_is_refused() {
        let (head, tail) = RACE.split_once("[verdict.fault.oops]").unwrap();
        let (_, tail) = tail.split_once("[verdict.clean]").unwrap();
        let tail = tail.split_once('\n').unwrap().1;
        assert!(error(&format!("{head}[verdict.clean]\n{tail}")).contains("[verdict.fault.oops]"));
    }

    #[test]
    fn an_inlined_function_that_nobody_looks_for_or_nothing_proves_is_refused() {
        let function = "function = \"rtsx_pci_write_register\"";
        let message = error(&RACE.replace(function, "function = \"x\""));
        assert!(message.contains("`x` is not in the oops's `chain`"), "{message}");
        let message = error(&RACE.replace("calls = [\"iowrite32\", \"ioread32\"]", "calls = []"));
        assert!(message.contains("nothing would prove"), "{message}");
    }

    #[test]
    fn vendor_settings_become_words_of_the_device_s_command_line() {
        let with = |lines: &str| format!("{RACE}\n[device.vendor_settings]\n{lines}\n");
        let words = |lines: &str| {
            let scenario = Scenario::parse("x", "x.toml", &with(lines)).unwrap();
            scenario.device.arguments()
        };
        assert_eq!(
            words("rtd3 = true\nreverse_socket = true\naspm = \"l0s-l1\"\ndrive_3v3 = 3"),
            ["--vendor-settings", "rtd3,reverse-socket,aspm=l0s-l1,drive-1v8=0,drive-3v3=3"]
        );
        assert_eq!(words(""), ["--vendor-settings", "aspm=off,drive-1v8=0,drive-3v3=0"]);
        for (line, says) in [
            ("rtd = true", "(did you mean `rtd3`?)"),
            ("aspm = \"l0s-11\"", "(did you mean `l0s-l1`?)"),
            ("rtd3 = 1", "expected a boolean"),
            ("drive_1v8 = 4", "device.vendor_settings.drive_1v8 is 4, and has to be 0 to 3"),
        ] {
            let message = error(&with(line));
            assert!(message.contains(says), "{message}");
            let at: usize = message.split(':').nth(1).unwrap().parse().unwrap();
            assert_eq!(with(line).lines().nth(at - 1).unwrap(), line, "{message}");
        }
    }

    #[test]
    fn oem_strings_become_words_of_qemu_s_command_line() {
        let text = RACE.replace("[guest]\n", "[guest]\noem_strings = [\"Dell System\", \"a,b\"]\n");
        let scenario = Scenario::parse("x", "x.toml", &text).unwrap();
        let expected = ["-smbios", "type=11,value=Dell System", "-smbios", "type=11,value=a,,b"];
        assert_eq!(scenario.guest.qemu_arguments(), expected);
    }

    #[test]
    fn slot_equipment_becomes_words_of_the_device_s_command_line() {
        let with = |lines: &str| format!("{RACE}\n[device.slot]\n{lines}\n");
        let words = |lines: &str| {
            let scenario = Scenario::parse("x", "x.toml", &with(lines)).unwrap();
            scenario.device.arguments()
        };
        assert_eq!(words("aer = true\nattention_button = true"), ["--slot", "attention-button,aer"]);
        assert_eq!(words("dpc = false"), [""; 0]);
        let message = error(&with("atention_button = true"));
        assert!(message.contains("(did you mean `attention_button`?)"), "{message}");
    }

    #[test]
    fn a_hang_has_to_be_known_by_where_it_is() {
        let resumes = include_str!("../../../scenarios/idle-resumes.toml");
        let cut = resumes.split_once("[verdict.hang.blocked]").unwrap();
        let without = format!(
            "{}{}",
            cut.0,
            cut.1.split_once("[verdict.clean]").map(|(_, rest)| format!("[verdict.clean]{rest}")).unwrap()
        );
        assert!(error(&without).contains("no [verdict.hang.blocked] with a `chain`"), "{}", error(&without));
        let unknown = resumes.replace("never = [\".remove at the BAR\"", "never = [\".remove at the bar\"");
        assert!(error(&unknown).contains("did you mean `.remove at the BAR`?"), "{}", error(&unknown));
        let misplaced = resumes.replace("[verdict.hang.blocked]", "[verdict.clean.blocked]");
        assert!(Scenario::parse("x", "x.toml", &misplaced).is_err());
        let expected = RACE.replace("without_fix = \"fault\"", "without_fix = \"hang\"");
        assert!(error(&expected).contains("no [verdict.hang] to know it by"), "{}", error(&expected));
    }

    #[test]
    fn a_moment_without_a_happening_is_refused() {
        assert!(error(&format!("{RACE}\n[[time]]\nname = \"x\"\nfirst = {{}}\n")).contains("time `x`"));
        assert!(error(&format!("{RACE}\n[[time]]\nname = \"x\"\n")).contains("time `x`"));
    }

    /// The race with other cards than its own, and what a test changes of it.
    fn with_card(from: &str, to: &str) -> String {
        let own = RACE.find("[[image]]").unwrap()..RACE.find("# The device's side").unwrap();
        let mut race = RACE.to_owned();
        race.replace_range(own, "");
        let modules = race.lines().find(|line| line.starts_with("modules")).unwrap().to_owned();
        let race = race.replace(&modules, "");
        let cards = "\n[[image]]\nname = \"card\"\nsize = \"64M\"\n\n[[image]]\nname = \"other\"\nsize = \"1G\"\nformat = \"qcow2\"\n\n[[check]]\nimage = \"card\"\noffset = \"1M\"\nlength = \"63M\"\n";
        let guest = "vcpus = 2\nmodules = [\"ext4\"]\npackages = { e2fsprogs = [\"mkfs.ext4\"] }\ntools = [\"sd-lock\"]";
        let text = format!("{race}{cards}").replace("vcpus = 2", guest);
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    }

    #[test]
    fn images_checks_modules_and_packages_are_read() {
        let scenario = Scenario::parse("x", "x.toml", &with_card("", "")).unwrap();
        let sizes: Vec<_> = scenario.images.iter().map(|image| image.size_bytes().unwrap()).collect();
        assert_eq!(sizes, [64 << 20, 1 << 30]);
        let formats: Vec<_> = scenario.images.iter().map(|image| image.format).collect();
        assert_eq!(formats, [ImageFormat::Raw, ImageFormat::Qcow2]);
        assert_eq!(scenario.checks[0].range(), Some((1 << 20, 63 << 20)));
        let needs = scenario.guest.needs();
        assert!(needs.tools.contains("sd-lock"));
        assert!(needs.modules.contains("ext4") && needs.packages["e2fsprogs"].contains("mkfs.ext4"));
        assert_eq!(Scenario::load("boot-insert-remove").unwrap().guest.needs(), Needs::default());
    }

    #[test]
    fn an_image_or_check_that_cannot_be_is_refused_at_its_line() {
        for (from, to, says) in [
            ("size = \"1G\"", "size = \"1 GB\"", "the image `other` is `1 GB`"),
            ("size = \"1G\"", "size = \"1000\"", "multiple of 512"),
            ("size = \"64M\"", "size = \"0M\"", "the image `card` is `0M`"),
            ("name = \"other\"", "name = \"../card\"", "a file's name"),
            ("name = \"other\"", "name = \"card\"", "two images called `card`"),
            ("name = \"other\"", "name = \"other\"\nfiles = { A = \"a\" }", "the image `other` has files"),
            ("name = \"card\"", "name = \"card\"\nfiles = { \"a/b\" = \"a\" }", "has a file called `a/b`"),
            ("image = \"card\"", "image = \"cadr\"", "did you mean `card`?"),
            ("length = \"63M\"", "length = \"64M\"", "end beyond the image's 67108864"),
            ("length = \"63M\"", "length = \"0\"", "more than 0"),
            ("modules = [\"ext4\"]", "modules = [\"../x\"]", "no name of a kernel module"),
            ("e2fsprogs = [", "-o = [", "no name of a package"),
            ("tools = [\"sd-lock\"]", "tools = [\"sd-look\"]", "did you mean `sd-lock`?"),
            ("tools = [\"sd-lock\"]", "kernel_modules = [\"sdmorph_rase\"]", "did you mean `sdmorph_race`?"),
            (
                "tools = [\"sd-lock\"]",
                "kernel_modules = [\"sdmorph_unfix\"]",
                "no kernel module `sdmorph_unfix`",
            ),
            ("[\"mkfs.ext4\"]", "[]", "which programs of `e2fsprogs`"),
            ("[\"mkfs.ext4\"]", "[\"a/b\"]", "no name of a program"),
        ] {
            let text = with_card(from, to);
            let message = error(&text);
            assert!(message.contains(says), "{message}");
            let line: usize = message.split(':').nth(1).unwrap().parse().unwrap();
            let shown = text.lines().nth(line - 1).unwrap();
            assert!(to.contains(shown) || shown.contains(to), "{message}\n{shown}");
        }
        let message = error(&with_card("format = \"qcow2\"", "format = \"qcow\""));
        assert!(message.contains("did you mean `qcow2`?"), "{message}");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_all() {
        let message = Scenario::load("sd7-idle-rase").unwrap_err().to_string();
        assert!(
            message.contains("did you mean `sd7-idle-race`?") && message.contains("boot-insert-remove"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let message = Scenario::load("/nonexistent/x.toml").unwrap_err().to_string();
        assert!(message.contains("/nonexistent/x.toml"), "{message}");
    }

    #[test]
    fn broken_toml_is_refused_with_its_place() {
        assert!(error("purpose = \"x\"\ndeadline_s = = 3\n").starts_with("x.toml:2:"));
    }
}
