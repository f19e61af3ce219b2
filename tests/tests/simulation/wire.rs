//! Connections between nodes: bytes arrive later, in order, or not at all while the way is cut.
//!
//! A connection on which nothing can be said for some seconds breaks, as one does that is kept alive. When a node goes
//! down, all of its connections break.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::net::Net;
use crate::rng::Rng;

/// After which a connection breaks that carries nothing, in milliseconds.
const BREAKS: u64 = 3000;

/// All connections. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Wires(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    now: u64,
    rng: Rng,
    net: Net,
    next: u64,
    wires: BTreeMap<u64, Wire>,
    doors: BTreeMap<usize, mpsc::UnboundedSender<Arrived>>,
}

/// Somebody has connected.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) from: usize,
    pub(crate) end: End,
}

#[derive(Debug)]
struct Wire {
    nodes: [usize; 2],
    /// Towards each end.
    ways: [Way; 2],
    is_broken: bool,
    cut_since: Option<u64>,
}

#[derive(Debug, Default)]
struct Way {
    under_way: VecDeque<(u64, Vec<u8>)>,
    there: VecDeque<u8>,
    is_closed: bool,
    reader: Option<Waker>,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    wires: Wires,
    id: u64,
    side: usize,
}

impl Wires {
    pub(crate) fn new(rng: Rng, net: Net) -> Self {
        let (wires, doors) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Inner { now: 0, rng, net, next: 0, wires, doors })))
    }

    /// The node takes connections from now on.
    pub(crate) fn listen(&self, node: usize) -> mpsc::UnboundedReceiver<Arrived> {
        let (sender, arrived) = mpsc::unbounded_channel();
        self.0.lock().doors.insert(node, sender);
        arrived
    }

    /// The node is down.
    pub(crate) fn hang_up(&self, node: usize) {
        let mut inner = self.0.lock();
        inner.doors.remove(&node);
        for wire in inner.wires.values_mut().filter(|wire| wire.nodes.contains(&node)) {
            wire.break_off();
        }
    }

    /// Carries what has been under way until `now`.
    pub(crate) fn carry(&self, now: u64) {
        let mut inner = self.0.lock();
        inner.now = now;
        let net = inner.net.clone();
        for wire in inner.wires.values_mut() {
            let [one, other] = wire.nodes;
            let cut = [net.is_cut(other, one), net.is_cut(one, other)];
            for (way, cut) in wire.ways.iter_mut().zip(cut) {
                if !cut {
                    way.carry(now);
                }
            }
            wire.cut_since = if cut.contains(&true) { wire.cut_since.or(Some(now)) } else { None };
            if wire.cut_since.is_some_and(|since| now - since > BREAKS) {
                wire.break_off();
            }
        }
    }

    /// Connects a node with another.
    async fn connect(&self, from: usize, to: usize) -> io::Result<End> {
        let is_cut = {
            let inner = self.0.lock();
            inner.net.is_cut(from, to) || inner.net.is_cut(to, from)
        };
        if is_cut {
            tokio::time::sleep(Duration::from_millis(BREAKS)).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut inner = self.0.lock();
        let door = inner.doors.get(&to).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
        inner.next += 1;
        let id = inner.next;
        let wire = Wire { nodes: [from, to], ways: Default::default(), is_broken: false, cut_since: None };
        inner.wires.insert(id, wire);
        drop(inner);
        let end = |side| End { wires: self.clone(), id, side };
        door.send(Arrived { from, end: end(1) }).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(end(0))
    }

    /// A channel from one node to another, that connects when it is used.
    pub(crate) fn channel<E>(&self, from: usize, to: usize, refused: fn(io::Error) -> E) -> Channel
    where
        E: Send + 'static,
        Box<dyn std::error::Error + Send + Sync>: From<E>,
    {
        let wires = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let wires = wires.clone();
            async move { wires.connect(from, to).await.map(TokioIo::new).map_err(refused) }
        });
        Endpoint::from_static("http://node").connect_with_connector_lazy(connector)
    }
}

impl Wire {
    fn break_off(&mut self) {
        self.is_broken = true;
        for way in &mut self.ways {
            way.wake();
        }
    }
}

impl Way {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn carry(&mut self, now: u64) {
        let mut has_come = self.is_closed;
        while let Some((_, bytes)) = self.under_way.pop_front_if(|(due, _)| *due <= now) {
            self.there.extend(bytes);
            has_come = true;
        }
        if has_come {
            self.wake();
        }
    }
}

impl Connected for End {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.wires.0.lock();
        let Some(wire) = inner.wires.get_mut(&self.id).filter(|wire| !wire.is_broken) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let way = &mut wire.ways[self.side];
        if !way.there.is_empty() {
            let count = way.there.len().min(buffer.remaining());
            let (bytes, _) = way.there.make_contiguous().split_at(count);
            buffer.put_slice(bytes);
            way.there.drain(..count);
            return Poll::Ready(Ok(()));
        }
        if way.is_closed && way.under_way.is_empty() {
            return Poll::Ready(Ok(()));
        }
        way.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.wires.0.lock();
        let delay = inner.rng.between(0, 4);
        let due = inner.now + delay;
        let Some(wire) = inner.wires.get_mut(&self.id).filter(|wire| !wire.is_broken) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        wire.ways[1 - self.side].under_way.push_back((due, bytes.to_vec()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl End {
    fn close(&self) {
        if let Some(wire) = self.wires.0.lock().wires.get_mut(&self.id) {
            wire.ways[1 - self.side].is_closed = true;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close();
        let mut inner = self.wires.0.lock();
        let is_over =
            inner.wires.get(&self.id).is_some_and(|wire| wire.is_broken || wire.ways.iter().all(|way| way.is_closed));
        if is_over {
            inner.wires.remove(&self.id);
        }
    }
}
