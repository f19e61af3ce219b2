//! Several nodes on one network: each in namespaces of its own, joined by a bridge in another.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::campaign::pause;
use crate::command::run;
use crate::node::Node;
use crate::rootfs;
use crate::sandbox::Sandbox;

/// How long anything may take to come about. Far more than it needs: a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// For one lab of several nodes at a time in a process. Two of them on a machine with two processors keep each other from
/// answering within an election's time.
static ROOM: Semaphore = Semaphore::const_new(1);

/// Nodes n1, n2, ... at 10.77.0.1, 10.77.0.2, ... A test has no more than one lab of several nodes at a time: a second one
/// would wait for the first.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    /// It ends after the nodes.
    network: Network,
    /// Given back when both are gone.
    _room: Option<SemaphorePermit<'static>>,
}

/// Waits until there is room for a lab of several nodes, for as long as another test has one.
fn room() -> SemaphorePermit<'static> {
    loop {
        if let Ok(permit) = ROOM.try_acquire() {
            return permit;
        }
        pause();
    }
}

/// A bridge, and the sandboxes n1, n2, ... on it, whatever runs in them.
#[derive(Debug)]
pub struct Network {
    hub: Sandbox,
}

impl Network {
    /// A bridge with nothing on it.
    pub fn start() -> Result<Self> {
        let hub = Sandbox::with_network()?;
        in_network(hub.pid(), "ip link add br0 type bridge && ip link set br0 up")?;
        Ok(Self { hub })
    }

    /// Makes a sandbox with the host name n`number` and the address 10.77.0.`number`.
    pub fn sandbox(&self, number: usize) -> Result<Sandbox> {
        let sandbox = Sandbox::with_network()?;
        let (hub, inner) = (self.hub.pid(), sandbox.pid());
        in_network(hub, &format!("ip link add v{number} type veth peer name eth0 netns {inner}"))?;
        in_network(hub, &format!("ip link set v{number} master br0 up"))?;
        in_network(
            inner,
            &format!("ip link set lo up && ip addr add 10.77.0.{number}/24 dev eth0 && ip link set eth0 up"),
        )?;
        let mut named = sandbox.command("sh");
        let named = run(named.args(["-c", &format!("echo n{number} > /proc/sys/kernel/hostname")]), b"")?;
        ensure!(named.status.success(), "{named:?}");
        Ok(sandbox)
    }

    /// Takes a sandbox off the network.
    pub fn cut(&self, number: usize) -> Result<()> {
        in_network(self.hub.pid(), &format!("ip link set v{number} down"))
    }

    /// Brings it back.
    pub fn heal(&self, number: usize) -> Result<()> {
        in_network(self.hub.pid(), &format!("ip link set v{number} up"))
    }
}

impl Lab {
    /// Nodes that are part of no cluster.
    pub fn start(count: usize) -> Result<Self> {
        Self::start_with(count, &[])
    }

    /// The same, with flags of secretd.
    pub fn start_with(count: usize, flags: &[&str]) -> Result<Self> {
        let room = (count > 1).then(room);
        let mut lab = Self { nodes: Vec::new(), network: Network::start()?, _room: room };
        for number in 1..=count {
            lab.add(number, flags)?;
        }
        Ok(lab)
    }

    fn add(&mut self, number: usize, flags: &[&str]) -> Result<()> {
        let sandbox = self.network.sandbox(number)?;
        let mut node = Node::made(sandbox, format!("10.77.0.{number}:7377"), flags)?;
        node.start_daemon()?;
        self.nodes.push(node);
        Ok(())
    }

    /// A cluster: n1 has founded it, then come further managers, then workers. Each has the image `busybox:1`.
    pub fn cluster(managers: usize, workers: usize) -> Result<Self> {
        let lab = Self::start(managers + workers)?;
        lab.node(1).ok(&["cluster", "init"])?;
        for number in 2..=managers + workers {
            lab.join(number, if number <= managers { "manager" } else { "worker" })?;
        }
        lab.import_busybox()?;
        Ok(lab)
    }

    /// The node joins n1's cluster.
    pub fn join(&self, number: usize, role: &str) -> Result<()> {
        let token = self.token(role)?;
        self.node(number).ok(&["cluster", "join", "--token", &token, self.address(1)]).map(drop)
    }

    /// A join token, as n1 tells it.
    pub fn token(&self, role: &str) -> Result<String> {
        self.node(1).ok(&["cluster", "join-token", "-q", role])
    }

    /// Gives every node the image `busybox:1`.
    pub fn import_busybox(&self) -> Result<()> {
        let tar = self.node(1).path("busybox.tar");
        rootfs::write(&tar, &rootfs::busybox(&[])?)?;
        for node in &self.nodes {
            node.ok(&["image", "import", "--tag", "busybox:1", &tar.to_string_lossy()])?;
        }
        Ok(())
    }

    /// The node n`number`.
    #[allow(clippy::indexing_slicing)] // a test that asks for a node that it has not made fails
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// The node n`number`, to be stopped or started.
    #[allow(clippy::indexing_slicing)]
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where a node listens when it is a manager.
    pub fn address(&self, number: usize) -> &str {
        self.node(number).address()
    }

