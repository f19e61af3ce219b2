//! What a manager has to do for nodes that are idle.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretd_tests::node::{Node, binary};

use crate::statistics::{Row, processor_time, proportional_set_size, size};

const AGENTS: u32 = 1000;
/// How long the manager is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// After the last agent has its session: what joining has left is cleared away.
const SETTLING: Duration = Duration::from_secs(5);
const SHARE_LIMIT: f64 = 0.10;
const MEMORY_LIMIT: u64 = 60 * 1024;

/// The real agent, a thousand times in one process beside the manager, over TLS on loopback, with nothing to do. Processor
/// time of the manager is counted over 20 s; its memory (PSS) is compared with that before the first agent.
pub(crate) async fn idle() -> Result<Vec<Row>> {
    let node = Node::start()?;
    node.found()?;
    let pid = node.daemon_pid()?;
    tokio::time::sleep(SETTLING).await;
    let none = proportional_set_size(pid)?;
    let token = node.ok(&["cluster", "join-token", "-q", "worker"])?;
    let mut agents = Command::new(binary("examples/idle"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("examples/idle: cargo build -p secretd-agent --examples")?;
    let mut input = agents.stdin.take().context("stdin")?;
    writeln!(input, "{token}\n{}\n{AGENTS}", node.address())?;
    let mut said = String::new();
    BufReader::new(agents.stdout.take().context("stdout")?).read_line(&mut said)?;
    ensure!(said == "connected\n", "the agents have not connected: {said:?}\n{}", node.log());
    tokio::time::sleep(SETTLING).await;

    let (start, before) = (Instant::now(), processor_time(pid)?);
    tokio::time::sleep(WATCHED).await;
    let share = (processor_time(pid)? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    let grown = proportional_set_size(pid)?.saturating_sub(none);
    let ready = node.ok(&["node", "ls", "--format", "{{.Status}}"])?;
    ensure!(ready.lines().filter(|status| *status == "Ready").count() == AGENTS as usize + 1, "nodes are not ready");
    drop(input);
    agents.wait()?;
    let whole = format!("{} with them, {} without", size(none + grown), size(none));
    Ok(vec![
        Row {
            what: "1,000 idle agents: share of a core".to_owned(),
            measured: format!("{:.1} %", share * 100.0),
            target: format!("<= {:.0} %", SHARE_LIMIT * 100.0),
            beside: String::new(),
            reached: share <= SHARE_LIMIT,
        },
        crate::statistics::memory("1,000 idle agents: memory above none", grown, MEMORY_LIMIT, &whole),
    ])
}
