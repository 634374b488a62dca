//! What kind of card it is.

/// What the card says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Manufacturer (MID), assigned by the SD Association.
    pub manufacturer: u8,
    /// OEM and application (OID), two ASCII characters.
    pub oem: [u8; 2],
    /// Product name (PNM), five ASCII characters.
    pub product: [u8; 5],
    /// Product revision (PRV), major in bits 7:4, minor in bits 3:0.
    pub revision: u8,
    /// Product serial number (PSN).
    pub serial: u32,
    /// Year of manufacture (MDT), from 2000 to 2255.
    pub year: u16,
    /// Month of manufacture (MDT), from 1 to 12.
    pub month: u8,
    /// How much it holds.
    pub capacity: Capacity,
    /// Its PCIe interface, if it has one (SD Express).
    pub express: Option<Express>,
}

/// The PCIe interface of an SD Express card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Express {
    /// Whether it can also run its PCIe interface from 1.2 V (VDD3).
    pub supports_1v2: bool,
}

impl Profile {
    /// An SD Express card.
    #[must_use]
    pub fn express(serial: u32, capacity: Capacity) -> Self {
        Self { express: Some(Express { supports_1v2: true }), ..Self::legacy(serial, capacity) }
    }

    /// A card without PCIe.
    #[must_use]
    pub fn legacy(serial: u32, capacity: Capacity) -> Self {
        Self {
            manufacturer: 0xff,
            oem: *b"SM",
            product: *b"MORPH",
            revision: 0x10,
            serial,
            year: 2024,
            month: 2,
            capacity,
            express: None,
        }
    }
}

/// A high, extended or ultra capacity (SDHC, SDXC, SDUC): whole units of 512 KiB, above 2 GiB, up to 128 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity {
    units: u32,
}

/// Why a number of bytes is not a card's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// C_SIZE counts in units of 512 KiB.
    #[error("{0} bytes is not a multiple of 512 KiB")]
    NotWholeUnits(u64),
    /// Cards of 2 GiB and below are standard-capacity cards, which are not modelled.
    #[error("{0} bytes is 2 GiB or less, a standard-capacity card")]
    TooSmall(u64),
    /// The CSD has no room for more than 128 TiB.
    #[error("{0} bytes is more than 128 TiB")]
    TooLarge(u64),
}

impl Capacity {
    /// 64 GiB: an SDXC card.
    pub const DEFAULT: Capacity = Capacity::gibibytes(64);

    const UNIT_BYTES: u64 = 512 << 10;
    /// Above this a card is SDUC, and its CSD is version 3 (5.3.4).
    const SDXC_MAX_BYTES: u64 = 2 << 40;

    /// A capacity of `bytes`.
    ///
    /// # Errors
    /// [`CapacityError`] if no SDHC, SDXC or SDUC card can have it.
    pub fn new(bytes: u64) -> Result<Self, CapacityError> {
        if bytes <= 2 << 30 {
            return Err(CapacityError::TooSmall(bytes));
        }
        if bytes > 128 << 40 {
            return Err(CapacityError::TooLarge(bytes));
        }
        if bytes % Self::UNIT_BYTES != 0 {
            return Err(CapacityError::NotWholeUnits(bytes));
        }
        let units = u32::try_from(bytes / Self::UNIT_BYTES).map_err(|_| CapacityError::TooLarge(bytes))?;
        Ok(Self { units })
    }

    /// A capacity of `gibibytes`, brought into the range that cards have.
    #[must_use]
    pub const fn gibibytes(gibibytes: u16) -> Self {
        let gibibytes = if gibibytes < 4 { 4 } else { gibibytes };
        Self { units: gibibytes as u32 * 2048 }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.units) * Self::UNIT_BYTES
    }

    /// Whether it is above 2 TiB (SDUC), which a host must say it supports (HO2T).
    #[must_use]
    pub fn is_ultra(self) -> bool {
        self.bytes() > Self::SDXC_MAX_BYTES
    }

    /// C_SIZE: units of 512 KiB, less one.
    #[must_use]
    pub(crate) fn c_size_z(self) -> u32 {
        self.units.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_out_of_range_is_refused() {
        assert_eq!(Capacity::new(2 << 30), Err(CapacityError::TooSmall(2 << 30)));
        assert_eq!(Capacity::new((4 << 30) + 1), Err(CapacityError::NotWholeUnits((4 << 30) + 1)));
        assert_eq!(Capacity::new(u64::MAX), Err(CapacityError::TooLarge(u64::MAX)));
        assert_eq!(Capacity::new(128 << 40).map(Capacity::bytes), Ok(128 << 40));
    }

    #[test]
    fn capacity_is_ultra_only_above_two_tebibytes() {
        assert_eq!(Capacity::new(2 << 40).map(Capacity::is_ultra), Ok(false));
        assert_eq!(Capacity::new((2 << 40) + (512 << 10)).map(Capacity::is_ultra), Ok(true));
        assert_eq!(Capacity::gibibytes(64).bytes(), 64 << 30);
    }
}
