//! A function's configuration space: 4 KiB of bytes, with a row for every register in it.
//!
//! The header and the capabilities are made of [`Register`] rows (PCIe 7.5); a row says which bits a guest may write.
//! What a bit *does* is asked for by name ([`ConfigSpace::memory_enabled`], [`ConfigSpace::memory_bar`], …), so that
//! there is one place that holds the state and no copy of it.

use std::ops::Range;

use serde_json::{Map, Value};

use crate::capability::{Link, PM};
use crate::happening::ResetKind;
use crate::register::{Register, mask_of_size};

/// Bytes in a PCI Express configuration space.
pub const SIZE: usize = 4096;

/// Offsets in the header, as `pci_regs.h` names them.
pub mod offset {
    #![allow(missing_docs)]
    pub const VENDOR_ID: u16 = 0x00;
    pub const COMMAND: u16 = 0x04;
    pub const STATUS: u16 = 0x06;
    pub const BASE_ADDRESS_0: u16 = 0x10;
    pub const PRIMARY_BUS: u16 = 0x18;
    pub const SECONDARY_BUS: u16 = 0x19;
    pub const SUBORDINATE_BUS: u16 = 0x1a;
    pub const MEMORY_BASE: u16 = 0x20;
    pub const MEMORY_LIMIT: u16 = 0x22;
    pub const PREF_MEMORY_BASE: u16 = 0x24;
    pub const PREF_MEMORY_LIMIT: u16 = 0x26;
    pub const PREF_BASE_UPPER32: u16 = 0x28;
    pub const PREF_LIMIT_UPPER32: u16 = 0x2c;
    pub const CAPABILITY_LIST: u16 = 0x34;
    pub const SEC_STATUS: u16 = 0x1e;
    pub const BRIDGE_CONTROL: u16 = 0x3e;
    /// Where extended capabilities begin (PCIe 7.6.2).
    pub const EXTENDED: u16 = 0x100;
}

/// Bits of the Command register (PCIe 7.5.1.1.3).
pub mod command {
    /// Memory Space Enable.
    pub const MEMORY: u16 = 1 << 1;
    /// Bus Master Enable.
    pub const MASTER: u16 = 1 << 2;
    /// SERR# Enable.
    pub const SERR: u16 = 1 << 8;
    /// What a PCI Express function lets a guest write: I/O, memory, master, parity, SERR#, interrupt disable.
    pub const WRITABLE: u16 = 0x0547;
}

/// Who a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code: base class, sub-class, interface (24 bits).
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Subsystem vendor ID and subsystem ID; ignored by a bridge.
    pub subsystem: (u16, u16),
}

/// A memory BAR of a type 0 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Bytes, a power of two and at least 16.
    pub size: u64,
    /// Whether it takes two BAR slots and any 64-bit address.
    pub is_64bit: bool,
}

/// One function's configuration space.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    rows: Vec<Register>,
    bytes: Vec<u8>,
    bars: [Option<Bar>; 6],
    /// Where the next capability's address goes: the last byte of the list so far.
    last_capability: u16,
    last_extended: Option<u16>,
    /// Offset of the power management capability, if any.
    pub(crate) pm: Option<u16>,
    /// The guest's writes do not change the D-state, as a fault has it.
    power_stuck: bool,
    /// Offset of the PCI Express capability, if any.
    pub(crate) express: Option<u16>,
    /// Offset of Advanced Error Reporting, if any.
    pub(crate) aer: Option<u16>,
    /// What the function's end of its link can do, if it has one.
    pub(crate) link: Option<Link>,
}

const HEADER: &str = "PCIe 7.5.1.1";
const TYPE0: &str = "PCIe 7.5.1.2";
const TYPE1: &str = "PCIe 7.5.1.3";

