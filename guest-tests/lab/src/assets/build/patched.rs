//! A source tree with patches in it: which ones, can be changed at any time.
//!
//! Files that differ from what is wanted are replaced, and no others are touched: make then compiles what depends on
//! them. The file as it came is kept beside the tree before it is replaced for the first time, and all such files are
//! listed, so that a process that is killed in between leaves a tree that the next one can mend.
//!
//! Patches are applied by patch(1), and exactly: lines may have moved, but not changed (`--fuzz=0`, as git has it).

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::assets::error::{Error, Result, says_full};
use crate::assets::kernels::Text;
use crate::assets::store::create_dir;

/// The mode of a file that is written for the first time.
const MODE: u32 = 0o644;

/// Where a tree is, and what is kept of it.
#[derive(Debug)]
pub(super) struct Patched<'a> {
    /// The tree.
    pub(super) source: &'a Path,
    /// Files as they came, for those that were replaced.
    pub(super) pristine: &'a Path,
    /// One path a line: files that may not be as they came. Without a pristine one, there was none.
    pub(super) touched: &'a Path,
}

impl Patched<'_> {
    /// Puts these patches into the tree, and no others. `work` is an empty directory; `command` is patch(1), which sees it
    /// as `inside`, with what it is to have as its standard input. If a patch does not apply, the tree is as before.
    pub(super) fn apply(
        &self,
        patches: &[Text],
        kernel: &str,
        work: &Path,
        inside: &Path,
        command: impl Fn() -> Result<Command>,
    ) -> Result<()> {
        let tree = work.join("tree");
        create_dir(&tree)?;
        let mut named = BTreeSet::new();
        for Text { name, text } in patches {
            let files = files_of(text);
            if files.is_empty() {
                return Err(Error::Patch {
                    patch: name.clone(),
                    kernel: kernel.to_owned(),
                    said: "it names no file: there is no line `+++ b/PATH`".to_owned(),
                });
            }
            named.extend(files);
        }
        for path in &named {
            let from = self.as_it_came(path)?;
            if from.is_file() {
                copy(&from, &tree.join(path))?;
            }
        }
        for (index, patch) in patches.iter().enumerate() {
            let file = format!("{index}.patch");
            fs::write(work.join(&file), &patch.text).map_err(Error::io("write", &work.join(&file)))?;
            let mut command = command()?;
            command.args(["--strip=1", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch"]);
            command.args(["--reject-file=-", "-d"]).arg(inside.join("tree"));
            command.arg("-i").arg(inside.join(&file));
            run(&mut command, patch, kernel, work)?;
        }
        let touched = self.touched()?;
        for path in touched.union(&named) {
            let wanted = if named.contains(path) { tree.join(path) } else { self.as_it_came(path)? };
            self.replace(path, &wanted)?;
        }
        Ok(())
    }

    /// Where a file is found as it came with the source; it need not exist.
    fn as_it_came(&self, path: &Path) -> Result<PathBuf> {
        let kept = self.pristine.join(path);
        let replaced = kept.exists() || self.touched()?.contains(path);
        Ok(if replaced { kept } else { self.source.join(path) })
    }

    fn touched(&self) -> Result<BTreeSet<PathBuf>> {
        match fs::read_to_string(self.touched) {
            Ok(text) => Ok(text.lines().map(PathBuf::from).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(Error::io("read", self.touched)(error)),
        }
    }

    /// Makes a file of the tree what `wanted` is, which may not exist.
    fn replace(&self, path: &Path, wanted: &Path) -> Result<()> {
        let target = self.source.join(path);
        let (is, should) = (read(&target)?, read(wanted)?);
        if is == should {
            return Ok(());
        }
        self.remember(path, &target)?;
        match should {
            Some(content) => write(&target, &content, mode(wanted)?),
            None => fs::remove_file(&target).map_err(Error::io("remove", &target)),
        }
    }

    /// In this order: a file that is listed and was not replaced yet does no harm.
    fn remember(&self, path: &Path, target: &Path) -> Result<()> {
        if self.touched()?.contains(path) {
            return Ok(());
        }
        let kept = self.pristine.join(path);
        if target.is_file() && !kept.exists() {
            copy(target, &kept)?;
        }
        // A line that was cut off by whoever was killed is not gone on with: the list is written whole.
        let touched = self.touched()?;
        let all = touched.iter().map(PathBuf::as_path).chain([path]);
        let list: String = all.map(|path| format!("{}\n", path.display())).collect();
        write(self.touched, list.as_bytes(), MODE)
    }
}

/// The files that a patch names, below the tree. What looks like one and is none is not there, which does not matter;
/// paths that lead out of the tree are left to patch(1), which refuses them.
fn files_of(patch: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let named = ["--- ", "+++ "].iter().find_map(|prefix| line.strip_prefix(prefix));
        let moved = ["rename from ", "rename to ", "copy from ", "copy to "];
        let path = match named {
            Some(path) => path.split('\t').next()?.trim_end().split_once('/')?.1,
            None => moved.iter().find_map(|prefix| line.strip_prefix(prefix))?,
        };
        let path = PathBuf::from(path);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        (inside && path != Path::new("dev/null") && path.components().count() > 0).then_some(path)
    };
    patch.lines().filter(|line| !line.starts_with("--- /dev/null")).filter_map(path).collect()
}

fn run(command: &mut Command, patch: &Text, kernel: &str, place: &Path) -> Result<()> {
    let output = command.output().map_err(|error| {
        Error::spawn("patch", "apply a patch to a kernel's source", "install the package patch", error)
    })?;
    if output.status.success() {
        return Ok(());
    }
    // patch(1) says on stdout what did not fit.
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if says_full(&said) {
        let what = format!("applying {}", patch.name);
        return Err(Error::DiskFull { what, path: place.to_path_buf(), said });
    }
    Err(Error::Patch { patch: patch.name.clone(), kernel: kernel.to_owned(), said })
}

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// The mode of a file: kbuild runs some of them.
fn mode(path: &Path) -> Result<u32> {
    let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
    Ok(metadata.permissions().mode() & 0o777)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    write(to, &fs::read(from).map_err(Error::io("read", from))?, mode(from)?)
}

/// All of it or nothing, with the time of now.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    create_dir(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(Error::io("create a file in", parent))?;
    file.write_all(content).map_err(Error::io("write", path))?;
    let mode = fs::Permissions::from_mode(mode);
    file.as_file().set_permissions(mode).map_err(Error::io("change the mode of", path))?;
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::progress::Progress;
    use crate::assets::store::{held_by, lock_dir};

    const FIRST: &str = "--- a/lib/a.c\n+++ b/lib/a.c\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n";
    const SECOND: &str = "--- a/lib/a.c\n+++ b/lib/a.c\n@@ -1,3 +1,3 @@\n one\n TWO\n-three\n+THREE\n";
    const NEW: &str = "--- /dev/null\n+++ b/lib/new.c\n@@ -0,0 +1 @@\n+new\n";
    const GONE: &str = "--- a/lib/b.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("source/lib")).unwrap();
            fs::write(dir.path().join("source/lib/a.c"), "one\ntwo\nthree\n").unwrap();
            fs::write(dir.path().join("source/lib/b.c"), "b\n").unwrap();
            Self(dir)
        }

        fn apply(&self, patches: &[&str]) -> Result<()> {
            self.apply_with(patches, || Ok(Command::new("patch")))
        }

        fn apply_with(&self, patches: &[&str], command: impl Fn() -> Result<Command>) -> Result<()> {
            let work = tempfile::tempdir().unwrap();
            let texts: Vec<Text> = (1..)
                .zip(patches)
                .map(|(number, text)| Text { name: format!("{number}.patch"), text: (*text).to_owned() })
                .collect();
            let at = |name: &str| self.0.path().join(name);
            let (source, pristine, touched) = (at("source"), at("pristine"), at("touched"));
            Patched { source: &source, pristine: &pristine, touched: &touched }.apply(
                &texts,
                "k",
                work.path(),
                work.path(),
                command,
            )
        }

        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.path().join("source/lib").join(name)).ok()
        }
    }

    #[test]
    fn patches_come_and_go() {
        let tree = Tree::new();
        tree.apply(&[FIRST, SECOND]).unwrap();
        assert_eq!(tree.read("a.c").unwrap(), "one\nTWO\nTHREE\n");
        tree.apply(&[FIRST]).unwrap();
        assert_eq!(tree.read("a.c").unwrap(), "one\nTWO\nthree\n");
        tree.apply(&[NEW, GONE]).unwrap();
        assert_eq!(tree.read("a.c").unwrap(), "one\ntwo\nthree\n");
        assert_eq!((tree.read("new.c").as_deref(), tree.read("b.c")), (Some("new\n"), None));
        tree.apply(&[]).unwrap();
        assert_eq!((tree.read("new.c"), tree.read("b.c").as_deref()), (None, Some("b\n")));
    }

    #[test]
    fn patch_holds_the_lock_that_it_is_given() {
        let tree = Tree::new();
        let lock = lock_dir(tree.0.path(), Progress::Silent).unwrap();
        let path = tree.0.path().join("lock");
        tree.apply_with(&[FIRST], || {
            // It cannot be had by whoever opens the file; the standard input has it already.
            let mut command = Command::new("sh");
            command
                .args(["-ec", r#"exec 3<"$0"; ! flock --nonblock 3; [ /dev/stdin -ef "$0" ]; patch "$@""#]);
            command.arg(&path).stdin(held_by(&lock)?);
            Ok(command)
        })
        .unwrap();
        assert_eq!(tree.read("a.c").unwrap(), "one\nTWO\nthree\n");
    }

    #[test]
    fn a_file_that_stays_as_it_is_keeps_its_time() {
        let tree = Tree::new();
        tree.apply(&[FIRST]).unwrap();
        let path = tree.0.path().join("source/lib/a.c");
        let time = || fs::metadata(&path).unwrap().modified().unwrap();
        let before = time();
        tree.apply(&[FIRST, NEW]).unwrap();
        assert_eq!(time(), before);
    }

    #[test]
    fn a_patch_that_does_not_apply_is_named_with_the_hunk_and_leaves_the_tree_alone() {
        let tree = Tree::new();
        tree.apply(&[FIRST]).unwrap();
        let error = tree.apply(&[NEW, SECOND]).unwrap_err();
        assert_eq!(error.kind(), crate::assets::ErrorKind::Patch);
        let text = error.to_string();
        assert!(
            text.starts_with("2.patch does not apply to k") && text.contains("\n  Hunk #1 FAILED at "),
            "{text}"
        );
        assert_eq!(tree.read("a.c").unwrap(), "one\nTWO\nthree\n");
        assert_eq!(tree.read("new.c"), None);
    }

    #[test]
    fn changed_context_is_no_match() {
        let tree = Tree::new();
        let fuzzy = FIRST.replace("three", "tree");
        assert_eq!(tree.apply(&[&fuzzy]).unwrap_err().kind(), crate::assets::ErrorKind::Patch);
    }

    #[test]
    fn a_text_that_is_no_patch_is_refused() {
        let text = Tree::new().apply(&["int main(void);\n"]).unwrap_err().to_string();
        assert!(text.contains("names no file"), "{text}");
    }

    #[test]
    fn what_a_killed_process_has_listed_is_mended() {
        let tree = Tree::new();
        // Listed and kept, but not replaced yet; and one that was to be new.
        fs::create_dir_all(tree.0.path().join("pristine/lib")).unwrap();
        fs::copy(tree.0.path().join("source/lib/a.c"), tree.0.path().join("pristine/lib/a.c")).unwrap();
        fs::write(tree.0.path().join("touched"), "lib/a.c\nlib/new.c\n").unwrap();
        fs::write(tree.0.path().join("source/lib/new.c"), "half").unwrap();
        tree.apply(&[FIRST]).unwrap();
        assert_eq!(tree.read("a.c").unwrap(), "one\nTWO\nthree\n");
        assert_eq!(tree.read("new.c"), None);
    }

    #[test]
    fn a_list_that_was_cut_off_loses_no_file_and_what_was_kept_stays() {
        let tree = Tree::new();
        tree.apply(&[FIRST]).unwrap();
        let touched = tree.0.path().join("touched");
        fs::write(&touched, "lib/a.c").unwrap();
        tree.apply(&[GONE]).unwrap();
        assert_eq!(fs::read_to_string(&touched).unwrap(), "lib/a.c\nlib/b.c\n");
        assert_eq!(fs::read_to_string(tree.0.path().join("source/lib/a.c")).unwrap(), "one\ntwo\nthree\n");
        // Not listed, though it is kept: who copies it again would keep the patched one.
        fs::write(&touched, "").unwrap();
        fs::write(tree.0.path().join("source/lib/a.c"), "patched").unwrap();
        tree.apply(&[FIRST]).unwrap();
        assert_eq!(fs::read_to_string(tree.0.path().join("pristine/lib/a.c")).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_file_keeps_its_mode_with_a_patch_and_without() {
        let tree = Tree::new();
        let path = tree.0.path().join("source/lib/a.c");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for patches in [&[FIRST][..], &[]] {
            tree.apply(patches).unwrap();
            assert_eq!(mode(&path).unwrap(), 0o755, "{patches:?}");
        }
    }

    #[test]
    fn paths_out_of_the_tree_are_refused() {
        let tree = Tree::new();
        let out = NEW.replace("lib/new.c", "../../out.c");
        assert!(tree.apply(&[&out]).is_err());
        assert!(!tree.0.path().join("out.c").exists());
    }
}
