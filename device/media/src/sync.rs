//! `fdatasync`, which may fail only once.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use rustix::io::Errno;

/// What failed once fails for ever: the kernel may have forgotten what it could not write, and would say the next time
/// that all is well (QEMU does the same: `page_cache_inconsistent` in `block/file-posix.c`).
#[derive(Debug, Default)]
pub(crate) struct DataSync {
    failed: OnceLock<i32>,
}

impl DataSync {
    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        if let Some(code) = self.failed.get() {
            let error = io::Error::from_raw_os_error(*code);
            return Err(io::Error::new(error.kind(), format!("an earlier flush failed: {error}")));
        }
        file.sync_data().inspect_err(|error| {
            self.failed.get_or_init(|| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_once_fails_for_ever() {
        // There is nothing behind it that could be synchronised.
        let bad = File::open("/dev/zero").unwrap();
        let good = tempfile::tempfile().unwrap();
        let sync = DataSync::default();
        sync.sync(&good).unwrap();
        assert_eq!(sync.sync(&bad).unwrap_err().raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        let later = sync.sync(&good).unwrap_err();
        assert!(later.to_string().starts_with("an earlier flush failed: "), "{later}");
    }
}
