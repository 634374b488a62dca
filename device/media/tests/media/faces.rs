//! A medium with two faces, over one that ends what it is asked for in any order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sdmorph_media::{Face, RamMedia, SharedMedia};
use sdmorph_pci::media::BLOCK_BYTES;
use sdmorph_pci::{Media, MediaError, MediaRequest, MediaResult};

/// Each request is for a block of its own, which tells whose it is.
const BLOCKS_OF_A_FACE: u64 = 1000;
const FACES: usize = 3;

fn read(first: u64) -> MediaRequest {
    MediaRequest::Read { first, count: 1, buffer: Vec::new() }
}

fn write(first: u64, byte: u8) -> MediaRequest {
    MediaRequest::Write { first, data: vec![byte; BLOCK_BYTES] }
}

fn block_of(request: &MediaRequest) -> u64 {
    match request {
        MediaRequest::Read { first, .. }
        | MediaRequest::Write { first, .. }
        | MediaRequest::Discard { first, .. } => *first,
        MediaRequest::Flush => panic!("a flush is for no block"),
    }
}

/// What a block reads as: its number.
fn contents(block: u64) -> Vec<u8> {
    block.to_le_bytes().repeat(BLOCK_BYTES / 8)
}

/// What happened to the request for a block.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Begun(u64),
    Ended(u64),
}

#[derive(Debug, Default)]
struct Inside {
    at_once: bool,
    under_way: Vec<(u64, MediaRequest)>,
    ended: Vec<(u64, MediaResult)>,
    seen: Vec<Seen>,
    dropped: bool,
}

/// A medium that a test holds the other end of.
#[derive(Debug, Default, Clone)]
struct Scripted(Arc<Mutex<Inside>>);

impl Scripted {
    /// Ends one of those under way, whichever.
    fn end(&self, which: usize) {
        let mut inside = self.0.lock().unwrap();
        if !inside.under_way.is_empty() {
            let which = which % inside.under_way.len();
            let (tag, request) = inside.under_way.remove(which);
            let block = block_of(&request);
            inside.seen.push(Seen::Ended(block));
            inside.ended.push((tag, Ok(contents(block))));
        }
    }

    fn under_way(&self) -> Vec<u64> {
        self.0.lock().unwrap().under_way.iter().map(|(_, request)| block_of(request)).collect()
    }
}

impl Media for Scripted {
    fn blocks(&self) -> u64 {
        BLOCKS_OF_A_FACE * FACES as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        let mut inside = self.0.lock().unwrap();
        let block = block_of(&request);
        inside.seen.push(Seen::Begun(block));
        if inside.at_once {
            inside.seen.push(Seen::Ended(block));
            return Some(Ok(contents(block)));
        }
        inside.under_way.push((tag, request));
        None
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        self.0.lock().unwrap().ended.pop()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Ok(mut inside) = self.0.lock() {
            inside.dropped = true;
        }
    }
}

fn shared(scripted: &Scripted) -> SharedMedia {
    SharedMedia::new(Box::new(scripted.clone()))
}

#[test]
fn request_waits_for_those_of_another_face_and_begins_when_any_face_is_asked() {
    let scripted = Scripted::default();
    let medium = shared(&scripted);
    let (mut card, mut drive) = (medium.face(false), medium.face(false));
    assert_eq!(card.begin(7, write(1, 1)), None);
    assert_eq!(drive.begin(7, write(1001, 2)), None);
    assert_eq!(drive.begin(8, read(1002)), None);
    assert_eq!(card.begin(8, read(2)), None, "it has asked after the drive");
    assert_eq!(scripted.under_way(), [1]);
    scripted.end(0);
    // The one that has nothing under way is enough.
    assert_eq!(drive.ended(), None);
    assert_eq!(scripted.under_way(), [1001, 1002]);
    assert_eq!(card.ended(), Some((7, Ok(contents(1)))), "the same tag, and its own result");
    scripted.end(1);
    assert_eq!(drive.ended(), Some((8, Ok(contents(1002)))));
    scripted.end(0);
    assert_eq!(card.ended(), None);
    assert_eq!(drive.ended(), Some((7, Ok(contents(1001)))));
    assert_eq!(scripted.under_way(), [2]);
}

