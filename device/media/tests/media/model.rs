//! Random requests: one at a time against bytes in memory, and many at a time against what they may give.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use sdmorph_media::RamMedia;
use sdmorph_pci::media::{BLOCK_BYTES, Media, MediaError, MediaRequest};

use crate::driver::{Driver, raw_image, waker};

/// Blocks of the media in these tests.
pub(crate) const BLOCKS: u64 = 600;

/// A request as a number of a block, a number of blocks, and what to write.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Read(u64, u32),
    Write(u64, u32, u8),
    Discard(u64, u64),
    Flush,
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    // Mostly on the medium, and often at its end.
    let first = prop_oneof![0..BLOCKS, BLOCKS - 20..BLOCKS + 5];
    let count = prop_oneof![1u32..20, 1u32..300];
    prop_oneof![
        4 => (first.clone(), count.clone()).prop_map(|(first, count)| Ask::Read(first, count)),
        // Zeros, too: some media keep none.
        4 => (first.clone(), count.clone(), prop_oneof![Just(0), any::<u8>()])
            .prop_map(|(first, count, byte)| Ask::Write(first, count, byte)),
        2 => (first, prop_oneof![count.prop_map(u64::from), Just(BLOCKS)])
            .prop_map(|(first, count)| Ask::Discard(first, count)),
        1 => Just(Ask::Flush),
    ]
}

/// Does the same to a medium and to bytes in memory, and compares what comes back.
pub(crate) fn same_as_bytes<M: Media>(
    driver: &mut Driver<M>,
    model: &mut [u8],
    asks: &[Ask],
) -> Result<(), TestCaseError> {
    let part = |first: u64, count: u64| {
        let start = first as usize * BLOCK_BYTES;
        start..start + count as usize * BLOCK_BYTES
    };
    for ask in asks {
        match *ask {
            Ask::Read(first, count) => {
                let expected = model.get(part(first, count.into())).map(<[u8]>::to_vec);
                prop_assert!(driver.read(first, count) == expected.ok_or(MediaError::OutOfRange), "{ask:?}");
            }
            Ask::Write(first, count, byte) => {
                let data = vec![byte; count as usize * BLOCK_BYTES];
                let result = driver.write(first, &data);
                match model.get_mut(part(first, count.into())) {
                    Some(place) => {
                        place.copy_from_slice(&data);
                        prop_assert!(result.is_ok());
                    }
                    None => prop_assert_eq!(result, Err(MediaError::OutOfRange)),
                }
            }
            Ask::Discard(first, count) => {
                let result = driver.discard(first, count);
                match model.get_mut(part(first, count)) {
                    Some(place) => {
                        place.fill(0);
                        prop_assert_eq!(result, Ok(Vec::new()));
                    }
                    None => prop_assert_eq!(result, Err(MediaError::OutOfRange)),
                }
            }
            Ask::Flush => prop_assert_eq!(driver.flush(), Ok(Vec::new())),
        }
    }
    for first in (0..BLOCKS).step_by(100) {
        prop_assert!(driver.read(first, 100).unwrap() == model[part(first, 100)], "from {first} on");
    }
    Ok(())
}

/// One change of a block: its value, when it began and when it had ended. Times are numbers of steps.
#[derive(Debug, Clone, Copy)]
struct Change {
    value: u64,
    began: u64,
    ended: u64,
}

/// What has been done to each block, to say what a read may give.
#[derive(Debug, Default)]
pub(crate) struct History {
    changes: BTreeMap<u64, Vec<Change>>,
}

impl History {
    fn change(&mut self, blocks: std::ops::Range<u64>, value: u64, began: u64, ended: u64) {
        for block in blocks {
            self.changes.entry(block).or_default().push(Change { value, began, ended });
        }
    }

    /// Whether a read from `began` to `ended` may find `value` in a block: a change gave it that had begun by then, and
    /// no other one lies wholly between the two.
    fn allows(&self, block: u64, value: u64, began: u64, ended: u64) -> bool {
        let first = Change { value: 0, began: 0, ended: 0 };
        let changes = self.changes.get(&block).map_or(&[][..], Vec::as_slice);
        let all = || changes.iter().chain([&first]);
        all().any(|change| {
            change.value == value
                && change.began < ended
                && !all().any(|later| change.ended < later.began && later.ended < began)
        })
    }
}

