//! MSI-X (PCIe 7.7.2): a table of messages in a memory BAR, each with its own mask, and a pending bit array.

use serde_json::{Value, json};

use crate::config::ConfigSpace;
use crate::happening::Message;
use crate::register::Register;
use crate::seam::Ctx;

const SOURCE: &str = "PCIe 7.7.2";
/// Bytes of one table entry: address, upper address, data, vector control.
const ENTRY_BYTES: u64 = 16;
const ENABLE: u32 = 1 << 15;
const FUNCTION_MASK: u32 = 1 << 14;

/// Where the table and the pending bits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Memory BAR index.
    pub bar: u8,
    /// Byte offset in the BAR, a multiple of 8.
    pub offset: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
    pending: bool,
}

/// After reset every vector is masked (PCIe 7.7.2.6).
const ENTRY_RESET: Entry = Entry { address: 0, data: 0, control: 1, pending: false };

/// A function's MSI-X messages.
#[derive(Debug, Clone)]
pub struct MsiX {
    at: u16,
    table: Place,
    pending: Place,
    entries: Vec<Entry>,
}

impl MsiX {
    /// Adds the capability at `at`, for `vectors` (1 to 2048) messages.
    #[must_use]
    pub fn add(config: &mut ConfigSpace, at: u16, vectors: u16, table: Place, pending: Place) -> Self {
        let place = |place: Place| u64::from(place.offset & !7) | u64::from(place.bar & 7);
        // The size field counts from zero.
        let vectors = vectors.clamp(1, 2048);
        let size = u64::from(vectors - 1);
        config.add_capability(
            at,
            0x11,
            "MSIX_CAP",
            &[
                Register::new("MSIX_FLAGS", 0x2, 2, size, SOURCE).rw(u64::from(ENABLE | FUNCTION_MASK)),
                Register::new("MSIX_TABLE", 0x4, 4, place(table), SOURCE),
                Register::new("MSIX_PBA", 0x8, 4, place(pending), SOURCE),
            ],
        );
        Self { at, table, pending, entries: vec![ENTRY_RESET; usize::from(vectors)] }
    }

    /// Number of messages.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    /// Whether the guest has turned the messages on.
    #[must_use]
    pub fn enabled(&self, config: &ConfigSpace) -> bool {
        config.read(self.at + 2, 2) & ENABLE != 0
    }

