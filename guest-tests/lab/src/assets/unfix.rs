//! The guest module that takes the fix out of a kernel, built for that kernel.
//!
//! A stock kernel's module is built with the compiler and the headers of its own suite (`toolchain`). For a user's own
//! kernel the host's tools build against the user's tree, as the user built the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Fetcher;
use super::build::Built;
use super::error::{Error, Result};
use super::kernel::Kernel;
use super::kernels::StockKernel;
use super::progress::Progress;
use super::store::{Asset, Integrity, Made, Recipe, Store, create_dir, sha256_file, sha256_hex};
use super::toolchain::{self, BuildRoot};

/// Name of the module.
pub(crate) const NAME: &str = "sdmorph_unfix";
const SOURCE: &str = include_str!("../../../modules/sdmorph_unfix/sdmorph_unfix.c");
const KBUILD: &str = include_str!("../../../modules/sdmorph_unfix/Kbuild");

/// Builds the module for a stock kernel, or takes it from the cache.
pub(crate) fn obtain_stock(
    stock: &StockKernel,
    kernel: &Kernel,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    let root = |fetcher: &mut Fetcher<'_>| BuildRoot::prepare(stock, &kernel.release, fetcher);
    obtain_in(root, "debian", kernel, fetcher)
}

/// Builds the module for a kernel that the lab has built, or takes it from the cache.
pub(crate) fn obtain_built(built: &Built, kernel: &Kernel, fetcher: &mut Fetcher<'_>) -> Result<PathBuf> {
    obtain_in(|fetcher| BuildRoot::of_built(built, fetcher), built.version(), kernel, fetcher)
}

fn obtain_in(
    root: impl FnOnce(&mut Fetcher<'_>) -> Result<BuildRoot>,
    origin: &str,
    kernel: &Kernel,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    kernel.check_unfix()?;
    let recipe = recipe(&kernel.release, origin);
    let (store, progress) = (fetcher.store, fetcher.progress);
    if let Some(asset) = store.version(&recipe.key, &recipe.version, progress) {
        return Ok(module_path(&asset));
    }
    let root = root(fetcher)?;
    let asset = store.make(recipe, |dir| {
        let step = progress.step(&format!("building {NAME} for {}", kernel.release), None);
        write_sources(&root.build_dir())?;
        let mut command = root.command("make")?;
        command.arg("-C").arg(root.tree());
        command.arg(format!("M={}", BuildRoot::build_dir_inside())).arg("modules");
        make(&mut command, &kernel.release)?;
        install(&root.build_dir(), dir)?;
        step.finish();
        Ok(Made::default())
    })?;
    Ok(module_path(&asset))
}

/// Builds the module against the tree of the user's own kernel.
pub(crate) fn obtain_own(tree: &Path, kernel: &Kernel, store: &Store, progress: Progress) -> Result<PathBuf> {
    kernel.check_unfix()?;
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
    // place of another one's.
    let image: String = sha256_file(&kernel.image)?.chars().take(16).collect();
    let asset = store.make(recipe(&kernel.release, &format!("own-{image}")), |dir| {
        let step = progress.step(&format!("building {NAME} for {}", kernel.release), None);
        let scratch = store.scratch(store.root())?;
        write_sources(scratch.path())?;
        let mut command = Command::new("make");
        command.arg("-C").arg(&tree).arg(format!("M={}", scratch.path().display())).arg("modules");
        make(&mut command, &kernel.release)?;
        install(scratch.path(), dir)?;
        step.finish();
        Ok(Made::default())
    })?;
    Ok(module_path(&asset))
}

fn recipe(release: &str, origin: &str) -> Recipe {
    let source: String = sha256_hex(format!("{SOURCE}\0{KBUILD}").as_bytes()).chars().take(16).collect();
    Recipe {
        key: NAME.to_owned(),
        version: format!("{release}-{origin}-{source}"),
        integrity: Integrity::Hash,
    }
}

fn module_path(asset: &Asset) -> PathBuf {
    asset.dir.join(format!("{NAME}.ko"))
}

fn write_sources(dir: &Path) -> Result<()> {
    create_dir(dir)?;
    for (name, text) in [(format!("{NAME}.c"), SOURCE), ("Kbuild".to_owned(), KBUILD)] {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

fn make(command: &mut Command, release: &str) -> Result<()> {
    toolchain::run(command, &format!("{NAME} for {release}"))
}

fn install(built_in: &Path, dir: &Path) -> Result<()> {
    let built = built_in.join(format!("{NAME}.ko"));
    fs::copy(&built, dir.join(format!("{NAME}.ko"))).map_err(Error::io("copy", &built))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_kernel_of_another_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("include/config")).unwrap();
        let store = Store::at(&dir.path().join("cache")).unwrap();
        let kernel =
            Kernel { release: "6.9.0".into(), image: "bzImage".into(), config: None, modules: Vec::new() };
        let refusal = || obtain_own(&tree, &kernel, &store, Progress::Silent).unwrap_err().to_string();
        assert!(refusal().contains("not a built kernel tree"), "{}", refusal());
        fs::write(tree.join("include/config/kernel.release"), "6.8.0\n").unwrap();
        assert!(refusal().contains("is a tree of 6.8.0, but KERNEL= is 6.9.0"), "{}", refusal());
    }

    #[test]
    fn the_cache_key_holds_release_and_source() {
        let recipe = recipe("6.1.0-56-amd64", "debian");
        assert!(recipe.version.starts_with("6.1.0-56-amd64-debian-"), "{}", recipe.version);
        assert!(SOURCE.starts_with("// SPDX-License-Identifier: GPL-2.0\n"));
    }
}
