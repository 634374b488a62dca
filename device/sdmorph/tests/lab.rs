//! `sdmorph lab` where things go wrong, with a shell script in QEMU's place: what it says, how it exits, and that
//! nothing stays behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The death of a process that is not our child can only be looked for again and again.
#![allow(clippy::disallowed_methods)]

#[path = "lab/verdicts.rs"]
mod verdicts;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sdmorph_lab::scenario::SHIPPED;

const SDMORPH: &str = env!("CARGO_BIN_EXE_sdmorph");

/// A host of its own: temporary files, cache, QEMU and kernel are all below one directory.
struct Host {
    dir: tempfile::TempDir,
}

struct Ended {
    /// `None`: by a signal.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Host {
    /// `machine` is the shell script that runs when QEMU is to run a guest; `$PPID` is the lab.
    fn new(machine: &str) -> Self {
        Self::with_qemu("11.0.0", machine)
    }

    fn with_qemu(version: &str, machine: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(host.path("tmp")).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n--version) echo 'QEMU emulator version {version}'; exit;;\n\
             '-device help') echo 'name \"vfio-user-pci\", bus PCI'; exit;;\nesac\ncd \"$HOME\"\n{machine}\n"
        );
        fs::write(host.path("qemu"), script).unwrap();
        fs::set_permissions(host.path("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(host.path("bzImage"), bzimage("6.9.0")).unwrap();
        host.configure(|option| format!("CONFIG_{option}=y\n"));
        host
    }

    fn configure(&self, line: impl Fn(&str) -> String) {
        let options = [
            "VMD",
            "HOTPLUG_PCI_PCIE",
            "PCI_MSI",
            "MISC_RTSX_PCI",
            "MMC_REALTEK_PCI",
            "MMC_BLOCK",
            "BLK_DEV_NVME",
            "PM",
            "SERIAL_8250_CONSOLE",
            "BLK_DEV_INITRD",
            "DEVTMPFS",
            "BINFMT_ELF",
            "BINFMT_SCRIPT",
        ];
        fs::write(self.path("config"), options.map(line).concat()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SDMORPH);
        command.arg("lab").args(arguments).current_dir(self.dir.path());
        for variable in ["MODULES", "KDIR", "RUST_LOG"] {
            command.env_remove(variable);
        }
        command.env("HOME", self.dir.path()).env("TMPDIR", self.path("tmp"));
        command.env("XDG_CACHE_HOME", self.path("cache")).env("SDMORPH", SDMORPH);
        // No busybox is run: it only has to be a file.
        command.env("QEMU", self.path("qemu")).env("KERNEL", self.path("bzImage")).env("BUSYBOX", "/bin/sh");
        command
    }

    fn lab(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// `lab run`, with the fix, and more arguments.
    fn run(&self, arguments: &[&str]) -> Ended {
        let mut all = vec!["run", "boot-insert-remove", "--fix", "with", "--out", "out"];
        all.extend(arguments);
        self.lab(&all)
    }

    /// What is left of temporary files.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Whether the process whose id the machine wrote into `pid` is still there; one that never got so far is not.
    fn machine_runs(&self) -> bool {
        let pid = fs::read_to_string(self.path("pid")).unwrap_or_default();
        !pid.trim().is_empty() && Path::new("/proc").join(pid.trim()).exists()
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// As much of a boot header as tells the release.
fn bzimage(release: &str) -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    image
}

#[test]
fn guest_that_never_says_a_word_is_inconclusive_at_the_deadline() {
    let host = Host::new("echo $$ >pid; exec sleep 1000");
    let lab = host.run(&["--deadline", "1"]);
    assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    let reason = "inconclusive (NOT as expected): waited 1 s for the kernel's first line; last console line: (nothing)";
    assert!(lab.stdout.contains(reason), "{}", lab.stdout);
    assert!(lab.stdout.ends_with("page:   out/report.html\n"), "{}", lab.stdout);
    let page = fs::read_to_string(host.path("out/report.html")).unwrap();
    assert!(page.contains("waited 1 s for the kernel&#39;s first line"));
    assert!(!host.machine_runs());
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[test]
fn guest_that_stops_is_remembered_by_its_last_line() {
    let host = Host::new(
        "echo '<5>[    0.000000] Linux version 6.9.0 (x)'; echo '<6>[    0.100000] PCI: Probing'; exec sleep 1000",
    );
    let lab = host.run(&["--deadline", "1"]);
    let reason = "waited 1 s for the guest to reach init; last console line: PCI: Probing";
    assert!(lab.stdout.contains(reason), "{}", lab.stdout);
}

#[test]
fn qemu_that_dies_at_its_start_is_quoted() {
    let host = Host::new("echo 'qemu: -nosuchoption: invalid option' >&2; exit 1");
    let lab = host.run(&[]);
    assert_eq!(lab.code, Some(3));
    let reason =
        "QEMU ended (exit status: 1) before the kernel's first line: qemu: -nosuchoption: invalid option";
    assert!(lab.stdout.contains(reason), "{}", lab.stdout);
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[test]
fn qemu_that_is_too_old_is_refused() {
    let lab = Host::with_qemu("10.1.0", "").run(&[]);
    assert_eq!(lab.code, Some(3));
    assert!(lab.stderr.contains("QEMU 10.1.0 is older than 10.1.1"), "{}", lab.stderr);
}

#[test]
fn device_process_that_is_killed_is_the_reason() {
    // The lab's other child, by its command line.
    let host = Host::new(
        r#"echo $$ >pid
        for p in /proc/[0-9]*; do
            grep -qs "^PPid:[[:space:]]*$PPID\$" "$p/status" || continue
            tr '\0' ' ' <"$p/cmdline" | grep -q ' serve ' && kill -KILL "${p#/proc/}"
        done
        exec sleep 1000"#,
    );
    let lab = host.run(&[]);
    assert_eq!(lab.code, Some(3));
    let reason =
        "the device's process ended in mid-run (signal: 9 (SIGKILL)); waited for the kernel's first line";
    assert!(lab.stdout.contains(reason), "{} {}", lab.stdout, lab.stderr);
    assert!(!host.machine_runs());
    assert!(host.left().is_empty(), "{:?}", host.left());
}

fn ends_what_it_started_on(signal: &str) {
    let host = Host::new(&format!("echo $$ >pid; kill -{signal} $PPID; exec sleep 1000"));
    let lab = host.run(&[]);
    assert_eq!(lab.code, Some(3), "{}", lab.stderr);
    assert!(lab.stderr.contains("interrupted; everything that was started has been ended"), "{}", lab.stderr);
    assert!(!host.machine_runs());
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[test]
fn sigint_ends_what_was_started() {
    ends_what_it_started_on("INT");
}

#[test]
fn sigterm_ends_what_was_started() {
    ends_what_it_started_on("TERM");
}

#[test]
fn sigkill_leaves_no_process_and_no_directory() {
    // More than a pipe holds: when all of it is written, the lab is watching.
    let host = Host::new(
        "echo $$ >pid; head -c 200000 /dev/zero | tr '\\0' '\\n'; kill -KILL $PPID; exec sleep 1000",
    );
    assert_eq!(host.run(&[]).code, None);
    // The keeper works on after the lab's death, in its own time.
    while host.machine_runs() || !host.left().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn series_that_is_interrupted_keeps_its_report() {
    let host = Host::new("[ -e once ] && { kill -INT $PPID; exec sleep 1000; }; : >once; exit 1");
    let lab = host.run(&["--repeat", "3"]);
    assert_eq!(lab.code, Some(3));
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(host.path("out/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["results"].as_array().unwrap().len(), 1);
    assert!(host.path("out/report.md").exists());
}

#[test]
fn second_lab_with_the_same_output_is_refused() {
    let host = Host::new(
        "\"$SDMORPH\" lab run boot-insert-remove --fix with --out \"$HOME/out\" 2>second; echo $? >>second; exit 1",
    );
    host.run(&[]);
    let second = fs::read_to_string(host.path("second")).unwrap();
    assert!(second.contains("another sdmorph writes into") && second.ends_with("\n3\n"), "{second}");
}

#[test]
fn rules_are_refused_before_a_qemu_is_looked_for() {
    let host = Host::new("");
    let scenario = include_str!("../../../guest-tests/scenarios/sd7-idle-race.toml");
    let refused = |from: &str, to: &str| {
        assert!(scenario.contains(from), "{from}");
        fs::write(host.path("wrong.toml"), scenario.replace(from, to)).unwrap();
        let lab = ended(
            host.command(&["run", "wrong.toml", "--fix", "with", "--out", "out"]).env("QEMU", "/nonexistent"),
        );
        assert_eq!(lab.code, Some(2), "{}", lab.stderr);
        assert!(!host.path("out").exists() && !host.path("cache").exists());
        let line = scenario[..scenario.find(from).unwrap()].matches('\n').count() + 1;
        assert!(lab.stderr.contains(&format!("wrong.toml:{line}:")), "{}", lab.stderr);
        lab.stderr
    };
    let message = refused("L1SUB_CONFIG3", "L1SUB_CONFG3");
    assert!(message.contains("did you mean L1SUB_CONFIG3"), "{message}");
    let message = refused("\"500us\"", "\"-500us\"");
    assert!(message.contains("cannot be negative"), "{message}");
    let message = refused("after = \"express-switch-requested\" }", "after = \"express-switch\" }");
    assert!(message.contains("no event \"express-switch\""), "{message}");
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[test]
fn kernel_without_vmd_is_refused_with_the_reason_and_the_file() {
    let host = Host::new("");
    host.configure(|option| match option {
        "VMD" => "# CONFIG_VMD is not set\n".to_owned(),
        _ => format!("CONFIG_{option}=y\n"),
    });
    let lab = host.run(&[]);
    assert_eq!(lab.code, Some(3));
    let why = "CONFIG_VMD is not set: sdmorph's slot lives behind Intel VMD";
    assert!(lab.stderr.contains(why), "{}", lab.stderr);
    assert!(lab.stderr.contains(host.path("config").to_str().unwrap()), "{}", lab.stderr);
}

#[test]
fn fix_cannot_be_taken_out_of_an_own_kernel_without_its_tree() {
    let lab = Host::new("").lab(&["run", "boot-insert-remove", "--fix", "without", "--out", "out"]);
    assert_eq!(lab.code, Some(2));
    assert!(lab.stderr.contains("give KDIR="), "{}", lab.stderr);
}

#[test]
fn cache_without_a_place_is_said() {
    let host = Host::new("");
    let mut command = host.command(&["run", "boot-insert-remove", "--fix", "with", "--out", "out"]);
    let lab = ended(command.env_remove("HOME").env_remove("XDG_CACHE_HOME"));
    assert_eq!(lab.code, Some(3));
    assert!(lab.stderr.contains("neither XDG_CACHE_HOME nor HOME"), "{}", lab.stderr);
}

#[test]
fn scenario_that_needs_a_newer_kernel_is_refused_and_skipped_in_a_test_run() {
    let host = Host::new("exit 1");
    let (_, shipped) = SHIPPED.iter().find(|(name, _)| *name == "boot-insert-remove").unwrap();
    let scenario = shipped.replace("[kernel]\n", "[kernel]\nsince = \"6.10\"\n");
    fs::write(host.path("newer.toml"), scenario).unwrap();
    let why = "the scenario newer needs Linux 6.10 or newer, and the kernel is 6.9.0";
    let lab = host.lab(&["run", "newer.toml", "--fix", "with", "--out", "out"]);
    assert_eq!(lab.code, Some(2));
    assert!(lab.stderr.contains(why), "{}", lab.stderr);
    let lab = host.lab(&["test", "newer.toml", "--fix", "with", "--out", "out"]);
    assert_eq!(lab.code, Some(0), "{}", lab.stderr);
    let skipped = format!("ok 1 - newer.toml # SKIP {why}");
    assert_eq!(
        lab.stdout.lines().collect::<Vec<_>>(),
        ["TAP version 14", &skipped, "1..1", "0 passed, 0 failed, 1 skipped"]
    );
}

#[test]
fn test_run_is_tap_and_ends_with_the_count() {
    let host = Host::new("echo 'no machine # TODO' >&2; exit 1");
    let lab = host.lab(&["test", "boot-insert-remove", "--fix", "with", "--out", "out"]);
    assert_eq!(lab.code, Some(3));
    let lines: Vec<&str> = lab.stdout.lines().collect();
    assert_eq!(lines[0], "TAP version 14");
    assert!(
        lines[1].starts_with("not ok 1 - boot-insert-remove with-fix on 6.9.0: inconclusive"),
        "{}",
        lines[1]
    );
    assert!(lines[1].ends_with(r"no machine \# TODO"), "{}", lines[1]);
    assert_eq!(lines[2], "# evidence: out/boot-insert-remove/own");
    let (explanation, end) = lines[3..].split_at(lines.len() - 5);
    assert!(explanation.iter().all(|line| line.starts_with("# ")), "{explanation:?}");
    assert_eq!(end, ["1..1", "0 passed, 1 failed"]);
}
