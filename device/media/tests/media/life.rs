//! Opening, being woken, and letting go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};

use sdmorph_media::{OpenOptions, open, wait_until_closed};
use sdmorph_pci::Media;
use sdmorph_pci::media::MediaRequest;

use crate::driver::{Driver, PATIENCE, contents_of, pattern, raw_image};

#[test]
fn writes_that_were_begun_are_there_when_the_image_is_opened_again() {
    let (_folder, path) = raw_image(256 << 20);
    for round in 0..10u8 {
        let mut driver = Driver::open(&path);
        for place in 0..100 {
            driver.begin(MediaRequest::Write { first: place * 2048, data: pattern(round, 2048) });
        }
        driver.begin(MediaRequest::Flush);
        drop(driver);
        let mut driver = Driver::open(&path);
        for place in 0..100 {
            assert!(driver.read(place * 2048, 2048).unwrap() == pattern(round, 2048), "{place}");
        }
    }
}

#[test]
fn drop_leaves_reads_and_discards_undone() {
    let (_folder, path) = raw_image(2 << 40);
    let mut driver = Driver::open(&path);
    let status = driver.medium.status();
    for _ in 0..1000 {
        driver.begin(MediaRequest::Discard { first: 0, count: (2 << 40) / 512 });
        driver.begin(MediaRequest::Read { first: 1 << 30, count: 2048, buffer: Vec::new() });
    }
    driver.begin(MediaRequest::Write { first: 7, data: pattern(7, 1) });
    drop(driver);
    assert!(wait_until_closed(PATIENCE));
    // Whatever order the discards and the write were done in, one of the two is there.
    let found = contents_of(&path, 7 * 512, 512);
    assert!(found == pattern(7, 1) || found == pattern(0, 1));
    let info = status.info();
    assert_eq!((info.writes, info.errors), (1, 0));
    // Each discard is 2048 holes: workers that went on would take seconds for those of 1000.
    assert!(info.discards < 1000, "{info:?}");
}

#[test]
fn waker_may_call_into_the_medium() {
    let (_folder, path) = raw_image(1 << 20);
    let slot: Arc<Mutex<Option<sdmorph_media::FileMedia>>> = Arc::default();
    let (sender, results) = channel();
    let waker = {
        let (slot, sender) = (Arc::clone(&slot), Mutex::new(sender));
        move || {
            // As whoever owns the machine does: take its lock, and ask for what has ended.
            let mut slot = slot.lock().unwrap();
            let Some(medium) = slot.as_mut() else { return };
            while let Some(ended) = medium.ended() {
                let _ = sender.lock().unwrap().send(ended);
            }
        }
    };
    *slot.lock().unwrap() = Some(open(&path, OpenOptions::new(Arc::new(waker))).unwrap());
    for tag in 0..100 {
        let mut slot = slot.lock().unwrap();
        assert_eq!(slot.as_mut().unwrap().begin(tag, MediaRequest::Flush), None);
    }
    let mut tags: Vec<u64> = (0..100).map(|_| results.recv_timeout(PATIENCE).unwrap().0).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..100).collect::<Vec<_>>());
    let medium = slot.lock().unwrap().take();
    drop(medium);
}

#[test]
fn calls_wait_until_everything_was_taken() {
    let (_folder, path) = raw_image(1 << 20);
    let calls = Arc::new((Mutex::new(0u64), Condvar::new()));
    let waker = {
        let calls = Arc::clone(&calls);
        move || {
            *calls.0.lock().unwrap() += 1;
            calls.1.notify_all();
        }
    };
    let called = |times: u64| {
        let waited = calls.1.wait_timeout_while(calls.0.lock().unwrap(), PATIENCE, |calls| *calls < times);
        assert_eq!(*waited.unwrap().0, times);
    };
    let mut medium = open(&path, OpenOptions::new(Arc::new(waker))).unwrap();
    let status = medium.status();
    for tag in 0..50 {
        assert_eq!(medium.begin(tag, MediaRequest::Flush), None);
    }
    // Nobody takes anything, so that there is one call for all of them.
    while status.info().by_worker < 50 {
        std::thread::yield_now();
    }
    called(1);
    let mut taken = AtomicU64::new(0);
    while *taken.get_mut() < 50 {
        if medium.ended().is_some() {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert_eq!(medium.ended(), None);
    assert_eq!(medium.begin(50, MediaRequest::Flush), None);
    called(2);
    assert_eq!(medium.ended(), Some((50, Ok(Vec::new()))));
}

#[test]
fn many_media_come_and_go() {
    let (_folder, path) = raw_image(1 << 20);
    for round in 0..200u32 {
        let mut driver = Driver::open(&path);
        driver.begin(MediaRequest::Write { first: 3, data: pattern(round as u8, 4) });
    }
    assert_eq!(Driver::open(&path).read(3, 4).unwrap(), pattern(199, 4));
}