    /// The register name of byte `offset` of `bar`, if the table or the pending bits are there.
    #[must_use]
    pub fn register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        if self.table_index(bar, offset).is_some() {
            Some("MSIX_TABLE_ENTRY")
        } else if self.pending_byte(bar, offset).is_some() {
            Some("MSIX_PENDING_BITS")
        } else {
            None
        }
    }

    fn table_index(&self, bar: u8, offset: u64) -> Option<(usize, u64)> {
        let inside = offset.checked_sub(u64::from(self.table.offset))?;
        let index = (inside / ENTRY_BYTES) as usize;
        (bar == self.table.bar && index < self.entries.len()).then_some((index, inside % ENTRY_BYTES))
    }

    fn pending_byte(&self, bar: u8, offset: u64) -> Option<u64> {
        let inside = offset.checked_sub(u64::from(self.pending.offset))?;
        let bytes = (self.entries.len() as u64).div_ceil(64) * 8;
        (bar == self.pending.bar && inside < bytes).then_some(inside)
    }

    /// Reads the table or the pending bits; `None` if they are not there. Only aligned accesses of 4 or 8 bytes are
    /// defined (PCIe 7.7.2); any other reads zero.
    #[must_use]
    pub fn bar_read(&self, bar: u8, offset: u64, size: u8) -> Option<u64> {
        let aligned = matches!(size, 4 | 8) && offset % u64::from(size) == 0;
        if let Some((index, at)) = self.table_index(bar, offset) {
            let Some(entry) = self.entries.get(index).filter(|_| aligned) else { return Some(0) };
            let low =
                if at < 8 { entry.address } else { u64::from(entry.control) << 32 | u64::from(entry.data) };
            let value = low >> (8 * (at % 8));
            return Some(if size == 8 { value } else { value & 0xffff_ffff });
        }
        let first = self.pending_byte(bar, offset)?;
        let mut value = 0u64;
        for bit in 0..8 * u64::from(size) {
            let vector = (first * 8 + bit) as usize;
            value |= u64::from(self.entries.get(vector).is_some_and(|entry| entry.pending)) << bit;
        }
        Some(if aligned { value } else { 0 })
    }

    /// Writes the table; false if neither it nor the pending bits (which ignore writes) are there.
    pub fn bar_write(
        &mut self,
        config: &ConfigSpace,
        ctx: &mut Ctx<'_>,
        bar: u8,
        offset: u64,
        size: u8,
        value: u64,
    ) -> bool {
        let Some((index, at)) = self.table_index(bar, offset) else {
            return self.pending_byte(bar, offset).is_some();
        };
        let aligned = matches!(size, 4 | 8) && offset % u64::from(size) == 0;
        if let Some(entry) = self.entries.get_mut(index).filter(|_| aligned) {
            let lanes = crate::register::mask_of_size(size) << (8 * (at % 8));
            let written = value << (8 * (at % 8));
            if at < 8 {
                entry.address = (entry.address & !lanes | written & lanes) & !3;
            } else {
                let old = u64::from(entry.control) << 32 | u64::from(entry.data);
                let new = old & !lanes | written & lanes;
                entry.data = new as u32;
                // Only the mask bit is defined.
                entry.control = (new >> 32) as u32 & 1;
            }
        }
        self.deliver(config, ctx, index);
        true
    }

    /// Masks or unmasks a vector, for a host that keeps the table itself (VFIO: the guest's table writes never reach
    /// the device; a vector it has routed is one that the guest unmasked).
    pub fn set_masked(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, vector: u16, masked: bool) {
        let index = usize::from(vector);
        if let Some(entry) = self.entries.get_mut(index) {
            entry.control = u32::from(masked);
        }
        self.deliver(config, ctx, index);
    }

    /// Sends message `vector`, or keeps it pending while it, or the whole function, is masked. Dropped if MSI-X is off
    /// or there is no such vector; returns whether there is.
    pub fn fire(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, vector: u16) -> bool {
        let index = usize::from(vector);
        let enabled = self.enabled(config);
        let Some(entry) = self.entries.get_mut(index) else { return false };
        entry.pending = enabled;
        self.deliver(config, ctx, index);
        true
    }

    /// The guest wrote configuration space: it may have enabled or unmasked the function.
    pub fn config_written(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>) {
        for index in 0..self.entries.len() {
            self.deliver(config, ctx, index);
        }
    }

    fn deliver(&mut self, config: &ConfigSpace, ctx: &mut Ctx<'_>, index: usize) {
        let flags = config.read(self.at + 2, 2);
        let open = flags & ENABLE != 0 && flags & FUNCTION_MASK == 0;
        if let Some(entry) = self.entries.get_mut(index) {
            if open && entry.pending && entry.control & 1 == 0 {
                let message = Message { vector: index as u16, address: entry.address, data: entry.data };
                entry.pending = !ctx.send(message);
            }
        }
    }

    /// Back to the state after reset: all masked, nothing pending.
    pub fn reset(&mut self) {
        let Self { at: _, table: _, pending: _, entries } = self;
        entries.fill(ENTRY_RESET);
    }

    /// Vectors that are unmasked or pending, as JSON.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let list: Vec<Value> = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.control & 1 == 0 || entry.pending)
            .map(|(vector, entry)| {
                json!({
                    "vector": vector,
                    "address": format!("{:#x}", entry.address),
                    "data": format!("{:#x}", entry.data),
                    "masked": entry.control & 1 != 0,
                    "pending": entry.pending,
                })
            })
            .collect();
        Value::Array(list)
    }
}