/// Many requests under way at the same time, at most `depth`; in the end, each read must be possible.
pub(crate) fn many_at_a_time<M: Media>(
    driver: &mut Driver<M>,
    asks: &[Ask],
    depth: usize,
) -> Result<(), TestCaseError> {
    let mut time = 1;
    let mut under_way: BTreeMap<u64, (Ask, u64, u64)> = BTreeMap::new();
    let mut history = History::default();
    let mut reads = Vec::new();
    let asks = asks.iter().cloned().map(Some).chain(std::iter::repeat_n(None, depth));
    for (number, ask) in (1u64..).zip(asks) {
        if let Some(ask) = &ask {
            let request = match *ask {
                Ask::Read(first, count) => MediaRequest::Read { first, count, buffer: Vec::new() },
                Ask::Write(first, count, _) => {
                    let words = count as usize * BLOCK_BYTES / 8;
                    MediaRequest::Write { first, data: number.to_le_bytes().repeat(words) }
                }
                Ask::Discard(first, count) => MediaRequest::Discard { first, count },
                Ask::Flush => MediaRequest::Flush,
            };
            time += 1;
            let tag = driver.begin(request);
            under_way.insert(tag, (ask.clone(), number, time));
        }
        // Until there is room for the next; at the end, until nothing is left.
        loop {
            driver.collect();
            time += 1;
            let tags: Vec<u64> = under_way.keys().copied().collect();
            for tag in tags {
                let Some(result) = driver.take(tag) else { continue };
                let (ask, number, began) = under_way.remove(&tag).unwrap();
                match (ask, result) {
                    (_, Err(error)) => prop_assert_eq!(error, MediaError::OutOfRange),
                    (Ask::Read(first, _), Ok(data)) => reads.push((first, data, began, time)),
                    (Ask::Write(first, count, _), Ok(_)) => {
                        history.change(first..first + u64::from(count), number, began, time);
                    }
                    (Ask::Discard(first, count), Ok(_)) => {
                        history.change(first..first + count, 0, began, time);
                    }
                    (Ask::Flush, Ok(_)) => {}
                }
            }
            let most = if ask.is_some() { depth - 1 } else { 0 };
            if under_way.len() <= most {
                break;
            }
            driver.sleep();
        }
    }
    for (first, data, began, ended) in reads {
        for (block, contents) in (first..).zip(data.chunks(BLOCK_BYTES)) {
            let values: BTreeSet<u64> =
                contents.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
            for value in values {
                prop_assert!(
                    history.allows(block, value, began, ended),
                    "block {block} gave {value} between {began} and {ended}: {:?}",
                    history.changes.get(&block)
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_as_bytes_are(asks in vec(ask(), 1..60)) {
        let mut driver = Driver::new(RamMedia::new(BLOCKS, u64::MAX), waker().1);
        same_as_bytes(&mut driver, &mut vec![0; BLOCKS as usize * BLOCK_BYTES], &asks)?;
    }

    #[test]
    fn raw_image_is_as_bytes_are(asks in vec(ask(), 1..60), again in vec(ask(), 1..20)) {
        let (_folder, path) = raw_image(BLOCKS * BLOCK_BYTES as u64);
        let mut model = vec![0; BLOCKS as usize * BLOCK_BYTES];
        same_as_bytes(&mut Driver::open(&path), &mut model, &asks)?;
        same_as_bytes(&mut Driver::open(&path), &mut model, &again)?;
        prop_assert!(std::fs::read(&path).unwrap() == model);
    }

    #[test]
    fn raw_image_never_gives_what_is_older(asks in vec(ask(), 1..200), depth in 1usize..32) {
        let (_folder, path) = raw_image(BLOCKS * BLOCK_BYTES as u64);
        many_at_a_time(&mut Driver::open(&path), &asks, depth)?;
    }
}

#[test]
fn what_is_older_would_be_found() {
    let mut history = History::default();
    history.change(5..6, 1, 10, 12);
    history.change(5..6, 2, 20, 22);
    // Begun after the second change had ended: only that one's.
    assert!(history.allows(5, 2, 23, 24));
    assert!(!history.allows(5, 1, 23, 24));
    assert!(!history.allows(5, 0, 23, 24));
    // While the second one was under way: either.
    assert!(history.allows(5, 1, 21, 24) && history.allows(5, 2, 21, 24));
    // Before it began.
    assert!(!history.allows(5, 2, 15, 16) && history.allows(5, 1, 15, 16));
    assert!(history.allows(6, 0, 23, 24) && !history.allows(6, 1, 23, 24));
}
