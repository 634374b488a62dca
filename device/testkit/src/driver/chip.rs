//! The sequences of `rtsx_pcr.c`, and the steps that those of a chip ([`sequences`]) are made of. Registers are given by
//! address; the reader's tables have the names.

use super::access::{BIER, BIPR, DUM_REG, HCBAR, SD_EXIST, SD_INT, SD_OC_INT, Step, TRANS_FAIL, TRANS_OK};
use super::sequences::{self, Act, Aspm};
use super::{Chosen, DriverError, Port};

const REALTEK: u32 = 0x10ec;
const COMMAND: u16 = 0x04;
const MEMORY_AND_MASTER: u32 = 0x0006;
const CAPABILITY_LIST: u16 = 0x34;
const POWER_MANAGEMENT: u8 = 0x01;
/// Bits of PMCSR.
const PME_STATUS: u32 = 1 << 15;
const PME_ENABLE: u32 = 1 << 8;
const D3HOT: u32 = 3;
const MSI: u8 = 0x05;
const EXPRESS: u8 = 0x10;
const L1_SUBSTATES: u16 = 0x001e;
const LNKCTL: u16 = 0x10;
const DEVCTL2: u16 = 0x28;
const DEVCTL2_LTR: u32 = 1 << 10;
/// An address as an x86 guest uses it; any will do.
const MSI_ADDRESS: u32 = 0xfee0_0000;
const MSI_DATA: u32 = 0x0021;
/// LTR latencies (LTR_ACTIVE_LATENCY_DEF, LTR_L1OFF_LATENCY_DEF).
const LTR_ACTIVE: u32 = 0x883c;
const LTR_L1OFF: u32 = 0x9003;

/// What the host goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    S1 = 1,
    S3 = 2,
}

