//! make, for a kernel: its progress, and what went wrong.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::SystemTime;

use crate::assets::error::{Error, Result, says_full};
use crate::assets::progress::Progress;
use crate::assets::store::held_by;
use crate::interrupt;

/// Runs `$@` between the making of a marker (`$0`) and its removal. It outlives a Ctrl-C, which is make's to obey: make
/// removes what it has half made. The marker stays if make was killed and could not.
pub(super) const MARKED: &str = r#"trap : INT TERM
: >"$0" || exit
"$@"
status=$?
[ "$status" -ge 128 ] || rm -f "$0"
exit "$status"
"#;

/// Removes what a make that was killed has made: half of a file can be among it, newer than what it is made of. `marker`
/// is what [`MARKED`] left, in the directory of the objects; without one, there is nothing to do.
pub(super) fn mend(objects: &Path, marker: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(marker) else { return Ok(()) };
    let since = metadata.modified().map_err(Error::io("read", marker))?;
    remove_since(objects, marker, since)?;
    fs::remove_file(marker).map_err(Error::io("remove", marker))
}

fn remove_since(dir: &Path, marker: &Path, since: SystemTime) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let metadata = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
        if metadata.is_dir() {
            remove_since(&path, marker, since)?;
        } else if metadata.is_file() && path != marker {
            let modified = metadata.modified().map_err(Error::io("read", &path))?;
            if modified >= since {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// Removes objects if some of them are newer than what is written now: the clock has been set back since. What is changed
/// from now on would look older than they are, and make would keep them.
pub(super) fn forget_future(objects: &Path, progress: Progress) -> Result<()> {
    let Some(parent) = objects.parent().filter(|_| objects.is_dir()) else { return Ok(()) };
    // The clock of the file system, which may be another machine's.
    let now = tempfile::tempfile_in(parent).and_then(|file| file.metadata()?.modified());
    let now = now.map_err(Error::io("create a file in", parent))?;
    if !has_newer(objects, now)? {
        return Ok(());
    }
    let shown = objects.display();
    progress
        .say(&format!("the clock has been set back since {shown} was built: all of it is compiled again"));
    fs::remove_dir_all(objects).map_err(Error::io("remove", objects))
}

fn has_newer(dir: &Path, now: SystemTime) -> Result<bool> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let metadata = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
        let is_newer = if metadata.is_dir() {
            has_newer(&path, now)?
        } else {
            metadata.modified().map_err(Error::io("read", &path))? > now
        };
        if is_newer {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `-jN`: as many jobs as there are processors.
pub(super) fn jobs() -> String {
    format!("-j{}", std::thread::available_parallelism().map_or(1, usize::from))
}

/// What of a make is shown as progress.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counts {
    /// The files that are compiled, about so many if that is known.
    Files { about: Option<u64> },
    /// Nothing: it is a part of a step that is shown.
    Nothing,
}

/// A make to run.
#[derive(Clone, Copy)]
pub(super) struct Make<'a> {
    /// What is made, in words, for the progress.
    pub(super) what: &'a str,
    /// The kernel, for errors.
    pub(super) kernel: &'a str,
    /// What is counted meanwhile.
    pub(super) counts: Counts,
    /// Held by make, too: if this process is killed and make is not, the next one waits for its end.
    pub(super) lock: Option<&'a File>,
    /// Where it writes, for errors.
    pub(super) place: &'a Path,
    pub(super) progress: Progress,
}

impl Make<'_> {
    /// Runs it to its end.
    pub(super) fn run(&self, mut command: Command) -> Result<()> {
        let temporary = Path::new("a temporary file");
        let mut stderr = tempfile::tempfile().map_err(Error::io("create", temporary))?;
        let copy = stderr.try_clone().map_err(Error::io("share", temporary))?;
        let stdin = match self.lock {
            Some(lock) => held_by(lock)?,
            None => Stdio::null(),
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child =
            command.stdin(stdin).stdout(Stdio::piped()).stderr(copy).spawn().map_err(|error| {
                Error::spawn(
                    &program,
                    "build a kernel",
                    "install make and gcc for a tree of your own, util-linux for Debian's source",
                    error,
                )
            })?;
        let mut count = match self.counts {
            Counts::Files { about } => Some(self.progress.count(self.what, "files compiled", about)),
            Counts::Nothing => None,
        };
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
                if let (Some(count), true) = (&mut count, compiles(&line)) {
                    count.one();
                }
            }
        }
        let status = child.wait().map_err(Error::io("wait for", Path::new(&program)))?;
        if status.success() {
            if let Some(count) = count {
                count.finish();
            }
            return Ok(());
        }
        drop(count);
        let mut said = Vec::new();
        // The text only explains a failure that is reported anyway.
        let _ = stderr.rewind().and_then(|()| stderr.read_to_end(&mut said));
        Err(self.failure(status, &String::from_utf8_lossy(&said)))
    }

    fn failure(&self, status: ExitStatus, said: &str) -> Error {
        if interrupt::interrupted() {
            return Error::Interrupted(self.what.to_owned());
        }
        let said = last_words(said);
        if says_full(&said) {
            return Error::DiskFull { what: self.what.to_owned(), path: self.place.to_path_buf(), said };
        }
        Error::Build { kernel: self.kernel.to_owned(), status: status.to_string(), said }
    }
}

