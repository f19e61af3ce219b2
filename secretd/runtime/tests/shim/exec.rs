//! Commands in a running container.

use std::fs;
use std::time::Duration;

use secretd_core::seam::runtime::{ContainerError, ExecInput, ExecOutput, ExecSession, ExecSpec};
use secretd_runtime::exec::spawn;

use crate::lab::{Lab, Shim, own_program};

fn running() -> (Lab, Shim) {
    let lab = Lab::new("echo ready; sleep 1000");
    let shim = lab.start();
    lab.wait_for_output("ready");
    (lab, shim)
}

fn command(script: &str) -> ExecSpec {
    ExecSpec {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![],
        user: String::new(),
        workdir: String::new(),
        interactive: false,
        tty: false,
        size: None,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("within 20 s") });
    runtime.shutdown_timeout(Duration::from_secs(1));
    answer
}

async fn start(lab: &Lab, spec: ExecSpec) -> Result<ExecSession, ContainerError> {
    spawn(own_program(), &lab.task_dir(), spec).await
}

/// Standard output, standard error and the exit code.
async fn rest(mut session: ExecSession) -> (String, String, i32) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match session.output.recv().await.expect("a code comes last") {
            ExecOutput::Stdout(bytes) => out.extend(bytes),
            ExecOutput::Stderr(bytes) => err.extend(bytes),
            ExecOutput::Exited(code) => {
                return (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code);
            }
        }
    }
}

pub(crate) fn command_has_its_streams_and_exit_code() {
    let (lab, _shim) = running();
    let answer = block_on(async { rest(start(&lab, command("cat; echo err >&2; exit 6")).await.unwrap()).await });
    assert_eq!(answer, (String::new(), "err\n".into(), 6));

    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| b'a' + u8::try_from(number % 23).unwrap()).collect();
    let answer = block_on(async {
        let session = start(&lab, ExecSpec { interactive: true, ..command("cat") }).await.unwrap();
        let (input, sent) = (session.input.clone(), bytes.clone());
        let feed = async move {
            for piece in sent.chunks(10_000) {
                input.send(ExecInput::Stdin(piece.to_vec())).await.unwrap();
            }
            input.send(ExecInput::StdinClosed).await.unwrap();
        };
        tokio::join!(rest(session), feed).0
    });
    assert_eq!((answer.0.len(), answer.0.as_bytes() == bytes, answer.2), (bytes.len(), true, 0));

    let answer = block_on(async {
        let session = start(&lab, command("sleep 1000")).await.unwrap();
        session.input.send(ExecInput::Signal(15)).await.unwrap();
        rest(session).await
    });
    assert_eq!(answer.2, 143);
}

pub(crate) fn command_takes_user_environment_and_directory() {
    let (lab, _shim) = running();
    let spec = ExecSpec {
        user: "app".into(),
        env: vec!["GREETING=bye".into()],
        workdir: "/data".into(),
        ..command("id -u; id -G; echo $GREETING $HOME; pwd")
    };

    let answer = block_on(async { rest(start(&lab, spec).await.unwrap()).await });

    assert_eq!(answer, ("1000\n1000 63\nbye /home/app\n/data\n".into(), String::new(), 0));
}

pub(crate) fn command_has_no_more_rights_than_the_container() {
    let (lab, shim) = running();
    let script =
        "grep -E '^(Cap|Seccomp:)' /proc/self/status; cat /proc/self/cgroup; ulimit -n; readlink /proc/self/ns/pid";

    let (out, err, code) = block_on(async { rest(start(&lab, command(script)).await.unwrap()).await });

    assert_eq!((err.as_str(), code), ("", 0));
    for field in ["CapInh:\t0000000000000000", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Seccomp:\t2"]
    {
        assert!(out.contains(field), "{field}: {out}");
    }
    assert!(out.contains("\n123\n"), "{out}");
    let of = |text: &str| text.lines().filter(|line| line.contains(":/")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of(&out), of(&fs::read_to_string(format!("/proc/{}/cgroup", shim.pid())).unwrap()));
}

pub(crate) fn command_on_a_terminal_is_resized() {
    let (lab, _shim) = running();
    let script = "tty; stty size; trap 'stty size; exit 8' WINCH; echo ready; while :; do sleep 0.01; done";
    let spec = ExecSpec { tty: true, interactive: true, size: Some((10, 20)), ..command(script) };

    let (out, code) = block_on(async {
        let mut session = start(&lab, spec).await.unwrap();
        let mut out = String::new();
        while !out.contains("ready") {
            match session.output.recv().await {
                Some(ExecOutput::Stdout(bytes)) => out.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} after {out}"),
            }
        }
        session.input.send(ExecInput::Resize(30, 40)).await.unwrap();
        let (end, _, code) = rest(session).await;
        (out + &end, code)
    });

    assert_eq!(code, 8);
    assert!(out.starts_with("/dev/pts/0\r\n10 20\r\n") && out.ends_with("30 40\r\n"), "{out:?}");
}

pub(crate) fn dropped_session_kills_its_command() {
    let (lab, shim) = running();
    // A shell that stays one: a process that is becoming another has no command line for a moment.
    let script = "echo ready; while :; do sleep 0.05; done # 4242";
    let processes = || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains("4242")).count()
    };

    block_on(async {
        let mut session = start(&lab, command(script)).await.unwrap();
        assert_eq!(session.output.recv().await, Some(ExecOutput::Stdout(b"ready\n".to_vec())));
        assert!(processes() > 0);
        drop(session);
        while processes() > 0 {
            tokio::task::yield_now().await; // the task that owns the socket ends it
        }
    });
    assert!(shim.pid() > 0);
}

pub(crate) fn missing_command_is_refused() {
    let (lab, shim) = running();

    let missing = ExecSpec { args: vec!["nowhere".into()], ..command("") };
    let (out, err, code) = block_on(async { rest(start(&lab, missing).await.unwrap()).await });
    assert_eq!((out.as_str(), code), ("", 127));
    assert_eq!(err, "exec: \"nowhere\": executable file not found in $PATH\n");

    shim.done(&secretd_proto::shim::Request::Kill { signal: 9 });
    shim.exit();
    let error = block_on(start(&lab, command("true"))).unwrap_err();
    assert!(error.to_string().contains("not running"), "{error}");
}
