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
}

impl Default for Setup {
    /// An RTS5261 without settings, in a slot that has nothing but presence and link.
    fn default() -> Self {
        Self { model: Model::DEFAULT, settings: None, equipment: Equipment::default() }
    }
}

impl Setup {
    /// This chip, with these settings; without, the driver keeps its own.
    ///
    /// # Errors
    /// [`SettingsError::Lacks`] if the chip has no place for one of them.
    pub fn new(model: &'static Model, settings: Option<Settings>) -> Result<Self, SettingsError> {
        settings.map_or(Ok(()), |settings| settings.check_for(model))?;
        Ok(Self { model, settings, equipment: Equipment::default() })
    }

    /// The same in a slot that is equipped like this.
    #[must_use]
    pub fn with_slot(self, equipment: Equipment) -> Self {
        Self { equipment, ..self }
    }

    /// What the slot and its port are equipped with.
    #[must_use]
    pub fn slot(self) -> Equipment {
        self.equipment
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
