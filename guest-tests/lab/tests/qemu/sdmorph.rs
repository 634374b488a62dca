//! `sdmorph serve`, a process of its own, as users start it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sdmorph_control::{Client, JsonObject};
use serde_json::Value;

use crate::qemu::HANG;

/// The program, built if need be: cargo gives a test only the programs of its own package.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--bin", "sdmorph", "--message-format=json"])
            // As `make` builds everything else, or it would be built twice.
            .args(std::env::var("SDMORPH_CARGO_FLAGS").unwrap_or_default().split_whitespace())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(built.status.success());
        let messages = String::from_utf8(built.stdout).unwrap();
        let executable = |line: &str| {
            let message: Value = serde_json::from_str(line).unwrap();
            message["executable"].as_str().map(PathBuf::from)
        };
        messages.lines().filter_map(executable).next_back().unwrap()
    })
}

/// The process. Dropping it kills it.
pub(crate) struct Sdmorph {
    child: Child,
    dir: tempfile::TempDir,
    control: Client,
}

impl Sdmorph {
    pub(crate) fn new() -> Self {
        let dir = sdmorph_lab::vm::run_dir().unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut child = Command::new(program())
            .args(["--log", "info,vfio_user_server=debug", "serve", "--socket-path"])
            .arg(dir.path().join("device"))
            .arg("--control")
            .arg(dir.path().join("control"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // It listens on the device's socket first.
        let control = Client::connect_when_ready(&dir.path().join("control"), HANG);
        if control.is_err() {
            let _ = child.kill();
        }
        let log = || fs::read_to_string(dir.path().join("log")).unwrap();
        let control = control.unwrap_or_else(|error| panic!("{error}; log: {}", log()));
        let mut server = Self { child, dir, control };
        // When it has answered, and the thread that serves the device has taken its name, it holds all that it holds while
        // nobody else is there.
        server.status();
        eventually("the thread that serves the device", || {
            server.holdings().threads.iter().any(|name| name == "vfio-user")
        });
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("device")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// The device's state as one tree.
    pub(crate) fn status(&mut self) -> Value {
        self.control.execute("query-status", JsonObject::new()).unwrap()
    }

    pub(crate) fn holdings(&self) -> Holdings {
        Holdings::of(self.child.id())
    }

    /// Waits until it holds no more and no less than `before`. The end of a client is no moment to look at: its
    /// thread, its socket and its eventfds go one after the other.
    pub(crate) fn wait_for_holdings(&self, before: &Holdings) {
        wait_until(|| match self.holdings() {
            now if now == *before => Ok(()),
            now => Err(format!("the server held {before:#?}, and now {now:#?}")),
        });
    }

    /// Waits until the log has `count` lines with `text`.
    pub(crate) fn wait_for_log(&self, text: &str, count: usize) {
        eventually(&format!("{text:?} in the log, {count} times"), || {
            self.log().matches(text).count() >= count
        });
    }

    /// Ends it as a service manager does.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        eventually("the end of the server", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Sdmorph {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // It explains a failure of the test; the harness shows it then.
        eprintln!("the server's log: {}", self.log());
    }
}

/// Waits for something that another process does.
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    wait_until(|| is().then_some(()).ok_or_else(|| format!("waited in vain for {what}")));
}

/// The same; what is not so yet is said if it never is.
fn wait_until(mut look: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(complaint) = look() {
        assert!(began.elapsed() < HANG, "{complaint}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process holds that it could forget to let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// What its descriptors are, sorted.
    descriptors: Vec<String>,
    /// Mappings of files, by path: guest memory is one.
    mapped_files: BTreeSet<String>,
    /// Names of its threads, sorted.
    threads: Vec<String>,
}

impl Holdings {
    /// Those of process `pid`.
    pub(crate) fn of(pid: u32) -> Self {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let list = |name: &str| fs::read_dir(proc.join(name)).unwrap().filter_map(Result::ok);
        // The number of a socket or pipe differs from one to the next.
        let kind = |link: PathBuf| {
            link.to_string_lossy()
                .split_once('[')
                .map_or_else(|| link.to_string_lossy().into_owned(), |(kind, _)| kind.to_owned())
        };
        let mut descriptors: Vec<_> =
            list("fd").filter_map(|entry| fs::read_link(entry.path()).ok()).map(kind).collect();
        descriptors.sort();
        let mut threads: Vec<_> = list("task")
            .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
            .map(|name| name.trim_end().to_owned())
            .collect();
        threads.sort();
        let maps = fs::read_to_string(proc.join("maps")).unwrap();
        let mapped_files = maps
            .lines()
            .filter_map(|line| line.split_once('/').map(|(_, path)| format!("/{path}")))
            .collect();
        Self { descriptors, mapped_files, threads }
    }

    /// Does it map a memfd?
    pub(crate) fn maps_guest_memory(&self) -> bool {
        self.mapped_files.iter().any(|path| path.starts_with("/memfd:"))
    }
}
