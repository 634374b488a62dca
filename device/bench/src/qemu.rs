//! The device's 4-byte read as a guest does it, through a stock QEMU.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use sdmorph_lab::assets::{self, Accel, Needs, Overrides, Progress, Qemu, Request, Store};

use crate::guest;
use crate::process::{How, ServerProcess};
use crate::report::{Measured, Round, Settings, ThroughQemu};
use crate::rounds::TURNS;
use crate::servers::ServerKind;
use crate::statistics::Percentiles;

/// Reads at the beginning that are not counted: the guest's code is translated, and the server's polling settles.
const WARM_UP: u32 = 500;
/// Guest memory; it has to be shared, and there is next to nothing in it.
const MEMORY: &str = "64M";

/// Measures all servers that QEMU can be a client of.
///
/// # Errors
/// There is no QEMU and none can be fetched, or it does not run the guest.
pub(crate) fn measure(settings: &Settings) -> Result<ThroughQemu> {
    let store = Store::open()?;
    let request = Request {
        kernels: Vec::new(),
        unfix: false,
        needs: Needs::default(),
        refresh: false,
        overrides: Overrides::from_env(),
    };
    let found = assets::setup(&request, &store, Progress::detect())?;
    let (rounds, reads) = (settings.qemu_rounds, settings.reads);
    let (qemu, accel) = (found.qemu, found.accel);
    crate::say(&format!(
        "through QEMU {} ({}): {rounds} rounds of {reads} reads",
        qemu.version,
        accel.name()
    ));
    let mut servers = ServerKind::VFIO_USER.map(|kind| (kind, Vec::new()));
    let mut chance = fastrand::Rng::with_seed(TURNS);
    for _ in 0..rounds {
        let mut turns: Vec<_> = servers.iter_mut().collect();
        chance.shuffle(&mut turns);
        for (kind, rounds) in turns {
            rounds.push(round(*kind, &qemu, accel, reads)?);
        }
    }
    let servers = servers.into_iter().map(|(kind, rounds)| Measured::new(kind, rounds).context("no rounds"));
    Ok(ThroughQemu { servers: servers.collect::<Result<_>>()?, qemu: qemu.version, accel: accel.name() })
}

fn round(kind: ServerKind, qemu: &Qemu, accel: Accel, reads: u32) -> Result<Round> {
    let server = ServerProcess::start(kind, How { keep_arrivals: true, ..How::default() })?;
    let image = tempfile::NamedTempFile::new().context("a file for the guest")?;
    // Between n reads there are n - 1 times.
    let all = WARM_UP + reads + 1;
    std::fs::write(image.path(), guest::image(all)).context("a file for the guest")?;
    let mut machine = Machine::start(qemu, accel, image.path(), &server.socket())?;
    let done = server.wait_done(|| machine.has_ended());
    let said = machine.end();
    done.with_context(|| format!("QEMU said: {}", said.trim()))?;
    let (calls, intervals_ns) = server.wait_left()?;
    server.finish()?;
    let times_ns: Vec<u64> = intervals_ns.into_iter().skip(WARM_UP as usize).collect();
    if times_ns.len() != reads as usize {
        bail!("{} reads came, and {reads} were wanted", times_ns.len());
    }
    let took_ns: u64 = times_ns.iter().sum();
    Ok(Round {
        times: Percentiles::of(times_ns).context("no reads")?,
        reads_per_s: f64::from(reads) * 1e9 / took_ns.max(1) as f64,
        cpu_ns: None,
        calls,
        posted_writes_per_s: None,
    })
}

/// A QEMU that runs. It ends when this is dropped.
#[derive(Debug)]
struct Machine {
    child: Child,
}

impl Machine {
    fn start(qemu: &Qemu, accel: Accel, image: &Path, socket: &Path) -> Result<Self> {
        let (program, first) = qemu.argv.split_first().context("the QEMU to run has no name")?;
        let device = serde_json::json!({
            "driver": "vfio-user-pci",
            "bus": "pcie.0",
            "addr": format!("{:#x}", guest::SLOT),
            "socket": { "type": "unix", "path": socket },
        });
        let mut command = Command::new(program);
        command
            .args(first)
            .args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot", "-smp", "1"])
            .args(["-m", MEMORY, "-object"])
            .arg(format!("memory-backend-memfd,id=m0,size={MEMORY},share=on"))
            .arg("-machine")
            .arg(format!("q35,accel={},memory-backend=m0", accel.name()))
            .args(["-device", &device.to_string(), "-kernel"])
            .arg(image);
        if qemu.exits_with_parent {
            command.args(["-run-with", "exit-with-parent=on"]);
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Ok(Self { child: spawned.context("cannot start QEMU")? })
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Ends it. Returns what it said on standard error.
    fn end(mut self) -> String {
        let _ = self.child.kill();
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // It only explains a failure that is reported anyway.
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        said
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Only that process; a child that was waited for is not signalled any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
