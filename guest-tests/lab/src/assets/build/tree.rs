//! Where kernels are built: a root that stays, with the source in it and the objects of every configuration.
//!
//! ```text
//! builds/SOURCE_VERSION_HASH/    of one version of the source, and one of the compiler (HASH)
//!   lock                         held while it is used, by make, patch(1) and tar, too
//!   root/                        compiler and tools, as links into the cache
//!   root/source/                 the source, with the patches of the kernel that was built last
//!   root/objects/CONFIG/         objects of one configuration; `.making` is there while make runs
//!   root/build/                  for whoever uses the root: patches, guest modules
//!   pristine/, touched           what the patched files of the source were (`patched`)
//! ```
//!
//! Nothing else depends on any of it: what is removed is made again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::Wanted;
use super::kbuild::{Counts, MARKED, Make, forget_future, jobs, mend};
use super::patched::Patched;
use crate::assets::error::{Error, Result};
use crate::assets::kernels::{Plan, Text};
use crate::assets::progress::Progress;
use crate::assets::store::{Asset, Store, create_dir, held_by, lock_dir, remove_unless_held, sha256_hex};
use crate::assets::toolchain::{command_inside, complete_root, empty_dir, link_tree};

/// Free space without which nothing is begun: what the source takes, and its objects.
const UNPACKED_BYTES: u64 = 1_700_000_000;
const OBJECTS_BYTES: u64 = 400_000_000;
/// Inside the root.
const SOURCE: &str = "source";
const BUILD: &str = "build";
const OBJECTS: &str = "objects";
/// In the directory of a configuration's objects.
const MARKER: &str = ".making";
const CONFIGURED: &str = ".configured";
/// What the name of a tree that is being removed has after the package's.
const OLD: &str = "old-";

/// One such directory, locked.
pub(super) struct BuildTree {
    dir: PathBuf,
    lock: File,
    progress: Progress,
}

impl BuildTree {
    /// Finds or makes the directory for a version of the source, and of the tools.
    pub(super) fn open(
        source: &Asset,
        package: &str,
        tools: &Asset,
        store: &Store,
        progress: Progress,
    ) -> Result<Self> {
        let builds = store.root().join("builds");
        let hash: String = tools.manifest.version.chars().take(8).collect();
        let name = format!("{package}_{}_{hash}", source.manifest.version);
        let dir = builds.join(&name);
        let lock = lock_dir(&dir, progress)?;
        remove_older(&builds, package, &name);
        let tree = Self { dir, lock, progress };
        tree.forget_future()?;
        let root = tree.root();
        if !root.join(SOURCE).is_dir() {
            tree.lay_out(source, package, tools)?;
        }
        Ok(tree)
    }

    /// Before a file of the source is replaced, for all configurations: what is changed for one of them is newer than what
    /// has been built of the others.
    fn forget_future(&self) -> Result<()> {
        for entry in fs::read_dir(self.inside(OBJECTS)).into_iter().flatten().flatten() {
            forget_future(&entry.path(), self.progress)?;
        }
        Ok(())
    }

