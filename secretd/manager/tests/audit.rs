//! The audit trail: what was done to which id, by whom, and no name of anything. A process of its own: whether a line of
//! the journal is wanted is decided once for a whole process, and other tests want none.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)] // a part of the harness, which is shared

#[path = "service/harness.rs"]
mod harness;

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_proto::v1;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{World, container, grant, spec};

#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<u8>>>);

impl Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn actions_are_written_down_with_ids_and_without_names() {
    let journal = Journal::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(journal.clone());
    let _guard = tracing::subscriber::set_default(subscriber.with_env_filter(EnvFilter::new("trace")).finish());
    let world = World::founded().await;

    let secret = world.create_secret("launch-code", b"tell nobody").await;
    let mut doomed = spec("rocket-base", 1, "launcher:1");
    container(&mut doomed).secrets.push(grant(&secret, "code"));
    let service = world.create_service(doomed).await.unwrap();
    let remove = v1::RemoveSecretRequest { reference: "launch-code".to_owned(), ..Default::default() };
    world.control().remove_secret(remove).await.unwrap_err();

    let text = String::from_utf8(journal.0.lock().clone()).unwrap();
    let audit: Vec<&str> = text.lines().filter(|line| line.contains(" audit: ")).collect();
    let find = |parts: &[&str]| audit.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(find(&["secret.create", &secret.id, "done"]), "{audit:?}");
    assert!(find(&["service.create", &service.id, "done"]), "{audit:?}");
    assert!(find(&["secret.remove", &secret.id, "in-use"]), "{audit:?}");
    let ours = text.lines().filter(|line| line.contains("secretd_") || line.contains(" audit: "));
    for line in ours {
        for name in ["launch-code", "rocket-base", "launcher", "tell nobody"] {
            assert!(!line.contains(name), "{line}");
        }
    }
}
