//! The guest's kernel: one of Debian's as shipped, one that the lab has built, or the user's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Fetcher;
use super::apt::{Candidate, merge_usr};
use super::choice::OwnKernel;
use super::error::{Error, Result};
use super::kconfig::KernelConfig;
use super::kernels::StockKernel;
use super::kmod::{BUILT_IN, Module, ModuleTree};
use super::progress::Progress;
use super::store::{Asset, Integrity, Made, Recipe, Store, create_dir, sha256_hex};

/// What every guest loads; the rest of the closure follows from these.
const MODULES: [&str; 5] = ["vmd", "rtsx_pci", "rtsx_pci_sdmmc", "mmc_block", "nvme"];
/// Facts of a stock kernel's asset: its release, the load order of [`MODULES`] with what they depend on, and what was
/// kept beside.
const RELEASE: &str = "release";
const BASE: &str = "modules";
const EXTRA: &str = "extra-modules";

/// A kernel that can be booted.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// Its configuration, where it was found.
    pub config: Option<PathBuf>,
    /// The modules of the guest, decompressed, in load order.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// Finds or fetches a stock kernel with the modules that every guest loads, and `extra` ones.
    pub(crate) fn obtain_stock(
        kernel: &StockKernel,
        extra: &BTreeSet<String>,
        fetcher: &mut Fetcher<'_>,
    ) -> Result<Self> {
        let key = stock_key(kernel);
        let current = fetcher.store.current(&key, fetcher.progress);
        let kept: BTreeSet<String> = current.iter().flat_map(|asset| asset.facts(EXTRA)).cloned().collect();
        let asset = match current {
            Some(asset) if !fetcher.refresh && extra.is_subset(&kept) => asset,
            // What one scenario asked for stays, so that scenarios taking turns fetch nothing.
            _ => fetch(kernel, &key, &(&kept | extra), fetcher)?,
        };
        Ok(Self {
            release: asset.fact(RELEASE)?.to_owned(),
            image: asset.dir.join("vmlinuz"),
            config: Some(asset.dir.join("config")),
            modules: load_order(&asset, extra)?,
        })
    }

    /// Checks the user's kernel and puts image and modules into the cache, these decompressed: the user may build it anew
    /// while guests are run with it.
    pub(crate) fn obtain_own(
        own: &OwnKernel,
        extra: &BTreeSet<String>,
        store: &Store,
        progress: Progress,
    ) -> Result<Self> {
        let image = fs::read(&own.image).map_err(Error::io("read", &own.image))?;
        let release = bzimage_release(&image).ok_or_else(|| {
            Error::Unusable(format!("KERNEL={}: not a bzImage (arch/x86/boot/bzImage)", own.image.display()))
        })?;
        let config = find_config(own, &release);
        match &config {
            Some(path) => check_config(&release, path)?,
            None => progress.say(&format!(
                "no configuration of {release} found (beside the image, in MODULES= or KDIR=): not checked"
            )),
        }
        let modules = match (&own.modules, &config) {
            (Some(dir), _) => {
                let tree = ModuleTree::index(dir)
                    .map_err(|error| Error::Unusable(format!("MODULES={}: {error}", dir.display())))?;
                closure(&release, &tree, extra)?
            }
            (None, Some(config)) => {
                refuse(&named(&release, config), read_config(config)?.module_problems())?;
                Vec::new()
            }
            (None, None) => Vec::new(),
        };
        let modules = modules.iter().map(|module| (format!("{}.ko", module.name), module.content.as_slice()));
        let modules = keep("own-modules", &release, &modules.collect::<Vec<_>>(), store)?;
        let mut images = keep("own-images", &release, &[("bzImage".to_owned(), image.as_slice())], store)?;
        let image = images.pop().unwrap_or_else(|| own.image.clone());
        Ok(Self { release, image, config, modules })
    }

    /// A kernel that the lab has built, from the directory of its asset.
    pub(crate) fn of_built(release: &str, dir: &Path, extra: &BTreeSet<String>) -> Result<Self> {
        let config = dir.join("config");
        check_config(release, &config)?;
        let modules = dir.join("modules");
        let order = closure(release, &ModuleTree::index(&modules)?, extra)?;
        Ok(Self {
            release: release.to_owned(),
            image: dir.join("bzImage"),
            config: Some(config),
            modules: order.into_iter().map(|module| modules.join(format!("{}.ko", module.name))).collect(),
        })
    }

    /// Why the lab's own modules cannot be loaded into this kernel, one sentence each; nothing if it can.
    pub(crate) fn check_own_modules(&self) -> Result<()> {
        let Some(path) = &self.config else { return Ok(()) };
        refuse(&named(&self.release, path), read_config(path)?.own_module_problems())
    }
}

