//! Format NVM (5.23): all blocks are deallocated, and blocks may get the other size.

use sdmorph_pci::{MediaError, MediaRequest, MediaResult};

use crate::Nvme;
use crate::command::{BROADCAST, Command};
use crate::events::AsyncEvent;
use crate::in_flight::Step;
use crate::io::Work;
use crate::medium::status_of;
use crate::namespace::{FORMATS, NAMESPACE};
use crate::status::Status;

impl Nvme {
    pub(super) fn format(&mut self, command: &Command) -> Result<Step, Status> {
        if !matches!(command.namespace, NAMESPACE | BROADCAST) {
            return Err(Status::INVALID_NAMESPACE);
        }
        let options = command.dword(10);
        let format = (options & 0xf) as u8;
        let with_protection = options >> 5 & 7 != 0;
        let with_metadata = options >> 4 & 1 != 0;
        if usize::from(format) >= FORMATS.len() || with_protection || with_metadata {
            return Err(Status::INVALID_FORMAT);
        }
        // SES: none and user data are the same here; there is no cryptographic erase (FNA).
        if options >> 9 & 7 > 1 {
            return Err(Status::INVALID_FIELD);
        }
        if self.medium.is_read_only() {
            return Err(Status::WRITE_PROTECTED);
        }
        if self.namespace.is_being_formatted {
            return Err(Status::FORMAT_IN_PROGRESS);
        }
        self.namespace.is_being_formatted = true;
        let request = MediaRequest::Discard { first: 0, count: self.namespace.media_blocks() };
        Ok(Step::Asks(request, Work::FormatDiscard { format }))
    }

    /// The medium has done its part, or has not.
    pub(crate) fn formatted(&mut self, format: u8, result: MediaResult) -> Result<Step, Status> {
        self.namespace.is_being_formatted = false;
        result.map_err(|error: MediaError| status_of(error, Status::INTERNAL_ERROR))?;
        if format != self.namespace.format() {
            self.namespace.set_format(format);
            self.changed_namespace = true;
            if self.features.notices_namespace_attributes() {
                self.events.report(AsyncEvent::NamespaceAttribute);
            }
        }
        Ok(Step::Ended(Ok(0)))
    }
}
