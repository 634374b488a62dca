//! A server's process, from the side of who measures it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sdmorph_lab::vm::run_dir;
use tempfile::TempDir;

use crate::client::Client;
use crate::servers::{ASK_CPU, Counted, Said, ServerKind};

/// How long a server, or the guest behind it, may say nothing. Nothing is measured with it: it ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether a machine has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A server that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    kind: ServerKind,
    child: Child,
    commands: Option<ChildStdin>,
    said: Receiver<Said>,
    dir: TempDir,
}

/// How to start a server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How<'a> {
    /// The only core it may be on.
    pub(crate) cpu: Option<usize>,
    /// It keeps the times at which reads arrive.
    pub(crate) keep_arrivals: bool,
    /// Its system calls are counted by strace, into this file.
    pub(crate) strace: Option<&'a Path>,
}

impl ServerProcess {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(kind: ServerKind, how: How<'_>) -> Result<Self> {
        let dir = run_dir()?;
        let program = std::env::current_exe().context("where is this program?")?;
        let mut command = match how.strace {
            None => Command::new(program),
            Some(output) => {
                let mut strace = Command::new("strace");
                strace.args(["-c", "-f", "-o"]).arg(output).arg(program);
                strace
            }
        };
        let kind_name = clap::ValueEnum::to_possible_value(&kind).context("a server without a name")?;
        command.args(["serve", "--kind", kind_name.get_name(), "--socket"]).arg(socket_in(&dir));
        if let Some(cpu) = how.cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        if how.keep_arrivals {
            command.arg("--keep-arrivals");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let commands = child.stdin.take();
        let output = child.stdout.take().context("a server without standard output")?;
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let all = lines.map_while(|line| serde_json::from_str(&line).ok());
            // Ends with the server, or with whoever listens.
            all.map_while(|is: Said| sender.send(is).ok()).for_each(drop);
        });
        let server = Self { kind, child, commands, said, dir };
        match server.hear()? {
            Said::Ready => Ok(server),
            other => bail!("{}: not ready, but {other:?}", server.name()),
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.dir)
    }

    /// Connects to it.
    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(&self.socket(), self.kind).with_context(|| self.name().to_owned())
    }

    /// Its processor time so far, in nanoseconds, of all its threads.
    pub(crate) fn cpu_ns(&mut self) -> Result<u64> {
        let name = self.name();
        let commands = self.commands.as_mut().with_context(|| format!("{name}: it was told to end"))?;
        writeln!(commands, "{ASK_CPU}").and_then(|()| commands.flush()).context(name)?;
        match self.hear()? {
            Said::Cpu { ns } => Ok(ns),
            other => bail!("{name}: no processor time, but {other:?}"),
        }
    }

    /// Waits until the guest behind it is done, or until the machine that the guest runs in has `ended`.
    pub(crate) fn wait_done(&self, mut ended: impl FnMut() -> bool) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match self.said.recv_timeout(LOOK_EVERY) {
                Ok(Said::Done) => return Ok(()),
                Ok(Said::Left { .. }) => bail!("{}: its client left before it was done", self.name()),
                Ok(other) => bail!("{}: not done, but {other:?}", self.name()),
                // A machine that ends before it connects is nobody's client, and never leaves.
                Err(RecvTimeoutError::Timeout) if ended() => bail!("{}: its client ended", self.name()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("{}: it has ended", self.name()),
            }
        }
        bail!("{}: its client was not done after {PATIENCE:?}", self.name())
    }

    /// Waits until its client's leaving has come to it: it takes the next one then.
    pub(crate) fn wait_left(&self) -> Result<(Option<Counted>, Vec<u64>)> {
        match self.hear()? {
            Said::Left { calls, intervals_ns } => Ok((calls, intervals_ns)),
            other => bail!("{}: its client has not left, but {other:?}", self.name()),
        }
    }

    /// Ends it, by the end of its standard input, and waits for that.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.commands = None;
        let status = self.child.wait().context(self.name())?;
        if status.success() { Ok(()) } else { Err(anyhow!("{}: {status}", self.name())) }
    }

    fn hear(&self) -> Result<Said> {
        self.said.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("{}: nothing came for {PATIENCE:?}", self.name()),
            RecvTimeoutError::Disconnected => anyhow!("{}: it has ended", self.name()),
        })
    }

    fn name(&self) -> &'static str {
        self.kind.title().trim()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.commands = None;
        // Only that process, and only if it has not ended yet: its id is its own until it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket_in(dir: &TempDir) -> PathBuf {
    dir.path().join("vfu.sock")
}
