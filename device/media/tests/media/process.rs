//! Tests in a process of their own: this program again, with one test of it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names the image to the test in the other process; without it that test has nothing to do.
const IMAGE: &str = "SDMORPH_MEDIA_TEST_IMAGE";

/// The image that the parent wants something done to, in the other process.
pub(crate) fn image_from_parent() -> Option<std::path::PathBuf> {
    std::env::var_os(IMAGE).map(Into::into)
}

fn command(program: &Path, test: &str, image: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "--nocapture", test]).env(IMAGE, image);
    command
}

/// Runs one test of this program on `image`; `wrapper` is a program with arguments that starts it.
pub(crate) fn run(wrapper: &[&str], test: &str, image: &Path) -> std::process::Output {
    let this = std::env::current_exe().unwrap();
    match wrapper {
        [] => command(&this, test, image),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this).args(["--exact", "--nocapture", test]).env(IMAGE, image);
            command
        }
    }
    .stdin(Stdio::null())
    .output()
    .unwrap()
}

/// Another process that does something until it is told to end.
pub(crate) struct Other {
    child: Child,
}

impl Other {
    /// Starts one test of this program, which calls [`ready_until_told`] when it is so far.
    pub(crate) fn start(test: &str, image: &Path) -> Self {
        Self::wait_for_line(command(&std::env::current_exe().unwrap(), test, image), "", READY)
    }

    /// Starts a program that says `line`, told `input`, when it is so far, and ends when its input does.
    pub(crate) fn wait_for_line(mut command: Command, input: &str, line: &str) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
        // What comes later is not read: there is less of it than a pipe holds.
        let output = BufReader::new(child.stdout.as_mut().unwrap());
        let said: Vec<String> =
            output.lines().map(Result::unwrap).take_while(|said| !said.contains(line)).collect();
        assert!(child.try_wait().unwrap().is_none(), "{command:?} ended after {said:?}");
        Self { child }
    }

    /// Waits until it has ended.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

const READY: &str = "the image is open";

/// Tells the parent, and waits for it.
pub(crate) fn ready_until_told() {
    let mut output = std::io::stdout();
    writeln!(output, "{READY}").unwrap();
    output.flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Whether a program is installed; says so if it is not.
pub(crate) fn has(program: &str) -> bool {
    let has = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("skipped: {program} is not installed");
    }
    has
}
