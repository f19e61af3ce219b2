//! Containers: their start and end, what they read and how fast they see a rotation, and what all of it weighs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secretd_tests::client::Client;
use secretd_tests::node::Node;

use crate::statistics::{Row, at_least, at_most, memory, percentile, proportional_set_size, show, size};
use crate::swarm::Figures;

/// Waits for its end as a well-behaved server does.
pub(crate) const SERVER: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// From the command to the first instruction of the container's program, which writes into a pipe of the host.
pub(crate) fn first_instruction(node: &Node, swarm: &Figures) -> Result<Vec<Row>> {
    let pipe = node.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    let mount = format!("type=bind,source={},target=/pipe", pipe.display());
    let mut samples = Vec::new();
    for number in 0..30 {
        let name = format!("first-{number}");
        let start = Instant::now();
        let mut create = node
            .sctl_command(&[
                "service",
                "create",
                "--detach",
                "--name",
                &name,
                "--restart-condition",
                "none",
                "--mount",
                &mount,
                "probe:1",
                "sh",
                "-c",
                "echo > /pipe",
            ])
            .stdout(Stdio::null())
            .spawn()?;
        File::open(&pipe)?.read_exact(&mut [0])?; // opening waits for the writer
        samples.push(start.elapsed());
        ensure!(create.wait()?.success(), "service create failed");
        node.ok(&["service", "rm", &name])?;
    }
    let limit = Duration::from_millis(60);
    let beside = format!("{} {}", swarm.name, show(swarm.first_instruction));
    Ok(vec![at_most("service create to first instruction (command included)", &samples, limit, &beside)])
}

/// From the acknowledgement of an update to the event in the container, whose handler has read the new bytes.
pub(crate) async fn update_seen(node: &Node, client: &mut Client) -> Result<Vec<Row>> {
    let id = client.create_secret("rotating", b"0").await?;
    node.create_service(&["--init", "--name", "watcher", "--secret", "rotating", "probe:1", "sleep", "100000"])?;
    let mut watcher = node
        .sctl_command(&["exec", "watcher.1", "probe", "watch", "/run/secrets/rotating"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut events = BufReader::new(watcher.stdout.take().context("stdout")?).lines();
    ensure!(events.next().context("watcher")?? == "watching");
    let mut samples = Vec::new();
    for version in 2..202_u64 {
        let value = version.to_string();
        client.update_secret(id, version, "rotating", value.as_bytes()).await?;
        let acknowledged = monotonic()?;
        let wanted = format!("Ok({value:?})");
        let seen = loop {
            let line = events.next().context("watcher")??;
            if line.contains("IN_MODIFY") && line.contains(&wanted) {
                let at = line.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok()).context("time")?;
                break Duration::from_nanos(at);
            }
        };
        samples.push(seen.saturating_sub(acknowledged)); // the event may come before the acknowledgement
    }
    watcher.kill()?;
    watcher.wait()?;
    node.ok(&["service", "rm", "watcher"])?;
    let limit = Duration::from_millis(5);
    Ok(vec![at_most(
        "secret update acknowledged to new bytes and event",
        &samples,
        limit,
        "Swarm 14 s by rolling update",
    )])
}

/// CLOCK_MONOTONIC, which containers share.
fn monotonic() -> Result<Duration> {
    Ok(Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?))
}

/// Audited opens and stats, beside the same on a tmpfs in the same container.
pub(crate) fn reads(node: &Node) -> Result<Vec<Row>> {
    node.ok_with(&["secret", "create", "read", "-"], &[7; 512])?;
    node.create_service(&["--init", "--name", "reader", "--secret", "read", "probe:1", "sleep", "100000"])?;
    node.ok(&["exec", "reader.1", "cp", "/run/secrets/read", "/dev/shm/read"])?;
    let sample = |what: &str, path: &str| -> Result<Vec<Duration>> {
        let output = node.ok(&["exec", "reader.1", "probe", what, path, "20000"])?;
        output.lines().map(|line| Ok(Duration::from_nanos(line.parse()?))).collect()
    };
    let tmpfs = percentile(&sample("opens", "/dev/shm/read")?, 0.5);
    let opens = sample("opens", "/run/secrets/read")?;
    let stats = sample("stats", "/run/secrets/read")?;
    node.ok(&["service", "rm", "reader"])?;
    let beside = format!("tmpfs {} in the same container", show(tmpfs));
    Ok(vec![
        at_most("open+read+close in the container, audited", &opens, Duration::from_micros(100), &beside),
        at_most("stat in the container", &stats, Duration::from_micros(3), ""),
    ])
}

/// A hundred replicas up and down, and their weight while they are up.
pub(crate) fn replicas(node: &Node, swarm: &Figures) -> Result<Vec<Row>> {
    node.ok_with(&["secret", "create", "shared", "-"], &[7; 512])?;
    while !node.shims().is_empty() {
        std::thread::yield_now(); // what was measured before ends
    }
    let start = Instant::now();
    node.create_service(&[
        "--quiet",
        "--name",
        "many",
        "--replicas",
        "100",
        "--secret",
        "shared",
        "probe:1",
        "sh",
        "-c",
        SERVER,
    ])?;
    let up = 100.0 / start.elapsed().as_secs_f64();

    let shims: Vec<u64> = node.shims().into_iter().map(proportional_set_size).collect::<Result<_>>()?;
    ensure!(shims.len() == 100, "{} shims", shims.len());
    let shim = shims.iter().sum::<u64>() / 100;
    let fs: u64 = node.processes("secret-fs").into_iter().map(proportional_set_size).sum::<Result<u64>>()?;
    let daemon = proportional_set_size(node.daemon_pid()?)?;

    let start = Instant::now();
    node.ok(&["service", "rm", "many"])?;
    while !node.shims().is_empty() {
        std::thread::yield_now();
    }
    let down = 100.0 / start.elapsed().as_secs_f64();
    Ok(vec![
        at_least("100 replicas started", up, 40.0, &format!("{} {:.1}/s", swarm.name, swarm.up)),
        at_least("100 replicas stopped", down, 100.0, &format!("{} {:.1}/s", swarm.name, swarm.down)),
        memory("secretd, 100 tasks, 1,201 secrets (PSS)", daemon, 25 * 1024, &daemons(swarm)),
        memory("secret-fs, 100 tasks (PSS)", fs, 6 * 1024, ""),
        memory("each container's shim (PSS, mean of 100)", shim, 2560, &format!("containerd's {}", size(swarm.shim))),
    ])
}

/// What the node weighs before anything runs.
pub(crate) fn idle_memory(node: &Node, swarm: &Figures) -> Result<Vec<Row>> {
    let fs: u64 = node.processes("secret-fs").into_iter().map(proportional_set_size).sum::<Result<u64>>()?;
    Ok(vec![
        memory("secretd, idle (PSS)", proportional_set_size(node.daemon_pid()?)?, 25 * 1024, &daemons(swarm)),
        memory("secret-fs, idle (PSS)", fs, 6 * 1024, ""),
    ])
}

fn daemons(swarm: &Figures) -> String {
    format!("dockerd and containerd, idle: {}", size(swarm.daemons))
}
