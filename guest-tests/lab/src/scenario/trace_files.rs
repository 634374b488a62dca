//! Traces of latencies in files: a rule that names one gets what is in it.
//!
//! The device's rules know no files. Whoever takes a rule from a person reads the file first: `trace-file` becomes
//! `trace-ns`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sdmorph_faults::{MAX_ACTIONS, MAX_LATENCIES, RuleError, RuleName, trace_from_text};
use serde_json::Value;

/// Most bytes of a file: comments have room beside all latencies that a trace may have.
const MOST_BYTES: u64 = 1 << 20;

/// The files of the rules of a message or a scenario: each is read once.
#[derive(Debug, Default)]
pub struct TraceFiles {
    /// Latencies in nanoseconds, by the file's path.
    read: BTreeMap<PathBuf, Vec<u64>>,
    /// How many latencies rules have been given.
    given: usize,
}

impl TraceFiles {
    /// Reads the files that the actions of a rule, in its JSON form, name. `find` says where the file of a name is.
    /// A rule with more than [`MAX_ACTIONS`] stays as it is: it will be refused for that. All rules together are given no
    /// more than [`MAX_LATENCIES`], as many as the device holds.
    ///
    /// # Errors
    /// [`RuleError::Malformed`]: the place in the rule, then the file, the line and what is wrong there.
    pub fn read_into(
        &mut self,
        rule: &mut Value,
        find: impl Fn(&str) -> Result<PathBuf, String>,
    ) -> Result<(), RuleError> {
        let name = rule.get("name").and_then(Value::as_str).filter(|name| RuleName::new(name).is_ok());
        let name = name.map(str::to_owned);
        let wrong = |message| RuleError::Malformed { rule: name.clone(), message };
        match rule.get_mut("do") {
            Some(Value::Array(actions)) if actions.len() > MAX_ACTIONS => Ok(()),
            Some(Value::Array(actions)) => {
                let mut actions = actions.iter_mut().enumerate();
                actions.try_for_each(|(index, action)| self.read_one(&format!("do[{index}]"), action, &find))
            }
            Some(action) => self.read_one("do", action, &find),
            None => Ok(()),
        }
        .map_err(wrong)
    }

    /// The same of one action. What else is wrong with it, the device will say.
    fn read_one(
        &mut self,
        place: &str,
        action: &mut Value,
        find: impl Fn(&str) -> Result<PathBuf, String>,
    ) -> Result<(), String> {
        let latency =
            action.get_mut("read-latency").and_then(Value::as_object_mut).filter(|keys| keys.len() == 1);
        let Some(latency) = latency else { return Ok(()) };
        let Some(named) = latency.get("trace-file") else { return Ok(()) };
        let place = format!("{place}.read-latency.trace-file");
        let named =
            named.as_str().ok_or_else(|| format!("{place}: the name of a file is needed, not {named}"))?;
        let trace = find(named)
            .and_then(|path| self.trace_of(path))
            .map_err(|message| format!("{place}: {message}"))?;
        latency.clear();
        latency.insert("trace-ns".to_owned(), trace);
        Ok(())
    }

    /// A file's latencies as `trace-ns` has them.
    fn trace_of(&mut self, path: PathBuf) -> Result<Value, String> {
        let trace = match self.read.entry(path) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let trace = read_file(new.key())?;
                new.insert(trace)
            }
        };
        self.given = self.given.saturating_add(trace.len());
        if self.given > MAX_LATENCIES {
            return Err(RuleError::TooManyLatencies { limit: MAX_LATENCIES }.to_string());
        }
        Ok(trace.as_slice().into())
    }
}

