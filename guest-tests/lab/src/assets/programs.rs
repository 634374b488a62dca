//! Programs of Debian packages for the guest, each with the shared libraries that it is linked to, and nothing else.
//!
//! ```text
//! assets/programs-SUITE/VERSION/bin/NAME     programs; a name that is a link in its package is a fact of the manifest
//! assets/programs-SUITE/VERSION/lib/NAME     shared libraries and the dynamic loader
//! ```
//!
//! What a program needs is read from its ELF file (DT_NEEDED, PT_INTERP), and in turn from each library's. A package's
//! dependencies only say where to look: those of `fio` have Python and Perl among them.
//!
//! A set of programs only grows: what one scenario asks for is added to what the ones before it asked for, so that
//! scenarios taking turns fetch nothing.
//!
//! Not done: scripts (busybox's shell is the guest's only interpreter), and what a program opens by itself when it runs:
//! plug-ins, configuration, translations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use object::LittleEndian;
use object::elf::DT_NEEDED;
use object::read::elf::{ElfFile64, ProgramHeader};
use serde::Serialize;

use super::Fetcher;
use super::apt::{Apt, Candidate, Suite, merge_usr};
use super::error::{Error, Result};
use super::store::{Asset, Integrity, Made, Recipe, create_dir, sha256_hex};

/// Programs by the package that they come in.
pub type Packages = BTreeMap<String, BTreeSet<String>>;

const BIN: &str = "bin";
const LIB: &str = "lib";
/// Facts of the asset: `PACKAGE PROGRAM`, and `NAME TARGET` for a program that is a link.
const HELD: &str = "programs";
const LINKS: &str = "links";
/// Where the guest has programs; `init.sh` has it in PATH, before busybox's own.
const GUEST_BIN: &str = "usr/bin";
/// Where Debian's dynamic loader looks for libraries without being told.
const GUEST_LIB: &str = "usr/lib/x86_64-linux-gnu";
/// A link to a link to a link is a mistake in a package.
const LONGEST_CHAIN: usize = 8;
/// Dependencies of scripts and maintainer scripts. Nothing is linked to them; if it were, it would be said.
const UNUSED_PACKAGES: [&str; 17] = [
    "adduser",
    "debconf",
    "dmsetup",
    "dpkg",
    "gcc-",
    "init-system-helpers",
    "libpam",
    "libperl",
    "libpython",
    "login.defs",
    "logsave",
    "media-types",
    "passwd",
    "perl",
    "python",
    "tar",
    "usrmerge",
];

/// Something of a program in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuestFile {
    /// Where the guest has it, without the leading slash.
    pub path: String,
    /// What is there.
    pub source: Source,
}

/// What a [`GuestFile`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A copy of this file.
    File(PathBuf),
    /// A link to this name in the same directory.
    Link(String),
}

/// Finds or fetches programs, and returns what the guest needs of them.
pub(crate) fn obtain(wanted: &Packages, suite: Suite, fetcher: &mut Fetcher<'_>) -> Result<Vec<GuestFile>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let key = format!("programs-{suite}");
    let current = fetcher.store.current(&key, fetcher.progress);
    let held = current.as_ref().map(held_by).unwrap_or_default();
    let asset = match current {
        Some(asset) if !fetcher.refresh && covers(&held, wanted) => asset,
        _ => fetch(&key, &union(held, wanted), suite, fetcher)?,
    };
    guest_files(&asset, wanted)
}

fn held_by(asset: &Asset) -> Packages {
    let mut held = Packages::new();
    for (package, program) in asset.facts(HELD).iter().filter_map(|fact| fact.split_once(' ')) {
        held.entry(package.to_owned()).or_default().insert(program.to_owned());
    }
    held
}

fn covers(held: &Packages, wanted: &Packages) -> bool {
    wanted.iter().all(|(package, programs)| held.get(package).is_some_and(|held| programs.is_subset(held)))
}

/// Everything in either.
pub(super) fn union(mut into: Packages, more: &Packages) -> Packages {
    for (package, programs) in more {
        into.entry(package.clone()).or_default().extend(programs.iter().cloned());
    }
    into
}

