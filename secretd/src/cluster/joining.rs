//! Joining a cluster with a token: the token says which cluster it must be, and shows it that this node may come in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use secretd_ca::tls::joining_config;
use secretd_ca::{JoinToken, NodeKey};
use secretd_manager::refusal::Refusal;
use secretd_proto::code::Code;
use secretd_proto::v1;
use secretd_proto::v1::admission_client::AdmissionClient;
use tokio::time::timeout;

use super::founding::{availability, bind};
use super::lifecycle::Lifecycle;
use super::links::{channel_on, connect};
use super::membership::{Membership, Stage};
use super::{address, refusals};

/// How long a manager may take to admit a node: it may wait for the others.
const ADMISSION: Duration = Duration::from_secs(15);

/// Why a manager has not admitted the node.
enum NotAdmitted {
    /// Another one may: this one was not reached, or is no manager of the token's cluster.
    Unreached(String),
    /// None will.
    Refused(Refusal),
}

impl Lifecycle {
    pub(super) async fn join(&mut self, request: v1::JoinClusterRequest) -> Result<Membership, Refusal> {
        self.check_free()?;
        let token: JoinToken = request.token.trim().parse().map_err(refusals::invalid)?;
        availability(request.availability)?;
        let system = address::of_system().map_err(|error| refusals::failed(&error.into()))?;
        let listen = address::listen(&request.listen, &system).map_err(refusals::invalid)?;
        // Before anybody is asked: a node must not be half admitted because of a wrong address.
        let advertise = match request.advertise.as_str() {
            "" if listen.ip().is_unspecified() => None,
            text => Some(address::advertise(text, listen, &system).map_err(refusals::invalid)?),
        };
        let listener = bind(listen).await?;
        self.file().and_then(|file| file.check_room()).map_err(|error| refusals::failed(&error))?;
        let key = NodeKey::generate().map_err(|error| refusals::failed(&error.into()))?;
        let mut unreached = Vec::new();
        for manager in &request.managers {
            let manager = with_port(manager);
            if is_own(&manager, listen, &system) {
                unreached.push(format!("{manager}: that is this node: give the address of a manager"));
                continue;
            }
            let candidate = Candidate { manager: &manager, listen, advertise, availability: request.availability };
            match self.ask(&token, &key, candidate).await {
                Ok(membership) => {
                    self.file().and_then(|file| file.save(&membership)).map_err(|error| refusals::failed(&error))?;
                    let listener = membership.manager.then_some(listener);
                    if let Err(error) = self.begin(membership.clone(), listener).await {
                        self.abandon().await;
                        return Err(refusals::failed(&error));
                    }
                    return Ok(membership);
                }
                Err(NotAdmitted::Refused(refusal)) => return Err(refusal),
                Err(NotAdmitted::Unreached(reason)) => unreached.push(reason),
            }
        }
        let reasons = if unreached.is_empty() { "no manager was given".to_owned() } else { unreached.join("; ") };
        Err(Refusal::new(Code::RemoteUnreachable, format!("no manager of the cluster was reached: {reasons}")))
    }

