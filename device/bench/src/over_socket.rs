//! The drive without a guest: the testkit's NVMe driver, over the vfio-user socket of `sdmorph serve`.
//!
//! The client takes part in what is measured: its memory is a file that it reads and writes by system calls, it waits for
//! eventfds as QEMU does for a guest, and a write to a doorbell register waits for the server's reply, which QEMU's does not.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sdmorph_testkit::nvme::{Entry, PAGE_BYTES, with_prps};
use sdmorph_testkit::{Bench, MessageLog, NvmeDriver, Remote};

use crate::arguments::GuestOptions;
use crate::report::{Contest, DiskWork, Doorbells, OverSocket, Settings, SocketRound, SocketRow, Task};
use crate::serving::{Serving, device_program};
use crate::statistics::{Percentiles, nanoseconds};

/// What of the drive is read and written; all of it has contents.
const RANGE_BYTES: u32 = 64 << 20;
const BLOCK_BYTES: u32 = 512;
/// Requests under way, at most: a queue has room for more.
const MOST_REQUESTS: u64 = 32;
/// How long one request may take. Nothing is measured with it: it ends a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures everything, in rounds.
///
/// # Errors
/// There is no device, or it does not do what it is asked for.
pub(crate) fn measure(settings: &Settings, options: &GuestOptions) -> Result<OverSocket> {
    let device = device_program(options)?;
    let (rounds, length) = (settings.reader_rounds, Duration::from_millis(settings.reader_ms.into()));
    crate::say(&format!("the drive over its socket: {rounds} rounds of {} ms a row", settings.reader_ms));
    let tasks = Contest::Drive.tasks();
    let mut rows = Vec::new();
    let mut driven = Vec::new();
    for doorbells in Doorbells::ALL {
        driven.push(Driven::start(&device, options, doorbells)?);
        rows.extend(tasks.iter().map(|task| (doorbells, *task, Vec::new())));
    }
    for _ in 0..rounds {
        // All of one kind of work, before the next kind: what is compared is measured one right after the other.
        for task in tasks {
            for driven in &mut driven {
                let round = driven.measure(*task, length)?;
                let row =
                    rows.iter_mut().find(|(doorbells, of, _)| (*doorbells, *of) == (driven.doorbells, *task));
                row.context("no such row")?.2.push(round);
            }
        }
    }
    let rows = rows
        .into_iter()
        .map(|(doorbells, task, rounds)| SocketRow::new(doorbells, task, rounds).context("no rounds"));
    let rows = rows.collect::<Result<_>>()?;
    driven.into_iter().for_each(Driven::end);
    Ok(OverSocket { rows })
}

/// A drive in a process of its own, and its driver.
struct Driven {
    doorbells: Doorbells,
    driver: NvmeDriver,
    bench: Bench,
    drive: Remote,
    /// A page for a list, and the pages of data after it.
    list: u64,
    /// The state of what stands in for chance.
    random: u32,
    serving: Serving,
}

impl Driven {
    fn start(device: &Path, options: &GuestOptions, doorbells: Doorbells) -> Result<Self> {
        let serving = Serving::start(device, options, "sd-express")?;
        let (mut drive, mut bench) = Remote::attach(&serving.socket)?;
        drive.switch(&mut bench)?;
        let mut driver = NvmeDriver::default();
        driver.io_queues = 1;
        driver.uses_shadow_doorbells = doorbells == Doorbells::Shadow;
        driver.probe(&mut bench, &mut drive).map_err(|error| anyhow!("the driver failed: {error:?}"))?;
        if driver.block_bytes != BLOCK_BYTES {
            bail!("blocks of {} bytes", driver.block_bytes);
        }
        let list = driver.pages(1 + MOST_REQUESTS);
        Ok(Self { doorbells, driver, bench, drive, list, random: 1, serving })
    }

    fn end(self) {
        drop(self.drive);
        self.serving.server.quit();
    }

    /// The command of a request, whose data has its place among those under way.
    fn command(&mut self, task: Task, place: u64, number: u32) -> Entry {
        let bytes = task.work.bytes();
        let places = RANGE_BYTES / bytes;
        let at = match task.work {
            DiskWork::SequentialRead | DiskWork::SequentialWrite => number % places,
            DiskWork::RandomRead | DiskWork::RandomWrite => {
                // Numerical Recipes' generator; its upper bits are the better ones.
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (self.random >> 8) % places
            }
        };
        let opcode = match task.work {
            DiskWork::SequentialRead | DiskWork::RandomRead => 2,
            DiskWork::SequentialWrite | DiskWork::RandomWrite => 1,
        };
        let blocks = bytes / BLOCK_BYTES;
        let entry = Entry::new(opcode, 1).blocks(u64::from(at * blocks), blocks);
        with_prps(&self.bench, entry, self.list + (1 + place) * PAGE_BYTES, bytes)
    }

    fn measure(&mut self, task: Task, length: Duration) -> Result<SocketRound> {
        let mut free: Vec<u64> = (0..u64::from(task.depth)).collect();
        let mut under_way = HashMap::new();
        let (mut times_ns, mut sent) = (Vec::new(), 0u32);
        let (cpu_before, doorbells_before) = (self.cpu_ns()?, self.doorbell_writes());
        let began = Instant::now();
        while began.elapsed() < length || !under_way.is_empty() {
            while began.elapsed() < length {
                let Some(place) = free.pop() else { break };
                let entry = self.command(task, place, sent);
                sent = sent.wrapping_add(1);
                let at = Instant::now();
                let id = self.driver.submit(&mut self.bench, &mut self.drive, 1, entry);
                under_way.insert(id, (place, at));
            }
            let completions = self.driver.reap(&mut self.bench, &mut self.drive, 1);
            let now = Instant::now();
            if completions.is_empty() && !under_way.is_empty() && self.drive.wait(PATIENCE).is_empty() {
                bail!("{}: nothing has ended for {PATIENCE:?}", task.title());
            }
            for completion in completions {
                if completion.code() != 0 {
                    bail!("{}: status {:#x}", task.title(), completion.code());
                }
                let (place, at) = under_way.remove(&completion.id).context("an answer to nothing")?;
                free.push(place);
                times_ns.push(nanoseconds(now.duration_since(at)));
            }
            // They would only grow.
            self.bench.log.clear();
            self.bench.interrupts = MessageLog::default();
        }
        let took = began.elapsed();
        let cpu_ns = self.cpu_ns()?.saturating_sub(cpu_before);
        let doorbells = self.doorbell_writes().saturating_sub(doorbells_before);
        let count = times_ns.len() as f64;
        let percentiles = Percentiles::of(times_ns).context("no request has ended")?;
        Ok(SocketRound {
            requests_per_s: count / took.as_secs_f64(),
            p50_us: percentiles.p50_ns as f64 / 1e3,
            p99_us: percentiles.p99_ns as f64 / 1e3,
            cpu_us: cpu_ns as f64 / 1e3 / count,
            doorbells: f64::from(doorbells) / count,
        })
    }

    fn doorbell_writes(&self) -> u32 {
        self.driver.queues.iter().map(|queue| queue.doorbell_writes).sum()
    }

    /// Processor time of all threads that the server has (`/proc/PID/task/TID/schedstat`).
    fn cpu_ns(&self) -> Result<u64> {
        let tasks = format!("/proc/{}/task", self.serving.server.pid());
        let mut sum = 0;
        for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            // One that ends meanwhile has done nothing here.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let first = text.split_whitespace().next().context("an empty schedstat")?;
            sum += first.parse::<u64>().context("schedstat")?;
        }
        Ok(sum)
    }
}