fn fetch(key: &str, wanted: &Packages, suite: Suite, fetcher: &mut Fetcher<'_>) -> Result<Asset> {
    let (store, progress) = (fetcher.store, fetcher.progress);
    let apt = fetcher.apt(suite)?;
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let candidates = useful(apt.closure(&names)?, wanted);
    let version = version(&candidates, wanted);
    if let Some(asset) = store.version(key, &version, progress) {
        store.select(key, &version)?;
        return Ok(asset);
    }
    let recipe = Recipe { key: key.to_owned(), version, integrity: Integrity::Hash };
    store.make(recipe, |dir| {
        let scratch = store.scratch(store.root())?;
        fill(dir, scratch.path(), &candidates, wanted, apt)
    })
}

/// Leaves out what no program is linked to. A package that was asked for stays.
fn useful(mut candidates: Vec<Candidate>, wanted: &Packages) -> Vec<Candidate> {
    let unused = |name: &str| UNUSED_PACKAGES.iter().any(|unused| name.starts_with(unused));
    candidates.retain(|candidate| wanted.contains_key(&candidate.name) || !unused(&candidate.name));
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    candidates
}

/// The same packages and programs give the same version.
fn version(candidates: &[Candidate], wanted: &Packages) -> String {
    let mut text = String::new();
    for candidate in candidates {
        text.push_str(&format!("{} {}\n", candidate.name, candidate.version));
    }
    for fact in held_facts(wanted) {
        text.push_str(&format!("{fact}\n"));
    }
    sha256_hex(text.as_bytes()).chars().take(16).collect()
}

fn held_facts(packages: &Packages) -> Vec<String> {
    let each = |(package, programs): (&String, &BTreeSet<String>)| -> Vec<String> {
        programs.iter().map(|program| format!("{package} {program}")).collect()
    };
    packages.iter().flat_map(each).collect()
}

fn fill(dir: &Path, scratch: &Path, candidates: &[Candidate], wanted: &Packages, apt: &Apt) -> Result<Made> {
    let what = format!("programs of {}", wanted.keys().cloned().collect::<Vec<_>>().join(", "));
    let debs = apt.fetch(&what, candidates, &scratch.join("debs"))?;
    let step = apt.progress().step(&format!("unpacking {what}"), None);
    // A root for each package that was asked for, so that it is known what comes in it.
    let roots = scratch.join("roots");
    for deb in &debs {
        let root = roots.join(&deb.package.package);
        merge_usr(&root)?;
        deb.unpack(&root)?;
    }
    let mut made = keep_needed(&roots, dir, wanted)?;
    made.packages = debs.into_iter().map(|deb| deb.package).collect();
    step.finish();
    Ok(made)
}

/// Copies the programs and what they are linked to from `roots`, a directory for each package.
fn keep_needed(roots: &Path, dir: &Path, wanted: &Packages) -> Result<Made> {
    for part in [BIN, LIB] {
        create_dir(&dir.join(part))?;
    }
    let libraries = index_libraries(roots)?;
    let mut links = BTreeSet::new();
    let mut needed = BTreeSet::new();
    for (package, programs) in wanted {
        for program in programs {
            let (name, path) = find_program(&roots.join(package), package, program)?;
            let content = read(&path)?;
            let linked = linked_to(&content).map_err(|why| {
                Error::Unusable(format!(
                    "{program} of the package {package} cannot be run in the guest: {why}"
                ))
            })?;
            needed.extend(linked.loader_name());
            needed.extend(linked.needed);
            write(&dir.join(BIN).join(&name), &content)?;
            if name != *program {
                links.insert(format!("{program} {name}"));
            }
        }
    }
    let mut open: Vec<String> = needed.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let path = libraries.get(&name).ok_or_else(|| {
            Error::Unusable(format!(
                "the library {name} is in none of the packages that {} depend on",
                wanted.keys().cloned().collect::<Vec<_>>().join(", ")
            ))
        })?;
        let content = read(path)?;
        let linked = linked_to(&content)
            .map_err(|why| Error::Unusable(format!("the library {name} cannot be used: {why}")))?;
        write(&dir.join(LIB).join(&name), &content)?;
        open.extend(linked.needed.into_iter().filter(|more| needed.insert(more.clone())));
    }
    let mut made = Made::default();
    made.facts.insert(HELD.into(), held_facts(wanted));
    made.facts.insert(LINKS.into(), links.into_iter().collect());
    Ok(made)
}

