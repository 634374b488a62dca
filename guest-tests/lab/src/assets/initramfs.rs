//! The guest's whole user space: busybox, `/init`, the kernel's modules, the tests.
//!
//! ```text
//! /init                        mounts, then runs /tests/NAME.sh (sdmorph.test=NAME), then powers off
//! /bin/busybox                 and its applets, linked when /init starts
//! /modules/*.ko                decompressed
//! /modules/order               their file names in load order, one a line
//! /modules/sdmorph_*.ko        the lab's own, for the test to load; not in `order`
//! /tests/                      the directory of the tests
//! /usr/bin, /usr/lib, /lib64   programs of Debian packages, if the test asks for some
//! /trace.sh                    only if the kernel is to be traced
//! ```
//!
//! Beside them the files that a run adds of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Fetcher;
use super::apt::{Suite, merge_usr};
use super::cpio::Archive;
use super::error::{Error, Result};
use super::programs::{GuestFile, Source};
use super::store::{Integrity, Made, Recipe};

const INIT: &str = include_str!("init.sh");
/// What /init sources if it is there: the kernel is traced.
pub(crate) const TRACE: (&str, &str) = ("trace.sh", include_str!("trace.sh"));
const BUSYBOX: &str = "busybox";

/// Finds or fetches a static busybox. `given` is the user's (`BUSYBOX=`).
pub(crate) fn obtain_busybox(given: Option<&OsStr>, fetcher: &mut Fetcher<'_>) -> Result<PathBuf> {
    if let Some(path) = given.map(Path::new) {
        fs::metadata(path).map_err(Error::io("read", path))?;
        return Ok(path.to_path_buf());
    }
    let (store, progress) = (fetcher.store, fetcher.progress);
    if !fetcher.refresh {
        if let Some(asset) = store.current(BUSYBOX, progress) {
            return Ok(asset.dir.join(BUSYBOX));
        }
    }
    let apt = fetcher.apt(Suite::Trixie)?;
    let package = apt
        .closure(&["busybox-static"])?
        .into_iter()
        .find(|package| package.name == "busybox-static")
        .ok_or_else(|| Error::Unusable("trixie has no busybox-static".into()))?;
    let version = package.directory_name();
    if let Some(asset) = store.version(BUSYBOX, &version, progress) {
        store.select(BUSYBOX, &version)?;
        return Ok(asset.dir.join(BUSYBOX));
    }
    let recipe = Recipe { key: BUSYBOX.into(), version, integrity: Integrity::Hash };
    let asset = store.make(recipe, |dir| {
        let scratch = store.scratch(store.root())?;
        let debs = apt.fetch("busybox", &[package], &scratch.path().join("debs"))?;
        let root = scratch.path().join("root");
        merge_usr(&root)?;
        for deb in &debs {
            deb.unpack(&root)?;
        }
        let from = root.join("usr/bin").join(BUSYBOX);
        fs::copy(&from, dir.join(BUSYBOX)).map_err(Error::io("copy", &from))?;
        Ok(Made { packages: debs.into_iter().map(|deb| deb.package).collect(), ..Made::default() })
    })?;
    Ok(asset.dir.join(BUSYBOX))
}

/// What goes into an initramfs.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// A static busybox.
    pub busybox: &'a Path,
    /// Modules in load order.
    pub modules: &'a [PathBuf],
    /// Modules of the lab's own.
    pub own_modules: &'a [&'a Path],
    /// The directory that becomes /tests.
    pub tests: &'a Path,
    /// Programs of packages, with their libraries.
    pub programs: &'a [GuestFile],
    /// More files: where, without the leading slash, and what is in them.
    pub files: &'a [(String, String)],
}

