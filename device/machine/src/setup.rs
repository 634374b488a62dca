//! What a machine is made as.

use sdmorph_pci::port::Equipment;
use sdmorph_rtsx::Rtsx;
use sdmorph_rtsx::vendor_config::{Settings, SettingsError};

use crate::Model;

/// The reader: which chip it is, and what a firmware has set for the board that it is on. And what its slot is equipped
/// with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    model: &'static Model,
    settings: Option<Settings>,
    equipment: Equipment,
    records_inputs: bool,
}

impl PartialEq for Setup {
    fn eq(&self, other: &Self) -> bool {
        let Self { model, settings, equipment, records_inputs } = self;
        model.name == other.model.name
            && *settings == other.settings
            && *equipment == other.equipment
            && *records_inputs == other.records_inputs
    }
}

impl Default for Setup {
    /// An RTS5261 without settings, in a slot that has nothing but presence and link.
    fn default() -> Self {
        Self { model: Model::DEFAULT, settings: None, equipment: Equipment::default(), records_inputs: false }
    }
}

impl Setup {
    /// This chip, with these settings; without, the driver keeps its own.
    ///
    /// # Errors
    /// [`SettingsError::Lacks`] if the chip has no place for one of them.
    pub fn new(model: &'static Model, settings: Option<Settings>) -> Result<Self, SettingsError> {
        settings.map_or(Ok(()), |settings| settings.check_for(model))?;
        Ok(Self { model, settings, equipment: Equipment::default(), records_inputs: false })
    }

    /// The same in a slot that is equipped like this.
    #[must_use]
    pub fn with_equipment(self, equipment: Equipment) -> Self {
        Self { equipment, ..self }
    }

    /// What the slot and its port are equipped with.
    #[must_use]
    pub fn equipment(self) -> Equipment {
        self.equipment
    }

    /// The same, but the record has what a replay needs: see [`inputs`](crate::inputs).
    #[must_use]
    pub fn with_inputs_recorded(self) -> Self {
        Self { records_inputs: true, ..self }
    }

    /// Whether the record has what a replay needs.
    #[must_use]
    pub fn records_inputs(self) -> bool {
        self.records_inputs
    }

    /// The chip.
    #[must_use]
    pub fn model(self) -> &'static Model {
        self.model
    }

    /// What a firmware has set, if it has.
    #[must_use]
    pub fn settings(self) -> Option<Settings> {
        self.settings
    }

    /// The reader.
    pub(crate) fn reader(self) -> Rtsx {
        Rtsx::with_settings(self.model, self.settings)
    }
}
