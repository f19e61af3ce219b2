//! A small machine under emulation (qemu), with another kernel than this one and our binaries.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::node::binary;
use crate::rootfs;

/// What stands around the output of the script.
const MARK: &str = "=== output ===";

/// The first program: a root that can be left (pivot_root(2) leaves no initramfs), the file systems, the script.
const INIT: &str = r#"#!/bin/sh
if [ ! -e /moved ]; then
    mkdir /new
    mount -t tmpfs root /new
    cp -a /bin /lib /lib64 /usr /etc /init /script /modules /busybox.tar /new/ 2>/dev/null
    mkdir /new/proc /new/sys /new/dev /new/tmp /new/run /new/moved
    exec switch_root /new /init
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
for module in /modules/*; do insmod "$module"; done
ip link set lo up
export PATH=/usr/bin:/bin
sh /script >/tmp/output 2>&1
echo "=== output ==="
cat /tmp/output
echo "=== output ==="
poweroff -f
"#;

/// Boots the kernel in `kernel` (see `tests/kernel.sh`), runs `script` in it as root, and answers what it printed.
/// The machine has `secretd`, `secret-fs` and `sctl`, busybox, and `/busybox.tar`, a root filesystem to import.
pub fn run(kernel: &Path, script: &str) -> Result<String> {
    let work = tempfile::Builder::new().prefix("lab-").tempdir()?;
    let root = work.path().join("root");
    make_root(&root, kernel, script)?;
    let archive = work.path().join("initramfs");
    let packed = Command::new("sh")
        .args(["-c", "find . | cpio --quiet --create --format=newc >\"$0\""])
        .arg(&archive)
        .current_dir(&root)
        .status()
        .context("cpio")?;
    ensure!(packed.success(), "cpio failed");
    let output = Command::new("timeout")
        .args([
            "--kill-after=5",
            "900",
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "1024",
            "-smp",
            "2",
        ])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel.join("vmlinuz"))
        .arg("-initrd")
        .arg(&archive)
        .stdin(Stdio::null())
        .output()
        .context("qemu-system-x86_64")?;
    let console = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let printed = console.split(MARK).nth(1);
    printed.map(str::to_owned).with_context(|| format!("the machine has not run the script: {console}"))
}

fn make_root(root: &Path, kernel: &Path, script: &str) -> Result<()> {
    for directory in ["bin", "usr/bin", "lib", "lib64", "etc", "modules", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static")?;
    let applets = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8(applets.stdout)?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for name in ["secretd", "secret-fs", "sctl"] {
        let stripped = root.join("usr/bin").join(name);
        let strip = Command::new("strip").arg("-o").arg(&stripped).arg(binary(name)).status().context("strip")?;
        ensure!(strip.success(), "strip {name}");
        for (path, bytes) in rootfs::with_libraries(&binary(name), &format!("usr/bin/{name}"))?.into_iter().skip(1) {
            write(&root.join(path), &bytes, 0o755)?;
        }
    }
    for entry in std::fs::read_dir(kernel)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "vmlinuz") {
            std::fs::copy(&path, root.join("modules").join(path.file_name().context("module")?))?;
        }
    }
    write(&root.join("busybox.tar"), &rootfs::busybox(&[])?, 0o644)?;
    write(&root.join("init"), INIT.as_bytes(), 0o755)?;
    write(&root.join("script"), script.as_bytes(), 0o644)
}

fn write(path: &PathBuf, bytes: &[u8], mode: u32) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("parent")?)?;
    std::fs::write(path, bytes)?;
    Ok(std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?)
}
