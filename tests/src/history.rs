//! Clients that use secrets' metadata as registers through the API, and write down when they asked for what and what came
//! of it. [`crate::linear`] says whether that could have happened.
//!
//! A few names are in use at a time, so that clients meet; each is used for some fifty operations, so that what is not
//! known of it does not pile up. A client that gets no answer goes to another manager.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use secretd_proto::code::{Code, METADATA_KEY};
use secretd_proto::id::SecretId;
use secretd_proto::v1::{Filter, GetSecretRequest, ListSecretsRequest, RemoveSecretRequest, Secret};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::campaign::Chance;
use crate::client::Client;
use crate::linear::{Answer, Call, Operation, State, check};

/// Clients at a time.
pub const CLIENTS: usize = 9;
/// Names in use at a time.
const NAMES: u64 = 3;
/// Operations on such a set of names.
const OPERATIONS_A_SET: u64 = 150;
/// How long a client waits for an answer before it goes elsewhere: longer than an election, not for ever.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(20);
/// Marks an answer that need not be the newest.
const STALE: &str = "secretd-stale";

/// What all clients of one history have in common.
#[derive(Debug)]
struct Common {
    name: String,
    operations: u64,
    sockets: Vec<PathBuf>,
    issued: AtomicU64,
    clock: AtomicU64,
    answered: watch::Sender<u64>,
}

/// What was read where it need not be the newest.
#[derive(Debug)]
struct Stale {
    name: String,
    end: u64,
    saw: State,
}

/// What clients have written down.
#[derive(Debug, Default)]
pub struct Record {
    names: BTreeMap<String, Vec<Operation>>,
    stale: Vec<Stale>,
}

/// Clients at work.
#[derive(Debug)]
pub struct History {
    common: Arc<Common>,
    clients: JoinSet<Result<Record>>,
}

impl History {
    /// Begins a history of so many operations, in a runtime.
    pub fn begin(name: &str, operations: u64, sockets: Vec<PathBuf>, chance: &mut Chance) -> Self {
        let common = Arc::new(Common {
            name: name.to_owned(),
            operations,
            sockets,
            issued: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            answered: watch::Sender::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let chance = Chance::of(chance.below(u64::MAX));
            let user = User::new(Arc::clone(&common), number, chance);
            clients.spawn(user.work());
        }
        Self { common, clients }
    }

    /// Waits until so many operations have come to an end; no longer than it takes every client to give one up.
    pub async fn reach(&self, count: u64) {
        let mut answered = self.common.answered.subscribe();
        let _ = timeout(2 * PATIENCE, answered.wait_for(|is| *is >= count)).await; // slower than it could be
    }

    /// Waits for all operations, then has every manager read all names: what they have written down.
    pub async fn end(mut self) -> Result<Record> {
        let mut record = Record::default();
        while let Some(ended) = self.clients.join_next().await {
            record.merge(ended??);
        }
        let names: Vec<String> = record.names.keys().cloned().collect();
        for place in 0..self.common.sockets.len() {
            let mut user = User::new(Arc::clone(&self.common), CLIENTS, Chance::of(0));
            user.place = place;
            let read = timeout(60 * PATIENCE, user.read_all(&names)).await;
            read.with_context(|| format!("n{} does not serve again", place + 1))??;
            record.merge(user.record);
        }
        Ok(record)
    }
}

impl Record {
    fn merge(&mut self, other: Self) {
        for (name, operations) in other.names {
            self.names.entry(name).or_default().extend(operations);
        }
        self.stale.extend(other.stale);
    }

    /// How many operations have an outcome, and how many have none that is known.
    pub fn count(&self) -> (usize, usize) {
        let known = |operation: &&Operation| operation.end != u64::MAX;
        let all = || self.names.values().flatten();
        (all().filter(known).count(), all().filter(|operation| !known(operation)).count())
    }

    /// How many reads need not have seen the newest.
    pub fn stale(&self) -> usize {
        self.stale.len()
    }

    /// Whether all of it could have happened.
    pub fn check(&self) -> Result<()> {
        for (name, operations) in &self.names {
            check(operations).with_context(|| name.clone())?;
        }
        for stale in &self.stale {
            let operations = self.names.get(&stale.name).map(Vec::as_slice).unwrap_or_default();
            let was = |operation: &Operation| operation.start < stale.end && stale.saw == made(operation.call);
            ensure!(stale.saw.is_none() || operations.iter().any(was), "{stale:?}: nobody has asked for that");
        }
        Ok(())
    }
}

/// What a call makes of its name.
fn made(call: Call) -> State {
    match call {
        Call::Create(id) => Some((id, 1)),
        Call::Update(id, version) => Some((id, version)),
        Call::Remove(_) | Call::RemoveNamed | Call::Read => None,
    }
}

/// A client at the manager that it has gone to last.
struct User {
    common: Arc<Common>,
    number: usize,
    chance: Chance,
    place: usize,
    client: Option<Client>,
    /// What it has seen last of each name.
    seen: HashMap<String, Option<(SecretId, u64)>>,
    record: Record,
}

/// What a call that got an answer found.
type Found = Result<Option<(SecretId, u64)>, Status>;

impl User {
    fn new(common: Arc<Common>, number: usize, chance: Chance) -> Self {
        let (seen, record) = (HashMap::new(), Record::default());
        Self { common, number, chance, place: number, client: None, seen, record }
    }

