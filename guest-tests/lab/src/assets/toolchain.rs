//! A compiler for what runs in the guest: as Debian ships it, whatever the host runs.
//!
//! What is built for a stock kernel is built in a root of its own, unpacked from the same suite: compiler, make, and the
//! kernel's headers. There is no C library in it. Kernels are built in a root that has one, and stays (`build`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Fetcher;
use super::apt::{Apt, Candidate, Suite, merge_usr};
use super::build::Built;
use super::error::{Error, Result};
use super::kernels::StockKernel;
use super::store::{Asset, Integrity, Made, Recipe, Store, create_dir, held_by, sha256_hex};

/// What kbuild runs, next to what the headers depend on.
const TOOLS: [&str; 10] =
    ["bash", "binutils", "coreutils", "dash", "diffutils", "findutils", "grep", "make", "mawk", "sed"];
/// What a kernel's source needs beside, to be configured and built.
const KERNEL_TOOLS: [&str; 10] =
    ["bc", "bison", "flex", "gcc", "libc6-dev", "libelf-dev", "lz4", "patch", "tar", "xz-utils"];
/// What of their dependencies is not needed: libraries that libc6-dev has only for other programs.
const UNUSED_LIBRARIES: [&str; 10] = [
    "libcom-err",
    "libgssapi",
    "libk5crypto",
    "libkeyutils",
    "libkrb5",
    "libnsl",
    "libssl",
    "libtirpc",
    "readline-common",
    "rpcsvc",
];
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
/// The directory that is built in, inside the root.
const BUILD_DIR: &str = "build";

/// A root to build in what runs with a kernel.
pub(super) struct BuildRoot {
    root: PathBuf,
    tree: String,
    hold: Hold,
}

/// What a root is there by, as long as it is used.
enum Hold {
    /// It goes, too.
    Scratch { _dir: tempfile::TempDir },
    /// It stays, and is another's then.
    Lock { file: File },
}

impl BuildRoot {
    /// Fetches what is missing of compiler and headers, and lays them out.
    pub(super) fn prepare(stock: &StockKernel, release: &str, fetcher: &mut Fetcher<'_>) -> Result<Self> {
        let (toolchain, headers) = for_modules(stock, release, fetcher)?;
        let scratch = fetcher.store.scratch(fetcher.store.root())?;
        let root = scratch.path().join("root");
        for part in [&toolchain, &headers] {
            link_tree(&part.dir, &root)?;
        }
        complete_root(&root)?;
        create_dir(&root.join(BUILD_DIR))?;
        let tree = format!("/usr/src/linux-headers-{release}");
        Ok(Self { root, tree, hold: Hold::Scratch { _dir: scratch } })
    }

    /// The root that a kernel was built in, with the tree as it was then.
    pub(super) fn of_built(kernel: &Built, fetcher: &mut Fetcher<'_>) -> Result<Self> {
        let (root, tree, lock) = kernel.tree(fetcher)?;
        empty_dir(&root.join(BUILD_DIR))?;
        Ok(Self { root, tree, hold: Hold::Lock { file: lock } })
    }

    /// The kernel's tree, as what is run inside sees it: `make -C TREE M=DIR modules` builds a module for it.
    pub(super) fn tree(&self) -> &str {
        &self.tree
    }

    /// Where the sources go, as the host sees it.
    pub(super) fn build_dir(&self) -> PathBuf {
        self.root.join(BUILD_DIR)
    }

    /// The same directory, as what is run inside sees it.
    pub(super) fn build_dir_inside() -> String {
        format!("/{BUILD_DIR}")
    }

    /// A command inside the root, with nothing of the host's environment.
    /// It holds the root's lock as long as it runs, if there is one.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = command_inside(&self.root, program)?;
        if let Hold::Lock { file } = &self.hold {
            command.stdin(held_by(file)?);
        }
        Ok(command)
    }

    /// The compiler's name, which has its version in it: there is no `gcc`.
    pub(super) fn compiler(&self) -> Result<String> {
        let dir = self.root.join("usr/bin");
        let names = fs::read_dir(&dir).map_err(Error::io("list", &dir))?.flatten();
        let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_compiler =
            |name: &String| name.strip_prefix("gcc-").is_some_and(|version| version.parse::<u32>().is_ok());
        names
            .find(is_compiler)
            .ok_or_else(|| Error::Unusable(format!("there is no gcc in {}", dir.display())))
    }
}

/// A command inside a root, with nothing of the host's environment.
pub(super) fn command_inside(root: &Path, program: &str) -> Result<Command> {
    let mut command = enter(root)?;
    command.arg(program);
    command.env_clear().env("PATH", "/usr/bin:/usr/sbin").env("LC_ALL", "C").env("HOME", "/");
    Ok(command)
}

/// Removes what is in a directory, or makes it.
pub(super) fn empty_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => create_dir(dir),
    }
}

