//! `lab bisect`: the exit codes that `git bisect run` knows, and no other.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::server::{Run, program, run};

/// Runs the command in a directory that is its tree and has its cache, and sees that it ends so, and says this.
fn ends(tree: &Path, before: &[&str], arguments: &[&str], code: i32, words: &[&str]) {
    let mut command = program(tree);
    command.args(before).args(["lab", "bisect"]).args(arguments).current_dir(tree);
    command.env("XDG_CACHE_HOME", tree.join("cache")).env_remove("KERNEL_TREE");
    let Run { code: ended, out, err } = run(&mut command);
    let said = out + &err;
    assert_eq!(ended, code, "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn whatever_is_wrong_with_the_command_the_commit_is_skipped() {
    let tree = tempfile::tempdir().unwrap();
    let skipped = |arguments: &[&str], words: &[&str]| ends(tree.path(), &[], arguments, 125, words);
    skipped(&["--no-such"], &["unexpected argument '--no-such'"]);
    skipped(&["--repeat", "0"], &["--repeat"]);
    skipped(&["--good", "fine"], &["clean", "fault"]);
    skipped(&["--good", "clean", "--bad", "fault,clean"], &["skip: clean cannot be both good and bad"]);
    skipped(&["--scenario", "sd7-idle-rase", "--out", "x"], &["skip: ", "did you mean `sd7-idle-race`?"]);
    skipped(&["--out", "x"], &["skip: ", "not a kernel tree"]);
    ends(tree.path(), &["--log", "x=y=z"], &[], 125, &["log filter"]);
    ends(tree.path(), &[], &["--help"], 0, &["git bisect run"]);
}

#[test]
fn a_commit_that_does_not_build_is_skipped_with_the_compiler_s_words() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path();
    fs::create_dir_all(tree.join("arch/x86")).unwrap();
    for (name, text) in [
        ("Kconfig", ""),
        (".config", "CONFIG_PCI=y\n"),
        ("Makefile", "bzImage: ; @echo 'drivers/pci/a.c:1:1: error: no' >&2; exit 2\nmodules: ;\n"),
    ] {
        fs::write(tree.join(name), text).unwrap();
    }
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=test", "-c", "user.email=test@example.org"]).args(arguments);
        command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
        assert!(command.current_dir(tree).output().unwrap().status.success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "Makefile"]);
    git(&["commit", "-qm", "PCI: half a change"]);
    ends(tree, &[], &[], 125, &["PCI: half a change: skip: ", "drivers/pci/a.c:1:1: error: no"]);
}
