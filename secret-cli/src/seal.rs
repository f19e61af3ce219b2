//! Where plaintext lives in this process: read into one buffer, sealed, wiped.
//!
//! While it does, the process cannot be traced or dumped by others of the same user, leaves no core, and its memory is
//! not swapped out as far as the system allows that.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};
use secretd_proto::id::{ClusterId, SecretId};
use secretd_proto::limit::MAX_SECRET_LENGTH;
use secretd_proto::v1::{GetSealingKeyRequest, SealedPayload};
use secretd_sealing::binding::PayloadBinding;
use secretd_sealing::key::PublicKey;
use secretd_sealing::payload;
use secretd_sealing::secret::SecretBytes;
use zeroize::Zeroizing;

use crate::connection::Control;
use crate::failure::Failure;
use crate::output;

/// Keeps the memory of this process from others, from now on.
pub(crate) fn protect_memory() -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::failed(format!("cannot keep the secret's memory out of core dumps: {error}")))?;
    // Others than root may lock a few megabytes: what comes later must not be refused because of that.
    let later = if geteuid().is_root() { MlockAllFlags::FUTURE } else { MlockAllFlags::empty() };
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT | later) {
        output::note(&format!(
            "WARNING: memory cannot be locked, so the secret may reach the swap: {error} (ulimit -l)"
        ));
    }
    Ok(())
}

/// Reads a secret from a file, or from standard input (`-`): every byte of it, a newline at its end too.
pub(crate) fn read(source: &Path) -> Result<SecretBytes, Failure> {
    let (name, file) = if source == Path::new("-") {
        // Not through `Stdin`, whose buffer would keep a copy.
        ("STDIN".to_owned(), io::stdin().as_fd().try_clone_to_owned().map(File::from))
    } else {
        (source.display().to_string(), File::open(source))
    };
    let failed = |error: io::Error| Failure::failed(format!("error reading from {name}: {error}"));
    let mut file = file.map_err(failed)?;
    let bytes = read_all(&mut file).map_err(failed)?;
    if bytes.is_empty() {
        return Err(Failure::invalid(format!(
            "error reading from {name}: data is empty: a secret has at least 1 byte"
        )));
    }
    if bytes.len() > MAX_SECRET_LENGTH {
        let known = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        let size = known.map_or_else(|| format!("at least {} bytes", bytes.len()), |size| format!("{size} bytes"));
        return Err(Failure::invalid(format!(
            "the secret is too large: {name} has {size}, and at most {MAX_SECRET_LENGTH} are allowed"
        )));
    }
    Ok(bytes)
}

/// Everything up to one byte more than is allowed, in a buffer that never grows.
fn read_all(file: &mut File) -> io::Result<SecretBytes> {
    let mut buffer = Zeroizing::new(vec![0; MAX_SECRET_LENGTH + 1]);
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(SecretBytes::new(std::mem::take(&mut *buffer)))
}

/// Seals a version of a secret to the cluster: its length and what may be sent.
pub(crate) async fn seal(
    control: &mut Control,
    secret: SecretId,
    version: u64,
    name: &str,
    plaintext: SecretBytes,
) -> Result<(u32, SealedPayload), Failure> {
    let name = name.parse().map_err(Failure::invalid)?;
    let key = control.get_sealing_key(GetSealingKeyRequest {}).await?.into_inner();
    let cluster: ClusterId = key.cluster_id.parse().map_err(Failure::failed)?;
    let sealing_key = PublicKey::from_bytes(&key.sealing_key).map_err(Failure::failed)?;
    let length = u32::try_from(plaintext.len()).map_err(Failure::failed)?;
    let binding = PayloadBinding { cluster, secret, version, name, length };
    let sealed = payload::seal(&plaintext, &binding, &sealing_key).map_err(Failure::failed)?;
    drop(plaintext);
    Ok((length, SealedPayload { ciphertext: sealed.ciphertext, wrapped_dek: sealed.wrapped_dek }))
}
