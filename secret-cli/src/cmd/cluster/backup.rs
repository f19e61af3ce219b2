//! `sctl cluster backup`

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use secretd_proto::code::Code;
use secretd_proto::v1::backup_part::Part;
use secretd_proto::v1::{BackupBegin, BackupPart, BackupRequest};
use serde_json::json;
use tonic::Streaming;

use crate::cmd::Context;
use crate::failure::Failure;
use crate::{input, output};

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Have a passphrase open the backup, read from standard input; unless given, a key is made and printed
    #[arg(long)]
    passphrase: bool,
    /// Only the key
    #[arg(short, long, conflicts_with = "passphrase")]
    quiet: bool,
    /// What to write; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(context: &Context, args: &Backup) -> Result<u8, Failure> {
    let name = args.file.display();
    if args.file.exists() {
        let message = format!("{name} already exists: remove it, or give another name");
        return Err(Failure::new(Code::NameConflict, message));
    }
    let mut control = context.control().await?;
    let passphrase = match args.passphrase {
        true => input::hidden_line("New passphrase: ", "the backup's passphrase")?.as_bytes().to_vec(),
        false => Vec::new(),
    };
    let parts = control.backup(BackupRequest { passphrase }).await?.into_inner();
    let (begin, length) = write(&args.file, parts).await?;
    if args.quiet {
        output::bytes(format!("{}\n", begin.key).as_bytes())?;
        return Ok(0);
    }
    let (secrets, services) = (begin.secrets, begin.services);
    let mut plain = format!(
        "Backup of cluster {} written to {name}: {secrets} secrets, {services} services, {length} bytes.",
        begin.cluster_id
    );
    if begin.key.is_empty() {
        plain += "\n\nIts passphrase opens it, and nothing else.";
    } else {
        plain += &format!(
            "\n\nThis key opens it, and is kept nowhere else. Keep it in a safe place, apart from the file:\n\n    {}",
            begin.key
        );
    }
    let value = json!({
        "ID": begin.cluster_id,
        "File": args.file,
        "Bytes": length,
        "Key": begin.key,
        "Secrets": secrets,
        "Services": services,
    });
    output::bytes(context.format.object(&plain, &value)?.as_bytes())?;
    Ok(0)
}

/// Writes the whole file, or none: under another name until it is whole and on the disk.
async fn write(path: &Path, parts: Streaming<BackupPart>) -> Result<(BackupBegin, u64), Failure> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial).map_err(cannot)?;
    let written = receive(&file, parts, &cannot).await;
    let finished = written.and_then(|written| {
        file.sync_all().and_then(|()| put_in_place(&partial, path)).map_err(cannot)?;
        Ok(written)
    });
    if finished.is_err() {
        let _ = fs::remove_file(&partial); // the failure is told
    }
    finished
}

/// Gives the file its name, unless another has taken it meanwhile. Both are on the disk when this returns.
fn put_in_place(partial: &Path, path: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, partial, CWD, path, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL) => fs::rename(partial, path)?, // network file systems know the plain one alone
        renamed => renamed?,
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let synced = File::open(directory.unwrap_or_else(|| Path::new("."))).and_then(|directory| directory.sync_all());
    synced.inspect_err(|_| drop(fs::remove_file(path))) // a name that may not last is none
}

async fn receive(
    mut file: &File,
    mut parts: Streaming<BackupPart>,
    cannot: &impl Fn(std::io::Error) -> Failure,
) -> Result<(BackupBegin, u64), Failure> {
    let mut begin = None;
    let mut end = None;
    let mut length = 0;
    while let Some(part) = parts.message().await? {
        match part.part {
            Some(Part::Begin(first)) => begin = Some(first),
            Some(Part::Data(data)) => {
                file.write_all(&data).map_err(cannot)?;
                length += data.len() as u64;
            }
            Some(Part::End(whole)) => end = Some(whole),
            None => {}
        }
    }
    let begin = begin.filter(|_| end == Some(length));
    let begin = begin.ok_or_else(|| Failure::failed("the manager has not sent the whole backup: try again"))?;
    Ok((begin, length))
}
