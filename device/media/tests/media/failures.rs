//! What goes wrong on the host.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use sdmorph_pci::Media;
use sdmorph_pci::media::MediaError;

use crate::driver::{Driver, pattern, raw_image};
use crate::process::{image_from_parent, run};
#[cfg(feature = "qcow2")]
use crate::qcow2::{Shape, checked_by_qemu};

/// The log of this process, all threads of it.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of the log that name an image. From the first call on, there are any.
fn log_of(path: &Path) -> Vec<String> {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(|| Log).init());
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let path = path.to_str().unwrap();
    log.lines().filter(|line| line.contains(path)).map(|line| line.replace(path, "IMAGE")).collect()
}

#[test]
fn image_cut_off_fails_where_it_is_missing() {
    let (_folder, path) = raw_image(1 << 20);
    assert!(log_of(&path).is_empty());
    let mut driver = Driver::open(&path);
    driver.write(0, &pattern(1, 2048)).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    assert_eq!(driver.read(0, 100).unwrap(), pattern(1, 100));
    for _ in 0..5 {
        assert_eq!(driver.read(1000, 8), Err(MediaError::Io));
    }
    // Half of it is there.
    assert_eq!(driver.read(190, 10), Err(MediaError::Io));
    assert_eq!(driver.discard(1000, 8), Ok(Vec::new()));
    // The medium goes on, and what is written is there again.
    assert_eq!(driver.medium.blocks(), 2048);
    driver.write(1000, &pattern(9, 8)).unwrap();
    assert_eq!(driver.read(1000, 8).unwrap(), pattern(9, 8));
    let info = driver.info();
    assert_eq!(info.errors, 6);
    assert_eq!(
        info.last_error.as_deref(),
        Some("read of 5120 bytes at 97280: the image now ends at byte 100000")
    );
    let line = |offset, bytes, count| {
        format!(
            " WARN sdmorph_media::status: a request to an image failed image=IMAGE request=\"read\" offset={offset} \
             bytes={bytes} count={count} error=the image now ends at byte 100000"
        )
    };
    assert_eq!(log_of(&path), [line(512_000, 4096, 1), line(512_000, 4096, 2), line(512_000, 4096, 4)]);
}

/// Not a test of its own: the next ones run it where there is room for 1 MiB.
#[cfg(feature = "qcow2")]
#[test]
fn other_process_without_room_for_qcow2() {
    let Some(path) = image_from_parent() else { return };
    assert!(log_of(&path).is_empty());
    let shape = Shape { version: 3, cluster_bits: 16, bytes: 8 << 20 };
    std::fs::write(&path, shape.image()).unwrap();
    let mut driver = Driver::open(&path);
    driver.write(0, &pattern(1, 16)).unwrap();
    driver.flush().unwrap();
    for place in 1..8 {
        let result = driver.write(place * 2048, &pattern(2, 2048));
        assert!(matches!(result, Err(MediaError::Full)), "{place}: {result:?}");
    }
    // The medium goes on.
    driver.write(8, &pattern(3, 8)).unwrap();
    assert_eq!(driver.read(0, 16).unwrap(), [pattern(1, 8), pattern(3, 8)].concat());
    driver.discard(2048, 7 * 2048).unwrap();
    driver.flush().unwrap();
    assert_eq!(driver.read(2048, 2048).unwrap(), vec![0; 1 << 20]);
    let why = driver.info().last_error.unwrap();
    drop(driver);
    let mut driver = Driver::open(&path);
    assert_eq!(driver.read(0, 16).unwrap(), [pattern(1, 8), pattern(3, 8)].concat());
    drop(driver);
    assert_eq!(checked_by_qemu(&path).unwrap_or_default(), "");
    println!("failed as expected: {why}");
}

/// Not a test of its own: the next ones run it where there is room for 1 MiB.
#[test]
fn other_process_without_room() {
    let Some(path) = image_from_parent() else { return };
    assert!(log_of(&path).is_empty());
    if !path.exists() {
        File::create(&path).unwrap().set_len(8 << 20).unwrap();
    }
    let mut driver = Driver::open(&path);
    driver.write(0, &pattern(1, 16)).unwrap();
    for place in 1..8 {
        let result = driver.write(place * 2048, &pattern(2, 2048));
        assert!(matches!(result, Err(MediaError::Full)), "{place}: {result:?}");
    }
    // The medium goes on.
    driver.write(8, &pattern(3, 8)).unwrap();
    assert_eq!(driver.read(0, 16).unwrap(), [pattern(1, 8), pattern(3, 8)].concat());
    driver.discard(0, 8 * 2048).unwrap();
    driver.flush().unwrap();
    driver.write(0, &pattern(4, 512)).unwrap();
    assert_eq!(driver.read(0, 520).unwrap(), [pattern(4, 512), vec![0; 4096]].concat());
    let info = driver.info();
    assert_eq!((info.errors, info.writes), (7, 3));
    let log = log_of(&path);
    assert_eq!(log.len(), 3, "{log:#?}");
    assert!(
        log[0].contains("IMAGE request=\"write\" offset=1048576 bytes=1048576 count=1 error="),
        "{log:#?}"
    );
    println!("failed as expected: {}", info.last_error.unwrap());
}

const WITHOUT_ROOM: &[&str] = &[
    "failures::other_process_without_room",
    #[cfg(feature = "qcow2")]
    "failures::other_process_without_room_for_qcow2",
];

fn assert_failed_as_expected(output: &std::process::Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("failed as expected: ") && said.contains(why), "{said}{errors}");
}

#[test]
fn limit_of_the_file_size_is_a_lack_of_room() {
    let (_folder, path) = raw_image(8 << 20);
    // In units of 512 bytes for some shells, of 1024 for others; the signal would end the process.
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
    for test in WITHOUT_ROOM {
        let output = run(&["sh", "-c", script, "sh"], test, &path);
        assert_failed_as_expected(&output, "File too large");
    }
}

#[test]
fn full_file_system_is_a_lack_of_room() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\"";
    let place = folder.path().to_str().unwrap();
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
    let possible = std::process::Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args([script, place, "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("skipped: no file system can be mounted here without privileges");
        return;
    }
    let wrapper = [&wrapper[..], &[script, place]].concat();
    for test in WITHOUT_ROOM {
        let output = run(&wrapper, test, &folder.path().join("card"));
        assert_failed_as_expected(&output, "No space left on device");
    }
}
