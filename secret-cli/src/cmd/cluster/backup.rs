//! `sctl cluster backup`

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use secretd_proto::v1::backup_part::Part;
use secretd_proto::v1::{BackupBegin, BackupPart, BackupRequest};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tonic::Streaming;

use crate::cmd::Context;
use crate::connection::Control;
use crate::failure::Failure;
use crate::new_file::{self, NewFile};
use crate::{human, input, output};

/// The exit codes after SIGINT and SIGTERM.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

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
    if args.file == Path::new("-") {
        return Err(Failure::usage("give a file: a backup is not written to standard output"));
    }
    if !args.quiet {
        context.format.check(&object(&args.file, &BackupBegin::default(), 0))?;
    }
    new_file::check_free(&args.file)?;
    let mut control = context.control().await?;
    let passphrase = match args.passphrase {
        true => input::hidden_line("New passphrase: ", "the backup's passphrase")?.as_bytes().to_vec(),
        false => Vec::new(),
    };
    let written = write(&mut control, BackupRequest { passphrase }, &args.file);
    let (begin, length) = until_signal(&args.file, written).await?;
    match print(context, args, &begin, length) {
        Err(failure) if !begin.key.is_empty() => Err(take_back(&args.file, &failure)),
        printed => printed.map(|()| 0),
    }
}

fn object(file: &Path, begin: &BackupBegin, length: u64) -> Value {
    json!({
        "ID": begin.cluster_id,
        "File": file.display().to_string(),
        "Bytes": length,
        "Key": begin.key,
        "Secrets": begin.secrets,
        "Services": begin.services,
    })
}

fn print(context: &Context, args: &Backup, begin: &BackupBegin, length: u64) -> Result<(), Failure> {
    if args.quiet {
        return output::bytes(format!("{}\n", begin.key).as_bytes());
    }
    let (secrets, services) = (human::count(begin.secrets, "secret"), human::count(begin.services, "service"));
    let mut plain = format!(
        "Backup of cluster {} written to {}: {secrets}, {services}, {length} bytes.",
        begin.cluster_id,
        args.file.display()
    );
    if begin.key.is_empty() {
        plain += "\n\nIts passphrase opens it, and nothing else.";
    } else {
        plain += &format!(
            "\n\nThis key opens it, and is kept nowhere else. Keep it in a safe place, apart from the file:\n\n    {}",
            begin.key
        );
    }
    output::bytes(context.format.object(&plain, &object(&args.file, begin, length))?.as_bytes())
}

/// Removes a backup whose key nobody has seen: what to say of it.
fn take_back(path: &Path, failure: &Failure) -> Failure {
    let why = match failure.message.as_str() {
        "" => "cannot write to standard output: nobody reads it",
        message => message,
    };
    let name = path.display();
    Failure::failed(match fs::remove_file(path) {
        Ok(()) => format!("{why}: the backup's key is lost, so {name} is removed again: make another backup"),
        Err(error) => format!("{why}: the backup's key is lost: remove {name}, which nothing opens ({error})"),
    })
}

/// What `work` comes to, unless a signal ends it before: then what it has begun goes with it.
async fn until_signal<T>(path: &Path, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let ended =
        |exit: u8| Failure { exit, ..Failure::failed(format!("interrupted: {} is not written", path.display())) };
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(ended(INTERRUPTED)),
        _ = terminate.recv() => Err(ended(TERMINATED)),
    }
}

/// Writes the whole file, or none: under another name until it is whole and on the disk.
async fn write(control: &mut Control, request: BackupRequest, path: &Path) -> Result<(BackupBegin, u64), Failure> {
    let cannot = |error: io::Error| new_file::failed(path, &error);
    let new = NewFile::begin(path).map_err(cannot)?;
    let parts = control.backup(request).await?.into_inner();
    let written = receive(new.file(), parts, &cannot).await?;
    new.put().map_err(cannot)?;
    Ok(written)
}

async fn receive(
    mut file: &File,
    mut parts: Streaming<BackupPart>,
    cannot: &impl Fn(io::Error) -> Failure,
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
