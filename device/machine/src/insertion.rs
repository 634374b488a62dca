//! The card in the reader: put in, taken out, disturbed.

use std::time::Duration;

use sdmorph_pci::Disturbance;

use crate::card::{InsertError, NewCard, Ready};
use crate::inputs::Call;
use crate::machine::Machine;
use crate::morph::Input;

impl Machine {
    /// Puts a card into the reader.
    ///
    /// # Errors
    /// [`InsertError::Occupied`] if there is one, [`InsertError::Capacity`] if no card has a medium like this.
    pub fn card_insert(&mut self, now: Duration, card: impl Into<NewCard>) -> Result<(), InsertError> {
        if self.card.is_some() {
            return Err(InsertError::Occupied);
        }
        let card = card.into();
        let plan = card.plan();
        let card = card.make(self.inputs.as_ref())?;
        self.call(now, |machine| machine.insert(card));
        self.note(|| Call::CardInsert(plan));
        Ok(())
    }

    pub(crate) fn insert(&mut self, Ready { card, inserted }: Ready) {
        let write_protect = inserted.write_protect;
        self.card = Some(inserted);
        self.with_reader(|reader, ctx| {
            reader.set_write_protect(write_protect);
            reader.insert(ctx, card);
        });
    }

    /// Keeps a card at hand, in place of the one that is: a rule's `card = "insert"` puts it in.
    ///
    /// # Errors
    /// Those of the card itself; see [`Machine::card_insert`].
    pub fn card_prepare(&mut self, card: impl Into<NewCard>) -> Result<(), InsertError> {
        let card = card.into();
        let plan = card.plan();
        self.at_hand = Some(card.make(self.inputs.as_ref())?);
        self.note(|| Call::CardPrepare(plan));
        Ok(())
    }

    /// Whether there is a card, or something that looks like one, in the reader.
    #[must_use]
    pub fn has_card(&self) -> bool {
        self.card.is_some()
    }

    /// Disturbs the card in the reader.
    ///
    /// # Errors
    /// [`InsertError::Empty`] if there is none, [`InsertError::Disturb`] if it cannot be disturbed like that.
    pub fn card_disturb(&mut self, now: Duration, disturbance: Disturbance) -> Result<(), InsertError> {
        let disturbed = self.call(now, |machine| {
            let mut disturbed = None;
            machine.with_reader(|reader, ctx| disturbed = reader.disturb(ctx, disturbance));
            disturbed
        });
        self.note(|| Call::CardDisturb(disturbance));
        Ok(disturbed.ok_or(InsertError::Empty)??)
    }

    /// The card in the reader draws too much current. False if the reader's driver has not set it to look for that.
    pub fn over_current(&mut self, now: Duration) -> bool {
        let detected = self.call(now, Self::too_much_current);
        self.note(|| Call::OverCurrent { detected });
        detected
    }

    pub(crate) fn too_much_current(&mut self) -> bool {
        let mut detected = false;
        self.with_reader(|reader, ctx| detected = reader.over_current(ctx));
        detected
    }

    /// Takes the card out. If the reader has let go of the slot, it comes back: see [`morph`](crate::morph).
    ///
    /// # Errors
    /// [`InsertError::Empty`] if there is none.
    pub fn card_eject(&mut self, now: Duration) -> Result<(), InsertError> {
        if self.card.is_none() {
            return Err(InsertError::Empty);
        }
        self.call(now, Self::eject);
        self.note(|| Call::CardEject);
        Ok(())
    }

    pub(crate) fn eject(&mut self) {
        let card = self.card.take();
        self.with_reader(|reader, ctx| {
            drop(reader.eject(ctx));
            reader.set_write_protect(false);
        });
        // A drive loses its link before it loses its medium: it does not see that go.
        self.input(Input::CardEjected);
        if let Some(card) = card {
            card.take_away();
        }
    }
}
