//! What a device does with a medium, and images to do it with.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sdmorph_media::{FileMedia, MediaInfo, OpenError, OpenOptions, Waker, open};
use sdmorph_pci::media::{BLOCK_BYTES, Media, MediaRequest, MediaResult};
use tempfile::TempDir;

/// How long anything may take before a test gives up: far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A waker, and what tells that it was called.
pub(crate) fn waker() -> (Waker, Receiver<()>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    // Nobody listens any more when the medium is dropped.
    let waker = move || {
        let _ = sender.lock().unwrap().send(());
    };
    (Arc::new(waker), receiver)
}

/// A device in front of a medium: it begins requests and waits until it is woken.
#[derive(Debug)]
pub(crate) struct Driver<M> {
    pub(crate) medium: M,
    woken: Receiver<()>,
    next_tag: u64,
    results: HashMap<u64, MediaResult>,
}

impl Driver<FileMedia> {
    /// Opens an image as `change` wants it.
    pub(crate) fn try_open(path: &Path, change: impl FnOnce(&mut OpenOptions)) -> Result<Self, OpenError> {
        let (waker, woken) = waker();
        let mut options = OpenOptions::new(waker);
        change(&mut options);
        Ok(Self::new(open(path, options)?, woken))
    }

    pub(crate) fn open(path: &Path) -> Self {
        Self::try_open(path, |_| {}).unwrap()
    }

    pub(crate) fn info(&self) -> MediaInfo {
        self.medium.status().info()
    }
}

impl<M: Media> Driver<M> {
    pub(crate) fn new(medium: M, woken: Receiver<()>) -> Self {
        Self { medium, woken, next_tag: 0, results: HashMap::new() }
    }

    /// Begins a request; [`Driver::wait`] takes what it gives back.
    pub(crate) fn begin(&mut self, request: MediaRequest) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        if let Some(result) = self.medium.begin(tag, request) {
            self.results.insert(tag, result);
        }
        tag
    }

    /// Takes what has ended; the tags of it.
    pub(crate) fn collect(&mut self) -> Vec<u64> {
        let mut tags = Vec::new();
        while let Some((tag, result)) = self.medium.ended() {
            assert!(
                tag < self.next_tag && !self.results.contains_key(&tag),
                "{tag} ended twice, or never began"
            );
            self.results.insert(tag, result);
            tags.push(tag);
        }
        tags
    }

    /// The result of a request that has ended, once.
    pub(crate) fn take(&mut self, tag: u64) -> Option<MediaResult> {
        self.results.remove(&tag)
    }

    /// Sleeps until the medium has called.
    pub(crate) fn sleep(&self) {
        self.woken.recv_timeout(PATIENCE).expect("the medium never called");
    }

    /// Waits for the end of a request. It sleeps whenever nothing has ended, so it hangs if a call is lost.
    pub(crate) fn wait(&mut self, tag: u64) -> MediaResult {
        loop {
            self.collect();
            if let Some(result) = self.take(tag) {
                return result;
            }
            self.sleep();
        }
    }

    pub(crate) fn perform(&mut self, request: MediaRequest) -> MediaResult {
        let tag = self.begin(request);
        self.wait(tag)
    }

    pub(crate) fn read(&mut self, first: u64, count: u32) -> MediaResult {
        self.perform(MediaRequest::Read { first, count, buffer: Vec::new() })
    }

    pub(crate) fn write(&mut self, first: u64, data: &[u8]) -> MediaResult {
        self.perform(MediaRequest::Write { first, data: data.to_vec() })
    }

    pub(crate) fn discard(&mut self, first: u64, count: u64) -> MediaResult {
        self.perform(MediaRequest::Discard { first, count })
    }

    pub(crate) fn flush(&mut self) -> MediaResult {
        self.perform(MediaRequest::Flush)
    }
}

/// `count` blocks that begin with `byte`, each other than its neighbours.
pub(crate) fn pattern(byte: u8, count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| [byte.wrapping_add(number as u8); BLOCK_BYTES]).collect()
}

/// A folder with one raw image in it.
pub(crate) fn raw_image(bytes: u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.raw");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    (folder, path)
}

pub(crate) fn contents_of(path: &Path, offset: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    File::open(path).unwrap().read_exact_at(&mut data, offset).unwrap();
    data
}