/// A file's latencies, in nanoseconds.
fn read_file(path: &Path) -> Result<Vec<u64>, String> {
    let file_name = path.display().to_string();
    let cannot_read = |error: std::io::Error| format!("cannot read {file_name}: {error}");
    // O_NONBLOCK: to open a pipe would wait for somebody at its other end.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(cannot_read)?;
    if !file.metadata().map_err(cannot_read)?.is_file() {
        return Err(format!("{file_name} is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("{file_name} is longer than {} KiB", MOST_BYTES >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{file_name} is not text in UTF-8"))?;
    // None is longer than 4 s.
    Ok(trace_from_text(&file_name, &text)?.into_iter().map(|time| time.as_nanos() as u64).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(rule: &Value, directory: &Path) -> Result<Value, String> {
        let mut rule = rule.clone();
        let found = TraceFiles::default().read_into(&mut rule, |name| Ok(directory.join(name)));
        found.map(|()| rule).map_err(|error| error.to_string())
    }

    #[test]
    fn latencies_of_a_file_stand_where_its_name_did() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("board"), "# measured\n850ns\n1.2us # slow\n").unwrap();
        let latency = |value: Value| json!({ "read-latency": value });
        let (named, there) =
            (latency(json!({ "trace-file": "board" })), latency(json!({ "trace-ns": [850, 1200] })));
        let rule = |actions: Value| json!({ "name": "slow", "on": { "start": true }, "do": actions });
        assert_eq!(read(&rule(named.clone()), directory.path()).unwrap(), rule(there.clone()));
        let (several, read_several) = (json!([{ "link": "up" }, named]), json!([{ "link": "up" }, there]));
        assert_eq!(read(&rule(several), directory.path()).unwrap(), rule(read_several));
    }

    #[test]
    fn file_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("board");
        std::fs::write(&path, "850ns\n").unwrap();
        let mut files = TraceFiles::default();
        let mut rules = [(); 2].map(|()| json!({ "do": [{ "read-latency": { "trace-file": "board" } }] }));
        for rule in &mut rules {
            files.read_into(rule, |_| Ok(path.clone())).unwrap();
            let _ = std::fs::remove_file(&path);
            assert_eq!(*rule, json!({ "do": [{ "read-latency": { "trace-ns": [850] } }] }));
        }
    }

    #[test]
    fn rules_are_given_no_more_than_the_device_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("board");
        std::fs::write(&path, "850ns\n".repeat(4096)).unwrap();
        let mut files = TraceFiles::default();
        let named = json!({ "name": "slow", "do": { "read-latency": { "trace-file": "board" } } });
        let mut read = || files.read_into(&mut named.clone(), |_| Ok(path.clone()));
        for _ in 0..MAX_LATENCIES / 4096 {
            read().unwrap();
        }
        let refused = read().unwrap_err().to_string();
        let expected = "rule \"slow\": do.read-latency.trace-file: there are too many latencies in the traces of all \
                        rules together; the limit is 262144";
        assert_eq!(refused, expected);
    }

    #[test]
    fn rule_of_too_many_actions_has_no_file_read() {
        let action = json!({ "read-latency": { "trace-file": "none" } });
        let rule =
            |count| json!({ "name": "slow", "on": { "start": true }, "do": vec![action.clone(); count] });
        assert!(read(&rule(MAX_ACTIONS), Path::new("/nonexistent")).unwrap_err().contains("cannot read"));
        let unread = read(&rule(20_000), Path::new("/nonexistent")).unwrap();
        let refused = sdmorph_faults::Rule::from_json(&unread).unwrap_err().to_string();
        assert_eq!(refused, "rule \"slow\": do: 20000 actions are above the limit of 16 a rule");
    }

    #[test]
    fn rule_without_a_file_is_as_it_was_also_if_it_is_none() {
        for rule in [
            json!({ "name": "slow", "do": { "read-latency": { "trace-ns": [1] } } }),
            json!({ "name": "slow", "do": { "read-latency": "1ms" } }),
            json!({ "name": "slow", "do": [[], 3, { "read-latency": { "trace-file": "x", "seed": 1 } }] }),
            json!({ "name": "slow" }),
            json!([]),
        ] {
            assert_eq!(read(&rule, Path::new("/nonexistent")).unwrap(), rule);
        }
    }

    #[test]
    fn wrong_file_is_named_with_the_place_the_line_and_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("wrong"), "850ns\n# 3\n1200\n").unwrap();
        std::fs::write(path("long"), vec![b'#'; (1 << 20) + 1]).unwrap();
        std::fs::write(path("binary"), [0xff, 0xfe]).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let at = |name: &str| path(name).display().to_string();
        for (name, message) in [
            (
                "wrong",
                format!("{}:3: \"1200\" is not a duration; a number and one of the units ns", at("wrong")),
            ),
            ("long", format!("{} is longer than 1024 KiB", at("long"))),
            ("binary", format!("{} is not text in UTF-8", at("binary"))),
            ("none", format!("cannot read {}: No such file", at("none"))),
            ("pipe", format!("{} is not a file", at("pipe"))),
            (".", format!("{} is not a file", at("."))),
        ] {
            let rule = json!({ "name": "slow", "do": [{ "read-latency": { "trace-file": name } }] });
            let error = read(&rule, directory.path()).unwrap_err();
            let expected = format!("rule \"slow\": do[0].read-latency.trace-file: {message}");
            assert!(error.starts_with(&expected), "{error}");
        }
        let rule = json!({ "name": "slow", "do": { "read-latency": { "trace-file": 3 } } });
        let error = read(&rule, directory.path()).unwrap_err();
        assert!(error.ends_with("trace-file: the name of a file is needed, not 3"), "{error}");
    }
}
