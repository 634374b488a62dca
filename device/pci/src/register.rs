//! A register is a table row. The same rows drive the model, its tests, snapshots, rules by name and the docs.

use serde::Serialize;
use serde_json::{Map, Value};

/// One register, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Register {
    /// Name as the Linux driver (or `pci_regs.h`) spells it.
    pub name: &'static str,
    /// Address in its space, in bytes.
    pub address: u32,
    /// Width in bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Value after reset.
    pub reset: u64,
    /// Bits that a write sets and clears.
    pub writable: u64,
    /// Bits that a write of 1 clears.
    pub w1c: u64,
    /// Where the row comes from: specification section or driver file.
    pub source: &'static str,
}

impl Register {
    /// A read-only row; add behaviour with [`Register::rw`] and [`Register::w1c`].
    #[must_use]
    pub const fn new(name: &'static str, address: u32, size: u8, reset: u64, source: &'static str) -> Self {
        Self { name, address, size, reset, writable: 0, w1c: 0, source }
    }

    /// The same row with these bits writable.
    #[must_use]
    pub const fn rw(mut self, mask: u64) -> Self {
        self.writable = mask;
        self
    }

    /// The same row with these bits cleared by writing 1.
    #[must_use]
    pub const fn w1c(mut self, mask: u64) -> Self {
        self.w1c = mask;
        self
    }

    /// The value after `written` is stored over `old`, for the bytes selected by `lanes` (a mask of whole bytes).
    #[must_use]
    pub const fn after_write(&self, old: u64, written: u64, lanes: u64) -> u64 {
        let writable = self.writable & lanes;
        let cleared = self.w1c & lanes & written;
        ((old & !writable) | (written & writable)) & !cleared
    }

    /// Whether byte `address` belongs to this register.
    #[must_use]
    pub const fn contains(&self, address: u32) -> bool {
        address >= self.address && address - self.address < self.size as u32
    }
}

/// All-ones in the low `size` bytes: what a read gets when nobody answers.
#[must_use]
pub fn mask_of_size(size: u8) -> u64 {
    match size {
        0 => 0,
        1..=7 => (1u64 << (8 * u32::from(size))) - 1,
        _ => u64::MAX,
    }
}

/// Values for a table of registers, with the access rules of their rows.
///
/// Lookup is by binary search, so the table must be sorted by address without overlaps; [`check_table`] says what is
/// wrong with a table (each table has a test).
#[derive(Debug, Clone)]
pub struct RegisterFile {
    table: &'static [Register],
    values: Vec<u64>,
}

impl RegisterFile {
    /// All registers of `table` at their reset values.
    #[must_use]
    pub fn new(table: &'static [Register]) -> Self {
        Self { table, values: table.iter().map(|row| row.reset).collect() }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &'static [Register] {
        self.table
    }

    /// Back to the reset values.
    pub fn reset(&mut self) {
        self.values = self.table.iter().map(|row| row.reset).collect();
    }

    fn index(&self, address: u32) -> Option<usize> {
        let after = self.table.partition_point(|row| row.address <= address);
        let index = after.checked_sub(1)?;
        self.table.get(index)?.contains(address).then_some(index)
    }

    /// The row that holds byte `address`.
    #[must_use]
    pub fn row(&self, address: u32) -> Option<&'static Register> {
        self.table.get(self.index(address)?)
    }

    /// The value of the register that starts at or holds byte `address`; `None` if no row has it.
    #[must_use]
    pub fn get(&self, address: u32) -> Option<u64> {
        self.values.get(self.index(address)?).copied()
    }

    /// Stores a value as the hardware does, without regard to what a driver may write. False if no row has `address`.
    pub fn set(&mut self, address: u32, value: u64) -> bool {
        match self.index(address).and_then(|index| self.values.get_mut(index)) {
            Some(slot) => {
                *slot = value;
                true
            }
            None => false,
        }
    }

    /// Stores `value` as a driver's write to the whole register. Returns the new value; `None` if no row has it.
    pub fn write(&mut self, address: u32, value: u64) -> Option<u64> {
        let index = self.index(address)?;
        let row = self.table.get(index)?;
        let slot = self.values.get_mut(index)?;
        *slot = row.after_write(*slot, value, mask_of_size(row.size));
        Some(*slot)
    }

    /// All registers by name, as hexadecimal strings.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let entries = self.table.iter().zip(&self.values).map(|(row, value)| {
            let width = 2 * usize::from(row.size);
            (row.name.to_owned(), Value::String(format!("{value:#0w$x}", w = width + 2)))
        });
        Value::Object(entries.collect::<Map<_, _>>())
    }
}

