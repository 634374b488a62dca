//! A QEMU that has `vfio-user-pci`: the user's, the system's, or a private copy from Debian's backports.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use super::Fetcher;
use super::apt::{Candidate, Suite, merge_usr};
use super::error::{Error, Result};
use super::store::{Asset, Integrity, Made, Recipe, create_dir};

const KEY: &str = "qemu";
const DEVICE: &str = "vfio-user-pci";
/// 10.1.0 has the device, 10.1.1 its first fixes.
const OLDEST: (u32, u32, u32) = (10, 1, 1);
const SYSTEM: &str = "qemu-system-x86_64";
const PACKAGES: [&str; 4] = [
    "qemu-system-x86/trixie-backports",
    "qemu-system-data/trixie-backports",
    "qemu-system-common/trixie-backports",
    "seabios/trixie-backports",
];
/// Dependencies of maintainer scripts and of devices this machine does not have.
const UNUSED_PACKAGES: [&str; 6] = ["adduser", "debconf", "ipxe-qemu", "libpam", "login.defs", "passwd"];
/// What a q35 machine that boots with `-kernel` and has no display loads from QEMU's data directory.
const FIRMWARE: [&str; 5] =
    ["kvmvapic.bin", "linuxboot_dma.bin", "multiboot_dma.bin", "pvh.bin", "qboot.rom"];
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const QEMU_DATA: &str = "usr/share/qemu";
const SEABIOS: &str = "usr/share/seabios";

/// A QEMU that can be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Qemu {
    /// The program and the arguments that come before all others.
    pub argv: Vec<String>,
    /// Its version, e.g. `11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)`.
    pub version: String,
    /// Whether it understands `-run-with exit-with-parent=on`, so that it cannot outlive the lab.
    pub exits_with_parent: bool,
}

/// How QEMU runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Accel {
    /// KVM if the processor has it and `/dev/kvm` may be opened, else TCG.
    #[must_use]
    pub fn detect() -> Self {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if has_virtualisation(&flags) && device.is_ok() { Self::Kvm } else { Self::Tcg }
    }

    /// The name in `-machine accel=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Whether /proc/cpuinfo lists vmx or svm: /dev/kvm alone proves nothing inside a container.
fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("flags"))
        .any(|flags| flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

impl Qemu {
    /// Finds or fetches a QEMU. `given` is the user's choice (`QEMU=`), which is used or refused, never replaced.
    pub(crate) fn obtain(given: Option<&OsStr>, fetcher: &mut Fetcher<'_>) -> Result<Self> {
        if let Some(program) = given {
            let program = program.to_string_lossy();
            return Self::probe(vec![program.clone().into_owned()])
                .map_err(|refusal| Error::Unusable(format!("QEMU={program}: {refusal}")));
        }
        if let Ok(qemu) = Self::probe(vec![SYSTEM.to_owned()]) {
            return Ok(qemu);
        }
        let cached = if fetcher.refresh { None } else { fetcher.store.current(KEY, fetcher.progress) };
        let asset = match cached {
            Some(asset) => asset,
            None => fetch(fetcher)?,
        };
        Self::probe(private_argv(&asset.dir))
            .map_err(|refusal| Error::Unusable(format!("{}: {refusal}", asset.dir.display())))
    }

    /// Asks a program for its version and devices. The error says why it cannot be used.
    fn probe(argv: Vec<String>) -> std::result::Result<Self, String> {
        let version_text = ask(&argv, &["--version"])?;
        let version = parse_version(&version_text).ok_or("`--version` names no QEMU version")?;
        if !ask(&argv, &["-device", "help"])?.contains(&format!("\"{DEVICE}\"")) {
            return Err(format!("QEMU {} has no {DEVICE}; it is in QEMU from 10.1 on", dotted(version)));
        }
        if version < OLDEST {
            return Err(format!("QEMU {} is older than {}", dotted(version), dotted(OLDEST)));
        }
        let text = version_text.lines().next().unwrap_or_default();
        let version_text = text.strip_prefix("QEMU emulator version ").unwrap_or(text).to_owned();
        Ok(Self { argv, version: version_text, exits_with_parent: version >= (10, 2, 0) })
    }
}

fn dotted((major, minor, micro): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{micro}")
}

fn ask(argv: &[String], arguments: &[&str]) -> std::result::Result<String, String> {
    let (program, prefix) = argv.split_first().ok_or("no program")?;
    let output = Command::new(program)
        .args(prefix)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start it: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{}` failed: {}", arguments.join(" "), stderr.trim()))
    }
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let number = text.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// The private copy brings its own dynamic loader: the host's C library may be older than it needs.
fn private_argv(dir: &Path) -> Vec<String> {
    let path = |below: &str| dir.join(below).to_string_lossy().into_owned();
    let mut argv = vec![path(LOADER), "--library-path".into(), path(LIBRARIES), path(PROGRAM)];
    for data in [QEMU_DATA, SEABIOS] {
        argv.extend(["-L".into(), path(data)]);
    }
    argv
}

fn fetch(fetcher: &mut Fetcher<'_>) -> Result<Asset> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    if store.root().to_string_lossy().contains([':', ';']) {
        return Err(Error::Unusable(format!(
            "{}: the dynamic loader takes no library path with a colon or semicolon; set XDG_CACHE_HOME",
            store.root().display()
        )));
    }
    let apt = fetcher.apt(Suite::Trixie)?;
    let mut packages = apt.closure(&PACKAGES)?;
    packages.retain(|package| !UNUSED_PACKAGES.iter().any(|unused| package.name.starts_with(unused)));
    let version = packages
        .iter()
        .find(|package| package.name == "qemu-system-x86")
        .map(Candidate::directory_name)
        .ok_or_else(|| Error::Unusable("trixie-backports has no qemu-system-x86".into()))?;
    if let Some(asset) = store.version(KEY, &version, progress) {
        store.select(KEY, &version)?;
        return Ok(asset);
    }
    let recipe = Recipe { key: KEY.into(), version: version.clone(), integrity: Integrity::Hash };
    store.make(recipe, |dir| {
        let scratch = store.scratch(store.root())?;
        let debs = apt.fetch(&format!("QEMU {version}"), &packages, &scratch.path().join("debs"))?;
        let step = progress.step("unpacking QEMU", None);
        let root = scratch.path().join("root");
        merge_usr(&root)?;
        for deb in &debs {
            deb.unpack(&root)?;
        }
        keep_needed(&root, dir)?;
        step.finish();
        Ok(Made { packages: debs.into_iter().map(|deb| deb.package).collect(), ..Made::default() })
    })
}

/// Copies what [`private_argv`] needs from an unpacked `root`: a fifth of what the packages hold.
fn keep_needed(root: &Path, dir: &Path) -> Result<()> {
    let path = |below: &str| root.join(below).to_string_lossy().into_owned();
    let loader = [path(LOADER), "--library-path".into(), path(LIBRARIES), "--list".into()];
    let listing = ask(&loader, &[&path(PROGRAM)])
        .map_err(|error| Error::Unusable(format!("listing the libraries of QEMU: {error}")))?;
    let mut files = vec![PathBuf::from(PROGRAM), PathBuf::from(LOADER)];
    files.extend(FIRMWARE.map(|name| Path::new(QEMU_DATA).join(name)));
    // The vDSO has no path, and the loader is copied by the name it is started with.
    let libraries = listing.split_whitespace().filter_map(|word| Path::new(word).strip_prefix(root).ok());
    files.extend(libraries.map(Path::to_path_buf));
    let seabios = root.join(SEABIOS);
    for entry in fs::read_dir(&seabios).map_err(Error::io("list", &seabios))? {
        let entry = entry.map_err(Error::io("list", &seabios))?;
        files.push(Path::new(SEABIOS).join(entry.file_name()));
    }
    for file in files {
        let (from, to) = (root.join(&file), dir.join(&file));
        create_dir(to.parent().unwrap_or(dir))?;
        fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let parse = |text: &str| parse_version(&format!("QEMU emulator version {text}"));
        assert_eq!(parse("11.1.3 (Debian 1:11.1.3+ds-1)\nCopyright"), Some((11, 1, 3)));
        assert_eq!(parse("10.1"), Some((10, 1, 0)));
        assert!(parse("9.2.0") < Some(OLDEST));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn virtualisation_needs_the_processor_flag() {
        assert!(has_virtualisation("processor\t: 0\nflags\t\t: fpu vme vmx smep\n"));
        assert!(has_virtualisation("flags\t\t: svm\n"));
        assert!(!has_virtualisation("flags\t\t: fpu vme\nvmx flags\t: vnmi\n"));
    }

    #[test]
    fn a_program_that_is_no_qemu_is_refused_with_the_reason() {
        let refusal = Qemu::probe(vec!["/nonexistent/qemu".into()]).unwrap_err();
        assert!(refusal.starts_with("cannot start it"), "{refusal}");
        let refusal = Qemu::probe(vec!["echo".into()]).unwrap_err();
        assert_eq!(refusal, "`--version` names no QEMU version");
    }
}
