//! The client's eventfds, one for each MSI-X vector it has routed.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use sdmorph_pci::{InterruptSink, Message};

/// Eventfds by vector. Shared: the machine signals them, the transport sets them.
#[derive(Debug, Clone)]
pub struct Eventfds {
    vectors: Arc<Mutex<Vec<Option<File>>>>,
}

impl Eventfds {
    /// Room for `count` vectors, none routed.
    #[must_use]
    pub fn new(count: u16) -> Self {
        let vectors = (0..count).map(|_| None).collect();
        Self { vectors: Arc::new(Mutex::new(vectors)) }
    }

    /// Routes `vector` to `eventfd`, or nowhere. False if there is no such vector.
    pub fn route(&self, vector: u32, eventfd: Option<File>) -> bool {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        match usize::try_from(vector).ok().and_then(|index| vectors.get_mut(index)) {
            Some(slot) => {
                *slot = eventfd;
                true
            }
            None => false,
        }
    }

    /// Takes all routes away.
    pub fn clear(&self) {
        let mut vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.iter_mut().for_each(|slot| *slot = None);
    }
}

impl InterruptSink for Eventfds {
    /// Adds one to the vector's eventfd. A vector that is not routed has nobody to tell.
    fn send(&mut self, message: Message) {
        let vectors = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(file)) = vectors.get(usize::from(message.vector)) {
            let mut file: &File = file;
            if let Err(error) = file.write_all(&1u64.to_ne_bytes()) {
                tracing::debug!(vector = message.vector, %error, "the client's eventfd does not take an interrupt");
            }
        }
    }
}
