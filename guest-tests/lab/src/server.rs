//! The device's process: `sdmorph serve`, started for one run and ended after it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sdmorph_control::{Client, ClientError, JsonObject};
use serde_json::Value;

use crate::failure::Failure;
use crate::interrupt;
use crate::keeper::Keeper;
use crate::scenario::Scenario;

/// How long the process may take to listen, and to answer one command. A loaded machine gets there; a process that
/// never will is noticed at its end, not by this.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const POLL: Duration = Duration::from_millis(20);
/// Bytes of the log's end that an error shows.
const LOG_TAIL_BYTES: usize = 2000;

/// Where the device's process listens and writes, and what else it is told.
#[derive(Debug, Clone)]
pub struct ServerPaths {
    /// The vfio-user socket, for QEMU.
    pub device: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The directory of the images that cards may have, and of records that the guest asks for.
    pub images: PathBuf,
    /// The record, JSON lines, if it is to be written.
    pub record: Option<PathBuf>,
    /// Its stdout and stderr.
    pub log: PathBuf,
    /// More words for its command line.
    pub arguments: Vec<String>,
}

/// The running process. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    control: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Start `exe serve` and wait until both of its sockets are there.
    ///
    /// # Errors
    /// It cannot be started, ends at once, or does not listen.
    pub fn start(exe: &Path, paths: &ServerPaths) -> Result<Self, Failure> {
        let log = File::create(&paths.log).map_err(Failure::file("create", &paths.log))?;
        let errors = log.try_clone().map_err(Failure::file("write", &paths.log))?;
        let mut command = Command::new(exe);
        command.arg("serve").arg("--socket-path").arg(&paths.device).arg("--control").arg(&paths.control);
        command.arg("--images").arg(&paths.images).arg("--records").arg(&paths.images);
        if let Some(record) = &paths.record {
            command.arg("--record").arg(record);
        }
        let mut child = command
            .args(&paths.arguments)
            // A group of its own: Ctrl-C reaches us alone, and we end it when its record is whole.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Failure::file("start", exe))?;
        match Self::connect(&mut child, paths) {
            Ok(()) => Ok(Self { child, control: paths.control.clone(), log: paths.log.clone() }),
            Err(failure) => {
                end(&mut child);
                Err(failure)
            }
        }
    }

    fn connect(child: &mut Child, paths: &ServerPaths) -> Result<(), Failure> {
        let until = Instant::now() + ANSWER;
        let failed = |what: String| Failure::Server { what, log: tail(&paths.log) };
        loop {
            if interrupt::interrupted() {
                return Err(Failure::Interrupted);
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(failed(format!("ended before it listened ({status})")));
            }
            let device_listens = paths.device.exists();
            match Client::connect(&paths.control, ANSWER) {
                Ok(_) if device_listens => return Ok(()),
                Ok(_) | Err(ClientError::Connect { .. }) if Instant::now() < until => {}
                Ok(_) => return Err(failed(format!("made no socket {}", paths.device.display()))),
                Err(error) => return Err(failed(format!("does not answer: {error}"))),
            }
            std::thread::sleep(POLL);
        }
    }

    /// One command, on a connection of its own: one that stays is sent every event of the run, and cut off when it
    /// does not read them.
    fn execute(&self, command: &str, arguments: JsonObject) -> Result<Value, ClientError> {
        Client::connect(&self.control, ANSWER)?.execute(command, arguments)
    }

    /// Load a scenario's rules.
    ///
    /// # Errors
    /// [`Failure::Rules`] if the device refuses them; otherwise it did not answer.
    pub fn load_rules(&self, scenario: &str, rules: Value) -> Result<(), Failure> {
        let mut arguments = JsonObject::new();
        arguments.insert("name".to_owned(), Value::from(scenario));
        arguments.insert("rules".to_owned(), rules);
        match self.execute("scenario-load", arguments) {
            Ok(_) => Ok(()),
            Err(error @ ClientError::Command { .. }) => {
                Err(Failure::Rules { scenario: scenario.to_owned(), reason: error.to_string() })
            }
            Err(error) => Err(self.failed(format!("did not take the scenario: {error}"))),
        }
    }

    /// Put a card in.
    ///
    /// # Errors
    /// The device refuses it, or did not answer.
    pub fn insert_card(&self, arguments: JsonObject) -> Result<(), Failure> {
        let answer = self.execute("card-insert", arguments);
        answer.map(drop).map_err(|error| self.failed(format!("did not take the card: {error}")))
    }

    /// The device's state as one tree.
    ///
    /// # Errors
    /// It did not answer.
    pub fn status(&self) -> Result<Value, Failure> {
        let answer = self.execute("query-status", JsonObject::new());
        answer.map_err(|error| self.failed(format!("did not tell its state: {error}")))
    }

    /// Its process id; it leads a process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How much memory of its own it has (VmRSS); `None` if the system does not say.
    pub(crate) fn memory_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Whether the process has ended, and how.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// End the process, so that its record is whole. A process that does not listen to `quit` is killed.
    pub fn quit(mut self) {
        if self.ended().is_some() {
            return;
        }
        if let Err(error) = self.execute("quit", JsonObject::new()) {
            tracing::warn!("the device's process did not take `quit`: {error}");
            return;
        }
        let until = Instant::now() + ANSWER;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(POLL);
        }
    }

    fn failed(&self, what: String) -> Failure {
        Failure::Server { what, log: tail(&self.log) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kill a process, unless it has ended.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        // It may have ended in between; there is nothing else to be done about it.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Have the device check a scenario's rules, and that it can be what the scenario wants, without a guest. `directory` is private, and watched by `keeper`.
///
/// # Errors
/// As [`Server::start`] and [`Server::load_rules`].
pub(crate) fn check_rules(
    exe: &Path,
    scenario: &Scenario,
    rules: &Value,
    directory: &Path,
    keeper: &mut Keeper,
) -> Result<(), Failure> {
    let paths = ServerPaths {
        device: directory.join("check-device.sock"),
        control: directory.join("check.sock"),
        images: directory.to_owned(),
        record: None,
        log: directory.join("check.log"),
        arguments: scenario.device.arguments(),
    };
    let server = Server::start(exe, &paths)?;
    keeper.watch(server.pid());
    server.load_rules(&scenario.name, rules.clone())?;
    server.quit();
    Ok(())
}

/// The end of a log file, whole lines if possible.
fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
    let whole = if from > 0 { text.split_once('\n').map(|(_, rest)| rest.to_owned()) } else { None };
    let text = whole.unwrap_or(text);
    if text.trim().is_empty() { "(nothing)".to_owned() } else { text.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(directory: &Path) -> ServerPaths {
        ServerPaths {
            device: directory.join("device.sock"),
            control: directory.join("control.sock"),
            images: directory.to_owned(),
            record: Some(directory.join("record.jsonl")),
            log: directory.join("server.log"),
            arguments: Vec::new(),
        }
    }

    #[test]
    fn a_process_that_ends_at_once_is_reported_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("server");
        std::fs::write(&script, "#!/bin/sh\necho 'no such option: --record' >&2\nexit 2\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = Server::start(&script, &paths(directory.path())).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("exit status: 2") && message.contains("no such option: --record"),
            "{message}"
        );
        assert_eq!(error.exit_code(), crate::failure::EXIT_INCONCLUSIVE);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Server::start(Path::new("/nonexistent/sdmorph"), &paths(directory.path())).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/sdmorph"), "{error}");
    }

    #[test]
    fn the_end_of_a_long_log_is_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let text: String = (0..500).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let shown = tail(&path);
        assert!(shown.starts_with("line ") && shown.ends_with("line 499"), "{shown}");
        assert_eq!(tail(&directory.path().join("absent")), "(nothing)");
    }
}
