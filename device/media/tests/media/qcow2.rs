//! qcow2 images, made here byte by byte, and where QEMU's tools are installed: what these think of them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use sdmorph_media::{Format, OpenError};
use sdmorph_pci::Media;
use sdmorph_pci::media::{BLOCK_BYTES, MediaError, MediaRequest};
use tempfile::TempDir;

use crate::driver::{Driver, PATIENCE, pattern};
use crate::model::{BLOCKS, ask, many_at_a_time, same_as_bytes};
use crate::process::has;

/// An empty image: header, refcount table, one refcount block of 16 bits an entry, L1 table (QEMU,
/// `docs/interop/qcow2.rst`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) version: u32,
    pub(crate) cluster_bits: u32,
    pub(crate) bytes: u64,
}

impl Shape {
    fn cluster(self) -> usize {
        1 << self.cluster_bits
    }

    /// Entries of the L1 table: each is for as many clusters as an L2 table has entries.
    fn l1_entries(self) -> usize {
        let table = (self.cluster() as u64) * (self.cluster() as u64 / 8);
        self.bytes.div_ceil(table) as usize
    }

    /// Clusters of the image as it is made.
    fn clusters(self) -> usize {
        3 + (self.l1_entries() * 8).div_ceil(self.cluster())
    }

    pub(crate) fn image(self) -> Vec<u8> {
        let cluster = self.cluster();
        let mut image = vec![0; self.clusters() * cluster];
        put(&mut image, 0, b"QFI\xfb");
        put(&mut image, 4, &self.version.to_be_bytes());
        put(&mut image, 20, &self.cluster_bits.to_be_bytes());
        put(&mut image, 24, &self.bytes.to_be_bytes());
        put(&mut image, 36, &(self.l1_entries() as u32).to_be_bytes());
        put(&mut image, 40, &(3 * cluster as u64).to_be_bytes());
        put(&mut image, 48, &(cluster as u64).to_be_bytes());
        put(&mut image, 56, &1u32.to_be_bytes());
        if self.version >= 3 {
            // Refcounts of 1 << 4 bits; a header of 104 bytes.
            put(&mut image, 96, &4u32.to_be_bytes());
            put(&mut image, 100, &104u32.to_be_bytes());
        }
        put(&mut image, cluster, &(2 * cluster as u64).to_be_bytes());
        for number in 0..self.clusters() {
            count(&mut image, cluster, number);
        }
        image
    }

