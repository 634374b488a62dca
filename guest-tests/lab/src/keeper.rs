//! What cleans up after a lab that was killed: SIGKILL leaves it no time to end anything itself.
//!
//! A shell waits for the end of a pipe whose other end only the lab holds. However the lab goes, that end closes;
//! the shell then ends the processes that it was told of and removes the run's directory. A run that ends by itself
//! ends its shell first, which then does nothing.
//!
//! A process is named right after its start: a lab that is killed in that instant leaves it. QEMU from 10.2 on ends
//! by itself then.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` is the directory; each line of the pipe is a process group.
const SCRIPT: &str = r#"
groups=
while read -r group; do groups="$groups $group"; done
for group in $groups; do kill -KILL "-$group"; done
rm -rf -- "$1"
"#;

/// The waiting shell. Dropping it means that all is cleaned up already.
#[derive(Debug)]
pub struct Keeper {
    shell: Option<Child>,
}

impl Keeper {
    /// Watch over a directory, and the processes that [`Keeper::watch`] names.
    ///
    /// Without a shell there is no keeper, and a killed lab leaves its processes: that is said, and is no failure.
    #[must_use]
    pub fn start(directory: &Path) -> Self {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sdmorph-keeper"])
            .arg(directory)
            // Not ended by the Ctrl-C that ends the lab.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = &shell {
            tracing::warn!("nothing will clean up if this process is killed: cannot start sh: {error}");
        }
        Self { shell: shell.ok() }
    }

    /// Also end this process and its group, whose leader it is.
    pub fn watch(&mut self, pid: u32) {
        let Some(pipe) = self.shell.as_mut().and_then(|shell| shell.stdin.as_mut()) else { return };
        if let Err(error) = writeln!(pipe, "{pid}") {
            tracing::warn!("process {pid} will stay if this one is killed: {error}");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(shell) = &mut self.shell {
            // Before its pipe closes: process ids of ended processes may be others' by now.
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn when_the_pipe_closes_the_processes_end_and_the_directory_goes() {
        let directory = tempfile::tempdir().unwrap();
        let watched = directory.path().join("run");
        std::fs::create_dir(&watched).unwrap();
        std::fs::write(watched.join("socket"), "").unwrap();
        let mut sleeper = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let mut keeper = Keeper::start(&watched);
        keeper.watch(sleeper.id());
        // As the death of the lab does it.
        let mut shell = keeper.shell.take().unwrap();
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
        assert!(!sleeper.wait().unwrap().success());
        assert!(!watched.exists());
    }

    #[test]
    fn a_keeper_that_is_dropped_touches_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut keeper = Keeper::start(directory.path());
        keeper.watch(child.id());
        drop(keeper);
        // It still runs: it passes on what it is given.
        child.stdin.take().unwrap().write_all(b"alive").unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "alive");
        assert!(child.wait().unwrap().success());
        assert!(directory.path().exists());
    }
}
