//! A virtual machine: QEMU's command line, its process, its end.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use crate::assets::{Accel, Error, Qemu, Result};

/// `sun_path` holds 108 bytes, the last of which is NUL (unix(7)).
const LONGEST_SOCKET_PATH_BYTES: usize = 107;
const STDERR: &str = "qemu.stderr";
const MONITOR: &str = "qemu.qmp";

/// What the guest's kernel does after an oops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOops {
    /// Goes on, as a distribution's kernel does: the log after the oops can be read.
    #[default]
    Continue,
    /// Panics and reboots, which with `-no-reboot` ends QEMU.
    Panic,
}

/// What becomes of the machine when its guest reboots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterReboot {
    /// QEMU ends: a guest that panicked is not to begin again.
    #[default]
    End,
    /// The guest boots again.
    Boot,
}

/// A machine to start. [`VmConfig::new`] has the values of the documented runs.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// The QEMU to run.
    pub qemu: Qemu,
    /// KVM or TCG.
    pub accel: Accel,
    /// The bzImage.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// A private directory for the sockets and logs of this machine.
    pub run_dir: PathBuf,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// The device maps guest memory; else it reads and writes it by messages, which is slower.
    pub share_memory: bool,
    /// The vfio-user socket of the device; without it the machine has no device.
    pub device_socket: Option<PathBuf>,
    /// The control socket, which becomes the guest's /dev/ttyS1.
    pub control_socket: Option<PathBuf>,
    /// A file for what the guest writes to its third serial port, /dev/ttyS2: the trace of its kernel.
    pub trace: Option<PathBuf>,
    /// The test that /init runs.
    pub test: String,
    /// What the kernel does after an oops.
    pub on_oops: OnOops,
    /// What becomes of the machine when the guest reboots.
    pub after_reboot: AfterReboot,
    /// More words for the kernel's command line.
    pub append: Vec<String>,
    /// More words for QEMU's command line, after all others.
    pub qemu_arguments: Vec<String>,
}

impl VmConfig {
    /// A machine with 2 processors and 512 MiB, without a device.
    #[must_use]
    pub fn new(qemu: Qemu, accel: Accel, kernel: PathBuf, initramfs: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            qemu,
            accel,
            kernel,
            initramfs,
            run_dir,
            vcpus: 2,
            memory_mib: 512,
            share_memory: true,
            device_socket: None,
            control_socket: None,
            trace: None,
            test: String::new(),
            on_oops: OnOops::default(),
            after_reboot: AfterReboot::default(),
            append: Vec::new(),
            qemu_arguments: Vec::new(),
        }
    }

    /// The kernel's command line.
    #[must_use]
    pub fn kernel_command_line(&self) -> String {
        // preempt=full: without it the idle callback's spin is never preempted and .remove waits for its end.
        let mut words = vec!["console=ttyS0".to_owned(), "loglevel=8".to_owned(), "preempt=full".to_owned()];
        if self.on_oops == OnOops::Panic {
            words.push("oops=panic".to_owned());
        }
        // A panic ends the machine at once, whatever caused it: panic=-1 reboots and -no-reboot exits.
        words.push("panic=-1".to_owned());
        // /init says everything through the kernel's log, which would drop what a process says too fast.
        words.push("printk.devkmsg=on".to_owned());
        // The kernel counts the timer's interrupts for a moment, and panics if they are too few, as they can be when the
        // host is busy. Under KVM it does not count; under TCG it has to be told.
        words.push("no_timer_check".to_owned());
        if !self.test.is_empty() {
            words.push(format!("sdmorph.test={}", self.test));
        }
        words.extend(self.append.iter().cloned());
        words.join(" ")
    }

    /// QEMU's whole command line, the program first.
    ///
    /// # Errors
    /// The path of a socket is longer than 107 bytes, or not UTF-8.
    pub fn command_line(&self) -> Result<Vec<String>> {
        let mut argv = self.qemu.argv.clone();
        let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        add(&["-no-user-config", "-nodefaults", "-display", "none"]);
        if self.after_reboot == AfterReboot::End {
            add(&["-no-reboot"]);
        }
        add(&["-cpu", "max", "-smp", &self.vcpus.to_string()]);
        let (memory, machine) = (self.memory_mib, format!("q35,accel={}", self.accel.name()));
        add(&["-m", &format!("{memory}M")]);
        if self.share_memory {
            add(&["-object", &format!("memory-backend-memfd,id=m0,size={memory}M,share=on")]);
            add(&["-machine", &format!("{machine},memory-backend=m0")]);
        } else {
            add(&["-machine", &machine]);
        }
        // Otherwise ACPI keeps hot-plug to itself, VMD copies that from the root bus, and pciehp does not bind.
        add(&["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]);
        add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        if let Some(path) = &self.control_socket {
            add(&["-chardev", &format!("socket,id=control,path={}", option_path(path)?)]);
            add(&["-serial", "chardev:control"]);
        }
        if let Some(path) = &self.trace {
            add(&["-chardev", &format!("file,id=trace,path={}", path_in_option(path)?)]);
            // COM3's place, and an interrupt of its own: by itself it would share the console's, and ISA has no sharing.
            add(&["-device", "isa-serial,chardev=trace,index=2,iobase=0x3e8,irq=5"]);
        }
        let monitor = self.monitor_socket();
        add(&["-qmp", &format!("unix:{},server=on,wait=off", option_path(&monitor)?)]);
        if self.qemu.exits_with_parent {
            add(&["-run-with", "exit-with-parent=on"]);
        }
        add(&["-kernel", file_path(&self.kernel)?, "-initrd", file_path(&self.initramfs)?]);
        add(&["-append", &self.kernel_command_line()]);
        if let Some(path) = &self.device_socket {
            add(&["-device", &device_json(path)?]);
        }
        argv.extend(self.qemu_arguments.iter().cloned());
        Ok(argv)
    }

    /// QEMU's own monitor, a QMP server socket.
    #[must_use]
    pub fn monitor_socket(&self) -> PathBuf {
        self.run_dir.join(MONITOR)
    }
}

/// A private directory (0700) with a path short enough for sockets, removed when dropped.
///
/// # Errors
/// No such directory can be created.
pub fn run_dir() -> Result<tempfile::TempDir> {
    let base = std::env::temp_dir();
    // TMPDIR may be deep; a socket path has 107 bytes for everything.
    let base = if base.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { base };
    let made = tempfile::Builder::new()
        .prefix("sdmorph-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&base);
    made.map_err(|source| Error::Io { what: "create a directory in", path: base, source })
}

/// The device as `-device` takes it. Only JSON can say it: `socket` is an object.
fn device_json(socket: &Path) -> Result<String> {
    let json = serde_json::json!({
        "driver": "vfio-user-pci",
        "bus": "pcie.0",
        "addr": "0x5",
        "socket": { "type": "unix", "path": socket_path(socket)? },
    });
    Ok(json.to_string())
}

/// Checks the path of a socket.
fn socket_path(path: &Path) -> Result<&str> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > LONGEST_SOCKET_PATH_BYTES {
        return Err(Error::Unusable(format!(
            "{}: the path of a socket has at most {LONGEST_SOCKET_PATH_BYTES} bytes, this one has {bytes}; \
             use a shorter directory (TMPDIR=/tmp)",
            path.display()
        )));
    }
    file_path(path)
}

/// A socket's path inside a QEMU option.
fn option_path(path: &Path) -> Result<String> {
    path_in_option(Path::new(socket_path(path)?))
}

/// A path inside a QEMU option, where a comma ends the value unless doubled.
///
/// # Errors
/// It is not UTF-8.
pub fn path_in_option(path: &Path) -> Result<String> {
    Ok(file_path(path)?.replace(',', ",,"))
}

fn file_path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Unusable(format!("{}: the path is not UTF-8", path.display())))
}

