//! Kernels that the lab builds: from Debian's source, with a small configuration and patches; and trees of the user's own.
//!
//! What has been built is an asset, known by all that it is built of: the versions of source and compiler, the
//! configuration, the patches. A kernel that differs from the one built before in a few files is built in seconds, as
//! both share a tree (`tree`); see docs/src/decisions/0018-kernels-in-one-tree.md.

mod config;
mod kbuild;
mod own;
mod patched;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub(super) use own::{lock as lock_own_tree, obtain as obtain_own_tree};
use tree::{BuildTree, archive};

use super::Fetcher;
use super::apt::{Suite, merge_usr};
use super::error::{Error, Result};
use super::kernel::Kernel;
use super::kernels::{KernelSource, Plan, Text};
use super::kmod::BUILT_IN;
use super::progress::Progress;
use super::store::{Asset, Integrity, Made, Recipe, Store, create_dir, sha256_hex};
use super::toolchain;

/// Raised when the same plan is built to something else, so that all is built anew.
const FORMAT: u32 = 1;
const RELEASE: &str = "release";
const SYMVERS: &str = "Module.symvers";
/// What is kept of a build, and where it is below the objects.
const FILES: [(&str, &str); 5] = [
    ("bzImage", "arch/x86/boot/bzImage"),
    ("config", ".config"),
    ("System.map", "System.map"),
    (SYMVERS, SYMVERS),
    ("modules/modules.builtin", BUILT_IN),
];

/// A kernel that the lab has built.
pub(super) struct Built {
    plan: Plan,
    asset: Asset,
    source: Asset,
    tools: Asset,
}

impl Built {
    /// Builds a kernel, or finds it in the cache.
    pub(super) fn obtain(plan: Plan, fetcher: &mut Fetcher<'_>) -> Result<Self> {
        let (store, progress) = (fetcher.store, fetcher.progress);
        let source = obtain_source(&plan.source, fetcher)?;
        let tools = toolchain::obtain_for_kernels(plan.source.suite, fetcher)?;
        let version = version(&plan, &source.manifest.version, &tools.manifest.version);
        let key = key(&plan);
        if let Some(asset) = store.version(&key, &version, progress) {
            return Ok(Self { plan, asset, source, tools });
        }
        let built = fetcher.unlocked(|store, progress| {
            let tree = BuildTree::open(&source, &plan.source.package, &tools, store, progress)?;
            // Another lab may have built it while this one waited; it has the tree until it has put it into the cache.
            if let Some(asset) = store.version(&key, &version, progress) {
                return Ok(Err(asset));
            }
            let objects = tree.prepare(&plan)?;
            tree.build(&plan, &objects)?;
            Ok(Ok((tree, objects)))
        })?;
        let (tree, objects) = match built {
            Ok(built) => built,
            Err(asset) => return Ok(Self { plan, asset, source, tools }),
        };
        let asset = store.make(Recipe { key, version, integrity: Integrity::Hash }, |dir| {
            keep(&tree.inside(&objects), dir)
        })?;
        Ok(Self { plan, asset, source, tools })
    }

