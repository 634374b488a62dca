//! Reads and posted writes over the socket: all servers of one placement, taking turns.

use anyhow::{Context, Result};

use crate::placement::{Pinned, Placement};
use crate::process::{How, ServerProcess};
use crate::report::{Measured, Round, Settings, Wire};
use crate::servers::ServerKind;
use crate::statistics::Percentiles;

/// Reads before each round that are not counted: caches, the processor's clock, and the server's polling settle.
const WARM_UP: u32 = 300;

/// Measures all servers in one placement.
pub(crate) fn measure(placement: Placement, settings: &Settings) -> Result<Wire> {
    crate::say(&format!("{}: {} rounds of {} reads", placement.title(), settings.rounds, settings.reads));
    // Started before this process is pinned: they would inherit that.
    let how = How { cpu: placement.server_cpu(), ..How::default() };
    let mut servers = Vec::new();
    for kind in ServerKind::ALL {
        servers.push((kind, ServerProcess::start(kind, how)?, Vec::new()));
    }
    let _pinned = Pinned::to(placement.client_cpu())?;
    for _ in 0..settings.rounds {
        for (kind, server, rounds) in &mut servers {
            rounds.push(round(*kind, server, settings)?);
        }
    }
    let measured = servers.into_iter().map(|(kind, server, rounds)| {
        server.finish()?;
        Measured::new(kind, rounds).context("no rounds")
    });
    Ok(Wire { placement, servers: measured.collect::<Result<_>>()? })
}

fn round(kind: ServerKind, server: &mut ServerProcess, settings: &Settings) -> Result<Round> {
    let mut times_ns = Vec::new();
    let client = server.connect()?;
    client.reads(WARM_UP, &mut times_ns)?;
    times_ns.clear();
    let before = server.cpu_ns()?;
    let took = client.reads(settings.reads, &mut times_ns)?;
    let cpu_ns = server.cpu_ns()?.saturating_sub(before);
    drop(client);
    let (calls, _) = server.wait_left()?;
    let posted_writes_per_s = if !kind.is_vfio_user() {
        None
    } else {
        let client = server.connect()?;
        client.posted_writes(settings.posted_writes / 10)?;
        let took = client.posted_writes(settings.posted_writes)?;
        drop(client);
        server.wait_left()?;
        Some(f64::from(settings.posted_writes) / took.as_secs_f64())
    };
    Ok(Round {
        times: Percentiles::of(times_ns).context("no reads")?,
        reads_per_s: f64::from(settings.reads) / took.as_secs_f64(),
        cpu_ns: Some(cpu_ns as f64 / f64::from(settings.reads)),
        calls,
        posted_writes_per_s,
    })
}
