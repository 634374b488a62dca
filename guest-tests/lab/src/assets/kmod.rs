//! Which kernel modules the guest needs, and in which order they load.
//!
//! Dependencies are read from each module's own `.modinfo` section: `modules.dep`, which depmod makes
//! when a kernel package is installed, is not in the package. The same section has soft dependencies: what has to be
//! loaded before a module if it is there, and is asked for by the kernel when it runs (ext4's checksum, for one). The
//! guest has no modprobe that would answer.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;

use super::error::{Error, Result};

/// No module of a kernel is near this size; a decompressor bomb is.
const LARGEST_MODULE_BYTES: u64 = 256 << 20;

/// The list of what is built into the kernel, beside its modules.
pub(crate) const BUILT_IN: &str = "modules.builtin";

/// The modules of one kernel: `lib/modules/RELEASE`.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    files: HashMap<String, PathBuf>,
    built_in: HashSet<String>,
}

/// A module as it is loaded: decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

impl ModuleTree {
    /// Indexes a directory of modules by name.
    pub(crate) fn index(dir: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        collect(dir, &mut files)?;
        let list = fs::read_to_string(dir.join(BUILT_IN)).unwrap_or_default();
        Ok(Self { files, built_in: list.lines().filter_map(|line| module_name(Path::new(line))).collect() })
    }

    /// The wanted modules with everything they depend on, dependencies first.
    ///
    /// `Err` within `Ok` names modules that are neither there nor built in.
    pub(crate) fn closure(&self, wanted: &[&str]) -> Result<std::result::Result<Vec<Module>, Vec<String>>> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut order, &mut missing)?;
        }
        Ok(if missing.is_empty() { Ok(order) } else { Err(missing) })
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut HashSet<String>,
        order: &mut Vec<Module>,
        missing: &mut Vec<String>,
    ) -> Result<()> {
        let name = name.replace('-', "_");
        if self.built_in.contains(&name) || !seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.files.get(&name) else {
            missing.push(name);
            return Ok(());
        };
        let content = read_module(path)?;
        let info = elf64_section(&content, b".modinfo").ok_or_else(|| {
            Error::Unusable(format!("{} is no kernel module: it has no .modinfo section", path.display()))
        })?;
        let (hard, soft) = (depends(info), soft_depends(info));
        for dependency in soft.iter().filter_map(|name| self.soft(name)).chain(hard) {
            self.visit(&dependency, seen, order, missing)?;
        }
        order.push(Module { name, content });
        Ok(())
    }
}

impl ModuleTree {
    /// The module that a soft dependency means, if there is one. It may be an alias of the crypto layer: `crypto-` and an
    /// algorithm, which the module of the algorithm's name has, or the one that has it for every processor.
    fn soft(&self, name: &str) -> Option<String> {
        let name = name.replace('-', "_");
        let algorithm = name.strip_prefix("crypto_").unwrap_or(&name);
        let generic = format!("{algorithm}_generic");
        [&name, algorithm, &generic]
            .into_iter()
            .find(|name| self.files.contains_key(*name))
            .map(str::to_owned)
    }
}

