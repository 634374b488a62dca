//! The guest of the measurement through QEMU: some dozens of bytes of machine code, started by multiboot.
//!
//! In assembly, with DEVICE its address for configuration mechanism 1:
//!
//! ```text
//!         mov eax, DEVICE + 0x10      ; BAR 0 = BAR_ADDRESS
//!         mov dx, 0xcf8
//!         out dx, eax
//!         mov eax, BAR_ADDRESS
//!         mov dx, 0xcfc
//!         out dx, eax
//!         mov eax, DEVICE + 0x04      ; command = memory decoding
//!         mov dx, 0xcf8
//!         out dx, eax
//!         mov eax, 2
//!         mov dx, 0xcfc
//!         out dx, eax
//!         mov ebx, BAR_ADDRESS
//!         mov ecx, READS
//! again:  mov eax, [ebx]
//!         dec ecx
//!         jnz again
//!         mov [ebx + 8], ecx          ; done
//! halt:   hlt
//!         jmp halt
//! ```
//!
//! Multiboot enters it in 32-bit protected mode with flat segments and interrupts off, which is all it needs.

use crate::device::DONE_REGISTER;

/// Slot on bus 0 that the device has to be in.
pub(crate) const SLOT: u32 = 5;

/// Where BAR 0 is put: in the hole of q35 below the I/O APIC, where the firmware puts little.
const BAR_ADDRESS: u32 = 0xe000_0000;

/// Where the image is loaded, and its header's length.
const LOAD_ADDRESS: u32 = 0x0010_0000;
const HEADER_BYTES: u32 = 32;
/// Multiboot 0.6.96: magic, and the flag that says that the addresses are in the header.
const MAGIC: u32 = 0x1bad_b002;
const ADDRESSES_ARE_HERE: u32 = 1 << 16;

/// Configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_ENABLE: u32 = 1 << 31;
const COMMAND: u32 = 0x04;
const COMMAND_MEMORY: u32 = 1 << 1;
const BASE_ADDRESS_0: u32 = 0x10;

/// Machine code that is being written.
#[derive(Debug, Default)]
struct Code(Vec<u8>);

impl Code {
    fn mov_eax(&mut self, value: u32) {
        self.0.push(0xb8);
        self.0.extend(value.to_le_bytes());
    }

    fn mov_ecx(&mut self, value: u32) {
        self.0.push(0xb9);
        self.0.extend(value.to_le_bytes());
    }

    fn mov_ebx(&mut self, value: u32) {
        self.0.push(0xbb);
        self.0.extend(value.to_le_bytes());
    }

    fn mov_dx(&mut self, value: u16) {
        self.0.extend([0x66, 0xba]);
        self.0.extend(value.to_le_bytes());
    }

    fn out_dx_eax(&mut self) {
        self.0.push(0xef);
    }

    /// `mov eax, [ebx]`, `dec ecx`, `jnz` back to the first of them.
    fn read_ebx_ecx_times(&mut self) {
        self.0.extend([0x8b, 0x03, 0x49, 0x75, 0xfb]);
    }

    /// `mov [ebx + offset], ecx`
    fn store_ecx(&mut self, offset: u8) {
        self.0.extend([0x89, 0x4b, offset]);
    }

    /// `hlt`, `jmp` to it.
    fn halt(&mut self) {
        self.0.extend([0xf4, 0xeb, 0xfd]);
    }

    fn config_write(&mut self, register: u32, value: u32) {
        self.mov_eax(CONFIG_ENABLE | SLOT << 11 | register);
        self.mov_dx(CONFIG_ADDRESS);
        self.out_dx_eax();
        self.mov_eax(value);
        self.mov_dx(CONFIG_DATA);
        self.out_dx_eax();
    }
}

/// The image, as QEMU's `-kernel` takes it: reads 4 bytes of BAR 0 `reads` times, and then says that it is done.
pub(crate) fn image(reads: u32) -> Vec<u8> {
    let header = [
        MAGIC,
        ADDRESSES_ARE_HERE,
        // Header, flags and this make 0.
        0u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES_ARE_HERE),
        LOAD_ADDRESS,
        LOAD_ADDRESS,
        // The whole file, and nothing behind it.
        0,
        0,
        LOAD_ADDRESS + HEADER_BYTES,
    ];
    let mut code = Code(header.into_iter().flat_map(u32::to_le_bytes).collect());
    code.config_write(BASE_ADDRESS_0, BAR_ADDRESS);
    code.config_write(COMMAND, COMMAND_MEMORY);
    code.mov_ebx(BAR_ADDRESS);
    code.mov_ecx(reads);
    code.read_ebx_ecx_times();
    code.store_ecx(DONE_REGISTER as u8);
    code.halt();
    code.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_a_multiboot_header_and_the_entry_is_behind_it() {
        let image = image(1000);
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        assert_eq!(word(0).wrapping_add(word(4)).wrapping_add(word(8)), 0);
        assert_eq!(word(28) - word(16), HEADER_BYTES);
        // mov eax, 0x80002810: function 0 of device 5, register 0x10.
        assert_eq!(image[32..37], [0xb8, 0x10, 0x28, 0x00, 0x80]);
        assert!(image.ends_with(&[0x89, 0x4b, 0x08, 0xf4, 0xeb, 0xfd]));
    }
}