/// Whether a line of make's output is about a file that is compiled: `  CC [M]  drivers/x.o`.
fn compiles(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    [b"CC ".as_slice(), b"AS "].iter().any(|word| line.starts_with(word))
}

/// What made make fail, out of all that was said: from the first error on, a few lines. Other jobs go on for a while,
/// and say things that have nothing to do with it.
fn last_words(said: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let is_error = |line: &&str| {
        line.contains("error:")
            || line.contains("undefined reference")
            || line.starts_with("ERROR")
            || line.contains("*** ")
            || says_full(line)
    };
    let first = lines.iter().position(is_error).unwrap_or(lines.len().saturating_sub(LINES));
    lines.iter().skip(first).take(LINES).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::ErrorKind;

    fn make(kernel: &str) -> Make<'_> {
        let counts = Counts::Files { about: None };
        let (place, progress) = (Path::new("/c"), Progress::Silent);
        Make { what: "building k", kernel, counts, lock: None, place, progress }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_kernel_that_does_not_build_says_so_with_the_compiler_s_words() {
        let script = "echo 'a.c:1: warning: x' >&2; echo 'a.c:9:2: error: no such thing' >&2; \
                      echo 'make[2]: *** [a.o] Error 1' >&2; exit 2";
        let error = make("6.1-x").run(shell(script)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Build);
        let text = error.to_string();
        assert!(text.starts_with("6.1-x does not build (exit status: 2)\n  a.c:9:2: error:"), "{text}");
        assert!(!text.contains("warning"), "{text}");
    }

    #[test]
    fn a_full_disk_is_no_kernel_that_does_not_build() {
        let script = "echo 'a.o: fatal error: cannot write: No space left on device' >&2; exit 2";
        let error = make("6.1-x").run(shell(script)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert!(error.to_string().starts_with("no space left in /c for building k"), "{error}");
    }

    #[test]
    fn lines_about_compiled_files_are_counted() {
        for line in ["  CC      init/main.o", "  CC [M]  fs/fat/cache.o", "  AS      entry.o"] {
            assert!(compiles(line.as_bytes()), "{line}");
        }
        for line in ["  CCX x", "  LD      vmlinux.o", "  HOSTCC  scripts/x.o", "make: CC x"] {
            assert!(!compiles(line.as_bytes()), "{line}");
        }
    }

    fn marked(dir: &Path, script: &str) -> ExitStatus {
        let mut command = Command::new("sh");
        command.arg("-c").arg(MARKED).arg(dir.join("marker")).args(["sh", "-c", script]);
        command.current_dir(dir).status().unwrap()
    }

    #[test]
    fn a_make_that_ends_by_itself_leaves_no_marker_and_one_that_is_killed_does() {
        let dir = tempfile::tempdir().unwrap();
        assert!(marked(dir.path(), "[ -e marker ]").success());
        assert!(!dir.path().join("marker").exists());
        assert_eq!(marked(dir.path(), "exit 2").code(), Some(2));
        assert!(!dir.path().join("marker").exists());
        assert_eq!(marked(dir.path(), "kill -KILL $$").code(), Some(137));
        assert!(dir.path().join("marker").exists());
    }

    #[test]
    fn what_a_killed_make_has_made_is_removed_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let old = dir.path().join("sub/old.o");
        let hour_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
        File::create(&old).unwrap().set_modified(hour_ago).unwrap();
        marked(dir.path(), "echo half >sub/new.o; kill -KILL $$");
        mend(dir.path(), &dir.path().join("marker")).unwrap();
        assert!(old.exists() && !dir.path().join("sub/new.o").exists());
        assert!(!dir.path().join("marker").exists());
        mend(dir.path(), &dir.path().join("marker")).unwrap();
        assert!(old.exists());
    }

    #[test]
    fn the_lock_is_make_s_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = crate::assets::store::lock_file(&path, Progress::Silent).unwrap();
        // It cannot be had by whoever opens the file; make's standard input has it already.
        let path = path.display();
        let script = format!("exec 3<'{path}'; ! flock --nonblock 3 && [ /dev/stdin -ef '{path}' ]");
        let make = Make { lock: Some(&lock), ..make("k") };
        make.run(shell(&script)).unwrap();
    }
}