    pub(crate) fn file(self) -> (TempDir, PathBuf) {
        file(&self.image())
    }
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Makes the refcount of a cluster 1.
fn count(image: &mut [u8], cluster: usize, number: usize) {
    put(image, 2 * cluster + number * 2, &1u16.to_be_bytes());
}

fn file(image: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.qcow2");
    std::fs::write(&path, image).unwrap();
    (folder, path)
}

fn shape() -> impl Strategy<Value = Shape> {
    // As small as QEMU allows, so that there are many tables, and as it makes them.
    (2u32..=3, prop_oneof![Just(9), Just(12), Just(16)]).prop_map(|(version, cluster_bits)| Shape {
        version,
        cluster_bits,
        bytes: BLOCKS * BLOCK_BYTES as u64,
    })
}

/// What QEMU finds wrong, if it is there to be asked.
pub(crate) fn checked_by_qemu(path: &Path) -> Option<String> {
    assert!(sdmorph_media::wait_until_closed(PATIENCE));
    let check = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(path).output().ok()?;
    let said = String::from_utf8_lossy(&check.stdout) + String::from_utf8_lossy(&check.stderr);
    Some(if check.status.success() { String::new() } else { said.into_owned() })
}

/// The same, and the contents as QEMU reads them.
fn judged_by_qemu(path: &Path) -> Option<(String, Vec<u8>)> {
    let verdict = checked_by_qemu(path)?;
    let raw = path.with_extension("converted");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]).args([path, &raw]);
    assert!(convert.status().unwrap().success());
    Some((verdict, std::fs::read(raw).unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn image_is_as_bytes_are(shape in shape(), asks in vec(ask(), 1..60), again in vec(ask(), 1..20)) {
        let (_folder, path) = shape.file();
        let mut model = vec![0; BLOCKS as usize * BLOCK_BYTES];
        same_as_bytes(&mut Driver::open(&path), &mut model, &asks)?;
        same_as_bytes(&mut Driver::open(&path), &mut model, &again)?;
        same_as_bytes(&mut Driver::open(&path), &mut model, &[])?;
        if let Some((verdict, contents)) = judged_by_qemu(&path) {
            prop_assert_eq!(verdict, "");
            prop_assert!(contents == model);
        }
    }

    #[test]
    fn image_never_gives_what_is_older(shape in shape(), asks in vec(ask(), 1..200), depth in 1usize..32) {
        let (_folder, path) = shape.file();
        many_at_a_time(&mut Driver::open(&path), &asks, depth)?;
        prop_assert_eq!(checked_by_qemu(&path).unwrap_or_default(), "");
    }
}

#[test]
fn card_of_two_tebibytes_takes_the_room_of_what_is_on_it() {
    for version in [2, 3] {
        let (_folder, path) = Shape { version, cluster_bits: 16, bytes: 2 << 40 }.file();
        let mut driver = Driver::open(&path);
        let last = (2u64 << 40) / 512 - 8;
        assert_eq!(driver.medium.blocks(), (2 << 40) / 512);
        driver.write(last, &pattern(1, 8)).unwrap();
        driver.write(5, &pattern(9, 8)).unwrap();
        assert_eq!(driver.read(last, 8).unwrap(), pattern(1, 8));
        assert_eq!(driver.read(5, 8).unwrap(), pattern(9, 8));
        assert_eq!(driver.read(1 << 30, 8).unwrap(), vec![0; 4096]);
        assert_eq!(driver.read(last, 9), Err(MediaError::OutOfRange));
        driver.discard(0, last + 8).unwrap();
        assert_eq!(driver.read(last, 8).unwrap(), vec![0; 4096]);
        assert_eq!(driver.read(5, 8).unwrap(), vec![0; 4096]);
        driver.flush().unwrap();
        let bytes = path.metadata().unwrap().len();
        assert!(bytes < 2 << 20, "{bytes} bytes are left");
        let info = driver.info();
        assert_eq!((info.format, info.discarded_bytes, info.at_once), ("qcow2", 2 << 40, 1));
    }
}

#[test]
fn compressed_clusters_are_read_and_can_be_written() {
    let shape = Shape { version: 3, cluster_bits: 16, bytes: 1 << 20 };
    let mut image = shape.image();
    let (cluster, clusters) = (shape.cluster(), shape.clusters());
    let contents = pattern(5, cluster / 512);
    let data = miniz_oxide::deflate::compress_to_vec(&contents, 6);
    // An L2 table and a cluster for the data follow; guest cluster 2 is compressed.
    let (l2, host) = (clusters * cluster, (clusters + 1) * cluster);
    image.resize(host + cluster, 0);
    put(&mut image, 3 * cluster, &((1u64 << 63) | l2 as u64).to_be_bytes());
    let sectors = (data.len() as u64).div_ceil(512) - 1;
    let entry = (1u64 << 62) | (sectors << (62 - (shape.cluster_bits - 8))) | host as u64;
    put(&mut image, l2 + 2 * 8, &entry.to_be_bytes());
    put(&mut image, host, &data);
    count(&mut image, cluster, clusters);
    count(&mut image, cluster, clusters + 1);

    let (_folder, path) = file(&image);
    let first = 2 * cluster as u64 / 512;
    let mut model = vec![0; 1 << 20];
    put(&mut model, 2 * cluster, &contents);
    let mut driver = Driver::try_open(&path, |options| options.read_only = true).unwrap();
    assert!(driver.read(0, 2048).unwrap() == model);
    assert_eq!(driver.write(first, &pattern(0, 1)), Err(MediaError::ReadOnly));
    drop(driver);
    let mut driver = Driver::open(&path);
    driver.write(first + 3, &pattern(77, 5)).unwrap();
    put(&mut model, 2 * cluster + 3 * 512, &pattern(77, 5));
    assert!(driver.read(0, 2048).unwrap() == model);
    drop(driver);
    if let Some((verdict, contents)) = judged_by_qemu(&path) {
        assert_eq!(verdict, "");
        assert!(contents == model);
    }
}

#[test]
fn what_qemu_has_made_is_read_and_written() {
    if !has("qemu-img") || !has("qemu-io") {
        return;
    }
    for options in ["compat=1.1", "compat=0.10", "cluster_size=4k,refcount_bits=1", "preallocation=metadata"]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.qcow2");
        let qemu = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(&path).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-o", options]).arg(&path).arg("8M");
        assert!(create.status().unwrap().success());
        qemu("qemu-io", &["-f", "qcow2", "-c", "write -P 17 1M 1M", "-c", "write -z 2M 64k"]);
        let mut model = vec![0; 8 << 20];
        model[1 << 20..2 << 20].fill(17);
        // A snapshot shares all clusters: who writes has to copy them.
        if !options.contains("refcount_bits=1") {
            qemu("qemu-img", &["snapshot", "-c", "before"]);
        }
        let mut driver = Driver::open(&path);
        assert!(driver.read(2048, 2048).unwrap() == vec![17; 1 << 20]);
        driver.write(2050, &pattern(99, 300)).unwrap();
        put(&mut model, 2050 * 512, &pattern(99, 300));
        driver.discard(3000, 3000).unwrap();
        model[3000 * 512..6000 * 512].fill(0);
        drop(driver);
        let (verdict, contents) = judged_by_qemu(&path).unwrap();
        assert_eq!(verdict, "", "{options}");
        assert!(contents == model, "{options}");
        if !options.contains("refcount_bits=1") {
            qemu("qemu-img", &["snapshot", "-a", "before"]);
            qemu("qemu-io", &["-f", "qcow2", "-c", "read -P 17 1M 1M", "-c", "read -P 0 2M 6M"]);
        }
    }
}

