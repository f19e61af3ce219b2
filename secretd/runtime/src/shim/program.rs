//! Where a container's program is, found before the container is made so that a missing one has a clear error.

use std::io;

use super::rootfs::Rootfs;

/// Docker's PATH for images that set none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The absolute path of `name` in the container, looked up as execvp(3) does.
pub(crate) fn find(rootfs: &Rootfs, name: &str, env: &[String], workdir: &str) -> Result<String, String> {
    search(name, env, workdir, |path| rootfs.is_program(path))
}

fn search(
    name: &str,
    env: &[String],
    workdir: &str,
    is_program: impl Fn(&str) -> io::Result<bool>,
) -> Result<String, String> {
    if name.contains('/') {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{workdir}/{name}") };
        return match is_program(&path) {
            Ok(true) => Ok(path),
            Ok(false) => Err(format!("exec: \"{name}\": permission denied")),
            Err(_) => Err(format!("exec: \"{name}\": no such file or directory in the image")),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let found = path
        .split(':')
        .map(|directory| format!("{directory}/{name}"))
        .find(|path| matches!(is_program(path), Ok(true)));
    found.ok_or_else(|| format!("exec: \"{name}\": executable file not found in $PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, env: &[&str]) -> Result<String, String> {
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
        assert!(of("nothing", &[]).unwrap_err().contains("not found in $PATH"));
        assert!(of("/bin/data", &[]).unwrap_err().contains("permission denied"));
        assert!(of("/no", &[]).unwrap_err().contains("no such file"));
    }
}
