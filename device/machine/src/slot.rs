//! Slot 8: what happens to it goes into the table of [`morph`], and what the table answers is done.

use std::time::Duration;

use sdmorph_nvme::{Identity, Nvme};
use sdmorph_pci::port::RootPort;
use sdmorph_pci::{Clock, Ctx, Event, seam};
use sdmorph_rtsx::Rtsx;

use crate::inputs::Call;
use crate::machine::Machine;
use crate::morph::{self, Bouncing, Input, Later, Phase, Skew, Step};
use crate::occupant::Occupant;

impl Machine {
    /// Takes the slot's link down or up; presence follows.
    pub fn link_set(&mut self, now: Duration, up: bool) {
        self.call(now, |machine| machine.force_link(up));
        self.note(|| Call::LinkSet { up });
    }

    /// Whether the guest announces work in its memory, so that [`Machine::look`] has something to look for.
    #[must_use]
    pub fn has_shadow_doorbells(&self) -> bool {
        let occupant = self.vmd.bus().port().slot().function();
        occupant.and_then(Occupant::drive).is_some_and(Nvme::has_shadow_doorbells)
    }

    /// Has the drive look for commands that the guest has announced by shadow doorbells. True if it has done anything; see
    /// [`Nvme::poll`].
    pub fn look(&mut self, now: Duration) -> bool {
        let worked = self.with_drive(now, Nvme::poll);
        self.note(|| Call::Look { worked });
        worked
    }

    /// Has the drive ask the guest to write doorbell registers again. True if there was still something to do; see
    /// [`Nvme::rest`].
    pub fn rest(&mut self, now: Duration) -> bool {
        let worked = self.with_drive(now, Nvme::rest);
        self.note(|| Call::Rest { worked });
        worked
    }

