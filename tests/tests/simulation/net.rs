//! The network between managers: every message takes its time, and may be lost, doubled or overtaken.
//!
//! A call whose message or answer is lost gets no answer until its connection is given up, as with TCP. A message to a
//! node that is down is refused at once, when the network lets it through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use secretd_proto::v1;
use secretd_store::{Member, PeerError, Peers, RaftServer};
use tokio::sync::{mpsc, oneshot};

use crate::promise::Promises;
use crate::rng::Rng;
use crate::trace::Trace;

/// After which a connection that carries nothing is given up, in milliseconds.
const GIVEN_UP: u64 = 3000;

/// What the network does to messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Milliseconds under way.
    pub(crate) delay: (u64, u64),
    /// Of a thousand messages, so many are lost.
    pub(crate) loss: u64,
    /// So many arrive twice.
    pub(crate) twice: u64,
    /// So many take ten times as long.
    pub(crate) slow: u64,
}

impl Weather {
    pub(crate) const FINE: Self = Self { delay: (0, 2), loss: 0, twice: 0, slow: 0 };
}

/// The network. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Net(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    now: u64,
    rng: Rng,
    trace: Trace,
    weather: Weather,
    /// One way each.
    cut: BTreeSet<(usize, usize)>,
    sent: u64,
    under_way: BTreeMap<(u64, u64), Packet>,
    inboxes: BTreeMap<usize, mpsc::UnboundedSender<Incoming>>,
    promises: Promises,
}

/// A message under way.
#[derive(Debug)]
struct Packet {
    from: usize,
    to: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Ask(Call, Reply),
    Answer(Answer, Reply),
    /// The connection is given up.
    Break(Reply),
}

/// What one manager asks of another.
#[derive(Debug, Clone)]
enum Call {
    Append(v1::AppendRequest),
    Vote(v1::VoteRequest),
    Snapshot(Vec<v1::SnapshotChunk>),
}

#[derive(Debug, Clone)]
enum Answer {
    Append(v1::AppendResponse),
    Vote(v1::VoteResponse),
    Snapshot(v1::SnapshotResponse),
    Failed(String),
}

/// Where the first answer goes.
#[derive(Debug, Clone)]
struct Reply(Arc<Mutex<Option<oneshot::Sender<Result<Answer, PeerError>>>>>);

impl Reply {
    fn give(&self, answer: Result<Answer, PeerError>) {
        if let Some(sender) = self.0.lock().take() {
            let _ = sender.send(answer); // the caller may have gone away
        }
    }
}

/// A call that has arrived.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: usize,
    call: Call,
    reply: Reply,
}

impl Net {
    pub(crate) fn new(rng: Rng, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            rng,
            trace,
            weather: Weather::FINE,
            cut: BTreeSet::new(),
            sent: 0,
            under_way: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            promises: Promises::default(),
        })))
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Cuts the way from one node to another.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.0.lock().cut.insert((from, to));
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.0.lock().cut.contains(&(from, to))
    }

    /// Every way is open.
    pub(crate) fn heal(&self) {
        self.0.lock().cut.clear();
    }

    /// What members have promised by their answers.
    pub(crate) fn promises<T>(&self, see: impl FnOnce(&mut Promises) -> T) -> T {
        see(&mut self.0.lock().promises)
    }

    /// The node listens from now on.
    pub(crate) fn listen(&self, node: usize) -> mpsc::UnboundedReceiver<Incoming> {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.0.lock().inboxes.insert(node, sender);
        inbox
    }

    /// The node is down.
    pub(crate) fn hang_up(&self, node: usize) {
        self.0.lock().inboxes.remove(&node);
    }

    /// Delivers what has been under way until `now`.
    pub(crate) fn deliver(&self, now: u64) {
        let mut inner = self.0.lock();
        inner.now = now;
        while let Some(entry) = inner.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            let packet = entry.remove();
            inner.arrive(packet);
        }
    }

    fn ask(&self, from: usize, to: &Member, call: Call) -> oneshot::Receiver<Result<Answer, PeerError>> {
        let (sender, answer) = oneshot::channel();
        let reply = Reply(Arc::new(Mutex::new(Some(sender))));
        match node_of(to) {
            Some(to) => self.0.lock().send(Packet { from, to, what: What::Ask(call, reply) }),
            None => reply.give(Err(PeerError("there is no such address".to_owned()))),
        }
        answer
    }

    fn answer(&self, own: usize, incoming: &Incoming, member: u64, answer: Answer) {
        let mut inner = self.0.lock();
        match (&incoming.call, &answer) {
            (Call::Vote(request), Answer::Vote(response)) => inner.promises.answered_vote(member, request, response),
            (Call::Append(request), Answer::Append(response)) => {
                inner.promises.answered_append(member, request, response);
            }
            (Call::Append(_) | Call::Vote(_) | Call::Snapshot(_), _) => {}
        }
        let what = What::Answer(answer, incoming.reply.clone());
        inner.send(Packet { from: own, to: incoming.from, what });
    }
}

