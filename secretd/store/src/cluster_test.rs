//! Several real stores, with a network between them that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use secretd_core::fake::clock::FakeClock;
use secretd_core::seam::clock::Clock;
use secretd_core::secret::SecretVersion;
use secretd_core::time::{Timestamp, Version};
use secretd_proto::v1;
use secretd_sealing::backup::{BackupSeal, BackupSecret};
use secretd_sealing::secret::KeyBytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::fixture::*;
use crate::op::Op;
use crate::peers::{Member, PeerError, Peers};
use crate::proposer::ProposeError;
use crate::raft::backup::{Backup, BackupError, Restore, Restored};
use crate::raft::membership::MembershipError;
use crate::raft::server::RaftServer;
use crate::store::Store;

/// Who can be reached: by address.
#[derive(Debug, Default)]
struct Net {
    servers: Mutex<BTreeMap<String, RaftServer>>,
    cut: Mutex<BTreeSet<String>>,
}

impl Net {
    fn cut(&self, n: u8) {
        self.cut.lock().insert(member(n).address);
    }

    fn heal(&self) {
        self.cut.lock().clear();
    }
}

#[derive(Debug)]
struct From {
    net: Arc<Net>,
    own: String,
}

impl From {
    fn to(&self, to: &Member) -> Result<RaftServer, PeerError> {
        let cut = self.net.cut.lock();
        if cut.contains(&self.own) || cut.contains(&to.address) {
            return Err(PeerError("cut".to_owned()));
        }
        self.net.servers.lock().get(&to.address).cloned().ok_or_else(|| PeerError("nobody is there".to_owned()))
    }
}

fn failed(error: impl std::fmt::Debug) -> PeerError {
    PeerError(format!("{error:?}"))
}

#[async_trait]
impl Peers for From {
    async fn append(&self, to: &Member, request: v1::AppendRequest) -> Result<v1::AppendResponse, PeerError> {
        let answer = self.to(to)?.append(request).await.map_err(failed);
        self.to(to)?; // an answer goes the same way
        answer
    }

    async fn vote(&self, to: &Member, request: v1::VoteRequest) -> Result<v1::VoteResponse, PeerError> {
        let answer = self.to(to)?.vote(request).await.map_err(failed);
        self.to(to)?;
        answer
    }

    async fn install_snapshot(
        &self,
        to: &Member,
        chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, PeerError> {
        self.to(to)?.install_snapshot(chunks).await.map_err(failed)
    }
}

fn member(n: u8) -> Member {
    Member { node: node_id(n), address: format!("10.0.0.{n}:7377") }
}

struct Manager {
    _guard: tempfile::TempDir,
    path: camino::Utf8PathBuf,
    store: Store,
}

async fn manager(net: &Arc<Net>, n: u8) -> Manager {
    let (guard, path) = directory();
    start(net, n, guard, path).await
}

async fn start(net: &Arc<Net>, n: u8, guard: tempfile::TempDir, path: camino::Utf8PathBuf) -> Manager {
    start_with(net, n, (guard, path), clock()).await
}

async fn start_with(
    net: &Arc<Net>,
    n: u8,
    (guard, path): (tempfile::TempDir, camino::Utf8PathBuf),
    clock: Arc<dyn Clock>,
) -> Manager {
    let own = member(n).address;
    let peers = Arc::new(From { net: Arc::clone(net), own: own.clone() });
    let store = Store::open(&path, sealer(), clock, peers).await.unwrap();
    net.servers.lock().insert(own, store.replica().unwrap().server());
    Manager { _guard: guard, path, store }
}

impl Manager {
    fn id(&self) -> u64 {
        self.store.replica().unwrap().member_id()
    }
}

fn init_at(n: u8) -> Op {
    let Op::InitCluster { record, node } = init() else { panic!() };
    Op::InitCluster { record, node: secretd_core::node::Node { address: member(n).address, ..node } }
}

/// A cluster of `n` managers. The first leads, unless a busy machine has elected another one.
async fn cluster(net: &Arc<Net>, n: u8) -> Vec<Manager> {
    let mut managers = vec![manager(net, 1).await];
    managers[0].store.propose(vec![init_at(1)]).await.unwrap();
    for n in 2..=n {
        let new = manager(net, n).await;
        add(&managers, &new, n).await;
        managers.push(new);
    }
    managers
}

/// How long it may take until a leader does what is asked of whoever leads. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Proposes at whoever leads.
async fn propose<'a>(managers: impl IntoIterator<Item = &'a Manager> + Clone, ops: Vec<Op>) -> Version {
    let proposed = async {
        loop {
            match leader(managers.clone()).await.store.propose(ops.clone()).await {
                Err(ProposeError::NotLeader(_)) => tokio::task::yield_now().await,
                outcome => return outcome.unwrap(),
            }
        }
    };
    timeout(PATIENCE, proposed).await.expect("nobody takes a proposal")
}