impl Port<'_> {
    pub(crate) fn probe(&mut self) -> Result<(), DriverError> {
        let ids = self.bench.config_read(self.function, 0, 4);
        let sequences = sequences::of((ids >> 16) as u16).filter(|_| ids & 0xffff == REALTEK);
        self.driver.sequences = Chosen(sequences.ok_or(DriverError::NotAReader)?);
        self.bench.config_write(self.function, COMMAND, 2, MEMORY_AND_MASTER);
        self.driver.list_at = self.bench.memory.base();
        let msi = self.capability(MSI)?;
        self.bench.config_write(self.function, msi + 4, 4, MSI_ADDRESS);
        self.bench.config_write(self.function, msi + 8, 4, 0);
        self.bench.config_write(self.function, msi + 0xc, 2, MSI_DATA);
        let flags = self.bench.config_read(self.function, msi + 2, 2);
        self.bench.config_write(self.function, msi + 2, 2, flags | 1);
        self.driver.express_capability = self.capability(EXPRESS)?;

        // rts5261_init_params and its siblings.
        if self.sequences().express {
            self.driver.offers_express = self.get(0xff56)? & 0x80 == 0;
        }
        self.driver.ic_version = self.get(0xfe90)? & 0x0f;
        // rtsx_pci_init_chip: both force bits set means that ASPM is off.
        self.driver.aspm_enabled = self.get(0xfe57)? & 0x30 != 0x30;
        if let Some(at) = self.extended_capability(L1_SUBSTATES) {
            self.bench.config_read(self.function, at + 8, 4);
            let control = self.bench.config_read(self.function, self.driver.express_capability + DEVCTL2, 2);
            self.driver.ltr_enabled = control & DEVCTL2_LTR != 0;
        }
        if self.sequences().reads_settings {
            let settings1 = self.bench.config_read(self.function, 0x724, 4);
            if settings1 & 1 << 24 == 0 {
                let settings2 = self.bench.config_read(self.function, 0x814, 4);
                self.driver.rtd3 = settings2 & self.sequences().rtd3 != 0;
            }
        }
        self.init_hw()
    }

    /// What is different from chip to chip.
    pub(crate) fn sequences(&self) -> &'static sequences::Sequences {
        self.driver.sequences.0
    }

    /// Does the steps of a sequence.
    pub(crate) fn act(&mut self, acts: &[Act]) -> Result<(), DriverError> {
        acts.iter().try_for_each(|act| match *act {
            Act::Get(address) => self.get(address).map(drop),
            Act::Put(address, mask, data) => self.put(address, mask, data),
            Act::List(writes) => self.run_writes(writes),
            Act::PhyPut(index, value) => self.phy_put(index, value),
            Act::PhyUpdate(index, keep, set) => {
                let value = self.phy_get(index)?;
                self.phy_put(index, value & keep | set)
            }
            Act::Sleep(milliseconds) => {
                self.sleep(milliseconds);
                Ok(())
            }
            Act::Ltr if self.driver.ltr_enabled => self.set_ltr_latency(LTR_ACTIVE),
            Act::Ltr => Ok(()),
            Act::EfuseSettings => self.fetch_settings(),
            Act::ByRtd3 { on, off } => self.act(if self.driver.rtd3 { on } else { off }),
            Act::Dum => {
                let value = self.bar_read(DUM_REG);
                self.bar_write(DUM_REG, value | 1);
                Ok(())
            }
        })
    }

    /// A command list of writes.
    pub(crate) fn run_writes(&mut self, writes: &[sequences::Write]) -> Result<(), DriverError> {
        let steps: Vec<Step> =
            writes.iter().map(|&(address, mask, data)| Step::Write(address, mask, data)).collect();
        self.run(&steps).map(drop)
    }

    fn capability(&mut self, id: u8) -> Result<u16, DriverError> {
        let mut at = self.bench.config_read(self.function, CAPABILITY_LIST, 1) as u16;
        // 48 is the PCI core's own limit for a list that runs in circles.
        for _ in 0..48 {
            if at < 0x40 {
                break;
            }
            let header = self.bench.config_read(self.function, at, 2);
            if header & 0xff == u32::from(id) {
                return Ok(at);
            }
            at = (header >> 8) as u16;
        }
        Err(DriverError::NoCapability(id))
    }

    fn extended_capability(&mut self, id: u16) -> Option<u16> {
        let mut at = 0x100;
        for _ in 0..480 {
            let header = self.bench.config_read(self.function, at, 4);
            if header & 0xffff == u32::from(id) {
                return Some(at);
            }
            at = (header >> 20) as u16;
            if at < 0x100 {
                return None;
            }
        }
        None
    }

    /// `rtsx_pci_init_hw`.
    fn init_hw(&mut self) -> Result<(), DriverError> {
        let sequences = self.sequences();
        self.act(sequences.before)?;
        self.bar_write(HCBAR, (self.driver.list_at & 0xffff_ffff) as u32);
        self.driver.enabled = TRANS_OK | TRANS_FAIL | SD_INT | SD_OC_INT | sequences.interrupts;
        self.bar_write(BIER, self.driver.enabled);
        self.act(sequences.ssc_on)?;
        self.set_aspm(false)?;
        self.act(sequences.optimize_phy)?;
        self.run(&[
            Step::Write(0xfc03, 0x07, 0x07),
            Step::Write(0xfe60, 0x03, 0x00),
            Step::Write(0xfd69, 0x1e, 0x00),
            Step::Write(0xfe5b, 0x0a, 0x00),
            Step::Write(0xfd53, 0xff, 0x41),
            Step::Write(0xfc11, 0xff, 0x50),
            Step::Write(0xfc12, 0xff, sequences.ssc_ctl2),
            Step::Write(0xfe5b, 0x16, 0x10),
            Step::Write(0xfe21, 0x20, 0x20),
            Step::Write(0xfe5c, 0xff, 0x80),
            Step::Write(0xfc14, 0x01, 0x00),
            Step::Write(0xfe72, 0x02, 0x00),
        ])?;
        if sequences.clock_pm {
            self.put(0xfe58, 0x01, 0x01)?;
        }
        self.act(sequences.init_ocp)?;
        let lnkctl = self.driver.express_capability + LNKCTL;
        let control = self.bench.config_read(self.function, lnkctl, 2);
        self.bench.config_write(self.function, lnkctl, 2, control | 0x100);
        self.bench.config_write(self.function, 0x70f, 1, 0x5b);
        self.act(sequences.extra_init)?;
        self.put(0xfe57, 0x30, 0x30)?;
        self.driver.card_inserted = self.bar_read(BIPR) & SD_EXIST != 0;
        Ok(())
    }

    /// `rts5261_init_from_hw`: EFUSE first, then vendor settings in configuration space.
    fn fetch_settings(&mut self) -> Result<(), DriverError> {
        self.put_all(&[(0xff78, 0x07, 0x07), (0xfc31, 0x3f, 0x00), (0xfc30, 0xc0, 0x80)])?;
        self.wait_clear(0xfc30, 0x80)?;
        let efuse_valid = self.get(0xfc34)? >> 2 & 3;
        let valid = self.bench.config_read(self.function, 0x814, 4) >> 16 & 3;
        self.put(0xff78, 0x04, 0x00)?;
        let (settings1, settings2) = match (efuse_valid, valid) {
            (2 | 3, 3) | (0, _) => (0x724, 0x814),
            (2 | 3, _) => (0x818, 0x81c),
            _ => return Ok(()),
        };
        let value2 = self.bench.config_read(self.function, settings2, 4);
        if value2 & 0x01_0000 == 0 {
            return Ok(());
        }
        self.driver.rtd3 = value2 & self.sequences().rtd3 != 0;
        let value1 = self.bench.config_read(self.function, settings1, 4);
        if settings1 == 0x724 {
            for (address, byte) in (0xff0c..).zip(value1.to_le_bytes()) {
                self.put(address, 0xff, byte)?;
            }
            for (address, byte) in (0xff10..=0xff12).zip(value2.to_le_bytes()) {
                self.put(address, 0xff, byte)?;
            }
            self.bench.config_write(self.function, 0x818, 4, value1);
            self.bench.config_write(self.function, 0x81c, 4, value2 & 0x00ff_ffff);
        }
        Ok(())
    }

    fn set_ltr_latency(&mut self, latency: u32) -> Result<(), DriverError> {
        for (address, byte) in (0xfe44..).zip(latency.to_le_bytes()) {
            self.put(address, 0xff, byte)?;
        }
        self.put(0xfe4a, 0xc0, 0xc0)
    }

    /// `rtsx_enable_aspm` and `rtsx_disable_aspm`.
    fn set_aspm(&mut self, on: bool) -> Result<(), DriverError> {
        if self.driver.aspm_enabled == on {
            return Ok(());
        }
        self.driver.aspm_enabled = on;
        if self.sequences().aspm == Aspm::Forced {
            return self.put(0xfe57, 0x30, if on { 0x00 } else { 0x30 });
        }
        let lnkctl = self.driver.express_capability + LNKCTL;
        let control = self.bench.config_read(self.function, lnkctl, 2) & !3;
        if on {
            self.put(0xfe57, 0x33, 0x32)?;
            self.bench.config_write(self.function, lnkctl, 2, control | 2);
        } else {
            self.bench.config_write(self.function, lnkctl, 2, control);
            self.put_all(&[(0xfe57, 0x33, 0x30), (0xfda0, 0x10, 0x00)])?;
        }
        Ok(())
    }

    /// `rtsx_pci_start_run`.
    pub(crate) fn start_run(&mut self) -> Result<(), DriverError> {
        if self.driver.running {
            return Ok(());
        }
        self.driver.running = true;
        self.put(0xfc1e, 0x08, 0x08)?;
        self.set_aspm(false)?;
        if self.driver.ltr_enabled {
            self.set_ltr_latency(LTR_ACTIVE)?;
        }
        self.set_l1off()
    }

    /// `set_l1off_cfg_sub_d0`, without L1 substates.
    fn set_l1off(&mut self) -> Result<(), DriverError> {
        if self.sequences().l1off_asks_for_card {
            self.bar_read(BIPR);
        }
        self.put(0xfe8f, 0xff, 0x00)
    }

    pub(crate) fn runtime_idle(&mut self) -> Result<(), DriverError> {
        self.driver.running = false;
        self.put_all(&[(0xfc1e, 0x08, 0x00), self.sequences().led_off])?;
        if self.driver.ltr_enabled {
            self.set_ltr_latency(LTR_L1OFF)?;
        }
        self.set_l1off()?;
        self.set_aspm(true)
    }

    /// `rtsx_pci_power_off`.
    pub(crate) fn power_off(&mut self, sleep: Sleep, runtime: bool) -> Result<(), DriverError> {
        let sequences = self.sequences();
        self.put_all(&[sequences.led_off])?;
        self.bar_write(BIER, 0);
        self.driver.enabled = 0;
        self.put_all(&[(0xff03, 0x08, 0x08), (0xfe60, 0x03, sleep as u8)])?;
        // force_power_down: no relink time first.
        self.put_all(&[(0xff01, 0xff, 0), (0xff02, 0xff, 0), (0xff03, 0x01, 0)])?;
        if sleep == Sleep::S3 || !sequences.delink_in_s3 {
            self.put_all(&[sequences.delink])?;
        }
        self.act(if runtime { sequences.stay_armed } else { sequences.disarm })?;
        self.act(sequences.power_down)
    }

    /// `pci_pm_runtime_suspend`: the driver's part, then PME and D3hot.
    pub(crate) fn runtime_suspend(&mut self) -> Result<(), DriverError> {
        self.power_off(Sleep::S3, true)?;
        let pmcsr = self.capability(POWER_MANAGEMENT)? + 4;
        let control = self.bench.config_read(self.function, pmcsr, 2);
        self.bench.config_write(self.function, pmcsr, 2, control | PME_STATUS | PME_ENABLE);
        let control = self.bench.config_read(self.function, pmcsr, 2);
        self.bench.config_write(self.function, pmcsr, 2, control & !PME_STATUS | D3HOT);
        Ok(())
    }

    /// `pci_pm_runtime_resume`: D0 and no PME, then the driver's part.
    pub(crate) fn runtime_resume(&mut self) -> Result<(), DriverError> {
        let pmcsr = self.capability(POWER_MANAGEMENT)? + 4;
        self.bench.config_write(self.function, pmcsr, 2, 0);
        let control = self.bench.config_read(self.function, pmcsr, 2);
        self.bench.config_write(self.function, pmcsr, 2, (control | PME_STATUS) & !PME_ENABLE);
        self.resume()
    }

    pub(crate) fn resume(&mut self) -> Result<(), DriverError> {
        self.put(0xfe60, 0x03, 0x00)?;
        self.init_hw()
    }

    pub(crate) fn remove(&mut self) -> Result<(), DriverError> {
        self.bar_write(BIER, 0);
        self.driver.enabled = 0;
        let command = self.bench.config_read(self.function, COMMAND, 2);
        let msi = self.capability(MSI)?;
        let flags = self.bench.config_read(self.function, msi + 2, 2);
        self.bench.config_write(self.function, msi + 2, 2, flags & !1);
        self.bench.config_write(self.function, COMMAND, 2, command & !4);
        Ok(())
    }
}
