//! Brings the process up, in the only order that is safe: descriptors that were handed over before anything is opened,
//! limits and keys while still root, the sandbox before the first thread, requests last.

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use parking_lot::Mutex;
use secretd_sys::inherited;

use crate::args::Args;
use crate::audit::Audit;
use crate::bounce::Bounce;
use crate::connections::Connections;
use crate::node_key::NodeKey;
use crate::protection::Protections;
use crate::registry::Registry;
use crate::server::{self, Server};

/// Starts, and serves until nobody needs it.
///
/// # Errors
/// Whatever the process cannot be without: a descriptor, a key, a protection.
pub(crate) fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let listener = UnixListener::from(inherited::take(args.listen_fd)?);
    let audit = Arc::new(Audit::new(inherited::take(args.audit_fd)?)?);
    secretd_sys::allocator::limit();
    let mut protections = Protections::prepare()?;
    let memory = protections.memory;
    let key = Arc::new(NodeKey::generate(memory)?);
    let (bounce, is_locked) = Bounce::new()?;
    if !is_locked {
        let weakness = "the buffer of replies is not locked: what is read may be swapped out; raise RLIMIT_MEMLOCK";
        protections.weaknesses.push(weakness.to_owned());
    }
    let bounce = Arc::new(bounce);
    protections.enter(args.identity)?;
    let registry = Mutex::new(Registry::new(Arc::clone(&key), memory));
    let server = Arc::new(Server {
        key,
        registry,
        audit,
        bounce,
        protections,
        connections: Connections::default(),
        fills_files: args.fills_files,
    });
    Ok(server::serve(&server, listener)?)
}