/// Has whoever leads make `new` a member.
async fn add(managers: &[Manager], new: &Manager, n: u8) {
    loop {
        match leader(managers).await.store.replica().unwrap().add_member(new.id(), member(n)).await {
            Err(MembershipError::NotLeader(_)) => tokio::task::yield_now().await,
            outcome => return outcome.unwrap(),
        }
    }
}

/// Which of `managers` leads, and those that do not.
async fn leader_and_others(managers: &[Manager]) -> (u8, Vec<u8>) {
    let id = leader(managers).await.id();
    let (leads, others): (Vec<_>, Vec<_>) = (1..).zip(managers).partition(|(_, manager)| manager.id() == id);
    (leads[0].0, others.into_iter().map(|(n, _)| n).collect())
}

/// Those of `managers` that are not the `n`th.
fn without(managers: &[Manager], n: u8) -> impl Iterator<Item = &Manager> + Clone {
    (1..).zip(managers).filter(move |(at, _)| *at != n).map(|(_, manager)| manager)
}

/// Waits until the view of `store` has what is asked for.
async fn until(store: &Store, holds: impl Fn(&crate::View) -> bool) {
    let wait = async {
        loop {
            let (view, mut watch) = store.view_and_watch();
            if holds(&view) {
                return;
            }
            while let Some(change) = watch.next().await {
                if holds(&change.view) {
                    return;
                }
            }
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("the view never has it");
}

async fn leader<'a>(managers: impl IntoIterator<Item = &'a Manager>) -> &'a Manager {
    let managers: Vec<&Manager> = managers.into_iter().collect();
    let waits = managers.iter().map(|manager| {
        Box::pin(async move {
            let mut watch = manager.store.replica().unwrap().watch_leadership();
            while let Some(now) = watch.next().await {
                if now.leads {
                    return *manager;
                }
            }
            std::future::pending().await
        })
    });
    timeout(Duration::from_secs(20), first(waits.collect())).await.expect("nobody leads")
}

