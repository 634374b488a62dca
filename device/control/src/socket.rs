//! The control socket in the file system.

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_socket, listen, socket_with,
};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path that fits into a Unix socket address on Linux (`sun_path` without its NUL).
pub const PATH_LIMIT_BYTES: usize = 107;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path does not fit into a socket address.
    #[error("socket path is {length_bytes} bytes long, {PATH_LIMIT_BYTES} are possible: {}", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length_bytes: usize,
    },
    /// A server answers there.
    #[error("a server is already listening at {}; stop it, or choose another path", .0.display())]
    InUse(PathBuf),
    /// A socket is there, and nobody listens.
    #[error("{} was left behind by a server that is gone; remove it and start again", .0.display())]
    Stale(PathBuf),
    /// Something else is there.
    #[error("{} exists and is not a socket; choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The directory does not exist.
    #[error("directory {} does not exist; create it (mode 0700) or choose another path", .0.display())]
    NoDirectory(PathBuf),
    /// What should be the directory is something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The directory may not be written to.
    #[error("no permission to create a socket in {}", .0.display())]
    NotWritable(PathBuf),
    /// Anything else.
    #[error("cannot create socket {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A listening socket. Its file is removed when this is dropped, unless another has taken its place.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file.
    identity: Option<(u64, u64)>,
}

impl BoundSocket {
    /// The listener, blocking as it was made.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Nothing to be done about a failure; the next start says that the file is stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates a listening Unix socket at `path`, for its owner only (mode 0600 from the first moment).
///
/// # Errors
/// See [`BindError`]. Nothing that exists is ever replaced.
pub fn bind(path: &Path) -> Result<BoundSocket, BindError> {
    let length_bytes = path.as_os_str().as_bytes().len();
    if length_bytes > PATH_LIMIT_BYTES {
        return Err(BindError::PathTooLong { path: path.into(), length_bytes });
    }
    let bound = || -> rustix::io::Result<UnixListener> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // On Linux the file that bind creates takes its mode from the socket's own inode: no moment at which it is
        // open to others, and no umask of the whole process changed.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind_socket(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    };
    match bound() {
        Ok(listener) => Ok(BoundSocket { listener, path: path.into(), identity: identity(path) }),
        Err(errno) => Err(explain(path, errno)),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn explain(path: &Path, errno: Errno) -> BindError {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    match errno {
        Errno::ADDRINUSE => match fs::metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => BindError::NotASocket(path.into()),
            _ => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    BindError::Stale(path.into())
                }
                _ => BindError::InUse(path.into()),
            },
        },
        Errno::NOENT if !directory.exists() => BindError::NoDirectory(directory),
        Errno::NOTDIR => BindError::NotADirectory(directory),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => BindError::NotWritable(directory),
        _ => BindError::Io { path: path.into(), source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn the_socket_is_for_its_owner_only_and_goes_away_with_its_server() {
        let directory = directory();
        let path = directory.path().join("ctl.sock");
        let socket = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(socket.path()).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_took_the_sockets_place_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("ctl.sock");
        let socket = bind(&path).unwrap();
        // Made before the removal, so that it cannot be given the same inode.
        fs::write(directory.path().join("other"), "kept").unwrap();
        fs::rename(directory.path().join("other"), &path).unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn a_live_server_a_stale_socket_and_a_file_in_the_way_are_told_apart_and_kept() {
        let directory = directory();
        let path = directory.path().join("ctl.sock");
        let live = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(BindError::InUse(_))));
        drop(live);
        assert!(matches!(bind(&path), Err(BindError::Stale(_))));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn a_path_of_the_limit_is_taken_and_one_byte_more_is_refused_with_both_numbers() {
        let directory = directory();
        let room = PATH_LIMIT_BYTES - directory.path().as_os_str().len() - 1;
        bind(&directory.path().join("s".repeat(room))).unwrap();
        let refusal = bind(&directory.path().join("s".repeat(room + 1))).unwrap_err();
        let text = refusal.to_string();
        assert!(text.contains("108 bytes long, 107 are possible"), "{text}");
    }

    #[test]
    fn a_missing_directory_and_a_file_in_its_place_are_named() {
        let directory = directory();
        let missing = directory.path().join("missing");
        assert!(matches!(bind(&missing.join("s")), Err(BindError::NoDirectory(named)) if named == missing));
        fs::write(&missing, "").unwrap();
        assert!(matches!(bind(&missing.join("s")), Err(BindError::NotADirectory(named)) if named == missing));
        // Not even root can create a file there; the directory does exist, though.
        assert!(matches!(bind(Path::new("/proc/s")), Err(BindError::Io { .. })));
    }

    #[test]
    fn a_directory_that_may_not_be_written_is_named() {
        let refusal = explain(Path::new("/somewhere/s"), Errno::ACCESS);
        assert_eq!(refusal.to_string(), "no permission to create a socket in /somewhere");
    }
}
