//! Raw images: sizes, and what ends at once.

use std::os::unix::fs::MetadataExt;

use sdmorph_media::{Cache, Format, OpenError};
use sdmorph_pci::Media;
use sdmorph_pci::media::{MediaError, MediaRequest};

use crate::driver::{Driver, contents_of, pattern, raw_image};

#[test]
fn card_of_two_tebibytes_takes_the_room_of_what_is_on_it() {
    let (_folder, path) = raw_image(2 << 40);
    let mut driver = Driver::open(&path);
    let last = (2u64 << 40) / 512 - 8;
    assert_eq!(driver.medium.blocks(), (2 << 40) / 512);
    driver.write(last, &pattern(1, 8)).unwrap();
    driver.write(0, &pattern(9, 8)).unwrap();
    driver.flush().unwrap();
    assert_eq!(driver.read(last, 8).unwrap(), pattern(1, 8));
    assert_eq!(driver.read(last - 100, 100).unwrap(), vec![0; 100 * 512]);
    assert_eq!(driver.read(last, 9), Err(MediaError::OutOfRange));
    driver.discard(0, last + 8).unwrap();
    assert_eq!(driver.read(last, 8).unwrap(), vec![0; 4096]);
    assert_eq!(driver.read(0, 8).unwrap(), vec![0; 4096]);
    driver.flush().unwrap();
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.len(), 2 << 40);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks are left", metadata.blocks());
    let info = driver.info();
    assert_eq!((info.discards, info.discarded_bytes), (1, 2 << 40));
}

/// Whether the file system answers from the page cache, as `preadv2` puts it.
fn reads_at_once(path: &std::path::Path) -> bool {
    let file = std::fs::File::open(path).unwrap();
    let mut buffer = [0; 512];
    let buffers = &mut [std::io::IoSliceMut::new(&mut buffer)];
    rustix::io::preadv2(file, buffers, 0, rustix::io::ReadWriteFlags::NOWAIT).is_ok()
}

#[test]
fn what_the_page_cache_has_is_read_at_once() {
    let (_folder, path) = raw_image(1 << 20);
    std::fs::write(&path, pattern(3, 2048)).unwrap();
    if !reads_at_once(&path) {
        eprintln!("skipped: this file system cannot tell whether a read would wait");
        return;
    }
    let mut driver = Driver::open(&path);
    let begun = driver.medium.begin(0, MediaRequest::Read { first: 0, count: 2048, buffer: Vec::new() });
    assert!(begun == Some(Ok(pattern(3, 2048))));
    assert_eq!(
        driver.medium.begin(0, MediaRequest::Read { first: 2047, count: 1, buffer: Vec::new() }),
        Some(Ok(pattern(2, 1)))
    );
    assert_eq!(driver.medium.ended(), None);
    let info = driver.info();
    assert_eq!((info.reads, info.read_bytes, info.at_once, info.by_worker), (2, 2049 * 512, 2, 0));

    driver.write(5, &pattern(7, 4)).unwrap();
    assert_eq!(
        driver.medium.begin(0, MediaRequest::Read { first: 5, count: 4, buffer: Vec::new() }),
        Some(Ok(pattern(7, 4)))
    );
    assert_eq!(contents_of(&path, 5 * 512, 2048), pattern(7, 4));
}

#[test]
fn what_is_in_no_cache_is_read_by_a_worker() {
    let (_folder, path) = raw_image(1 << 20);
    let mut driver = Driver::open(&path);
    // A hole is not in the cache before it was read, on a disk; in memory it may be.
    assert!(driver.read(0, 2048).unwrap() == vec![0; 1 << 20]);
    driver.flush().unwrap();
    let info = driver.info();
    assert_eq!((info.reads, info.flushes, info.at_once + info.by_worker), (1, 1, 2));
    assert!(info.by_worker >= 1 && info.under_way == 0);
}