#[test]
fn what_is_not_supported_is_refused_in_words() {
    let shape = Shape { version: 3, cluster_bits: 16, bytes: 1 << 20 };
    let said = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = shape.image();
        change(&mut image);
        let before = image.clone();
        let (folder, path) = file(&image);
        let error = Driver::try_open(&path, |_| {}).unwrap_err();
        assert!(std::fs::read(&path).unwrap() == before, "the image was changed");
        error.to_string().replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    let image = "the qcow2 image FOLDER/card.qcow2";
    assert_eq!(
        said(&|image| {
            put(image, 8, &512u64.to_be_bytes());
            put(image, 16, &11u32.to_be_bytes());
            put(image, 512, b"/etc/passwd");
        }),
        format!("{image} is not supported: it has a backing file, \"/etc/passwd\"")
    );
    assert_eq!(
        said(&|image| put(image, 32, &2u32.to_be_bytes())),
        format!("{image} is not supported: it is encrypted")
    );
    let incompatible = |bit: u32| move |image: &mut Vec<u8>| put(image, 72, &(1u64 << bit).to_be_bytes());
    assert_eq!(said(&incompatible(2)), format!("{image} is not supported: it has an external data file"));
    // Dirty, corrupt, another compression, extended L2 entries.
    for bit in [0, 1, 3, 4] {
        let said = said(&incompatible(bit));
        let expected = format!("cannot read {image}: Unrecognized incompatible feature(s) {bit}");
        assert!(said.starts_with(&expected), "{said}");
    }
    assert_eq!(
        said(&|image| put(image, 4, &1u32.to_be_bytes())),
        format!("cannot read {image}: qcow2 v1 is not supported")
    );
    assert_eq!(
        said(&|image| put(image, 24, &1000u64.to_be_bytes())),
        "FOLDER/card.qcow2 has 1000 bytes, which is not a whole number of blocks of 512 bytes"
    );
    assert_eq!(
        said(&|image| image.truncate(16)),
        format!("cannot read {image}: failed to fill whole buffer")
    );
}

