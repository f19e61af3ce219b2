//! The key that opens a manager's data when it starts, as operators keep it: `SCTLKEY-1-` and 56 characters.

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::printed::{Form, Misprint};

const FORM: Form = Form { prefix: "SCTLKEY-1-", domain: b"secretd unlock key 1\0" };

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
        FORM.text(&self.0)
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
        let key = FORM.parse(text).map_err(|misprint| match misprint {
            Misprint::Form => ParseUnlockKeyError::Form,
            Misprint::Mistyped => ParseUnlockKeyError::Mistyped,
        })?;
        Ok(Self(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_unlock_key_is_refused() {
        let text = UnlockKey([7; 32]).expose_text();
        assert_eq!(text.parse::<UnlockKey>().unwrap().0, [7; 32]);
        for text in ["", "SWMKEY-1-abc", "SCTLKEY-1-abc"] {
            assert_eq!(text.parse::<UnlockKey>().unwrap_err(), ParseUnlockKeyError::Form, "{text}");
        }
    }
}
