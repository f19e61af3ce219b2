//! Killed at random instants (SIGKILL), again and again: what was acknowledged is there.
//!
//! A failed run prints its seed; the variable `SEED` gives it again, and `CYCLES` asks for more of them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use secretd_tests::campaign::{Chance, times};
use secretd_tests::command::run;
use secretd_tests::lab::{Lab, until};
use secretd_tests::node::{Node, binary};

/// How often a single node is killed.
const ALONE: usize = 300;
/// How often one of several managers is.
const TOGETHER: usize = 50;
/// How long the first write of a cycle may take. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates secrets at a node until it is told to stop, and knows which were acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    /// Told of each that was acknowledged.
    news: mpsc::Receiver<()>,
    thread: JoinHandle<Result<Vec<String>>>,
}

impl Writer {
    fn start(host: String, prefix: String) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let (tell, news) = mpsc::channel();
        let write = move || {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{prefix}-{number}");
                let mut command = Command::new(binary("sctl"));
                command.env("SCTL_HOST", &host).args(["secret", "create", &name, "-"]).stdin(Stdio::null());
                if run(&mut command, name.as_bytes())?.status.success() {
                    acknowledged.push(name);
                    let _ = tell.send(()); // nobody waits for the later ones
                }
            }
            Ok(acknowledged)
        };
        Ok(Self { stop, news, thread: thread::Builder::new().name("writer".to_owned()).spawn(write)? })
    }

    /// Waits for the first that is acknowledged: a slow machine would be killed before it every time.
    fn has_begun(&self) -> Result<()> {
        self.news.recv_timeout(PATIENCE).context("nothing is acknowledged")
    }

    fn end(self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))?
    }
}

fn host(node: &Node) -> String {
    format!("unix://{}/control.sock", node.run_dir().display())
}

fn names(node: &Node) -> Result<BTreeSet<String>> {
    Ok(node.ok(&["secret", "ls", "--format", "{{.Name}}"])?.lines().map(str::to_owned).collect())
}

#[test]
fn single_node_killed_at_any_instant_has_all_that_it_acknowledged() -> Result<()> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    let mut node = Node::cluster()?;
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    let cycles = times("CYCLES", ALONE)?;
    for cycle in 0..cycles {
        let writer = Writer::start(host(&node), format!("c{cycle}"))?;
        if cycle % 2 == 0 {
            writer.has_begun()?;
        }
        chance.wait(Duration::from_millis(40));
        node.kill_daemon()?;
        acknowledged.extend(writer.end()?);
        node.start_daemon().with_context(|| format!("SEED={seed}, cycle {cycle}"))?;
        let there = names(&node)?;
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        ensure!(lost.is_empty(), "SEED={seed}, cycle {cycle}: lost {lost:?}");
    }
    ensure!(acknowledged.len() > cycles / 4, "hardly anything was written: {}", acknowledged.len());
    Ok(())
}

#[test]
fn managers_killed_while_members_change_lose_nothing_acknowledged() -> Result<()> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    let mut lab = Lab::cluster(3, 1)?;
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    let cycles = times("CYCLES", TOGETHER)?;
    let mut changes = 0;
    for cycle in 0..cycles {
        let victim = 1 + usize::try_from(chance.below(3))?;
        let other = 1 + victim % 3;
        let writer = Writer::start(host(lab.node(other)), format!("c{cycle}"))?;
        // The fourth node becomes a manager, or is one no more, while this happens: as far as that goes.
        let change = if cycle % 2 == 0 { "promote" } else { "demote" };
        let mut changing = lab.node(other).sctl_command(&["node", change, "n4"]);
        let mut changing = changing.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        if cycle % 4 < 2 {
            writer.has_begun()?;
        }
        chance.wait(Duration::from_millis(300));
        lab.node_mut(victim).kill_daemon()?;
        chance.wait(Duration::from_millis(700));
        acknowledged.extend(writer.end()?);
        changes += usize::from(changing.wait()?.success());
        lab.node_mut(victim).start_daemon().with_context(|| format!("SEED={seed}, cycle {cycle}"))?;
        let everything = until("the killed manager knows everything", || {
            let there = names(lab.node(victim))?;
            Ok(acknowledged.is_subset(&there).then_some(()))
        });
        everything.with_context(|| format!("SEED={seed}, cycle {cycle}, n{victim} was killed"))?;
    }
    // How many depends on the machine.
    let written = acknowledged.len();
    ensure!(changes > 0 && written > 0, "{changes} changes of managers came about, and {written} secrets");
    Ok(())
}