/// A running machine. Dropping it kills QEMU and everything QEMU started.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    group: Option<Pid>,
    stderr: PathBuf,
    command_line: Vec<String>,
}

impl Vm {
    /// Starts QEMU in a process group of its own. Nothing of it reads the terminal.
    ///
    /// # Errors
    /// The configuration cannot be expressed, or QEMU cannot be started.
    pub fn start(config: &VmConfig) -> Result<Self> {
        let command_line = config.command_line()?;
        let stderr = config.run_dir.join(STDERR);
        let stderr_file = File::create(&stderr).map_err(|source| Error::Io {
            what: "create",
            path: stderr.clone(),
            source,
        })?;
        let (program, arguments) = command_line
            .split_first()
            .ok_or_else(|| Error::Unusable("the QEMU to run has no name".to_owned()))?;
        let child = Command::new(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr_file)
            .spawn()
            .map_err(|source| Error::Io { what: "start", path: PathBuf::from(program), source })?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child, group, stderr, command_line })
    }

    /// The first serial port, live: what the guest writes to its console. `None` the second time.
    ///
    /// It must be read to its end: a guest whose console is not read stops at its next line.
    pub fn take_console(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The command line, as it could be typed into a shell.
    #[must_use]
    pub fn shell_command(&self) -> String {
        shell_command(&self.command_line)
    }

    /// Process id of QEMU.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How QEMU ended, or `None` while it runs.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|source| self.wait_error(source))
    }

    /// Waits until QEMU ends: the guest powered off, panicked, or QEMU failed.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().map_err(|source| self.wait_error(source))
    }

    /// Ends QEMU now, if it still runs.
    pub fn kill(&mut self) {
        // An ended child's id may belong to somebody else by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            if let Some(group) = self.group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }

    /// What QEMU wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        // Only explains a failure that is known anyway.
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    fn wait_error(&self, source: std::io::Error) -> Error {
        Error::Io { what: "wait for QEMU, process", path: PathBuf::from(self.child.id().to_string()), source }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Quotes words for a POSIX shell.
#[must_use]
pub fn shell_command(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn config(program: &str, dir: &Path) -> VmConfig {
        let qemu = Qemu { argv: vec![program.into()], version: "11.1.3".into(), exits_with_parent: false };
        VmConfig::new(qemu, Accel::Tcg, "vmlinuz".into(), "initramfs".into(), dir.to_path_buf())
    }

    #[test]
    fn the_command_line_is_the_documented_one() {
        let mut config = config("qemu-system-x86_64", Path::new("/run/x"));
        config.device_socket = Some("/run/x/vfu.sock".into());
        config.control_socket = Some("/run/x/a,b.sock".into());
        config.test = "race".into();
        config.qemu_arguments = vec!["-device".into(), "sdhci-pci".into()];
        let lines = shell_command(&config.command_line().unwrap()).replace(" -", "\n-");
        let expected = "qemu-system-x86_64
-no-user-config
-nodefaults
-display none
-no-reboot
-cpu max
-smp 2
-m 512M
-object memory-backend-memfd,id=m0,size=512M,share=on
-machine q35,accel=tcg,memory-backend=m0
-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
-chardev stdio,id=console,signal=off
-serial chardev:console
-chardev socket,id=control,path=/run/x/a,,b.sock
-serial chardev:control
-qmp unix:/run/x/qemu.qmp,server=on,wait=off
-kernel vmlinuz
-initrd initramfs
-append 'console=ttyS0 loglevel=8 preempt=full panic=-1 printk.devkmsg=on no_timer_check sdmorph.test=race'
-device '{\"addr\":\"0x5\",\"bus\":\"pcie.0\",\"driver\":\"vfio-user-pci\",\"socket\":{\"path\":\"/run/x/vfu.sock\",\"type\":\"unix\"}}'
-device sdhci-pci";
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_trace_has_a_third_serial_port_with_an_interrupt_of_its_own() {
        let mut config = config("q", Path::new("/r"));
        assert!(!shell_command(&config.command_line().unwrap()).contains("trace"));
        config.trace = Some("out,1/trace.txt".into());
        let line = shell_command(&config.command_line().unwrap());
        let expected = " -chardev file,id=trace,path=out,,1/trace.txt \
                        -device isa-serial,chardev=trace,index=2,iobase=0x3e8,irq=5 ";
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn memory_that_is_not_shared_is_qemus_own() {
        let mut config = config("q", Path::new("/r"));
        config.share_memory = false;
        let line = shell_command(&config.command_line().unwrap());
        assert!(line.contains(" -m 512M -machine q35,accel=tcg -global "), "{line}");
        assert!(!line.contains("memory-backend"), "{line}");
    }

    #[test]
    fn an_oops_panics_only_if_asked_to_and_extra_words_come_last() {
        let mut config = config("q", Path::new("/r"));
        assert!(!config.kernel_command_line().contains("oops=panic"));
        config.on_oops = OnOops::Panic;
        config.append = vec!["nokaslr".into()];
        assert_eq!(
            config.kernel_command_line(),
            "console=ttyS0 loglevel=8 preempt=full oops=panic panic=-1 printk.devkmsg=on no_timer_check nokaslr"
        );
    }

    #[test]
    fn a_socket_path_of_108_bytes_is_refused_and_of_107_taken() {
        let mut config = config("q", Path::new("/r"));
        config.device_socket = Some(format!("/{}", "s".repeat(106)).into());
        assert!(config.command_line().is_ok());
        config.device_socket = Some(format!("/{}", "s".repeat(107)).into());
        let error = config.command_line().unwrap_err().to_string();
        assert!(error.contains("at most 107 bytes, this one has 108"), "{error}");
    }

    #[test]
    fn a_run_directory_is_private_and_short() {
        let dir = run_dir().unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(dir.path().join("control.sock").as_os_str().len() <= LONGEST_SOCKET_PATH_BYTES);
    }

    #[test]
    fn the_end_of_the_program_and_its_stderr_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config("sh", dir.path());
        config.qemu.argv.extend(["-c".into(), "echo broken >&2; exit 3".into()]);
        let mut vm = Vm::start(&config).unwrap();
        assert_eq!(vm.wait().unwrap().code(), Some(3));
        assert_eq!(vm.stderr(), "broken\n");
    }

    #[test]
    fn dropping_the_machine_ends_the_program_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config("sh", dir.path());
        config.qemu.argv.extend(["-c".into(), "sleep 1000 & echo started; wait".into()]);
        let mut vm = Vm::start(&config).unwrap();
        let mut console = vm.take_console().unwrap();
        let mut started = [0; 8];
        console.read_exact(&mut started).unwrap();
        drop(vm);
        // The pipe ends only when the last process that holds its other end is gone.
        let mut rest = Vec::new();
        console.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["a", "b c", "it's", ""].map(str::to_owned);
        assert_eq!(shell_command(&words), r"a 'b c' 'it'\''s' ''");
    }
}
