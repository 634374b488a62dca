//! A kernel tree of the user's own: built with the host's tools.
//!
//! Configured, it is built in place, as the user would do it. Without a configuration it is left alone: it gets the lab's
//! small one, and its objects are in the cache, in a directory of their own, where the next build finds them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::Wanted;
use super::kbuild::{Counts, MARKED, Make, forget_future, jobs, mend};
use crate::assets::choice::{OwnKernel, OwnTree};
use crate::assets::error::{Error, Result};
use crate::assets::kernels::{config_text, small_config};
use crate::assets::progress::Progress;
use crate::assets::store::{Store, create_dir, lock_dir, sha256_hex};

const GOALS: [&str; 2] = ["bzImage", "modules"];

/// Below a directory of a tree in the cache.
const OBJECTS: &str = "objects";

/// Waits until no other lab builds in a tree of the user's, and keeps others from it until the result, and all copies of its
/// descriptor, are closed. A tree that is built out of tree and its objects have one lock.
pub(in crate::assets) fn lock(tree: &Path, store: &Store, progress: Progress) -> Result<File> {
    let dir = fs::canonicalize(tree).map_err(Error::io("find", tree))?;
    lock_dir(&place(&dir, store)?, progress)
}

/// The cache's directory for a tree, or for its objects, by an absolute path.
fn place(dir: &Path, store: &Store) -> Result<PathBuf> {
    let builds = store.root().join("builds");
    create_dir(&builds)?;
    let builds = fs::canonicalize(&builds).map_err(Error::io("find", &builds))?;
    match dir.parent() {
        Some(place) if dir.ends_with(OBJECTS) && place.parent() == Some(&builds) => Ok(place.to_path_buf()),
        _ => {
            let hash: String = sha256_hex(dir.as_os_str().as_bytes()).chars().take(16).collect();
            Ok(builds.join(format!("tree-{hash}")))
        }
    }
}

/// Builds the tree. What comes of it is an own kernel, its tree being where its objects are, and the lock that keeps other
/// labs from building it anew.
pub(in crate::assets) fn obtain(
    tree: &OwnTree,
    store: &Store,
    progress: Progress,
) -> Result<(OwnKernel, File)> {
    let dir = fs::canonicalize(&tree.dir).map_err(Error::io("find", &tree.dir))?;
    let shown = dir.display().to_string();
    if !["Makefile", "Kconfig", "arch/x86"].iter().all(|name| dir.join(name).exists()) {
        return Err(Error::Unusable(format!("KERNEL_TREE={shown}: not a kernel tree")));
    }
    let what = format!("building {shown}");
    let counts = Counts::Files { about: None };
    let place = place(&dir, store)?;
    let lock = lock_dir(&place, progress)?;
    let make = Make { what: &what, kernel: &shown, counts, lock: Some(&lock), place: &dir, progress };
    if dir.join(".config").is_file() {
        if !tree.configs.is_empty() {
            return Err(Error::Unusable(format!(
                "KERNEL_TREE={shown} has a configuration of its own, to which --config adds nothing"
            )));
        }
        let mut command = Command::new("make");
        command.arg("-C").arg(&dir).arg(jobs()).args(GOALS).env("LC_ALL", "C");
        make.run(command)?;
        return Ok((built_in(&dir)?, lock));
    }
    let objects = place.join(OBJECTS);
    forget_future(&objects, progress)?;
    create_dir(&objects)?;
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
    let making = Make { place: &objects, ..make };
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
    Ok((built_in(&objects)?, lock))
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
    use rustix::fs::{FlockOperation, flock};

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
        let (kernel, _lock) = obtain(
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
    fn a_tree_is_one_lab_s_while_it_is_built_and_until_it_has_been_read() {
        // make itself sees that the lock cannot be had.
        let held = "exec 3<$(LOCK) && ! flock --nonblock 3 || exit 1";
        let makefile = MAKEFILE.replace("bzImage: ;", &format!("bzImage: ; {held};"));
        for configured in [true, false] {
            let cache = tempfile::tempdir().unwrap();
            let store = Store::at(cache.path()).unwrap();
            let dir = tree("");
            let place = place(&fs::canonicalize(dir.path()).unwrap(), &store).unwrap();
            let path = place.join("lock");
            let text = format!("LOCK = {}\n{makefile}", path.display());
            fs::write(dir.path().join("Makefile"), text).unwrap();
            if configured {
                fs::write(dir.path().join(".config"), "").unwrap();
            }
            let own = OwnTree { dir: dir.path().to_owned(), configs: Vec::new() };
            let (kernel, held) = obtain(&own, &store, Progress::Silent).unwrap();
            let free = || {
                let file = File::open(&path).unwrap();
                let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
                flock(&file, FlockOperation::Unlock).unwrap();
                free
            };
            assert!(!free(), "configured: {configured}");
            // Closing it is not enough: another test's process may have a copy until it is another program.
            flock(&held, FlockOperation::Unlock).unwrap();
            assert!(free());
            // Whoever builds modules against it later waits for the same lock.
            let _held = lock(&kernel.tree.unwrap(), &store, Progress::Silent).unwrap();
            assert!(!free(), "configured: {configured}");
        }
    }

    #[test]
    fn what_is_changed_after_the_clock_was_set_back_is_built() {
        let dir = tree(concat!(
            "O ?= .\nIMAGE = $(O)/arch/x86/boot/bzImage\ntinyconfig olddefconfig: ; : >$(O)/.config\n",
            "$(IMAGE): a.c ; mkdir -p $(@D); cp a.c $@\nbzImage: $(IMAGE)\nmodules: ; @:\n",
            ".PHONY: tinyconfig olddefconfig bzImage modules\n"
        ));
        let cache = tempfile::tempdir().unwrap();
        let store = Store::at(cache.path()).unwrap();
        let own = OwnTree { dir: dir.path().to_owned(), configs: Vec::new() };
        let built = |source: &str| {
            fs::write(dir.path().join("a.c"), source).unwrap();
            let (kernel, _lock) = obtain(&own, &store, Progress::Silent).unwrap();
            (fs::read_to_string(&kernel.image).unwrap(), kernel.image)
        };
        let (one, image) = built("one");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        File::options().write(true).open(image).unwrap().set_modified(later).unwrap();
        assert_eq!((one.as_str(), built("two").0.as_str()), ("one", "two"));
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