#[test]
fn what_has_waited_and_ends_at_once_is_given_to_the_face_that_asked() {
    let scripted = Scripted::default();
    let medium = shared(&scripted);
    let (mut card, mut drive) = (medium.face(false), medium.face(false));
    assert_eq!(card.begin(1, write(1, 1)), None);
    assert_eq!(drive.begin(1, read(1001)), None);
    assert_eq!(drive.begin(2, read(1002)), None);
    scripted.0.lock().unwrap().at_once = true;
    scripted.end(0);
    assert_eq!(card.ended(), Some((1, Ok(contents(1)))));
    assert_eq!(drive.ended(), Some((1, Ok(contents(1001)))));
    assert_eq!(drive.ended(), Some((2, Ok(contents(1002)))));
    assert_eq!(card.begin(2, read(2)), Some(Ok(contents(2))), "nobody is before it");
}

#[test]
fn face_that_is_dropped_leaves_what_is_under_way_and_takes_what_waits_with_it() {
    let scripted = Scripted::default();
    let medium = shared(&scripted);
    let (mut card, mut drive) = (medium.face(false), medium.face(false));
    assert_eq!(card.begin(1, write(1, 1)), None);
    assert_eq!(drive.begin(1, write(1001, 1)), None);
    assert_eq!(card.begin(2, write(2, 1)), None);
    drop(drive);
    assert_eq!(scripted.under_way(), [1, 2], "nobody is between them any more");
    drop(card);
    let mut card = medium.face(false);
    assert_eq!(card.begin(1, read(3)), None, "it does not overtake those of a face that is gone");
    assert_eq!(scripted.under_way(), [1, 2]);
    scripted.end(1);
    scripted.end(0);
    assert_eq!(card.ended(), None);
    scripted.end(0);
    assert_eq!(card.ended(), Some((1, Ok(contents(3)))));
    assert_eq!(card.ended(), None);
}

#[test]
fn medium_that_is_taken_away_ends_everything_with_an_error_and_is_let_go_of() {
    let scripted = Scripted::default();
    let medium = shared(&scripted);
    let (mut card, mut drive) = (medium.face(false), medium.face(false));
    assert_eq!(card.begin(1, write(1, 1)), None);
    assert_eq!(drive.begin(5, write(1001, 1)), None);
    medium.take_away();
    assert!(scripted.0.lock().unwrap().dropped);
    assert_eq!(card.ended(), Some((1, Err(MediaError::Io))));
    assert_eq!(drive.ended(), Some((5, Err(MediaError::Io))));
    assert_eq!(drive.begin(6, read(1001)), Some(Err(MediaError::Io)));
    assert_eq!((card.ended(), drive.ended()), (None, None));
    assert_eq!(drive.blocks(), 3000, "it is still as large as it was");
}

#[test]
fn read_only_face_changes_nothing_while_the_other_can() {
    let medium = SharedMedia::new(Box::new(RamMedia::new(8, 1 << 20)));
    let (mut writable, mut protected) = (medium.face(false), medium.face(true));
    assert!(!writable.is_read_only() && protected.is_read_only());
    assert!(writable.begin(0, write(3, 9)).unwrap().is_ok());
    assert_eq!(protected.begin(0, write(3, 1)), Some(Err(MediaError::ReadOnly)));
    let discard = MediaRequest::Discard { first: 0, count: 8 };
    assert_eq!(protected.begin(0, discard), Some(Err(MediaError::ReadOnly)));
    assert_eq!(protected.begin(0, MediaRequest::Flush), Some(Ok(Vec::new())));
    assert_eq!(protected.begin(0, read(3)), Some(Ok(vec![9; BLOCK_BYTES])));
    let medium = SharedMedia::new(Box::new(RamMedia::new(8, 1 << 20).read_only()));
    assert!(medium.face(false).is_read_only());
}

