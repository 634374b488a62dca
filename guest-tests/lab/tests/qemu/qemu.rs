//! A QEMU without a guest: its process, its qtest and its QMP connection.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sdmorph_control::{Client, ClientError, JsonObject};
use sdmorph_lab::assets::{Needs, Overrides, Progress, Qemu, Request, Store, setup};
use serde_json::{Value, json};

use crate::qtest::Qtest;

/// Only a hang takes as long.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Guest memory in MiB.
pub(crate) const MEMORY_MIB: u32 = 64;

/// How guest memory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A memfd that the server maps.
    Shared,
    /// QEMU's own: the server reaches it by messages.
    Private,
}

/// The QEMU that the lab would use.
fn found() -> &'static Qemu {
    static QEMU: OnceLock<Qemu> = OnceLock::new();
    QEMU.get_or_init(|| {
        let request = Request {
            kernels: Vec::new(),
            unfix: false,
            needs: Needs::default(),
            refresh: false,
            overrides: Overrides::from_env(),
        };
        setup(&request, &Store::open().unwrap(), Progress::Silent).unwrap().qemu
    })
}

/// Options for one QEMU.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) memory: Memory,
    /// The sockets of vfio-user devices, which are at 00:05.0, 00:06.0 and so on.
    pub(crate) devices: Vec<PathBuf>,
    /// More properties of each device.
    pub(crate) properties: JsonObject,
    /// More arguments.
    pub(crate) more: Vec<String>,
}

impl Options {
    pub(crate) fn new(memory: Memory, device: &Path) -> Self {
        Self { memory, devices: vec![device.to_owned()], properties: JsonObject::new(), more: Vec::new() }
    }

    fn arguments(&self, dir: &Path) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        // Processors that never run. `-accel qtest` has none, but is a module that not every QEMU comes with.
        add(&["-no-user-config", "-nodefaults", "-display", "none", "-accel", "tcg", "-S"]);
        add(&["-m", &format!("{MEMORY_MIB}M")]);
        match self.memory {
            Memory::Shared => {
                let backend = format!("memory-backend-memfd,id=m0,size={MEMORY_MIB}M,share=on");
                add(&["-object", &backend, "-machine", "q35,memory-backend=m0"]);
            }
            Memory::Private => add(&["-machine", "q35"]),
        }
        // QEMU connects: there is no moment at which its sockets are not there yet.
        add(&["-qtest", &format!("unix:{}", dir.join("qtest").display()), "-qtest-log", "none"]);
        add(&["-qmp", &format!("unix:{}", dir.join("qmp").display())]);
        if found().exits_with_parent {
            add(&["-run-with", "exit-with-parent=on"]);
        }
        add(&self.more.iter().map(String::as_str).collect::<Vec<_>>());
        for (number, path) in (5..).zip(&self.devices) {
            let mut device = device(path, &format!("device{number}"), "pcie.0", number);
            device.extend(self.properties.clone());
            add(&["-device", &Value::Object(device).to_string()]);
        }
        arguments
    }
}

/// A vfio-user device as `-device` and `device_add` take it.
pub(crate) fn device(socket: &Path, id: &str, bus: &str, slot: u8) -> JsonObject {
    let device = json!({
        "driver": "vfio-user-pci",
        "id": id,
        "bus": bus,
        "addr": format!("{slot:#x}"),
        "socket": { "type": "unix", "path": socket },
    });
    device.as_object().unwrap().clone()
}

/// A QEMU. Dropping it kills it.
pub(crate) struct Machine {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) qtest: Qtest,
    pub(crate) qmp: Client,
}

impl Machine {
    /// Starts one, and waits until it listens to qtest and QMP. The error is what it wrote to stderr before it ended.
    pub(crate) fn try_start(options: &Options) -> Result<Self, String> {
        let starting = Starting::new(options);
        let Starting { mut child, dir, qtest, qmp } = starting;
        // In the order of its connections; the device is attached in between.
        let connections = accept(&qtest, &mut child).zip(accept(&qmp, &mut child));
        let Some((qtest, qmp)) = connections else {
            child.wait().unwrap();
            return Err(read_stderr(dir.path()));
        };
        // QEMU greets before it makes its devices, and answers after; one of them may end it.
        match Client::from_stream(qmp, HANG) {
            Ok(qmp) => Ok(Self { child, dir, qtest: Qtest::new(qtest), qmp }),
            Err(ClientError::Closed) => {
                child.wait().unwrap();
                Err(read_stderr(dir.path()))
            }
            Err(error) => panic!("{error}; stderr: {}", read_stderr(dir.path())),
        }
    }

    pub(crate) fn start(options: &Options) -> Self {
        Self::try_start(options).unwrap_or_else(|stderr| panic!("QEMU ended: {stderr}"))
    }

    /// Has QMP do something, and returns what it says.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else { panic!("not an object: {arguments}") };
        self.qmp.execute(command, arguments).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Waits for an event of QMP.
    pub(crate) fn wait_for_event(&mut self, name: &str) -> JsonObject {
        loop {
            let event = self.qmp.next_event(Some(HANG)).unwrap();
            let event = event.unwrap_or_else(|| panic!("no {name}; stderr: {}", self.stderr()));
            if event.name == name {
                return event.data;
            }
        }
    }

    /// Is it still there?
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        read_stderr(self.dir.path())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it complained about explains a failure of the test; the harness shows it then.
        let stderr = self.stderr();
        if !stderr.is_empty() {
            eprintln!("QEMU's stderr: {stderr}");
        }
    }
}

/// A QEMU that was started, and may have come to any point of its start.
pub(crate) struct Starting {
    pub(crate) child: Child,
    dir: tempfile::TempDir,
    qtest: UnixListener,
    qmp: UnixListener,
}

impl Starting {
    pub(crate) fn new(options: &Options) -> Self {
        let dir = sdmorph_lab::vm::run_dir().unwrap();
        let qtest = UnixListener::bind(dir.path().join("qtest")).unwrap();
        let qmp = UnixListener::bind(dir.path().join("qmp")).unwrap();
        let (program, first) = found().argv.split_first().unwrap();
        let child = Command::new(program)
            .args(first)
            .args(options.arguments(dir.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, dir, qtest, qmp }
    }
}

fn read_stderr(dir: &Path) -> String {
    String::from_utf8_lossy(&fs::read(dir.join("stderr")).unwrap()).trim_end().to_owned()
}

/// The connection that a child makes; None if it ends without.
fn accept(listener: &UnixListener, child: &mut Child) -> Option<UnixStream> {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let ended = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let mut ready = [PollFd::new(listener, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
    let limit = Timespec { tv_sec: i64::try_from(HANG.as_secs()).unwrap(), tv_nsec: 0 };
    let count = rustix::io::retry_on_intr(|| poll(&mut ready, Some(&limit))).unwrap();
    assert_ne!(count, 0, "QEMU neither connects nor ends");
    if ready[0].revents().is_empty() { None } else { Some(listener.accept().unwrap().0) }
}