    /// The source is renamed into its place last: where it is, all is.
    fn lay_out(&self, source: &Asset, package: &str, tools: &Asset) -> Result<()> {
        let root = self.root();
        empty_dir(&root)?;
        self.check_space(UNPACKED_BYTES + OBJECTS_BYTES, "the source of a kernel")?;
        let step = self.progress.step(&format!("unpacking {package}"), None);
        link_tree(&tools.dir, &root)?;
        complete_root(&root)?;
        for kept in ["pristine", "touched"] {
            let path = self.dir.join(kept);
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        let work = self.work()?;
        let archive = archive(package);
        fs::hard_link(source.dir.join(&archive), work.join(&archive))
            .map_err(Error::io("link", &work.join(&archive)))?;
        let mut tar = self.command("tar")?;
        tar.args(["--extract", "--strip-components=1", "--no-same-owner", "--no-same-permissions", "--file"]);
        tar.arg(format!("/{BUILD}/{archive}")).arg("--directory").arg(format!("/{BUILD}/unpacked"));
        create_dir(&work.join("unpacked"))?;
        crate::assets::toolchain::run(&mut tar, &format!("the tree of {package}"))?;
        let unpacked = work.join("unpacked");
        fs::rename(&unpacked, root.join(SOURCE)).map_err(Error::io("rename", &unpacked))?;
        step.finish();
        Ok(())
    }

    /// Puts the kernel's patches into the source and configures it. Returns where its objects are, inside the root.
    pub(super) fn prepare(&self, plan: &Plan) -> Result<String> {
        let work = self.work()?;
        let source = self.root().join(SOURCE);
        let (pristine, touched) = (self.dir.join("pristine"), self.dir.join("touched"));
        Patched { source: &source, pristine: &pristine, touched: &touched }.apply(
            &plan.patches,
            &plan.name,
            &work,
            &Path::new("/").join(BUILD),
            || self.command("patch"),
        )?;
        self.configure(plan)
    }

    /// Objects of different configurations do not meet.
    fn configure(&self, plan: &Plan) -> Result<String> {
        let wanted = Wanted::merge(&plan.configs)?;
        let text = wanted.text();
        let hash: String = sha256_hex(text.as_bytes()).chars().take(12).collect();
        let inside = format!("/{OBJECTS}/{hash}");
        let objects = self.inside(&inside);
        create_dir(&objects)?;
        mend(&objects, &objects.join(MARKER))?;
        // A patch can change what options there are.
        let kconfig: String =
            plan.patches.iter().filter(|patch| changes_kconfig(patch)).map(|p| &*p.text).collect();
        let state = sha256_hex(format!("{text}\0{kconfig}").as_bytes());
        let (config, configured) = (objects.join(".config"), objects.join(CONFIGURED));
        if config.is_file() && fs::read_to_string(&configured).is_ok_and(|made| made == state) {
            return Ok(inside);
        }
        let _ = fs::remove_file(&configured);
        let what = format!("configuring {}", plan.name);
        let step = self.progress.step(&what, None);
        self.make(plan, &inside, &what, &["tinyconfig"], Counts::Nothing)?;
        let mut tiny = fs::read_to_string(&config).map_err(Error::io("read", &config))?;
        tiny.push_str(&text);
        fs::write(&config, tiny).map_err(Error::io("write", &config))?;
        self.make(plan, &inside, &what, &["olddefconfig"], Counts::Nothing)?;
        let made = fs::read_to_string(&config).map_err(Error::io("read", &config))?;
        let problems = wanted.missing_in(&made);
        if !problems.is_empty() {
            return Err(Error::Kernel { kernel: plan.name.clone(), problems });
        }
        fs::write(&configured, state).map_err(Error::io("write", &configured))?;
        step.finish();
        Ok(inside)
    }

    /// Builds image and modules; what has been built and is still right stays.
    pub(super) fn build(&self, plan: &Plan, objects: &str) -> Result<()> {
        let fresh = !self.inside(objects).join("vmlinux").exists();
        let files = Counts::Files { about: fresh.then_some(plan.source.files) };
        if fresh {
            self.check_space(OBJECTS_BYTES, &plan.name)?;
        }
        self.make(plan, objects, &format!("building {}", plan.name), &["bzImage", "modules"], files)
    }

    /// Makes the tree one that modules can be built against: `symvers` is what the kernel exports.
    pub(super) fn prepare_for_modules(&self, plan: &Plan, objects: &str, symvers: &Path) -> Result<()> {
        let what = format!("preparing the tree of {}", plan.name);
        let step = self.progress.step(&what, None);
        self.make(plan, objects, &what, &["modules_prepare"], Counts::Nothing)?;
        step.finish();
        let objects = self.inside(objects);
        let (target, command) = (objects.join("Module.symvers"), objects.join(".Module.symvers.cmd"));
        let exported = fs::read(symvers).map_err(Error::io("read", symvers))?;
        if fs::read(&target).is_ok_and(|is| is == exported) {
            return Ok(());
        }
        // The next build of a kernel is to make its own again.
        let _ = fs::remove_file(command);
        fs::write(&target, exported).map_err(Error::io("write", &target))
    }

    fn make(&self, plan: &Plan, objects: &str, what: &str, goals: &[&str], counts: Counts) -> Result<()> {
        let mut command = self.command("sh")?;
        command.arg("-c").arg(MARKED).arg(format!("{objects}/{MARKER}"));
        command.args(["make", "-C", "/source", &format!("O={objects}"), &jobs()]).args(goals);
        // The kernel says what it is; and the same is built whenever, wherever and by whomever.
        command.env("KBUILD_BUILD_VERSION", &plan.name).env("KBUILD_BUILD_USER", "sdmorph");
        command.env("KBUILD_BUILD_HOST", "lab").env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970");
        let (kernel, lock, progress) = (&plan.name, Some(&self.lock), self.progress);
        Make { what, kernel, counts, lock, place: &self.dir, progress }.run(command)
    }

    /// Holds the lock as long as it runs: this process may be killed, and it may not.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = command_inside(&self.root(), program)?;
        command.stdin(held_by(&self.lock)?);
        Ok(command)
    }

