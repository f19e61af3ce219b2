//! How the process is locked in, as the kernel shows it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use secretd_proto::fs::{PROTOCOL, Refusal, Request, Response};
use secretd_sys::frame;

use crate::container::Container;
use crate::lab::{Cluster, Lab, UID};

/// The argument that makes the test binary a peer that is not root.
pub(crate) const STRANGER_ROLE: &str = "stranger";

const CAP_SYS_RESOURCE: u32 = 24;

pub(crate) fn process_is_locked_in() {
    let (lab, cluster, container) = (Lab::start(), Cluster::new(), Container::start("locked"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let _mount = lab.mount(task, &container.cgroup);
    let process = format!("/proc/{}", lab.process.id());

    let threads = fs::read_dir(format!("{process}/task")).unwrap().map(|thread| thread.unwrap().path());
    let threads: Vec<_> = threads.collect();
    assert!(threads.len() >= 4, "{threads:?}");
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(field("Uid"), [UID.to_string().as_str(); 4].join(" "));
        assert_eq!(field("Gid"), [UID.to_string().as_str(); 4].join(" "));
        assert_eq!(field("Groups"), "");
        assert_eq!(field("Seccomp"), "2");
        assert_eq!(field("NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
        }
    }
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("{process}/mem")).unwrap()), 0); // not dumpable

    let status = lab.status();
    assert_eq!(status.memory, "memfd_secret");
    for name in ["seccomp", "landlock", "no-new-privs", "not-dumpable", "no-core", "unprivileged"] {
        assert!(status.sandbox.iter().any(|in_force| in_force == name), "{name}: {status:?}");
    }
    // A machine may withhold CAP_SYS_RESOURCE even from root: then, and only then, one weakness is shown.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let may_raise = u64::from_str_radix(own, 16).unwrap() & (1 << CAP_SYS_RESOURCE) != 0;
    assert_eq!(status.weaknesses.len(), usize::from(!may_raise), "{status:?}");
    assert!(may_raise || status.weaknesses[0].starts_with("locked memory is limited to "), "{status:?}");
}

pub(crate) fn plaintext_and_keys_are_nowhere_in_readable_memory() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("scan"));
    let mut canary = [0_u8; 32];
    canary[..16].copy_from_slice(secretd_proto::id::TaskId::random().as_bytes());
    canary[16..].copy_from_slice(secretd_proto::id::TaskId::random().as_bytes());
    let secret = cluster.seal("pw", &canary.repeat(1000));
    let task = lab.publish(&cluster, &[(&secret, "pw")]);
    assert_eq!(hits(lab.process.id(), &canary), 0, "at rest");
    assert!(hits(std::process::id(), &canary) > 0, "the scan finds what is there");
    let key = lab.public_key.to_bytes();
    assert!(hits(lab.process.id(), &key) > 0, "the scan can read that process");

    let mount = lab.mount(task, &container.cgroup);
    for _ in 0..3 {
        assert_eq!(container.cat(&mount.file("pw")).unwrap().len(), 32_000);
    }
    assert_eq!(hits(lab.process.id(), &canary), 0, "after reads");
    let dek = cluster.data_key(&secret);
    assert_eq!(hits(lab.process.id(), &dek), 0, "data key");
    assert_eq!(hits(lab.process.id(), &dek[..16]), 0, "half of the data key");

    lab.control.ask(&Request::Retract { task });
    assert_eq!(hits(lab.process.id(), &canary), 0, "after retraction");
}

/// How often `needle` stands in the memory of a process, as root reads it.
fn hits(pid: u32, needle: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        if !rest.starts_with('r') || rest.contains("[v") {
            continue;
        }
        let mut at = start;
        while at < end {
            let mut chunk = vec![0; usize::try_from((end - at).min(1 << 20)).unwrap()];
            // Pages of memfd_secret cannot be read; that is the point.
            let count = memory.read_at(&mut chunk, at).unwrap_or(0);
            found += chunk[..count].windows(needle.len()).filter(|window| *window == needle).count();
            at += if count == 0 { 4096 } else { count as u64 };
        }
    }
    found
}

pub(crate) fn peer_that_is_not_root_is_refused() {
    let lab = Lab::start();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(STRANGER_ROLE).arg(lab.socket()).uid(1234).gid(1234);
    assert!(command.status().unwrap().success());
}

/// Connects without being root; success is to be refused.
pub(crate) fn stranger(socket: &str) -> ExitCode {
    let Ok(socket) = UnixStream::connect(Path::new(socket)) else { return ExitCode::from(3) };
    let _ = frame::send(&socket, &Request::Hello { protocol: PROTOCOL }, &[]);
    match frame::receive::<Response>(&socket) {
        Ok((Response::Refused(Refusal::NotAllowed), _)) => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

pub(crate) fn wrong_command_line_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_secret-fs")).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "secret-fs: unknown option `--help`\n");
}
