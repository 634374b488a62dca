//! qcow2 images: `imago` reads and writes them, one request at a time.
//!
//! An image that needs other files (a backing file, an external data file) is refused: its header would decide which
//! files of the host are opened. So is an encrypted one, which `imago` takes for a plain one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, Mapping, StorageOpenOptions};

use crate::lock::LockedFile;
use crate::open::{Format, OpenError};
use crate::sync::DataSync;

/// Most bytes of zeros that are written in one go, for images of version 2, which have no zero clusters.
const ZERO_BYTES: u64 = 1 << 20;

type Access = FormatAccess<ImagoFile>;

/// A qcow2 image that is open.
#[derive(Debug)]
pub(crate) struct Qcow2Image {
    /// The driver has a second descriptor of it.
    file: LockedFile,
    /// `None` when it is closed. Poisoned when the driver has panicked: it is not used again.
    access: Mutex<Option<Access>>,
    /// The most that the file has had, in bytes. It never shrinks by itself.
    largest: AtomicU64,
    sync: DataSync,
}

impl Qcow2Image {
    /// Opens an image; gives back how large its medium is, too, in bytes.
    pub(crate) fn open(path: &Path, file: LockedFile, read_only: bool) -> Result<(Self, u64), OpenError> {
        let failed = |source| OpenError::Contents { path: path.into(), format: Format::Qcow2, source };
        if let Some(feature) = unsupported(&file).map_err(failed)? {
            return Err(OpenError::Unsupported { path: path.into(), format: Format::Qcow2, feature });
        }
        Self::open_supported(file, read_only).map_err(failed)
    }

    fn open_supported(file: LockedFile, read_only: bool) -> io::Result<(Self, u64)> {
        let storage = file.try_clone()?;
        let access = guarded(move || {
            let storage = ImagoFile::from_open_file(storage, StorageOpenOptions::new().write(!read_only))?;
            let qcow2: Qcow2<ImagoFile> = Qcow2::open_image(storage, !read_only)?;
            Ok(FormatAccess::new(qcow2))
        })?;
        let bytes = access.size();
        let largest = AtomicU64::new(file.metadata()?.len());
        Ok((Self { file, access: Mutex::new(Some(access)), largest, sync: DataSync::default() }, bytes))
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|access| access.read(buffer, offset))
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|access| access.write(data, offset))
    }

    /// The driver's tables to the file.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.with(|access| access.flush())
    }

    /// The driver's tables to the file, and the file to the disk.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.with(|access| access.flush())?;
        self.sync.sync(&self.file)
    }

    /// Makes zeros of a beginning of these bytes; gives back of how many.
    pub(crate) fn discard(&self, offset: u64, length: u64) -> io::Result<u64> {
        self.with(|access| {
            let (mapping, mapped) = access.get_mapping(offset, length)?;
            let length = length.min(mapped);
            // To discard what is not there would make tables for it.
            if length == 0 || matches!(mapping, Mapping::Zero { .. } | Mapping::Eof { .. }) {
                return Ok(length);
            }
            match access.discard_to_zero(offset, length) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    let length = length.min(ZERO_BYTES);
                    access.write(&*vec![0; length as usize], offset)?;
                    Ok(length)
                }
                result => result.map(|()| length),
            }
        })
    }

    /// Writes what the driver has not written yet. There is nothing to be read or written afterwards.
    pub(crate) fn close(&self) -> io::Result<()> {
        match self.access.lock() {
            Ok(mut access) => guarded(|| match access.take() {
                // Dropped here, where a panic is caught.
                Some(access) => access.flush(),
                None => Ok(()),
            }),
            Err(poisoned) => {
                // To drop it would let it write.
                std::mem::forget(poisoned.into_inner().take());
                Err(io::Error::other("the driver had panicked; what it had not written is lost"))
            }
        }
    }

    fn with<T>(&self, request: impl FnOnce(&mut Access) -> io::Result<T>) -> io::Result<T> {
        // The driver takes what is behind the end for zeros, and would write behind a hole.
        self.check_length()?;
        let result = guarded(|| match self.access.lock() {
            Ok(mut access) => match access.as_mut() {
                Some(access) => request(access),
                None => Err(io::Error::other("the image is closed")),
            },
            Err(_) => Err(io::Error::other("the driver panicked before, and is not used again")),
        })?;
        self.check_length()?;
        Ok(result)
    }

    /// An error if the file is shorter than it was.
    fn check_length(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.largest.fetch_max(length, Relaxed) {
            let text = format!("the image now ends at byte {length}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }
}

/// Runs the driver: images are not always what it thinks they can be. A panic is an error here, after its own report.
fn guarded<T>(driver: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(driver)).unwrap_or_else(|_| Err(io::Error::other("the driver panicked")))
}

/// Number of the bit for an external data file in the header's incompatible features.
const EXTERNAL_DATA_FILE: u32 = 2;

/// What an image has that is not supported and that the driver does not refuse, from its header (QEMU,
/// `docs/interop/qcow2.rst`, "Header"). All else is the driver's to judge.
fn unsupported(file: &File) -> io::Result<Option<String>> {
    let field = |offset| -> io::Result<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(u64::from_be_bytes(bytes))
    };
    let version = field(4)? >> 32;
    let backing_name = field(8)?;
    if backing_name != 0 {
        let length = (field(16)? >> 32).min(1023);
        let mut name = vec![0; length as usize];
        file.read_exact_at(&mut name, backing_name)?;
        return Ok(Some(format!("has a backing file, {:?}", String::from_utf8_lossy(&name))));
    }
    if field(32)? >> 32 != 0 {
        return Ok(Some("is encrypted".into()));
    }
    if version >= 3 && field(72)? & (1 << EXTERNAL_DATA_FILE) != 0 {
        return Ok(Some("has an external data file".into()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_that_panics_is_not_used_again() {
        let image = Qcow2Image {
            file: LockedFile::new(tempfile::tempfile().unwrap(), None).unwrap(),
            access: Mutex::new(None),
            largest: AtomicU64::new(0),
            sync: DataSync::default(),
        };
        let said = |result: io::Result<()>| result.unwrap_err().to_string();
        assert_eq!(said(image.read(0, &mut [0; 512])), "the image is closed");
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                let _access = image.access.lock().unwrap();
                panic!("as a driver's bug would");
            }))
            .is_err()
        );
        assert_eq!(said(image.write(0, &[0; 512])), "the driver panicked before, and is not used again");
        assert_eq!(said(image.close()), "the driver had panicked; what it had not written is lost");
        assert_eq!(said(guarded(|| panic!("as a driver's bug would"))), "the driver panicked");
    }
}