/// The asset of a stock kernel.
pub(super) fn stock_key(kernel: &StockKernel) -> String {
    format!("kernel-{}", kernel.name)
}

fn fetch(
    kernel: &StockKernel,
    key: &str,
    extra: &BTreeSet<String>,
    fetcher: &mut Fetcher<'_>,
) -> Result<Asset> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let apt = fetcher.apt(kernel.suite)?;
    let (release, packages) = select_packages(apt.closure(&[&kernel.package])?)
        .ok_or_else(|| Error::Unusable(format!("{} has no kernel image", kernel.package)))?;
    let debian_version = packages.first().map(Candidate::directory_name).unwrap_or_default();
    let version = asset_version(&release, &debian_version, extra);
    if let Some(asset) = store.version(key, &version, progress) {
        store.select(key, &version)?;
        return Ok(asset);
    }
    store.make(Recipe { key: key.to_owned(), version, integrity: Integrity::Hash }, |dir| {
        let scratch = store.scratch(store.root())?;
        let debs = apt.fetch(&format!("kernel {release}"), &packages, &scratch.path().join("debs"))?;
        let step = progress.step(&format!("unpacking kernel {release}"), None);
        let root = scratch.path().join("root");
        merge_usr(&root)?;
        for deb in &debs {
            deb.unpack(&root)?;
        }
        for name in ["vmlinuz", "config"] {
            let from = find_boot_file(&root, name, &release)?;
            fs::copy(&from, dir.join(name)).map_err(Error::io("copy", &from))?;
        }
        check_config(&release, &dir.join("config"))?;
        let from = root.join("usr/lib/modules").join(&release);
        let tree = ModuleTree::index(&from)?;
        let base = closure(&release, &tree, &BTreeSet::new())?;
        create_dir(&dir.join("modules"))?;
        let mut made = Made::default();
        for module in &closure(&release, &tree, extra)? {
            write_module(&dir.join("modules"), module)?;
        }
        let built_in = from.join(BUILT_IN);
        fs::copy(&built_in, dir.join("modules").join(BUILT_IN)).map_err(Error::io("copy", &built_in))?;
        made.facts.insert(BASE.into(), base.into_iter().map(|module| module.name).collect());
        made.facts.insert(EXTRA.into(), extra.iter().cloned().collect());
        made.facts.insert(RELEASE.into(), vec![release.clone()]);
        made.packages = debs.into_iter().map(|deb| deb.package).collect();
        step.finish();
        Ok(made)
    })
}

/// A kernel that was kept with other modules is another version: a lab may be running it.
fn asset_version(release: &str, debian_version: &str, extra: &BTreeSet<String>) -> String {
    let version = format!("{release}_{debian_version}");
    if extra.is_empty() {
        return version;
    }
    let names: String = extra.iter().map(|name| format!("{name}\n")).collect();
    let digest: String = sha256_hex(names.as_bytes()).chars().take(8).collect();
    format!("{version}_{digest}")
}

/// The files of an asset's modules in load order: what every guest loads, then `extra` with what it depends on.
fn load_order(asset: &Asset, extra: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
    let dir = asset.dir.join("modules");
    let mut names = asset.facts(BASE).to_vec();
    if !extra.is_empty() {
        let modules =
            resolve(asset.fact(RELEASE)?, &ModuleTree::index(&dir)?, extra.iter().map(String::as_str))?;
        let more = modules.into_iter().map(|module| module.name);
        names.extend(more.filter(|name| !asset.facts(BASE).contains(name)));
    }
    Ok(names.into_iter().map(|name| dir.join(format!("{name}.ko"))).collect())
}

/// The release, and the packages that hold image, configuration and modules; the image's package first.
///
/// Up to 6.12 one package holds them all; in 7.x they are in linux-binary, linux-base and linux-modules.
fn select_packages(closure: Vec<Candidate>) -> Option<(String, Vec<Candidate>)> {
    let release = closure.iter().find_map(|package| {
        let release = package.name.strip_prefix("linux-image-")?;
        release.starts_with(|first: char| first.is_ascii_digit()).then(|| release.to_owned())
    })?;
    let wanted = ["image", "binary", "base", "modules"].map(|part| format!("linux-{part}-{release}"));
    let mut packages: Vec<Candidate> =
        closure.into_iter().filter(|package| wanted.contains(&package.name)).collect();
    packages.sort_by_key(|package| wanted.iter().position(|name| *name == package.name));
    Some((release, packages))
}

