//! One run: the device's process, QEMU, the console watched live, the evidence collected, the verdict.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::assets::{Assets, Contents, GuestKernel, TRACE};
use crate::failure::Failure;
use crate::hashes::HostHash;
use crate::image::HostImage;
use crate::inlining::LoadedModule;
use crate::interrupt;
use crate::keeper::Keeper;
use crate::klog::Klog;
use crate::record::Record;
use crate::result::{Files, RunFacts, RunResult, counters, unmodelled};
use crate::scenario::Scenario;
use crate::server::{Server, ServerPaths};
use crate::verdict::{Evidenced, Variant};
use crate::vm::{self, Vm, VmConfig};

/// Between two looks at clock, processes and signals.
const TICK: Duration = Duration::from_millis(200);
/// After a whole oops the guest's script gets this much longer to end: the oops is the verdict, the rest is extra.
const AFTER_FAULT: Duration = Duration::from_secs(120);
/// What the guest's kernel says when the reader's link falls.
const LINK_DOWN: &str = "*pciehp: Slot(8): Link Down";
/// What /init says when the host has the trace of the guest's kernel, and how long that may take after the test.
const TRACED: &str = "sdmorph-trace: complete";
const FOR_THE_TRACE: Duration = Duration::from_secs(120);
/// A guest that says more than this has lost its way, and would fill the disk.
const CONSOLE_LIMIT_BYTES: usize = 64 << 20;

/// What does not change between the runs of a scenario against one kernel.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) rules: &'a Value,
    pub(crate) assets: &'a Assets,
    pub(crate) kernel: &'a GuestKernel,
    /// The directory that becomes the guest's /tests.
    pub(crate) tests: &'a Path,
    pub(crate) server_exe: &'a Path,
    pub(crate) place: bool,
    pub(crate) share_memory: bool,
    /// Trace the guest's kernel.
    pub(crate) trace: bool,
    pub(crate) record_inputs: bool,
    /// More words for the kernel's command line.
    pub(crate) append: &'a [String],
    pub(crate) deadline: Duration,
}

/// What was seen while the test ran.
struct Watched {
    log: Klog,
    /// Of the device's process, at each result of the guest's script.
    device_memory_kib: Vec<u64>,
    /// Why it was cut short, if it was.
    cut_short: Option<String>,
}

