//! The daemon, put together: the one place that names implementations.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use camino::{Utf8Path, Utf8PathBuf};
use secretd_agent::images_api::ImagesApi;
use secretd_agent::volumes_api::VolumesApi;
use secretd_core::node::{NodeDescription, SecretsStatus};
use secretd_core::seam::clock::{Clock, SystemClock};
use secretd_core::seam::secret_mount::SecretMount;
use secretd_manager::event::Events;
use secretd_runtime::images::{self, ImageStore};
use secretd_runtime::own_program::OwnProgram;
use secretd_runtime::secret_mount::AuditLog;
use secretd_runtime::{ContainerRuntime, SecretFs, container, node_facts, secret_mount};
use secretd_sealing::kek::KekStatus;
use secretd_sealing::node_keys::NodeKeys;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::api_thread::ApiThread;
use crate::cluster::keys::{KeyStatus, seconds, status_of};
use crate::cluster::lifecycle::Lifecycle;
use crate::cluster::local::{Facts, LocalService};
use crate::cluster::refusals;
use crate::cluster::slot::ControlSlot;
use crate::cluster::status::Phase;
use crate::config::{Config, LogFormat};
use crate::control_socket::{self, Access};
use crate::directories::Directories;
use crate::node::Node;
use crate::server::server;
use crate::{credential, harden, identity, notify};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The records of the control API, whatever else is logged.
const AUDIT: &str = "audit=info";

/// How long the start waits for the agent's first session: it takes milliseconds, unless something is wrong.
const FIRST_SESSION: std::time::Duration = std::time::Duration::from_secs(5);

/// What one layer may unpack to, where the configuration does not say: more than any image, less than a disk.
const MAX_UNPACKED: u64 = 64 << 30;

/// Runs the daemon until it is asked to end.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    start_log(config);
    let warnings = harden::harden();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    secretd_sys::allocator::limit();
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "root is needed, for mounts, namespaces and control groups: run secretd as root"
    );
    let mut directories = Directories::open(&config.data_dir, &config.run_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .thread_stack_size(512 * 1024)
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be made")?;
    let ended = runtime.block_on(serve(config, warnings, &mut directories));
    // Blocking work may wait for containers: they go on without this process.
    runtime.shutdown_background();
    drop(directories);
    ended
}

