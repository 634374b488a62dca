//! How much a card holds, and what that makes of it (3.3).

use std::fmt;

/// Bytes of the blocks that all but standard-capacity cards are addressed in (4.3.2).
pub(crate) const BLOCK_BYTES: u16 = 512;

/// The number of 512-byte blocks that a card has, one that its CSD can say.
///
/// - SDSC, up to 2 GiB (5.3.2): up to 4096 units, each of a power of two from 2 KiB to 512 KiB. So a capacity of up to
///   8 MiB is a multiple of 2 KiB, one of up to 16 MiB of 4 KiB, and so on; above 1 GiB it is a multiple of 512 KiB.
/// - SDHC, SDXC and SDUC, up to 128 TiB (5.3.3, 5.3.4): multiples of 512 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity {
    blocks: u64,
}

/// The kinds of cards by capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapacityKind {
    /// SDSC: up to 2 GiB, addressed in bytes, CSD version 1.
    Standard,
    /// SDHC: above 2 GiB, below 32 GiB.
    High,
    /// SDXC: from 32 GiB (C_SIZE from 0xffff) to 2 TiB.
    Extended,
    /// SDUC: above 2 TiB, up to 128 TiB, with addresses of 38 bits and CSD version 3.
    Ultra,
}

/// Why a number of blocks is not a card's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Part of a block.
    #[error("{0} bytes is not a multiple of 512")]
    NotWholeBlocks(u64),
    /// The CSD counts in units.
    #[error(
        "{bytes} bytes is not a capacity that an SD card can have: up to {limit} it is a multiple of {unit}; \
         the nearest ones are {below} and {above} bytes",
        limit = Size(*.limit), unit = Size(*.unit)
    )]
    NotWholeUnits {
        /// What was asked for.
        bytes: u64,
        /// The unit at this size, in bytes.
        unit: u64,
        /// The largest capacity that is counted in such units.
        limit: u64,
        /// The next smaller capacity in bytes.
        below: u64,
        /// The next larger one.
        above: u64,
    },
    /// Nothing to store anything in.
    #[error("{0} bytes is less than the smallest SD card's 2 KiB")]
    TooSmall(u64),
    /// The CSD has no room for more than 128 TiB.
    #[error("{0} bytes is more than the largest SD card's 128 TiB")]
    TooLarge(u64),
}

/// A number of bytes in the largest binary unit that holds it without a fraction.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["TiB", "GiB", "MiB", "KiB"].into_iter().zip([40, 30, 20, 10]);
        match units.into_iter().find(|(_, shift)| self.0 > 0 && self.0 % (1 << shift) == 0) {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Where a standard-capacity card's size stands in its CSD (5.3.2): blocks = (C_SIZE + 1) * 2^(C_SIZE_MULT + 2), of
/// 2^READ_BL_LEN bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StandardSize {
    pub(crate) c_size_z: u32,
    pub(crate) c_size_mult: u32,
    /// Also WRITE_BL_LEN.
    pub(crate) read_bl_len: u32,
}

/// 2 GiB: the largest standard-capacity card.
const STANDARD_MAX_BYTES: u64 = 2 << 30;
/// Above this a card is SDUC.
const EXTENDED_MAX_BYTES: u64 = 2 << 40;
const ULTRA_MAX_BYTES: u64 = 128 << 40;
/// What C_SIZE counts from SDHC on.
const UNIT_BYTES: u64 = 512 << 10;
const SMALLEST_UNIT_BYTES: u64 = 2 << 10;
/// C_SIZE of a standard-capacity card has 12 bits.
const STANDARD_UNITS: u64 = 1 << 12;
/// C_SIZE of the smallest SDXC card, plus one.
const EXTENDED_UNITS: u64 = 0x1_0000;

impl Capacity {
    /// 64 GiB: an SDXC card.
    pub const DEFAULT: Capacity = Capacity::gibibytes(64);

    /// A capacity of `bytes`.
    ///
    /// # Errors
    /// [`CapacityError`] if no card can have it; it says which are the nearest ones.
    pub fn new(bytes: u64) -> Result<Self, CapacityError> {
        if bytes % u64::from(BLOCK_BYTES) != 0 {
            return Err(CapacityError::NotWholeBlocks(bytes));
        }
        if bytes < SMALLEST_UNIT_BYTES {
            return Err(CapacityError::TooSmall(bytes));
        }
        if bytes > ULTRA_MAX_BYTES {
            return Err(CapacityError::TooLarge(bytes));
        }
        let (unit, limit) = unit_of(bytes);
        if bytes % unit != 0 {
            let below = bytes - bytes % unit;
            // The next unit may be larger, but then the limit lies between, and it is a multiple of both.
            return Err(CapacityError::NotWholeUnits { bytes, unit, limit, below, above: below + unit });
        }
        Ok(Self { blocks: bytes / u64::from(BLOCK_BYTES) })
    }

    /// A capacity of so many blocks of 512 bytes: what fits a medium.
    ///
    /// # Errors
    /// [`CapacityError`] if no card can have it; it says which are the nearest ones.
    pub fn of_blocks(blocks: u64) -> Result<Self, CapacityError> {
        let bytes = blocks.checked_mul(u64::from(BLOCK_BYTES)).ok_or(CapacityError::TooLarge(u64::MAX))?;
        Self::new(bytes)
    }

