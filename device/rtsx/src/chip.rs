//! What is behind HAIMR and the command lists: the internal registers and what hangs on them.

use sdmorph_pci::{Access, Answer, Card, Ctx, Direction, Event, RegisterFile, Space};
use serde_json::{Value, json};

use crate::registers::{ADDRESS_MASK, BASE, REGISTERS, address};
use crate::{phy, sd_host};

/// Bytes in the ping-pong buffer.
pub(crate) const PING_PONG_BYTES: usize = 512;

/// PHYRWCTL and RTS5261_EFUSE_CTL: start, busy.
const BUSY: u8 = 0x80;
/// PHYRWCTL: write, otherwise read.
const PHY_WRITE: u8 = 0x01;
/// CARD_STOP: SD_STOP and SD_CLR_ERR.
const SD_STOP_OR_CLEAR: u8 = 0x44;
/// RTS5261_FW_CFG0.
const ENTER_EXPRESS: u8 = 0x01;
/// RTS5261_FW_CFG1.
const DRIVER_ENABLE_FW: u8 = 0x01;
/// RTS5261_FW_STATUS.
const EXPRESS_LINK_FAIL: u8 = 0x80;
/// RTS5261_LDO1233318_POW_CTL: the card's supply.
const LDO1_POWERON: u8 = 0x01;
/// RTS5261_LDO1233318_POW_CTL: the supply of the signals.
const LDO3318_POWERON: u8 = 0x08;
/// CARD_CLK_EN.
const SD_CLK_EN: u8 = 0x04;
/// CARD_OE.
const SD_OUTPUT_EN: u8 = 0x04;
/// PETXCFG: the bit that belongs to the relink time (RELINK_TIME_MASK).
const RELINK_TIME_MASK: u8 = 0x01;

pub(crate) struct Chip {
    registers: RegisterFile,
    pub(crate) ping_pong: [u8; PING_PONG_BYTES],
    phy: RegisterFile,
    pub(crate) socket: Option<Card>,
}

impl Chip {
    pub(crate) fn new() -> Self {
        Self {
            registers: RegisterFile::new(REGISTERS),
            ping_pong: [0; PING_PONG_BYTES],
            phy: RegisterFile::new(phy::REGISTERS),
            socket: None,
        }
    }

    /// Registers back to reset values. The card stays where it is, without power.
    pub(crate) fn reset(&mut self) {
        let Self { registers, ping_pong, phy, socket } = self;
        registers.reset();
        *ping_pong = [0; PING_PONG_BYTES];
        phy.reset();
        if let Some(card) = socket {
            card.power_cycle();
        }
    }

    /// The byte at `address`, without a report; zero if there is none.
    pub(crate) fn get(&self, address: u32) -> u8 {
        match ping_pong_index(address).and_then(|index| self.ping_pong.get(index)) {
            Some(byte) => *byte,
            None => self.registers.get(address).map_or(0, |value| (value & 0xff) as u8),
        }
    }

    /// Stores a byte as the hardware does.
    pub(crate) fn set(&mut self, address: u32, value: u8) {
        self.registers.set(address, u64::from(value));
    }

    /// Reads the internal register with this 14-bit address, as the driver does. An unmodelled one reads as zero.
    ///
    /// DEVNOTE: what hardware answers for an address without a register is not known. Zero is the value that makes the
    /// driver do least.
    pub(crate) fn read(&mut self, ctx: &mut Ctx<'_>, address: u32) -> u8 {
        let address = BASE | address & ADDRESS_MASK;
        let value = u64::from(self.get(address));
        (ctx.observe_read(access(Direction::Read, address, value)) & 0xff) as u8
    }

    /// Writes the bits of `mask` of the internal register with this 14-bit address. The value reported is the whole
    /// byte that the register is asked to hold.
    pub(crate) fn write(&mut self, ctx: &mut Ctx<'_>, address: u32, mask: u8, data: u8) {
        let address = BASE | address & ADDRESS_MASK;
        let old = self.get(address);
        let asked = old & !mask | data & mask;
        ctx.observe_write(access(Direction::Write, address, u64::from(asked)));
        if let Some(byte) = ping_pong_index(address).and_then(|index| self.ping_pong.get_mut(index)) {
            *byte = asked;
        } else if let Some(row) = self.registers.row(address) {
            let new = row.after_write(u64::from(old), u64::from(data), u64::from(mask));
            self.registers.set(address, new);
            self.act(ctx, address, old, data & mask);
        }
    }

