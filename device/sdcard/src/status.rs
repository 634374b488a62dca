//! Bits of the card status (4.10.1, Table 4-42), and how each is cleared.

/// An argument was out of the card's range.
pub const OUT_OF_RANGE: u32 = 1 << 31;
/// An address that does not fit the block length.
pub const ADDRESS_ERROR: u32 = 1 << 30;
/// A block length that the card does not take.
pub const BLOCK_LEN_ERROR: u32 = 1 << 29;
/// Erase commands in the wrong order.
pub const ERASE_SEQ_ERROR: u32 = 1 << 28;
/// A choice of blocks to erase that makes no sense.
pub const ERASE_PARAM: u32 = 1 << 27;
/// A write to a protected block or card.
pub const WP_VIOLATION: u32 = 1 << 26;
/// The card is locked.
pub const CARD_IS_LOCKED: u32 = 1 << 25;
/// CMD42 was not done.
pub const LOCK_UNLOCK_FAILED: u32 = 1 << 24;
/// The command before this one had a wrong CRC.
pub const COM_CRC_ERROR: u32 = 1 << 23;
/// The command before this one was not legal.
pub const ILLEGAL_COMMAND: u32 = 1 << 22;
/// The contents of a block are lost.
pub const CARD_ECC_FAILED: u32 = 1 << 21;
/// The card's controller failed.
pub const CC_ERROR: u32 = 1 << 20;
/// A general error.
pub const ERROR: u32 = 1 << 19;
/// A CSD that CMD27 may not write.
pub const CSD_OVERWRITE: u32 = 1 << 16;
/// Protected blocks were left out of an erase.
pub const WP_ERASE_SKIP: u32 = 1 << 15;
/// The internal ECC was not used.
pub const CARD_ECC_DISABLED: u32 = 1 << 14;
/// An erase sequence was given up for another command.
pub const ERASE_RESET: u32 = 1 << 13;
/// The state when the command came, before it took effect.
pub const CURRENT_STATE: u32 = 0xf << CURRENT_STATE_SHIFT;
/// Where CURRENT_STATE begins.
pub const CURRENT_STATE_SHIFT: u32 = 9;
/// The card takes data.
pub const READY_FOR_DATA: u32 = 1 << 8;
/// An extension function has something to say.
pub const FX_EVENT: u32 = 1 << 6;
/// The next command is taken as an application command, or this one was.
pub const APP_CMD: u32 = 1 << 5;
/// The authentication process went wrong.
pub const AKE_SEQ_ERROR: u32 = 1 << 3;

/// When a bit is cleared (4.10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// A: it shows the card as it is.
    State,
    /// B: by the reception of a valid command, with a delay of one command: that command's response still has it.
    ValidCommand,
    /// C: by being read.
    Read,
}

/// A field of the card status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Where it stands.
    pub mask: u32,
    /// Its identifier.
    pub name: &'static str,
    /// When it is cleared.
    pub clear: Clear,
    /// Whether this card ever sets it.
    pub is_modelled: bool,
}

const fn field(mask: u32, name: &'static str, clear: Clear) -> Field {
    Field { mask, name, clear, is_modelled: true }
}

const fn never(mask: u32, name: &'static str, clear: Clear) -> Field {
    Field { mask, name, clear, is_modelled: false }
}

/// The whole card status. Bits that are not here are reserved.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field(OUT_OF_RANGE,       "OUT_OF_RANGE",       Clear::Read),
    field(ADDRESS_ERROR,      "ADDRESS_ERROR",      Clear::Read),
    field(BLOCK_LEN_ERROR,    "BLOCK_LEN_ERROR",    Clear::Read),
    field(ERASE_SEQ_ERROR,    "ERASE_SEQ_ERROR",    Clear::Read),
    field(ERASE_PARAM,        "ERASE_PARAM",        Clear::Read),
    field(WP_VIOLATION,       "WP_VIOLATION",       Clear::Read),
    field(CARD_IS_LOCKED,     "CARD_IS_LOCKED",     Clear::State),
    field(LOCK_UNLOCK_FAILED, "LOCK_UNLOCK_FAILED", Clear::Read),
    never(COM_CRC_ERROR,      "COM_CRC_ERROR",      Clear::ValidCommand),
    field(ILLEGAL_COMMAND,    "ILLEGAL_COMMAND",    Clear::ValidCommand),
    field(CARD_ECC_FAILED,    "CARD_ECC_FAILED",    Clear::Read),
    never(CC_ERROR,           "CC_ERROR",           Clear::Read),
    field(ERROR,              "ERROR",              Clear::Read),
    field(CSD_OVERWRITE,      "CSD_OVERWRITE",      Clear::Read),
    field(WP_ERASE_SKIP,      "WP_ERASE_SKIP",      Clear::Read),
    never(CARD_ECC_DISABLED,  "CARD_ECC_DISABLED",  Clear::State),
    field(ERASE_RESET,        "ERASE_RESET",        Clear::Read),
    field(CURRENT_STATE,      "CURRENT_STATE",      Clear::ValidCommand),
    field(READY_FOR_DATA,     "READY_FOR_DATA",     Clear::State),
    never(FX_EVENT,           "FX_EVENT",           Clear::State),
    field(APP_CMD,            "APP_CMD",            Clear::Read),
    never(AKE_SEQ_ERROR,      "AKE_SEQ_ERROR",      Clear::Read),
];

/// All bits with this clear condition.
#[must_use]
pub const fn cleared_by(clear: Clear) -> u32 {
    let mut mask = 0;
    let mut rest = FIELDS;
    while let [first, others @ ..] = rest {
        if first.clear as u8 == clear as u8 {
            mask |= first.mask;
        }
        rest = others;
    }
    mask
}

/// The bits of R6 (4.9.5) that it has of the card status: 23, 22, 19 and 12:0.
pub const IN_R6: u32 = COM_CRC_ERROR | ILLEGAL_COMMAND | ERROR | 0x1fff;

/// The 16 status bits of R6.
#[must_use]
pub const fn in_r6(status: u32) -> u16 {
    let high = status >> 8 & 0xc000;
    let error = status >> 6 & 0x2000;
    (high | error | status & 0x1fff) as u16
}

/// The names of the bits that are set, but for CURRENT_STATE.
pub(crate) fn names(status: u32) -> Vec<&'static str> {
    let single = FIELDS.iter().filter(|field| field.mask != CURRENT_STATE);
    single.filter(|field| status & field.mask != 0).map(|field| field.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap_and_stand_from_high_to_low() {
        let mut seen = 0;
        for field in FIELDS {
            assert_eq!(seen & field.mask, 0, "{}", field.name);
            assert!(seen == 0 || field.mask < seen & seen.wrapping_neg(), "{}", field.name);
            seen |= field.mask;
        }
        // Reserved: 18:17, 7, 4 (SDIO), 2 (applications), 1:0 (manufacturers' tests).
        assert_eq!(!seen, 0x0006_0097);
    }

    #[test]
    fn r6_carries_bits_23_22_and_19_above_the_lower_13() {
        assert_eq!(in_r6(COM_CRC_ERROR), 0x8000);
        assert_eq!(in_r6(ILLEGAL_COMMAND | READY_FOR_DATA), 0x4100);
        assert_eq!(in_r6(ERROR | 3 << CURRENT_STATE_SHIFT), 0x2600);
        assert_eq!(in_r6(!IN_R6), 0);
    }
}
