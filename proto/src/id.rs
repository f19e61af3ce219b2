//! Identifiers: 128 random bits, shown as 25 characters of base 36, one type for each kind of object.
//!
//! No id of one kind converts to another, and none comes from a `String` unchecked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const LENGTH: usize = 25; // ceil(128 / log2(36))
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: an id has 25 characters out of 0-9 and a-z")]
pub struct ParseIdError {
    /// The refused text, cut to 64 characters.
    pub text: String,
}

fn encode(bytes: [u8; 16]) -> String {
    let mut value = u128::from_be_bytes(bytes);
    let mut text = [b'0'; LENGTH];
    for place in text.iter_mut().rev() {
        *place = DIGITS[usize::try_from(value % 36).unwrap_or(0)];
        value /= 36;
    }
    text.iter().map(|&byte| char::from(byte)).collect()
}

fn decode(text: &str) -> Result<[u8; 16], ParseIdError> {
    let refused = || ParseIdError { text: text.chars().take(64).collect() };
    if text.len() != LENGTH {
        return Err(refused());
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|&known| known == byte).ok_or_else(refused)?;
        value = value.checked_mul(36).and_then(|value| value.checked_add(digit as u128)).ok_or_else(refused)?;
    }
    Ok(value.to_be_bytes())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new id of 128 bits from `random`, which must come from the system's random source.
            pub fn from_random(random: [u8; 16]) -> Self {
                Self(random)
            }

            /// A new random id.
            ///
            /// # Panics
            /// When the system has no random source: nothing may go on then.
            #[allow(clippy::expect_used)]
            pub fn random() -> Self {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the system has a random source");
                Self(bytes)
            }

            /// The 16 bytes, for associated data and storage keys.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode(text).map(Self)
            }
        }
    )* };
}

ids! {
    /// One cluster, for its whole life.
    ClusterId
    /// One membership of one machine; a machine that joins again has a new one.
    NodeId
    /// One secret, through all its versions.
    SecretId
    /// One service.
    ServiceId
    /// One task: one run of one container of a service.
    TaskId
    /// One connection of an agent to a dispatcher.
    SessionId
    /// One piece of work (logs, exec) that a manager asks a node for.
    WorkId
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shown_id_parses_back(bytes: [u8; 16]) {
            let id = TaskId::from_random(bytes);

            prop_assert_eq!(id.to_string().len(), LENGTH);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "abc", "ABCDEFGHIJKLMNOPQRSTUVWXY", "zzzzzzzzzzzzzzzzzzzzzzzzz", "ä000000000000000000000000"]
        {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }
}
