//! Who is in slot 8: a reader, and the drive that its card becomes.

use sdmorph_nvme::Nvme;
use sdmorph_pci::{ConfigSpace, Ctx, PciFunction, ResetKind, seam};
use sdmorph_rtsx::Rtsx;
use serde_json::{Value, json};

/// The reader and the drive. One of them is at the link and is the function in the slot; the other is not reachable.
///
/// The reader keeps its card while the drive is at the link. The drive of a card that was taken out stays, without its
/// medium, until the next one takes its place: a driver's mapping still means it.
#[derive(Debug)]
pub(crate) struct Occupant {
    reader: Rtsx,
    drive: Option<Nvme>,
    /// Whether the drive, if there is one, is at the link.
    is_drive: bool,
}

impl Occupant {
    /// A reader at the link.
    pub(crate) fn new(reader: Rtsx) -> Self {
        Self { reader, drive: None, is_drive: false }
    }

    /// Puts `drive` at the link, in the reader's place.
    pub(crate) fn put_drive(&mut self, drive: Nvme) {
        self.drive = Some(drive);
        self.is_drive = true;
    }

    /// Puts the reader at the link again, as it was left.
    pub(crate) fn put_reader(&mut self) {
        self.is_drive = false;
    }

    /// Calls `act` on the reader, at the link or not. `ctx` is the one of the function at the link.
    pub(crate) fn with_reader<R>(
        &mut self,
        ctx: &mut Ctx<'_>,
        act: impl FnOnce(&mut Rtsx, &mut Ctx<'_>) -> R,
    ) -> R {
        let mut inside = seam::inside(&self.reader, ctx);
        act(&mut self.reader, &mut inside)
    }

    /// The drive, if it is at the link.
    pub(crate) fn drive(&self) -> Option<&Nvme> {
        self.drive.as_ref().filter(|_| self.is_drive)
    }

    /// The same, to do something with it.
    pub(crate) fn drive_mut(&mut self) -> Option<&mut Nvme> {
        self.drive.as_mut().filter(|_| self.is_drive)
    }

    fn at_link(&self) -> &dyn PciFunction {
        match &self.drive {
            Some(drive) if self.is_drive => drive,
            _ => &self.reader,
        }
    }

    fn at_link_mut(&mut self) -> &mut dyn PciFunction {
        match &mut self.drive {
            Some(drive) if self.is_drive => drive,
            _ => &mut self.reader,
        }
    }
}

impl PciFunction for Occupant {
    fn name(&self) -> &'static str {
        self.at_link().name()
    }

    fn config(&self) -> &ConfigSpace {
        self.at_link().config()
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        self.at_link_mut().config_mut()
    }

    fn config_read(&mut self, offset: u16, size: u8) -> u32 {
        self.at_link_mut().config_read(offset, size)
    }

    fn config_written(&mut self, ctx: &mut Ctx<'_>, offset: u16, size: u8, before: u32) {
        self.at_link_mut().config_written(ctx, offset, size, before);
    }

    fn bar_register(&self, bar: u8, offset: u64) -> Option<&'static str> {
        self.at_link().bar_register(bar, offset)
    }

    fn bar_read(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8) -> u64 {
        self.at_link_mut().bar_read(ctx, bar, offset, size)
    }

    fn bar_write(&mut self, ctx: &mut Ctx<'_>, bar: u8, offset: u64, size: u8, value: u64) {
        self.at_link_mut().bar_write(ctx, bar, offset, size, value);
    }

    /// Both are woken: what the card's SD side has left for its medium to do may be what the drive waits for. The reader
    /// comes first, so that the drive sees what it has let begin.
    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.with_reader(ctx, |reader, ctx| reader.wake(ctx));
        if let Some(drive) = self.drive.as_mut().filter(|_| self.is_drive) {
            drive.wake(ctx);
        }
    }

    /// Resets who is at the link; when power was off, that is the reader, and there is no drive any more.
    fn reset(&mut self, ctx: &mut Ctx<'_>, kind: ResetKind) {
        let Self { reader: _, drive, is_drive } = self;
        if kind == ResetKind::Cold {
            *drive = None;
            *is_drive = false;
            self.with_reader(ctx, |reader, ctx| reader.reset(ctx, kind));
        } else {
            self.at_link_mut().reset(ctx, kind);
        }
    }

    fn send_spurious(&mut self, ctx: &mut Ctx<'_>, vector: u16) {
        self.at_link_mut().send_spurious(ctx, vector);
    }

    fn in_turn(&self, name: &str) -> Option<&dyn PciFunction> {
        let drive = self.drive.as_ref().map(|drive| drive as &dyn PciFunction);
        [Some(&self.reader as &dyn PciFunction), drive]
            .into_iter()
            .flatten()
            .find(|function| function.name() == name)
    }

    /// The state of who is at the link; of a drive, with that of the reader behind it.
    fn snapshot(&self) -> Value {
        let mut state = self.at_link().snapshot();
        if let (Some(state), true) = (state.as_object_mut(), self.is_drive) {
            state.insert(
                "behind".to_owned(),
                json!({"name": self.reader.name(), "state": self.reader.snapshot()}),
            );
        }
        state
    }
}
