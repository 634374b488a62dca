//! `lab kernels` and `lab build`: what is said before anything is fetched.

use std::fs;

use crate::server::{Run, program, run};

/// The end of a command of the lab, with an empty cache and no kernel in the environment.
fn lab(arguments: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path());
    command.arg("lab").args(arguments).env("XDG_CACHE_HOME", dir.path().join("cache"));
    for variable in ["KERNEL", "KERNEL_TREE", "MODULES", "KDIR"] {
        command.env_remove(variable);
    }
    run(&mut command)
}

#[test]
fn kernels_are_listed_with_what_they_are_made_of() {
    let list = lab(&["kernels", "--json"]).json();
    let list = list.as_array().unwrap();
    let of = |name: &str| list.iter().find(|kernel| kernel["name"] == name).unwrap();
    assert_eq!(of("6.1-diff-2")["made_of"], "linux-source-6.1, small.config, none.patch, diff-2.patch");
    assert_eq!(of("6.1")["cached"], false);
}

#[test]
fn what_cannot_be_built_ends_with_2_and_the_nearest_name() {
    lab(&["build", "6.1-diff2"]).fails_with(2, &["6.1-diff2", "did you mean `6.1-diff-2`?"]);
    lab(&["build", "6.1", "--patch", "x.patch"]).fails_with(2, &["as shipped", "6.1-none"]);
    lab(&["build", "6.1-v3", "--patch", "/nonexistent/x.patch"]).fails_with(2, &["/nonexistent/x.patch"]);
    lab(&["build", "6.1-v3", "--config", "lokdep"]).fails_with(2, &["did you mean `lockdep.config`?"]);
    lab(&["build"]).fails_with(2, &["say which kernel", "KERNEL_TREE="]);
    lab(&["setup", "--kernel", "6.1,6.2"]).fails_with(2, &["--kernel: there is no kernel `6.2`"]);
}

#[test]
fn own_kernels_take_no_patch() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("bzImage");
    fs::write(&image, "").unwrap();
    let (image, dir) = (image.to_str().unwrap(), dir.path().to_str().unwrap());
    lab(&["build", image, "--patch", "x.patch"]).fails_with(2, &["built already"]);
    lab(&["build", dir, "--patch", "x.patch"]).fails_with(2, &["apply --patch there"]);
    lab(&["build", dir]).fails_with(3, &["not a kernel tree"]);
}
