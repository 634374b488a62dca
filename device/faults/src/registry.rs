//! The names that rules may use.

use std::collections::HashMap;

use sdmorph_pci::{Event, Register, Space};

use crate::state::{MAX_FUNCTIONS, MAX_PHASES};

/// One register of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterInfo {
    /// The function's name, as [`sdmorph_pci::PciFunction::name`] gives it.
    pub function: &'static str,
    /// Where in the function.
    pub space: Space,
    /// The register's name.
    pub name: &'static str,
    /// Its first byte's offset in the space.
    pub address: u64,
    /// Its width in bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Its busy bits; 0 if none are known.
    pub busy: u64,
}

/// All names of a machine: of registers and functions, events, phases of the switch and commands.
///
/// A register is known by its function and its name; if a function has the name twice, the first one counts.
#[derive(Debug, Clone)]
pub struct Registry {
    /// By name; one of each function.
    registers: HashMap<&'static str, Vec<RegisterInfo>>,
    /// Those that have registers, in the order they came; [`MAX_FUNCTIONS`] at most.
    functions: Vec<&'static str>,
    /// [`MAX_PHASES`] at most; a machine begins in the first.
    phases: Vec<&'static str>,
    events: &'static [&'static str],
    commands: Vec<String>,
    /// Status codes of NVMe commands by name.
    statuses: Vec<(&'static str, u16)>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// No registers, no phases, no commands, and the events of [`Event::NAMES`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            registers: HashMap::new(),
            functions: Vec::new(),
            phases: Vec::new(),
            events: Event::NAMES,
            commands: Vec::new(),
            statuses: Vec::new(),
        }
    }

    /// Adds one register.
    pub fn add_register(&mut self, register: RegisterInfo) {
        if self.functions.len() < MAX_FUNCTIONS && !self.functions.contains(&register.function) {
            self.functions.push(register.function);
        }
        let namesakes = self.registers.entry(register.name).or_default();
        if namesakes.iter().all(|other| other.function != register.function) {
            namesakes.push(register);
        }
    }

    /// Adds a table of registers. `busy` names the busy bits of those that have any.
    pub fn add_table(
        &mut self,
        function: &'static str,
        space: Space,
        table: &[Register],
        busy: &[(&str, u64)],
    ) {
        for row in table {
            let busy = busy.iter().find(|(name, _)| *name == row.name).map_or(0, |(_, mask)| *mask);
            let address = u64::from(row.address);
            self.add_register(RegisterInfo {
                function,
                space,
                name: row.name,
                address,
                size: row.size,
                busy,
            });
        }
    }

    /// Adds the phases of the switch, as [`Event::Morph`] names them; a machine begins in the first.
    pub fn add_phases(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.phases.extend(names);
        self.phases.truncate(MAX_PHASES);
    }

    /// Adds the names of storage commands, such as `CMD8`.
    pub fn add_commands<S: Into<String>>(&mut self, names: impl IntoIterator<Item = S>) {
        self.commands.extend(names.into_iter().map(Into::into));
        self.commands.sort_unstable();
        self.commands.dedup();
    }

    /// Adds the names of statuses that an NVMe command can end with, and their codes.
    pub fn add_statuses(&mut self, statuses: impl IntoIterator<Item = (&'static str, u16)>) {
        self.statuses.extend(statuses);
    }

    /// The register `name` of `function`.
    #[must_use]
    pub fn register(&self, function: &str, name: &str) -> Option<&RegisterInfo> {
        self.registers_named(name).iter().find(|register| register.function == function)
    }

    /// The registers called `name`, one of each function that has it.
    pub(crate) fn registers_named(&self, name: &str) -> &[RegisterInfo] {
        self.registers.get(name).map_or(&[], Vec::as_slice)
    }

    /// All registers, in no order.
    pub(crate) fn registers(&self) -> impl Iterator<Item = &RegisterInfo> {
        self.registers.values().flatten()
    }

    /// The function of that name.
    pub(crate) fn function(&self, name: &str) -> Option<&'static str> {
        self.functions.iter().find(|function| **function == name).copied()
    }

    pub(crate) fn event(&self, name: &str) -> Option<&'static str> {
        self.events.iter().find(|event| **event == name).copied()
    }

    pub(crate) fn event_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.events.iter().copied()
    }

    pub(crate) fn functions(&self) -> &[&'static str] {
        &self.functions
    }

    pub(crate) fn function_number(&self, name: &str) -> Option<usize> {
        self.functions.iter().position(|function| *function == name)
    }

    pub(crate) fn phases(&self) -> &[&'static str] {
        &self.phases
    }

    pub(crate) fn phase_number(&self, name: &str) -> Option<usize> {
        self.phases.iter().position(|phase| *phase == name)
    }

    pub(crate) fn command_number(&self, name: &str) -> Option<usize> {
        self.commands.binary_search_by(|command| command.as_str().cmp(name)).ok()
    }

    pub(crate) fn status(&self, name: &str) -> Option<u16> {
        self.statuses.iter().find(|(known, _)| *known == name).map(|(_, code)| *code)
    }

    pub(crate) fn status_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.statuses.iter().map(|(name, _)| *name)
    }

    pub(crate) fn command_names(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(String::as_str)
    }
}
