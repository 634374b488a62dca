//! The rules that wait for one kind of thing, and the scan that finds those that a thing of that kind matches.

use crate::rule::{Pattern, Span};
use crate::state::State;
use crate::watch::RuleId;

/// What a rule wants of the things that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The place must have something of this: offsets, addresses, or a number of which there is one.
    pub(crate) span: Span,
    /// The data under `mask`; both are 0 if any will do.
    pub(crate) value: u64,
    pub(crate) mask: u64,
    /// What the machine must not be like: bits of a [`State`].
    pub(crate) forbidden: u64,
}

impl Wanted {
    /// Anything at all.
    pub(crate) const ANY: Self = Self { span: Span::ALL, value: 0, mask: 0, forbidden: 0 };

    /// The same, with this data of `width` bits' mask.
    pub(crate) fn data(self, pattern: Option<Pattern>, width: u64) -> Self {
        match pattern {
            None => self,
            Some(Pattern { value, mask }) => Self { value, mask: mask.unwrap_or(u64::MAX) & width, ..self },
        }
    }

    /// The same, at that place only.
    pub(crate) fn at(self, span: Option<Span>) -> Self {
        Self { span: span.unwrap_or(Span::ALL), ..self }
    }

    fn takes(&self, seen: &Observed, state: State) -> bool {
        let amiss = (seen.bits ^ self.value) & self.mask | self.mask & !seen.covered;
        amiss == 0
            && self.span.from <= seen.span.to
            && seen.span.from <= self.span.to
            && state.allows(self.forbidden)
    }
}

/// What is compared with that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed {
    /// Where.
    pub(crate) span: Span,
    /// The data.
    pub(crate) bits: u64,
    /// The bits of it that were carried.
    pub(crate) covered: u64,
}

impl Observed {
    /// Something without place and data.
    pub(crate) const PLAIN: Self = Self { span: Span::ALL, bits: 0, covered: 0 };

    /// Data without a place.
    pub(crate) fn data(bits: u64) -> Self {
        Self { bits, covered: u64::MAX, ..Self::PLAIN }
    }

    /// The same at a number of which there is one.
    pub(crate) fn at(self, number: u64) -> Self {
        Self { span: Span { from: number, to: number }, ..self }
    }

    /// The same at `length` bytes from `from` on, at one if there are none.
    pub(crate) fn over(self, from: u64, length: u64) -> Self {
        Self { span: Span { from, to: from.saturating_add(length.saturating_sub(1)) }, ..self }
    }
}

/// Armed rules, in the order they were added.
///
/// A flat list that is scanned from end to end: that takes less than a nanosecond or two a rule, whatever the rules
/// compare, and so a thousand of them on one register stay far below an access's round trip. Rules that are not armed are
/// not in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates(Vec<(Wanted, RuleId)>);

impl Candidates {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the rules that `seen` matches to `found`.
    pub(crate) fn find(&self, seen: &Observed, state: State, found: &mut Vec<RuleId>) {
        found.extend(self.0.iter().filter(|(wanted, _)| wanted.takes(seen, state)).map(|(_, id)| *id));
    }

    pub(crate) fn add(&mut self, id: RuleId, wanted: Wanted) {
        let at = self.0.partition_point(|(_, other)| *other < id);
        self.0.insert(at, (wanted, id));
    }

    pub(crate) fn remove(&mut self, id: RuleId) {
        self.0.retain(|(_, other)| *other != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(candidates: &Candidates, seen: Observed) -> Vec<RuleId> {
        let mut found = Vec::new();
        candidates.find(&seen, State::after_power_on(), &mut found);
        found
    }

    #[test]
    fn spans_match_if_they_have_a_byte_in_common() {
        let mut candidates = Candidates::default();
        candidates.add(1, Wanted::ANY.at(Some(Span { from: 0x10, to: 0x1f })));
        let at = |from, length| !found(&candidates, Observed::PLAIN.over(from, length)).is_empty();
        for (from, length, matches) in [
            (0x0f, 1, false),
            (0x0f, 2, true),
            (0x10, 0, true),
            (0x1f, 4, true),
            (0x20, 4, false),
            (0, 0x1000, true),
            (u64::MAX, 8, false),
        ] {
            assert_eq!(at(from, length), matches, "{from:#x} {length}");
        }
    }

    #[test]
    fn rules_are_found_in_the_order_of_their_numbers_and_data() {
        let mut candidates = Candidates::default();
        let pattern = |value, mask| Some(Pattern { value, mask });
        candidates.add(7, Wanted::ANY.data(pattern(0x80, Some(0x80)), 0xff));
        candidates.add(3, Wanted::ANY.data(pattern(0x81, None), 0xff));
        candidates.add(5, Wanted::ANY);
        assert_eq!(found(&candidates, Observed::data(0x81)), [3, 5, 7]);
        assert_eq!(found(&candidates, Observed::data(0x80)), [5, 7]);
        assert_eq!(found(&candidates, Observed { covered: 0x7f, ..Observed::data(0x81) }), [5]);
        candidates.remove(5);
        assert_eq!(found(&candidates, Observed::data(0)), [0; 0]);
    }
}