    async fn ask(&self, token: &JoinToken, key: &NodeKey, candidate: Candidate<'_>) -> Result<Membership, NotAdmitted> {
        let Candidate { manager, listen, advertise, availability } = candidate;
        let failed = |error: anyhow::Error| NotAdmitted::Refused(refusals::failed(&error));
        let (config, _root) =
            joining_config(token.root, Arc::clone(&self.node.clock)).map_err(|error| failed(error.into()))?;
        let unreached = |reason: &str| NotAdmitted::Unreached(format!("{manager}: {reason}"));
        let stream = connect(manager, config).await.map_err(|error| unreached(&reason(&error)))?;
        let local = stream.get_ref().0.local_addr().map_err(|error| unreached(&error.to_string()))?.ip();
        let address = advertise.unwrap_or_else(|| SocketAddr::new(unmapped(local), listen.port()));
        let channel = channel_on(stream).await.map_err(|error| unreached(&error.to_string()))?;
        let request = v1::AdmitRequest {
            secret: token.secret.expose().to_vec(),
            request: key.request().map_err(|error| failed(error.into()))?,
            address: address.to_string(),
            description: Some(self.node.description.borrow().clone().into()),
            availability,
        };
        let mut client = AdmissionClient::new(channel);
        let answer = timeout(ADMISSION, client.admit(request)).await;
        let answer = answer.map_err(|_| unreached("it has not answered in time"))?;
        let admitted = answer.map_err(|status| NotAdmitted::Refused(refusals::of_status(&status)))?.into_inner();
        let id = |text: &str| unreached(&format!("its answer is not understood: {text}"));
        let mut managers = admitted.managers;
        if managers.is_empty() {
            managers.push(manager.to_owned());
        }
        Ok(Membership {
            cluster: admitted.cluster_id.parse().map_err(|_| id("cluster"))?,
            node: admitted.node_id.parse().map_err(|_| id("node"))?,
            stage: Stage::Member,
            manager: admitted.manager,
            address,
            listen,
            managers,
            roots: admitted.roots,
            certificate: admitted.certificate,
            key: key.expose_pkcs8(),
        })
    }
}

/// A manager to ask, and what it is to know.
struct Candidate<'a> {
    manager: &'a str,
    listen: SocketAddr,
    /// Where others reach this node; without, the address from which it reaches the manager.
    advertise: Option<SocketAddr>,
    availability: i32,
}

/// A manager's address may be given without its port.
fn with_port(manager: &str) -> String {
    let port = address::PORT;
    if manager.parse::<SocketAddr>().is_ok() {
        return manager.to_owned();
    }
    match manager.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) if manager.contains(':') => manager.to_owned(),
        Err(_) => format!("{manager}:{port}"),
    }
}

/// Whether a manager's address is where this node listens itself: nobody would answer there.
fn is_own(manager: &str, listen: SocketAddr, system: &[address::Own]) -> bool {
    let Ok(manager) = manager.parse::<SocketAddr>() else { return false };
    let is_here = match listen.ip().is_unspecified() {
        true => manager.ip().is_loopback() || system.iter().any(|own| own.address == manager.ip()),
        false => manager.ip() == listen.ip(),
    };
    is_here && manager.port() == listen.port()
}

fn unmapped(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What has kept a connection from coming about, in words that say what to look at.
fn reason(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "it is no manager of the cluster that the token is for (or the cluster's root was replaced since: ask for the present token with `sctl cluster join-token`)".to_owned()
        }
        Some(other) => format!("it does not speak as a manager does: {other}"),
        None => {
            let text = error.to_string().to_lowercase();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_managers_port_need_not_be_given() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:7377"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("fd00::1", "[fd00::1]:7377"),
            ("[fd00::1]:5", "[fd00::1]:5"),
            ("n1.example", "n1.example:7377"),
            ("n1.example:88", "n1.example:88"),
        ] {
            assert_eq!(with_port(text), expected);
        }
    }

    #[test]
    fn a_nodes_own_address_is_no_managers() {
        let system = [address::Own { interface: "eth0".to_owned(), address: [10, 0, 0, 1].into() }];
        for (manager, listen, expected) in [
            ("10.0.0.1:7377", "0.0.0.0:7377", true),
            ("127.0.0.1:7377", "0.0.0.0:7377", true),
            ("10.0.0.1:7377", "10.0.0.1:7377", true),
            ("10.0.0.1:7378", "0.0.0.0:7377", false),
            ("10.0.0.2:7377", "0.0.0.0:7377", false),
            ("10.0.0.1:7377", "10.0.0.9:7377", false),
            ("n1.example:7377", "0.0.0.0:7377", false),
        ] {
            assert_eq!(is_own(manager, listen.parse().unwrap(), &system), expected, "{manager} {listen}");
        }
    }
}
