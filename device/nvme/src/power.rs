//! Power states (8.4). What a state saves is not modelled, only which one the controller is in.

use crate::bytes::put;

/// Bytes of a power state descriptor.
const DESCRIPTOR_BYTES: usize = 32;

/// A power state (figure 252).
pub(crate) struct PowerState {
    /// MP, in units of 0.01 W.
    power: u16,
    /// NOPS: no I/O commands are processed in it.
    non_operational: bool,
    /// ENLAT, in microseconds.
    entry_latency: u32,
    /// EXLAT, in microseconds.
    exit_latency: u32,
    /// Relative read and write throughput and latency: 0 is best.
    rank: u8,
}

/// The states. An SD Express card draws at most 1.8 W (SD Physical Layer 7.0, 3.10). DEVNOTE: the others are of the size
/// that small SSDs have.
pub(crate) const STATES: [PowerState; 3] = [
    PowerState { power: 180, non_operational: false, entry_latency: 0, exit_latency: 0, rank: 0 },
    PowerState { power: 90, non_operational: false, entry_latency: 0, exit_latency: 0, rank: 1 },
    PowerState { power: 1, non_operational: true, entry_latency: 1000, exit_latency: 5000, rank: 2 },
];

impl PowerState {
    pub(crate) fn descriptor(&self) -> [u8; DESCRIPTOR_BYTES] {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        put(&mut bytes, 0, &self.power.to_le_bytes());
        put(&mut bytes, 3, &[if self.non_operational { 1 << 1 } else { 0 }]);
        put(&mut bytes, 4, &self.entry_latency.to_le_bytes());
        put(&mut bytes, 8, &self.exit_latency.to_le_bytes());
        put(&mut bytes, 12, &[self.rank; 4]);
        bytes
    }

    /// Whether the controller may go there by itself (APST): only states that process no I/O commands.
    pub(crate) fn is_non_operational(&self) -> bool {
        self.non_operational
    }
}
