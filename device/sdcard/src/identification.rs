//! Commands of card identification (4.2): from power-up to an address, with the voltages.

use std::time::Duration;

use crate::card::MemoryCard;
use crate::registers::ocr;
use crate::state::State;
use crate::table::Outcome;
use crate::voltage::Signalling;

/// How long initialisation takes after the first ACMD41 (4.2.3 allows a second).
const POWER_UP: Duration = Duration::from_millis(20);
/// VHS in CMD8's argument (4.3.13): the host supplies 2.7 V to 3.6 V.
const VHS_27_36: u32 = 0x1;
/// PCIe Availability in CMD8's argument, PCIe Response in R7.
const CMD8_PCIE: u32 = 1 << 12;
/// PCIe 1.2V Support in both.
const CMD8_PCIE_1V2: u32 = 1 << 13;
/// Bits of CMD8's argument that the response gives back as they came: VHS and the check pattern.
const CMD8_ECHO: u32 = 0xfff;

impl MemoryCard {
    /// CMD0.
    pub(crate) fn go_idle(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.store.abandon();
        self.session.reset();
        Outcome::Answer
    }

    /// CMD8: the card answers only if it takes the voltage.
    pub(crate) fn send_if_cond(&mut self, _now: Duration, argument: u32) -> Outcome {
        if argument >> 8 & 0xf != VHS_27_36 {
            return Outcome::Silent;
        }
        self.session.interface_condition = true;
        let pcie = match self.profile.express {
            // A card answers about PCIe only a host that says it has it.
            Some(express) if argument & CMD8_PCIE != 0 => {
                CMD8_PCIE | if express.supports_1v2 { argument & CMD8_PCIE_1V2 } else { 0 }
            }
            _ => 0,
        };
        self.session.r7 = argument & CMD8_ECHO | pcie;
        Outcome::Answer
    }

    /// ACMD41 (4.2.3.1): an inquiry if its voltage window is zero; otherwise it starts initialisation or polls it.
    pub(crate) fn send_op_cond(&mut self, now: Duration, argument: u32) -> Outcome {
        let session = &mut self.session;
        session.operating_conditions = ocr::VDD_27_36;
        if argument & ocr::VOLTAGES == 0 {
            return Outcome::Answer;
        }
        if argument & ocr::VDD_27_36 == 0 {
            session.state = State::Inactive;
            return Outcome::Silent;
        }
        // A host that cannot use the card sees it busy for ever.
        let capacity = self.profile.capacity;
        let host_can = capacity.is_standard()
            || session.interface_condition
                && argument & ocr::HCS != 0
                && (!capacity.is_ultra() || argument & ocr::HO2T != 0);
        let ready_at = *session.powered_up_at.get_or_insert(now.saturating_add(POWER_UP));
        if host_can && now >= ready_at {
            let can_switch = self.profile.uhs().is_some() && session.signalling == Signalling::High;
            session.voltage_switch_accepted = can_switch && argument & ocr::S18R != 0;
            session.operating_conditions |= ocr::POWERED_UP
                | if capacity.is_standard() { 0 } else { ocr::CCS }
                | if capacity.is_ultra() { ocr::CO2T } else { 0 }
                | if session.voltage_switch_accepted { ocr::S18A } else { 0 };
            session.state = State::Ready;
        }
        Outcome::Answer
    }

    /// CMD11: from the end of the response on, the card holds the lines low.
    pub(crate) fn switch_voltage(&mut self, now: Duration, _argument: u32) -> Outcome {
        if !std::mem::take(&mut self.session.voltage_switch_accepted) {
            return Outcome::Illegal;
        }
        self.session.signalling.start(now, self.bus);
        Outcome::Answer
    }

    /// CMD2.
    pub(crate) fn all_send_cid(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.session.state = State::Identification;
        Outcome::Answer
    }

    /// CMD3: the card chooses an address, another one each time, never 0.
    pub(crate) fn send_relative_address(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.session.address = self.session.address.wrapping_add(1).max(1);
        self.session.state = State::StandBy;
        Outcome::Answer
    }

    /// CMD15.
    pub(crate) fn go_inactive(&mut self, _now: Duration, _argument: u32) -> Outcome {
        self.store.abandon();
        self.session.reset();
        self.session.state = State::Inactive;
        Outcome::Answer
    }
}