/// A program's file, and its name there: links are followed by name, within the package.
fn find_program(root: &Path, package: &str, program: &str) -> Result<(String, PathBuf)> {
    let mut name = program.to_owned();
    for _ in 0..LONGEST_CHAIN {
        let places = ["usr/bin", "usr/sbin"].map(|place| root.join(place).join(&name));
        let Some(path) = places.into_iter().find(|path| fs::symlink_metadata(path).is_ok()) else { break };
        match fs::read_link(&path) {
            Ok(target) => name = target.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Err(_) => return Ok((name, path)),
        }
    }
    let there = programs_in(root);
    Err(Error::Unusable(format!(
        "the package {package} has no program {program}; it has {}",
        there.join(", ")
    )))
}

fn programs_in(root: &Path) -> Vec<String> {
    let entries = ["usr/bin", "usr/sbin"].into_iter().flat_map(|place| fs::read_dir(root.join(place)));
    let names = entries.flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: BTreeSet<String> = names.collect();
    names.into_iter().collect()
}

/// Every shared library below `usr/lib` and `usr/lib64` of every root, by file name. Files go before links: those of
/// old packages to the loader are absolute.
fn index_libraries(roots: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut links = BTreeMap::new();
    for root in fs::read_dir(roots).map_err(Error::io("list", roots))? {
        let root = root.map_err(Error::io("list", roots))?.path();
        for place in ["usr/lib", "usr/lib64"] {
            collect_libraries(&root.join(place), &mut files, &mut links)?;
        }
    }
    links.extend(files);
    Ok(links)
}

fn collect_libraries(
    dir: &Path,
    files: &mut BTreeMap<String, PathBuf>,
    links: &mut BTreeMap<String, PathBuf>,
) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            collect_libraries(&path, files, links)?;
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(".so") {
            if kind.is_symlink() { &mut *links } else { &mut *files }.insert(name, path);
        }
    }
    Ok(())
}

/// What the guest needs of an asset for these programs.
fn guest_files(asset: &Asset, wanted: &Packages) -> Result<Vec<GuestFile>> {
    let links: BTreeMap<&str, &str> =
        asset.facts(LINKS).iter().filter_map(|fact| fact.split_once(' ')).collect();
    let mut found: BTreeMap<String, Source> = BTreeMap::new();
    let mut needed = BTreeSet::new();
    for program in wanted.values().flatten() {
        let name = match links.get(program.as_str()) {
            Some(target) => {
                found.insert(format!("{GUEST_BIN}/{program}"), Source::Link((*target).to_owned()));
                *target
            }
            None => program,
        };
        let path = asset.dir.join(BIN).join(name);
        let linked = linked_in_cache(&path)?;
        found.insert(format!("{GUEST_BIN}/{name}"), Source::File(path));
        if let (Some(loader), Some(name)) = (&linked.loader, linked.loader_name()) {
            let place = loader.trim_start_matches('/').to_owned();
            found.insert(place, Source::File(asset.dir.join(LIB).join(name)));
        }
        needed.extend(linked.needed);
    }
    let mut open: Vec<String> = needed.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let path = asset.dir.join(LIB).join(&name);
        let linked = linked_in_cache(&path)?;
        found.insert(format!("{GUEST_LIB}/{name}"), Source::File(path));
        open.extend(linked.needed.into_iter().filter(|more| needed.insert(more.clone())));
    }
    Ok(found.into_iter().map(|(path, source)| GuestFile { path, source }).collect())
}

fn linked_in_cache(path: &Path) -> Result<Linked> {
    linked_to(&read(path)?).map_err(|why| Error::Unusable(format!("{}: {why}", path.display())))
}

/// What the dynamic loader would load for a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Linked {
    /// The libraries that it names itself.
    needed: Vec<String>,
    /// The path of the loader; none for libraries and static programs.
    loader: Option<String>,
}

impl Linked {
    fn loader_name(&self) -> Option<String> {
        let path = Path::new(self.loader.as_deref()?);
        Some(path.file_name()?.to_string_lossy().into_owned())
    }
}

