//! Programs of the lab's own for the guest: what no package has. Each is one C file without a C library, so that it needs
//! no more than a compiler, and runs under any kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Fetcher;
use super::error::{Error, Result};
use super::programs::{GuestFile, Source};
use super::store::{Integrity, Made, Recipe, sha256_hex};
use super::toolchain::{self, BuildRoot};

/// Their names, and their sources.
const TOOLS: [(&str, &str); 1] = [("sd-lock", include_str!("../../../tools/sd-lock.c"))];
/// For the compiler.
const FLAGS: [&str; 10] = [
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-stack-protector",
    // A program at a fixed address has nothing to relocate.
    "-no-pie",
];

/// The names, for those who choose among them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}

/// Builds those that are wanted, or takes them from the cache: with the compiler of a root, or else with the host's.
pub(super) fn obtain<'a>(
    wanted: impl IntoIterator<Item = &'a String>,
    root: impl Fn(&mut Fetcher<'_>) -> Result<Option<BuildRoot>>,
    fetcher: &mut Fetcher<'_>,
) -> Result<Vec<GuestFile>> {
    let mut files = Vec::new();
    for name in wanted {
        let known = TOOLS.iter().find(|(known, _)| known == name);
        let (name, source) =
            *known.ok_or_else(|| Error::Unusable(format!("the lab has no program {name} for the guest")))?;
        let path = obtain_one(name, source, &root, fetcher)?;
        files.push(GuestFile { path: format!("usr/bin/{name}"), source: Source::File(path) });
    }
    Ok(files)
}

fn obtain_one(
    name: &str,
    source: &str,
    root: &impl Fn(&mut Fetcher<'_>) -> Result<Option<BuildRoot>>,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    let recipe = recipe(name, source);
    let (store, progress) = (fetcher.store, fetcher.progress);
    if let Some(asset) = store.version(&recipe.key, &recipe.version, progress) {
        return Ok(asset.dir.join(name));
    }
    let root = root(fetcher)?;
    let asset = store.make(recipe, |dir| {
        let step = progress.step(&format!("building {name}"), None);
        match &root {
            Some(root) => {
                let inside = PathBuf::from(BuildRoot::build_dir_inside());
                let command = root.command(&root.compiler()?)?;
                compile(command, name, source, &root.build_dir(), &inside)?;
                let built = root.build_dir().join(name);
                fs::copy(&built, dir.join(name)).map_err(Error::io("copy", &built))?;
            }
            None => {
                let scratch = store.scratch(store.root())?;
                compile(Command::new("gcc"), name, source, scratch.path(), scratch.path())?;
                let built = scratch.path().join(name);
                fs::copy(&built, dir.join(name)).map_err(Error::io("copy", &built))?;
            }
        }
        step.finish();
        Ok(Made::default())
    })?;
    Ok(asset.dir.join(name))
}

/// `dir` is where the source is written, `inside` the same directory as the compiler knows it.
fn compile(mut command: Command, name: &str, source: &str, dir: &Path, inside: &Path) -> Result<()> {
    let file = format!("{name}.c");
    let path = dir.join(&file);
    fs::write(&path, source).map_err(Error::io("write", &path))?;
    command.args(FLAGS).arg("-o").arg(inside.join(name)).arg(inside.join(file));
    toolchain::run(&mut command, name)
}

fn recipe(name: &str, source: &str) -> Recipe {
    let made_of = format!("{source}\0{}", FLAGS.join(" "));
    let version = sha256_hex(made_of.as_bytes()).chars().take(16).collect();
    Recipe { key: format!("tool-{name}"), version, integrity: Integrity::Hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_free_of_the_kernel_s_licence_and_another_source_is_another_version() {
        for (name, source) in TOOLS {
            assert!(source.starts_with("// SPDX-License-Identifier: MIT OR Apache-2.0\n"), "{name}");
            assert_ne!(recipe(name, source).version, recipe(name, &source.replace("42", "43")).version);
        }
    }
}
