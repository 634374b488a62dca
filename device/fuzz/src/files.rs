//! Descriptors that a client sends: some that are meant, and some that nobody should send.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags};

/// How many kinds there are.
pub const KINDS: usize = 12;
/// The kind that can shrink.
const SHRINKING: u8 = 10;

/// The descriptor of that kind. Each is opened once for the whole process: to send one is to duplicate it.
#[must_use]
pub fn of_kind(kind: u8) -> BorrowedFd<'static> {
    static FILES: OnceLock<Vec<OwnedFd>> = OnceLock::new();
    FILES.get_or_init(open)[usize::from(kind) % KINDS].as_fd()
}

/// Gives the file that can shrink so many pages, whoever uses it.
pub fn resize(pages: u8) {
    rustix::fs::ftruncate(of_kind(SHRINKING), u64::from(pages) << 12).expect("size of a memfd");
}

/// Memory of a fixed size, as QEMU's: nothing here may make it shrink under a mapping.
fn memory(bytes: u64, seals: SealFlags) -> OwnedFd {
    let memory =
        rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd");
    rustix::fs::ftruncate(&memory, bytes).expect("size of a memfd");
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | seals).expect("seals");
    memory
}

fn open() -> Vec<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC;
    let (_, broken_pipe) = rustix::pipe::pipe().expect("pipe");
    let (reader, pipe) = rustix::pipe::pipe().expect("pipe");
    // A pipe whose reader never reads: full after a while.
    let _ = std::mem::ManuallyDrop::new(reader);
    let full = eventfd(0, flags).expect("eventfd");
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).expect("an eventfd takes its largest value");
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    let directory = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let files = vec![
        memory(4 << 12, SealFlags::empty()),
        memory(1 << 20, SealFlags::empty()),
        eventfd(0, flags).expect("eventfd"),
        eventfd(0, flags | EventfdFlags::NONBLOCK).expect("eventfd"),
        memory(100, SealFlags::empty()),
        memory(4 << 12, SealFlags::WRITE),
        full,
        broken_pipe,
        pipe,
        null.expect("/dev/null"),
        rustix::fs::memfd_create("shrinking", MemfdFlags::CLOEXEC).expect("memfd"),
        directory.expect("/"),
    ];
    assert_eq!(files.len(), KINDS);
    files
}
