//! Containers as users of Docker expect them: identity, privileges, limits, mounts, signals, logs, commands.

use std::io::{BufRead, Write};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use secretd_tests::lab::until_shown;
use secretd_tests::node::Node;

const SERVER: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_default().trim().to_owned()
}

/// A service `app` with these flags that runs `SERVER`.
fn serve(node: &Node, flags: &[&str]) -> Result<()> {
    let mut arguments = vec!["--name", "app"];
    arguments.extend(flags);
    arguments.extend(["busybox:1", "sh", "-c", SERVER]);
    node.create_service(&arguments).map(drop)
}

#[test]
fn privileges_are_dockers_by_default() -> Result<()> {
    let node = Node::cluster()?;
    serve(&node, &[])?;

    let status = node.ok(&["exec", "app.1", "cat", "/proc/self/status"])?;

    ensure!(
        field(&status, "CapEff") == "00000000a80425fb" && field(&status, "CapBnd") == "00000000a80425fb",
        "{status}"
    );
    ensure!(field(&status, "Seccomp") == "2" && field(&status, "NoNewPrivs") == "0", "{status}");
    let namespaces = node.sctl(&["exec", "app.1", "unshare", "-m", "true"], b"")?;
    ensure!(namespaces.stderr.contains("Operation not permitted"), "{namespaces:?}");
    ensure!(node.ok(&["exec", "app.1", "sh", "-c", "ls /proc/1/root >/dev/null; cat /proc/kcore | wc -c"])? == "0");
    Ok(())
}

#[test]
fn identity_and_privileges_are_what_was_asked_for() -> Result<()> {
    let node = Node::cluster()?;
    let flags = [
        "-u",
        "app",
        "-w",
        "/var/data",
        "--hostname",
        "db1",
        "-e",
        "A=b c",
        "--cap-drop",
        "ALL",
        "--no-new-privileges",
        "--read-only",
    ];
    serve(&node, &flags)?;

    let status = node.ok(&["exec", "app.1", "cat", "/proc/self/status"])?;

    ensure!(field(&status, "CapBnd") == "0000000000000000" && field(&status, "NoNewPrivs") == "1", "{status}");
    ensure!(
        node.ok(&["exec", "app.1", "sh", "-c", "id -u; id -g; id -G; pwd; hostname; echo $A; echo $HOME"])?
            == "1000\n1000\n1000 63\n/var/data\ndb1\nb c\n/home/app"
    );
    let write = node.sctl(&["exec", "-u", "0", "app.1", "touch", "/x"], b"")?;
    ensure!(write.stderr.contains("Read-only file system"), "{write:?}");
    Ok(())
}

#[test]
fn volumes_outlive_containers_and_begin_with_the_images_files() -> Result<()> {
    let node = Node::cluster()?;
    let host = node.path("host");
    std::fs::create_dir(&host)?;
    std::fs::write(host.join("from-host"), "host")?;
    let bind = format!("type=bind,source={},target=/host,readonly", host.display());
    serve(
        &node,
        &[
            "--mount",
            "source=data,target=/etc",
            "--mount",
            &bind,
            "--mount",
            "type=tmpfs,target=/scratch,tmpfs-size=1m",
        ],
    )?;
    node.ok(&[
        "exec",
        "app.1",
        "sh",
        "-c",
        "grep -q ^app: /etc/passwd && echo kept > /etc/mine && cat /host/from-host",
    ])?;
    let full = node.sctl(&["exec", "app.1", "dd", "if=/dev/zero", "of=/scratch/x", "bs=64k", "count=32"], b"")?;
    ensure!(full.code() == 1 && full.stderr.contains("No space left"), "{full:?}");
    let read_only = node.sctl(&["exec", "app.1", "touch", "/host/x"], b"")?;
    ensure!(read_only.stderr.contains("Read-only file system"), "{read_only:?}");

    node.ok(&["service", "update", "--force", "app"])?;

    ensure!(node.ok(&["exec", "app.1", "cat", "/etc/mine"])? == "kept");
    Ok(())
}

