//! What a user installs: binaries that need glibc alone, and a package with a unit that systemd accepts.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use secretd_tests::node::binary;

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command:?}: {}{text}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

fn packaging(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../secretd/packaging").join(script)
}

/// The directory of the binaries under test.
fn binaries() -> Result<PathBuf> {
    Ok(binary("secretd").parent().context("the directory of the binaries")?.to_owned())
}

#[test]
fn binaries_need_glibc_alone() -> Result<()> {
    for name in ["secretd", "secret-fs", "sctl"] {
        let dynamic = output(Command::new("readelf").arg("-d").arg(binary(name)))?;
        let needed: Vec<&str> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();

        ensure!(!needed.is_empty(), "{dynamic}");
        for library in needed {
            let glibc = ["libc.so.6", "libm.so.6", "ld-linux"].iter().any(|part| library.contains(part));
            ensure!(glibc, "{name} needs another library: {library}");
        }
    }
    Ok(())
}

#[test]
fn package_installs_all_parts_and_a_unit_that_systemd_accepts() -> Result<()> {
    let work = tempfile::tempdir()?;
    let own = work.path().join("bin");
    std::fs::create_dir(&own)?;
    for name in ["secretd", "secret-fs", "sctl"] {
        std::os::unix::fs::symlink(binaries()?.join(name), own.join(name))?;
    }
    // Compression of unstripped binaries would take most of a minute.
    let package = output(Command::new(packaging("deb.sh")).arg(&own).env("DPKG_DEB_COMPRESSOR_TYPE", "none"))?;
    let root = work.path().join("root");
    output(Command::new("dpkg-deb").arg("-x").arg(package.trim()).arg(&root))?;

    for file in [
        "usr/bin/secretd",
        "usr/bin/secret-fs",
        "usr/bin/sctl",
        "usr/lib/systemd/system/secretd.service",
        "usr/lib/sysusers.d/secretd.conf",
        "etc/secretd/secretd.toml",
        "usr/share/man/man1/sctl-secret-create.1",
        "usr/share/bash-completion/completions/sctl",
        "usr/share/doc/secretd/LICENSE-MIT",
    ] {
        ensure!(root.join(file).is_file(), "the package lacks {file}");
    }
    let control = output(Command::new("dpkg-deb").arg("-f").arg(package.trim()).arg("Depends"))?;
    ensure!(control.trim().starts_with("libc6 (>= 2.") && !control.contains(','), "{control}");
    // The unit's own neighbours (sysinit.target and the like) are systemd's.
    output(Command::new("cp").args(["-rn", "/lib/systemd/system/."]).arg(root.join("usr/lib/systemd/system")))?;
    let verify = ["verify", "--man=no", "--recursive-errors=no"];
    let unit = root.join("usr/lib/systemd/system/secretd.service");
    output(Command::new("systemd-analyze").args(verify).arg(format!("--root={}", root.display())).arg(&unit))?;
    Ok(())
}
