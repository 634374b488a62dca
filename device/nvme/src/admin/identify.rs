//! Identify (5.15).

use sdmorph_pci::Ctx;
use sdmorph_pci::media::BLOCK_BYTES;

use crate::Nvme;
use crate::admin::features::ARBITRATION_BURST;
use crate::bytes::put;
use crate::command::{BROADCAST, COMMAND_BYTES_LOG2, COMPLETION_BYTES_LOG2, Command, Ended};
use crate::error_log::ENTRIES;
use crate::events::MAX_REQUESTS;
use crate::io::MDTS;
use crate::namespace::{FORMATS, NAMESPACE};
use crate::power;
use crate::registers::VERSION;
use crate::smart::{CRITICAL_TEMPERATURE, WARNING_TEMPERATURE};
use crate::status::Status;

/// Bytes of every data structure.
const BYTES: usize = 4096;

/// Controller or namespace structure (CNS).
mod cns {
    pub(super) const NAMESPACE: u8 = 0x00;
    pub(super) const CONTROLLER: u8 = 0x01;
    pub(super) const ACTIVE_NAMESPACES: u8 = 0x02;
    pub(super) const DESCRIPTORS: u8 = 0x03;
    /// Of version 2.0, as the next. nvme-cli and Linux ask them of every controller, and a refusal would be an entry in the
    /// error log.
    pub(super) const COMMAND_SET_NAMESPACE: u8 = 0x05;
    pub(super) const COMMAND_SET_CONTROLLER: u8 = 0x06;
}

/// The NVM command set (CSI, of version 2.0).
const NVM_COMMAND_SET: u8 = 0;

