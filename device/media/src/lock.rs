//! Locks on an image that QEMU and its tools understand.
//!
//! QEMU says with shared locks on single bytes of an image, far enough from its beginning, what it does with the image
//! and what it lets nobody else do (QEMU, `block/file-posix.c`, `raw_apply_lock_bytes` and `raw_check_lock_bytes`; the
//! permissions are those of `include/block/block-common.h`). A lock on byte 100 + n: "I use permission n". On byte
//! 200 + n: "nobody else may use permission n". Whoever comes takes its own locks and then looks whether anybody's
//! contradict them; two that come at the same moment may therefore both be turned away.
//!
//! The locks belong to the open file description (`F_OFD_SETLK`, `man 2 fcntl`), so they also keep apart two media of
//! one process, and end when the last descriptor of it is closed.

use std::fs::File;
use std::io;
use std::ops::Deref;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// `RAW_LOCK_PERM_BASE`.
const USED: i64 = 100;
/// `RAW_LOCK_SHARED_BASE`.
const DENIED: i64 = 200;

/// `BLK_PERM_CONSISTENT_READ`, as a bit's number; likewise the others.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// What somebody who writes does with an image.
const WRITER: &[i64] = &[CONSISTENT_READ, WRITE, RESIZE];
/// What somebody who only reads does with it.
const READER: &[i64] = &[CONSISTENT_READ];
/// What either lets nobody else do.
const NOT_SHARED: &[i64] = &[WRITE, RESIZE];

/// Why an image could not be locked.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Others' locks contradict, or this process's own of another medium; says what they do.
    InUse(&'static str),
    /// There are no such locks for this file.
    Failed(io::Error),
}

/// An image's file, with its locks or without.
#[derive(Debug)]
pub(crate) struct LockedFile(File);

impl LockedFile {
    /// Takes the locks of a reader or of a writer; `None` for none.
    pub(crate) fn new(file: File, read_only: Option<bool>) -> Result<Self, LockError> {
        let file = Self(file);
        if let Some(read_only) = read_only {
            acquire(&file, read_only)?;
        }
        Ok(file)
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // They would end with the last descriptor, but a process that this one is just starting may still have a copy of
        // it. To let go of locks does not fail.
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&bytes(libc::F_UNLCK, 0, 0)));
    }
}

fn acquire(file: &File, read_only: bool) -> Result<(), LockError> {
    let used = if read_only { READER } else { WRITER };
    for (base, permissions) in [(USED, used), (DENIED, NOT_SHARED)] {
        for permission in permissions {
            share(file, base + permission)?;
        }
    }
    for permission in NOT_SHARED {
        if is_held(file, USED + permission)? {
            return Err(LockError::InUse("it is open for writing already"));
        }
    }
    for permission in used {
        if is_held(file, DENIED + permission)? {
            return Err(LockError::InUse("it is open already, and nobody may write it"));
        }
    }
    Ok(())
}

/// Takes a shared lock on a byte.
fn share(file: &File, at: i64) -> Result<(), LockError> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&bytes(libc::F_RDLCK, at, 1))) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(LockError::InUse("it is locked already")),
        Err(error) => Err(LockError::Failed(error.into())),
    }
}

/// Whether anybody else has a lock on a byte, shared or not.
fn is_held(file: &File, at: i64) -> Result<bool, LockError> {
    let mut lock = bytes(libc::F_WRLCK, at, 1);
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)) {
        Ok(_) => Ok(i32::from(lock.l_type) != libc::F_UNLCK),
        Err(error) => Err(LockError::Failed(error.into())),
    }
}

/// `length` bytes from `start` on; all if it is 0.
fn bytes(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        // Has to be 0 for the locks of an open file description.
        l_pid: 0,
    }
}
