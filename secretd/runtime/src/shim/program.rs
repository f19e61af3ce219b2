//! Where a container's program is, found before the container is made so that a missing one has a clear error.

use std::io;

use super::rootfs::Rootfs;

/// Docker's PATH for images that set none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FindError {
    #[error("exec: \"{0}\": executable file not found in $PATH")]
    NoneInPath(String),
    #[error("exec: \"{0}\": no such file or directory in the image")]
    Missing(String),
    #[error("exec: \"{0}\": permission denied")]
    NoProgram(String),
}

impl FindError {
    /// What a shell ends with for the same reason (POSIX, 2.8.2), and Docker too.
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::NoneInPath(_) | Self::Missing(_) => 127,
            Self::NoProgram(_) => 126,
        }
    }
}

/// The absolute path of `name` in the container, looked up as execvp(3) does.
pub(crate) fn find(rootfs: &Rootfs, name: &str, env: &[String], workdir: &str) -> Result<String, FindError> {
    search(name, env, workdir, |path| rootfs.is_program(path))
}

fn search(
    name: &str,
    env: &[String],
    workdir: &str,
    is_program: impl Fn(&str) -> io::Result<bool>,
) -> Result<String, FindError> {
    if name.contains('/') {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{workdir}/{name}") };
        return match is_program(&path) {
            Ok(true) => Ok(path),
            Ok(false) => Err(FindError::NoProgram(name.to_owned())),
            Err(_) => Err(FindError::Missing(name.to_owned())),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let found = path
        .split(':')
        .map(|directory| format!("{directory}/{name}"))
        .find(|path| matches!(is_program(path), Ok(true)));
    found.ok_or_else(|| FindError::NoneInPath(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, env: &[&str]) -> Result<String, FindError> {
        let env: Vec<String> = env.iter().map(|&entry| entry.to_owned()).collect();
        search(name, &env, "/srv", |path| match path {
            "/bin/sh" | "/opt/sh" | "/srv/run" => Ok(true),
            "/bin/data" => Ok(false),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn path_is_searched_in_order_and_absolute_names_are_taken() {
        assert_eq!(of("sh", &[]), Ok("/bin/sh".into()));
        assert_eq!(of("sh", &["PATH=/opt:/bin"]), Ok("/opt/sh".into()));
        assert_eq!(of("/opt/sh", &["PATH=/bin"]), Ok("/opt/sh".into()));
    }

    #[test]
    fn what_is_not_there_or_no_program_says_so() {
        let missing = of("nothing", &[]).unwrap_err();
        assert_eq!((missing.to_string().contains("not found in $PATH"), missing.exit_code()), (true, 127));
        let data = of("/bin/data", &[]).unwrap_err();
        assert_eq!((data.to_string().contains("permission denied"), data.exit_code()), (true, 126));
        let nothing = of("/no", &[]).unwrap_err();
        assert_eq!((nothing.to_string().contains("no such file"), nothing.exit_code()), (true, 127));
    }
}
