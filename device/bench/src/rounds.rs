//! Reads and posted writes over the socket: all servers of all placements, taking turns.

use anyhow::{Context, Result};

use crate::client::Waits;
use crate::placement::{Pinned, Placement};
use crate::process::{How, ServerProcess};
use crate::report::{Measured, Round, Settings, Wire};
use crate::servers::ServerKind;
use crate::statistics::Percentiles;

/// Reads before each round that are not counted: caches, the processor's clock, and the server's polling settle.
const WARM_UP: u32 = 300;

/// Seed of the order in which servers take turns. Whoever goes before may leave a processor awake, so there is no fixed one.
pub(crate) const TURNS: u64 = 1;

/// Measures all servers in all placements.
///
/// A round has all of them in it: how fast a machine wakes a processor can be one thing in one half minute and another in
/// the next, if it is a virtual one.
pub(crate) fn measure(placements: &[Placement], settings: &Settings) -> Result<Vec<Wire>> {
    crate::say(&format!(
        "over the socket, {} placements: {} rounds of {} reads",
        placements.len(),
        settings.rounds,
        settings.reads
    ));
    let mut placed = Vec::new();
    // Started before this process is pinned: they would inherit that.
    for placement in placements {
        let how = How { cpu: placement.server_cpu(), ..How::default() };
        let start = |kind| Ok((kind, ServerProcess::start(kind, how)?, Vec::new()));
        placed.push((*placement, ServerKind::ALL.into_iter().map(start).collect::<Result<Vec<_>>>()?));
    }
    let mut chance = fastrand::Rng::with_seed(TURNS);
    for _ in 0..settings.rounds {
        for (placement, servers) in &mut placed {
            let _pinned = Pinned::to(placement.client_cpu())?;
            let mut turns: Vec<_> = servers.iter_mut().collect();
            chance.shuffle(&mut turns);
            for (kind, server, rounds) in turns {
                rounds.push(round(*kind, server, placement.client_waits(), settings)?);
            }
        }
    }
    let wire = placed.into_iter().map(|(placement, servers)| {
        let measured = servers.into_iter().map(|(kind, server, rounds)| {
            server.finish()?;
            Measured::new(kind, rounds).context("no rounds")
        });
        Ok(Wire { placement, servers: measured.collect::<Result<_>>()? })
    });
    wire.collect()
}

fn round(kind: ServerKind, server: &mut ServerProcess, waits: Waits, settings: &Settings) -> Result<Round> {
    let mut times_ns = Vec::new();
    let client = server.connect()?.waiting(waits);
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
        let client = server.connect()?.waiting(waits);
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
