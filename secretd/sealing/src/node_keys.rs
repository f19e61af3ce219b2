//! The node's keys on disk: a data key that seals every record, wrapped by a key-encryption key.
//!
//! Without more, the key-encryption key is a file beside the data (`kek`), as in Docker Swarm without autolock: whoever has
//! the disk has both, and the status says `weak`. What changes the source of the key-encryption key rewrites `dek` alone,
//! never a record, while everything goes on.
//!
//! `dek` is a magic, the header of [`crate::kek`], and the data keys, sealed with the first two as associated data. There is
//! one, but while records are sealed anew: a new data key is in the file before anything is sealed under it, and an old
//! one leaves it when nothing is any more.

mod files;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use self::files::{place, read, sync, wipe};
use crate::SealError;
use crate::at_rest::Sealer;
use crate::kek::{Header, KekStatus, Kind, Source, SourceError, check_new, derive};
use crate::secret::{Dek, KeyBytes};
use crate::unlock_key::{ParseUnlockKeyError, UnlockKey};

const KEK_MAGIC: &[u8; 16] = b"secretd kek   1\n";
const DEK_MAGIC: &[u8; 16] = b"secretd dek   3\n";

/// Records after which a data key is replaced by itself: half of what random nonces of 96 bits allow (NIST SP 800-38D,
/// 8.3), though these are longer.
const MOST_SEALS: u64 = 1 << 31;
/// Seals that are counted in advance in the file, so that the count is never behind after a crash.
const COUNTED_AHEAD: u64 = 1 << 20;

/// Why a node's keys could not be had, or not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeysError {
    /// A file or directory cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A key file does not have the bytes of one.
    #[error("{} is damaged: restore it from a backup; without it the data beside it cannot be opened", .0.display())]
    Damaged(PathBuf),
    /// One of the two files is there and the other is not.
    #[error("{} is missing, but its counterpart is there: restore it from a backup; without it the data cannot be opened", .0.display())]
    Missing(PathBuf),
    /// The credential that wraps the data key is not there, or is another one.
    #[error(
        "the data is wrapped by the systemd credential `secretd-kek`, and {0}: start secretd with the credential that it was wrapped by"
    )]
    Credential(&'static str),
    /// What was given does not open the data.
    #[error("invalid key provided")]
    WrongKey,
    /// It is no unlock key at all.
    #[error(transparent)]
    Parse(#[from] ParseUnlockKeyError),
    /// The source gives no key.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another key-encryption key counts, but not all of the change is done.
    #[error(
        "the data key is wrapped anew, but the old key may not be off the disk, or may count again after a lost power supply: {0}: do it again"
    )]
    Unfinished(Box<NodeKeysError>),
    /// No randomness for new keys.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The keys of one node, open.
#[derive(Debug)]
pub struct NodeKeys {
    directory: PathBuf,
    /// The newest last.
    keys: Vec<DataKey>,
    sealer: Sealer,
    header: Header,
    /// Wraps the data keys; kept, because new ones are made while nobody is there to type.
    kek: Dek,
}

/// One data key.
#[derive(Debug)]
struct DataKey {
    number: u32,
    /// Seconds since 1970.
    made_at: u64,
    /// Records that it had sealed at most when it was opened.
    before: u64,
    /// The same, as the file says: counted in advance.
    counted: u64,
    key: Dek,
}

impl DataKey {
    fn generate(number: u32, made_at: u64) -> Result<Self, NodeKeysError> {
        let key = Dek::generate().map_err(SealError::from)?;
        Ok(Self { number, made_at, before: 0, counted: COUNTED_AHEAD, key })
    }
}

/// What a data key needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Its count must be written down: [`NodeKeys::count`].
    Count,
    /// It has sealed enough: [`NodeKeys::begin_data_key`].
    Replacement,
}

/// The keys of a node that waits for an unlock key or a passphrase.
#[derive(Debug)]
pub struct LockedKeys {
    directory: PathBuf,
    header: Header,
    sealed: Vec<u8>,
}

/// What a node finds when it starts.
#[derive(Debug)]
pub enum Opened {
    /// It can go on.
    Open(NodeKeys),
    /// Somebody must give a key first.
    Locked(LockedKeys),
}

