//! What is behind HAIMR and the command lists: the internal registers and what hangs on them.

use std::time::Duration;

use sdmorph_pci::{
    Access, Answer, Bus, Card, Ctx, Direction, DisturbError, Disturbance, Event, Lines, RegisterFile, Space,
};
use serde_json::{Value, json};

use crate::data_dma::DataDma;
use crate::model::{Condition, LowVoltage, Model, Rail, Switch};
use crate::registers::{ADDRESS_MASK, BASE, address};
use crate::sd_host::Transfer;
use crate::{phy, sd_host};

/// Bytes in the ping-pong buffer.
pub(crate) const PING_PONG_BYTES: usize = 512;

/// PHYRWCTL: start, busy.
const BUSY: u8 = 0x80;
/// PHYRWCTL: write, otherwise read.
const PHY_WRITE: u8 = 0x01;
/// CARD_STOP: SD_STOP and SD_CLR_ERR.
const SD_STOP_OR_CLEAR: u8 = 0x44;
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
/// RTS524A_AUTOLOAD_CFG1, which has the same place in all chips that have it (CD_RESUME_EN_MASK).
const CD_RESUME_EN: u8 = 0xf0;
/// RTS524A_PM_CTRL3, likewise.
const PM_WAKE_EN: u8 = 0x01;
/// RTS524A_PME_FORCE_CTL, likewise: PME is what FORCE_PM_VALUE says.
const FORCE_PM_CONTROL: u8 = 0x20;
const FORCE_PM_VALUE: u8 = 0x10;
/// REG_CRC_DUMMY_0: the card's supply is cut when it draws too much (CFG_SD_POW_AUTO_PD).
const SD_POW_AUTO_PD: u8 = 0x01;

pub(crate) struct Chip {
    model: &'static Model,
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
    pub(crate) fn new(model: &'static Model) -> Self {
        Self {
            model,
            registers: RegisterFile::new(model.registers),
            ping_pong: [0; PING_PONG_BYTES],
            phy: RegisterFile::new(model.phy),
            transfer: Transfer::None,
            dma: DataDma::default(),
            bus: Bus::INITIAL,
            socket: None,
        }
    }

