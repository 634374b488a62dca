//! capability
use crate::config::ConfigSpace;
impl ConfigSpace {
    /// D-state.
    #[must_use]
    pub fn power_state(&self) -> u8 {
        self.pm.map_or(0, |at| (self.read(at + 4, 1) & 3) as u8)
    }
}
