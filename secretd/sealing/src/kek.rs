//! Where the key comes from that wraps a node's data key, and what that is worth.

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::NoRandomness;
use crate::secret::{Dek, KeyBytes};
use crate::unlock_key::UnlockKey;

/// Argon2id (RFC 9106, second recommended choice of section 4): memory in KiB, passes, lanes.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// A credential with less is no key.
const SHORTEST_CREDENTIAL: usize = 16;
/// A passphrase with less is guessed.
const SHORTEST_PASSPHRASE: usize = 8;

/// Where the key-encryption key comes from.
#[derive(Debug)]
pub enum Source {
    /// A file beside the data.
    File,
    /// The cluster's unlock key of that number.
    UnlockKey(UnlockKey, u64),
    /// What somebody types.
    Passphrase(KeyBytes),
    /// What the service manager hands over (systemd.exec(5), credentials).
    Credential(KeyBytes),
}

/// Why a source gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It would be guessed.
    #[error("a passphrase has at least {SHORTEST_PASSPHRASE} bytes")]
    ShortPassphrase,
    /// It is no key.
    #[error(
        "a credential has at least {SHORTEST_CREDENTIAL} bytes: make one with `head -c 32 /dev/urandom | systemd-creds encrypt ...`"
    )]
    ShortCredential,
    /// Not enough memory for Argon2id, which needs 64 MiB.
    #[error("the passphrase could not be stretched: are 64 MiB of memory free?")]
    Memory,
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Which source wraps a data key, as its file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    UnlockKey,
    Passphrase,
    Credential,
}

/// What is written beside a wrapped data key, and bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Which unlock key.
    pub(crate) version: u64,
    pub(crate) salt: [u8; 16],
}

impl Header {
    pub(crate) const LENGTH: usize = 1 + 8 + 16;

    pub(crate) fn of(source: &Source) -> Result<Self, NoRandomness> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| NoRandomness)?;
        let (kind, version) = match source {
            Source::File => (Kind::File, 0),
            Source::UnlockKey(_, version) => (Kind::UnlockKey, *version),
            Source::Passphrase(_) => (Kind::Passphrase, 0),
            Source::Credential(_) => (Kind::Credential, 0),
        };
        Ok(Self { kind, version, salt })
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let kind = match self.kind {
            Kind::File => 0,
            Kind::UnlockKey => 1,
            Kind::Passphrase => 2,
            Kind::Credential => 3,
        };
        let mut bytes = [0; Self::LENGTH];
        let parts = std::iter::once(kind).chain(self.version.to_be_bytes()).chain(self.salt);
        for (place, byte) in bytes.iter_mut().zip(parts) {
            *place = byte;
        }
        bytes
    }

    /// `None` for bytes that are no header.
    pub(crate) fn parse(bytes: &[u8; Self::LENGTH]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (version, salt) = rest.split_first_chunk::<8>()?;
        let kind = match kind {
            0 => Kind::File,
            1 => Kind::UnlockKey,
            2 => Kind::Passphrase,
            3 => Kind::Credential,
            _ => return None,
        };
        Some(Self { kind, version: u64::from_be_bytes(*version), salt: salt.try_into().ok()? })
    }
}

/// The key that a source gives. That of a file is the file's own.
pub(crate) fn derive(source: &Source, header: &Header, file: Option<&Dek>) -> Result<Option<Dek>, SourceError> {
    let expand = |bytes: &[u8]| {
        let mut key = Zeroizing::new([0; 32]);
        let info = b"secretd key-encryption key 1";
        let expanded = Hkdf::<Sha256>::new(Some(&header.salt), bytes).expand(info, key.as_mut_slice());
        expanded.map(|()| Dek::from_bytes(&key)).map_err(|_| SourceError::Memory)
    };
    match source {
        Source::File => Ok(file.map(|key| Dek::from_bytes(key.expose()))),
        Source::UnlockKey(key, _) => expand(key.expose()).map(Some),
        Source::Credential(bytes) => {
            check_credential(bytes)?;
            expand(bytes.expose()).map(Some)
        }
        Source::Passphrase(passphrase) => stretch(passphrase, &header.salt).map(Some),
    }
}

