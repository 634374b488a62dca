//! Every register of every table, as a table row.

use proptest::prelude::*;
use sdmorph_machine::names::tables;
use sdmorph_pci::mask_of_size;
use sdmorph_pci::register::check_table;
use sdmorph_pci::{Register, RegisterFile};

fn leaked_tables() -> Vec<&'static [Register]> {
    tables().into_iter().map(|table| &*table.rows.leak()).collect()
}

#[test]
fn tables_are_well_formed() {
    for table in tables() {
        assert_eq!(check_table(&table.rows), Vec::<String>::new(), "{}", table.title);
        assert!(!table.rows.is_empty(), "{}", table.title);
    }
}

#[test]
fn each_register_keeps_its_read_only_bits_and_is_restored_by_reset() {
    for table in leaked_tables() {
        let mut file = RegisterFile::new(table);
        for row in table {
            let width = mask_of_size(row.size);
            let ones = file.write(row.address, u64::MAX).unwrap();
            assert_eq!(ones & width, ones, "{}: wider than it is", row.name);
            assert_eq!(ones, (row.reset | row.writable) & !row.w1c, "{}", row.name);
            let zeros = file.write(row.address, 0).unwrap();
            assert_eq!(zeros, row.reset & !row.writable & !row.w1c, "{}", row.name);
        }
        file.reset();
        for row in table {
            assert_eq!(file.get(row.address), Some(row.reset), "{}", row.name);
        }
    }
}

proptest! {
    /// Any write with any byte lanes to any row changes writable bits to what is written, clears write-1-to-clear bits
    /// that are written as 1, and leaves the rest.
    #[test]
    fn write_of_any_lanes_does_what_the_row_says(old: u64, written: u64, lanes in 0u8..=255) {
        let lanes = (0..8).filter(|lane| lanes >> lane & 1 != 0).fold(0u64, |mask, lane| mask | 0xff << (8 * lane));
        for row in tables().iter().flat_map(|table| &table.rows) {
            let old = old & mask_of_size(row.size);
            let new = row.after_write(old, written, lanes);
            let set = lanes & row.writable;
            prop_assert_eq!(new & set, written & set, "{}", row.name);
            prop_assert_eq!(new & row.w1c & lanes & written, 0, "{}", row.name);
            let kept = !set & !(row.w1c & lanes & written);
            prop_assert_eq!(new & kept, old & kept, "{}", row.name);
        }
    }
}