impl NodeKeys {
    /// Opens the keys in `directory`, or makes them where there are none at all. `credential` is the service manager's, if
    /// it has handed one over; keys that are made are wrapped by it then. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When the directory is not usable, or the files are not a pair. A missing file is never made anew beside its
    /// counterpart, nor are both beside the data that they open: that would throw the data away.
    pub fn open_or_create(directory: &Path, credential: Option<KeyBytes>, now: u64) -> Result<Opened, NodeKeysError> {
        let (kek_path, dek_path) = (directory.join("kek"), directory.join("dek"));
        let has_kek = kek_path.exists();
        let Some(bytes) = read(&dek_path).map_err(at(&dek_path))? else {
            // The pair is written kek first: a crash in between leaves a key that has never sealed anything.
            return match (is_new(directory), has_kek) {
                (true, _) => Self::create(directory, credential, now).map(Opened::Open),
                (false, true) => Err(NodeKeysError::Missing(dek_path)),
                (false, false) => Err(NodeKeysError::Missing(kek_path)),
            };
        };
        let locked = LockedKeys::parse(directory, &bytes).ok_or_else(|| NodeKeysError::Damaged(dek_path.clone()))?;
        match (locked.header.kind, credential) {
            (Kind::UnlockKey | Kind::Passphrase, _) => Ok(Opened::Locked(locked)),
            (Kind::Credential, Some(credential)) => {
                let opened = locked.open(&Source::Credential(credential), None).map_err(|(error, _)| error);
                let wrong = |error| {
                    let is_other = matches!(error, NodeKeysError::WrongKey);
                    if is_other { NodeKeysError::Credential("the one that is there is another") } else { error }
                };
                opened.map(Opened::Open).map_err(wrong)
            }
            (Kind::Credential, None) => Err(NodeKeysError::Credential("it is not there")),
            (Kind::File, _) => locked.open_with_file(&kek_path, &dek_path).map(Opened::Open),
        }
    }

    /// Seals this node's records.
    pub fn sealer(&self) -> Sealer {
        self.sealer.clone()
    }

    /// When the data key that seals was made, in seconds since 1970.
    pub fn data_key_made_at(&self) -> u64 {
        self.keys.last().map_or(0, |newest| newest.made_at)
    }

    /// Whether records may be left that are sealed under an older data key.
    pub fn has_older(&self) -> bool {
        self.keys.len() > 1
    }

    /// Makes a new data key. When this returns, it seals; what there is opens still. Everything is to be sealed anew, and
    /// then [`NodeKeys::forget_older`].
    ///
    /// # Errors
    /// When there is no randomness, or the disk does not take it: nothing is ever sealed under it then, though the file may
    /// have it until it is written again.
    pub fn begin_data_key(&mut self, now: u64) -> Result<(), NodeKeysError> {
        let number = self.keys.last().map_or(0, |newest| newest.number) + 1;
        self.keys.push(DataKey::generate(number, now)?);
        if let Err(error) = self.save(&self.header, &self.kek) {
            self.keys.pop();
            return Err(error);
        }
        if let Some(newest) = self.keys.last() {
            self.sealer.begin(number, &newest.key);
        }
        Ok(())
    }

    /// Throws the older data keys away: nothing is sealed under them any more.
    ///
    /// # Errors
    /// When the disk does not take it: they are kept in memory then, and are in the file or will be when it is written again.
    pub fn forget_older(&mut self) -> Result<(), NodeKeysError> {
        let older = self.keys.len().saturating_sub(1);
        let older: Vec<DataKey> = self.keys.drain(..older).collect();
        if let Err(error) = self.save(&self.header, &self.kek) {
            self.keys.splice(..0, older);
            return Err(error);
        }
        self.sealer.forget_older();
        Ok(())
    }

    /// What the data key needs, now that it has sealed more.
    pub fn due(&self) -> Due {
        let Some(newest) = self.keys.last() else { return Due::Nothing };
        let sealed = newest.before.saturating_add(self.sealer.sealed());
        if sealed >= MOST_SEALS && !self.has_older() {
            Due::Replacement
        } else if sealed.saturating_add(COUNTED_AHEAD / 2) > newest.counted {
            Due::Count
        } else {
            Due::Nothing
        }
    }

