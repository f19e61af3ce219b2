//! The user that secret-fs becomes.

use nix::unistd::User;

/// The packages make this user.
const NAME: &str = "secret-fs";

/// Where there is no such user: a number that distributions give to nobody for keeps (systemd's dynamic users).
const WITHOUT_USER: u32 = 61_990;

/// User and group.
pub(crate) fn secret_fs() -> (u32, u32) {
    match User::from_name(NAME) {
        Ok(Some(user)) if !user.uid.is_root() => (user.uid.as_raw(), user.gid.as_raw()),
        _ => (WITHOUT_USER, WITHOUT_USER),
    }
}
