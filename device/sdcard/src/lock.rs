//! The card lock (4.3.7): a password of up to 16 bytes.

use crate::card::MemoryCard;
use crate::status;
use crate::transfer::Work;

/// Bits of the first byte of CMD42's block (Table 4-5).
const SET_PWD: u8 = 1 << 0;
const CLR_PWD: u8 = 1 << 1;
const LOCK_UNLOCK: u8 = 1 << 2;
const ERASE: u8 = 1 << 3;

/// Longest password in bytes.
const PASSWORD_MAX: usize = 16;

/// The card's password, of up to [`PASSWORD_MAX`] bytes. Keeps itself out of logs.
#[derive(Default, Clone, PartialEq, Eq)]
pub(crate) struct Password(Vec<u8>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Password({} bytes)", self.0.len())
    }
}

impl Password {
    pub(crate) fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    fn matches(&self, given: &[u8]) -> bool {
        self.is_set() && self.0 == given
    }

    /// The password that replaces this one, from the old and the new one in a row.
    fn replacement(&self, given: &[u8]) -> Option<Self> {
        let new = given.strip_prefix(self.0.as_slice())?;
        (1..=PASSWORD_MAX).contains(&new.len()).then(|| Self(new.to_vec()))
    }
}

/// What CMD42's block asks for, if it can be done (Table 4-6).
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// The card is locked afterwards, or not.
    Set(Password, bool),
    Clear,
    Lock,
    Unlock,
    ForceErase,
}

/// `None` if the combination is an error.
fn request(block: &[u8], password: &Password, locked: bool) -> Option<Request> {
    let (&mode, rest) = block.split_first()?;
    if mode == ERASE {
        return locked.then_some(Request::ForceErase);
    }
    let (&length, rest) = rest.split_first()?;
    let given = rest.get(..usize::from(length))?;
    const SET_AND_LOCK: u8 = SET_PWD | LOCK_UNLOCK;
    match mode {
        SET_PWD | SET_AND_LOCK => Some(Request::Set(password.replacement(given)?, mode == SET_AND_LOCK)),
        _ if !password.matches(given) => None,
        CLR_PWD => Some(Request::Clear),
        LOCK_UNLOCK if !locked => Some(Request::Lock),
        0 if locked => Some(Request::Unlock),
        _ => None,
    }
}

impl MemoryCard {
    /// The block of CMD42.
    pub(crate) fn take_lock(&mut self, block: &[u8]) {
        match request(block, &self.durable.password, self.session.locked) {
            Some(Request::Set(password, lock)) => {
                self.durable.password = password;
                self.session.locked = lock;
            }
            Some(Request::Clear) => {
                self.durable.password = Password::default();
                self.session.locked = false;
            }
            Some(Request::Lock) => self.session.locked = true,
            Some(Request::Unlock) => self.session.locked = false,
            Some(Request::ForceErase) if !self.durable.programmed.permanent_write_protect => {
                let all = (0, self.profile.capacity.blocks());
                self.erase_next(vec![all], true);
            }
            Some(Request::ForceErase) | None => self.session.raise(status::LOCK_UNLOCK_FAILED),
        }
    }

    /// Everything is erased: the password and what it protected are gone (4.3.7.3).
    pub(crate) fn force_erased(&mut self) {
        self.session.work = Work::None;
        self.session.locked = false;
        self.durable.password = Password::default();
        self.durable.programmed.temporary_write_protect = false;
        self.durable.groups.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password(text.as_bytes().to_vec())
    }

    fn block(mode: u8, text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        [&[mode, length], text.as_bytes()].concat()
    }

    #[test]
    fn set_needs_the_old_password_in_front_of_the_new_one() {
        let old = password("abc");
        assert_eq!(request(&block(1, "abcde"), &old, false), Some(Request::Set(password("de"), false)));
        assert_eq!(request(&block(5, "abcde"), &old, false), Some(Request::Set(password("de"), true)));
        for wrong in ["abde", "abc", "ab", "", "abc12345678901234567"] {
            assert_eq!(request(&block(1, wrong), &old, false), None, "{wrong}");
        }
        assert_eq!(request(&block(1, "x"), &password(""), false), Some(Request::Set(password("x"), false)));
    }

    #[test]
    fn lock_and_unlock_need_the_password_and_the_other_state() {
        let own = password("abc");
        assert_eq!(request(&block(4, "abc"), &own, false), Some(Request::Lock));
        assert_eq!(request(&block(4, "abc"), &own, true), None);
        assert_eq!(request(&block(0, "abc"), &own, true), Some(Request::Unlock));
        assert_eq!(request(&block(0, "abc"), &own, false), None);
        assert_eq!(request(&block(0, "abx"), &own, true), None);
        assert_eq!(request(&block(4, ""), &password(""), false), None);
    }

    #[test]
    fn clear_needs_the_password_and_erase_a_locked_card() {
        let own = password("abc");
        assert_eq!(request(&block(2, "abc"), &own, true), Some(Request::Clear));
        assert_eq!(request(&block(2, "ab"), &own, true), None);
        assert_eq!(request(&[8], &own, true), Some(Request::ForceErase));
        assert_eq!(request(&[8], &own, false), None);
    }

    #[test]
    fn other_combinations_and_short_blocks_are_errors() {
        let own = password("abc");
        for mode in [3, 6, 7, 9, 12, 0x11, 0x80] {
            assert_eq!(request(&block(mode, "abc"), &own, true), None, "{mode}");
        }
        for short in [&[][..], &[4], &[4, 4, b'a', b'b', b'c']] {
            assert_eq!(request(short, &own, false), None, "{short:?}");
        }
    }
}
