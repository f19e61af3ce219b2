//! The seal of a backup: one file that nothing opens but its own key or passphrase, and that is whole or refused.
//!
//! A header, and frames of one size. The header has a magic, what opens it, a salt, and the file's own key, wrapped: by a
//! printed key (HKDF-SHA256, RFC 5869), or by a passphrase (Argon2id as in [`crate::kek`]). Each frame is a record of
//! [`crate::at_rest`], bound to its number and to whether it is the last: frames cannot be left out, exchanged or cut off.
//! The last is filled up, so the length tells how much there is to 64 KiB, and nothing of its parts.

use std::fmt;
use std::str::FromStr;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::at_rest::{OVERHEAD, Sealer};
use crate::kek::{SourceError, check_passphrase, stretch};
use crate::printed::{Form, Misprint};
use crate::secret::{Dek, KeyBytes};
use crate::{NoRandomness, SealError};

const MAGIC: &[u8; 16] = b"secretd backup1\n";
const SALT: usize = 16;
const HEADER: usize = MAGIC.len() + 1 + SALT + 32 + OVERHEAD;
/// Bytes of a frame that are its content.
const CONTENT: usize = 64 * 1024;
const FRAME: usize = CONTENT + OVERHEAD;

const FORM: Form = Form { prefix: "SCTLBACKUP-1-", domain: b"secretd backup key 1\0" };

/// The key of a backup, as operators keep it: `SCTLBACKUP-1-` and 56 characters. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct BackupKey([u8; 32]);

impl BackupKey {
    /// A fresh one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self(key))
    }

    /// The key, as operators keep it.
    pub fn expose_text(&self) -> String {
        FORM.text(&self.0)
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(..)")
    }
}

impl FromStr for BackupKey {
    type Err = BackupError;
    fn from_str(text: &str) -> Result<Self, BackupError> {
        match FORM.parse(text) {
            Ok(key) => Ok(Self(*key)),
            Err(Misprint::Form) => Err(BackupError::KeyForm),
            Err(Misprint::Mistyped) => Err(BackupError::KeyMistyped),
        }
    }
}

/// What opens a backup.
#[derive(Debug)]
pub enum BackupSecret {
    /// Printed when it was made.
    Key(BackupKey),
    /// Chosen when it was made.
    Passphrase(KeyBytes),
}

/// Why a backup was not made or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("this is no backup of a cluster: give a file that `sctl cluster backup` has written")]
    Foreign,
    /// What was given does not open it.
    #[error("the key does not open this backup: give the one that was printed when it was made")]
    WrongKey,
    /// The same, for one that has a passphrase.
    #[error("the passphrase does not open this backup")]
    WrongPassphrase,
    /// A text is no key of a backup.
    #[error("the key of a backup begins with `SCTLBACKUP-1-` and has 56 more characters: copy the whole key")]
    KeyForm,
    /// A character is wrong.
    #[error("the backup's key is mistyped: copy it again")]
    KeyMistyped,
    /// It was cut off.
    #[error("the backup is not whole: it ends before its end")]
    Truncated,
    /// Something follows its end.
    #[error("the backup is damaged: something follows its end")]
    Trailing,
    /// Bytes were changed.
    #[error("the backup is damaged in its part {0} (of 64 KiB each)")]
    Damaged(u64),
    /// The passphrase is no good, or cannot be stretched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

#[derive(Clone, Copy)]
enum Kind {
    Key,
    Passphrase,
}

impl Kind {
    fn wrong(self) -> BackupError {
        match self {
            Self::Key => BackupError::WrongKey,
            Self::Passphrase => BackupError::WrongPassphrase,
        }
    }
}

fn prefix(kind: Kind, salt: &[u8; SALT]) -> Vec<u8> {
    let kind = match kind {
        Kind::Key => 0,
        Kind::Passphrase => 1,
    };
    [MAGIC.as_slice(), &[kind], salt].concat()
}

fn wrapping(secret: &BackupSecret, salt: &[u8; SALT]) -> Result<Sealer, BackupError> {
    let key = match secret {
        BackupSecret::Passphrase(passphrase) => stretch(passphrase, salt)?,
        BackupSecret::Key(key) => {
            let mut derived = Zeroizing::new([0; 32]);
            let expanded = Hkdf::<Sha256>::new(Some(salt), &key.0).expand(b"secretd backup 1", derived.as_mut_slice());
            expanded.map_err(|_| BackupError::Seal(SealError::Length))?;
            Dek::from_bytes(&derived)
        }
    };
    Ok(Sealer::new(&key))
}

fn position(number: u64, is_last: bool) -> [u8; 9] {
    let mut position = [0; 9];
    let bytes = number.to_be_bytes().into_iter().chain([u8::from(is_last)]);
    for (place, byte) in position.iter_mut().zip(bytes) {
        *place = byte;
    }
    position
}

/// Seals a backup, part by part.
pub struct BackupSeal {
    sealer: Sealer,
    number: u64,
    content: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for BackupSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupSeal").field("number", &self.number).finish_non_exhaustive()
    }
}