    /// Takes a node off the network.
    pub fn cut(&self, number: usize) -> Result<()> {
        self.network.cut(number)
    }

    /// Has the node hear nothing: what it says is heard.
    pub fn deafen(&self, number: usize) -> Result<()> {
        self.filter(number, "input", "iif eth0 drop")
    }

    /// Has nobody hear what the node says: it hears everything.
    pub fn mute(&self, number: usize) -> Result<()> {
        self.filter(number, "output", "oif eth0 drop")
    }

    /// Loses so many of a hundred packets that the node is sent.
    pub fn lose(&self, number: usize, percent: u64) -> Result<()> {
        self.filter(number, "input", &format!("iif eth0 numgen random mod 100 < {percent} drop"))
    }

    fn filter(&self, number: usize, hook: &str, rule: &str) -> Result<()> {
        let chain = format!("add chain inet lab {hook} {{ type filter hook {hook} priority 0; }}");
        let script = format!("nft 'add table inet lab; {chain}; add rule inet lab {hook} {rule}'");
        in_network(self.node(number).sandbox().pid(), &script)
    }

    /// Brings a node back that was cut off, or was not heard or did not hear all.
    pub fn heal(&self, number: usize) -> Result<()> {
        self.network.heal(number)?;
        in_network(self.node(number).sandbox().pid(), "nft 'add table inet lab; delete table inet lab'")
    }

    /// The id of a node.
    pub fn id(&self, number: usize) -> Result<String> {
        self.node(number).ok(&["info", "--format", "{{.Cluster.NodeID}}"])
    }

    /// The number of the manager that leads, as n`asked` says.
    pub fn leader(&self, asked: usize) -> Result<usize> {
        let rows = self.node(asked).ok(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
        let leader = rows.lines().find_map(|row| row.strip_suffix(" Leader")?.strip_prefix('n'));
        leader.and_then(|number| number.parse().ok()).with_context(|| format!("no leader in\n{rows}"))
    }

    /// How often a manager has come to lead so far, as the journals of all nodes have it. A busy machine may elect another
    /// one at any moment: what a test excuses by that must show here.
    pub fn elections(&self) -> usize {
        let count =
            |log: &str| log.matches("this manager leads").count() - log.matches("this manager leads no more").count();
        self.nodes.iter().map(|node| count(&node.log())).sum()
    }
}

/// Whether rows of nodes are as they should be, where one of the managers that are `Reachable` in `wanted` leads, whichever
/// that is.
pub fn whoever_leads(rows: &str, wanted: &str) -> bool {
    rows.matches("Leader").count() == 1 && rows.replace("Leader", "Reachable") == wanted
}

/// Waits until `look`, which runs `sctl` or reads files, finds what it looks for: what it found.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = look();
        match found {
            Ok(Some(found)) => return Ok(found),
            Ok(None) | Err(_) if Instant::now() < end => pause(),
            Ok(None) => bail!("it has not come about: {what}"),
            Err(error) => return Err(error.context(format!("it has not come about: {what}"))),
        }
    }
}

/// Waits until what `sctl` prints is as it should be: what it printed.
pub fn until_shown(node: &Node, arguments: &[&str], mut is_so: impl FnMut(&str) -> bool) -> Result<String> {
    let mut last = String::new();
    let shown = until(&format!("sctl {arguments:?}"), || {
        last = node.ok(arguments)?;
        Ok(is_so(&last).then(|| last.clone()))
    });
    shown.with_context(|| format!("the last that it printed: {last}"))
}

/// Creates a secret as soon as a majority takes it: one that was made by an attempt whose answer was lost is there too.
pub fn until_created(node: &Node, name: &str, value: &[u8]) -> Result<()> {
    until(&format!("{name} is there"), || {
        let answer = node.sctl(&["secret", "create", name, "-"], value)?;
        ensure!([0, 4].contains(&answer.code()), "{answer:?}");
        Ok(Some(()))
    })
}

/// Makes a manager a worker, and asks for it again for as long as that is to be repeated: others may not answer for a
/// moment, and the vote of a manager that leads is taken once another one does.
pub fn until_demoted(node: &Node, name: &str) -> Result<()> {
    // The second waits for the vote whatever the node is to be already.
    let (demote, again) = (["node", "demote", name], ["node", "update", "--role", "worker", name]);
    let mut command = &demote[..];
    until(&format!("{name} is demoted"), || {
        let answer = node.sctl(command, b"")?;
        if answer.code() == 3 {
            command = &again;
            return Ok(None);
        }
        ensure!(answer.status.success(), "{answer:?}");
        Ok(Some(()))
    })
}

/// Runs a script in the network of a process.
fn in_network(pid: i32, script: &str) -> Result<()> {
    let target = format!("--target={pid}");
    let mut command = Command::new("nsenter");
    let answer = run(command.args([target.as_str(), "--net", "--", "sh", "-c", script]), b"")?;
    ensure!(answer.status.success(), "{script}: {answer:?}");
    Ok(())
}