#[test]
fn memory_beyond_the_limit_ends_the_task_and_says_so() -> Result<()> {
    let node = Node::cluster()?;
    let hungry = "dd if=/dev/zero of=/dev/shm/x bs=1M count=60";
    let arguments = [
        "service",
        "create",
        "--detach",
        "--name",
        "app",
        "--limit-memory",
        "16m",
        "--limit-pids",
        "20",
        "--restart-condition",
        "none",
        "busybox:1",
        "sh",
        "-c",
    ];
    node.ok(&[&arguments[..], &[hungry]].concat())?;

    node.create_service(&["--name", "limits", "--limit-pids", "20", "busybox:1", "sleep", "1000"])?;
    // The log of a task that has ended is whole: following it ends with the service.
    let forks = node.sctl(&["exec", "limits.1", "sh", "-c", "for i in $(seq 40); do sleep 100 & done"], b"")?;
    ensure!(forks.stderr.contains("fork"), "{forks:?}");
    let mut wait = node.sctl_command(&[
        "events",
        "--filter",
        "type=task",
        "--since",
        "2m",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]);
    let mut events = wait.stdout(Stdio::piped()).spawn()?;
    let lines = std::io::BufReader::new(events.stdout.take().context("stdout")?).lines();
    let ended =
        lines.map_while(std::result::Result::ok).find(|line| line.contains("failed") || line.contains("complete"));
    events.kill()?;
    events.wait()?;
    ensure!(ended.is_some());
    let ps = node.ok(&["service", "ps", "--no-trunc", "app"])?;
    ensure!(ps.contains("Failed") && ps.contains("out of memory"), "{ps}");
    Ok(())
}

#[test]
fn command_that_ends_is_started_again_as_the_policy_says() -> Result<()> {
    let node = Node::cluster()?;
    let flags = [
        "service",
        "create",
        "--detach",
        "--restart-delay",
        "0s",
        "--restart-max-attempts",
        "2",
        "--restart-condition",
        "on-failure",
    ];
    node.ok(&[&flags[..], &["--name", "bad", "busybox:1", "sh", "-c", "echo try; exit 3"]].concat())?;
    let mut logs = node.sctl_command(&["service", "logs", "--raw", "-f", "bad"]).stdout(Stdio::piped()).spawn()?;
    let lines = std::io::BufReader::new(logs.stdout.take().context("stdout")?).lines();

    ensure!(lines.take(3).count() == 3, "one start and two more");
    logs.kill()?;
    logs.wait()?;
    let ps = node.ok(&["service", "ps", "--no-trunc", "bad"])?;
    ensure!(ps.contains("task: non-zero exit (3)"), "{ps}");
    Ok(())
}

#[test]
fn container_is_asked_by_its_signal_and_killed_after_its_grace() -> Result<()> {
    let node = Node::cluster()?;
    let file = node.path("variables");
    std::fs::write(&file, "FROM_FILE=file\nBOTH=file\n")?;
    let (file, bind) = (file.to_string_lossy(), format!("type=bind,source={},target=/host", node.path("").display()));
    let asked = "trap 'echo asked $FROM_FILE $BOTH > /host/asked; exit 0' USR1; echo waits; while :; do sleep 1 & wait $!; done";
    let flags = ["--name", "asked", "--env-file", &file, "-e", "BOTH=flag", "--stop-signal", "USR1", "--mount", &bind];
    node.create_service(&[&flags[..], &["busybox:1", "sh", "-c", asked]].concat())?;
    let stubborn = "trap '' TERM; echo waits; while :; do sleep 1; done";
    let flags = ["--name", "stubborn", "--stop-grace-period", "300ms"];
    node.create_service(&[&flags[..], &["busybox:1", "sh", "-c", stubborn]].concat())?;
    for name in ["asked", "stubborn"] {
        // A task runs a moment before its program has set a trap.
        until_shown(&node, &["service", "logs", "--raw", name], |logs| logs == "waits")?;
    }

    node.ok(&["service", "scale", "asked=0", "stubborn=0"])?;

    ensure!(std::fs::read_to_string(node.path("asked"))? == "asked file flag\n");
    ensure!(node.processes("sh").is_empty());
    Ok(())
}

