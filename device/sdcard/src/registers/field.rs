//! Bit fields of registers, numbered as the specification does: bit 0 is sent last.

/// Puts the low bits of `value` into bits `high` to `low` of a register whose first byte is sent first. Bits that do
/// not fit are dropped.
pub(crate) fn put(register: &mut [u8], high: u16, low: u16, value: u64) {
    let last = register.len().saturating_sub(1);
    for bit in low..=high {
        let byte = last.checked_sub(usize::from(bit / 8)).and_then(|at| register.get_mut(at));
        if let Some(byte) = byte {
            let mask = 1 << (bit % 8);
            let is_set = value.checked_shr(u32::from(bit - low)).is_some_and(|rest| rest & 1 != 0);
            *byte = if is_set { *byte | mask } else { *byte & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_specification_counts_them() {
        let mut register = [0; 4];
        put(&mut register, 31, 28, 0xa);
        put(&mut register, 20, 11, 0x3ff);
        put(&mut register, 13, 12, 0);
        put(&mut register, 0, 0, 3);
        assert_eq!(register, [0xa0, 0x1f, 0xc8, 0x01]);
    }

    #[test]
    fn field_outside_the_register_is_dropped() {
        let mut register = [0; 2];
        put(&mut register, 20, 14, 0x7f);
        assert_eq!(register, [0xc0, 0x00]);
        put(&mut [], 3, 0, 1);
    }
}