impl ConfigSpace {
    /// A type 0 header: an endpoint with these BARs (`(index, bar)`).
    #[must_use]
    pub fn endpoint(identity: Identity, bars: &[(u8, Bar)]) -> Self {
        let mut space = Self::header(identity, 0);
        for &(index, bar) in bars {
            space.add_bar(index, bar);
        }
        for index in 0..6u8 {
            let address = u32::from(offset::BASE_ADDRESS_0) + 4 * u32::from(index);
            if !space.rows.iter().any(|row| row.contains(address)) {
                const NAMES: [&str; 6] = ["BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5"];
                let name = NAMES.get(usize::from(index)).copied().unwrap_or("BAR");
                space.add_row(Register::new(name, address, 4, 0, TYPE0));
            }
        }
        let (subsystem_vendor, subsystem) = identity.subsystem;
        space.add_row(Register::new("CARDBUS_CIS", 0x28, 4, 0, TYPE0));
        space.add_row(Register::new("SUBSYSTEM_VENDOR_ID", 0x2c, 2, u64::from(subsystem_vendor), TYPE0));
        space.add_row(Register::new("SUBSYSTEM_ID", 0x2e, 2, u64::from(subsystem), TYPE0));
        space.add_row(Register::new("ROM_ADDRESS", 0x30, 4, 0, TYPE0));
        space.add_row(Register::new("MIN_GNT", 0x3e, 1, 0, TYPE0));
        space.add_row(Register::new("MAX_LAT", 0x3f, 1, 0, TYPE0));
        space
    }

    /// A type 1 header: a bridge with a 32-bit memory window and a 64-bit prefetchable one.
    #[must_use]
    pub fn bridge(identity: Identity) -> Self {
        let mut space = Self::header(identity, 1);
        space.add_row(Register::new("BAR0", 0x10, 4, 0, TYPE1));
        space.add_row(Register::new("BAR1", 0x14, 4, 0, TYPE1));
        space.add_row(Register::new("PRIMARY_BUS", 0x18, 1, 0, TYPE1).rw(0xff));
        space.add_row(Register::new("SECONDARY_BUS", 0x19, 1, 0, TYPE1).rw(0xff));
        space.add_row(Register::new("SUBORDINATE_BUS", 0x1a, 1, 0, TYPE1).rw(0xff));
        space.add_row(Register::new("SEC_LATENCY_TIMER", 0x1b, 1, 0, TYPE1));
        // No I/O window: base above limit and not writable (PCI-to-PCI Bridge 3.2.5.6).
        space.add_row(Register::new("IO_BASE", 0x1c, 1, 0, TYPE1));
        space.add_row(Register::new("IO_LIMIT", 0x1d, 1, 0, TYPE1));
        space.add_row(Register::new("SEC_STATUS", 0x1e, 2, 0, TYPE1).w1c(0xf900));
        space.add_row(Register::new("MEMORY_BASE", 0x20, 2, 0, TYPE1).rw(0xfff0));
        space.add_row(Register::new("MEMORY_LIMIT", 0x22, 2, 0, TYPE1).rw(0xfff0));
        space.add_row(Register::new("PREF_MEMORY_BASE", 0x24, 2, 1, TYPE1).rw(0xfff0));
        space.add_row(Register::new("PREF_MEMORY_LIMIT", 0x26, 2, 1, TYPE1).rw(0xfff0));
        space.add_row(Register::new("PREF_BASE_UPPER32", 0x28, 4, 0, TYPE1).rw(0xffff_ffff));
        space.add_row(Register::new("PREF_LIMIT_UPPER32", 0x2c, 4, 0, TYPE1).rw(0xffff_ffff));
        space.add_row(Register::new("IO_BASE_UPPER16", 0x30, 2, 0, TYPE1));
        space.add_row(Register::new("IO_LIMIT_UPPER16", 0x32, 2, 0, TYPE1));
        space.add_row(Register::new("ROM_ADDRESS1", 0x38, 4, 0, TYPE1));
        space.add_row(Register::new("BRIDGE_CONTROL", 0x3e, 2, 0, TYPE1).rw(0x0043));
        space
    }

