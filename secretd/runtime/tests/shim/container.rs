//! A container's life: output, signals, limits, failures, end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use secretd_proto::shim::{Phase, Request, Response, Step};
use secretd_runtime::shim_config::{Limits, MountPlan, MountSource};

use crate::lab::{Lab, Shim, wait_until};

pub(crate) fn output_is_logged_by_stream_and_exit_code_is_told() {
    let lab = Lab::new("echo out $GREETING; echo err >&2; printf part; exit 7");

    let shim = lab.start();

    assert_eq!((shim.exit().code, shim.exit().oom_killed), (7, false));
    assert_eq!((lab.output("stdout"), lab.output("stderr")), ("out hello\npart".into(), "err\n".into()));
    assert_eq!(fs::metadata(lab.path.join("log/log.json")).unwrap().mode() & 0o777, 0o600);
}

pub(crate) fn signals_end_it_and_show_in_the_code() {
    let lab = Lab::new("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let shim = lab.start();
    lab.wait_for_output("ready");
    assert_eq!(shim.status(&Request::Status).phase, Phase::Running);

    shim.done(&Request::Kill { signal: 15 });

    assert_eq!((shim.exit().code, lab.output("stdout")), (3, "ready\ncaught\n".into()));

    let lab = Lab::new("sleep 1000");
    let shim = lab.start();
    shim.done(&Request::Kill { signal: 9 });
    assert_eq!(shim.exit().code, 137);
    shim.done(&Request::Kill { signal: 9 });
    assert!(matches!(shim.ask(&Request::Start), Response::Failed(_)));
}

pub(crate) fn init_reaps_orphans_and_forwards_signals() {
    let script = "trap 'echo caught; exit 4' TERM; (setsid sleep 0.01 &); sleep 0.2; ps -o pid,stat,comm; \
                  echo shell $$; echo ready; while :; do sleep 0.01; done";
    let mut lab = Lab::new(script);
    lab.config.process.init = true;
    let shim = lab.start();
    lab.wait_for_output("ready");

    shim.done(&Request::Kill { signal: 15 });

    assert_eq!(shim.exit().code, 4);
    let output = lab.output("stdout");
    assert!(!output.contains("Z ") && output.ends_with("caught\n"), "{output}");
    assert!(!output.contains("shell 1\n"), "{output}");
    assert!(output.contains("secretd-init"), "{output}");
}

pub(crate) fn missing_program_and_mount_source_have_clear_failures() {
    let mut lab = Lab::new("");
    lab.config.process.args = vec!["nowhere".to_owned()];
    let failure = lab.failure();
    assert_eq!(failure.step, Step::Command);
    assert_eq!(failure.message, "exec: \"nowhere\": executable file not found in $PATH");

    let mut lab = Lab::new("");
    lab.config.process.args = vec!["/bin/nothing".to_owned()];
    assert_eq!(lab.failure().message, "exec: \"/bin/nothing\": permission denied");

    let mut lab = Lab::new("");
    let source = MountSource::Path { path: "/no/such".into(), propagation: String::new(), populate: false };
    lab.config.mounts.push(MountPlan { target: "/data".into(), source, read_only: false });
    let failure = lab.failure();
    assert_eq!(failure.step, Step::Mount);
    assert!(failure.message.ends_with("bind source path does not exist: /no/such"), "{}", failure.message);
}

pub(crate) fn unknown_user_is_a_failure() {
    let mut lab = Lab::new("");
    lab.config.process.user = "ghost".to_owned();

    let failure = lab.failure();

    assert!(failure.message.contains("unable to find user ghost"), "{}", failure.message);
}

pub(crate) fn memory_limit_ends_it_as_out_of_memory() {
    let mut lab = Lab::new("echo start; exec tail -c 200000000 /dev/zero");
    lab.config.limits.memory_bytes = 32 * 1024 * 1024;

    let exit = lab.start().exit();

    assert_eq!((exit.code, exit.oom_killed), (137, true));
}

pub(crate) fn limits_reach_the_control_group() {
    let mut lab =
        Lab::new("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; cat /proc/sys/kernel/msgmax; sleep 1000");
    lab.config.limits = Limits { nano_cpus: 500_000_000, memory_bytes: 64 << 20, pids: 33 };
    lab.config.sysctls.insert("kernel.msgmax".into(), "4242".into());
    let shim = lab.start();
    lab.wait_for_output("4242");

    let group = lab.config.cgroup.trim_start_matches('/');
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).map(|text| text.trim().to_owned());
    let either = |first: String, second: String| read(&first).or_else(|_| read(&second)).unwrap();
    assert_eq!(
        either(format!("memory/{group}/memory.limit_in_bytes"), format!("{group}/memory.max")),
        (64 << 20).to_string()
    );
    assert_eq!(either(format!("pids/{group}/pids.max"), format!("{group}/pids.max")), "33");
    let cpu = either(format!("cpu/{group}/cpu.cfs_quota_us"), format!("{group}/cpu.max"));
    assert!(cpu.starts_with("50000"), "{cpu}");
    assert!(lab.output("stdout").starts_with("123\n456\n100\n"), "{}", lab.output("stdout"));
    drop(shim);
}

pub(crate) fn terminal_is_one_stream_with_a_size() {
    let mut lab = Lab::new(
        "tty; echo err >&2; echo $TERM; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.01; done",
    );
    lab.config.process.tty = true;
    let shim = lab.start();
    lab.wait_for_output("ready");

    shim.done(&Request::Resize { rows: 33, columns: 99 });

    assert_eq!(shim.exit().code, 5);
    let output = lab.output("stdout");
    assert_eq!(output, "/dev/pts/0\r\nerr\r\nxterm\r\nready\r\n33 99\r\n");
}

pub(crate) fn shim_outlives_its_starter() {
    let lab = Lab::new("i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); sleep 0.002; done; exit 9");
    lab.write_config();
    let mut starter =
        Command::new(std::env::current_exe().unwrap()).args(["starter", lab.task_dir().as_str()]).spawn().unwrap();
    let shim = Shim::new(None, &lab.task_dir());
    assert_eq!(shim.created(), Ok(Phase::Created));
    shim.done(&Request::Start);
    lab.wait_for_output("1\n");

    starter.kill().unwrap();
    starter.wait().unwrap();
    shim.leave(); // a connection of the one that was killed
    let shim = Shim::new(None, &lab.task_dir());

    assert_eq!(shim.exit().code, 9);
    assert!(lab.output("stdout").ends_with("198\n199\n"));
}

pub(crate) fn deletion_leaves_nothing() {
    let lab = Lab::new("echo ready; sleep 1000 & sleep 1000");
    let before = mounts();
    let shim = lab.start();
    lab.wait_for_output("ready");
    let pid = shim.pid();
    assert_eq!(mounts(), before, "the container's mounts show outside it");

    shim.delete();

    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    assert_eq!(control_groups(&lab), Vec::<String>::new());
}

pub(crate) fn killed_shim_leaves_no_mount() {
    let lab = Lab::new("echo ready; sleep 1000");
    let shim = lab.start();
    lab.wait_for_output("ready");
    let pid = shim.pid();

    shim.kill();

    assert!(!fs::exists(lab.task_dir().join("rootfs/bin")).unwrap());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_until("the end of the container", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

fn control_groups(lab: &Lab) -> Vec<String> {
    let groups = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| format!("{}{}", entry.path().display(), lab.config.cgroup));
    groups.chain([format!("/sys/fs/cgroup{}", lab.config.cgroup)]).filter(|path| fs::exists(path).unwrap()).collect()
}
