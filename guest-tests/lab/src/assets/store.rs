//! The cache: versioned directories that are complete or not there.
//!
//! ```text
//! $XDG_CACHE_HOME/sdmorph/
//!   lock                        held while something is looked up or made
//!   apt/SUITE/                  lists and configuration of the private apt
//!   assets/KEY/VERSION/         the files, and manifest.json
//!   assets/KEY/current          symlink to the version in use
//!   own-modules/RELEASE-HASH/   the decompressed modules of a kernel of the user's own, and the lab's for it
//!   own-images/RELEASE-HASH/    its image
//!   builds/SOURCE_VERSION_HASH/ where kernels are built (`build`)
//!   builds/tree-HASH/           lock and objects of a kernel tree of the user's own
//! ```
//!
//! A version is filled in a temporary directory beside it and renamed when its manifest is
//! written, so that a reader never sees half of it, whenever the maker was interrupted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::progress::Progress;
use crate::interrupt;

const MANIFEST: &str = "manifest.json";
const SCRATCH_PREFIX: &str = ".making-";
/// In a directory that is one lab's at a time.
const LOCK: &str = "lock";
/// Between two tries to get a lock.
const LOCK_POLL: Duration = Duration::from_millis(200);
/// Raised when the content of an asset changes its meaning, so that old caches are made anew.
const FORMAT: u32 = 1;

/// A package of the archive as it was unpacked into an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    /// Debian's name of the package.
    pub(crate) package: String,
    /// Its version.
    pub(crate) version: String,
    /// SHA-256 of the .deb file, in hexadecimal.
    pub(crate) sha256: String,
    /// Name of the .deb file.
    pub(crate) file: String,
}

/// One file of an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileRecord {
    /// Path below the asset's directory.
    pub(crate) path: String,
    /// Size in bytes.
    pub(crate) size_bytes: u64,
    /// SHA-256 in hexadecimal; absent in bulky assets, whose sizes alone are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
}

/// What an asset consists of: `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    /// Name of the asset, e.g. `kernel-6.1`.
    pub(crate) key: String,
    /// Its version; the directory's name.
    pub(crate) version: String,
    /// Packages it was made from.
    pub(crate) packages: Vec<Package>,
    /// Facts that the maker wants back: a release, the load order of modules.
    pub(crate) facts: BTreeMap<String, Vec<String>>,
    /// Every regular file.
    pub(crate) files: Vec<FileRecord>,
}

/// How much of an asset is checked each time it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// Size and SHA-256 of every file.
    Hash,
    /// Sizes only: for thousands of files.
    Size,
}

/// A complete asset in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Asset {
    /// Where its files are.
    pub(crate) dir: PathBuf,
    /// What it consists of.
    pub(crate) manifest: Manifest,
}

impl Asset {
    /// The single value of a fact.
    pub(crate) fn fact(&self, name: &str) -> Result<&str> {
        self.facts(name).first().map(String::as_str).ok_or_else(|| {
            Error::Unusable(format!(
                "{}: {MANIFEST} has no `{name}`; remove the directory",
                self.dir.display()
            ))
        })
    }

    /// All values of a fact.
    pub(crate) fn facts(&self, name: &str) -> &[String] {
        self.manifest.facts.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What the maker of an asset knows about it beforehand.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) integrity: Integrity,
}

/// What the maker of an asset learned while making it.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) packages: Vec<Package>,
    pub(crate) facts: BTreeMap<String, Vec<String>>,
}

