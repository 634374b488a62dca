//! Whether the two witnesses, the guest's console and the device's record, agree.

use super::Evidenced;
use crate::hashes;

impl Evidenced<'_> {
    /// In what the two sides contradict each other.
    pub(super) fn disagreements(&self) -> Vec<String> {
        let mut found = Vec::new();
        let guest_down = self.log.find("*pciehp: Slot(8): Link Down").is_some();
        let device_down = self.record.event("link-down").is_some();
        if guest_down && !device_down {
            found.push("the guest logged Link Down, and the device recorded none".to_owned());
        }
        // A slot that pciehp has emptied for another reason has no link to lose: at resume it finds that a device is not the
        // one of before (pciehp_device_replaced of newer kernels).
        let guest_emptied = self.log.find("*pciehp: Slot(8): Card not present").is_some();
        if device_down && !guest_down && !guest_emptied && self.cut_short.is_none() {
            found.push("the device's link went down, and the guest did not log it".to_owned());
        }
        let faults = self.log.oopses.iter().filter(|oops| !oops.is_warning());
        let page_offset = faults
            .filter_map(|oops| oops.address.as_deref())
            .next()
            .and_then(|address| u64::from_str_radix(address.get(address.len().checked_sub(3)?..)?, 16).ok());
        let dead =
            |dir: &'static str| self.record.entries.iter().filter_map(move |entry| entry.dead_access(dir));
        if let Some(offset) = page_offset {
            // The BAR is one page, and the driver comes to the same register again and again: the device has seen others of
            // it. Of a device that was never gone, any access of that register; of one that was, one when it was.
            let gone = dead("read").chain(dead("write")).next().is_some();
            if gone && !dead("read").any(|read| read == offset) {
                found.push(format!(
                    "the guest faulted at page offset {offset:#x}, and the device saw no dead read there"
                ));
            }
            if !gone && !self.record.slot_offsets.contains(&offset) {
                found.push(format!(
                    "the guest faulted at page offset {offset:#x}, and the device saw no access there"
                ));
            }
        }
        // In a run that was cut short, what the guest printed last may be older than the image.
        if self.cut_short.is_none() {
            let printed = hashes::printed(self.log).unwrap_or_default();
            found.extend(hashes::differences(self.host_hashes, &printed));
        }
        found
    }
}