#[test]
fn read_only_image_is_not_changed() {
    let (_folder, path) = raw_image(1 << 20);
    let mut permissions = path.metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let mut driver = Driver::try_open(&path, |options| options.read_only = true).unwrap();
    assert!(driver.medium.is_read_only());
    assert_eq!(driver.write(0, &[1; 512]), Err(MediaError::ReadOnly));
    assert_eq!(driver.discard(0, 1), Err(MediaError::ReadOnly));
    assert_eq!(driver.medium.begin(0, MediaRequest::Flush), Some(Ok(Vec::new())));
    assert_eq!(driver.read(0, 1), Ok(vec![0; 512]));
    let info = driver.info();
    assert!(info.read_only && info.refused == 2 && info.errors == 0);
}

#[test]
fn flush_can_be_left_out() {
    let (_folder, path) = raw_image(1 << 20);
    let mut driver = Driver::try_open(&path, |options| options.cache = Cache::Unsafe).unwrap();
    assert_eq!(driver.medium.begin(0, MediaRequest::Flush), Some(Ok(Vec::new())));
    assert_eq!(driver.info().flushes, 1);
}

#[test]
fn nothing_is_done_for_no_block() {
    let (_folder, path) = raw_image(1 << 20);
    let mut driver = Driver::open(&path);
    assert_eq!(driver.medium.begin(0, MediaRequest::Discard { first: 2048, count: 0 }), Some(Ok(Vec::new())));
    assert_eq!(driver.discard(2049, 0), Err(MediaError::OutOfRange));
    assert_eq!(driver.read(0, 0), Err(MediaError::OutOfRange));
    assert_eq!(driver.write(0, &[1; 513]), Err(MediaError::OutOfRange));
    assert_eq!(driver.write(0, &vec![1; 2049 * 512]), Err(MediaError::OutOfRange));
    assert_eq!(driver.read(1, u32::MAX), Err(MediaError::OutOfRange));
}

#[test]
fn what_is_no_image_is_refused_in_words() {
    let (folder, path) = raw_image(1000);
    let said = |path: &std::path::Path| {
        let error = Driver::try_open(path, |_| {}).unwrap_err();
        error.to_string().replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    assert_eq!(
        said(&path),
        "FOLDER/card.raw has 1000 bytes, which is not a whole number of blocks of 512 bytes"
    );
    std::fs::write(&path, []).unwrap();
    assert_eq!(said(&path), "FOLDER/card.raw has 0 bytes, which is no block of 512 bytes");
    assert_eq!(
        said(&folder.path().join("missing")),
        "cannot open FOLDER/missing for writing: No such file or directory (os error 2)"
    );
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert_eq!(said(&folder.path().join("pipe")), "FOLDER/pipe is neither a regular file nor a block device");
    let error = Driver::try_open(folder.path(), |options| options.read_only = true).unwrap_err();
    assert!(matches!(error, OpenError::NotAnImage { .. }), "{error}");
}

#[cfg(not(feature = "qcow2"))]
#[test]
fn format_that_was_left_out_is_not_taken_for_raw() {
    let (_folder, path) = raw_image(1 << 20);
    std::fs::write(&path, [b"QFI\xfb".as_slice(), &[0; 508]].concat()).unwrap();
    let error = Driver::try_open(&path, |_| {}).unwrap_err().to_string();
    let said = "is not supported: it takes a program that was built with the feature \"qcow2\"";
    assert_eq!(error, format!("the qcow2 image {} {said}", path.display()));
    Driver::try_open(&path, |options| options.format = Some(Format::Raw)).unwrap();
}

#[test]
fn status_tells_what_there_is() {
    let (_folder, path) = raw_image(1 << 20);
    let driver = Driver::try_open(&path, |options| options.format = Some(Format::Raw)).unwrap();
    let status = driver.medium.status();
    let told = serde_json::to_value(status.info()).unwrap();
    assert_eq!(told["format"], "raw");
    assert_eq!(told["path"], path.to_str().unwrap());
    assert_eq!((told["blocks"].as_u64(), told["size_bytes"].as_u64()), (Some(2048), Some(1 << 20)));
    drop(driver);
    assert_eq!(status.info().under_way, 0);
}
