//! The sequences of `rtsx_pci_sdmmc.c`, and what `mmc/core` does with them up to the switch.

use super::access::{BIER, BIPR, SD_EXIST, SD_OC_INT, SD_WRITE_PROTECT, Step};
use super::{DriverError, Port};

/// The response that a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Response {
    /// None.
    None,
    /// 48 bits with CRC7.
    Short,
    /// 48 bits without CRC7 (R3).
    ShortNoCrc,
    /// 136 bits.
    Long,
}

/// CMD8 as `mmc_send_if_cond_pcie` sends it to a host with SD Express at 1.8 V and 1.2 V.
const IF_COND_PCIE: u32 = 0x31aa;
const LNKCTL2: u16 = 0x30;
/// High capacity, 3.2 V to 3.4 V.
const OP_COND: u32 = 0x4030_0000;
/// The relink time that `sdmmc_init_sd_express` sets.
pub(crate) const RELINK_TIME: u32 = 0x8fff;

/// The power mode of an `mmc_ios`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Power {
    #[default]
    Off,
    Up,
    On,
}

impl Port<'_> {
    pub(crate) fn rescan(&mut self) -> Result<bool, DriverError> {
        self.start_run()?;
        if self.bar_read(BIPR) & SD_EXIST == 0 {
            self.set_ios(Power::Off)?;
            return Ok(false);
        }
        // mmc_power_up.
        self.set_ios(Power::Up)?;
        self.act(self.sequences().to_3v3)?;
        self.put(0xfda5, 0xc0, 0x00)?;
        self.set_ios(Power::On)?;
        // mmc_go_idle raises chip select before and lowers it after the command.
        self.set_ios(Power::On)?;
        self.command(0, 0, Response::None)?;
        self.set_ios(Power::On)?;
        let ask = if self.driver.offers_express { IF_COND_PCIE } else { 0x1aa };
        let answer = match self.command(8, ask, Response::Short) {
            Err(DriverError::ListFailed | DriverError::BadResponse) => return Ok(false),
            answer => answer?,
        };
        let express = self.driver.offers_express && answer & 0x3000 != 0;
        if express {
            self.switch_to_express()?;
        }
        Ok(express)
    }

    /// `sdmmc_set_ios`, with one line and the timing and clock of identification.
    pub(crate) fn set_ios(&mut self, power: Power) -> Result<(), DriverError> {
        self.start_run()?;
        self.put(0xfda0, 0x03, 0x00)?;
        match (self.driver.card_power, power) {
            (_, Power::Off) => self.power_off_card()?,
            (Power::On, _) => {}
            (Power::Up, _) => self.put(0xfda5, 0x80, 0x00)?,
            (Power::Off, _) => self.power_on_card()?,
        }
        if self.driver.card_power != Power::On || power == Power::Off {
            self.driver.card_power = power;
        }
        self.set_timing()?;
        self.set_initial_clock()
    }

    /// `sd_power_on` of a card that is off.
    fn power_on_card(&mut self) -> Result<(), DriverError> {
        self.sleep(100);
        self.run(&[
            Step::Write(0xfd5c, 0x07, 0x02),
            Step::Write(0xfd52, 0x0f, 0x04),
            Step::Write(0xfd69, 0x04, 0x04),
        ])?;
        let sequences = self.sequences();
        self.run_writes(sequences.pull_on)?;
        self.act(sequences.power_on)?;
        self.put_all(&[(0xfd55, 0x04, 0x04), (0xfda5, 0x80, 0x80)])?;
        if sequences.express {
            self.get(0xff50)?;
            if self.bar_read(BIPR) & SD_WRITE_PROTECT != 0 {
                self.driver.offers_express = false;
            }
        }
        Ok(())
    }

    /// `sd_power_off`.
    fn power_off_card(&mut self) -> Result<(), DriverError> {
        self.run(&[Step::Write(0xfd69, 0x04, 0x00), Step::Write(0xfd55, 0x04, 0x00)])?;
        let sequences = self.sequences();
        if sequences.prepares_power_off {
            self.stop()?;
            self.act(sequences.to_3v3)?;
        }
        self.act(sequences.power_off)?;
        self.run_writes(sequences.pull_off)
    }

    /// `sd_set_timing` for a card whose timing is not known.
    fn set_timing(&mut self) -> Result<(), DriverError> {
        self.run(&[
            Step::Write(0xfda0, 0x0c, 0x00),
            Step::Write(0xfc02, 0x01, 0x01),
            Step::Write(0xfc2e, 0xff, 0x24),
            Step::Write(0xfc02, 0x01, 0x00),
            Step::Write(0xfda8, 0xff, 0x00),
            Step::Write(0xfda7, 0x08, 0x00),
        ])
        .map(drop)
    }

    /// `rtsx_pci_switch_clock` for identification.
    fn set_initial_clock(&mut self) -> Result<(), DriverError> {
        let clock = self.sequences().clock;
        self.put(0xfda0, 0xc0, clock.divider)?;
        if self.driver.initial_clock {
            return Ok(());
        }
        let mut writes = vec![
            (0xfc02, 0x01, 0x01),
            (0xfc03, 0xff, clock.clk_div),
            (0xfc11, 0x80, 0x00),
            (0xfc12, 0x07, clock.ssc_depth),
            (0xfc0f, 0xff, clock.div_n),
            (0xfc11, 0x80, 0x80),
        ];
        writes.extend(clock.more);
        self.run_writes(&writes)?;
        self.put(0xfc02, 0x01, 0x00)?;
        self.driver.initial_clock = true;
        Ok(())
    }

    /// `sd_send_cmd_get_rsp`, with the register writes of `sd_request` before it.
    pub(crate) fn command(
        &mut self,
        index: u8,
        argument: u32,
        response: Response,
    ) -> Result<u32, DriverError> {
        let bytes = self.exchange(index, argument, response)?;
        Ok(bytes
            .get(1..5)
            .map_or(0, |content| content.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))))
    }

    /// A command; the response's bytes as the driver finds them, the first one first.
    fn exchange(&mut self, index: u8, argument: u32, response: Response) -> Result<Vec<u8>, DriverError> {
        // sd_request.
        self.bar_read(BIPR);
        self.start_run()?;
        self.set_initial_clock()?;
        self.put_all(&[(0xfd5c, 0x07, 0x02), (0xfd52, 0x0f, 0x04)])?;
        let [a, b, c, d] = argument.to_be_bytes();
        let kind = match response {
            Response::None => 0x04,
            Response::Short => 0x01,
            Response::ShortNoCrc => 0x05,
            Response::Long => 0x02,
        };
        let mut steps = vec![
            Step::Write(0xfda9, 0xff, 0x40 | index),
            Step::Write(0xfdaa, 0xff, a),
            Step::Write(0xfdab, 0xff, b),
            Step::Write(0xfdac, 0xff, c),
            Step::Write(0xfdad, 0xff, d),
            Step::Write(0xfda1, 0xff, kind),
            Step::Write(0xfd5b, 0x01, 0x01),
            Step::Write(0xfdb3, 0xff, 0x88),
            Step::Check(0xfdb3, 0x60, 0x60),
        ];
        let (first, count) = match response {
            Response::None => (0, 0),
            Response::Short | Response::ShortNoCrc => (0xfda9, 5),
            Response::Long => (0xfa00, 16),
        };
        steps.extend((first..first + count).map(Step::Read));
        steps.push(Step::Read(0xfda3));
        let mut bytes = match self.run(&steps) {
            Ok(bytes) => bytes,
            Err(error) => {
                // sd_clear_error.
                self.put(0xfd54, 0x44, 0x44)?;
                return Err(error);
            }
        };
        // The check's byte is first, SD_STAT1 is last.
        let status = bytes.pop().unwrap_or(0);
        let bytes = bytes.split_off(1.min(bytes.len()));
        if response == Response::None {
            return Ok(bytes);
        }
        let checked = response != Response::ShortNoCrc;
        if bytes.first().is_some_and(|byte| byte & 0xc0 != 0) || checked && status & 0x80 != 0 {
            return Err(DriverError::BadResponse);
        }
        Ok(bytes)
    }

    pub(crate) fn identify(&mut self) -> Result<([u8; 15], [u8; 15]), DriverError> {
        self.command(0, 0, Response::None)?;
        self.command(8, 0x1aa, Response::Short)?;
        // mmc_send_app_op_cond tries a hundred times, 10 ms apart.
        for _ in 0..100 {
            self.command(55, 0, Response::Short)?;
            if self.command(41, OP_COND, Response::ShortNoCrc)? >> 31 != 0 {
                break;
            }
            self.sleep(10);
        }
        let cid = self.long(2, 0)?;
        let address = self.command(3, 0, Response::Short)? & 0xffff_0000;
        let csd = self.long(9, address)?;
        self.command(7, address, Response::Short)?;
        self.driver.card_address = address;
        Ok((cid, csd))
    }

    fn long(&mut self, index: u8, argument: u32) -> Result<[u8; 15], DriverError> {
        let bytes = self.exchange(index, argument, Response::Long)?;
        bytes.get(1..).and_then(|body| body.try_into().ok()).ok_or(DriverError::BadResponse)
    }

    /// `sdmmc_init_sd_express`.
    fn switch_to_express(&mut self) -> Result<(), DriverError> {
        let sequences = self.sequences();
        if sequences.limits_link_speed {
            let target = self.driver.express_capability + LNKCTL2;
            let others = self.bench.config_read(self.function, target, 2) & !0xf;
            self.bench.config_write(self.function, target, 2, others | 1);
            self.bench.config_write(self.function, 0x80e, 1, 0x02);
            self.bench.config_write(self.function, target, 2, others | 2);
        }
        let [low, middle, high, _] = RELINK_TIME.to_le_bytes();
        self.put_all(&[(0xff01, 0xff, low), (0xff02, 0xff, middle), (0xff03, 0x01, high)])?;
        self.put_all(&[(0xff03, 0x80, 0x80), (0xff72, 0xe0, sequences.current_limit), (0xfc1e, 0x08, 0x00)])?;
        if sequences.limits_link_speed {
            self.put_all(&[(0xff7d, 0x40, 0x40), (0xfc1f, 0x02, 0x00)])?;
        }
        // The driver's own idea of what is enabled keeps SD_INT.
        self.bar_write(BIER, SD_OC_INT | sequences.interrupts);
        self.put_all(&[
            (0xff7f, 0x20, 0x20),
            (0xff54, 0x01, 0x01),
            (0xff55, 0x02, 0x02),
            (0xff55, 0x1d, 0x05),
        ])
    }
}