    /// What a write makes happen, after the register holds its new value. `written` are the bits written as 1.
    fn act(&mut self, ctx: &mut Ctx<'_>, address: u32, old: u8, written: u8) {
        match address {
            // EFUSE reads are answered by the read-only row; programming a blank EFUSE is ignored.
            address::PHYRWCTL if written & BUSY != 0 => self.access_phy(),
            address::SD_TRANSFER if written & sd_host::START != 0 => sd_host::transfer(self, ctx),
            address::CARD_STOP if written & SD_STOP_OR_CLEAR != 0 => sd_host::stop(self),
            address::RTS5261_FW_CFG0 => self.express_requested(ctx, old & ENTER_EXPRESS == 0),
            address::RTS5261_FW_CFG1 => self.express_requested(ctx, old & DRIVER_ENABLE_FW == 0),
            address::RTS5261_LDO1233318_POW_CTL => {
                let was_on = old & LDO1_POWERON != 0;
                if was_on && self.get(address) & LDO1_POWERON == 0 {
                    if let Some(card) = &mut self.socket {
                        card.power_cycle();
                    }
                }
            }
            _ => {}
        }
    }

    fn access_phy(&mut self) {
        let index = self.get(address::PHYADDR);
        if self.get(address::PHYRWCTL) & PHY_WRITE != 0 {
            let value = u16::from_le_bytes([self.get(address::PHYDATA0), self.get(address::PHYDATA1)]);
            phy::write(&mut self.phy, index, value);
        } else {
            let [low, high] = phy::read(&self.phy, index).to_le_bytes();
            self.set(address::PHYDATA0, low);
            self.set(address::PHYDATA1, high);
        }
    }

    /// The firmware switches when it has been told to and may run: whichever of the two bits comes last, once.
    fn express_requested(&mut self, ctx: &mut Ctx<'_>, bit_was_clear: bool) {
        let told = self.get(address::RTS5261_FW_CFG0) & ENTER_EXPRESS != 0;
        let may_run = self.get(address::RTS5261_FW_CFG1) & DRIVER_ENABLE_FW != 0;
        if bit_was_clear && told && may_run {
            let relink_time = u32::from_le_bytes([
                self.get(address::RELINK_TIME_0),
                self.get(address::RELINK_TIME_1),
                self.get(address::PETXCFG) & RELINK_TIME_MASK,
                0,
            ]);
            ctx.event(Event::ExpressSwitchRequested { relink_time });
        }
    }

    pub(crate) fn set_express_link_failed(&mut self, failed: bool) {
        let others = self.get(address::RTS5261_FW_STATUS) & !EXPRESS_LINK_FAIL;
        self.set(address::RTS5261_FW_STATUS, others | if failed { EXPRESS_LINK_FAIL } else { 0 });
    }

    /// The card, if commands reach it: supplied, clocked, and the outputs on.
    pub(crate) fn reachable_card(&mut self) -> Option<&mut Card> {
        const SUPPLIES: u8 = LDO1_POWERON | LDO3318_POWERON;
        let supplied = self.get(address::RTS5261_LDO1233318_POW_CTL) & SUPPLIES == SUPPLIES;
        let clocked = self.get(address::CARD_CLK_EN) & SD_CLK_EN != 0;
        let driven = self.get(address::CARD_OE) & SD_OUTPUT_EN != 0;
        self.socket.as_mut().filter(|_| supplied && clocked && driven)
    }

    pub(crate) fn snapshot(&self) -> Value {
        let mut registers = self.registers.snapshot();
        if let Value::Object(map) = &mut registers {
            // The row stands for the whole buffer; what the driver reads of it outside data transfers is R2.
            let start: String = self.ping_pong.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            map.insert("PPBUF_BASE2".to_owned(), Value::String(start));
        }
        json!({
            "registers": registers,
            "phy": self.phy.snapshot(),
            "card": self.socket.as_ref().map(|card| card.snapshot()),
        })
    }
}

fn ping_pong_index(address: u32) -> Option<usize> {
    let index = address.checked_sub(address::PPBUF_BASE2)? as usize;
    (index < PING_PONG_BYTES).then_some(index)
}

/// The name of the internal register at `address`.
fn name(address: u32) -> Option<&'static str> {
    let address = if ping_pong_index(address).is_some() { address::PPBUF_BASE2 } else { address };
    let index = REGISTERS.binary_search_by_key(&address, |row| row.address).ok()?;
    REGISTERS.get(index).map(|row| row.name)
}

fn access(direction: Direction, address: u32, value: u64) -> Access {
    let register = name(address);
    let answer = if register.is_some() { Answer::Modelled } else { Answer::Unmodelled };
    Access { space: Space::Internal, direction, offset: u64::from(address), size: 1, register, value, answer }
}
