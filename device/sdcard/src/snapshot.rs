//! The card's state, for people.

use serde_json::{Map, Value, json};

use crate::capacity::CapacityKind;
use crate::card::MemoryCard;
use crate::status;
use crate::table;
use crate::transfer::{Transfer, Work};
use crate::voltage::Signalling;

impl MemoryCard {
    pub(crate) fn as_json(&self) -> Value {
        let session = &self.session;
        let refused: Map<_, _> = self
            .counters
            .refused
            .iter()
            .map(|(&(app, index), &count)| (table::name(index, app), count.into()))
            .collect();
        let kind = match self.profile.capacity.kind() {
            CapacityKind::Standard => "SDSC",
            CapacityKind::High => "SDHC",
            CapacityKind::Extended => "SDXC",
            CapacityKind::Ultra => "SDUC",
        };
        let programmed = self.durable.programmed;
        json!({
            "kind": kind,
            "serial": format!("{:#010x}", self.profile.serial),
            "capacity_bytes": self.profile.capacity.bytes(),
            "express": self.profile.express.is_some(),
            "state": session.state.name(),
            "address": format!("{:#06x}", session.address),
            "status": status::names(session.errors),
            "bus": {
                "width": if session.wide { 4 } else { 1 },
                "mode": session.functions.mode_name(session.signalling == Signalling::Low),
                "signalling": session.signalling.name(),
                "host_width": self.bus.width,
            },
            "transfer": match &session.transfer {
                Transfer::None => "none",
                Transfer::Send { .. } => "register",
                Transfer::Read(_) => "read",
                Transfer::Write(_) => "write",
                Transfer::Take { .. } => "parameters",
            },
            "medium": match (&session.work, self.store.is_under_way()) {
                (Work::None, false) => "idle",
                (Work::None, true) => "ends an abandoned request",
                (Work::Read { .. }, _) => "reads",
                (Work::Write { .. }, _) => "writes",
                (Work::Erase { .. }, _) => "erases",
            },
            "locked": session.locked,
            "password": self.durable.password.is_set(),
            "write_protected": {
                "permanent": programmed.permanent_write_protect,
                "temporary": programmed.temporary_write_protect,
                "groups": self.durable.groups.protected(),
            },
            "card_detect_pull_up": session.card_detect,
            "last_command": table::name(self.last.0, self.last.1),
            "counters": {
                "commands": self.counters.commands,
                "blocks_read": self.counters.blocks_read,
                "blocks_written": self.counters.blocks_written,
                "erases": self.counters.erases,
                "discards": self.counters.discards,
            },
            "illegal_commands": refused,
            "disturbances": self.disturbances.snapshot(),
        })
    }
}