#[derive(Debug, Clone)]
enum Step {
    Ask(usize),
    End(usize),
    Poll(usize),
    /// The face is dropped, and another takes its place.
    Renew(usize),
    AtOnce(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..FACES).prop_map(Step::Ask),
        4 => any::<usize>().prop_map(Step::End),
        3 => (0..FACES).prop_map(Step::Poll),
        1 => (0..FACES).prop_map(Step::Renew),
        1 => any::<bool>().prop_map(Step::AtOnce),
    ]
}

/// A face, and the model of what it must be told: the block of each tag that has not been answered.
struct Asker {
    face: Face,
    number: u64,
    /// Blocks that this place has asked for, over all its faces.
    asked: u64,
    open: BTreeMap<u64, u64>,
}

impl Asker {
    fn answered(&mut self, tag: u64, result: &MediaResult) {
        let block = self.open.remove(&tag).expect("a tag that is open");
        assert_eq!(*result, Ok(contents(block)));
    }

    fn poll(&mut self) {
        while let Some((tag, result)) = self.face.ended() {
            self.answered(tag, &result);
        }
    }
}

/// All that `seen` has of a block.
fn places(seen: &[Seen], block: u64) -> (Option<usize>, Option<usize>) {
    let place = |what| seen.iter().position(|seen| *seen == what);
    (place(Seen::Begun(block)), place(Seen::Ended(block)))
}

proptest! {
    #[test]
    fn faces_never_overlap_and_each_is_told_of_its_own_once(steps in prop::collection::vec(step(), 0..120)) {
        let scripted = Scripted::default();
        let medium = shared(&scripted);
        let asker = |number: usize| Asker {
            face: medium.face(false),
            number: number as u64,
            asked: 0,
            open: BTreeMap::new(),
        };
        let mut askers: Vec<Asker> = (0..FACES).map(asker).collect();
        // In the order of asking; and those that were given up with their face.
        let mut order: Vec<u64> = Vec::new();
        let mut given_up: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(face) => {
                    let asker = &mut askers[face];
                    let block = asker.number * BLOCKS_OF_A_FACE + asker.asked;
                    // All faces have the same tags.
                    let tag = asker.asked;
                    asker.asked += 1;
                    order.push(block);
                    asker.open.insert(tag, block);
                    let request = if block % 2 == 0 { read(block) } else { write(block, 1) };
                    if let Some(result) = asker.face.begin(tag, request) {
                        asker.answered(tag, &result);
                    }
                }
                Step::End(which) => scripted.end(which),
                Step::Poll(face) => askers[face].poll(),
                Step::Renew(face) => {
                    let asker = &mut askers[face];
                    asker.face = medium.face(false);
                    given_up.extend(std::mem::take(&mut asker.open).into_values());
                }
                Step::AtOnce(at_once) => scripted.0.lock().unwrap().at_once = at_once,
            }
            let owners: Vec<u64> = scripted.under_way().iter().map(|block| block / BLOCKS_OF_A_FACE).collect();
            prop_assert!(owners.windows(2).all(|pair| pair[0] == pair[1]), "{owners:?}");
        }
        // When all that is under way has ended, and all have been asked, nothing is left.
        while askers.iter().any(|asker| !asker.open.is_empty()) || !scripted.under_way().is_empty() {
            let before = scripted.0.lock().unwrap().seen.len();
            scripted.end(0);
            let open: usize = askers.iter().map(|asker| asker.open.len()).sum();
            askers.iter_mut().for_each(Asker::poll);
            let left: usize = askers.iter().map(|asker| asker.open.len()).sum();
            let after = scripted.0.lock().unwrap().seen.len();
            prop_assert!(left < open || after > before, "{open} wait for ever");
        }
        // Of two faces, who asked first has ended before the other begins.
        let seen = scripted.0.lock().unwrap().seen.clone();
        for (at, earlier) in order.iter().enumerate() {
            let (_, Some(ended)) = places(&seen, *earlier) else {
                prop_assert!(given_up.contains(earlier), "{earlier} was never begun");
                continue;
            };
            for later in &order[at + 1..] {
                let (Some(begun), _) = places(&seen, *later) else { continue };
                if later / BLOCKS_OF_A_FACE != earlier / BLOCKS_OF_A_FACE {
                    prop_assert!(ended < begun, "{later} has overtaken {earlier}");
                }
            }
        }
    }
}
