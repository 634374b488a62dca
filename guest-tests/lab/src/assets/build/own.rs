//! A kernel tree of the user's own: built with the host's tools.
//!
//! Configured, it is built in place, as the user would do it. Without a configuration it is left alone: it gets the lab's
//! small one, and its objects are in the cache, in a directory of their own, where the next build finds them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use super::config::Wanted;
use super::kbuild::{Counts, MARKED, Make, jobs, mend};
use crate::assets::choice::{OwnKernel, OwnTree};
use crate::assets::error::{Error, Result};
use crate::assets::kernels::{config_text, small_config};
use crate::assets::progress::Progress;
use crate::assets::store::{Store, create_dir, lock_file, sha256_hex};

const GOALS: [&str; 2] = ["bzImage", "modules"];

/// Builds the tree. What comes of it is an own kernel, its tree being where its objects are.
pub(in crate::assets) fn obtain(tree: &OwnTree, store: &Store, progress: Progress) -> Result<OwnKernel> {
    let dir = fs::canonicalize(&tree.dir).map_err(Error::io("find", &tree.dir))?;
    let shown = dir.display().to_string();
    if !["Makefile", "Kconfig", "arch/x86"].iter().all(|name| dir.join(name).exists()) {
        return Err(Error::Unusable(format!("KERNEL_TREE={shown}: not a kernel tree")));
    }
    let what = format!("building {shown}");
    let counts = Counts::Files { about: None };
    let make = Make { what: &what, kernel: &shown, counts, lock: None, place: &dir, progress };
    if dir.join(".config").is_file() {
        if !tree.configs.is_empty() {
            return Err(Error::Unusable(format!(
                "KERNEL_TREE={shown} has a configuration of its own, to which --config adds nothing"
            )));
        }
        let mut command = Command::new("make");
        command.arg("-C").arg(&dir).arg(jobs()).args(GOALS).env("LC_ALL", "C");
        make.run(command)?;
        return built_in(&dir);
    }
    let hash: String = sha256_hex(dir.as_os_str().as_bytes()).chars().take(16).collect();
    let place = store.root().join("builds").join(format!("tree-{hash}"));
    let objects = place.join("objects");
    create_dir(&objects)?;
    let lock = lock_file(&place.join("lock"), progress)?;
    let marker = objects.join(".making");
    mend(&objects, &marker)?;
    let mut fragments = small_config();
    for name in &tree.configs {
        fragments.push(config_text(name)?);
    }
    let wanted = Wanted::merge(&fragments)?;
    let out_of_tree = |goals: &[&str]| {
        let mut output = OsStr::new("O=").to_owned();
        output.push(&objects);
        let mut command = Command::new("sh");
        command.arg("-c").arg(MARKED).arg(&marker).args(["make", "-C"]).arg(&dir).arg(output);
        command.arg(jobs()).args(goals).env("LC_ALL", "C");
        command
    };
    let making = Make { lock: Some(&lock), place: &objects, ..make };
    let configuring = Make { counts: Counts::Nothing, ..making };
    let config = objects.join(".config");
    configuring.run(out_of_tree(&["tinyconfig"]))?;
    let tiny = fs::read_to_string(&config).map_err(Error::io("read", &config))?;
    fs::write(&config, tiny + &wanted.text()).map_err(Error::io("write", &config))?;
    configuring.run(out_of_tree(&["olddefconfig"]))?;
    let made = fs::read_to_string(&config).map_err(Error::io("read", &config))?;
    // Options come and go between versions. What the lab cannot do without is asked for when the kernel is used.
    for problem in wanted.missing_in(&made) {
        progress.say(&problem);
    }
    making.run(out_of_tree(&GOALS))?;
    built_in(&objects)
}

fn built_in(objects: &Path) -> Result<OwnKernel> {
    let image = objects.join("arch/x86/boot/bzImage");
    if !image.is_file() {
        return Err(Error::Unusable(format!(
            "{}: make has built no arch/x86/boot/bzImage: not a configuration for x86-64",
            objects.display()
        )));
    }
    Ok(OwnKernel { image, modules: Some(objects.to_path_buf()), tree: Some(objects.to_path_buf()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::ErrorKind;

    /// A tree whose Makefile stands in for kbuild: it writes down what it was asked for.
    fn tree(makefile: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("arch/x86")).unwrap();
        fs::write(dir.path().join("Kconfig"), "").unwrap();
        fs::write(dir.path().join("Makefile"), makefile).unwrap();
        dir
    }

    const MAKEFILE: &str = "O ?= .\n\
        tinyconfig: ; echo CONFIG_TINY=y >$(O)/.config\n\
        olddefconfig: ; echo CONFIG_LATER=y >>$(O)/.config\n\
        bzImage: ; mkdir -p $(O)/arch/x86/boot; cp $(O)/.config $(O)/arch/x86/boot/bzImage\n\
        modules: ; @:\n\
        .PHONY: tinyconfig olddefconfig bzImage modules\n";

    fn build(dir: &Path, configs: &[&str]) -> Result<OwnKernel> {
        let store = tempfile::tempdir().unwrap();
        let configs = configs.iter().map(|name| (*name).to_owned()).collect();
        let kernel = obtain(
            &OwnTree { dir: dir.to_owned(), configs },
            &Store::at(store.path()).unwrap(),
            Progress::Silent,
        )?;
        // The store goes with this function.
        let text = fs::read_to_string(&kernel.image).unwrap();
        fs::write(dir.join("seen"), text).unwrap();
        Ok(kernel)
    }

    #[test]
    fn a_configured_tree_is_built_as_it_is() {
        let dir = tree(MAKEFILE);
        fs::write(dir.path().join(".config"), "CONFIG_MINE=y\n").unwrap();
        let kernel = build(dir.path(), &[]).unwrap();
        assert_eq!(kernel.tree.unwrap(), fs::canonicalize(dir.path()).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("seen")).unwrap(), "CONFIG_MINE=y\n");
        let refusal = build(dir.path(), &["lockdep"]).unwrap_err().to_string();
        assert!(refusal.contains("--config adds nothing"), "{refusal}");
    }

    #[test]
    fn a_tree_without_a_configuration_gets_the_small_one_and_is_left_alone() {
        let dir = tree(MAKEFILE);
        build(dir.path(), &["kasan"]).unwrap();
        let seen = fs::read_to_string(dir.path().join("seen")).unwrap();
        assert!(seen.starts_with("CONFIG_TINY=y\n") && seen.ends_with("CONFIG_LATER=y\n"), "{seen}");
        assert!(seen.contains("CONFIG_VMD=m\n") && seen.contains("CONFIG_KASAN=y\n"), "{seen}");
        assert!(!dir.path().join(".config").exists() && !dir.path().join("arch/x86/boot").exists());
    }

    #[test]
    fn what_is_no_tree_or_does_not_build_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let refusal = build(empty.path(), &[]).unwrap_err().to_string();
        assert!(refusal.contains("not a kernel tree"), "{refusal}");
        let dir = tree("bzImage: ; @echo 'a.c:1:1: error: no' >&2; exit 1\nmodules: ;\n");
        fs::write(dir.path().join(".config"), "").unwrap();
        let error = build(dir.path(), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Build);
        assert!(error.to_string().contains("a.c:1:1: error: no"), "{error}");
    }
}
