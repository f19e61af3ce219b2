//! How keys are written down by people: a prefix that tells what it is, and 56 characters.
//!
//! Thirty-two bytes and four of their SHA-256, in base 36: a typing error is told apart from another key.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const CHECK: usize = 4;
const BYTES: usize = 32 + CHECK;
/// Digits of 36 bytes in base 36.
const LENGTH: usize = 56;

/// One kind of key.
pub(crate) struct Form {
    pub(crate) prefix: &'static str,
    /// What its check digits are made of, beside the key.
    pub(crate) domain: &'static [u8],
}

/// Why a text is no key of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misprint {
    /// It is something else.
    Form,
    /// A character is wrong.
    Mistyped,
}

impl Form {
    pub(crate) fn text(&self, key: &[u8; 32]) -> String {
        let mut number = Zeroizing::new([0; BYTES]);
        let (bytes, check) = number.split_at_mut(32);
        bytes.copy_from_slice(key);
        check.copy_from_slice(&self.check(key));
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
        self.prefix.chars().chain(text.into_iter().map(char::from)).collect()
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Zeroizing<[u8; 32]>, Misprint> {
        let digits = text.strip_prefix(self.prefix).filter(|digits| digits.len() == LENGTH).ok_or(Misprint::Form)?;
        let mut number = Zeroizing::new([0_u8; BYTES]);
        for digit in digits.bytes() {
            let digit = DIGITS.iter().position(|known| *known == digit).ok_or(Misprint::Mistyped)?;
            let mut carry = u32::try_from(digit).unwrap_or(0);
            for byte in number.iter_mut().rev() {
                let value = u32::from(*byte) * 36 + carry;
                *byte = u8::try_from(value % 256).unwrap_or(0);
                carry = value / 256;
            }
            if carry > 0 {
                return Err(Misprint::Mistyped);
            }
        }
        let (bytes, check) = number.split_at(32);
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.try_into().map_err(|_| Misprint::Mistyped)?);
        if bool::from(self.check(&key).as_slice().ct_eq(check)) { Ok(key) } else { Err(Misprint::Mistyped) }
    }

    fn check(&self, key: &[u8; 32]) -> [u8; CHECK] {
        let digest = Sha256::new_with_prefix(self.domain).chain_update(key).finalize();
        let mut check = [0; CHECK];
        check.copy_from_slice(digest.get(..CHECK).unwrap_or_default());
        check
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: Form = Form { prefix: "KEY-1-", domain: b"a key of tests\0" };

    proptest! {
        #[test]
        fn key_comes_back_from_its_text_and_a_typing_error_does_not(bytes: [u8; 32], at in 6_usize..62, to in 0_usize..36) {
            let text = FORM.text(&bytes);

            prop_assert_eq!(*FORM.parse(&text).unwrap(), bytes);
            let mut typed = text.clone().into_bytes();
            typed[at] = DIGITS[to];
            let typed = String::from_utf8(typed).unwrap();
            prop_assume!(typed != text);
            prop_assert_eq!(FORM.parse(&typed).unwrap_err(), Misprint::Mistyped);
        }
    }

    #[test]
    fn key_of_another_kind_is_told_apart() {
        let text = FORM.text(&[7; 32]);
        let other = Form { prefix: "OTHER-1-", domain: b"another key\0" };
        assert_eq!(other.parse(&text).unwrap_err(), Misprint::Form);
        assert_eq!(FORM.parse("").unwrap_err(), Misprint::Form);
        let same_prefix = Form { prefix: FORM.prefix, domain: b"another key\0" };
        assert_eq!(same_prefix.parse(&text).unwrap_err(), Misprint::Mistyped);
    }
}
