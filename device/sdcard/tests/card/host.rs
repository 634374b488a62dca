//! A host that does what it is told, right or wrong.

use std::time::Duration;

use sdmorph_pci::{Bus, CardError, CardResponse, DataError, SdCard};
use sdmorph_sdcard::{Capacity, MemoryCard, Profile, State, status};
use sdmorph_testkit::TestMedia;

pub(crate) const HCS: u32 = 1 << 30;
pub(crate) const HO2T: u32 = 1 << 27;
pub(crate) const S18R: u32 = 1 << 24;
pub(crate) const VDD_33: u32 = 0x0030_0000;

/// What is wrong, in a card status.
pub(crate) const ERRORS: u32 = 0xfdf9_e008;

/// Rows of capacities: SDSC, SDHC, SDXC, SDUC.
pub(crate) const SDSC: u64 = 64 << 20;
pub(crate) const SDHC: u64 = 8 << 30;
pub(crate) const SDXC: u64 = 64 << 30;
pub(crate) const SDUC: u64 = 4 << 40;

pub(crate) struct Host {
    pub(crate) card: MemoryCard,
    pub(crate) media: TestMedia,
    pub(crate) now: Duration,
    pub(crate) bus: Bus,
    /// The card's address, in the upper half.
    pub(crate) rca: u32,
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A block whose bytes tell which one it is.
pub(crate) fn pattern(number: u64) -> Vec<u8> {
    (0..512u64).map(|at| (number.wrapping_mul(37) ^ at ^ (at >> 8)) as u8).collect()
}

pub(crate) fn patterns(first: u64, count: u64) -> Vec<u8> {
    (first..first + count).flat_map(pattern).collect()
}

impl Host {
    pub(crate) fn with(profile: Profile) -> Self {
        let media = TestMedia::new(profile.capacity.blocks());
        Self::on(profile, media)
    }

    pub(crate) fn on(profile: Profile, media: TestMedia) -> Self {
        let card = MemoryCard::new(profile, Box::new(media.clone())).unwrap();
        let bus = Bus { clock: true, ..Bus::INITIAL };
        let mut host = Self { card, media, now: ms(1000), bus, rca: 0 };
        host.set_bus(bus);
        host
    }

    /// A card in the transfer state, at 3.3 V, with 1 bit.
    pub(crate) fn selected(bytes: u64) -> Self {
        let mut host = Self::with(Profile::legacy(7, Capacity::new(bytes).unwrap()));
        host.select();
        host
    }

    pub(crate) fn select(&mut self) {
        self.make_ready(HCS | HO2T | VDD_33);
        self.make_stand_by();
        self.r1(7, self.rca);
    }

    /// CMD0, CMD8, and ACMD41 until the card is ready. Returns the OCR.
    pub(crate) fn make_ready(&mut self, operating_conditions: u32) -> u32 {
        self.cmd(0, 0).unwrap();
        self.short(8, 0x1aa);
        self.rca = 0;
        for _ in 0..10 {
            self.short(55, 0);
            let ocr = self.short(41, operating_conditions);
            if ocr >> 31 != 0 {
                return ocr;
            }
            self.now += ms(10);
        }
        panic!("never ready");
    }

    pub(crate) fn make_stand_by(&mut self) {
        self.cmd(2, 0).unwrap();
        self.rca = self.short(3, 0) & 0xffff_0000;
    }

    /// The sequence of 4.2.4.2, after S18A.
    pub(crate) fn switch_voltage(&mut self) {
        self.short(11, 0);
        self.now += ms(1);
        self.set_bus(Bus { clock: false, ..self.bus });
        self.set_bus(Bus { low_voltage: true, ..self.bus });
        self.now += ms(10);
        self.set_bus(Bus { clock: true, ..self.bus });
        self.now += ms(2);
        assert!(self.card.lines(self.now).cmd);
    }

    /// A card in the transfer state at 1.8 V with 4 bits.
    pub(crate) fn selected_low_voltage(bytes: u64) -> Self {
        let mut host = Self::with(Profile::legacy(7, Capacity::new(bytes).unwrap()));
        assert_ne!(host.make_ready(HCS | HO2T | S18R | VDD_33) & S18R, 0);
        host.switch_voltage();
        host.make_stand_by();
        host.r1(7, host.rca);
        host.widen();
        host
    }

    pub(crate) fn widen(&mut self) {
        self.r1(55, self.rca);
        self.r1(6, 2);
        self.set_bus(Bus { width: 4, ..self.bus });
    }

    pub(crate) fn set_bus(&mut self, bus: Bus) {
        self.bus = bus;
        self.card.set_bus(self.now, bus);
    }

    pub(crate) fn cmd(&mut self, index: u8, argument: u32) -> Result<CardResponse, CardError> {
        self.card.command(self.now, index, argument)
    }

    /// The 32 bits of a short response.
    pub(crate) fn short(&mut self, index: u8, argument: u32) -> u32 {
        match self.cmd(index, argument) {
            Ok(CardResponse::Short([_, a, b, c, d, _])) => u32::from_be_bytes([a, b, c, d]),
            other => panic!("CMD{index} {argument:#x}: {other:?} in {:?}", self.card.state()),
        }
    }

    /// A card status without errors.
    pub(crate) fn r1(&mut self, index: u8, argument: u32) -> u32 {
        let status = self.short(index, argument);
        assert_eq!(status & ERRORS, 0, "CMD{index} {argument:#x}: {status:#x}");
        status
    }

    pub(crate) fn acmd(&mut self, index: u8, argument: u32) -> u32 {
        self.r1(55, self.rca);
        self.r1(index, argument)
    }

    /// CMD13: errors only.
    pub(crate) fn errors(&mut self) -> u32 {
        self.status() & ERRORS
    }

    pub(crate) fn status(&mut self) -> u32 {
        self.short(13, self.rca)
    }

    pub(crate) fn state(&mut self) -> State {
        self.card.lines(self.now);
        self.card.state()
    }

    pub(crate) fn is_illegal(&mut self, index: u8, argument: u32) {
        let before = self.card.state();
        assert_eq!(self.cmd(index, argument), Err(CardError::Timeout), "CMD{index}");
        assert_eq!(self.card.state(), before);
        assert_eq!(self.errors(), status::ILLEGAL_COMMAND, "CMD{index}");
    }

    pub(crate) fn read(&mut self, block_bytes: u16, blocks: u32) -> Result<Vec<u8>, DataError> {
        self.card.read_data(self.now, block_bytes, blocks)
    }

    pub(crate) fn write(&mut self, block_bytes: u16, data: Vec<u8>) -> Result<(), DataError> {
        self.card.write_data(self.now, block_bytes, data)
    }

    pub(crate) fn is_busy(&mut self) -> bool {
        self.card.lines(self.now).busy()
    }

    /// The number of well-written blocks.
    pub(crate) fn written(&mut self) -> u32 {
        self.acmd(22, 0);
        u32::from_be_bytes(self.read(4, 1).unwrap().try_into().unwrap())
    }

    /// CMD6.
    pub(crate) fn switch(&mut self, argument: u32) -> Vec<u8> {
        self.r1(6, argument);
        self.read(64, 1).unwrap()
    }
}