#[test]
fn format_can_be_given() {
    let shape = Shape { version: 3, cluster_bits: 16, bytes: 1 << 20 };
    let (folder, path) = shape.file();
    let driver = Driver::try_open(&path, |options| options.format = Some(Format::Raw)).unwrap();
    assert_eq!(driver.medium.blocks(), shape.image().len() as u64 / 512);
    let raw = folder.path().join("card.raw");
    File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    let error = Driver::try_open(&raw, |options| options.format = Some(Format::Qcow2)).unwrap_err();
    assert!(matches!(error, OpenError::Contents { format: Format::Qcow2, .. }), "{error}");
}

#[test]
fn image_cut_off_fails_instead_of_giving_zeros() {
    let (_folder, path) = Shape { version: 3, cluster_bits: 16, bytes: 1 << 20 }.file();
    let mut driver = Driver::open(&path);
    driver.write(0, &pattern(1, 2048)).unwrap();
    let whole = path.metadata().unwrap().len();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut tail = vec![0; 100_000];
    file.read_exact_at(&mut tail, whole - 100_000).unwrap();
    file.set_len(whole - 100_000).unwrap();
    assert_eq!(driver.read(0, 2048), Err(MediaError::Io));
    assert_eq!(driver.write(0, &pattern(2, 8)), Err(MediaError::Io));
    let expected = format!("write of 4096 bytes at 0: the image now ends at byte {}", whole - 100_000);
    assert_eq!(driver.info().last_error, Some(expected));
    // The medium goes on when the image is whole again.
    file.write_all_at(&tail, whole - 100_000).unwrap();
    assert!(driver.read(0, 2048).unwrap() == pattern(1, 2048));
}

/// What this process would leave if it were killed now is what is in the file.
#[test]
fn writes_that_have_ended_are_in_the_file_soon_without_a_flush() {
    let (_folder, path) = Shape { version: 3, cluster_bits: 16, bytes: 64 << 20 }.file();
    let mut driver = Driver::open(&path);
    for place in 0..20u8 {
        driver.write(u64::from(place) * 4096, &pattern(place + 1, 2048)).unwrap();
    }
    // The driver's thread writes its tables when it has nothing else to do, which is after the last write has ended.
    let mut tries = 0;
    loop {
        let copy = path.with_extension("copy");
        std::fs::copy(&path, &copy).unwrap();
        let mut left = Driver::open(&copy);
        if (0..20u8)
            .all(|place| left.read(u64::from(place) * 4096, 2048).unwrap() == pattern(place + 1, 2048))
        {
            break;
        }
        tries += 1;
        assert!(tries < 1000, "the tables are not in the file");
        std::thread::yield_now();
    }
    drop(driver);
}

#[test]
fn writes_that_were_begun_are_there_when_the_image_is_opened_again() {
    let (_folder, path) = Shape { version: 3, cluster_bits: 16, bytes: 64 << 20 }.file();
    for round in 0..5u8 {
        let mut driver = Driver::open(&path);
        for place in 0..30 {
            driver.begin(MediaRequest::Write { first: place * 4096, data: pattern(round, 2048) });
        }
        drop(driver);
        let mut driver = Driver::open(&path);
        for place in 0..30 {
            assert!(driver.read(place * 4096, 2048).unwrap() == pattern(round, 2048), "{place}");
        }
    }
    assert_eq!(checked_by_qemu(&path).unwrap_or_default(), "");
}
