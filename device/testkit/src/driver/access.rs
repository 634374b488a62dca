//! The driver's ways to a register: BAR, HAIMR, command lists, PHY, interrupts.

use std::time::Duration;

use super::{DriverError, Port};

pub(crate) const HCBAR: u64 = 0x00;
pub(crate) const HCBCTLR: u64 = 0x04;
pub(crate) const HDBAR: u64 = 0x08;
pub(crate) const HDBCTLR: u64 = 0x0c;
pub(crate) const HAIMR: u64 = 0x10;
pub(crate) const BIPR: u64 = 0x14;
pub(crate) const BIER: u64 = 0x18;
pub(crate) const DUM_REG: u64 = 0x1c;

const BUSY: u32 = 1 << 31;
const HAIMR_WRITE: u32 = 1 << 30;
/// The driver gives up after this many reads (MAX_RW_REG_CNT).
const POLLS: usize = 1024;

pub(crate) const TRANS_OK: u32 = 1 << 29;
pub(crate) const TRANS_FAIL: u32 = 1 << 28;
pub(crate) const SD_INT: u32 = 1 << 25;
pub(crate) const SD_OC_INT: u32 = 1 << 22;
pub(crate) const SD_WRITE_PROTECT: u32 = 1 << 19;
pub(crate) const SD_EXIST: u32 = 1 << 16;

const START_LIST: u32 = 1 << 31 | 1 << 30;
const STOP: u32 = 1 << 28;
/// How long the driver waits for most lists.
const LIST_PATIENCE_MS: u64 = 100;

/// One step of a command list.
pub(crate) enum Step {
    Read(u16),
    /// Address, mask, data.
    Write(u16, u8, u8),
    /// Address, mask, data.
    Check(u16, u8, u8),
}

