//! One writer or many readers, whoever they are.

use std::path::Path;
use std::process::Command;

use sdmorph_media::OpenError;

use crate::driver::{Driver, PATIENCE, raw_image};
use crate::process::{Other, has, image_from_parent, ready_until_told};
#[cfg(feature = "qcow2")]
use crate::qcow2::Shape;

const READS: &str = "it is open already, and nobody may write it";
const WRITES: &str = "it is open for writing already";

/// What keeps an image from being opened; `None` if nothing does.
fn obstacle(path: &Path, read_only: bool) -> Option<String> {
    match Driver::try_open(path, |options| options.read_only = read_only) {
        Ok(_) => None,
        Err(error) => {
            assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
            Some(error.to_string())
        }
    }
}

fn in_use(path: &Path, how: &str) -> Option<String> {
    Some(format!("{} is in use: {how}", path.display()))
}

/// Not a test of its own: [`another_process_keeps_its_image`] runs it.
#[test]
fn other_process_that_writes() {
    let Some(path) = image_from_parent() else { return };
    let _driver = Driver::open(&path);
    ready_until_told();
}

/// Not a test of its own: [`another_process_keeps_its_image`] runs it.
#[test]
fn other_process_that_reads() {
    let Some(path) = image_from_parent() else { return };
    let _driver = Driver::try_open(&path, |options| options.read_only = true).unwrap();
    ready_until_told();
}

#[test]
fn another_process_keeps_its_image() {
    let (_folder, path) = raw_image(1 << 20);
    let writer = Other::start("locks::other_process_that_writes", &path);
    assert_eq!(obstacle(&path, false), in_use(&path, WRITES));
    assert_eq!(obstacle(&path, true), in_use(&path, WRITES));
    writer.end();

    let reader = Other::start("locks::other_process_that_reads", &path);
    assert_eq!(obstacle(&path, false), in_use(&path, READS));
    assert_eq!(obstacle(&path, true), None);
    reader.end();
    assert_eq!(obstacle(&path, false), None);
}

#[test]
fn same_process_is_no_exception() {
    let (_folder, path) = raw_image(1 << 20);
    let writer = Driver::open(&path);
    assert_eq!(obstacle(&path, false), in_use(&path, WRITES));
    assert_eq!(obstacle(&path, true), in_use(&path, WRITES));
    Driver::try_open(&path, |options| options.lock = false).unwrap();
    drop(writer);
    let reader = Driver::try_open(&path, |options| options.read_only = true).unwrap();
    let second = Driver::try_open(&path, |options| options.read_only = true).unwrap();
    assert_eq!(obstacle(&path, false), in_use(&path, READS));
    drop((reader, second));
    assert_eq!(obstacle(&path, false), None);
}

/// `qemu-io` with the image open, until it is told to end.
fn qemu_io(path: &Path, options: &[&str]) -> Other {
    let mut command = Command::new("qemu-io");
    command.args(options).arg(path);
    Other::wait_for_line(command, "length\n", "1 MiB")
}

fn qemu_img(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn qemu_heeds_and_is_heeded() {
    if !has("qemu-img") || !has("qemu-io") {
        return;
    }
    let (_folder, path) = raw_image(1 << 20);
    // To read a raw image, QEMU's tools let others write it.
    let resize = ["resize", "-f", "raw", path.to_str().unwrap(), "1M"];
    for read_only in [false, true] {
        let ours = Driver::try_open(&path, |options| options.read_only = read_only).unwrap();
        let (done, said) = qemu_img(&resize);
        assert!(!done && said.contains("lock"), "{said}");
        drop(ours);
        assert!(sdmorph_media::wait_until_closed(PATIENCE));
        assert_eq!(qemu_img(&resize), (true, String::new()));
    }
    let theirs = qemu_io(&path, &["-f", "raw"]);
    assert_eq!(obstacle(&path, false), in_use(&path, WRITES));
    assert_eq!(obstacle(&path, true), in_use(&path, WRITES));
    theirs.end();
    assert_eq!(obstacle(&path, false), None);
}

#[cfg(feature = "qcow2")]
#[test]
fn qemu_heeds_and_is_heeded_for_qcow2() {
    if !has("qemu-img") || !has("qemu-io") {
        return;
    }
    // To read these, QEMU's tools let nobody write them.
    let (_folder, path) = Shape { version: 3, cluster_bits: 16, bytes: 1 << 20 }.file();
    let info = ["info", "-f", "qcow2", path.to_str().unwrap()];
    let ours = Driver::open(&path);
    let (done, said) = qemu_img(&info);
    assert!(!done && said.contains("lock"), "{said}");
    drop(ours);
    assert!(sdmorph_media::wait_until_closed(PATIENCE));
    let ours = Driver::try_open(&path, |options| options.read_only = true).unwrap();
    assert_eq!(qemu_img(&info), (true, String::new()));
    let theirs = qemu_io(&path, &["-f", "qcow2", "-r"]);
    assert_eq!(obstacle(&path, true), None);
    drop(ours);
    assert_eq!(obstacle(&path, false), in_use(&path, READS));
    theirs.end();
    let theirs = qemu_io(&path, &["-f", "qcow2"]);
    assert_eq!(obstacle(&path, false), in_use(&path, WRITES));
    theirs.end();
    assert_eq!(obstacle(&path, false), None);
}