/// Runs a command that builds something. `what` is built, in words. Its standard input is what it was given, such as a lock,
/// or else nothing.
pub(super) fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().map_err(|error| {
        Error::spawn(
            &command.get_program().to_string_lossy(),
            "build what runs in the guest",
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
    Err(Error::Command { what: format!("building {what}"), status: output.status.to_string(), stderr })
}

/// Compiler and tools, and the kernel's headers: two assets, as kernels share the first.
fn for_modules(stock: &StockKernel, release: &str, fetcher: &mut Fetcher<'_>) -> Result<(Asset, Asset)> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let headers_key = format!("headers-{release}");
    let toolchain_key = format!("toolchain-{}", stock.suite);
    if let Some(headers) = store.current(&headers_key, progress) {
        if let Some(toolchain) = store.version(&toolchain_key, headers.fact("toolchain")?, progress) {
            return Ok((toolchain, headers));
        }
    }
    let apt = fetcher.apt(stock.suite)?;
    let (kernel_packages, others) = split_closure(apt.closure(&[&format!("linux-headers-{release}")])?);
    let compiler = compiler(&others)
        .ok_or_else(|| Error::Unusable(format!("the headers of {release} depend on no version of gcc")))?;
    // A closure without the headers: the same for all kernels of the suite, which then share it.
    let mut wanted = vec![compiler.as_str()];
    wanted.extend(kernel_packages.iter().map(|package| package.name.as_str()).filter(|name| is_kbuild(name)));
    wanted.extend(TOOLS);
    let (_, tools) = split_closure(apt.closure(&wanted)?);
    let what = format!("the compiler of {}", stock.suite);
    let toolchain = make_toolchain(toolchain_key, &what, tools, apt, store)?;
    let version = toolchain.manifest.version.clone();
    let recipe = Recipe { key: headers_key, version: release.to_owned(), integrity: Integrity::Size };
    let headers = store.make(recipe, |dir| {
        let mut made = unpack(&format!("the headers of {release}"), &kernel_packages, dir, apt, store)?;
        made.facts.insert("toolchain".into(), vec![version]);
        Ok(made)
    })?;
    Ok((toolchain, headers))
}

/// Compiler, C library and tools that kernels of a suite are built with.
pub(super) fn obtain_for_kernels(suite: Suite, fetcher: &mut Fetcher<'_>) -> Result<Asset> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let key = kernels_key(suite);
    match store.current(&key, progress) {
        Some(asset) if !fetcher.refresh => return Ok(asset),
        _ => {}
    }
    let apt = fetcher.apt(suite)?;
    let mut tools = apt.closure(&[TOOLS.as_slice(), KERNEL_TOOLS.as_slice()].concat())?;
    tools.retain(|package| !UNUSED_LIBRARIES.iter().any(|unused| package.name.starts_with(unused)));
    make_toolchain(key, &format!("what kernels of {suite} are built with"), tools, apt, store)
}

/// The asset of [`obtain_for_kernels`].
pub(super) fn kernels_key(suite: Suite) -> String {
    format!("kernel-toolchain-{suite}")
}

/// Finds or makes the asset of these packages, whose version is all of theirs.
fn make_toolchain(
    key: String,
    what: &str,
    mut tools: Vec<Candidate>,
    apt: &Apt,
    store: &Store,
) -> Result<Asset> {
    tools.retain(|package| !UNUSED_PACKAGES.iter().any(|unused| package.name.starts_with(unused)));
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    let versions: String = tools.iter().map(|tool| format!("{} {}\n", tool.name, tool.version)).collect();
    let version: String = sha256_hex(versions.as_bytes()).chars().take(16).collect();
    if let Some(toolchain) = store.version(&key, &version, apt.progress()) {
        store.select(&key, &version)?;
        return Ok(toolchain);
    }
    store.make(Recipe { key, version, integrity: Integrity::Size }, |dir| {
        unpack(what, &tools, dir, apt, store)
    })
}

/// Fetches packages and unpacks them into a directory.
fn unpack(what: &str, packages: &[Candidate], dir: &Path, apt: &Apt, store: &Store) -> Result<Made> {
    let scratch = store.scratch(store.root())?;
    let debs = apt.fetch(what, packages, scratch.path())?;
    merge_usr(dir)?;
    let step = apt.progress().step(&format!("unpacking {what}"), None);
    for deb in &debs {
        deb.unpack(dir)?;
    }
    step.finish();
    Ok(Made { packages: debs.into_iter().map(|deb| deb.package).collect(), ..Made::default() })
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

/// Links the files of `from` into `to`: a copy that takes no space.
pub(super) fn link_tree(from: &Path, to: &Path) -> Result<()> {
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
pub(super) fn complete_root(root: &Path) -> Result<()> {
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
        // There already, if the root has been used before.
        let _ = fs::remove_file(&null);
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
}