impl BackupSeal {
    /// Begins a backup that `secret` opens: with the bytes that the file begins with.
    ///
    /// # Errors
    /// When the passphrase is too short or cannot be stretched, or there is no randomness.
    pub fn begin(secret: &BackupSecret) -> Result<(Self, Vec<u8>), BackupError> {
        let kind = match secret {
            BackupSecret::Key(_) => Kind::Key,
            BackupSecret::Passphrase(passphrase) => {
                check_passphrase(passphrase)?;
                Kind::Passphrase
            }
        };
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| SealError::from(NoRandomness))?;
        let key = Dek::generate().map_err(SealError::from)?;
        let mut header = prefix(kind, &salt);
        let wrapped = wrapping(secret, &salt)?.seal(&header, key.expose())?;
        header.extend_from_slice(&wrapped);
        // As much room as it will need: growing would leave copies behind.
        let content = Zeroizing::new(Vec::with_capacity(CONTENT));
        Ok((Self { sealer: Sealer::new(&key), number: 0, content }, header))
    }

    /// Takes more of the content; answers with what the file goes on with.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, BackupError> {
        let mut sealed = Vec::new();
        while !bytes.is_empty() {
            if self.content.len() == CONTENT {
                sealed.extend_from_slice(&self.seal(false)?);
            }
            let (now, rest) = bytes.split_at(bytes.len().min(CONTENT - self.content.len()));
            self.content.extend_from_slice(now);
            bytes = rest;
        }
        Ok(sealed)
    }

    /// What the file ends with.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn finish(mut self) -> Result<Vec<u8>, BackupError> {
        self.content.resize(CONTENT, 0);
        self.seal(true)
    }

    fn seal(&mut self, is_last: bool) -> Result<Vec<u8>, BackupError> {
        let sealed = self.sealer.seal(&position(self.number, is_last), &self.content)?;
        self.number += 1;
        self.content.zeroize();
        Ok(sealed)
    }
}

/// Opens a backup, however its bytes come.
pub struct BackupOpen {
    secret: BackupSecret,
    opened: Option<Sealer>,
    number: u64,
    sealed: Vec<u8>,
}

impl fmt::Debug for BackupOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOpen").field("number", &self.number).finish_non_exhaustive()
    }
}

impl BackupOpen {
    /// Nothing of it has come yet.
    pub fn new(secret: BackupSecret) -> Self {
        Self { secret, opened: None, number: 0, sealed: Vec::new() }
    }