impl Contents<'_> {
    /// Builds the initramfs, uncompressed: the kernel reads it faster than it could decompress it.
    ///
    /// # Errors
    /// A file cannot be read, or its name is not UTF-8.
    pub fn build(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for dir in ["dev", "proc", "sys", "tmp", "modules", "tests"] {
            archive.directory(dir)?;
        }
        // The kernel opens it before /init could mount a /dev.
        archive.character_device("dev/console", 0o600, 5, 1)?;
        archive.file("init", 0o755, INIT.as_bytes())?;
        archive.file("bin/busybox", 0o755, &read(self.busybox)?)?;
        archive.symlink("bin/sh", "busybox")?;
        let mut order = String::new();
        for module in self.modules {
            let name = utf8_name(module)?;
            archive.file(&format!("modules/{name}"), 0o644, &read(module)?)?;
            order.push_str(name);
            order.push('\n');
        }
        archive.file("modules/order", 0o644, order.as_bytes())?;
        for module in self.own_modules {
            archive.file(&format!("modules/{}", utf8_name(module)?), 0o644, &read(module)?)?;
        }
        add_tree(&mut archive, self.tests, "tests")?;
        for GuestFile { path, source } in self.programs {
            match source {
                Source::File(from) => archive.file(path, 0o755, &read(from)?)?,
                Source::Link(target) => archive.symlink(path, target)?,
            }
        }
        for (path, content) in self.files {
            archive.file(path, 0o644, content.as_bytes())?;
        }
        archive.finish()
    }

    /// Builds the initramfs into a file.
    ///
    /// # Errors
    /// As [`Contents::build`]; or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.build()?).map_err(Error::io("write", path))
    }
}

/// Adds a directory's files, sorted, so that the same tree gives the same archive.
fn add_tree(archive: &mut Archive, dir: &Path, inside: &str) -> Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        paths.push(entry.map_err(Error::io("list", dir))?.path());
    }
    paths.sort();
    for path in paths {
        let target = format!("{inside}/{}", utf8_name(&path)?);
        let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
        if metadata.is_dir() {
            archive.directory(&target)?;
            add_tree(archive, &path, &target)?;
        } else {
            archive.file(&target, metadata.permissions().mode() & 0o777, &read(&path)?)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("read", path))
}