/// Reads what a program or library is linked to. The error says why it is neither.
fn linked_to(image: &[u8]) -> std::result::Result<Linked, String> {
    if image.starts_with(b"#!") {
        return Err("it is a script, and only compiled programs are taken over".to_owned());
    }
    let parsed = || -> object::read::Result<Linked> {
        let file: ElfFile64<'_, LittleEndian> = ElfFile64::parse(image)?;
        let mut linked = Linked::default();
        for header in file.elf_program_headers() {
            if let Some(path) = header.interpreter(file.endian(), image)? {
                linked.loader = Some(String::from_utf8_lossy(path).into_owned());
            }
        }
        let table = file.elf_dynamic_table()?;
        for entry in table.iter().filter(|entry| entry.tag == DT_NEEDED) {
            linked.needed.push(String::from_utf8_lossy(table.string(entry)?).into_owned());
        }
        Ok(linked)
    };
    parsed().map_err(|error| format!("it is no ELF64 program: {error}"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("read", path))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::super::progress::Progress;
    use super::super::store::Store;
    use super::*;

    /// A minimal ELF64 file that needs libraries, and a loader if one is given: sections null, .dynstr and .dynamic.
    fn elf(needed: &[&str], loader: Option<&str>) -> Vec<u8> {
        let mut strings = vec![0];
        let mut dynamic = Vec::new();
        for name in needed {
            dynamic.extend(1_u64.to_le_bytes());
            dynamic.extend((strings.len() as u64).to_le_bytes());
            strings.extend(format!("{name}\0").bytes());
        }
        dynamic.extend([0; 16]);
        strings.resize(strings.len().next_multiple_of(8), 0);
        let loader = loader.map(|path| format!("{path}\0")).unwrap_or_default();
        let (program_at, strings_at) = (64_u64, 64 + 56_u64);
        let dynamic_at = strings_at + strings.len() as u64;
        let loader_at = dynamic_at + dynamic.len() as u64;
        let sections_at = (loader_at + loader.len() as u64).next_multiple_of(8);
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [3_u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1_u32.to_le_bytes());
        for word in [0, program_at, sections_at] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        // Header sizes and counts: one program header, three sections, whose names are empty ones in the first.
        for half in [64_u16, 56, u16::from(!loader.is_empty()), 64, 3, 1] {
            file.extend(half.to_le_bytes());
        }
        // PT_INTERP, readable.
        file.extend([3, 0, 0, 0, 4, 0, 0, 0]);
        for word in [loader_at, 0, 0, loader.len() as u64, loader.len() as u64, 1] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&strings);
        file.extend(&dynamic);
        file.extend(loader.bytes());
        file.resize(usize::try_from(sections_at).unwrap() + 64, 0);
        // SHT_STRTAB and SHT_DYNAMIC, which is linked to it.
        for (kind, at, size, link, entry) in
            [(3_u32, strings_at, strings.len(), 0_u32, 0_u64), (6, dynamic_at, dynamic.len(), 1, 16)]
        {
            file.extend(0_u32.to_le_bytes());
            file.extend(kind.to_le_bytes());
            for word in [0, 0, at, size as u64] {
                file.extend(word.to_le_bytes());
            }
            file.extend(u64::from(link).to_le_bytes());
            for word in [8, entry] {
                file.extend(word.to_le_bytes());
            }
        }
        file
    }

    const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

    /// Unpacked packages: `tools` with `mkfs` and its link, the library of it in a package of its own, and the loader.
    fn roots(dir: &Path) -> PathBuf {
        let roots = dir.join("roots");
        let put = |path: &str, content: &[u8]| {
            let path = roots.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        for package in ["tools", "libone", "libc"] {
            merge_usr(&roots.join(package)).unwrap();
        }
        put("tools/usr/sbin/mkfs", &elf(&["libone.so.1", "libc.so"], Some(LOADER)));
        std::os::unix::fs::symlink("mkfs", roots.join("tools/usr/bin/mkfs.one")).unwrap();
        std::os::unix::fs::symlink("/etc/alternatives/x", roots.join("tools/usr/bin/nowhere")).unwrap();
        put("tools/usr/bin/script", b"#!/usr/bin/python3\n");
        put("tools/usr/bin/orphan", &elf(&["libgone.so.3"], None));
        put("libone/usr/lib/x86_64-linux-gnu/deep/libone.so.1.2", &elf(&["libc.so"], None));
        let links = roots.join("libone/usr/lib/x86_64-linux-gnu/deep/libone.so.1");
        std::os::unix::fs::symlink("libone.so.1.2", links).unwrap();
        put("libone/usr/lib/x86_64-linux-gnu/libunused.so.1", &elf(&[], None));
        put("libc/usr/lib/x86_64-linux-gnu/libc.so", &elf(&["ld-linux-x86-64.so.2"], None));
        put("libc/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &elf(&[], None));
        let loader = roots.join("libc/usr/lib64/ld-linux-x86-64.so.2");
        std::os::unix::fs::symlink("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", loader).unwrap();
        roots
    }

    fn packages(programs: &[&str]) -> Packages {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        Packages::from([("tools".to_owned(), programs)])
    }

    fn keep(dir: &Path, wanted: &Packages) -> Result<Asset> {
        let store = Store::at(&dir.join("cache")).unwrap();
        let recipe =
            Recipe { key: "programs-x".into(), version: version(&[], wanted), integrity: Integrity::Hash };
        let roots = roots(dir);
        store.make(recipe, |dir| keep_needed(&roots, dir, wanted))
    }

    #[test]
    fn a_program_comes_with_the_libraries_that_it_needs_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = packages(&["mkfs.one"]);
        let asset = keep(dir.path(), &wanted).unwrap();
        let files = guest_files(&asset, &wanted).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "lib64/ld-linux-x86-64.so.2",
                "usr/bin/mkfs",
                "usr/bin/mkfs.one",
                "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
                "usr/lib/x86_64-linux-gnu/libc.so",
                "usr/lib/x86_64-linux-gnu/libone.so.1",
            ]
        );
        assert_eq!(files[2].source, Source::Link("mkfs".into()));
        for file in &files {
            if let Source::File(path) = &file.source {
                assert!(path.is_file(), "{path:?}");
            }
        }
        assert_eq!(fs::read_dir(asset.dir.join("lib")).unwrap().count(), 3);
        let again = Store::at(&dir.path().join("cache")).unwrap();
        let again = again.current("programs-x", Progress::Silent).unwrap();
        assert_eq!(held_by(&again), wanted);
    }

    #[test]
    fn what_cannot_be_had_is_named_with_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let refusal =
            |program: &str| keep(&dir.path().join(program), &packages(&[program])).unwrap_err().to_string();
        let absent =
            "the package tools has no program mkfs.two; it has mkfs, mkfs.one, nowhere, orphan, script";
        assert_eq!(refusal("mkfs.two"), absent);
        assert!(refusal("nowhere").contains("has no program nowhere"));
        assert!(
            refusal("script")
                .contains("script of the package tools cannot be run in the guest: it is a script")
        );
        assert!(refusal("orphan").contains("the library libgone.so.3 is in none of the packages that tools"));
    }

    #[test]
    fn a_set_of_programs_covers_its_parts_only() {
        let both = packages(&["a", "b"]);
        assert!(covers(&both, &packages(&["a"])) && covers(&both, &both) && covers(&both, &Packages::new()));
        assert!(!covers(&packages(&["a"]), &both));
        assert!(!covers(&both, &Packages::from([("other".to_owned(), BTreeSet::new())])));
        assert_eq!(union(packages(&["a"]), &packages(&["b"])), both);
    }

    #[test]
    fn the_version_follows_packages_and_programs() {
        let candidate = |version: &str| [Candidate::new("tools", version, 1)];
        let first = version(&candidate("1"), &packages(&["a"]));
        assert_eq!(first, version(&candidate("1"), &packages(&["a"])));
        assert_ne!(first, version(&candidate("2"), &packages(&["a"])));
        assert_ne!(first, version(&candidate("1"), &packages(&["a", "b"])));
    }

    #[test]
    fn what_scripts_need_is_not_fetched_unless_it_was_asked_for() {
        let closure = ["python3", "libc6", "perl-base", "tar"].map(|name| Candidate::new(name, "1", 1));
        let names = |wanted: &Packages| -> Vec<String> {
            useful(closure.to_vec(), wanted).into_iter().map(|candidate| candidate.name).collect()
        };
        assert_eq!(names(&packages(&["a"])), ["libc6"]);
        assert_eq!(names(&Packages::from([("tar".to_owned(), BTreeSet::new())])), ["libc6", "tar"]);
    }

    #[test]
    fn a_truncated_program_is_an_error_and_no_panic() {
        let whole = elf(&["libc.so"], Some(LOADER));
        let linked = linked_to(&whole).unwrap();
        assert_eq!(linked, Linked { needed: vec!["libc.so".into()], loader: Some(LOADER.into()) });
        for length in 0..whole.len() {
            let _ = linked_to(&whole[..length]);
        }
        assert!(linked_to(b"text").unwrap_err().contains("no ELF64 program"));
    }
}