    /// Takes more of the file; answers with more of the content. Nothing of it counts before [`BackupOpen::finish`] has
    /// said that it is whole.
    ///
    /// # Errors
    /// Which part is not what was sealed.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        self.sealed.extend_from_slice(bytes);
        let mut content = Zeroizing::new(Vec::new());
        if self.opened.is_none() {
            let begins = self.sealed.iter().zip(MAGIC).all(|(byte, magic)| byte == magic);
            if !begins {
                return Err(BackupError::Foreign);
            }
            if self.sealed.len() < HEADER {
                return Ok(content);
            }
            let rest = self.sealed.split_off(HEADER);
            let header = std::mem::replace(&mut self.sealed, rest);
            self.opened = Some(self.open_header(&header)?);
        }
        let Some(sealer) = &self.opened else { return Ok(content) };
        // The last frame is known by nothing following it: one is always kept back.
        let frames = self.sealed.len().saturating_sub(1) / FRAME;
        content.reserve_exact(frames * CONTENT);
        for frame in self.sealed.chunks_exact(FRAME).take(frames) {
            let opened = sealer.open(&position(self.number, false), frame).map_err(|_| {
                // What was the last when it was made has something behind it.
                let was_last = sealer.open(&position(self.number, true), frame).is_ok();
                if was_last { BackupError::Trailing } else { BackupError::Damaged(self.number) }
            })?;
            content.extend_from_slice(&opened);
            self.number += 1;
        }
        self.sealed.drain(..frames * FRAME);
        Ok(content)
    }

    /// The end of the content, when the file has come to its end; followed by zeros.
    ///
    /// # Errors
    /// When it is not the end of a whole backup.
    pub fn finish(self) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let Some(sealer) = &self.opened else {
            let is_short = !self.sealed.is_empty();
            return Err(if is_short { BackupError::Truncated } else { BackupError::Foreign });
        };
        if self.sealed.len() != FRAME {
            return Err(BackupError::Truncated);
        }
        sealer.open(&position(self.number, true), &self.sealed).map_err(|_| {
            let goes_on = sealer.open(&position(self.number, false), &self.sealed).is_ok();
            if goes_on { BackupError::Truncated } else { BackupError::Damaged(self.number) }
        })
    }

    fn open_header(&self, header: &[u8]) -> Result<Sealer, BackupError> {
        let foreign = BackupError::Foreign;
        let rest = header.strip_prefix(MAGIC).ok_or(foreign)?;
        let (kind, rest) = rest.split_first().ok_or(foreign)?;
        let (salt, wrapped) = rest.split_first_chunk::<SALT>().ok_or(foreign)?;
        let kind = match kind {
            0 => Kind::Key,
            1 => Kind::Passphrase,
            _ => return Err(foreign),
        };
        let sealer = match (kind, &self.secret) {
            (Kind::Key, BackupSecret::Passphrase(_)) => return Err(BackupError::KeyForm),
            (Kind::Passphrase, BackupSecret::Key(key)) => {
                // A passphrase may look like a key.
                let text = KeyBytes::new(key.expose_text().into_bytes());
                wrapping(&BackupSecret::Passphrase(text), salt)?
            }
            (Kind::Key, BackupSecret::Key(_)) | (Kind::Passphrase, BackupSecret::Passphrase(_)) => {
                wrapping(&self.secret, salt)?
            }
        };
        let key = sealer.open(&prefix(kind, salt), wrapped).map_err(|_| kind.wrong())?;
        let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| foreign)?;
        Ok(Sealer::new(&Dek::from_bytes(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> BackupSecret {
        BackupSecret::Key(BackupKey([fill; 32]))
    }

    fn sealed(secret: &BackupSecret, content: &[u8]) -> Vec<u8> {
        let (mut seal, mut file) = BackupSeal::begin(secret).unwrap();
        for part in content.chunks(10_000) {
            file.extend(seal.write(part).unwrap());
        }
        file.extend(seal.finish().unwrap());
        file
    }

    fn opened(secret: BackupSecret, file: &[u8], piece: usize) -> Result<Vec<u8>, BackupError> {
        let mut open = BackupOpen::new(secret);
        let mut content = Vec::new();
        for part in file.chunks(piece) {
            content.extend_from_slice(&open.read(part)?);
        }
        content.extend_from_slice(&open.finish()?);
        Ok(content)
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn content_comes_back_whatever_pieces_the_file_comes_in() {
        for length in [0, 1, CONTENT - 1, CONTENT, CONTENT + 1, 3 * CONTENT] {
            let content = content(length);
            let file = sealed(&key(1), &content);
            for piece in [1000, FRAME, file.len()] {
                let back = opened(key(1), &file, piece).unwrap();
                assert_eq!(back.len(), length.div_ceil(CONTENT).max(1) * CONTENT, "{length}");
                assert_eq!(&back[..length], &content);
                assert!(back[length..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_found() {
        let file = sealed(&key(1), &content(2 * CONTENT + 5));
        for cut in (0..HEADER + 3).chain([HEADER + FRAME, HEADER + 2 * FRAME, file.len() - 1]) {
            let refused = opened(key(1), &file[..cut], 4096).unwrap_err();
            let expected = if cut == 0 { BackupError::Foreign } else { BackupError::Truncated };
            assert_eq!(refused, expected, "{cut}");
        }
        for at in (0..HEADER + 100).chain((HEADER..file.len()).step_by(997)) {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(opened(key(1), &damaged, 4096).is_err(), "{at}");
        }
        let mut longer = file.clone();
        longer.push(0);
        assert_eq!(opened(key(1), &longer, 4096).unwrap_err(), BackupError::Trailing);
        let mut exchanged = file[..HEADER].to_vec();
        exchanged.extend_from_slice(&file[HEADER + FRAME..HEADER + 2 * FRAME]);
        exchanged.extend_from_slice(&file[HEADER..HEADER + FRAME]);
        exchanged.extend_from_slice(&file[HEADER + 2 * FRAME..]);
        assert_eq!(opened(key(1), &exchanged, 4096).unwrap_err(), BackupError::Damaged(0));
        // Frames of another backup under the same key.
        let other = sealed(&key(1), &content(2 * CONTENT + 5));
        let mixed = [&file[..HEADER], &other[HEADER..]].concat();
        assert_eq!(opened(key(1), &mixed, 4096).unwrap_err(), BackupError::Damaged(0));
    }

    #[test]
    fn what_opens_it_is_its_own_key_or_passphrase() {
        let phrase = |text: &str| BackupSecret::Passphrase(KeyBytes::new(text.as_bytes().to_vec()));
        let file = sealed(&key(1), b"state");
        assert_eq!(opened(key(2), &file, 4096).unwrap_err(), BackupError::WrongKey);
        assert_eq!(opened(phrase("correct horse"), &file, 4096).unwrap_err(), BackupError::KeyForm);
        let file = sealed(&phrase("correct horse"), b"state");
        assert!(opened(phrase("correct horse"), &file, 4096).is_ok());
        assert_eq!(opened(phrase("wrong horse"), &file, 4096).unwrap_err(), BackupError::WrongPassphrase);
        assert_eq!(opened(key(1), &file, 4096).unwrap_err(), BackupError::WrongPassphrase);
        assert!(matches!(BackupSeal::begin(&phrase("short")), Err(BackupError::Source(SourceError::ShortPassphrase))));
        assert_eq!(opened(key(1), b"PK\x03\x04 a file of another kind", 4096).unwrap_err(), BackupError::Foreign);
        let shown = BackupKey([1; 32]).expose_text();
        assert_eq!(shown.parse::<BackupKey>().unwrap().0, [1; 32]);
        assert_eq!("SCTLKEY-1-x".parse::<BackupKey>().unwrap_err(), BackupError::KeyForm);
    }
}