impl Inner {
    fn send(&mut self, packet: Packet) {
        let Weather { delay, loss, twice, slow } = self.weather;
        let (first, last) = delay;
        let delay = self.rng.between(first, last) * if self.rng.chance(slow) { 10 } else { 1 };
        let is_lost = self.cut.contains(&(packet.from, packet.to)) || self.rng.chance(loss);
        if is_lost {
            let (Packet { from, to, .. }, reply) = (&packet, packet.what.reply());
            let broken = Packet { from: *to, to: *from, what: What::Break(reply) };
            return self.schedule(GIVEN_UP, broken);
        }
        if self.rng.chance(twice)
            && let What::Ask(call, reply) = &packet.what
        {
            let what = What::Ask(call.clone(), reply.clone());
            let again = Packet { from: packet.from, to: packet.to, what };
            let later = self.rng.between(0, 100);
            self.schedule(delay + later, again);
        }
        self.schedule(delay, packet);
    }

    fn schedule(&mut self, delay: u64, packet: Packet) {
        self.sent += 1;
        self.under_way.insert((self.now + delay, self.sent), packet);
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, what } = packet;
        self.trace.count((from, to, what.kind()));
        match what {
            What::Break(reply) => reply.give(Err(PeerError("the connection carries nothing".to_owned()))),
            What::Answer(answer, reply) => reply.give(match answer {
                Answer::Failed(reason) => Err(PeerError(reason)),
                Answer::Append(_) | Answer::Vote(_) | Answer::Snapshot(_) => Ok(answer),
            }),
            What::Ask(call, reply) => {
                let incoming = Incoming { from, call, reply: reply.clone() };
                let sent = self.inboxes.get(&to).is_some_and(|inbox| inbox.send(incoming).is_ok());
                if !sent {
                    let what = What::Answer(Answer::Failed("nobody is there".to_owned()), reply);
                    self.send(Packet { from: to, to: from, what });
                }
            }
        }
    }
}

impl What {
    fn reply(&self) -> Reply {
        match self {
            Self::Ask(_, reply) | Self::Answer(_, reply) | Self::Break(reply) => reply.clone(),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Ask(Call::Append(_), _) => 0,
            Self::Ask(Call::Vote(_), _) => 1,
            Self::Ask(Call::Snapshot(_), _) => 2,
            Self::Answer(..) => 3,
            Self::Break(_) => 4,
        }
    }
}

/// Where a node is reached.
pub(crate) fn address(node: usize) -> String {
    format!("10.0.0.{node}:7377")
}

pub(crate) fn node_of(member: &Member) -> Option<usize> {
    node_of_address(&member.address)
}

pub(crate) fn node_of_address(address: &str) -> Option<usize> {
    address.strip_prefix("10.0.0.")?.strip_suffix(":7377")?.parse().ok()
}

/// The network as one node has it.
#[derive(Debug)]
pub(crate) struct From {
    pub(crate) net: Net,
    pub(crate) own: usize,
}

impl From {
    async fn call(&self, to: &Member, call: Call) -> Result<Answer, PeerError> {
        let gone = |_| PeerError("the connection is closed".to_owned());
        self.net.ask(self.own, to, call).await.map_err(gone)?
    }
}

fn other_answer<T>() -> Result<T, PeerError> {
    Err(PeerError("the answer is one to another question".to_owned()))
}

#[async_trait]
impl Peers for From {
    async fn append(&self, to: &Member, request: v1::AppendRequest) -> Result<v1::AppendResponse, PeerError> {
        let Answer::Append(answer) = self.call(to, Call::Append(request)).await? else { return other_answer() };
        Ok(answer)
    }

    async fn vote(&self, to: &Member, request: v1::VoteRequest) -> Result<v1::VoteResponse, PeerError> {
        let Answer::Vote(answer) = self.call(to, Call::Vote(request)).await? else { return other_answer() };
        Ok(answer)
    }

    async fn install_snapshot(
        &self,
        to: &Member,
        mut chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> Result<v1::SnapshotResponse, PeerError> {
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            all.push(chunk);
        }
        let Answer::Snapshot(answer) = self.call(to, Call::Snapshot(all)).await? else { return other_answer() };
        Ok(answer)
    }
}

/// Answers what other managers ask, for as long as the node lives.
pub(crate) async fn serve(
    net: Net,
    own: usize,
    member: u64,
    server: RaftServer,
    mut inbox: mpsc::UnboundedReceiver<Incoming>,
) {
    while let Some(incoming) = inbox.recv().await {
        let (net, server) = (net.clone(), server.clone());
        tokio::spawn(async move {
            let answer = answer(&server, incoming.call.clone()).await;
            net.answer(own, &incoming, member, answer);
        });
    }
}

async fn answer(server: &RaftServer, call: Call) -> Answer {
    let answer = match call {
        Call::Append(request) => server.append(request).await.map(Answer::Append),
        Call::Vote(request) => server.vote(request).await.map(Answer::Vote),
        Call::Snapshot(chunks) => {
            let (sender, receiver) = mpsc::channel(chunks.len().max(1));
            for chunk in chunks {
                let _ = sender.try_send(chunk); // there is room for all
            }
            drop(sender);
            server.install_snapshot(receiver).await.map(Answer::Snapshot)
        }
    };
    answer.unwrap_or_else(|error| Answer::Failed(format!("{error:?}")))
}