impl Port<'_> {
    pub(crate) fn bar_read(&mut self, offset: u64) -> u32 {
        self.bench.read_bar(self.function, self.driver.sequences.0.bar, offset)
    }

    pub(crate) fn bar_write(&mut self, offset: u64, value: u32) {
        self.bench.write_bar(self.function, self.driver.sequences.0.bar, offset, value);
    }

    pub(crate) fn sleep(&mut self, milliseconds: u64) {
        self.bench.advance(self.function, Duration::from_millis(milliseconds));
    }

    fn wait_haimr(&mut self) -> Result<u8, DriverError> {
        for _ in 0..POLLS {
            let value = self.bar_read(HAIMR);
            if value & BUSY == 0 {
                return Ok((value & 0xff) as u8);
            }
        }
        Err(DriverError::Timeout)
    }

    /// `rtsx_pci_read_register`.
    pub(crate) fn get(&mut self, address: u16) -> Result<u8, DriverError> {
        self.bar_write(HAIMR, BUSY | u32::from(address & 0x3fff) << 16);
        self.wait_haimr()
    }

    /// `rtsx_pci_write_register`.
    pub(crate) fn put(&mut self, address: u16, mask: u8, data: u8) -> Result<(), DriverError> {
        let command = u32::from(address & 0x3fff) << 16 | u32::from(mask) << 8 | u32::from(data);
        self.bar_write(HAIMR, BUSY | HAIMR_WRITE | command);
        if self.wait_haimr()? == data { Ok(()) } else { Err(DriverError::NotConfirmed) }
    }

    /// Several writes, one after the other.
    pub(crate) fn put_all(&mut self, writes: &[(u16, u8, u8)]) -> Result<(), DriverError> {
        writes.iter().try_for_each(|&(address, mask, data)| self.put(address, mask, data))
    }

    /// `__rtsx_pci_read_phy_register`.
    pub(crate) fn phy_get(&mut self, index: u8) -> Result<u16, DriverError> {
        self.put(0xfe3f, 0xff, index)?;
        self.put(0xfe3c, 0xff, 0x80)?;
        self.wait_clear(0xfe3c, 0x80)?;
        Ok(u16::from_le_bytes([self.get(0xfe3d)?, self.get(0xfe3e)?]))
    }

    /// `__rtsx_pci_write_phy_register`.
    pub(crate) fn phy_put(&mut self, index: u8, value: u16) -> Result<(), DriverError> {
        let [low, high] = value.to_le_bytes();
        self.put_all(&[
            (0xfe3d, 0xff, low),
            (0xfe3e, 0xff, high),
            (0xfe3f, 0xff, index),
            (0xfe3c, 0xff, 0x81),
        ])?;
        self.wait_clear(0xfe3c, 0x80)
    }

    /// Polls an internal register until `bit` is clear.
    pub(crate) fn wait_clear(&mut self, address: u16, bit: u8) -> Result<(), DriverError> {
        for _ in 0..POLLS {
            if self.get(address)? & bit == 0 {
                return Ok(());
            }
        }
        Err(DriverError::Timeout)
    }

    /// `rtsx_pci_send_cmd_no_wait`: starts a command list.
    pub(crate) fn send_list(&mut self, steps: &[Step]) {
        let word = |kind: u32, address: u16, mask: u8, data: u8| {
            kind << 30 | u32::from(address & 0x3fff) << 16 | u32::from(mask) << 8 | u32::from(data)
        };
        self.driver.list = steps
            .iter()
            .map(|step| match *step {
                Step::Read(address) => word(0, address, 0, 0),
                Step::Write(address, mask, data) => word(1, address, mask, data),
                Step::Check(address, mask, data) => word(2, address, mask, data),
            })
            .collect();
        let bytes: Vec<u8> = self.driver.list.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = self.driver.list_at;
        self.bench.memory.poke(at, &bytes);
        self.driver.list_ended_well = None;
        self.bar_write(HCBAR, (at & 0xffff_ffff) as u32);
        self.bar_write(HCBCTLR, START_LIST | bytes.len() as u32);
    }

    /// Waits for the interrupt that ends a list or a transfer, for so many milliseconds.
    pub(crate) fn wait_for_end(&mut self, patience_ms: u64) -> Result<(), DriverError> {
        let mut left = patience_ms;
        loop {
            while self.interrupt()? {}
            match self.driver.list_ended_well {
                Some(true) => return Ok(()),
                Some(false) => return Err(DriverError::ListFailed),
                None if left == 0 => return Err(DriverError::NoInterrupt),
                None => {
                    left -= 1;
                    self.sleep(1);
                }
            }
        }
    }

    /// `rtsx_pci_send_cmd`: runs a command list and returns the bytes of its reads and checks.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<Vec<u8>, DriverError> {
        self.send_list(steps);
        if let Err(error) = self.wait_for_end(LIST_PATIENCE_MS) {
            self.stop()?;
            return Err(error);
        }
        let answers = steps.iter().filter(|step| !matches!(step, Step::Write(..))).count();
        Ok(self.bench.memory.peek(self.driver.list_at, answers).unwrap_or_default())
    }

    /// `rtsx_pci_stop_cmd`.
    pub(crate) fn stop(&mut self) -> Result<(), DriverError> {
        self.bar_write(HCBCTLR, STOP);
        self.bar_write(HDBCTLR, STOP);
        self.put_all(&[self.sequences().stop, (0xfe34, 0x80, 0x80)])
    }

    /// `rtsx_pci_isr`, if a message has come.
    pub(crate) fn interrupt(&mut self) -> Result<bool, DriverError> {
        if self.bench.interrupts.take_new().is_empty() {
            return Ok(false);
        }
        let pending = self.bar_read(BIPR);
        self.bar_write(BIPR, pending);
        if pending & self.driver.enabled == 0 || pending == u32::MAX {
            return Ok(true);
        }
        let pending = pending & (self.driver.enabled | 0x007f_ffff);
        if pending & SD_INT != 0 {
            if pending & SD_EXIST != 0 {
                self.driver.card_inserted = true;
            } else {
                self.driver.card_removed = true;
                self.driver.card_inserted = false;
                if self.sequences().express {
                    // RTS5261_FW_STATUS, link fail. 6.12 does this also when a card comes.
                    self.put(0xff56, 0x80, 0)?;
                    self.driver.offers_express = true;
                }
            }
        }
        if pending & TRANS_FAIL != 0 {
            self.driver.list_ended_well = Some(false);
        } else if pending & TRANS_OK != 0 {
            self.driver.list_ended_well = Some(true);
        }
        Ok(true)
    }
}
