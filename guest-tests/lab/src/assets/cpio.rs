//! A writer of cpio archives in the "newc" format, as the kernel unpacks them into its rootfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

use super::error::{Error, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const TRAILER: &str = "TRAILER!!!";

/// An archive under construction. The same calls give the same bytes: times and owners are 0.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// A regular file, with the directories above it. `path` has no leading slash.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, REGULAR | mode, (0, 0), content)
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device, which no privilege is needed to put into an archive.
    pub(crate) fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE | mode, (major, minor), &[])
    }

    /// A directory, with the directories above it; once, however often it is asked for.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        if self.directories.contains(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.inode = 0;
        self.header(TRAILER, 0, (0, 0), 0);
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| {
            Error::Unusable(format!("{path} is too big for an initramfs: {} bytes", content.len()))
        })?;
        self.inode += 1;
        self.header(path, mode, device, size);
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn header(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), size: u32) {
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        path: String,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    }

    fn read(bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let name_end = at + 110 + field(11) as usize - 1;
            let name = String::from_utf8(bytes[at + 110..name_end].to_vec()).unwrap();
            if name == TRAILER {
                return entries;
            }
            let data = (name_end + 1).next_multiple_of(4);
            let end = data + field(6) as usize;
            let content = bytes[data..end].to_vec();
            entries.push(Entry { path: name, mode: field(1), device: (field(9), field(10)), content });
            at = end.next_multiple_of(4);
        }
    }

    #[test]
    fn entries_come_back_as_they_went_in() {
        let mut archive = Archive::default();
        archive.character_device("dev/console", 0o600, 5, 1).unwrap();
        archive.file("init", 0o755, b"#!/bin/sh\n").unwrap();
        archive.file("a/b/empty", 0o644, b"").unwrap();
        archive.symlink("a/link", "b/empty").unwrap();
        archive.directory("a/b").unwrap();
        let entries = read(&archive.finish().unwrap());
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["dev", "dev/console", "init", "a", "a/b", "a/b/empty", "a/link"]);
        assert_eq!(entries[1].mode, CHARACTER_DEVICE | 0o600);
        assert_eq!(entries[1].device, (5, 1));
        assert_eq!(entries[2].content, b"#!/bin/sh\n");
        assert_eq!(entries[6].mode & 0o170_000, SYMLINK);
        assert_eq!(entries[6].content, b"b/empty");
    }

    #[test]
    fn the_archive_ends_on_a_multiple_of_four_after_odd_names_and_sizes() {
        for length in 1..9 {
            let mut archive = Archive::default();
            archive.file(&"n".repeat(length), 0o644, &vec![7; length]).unwrap();
            let bytes = archive.finish().unwrap();
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(read(&bytes)[0].content.len(), length);
        }
    }
}
