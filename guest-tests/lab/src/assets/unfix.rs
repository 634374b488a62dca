//! The guest module that takes the fix out of a kernel, built for that kernel.
//!
//! A stock kernel's module is built in a root of its own, unpacked from the same suite: compiler,
//! make and headers as Debian ships them, whatever the host runs. For a user's own kernel the
//! host's tools build against the user's tree, as the user built the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Fetcher;
use super::apt::{Candidate, merge_usr};
use super::error::{Error, Result};
use super::kernel::{Kernel, StockKernel};
use super::progress::Progress;
use super::store::{Asset, Integrity, Made, Recipe, Store, create_dir, sha256_file, sha256_hex};

/// Name of the module.
pub(crate) const NAME: &str = "sdmorph_unfix";
const SOURCE: &str = include_str!("../../../modules/sdmorph_unfix/sdmorph_unfix.c");
const KBUILD: &str = include_str!("../../../modules/sdmorph_unfix/Kbuild");

/// What kbuild runs, next to what the headers depend on.
const TOOLS: [&str; 10] =
    ["bash", "binutils", "coreutils", "dash", "diffutils", "findutils", "grep", "make", "mawk", "sed"];
/// Dependencies of maintainer scripts, sanitizers, and the kernel image itself (100 MB).
const UNUSED_PACKAGES: [&str; 30] = [
    "adduser",
    "cpio",
    "debconf",
    "dmsetup",
    "dracut",
    "initramfs-tools",
    "klibc",
    "kmod",
    "libasan",
    "libdevmapper",
    "libgomp",
    "libhwasan",
    "libitm",
    "libklibc",
    "liblsan",
    "libpam",
    "libquadmath",
    "libsystemd-shared",
    "libtsan",
    "libubsan",
    "linux-base",
    "linux-image",
    "login.defs",
    "logsave",
    "mount",
    "openssl-provider",
    "passwd",
    "systemd",
    "sysvinit",
    "udev",
];
const BUILD_DIR: &str = "build";

