//! Where the sockets are made, for whom, and what is in the way.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};
use sdmorph_control::PATH_LIMIT_BYTES;

use crate::server::{Run, Server, program, run};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// `sdmorph serve` with the two sockets, run to its end.
fn serve(dir: &Path, socket: &Path, control: &Path) -> Run {
    run(program(dir).arg("serve").arg("--socket-path").arg(socket).arg("--control").arg(control))
}

#[test]
fn sockets_are_made_for_their_owner_alone_and_taken_away_at_the_end() {
    let mut server = Server::start(&[]);
    assert_eq!(mode(&server.path("sdmorph")), 0o700);
    assert_eq!(mode(&server.vfio_user()), 0o600);
    assert_eq!(mode(&server.control()), 0o600);
    assert_eq!(server.quit(), Some(0));
    assert!(!server.vfio_user().exists() && !server.control().exists());
}

#[test]
fn both_paths_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a").to_string_lossy().into_owned();
    // The control socket stays where the tests look for it.
    let mut server = Server::start_in(dir, &["--socket-path", &socket]);
    drop(server.client_at(Path::new(&socket)));
    assert!(!server.vfio_user().exists());
    assert_eq!(server.quit(), Some(0));
    assert!(!Path::new(&socket).exists());
}

#[test]
fn default_directory_that_others_may_enter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("sdmorph");
    fs::create_dir(&ours).unwrap();
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).unwrap();
    run(program(dir.path()).arg("serve")).fails_with(3, &["0700", "--socket-path", &ours.to_string_lossy()]);
    assert_eq!(fs::read_dir(&ours).unwrap().count(), 0);
}

#[test]
fn default_directory_that_is_a_link_or_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("sdmorph");
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &ours).unwrap();
    run(program(dir.path()).arg("serve")).fails_with(3, &["not a directory of yours alone"]);
    fs::remove_file(&ours).unwrap();
    fs::write(&ours, "kept").unwrap();
    run(program(dir.path()).arg("serve")).fails_with(3, &["not a directory of yours alone"]);
    assert_eq!(fs::read_to_string(&ours).unwrap(), "kept");
}

#[test]
fn socket_of_a_live_server_is_left_alone() {
    let mut server = Server::start(&[]);
    let free = server.path("free");
    serve(server.dir.path(), &server.vfio_user(), &free)
        .fails_with(3, &["vfio-user socket", "already listening"]);
    serve(server.dir.path(), &free, &server.control())
        .fails_with(3, &["control socket", "already listening"]);
    assert!(!free.exists(), "the first socket goes when the second cannot be made");
    assert_eq!(server.quit(), Some(0));
}

#[test]
fn stale_socket_and_file_in_the_way_are_told_apart_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (taken, free) = (dir.path().join("taken"), dir.path().join("free"));
    drop(UnixListener::bind(&taken).unwrap());
    serve(dir.path(), &taken, &free).fails_with(3, &["left behind", "remove it"]);
    serve(dir.path(), &free, &taken).fails_with(3, &["left behind", "remove it"]);
    fs::remove_file(&taken).unwrap();
    fs::write(&taken, "kept").unwrap();
    serve(dir.path(), &taken, &free).fails_with(3, &["not a socket"]);
    assert_eq!(fs::read_to_string(&taken).unwrap(), "kept");
}

#[test]
fn path_that_is_too_long_is_refused_with_both_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let room = PATH_LIMIT_BYTES - dir.path().as_os_str().len();
    let long = dir.path().join("s".repeat(room));
    serve(dir.path(), &long, &dir.path().join("c")).fails_with(3, &["108 bytes long", "107"]);
}

#[test]
fn directory_that_is_missing_a_file_or_not_writable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let control = dir.path().join("c");
    let missing = dir.path().join("missing");
    serve(dir.path(), &missing.join("s"), &control)
        .fails_with(3, &["does not exist", &missing.to_string_lossy()]);
    fs::write(&missing, "").unwrap();
    serve(dir.path(), &missing.join("s"), &control)
        .fails_with(3, &["is not a directory", &missing.to_string_lossy()]);
    // Where not even root can make a socket.
    serve(dir.path(), Path::new("/sys/s"), &control).fails_with(3, &["no permission", "/sys"]);
    assert!(!control.exists());
}

#[test]
fn inherited_listening_socket_is_served_and_its_file_left_to_its_maker() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inherited");
    let listener = UnixListener::bind(&path).unwrap();
    // The server must cope with a maker that polls.
    listener.set_nonblocking(true).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let number = listener.as_raw_fd().to_string();
    let mut server = Server::start_in(dir, &["--fd", &number]);
    drop(server.client_at(&path));
    drop(server.client_at(&path));
    assert_eq!(server.quit(), Some(0));
    assert!(path.exists());
}

#[test]
fn descriptor_that_cannot_be_served_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |number: &str| run(program(dir.path()).args(["serve", "--fd", number]));
    serve("999").fails_with(3, &["--fd", "999", "not an open descriptor"]);
    serve("2").fails_with(3, &["standard streams"]);
    serve("-1").fails_with(2, &["'-1'"]);
    serve("three").fails_with(2, &["invalid value 'three'"]);
    run(program(dir.path()).args(["serve", "--fd", "5", "--socket-path", "s"]))
        .fails_with(2, &["cannot be used with"]);
}
