//! What kind of card it is: everything that its registers say and that its maker chose.

use crate::capacity::{Capacity, CapacityKind};

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
    /// The version of the Physical Layer Specification that it follows.
    pub version: Version,
    /// Its UHS-I modes, if it has 1.8 V signalling. A standard-capacity card has not, whatever stands here.
    pub uhs: Option<Uhs>,
    /// How fast it says it is.
    pub speed: Speed,
    /// How it is erased.
    pub erase: Erase,
}

/// The PCIe interface of an SD Express card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Express {
    /// Whether it can also run its PCIe interface from 1.2 V (VDD3).
    pub supports_1v2: bool,
}

/// Versions of the Physical Layer Specification, as the SCR tells them (5.6, Table 5-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 2.00: SDHC.
    V2,
    /// 3.0x: SDXC, UHS-I.
    V3,
    /// 4.xx.
    V4,
    /// 5.xx: video speed class, discard.
    V5,
    /// 6.xx: application performance class 2.
    V6,
    /// 7.xx: SDUC, SD Express.
    V7,
    /// 8.xx.
    V8,
    /// 9.xx.
    V9,
}

/// UHS-I bus speed modes (3.9.1). SDR12 and SDR25 come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uhs {
    /// SDR50: 50 MB/s at 100 MHz.
    pub sdr50: bool,
    /// SDR104: 104 MB/s at 208 MHz.
    pub sdr104: bool,
    /// DDR50: 50 MB/s at 50 MHz, both edges.
    pub ddr50: bool,
}

/// Speed classes and what goes with them, as the SD Status tells them (4.10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Speed class.
    pub class: SpeedClass,
    /// UHS speed grade.
    pub grade: UhsGrade,
    /// Video speed class: MB/s, one of 0, 6, 10, 30, 60, 90.
    pub video: u8,
    /// Application performance class: 0 (none), 1 or 2.
    pub application: u8,
    /// Allocation unit.
    pub unit: AllocationUnit,
    /// PERFORMANCE_MOVE in MB/s; 0 means sequential write, 255 infinity.
    pub moving: u8,
}

/// SPEED_CLASS (4.10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpeedClass {
    /// None.
    Class0 = 0,
    /// 2 MB/s.
    Class2 = 1,
    /// 4 MB/s.
    Class4 = 2,
    /// 6 MB/s.
    Class6 = 3,
    /// 10 MB/s.
    Class10 = 4,
}

/// UHS_SPEED_GRADE (4.10.2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UhsGrade {
    /// Below 10 MB/s.
    None = 0,
    /// 10 MB/s.
    U1 = 1,
    /// 30 MB/s.
    U3 = 3,
}

/// AU_SIZE (4.10.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AllocationUnit {
    /// 64 KiB.
    Kib64 = 3,
    /// 256 KiB.
    Kib256 = 5,
    /// 512 KiB.
    Kib512 = 6,
    /// 1 MiB.
    Mib1 = 7,
    /// 2 MiB.
    Mib2 = 8,
    /// 4 MiB: the largest of SDSC and SDHC cards.
    Mib4 = 9,
    /// 8 MiB.
    Mib8 = 10,
    /// 12 MiB.
    Mib12 = 11,
    /// 16 MiB.
    Mib16 = 12,
    /// 24 MiB.
    Mib24 = 13,
    /// 32 MiB.
    Mib32 = 14,
    /// 64 MiB.
    Mib64 = 15,
}

impl AllocationUnit {
    /// In MiB, rounded down.
    #[must_use]
    pub(crate) fn mebibytes(self) -> u8 {
        match self {
            Self::Kib64 | Self::Kib256 | Self::Kib512 => 0,
            Self::Mib1 => 1,
            Self::Mib2 => 2,
            Self::Mib4 => 4,
            Self::Mib8 => 8,
            Self::Mib12 => 12,
            Self::Mib16 => 16,
            Self::Mib24 => 24,
            Self::Mib32 => 32,
            Self::Mib64 => 64,
        }
    }
}

/// What the SD Status says about CMD38 (4.10.2.6, 4.10.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erase {
    /// ERASE_SIZE: how many allocation units are erased in `timeout_s`; 0 says nothing.
    pub units: u16,
    /// ERASE_TIMEOUT in seconds, up to 63.
    pub timeout_s: u8,
    /// ERASE_OFFSET in seconds, up to 3.
    pub offset_s: u8,
    /// CMD38 can discard (DISCARD_SUPPORT).
    pub discard: bool,
    /// CMD38 can erase the whole user area logically (FULE_SUPPORT).
    pub full: bool,
}

impl Profile {
    /// An SD Express card.
    #[must_use]
    pub fn express(serial: u32, capacity: Capacity) -> Self {
        let legacy = Self::legacy(serial, capacity);
        let version = legacy.version.max(Version::V7);
        Self { express: Some(Express { supports_1v2: true }), version, ..legacy }
    }

    /// A card without PCIe, as such a card of its capacity is usually made.
    #[must_use]
    pub fn legacy(serial: u32, capacity: Capacity) -> Self {
        let kind = capacity.kind();
        let (version, unit) = match kind {
            CapacityKind::Standard => (Version::V3, AllocationUnit::Kib64),
            CapacityKind::High => (Version::V6, AllocationUnit::Mib4),
            CapacityKind::Extended => (Version::V6, AllocationUnit::Mib16),
            CapacityKind::Ultra => (Version::V7, AllocationUnit::Mib64),
        };
        let fast = kind != CapacityKind::Standard;
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
            version,
            uhs: fast.then_some(Uhs { sdr50: true, sdr104: true, ddr50: true }),
            speed: Speed {
                class: if fast { SpeedClass::Class10 } else { SpeedClass::Class4 },
                grade: if fast { UhsGrade::U3 } else { UhsGrade::None },
                video: if fast { 30 } else { 0 },
                application: if fast { 1 } else { 0 },
                unit,
                moving: 0,
            },
            erase: Erase {
                units: if fast { 16 } else { 0 },
                timeout_s: if fast { 2 } else { 0 },
                offset_s: if fast { 1 } else { 0 },
                discard: fast,
                full: fast,
            },
        }
    }

    /// The UHS-I modes that the card has, in fact.
    #[must_use]
    pub(crate) fn uhs(&self) -> Option<Uhs> {
        self.uhs.filter(|_| !self.capacity.is_standard())
    }

    /// CMD23 (SCR bit 33). A card with SDR104 must have it.
    #[must_use]
    pub(crate) fn has_block_count(&self) -> bool {
        self.version >= Version::V3
    }

    /// CMD20 (SCR bit 32). SDXC and SDUC must have it.
    #[must_use]
    pub(crate) fn has_speed_class_control(&self) -> bool {
        self.capacity.kind() >= CapacityKind::Extended
    }
}