/// What is wrong with a register table; empty if nothing is. Every table of the workspace has a test that calls this.
#[must_use]
pub fn check_table(table: &[Register]) -> Vec<String> {
    let mut faults = Vec::new();
    for row in table {
        let mask = mask_of_size(row.size);
        if !matches!(row.size, 1 | 2 | 4 | 8) {
            faults.push(format!("{}: size {} is not 1, 2, 4 or 8", row.name, row.size));
        }
        if (row.reset | row.writable | row.w1c) & !mask != 0 {
            faults.push(format!("{}: a value is wider than {} bytes", row.name, row.size));
        }
        if row.writable & row.w1c != 0 {
            faults.push(format!("{}: a bit is both writable and write-1-to-clear", row.name));
        }
        if row.source.is_empty() {
            faults.push(format!("{}: no source", row.name));
        }
    }
    for pair in table.windows(2) {
        if let [first, second] = pair {
            if first.address + u32::from(first.size) > second.address {
                faults.push(format!("{} and {} overlap or are out of order", first.name, second.name));
            }
        }
    }
    let mut names: Vec<_> = table.iter().map(|row| row.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        if let [first, second] = pair {
            if first == second {
                faults.push(format!("{first}: named twice"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Register] = &[
        Register::new("A", 0x10, 1, 0x5a, "test").rw(0x0f),
        Register::new("B", 0x12, 2, 0xffff, "test").w1c(0xff00).rw(0x000f),
        Register::new("C", 0x14, 4, 0, "test").rw(0xffff_ffff),
    ];

    #[test]
    fn write_changes_only_writable_bits_and_clears_w1c() {
        let mut file = RegisterFile::new(TABLE);
        assert_eq!(file.write(0x10, 0xff), Some(0x5f));
        assert_eq!(file.write(0x12, 0x0100), Some(0xfef0));
        assert_eq!(file.get(0x12), Some(0xfef0));
    }

    #[test]
    fn address_outside_every_row_is_nobody() {
        let mut file = RegisterFile::new(TABLE);
        assert_eq!(file.get(0x0f), None);
        assert_eq!(file.get(0x11), None);
        assert_eq!(file.get(0x18), None);
        assert_eq!(file.write(0x11, 1), None);
        assert!(!file.set(0x11, 1));
        assert_eq!(file.row(0x17).map(|row| row.name), Some("C"));
    }

    #[test]
    fn snapshot_names_every_register() {
        let file = RegisterFile::new(TABLE);
        assert_eq!(file.snapshot(), serde_json::json!({"A": "0x5a", "B": "0xffff", "C": "0x00000000"}));
    }

    #[test]
    fn check_table_finds_overlap_double_name_and_wide_mask() {
        let bad = [
            Register::new("A", 0, 2, 0, "test"),
            Register::new("A", 1, 1, 0x100, "test"),
            Register::new("D", 4, 3, 0, ""),
        ];
        let faults = check_table(&bad).join("\n");
        for word in ["overlap", "named twice", "wider", "size 3", "no source"] {
            assert!(faults.contains(word), "{word} not in {faults}");
        }
        assert_eq!(check_table(TABLE), Vec::<String>::new());
    }
}