    fn header(identity: Identity, header_type: u8) -> Self {
        let mut space = Self {
            rows: Vec::new(),
            bytes: vec![0; SIZE],
            bars: [None; 6],
            last_capability: offset::CAPABILITY_LIST,
            last_extended: None,
            pm: None,
            power_stuck: false,
            express: None,
            aer: None,
            link: None,
        };
        let class = u64::from(identity.class);
        space.add_row(Register::new("VENDOR_ID", 0x00, 2, u64::from(identity.vendor), HEADER));
        space.add_row(Register::new("DEVICE_ID", 0x02, 2, u64::from(identity.device), HEADER));
        space.add_row(Register::new("COMMAND", 0x04, 2, 0, HEADER).rw(u64::from(command::WRITABLE)));
        // Bit 4: a capability list is there.
        space.add_row(Register::new("STATUS", 0x06, 2, 0x0010, HEADER).w1c(0xf900));
        space.add_row(Register::new("REVISION_ID", 0x08, 1, u64::from(identity.revision), HEADER));
        space.add_row(Register::new("CLASS_PROG", 0x09, 1, class & 0xff, HEADER));
        space.add_row(Register::new("CLASS_DEVICE", 0x0a, 2, class >> 8, HEADER));
        space.add_row(Register::new("CACHE_LINE_SIZE", 0x0c, 1, 0, HEADER).rw(0xff));
        space.add_row(Register::new("LATENCY_TIMER", 0x0d, 1, 0, HEADER));
        space.add_row(Register::new("HEADER_TYPE", 0x0e, 1, u64::from(header_type), HEADER));
        space.add_row(Register::new("BIST", 0x0f, 1, 0, HEADER));
        space.add_row(Register::new("CAPABILITY_LIST", 0x34, 1, 0, HEADER));
        space.add_row(Register::new("INTERRUPT_LINE", 0x3c, 1, 0, HEADER).rw(0xff));
        space.add_row(Register::new("INTERRUPT_PIN", 0x3d, 1, 0, HEADER));
        space
    }

    fn add_bar(&mut self, index: u8, bar: Bar) {
        const NAMES: [&str; 6] = ["BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5"];
        let address = u32::from(offset::BASE_ADDRESS_0) + 4 * u32::from(index);
        // Size bits read as zero whatever is written (PCIe 7.5.1.2.1).
        let mask = !(bar.size - 1);
        let kind = if bar.is_64bit { 0b100 } else { 0 };
        let name = NAMES.get(usize::from(index)).copied().unwrap_or("BAR");
        self.add_row(Register::new(name, address, 4, kind, TYPE0).rw(mask & 0xffff_fff0));
        if bar.is_64bit {
            let name = NAMES.get(usize::from(index) + 1).copied().unwrap_or("BAR");
            self.add_row(Register::new(name, address + 4, 4, 0, TYPE0).rw(mask >> 32));
        }
        if let Some(slot) = self.bars.get_mut(usize::from(index)) {
            *slot = Some(bar);
        }
    }

    /// Adds a register row, and stores its reset value. A later row wins over an earlier one at the same bytes.
    pub fn add_row(&mut self, row: Register) {
        self.store(row.address as u16, row.size, row.reset);
        let at = self.rows.partition_point(|other| other.address <= row.address);
        self.rows.insert(at, row);
    }

    /// Adds a capability (PCIe 7.5.1.1.11) at `at`, linked behind the ones before; `rows` have offsets relative to it.
    /// The header row is added here: `id` and `name`.
    pub fn add_capability(&mut self, at: u16, id: u8, name: &'static str, rows: &[Register]) {
        self.add_row(Register::new(name, u32::from(at), 2, u64::from(id), "PCIe 7.5.1.1.11"));
        for row in rows {
            self.add_row(Register { address: row.address + u32::from(at), ..*row });
        }
        let link = self.last_capability;
        self.set_reset_byte(link, at as u8);
        // The pointer is the second byte of the capability's own header.
        self.last_capability = at + 1;
    }

