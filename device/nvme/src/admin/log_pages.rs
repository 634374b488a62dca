//! Get Log Page (5.14).

use sdmorph_pci::Ctx;

use crate::Nvme;
use crate::bytes::put;
use crate::command::{BROADCAST, Command, Ended};
use crate::io::MDTS;
use crate::namespace::NAMESPACE;
use crate::opcode::{admin, io};
use crate::smart::Smart;
use crate::status::Status;

/// Log page identifiers.
mod page {
    pub(super) const ERRORS: u8 = 0x01;
    pub(super) const SMART: u8 = 0x02;
    pub(super) const FIRMWARE_SLOT: u8 = 0x03;
    pub(super) const CHANGED_NAMESPACES: u8 = 0x04;
    pub(super) const COMMANDS: u8 = 0x05;
}

/// Retain asynchronous event, in dword 10.
const RETAIN_EVENT: u32 = 1 << 15;

impl Nvme {
    pub(super) fn get_log_page(&mut self, ctx: &mut Ctx<'_>, command: &Command) -> Ended {
        let [identifier, ..] = command.dword(10).to_le_bytes();
        let dwords = u64::from(command.dword(10) >> 16) | u64::from(command.dword(11) & 0xffff) << 16;
        let wanted = (dwords + 1) * 4;
        let offset = u64::from(command.dword(12)) | u64::from(command.dword(13)) << 32;
        let data = match identifier {
            page::ERRORS => self.errors.page(),
            page::SMART if matches!(command.namespace, 0 | NAMESPACE | BROADCAST) => {
                let warning = self.critical_warning();
                self.smart.page(ctx.now(), warning, self.errors.count())
            }
            page::SMART => return Err(Status::INVALID_NAMESPACE),
            page::FIRMWARE_SLOT => self.firmware_slots(),
            page::CHANGED_NAMESPACES => self.changed_namespaces(),
            page::COMMANDS => commands(),
            _ => return Err(Status::INVALID_LOG_PAGE),
        };
        if offset & 3 != 0 || offset > data.len() as u64 || wanted > 4096 << MDTS {
            return Err(Status::INVALID_FIELD);
        }
        // What is wanted beyond the end of the page is zeros.
        let mut rest = data.get(offset as usize..).unwrap_or_default().to_vec();
        rest.resize(wanted as usize, 0);
        self.give(ctx, command, &rest)?;
        if command.dword(10) & RETAIN_EVENT == 0 {
            self.events.log_page_read(identifier);
            if identifier == page::CHANGED_NAMESPACES {
                self.changed_namespace = false;
            }
        }
        Ok(0)
    }

    /// The critical warning of the SMART log, for the thresholds that are set.
    pub(crate) fn critical_warning(&self) -> u8 {
        Smart::critical_warning(self.features.over_temperature, self.features.under_temperature)
    }

    /// Figure 197: one slot, and what is in it is active.
    fn firmware_slots(&self) -> Vec<u8> {
        let mut data = vec![0; 512];
        put(&mut data, 0, &[1]);
        put(&mut data, 8, &self.identity.firmware);
        data
    }

    fn changed_namespaces(&self) -> Vec<u8> {
        let mut data = vec![0; 4096];
        if self.changed_namespace {
            put(&mut data, 0, &NAMESPACE.to_le_bytes());
        }
        data
    }
}

/// Commands supported and effects (figure 198): a dword for each admin opcode, then one for each I/O opcode.
fn commands() -> Vec<u8> {
    let mut data = vec![0; 4096];
    for (first, table) in [(0, admin::TABLE), (1024, io::TABLE)] {
        for row in table {
            put(&mut data, first + 4 * usize::from(row.opcode), &row.effects.to_le_bytes());
        }
    }
    data
}