    /// Writes down in advance what the data key will have sealed.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn count(&mut self) -> Result<(), NodeKeysError> {
        let sealed = self.sealer.sealed();
        let Some(newest) = self.keys.last_mut() else { return Ok(()) };
        let known = newest.counted;
        newest.counted = newest.before.saturating_add(sealed).saturating_add(COUNTED_AHEAD);
        let saved = self.save(&self.header, &self.kek);
        if saved.is_err()
            && let Some(newest) = self.keys.last_mut()
        {
            newest.counted = known;
        }
        saved
    }

    /// Writes the data keys, durably. After an error the file has them as they were, or as they are now.
    fn save(&self, header: &Header, kek: &Dek) -> Result<(), NodeKeysError> {
        self.place(header, kek)?;
        sync(&self.directory).map_err(at(&self.directory))
    }

    /// Writes the data keys, wrapped by `kek`: all of them or, with an error, nothing. That lasts when the directory is synced.
    fn place(&self, header: &Header, kek: &Dek) -> Result<(), NodeKeysError> {
        let path = self.directory.join("dek");
        let sealed = Sealer::new(kek).seal(&aad(header), &to_bytes(&self.keys))?;
        place(&path, &[DEK_MAGIC, &header.to_bytes(), &sealed]).map_err(at(&path))
    }

    /// Where the key-encryption key comes from.
    pub fn status(&self) -> KekStatus {
        self.header.kind.status()
    }

    /// Which unlock key wraps the data key, if one does.
    pub fn unlock_version(&self) -> Option<u64> {
        (self.header.kind == Kind::UnlockKey).then_some(self.header.version)
    }

    /// Whether the data key is wrapped by a file beside it.
    pub fn is_by_file(&self) -> bool {
        self.header.kind == Kind::File
    }

    /// Wraps the data key by another key-encryption key. When this returns, the old one opens nothing any more.
    ///
    /// # Errors
    /// When the source gives no key, or the disk does not take it: the old one counts then. But after
    /// [`NodeKeysError::Unfinished`] the new one does, and the old one may not be off the disk.
    pub fn rewrap(&mut self, source: &Source) -> Result<(), NodeKeysError> {
        check_new(source)?;
        let header = Header::of(source).map_err(SealError::from)?;
        let new_path = self.directory.join("kek.next");
        self.finish_last_file(&new_path)?;
        let file = match source {
            Source::File => Some(Dek::generate().map_err(SealError::from)?),
            Source::UnlockKey(..) | Source::Passphrase(_) | Source::Credential(_) => None,
        };
        if let Some(file) = &file {
            // Beside the old one until `dek` is the new one's.
            place(&new_path, &[KEK_MAGIC, file.expose()]).map_err(at(&new_path))?;
            sync(&self.directory).map_err(at(&self.directory))?;
        }
        let kek = derive(source, &header, file.as_ref())?.ok_or(NodeKeysError::WrongKey)?;
        self.place(&header, &kek)?;
        // From here on the new one counts. The old one goes when that lasts, and not before: else neither might.
        (self.header, self.kek) = (header, kek);
        let finished = sync(&self.directory).map_err(at(&self.directory)).and_then(|()| match file {
            Some(_) => finish_file(&self.directory),
            None => wipe_files(&self.directory),
        });
        finished.map_err(|error| NodeKeysError::Unfinished(Box::new(error)))
    }

    /// Finishes a change that could not be finished: its key is in `next` alone, which the next change writes over.
    fn finish_last_file(&self, next: &Path) -> Result<(), NodeKeysError> {
        if self.header.kind != Kind::File {
            return Ok(());
        }
        let Some(file) = read(next).map_err(at(next))?.and_then(|bytes| parse_kek(&bytes)) else { return Ok(()) };
        if file.expose() == self.kek.expose() { finish_file(&self.directory) } else { Ok(()) }
    }

    fn create(directory: &Path, credential: Option<KeyBytes>, now: u64) -> Result<Self, NodeKeysError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(at(directory))?;
        if let Some(parent) = directory.parent() {
            sync(parent).map_err(at(parent))?;
        }
        let source = credential.map_or(Source::File, Source::Credential);
        let header = Header::of(&source).map_err(SealError::from)?;
        let (data_key, kek) = (DataKey::generate(0, now)?, Dek::generate().map_err(SealError::from)?);
        let sealer = Sealer::of(data_key.number, &data_key.key);
        let mut keys = Self { directory: directory.to_owned(), keys: vec![data_key], sealer, header, kek };
        keys.rewrap(&source)?;
        Ok(keys)
    }
}

impl LockedKeys {
    fn parse(directory: &Path, bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(DEK_MAGIC)?;
        let (header, sealed) = rest.split_first_chunk::<{ Header::LENGTH }>()?;
        Some(Self { directory: directory.to_owned(), header: Header::parse(header)?, sealed: sealed.to_vec() })
    }

    /// Opens them with what somebody has typed: the unlock key, or the passphrase. Takes a while for a passphrase.
    ///
    /// # Errors
    /// When it is not the right one: they are locked still, and given back.
    pub fn unlock(self, text: &KeyBytes) -> Result<NodeKeys, (NodeKeysError, Self)> {
        let source = match self.header.kind {
            Kind::Passphrase => Source::Passphrase(KeyBytes::new(text.expose().to_vec())),
            Kind::UnlockKey | Kind::File | Kind::Credential => {
                let parsed = std::str::from_utf8(text.expose()).map_err(|_| ParseUnlockKeyError::Form);
                match parsed.and_then(str::parse::<UnlockKey>) {
                    Ok(key) => Source::UnlockKey(key, self.header.version),
                    Err(error) => return Err((error.into(), self)),
                }
            }
        };
        self.open(&source, None)
    }

