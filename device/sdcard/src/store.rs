//! The card's access to its medium: one request at a time.
//!
//! A medium may do requests that are under way together in any order. The card never has two: one that follows an
//! abandoned one waits until that has ended, so what it reads is what was written before.

use sdmorph_pci::{Media, MediaRequest, MediaResult};

/// The medium, and what it is asked for.
#[derive(Debug)]
pub(crate) struct Store {
    media: Box<dyn Media>,
    next_tag: u64,
    /// What the medium has been asked for and has not ended.
    under_way: Option<u64>,
    /// Whether somebody waits for what is under way, or is about to be.
    is_wanted: bool,
    /// Begins when what is under way has ended.
    waiting: Option<MediaRequest>,
    result: Option<MediaResult>,
}

impl Store {
    pub(crate) fn new(media: Box<dyn Media>) -> Self {
        Self { media, next_tag: 0, under_way: None, is_wanted: false, waiting: None, result: None }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.media.is_read_only()
    }

    /// Whether the medium has a request, wanted or not.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Asks for something. Whatever was asked for before is not wanted any more.
    pub(crate) fn ask(&mut self, request: MediaRequest) {
        self.abandon();
        self.is_wanted = true;
        if self.under_way.is_some() {
            self.waiting = Some(request);
        } else {
            self.begin(request);
        }
    }

    /// The result of what was asked for last is not wanted any more. If the medium has it, it is done nevertheless.
    pub(crate) fn abandon(&mut self) {
        self.is_wanted = false;
        self.waiting = None;
        self.result = None;
    }

    /// The result, once, when it is there.
    pub(crate) fn result(&mut self) -> Option<MediaResult> {
        while let Some((tag, result)) = self.media.ended() {
            if self.under_way == Some(tag) {
                self.under_way = None;
                if let Some(request) = self.waiting.take() {
                    self.begin(request);
                } else if self.is_wanted {
                    self.result = Some(result);
                }
            }
        }
        let result = self.result.take();
        if result.is_some() {
            self.is_wanted = false;
        }
        result
    }

    fn begin(&mut self, request: MediaRequest) {
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        match self.media.begin(tag, request) {
            Some(result) => self.result = Some(result),
            None => self.under_way = Some(tag),
        }
    }
}