    /// A capacity of `gibibytes`, at least 1.
    #[must_use]
    pub const fn gibibytes(gibibytes: u16) -> Self {
        let gibibytes = if gibibytes == 0 { 1 } else { gibibytes };
        Self { blocks: gibibytes as u64 * (1 << 21) }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.blocks * u64::from(BLOCK_BYTES)
    }

    /// In blocks of 512 bytes.
    #[must_use]
    pub fn blocks(self) -> u64 {
        self.blocks
    }

    /// What kind of card has it.
    #[must_use]
    pub fn kind(self) -> CapacityKind {
        let bytes = self.bytes();
        if bytes <= STANDARD_MAX_BYTES {
            CapacityKind::Standard
        } else if bytes / UNIT_BYTES < EXTENDED_UNITS {
            CapacityKind::High
        } else if bytes <= EXTENDED_MAX_BYTES {
            CapacityKind::Extended
        } else {
            CapacityKind::Ultra
        }
    }

    /// Whether it is above 2 TiB (SDUC), which a host must say it supports (HO2T).
    #[must_use]
    pub fn is_ultra(self) -> bool {
        self.kind() == CapacityKind::Ultra
    }

    /// Whether addresses are in bytes (SDSC).
    #[must_use]
    pub fn is_standard(self) -> bool {
        self.kind() == CapacityKind::Standard
    }

    /// C_SIZE of SDHC, SDXC and SDUC: units of 512 KiB, less one.
    #[must_use]
    pub(crate) fn c_size_z(self) -> u32 {
        u32::try_from((self.bytes() / UNIT_BYTES).saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The fields of a standard-capacity card's CSD.
    #[must_use]
    pub(crate) fn standard_size(self) -> StandardSize {
        let bytes = self.bytes();
        let (unit, _) = unit_of(bytes);
        let c_size_z = u32::try_from((bytes / unit).saturating_sub(1)).unwrap_or(u32::MAX);
        // 2 KiB is 2^(0 + 2) blocks of 2^9; with 2^9 blocks of 2^9, C_SIZE_MULT is at its end, and blocks get longer.
        let exponent = unit.trailing_zeros();
        let read_bl_len = if exponent > 18 { 10 } else { 9 };
        StandardSize { c_size_z, c_size_mult: exponent.saturating_sub(read_bl_len + 2), read_bl_len }
    }
}

/// The unit that a capacity of `bytes` is counted in, and the largest capacity that is.
fn unit_of(bytes: u64) -> (u64, u64) {
    if bytes > STANDARD_MAX_BYTES {
        return (UNIT_BYTES, ULTRA_MAX_BYTES);
    }
    let unit = bytes.div_ceil(STANDARD_UNITS).next_power_of_two().max(SMALLEST_UNIT_BYTES);
    (unit, unit * STANDARD_UNITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_out_of_range_is_refused() {
        assert_eq!(Capacity::new(0), Err(CapacityError::TooSmall(0)));
        assert_eq!(Capacity::new(513), Err(CapacityError::NotWholeBlocks(513)));
        assert_eq!(Capacity::new((128 << 40) + 512), Err(CapacityError::TooLarge((128 << 40) + 512)));
        assert_eq!(Capacity::of_blocks(u64::MAX), Err(CapacityError::TooLarge(u64::MAX)));
        assert_eq!(Capacity::new(128 << 40).map(Capacity::bytes), Ok(128 << 40));
        assert_eq!(Capacity::of_blocks(4).map(Capacity::bytes), Ok(2048));
    }

    #[test]
    fn error_names_the_unit_and_the_nearest_capacities() {
        let error = Capacity::of_blocks((1 << 20) + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "536871424 bytes is not a capacity that an SD card can have: up to 1 GiB it is a multiple of 256 KiB; \
             the nearest ones are 536870912 and 537133056 bytes"
        );
        let CapacityError::NotWholeUnits { below, above, .. } = error else { panic!() };
        assert!(Capacity::new(below).is_ok() && Capacity::new(above).is_ok());
        let error = Capacity::of_blocks((64 << 21) - 1).unwrap_err().to_string();
        assert!(error.contains("up to 128 TiB it is a multiple of 512 KiB"), "{error}");
    }

    #[test]
    fn kind_changes_where_the_specification_says() {
        let kind = |bytes| Capacity::new(bytes).map(Capacity::kind);
        assert_eq!(kind(2 << 30), Ok(CapacityKind::Standard));
        assert_eq!(kind((2 << 30) + (512 << 10)), Ok(CapacityKind::High));
        assert_eq!(kind((32 << 30) - (512 << 10)), Ok(CapacityKind::High));
        assert_eq!(kind(32 << 30), Ok(CapacityKind::Extended));
        assert_eq!(kind(2 << 40), Ok(CapacityKind::Extended));
        assert_eq!(kind((2 << 40) + (512 << 10)), Ok(CapacityKind::Ultra));
    }

    #[test]
    fn standard_size_gives_the_capacity_back() {
        for bytes in [2 << 10, 8 << 20, (8 << 20) + 4096, 64 << 20, 1 << 30, (1 << 30) + (512 << 10), 2 << 30]
        {
            let capacity = Capacity::new(bytes).unwrap();
            let StandardSize { c_size_z, c_size_mult, read_bl_len } = capacity.standard_size();
            assert!(c_size_z < 4096 && c_size_mult < 8 && (9..=10).contains(&read_bl_len), "{bytes}");
            assert_eq!(u64::from(c_size_z + 1) << (c_size_mult + 2 + read_bl_len), bytes);
        }
    }
}