impl Nvme {
    pub(super) fn identify(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Ended {
        let namespace = command.namespace;
        let [.., command_set] = command.dword(11).to_le_bytes();
        let data = match (command.dword(10) & 0xff) as u8 {
            // What all namespaces have in common is told by controllers with namespace management only (5.15.2.1).
            cns::NAMESPACE if namespace == NAMESPACE => self.identify_namespace(),
            cns::DESCRIPTORS if namespace == NAMESPACE => self.identify_descriptors(),
            cns::COMMAND_SET_NAMESPACE | cns::COMMAND_SET_CONTROLLER if command_set != NVM_COMMAND_SET => {
                return Err(Status::INVALID_FIELD);
            }
            // Protection information, which there is none of.
            cns::COMMAND_SET_NAMESPACE if namespace == NAMESPACE => vec![0; BYTES],
            // Limits beside MDTS, of which there are none.
            cns::COMMAND_SET_CONTROLLER => vec![0; BYTES],
            cns::NAMESPACE | cns::DESCRIPTORS | cns::COMMAND_SET_NAMESPACE => {
                return Err(Status::INVALID_NAMESPACE);
            }
            cns::CONTROLLER => self.identify_controller(),
            // The list is of those greater than NSID, which leaves nothing to be greater if it is one of the last two.
            cns::ACTIVE_NAMESPACES if namespace >= BROADCAST - 1 => return Err(Status::INVALID_NAMESPACE),
            cns::ACTIVE_NAMESPACES => {
                let mut data = vec![0; BYTES];
                if namespace < NAMESPACE {
                    put(&mut data, 0, &NAMESPACE.to_le_bytes());
                }
                data
            }
            _ => return Err(Status::INVALID_FIELD),
        };
        self.give(ctx, command, &data)
    }

    /// Figure 251.
    fn identify_controller(&self) -> Vec<u8> {
        /// OACS: Format NVM, Doorbell Buffer Config.
        const OPTIONAL_ADMIN: u16 = 1 << 1 | 1 << 8;
        /// ONCS: Compare, Dataset Management, Write Zeroes, Save and Select, Timestamp, Verify.
        const OPTIONAL_IO: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7;
        /// OAES: namespace attribute notices.
        const OPTIONAL_EVENTS: u32 = 1 << 8;
        /// LPA: SMART by namespace, commands supported and effects, extended data for Get Log Page.
        const LOG_PAGES: u8 = 0b111;
        /// FRMW: one slot, which cannot be written.
        const FIRMWARE: u8 = 1 | 1 << 1;
        /// FNA: a format is for the namespace that it names. With one namespace that is as true as that it is for all of
        /// them, but nvme-cli (2.4) then asks for all, and looks for the size of the new blocks where it has read none.
        const FORMAT_ATTRIBUTES: u8 = 0;
        /// VWC: there is one, and Flush may be for all namespaces.
        const WRITE_CACHE: u8 = 1 | 0b11 << 1;
        /// SGLS: at any alignment; bit buckets; lists longer than the data.
        const SGL_SUPPORT: u32 = 1 | 1 << 16 | 1 << 18;
        /// CNTRLTYPE: an I/O controller.
        const IO_CONTROLLER: u8 = 1;

        let mut data = vec![0; BYTES];
        let id = &self.identity;
        let (subsystem_vendor, _) = id.pci.subsystem;
        let [i0, i1, i2] = id.ieee;
        put(&mut data, 0, &id.pci.vendor.to_le_bytes());
        put(&mut data, 2, &subsystem_vendor.to_le_bytes());
        put(&mut data, 4, &id.serial);
        put(&mut data, 24, &id.model);
        put(&mut data, 64, &id.firmware);
        put(&mut data, 72, &[ARBITRATION_BURST as u8]);
        // The OUI's least significant byte first.
        put(&mut data, 73, &[i2, i1, i0]);
        put(&mut data, 77, &[MDTS]);
        put(&mut data, 80, &VERSION.to_le_bytes());
        put(&mut data, 92, &OPTIONAL_EVENTS.to_le_bytes());
        put(&mut data, 111, &[IO_CONTROLLER]);
        put(&mut data, 256, &OPTIONAL_ADMIN.to_le_bytes());
        // ACL: four at a time, though each ends at once; AERL.
        put(&mut data, 258, &[3, MAX_REQUESTS as u8 - 1, FIRMWARE, LOG_PAGES, ENTRIES as u8 - 1]);
        put(&mut data, 263, &[power::STATES.len() as u8 - 1]);
        // APSTA.
        put(&mut data, 265, &[1]);
        put(&mut data, 266, &WARNING_TEMPERATURE.to_le_bytes());
        put(&mut data, 268, &CRITICAL_TEMPERATURE.to_le_bytes());
        let bytes = u128::from(self.namespace.media_blocks()) * BLOCK_BYTES as u128;
        put(&mut data, 280, &bytes.to_le_bytes());
        // Required and most entry sizes are the same.
        let entry = |log2: u32| (log2 << 4 | log2) as u8;
        put(&mut data, 512, &[entry(COMMAND_BYTES_LOG2), entry(COMPLETION_BYTES_LOG2)]);
        // NN.
        put(&mut data, 516, &1u32.to_le_bytes());
        put(&mut data, 520, &OPTIONAL_IO.to_le_bytes());
        put(&mut data, 524, &[FORMAT_ATTRIBUTES, WRITE_CACHE]);
        put(&mut data, 536, &SGL_SUPPORT.to_le_bytes());
        put(&mut data, 768, id.subnqn.as_bytes());
        for (at, state) in (2048..).step_by(32).zip(power::STATES) {
            put(&mut data, at, &state.descriptor());
        }
        data
    }

    /// Figure 247.
    fn identify_namespace(&self) -> Vec<u8> {
        /// DLFEAT: deallocated blocks read as zeros, and Write Zeroes may deallocate.
        const DEALLOCATED_BLOCKS: u8 = 0b001 | 1 << 3;
        /// NSATTR: write protected.
        const WRITE_PROTECTED: u8 = 1;

        let mut data = vec![0; BYTES];
        let blocks = self.namespace.blocks().to_le_bytes();
        // NSZE, NCAP, NUSE.
        for at in [0, 8, 16] {
            put(&mut data, at, &blocks);
        }
        // NSFEAT, NLBAF, FLBAS.
        put(&mut data, 24, &[0, FORMATS.len() as u8 - 1, self.namespace.format()]);
        put(&mut data, 33, &[DEALLOCATED_BLOCKS]);
        if self.medium.is_read_only() {
            put(&mut data, 99, &[WRITE_PROTECTED]);
        }
        put(&mut data, 120, &self.identity.eui64);
        for (at, format) in (128..).step_by(4).zip(FORMATS) {
            put(&mut data, at, &[0, 0, format.block_bytes_log2, format.performance]);
        }
        data
    }

    /// Namespace identification descriptors (figure 249).
    fn identify_descriptors(&self) -> Vec<u8> {
        const EUI64: u8 = 1;
        let mut data = vec![0; BYTES];
        put(&mut data, 0, &[EUI64, 8]);
        put(&mut data, 4, &self.identity.eui64);
        data
    }
}
