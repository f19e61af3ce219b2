//! Small root filesystems, made from what this machine has.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// Programs of busybox that tests call by name.
const APPLETS: &[&str] = &[
    "cat", "chmod", "chown", "cp", "date", "dd", "df", "echo", "env", "false", "find", "grep", "head", "hostname",
    "id", "kill", "ln", "ls", "md5sum", "mkdir", "mknod", "mount", "mv", "nc", "nproc", "ps", "pwd", "readlink", "rm",
    "sh", "sleep", "seq", "stat", "stty", "sync", "tail", "test", "timeout", "touch", "true", "tty", "ulimit",
    "umount", "uname", "unshare", "wc", "yes",
];

/// A tar archive of a root with busybox, the users root, app (1000) and www (33), and `extra` files (path, mode, bytes).
pub fn busybox(extra: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let binary = std::fs::read("/bin/busybox").context("/bin/busybox: install busybox-static")?;
    let mut archive = Builder::new(Vec::new());
    for directory in
        ["bin", "dev", "etc", "home", "home/app", "proc", "run", "sys", "tmp", "usr", "usr/bin", "var", "var/data"]
    {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        append(&mut archive, directory, EntryType::Directory, mode, &[])?;
    }
    append(&mut archive, "bin/busybox", EntryType::Regular, 0o755, &binary)?;
    for applet in APPLETS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    let passwd = b"root:x:0:0:root:/:/bin/sh\nwww:x:33:33::/var/data:/bin/false\napp:x:1000:1000::/home/app:/bin/sh\n";
    append(&mut archive, "etc/passwd", EntryType::Regular, 0o644, passwd)?;
    let group = b"root:x:0:\nwww:x:33:\naudio:x:63:app\napp:x:1000:\n";
    append(&mut archive, "etc/group", EntryType::Regular, 0o644, group)?;
    for (path, mode, bytes) in extra {
        append(&mut archive, path, EntryType::Regular, *mode, bytes)?;
    }
    Ok(archive.into_inner()?)
}

/// Files of this machine that a dynamically linked program needs, as [`busybox`]'s extra files: itself and its libraries.
pub fn with_libraries(program: &Path, at: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let output = std::process::Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    let mut files = vec![(at.to_owned(), std::fs::read(program)?)];
    for library in libraries {
        files.push((library.trim_start_matches('/').to_owned(), std::fs::read(library)?));
    }
    Ok(files)
}

fn append(archive: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(kind, mode, bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

/// Writes `bytes` to a file that only root reads.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    file.write_all(bytes)?;
    Ok(())
}
