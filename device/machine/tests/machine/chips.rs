//! The machine with each of the chips.

use sdmorph_machine::names::registry;
use sdmorph_machine::{Model, Setup};
use serde_json::Value;

use crate::guest::Lab;

#[test]
fn every_chip_is_bound_behind_the_port_and_hands_over_the_slot_if_it_can() {
    for model in Model::ALL {
        let mut lab = Lab::bound_to(Setup::new(model, None).unwrap());
        lab.insert();
        assert_eq!(lab.rescan(), Ok(model.express.is_some()), "{}", model.name);
        lab.runtime_idle().unwrap();
        let status = lab.guest.machine.status();
        assert_eq!(status["chip"], Value::from(model.name));
        let phase = if model.express.is_some() { "switching" } else { "reader" };
        assert_eq!(status["phase"], Value::from(phase), "{}", model.name);
        assert_eq!(status["counters"]["unmodelled"], Value::from(0), "{}", model.name);
    }
}

#[test]
fn rules_know_the_registers_of_every_chip() {
    let names = registry();
    for model in Model::ALL {
        for row in model.registers.iter().chain(model.own_config) {
            let known = names.register("reader", row.name).unwrap();
            assert_eq!(known.address, u64::from(row.address), "{} {}", model.name, row.name);
        }
    }
    // The driver polls these until bit 7 is clear.
    for register in ["RTS5261_EFUSE_CTL", "PHYRWCTL"] {
        assert_eq!(names.register("reader", register).unwrap().busy, 0x80);
    }
}