    /// Registers back to reset values. The card stays where it is, without power.
    pub(crate) fn reset(&mut self) {
        let Self { model: _, registers, ping_pong, phy, transfer, dma, bus, socket } = self;
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

    pub(crate) fn model(&self) -> &'static Model {
        self.model
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

    /// Whether a card that comes or goes is to signal PME.
    ///
    /// DEVNOTE: no document tells what these bits do. Linux sets them like this if a firmware's settings allow RTD3, and
    /// has one of them otherwise before the function goes to D3: without RTD3 always, and before the system sleeps. The
    /// value that FORCE_PM_VALUE forces is taken for a permission: a PME that is forced would never end.
    pub(crate) fn card_signals_pme(&self) -> bool {
        let force = self.peek(address::RTS524A_PME_FORCE_CTL) & (FORCE_PM_CONTROL | FORCE_PM_VALUE);
        self.peek(address::RTS524A_AUTOLOAD_CFG1) & CD_RESUME_EN != 0
            && self.peek(address::RTS524A_PM_CTRL3) & PM_WAKE_EN != 0
            && force != FORCE_PM_CONTROL
    }

    /// Disturbs the card; `None` if there is none.
    pub(crate) fn disturb(
        &mut self,
        now: Duration,
        disturbance: Disturbance,
    ) -> Option<Result<(), DisturbError>> {
        self.socket.as_mut().map(|card| card.disturb(now, disturbance))
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

    /// The byte that a driver reads at this 14-bit address, without a report.
    pub(crate) fn shown(&mut self, ctx: &Ctx<'_>, address: u32) -> u8 {
        let address = BASE | address & ADDRESS_MASK;
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
        (ctx.observe_read(self.access(Direction::Read, address, value)) & 0xff) as u8
    }

    /// Writes the bits of `mask` of the internal register with this 14-bit address. The value reported is the whole
    /// byte that the register is asked to hold.
    pub(crate) fn write(&mut self, ctx: &mut Ctx<'_>, address: u32, mask: u8, data: u8) {
        let address = BASE | address & ADDRESS_MASK;
        let old = self.peek(address);
        let asked = old & !mask | data & mask;
        ctx.observe_write(self.access(Direction::Write, address, u64::from(asked)));
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
            address::PHYRWCTL if written & BUSY != 0 => self.access_phy(ctx),
            address::SD_TRANSFER if written & sd_host::START != 0 => sd_host::start(self, ctx),
            address::CARD_STOP if written & SD_STOP_OR_CLEAR != 0 => sd_host::stop(self),
            address::DMACTL if written & DMA_RST != 0 => self.dma.stop(),
            address::RTS5260_DMA_RST_CTL_0 if written & DMA_RESETS != 0 => self.dma.stop(),
            address::SD_CFG1
            | address::SD_BUS_STAT
            | address::SD_PAD_CTL
            | address::CARD_CLK_EN
            | address::CARD_OE => self.tell_bus(ctx),
            _ => self.act_as_model(ctx, address, old, written),
        }
    }

    /// The same for registers that mean something on some chips only, or that have a place of their own on each.
    fn act_as_model(&mut self, ctx: &mut Ctx<'_>, address: u32, old: u8, written: u8) {
        let model = self.model;
        for detector in model.over_current {
            if detector.control == address && written & detector.clear != 0 {
                let others = self.peek(detector.status) & !detector.seen;
                self.set(detector.status, others);
            }
        }
        if let Some(express) = &model.express {
            for condition in [express.enter, express.run] {
                if condition.address == address && old & condition.mask != condition.value {
                    self.express_requested(ctx);
                }
            }
        }
        let Switch { address: supply, mask, on, .. } = model.supply.card;
        if supply == address && old & mask == on && self.peek(address) & mask != on {
            self.cut_supply();
        }
        if supply == address || model.supply.signals.address == address {
            self.tell_bus(ctx);
        }
    }

    fn holds(&self, condition: Condition) -> bool {
        self.peek(condition.address) & condition.mask == condition.value
    }

    fn is_on(&self, switch: Switch) -> bool {
        self.peek(switch.address) & switch.mask == switch.on
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
            low_voltage: match self.model.low_voltage {
                LowVoltage::Internal(condition) => self.holds(condition),
                LowVoltage::Phy { index, mask, value } => phy::read(&self.phy, index) & mask == value,
            },
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

    /// Too much current, or too high a voltage, at `rail`. Returns the interrupts that this is; `None` if nobody looks for
    /// it.
    pub(crate) fn over_current(&mut self, rail: Rail) -> Option<u32> {
        let detector = self.model.over_current.iter().find(|detector| detector.rail == rail)?;
        let control = self.peek(detector.control);
        let works = detector.needs.is_none_or(|condition| self.holds(condition));
        if control & detector.detect == 0 || !works {
            return None;
        }
        let others = self.peek(detector.status);
        self.set(detector.status, others | detector.seen);
        if self.peek(address::REG_CRC_DUMMY_0) & SD_POW_AUTO_PD != 0 {
            let Switch { address, mask, off, .. } = self.model.supply.card;
            let others = self.peek(address) & !mask;
            self.set(address, others | off);
            self.cut_supply();
        }
        Some(if control & detector.interrupt_enable != 0 { detector.interrupt } else { 0 })
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

    fn access_phy(&mut self, ctx: &Ctx<'_>) {
        let index = self.peek(address::PHYADDR);
        if self.peek(address::PHYRWCTL) & PHY_WRITE != 0 {
            let value = u16::from_le_bytes([self.peek(address::PHYDATA0), self.peek(address::PHYDATA1)]);
            phy::write(&mut self.phy, index, value);
            self.tell_bus(ctx);
        } else {
            let [low, high] = phy::read(&self.phy, index).to_le_bytes();
            self.set(address::PHYDATA0, low);
            self.set(address::PHYDATA1, high);
        }
    }

    /// A condition of the switch has come to be written: the firmware switches if both hold, so with the last one, once.
    fn express_requested(&mut self, ctx: &mut Ctx<'_>) {
        let Some(express) = &self.model.express else { return };
        if self.holds(express.enter) && self.holds(express.run) {
            let relink_time = u32::from_le_bytes([
                self.peek(address::RELINK_TIME_0),
                self.peek(address::RELINK_TIME_1),
                self.peek(address::PETXCFG) & RELINK_TIME_MASK,
                0,
            ]);
            ctx.event(Event::ExpressSwitchRequested { relink_time });
        }
    }

    /// DEVNOTE: that the firmware clears the request with the card it was for is an assumption. Without it, the request for
    /// the next card would not be seen, since nothing clears the bit but a reset.
    pub(crate) fn forget_express_request(&mut self) {
        if let Some(express) = &self.model.express {
            let others = self.peek(express.enter.address) & !express.enter.mask;
            self.set(express.enter.address, others);
        }
    }

    pub(crate) fn set_express_link_failed(&mut self, failed: bool) {
        if let Some(express) = &self.model.express {
            let Condition { address, mask, value } = express.link_failed;
            let others = self.peek(address) & !mask;
            self.set(address, others | if failed { value } else { 0 });
        }
    }

    /// The card, if it is supplied.
    fn supplied_card(&mut self) -> Option<&mut Card> {
        let supply = self.model.supply;
        let supplied = self.is_on(supply.card) && self.is_on(supply.signals);
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

    fn access(&self, direction: Direction, address: u32, value: u64) -> Access {
        let row = if ping_pong_index(address).is_some() { address::PPBUF_BASE2 } else { address };
        let register = self.registers.row(row).map(|row| row.name);
        let answer = if register.is_some() { Answer::Modelled } else { Answer::Unmodelled };
        let offset = u64::from(address);
        Access { space: Space::Internal, direction, offset, size: 1, register, value, answer }
    }
}

fn ping_pong_index(address: u32) -> Option<usize> {
    let index = address.checked_sub(address::PPBUF_BASE2)? as usize;
    (index < PING_PONG_BYTES).then_some(index)
}
