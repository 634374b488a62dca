//! The servers that scripts are played to, and what has to be as before afterwards.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use vfio_user_server::{Description, GuestMemory, Interrupts, Options, Server, Visit};

use crate::client;
use crate::device::{Fuzzed, description};
use crate::script::Script;
use crate::{files, limits};

/// How long a server waits for the answer to a DMA message: mostly long enough to get one from a client that gives it,
/// and an answer that is late is only another case.
const DMA_TIMEOUT: Duration = Duration::from_millis(4);

struct Running {
    path: PathBuf,
    visits: Mutex<Receiver<Visit>>,
    memory: GuestMemory,
}

struct Servers {
    polling: Running,
    sleeping: Running,
    /// Threads of the process while nobody is served.
    threads: usize,
    _directory: tempfile::TempDir,
}

/// What a Rust program's start-up does, and libFuzzer's does not: a write to a pipe without a reader is an error then,
/// and not the end.
pub fn ignore_sigpipe() {
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::new(AtomicBool::new(false)))
        .expect("SIGPIPE");
}

fn run(path: PathBuf, polling: Duration) -> Running {
    let memory = GuestMemory::new();
    let interrupts = Interrupts::new(description());
    let mut device = Fuzzed::new(memory.clone(), interrupts.clone());
    let options = Options { limits: limits(), polling, dma_timeout: DMA_TIMEOUT, ..Options::default() };
    let listener = UnixListener::bind(&path).expect("a socket");
    let server =
        Server::new(listener, Description::clone(description()), memory.clone(), interrupts, options)
            .expect("a server");
    let (tell, visits) = channel();
    std::thread::spawn(move || {
        while let Some(visit) = server.serve_one(&mut device).expect("the server goes on") {
            tell.send(visit).expect("somebody waits");
        }
    });
    Running { path, visits: Mutex::new(visits), memory }
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("/proc").count()
}

/// What is open, to be told.
fn open_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
}

fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let _ = files::of_kind(0);
        let directory = tempfile::tempdir().expect("a directory");
        let polling = run(directory.path().join("polling"), Duration::from_micros(20));
        let sleeping = run(directory.path().join("sleeping"), Duration::ZERO);
        Servers { polling, sleeping, threads: count("/proc/self/task"), _directory: directory }
    })
}

/// Plays a script to one of the servers.
///
/// # Panics
/// The server did what it must not, or left something behind.
pub fn play(script: &Script) {
    let servers = servers();
    // Not once for all scripts: libFuzzer opens pipes to its symbolizer when it has something to print.
    let descriptors = count("/proc/self/fd");
    let server = if script.polling { &servers.polling } else { &servers.sleeping };
    client::play(script, &server.path, || {
        let visits = server.visits.lock().unwrap_or_else(PoisonError::into_inner);
        visits.recv().expect("the server goes on")
    });
    assert_eq!(server.memory.ranges(), 0, "guest memory is left");
    assert_eq!(count("/proc/self/fd"), descriptors, "descriptors are left: {:?}", open_files());
    // A thread that was joined may be seen for a moment longer; if each left one behind, it would be two soon.
    assert!(count("/proc/self/task") <= servers.threads + 1, "threads are left");
}