    /// As it is booted, with the modules that every guest loads, and `extra` ones.
    pub(super) fn kernel(&self, extra: &BTreeSet<String>) -> Result<Kernel> {
        Kernel::of_built(self.asset.fact(RELEASE)?, &self.asset.dir, extra)
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    /// The release of Debian that its source is of, and so what runs in its guests.
    pub(super) fn suite(&self) -> Suite {
        self.plan.source.suite
    }

    /// What it is, as opposed to others of the same name: the version of the source, and a hash of all that went into it.
    pub(super) fn version(&self) -> &str {
        &self.asset.manifest.version
    }

    /// The root that it was built in, its tree inside of that, ready for modules to be built against it, and the lock
    /// that keeps both as they are.
    pub(super) fn tree(&self, fetcher: &mut Fetcher<'_>) -> Result<(PathBuf, String, File)> {
        let Self { plan, source, tools, asset } = self;
        fetcher.unlocked(|store, progress| {
            let tree = BuildTree::open(source, &plan.source.package, tools, store, progress)?;
            let objects = tree.prepare(plan)?;
            tree.prepare_for_modules(plan, &objects, &asset.dir.join(SYMVERS))?;
            Ok((tree.root(), objects, tree.into_lock()))
        })
    }
}

/// Whether a kernel is in the cache, as it would be built now.
pub(super) fn is_cached(plan: &Plan, store: &Store) -> bool {
    let current = |key: &str| store.current(key, Progress::Silent).map(|asset| asset.manifest.version);
    let source = current(&source_key(&plan.source));
    let tools = current(&toolchain::kernels_key(plan.source.suite));
    let (Some(source), Some(tools)) = (source, tools) else { return false };
    store.version(&key(plan), &version(plan, &source, &tools), Progress::Silent).is_some()
}

fn source_key(source: &KernelSource) -> String {
    format!("source-{}", source.name)
}

fn key(plan: &Plan) -> String {
    format!("kernel-{}", plan.name)
}

/// The asset's version: another one whenever anything that the kernel is built of is another.
fn version(plan: &Plan, source: &str, tools: &str) -> String {
    let Plan { name, source: KernelSource { package, .. }, configs, patches } = plan;
    let mut all = format!("{FORMAT}\0{name}\0{package}\0{source}\0{tools}\0");
    for (kind, texts) in [("config", configs), ("patch", patches)] {
        for Text { text, .. } in texts {
            all.push_str(&format!("{kind}\0{}\0", sha256_hex(text.as_bytes())));
        }
    }
    let hash: String = sha256_hex(all.as_bytes()).chars().take(16).collect();
    format!("{source}-{hash}")
}

/// The source's archive, as an asset.
fn obtain_source(source: &KernelSource, fetcher: &mut Fetcher<'_>) -> Result<Asset> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let key = source_key(source);
    match store.current(&key, progress) {
        Some(asset) if !fetcher.refresh => return Ok(asset),
        _ => {}
    }
    let apt = fetcher.apt(source.suite)?;
    let package = &source.package;
    // What it depends on is there to unpack and build it by hand.
    let mut packages = apt.closure(&[package])?;
    packages.retain(|candidate| candidate.name == *package);
    let version = packages
        .first()
        .map(|candidate| candidate.directory_name())
        .ok_or_else(|| Error::Unusable(format!("the archive has no package {package}")))?;
    if let Some(asset) = store.version(&key, &version, progress) {
        store.select(&key, &version)?;
        return Ok(asset);
    }
    store.make(Recipe { key, version, integrity: Integrity::Size }, |dir| {
        let scratch = store.scratch(store.root())?;
        let debs = apt.fetch(&format!("the source {package}"), &packages, &scratch.path().join("debs"))?;
        let root = scratch.path().join("root");
        merge_usr(&root)?;
        for deb in &debs {
            deb.unpack(&root)?;
        }
        let from = root.join("usr/src").join(archive(package));
        fs::rename(&from, dir.join(archive(package))).map_err(Error::io("rename", &from))?;
        Ok(Made { packages: debs.into_iter().map(|deb| deb.package).collect(), ..Made::default() })
    })
}

/// Keeps what matters of a build.
fn keep(objects: &Path, dir: &Path) -> Result<Made> {
    create_dir(&dir.join("modules"))?;
    for (name, path) in FILES {
        let from = objects.join(path);
        fs::copy(&from, dir.join(name)).map_err(Error::io("copy", &from))?;
    }
    let list = objects.join("modules.order");
    let modules = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
    for module in modules.lines() {
        // Listed as `fs/fat/fat.ko` by 6.1, and as `fs/fat/fat.o` from 6.3 on.
        let from = objects.join(Path::new(module).with_extension("ko"));
        let name = from.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
        fs::copy(&from, dir.join("modules").join(name)).map_err(Error::io("copy", &from))?;
    }
    let file = objects.join("include/config/kernel.release");
    let release = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    let mut made = Made::default();
    made.facts.insert(RELEASE.into(), vec![release.trim().to_owned()]);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::kernels::{Kernels, Known, NamedKernel};

    fn plan() -> Plan {
        let named = NamedKernel { name: "6.1-v3".into(), ..NamedKernel::default() };
        let Known::Build(plan) = Kernels::shipped().unwrap().find(&named).unwrap() else { panic!() };
        plan
    }

    #[test]
    fn another_input_is_another_version() {
        let whole = version(&plan(), "6.1.192-2", "abc");
        assert!(whole.starts_with("6.1.192-2-"), "{whole}");
        assert_eq!(version(&plan(), "6.1.192-2", "abc"), whole);
        let mut versions = BTreeSet::from([whole]);
        let mut another = |version: String| assert!(versions.insert(version), "{versions:?}");
        another(version(&plan(), "6.1.193-1", "abc"));
        another(version(&plan(), "6.1.192-2", "abe"));
        let changed = |change: &dyn Fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            version(&plan, "6.1.192-2", "abc")
        };
        another(changed(&|plan| plan.name.push('x')));
        another(changed(&|plan| plan.source.package.push('x')));
        another(changed(&|plan| plan.configs[0].text.push('\n')));
        another(changed(&|plan| plan.configs.clear()));
        another(changed(&|plan| plan.patches[1].text.push('\n')));
        another(changed(&|plan| plan.patches.reverse()));
        another(changed(&|plan| drop(plan.patches.pop())));
        // A text counts for what it is used as.
        another(changed(&|plan| {
            let patch = plan.patches.remove(0);
            plan.configs.push(patch);
        }));
    }

    #[test]
    fn where_a_text_came_from_does_not_matter() {
        let mut renamed = plan();
        renamed.patches[0].name = "elsewhere/none.patch".into();
        assert_eq!(version(&renamed, "1", "a"), version(&plan(), "1", "a"));
    }

    #[test]
    fn what_is_kept_is_image_configuration_and_modules() {
        let objects = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = objects.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (_, path) in FILES {
            write(path, path);
        }
        write("modules.order", "drivers/nvme/host/nvme-core.ko\nfs/fat/fat.o\n");
        write("drivers/nvme/host/nvme-core.ko", "nvme");
        write("fs/fat/fat.ko", "fat");
        write("include/config/kernel.release", "6.1.192-sdmorph\n");
        let kept = tempfile::tempdir().unwrap();
        let made = keep(objects.path(), kept.path()).unwrap();
        assert_eq!(made.facts[RELEASE], ["6.1.192-sdmorph"]);
        let read = |name: &str| fs::read_to_string(kept.path().join(name)).unwrap();
        assert_eq!((read("modules/nvme_core.ko").as_str(), read("modules/fat.ko").as_str()), ("nvme", "fat"));
        assert_eq!(read("config"), ".config");
        fs::remove_file(objects.path().join("System.map")).unwrap();
        let message = keep(objects.path(), kept.path()).unwrap_err().to_string();
        assert!(message.contains("System.map"), "{message}");
    }

    #[test]
    fn a_kernel_of_a_source_that_was_never_fetched_is_not_cached() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_cached(&plan(), &Store::at(dir.path()).unwrap()));
    }
}
