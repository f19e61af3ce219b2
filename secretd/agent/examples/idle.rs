//! Idle nodes, for `make bench`: the real agent many times in one process, over TLS to a real manager, on fakes of
//! containers and of secret-fs.
//!
//! Reads a worker's join token, the manager's address and the number of nodes from standard input, a line each; has each
//! node join; prints `connected` when all have their session; ends with its input.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use secretd_agent::{Agent, Deps, Managers};
use secretd_ca::tls::{Credentials, client_config, joining_config, manager_name};
use secretd_ca::{CertificateDer, JoinToken, NodeKey};
use secretd_core::fake::runtime::FakeRuntime;
use secretd_core::fake::secret_mount::FakeSecretMount;
use secretd_core::node::NodeDescription;
use secretd_core::seam::clock::{Clock, SystemClock};
use secretd_proto::id::NodeId;
use secretd_proto::v1;
use secretd_proto::v1::admission_client::AdmissionClient;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The one manager.
#[derive(Debug)]
struct OneManager(Channel, watch::Sender<u64>);

impl Managers for OneManager {
    fn channel(&self, _leader: Option<&str>) -> Channel {
        self.0.clone()
    }

    fn led_anew(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn told(&self, _membership: v1::Membership) {}

    fn certificates(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn outdated(&self) {}

    fn recall(&self) -> v1::StoredSeen {
        v1::StoredSeen::default()
    }

    fn keep(&self, _seen: &v1::StoredSeen) {}

    fn doubt(&self, _why: &str) {}
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Failure> {
    let mut lines = std::io::stdin().lines();
    let mut line = || lines.next().ok_or("too few lines on standard input")?.map_err(Failure::from);
    let token: JoinToken = line()?.parse()?;
    let address = line()?;
    let count: usize = line()?.parse()?;
    drop(lines); // it holds standard input, which is read to its end below
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut sessions = Vec::with_capacity(count);
    for number in 1..=count {
        sessions.push(start(&token, &address, number, &clock).await?);
    }
    for connected in &mut sessions {
        connected.wait_for(|connected| *connected).await?;
    }
    let mut output = std::io::stdout();
    writeln!(output, "connected")?;
    output.flush()?;
    // The rest of the input is read on a thread that may block.
    tokio::task::spawn_blocking(move || std::io::stdin().lock().read_line(&mut String::new())).await??;
    std::process::exit(0); // sessions are cut off as they are when a machine is lost
}

/// Has one node join and begin its session: what tells when it has it.
async fn start(
    token: &JoinToken,
    address: &str,
    number: usize,
    clock: &Arc<dyn Clock>,
) -> Result<watch::Receiver<bool>, Failure> {
    let description = NodeDescription {
        hostname: format!("idle{number}"),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        nano_cpus: 4_000_000_000,
        memory_bytes: 16 << 30,
        ..NodeDescription::default()
    };
    let key = NodeKey::generate()?;
    let (joining, _root) = joining_config(token.root, Arc::clone(clock))?;
    let mut admission = AdmissionClient::new(channel(address, joining));
    let request = v1::AdmitRequest {
        secret: token.secret.expose().to_vec(),
        request: key.request()?,
        address: "127.0.0.1".to_owned(),
        description: Some(description.clone().into()),
        availability: v1::node::Availability::Active.into(),
    };
    let admitted = admission.admit(request).await?.into_inner();
    let roots: Vec<CertificateDer<'static>> = admitted.roots.into_iter().map(CertificateDer::from).collect();
    let credentials = Credentials { certificate: admitted.certificate.into(), key, chain: roots.clone() };
    let channel = channel(address, client_config(&credentials, &roots, Arc::clone(clock))?);
    let managers = OneManager(channel, watch::Sender::new(1));

    let (sender, connected) = watch::channel(false);
    let (kept, description) = watch::channel(description);
    let node: NodeId = admitted.node_id.parse()?;
    let agent = Agent::new(Deps {
        node,
        managers: Arc::new(managers),
        description,
        runtime: Arc::new(FakeRuntime::default()),
        secret_mount: Arc::new(FakeSecretMount::new(b"key")),
        clock: Arc::clone(clock),
        connected: sender,
    });
    let agent = agent.await?;
    tokio::spawn(async move {
        let _kept = kept; // a description that is told no more ends the session
        agent.run(CancellationToken::new()).await;
    });
    Ok(connected)
}

/// As secretd makes its own: see `secretd/src/cluster/links.rs`.
fn channel(address: &str, config: Arc<ClientConfig>) -> Channel {
    let address = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(manager_name(), stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://manager.secretd")
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keep_alive_interval(Duration::from_millis(1500))
        .keep_alive_timeout(Duration::from_secs(1))
        .connect_with_connector_lazy(connector)
}
