//! What is behind HAIMR and the command lists: the internal registers and what hangs on them.

use std::time::Duration;

use sdmorph_pci::{
    Access, Answer, Bus, Card, Ctx, Direction, Disturbance, Event, Lines, RegisterFile, Space,
};
use serde_json::{Value, json};

use crate::data_dma::DataDma;
use crate::registers::{ADDRESS_MASK, BASE, REGISTERS, address};
use crate::sd_host::Transfer;
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
/// SD_CFG1: data lines in use.
const BUS_WIDTH: u8 = 0x03;
/// SD_CFG1: how data is sampled (SD_MODE_SELECT_MASK): at both edges, or by the phase of SD_VPRX_CTL.
const MODE_SELECT: u8 = 0x0c;
const SD_DDR_MODE: u8 = 0x04;
const SD_30_MODE: u8 = 0x08;
/// SD_PAD_CTL: signals have 1.8 V.
const SD_IO_USING_1V8: u8 = 0x80;
/// SD_BUS_STAT: the clock stands still whatever there is to do.
const SD_CLK_FORCE_STOP: u8 = 0x40;
/// SD_BUS_STAT: levels of DAT3 to DAT0 and CMD.
const LEVELS: u8 = 0x1f;
/// SD_CMD_STATE, SD_DATA_STATE.
const STATE_IDLE: u8 = 0x80;
/// CARD_DATA_SOURCE: the ping-pong buffer, not the ring buffer.
const PINGPONG_BUFFER: u8 = 0x01;
/// DMACTL.
const DMA_EN: u8 = 0x01;
const DMA_DIR_FROM_CARD: u8 = 0x02;
const DMA_RST: u8 = 0x80;
/// RTS5260_DMA_RST_CTL_0: RTS5260_DMA_RST and RTS5260_ADMA3_RST.
const DMA_RESETS: u8 = 0xc0;
/// IRQSTAT0.
const DMA_DONE_INT: u8 = 0x80;
/// REG_OCPCTL.
const SD_DETECT_EN: u8 = 0x08;
const SD_OCP_INT_EN: u8 = 0x04;
/// REG_OCPCTL: SD_OCP_INT_CLR and SD_OC_CLR.
const SD_OCP_CLEAR: u8 = 0x03;
/// REG_OCPSTAT: SD_OC_NOW and SD_OC_EVER.
const SD_OVER_CURRENT: u8 = 0x06;
/// REG_CRC_DUMMY_0: the card's supply is cut when it draws too much (CFG_SD_POW_AUTO_PD).
const SD_POW_AUTO_PD: u8 = 0x01;

pub(crate) struct Chip {
    registers: RegisterFile,
    pub(crate) ping_pong: [u8; PING_PONG_BYTES],
    phy: RegisterFile,
    /// What the SD host is doing.
    pub(crate) transfer: Transfer,
    /// What fills and empties the ring buffer.
    pub(crate) dma: DataDma,
    /// How the card was last told that the bus is run.
    bus: Bus,
    socket: Option<Card>,
}

impl Chip {
    pub(crate) fn new() -> Self {
        Self {
            registers: RegisterFile::new(REGISTERS),
            ping_pong: [0; PING_PONG_BYTES],
            phy: RegisterFile::new(phy::REGISTERS),
            transfer: Transfer::None,
            dma: DataDma::default(),
            bus: Bus::INITIAL,
            socket: None,
        }
    }

    /// Registers back to reset values. The card stays where it is, without power.
    pub(crate) fn reset(&mut self) {
        let Self { registers, ping_pong, phy, transfer, dma, bus, socket } = self;
        registers.reset();
        *ping_pong = [0; PING_PONG_BYTES];
        phy.reset();
        *transfer = Transfer::None;
        dma.stop();
        *bus = Bus::INITIAL;
        if let Some(card) = socket {
            card.power_cycle();
        }
    }

    /// Puts a card into the socket.
    pub(crate) fn insert(&mut self, ctx: &Ctx<'_>, mut card: Card) {
        card.power_cycle();
        self.socket = Some(card);
        self.bus = Bus::INITIAL;
        self.tell_bus(ctx);
    }

    /// Takes the card out of the socket.
    pub(crate) fn eject(&mut self) -> Option<Card> {
        self.socket.take()
    }

    pub(crate) fn has_card(&self) -> bool {
        self.socket.is_some()
    }

    /// Disturbs the card; false if there is none.
    pub(crate) fn disturb(&mut self, now: Duration, disturbance: Disturbance) -> bool {
        self.socket.as_mut().map(|card| card.disturb(now, disturbance)).is_some()
    }