    /// Adds an extended capability (PCIe 7.6.3) at `at`, linked behind the ones before; the first must be at 0x100.
    pub fn add_extended(&mut self, at: u16, id: u16, version: u8, name: &'static str, rows: &[Register]) {
        let header = u64::from(id) | u64::from(version & 0xf) << 16;
        self.add_row(Register::new(name, u32::from(at), 4, header, "PCIe 7.6.3"));
        for row in rows {
            self.add_row(Register { address: row.address + u32::from(at), ..*row });
        }
        if let Some(last) = self.last_extended {
            let header = self.read(last, 4) & 0x000f_ffff | u32::from(at) << 20;
            self.store(last, 4, u64::from(header));
            self.set_reset(last, u64::from(header));
        }
        self.last_extended = Some(at);
    }

    fn set_reset_byte(&mut self, at: u16, value: u8) {
        self.store(at, 1, u64::from(value));
        if let Some(row) = self.rows.iter_mut().find(|row| row.contains(u32::from(at))) {
            let shift = 8 * (u32::from(at) - row.address);
            row.reset = row.reset & !(0xff << shift) | u64::from(value) << shift;
        }
    }

    fn set_reset(&mut self, at: u16, value: u64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.address == u32::from(at)) {
            row.reset = value;
        }
    }

    /// Changes the row at `at`, which keeps its place.
    pub(crate) fn change_row(&mut self, at: u16, change: impl FnOnce(Register) -> Register) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.address == u32::from(at)) {
            *row = change(*row);
            let Register { address, size, reset, .. } = *row;
            self.store(address as u16, size, reset);
        }
    }

    /// All rows, sorted by address.
    #[must_use]
    pub fn rows(&self) -> &[Register] {
        &self.rows
    }

    fn row_at(&self, address: u32) -> Option<&Register> {
        let after = self.rows.partition_point(|row| row.address <= address);
        self.rows.get(after.checked_sub(1)?).filter(|row| row.contains(address))
    }

    /// The name of the register that holds byte `at`.
    #[must_use]
    pub fn register_at(&self, at: u16) -> Option<&'static str> {
        self.row_at(u32::from(at)).map(|row| row.name)
    }

    /// Reads `size` (1, 2 or 4) bytes at `at`; bytes without a register are zero, bytes past the end are all-ones.
    #[must_use]
    pub fn read(&self, at: u16, size: u8) -> u32 {
        let mut value = 0u32;
        for lane in 0..u16::from(size.min(4)) {
            let byte = self.bytes.get(usize::from(at) + usize::from(lane)).copied().unwrap_or(0xff);
            value |= u32::from(byte) << (8 * lane);
        }
        value
    }

    /// A guest's write of `size` (1, 2 or 4) bytes at `at`: only writable bits change, write-1-to-clear bits clear.
    ///
    /// A D-state that the function does not have (D1, D2) is not entered (PCI Power Management 3.2.4).
    pub fn write(&mut self, at: u16, size: u8, value: u32) {
        let before = self.power_state();
        self.write_bytes(at, size, value);
        let stays = self.power_stuck || matches!(self.power_state(), 1 | 2);
        if let Some(pm) = self.pm.filter(|_| stays) {
            let pmcsr = self.read(pm + PM::CTRL, 1) & !PM::CTRL_STATE_MASK | u32::from(before);
            self.store(pm + PM::CTRL, 1, u64::from(pmcsr));
        }
    }

    fn write_bytes(&mut self, at: u16, size: u8, value: u32) {
        for lane in 0..u16::from(size.min(4)) {
            let address = u32::from(at) + u32::from(lane);
            let Some(&row) = self.row_at(address) else { continue };
            let shift = 8 * (address - row.address);
            let written = u64::from(value >> (8 * lane) & 0xff) << shift;
            let Some(byte) = self.bytes.get_mut(address as usize) else { continue };
            let after = row.after_write(u64::from(*byte) << shift, written, 0xff << shift);
            *byte = (after >> shift & 0xff) as u8;
        }
    }

    /// Stores bytes as the hardware does, whatever a guest may write.
    pub fn store(&mut self, at: u16, size: u8, value: u64) {
        for lane in 0..u16::from(size) {
            if let Some(byte) = self.bytes.get_mut(usize::from(at) + usize::from(lane)) {
                *byte = (value >> (8 * lane) & 0xff) as u8;
            }
        }
    }

    /// All registers back to their reset values. Sticky bits (RWS, RW1CS of PCIe 7.4) are not told apart from others: every
    /// kind of reset is the same here.
    pub fn reset(&mut self, _kind: ResetKind) {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            self.store(row.address as u16, row.size, row.reset);
        }
        self.rows = rows;
    }

    /// The Command register.
    #[must_use]
    pub fn command(&self) -> u16 {
        (self.read(offset::COMMAND, 2) & 0xffff) as u16
    }

    /// Whether the function decodes memory accesses: Memory Space Enable is set and the function is in D0.
    #[must_use]
    pub fn memory_enabled(&self) -> bool {
        self.command() & command::MEMORY != 0 && self.power_state() == 0
    }

    /// Whether the function may master the bus: Bus Master Enable is set and the function is in D0.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.command() & command::MASTER != 0 && self.power_state() == 0
    }

    /// The addresses that memory BAR `index` decodes now, if it exists and is programmed. An all-ones address is one
    /// that is being sized.
    #[must_use]
    pub fn memory_bar(&self, index: u8) -> Option<Range<u64>> {
        let bar = (*self.bars.get(usize::from(index))?)?;
        let at = offset::BASE_ADDRESS_0 + 4 * u16::from(index);
        let mut base = u64::from(self.read(at, 4) & 0xffff_fff0);
        if bar.is_64bit {
            base |= u64::from(self.read(at + 4, 4)) << 32;
        }
        let base = base & !(bar.size - 1);
        let end = base.checked_add(bar.size)?;
        Some(base..end)
    }

    /// The BAR that holds `address`, and the offset in it.
    #[must_use]
    pub fn decode(&self, address: u64) -> Option<(u8, u64)> {
        (0..6u8).find_map(|index| {
            let range = self.memory_bar(index)?;
            range.contains(&address).then(|| (index, address - range.start))
        })
    }

    /// The D-state, 0 to 3; a function without the capability is always in D0.
    #[must_use]
    pub fn power_state(&self) -> u8 {
        self.pm.map_or(0, |at| (self.read(at + PM::CTRL, 1) & PM::CTRL_STATE_MASK) as u8)
    }

    /// Whether the function stays in the D-state that it is in, whatever a guest writes to its PMCSR. A reset takes it to
    /// D0 nevertheless.
    pub fn set_power_stuck(&mut self, stuck: bool) {
        self.power_stuck = stuck;
    }

    /// The function has something to wake the system for: sets PME_Status, if the function can signal it from the D-state
    /// that it is in (PCIe 7.5.2.1, PME_Support). Whether a message follows is PME_En's to say.
    pub fn signal_pme(&mut self) {
        let Some(pm) = self.pm else { return };
        if self.read(pm + PM::PMC, 2) & PM::CAP_PME_D0 << self.power_state() != 0 {
            let pmcsr = self.read(pm + PM::CTRL, 2) | PM::CTRL_PME_STATUS;
            self.store(pm + PM::CTRL, 2, u64::from(pmcsr));
        }
    }

    /// Whether the function asks to be woken: PME_Status and PME_En are both set. The message goes out when this becomes
    /// true (PCIe 5.3.3.2).
    #[must_use]
    pub fn requests_pme(&self) -> bool {
        const BOTH: u32 = PM::CTRL_PME_STATUS | PM::CTRL_PME_ENABLE;
        self.pm.is_some_and(|at| self.read(at + PM::CTRL, 2) & BOTH == BOTH)
    }

    /// All registers by name, as hexadecimal strings.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let mut map = Map::new();
        for row in &self.rows {
            let mut value = u64::from(self.read(row.address as u16, row.size.min(4)));
            if row.size == 8 {
                value |= u64::from(self.read(row.address as u16 + 4, 4)) << 32;
            }
            let width = 2 * usize::from(row.size) + 2;
            map.insert(
                row.name.to_owned(),
                Value::String(format!("{:#0width$x}", value & mask_of_size(row.size))),
            );
        }
        Value::Object(map)
    }
}
