//! What the service manager hands over (systemd.exec(5), credentials): a key-encryption key, if there is one.

use std::io;
use std::path::PathBuf;

use anyhow::Context;
use secretd_sealing::secret::KeyBytes;

const NAME: &str = "secretd-kek";
/// Longer ones are none.
const LONGEST: u64 = 64 * 1024;

/// The credential; `None` where there is none.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn read() -> anyhow::Result<Option<KeyBytes>> {
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = PathBuf::from(directory).join(NAME);
    let length = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    anyhow::ensure!(length <= LONGEST, "{} is longer than {LONGEST} bytes", path.display());
    std::fs::read(&path).map(|bytes| Some(KeyBytes::new(bytes))).with_context(|| path.display().to_string())
}
