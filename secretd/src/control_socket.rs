//! The control socket: who may connect, and what becomes of a socket file that is there already.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as BlockingStream;

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::{UnixListener, UnixStream};

/// Why the control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another process answers there.
    #[error("{0} is in use by another process: is another secretd running? Stop it, or give another --run-dir")]
    Taken(Utf8PathBuf),
    /// Something that is no socket has the name.
    #[error("{0} exists and is no socket: remove it, or give another --run-dir")]
    NotASocket(Utf8PathBuf),
    /// The group of the configuration does not exist.
    #[error("there is no group `{0}`: make it with `groupadd --system {0}`, or give another --group")]
    NoGroup(String),
    /// The path is longer than a socket's address can be.
    #[error("{0} is too long for a socket (107 bytes): give a shorter --run-dir")]
    TooLong(Utf8PathBuf),
    /// Anything else that the system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: Utf8PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// Who may use the control socket: root, and the members of one group.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    group: Option<Gid>,
}

impl Access {
    /// `named` must exist; without a name, the group `secretd` counts where it exists.
    pub(crate) fn new(named: Option<&str>) -> Result<Self, BindError> {
        let group = Group::from_name(named.unwrap_or("secretd")).ok().flatten().map(|group| group.gid);
        match (named, group) {
            (Some(name), None) => Err(BindError::NoGroup(name.to_owned())),
            _ => Ok(Self { group }),
        }
    }

    /// Whether the process at the other end may use the API, by its credentials when it connected (SO_PEERCRED, unix(7)).
    pub(crate) fn allows(&self, stream: &UnixStream) -> bool {
        let Ok(peer) = stream.peer_cred() else { return false };
        if peer.uid() == 0 {
            return true;
        }
        let Some(group) = self.group else { return false };
        if peer.gid() == group.as_raw() {
            return true;
        }
        let members = Group::from_gid(group).ok().flatten().map(|group| group.mem).unwrap_or_default();
        let user = User::from_uid(Uid::from_raw(peer.uid())).ok().flatten();
        user.is_some_and(|user| members.contains(&user.name))
    }
}

/// Binds the control socket. A socket file that nobody answers on is left from a process that was killed, and replaced.
pub(crate) fn bind(path: &Utf8Path, access: &Access) -> Result<UnixListener, BindError> {
    let at = |source| BindError::Io { path: path.to_owned(), source };
    if path.as_str().len() > 107 {
        return Err(BindError::TooLong(path.to_owned()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) if BlockingStream::connect(path).is_ok() => return Err(BindError::Taken(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(at)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(error)),
    }
    // The umask of this process lets nobody but root connect until the group is set.
    let listener = UnixListener::bind(path).map_err(at)?;
    if let Some(group) = access.group {
        chown(path, None, Some(group.as_raw())).map_err(at)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o660)).map_err(at)?;
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access { group: None }
    }

    fn path(directory: &tempfile::TempDir) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(directory.path().join("control.sock")).unwrap()
    }

    #[tokio::test]
    async fn socket_that_nobody_answers_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        drop(bind(&path(&directory), &access()).unwrap());

        assert!(bind(&path(&directory), &access()).is_ok());
    }

    #[tokio::test]
    async fn socket_that_is_served_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let _served = bind(&path(&directory), &access()).unwrap();

        assert!(matches!(bind(&path(&directory), &access()), Err(BindError::Taken(_))));
    }

    #[tokio::test]
    async fn file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(path(&directory), "mine").unwrap();

        assert!(matches!(bind(&path(&directory), &access()), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read(path(&directory)).unwrap(), b"mine");
    }
}