    fn open(self, source: &Source, file: Option<&Dek>) -> Result<NodeKeys, (NodeKeysError, Self)> {
        let kek = match derive(source, &self.header, file) {
            Ok(Some(kek)) => kek,
            Ok(None) => return Err((NodeKeysError::WrongKey, self)),
            Err(error) => return Err((error.into(), self)),
        };
        let opened = Sealer::new(&kek).open(&aad(&self.header), &self.sealed).ok();
        let keys = opened.and_then(|bytes| from_bytes(&bytes)).unwrap_or_default();
        let mut in_order = keys.iter();
        let Some(oldest) = in_order.next() else { return Err((NodeKeysError::WrongKey, self)) };
        let sealer = Sealer::of(oldest.number, &oldest.key);
        in_order.for_each(|newer| sealer.begin(newer.number, &newer.key));
        Ok(NodeKeys { directory: self.directory, keys, sealer, header: self.header, kek })
    }

    /// The file, or the one that was to follow it when the process ended.
    fn open_with_file(self, kek_path: &Path, dek_path: &Path) -> Result<NodeKeys, NodeKeysError> {
        let next = kek_path.with_extension("next");
        if let Some(bytes) = read(&next).map_err(at(&next))?
            && let Some(kek) = parse_kek(&bytes)
        {
            let again = Self { directory: self.directory.clone(), header: self.header, sealed: self.sealed.clone() };
            if let Ok(keys) = again.open(&Source::File, Some(&kek)) {
                finish_file(&keys.directory)?;
                return Ok(keys);
            }
        }
        let bytes = read(kek_path).map_err(at(kek_path))?.ok_or_else(|| NodeKeysError::Missing(kek_path.to_owned()))?;
        let kek = parse_kek(&bytes).ok_or_else(|| NodeKeysError::Damaged(kek_path.to_owned()))?;
        self.open(&Source::File, Some(&kek)).map_err(|_| NodeKeysError::Damaged(dek_path.to_owned()))
    }
}

fn parse_kek(bytes: &[u8]) -> Option<Dek> {
    Some(Dek::from_bytes(bytes.strip_prefix(KEK_MAGIC)?.try_into().ok()?))
}

/// Number, time, count and key of each.
const DATA_KEY: usize = 4 + 8 + 8 + 32;

fn to_bytes(keys: &[DataKey]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(keys.len() * DATA_KEY));
    for DataKey { number, made_at, counted, key, .. } in keys {
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&made_at.to_be_bytes());
        bytes.extend_from_slice(&counted.to_be_bytes());
        bytes.extend_from_slice(key.expose());
    }
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<Vec<DataKey>> {
    let (keys, []) = bytes.as_chunks::<DATA_KEY>() else { return None };
    let read = |bytes: &[u8; DATA_KEY]| {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        let (made_at, rest) = rest.split_first_chunk::<8>()?;
        let (counted, key) = rest.split_first_chunk::<8>()?;
        let counted = u64::from_be_bytes(*counted);
        Some(DataKey {
            number: u32::from_be_bytes(*number),
            made_at: u64::from_be_bytes(*made_at),
            before: counted,
            counted,
            key: Dek::from_bytes(key.try_into().ok()?),
        })
    };
    keys.iter().map(read).collect()
}

fn aad(header: &Header) -> Vec<u8> {
    [DEK_MAGIC.as_slice(), &header.to_bytes()].concat()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> NodeKeysError {
    let path = path.to_owned();
    move |source| NodeKeysError::Io { path, source }
}

/// Whether the data directory holds nothing that is sealed yet.
fn is_new(directory: &Path) -> bool {
    !directory.parent().is_some_and(|data| data.join("store").exists() || data.join("membership").exists())
}

/// The key file that was to follow does, when what it wraps lasts. One of the two is there at every moment.
fn finish_file(directory: &Path) -> Result<(), NodeKeysError> {
    let (kek, next) = (directory.join("kek"), directory.join("kek.next"));
    sync(directory).and_then(|()| wipe(directory, &kek)).map_err(at(&kek))?;
    fs::rename(next, &kek).and_then(|()| sync(directory)).map_err(at(&kek))
}

/// No key file is left.
fn wipe_files(directory: &Path) -> Result<(), NodeKeysError> {
    ["kek", "kek.next"]
        .map(|name| directory.join(name))
        .iter()
        .try_for_each(|path| wipe(directory, path).map_err(at(path)))
}

#[cfg(test)]
mod tests;
