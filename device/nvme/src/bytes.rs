//! Data structures in bytes.

/// Stores `value` at `at`, if there is room for all of it.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let place = at.checked_add(value.len()).and_then(|end| bytes.get_mut(at..end));
    if let Some(place) = place {
        place.copy_from_slice(value);
    }
}