async fn first<T>(mut waits: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    std::future::poll_fn(move |context| {
        for wait in &mut waits {
            if let std::task::Poll::Ready(done) = wait.as_mut().poll(context) {
                return std::task::Poll::Ready(done);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn payload_fill(store: &Store, n: u8) -> Option<(usize, u8)> {
    let payload = store.payload(secret_id(n), 1).await.unwrap()?;
    Some((payload.ciphertext.len(), payload.ciphertext[0]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_leader_acknowledges_is_on_every_manager_with_its_payloads() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 3).await;

    propose(&managers, vec![create_secret(1, "small", 5), create_secret(2, "large", 512_000)]).await;

    for manager in &managers {
        until(&manager.store, |view| view.secret(&secret_id(2)).is_some()).await;
        assert_eq!(payload_fill(&manager.store, 1).await, Some((21, 1)));
        assert_eq!(payload_fill(&manager.store, 2).await, Some((512_016, 2)));
    }
    let (leads, others) = leader_and_others(&managers).await;
    let follower = &managers[usize::from(others[0]) - 1].store;
    let refused = follower.propose(vec![create_secret(3, "third", 5)]).await.unwrap_err();
    let (leads_now, _) = leader_and_others(&managers).await;
    let told = |n| matches!(&refused, ProposeError::NotLeader(Some(leader)) if *leader == member(n));
    assert!(told(leads) || told(leads_now), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_comes_late_gets_a_snapshot() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 1).await;
    for n in 1..=5 {
        managers[0].store.propose(vec![create_secret(n, &format!("s{n}"), 300_000)]).await.unwrap();
    }
    for version in 1..=600 {
        managers[0].store.propose(vec![update_secret(1, version, 10, 9)]).await.unwrap();
    }
    managers[0].store.propose(vec![Op::RemoveSecret { id: secret_id(5) }]).await.unwrap();

    let late = manager(&net, 2).await;
    managers[0].store.replica().unwrap().add_member(late.id(), member(2)).await.unwrap();

    until(&late.store, |view| view.version() == managers[0].store.view().version()).await;
    assert_eq!(payload_fill(&late.store, 2).await, Some((300_016, 2)));
    assert_eq!(payload_fill(&late.store, 5).await, None);
    let newest = late.store.payload(secret_id(1), 601).await.unwrap().unwrap();
    assert_eq!(newest.ciphertext, vec![9; 26]);
    assert!(!late.path.join("incoming").exists(), "what came in is not left beside the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manager_leads_when_the_leader_is_gone_and_nothing_acknowledged_is_lost() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 3).await;
    propose(&managers, vec![create_secret(1, "a", 5)]).await;

    let (cut_off, _) = leader_and_others(&managers).await;
    let old = &managers[usize::from(cut_off) - 1].store;
    net.cut(cut_off);
    propose(without(&managers, cut_off), vec![create_secret(2, "b", 5)]).await;
    // The old leader cannot have anything agreed on, nor say how things are.
    let stale = old.replica().unwrap().linearize().await;
    assert!(matches!(stale, Err(ProposeError::NoQuorum { .. } | ProposeError::NotLeader(_))), "{stale:?}");

    net.heal();
    until(old, |view| view.secret(&secret_id(2)).is_some()).await;
    assert!(old.view().secret(&secret_id(1)).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_proposal_ends_with_who_is_missing() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 3).await;
    propose(&managers, vec![create_secret(1, "a", 5)]).await;

    let (others, refused) = loop {
        let (leads, others) = leader_and_others(&managers).await;
        for n in &others {
            net.cut(*n);
        }
        let asked = &managers[usize::from(leads) - 1].store;
        let refused = asked.propose(vec![create_secret(2, "b", 5)]).await.unwrap_err();
        if !matches!(refused, ProposeError::NotLeader(_)) {
            break (others, refused);
        }
        net.heal(); // another one has come to lead before
    };

    let ProposeError::Undecided(why) = &refused else { panic!("{refused:?}") };
    let ProposeError::NoQuorum { reachable: 1, voters: 3, missing } = &**why else { panic!("{why:?}") };
    let silent: BTreeSet<_> = others.iter().map(|n| node_id(*n)).collect();
    assert_eq!(missing.iter().map(|member| member.node).collect::<BTreeSet<_>>(), silent);
    assert!(refused.to_string().contains(&member(others[0]).address), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_that_is_superseded_does_not_know_what_came_of_a_proposal() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 3).await;

    let (cut_off, proposal) = loop {
        let (cut_off, _) = leader_and_others(&managers).await;
        let old = managers[usize::from(cut_off) - 1].store.clone();
        let mut log = old.replica().unwrap().raft.metrics();
        let before = log.borrow().last_log_index;
        net.cut(cut_off);
        let mut proposal = tokio::spawn(async move { old.propose(vec![create_secret(1, "a", 5)]).await });
        // It is in the log of the one that is cut off, where nobody else writes, before another one leads.
        tokio::select! {
            written = log.wait_for(|now| now.last_log_index > before) => {
                drop(written.unwrap());
                break (cut_off, proposal);
            }
            refused = &mut proposal => {
                let refused = refused.unwrap().unwrap_err();
                assert!(matches!(refused, ProposeError::NotLeader(_)), "{refused:?}"); // it has not led any more
                net.heal();
            }
        }
    };
    propose(without(&managers, cut_off), vec![create_secret(2, "b", 5)]).await;
    net.heal();

    let refused = proposal.await.unwrap().unwrap_err();
    // A machine that is too slow for an election gives it up before.
    assert!(matches!(refused, ProposeError::Superseded | ProposeError::Undecided(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_hands_over_before_it_is_taken_out_and_has_no_say_afterwards() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 3).await;

    let (n, others) = leader_and_others(&managers).await;
    let old = managers[usize::from(n) - 1].store.replica().unwrap();
    assert_eq!(old.remove_member(old.member_id()).await, Err(MembershipError::Leads));
    let handed_over = async {
        while let Err(error) = old.hand_over().await {
            assert!(matches!(error, MembershipError::Quorum(_)), "{error}"); // the others have been too slow
        }
    };
    timeout(PATIENCE, handed_over).await.expect("nobody takes the lead");
    loop {
        let new = leader(without(&managers, n)).await.store.replica().unwrap();
        match new.remove_member(old.member_id()).await {
            Err(MembershipError::NotLeader(_)) => tokio::task::yield_now().await,
            outcome => break outcome.unwrap(),
        }
    }
    propose(without(&managers, n), vec![create_secret(1, "a", 5)]).await;

    let members = leader(without(&managers, n)).await.store.replica().unwrap().members();
    let voters: BTreeSet<_> = members.iter().filter(|status| status.voter).map(|status| status.member.node).collect();
    let rest: BTreeSet<_> = others.into_iter().map(node_id).collect();
    assert_eq!(voters, rest);
    assert!(old.linearize().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_that_nobody_takes_the_lead_from_says_so_and_serves_when_the_others_are_back() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 3).await;
    let error = loop {
        let (leads, others) = leader_and_others(&managers).await;
        for n in &others {
            net.cut(*n);
        }
        let replica = managers[usize::from(leads) - 1].store.replica().unwrap();
        match replica.hand_over().await {
            Err(error) => break error,
            Ok(()) => {
                // Another one has come to lead before.
                let now = replica.leadership().leader;
                assert!(now.is_some_and(|leader| leader != member(leads)), "nobody has taken the lead");
                net.heal();
            }
        }
    };

    assert_eq!(error.to_string(), "no other manager has taken the lead in 2s");
    net.heal();
    // One that is cut off stands for election meanwhile: the leader of before may not know yet that it leads no more.
    while leader(&managers).await.store.replica().unwrap().linearize().await.is_err() {}
    propose(&managers, vec![create_secret(1, "a", 5)]).await;
    for manager in &managers {
        until(&manager.store, |view| view.secret(&secret_id(1)).is_some()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manager_that_is_alone_leads_on() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 1).await;
    let replica = managers[0].store.replica().unwrap();

    let error = replica.hand_over().await.unwrap_err();

    assert_eq!(error.to_string(), "there is no other manager to lead");
    managers[0].store.propose(vec![create_secret(1, "a", 5)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_manager_goes_on_where_it_was() {
    let net = Arc::new(Net::default());
    let mut managers = cluster(&net, 3).await;
    propose(&managers, vec![create_secret(1, "a", 5)]).await;
    let Manager { _guard, path, store } = managers.remove(2);
    net.servers.lock().remove(&member(3).address);
    store.shutdown().await;
    propose(&managers, vec![create_secret(2, "b", 5)]).await;

    let again = start(&net, 3, _guard, path).await;

    until(&again.store, |view| view.secret(&secret_id(2)).is_some()).await;
    let version = SecretVersion(1);
    assert!(again.store.view().payload_length(&secret_id(1), version).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn survivor_goes_on_alone_with_all_that_its_log_has() {
    let net = Arc::new(Net::default());
    let mut managers = cluster(&net, 3).await;
    propose(&managers, vec![create_secret(1, "a", 5)]).await;
    until(&managers[2].store, |view| view.secret(&secret_id(1)).is_some()).await;
    let Manager { _guard, path, store } = managers.remove(2);
    let member_before = store.replica().unwrap().member_id();
    net.cut(1);
    net.cut(2);
    store.shutdown().await;

    Store::make_alone(&path, sealer(), member(3)).await.unwrap();
    let alone = start(&net, 3, _guard, path).await;

    // As another member: what the others know of the one that it was counts no more.
    assert!(alone.id() != member_before && alone.store.leads());
    assert!(alone.store.payload(secret_id(1), 1).await.unwrap().is_some());
    alone.store.propose(vec![create_secret(2, "b", 5)]).await.unwrap();
    let members = alone.store.replica().unwrap().members();
    assert_eq!(members.iter().map(|status| status.member.node).collect::<Vec<_>>(), [node_id(3)]);
    // A member that joins it gets everything.
    let new = manager(&net, 4).await;
    alone.store.replica().unwrap().add_member(new.id(), member(4)).await.unwrap();
    until(&new.store, |view| view.secret(&secret_id(2)).is_some()).await;
}

#[tokio::test]
async fn store_of_no_cluster_cannot_go_on_alone() {
    let (_guard, path) = directory();
    Store::open(&path, sealer(), clock(), Arc::new(crate::peers::NoPeers)).await.unwrap().shutdown().await;

    let refused = Store::make_alone(&path, sealer(), member(1)).await.unwrap_err();

    assert!(matches!(refused, crate::AloneError::Empty), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_a_busy_cluster_becomes_a_store_that_others_can_join() {
    let net = Arc::new(Net::default());
    let managers = cluster(&net, 2).await;
    propose(&managers, vec![create_secret(1, "a", 5), create_secret(2, "large", 300_000)]).await;
    propose(&managers, vec![update_secret(1, 1, 10, 9)]).await;
    let kept = leader(&managers).await.store.replica().unwrap().backup().await.unwrap();
    // What happens after it is not in it, and does not take away what is.
    propose(&managers, vec![Op::RemoveSecret { id: secret_id(2) }]).await;
    for version in 2..=600 {
        propose(&managers, vec![update_secret(1, version, 10, 8)]).await;
    }
    let mut file = written(&kept);

    let (_guard, path) = directory();
    let restored = restore(&path, &file, b"correct horse").unwrap();
    assert_eq!(restored.taken_at, Timestamp(7));
    let again = start(&net, 7, _guard, path).await;

    assert!(again.store.leads());
    assert_eq!(again.store.view().version(), kept.view().version());
    assert_eq!(payload_fill(&again.store, 2).await, Some((300_016, 2)));
    assert_eq!(again.store.payload(secret_id(1), 2).await.unwrap().unwrap().ciphertext, vec![9; 26]);
    again.store.propose(vec![create_secret(3, "c", 5)]).await.unwrap();
    assert_eq!(payload_fill(&again.store, 2).await, Some((300_016, 2)));
    let joined = manager(&net, 8).await;
    again.store.replica().unwrap().add_member(joined.id(), member(8)).await.unwrap();
    until(&joined.store, |view| view.secret(&secret_id(3)).is_some()).await;
    assert_eq!(payload_fill(&joined.store, 2).await, Some((300_016, 2)));

    // What is not the whole backup leaves nothing.
    let (_guard, path) = directory();
    let wrong = restore(&path, &file, b"wrong horse").unwrap_err();
    assert_eq!(wrong.to_string(), "the passphrase does not open this backup");
    for cut in [0, 50, 200, file.len() / 2, file.len() - 1] {
        assert!(restore(&path, &file[..cut], b"correct horse").is_err(), "{cut}");
    }
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let damaged = restore(&path, &file, b"correct horse").unwrap_err();
    assert!(damaged.to_string().starts_with("the backup is damaged in its part"), "{damaged}");
    assert!(!path.exists());
}

fn secret(passphrase: &[u8]) -> BackupSecret {
    BackupSecret::Passphrase(KeyBytes::new(passphrase.to_vec()))
}

fn written(backup: &Backup) -> Vec<u8> {
    let (seal, mut file) = BackupSeal::begin(&secret(b"correct horse")).unwrap();
    backup
        .write(seal, Timestamp(7), |piece| {
            file.extend(piece);
            true
        })
        .unwrap();
    file
}

fn restore(path: &camino::Utf8PathBuf, file: &[u8], passphrase: &[u8]) -> Result<Restored, BackupError> {
    let mut restore = Restore::begin(path.clone(), sealer(), secret(passphrase))?;
    for piece in file.chunks(10_000) {
        restore.take(piece)?;
    }
    restore.finish(member(7))
}

/// Reads ask a majority, and no clock says how long a leader may believe itself: whatever the clocks do, what was
/// acknowledged is read, and a leader that was cut off answers nobody.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_make_no_read_stale() {
    const YEAR: i64 = 365 * 86_400_000_000_000;
    let net = Arc::new(Net::default());
    let clocks: Vec<FakeClock> = (0..3).map(|_| FakeClock::default()).collect();
    let mut managers = Vec::new();
    for (n, clock) in (1..=3).zip(&clocks) {
        clock.set(Timestamp(20 * YEAR));
        managers.push(start_with(&net, n, directory(), Arc::new(clock.clone())).await);
    }
    managers[0].store.propose(vec![init_at(1)]).await.unwrap();
    for n in 2..=3 {
        let at = usize::from(n) - 1;
        add(&managers[..at], &managers[at], n).await;
    }
    let mut written = 0;
    for jump in [1, -1, 60_000_000_000, -60_000_000_000, YEAR, -YEAR, 10 * YEAR, -10 * YEAR, 0] {
        for (at, clock) in clocks.iter().enumerate() {
            // Each jumps at another moment, and one of them the other way.
            clock.set(Timestamp(20 * YEAR + if at == 1 { -jump } else { jump }));
            written += 1;
            propose(&managers, vec![create_secret(written, &format!("s{written}"), 5)]).await;
            let read = loop {
                let store = &leader(&managers).await.store;
                match store.replica().unwrap().linearize().await {
                    Err(ProposeError::NotLeader(_)) => tokio::task::yield_now().await,
                    outcome => break outcome.map(|()| store.view()).unwrap(),
                }
            };
            assert!(read.secret(&secret_id(written)).is_some(), "{jump}");
        }
    }

    let (n, _) = leader_and_others(&managers).await;
    let at = usize::from(n) - 1;
    let old = &managers[at].store;
    net.cut(n);
    clocks[at].set(Timestamp(0)); // its lease would last for ever
    propose(without(&managers, n), vec![create_secret(200, "after", 5)]).await;

    assert!(old.replica().unwrap().linearize().await.is_err(), "it has answered with what is old");
    net.heal();
    until(old, |view| view.secret(&secret_id(200)).is_some()).await;
}