/// Refuses what is no key.
///
/// # Errors
/// When it is too short.
pub(crate) fn check_credential(bytes: &KeyBytes) -> Result<(), SourceError> {
    if bytes.expose().len() < SHORTEST_CREDENTIAL { Err(SourceError::ShortCredential) } else { Ok(()) }
}

/// Refuses what would be guessed. Said when a passphrase is chosen, not when it is given.
pub(crate) fn check_new(source: &Source) -> Result<(), SourceError> {
    match source {
        Source::Passphrase(passphrase) => check_passphrase(passphrase),
        Source::Credential(bytes) => check_credential(bytes),
        Source::File | Source::UnlockKey(..) => Ok(()),
    }
}

/// Refuses a passphrase that would be guessed.
pub(crate) fn check_passphrase(passphrase: &KeyBytes) -> Result<(), SourceError> {
    if passphrase.expose().len() < SHORTEST_PASSPHRASE { Err(SourceError::ShortPassphrase) } else { Ok(()) }
}

pub(crate) fn stretch(passphrase: &KeyBytes, salt: &[u8; 16]) -> Result<Dek, SourceError> {
    let params = Params::new(MEMORY, PASSES, LANES, Some(32)).map_err(|_| SourceError::Memory)?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let stretched = argon.hash_password_into(passphrase.expose(), salt, key.as_mut_slice());
    stretched.map(|()| Dek::from_bytes(&key)).map_err(|_| SourceError::Memory)
}

/// Where the key-encryption key comes from, and what that is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekStatus {
    /// `file`, `unlock-key`, `passphrase` or `credential`.
    pub source: &'static str,
    /// Whether a stolen disk is useless.
    pub secure: bool,
    /// One line for people.
    pub reason: &'static str,
}

impl Kind {
    pub(crate) fn status(self) -> KekStatus {
        let (source, secure, reason) = match self {
            Self::File => {
                ("file", false, "the key-encryption key is a file beside the data: whoever has the disk can open it")
            }
            Self::UnlockKey => {
                ("unlock-key", true, "the key-encryption key is the cluster's unlock key, which is on no disk")
            }
            Self::Passphrase => {
                ("passphrase", true, "the key-encryption key comes from a passphrase (Argon2id), which is on no disk")
            }
            Self::Credential => (
                "credential",
                true,
                "the key-encryption key is a systemd credential: as safe as the place that systemd has it from",
            ),
        };
        KekStatus { source, secure, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of another implementation (the reference code's command line): argon2id, version 13.
    #[test]
    fn passphrases_are_stretched_as_the_standard_says() {
        let key = stretch(&KeyBytes::new(b"correct horse battery staple".to_vec()), b"0123456789abcdef").unwrap();
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("kek/argon2id.txt").trim());
    }

    #[test]
    fn headers_come_back_and_others_are_refused() {
        let header = Header { kind: Kind::UnlockKey, version: 7, salt: [9; 16] };
        assert_eq!(Header::parse(&header.to_bytes()), Some(header));
        let mut wrong = header.to_bytes();
        wrong[0] = 4;
        assert_eq!(Header::parse(&wrong), None);
    }

    #[test]
    fn what_is_too_short_is_refused() {
        let short = |source: &Source| check_new(source).unwrap_err();
        assert_eq!(short(&Source::Passphrase(KeyBytes::new(b"hunter2".to_vec()))), SourceError::ShortPassphrase);
        assert_eq!(short(&Source::Credential(KeyBytes::new(vec![0; 15]))), SourceError::ShortCredential);
        assert!(check_new(&Source::File).is_ok());
    }
}