impl Bench<'_> {
    /// Run once, and leave everything in `out_dir`.
    pub(crate) fn run(&self, variant: Variant, run: u32, out_dir: &Path) -> Result<RunResult, Failure> {
        fs::create_dir_all(out_dir).map_err(Failure::file("create", out_dir))?;
        // Sockets have short paths and are nobody else's: they do not lie in the output directory.
        let private = vm::run_dir()?;
        let images = self.scenario.images.iter().map(|image| HostImage::create(image, out_dir));
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let files = Files {
            console: out_dir.join("console.log"),
            record: out_dir.join("record.jsonl"),
            status: out_dir.join("status.json"),
            server_log: out_dir.join("server.log"),
            qemu_log: out_dir.join("qemu.log"),
            trace: self.trace.then(|| out_dir.join("trace.txt")),
            images: images.iter().map(|image| (image.name.clone(), image.path.clone())).collect(),
        };
        let mut arguments = self.scenario.device.arguments();
        if self.record_inputs {
            arguments.push("--record-inputs".to_owned());
        }
        let paths = ServerPaths {
            device: private.path().join("device.sock"),
            control: private.path().join("control.sock"),
            images: out_dir.to_owned(),
            record: Some(files.record.clone()),
            log: files.server_log.clone(),
            arguments,
        };
        let mut keeper = Keeper::start(private.path());
        let mut server = Server::start(self.server_exe, &paths)?;
        keeper.watch(server.pid());
        server.load_rules(&self.scenario.name, self.rules.clone())?;

        let module = self.kernel.unfix.as_deref().filter(|_| variant == Variant::WithoutFix);
        let own_modules: Vec<&Path> =
            self.kernel.kernel_modules.values().map(PathBuf::as_path).chain(module).collect();
        let initramfs = private.path().join("initramfs");
        let modules = &self.kernel.kernel.modules;
        let mut image_files = Vec::new();
        for image in &images {
            image_files.extend(image.guest_files()?);
        }
        if self.trace {
            image_files.push((TRACE.0.to_owned(), TRACE.1.to_owned()));
        }
        let contents = Contents {
            busybox: &self.assets.busybox,
            modules,
            own_modules: &own_modules,
            tests: self.tests,
            programs: &self.kernel.programs,
            files: &image_files,
        };
        contents.write(&initramfs)?;
        let mut config = self.vm_config(initramfs, private.path(), &paths);
        config.trace = files.trace.clone();
        let started = Instant::now();
        let mut machine = Vm::start(&config)?;
        keeper.watch(machine.pid());
        let watched = self.watch(&mut machine, &mut server, &files, started);
        // Before QEMU goes: the device's state at the end of the test, not after its client has left.
        let status = if server.ended().is_some() { Ok(Value::Null) } else { server.status() };
        machine.kill();
        let wall_s = started.elapsed().as_secs_f64();
        server.quit();
        drop(keeper);
        let qemu_log_written =
            fs::write(&files.qemu_log, machine.stderr()).map_err(Failure::file("write", &files.qemu_log));
        let Watched { log, device_memory_kib, cut_short } = watched?;
        qemu_log_written?;
        let status = status?;
        write_json(&files.status, &status)?;

        let record = Record::read(&files.record, &self.scenario.moments)?;
        let (unmodelled, counters) = (unmodelled(&status), counters(&status));
        // The device's process has ended: what the guest wrote is in the files, or will never be.
        let host_hashes = HostHash::read(&self.scenario.checks, &images);
        let loaded = modules.iter().map(|path| LoadedModule::read(path).map_err(Failure::file("read", path)));
        let loaded = loaded.collect::<Result<Vec<_>, _>>()?;
        let evidence = Evidenced {
            scenario: self.scenario,
            variant,
            module: module.is_some(),
            log: &log,
            record: &record,
            unmodelled: unmodelled.as_deref(),
            counters: &counters,
            device_memory_kib: &device_memory_kib,
            host_hashes: &host_hashes,
            cut_short: cut_short.as_deref(),
            modules: &loaded,
        };
        let facts = RunFacts {
            run,
            kernel: self.kernel.kernel.release.clone(),
            qemu: self.assets.qemu.version.clone(),
            placed: self.place,
            wall_s,
            qemu_command: machine.shell_command(),
            files,
        };
        let mut result = RunResult::new(&evidence, facts);
        if result.as_expected {
            // Nobody will look at them again, and those of a long series would fill the disk.
            for path in std::mem::take(&mut result.files.images).into_values() {
                fs::remove_file(&path).map_err(Failure::file("remove", &path))?;
            }
        }
        write_json(&out_dir.join("result.json"), &result)?;
        Ok(result)
    }

    fn vm_config(&self, initramfs: PathBuf, private: &Path, paths: &ServerPaths) -> VmConfig {
        let guest = &self.scenario.guest;
        let assets = self.assets;
        let kernel = self.kernel.kernel.image.clone();
        let mut config =
            VmConfig::new(assets.qemu.clone(), assets.accel, kernel, initramfs, private.to_path_buf());
        config.vcpus = guest.vcpus;
        config.memory_mib = guest.memory_mib().unwrap_or(config.memory_mib);
        config.share_memory = self.share_memory;
        config.device_socket = Some(paths.device.clone());
        config.control_socket = Some(paths.control.clone());
        guest.test_name().clone_into(&mut config.test);
        // Levels on the console.
        config.append = vec!["console_msg_format=syslog".to_owned()];
        if !self.place {
            config.append.push("sdmorph.place=0".to_owned());
        }
        config.append.extend(guest.append.iter().chain(self.append).cloned());
        config.qemu_arguments = guest.qemu_arguments();
        config
    }

    fn waited_for(&self, log: &Klog) -> String {
        let clean = &self.scenario.verdict.clean;
        waited_for(log, clean.events.iter().any(|event| event == "link-down"))
    }

    /// Read the console until the test is over.
    fn watch(
        &self,
        machine: &mut Vm,
        server: &mut Server,
        files: &Files,
        started: Instant,
    ) -> Result<Watched, Failure> {
        let mut copy = fs::File::create(&files.console).map_err(Failure::file("create", &files.console))?;
        let console = machine
            .take_console()
            .ok_or_else(|| Failure::Options("the machine's console is already being read".to_owned()))?;
        let pieces = read_in_background(console);
        let mut log = Klog::new();
        let mut device_memory_kib = Vec::new();
        let mut bytes = 0;
        let mut after = Vec::new();
        let (mut faulted_at, mut finished_at) = (None, None);
        let cut_short = loop {
            let closed = match pieces.recv_timeout(TICK) {
                Ok(piece) => {
                    copy.write_all(&piece).map_err(Failure::file("write", &files.console))?;
                    bytes += piece.len();
                    // The verdict is of the test; what comes after it is about the trace.
                    if finished_at.is_none() {
                        log.push(&piece);
                    } else {
                        after.extend_from_slice(&piece);
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if log.ktap.results.len() > device_memory_kib.len() {
                let now = server.memory_kib().or(device_memory_kib.last().copied()).unwrap_or_default();
                device_memory_kib.resize(log.ktap.results.len(), now);
            }
            if log.ktap.finished {
                let since = *finished_at.get_or_insert_with(Instant::now);
                let traced = log.find(TRACED).is_some() || String::from_utf8_lossy(&after).contains(TRACED);
                if !self.trace || traced || closed || since.elapsed() > FOR_THE_TRACE {
                    break None;
                }
            }
            if interrupt::interrupted() {
                return Err(Failure::Interrupted);
            }
            if closed {
                // The console closes with QEMU: its end is at hand.
                let status = machine.wait()?;
                break Some(format!(
                    "QEMU ended ({status}) before {}{}",
                    self.waited_for(&log),
                    because(&machine.stderr())
                ));
            }
            if let Some(status) = server.ended() {
                break Some(format!(
                    "the device's process ended in mid-run ({status}); waited for {}; its log is {}",
                    self.waited_for(&log),
                    files.server_log.display()
                ));
            }
            if bytes > CONSOLE_LIMIT_BYTES {
                break Some(format!(
                    "the console said more than {CONSOLE_LIMIT_BYTES} bytes; waited for {}",
                    self.waited_for(&log)
                ));
            }
            if finished_at.is_none() && log.oopses.iter().any(|oops| oops.complete && !oops.is_warning()) {
                let since = *faulted_at.get_or_insert_with(Instant::now);
                if since.elapsed() > AFTER_FAULT {
                    break None;
                }
            }
            if started.elapsed() > self.deadline {
                let seconds = self.deadline.as_secs();
                let last = log.last_line();
                break Some(format!(
                    "waited {seconds} s for {}; last console line: {last}",
                    self.waited_for(&log)
                ));
            }
        };
        log.finish();
        Ok(Watched { log, device_memory_kib, cut_short })
    }
}

/// What the guest has not done yet, in the order of every test; `removed`: of one that ends with the reader's removal.
pub(crate) fn waited_for(log: &Klog, removed: bool) -> String {
    let seen = |pattern: &str| log.find(pattern).is_some();
    let step = if log.kernel().is_none() {
        "the kernel's first line"
    } else if !seen("sdmorph-init: *") {
        "the guest to reach init"
    } else if !seen("sdmorph-test: drivers bound*") {
        "the drivers to bind to the reader"
    } else if !seen("sdmorph-test: inserting*") {
        "the guest to ask for the card"
    } else if removed && !seen(LINK_DOWN) {
        "`Slot(8): Link Down`"
    } else if removed && log.oopses.is_empty() && !seen("sdmorph-test: reader removed") {
        "the reader removed, or a fault"
    } else {
        // What it is at, it says by what it has done.
        return match log.ktap.results.last() {
            Some(result) => format!("the guest's script to end, after its test `{}`", result.description),
            None => "the guest's script to end".to_owned(),
        };
    };
    step.to_owned()
}

/// QEMU's last words on one line; a verdict's reason has no more.
fn because(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    if last.is_empty() { String::new() } else { format!(": {}", last.join("; ")) }
}

/// The console must be read all the time, or the guest stops at its next line.
fn read_in_background(mut console: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(64);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The receiver goes away when the run is over; the console ends with QEMU.
        while let Ok(length @ 1..) = console.read(&mut buffer) {
            let piece = buffer.get(..length).unwrap_or_default().to_vec();
            if sender.send(piece).is_err() {
                break;
            }
        }
    });
    receiver
}

pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::File {
        what: "write",
        path: path.to_owned(),
        source: error.into(),
    })?;
    fs::write(path, text + "\n").map_err(Failure::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_has_the_end_of_stderr_on_one_line() {
        assert_eq!(because("  \n"), "");
        assert_eq!(because("a\n\nb\nc\nqemu: d\n"), ": b; c; qemu: d");
    }

    #[test]
    fn what_is_waited_for_follows_the_guests_progress() {
        let steps = [
            ("", "the kernel's first line"),
            ("<5>[    0.000000] Linux version 6.1.0 (x)\n", "the guest to reach init"),
            ("<14>[    2.000000] sdmorph-init: kernel 6.1.0, test x\n", "the drivers to bind to the reader"),
            (
                "<14>[    3.000000] sdmorph-test: drivers bound to 10000:01:00.0\n",
                "the guest to ask for the card",
            ),
            ("<14>[    4.000000] sdmorph-test: inserting sd-express\n", "`Slot(8): Link Down`"),
            (
                "<6>[    5.000000] pcieport 10000:00:1c.0: pciehp: Slot(8): Link Down\n",
                "the reader removed, or a fault",
            ),
            ("<14>[    6.000000] sdmorph-test: reader removed\n", "the guest's script to end"),
        ];
        let mut log = Klog::new();
        for (line, expected) in steps {
            log.push(line.as_bytes());
            assert_eq!(waited_for(&log, true), expected, "after {line}");
        }
    }

    #[test]
    fn a_test_that_keeps_the_reader_is_waited_for_by_what_it_has_done() {
        let mut log = Klog::new();
        for line in
            ["Linux version 6.1.0 (x)", "sdmorph-test: drivers bound to x", "sdmorph-test: inserting sd"]
        {
            log.push(format!("<5>[    1.000000] {line}\n").as_bytes());
        }
        log.push(b"<14>[    1.000000] sdmorph-init: kernel 6.1.0, test x\n");
        assert_eq!(waited_for(&log, false), "the guest's script to end");
        log.push(b"<14>[    2.000000] sdmorph-ktap: ok 1 - the drivers bind\n");
        assert_eq!(waited_for(&log, false), "the guest's script to end, after its test `the drivers bind`");
    }
}
