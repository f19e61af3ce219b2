//! `held SOCKET`: prints what the secret-fs behind a socket holds, as JSON. Tests run it in a node's namespaces.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let socket = std::env::args_os().nth(1).context("usage: held SOCKET")?;
    let status = secretd_tests::secret_fs::ask(Path::new(&socket))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&status)?)?;
    Ok(())
}
