//! Real handshakes, through memory.

use rustls::{ClientConnection, ServerConnection};
use secretd_proto::id::{ClusterId, NodeId};

use super::*;
use crate::authority::Authority;
use crate::identity::{Identity, NodeRole, OperatorRole, Subject};

const NOW: i64 = 1_800_000_000_000_000_000;
const DAY: Duration = Duration::from_hours(24);

#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp(self.0)
    }
}

fn now() -> Arc<dyn Clock> {
    Arc::new(At(NOW))
}

fn in_days(days: i64) -> Arc<dyn Clock> {
    Arc::new(At(NOW + days * 86_400_000_000_000))
}

fn cluster() -> ClusterId {
    ClusterId::from_random([7; 16])
}

fn authority() -> Authority {
    Authority::generate(cluster(), Timestamp(NOW)).unwrap()
}

fn node(role: NodeRole) -> Identity {
    Identity::Node { id: NodeId::from_random([3; 16]), role }
}

fn credentials(authority: &Authority, identity: Identity) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let subject = Subject { cluster: cluster(), identity };
    let certificate = authority.issue(&key.request().unwrap(), &subject, DAY, Timestamp(NOW)).unwrap();
    Credentials { certificate, key, chain: vec![authority.certificate().clone()] }
}

fn server(authority: &Authority, identity: Identity, clock: Arc<dyn Clock>) -> Arc<ServerConfig> {
    server_config(&credentials(authority, identity), &[authority.certificate().clone()], clock).unwrap()
}

fn client(authority: &Authority, identity: Identity, clock: Arc<dyn Clock>) -> Arc<ClientConfig> {
    client_config(&credentials(authority, identity), &[authority.certificate().clone()], clock).unwrap()
}

/// Both ends after the handshake, or the first error.
fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let mut client = ClientConnection::new(Arc::clone(client), manager_name())?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut bytes = Vec::new();
    for _ in 0..8 {
        bytes.clear();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn peer(connection: &ServerConnection) -> Option<Subject> {
    connection.peer_certificates().map(|chain| Subject::of(&chain[0]).unwrap())
}

#[test]
fn both_ends_know_each_other_and_use_what_is_strongest() {
    let authority = authority();
    let server = server(&authority, node(NodeRole::Manager), now());

    for identity in [
        node(NodeRole::Worker),
        node(NodeRole::Manager),
        Identity::Operator { name: "mia".to_owned(), role: OperatorRole::Admin },
    ] {
        let (client, server) = handshake(&client(&authority, identity.clone(), now()), &server).unwrap();

        assert_eq!(peer(&server).unwrap(), Subject { cluster: cluster(), identity });
        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    }
}

#[test]
fn who_is_no_manager_cannot_serve() {
    let authority = authority();
    let client = client(&authority, node(NodeRole::Worker), now());

    let worker = handshake(&client, &server(&authority, node(NodeRole::Worker), now()));
    assert!(matches!(worker, Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))));
}

#[test]
fn another_authority_is_refused_at_both_ends() {
    let (ours, theirs) = (authority(), authority());
    let own_client = client(&ours, node(NodeRole::Worker), now());
    let foreign_server = server(&theirs, node(NodeRole::Manager), now());
    assert!(handshake(&own_client, &foreign_server).is_err());

    // The foreign node trusts our root, but shows a certificate of its own.
    let foreign = credentials(&theirs, node(NodeRole::Manager));
    let foreign = client_config(&foreign, &[ours.certificate().clone()], now()).unwrap();
    assert!(handshake(&foreign, &server(&ours, node(NodeRole::Manager), now())).is_err());
}

#[test]
fn expired_client_is_let_in_to_renew_and_expired_server_is_not_believed() {
    let authority = authority();
    let expired = client(&authority, node(NodeRole::Worker), now());
    let late = server(&authority, node(NodeRole::Manager), in_days(400));

    let (_, server_end) = handshake(&expired, &late).unwrap();
    let shown = &server_end.peer_certificates().unwrap()[0];
    assert!(Validity::of(shown).unwrap().is_expired(in_days(400).now()));

    let on_time = client(&authority, node(NodeRole::Worker), in_days(2));
    let refused = handshake(&on_time, &server(&authority, node(NodeRole::Manager), now()));
    assert!(matches!(refused, Err(Error::InvalidCertificate(_))), "{refused:?}");
}

#[test]
fn token_leads_to_the_cluster_that_it_names_and_to_no_other() {
    let (ours, theirs) = (authority(), authority());
    let (config, root) = joining_config(ours.digest(), now()).unwrap();

    let (_, server_end) = handshake(&config, &server(&ours, node(NodeRole::Manager), now())).unwrap();
    assert_eq!(root.get(), Some(ours.certificate()));
    assert_eq!(peer(&server_end), None, "who has only a token has no certificate");

    assert!(handshake(&config, &server(&theirs, node(NodeRole::Manager), now())).is_err());
    // The right root in the chain does not help a certificate that it has not made.
    let mut liar = credentials(&theirs, node(NodeRole::Manager));
    liar.chain.push(ours.certificate().clone());
    let liar = server_config(&liar, &[ours.certificate().clone()], now()).unwrap();
    assert!(handshake(&config, &liar).is_err());
    assert!(handshake(&config, &server(&ours, node(NodeRole::Worker), now())).is_err());
}

#[test]
fn new_root_is_followed_from_the_old_one() {
    let (old, new) = (authority(), authority());
    let cross = old.cross_sign(new.certificate(), cluster(), Timestamp(NOW)).unwrap();
    let mut manager = credentials(&new, node(NodeRole::Manager));
    manager.chain = vec![cross, new.certificate().clone()];
    let roots = [old.certificate().clone(), new.certificate().clone()];
    let server = server_config(&manager, &roots, now()).unwrap();

    assert!(handshake(&client(&old, node(NodeRole::Worker), now()), &server).is_ok(), "knows the old root alone");
    let third = authority();
    assert!(handshake(&client(&third, node(NodeRole::Worker), now()), &server).is_err());
}
