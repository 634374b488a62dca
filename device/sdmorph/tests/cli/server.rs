//! The program, run to its end or as a server.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sdmorph_control::Client;
use serde_json::Value;

/// Long enough for any machine; nobody waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run of the program ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// The standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {:?}", self.out))
    }

    /// Asserts the exit code and that the message says all of `words`.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in: {}", self.err);
        }
    }
}

/// The program with an environment that nothing of the user's gets into.
pub(crate) fn program(runtime_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sdmorph"));
    command.env("XDG_RUNTIME_DIR", runtime_dir).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().expect("ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the program in an empty directory.
pub(crate) fn sdmorph(arguments: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    run(program(dir.path()).args(arguments))
}

fn serve(dir: &Path, arguments: &[&str]) -> Child {
    let log = File::create(dir.join("log")).unwrap();
    program(dir)
        .arg("serve")
        .args(arguments)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A running `sdmorph serve` in a directory of its own.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    /// Starts with the sockets in their default place, and waits until it answers.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    pub(crate) fn start_in(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        let child = serve(dir.path(), arguments);
        let server = Self { dir, child };
        server.wait_until_ready();
        server
    }

    /// Starts it again in the same place, after it was killed: it has left its sockets behind, and who starts it removes them.
    pub(crate) fn start_again(&mut self, arguments: &[&str]) {
        for socket in [self.vfio_user(), self.control()] {
            fs::remove_file(socket).unwrap();
        }
        self.child = serve(self.dir.path(), arguments);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        if let Err(error) = Client::connect_when_ready(&self.control(), PATIENCE) {
            panic!("{error}; the server says: {}", self.log());
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn vfio_user(&self) -> PathBuf {
        self.path("sdmorph/vfu.sock")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path("sdmorph/control.sock")
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// `sdmorph ctl …` on this server.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Run {
        run(program(self.dir.path()).arg("ctl").args(arguments))
    }

    /// The same, and it must succeed.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> Run {
        let run = self.ctl(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}", run.err);
        run
    }

    /// A client at the vfio-user socket, as soon as the one before it has left. That may be a little after it was dropped
    /// here: until another test's new process has become its program, it holds a copy of every socket.
    pub(crate) fn client(&self) -> vfio_user::Client {
        self.client_at(&self.vfio_user())
    }

    pub(crate) fn client_at(&self, path: &Path) -> vfio_user::Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match vfio_user::Client::new(path) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}: {}", self.log()),
            }
        }
    }

    /// The names of its threads, in alphabetical order.
    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One may end between the list and the look at its name.
        let name =
            |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
        let mut names: Vec<_> = tasks.filter_map(name).map(|name| name.trim_end().to_owned()).collect();
        names.sort();
        names
    }

    /// Waits until its threads have these names: one gives itself its name, and takes a moment to end.
    pub(crate) fn wait_for_threads(&self, names: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while self.threads() != names {
            assert!(Instant::now() < deadline, "{:?}", self.threads());
            std::thread::yield_now();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Has it quit, and returns its exit code.
    pub(crate) fn quit(&mut self) -> Option<i32> {
        self.done(&["quit"]);
        self.ended().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended and been waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
