//! What a campaign has begun with is what all of its runs are made with: a kernel or an `sdmorph` that is built anew
//! meanwhile is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::assets::{self, Kernel, sha256_file};
use crate::failure::Failure;

/// The files that a kernel boots with, by name: the SHA-256 of image and modules.
#[derive(Debug)]
pub(crate) struct BootFiles {
    image: (String, String),
    modules: BTreeMap<String, String>,
}

impl BootFiles {
    pub(crate) fn of(kernel: &Kernel) -> assets::Result<Self> {
        let hashed = |path: &Path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            Ok((name.unwrap_or_default(), sha256_file(path)?))
        };
        let modules = kernel.modules.iter().map(|path| hashed(path));
        Ok(Self { image: hashed(&kernel.image)?, modules: modules.collect::<assets::Result<_>>()? })
    }

    /// The image's SHA-256, in hexadecimal.
    pub(crate) fn image(&self) -> &str {
        &self.image.1
    }

    /// The first file that is another one in `later`. A module that only one of them has is one that only some scenarios
    /// want.
    pub(crate) fn changed<'a>(&self, later: &'a Self) -> Option<&'a str> {
        if self.image != later.image {
            return Some(&later.image.0);
        }
        let mut modules = later.modules.iter();
        let is_other =
            |(name, hash): &(&String, &String)| self.modules.get(*name).is_some_and(|first| first != *hash);
        modules.find(is_other).map(|(name, _)| name.as_str())
    }
}

/// A program as it was when it was looked at first.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    stamp: Stamp,
}

/// Device and inode, size, and when it was written: in seconds and nanoseconds.
type Stamp = ((u64, u64), u64, (i64, i64));

impl Program {
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let stamp = stamp(path).map_err(Failure::file("read", path))?;
        Ok(Self { path: path.to_owned(), stamp })
    }

    /// That it is still the same. The error says what has become of it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        match stamp(&self.path) {
            Ok(now) if now == self.stamp => Ok(()),
            Ok(_) => Err(format!(
                "{path} was built anew or replaced since the campaign began: the same command makes all runs with it"
            )),
            Err(error) => Err(format!("{path} is not there any more: {error}")),
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let about = fs::metadata(path)?;
    Ok(((about.dev(), about.ino()), about.size(), (about.mtime(), about.mtime_nsec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(dir: &Path, files: &[(&str, &str)]) -> BootFiles {
        let mut paths = files.iter().map(|(name, text)| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        });
        let image = paths.next().unwrap();
        let modules = paths.collect();
        BootFiles::of(&Kernel { release: "6.9.0".into(), image, config: None, modules }).unwrap()
    }

    #[test]
    fn a_kernel_that_boots_with_another_file_than_before_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let of = |files: &[(&str, &str)]| kernel(dir.path(), files);
        let first = of(&[("bzImage", "one"), ("vmd.ko", "v"), ("nvme.ko", "n")]);
        // One scenario wants fewer modules, and another one wants more.
        assert_eq!(first.changed(&of(&[("bzImage", "one"), ("vmd.ko", "v")])), None);
        assert_eq!(first.changed(&of(&[("bzImage", "one"), ("ext4.ko", "e"), ("vmd.ko", "v")])), None);
        assert_eq!(first.changed(&of(&[("bzImage", "two"), ("vmd.ko", "v")])), Some("bzImage"));
        assert_eq!(first.changed(&of(&[("bzImage", "one"), ("nvme.ko", "m")])), Some("nvme.ko"));
        assert_eq!(first.image(), sha256_file(&write(dir.path(), "one")).unwrap());
    }

    fn write(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("x");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_program_that_is_replaced_is_named_and_one_that_is_linked_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "one");
        let program = Program::at(&path).unwrap();
        fs::hard_link(&path, dir.path().join("kept")).unwrap();
        assert_eq!(program.check(), Ok(()));
        // As cargo does it: the same size, and perhaps the same tick of the clock.
        fs::remove_file(&path).unwrap();
        let said = program.check().unwrap_err();
        assert!(said.starts_with(path.to_str().unwrap()) && said.contains("not there any more"), "{said}");
        write(dir.path(), "two");
        let said = program.check().unwrap_err();
        assert!(said.starts_with(path.to_str().unwrap()) && said.contains("built anew"), "{said}");
    }
}