fn collect(dir: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let path = entry.path();
        // `build` and `source` are symlinks to whole kernel trees: not followed.
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/drivers/rtsx-pci.ko.xz` is the module `rtsx_pci`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (stem, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".gz" | ".zst").then(|| stem.replace('-', "_"))
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => {
            let file = fs::File::open(path).map_err(Error::io("open", path))?;
            let mut content = Vec::new();
            XzReader::new(std::io::BufReader::new(file), true)
                .take(LARGEST_MODULE_BYTES)
                .read_to_end(&mut content)
                .map_err(Error::io("decompress", path))?;
            Ok(content)
        }
        Some("ko") => fs::read(path).map_err(Error::io("read", path)),
        _ => Err(Error::Unusable(format!(
            "{}: only .ko and .ko.xz modules can be read; install the modules uncompressed \
             (make modules_install with CONFIG_MODULE_COMPRESS_NONE=y)",
            path.display()
        ))),
    }
}

/// The modules that a module depends on, from its `.modinfo`.
fn depends(info: &[u8]) -> Vec<String> {
    let value = info.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What a module wants before it, from its `.modinfo`: `softdep=pre: A B post: C`, any number of times.
fn soft_depends(info: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for value in info.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"softdep=")) {
        let mut before = false;
        for word in String::from_utf8_lossy(value).split_whitespace() {
            match word {
                "pre:" => before = true,
                "post:" => before = false,
                name if before => names.push(name.to_owned()),
                _ => {}
            }
        }
    }
    names
}

/// The content of a section of a little-endian ELF64 file (ELF-64 Object File Format 1.5, figures 2 and 8).
fn elf64_section<'a>(file: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    const SECTION_HEADER_BYTES: usize = 64;
    let bytes = |at: usize, count: usize| file.get(at..at.checked_add(count)?);
    let u16_at = |at| Some(usize::from(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?)));
    let u32_at = |at| usize::try_from(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?)).ok();
    let u64_at = |at| usize::try_from(u64::from_le_bytes(bytes(at, 8)?.try_into().ok()?)).ok();

    // Magic, ELFCLASS64, ELFDATA2LSB.
    if bytes(0, 6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, count, names_index) = (u64_at(0x28)?, u16_at(0x3c)?, u16_at(0x3e)?);
    let header = |index: usize| index.checked_mul(SECTION_HEADER_BYTES)?.checked_add(table);
    let content =
        |header: usize| bytes(u64_at(header.checked_add(0x18)?)?, u64_at(header.checked_add(0x20)?)?);
    let names = content(header(names_index)?)?;
    (0..count).filter_map(header).find_map(|header| {
        let name = names.get(u32_at(header)?..)?.split(|byte| *byte == 0).next()?;
        if name == wanted { content(header) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal relocatable file with the sections null, .shstrtab and .modinfo.
    /// What follows a `;` in `depends` is a soft dependency.
    fn module(depends: &str) -> Vec<u8> {
        let (depends, soft) = depends.split_once(';').unwrap_or((depends, ""));
        let info = format!("license=GPL\0softdep={soft}\0depends={depends}\0name=x\0");
        let names = b"\0.shstrtab\0.modinfo\0";
        let (names_at, info_at) = (64, 64 + names.len());
        let table = info_at + info.len();
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        file[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
        file[0x3e..0x40].copy_from_slice(&1_u16.to_le_bytes());
        file.extend_from_slice(names);
        file.extend_from_slice(info.as_bytes());
        for (name, at, size) in [(0_u32, 0, 0), (1, names_at, names.len()), (11, info_at, info.len())] {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend(header);
        }
        file
    }

    fn tree(modules: &[(&str, &str)]) -> (tempfile::TempDir, ModuleTree) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kernel/drivers")).unwrap();
        for (file, depends) in modules {
            fs::write(dir.path().join("kernel/drivers").join(file), module(depends)).unwrap();
        }
        fs::write(dir.path().join("modules.builtin"), "kernel/drivers/mmc/core/mmc-core.ko\n").unwrap();
        let tree = ModuleTree::index(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn dependencies_load_first_and_once() {
        let (_dir, tree) = tree(&[
            ("rtsx_pci_sdmmc.ko", "rtsx_pci,mmc_core"),
            ("rtsx-pci.ko", "mfd_core"),
            ("mfd-core.ko", ""),
            ("unrelated.ko", "absent"),
        ]);
        let modules = tree.closure(&["rtsx_pci_sdmmc", "rtsx_pci"]).unwrap().unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["mfd_core", "rtsx_pci", "rtsx_pci_sdmmc"]);
    }

    #[test]
    fn what_a_module_wants_before_it_loads_first_if_it_is_there() {
        let (_dir, tree) = tree(&[
            ("ext4.ko", "jbd2;pre: crypto-crc32c absent post: later"),
            ("jbd2.ko", ""),
            ("crc32c_generic.ko", ""),
            ("later.ko", ""),
        ]);
        let modules = tree.closure(&["ext4"]).unwrap().unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["crc32c_generic", "jbd2", "ext4"]);
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        let (_dir, tree) = tree(&[("vmd.ko", "gone")]);
        assert_eq!(tree.closure(&["vmd", "nvme"]).unwrap().unwrap_err(), ["gone", "nvme"]);
    }

    #[test]
    fn a_truncated_module_is_an_error_and_no_panic() {
        let whole = module("a,b");
        assert_eq!(depends(elf64_section(&whole, b".modinfo").unwrap()), ["a", "b"]);
        for length in 0..whole.len() {
            let _ = elf64_section(&whole[..length], b".modinfo").map(depends);
        }
        let (dir, _) = tree(&[]);
        fs::write(dir.path().join("vmd.ko"), "text").unwrap();
        let tree = ModuleTree::index(dir.path()).unwrap();
        assert!(tree.closure(&["vmd"]).unwrap_err().to_string().contains("no kernel module"));
    }

    #[test]
    fn names_are_taken_from_file_names() {
        let name = |path| module_name(Path::new(path));
        assert_eq!(name("kernel/a/nvme-core.ko.xz").as_deref(), Some("nvme_core"));
        assert_eq!(name("modules.builtin"), None);
        assert_eq!(name("x.ko.bak"), None);
    }
}