/// The cache directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The user's cache: `$XDG_CACHE_HOME/sdmorph`, or `~/.cache/sdmorph`.
    ///
    /// # Errors
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set, or the directory cannot be created.
    pub fn open() -> Result<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let base = base.ok_or_else(|| {
            Error::Unusable(
                "neither XDG_CACHE_HOME nor HOME is an absolute path: no place for the cache".into(),
            )
        })?;
        Self::at(&base.join("sdmorph"))
    }

    /// A cache in `root`.
    ///
    /// # Errors
    /// The directory cannot be created, or its path is not UTF-8.
    pub fn at(root: &Path) -> Result<Self> {
        if root.to_str().is_none() {
            return Err(Error::Unusable(format!("{}: the path of the cache is not UTF-8", root.display())));
        }
        create_dir(root)?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// Where the cache is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits until no other process uses the cache, and keeps others out until the lock is dropped.
    ///
    /// # Errors
    /// The lock file cannot be created or locked.
    pub fn lock(&self, progress: Progress) -> Result<StoreLock> {
        let file = lock_file(&self.root.join(LOCK), progress)?;
        self.remove_leftovers();
        Ok(StoreLock { _file: file })
    }

    /// Removes what a killed process left half made: with the lock held, nobody is making anything.
    fn remove_leftovers(&self) {
        let keys =
            fs::read_dir(self.root.join("assets")).into_iter().flatten().flatten().map(|key| key.path());
        for parent in keys.chain([self.root.clone()]) {
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
                    // What cannot be removed only takes space.
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }

    /// The version of an asset in use, if there is one and it is undamaged.
    ///
    /// Damage is said, and the asset treated as absent: it is made again.
    pub(crate) fn current(&self, key: &str, progress: Progress) -> Option<Asset> {
        let link = self.root.join("assets").join(key).join("current");
        let version = fs::read_link(&link).ok()?;
        self.version(key, version.to_str()?, progress)
    }

    /// A given version of an asset, if it is there and undamaged.
    pub(crate) fn version(&self, key: &str, version: &str, progress: Progress) -> Option<Asset> {
        let dir = self.root.join("assets").join(key).join(version);
        if !dir.exists() {
            return None;
        }
        match read_manifest(&dir, key, version).and_then(|manifest| {
            verify(&dir, &manifest)?;
            Ok(manifest)
        }) {
            Ok(manifest) => Some(Asset { dir, manifest }),
            Err(damage) => {
                progress.say(&format!("cache damaged: {damage}; making {key} {version} again"));
                None
            }
        }
    }

    /// Makes an asset: `fill` puts its files into an empty directory. The result is the version in use.
    pub(crate) fn make(&self, recipe: Recipe, fill: impl FnOnce(&Path) -> Result<Made>) -> Result<Asset> {
        let Recipe { key, version, integrity } = recipe;
        let parent = self.root.join("assets").join(&key);
        create_dir(&parent)?;
        let scratch = self.scratch(&parent)?;
        let made = fill(scratch.path())?;

        let mut files = Vec::new();
        record_files(scratch.path(), scratch.path(), integrity, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest {
            format: FORMAT,
            key: key.clone(),
            version: version.clone(),
            packages: made.packages,
            facts: made.facts,
            files,
        };
        let path = scratch.path().join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Error::Unusable(format!("{}: {error}", path.display())))?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;

        let dir = parent.join(&version);
        // Another lab may have made the same meanwhile, and be at work with it.
        let is_there = |there: &Asset| there.manifest == manifest;
        if self.version(&key, &version, Progress::Silent).as_ref().is_none_or(|there| !is_there(there)) {
            if dir.exists() {
                fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
            }
            let filled = scratch.keep();
            fs::rename(&filled, &dir).map_err(Error::io("rename", &filled))?;
        }
        self.select(&key, &version)?;
        Ok(Asset { dir, manifest })
    }

    /// Makes a version that is already there the one in use.
    pub(crate) fn select(&self, key: &str, version: &str) -> Result<()> {
        let parent = self.root.join("assets").join(key);
        let fresh = parent.join(".current");
        let _ = fs::remove_file(&fresh);
        symlink(version, &fresh).map_err(Error::io("create", &fresh))?;
        let link = parent.join("current");
        fs::rename(&fresh, &link).map_err(Error::io("rename", &fresh))
    }

    /// A temporary directory on the cache's file system, removed when dropped.
    pub(crate) fn scratch(&self, parent: &Path) -> Result<tempfile::TempDir> {
        create_dir(parent)?;
        tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(parent)
            .map_err(Error::io("create a directory in", parent))
    }
}

/// Keeps other processes out of the cache while it lives.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// Waits until no other process holds a directory, which is made if it is not there, and holds it until the result, and all
/// copies of its descriptor, are closed. It may be removed by whoever holds it.
pub(crate) fn lock_dir(dir: &Path, progress: Progress) -> Result<File> {
    let path = dir.join(LOCK);
    loop {
        match create_dir(dir).and_then(|()| lock_file(&path, progress)) {
            Ok(file) if is_at(&file, &path) => return Ok(file),
            Err(error) if !was_removed(dir, &error) => return Err(error),
            _ => {}
        }
    }
}

/// Whether a directory's lock could not be opened because somebody removed the directory after it was found or made.
fn was_removed(dir: &Path, error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    // `create_dir_all` says that it exists if it is gone when that looks what it is. A file in its place stays one.
    let gone = matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
    gone && fs::symlink_metadata(dir).map_or(true, |found| found.is_dir())
}

/// Removes a directory that nobody holds; one that is held stays. `aside` is where it is put meanwhile, on the same file
/// system: whoever waits for its lock makes it anew.
pub(crate) fn remove_unless_held(dir: &Path, aside: &Path) {
    // What cannot be removed only takes space.
    let Ok(file) = File::options().write(true).create(true).truncate(false).open(dir.join(LOCK)) else {
        return;
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::rename(dir, aside).is_ok() {
        let _ = fs::remove_dir_all(aside);
    }
}

/// Whether an open file is the one that is found by a path.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(found)) => place(open) == place(found),
        _ => false,
    }
}

