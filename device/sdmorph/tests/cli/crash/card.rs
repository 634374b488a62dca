//! The card as a card: one write after the other, by DMA. The card has no cache, so what it says is written is safe.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sdmorph_testkit::driver::data::Transfer;
use sdmorph_testkit::{Bench, DriverError, Remote, RtsxDriver};

use super::area::{Area, BLOCK_BYTES, Chance, Write};
use crate::server::Server;

/// Where data is in guest memory: behind the driver's own buffer.
const BUFFER: u64 = (1 << 20) + 0x10000;
/// Writes until the kill, at most.
const MOST_WRITES: u64 = 200;
/// The kill is up to this much later: about as long as a write takes.
const LATER_US: u64 = 3_000;
/// CMD13's answer: READY_FOR_DATA, and the state `tran`.
const READY: u32 = 1 << 8 | 4 << 9;
const READY_MASK: u32 = 1 << 8 | 0xf << 9;

/// A card in a running server's reader, and their driver.
pub(super) struct Card {
    driver: RtsxDriver,
    bench: Bench,
    remote: Remote,
}

impl Card {
    /// Has the card identified, by a driver that does not ask for PCIe.
    pub(super) fn of(server: &Server) -> Self {
        let (mut remote, mut bench) = Remote::attach(&server.vfio_user()).unwrap();
        let mut driver = RtsxDriver::new();
        driver.probe(&mut bench, &mut remote).unwrap();
        driver.offers_express = false;
        assert_eq!(driver.rescan(&mut bench, &mut remote), Ok(false));
        driver.identify(&mut bench, &mut remote).unwrap();
        Self { driver, bench, remote }
    }

    /// CMD25 and CMD12, and CMD13 until the card is not busy any more.
    fn write(&mut self, write: &Write) -> Result<(), DriverError> {
        let Self { driver, bench, remote } = self;
        let data = write.data();
        assert!(bench.memory.poke(BUFFER, &data));
        let blocks = (data.len() / BLOCK_BYTES) as u16;
        let transfer = Transfer {
            index: 25,
            argument: write.blocks.start as u32,
            block_bytes: BLOCK_BYTES as u16,
            blocks,
        };
        driver.write_long(bench, remote, transfer, &[(BUFFER, data.len() as u32)])?;
        driver.command(bench, remote, 12, 0)?;
        while driver.command(bench, remote, 13, driver.card_address)? & READY_MASK != READY {}
        Ok(())
    }

    /// Writes until the server is dead. Returns how many writes were acknowledged.
    pub(super) fn write_until_killed(
        mut self,
        chance: &mut Chance,
        area: &mut Area,
        server: &mut Server,
    ) -> u64 {
        let last = 1 + chance.below(MOST_WRITES);
        let later = Duration::from_micros(chance.below(LATER_US));
        let running = &*server;
        let writes = std::thread::scope(|scope| {
            let (time_has_come, wait) = channel();
            scope.spawn(move || {
                // Or there is nobody any more who would send it.
                let _ = wait.recv();
                let from = Instant::now();
                while from.elapsed() < later {}
                running.signal(Signal::KILL);
            });
            let mut writes = 0;
            loop {
                if writes == last {
                    time_has_come.send(()).unwrap();
                }
                let write = area.write(Area::any_blocks(chance));
                // The driver has time limits of its own: one that gives up early has not been told that it is written.
                if self.write(&write).is_err() {
                    return writes;
                }
                area.ended_safely(&write);
                writes += 1;
                self.bench.log.clear();
            }
        });
        server.ended();
        writes
    }
}