/// `boot/NAME-RELEASE`, or the place beside the modules that later packages use.
fn find_boot_file(root: &Path, name: &str, release: &str) -> Result<PathBuf> {
    let places = [
        root.join("boot").join(format!("{name}-{release}")),
        root.join("usr/lib/modules").join(release).join(name),
    ];
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        Error::Unusable(format!("the packages of kernel {release} hold none of {}", places.join(", ")))
    })
}

/// What every guest loads and `extra`, with all that they depend on, in load order.
fn closure(release: &str, tree: &ModuleTree, extra: &BTreeSet<String>) -> Result<Vec<Module>> {
    resolve(release, tree, MODULES.into_iter().chain(extra.iter().map(String::as_str)))
}

fn resolve<'a>(
    release: &str,
    tree: &ModuleTree,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<Module>> {
    tree.closure(&names.collect::<Vec<_>>())?.map_err(|missing| Error::Kernel {
        kernel: release.to_owned(),
        problems: missing
            .into_iter()
            .map(|name| format!("the module {name} is neither among its modules nor in {BUILT_IN}"))
            .collect(),
    })
}

fn write_module(dir: &Path, module: &Module) -> Result<()> {
    let path = dir.join(format!("{}.ko", module.name));
    fs::write(&path, &module.content).map_err(Error::io("write", &path))
}

/// Files of an own kernel, by name, in a directory named after their content: another lab may be reading those of a
/// kernel with the same release.
pub(super) fn keep(
    place: &str,
    release: &str,
    files: &[(String, &[u8])],
    store: &Store,
) -> Result<Vec<PathBuf>> {
    let digests: String =
        files.iter().map(|(name, content)| format!("{name} {}\n", sha256_hex(content))).collect();
    let digest: String = sha256_hex(digests.as_bytes()).chars().take(16).collect();
    let parent = store.root().join(place);
    let dir = parent.join(format!("{release}-{digest}"));
    if !dir.is_dir() {
        let scratch = store.scratch(store.root())?;
        for (name, content) in files {
            let path = scratch.path().join(name);
            fs::write(&path, content).map_err(Error::io("write", &path))?;
        }
        create_dir(&parent)?;
        let filled = scratch.keep();
        fs::rename(&filled, &dir).map_err(Error::io("rename", &filled))?;
    }
    Ok(files.iter().map(|(name, _)| dir.join(name)).collect())
}

fn check_config(release: &str, path: &Path) -> Result<()> {
    refuse(&named(release, path), read_config(path)?.problems())
}

fn read_config(path: &Path) -> Result<KernelConfig> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(KernelConfig::parse(&text))
}

/// A kernel and the file that says how it is configured, for messages.
fn named(release: &str, config: &Path) -> String {
    format!("{release}, configured by {}", config.display())
}

fn refuse(kernel: &str, problems: Vec<String>) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { Err(Error::Kernel { kernel: kernel.to_owned(), problems }) }
}

fn find_config(own: &OwnKernel, release: &str) -> Option<PathBuf> {
    let beside = own.image.parent().unwrap_or(Path::new("."));
    let mut places =
        vec![beside.join(format!("config-{release}")), beside.join("config"), beside.join(".config")];
    // arch/x86/boot/bzImage is three levels below its tree.
    places.extend(beside.ancestors().nth(3).map(|tree| tree.join(".config")));
    places.extend(own.tree.iter().map(|tree| tree.join(".config")));
    if let Some(dir) = &own.modules {
        places.extend([dir.join("config"), dir.join("build/.config")]);
    }
    places.into_iter().find(|path| path.is_file())
}

