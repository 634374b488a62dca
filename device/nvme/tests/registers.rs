//! The register table, and what a guest may change in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use sdmorph_nvme::BAR_REGISTERS;
use sdmorph_pci::register::check_table;

#[test]
fn table_of_registers_is_sound() {
    assert_eq!(check_table(BAR_REGISTERS), Vec::<String>::new());
}
