//! What comes with the lab: scenarios, and the guest's side of them.

/// The scenarios that come with the lab, by name.
pub const SHIPPED: &[(&str, &str)] = &[
    ("sd7-idle-race", include_str!("../../../scenarios/sd7-idle-race.toml")),
    ("sd7-idle-race-plain", include_str!("../../../scenarios/sd7-idle-race-plain.toml")),
    ("boot-insert-remove", include_str!("../../../scenarios/boot-insert-remove.toml")),
    ("card-sd", include_str!("../../../scenarios/card-sd.toml")),
    ("card-fio", include_str!("../../../scenarios/card-fio.toml")),
    ("card-pull", include_str!("../../../scenarios/card-pull.toml")),
    ("card-write-protect", include_str!("../../../scenarios/card-write-protect.toml")),
    ("card-classes", include_str!("../../../scenarios/card-classes.toml")),
    ("card-uhs", include_str!("../../../scenarios/card-uhs.toml")),
    ("card-corrupt", include_str!("../../../scenarios/card-corrupt.toml")),
    ("card-over-current", include_str!("../../../scenarios/card-over-current.toml")),
    ("card-suspend", include_str!("../../../scenarios/card-suspend.toml")),
    ("card-express-as-sd", include_str!("../../../scenarios/card-express-as-sd.toml")),
    ("card-lock", include_str!("../../../scenarios/card-lock.toml")),
    ("card-cycles", include_str!("../../../scenarios/card-cycles.toml")),
    ("chip-rts5260", include_str!("../../../scenarios/chip-rts5260.toml")),
    ("chip-rts5228", include_str!("../../../scenarios/chip-rts5228.toml")),
    ("chip-rts525a", include_str!("../../../scenarios/chip-rts525a.toml")),
    ("chip-rts522a", include_str!("../../../scenarios/chip-rts522a.toml")),
    ("chip-rts5264", include_str!("../../../scenarios/chip-rts5264.toml")),
];

/// The guest's side of every scenario that comes with the lab: file name and contents.
pub const SHIPPED_TESTS: &[(&str, &str)] = &[
    ("ktap.sh", include_str!("../../../tests/ktap.sh")),
    ("control.sh", include_str!("../../../tests/control.sh")),
    ("reader.sh", include_str!("../../../tests/reader.sh")),
    ("sd7-idle-race.sh", include_str!("../../../tests/sd7-idle-race.sh")),
    ("boot-insert-remove.sh", include_str!("../../../tests/boot-insert-remove.sh")),
    ("card.sh", include_str!("../../../tests/card.sh")),
    ("card-sd.sh", include_str!("../../../tests/card-sd.sh")),
    ("card-fio.sh", include_str!("../../../tests/card-fio.sh")),
    ("card-pull.sh", include_str!("../../../tests/card-pull.sh")),
    ("card-write-protect.sh", include_str!("../../../tests/card-write-protect.sh")),
    ("card-classes.sh", include_str!("../../../tests/card-classes.sh")),
    ("card-uhs.sh", include_str!("../../../tests/card-uhs.sh")),
    ("card-corrupt.sh", include_str!("../../../tests/card-corrupt.sh")),
    ("card-over-current.sh", include_str!("../../../tests/card-over-current.sh")),
    ("card-suspend.sh", include_str!("../../../tests/card-suspend.sh")),
    ("card-express-as-sd.sh", include_str!("../../../tests/card-express-as-sd.sh")),
    ("card-lock.sh", include_str!("../../../tests/card-lock.sh")),
    ("card-cycles.sh", include_str!("../../../tests/card-cycles.sh")),
    ("card-chip.sh", include_str!("../../../tests/card-chip.sh")),
];
