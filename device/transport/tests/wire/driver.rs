//! What `vmd`, the PCI core and `rtsx_pci` do before the reader can be used, over the wire.

use vfio_user::Client;

/// Regions by their VFIO index.
pub(crate) const ECAM: u32 = 0;
pub(crate) const WINDOW: u32 = 2;
pub(crate) const MSIX_BAR: u32 = 4;
pub(crate) const CONFIG: u32 = 7;
/// VFIO's index of the MSI-X interrupts.
pub(crate) const MSIX: u32 = 2;

/// Config space of the domain's functions, as offsets in the ECAM window.
pub(crate) const PORT: u64 = 0x1c << 15;
pub(crate) const READER: u64 = 1 << 20;

/// Where the window and the reader's BAR in it are, in guest physical addresses.
pub(crate) const WINDOW_AT: u32 = 0xe000_0000;
/// The vector that the reader's message is remapped to, and the port's.
pub(crate) const READER_VECTOR: u16 = 3;
pub(crate) const PORT_VECTOR: u16 = 5;

/// Config space registers (PCIe 7.5.1) and the capabilities' offsets.
pub(crate) const COMMAND: u64 = 0x04;
pub(crate) const BAR0: u64 = 0x10;
const MEMORY_AND_MASTER: u16 = 0x6;
const VMD_MSIX_FLAGS: u64 = 0x82;
const MSIX_ENABLE: u16 = 1 << 15;

pub(crate) mod reader {
    pub(crate) const HCBAR: u64 = 0x00;
    pub(crate) const HCBCTLR: u64 = 0x04;
    pub(crate) const BIPR: u64 = 0x14;
    pub(crate) const BIER: u64 = 0x18;
    pub(crate) const DUM_REG: u64 = 0x1c;

    pub(crate) const TRANS_OK: u32 = 1 << 29;
    pub(crate) const TRANS_FAIL: u32 = 1 << 28;
    pub(crate) const SD_INT: u32 = 1 << 25;
    pub(crate) const SD_EXIST: u32 = 1 << 16;
}

pub(crate) trait Access {
    fn get(&mut self, region: u32, offset: u64, data: &mut [u8]);
    fn put(&mut self, region: u32, offset: u64, data: &[u8]);

    fn get8(&mut self, region: u32, offset: u64) -> u8 {
        let mut data = [0];
        self.get(region, offset, &mut data);
        data[0]
    }

    fn get16(&mut self, region: u32, offset: u64) -> u16 {
        let mut data = [0; 2];
        self.get(region, offset, &mut data);
        u16::from_le_bytes(data)
    }

    fn get32(&mut self, region: u32, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.get(region, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn put16(&mut self, region: u32, offset: u64, value: u16) {
        self.put(region, offset, &value.to_le_bytes());
    }

    fn put32(&mut self, region: u32, offset: u64, value: u32) {
        self.put(region, offset, &value.to_le_bytes());
    }

    /// The capability `id` of the function whose configuration space is at `function` in `region`.
    fn capability(&mut self, region: u32, function: u64, id: u8) -> u64 {
        let mut at = self.get8(region, function + 0x34);
        while at != 0 {
            if self.get8(region, function + u64::from(at)) == id {
                return function + u64::from(at);
            }
            at = self.get8(region, function + u64::from(at) + 1);
        }
        panic!("no capability {id:#x}");
    }

    /// The message of the MSI capability of `function` becomes VMD's vector `vector`.
    fn enable_msi(&mut self, function: u64, vector: u16) {
        let msi = self.capability(ECAM, function, 0x05);
        self.put32(ECAM, msi + 0x4, 0xfee0_0000 | u32::from(vector) << 12);
        self.put32(ECAM, msi + 0x8, 0);
        self.put16(ECAM, msi + 0xc, 0);
        self.put16(ECAM, msi + 0x2, 1);
    }

    /// VMD, the port and the reader are found, given addresses, and turned on; the reader's and the port's
    /// interrupts have vectors.
    fn bring_up(&mut self) {
        self.put32(CONFIG, 0x18, WINDOW_AT);
        self.put16(CONFIG, COMMAND, MEMORY_AND_MASTER);
        self.put16(CONFIG, VMD_MSIX_FLAGS, MSIX_ENABLE);
        // Primary 0, secondary and subordinate 1; one megabyte of memory behind the port.
        self.put32(ECAM, PORT + 0x18, 0x0001_0100);
        self.put32(ECAM, PORT + 0x20, WINDOW_AT | WINDOW_AT >> 16);
        self.put16(ECAM, PORT + COMMAND, MEMORY_AND_MASTER);
        self.put32(ECAM, READER + BAR0, WINDOW_AT);
        self.put16(ECAM, READER + COMMAND, MEMORY_AND_MASTER);
        self.enable_msi(PORT, PORT_VECTOR);
        self.enable_msi(READER, READER_VECTOR);
        assert_eq!(self.get32(WINDOW, reader::DUM_REG), 0, "the reader does not answer");
    }
}

impl Access for Client {
    fn get(&mut self, region: u32, offset: u64, data: &mut [u8]) {
        self.region_read(region, offset, data).unwrap();
    }

    fn put(&mut self, region: u32, offset: u64, data: &[u8]) {
        self.region_write(region, offset, data).unwrap();
    }
}

impl Access for crate::raw::RawClient {
    fn get(&mut self, region: u32, offset: u64, data: &mut [u8]) {
        let reply = self.read(region, offset, u32::try_from(data.len()).unwrap());
        assert!(!reply.is_error());
        data.copy_from_slice(&reply.body[16..]);
    }

    fn put(&mut self, region: u32, offset: u64, data: &[u8]) {
        assert!(!self.write(region, offset, data).is_error());
    }
}