/// Builds the module for a stock kernel, or takes it from the cache.
pub(crate) fn obtain_stock(
    stock: StockKernel,
    kernel: &Kernel,
    fetcher: &mut Fetcher<'_>,
) -> Result<PathBuf> {
    kernel.check_unfix()?;
    let recipe = recipe(&kernel.release, "debian");
    let (store, progress) = (fetcher.store, fetcher.progress);
    if let Some(asset) = store.version(&recipe.key, &recipe.version, progress) {
        return Ok(module_path(&asset));
    }
    let (toolchain, headers) = build_packages(stock, &kernel.release, fetcher)?;
    let asset = store.make(recipe, |dir| {
        let step = progress.step(&format!("building {NAME} for {}", kernel.release), None);
        let scratch = store.scratch(store.root())?;
        let root = scratch.path().join("root");
        for part in [&toolchain, &headers] {
            link_tree(&part.dir, &root)?;
        }
        complete_root(&root)?;
        write_sources(&root.join(BUILD_DIR))?;
        let mut command = enter(&root)?;
        command.args(["make", "-C"]).arg(format!("/usr/src/linux-headers-{}", kernel.release));
        command.arg(format!("M=/{BUILD_DIR}")).arg("modules");
        command.env_clear().env("PATH", "/usr/bin:/usr/sbin").env("LC_ALL", "C").env("HOME", "/");
        make(&mut command, &kernel.release)?;
        install(&root.join(BUILD_DIR), dir)?;
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

fn install(built_in: &Path, dir: &Path) -> Result<()> {
    let built = built_in.join(format!("{NAME}.ko"));
    fs::copy(&built, dir.join(format!("{NAME}.ko"))).map_err(Error::io("copy", &built))?;
    Ok(())
}

fn make(command: &mut Command, release: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        Error::spawn(
            &command.get_program().to_string_lossy(),
            "build the guest module",
            "install make and gcc for an own kernel, util-linux for Debian's",
            error,
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if stderr.contains("unshare failed") {
        stderr.push_str(
            "\nThis system keeps unprivileged users from user namespaces (sysctl kernel.unprivileged_userns_clone, \
             user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns). Allow them, or set up as root.",
        );
    }
    Err(Error::Command {
        what: format!("building {NAME} for {release}"),
        status: output.status.to_string(),
        stderr,
    })
}

/// Compiler and tools, and the kernel's headers: two assets, as kernels share the first.
fn build_packages(stock: StockKernel, release: &str, fetcher: &mut Fetcher<'_>) -> Result<(Asset, Asset)> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let headers_key = format!("headers-{release}");
    let toolchain_key = format!("toolchain-{}", stock.suite());
    if let Some(headers) = store.current(&headers_key, progress) {
        if let Some(toolchain) = store.version(&toolchain_key, headers.fact("toolchain")?, progress) {
            return Ok((toolchain, headers));
        }
    }
    let apt = fetcher.apt(stock.suite())?;
    let (kernel_packages, others) = split_closure(apt.closure(&[&format!("linux-headers-{release}")])?);
    let compiler = compiler(&others)
        .ok_or_else(|| Error::Unusable(format!("the headers of {release} depend on no version of gcc")))?;
    // A closure without the headers: the same for all kernels of the suite, which then share it.
    let mut wanted = vec![compiler.as_str()];
    wanted.extend(kernel_packages.iter().map(|package| package.name.as_str()).filter(|name| is_kbuild(name)));
    wanted.extend(TOOLS);
    let (_, mut tools) = split_closure(apt.closure(&wanted)?);
    tools.retain(|package| !UNUSED_PACKAGES.iter().any(|unused| package.name.starts_with(unused)));
    tools.sort_by(|a, b| a.name.cmp(&b.name));

    let versions: String = tools.iter().map(|tool| format!("{} {}\n", tool.name, tool.version)).collect();
    let version: String = sha256_hex(versions.as_bytes()).chars().take(16).collect();
    let unpack = |what: &str, packages: &[Candidate], dir: &Path| {
        let scratch = store.scratch(store.root())?;
        let debs = apt.fetch(what, packages, scratch.path())?;
        merge_usr(dir)?;
        let step = progress.step(&format!("unpacking {what}"), None);
        for deb in &debs {
            deb.unpack(dir)?;
        }
        step.finish();
        Ok(Made { packages: debs.into_iter().map(|deb| deb.package).collect(), ..Made::default() })
    };
    let toolchain = match store.version(&toolchain_key, &version, progress) {
        Some(toolchain) => toolchain,
        None => store.make(
            Recipe { key: toolchain_key, version: version.clone(), integrity: Integrity::Size },
            |dir| unpack(&format!("the compiler of {}", stock.suite()), &tools, dir),
        )?,
    };
    let recipe = Recipe { key: headers_key, version: release.to_owned(), integrity: Integrity::Size };
    let headers = store.make(recipe, |dir| {
        let mut made = unpack(&format!("the headers of {release}"), &kernel_packages, dir)?;
        made.facts.insert("toolchain".into(), vec![version]);
        Ok(made)
    })?;
    Ok((toolchain, headers))
}

/// The packages of the kernel's headers, and all others.
fn split_closure(closure: Vec<Candidate>) -> (Vec<Candidate>, Vec<Candidate>) {
    closure
        .into_iter()
        .partition(|package| package.name.starts_with("linux-headers-") || is_kbuild(&package.name))
}

/// Programs that kbuild runs, compiled: modpost, fixdep, objtool.
fn is_kbuild(package: &str) -> bool {
    package.starts_with("linux-kbuild-")
}

/// The compiler that the kernel was built with, e.g. `gcc-12`: its headers depend on that version.
fn compiler(packages: &[Candidate]) -> Option<String> {
    packages.iter().find_map(|package| {
        let version = package.name.strip_prefix("gcc-")?.split('-').next()?;
        version.parse::<u32>().ok().map(|version| format!("gcc-{version}"))
    })
}

/// Links the files of `from` into `to`: a throwaway copy that takes no space.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    create_dir(to)?;
    for entry in fs::read_dir(from).map_err(Error::io("list", from))? {
        let entry = entry.map_err(Error::io("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::io("read", &source))?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if kind.is_symlink() {
            if fs::symlink_metadata(&target).is_err() {
                let link = fs::read_link(&source).map_err(Error::io("read", &source))?;
                std::os::unix::fs::symlink(link, &target).map_err(Error::io("create", &target))?;
            }
        } else if !target.exists() {
            fs::hard_link(&source, &target).map_err(Error::io("link", &target))?;
        }
    }
    Ok(())
}

/// What maintainer scripts, which do not run here, would have made.
fn complete_root(root: &Path) -> Result<()> {
    for (link, target) in [("usr/bin/awk", "mawk"), ("usr/bin/sh", "dash")] {
        let link = root.join(link);
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(target, &link).map_err(Error::io("create", &link))?;
        }
    }
    for dir in ["dev", "proc", "tmp"] {
        create_dir(&root.join(dir))?;
    }
    Ok(())
}

/// A command that runs its arguments inside `root`, where kbuild needs /dev/null and, from 7.x on, /proc.
///
/// A mount namespace takes them from the host. Root in a container that may not mount makes a node and
/// a stand-in instead.
fn enter(root: &Path) -> Result<Command> {
    let is_root = rustix::process::geteuid().is_root();
    let mut namespace = Command::new("unshare");
    if !is_root {
        namespace.arg("--map-root-user");
    }
    namespace.arg("--mount");
    if is_root && !can_mount() {
        let null = root.join("dev/null");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &null,
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, 3),
        )
        .map_err(|errno| Error::io("create", &null)(errno.into()))?;
        // objtool looks for its stack's limit there, which it needs only to explain a crash of its own.
        let maps = root.join("proc/self/maps");
        create_dir(&root.join("proc/self"))?;
        fs::write(&maps, "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]\n")
            .map_err(Error::io("write", &maps))?;
        let mut command = Command::new("chroot");
        command.arg(root);
        return Ok(command);
    }
    namespace.args(["sh", "-ec"]).arg(
        r#": >"$0/dev/null"
        mount --bind /dev/null "$0/dev/null"
        mount --rbind /proc "$0/proc"
        exec chroot "$0" "$@""#,
    );
    namespace.arg(root);
    Ok(namespace)
}

/// Whether root may mount here: in most containers it may not.
fn can_mount() -> bool {
    Command::new("unshare")
        .args(["--mount", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_the_version_that_the_headers_depend_on() {
        let closure =
            ["linux-headers-7.3-amd64", "linux-kbuild-7.3", "gcc-14-base", "linux-base", "gcc-14-for-host"]
                .map(|name| Candidate::new(name, "1", 1));
        let (kernel, others) = split_closure(closure.to_vec());
        let names: Vec<_> = kernel.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["linux-headers-7.3-amd64", "linux-kbuild-7.3"]);
        assert_eq!(compiler(&others).as_deref(), Some("gcc-14"));
        assert_eq!(compiler(&kernel), None);
    }

    #[test]
    fn a_linked_tree_has_the_same_files_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        merge_usr(&from).unwrap();
        fs::write(from.join("usr/bin/x"), "x").unwrap();
        link_tree(&from, &to).unwrap();
        link_tree(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("bin/x")).unwrap(), "x");
        assert_eq!(fs::read_link(to.join("lib64")).unwrap(), Path::new("usr/lib64"));
    }

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
