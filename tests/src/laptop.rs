//! Somebody who uses `sctl` from afar.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::command::{Answer, run};
use crate::lab::Lab;
use crate::node::binary;

/// A laptop on the lab's network, with a configuration of its own.
#[derive(Debug)]
pub struct Laptop<'a> {
    lab: &'a Lab,
    home: TempDir,
}

impl<'a> Laptop<'a> {
    /// One that has nothing yet.
    pub fn of(lab: &'a Lab) -> Result<Self> {
        Ok(Self { lab, home: tempfile::tempdir()? })
    }

    /// A path in its home.
    pub fn path(&self, name: impl AsRef<std::path::Path>) -> PathBuf {
        self.home.path().join(name)
    }

    /// The `sctl` command as it runs there.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let pid = self.lab.node(1).sandbox().pid();
        let mut command = Command::new("nsenter");
        command.args([format!("--target={pid}").as_str(), "--net", "--"]).arg(binary("sctl")).args(arguments);
        command.env("SCTL_CONFIG", self.path("config")).env_remove("SCTL_HOST");
        command
    }

    /// Runs `sctl` with `stdin` to its end.
    pub fn sctl(&self, arguments: &[&str], stdin: &[u8]) -> Result<Answer> {
        run(&mut self.command(arguments), stdin)
    }

    /// Runs `sctl`, which must succeed: its standard output without the end of the last line.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let answer = self.sctl(arguments, b"")?;
        ensure!(answer.status.success(), "sctl {arguments:?}: {answer:?}");
        Ok(answer.stdout.trim_end().to_owned())
    }

    /// Runs `sctl`, which must fail with this exit code and one line that has these words.
    pub fn refused(&self, code: i32, arguments: &[&str], words: &str) -> Result<()> {
        let answer = self.sctl(arguments, b"x")?;
        let is_one_line = answer.stderr.trim_end().lines().count() == 1;
        ensure!(
            answer.code() == code && is_one_line && answer.stderr.contains(words),
            "sctl {arguments:?}: {answer:?}"
        );
        Ok(())
    }

    /// A certificate that n1 makes: its file.
    pub fn certificate(&self, name: &str, role: &str) -> Result<String> {
        let path = self.path(format!("{name}.pem")).display().to_string();
        self.lab.node(1).ok(&["operator", "create", "--role", role, name, &path])?;
        Ok(path)
    }
}
