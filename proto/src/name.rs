//! Names that people choose, checked when they come in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid secret name: it must have 1 to 64 characters out of [a-zA-Z0-9-_.] and begin and end with one of [a-zA-Z0-9]"
)]
pub struct ParseSecretNameError;

/// Why a text is no name of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseServiceNameError {
    /// It is too long for a DNS label.
    #[error("invalid service name: it must be 63 characters or fewer")]
    TooLong,
    /// It has characters that a DNS name component has not.
    #[error("invalid service name: it must be valid as a DNS name component: [a-zA-Z0-9], with - and _ within")]
    NotDns,
}

/// The name of a secret: `[a-zA-Z0-9]` at both ends, `[a-zA-Z0-9-_.]` within, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

/// The name of a service: a DNS name component of at most 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

fn ends_are_alphanumeric(text: &str) -> bool {
    let alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    alphanumeric(text.bytes().next()) && alphanumeric(text.bytes().last())
}

impl FromStr for SecretName {
    type Err = ParseSecretNameError;
    fn from_str(text: &str) -> Result<Self, ParseSecretNameError> {
        let within = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if text.len() <= 64 && within && ends_are_alphanumeric(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseSecretNameError)
        }
    }
}

impl FromStr for ServiceName {
    type Err = ParseServiceNameError;
    fn from_str(text: &str) -> Result<Self, ParseServiceNameError> {
        if text.len() > 63 {
            return Err(ParseServiceNameError::TooLong);
        }
        let within = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if within && ends_are_alphanumeric(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseServiceNameError::NotDns)
        }
    }
}

macro_rules! text {
    ($name:ident, $error:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text!(SecretName, ParseSecretNameError);
text!(ServiceName, ParseServiceNameError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_names_follow_the_rule() {
        let longest = "a".repeat(64);
        for good in ["a", "psql-pw", "A.b_c-9", &longest] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in ["", "-a", "a-", ".a", "a.", "a b", "a/b", "ä", "a\n", &too_long] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn service_names_are_dns_labels() {
        for good in ["a", "app", "my-app_2"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a.b", "a b", &too_long] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }
}