    /// The byte at `address`, without a report; zero if there is none. What shows the state of something else is not in it.
    pub(crate) fn peek(&self, address: u32) -> u8 {
        match ping_pong_index(address).and_then(|index| self.ping_pong.get(index)) {
            Some(byte) => *byte,
            None => self.registers.get(address).map_or(0, |value| (value & 0xff) as u8),
        }
    }

    /// The 16 bits at `address` and the one after it, low byte first.
    pub(crate) fn peek_word(&self, address: u32) -> u16 {
        u16::from_le_bytes([self.peek(address), self.peek(address + 1)])
    }

    /// The byte that a driver reads at `address`.
    fn shown(&mut self, ctx: &Ctx<'_>, address: u32) -> u8 {
        let value = self.peek(address);
        match address {
            address::SD_BUS_STAT => value & !LEVELS | self.levels(ctx),
            address::SD_DATA_STATE if self.transfer.moves_data() => value & !STATE_IDLE,
            _ => value,
        }
    }

    /// Levels of the lines: what the card does to them, or pull-ups.
    fn levels(&mut self, ctx: &Ctx<'_>) -> u8 {
        let now = ctx.now();
        let lines = self.supplied_card().map_or(Lines::IDLE, |card| card.lines(now));
        (lines.dat & 0xf) << 1 | u8::from(lines.cmd)
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
        let value = u64::from(self.shown(ctx, address));
        (ctx.observe_read(access(Direction::Read, address, value)) & 0xff) as u8
    }