    /// The root.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// A path inside the root, as the host sees it.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// The lock, which keeps the directory for whoever has it.
    pub(super) fn into_lock(self) -> File {
        self.lock
    }

    fn work(&self) -> Result<PathBuf> {
        let work = self.root().join(BUILD);
        empty_dir(&work)?;
        Ok(work)
    }

    fn check_space(&self, needed: u64, what: &str) -> Result<()> {
        let Ok(space) = rustix::fs::statvfs(&self.dir) else { return Ok(()) };
        let left = space.f_bavail.saturating_mul(space.f_frsize);
        if left >= needed {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        let said = format!("{} MiB are left, about {} MiB are needed", mib(left), mib(needed));
        Err(Error::DiskFull { what: what.to_owned(), path: self.dir.clone(), said })
    }
}

/// The source, as its package has it.
pub(super) fn archive(package: &str) -> String {
    format!("{package}.tar.xz")
}

fn changes_kconfig(patch: &Text) -> bool {
    patch.text.lines().any(|line| line.starts_with("+++ ") && line.contains("/Kconfig"))
}

/// Removes the trees of other versions of the source, or of the tools: nobody will use them again, unless somebody does.
fn remove_older(builds: &Path, package: &str, name: &str) {
    let prefix = format!("{package}_");
    for entry in fs::read_dir(builds).into_iter().flatten().flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        if other.starts_with(&prefix) && other != name {
            // If it cannot be removed whole, the next one goes on, by this name.
            remove_unless_held(&entry.path(), &builds.join(format!("{prefix}{OLD}{other}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_other_versions_of_the_same_source_go() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["linux-source-6.1_1_a", "linux-source-6.1_2_a", "linux-source-6.12_1_a", "tree-0123"];
        for name in names {
            fs::create_dir_all(dir.path().join(name).join("root")).unwrap();
        }
        let used = dir.path().join("linux-source-6.1_0_a");
        let held = lock_dir(&used, Progress::Silent).unwrap();
        let clean = || remove_older(dir.path(), "linux-source-6.1", "linux-source-6.1_2_a");
        clean();
        let there = names.map(|name| dir.path().join(name).exists());
        assert_eq!(there, [false, true, true, true]);
        assert!(used.exists(), "another lab is at work in it");
        // Closing it is not enough: another test's process may have a copy until it is another program.
        rustix::fs::flock(&held, rustix::fs::FlockOperation::Unlock).unwrap();
        clean();
        assert!(!used.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn objects_of_before_the_clock_was_set_back_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_dir(dir.path(), Progress::Silent).unwrap();
        let tree = BuildTree { dir: dir.path().to_owned(), lock, progress: Progress::Silent };
        tree.forget_future().unwrap();
        let object = |config: &str| tree.inside(&format!("/{OBJECTS}/{config}/lib/a.o"));
        for config in ["one", "two"] {
            fs::create_dir_all(object(config).parent().unwrap()).unwrap();
            fs::write(object(config), "").unwrap();
        }
        tree.forget_future().unwrap();
        assert!(object("one").exists() && object("two").exists());
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        File::options().write(true).open(object("one")).unwrap().set_modified(later).unwrap();
        tree.forget_future().unwrap();
        assert!(!tree.inside("/objects/one").exists() && object("two").exists());
    }

    #[test]
    fn only_a_patch_of_a_kconfig_file_can_change_what_options_there_are() {
        let text = |text: &str| Text { name: "x".into(), text: text.into() };
        assert!(changes_kconfig(&text(
            "--- a/drivers/pci/Kconfig\n+++ b/drivers/pci/Kconfig\n@@ -1 +1 @@\n"
        )));
        assert!(!changes_kconfig(&text(
            "--- a/drivers/pci/pci.c\n+++ b/drivers/pci/pci.c\n+ see /Kconfig\n"
        )));
    }
}