fn utf8_name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(OsStr::to_str)
        .ok_or_else(|| Error::Unusable(format!("{}: the file's name is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(archive: &[u8], text: &str) -> bool {
        archive.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn modules_tests_and_the_order_are_inside_and_the_result_is_reproducible() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let busybox = put("busybox", "BUSYBOX");
        let modules = [put("m/b.ko", "MODULE-B"), put("m/a.ko", "MODULE-A")];
        let unfix = put("sdmorph_unfix.ko", "UNFIX");
        put("tests/race.sh", "echo race");
        put("tests/lib/ktap.sh", "KTAP");
        let tests = dir.path().join("tests");
        let program =
            GuestFile { path: "usr/bin/mke2fs".into(), source: Source::File(put("mke2fs", "PROGRAM")) };
        let link = GuestFile { path: "usr/bin/mkfs.ext4".into(), source: Source::Link("mke2fs".into()) };
        let mut contents = Contents {
            busybox: &busybox,
            modules: &modules,
            own_modules: &[],
            tests: &tests,
            programs: &[program, link],
            files: &[("images/card/bytes".to_owned(), "512\n".to_owned())],
        };
        let archive = contents.build().unwrap();
        for text in ["tests/race.sh", "tests/lib/ktap.sh", "MODULE-A", "b.ko\na.ko\n", "bin/busybox", INIT] {
            assert!(contains(&archive, text), "{text}");
        }
        for text in ["usr/bin/mke2fs", "PROGRAM", "usr/bin/mkfs.ext4", "images/card/bytes"] {
            assert!(contains(&archive, text), "{text}");
        }
        assert!(!contains(&archive, "UNFIX"));
        assert_eq!(archive, contents.build().unwrap());
        let own: [&Path; 1] = [&unfix];
        contents.own_modules = &own;
        assert!(contains(&contents.build().unwrap(), "modules/sdmorph_unfix.ko"));
    }

    /// What /init's `say_lines` puts into the kernel's log, if a test says this. A file stands in for the log.
    fn said(lines: &str) -> Vec<String> {
        let (_, functions) = INIT.split_once("\nLONGEST=").unwrap();
        let (functions, _) = functions.split_once("\nname=").unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let to_log = format!(">>'{}'", log.path().display());
        let script = format!("LONGEST={functions}\nsay_lines").replace(">/dev/kmsg", &to_log);
        let mut shell = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), lines.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        fs::read_to_string(log.path()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn init_makes_a_record_of_each_line_and_a_diagnostic_of_what_is_not_ktap() {
        let records = said(
            "KTAP version 1\n1..2\n# seen\nok 1 - a\n\n  indented, with  blanks\nnot ok 2 - b\n\
             sh: can't open /dev/mmcblk0: no such file\nsdmorph-init: exit 1\nnot ok 3 - of what was left behind\n",
        );
        let expected = [
            "KTAP version 1",
            "1..2",
            "# seen",
            "ok 1 - a",
            "#   indented, with  blanks",
            "not ok 2 - b",
            "# sh: can't open /dev/mmcblk0: no such file",
        ]
        .map(|line| format!("<14>sdmorph-ktap: {line}"));
        assert_eq!(records[..7], expected);
        assert_eq!(records[7..], ["<14>sdmorph-init: exit 1"]);
    }

    /// What /trace.sh does to a directory that stands in for tracefs.
    fn traced(prepare: impl FnOnce(&Path)) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        for event in ["printk/console", "irq/irq_handler_entry", "sched/sched_switch"] {
            fs::create_dir_all(dir.path().join("events").join(event)).unwrap();
        }
        fs::create_dir(dir.path().join("options")).unwrap();
        prepare(dir.path());
        let log = dir.path().join("log");
        let script = TRACE.1.replace(">/dev/kmsg", &format!(">>'{}'", log.display()));
        let script = format!(
            "{script}\nTRACING='{}'\ntrace_synchronise() {{ :; }}\ntrace_start",
            dir.path().display()
        );
        // Whether there is something to trace is said in the log.
        let _ = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
        let said = fs::read_to_string(log).unwrap_or_default();
        (dir, said)
    }

    #[test]
    fn trace_is_of_named_functions_only_and_modules_are_named() {
        let (dir, said) =
            traced(|dir| fs::write(dir.join("available_tracers"), "function_graph nop\n").unwrap());
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("current_tracer"), "function_graph\n");
        let filter = read("set_ftrace_filter");
        assert!(filter.lines().any(|line| line == "pm_runtime_barrier"), "{filter}");
        assert!(filter.lines().any(|line| line == "rtsx_pci_remove:mod:rtsx_pci"), "{filter}");
        assert!(filter.lines().all(|line| !line.contains('*')), "{filter}");
        assert_eq!(read("events/printk/console/enable"), "1\n");
        assert!(read("events/sched/sched_switch/filter").contains("kworker/*"));
        assert_eq!(said, "");
    }

    #[test]
    fn kernel_without_the_tracer_or_without_a_function_says_so_and_is_not_traced_whole() {
        let (dir, said) = traced(|dir| fs::write(dir.join("available_tracers"), "nop\n").unwrap());
        assert!(said.contains("no function graph tracer"), "{said}");
        assert!(!dir.path().join("set_ftrace_filter").exists());
        // No function is known: a directory cannot be written to.
        let (dir, said) = traced(|dir| {
            fs::write(dir.join("available_tracers"), "function_graph\n").unwrap();
            fs::create_dir(dir.join("set_ftrace_filter")).unwrap();
        });
        assert!(said.contains("no function pciehp_ist in this kernel"), "{said}");
        assert!(!dir.path().join("current_tracer").exists(), "without a filter it would be every function");
    }

    #[test]
    fn a_line_that_the_log_would_refuse_is_cut_and_says_so() {
        let records = said(&format!("ok 1 - {}\nok 2 - x\nsdmorph-init: exit 0\n", "long ".repeat(1000)));
        // LOG_LINE_MAX of 6.1; the level is not counted.
        assert!(records[0].len() <= 976, "{}", records[0].len());
        assert!(records[0].ends_with(" (cut)"), "{}", records[0]);
        assert_eq!(records[1..], ["<14>sdmorph-ktap: ok 2 - x", "<14>sdmorph-init: exit 0"]);
    }

    #[test]
    fn a_missing_busybox_is_named() {
        let contents = Contents {
            busybox: Path::new("/none/busybox"),
            modules: &[],
            own_modules: &[],
            tests: Path::new("/"),
            programs: &[],
            files: &[],
        };
        assert!(contents.build().unwrap_err().to_string().starts_with("cannot read /none/busybox"));
    }
}