/// `uname -r` of a bzImage (Documentation/arch/x86/boot.rst: magic at 0x202, `kernel_version` at 0x20e).
fn bzimage_release(image: &[u8]) -> Option<String> {
    const SETUP_START: usize = 0x200;
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let text = image.get(SETUP_START + usize::from(pointer)..)?.split(|byte| *byte == 0).next()?;
    let release = std::str::from_utf8(text).ok()?.split(' ').next()?;
    (!release.is_empty()).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(names: &[&str]) -> Vec<Candidate> {
        names.iter().map(|name| Candidate::new(name, "7.3.4-1~bpo13+1", 1)).collect()
    }

    fn bzimage(release: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        let text = format!("{release} (builder@host) #1 SMP\0");
        image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        image
    }

    #[test]
    fn one_package_holds_an_old_kernel() {
        let (release, packages) = select_packages(candidates(&[
            "kmod",
            "linux-base",
            "linux-image-6.1.0-56-amd64",
            "linux-image-amd64",
        ]))
        .unwrap();
        assert_eq!(release, "6.1.0-56-amd64");
        assert_eq!(packages.len(), 1);
    }

    #[test]
    fn a_split_kernel_is_put_together() {
        let (_, packages) = select_packages(candidates(&[
            "linux-base",
            "linux-modules-7.3.4+deb13-amd64",
            "linux-binary-7.3.4+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-modules-amd64",
        ]))
        .unwrap();
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "linux-image-7.3.4+deb13-amd64",
                "linux-binary-7.3.4+deb13-amd64",
                "linux-modules-7.3.4+deb13-amd64"
            ]
        );
        assert!(select_packages(candidates(&["linux-image-amd64"])).is_none());
    }

    #[test]
    fn the_release_is_read_from_the_boot_header() {
        assert_eq!(bzimage_release(&bzimage("6.9.0-rc1+")).as_deref(), Some("6.9.0-rc1+"));
        assert_eq!(bzimage_release(b"\x7fELF"), None);
        assert_eq!(bzimage_release(&bzimage("x")[..0x280]), None);
    }

    /// Why a kernel with this configuration beside it, and no MODULES=, is refused.
    fn refusal(image_name: &str, image: &[u8], config: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let image_path = dir.path().join(image_name);
        fs::write(&image_path, image).unwrap();
        fs::write(dir.path().join(".config"), config).unwrap();
        let own = OwnKernel { image: image_path, modules: None, tree: None };
        let store = Store::at(&dir.path().join("cache")).unwrap();
        Kernel::obtain_own(&own, &BTreeSet::new(), &store, Progress::Silent).unwrap_err().to_string()
    }

    #[test]
    fn an_own_kernel_without_vmd_is_refused_by_name() {
        let error = refusal("bzImage", &bzimage("6.9.0"), "CONFIG_PM=y\n");
        assert!(error.starts_with("kernel 6.9.0, configured by /"), "{error}");
        assert!(error.contains("/.config: CONFIG_VMD is not set: sdmorph's slot lives"), "{error}");
    }

    #[test]
    fn drivers_that_are_modules_are_refused_without_modules() {
        let config = super::super::kconfig::tests::complete().replace("CONFIG_VMD=y", "CONFIG_VMD=m");
        let error = refusal("bzImage", &bzimage("6.9.0"), &config);
        assert!(error.contains("built as modules: CONFIG_VMD; give MODULES="), "{error}");
        assert!(!error.contains("CONFIG_BLK_DEV_NVME"), "{error}");
    }

    #[test]
    fn an_image_that_is_no_bzimage_is_refused() {
        let error = refusal("vmlinux", b"\x7fELF", "");
        assert!(error.contains("not a bzImage"), "{error}");
        assert!(refusal("zeros", &[0; 4096], "").contains("not a bzImage"));
    }

    #[test]
    fn the_files_of_two_kernels_of_one_release_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        let keep = |content: &str| {
            super::keep("own-modules", "6.9.0", &[("vmd.ko".to_owned(), content.as_bytes())], &store).unwrap()
        };
        let (first, second) = (keep("one"), keep("two"));
        assert_eq!(fs::read_to_string(&first[0]).unwrap(), "one");
        assert_eq!(fs::read_to_string(&second[0]).unwrap(), "two");
        assert_eq!(keep("one"), first);
    }

    #[test]
    fn an_own_kernel_that_is_built_anew_boots_as_it_was_when_it_was_obtained() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("cache")).unwrap();
        let own = OwnKernel { image: dir.path().join("bzImage"), modules: None, tree: None };
        fs::write(dir.path().join(".config"), super::super::kconfig::tests::complete()).unwrap();
        let obtain = |image: &[u8]| {
            fs::write(&own.image, image).unwrap();
            Kernel::obtain_own(&own, &BTreeSet::new(), &store, Progress::Silent).unwrap()
        };
        let (before, mut rebuilt) = (bzimage("6.9.0"), bzimage("6.9.0"));
        let first = obtain(&before);
        rebuilt[0x3ff] = 1;
        let second = obtain(&rebuilt);
        assert_eq!(fs::read(first.image).unwrap(), before);
        assert_eq!(fs::read(second.image).unwrap(), rebuilt);
    }
}