    async fn work(mut self) -> Result<Record> {
        loop {
            self.connect().await;
            let number = self.common.issued.fetch_add(1, Ordering::Relaxed);
            if number >= self.common.operations {
                return Ok(self.record);
            }
            let set = number / OPERATIONS_A_SET;
            let name = format!("{}-{set}-{}", self.common.name, self.chance.below(NAMES));
            match self.chance.below(100) {
                0..40 => self.read(&name).await?,
                40..46 => self.read_stale(&name).await?,
                46..54 => self.list(set).await?,
                54..72 => self.create(&name).await?,
                72..92 => self.update(&name).await?,
                _ => self.remove(&name).await?,
            }
            self.common.answered.send_modify(|answered| *answered += 1);
        }
    }

    /// Goes from manager to manager until one answers.
    async fn connect(&mut self) {
        while self.client.is_none() {
            let all = &self.common.sockets;
            let Some(socket) = all.get(self.place % all.len()) else { return };
            match timeout(PATIENCE, Client::connect(socket)).await {
                Ok(Ok(client)) => self.client = Some(client),
                Ok(Err(_)) | Err(_) => {
                    self.place += 1;
                    sleep(RETRY).await; // leaves the processor to those who come back
                }
            }
        }
    }

    async fn read_all(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            let before = self.record.names.get(name).map_or(0, Vec::len);
            while self.record.names.get(name).map_or(0, Vec::len) == before {
                let place = self.place;
                self.connect().await;
                self.read(name).await?;
                self.place = place; // it is this manager that is to answer
            }
        }
        Ok(())
    }

