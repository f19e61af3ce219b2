//! The key that opens a manager's data when it starts, as operators keep it: `SCTLKEY-1-` and 56 characters.
//!
//! Thirty-two random bytes and four of their SHA-256, in base 36: a typing error is told apart from another key.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const PREFIX: &str = "SCTLKEY-1-";
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const CHECK: usize = 4;
const BYTES: usize = 32 + CHECK;
/// Digits of 36 bytes in base 36.
const LENGTH: usize = 56;

/// Why a text is no unlock key. The text is never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseUnlockKeyError {
    /// It is something else.
    #[error("an unlock key begins with `SCTLKEY-1-` and has 56 more characters: copy the whole key")]
    Form,
    /// A character is wrong.
    #[error("the unlock key is mistyped: copy it again")]
    Mistyped,
}

/// An unlock key. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct UnlockKey([u8; 32]);

impl UnlockKey {
    /// A key that was made before; `None` unless it has 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The key.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key, as operators keep it.
    pub fn expose_text(&self) -> String {
        let mut number = Zeroizing::new([0; BYTES]);
        let (key, check) = number.split_at_mut(32);
        key.copy_from_slice(&self.0);
        check.copy_from_slice(&self.check());
        let mut text = [b'0'; LENGTH];
        for place in text.iter_mut().rev() {
            let mut remainder = 0_u32;
            for byte in number.iter_mut() {
                let value = remainder * 256 + u32::from(*byte);
                *byte = u8::try_from(value / 36).unwrap_or(0);
                remainder = value % 36;
            }
            *place = usize::try_from(remainder).ok().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'0');
        }
        PREFIX.chars().chain(text.into_iter().map(char::from)).collect()
    }

    fn check(&self) -> [u8; CHECK] {
        let digest = Sha256::new_with_prefix(b"secretd unlock key 1\0").chain_update(self.0).finalize();
        let mut check = [0; CHECK];
        check.copy_from_slice(digest.get(..CHECK).unwrap_or_default());
        check
    }
}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(..)")
    }
}

impl FromStr for UnlockKey {
    type Err = ParseUnlockKeyError;
    fn from_str(text: &str) -> Result<Self, ParseUnlockKeyError> {
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == LENGTH);
        let digits = digits.ok_or(ParseUnlockKeyError::Form)?;
        let mut number = Zeroizing::new([0_u8; BYTES]);
        for digit in digits.bytes() {
            let digit = DIGITS.iter().position(|known| *known == digit).ok_or(ParseUnlockKeyError::Mistyped)?;
            let mut carry = u32::try_from(digit).unwrap_or(0);
            for byte in number.iter_mut().rev() {
                let value = u32::from(*byte) * 36 + carry;
                *byte = u8::try_from(value % 256).unwrap_or(0);
                carry = value / 256;
            }
            if carry > 0 {
                return Err(ParseUnlockKeyError::Mistyped);
            }
        }
        let (key, check) = number.split_at(32);
        let key = Self::from_bytes(key).ok_or(ParseUnlockKeyError::Mistyped)?;
        if bool::from(key.check().as_slice().ct_eq(check)) { Ok(key) } else { Err(ParseUnlockKeyError::Mistyped) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn key_comes_back_from_its_text_and_a_typing_error_does_not(bytes: [u8; 32], at in 10_usize..66, to in 0_usize..36) {
            let key = UnlockKey(bytes);
            let text = key.expose_text();

            prop_assert_eq!(text.parse::<UnlockKey>().unwrap().0, bytes);
            let mut typed = text.clone().into_bytes();
            typed[at] = DIGITS[to];
            let typed = String::from_utf8(typed).unwrap();
            prop_assume!(typed != text);
            prop_assert_eq!(typed.parse::<UnlockKey>().unwrap_err(), ParseUnlockKeyError::Mistyped);
        }
    }

    #[test]
    fn what_is_no_unlock_key_is_refused() {
        for text in ["", "SWMKEY-1-abc", "SCTLKEY-1-abc"] {
            assert_eq!(text.parse::<UnlockKey>().unwrap_err(), ParseUnlockKeyError::Form, "{text}");
        }
    }
}
