//! Backups: the whole state in one sealed file, while everything goes on.

use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::backup_part::Part;
use secretd_sealing::backup::{BackupKey, BackupSeal, BackupSecret};
use secretd_sealing::secret::KeyBytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Context, Messages};
use crate::audit::record;
use crate::caller::Caller;
use crate::refusal::{Refusal, with_causes};

/// Pieces that wait for the client.
const PIECES: usize = 4;

pub(super) async fn take(
    context: &Context,
    caller: Option<Caller>,
    request: v1::BackupRequest,
) -> Result<Messages<v1::BackupPart>, Refusal> {
    let id = context.view()?.cluster().map(|cluster| cluster.id).ok_or_else(Refusal::not_initialized)?;
    record(caller, "cluster.backup", id, begin(context, KeyBytes::new(request.passphrase)).await)
}

async fn begin(context: &Context, passphrase: KeyBytes) -> Result<Messages<v1::BackupPart>, Refusal> {
    let (secret, key) = if passphrase.expose().is_empty() {
        let key = BackupKey::generate().map_err(|error| Refusal::new(Code::Internal, error))?;
        let text = key.expose_text();
        (BackupSecret::Key(key), text)
    } else {
        (BackupSecret::Passphrase(passphrase), String::new())
    };
    let seal = tokio::task::spawn_blocking(move || BackupSeal::begin(&secret)).await;
    let seal = seal.map_err(|error| Refusal::new(Code::Internal, error))?;
    let (seal, header) = seal.map_err(Refusal::invalid)?;
    let replica = context.store.replica();
    let replica = replica.ok_or_else(|| Refusal::new(Code::Internal, "a store in memory has no backups"))?;
    let backup = replica.backup().await.map_err(|error| Refusal::new(Code::Storage, error))?;
    let view = backup.view();
    let begin = v1::BackupBegin {
        cluster_id: view.cluster().map(|cluster| cluster.id.to_string()).unwrap_or_default(),
        key,
        secrets: u32::try_from(view.secrets().count()).unwrap_or(u32::MAX),
        services: u32::try_from(view.services().count()).unwrap_or(u32::MAX),
    };
    let taken_at = context.now();
    let (sender, parts) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        // Who asked may go away at any time.
        let send = |part| sender.blocking_send(Ok(v1::BackupPart { part: Some(part) })).is_ok();
        let mut length = header.len();
        if !send(Part::Begin(begin)) || !send(Part::Data(header)) {
            return;
        }
        let sink = |data: Vec<u8>| {
            length += data.len();
            data.is_empty() || send(Part::Data(data))
        };
        match backup.write(seal, taken_at, sink) {
            Ok(()) => drop(send(Part::End(length as u64))),
            Err(error) => {
                let refusal = Refusal::new(Code::Storage, format!("the backup broke off: {}", with_causes(&error)));
                let _ = sender.blocking_send(Err(refusal.into()));
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(parts)))
}
