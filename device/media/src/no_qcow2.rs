//! In place of `qcow2` in a build without the feature: there are no such images.

use std::io;
use std::path::Path;

use crate::lock::LockedFile;
use crate::open::{Format, OpenError};

/// A qcow2 image that is open, which there is none of.
#[derive(Debug)]
pub(crate) enum Qcow2Image {}

impl Qcow2Image {
    pub(crate) fn open(path: &Path, _file: LockedFile, _read_only: bool) -> Result<(Self, u64), OpenError> {
        let feature = "takes a program that was built with the feature \"qcow2\"".into();
        Err(OpenError::Unsupported { path: path.into(), format: Format::Qcow2, feature })
    }

    pub(crate) fn read(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn settle(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn discard(&self, _offset: u64, _length: u64) -> io::Result<u64> {
        match *self {}
    }

    pub(crate) fn close(&self) -> io::Result<()> {
        match *self {}
    }
}
