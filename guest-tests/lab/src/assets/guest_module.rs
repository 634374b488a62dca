//! The lab's own kernel modules for the guest, built for its kernel.
//!
//! A stock kernel's module is built with the compiler and the headers of its own suite (`toolchain`); that of a kernel that
//! the lab has built, in the tree of the build (`build`). For a user's own kernel the host's tools build against the user's
//! tree, as the user built the kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Fetcher;
use super::build::Built;
use super::error::{Error, Result};
use super::kernel::{self, Kernel};
use super::kernels::StockKernel;
use super::progress::Progress;
use super::store::{Asset, Integrity, Made, Recipe, Store, create_dir, held_by, sha256_hex};
use super::toolchain::{self, BuildRoot};

/// The module that takes the fix out. A run without the fix gets it, not a scenario.
pub(crate) const UNFIX: &str = "sdmorph_unfix";

/// A module of `guest-tests/modules`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuestModule {
    name: &'static str,
    source: &'static str,
    kbuild: &'static str,
}

const MODULES: [GuestModule; 2] = [
    GuestModule {
        name: UNFIX,
        source: include_str!("../../../modules/sdmorph_unfix/sdmorph_unfix.c"),
        kbuild: include_str!("../../../modules/sdmorph_unfix/Kbuild"),
    },
    GuestModule {
        name: "sdmorph_race",
        source: include_str!("../../../modules/sdmorph_race/sdmorph_race.c"),
        kbuild: include_str!("../../../modules/sdmorph_race/Kbuild"),
    },
];

impl GuestModule {
    /// Its name, without `.ko`.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// All that it is built of.
    pub(crate) fn contents(&self) -> String {
        format!("{}\0{}", self.source, self.kbuild)
    }
}

/// The names of those that a scenario may ask for.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    MODULES.iter().map(|module| module.name).filter(|name| *name != UNFIX)
}

/// The module of that name.
pub(crate) fn find(name: &str) -> Result<GuestModule> {
    let module = MODULES.iter().find(|module| module.name == name);
    module
        .copied()
        .ok_or_else(|| Error::Unusable(format!("the lab has no kernel module {name} for the guest")))
}

/// Builds a module for a stock kernel, or takes it from the cache.
pub(super) fn obtain_stock(
    module: GuestModule,
    stock: &StockKernel,
    kernel: &Kernel,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    let root = |fetcher: &mut Fetcher<'_>| BuildRoot::prepare(stock, &kernel.release, fetcher);
    obtain_in(module, root, "debian", kernel, fetcher)
}

/// Builds a module for a kernel that the lab has built, or takes it from the cache.
pub(super) fn obtain_built(
    module: GuestModule,
    built: &Built,
    kernel: &Kernel,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    obtain_in(module, |fetcher| BuildRoot::of_built(built, fetcher), built.version(), kernel, fetcher)
}