    fn tick(&self) -> u64 {
        self.common.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn client(&self) -> Result<Client> {
        self.client.clone().context("not connected")
    }

    /// Writes down what came of a call; a read that has failed tells nothing.
    fn note(&mut self, name: &str, start: u64, call: Call, answer: Answer) {
        let end = if answer == Answer::Unknown { u64::MAX } else { self.tick() };
        if answer == Answer::Unknown {
            self.client = None; // the connection, and with it the call, is given up
            self.place += 1;
            self.seen.remove(name);
            if call == Call::Read {
                return;
            }
        }
        let operation = Operation { client: self.number, start, end, call, answer };
        self.record.names.entry(name.to_owned()).or_default().push(operation);
    }

    async fn get(&self, name: &str, stale: bool) -> Result<Option<Response<Option<(SecretId, u64)>>>> {
        let mut request = Request::new(GetSecretRequest { reference: name.to_owned() });
        if stale {
            request.metadata_mut().insert("secretd-read", MetadataValue::from_static("stale"));
        }
        let mut client = self.client()?;
        match timeout(PATIENCE, client.control.get_secret(request)).await {
            Ok(Ok(response)) => {
                let (metadata, answer, extensions) = response.into_parts();
                let secret = known(&answer.secret.context("an answer without a secret")?)?;
                Ok(Some(Response::from_parts(metadata, Some(secret), extensions)))
            }
            Ok(Err(status)) if code(&status) == Some(Code::NotFound) => {
                Ok(Some(Response::from_parts(status.metadata().clone(), None, tonic::Extensions::new())))
            }
            Ok(Err(status)) => expected(&status).map(|()| None),
            Err(_) => Ok(None),
        }
    }

    async fn read(&mut self, name: &str) -> Result<()> {
        let start = self.tick();
        let answer = match self.get(name, false).await? {
            Some(response) => {
                ensure!(!response.metadata().contains_key(STALE), "a read is marked that was to be the newest");
                self.seen.insert(name.to_owned(), *response.get_ref());
                Answer::Saw(response.into_inner().map(state))
            }
            None => Answer::Unknown,
        };
        self.note(name, start, Call::Read, answer);
        Ok(())
    }

    /// Is no part of the history, and must say so.
    async fn read_stale(&mut self, name: &str) -> Result<()> {
        let Some(response) = self.get(name, true).await? else {
            self.client = None;
            return Ok(());
        };
        ensure!(response.metadata().contains_key(STALE), "a stale read is not marked");
        let stale = Stale { name: name.to_owned(), end: self.tick(), saw: response.into_inner().map(state) };
        self.record.stale.push(stale);
        Ok(())
    }

    async fn list(&mut self, set: u64) -> Result<()> {
        let prefix = format!("{}-{set}-", self.common.name);
        let filters = vec![Filter { key: "name".to_owned(), value: prefix.clone() }];
        let start = self.tick();
        let mut client = self.client()?;
        let names = (0..NAMES).map(|name| format!("{prefix}{name}"));
        match timeout(PATIENCE, client.control.list_secrets(ListSecretsRequest { filters })).await {
            Ok(Ok(response)) => {
                ensure!(!response.metadata().contains_key(STALE), "a list is marked that was to be the newest");
                let secrets = response.into_inner().secrets;
                for name in names {
                    let named = |secret: &&Secret| secret.spec.as_ref().is_some_and(|spec| spec.name == name);
                    let saw = secrets.iter().find(named).map(known).transpose()?;
                    self.seen.insert(name.clone(), saw);
                    self.note(&name, start, Call::Read, Answer::Saw(saw.map(state)));
                }
            }
            Ok(Err(status)) => {
                expected(&status)?;
                self.client = None;
            }
            Err(_) => self.client = None,
        }
        Ok(())
    }

    async fn create(&mut self, name: &str) -> Result<()> {
        let id = SecretId::random();
        let mut client = self.client()?;
        let start = self.tick();
        let created = timeout(PATIENCE, client.create_secret_as(id, name, name.as_bytes())).await;
        let found = created.map_or_else(given_up, |created| status(created.map(|()| Some((id, 1)))))?;
        self.write(name, start, Call::Create(number(id)), found)
    }

    async fn update(&mut self, name: &str) -> Result<()> {
        let Some(Some((id, version))) = self.seen.get(name).copied() else { return self.create(name).await };
        let next = version + 1;
        let mut client = self.client()?;
        let start = self.tick();
        let updated = timeout(PATIENCE, client.update_secret(id, next, name, name.as_bytes())).await;
        let found = updated.map_or_else(given_up, |updated| status(updated.map(|()| Some((id, next)))))?;
        self.write(name, start, Call::Update(number(id), next), found)
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        let seen = self.seen.get(name).copied().flatten().filter(|_| self.chance.below(2) == 0);
        let (reference, call) = match seen {
            Some((id, _)) => (id.to_string(), Call::Remove(number(id))),
            None => (name.to_owned(), Call::RemoveNamed),
        };
        let mut client = self.client()?;
        let start = self.tick();
        let removed = client.control.remove_secret(RemoveSecretRequest { reference, force: false });
        let found =
            timeout(PATIENCE, removed).await.map_or_else(|_| Err(Status::unknown("given up")), |it| it.map(|_| None));
        self.write(name, start, call, found)
    }

    fn write(&mut self, name: &str, start: u64, call: Call, found: Found) -> Result<()> {
        let answer = match found {
            Ok(is) => {
                self.seen.insert(name.to_owned(), is);
                Answer::Done
            }
            Err(status) => {
                self.seen.remove(name);
                match code(&status) {
                    Some(Code::NameConflict) => Answer::Taken,
                    Some(Code::OutOfSequence) => Answer::OutOfSequence,
                    Some(Code::NotFound) => Answer::NotFound,
                    _ => {
                        expected(&status)?;
                        Answer::Unknown
                    }
                }
            }
        };
        self.note(name, start, call, answer);
        Ok(())
    }
}

fn given_up(_: tokio::time::error::Elapsed) -> Result<Found> {
    Ok(Err(Status::unknown("given up")))
}

/// The status in what a helper says.
fn status(answer: Result<Option<(SecretId, u64)>>) -> Result<Found> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(error) => Ok(Err(error.downcast::<Status>()?)),
    }
}

fn code(status: &Status) -> Option<Code> {
    Code::parse(status.metadata().get(METADATA_KEY)?.to_str().ok()?)
}

/// Refusals that a fault explains. Any other one is a defect of the test or of the daemon.
fn expected(status: &Status) -> Result<()> {
    match code(status) {
        None | Some(Code::NoQuorum | Code::NotLeader | Code::Storage) => Ok(()),
        Some(other) => bail!("refused with {}: {}", other.as_str(), status.message()),
    }
}

fn known(secret: &Secret) -> Result<(SecretId, u64)> {
    Ok((secret.id.parse()?, secret.secret_version))
}

fn state((id, version): (SecretId, u64)) -> (u64, u64) {
    (number(id), version)
}

/// Enough of an id to tell it from the others of its name.
fn number(id: SecretId) -> u64 {
    let [a, b, c, d, ..] = *id.as_bytes();
    u64::from(u32::from_be_bytes([a, b, c, d]))
}
