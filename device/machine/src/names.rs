//! All registers, events and commands of the machine by name.

use sdmorph_faults::Registry;
use sdmorph_media::RamMedia;
use sdmorph_nvme::{Identity, Nvme};
use sdmorph_pci::port::Equipment;
use sdmorph_pci::{PciFunction, Register, Space};
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::model::Model;
use sdmorph_rtsx::registers::COMMON;

use crate::machine::topology;
use crate::morph::Phase;

/// A table of registers of one function.
#[derive(Debug, Clone)]
pub struct Table {
    /// The function's name.
    pub function: &'static str,
    /// What the function is, for a heading.
    pub title: String,
    /// Where the registers are.
    pub space: Space,
    /// The rows, sorted by address.
    pub rows: Vec<Register>,
}

/// All register tables of the machine, in the order of a book. What a reader is made of depends on its chip: after the
/// tables of what all chips have come those of what each has beside it.
#[must_use]
pub fn tables() -> Vec<Table> {
    let vmd = topology(Rtsx::new(), Equipment::default());
    let drive = Nvme::new(Identity::of_card(&[0; 16]), Box::new(RamMedia::new(0, 0)));
    let port = vmd.bus().port();
    let equipped = topology(Rtsx::new(), Equipment::from_words(Equipment::WORDS.iter().copied()));
    let plain = |row: &&Register| port.config().rows().iter().all(|other| other.name != row.name);
    let more_of_port: Vec<_> = equipped.bus().port().config().rows().iter().filter(plain).copied().collect();
    let table = |function, title: &str, space, rows: &[Register]| Table {
        function,
        title: title.to_owned(),
        space,
        rows: rows.to_vec(),
    };
    let reader_config = port.slot().function().map(|reader| reader.config().rows().to_vec());
    let in_bar1: Vec<_> = Model::ALL.iter().filter(|model| model.bar == 1).map(|model| model.name).collect();
    let bar_title = format!("Card reader: BAR0, or BAR1 of {}", in_bar1.join(", ").to_uppercase());
    let mut tables = vec![
        table("reader", &bar_title, Space::Bar(0), sdmorph_rtsx::BAR_REGISTERS),
        table("reader", "Card reader: registers behind HAIMR and command lists", Space::Internal, COMMON),
        table(
            "reader",
            "Card reader: configuration space",
            Space::Config,
            &reader_config.unwrap_or_default(),
        ),
    ];
    for model in Model::ALL {
        let chip = model.name.to_uppercase();
        let title = format!("{chip}: more registers behind HAIMR and command lists");
        tables.push(table("reader", &title, Space::Internal, model.own_registers));
        if !model.own_config.is_empty() {
            let title = format!("{chip}: more of configuration space");
            tables.push(table("reader", &title, Space::Config, model.own_config));
        }
    }
    tables.extend([
        table("nvme", "Drive: BAR0", Space::Bar(0), sdmorph_nvme::BAR_REGISTERS),
        table("nvme", "Drive: configuration space", Space::Config, drive.config().rows()),
        table("port", "Root port and slot: configuration space", Space::Config, port.config().rows()),
        table(
            "port",
            "Root port with AER and DPC: more of configuration space",
            Space::Config,
            &more_of_port,
        ),
        table("vmd", "VMD: configuration space", Space::Config, vmd.config().rows()),
    ]);
    tables
}

/// Busy bits that a rule may hold, by register; each is a bit that the driver polls (`drivers/misc/cardreader`).
const BUSY: &[(&str, u64)] = &[
    ("HAIMR", 1 << 31),
    ("HCBCTLR", 1 << 31),
    ("HDBCTLR", 1 << 31),
    ("PHYRWCTL", 0x80),
    ("RTS5261_EFUSE_CTL", 0x80),
    ("RTS525A_EFUSE_CTL", 0x80),
    ("RTS5264_EFUSE_CTL", 0x80),
    ("SD_TRANSFER", 0x80),
];

/// The names that rules may use.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    for table in tables() {
        registry.add_table(table.function, table.space, &table.rows, BUSY);
    }
    registry.add_phases(Phase::ALL.iter().map(|phase| phase.name()));
    registry.add_commands(sdmorph_sdcard::command_names());
    registry.add_commands(sdmorph_nvme::command_names());
    registry.add_statuses(sdmorph_nvme::status::names());
    registry
}