    /// Writes the bits of `mask` of the internal register with this 14-bit address. The value reported is the whole
    /// byte that the register is asked to hold.
    pub(crate) fn write(&mut self, ctx: &mut Ctx<'_>, address: u32, mask: u8, data: u8) {
        let address = BASE | address & ADDRESS_MASK;
        let old = self.peek(address);
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
            address::SD_TRANSFER if written & sd_host::START != 0 => sd_host::start(self, ctx),
            address::CARD_STOP if written & SD_STOP_OR_CLEAR != 0 => sd_host::stop(self),
            address::DMACTL if written & DMA_RST != 0 => self.dma.stop(),
            address::RTS5260_DMA_RST_CTL_0 if written & DMA_RESETS != 0 => self.dma.stop(),
            address::REG_OCPCTL if written & SD_OCP_CLEAR != 0 => {
                let others = self.peek(address::REG_OCPSTAT) & !SD_OVER_CURRENT;
                self.set(address::REG_OCPSTAT, others);
            }
            address::RTS5261_FW_CFG0 => self.express_requested(ctx, old & ENTER_EXPRESS == 0),
            address::RTS5261_FW_CFG1 => self.express_requested(ctx, old & DRIVER_ENABLE_FW == 0),
            address::RTS5261_LDO1233318_POW_CTL => {
                if old & LDO1_POWERON != 0 && self.peek(address) & LDO1_POWERON == 0 {
                    self.cut_supply();
                }
                self.tell_bus(ctx);
            }
            address::SD_CFG1
            | address::SD_BUS_STAT
            | address::SD_PAD_CTL
            | address::CARD_CLK_EN
            | address::CARD_OE => self.tell_bus(ctx),
            _ => {}
        }
    }

    fn cut_supply(&mut self) {
        if let Some(card) = &mut self.socket {
            card.power_cycle();
        }
        self.bus = Bus::INITIAL;
    }

    /// Tells the card how the bus is run now, if that has changed.
    fn tell_bus(&mut self, ctx: &Ctx<'_>) {
        let config = self.peek(address::SD_CFG1);
        let clock = self.peek(address::CARD_CLK_EN) & SD_CLK_EN != 0
            && self.peek(address::CARD_OE) & SD_OUTPUT_EN != 0
            && self.peek(address::SD_BUS_STAT) & SD_CLK_FORCE_STOP == 0;
        let bus = Bus {
            width: 1 << (2 * (config & BUS_WIDTH)).min(3),
            ddr: config & MODE_SELECT == SD_DDR_MODE,
            low_voltage: self.peek(address::SD_PAD_CTL) & SD_IO_USING_1V8 != 0,
            clock,
        };
        let now = ctx.now();
        if bus != self.bus {
            if let Some(card) = self.supplied_card() {
                card.set_bus(now, bus);
                self.bus = bus;
            }
        }
    }

    /// The card draws too much current. Returns whether that is an interrupt; `None` if nobody looks for it.
    pub(crate) fn over_current(&mut self) -> Option<bool> {
        let control = self.peek(address::REG_OCPCTL);
        if control & SD_DETECT_EN == 0 {
            return None;
        }
        let others = self.peek(address::REG_OCPSTAT);
        self.set(address::REG_OCPSTAT, others | SD_OVER_CURRENT);
        if self.peek(address::REG_CRC_DUMMY_0) & SD_POW_AUTO_PD != 0 {
            let supplies = self.peek(address::RTS5261_LDO1233318_POW_CTL);
            self.set(address::RTS5261_LDO1233318_POW_CTL, supplies & !LDO1_POWERON);
            self.cut_supply();
        }
        Some(control & SD_OCP_INT_EN != 0)
    }

    /// The data DMA has moved what it was set going for.
    pub(crate) fn dma_done(&mut self) {
        let others = self.peek(address::IRQSTAT0);
        self.set(address::IRQSTAT0, others | DMA_DONE_INT);
    }

    pub(crate) fn data_goes_through_ping_pong(&self) -> bool {
        self.peek(address::CARD_DATA_SOURCE) & PINGPONG_BUFFER != 0
    }

    /// How many bytes the ring buffer takes from the card, or has for it: what the DMA behind it moves, if it is
    /// switched on for this direction.
    pub(crate) fn ring_bytes(&self, to_host: bool) -> u64 {
        let control = self.peek(address::DMACTL);
        let runs = control & DMA_EN != 0 && (control & DMA_DIR_FROM_CARD != 0) == to_host;
        if runs { self.dma.left_bytes(to_host) } else { 0 }
    }

    /// Whether data is sampled at the phase of SD_VPRX_CTL.
    pub(crate) fn samples_by_phase(&self) -> bool {
        self.peek(address::SD_CFG1) & MODE_SELECT == SD_30_MODE
    }

    pub(crate) fn sample_phase(&self) -> u8 {
        self.peek(address::SD_VPRX_CTL)
    }

    /// Whether the card holds DAT0 low. One that is gone does not.
    pub(crate) fn card_is_busy(&mut self, ctx: &Ctx<'_>) -> bool {
        let now = ctx.now();
        self.supplied_card().is_some_and(|card| card.lines(now).busy())
    }

    /// When the card wants to be asked again, if something waits for it.
    pub(crate) fn card_deadline(&self) -> Option<Duration> {
        self.socket.as_ref().filter(|_| self.transfer.is_under_way())?.next_deadline()
    }

    fn access_phy(&mut self) {
        let index = self.peek(address::PHYADDR);
        if self.peek(address::PHYRWCTL) & PHY_WRITE != 0 {
            let value = u16::from_le_bytes([self.peek(address::PHYDATA0), self.peek(address::PHYDATA1)]);
            phy::write(&mut self.phy, index, value);
        } else {
            let [low, high] = phy::read(&self.phy, index).to_le_bytes();
            self.set(address::PHYDATA0, low);
            self.set(address::PHYDATA1, high);
        }
    }

    /// The firmware switches when it has been told to and may run: whichever of the two bits comes last, once.
    fn express_requested(&mut self, ctx: &mut Ctx<'_>, bit_was_clear: bool) {
        let told = self.peek(address::RTS5261_FW_CFG0) & ENTER_EXPRESS != 0;
        let may_run = self.peek(address::RTS5261_FW_CFG1) & DRIVER_ENABLE_FW != 0;
        if bit_was_clear && told && may_run {
            let relink_time = u32::from_le_bytes([
                self.peek(address::RELINK_TIME_0),
                self.peek(address::RELINK_TIME_1),
                self.peek(address::PETXCFG) & RELINK_TIME_MASK,
                0,
            ]);
            ctx.event(Event::ExpressSwitchRequested { relink_time });
        }
    }

    pub(crate) fn set_express_link_failed(&mut self, failed: bool) {
        let others = self.peek(address::RTS5261_FW_STATUS) & !EXPRESS_LINK_FAIL;
        self.set(address::RTS5261_FW_STATUS, others | if failed { EXPRESS_LINK_FAIL } else { 0 });
    }

    /// The card, if it is supplied.
    fn supplied_card(&mut self) -> Option<&mut Card> {
        const SUPPLIES: u8 = LDO1_POWERON | LDO3318_POWERON;
        let supplied = self.peek(address::RTS5261_LDO1233318_POW_CTL) & SUPPLIES == SUPPLIES;
        self.socket.as_mut().filter(|_| supplied)
    }

    /// The card, if commands reach it: supplied, clocked, and the outputs on.
    pub(crate) fn reachable_card(&mut self) -> Option<&mut Card> {
        let clocked = self.bus.clock;
        self.supplied_card().filter(|_| clocked)
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
            "transfer": format!("{:?}", self.transfer),
            "dma_left_bytes": self.dma.left_bytes(true).max(self.dma.left_bytes(false)),
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
