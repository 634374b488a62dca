//! Slot 8: what happens to it goes into the table of [`morph`], and what the table answers is done.

use std::time::Duration;

use sdmorph_nvme::{Identity, Nvme};
use sdmorph_pci::port::RootPort;
use sdmorph_pci::{Clock, Ctx, Event, seam};
use sdmorph_rtsx::Rtsx;

use crate::inputs::Call;
use crate::machine::Machine;
use crate::morph::{self, Input, Later, Phase, Skew, Step};
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
        self.call(now, |machine| {
            machine.with_port(|port, ctx| {
                let act = |occupant: &mut Occupant, ctx: &mut Ctx<'_>| {
                    occupant.drive_mut().is_some_and(|drive| act(drive, ctx))
                };
                port.with_function(ctx, act).unwrap_or_default()
            })
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
            Later::LinkComes => self.with_port(|port, ctx| port.set_link(ctx, true)),
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
            Step::EndRelink => self.cancel(Later::RelinkOver),
            Step::Train => {
                let gone = self.later.iter().find(|(_, what)| *what == Later::PresenceGoes);
                let begins = gone.map_or(self.clock.now(), |(at, _)| *at);
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
            Step::Disconnect => {
                self.cancel(Later::PresenceComes);
                self.cancel(Later::LinkComes);
                self.with_port(|port, ctx| port.set_link(ctx, false));
                self.do_later(morph::PRESENCE_LAG, Later::PresenceGoes);
            }
            Step::ForgetRequest => self.with_reader(|reader, _| reader.forget_express_request()),
            Step::TellFailure => self.with_reader(|reader, _| reader.set_express_link_failed(true)),
            Step::ForgetFailure => self.with_reader(|reader, _| reader.set_express_link_failed(false)),
        }
    }

    fn connect(&mut self) {
        for what in [Later::PresenceGoes, Later::PresenceComes, Later::LinkComes] {
            self.cancel(what);
        }
        self.with_port(|port, ctx| port.set_bar_vanished(ctx, false));
        match self.skew {
            Skew::None => self.with_port(|port, ctx| {
                port.set_presence(ctx, true);
                port.set_link(ctx, true);
            }),
            Skew::Lead(time) => {
                self.set_presence(true);
                self.do_later(time, Later::LinkComes);
            }
            Skew::Lag(time) => {
                self.with_port(|port, ctx| port.set_link(ctx, true));
                self.do_later(time, Later::PresenceComes);
            }
        }
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

    fn with_occupant(&mut self, act: impl FnOnce(&mut Occupant, &mut Ctx<'_>)) {
        self.with_port(|port, ctx| {
            port.with_function(ctx, act);
        });
    }

    /// Calls `act` on the reader, whether it is at the link or behind the drive.
    pub(crate) fn with_reader(&mut self, act: impl FnOnce(&mut Rtsx, &mut Ctx<'_>)) {
        self.with_occupant(|occupant, ctx| occupant.with_reader(ctx, act));
    }
}