#[test]
fn commands_have_their_input_output_terminal_and_exit_code() -> Result<()> {
    let node = Node::cluster()?;
    serve(&node, &["--init"])?;

    ensure!(node.sctl(&["exec", "app.1", "sh", "-c", "exit 7"], b"")?.code() == 7);
    ensure!(node.ok_with(&["exec", "-i", "app.1", "cat"], b"through")? == "through");
    ensure!(
        node.ok(&["exec", "-u", "www", "-w", "/tmp", "-e", "X=y", "app.1", "sh", "-c", "id -u; pwd; echo $X"])?
            == "33\n/tmp\ny"
    );
    let terminal = node.sctl(&["exec", "app.1", "tty"], b"")?;
    ensure!(terminal.code() == 1 && terminal.stdout.contains("not a tty"), "{terminal:?}");
    for (code, options, command, word) in [
        (127, &[][..], "nothing", "executable file not found"),
        (127, &[], "/nothing", "no such file"),
        (126, &[], "/etc/passwd", "permission denied"),
        (126, &["-w", "/nowhere"], "true", "working directory \"/nowhere\": there is no such directory"),
        (126, &["-w", "tmp"], "true", "absolute"),
        (126, &["-w", "/etc/passwd"], "true", "not a directory"),
    ] {
        let line = node.refused(code, &[&["exec"], options, &["app.1", command]].concat(), b"")?;
        ensure!(line.contains(word), "{line}");
    }
    let variables = node.path("variables");
    std::fs::write(&variables, "# no more\nA=file\nB=file\n")?;
    let file = variables.to_string_lossy();
    let exec = ["exec", "--env-file", &file, "-e", "B=flag", "app.1", "sh", "-c", "echo $A $B"];
    ensure!(node.ok(&exec)? == "file flag");
    let mut child =
        node.sctl_command(&["exec", "-i", "app.1", "wc", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(&vec![b'x'; 3_000_000])?;
    ensure!(String::from_utf8(child.wait_with_output()?.stdout)?.trim() == "3000000");
    Ok(())
}

#[test]
fn logs_are_told_by_stream_tail_and_task() -> Result<()> {
    let node = Node::cluster()?;
    let script = "mkfifo /tmp/go; for i in $(seq 5); do echo line $i; done; echo error >&2; read go < /tmp/go; echo ready; sleep 1000";
    node.create_service(&["--name", "app", "busybox:1", "sh", "-c", script])?;
    let mut logs = node
        .sctl_command(&["service", "logs", "--raw", "-f", "app"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = std::io::BufReader::new(logs.stdout.take().context("stdout")?);
    let errors = std::io::BufReader::new(logs.stderr.take().context("stderr")?);
    // Two pipes have no order between them: the last line is written when that of the other stream has been logged.
    ensure!(errors.lines().map_while(std::result::Result::ok).any(|line| line == "error"));
    node.ok(&["exec", "app.1", "sh", "-c", "echo > /tmp/go"])?;
    ensure!(output.lines().map_while(std::result::Result::ok).any(|line| line == "ready"));
    logs.kill()?;
    logs.wait()?;

    let all = node.sctl(&["service", "logs", "--raw", "app"], b"")?;

    ensure!(all.stdout == "line 1\nline 2\nline 3\nline 4\nline 5\nready\n" && all.stderr == "error\n", "{all:?}");
    let tail = node.ok(&["service", "logs", "--tail", "1", "app"])?;
    ensure!(tail.starts_with("app.1.") && tail.ends_with("| ready"), "{tail}");
    let template = ["service", "logs", "--tail", "1", "--format", "{{.Service}} {{.Stream}} {{.Line}}", "app"];
    ensure!(node.ok(&template)?.starts_with("app stdout ready"));
    Ok(())
}

#[test]
fn followed_log_ends_with_its_service() -> Result<()> {
    let node = Node::cluster()?;
    node.create_service(&["--name", "app", "--stop-signal", "KILL", "busybox:1", "sh", "-c", "echo up; sleep 1000"])?;
    let mut follower = node.sctl_command(&["service", "logs", "--raw", "-f", "app"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = std::io::BufReader::new(follower.stdout.take().context("stdout")?).lines();
    ensure!(lines.next().context("no line")?? == "up");

    node.ok(&["service", "rm", "app"])?;

    ensure!(lines.next().is_none());
    ensure!(follower.wait()?.success());
    Ok(())
}

#[test]
fn log_rotates_while_its_container_runs() -> Result<()> {
    let node = Node::cluster()?;
    let options = ["--log-opt", "max-size=2k", "--log-opt", "max-file=3"];
    let script = "seq 1000; exec sleep 1000";
    node.create_service(&[&options[..], &["--name", "app", "busybox:1", "sh", "-c", script]].concat())?;
    let mut follower = node.sctl_command(&["service", "logs", "--raw", "-f", "app"]).stdout(Stdio::piped()).spawn()?;
    let lines = std::io::BufReader::new(follower.stdout.take().context("stdout")?).lines();
    ensure!(lines.map_while(std::result::Result::ok).any(|line| line == "1000"));
    follower.kill()?;
    follower.wait()?;

    let kept = node.ok(&["service", "logs", "--raw", "app"])?;
    let kept: Vec<u32> = kept.lines().map(str::parse).collect::<std::result::Result<_, _>>()?;

    let first = *kept.first().context("an empty log")?;
    ensure!(first > 900 && kept == (first..=1000).collect::<Vec<_>>(), "{kept:?}");
    let task = node.ok(&["service", "ps", "-q", "--no-trunc", "app"])?;
    let files: Vec<u64> = std::fs::read_dir(node.data_dir().join("logs").join(task))?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .collect::<Result<_>>()?;
    ensure!(files.len() == 3 && files.iter().all(|size| (1..=2048).contains(size)), "{files:?}");
    Ok(())
}

#[test]
fn log_that_nobody_keeps_is_refused() -> Result<()> {
    let node = Node::cluster()?;
    node.create_service(&["--name", "app", "--log-driver", "none", "busybox:1", "sleep", "1000"])?;

    for reference in ["app", "app.1"] {
        let line = node.refused(1, &["service", "logs", reference], b"")?;
        ensure!(line.contains("--log-driver json-file"), "{line}");
    }
    Ok(())
}

#[test]
fn network_is_loopback_alone_unless_it_is_the_hosts() -> Result<()> {
    let node = Node::cluster()?;
    serve(&node, &[])?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();

    let own = node.sctl(&["exec", "app.1", "nc", "-w", "1", "127.0.0.1", &port], b"")?;
    ensure!(own.code() == 1, "the host's loopback is reachable: {own:?}");
    let own = "while :; do echo hi | nc -l -p 9; done >/dev/null 2>&1 &
        for i in $(seq 300); do echo | nc -w 1 127.0.0.1 9 && exit 0; sleep 0.1; done; exit 1";
    node.ok(&["exec", "app.1", "sh", "-c", own])?;
    node.create_service(&["--name", "host", "--network", "host", "busybox:1", "sleep", "1000"])?;
    std::thread::scope(|scope| {
        let accept = scope.spawn(|| listener.accept().map(drop));
        let called = node.ok(&["exec", "host.1", "nc", "-w", "20", "127.0.0.1", &port]);
        if called.is_err() {
            std::net::TcpStream::connect(listener.local_addr()?)?; // nobody else calls, and it would wait for ever
        }
        accept.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
        called.map(drop)
    })
}
