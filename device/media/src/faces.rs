//! One medium that several devices have: an SD card's two interfaces show the same blocks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sdmorph_pci::media::{Media, MediaError, MediaRequest, MediaResult};

/// A medium with several faces, each of which is a [`Media`] of its own.
///
/// Requests of one face may be done in any order, as those to any medium. Those of two faces never overlap: a request
/// waits while one of another face is under way or waits itself, so that what one interface has begun to write can never
/// come after what the other wrote later. Whoever waits has its turn in the order of asking.
///
/// What has waited begins when any face is asked for what has ended ([`Media::ended`]). So every face is to be asked
/// whenever a request may have ended, and not only the one that has something under way.
#[derive(Debug)]
pub struct SharedMedia {
    shared: Arc<Mutex<Shared>>,
    blocks: u64,
    read_only: bool,
}

/// A face of a [`SharedMedia`]. When it is dropped, what it waits with is not begun, and what comes of the rest is
/// discarded.
#[derive(Debug)]
pub struct Face {
    shared: Arc<Mutex<Shared>>,
    number: u64,
    blocks: u64,
    read_only: bool,
}

/// A request as its face knows it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    face: u64,
    tag: u64,
}

#[derive(Debug)]
struct Shared {
    /// `None` once it has been taken away.
    media: Option<Box<dyn Media>>,
    next_tag: u64,
    /// What the medium has not ended yet, by the tags that it was given. All are of one face.
    under_way: BTreeMap<u64, Asked>,
    /// What waits for that, in the order of asking. Nothing waits while nothing is under way.
    waiting: VecDeque<(Asked, MediaRequest)>,
    /// What each face has not taken yet.
    ended: BTreeMap<u64, VecDeque<(u64, MediaResult)>>,
    next_face: u64,
}

impl SharedMedia {
    /// Shares `media`. It has no face yet.
    #[must_use]
    pub fn new(media: Box<dyn Media>) -> Self {
        let (blocks, read_only) = (media.blocks(), media.is_read_only());
        let shared = Shared {
            media: Some(media),
            next_tag: 0,
            under_way: BTreeMap::new(),
            waiting: VecDeque::new(),
            ended: BTreeMap::new(),
            next_face: 0,
        };
        Self { shared: Arc::new(Mutex::new(shared)), blocks, read_only }
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// One more face. Through one that is `read_only` nothing can be changed, whatever the others may do.
    #[must_use]
    pub fn face(&self, read_only: bool) -> Face {
        let mut shared = lock(&self.shared);
        let number = shared.next_face;
        shared.next_face = number.wrapping_add(1);
        shared.ended.insert(number, VecDeque::new());
        drop(shared);
        let shared = Arc::clone(&self.shared);
        Face { shared, number, blocks: self.blocks, read_only: read_only || self.read_only }
    }

    /// Takes the medium away from its faces, and drops it. Whatever they ask for, now or later, ends with
    /// [`MediaError::Io`]. What the medium has been asked for it does as if the one who asked had dropped it.
    pub fn take_away(self) {
        let media = lock(&self.shared).take_away();
        drop(media);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn begin(&mut self, asked: Asked, request: MediaRequest) -> Option<MediaResult> {
        if self.media.is_some() && !self.has_turn(asked) {
            self.waiting.push_back((asked, request));
            return None;
        }
        self.start(asked, request)
    }

    /// Whether a request may begin, of those that do not wait yet.
    fn has_turn(&self, asked: Asked) -> bool {
        self.waiting.is_empty() && self.goes_with_what_is_under_way(asked)
    }

    fn goes_with_what_is_under_way(&self, asked: Asked) -> bool {
        self.under_way.first_key_value().is_none_or(|(_, other)| other.face == asked.face)
    }

    fn start(&mut self, asked: Asked, request: MediaRequest) -> Option<MediaResult> {
        let Some(media) = &mut self.media else { return Some(Err(MediaError::Io)) };
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        let result = media.begin(tag, request);
        if result.is_none() {
            self.under_way.insert(tag, asked);
        }
        result
    }

    /// Begins what has waited, as far as it has its turn now.
    fn start_waiting(&mut self) {
        while let Some((asked, request)) = self.waiting.pop_front() {
            if !self.goes_with_what_is_under_way(asked) {
                self.waiting.push_front((asked, request));
                return;
            }
            if let Some(result) = self.start(asked, request) {
                self.give(asked, result);
            }
        }
    }

    /// Sorts what the medium has ended by face, and lets those begin that have waited for it.
    fn collect(&mut self) {
        while let Some((tag, result)) = self.media.as_mut().and_then(|media| media.ended()) {
            if let Some(asked) = self.under_way.remove(&tag) {
                self.give(asked, result);
            }
            self.start_waiting();
        }
    }

    /// Nothing, if the face is gone.
    fn give(&mut self, asked: Asked, result: MediaResult) {
        if let Some(ended) = self.ended.get_mut(&asked.face) {
            ended.push_back((asked.tag, result));
        }
    }

    fn leave(&mut self, face: u64) {
        self.ended.remove(&face);
        self.waiting.retain(|(asked, _)| asked.face != face);
        self.start_waiting();
    }

    fn take_away(&mut self) -> Option<Box<dyn Media>> {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|(asked, _)| asked);
        let lost: Vec<Asked> = std::mem::take(&mut self.under_way).into_values().chain(waiting).collect();
        for asked in lost {
            self.give(asked, Err(MediaError::Io));
        }
        self.media.take()
    }
}

impl Media for Face {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn begin(&mut self, tag: u64, request: MediaRequest) -> Option<MediaResult> {
        if self.read_only && matches!(request, MediaRequest::Write { .. } | MediaRequest::Discard { .. }) {
            return Some(Err(MediaError::ReadOnly));
        }
        lock(&self.shared).begin(Asked { face: self.number, tag }, request)
    }

    fn ended(&mut self) -> Option<(u64, MediaResult)> {
        let mut shared = lock(&self.shared);
        shared.collect();
        shared.ended.get_mut(&self.number)?.pop_front()
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        lock(&self.shared).leave(self.number);
    }
}