/// For a program that is to hold a lock as long as it runs, too: its standard input.
pub(crate) fn held_by(lock: &File) -> Result<Stdio> {
    Ok(Stdio::from(lock.try_clone().map_err(Error::io("share", Path::new("a lock")))?))
}

/// Waits until no other process holds a file, and holds it until the result, and all copies of its descriptor, are closed.
pub(crate) fn lock_file(path: &Path, progress: Progress) -> Result<File> {
    // To be read, too: it may become a program's standard input.
    let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = open.map_err(Error::io("create", path))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress.say(&format!("waiting for another sdmorph that holds {}", path.display()));
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // Asked for again and again, so that Ctrl-C is noticed.
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_POLL),
                Err(errno) => return Err(Error::io("lock", path)(errno.into())),
            }
            if interrupt::interrupted() {
                return Err(Error::Interrupted(format!("waiting for {}", path.display())));
            }
        }
    }
    Ok(file)
}

/// `mkdir -p`.
pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_manifest(dir: &Path, key: &str, version: &str) -> std::result::Result<Manifest, String> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if (manifest.format, manifest.key.as_str(), manifest.version.as_str()) != (FORMAT, key, version) {
        return Err(format!("{} is of another asset or sdmorph", path.display()));
    }
    Ok(manifest)
}

fn verify(dir: &Path, manifest: &Manifest) -> std::result::Result<(), String> {
    for record in &manifest.files {
        let path = dir.join(&record.path);
        let size_bytes =
            fs::symlink_metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        if size_bytes != record.size_bytes {
            return Err(format!(
                "{} has {size_bytes} bytes instead of {}",
                path.display(),
                record.size_bytes
            ));
        }
        if let Some(expected) = &record.sha256 {
            let actual = sha256_file(&path).map_err(|error| error.to_string())?;
            if actual != *expected {
                return Err(format!("{} has SHA-256 {actual} instead of {expected}", path.display()));
            }
        }
    }
    Ok(())
}