fn start_log(config: &Config) {
    let filter = config.log_level.parse::<tracing_subscriber::EnvFilter>().unwrap_or_default(); // it has been parsed before
    // Who did what is recorded at every level.
    let filter = AUDIT.parse().map_or_else(|_| filter.clone(), |audit| filter.clone().add_directive(audit));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn serve(config: &Config, warnings: Vec<String>, directories: &mut Directories) -> anyhow::Result<()> {
    let access = Access::new(config.group.as_deref())?;
    let stop = CancellationToken::new();
    let api_thread = ApiThread::start(stop.clone()).context("the API's thread cannot be started")?;
    let listener = {
        let _sockets = api_thread.enter();
        control_socket::bind(&config.run_dir.join("control.sock"), &access)?
    };
    directories.keep();
    let mut parts: JoinSet<anyhow::Error> = JoinSet::new();

    let (directory, now) = (config.data_dir.join("keys"), seconds(SystemClock.now()));
    let opened = NodeKeys::open_or_create(directory.as_std_path(), credential::read()?, now)?;
    let node = start_node(config, status_of(&opened), &mut parts)?;
    let events = Events::new();
    let slot = ControlSlot::new(refusals::not_in_cluster());
    let starting = Lifecycle::start(node.clone(), (opened, &config.data_dir), events.clone(), slot.clone());
    let (mut lifecycle, commands, mut status) = starting.await?;
    // Only now: a start that fails must leave no process behind.
    let supervised = node.secret_fs.clone();
    parts.spawn(async move {
        supervised.supervise().await;
        anyhow::anyhow!("the supervision of secret-fs has ended")
    });

    let facts = Facts {
        version: VERSION.to_owned(),
        description: node.description.clone(),
        data_dir: config.data_dir.to_string(),
        run_dir: config.run_dir.to_string(),
        warnings,
    };
    let images = ImagesApi::server(Arc::new(node.images.clone()), follow_images(&node, events, &mut parts));
    let incoming = UnixListenerStream::new(listener).filter(move |stream| match stream {
        Ok(stream) => access.allows(stream),
        Err(_) => true,
    });
    let api = server()
        .add_service(slot)
        .add_service(LocalService::server(facts, status.clone(), commands))
        .add_service(images)
        .add_service(VolumesApi::server(Arc::clone(&node.runtime) as _));
    let end = api_thread.serve(api.serve_with_incoming(incoming));
    parts.spawn(async move { ended("the API", end.await.unwrap_or(Ok(()))) });

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let is_member = lifecycle.is_member();
    let result = {
        let running = lifecycle.run();
        let announced = async {
            // A node that is part of a cluster serves logs and commands from the start.
            let active = status.wait_for(|status| status.phase == Phase::Active);
            if is_member && tokio::time::timeout(FIRST_SESSION, active).await.is_err() {
                tracing::warn!("the agent has found no manager yet");
            }
            tracing::info!(version = VERSION, run_dir = %config.run_dir, "secretd serves");
            notify::send(config.notify_socket.as_deref(), "READY=1");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            error = running => Err(error),
            Some(ended) = parts.join_next() => Err(ended.unwrap_or_else(|error| anyhow::anyhow!("a part has panicked: {error}"))),
            () = announced => Ok(()),
        }
    };
    notify::send(config.notify_socket.as_deref(), "STOPPING=1");
    stop.cancel();
    parts.shutdown().await; // containers, shims and secret-fs go on
    lifecycle.stop().await;
    node.runtime.close();
    let _ = std::fs::remove_file(config.run_dir.join("control.sock")); // the next start removes it otherwise
    result
}

fn start_node(config: &Config, kek: Option<KeyStatus>, parts: &mut JoinSet<anyhow::Error>) -> anyhow::Result<Node> {
    let program = Utf8PathBuf::from_path_buf(std::env::current_exe()?)
        .map_err(|path| anyhow::anyhow!("{}: the path of secretd must be UTF-8", path.display()))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let images = ImageStore::open(image_config(config), Arc::clone(&clock))?;
    let secret_fs = SecretFs::new(secret_mount::Config {
        run_dir: config.run_dir.clone(),
        audit: AuditLog {
            directory: config.data_dir.join("audit"),
            max_size: config.audit_max_size,
            max_files: config.audit_max_files,
        },
        program: secret_fs_program(config.secret_fs.as_deref(), &program),
        identity: identity::secret_fs(),
    });
    let runtime = ContainerRuntime::new(
        container::Config {
            data_dir: config.data_dir.clone(),
            run_dir: config.run_dir.clone(),
            program: OwnProgram::open().context("this program's own file")?,
            cgroup_parent: config.cgroup_parent.clone(),
        },
        images.clone(),
        secret_fs.backend().clone(),
        secret_fs.socket(),
    );
    let kek = Arc::new(watch::Sender::new(kek));
    let fault = Arc::new(watch::Sender::new(String::new()));
    let description = follow_description(config, (kek.subscribe(), fault.subscribe()), &secret_fs, parts);
    Ok(Node { clock, images, secret_fs, runtime: Arc::new(runtime), description, kek, fault })
}

fn image_config(config: &Config) -> images::Config {
    images::Config {
        directory: config.data_dir.join("images"),
        max_unpacked: config.max_unpacked.unwrap_or(MAX_UNPACKED),
        extra_ca: config.extra_ca.clone(),
        insecure_registries: config.insecure_registries.clone(),
    }
}

/// The configured one; else the one beside this program; else whatever PATH has.
fn secret_fs_program(configured: Option<&Utf8Path>, program: &Utf8Path) -> PathBuf {
    let beside = program.with_file_name("secret-fs");
    match configured {
        Some(path) => path.into(),
        None if beside.is_file() => beside.into(),
        None => "secret-fs".into(),
    }
}

/// What the node says of itself: the kernel's facts, and those of secret-fs, its keys and its part as they change.
fn follow_description(
    config: &Config,
    (mut kek, mut fault): (watch::Receiver<Option<KeyStatus>>, watch::Receiver<String>),
    secret_fs: &SecretFs,
    parts: &mut JoinSet<anyhow::Error>,
) -> watch::Receiver<NodeDescription> {
    let mut description = node_facts::describe(VERSION);
    description.engine_labels = config.labels.clone();
    let complete = move |secrets: SecretsStatus, keys: Option<KeyStatus>, fault: String| {
        let mut description = NodeDescription { fault, ..description.clone() };
        let kek = KekStatus { source: "", secure: true, reason: "" };
        let keys = keys.unwrap_or(KeyStatus { kek, data_key_made_at: 0, is_resealing: false });
        let kek = keys.kek;
        let mut weaknesses = secrets.weaknesses.clone();
        if !kek.secure {
            weaknesses.push(kek.reason.to_owned());
        }
        description.secrets = SecretsStatus {
            kek: kek.source.to_owned(),
            kek_secure: kek.secure,
            weaknesses,
            data_key_made_at: i64::try_from(keys.data_key_made_at).unwrap_or_default(),
            data_key_resealing: keys.is_resealing,
            ..secrets
        };
        description
    };
    let mut status = secret_fs.status();
    let present = {
        let (status, kek, fault) = (status.clone(), kek.clone(), fault.clone());
        move || complete(status.borrow().clone(), kek.borrow().clone(), fault.borrow().clone())
    };
    let first = present();
    let (sender, receiver) = watch::channel(first);
    parts.spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = status.changed() => changed,
                changed = kek.changed() => changed,
                changed = fault.changed() => changed,
            };
            if changed.is_err() {
                return anyhow::anyhow!("the status of secret-fs is not told any more");
            }
            sender.send_replace(present());
        }
    });
    receiver
}

/// Image events of this node, into the cluster's.
fn follow_images(
    node: &Node,
    events: Events,
    parts: &mut JoinSet<anyhow::Error>,
) -> secretd_agent::images_api::ImageEvents {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let clock = Arc::clone(&node.clock);
    parts.spawn(async move {
        while let Some((action, id, name)) = receiver.recv().await {
            let (id, name): (String, String) = (id, name);
            events.publish_local("image", action, &id, &name, clock.now());
        }
        anyhow::anyhow!("image events are not told any more")
    });
    sender
}

fn ended(what: &'static str, result: Result<(), tonic::transport::Error>) -> anyhow::Error {
    match result {
        Ok(()) => anyhow::anyhow!("{what} has ended"),
        Err(error) => anyhow::Error::new(error).context(what),
    }
}