    fn with_drive(&mut self, now: Duration, act: impl FnOnce(&mut Nvme, &mut Ctx<'_>) -> bool) -> bool {
        self.call(now, |machine| machine.with_drive_at_link(act))
    }

    /// Calls `act` on the drive, if it is at the link.
    pub(crate) fn with_drive_at_link<R: Default>(
        &mut self,
        act: impl FnOnce(&mut Nvme, &mut Ctx<'_>) -> R,
    ) -> R {
        self.with_port(|port, ctx| {
            let act = |occupant: &mut Occupant, ctx: &mut Ctx<'_>| {
                occupant.drive_mut().map(|drive| act(drive, ctx)).unwrap_or_default()
            };
            port.with_function(ctx, act).unwrap_or_default()
        })
    }

    pub(crate) fn force_link(&mut self, up: bool) {
        self.input(if up { Input::ForcedUp } else { Input::ForcedDown });
    }

    /// What an event says about the slot.
    pub(crate) fn follow(&mut self, event: Event) {
        match event {
            Event::ExpressSwitchRequested { relink_time } => {
                self.programmed = morph::relink_time(relink_time);
                self.input(Input::SwitchRequested);
            }
            Event::LinkDown => self.input(Input::LinkFell),
            // The card is no drive any more, and the reader trains when power is back.
            Event::SlotPower { on: false } => {
                for what in [Later::LinkGoes, Later::LinkComes] {
                    self.cancel(what);
                }
                self.input(Input::PowerCycled);
            }
            Event::SlotPower { on: true } => self.do_later(morph::TRAINING, Later::LinkComes),
            Event::Reset { .. } => self.input(Input::Reset),
            _ => {}
        }
    }

    /// What the slot does at its time.
    pub(crate) fn come_due(&mut self, what: Later) {
        match what {
            Later::RelinkOver => self.input(Input::RelinkOver),
            Later::TrainingOver if self.phase == Phase::Away && !self.card_trains() => {
                self.input(Input::TrainingFailed);
            }
            Later::TrainingOver => self.input(Input::TrainingOver),
            Later::PresenceGoes => self.set_presence(false),
            Later::PresenceComes => self.set_presence(true),
            Later::LinkComes => self.bring_link_up(),
            Later::LinkGoes => self.disconnect(),
            Later::PresenceBounces => self.bounce(),
        }
    }

    /// The two ends of the link begin to train; they have done so at once, or never will.
    fn bring_link_up(&mut self) {
        if self.link_active() {
            return;
        }
        let fails = std::mem::take(&mut self.training_fails);
        self.with_port(|port, ctx| {
            port.set_bar_vanished(ctx, false);
            if fails {
                port.train_without_end();
            } else {
                port.set_link(ctx, true);
            }
        });
    }

    /// The link goes down and comes up again by itself, with who is at its other end. A link that is down stays so.
    pub(crate) fn flap(&mut self, time: Duration) {
        if self.link_active() {
            self.with_port(|port, ctx| port.set_link(ctx, false));
            self.do_later(time, Later::LinkComes);
        }
    }

    fn link_active(&self) -> bool {
        self.vmd.bus().port().slot().link_active()
    }

    /// Presence changes, and does so again if it is not the last time.
    pub(crate) fn bounce(&mut self) {
        let Some(Bouncing { left, every }) = self.bouncing.take() else { return };
        let present = self.vmd.bus().port().slot().is_present();
        self.set_presence(!present);
        if left > 1 {
            self.bouncing = Some(Bouncing { left: left - 1, every });
            self.do_later(every, Later::PresenceBounces);
        }
    }

    /// Presence is what it is set to from now on, and does not change by itself.
    pub(crate) fn hold_presence(&mut self) {
        self.bouncing = None;
        for what in [Later::PresenceGoes, Later::PresenceComes, Later::PresenceBounces] {
            self.cancel(what);
        }
    }

    /// Whether the card comes up as a PCIe device.
    fn card_trains(&mut self) -> bool {
        let fails = std::mem::take(&mut self.relink_fails);
        !fails && self.card.as_ref().is_some_and(|card| card.trains())
    }

    pub(crate) fn input(&mut self, input: Input) {
        let Some(row) = morph::transition(self.phase, input) else { return };
        let changes = row.next != self.phase;
        self.phase = row.next;
        if changes {
            let phase = self.phase.name();
            self.with_port(|_, ctx| ctx.event(Event::Morph { phase }));
        }
        for step in row.steps {
            self.take(*step);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::BeginRelink => self.do_later(self.relink.unwrap_or(self.programmed), Later::RelinkOver),
            Step::EndRelink => {
                self.cancel(Later::RelinkOver);
                // Presence may have gone first: it is back with the link that stays.
                if self.later.iter().any(|(_, what)| *what == Later::LinkGoes) {
                    self.cancel(Later::LinkGoes);
                    self.set_presence(true);
                }
            }
            Step::Train => {
                let goes = [Later::PresenceGoes, Later::LinkGoes];
                let going = self.later.iter().filter(|(_, what)| goes.contains(what)).map(|(at, _)| *at);
                let begins = going.max().unwrap_or(self.clock.now());
                self.cancel(Later::TrainingOver);
                self.later.insert((begins.saturating_add(morph::TRAINING), Later::TrainingOver));
            }
            Step::EndTraining => self.cancel(Later::TrainingOver),
            Step::PutDrive => {
                let Some((cid, face)) = self.card.as_ref().and_then(|card| card.drive_face()) else { return };
                let drive = Nvme::new(Identity::of_card(&cid), Box::new(face));
                self.with_occupant(|occupant, _| occupant.put_drive(drive));
            }
            Step::PutReader => self.with_occupant(|occupant, _| occupant.put_reader()),
            Step::Connect => self.connect(),
            Step::Disconnect => self.disconnect(),
            Step::ForgetRequest => self.with_reader(|reader, _| reader.forget_express_request()),
            Step::TellFailure => self.with_reader(|reader, _| reader.set_express_link_failed(true)),
            Step::ForgetFailure => self.with_reader(|reader, _| reader.set_express_link_failed(false)),
        }
    }

    fn connect(&mut self) {
        self.hold_presence();
        for what in [Later::LinkComes, Later::LinkGoes] {
            self.cancel(what);
        }
        self.with_port(|port, ctx| {
            port.set_bar_vanished(ctx, false);
            port.set_config_vanished(false);
        });
        match self.skew {
            Skew::None => {
                self.set_presence(true);
                self.bring_link_up();
            }
            Skew::Lead(time) => {
                self.set_presence(true);
                self.do_later(time, Later::LinkComes);
            }
            Skew::Lag(time) => {
                self.bring_link_up();
                self.do_later(time, Later::PresenceComes);
            }
        }
    }

    fn disconnect(&mut self) {
        self.hold_presence();
        self.cancel(Later::LinkComes);
        let lag = match self.absence {
            // Presence goes first; the link's turn comes when this is called again.
            Skew::Lead(time) if self.link_active() && self.vmd.bus().port().slot().is_present() => {
                self.set_presence(false);
                return self.do_later(time, Later::LinkGoes);
            }
            Skew::None => morph::PRESENCE_LAG,
            Skew::Lead(_) => Duration::ZERO,
            Skew::Lag(time) => time,
        };
        self.cancel(Later::LinkGoes);
        self.with_port(|port, ctx| port.set_link(ctx, false));
        self.do_later(lag, Later::PresenceGoes);
    }

    pub(crate) fn set_presence(&mut self, present: bool) {
        self.with_port(|port, ctx| port.set_presence(ctx, present));
    }

    pub(crate) fn do_later(&mut self, after: Duration, what: Later) {
        self.cancel(what);
        self.later.insert((self.clock.now().saturating_add(after), what));
    }

    pub(crate) fn cancel(&mut self, what: Later) {
        self.later.retain(|(_, other)| *other != what);
    }

    pub(crate) fn with_port<R>(&mut self, act: impl FnOnce(&mut RootPort<Occupant>, &mut Ctx<'_>) -> R) -> R {
        self.with_vmd(|vmd, above| {
            let mut ctx = seam::inside(vmd, above);
            vmd.with_bus(&mut ctx, |bus, above| {
                let port = bus.port_mut();
                let mut ctx = seam::inside(port, above);
                act(port, &mut ctx)
            })
        })
    }

    pub(crate) fn with_occupant(&mut self, act: impl FnOnce(&mut Occupant, &mut Ctx<'_>)) {
        self.with_port(|port, ctx| {
            port.with_function(ctx, act);
        });
    }

    /// Calls `act` on the reader, whether it is at the link or behind the drive.
    pub(crate) fn with_reader(&mut self, act: impl FnOnce(&mut Rtsx, &mut Ctx<'_>)) {
        self.with_occupant(|occupant, ctx| occupant.with_reader(ctx, act));
    }
}