fn obtain_in(
    module: GuestModule,
    root: impl FnOnce(&mut Fetcher<'_>) -> Result<BuildRoot>,
    origin: &str,
    kernel: &Kernel,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    kernel.check_own_modules()?;
    let (name, recipe) = (module.name, recipe(module, &kernel.release, origin));
    let (store, progress) = (fetcher.store, fetcher.progress);
    if let Some(asset) = store.version(&recipe.key, &recipe.version, progress) {
        return Ok(module_path(module, &asset));
    }
    let root = root(fetcher)?;
    let asset = store.make(recipe, |dir| {
        let step = progress.step(&format!("building {name} for {}", kernel.release), None);
        write_sources(module, &root.build_dir())?;
        let mut command = root.command("make")?;
        command.arg("-C").arg(root.tree());
        command.arg(format!("M={}", BuildRoot::build_dir_inside())).arg("modules");
        make(&mut command, module, &kernel.release)?;
        install(module, &root.build_dir(), dir)?;
        step.finish();
        Ok(Made::default())
    })?;
    Ok(module_path(module, &asset))
}

/// Builds a module against the tree of the user's own kernel, which `lock` keeps as it is.
pub(crate) fn obtain_own(
    module: GuestModule,
    tree: &Path,
    lock: Option<&File>,
    kernel: &Kernel,
    store: &Store,
    progress: Progress,
) -> Result<PathBuf> {
    kernel.check_own_modules()?;
    let name = module.name;
    let tree = fs::canonicalize(tree).map_err(Error::io("find", tree))?;
    let release_file = tree.join("include/config/kernel.release");
    let built = fs::read_to_string(&release_file).map_err(|source| {
        Error::Unusable(format!(
            "KDIR={}: not a built kernel tree: {}: {source}",
            tree.display(),
            release_file.display()
        ))
    })?;
    if built.trim() != kernel.release {
        return Err(Error::Unusable(format!(
            "KDIR={} is a tree of {}, but KERNEL= is {}",
            tree.display(),
            built.trim(),
            kernel.release
        )));
    }
    // The same release can be built again with another configuration: never taken from the cache, and never in the
    // place of another one's, which guests may be run with.
    let step = progress.step(&format!("building {name} for {}", kernel.release), None);
    let scratch = store.scratch(store.root())?;
    write_sources(module, scratch.path())?;
    let mut command = Command::new("make");
    command.arg("-C").arg(&tree).arg(format!("M={}", scratch.path().display())).arg("modules");
    if let Some(lock) = lock {
        command.stdin(held_by(lock)?);
    }
    make(&mut command, module, &kernel.release)?;
    let file = format!("{name}.ko");
    let built = scratch.path().join(&file);
    let content = fs::read(&built).map_err(Error::io("read", &built))?;
    let kept = kernel::keep("own-modules", &kernel.release, &[(file, &content)], store)?;
    step.finish();
    kept.into_iter().next().ok_or_else(|| Error::Unusable(format!("{name} was not kept")))
}

fn recipe(module: GuestModule, release: &str, origin: &str) -> Recipe {
    let source: String = sha256_hex(module.contents().as_bytes()).chars().take(16).collect();
    Recipe {
        key: module.name.to_owned(),
        version: format!("{release}-{origin}-{source}"),
        integrity: Integrity::Hash,
    }
}

fn module_path(module: GuestModule, asset: &Asset) -> PathBuf {
    asset.dir.join(format!("{}.ko", module.name))
}

fn write_sources(module: GuestModule, dir: &Path) -> Result<()> {
    create_dir(dir)?;
    for (name, text) in [(format!("{}.c", module.name), module.source), ("Kbuild".to_owned(), module.kbuild)]
    {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

fn make(command: &mut Command, module: GuestModule, release: &str) -> Result<()> {
    toolchain::run(command, &format!("{} for {release}", module.name))
}

fn install(module: GuestModule, built_in: &Path, dir: &Path) -> Result<()> {
    let file = format!("{}.ko", module.name);
    let built = built_in.join(&file);
    fs::copy(&built, dir.join(&file)).map_err(Error::io("copy", &built))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::store::lock_dir;

    #[test]
    fn an_own_kernel_of_another_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("include/config")).unwrap();
        let store = Store::at(&dir.path().join("cache")).unwrap();
        let kernel =
            Kernel { release: "6.9.0".into(), image: "bzImage".into(), config: None, modules: Vec::new() };
        let unfix = find(UNFIX).unwrap();
        let refusal =
            || obtain_own(unfix, &tree, None, &kernel, &store, Progress::Silent).unwrap_err().to_string();
        assert!(refusal().contains("not a built kernel tree"), "{}", refusal());
        fs::write(tree.join("include/config/kernel.release"), "6.8.0\n").unwrap();
        assert!(refusal().contains("is a tree of 6.8.0, but KERNEL= is 6.9.0"), "{}", refusal());
    }

    #[test]
    fn a_module_of_an_own_kernel_that_is_built_anew_does_not_replace_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("include/config")).unwrap();
        fs::write(tree.join("include/config/kernel.release"), "6.9.0\n").unwrap();
        let store = Store::at(&dir.path().join("cache")).unwrap();
        let kernel =
            Kernel { release: "6.9.0".into(), image: "bzImage".into(), config: None, modules: Vec::new() };
        let lock = lock_dir(&tree, Progress::Silent).unwrap();
        let build = |text: &str| {
            // Its standard input has the lock of the tree.
            let rule = "modules:\n\texec 3<lock && ! flock --nonblock 3 && [ /dev/stdin -ef lock ]";
            let makefile = format!("{rule}\n\techo {text} >$(M)/sdmorph_unfix.ko\n");
            fs::write(tree.join("Makefile"), makefile).unwrap();
            obtain_own(find(UNFIX).unwrap(), &tree, Some(&lock), &kernel, &store, Progress::Silent).unwrap()
        };
        let (one, two) = (build("one"), build("two"));
        assert_eq!(fs::read_to_string(one).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(two).unwrap(), "two\n");
    }

    #[test]
    fn the_cache_key_holds_release_and_source() {
        let versions = MODULES.map(|module| recipe(module, "6.1.0-56-amd64", "debian").version);
        assert!(versions[0].starts_with("6.1.0-56-amd64-debian-"), "{versions:?}");
        assert_ne!(versions[0], versions[1]);
    }

    #[test]
    fn the_modules_are_gpl_and_built_by_their_names() {
        for GuestModule { name, source, kbuild } in MODULES {
            assert!(source.starts_with("// SPDX-License-Identifier: GPL-2.0\n"), "{name}");
            assert!(kbuild.contains(&format!("obj-m := {name}.o\n")), "{name}");
        }
        assert!(!names().any(|name| name == UNFIX));
    }
}