fn record_files(root: &Path, dir: &Path, integrity: Integrity, files: &mut Vec<FileRecord>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
        if metadata.is_dir() {
            record_files(root, &path, integrity, files)?;
        } else if metadata.is_file() {
            let below = path.strip_prefix(root).unwrap_or(&path);
            let sha256 = match integrity {
                Integrity::Hash => Some(sha256_file(&path)?),
                Integrity::Size => None,
            };
            files.push(FileRecord {
                path: below.to_string_lossy().into_owned(),
                size_bytes: metadata.len(),
                sha256,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        (dir, store)
    }

    fn make(store: &Store, version: &str, content: &str) -> Asset {
        let recipe = Recipe { key: "thing".into(), version: version.into(), integrity: Integrity::Hash };
        store
            .make(recipe, |dir| {
                fs::create_dir(dir.join("sub")).unwrap();
                fs::write(dir.join("sub/file"), content).unwrap();
                Ok(Made::default())
            })
            .unwrap()
    }

    #[test]
    fn an_asset_is_found_again_after_it_was_made() {
        let (_dir, store) = store();
        assert!(store.current("thing", Progress::Silent).is_none());
        make(&store, "1", "one");
        make(&store, "2", "two");
        let asset = store.current("thing", Progress::Silent).unwrap();
        assert_eq!(asset.manifest.version, "2");
        assert_eq!(fs::read_to_string(asset.dir.join("sub/file")).unwrap(), "two");
        assert!(store.version("thing", "1", Progress::Silent).is_some());
    }

    #[test]
    fn a_directory_is_locked_also_if_it_is_removed_again_and_again() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, aside) = (parent.path().join("tree"), parent.path().join("aside"));
        let done = std::sync::atomic::AtomicBool::new(false);
        let failed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    if fs::rename(&dir, &aside).is_ok() {
                        fs::remove_dir_all(&aside).unwrap();
                    }
                }
            });
            let failed = (0..5000).find_map(|_| lock_dir(&dir, Progress::Silent).err());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            failed
        });
        assert!(failed.is_none(), "{failed:?}");
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("tree");
        fs::write(&file, "").unwrap();
        assert!(matches!(lock_dir(&file, Progress::Silent), Err(Error::Io { .. })));
    }

    #[test]
    fn a_changed_file_makes_the_asset_absent() {
        let (_dir, store) = store();
        let asset = make(&store, "1", "one");
        fs::write(asset.dir.join("sub/file"), "eno").unwrap();
        assert!(store.current("thing", Progress::Silent).is_none());
        assert_eq!(make(&store, "1", "one").manifest, asset.manifest);
        assert!(store.current("thing", Progress::Silent).is_some());
    }

    #[test]
    fn what_is_made_again_and_comes_out_the_same_is_not_replaced() {
        let (_dir, store) = store();
        let inode = |asset: &Asset| fs::metadata(asset.dir.join("sub/file")).unwrap().ino();
        // Kept open, so that nothing else gets its number.
        let first = make(&store, "1", "one");
        let _open = File::open(first.dir.join("sub/file")).unwrap();
        let before = inode(&first);
        assert_eq!(inode(&make(&store, "1", "one")), before);
        let other = make(&store, "1", "two");
        assert_ne!(inode(&other), before);
        assert_eq!(fs::read_to_string(other.dir.join("sub/file")).unwrap(), "two");
        fs::write(other.dir.join("sub/file"), "owt").unwrap();
        let mended = make(&store, "1", "two");
        assert_eq!(fs::read_to_string(mended.dir.join("sub/file")).unwrap(), "two");
        assert_eq!(fs::read_dir(store.root().join("assets/thing")).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_that_is_held_is_not_removed_and_one_that_was_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let (dir, aside) = (root.path().join("tree"), root.path().join("aside"));
        let held = lock_dir(&dir, Progress::Silent).unwrap();
        fs::write(dir.join("object"), "x").unwrap();
        remove_unless_held(&dir, &aside);
        assert!(dir.join("object").exists());
        // Whoever has the file open when the directory goes, and gets the lock then, has the lock of nothing.
        // Closing it is not enough: another test's process may have a copy until it is another program.
        flock(&held, FlockOperation::Unlock).unwrap();
        let waiting = File::open(dir.join(LOCK)).unwrap();
        remove_unless_held(&dir, &aside);
        assert!(!dir.exists() && !aside.exists() && !is_at(&waiting, &dir.join(LOCK)));
        let held = lock_dir(&dir, Progress::Silent).unwrap();
        assert!(is_at(&held, &dir.join(LOCK)) && !is_at(&waiting, &dir.join(LOCK)));
    }

    #[test]
    fn damage_is_named_with_the_file() {
        let (_dir, store) = store();
        let asset = make(&store, "1", "one");
        fs::write(asset.dir.join("sub/file"), "longer").unwrap();
        let damage = verify(&asset.dir, &asset.manifest).unwrap_err();
        assert!(damage.contains("sub/file has 6 bytes instead of 3"), "{damage}");
        fs::remove_file(asset.dir.join("sub/file")).unwrap();
        assert!(verify(&asset.dir, &asset.manifest).unwrap_err().contains("sub/file"));
    }

    #[test]
    fn a_failed_fill_leaves_nothing_behind() {
        let (_dir, store) = store();
        let recipe = Recipe { key: "thing".into(), version: "1".into(), integrity: Integrity::Hash };
        let result = store.make(recipe, |dir| {
            fs::write(dir.join("half"), "h").unwrap();
            Err(Error::Unusable("interrupted".into()))
        });
        assert!(result.is_err());
        assert_eq!(fs::read_dir(store.root().join("assets/thing")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_under_the_lock() {
        let (_dir, store) = store();
        let asset = make(&store, "1", "one");
        let half = asset.dir.with_file_name(".making-abc");
        fs::create_dir(&half).unwrap();
        drop(store.lock(Progress::Silent).unwrap());
        assert!(!half.exists());
        assert!(asset.dir.exists());
    }

    #[test]
    fn sha256_of_abc_is_the_one_of_fips_180() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
