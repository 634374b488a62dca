//! The protocol's numbers and bodies, spelt out once more from the specification: what the crate has is what is tested.

pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const GET_REGION_INFO: u16 = 5;
pub(crate) const GET_REGION_IO_FDS: u16 = 6;
pub(crate) const GET_IRQ_INFO: u16 = 7;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const DMA_WRITE: u16 = 12;
pub(crate) const RESET: u16 = 13;
pub(crate) const REGION_WRITE_MULTI: u16 = 15;
pub(crate) const FEATURE: u16 = 16;
pub(crate) const MIG_DATA_READ: u16 = 17;
pub(crate) const MIG_DATA_WRITE: u16 = 18;

pub(crate) const COMMAND: u32 = 0;
pub(crate) const REPLY: u32 = 1;
pub(crate) const NO_REPLY: u32 = 0x10;
pub(crate) const ERROR: u32 = 0x20;

pub(crate) const ENOENT: u32 = 2;
pub(crate) const E2BIG: u32 = 7;
pub(crate) const EACCES: u32 = 13;
pub(crate) const EFAULT: u32 = 14;
pub(crate) const EEXIST: u32 = 17;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const EPROTO: u32 = 71;
pub(crate) const EMSGSIZE: u32 = 90;
pub(crate) const EOPNOTSUPP: u32 = 95;

pub(crate) const NONE: u32 = 1;
pub(crate) const BOOL: u32 = 2;
pub(crate) const EVENTFD: u32 = 4;
pub(crate) const MASK: u32 = 8;
pub(crate) const UNMASK: u32 = 0x10;
pub(crate) const TRIGGER: u32 = 0x20;

/// What QEMU proposes; with the header and the two numbers 214 bytes.
pub(crate) const QEMU_JSON: &[u8] = b"{\"capabilities\": {\"max_msg_fds\": 16, \"max_data_xfer_size\": 1048576, \"max_dma_maps\": 65535, \
\"migration\": {\"max_bitmap_size\": 268435456, \"pgsize\": 4096}, \"pgsizes\": 4096, \"write_multiple\": true}}\0";

/// Numbers one after the other.
pub(crate) fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

pub(crate) fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

pub(crate) fn message(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    sized(id, command, 16 + u32::try_from(body.len()).unwrap(), flags, body)
}

/// A message whose header claims `size` bytes, whatever it has.
pub(crate) fn sized(id: u16, command: u16, size: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    [&id.to_ne_bytes()[..], &command.to_ne_bytes(), &u32s(&[size, flags, 0]), body].concat()
}

pub(crate) fn version(major: u16, minor: u16, json: &[u8]) -> Vec<u8> {
    [&major.to_ne_bytes()[..], &minor.to_ne_bytes(), json].concat()
}

/// Read and write: flags 3.
pub(crate) fn dma_map(flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    [u32s(&[32, flags]), u64s(&[offset, address, size])].concat()
}

pub(crate) fn dma_unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    [u32s(&[24, flags]), u64s(&[address, size])].concat()
}

pub(crate) fn region_info(argsz: u32, index: u32) -> Vec<u8> {
    u32s(&[argsz, 0, index, 0, 0, 0, 0, 0])
}

pub(crate) fn access(offset: u64, region: u32, count: u32) -> Vec<u8> {
    [u64s(&[offset]), u32s(&[region, count])].concat()
}

pub(crate) fn write(offset: u64, region: u32, data: &[u8]) -> Vec<u8> {
    [access(offset, region, u32::try_from(data.len()).unwrap()), data.to_vec()].concat()
}

pub(crate) fn set_irqs(flags: u32, index: u32, start: u32, count: u32, data: &[u8]) -> Vec<u8> {
    let argsz = 20 + u32::try_from(data.len()).unwrap();
    [u32s(&[argsz, flags, index, start, count]), data.to_vec()].concat()
}

/// One write of REGION_WRITE_MULTI.
pub(crate) fn multi(offset: u64, region: u32, data: &[u8]) -> Vec<u8> {
    let mut field = data.to_vec();
    field.resize(8, 0);
    [access(offset, region, u32::try_from(data.len()).unwrap()), field].concat()
}
