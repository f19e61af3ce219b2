//! What the kernel knows by name: capabilities, resource limits, namespaced parameters, signals.

use secretd_core::service::{ContainerSpec, Ulimit};

/// Linux' capabilities (capabilities(7)), without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Resource limits (getrlimit(2)), without `RLIMIT_`.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Parameters of the kernel that belong to the IPC namespace; those of the network begin with `net.`.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Why a request to the kernel is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKernel {
    #[error("invalid capability {0}: --cap-add and --cap-drop take names of capabilities(7) or ALL")]
    Capability(String),
    #[error("invalid ulimit type {0}: --ulimit takes one of {known}", known = ULIMITS.join(", "))]
    UlimitName(String),
    #[error("ulimit soft limit must be less than or equal to hard limit: {name}={soft}:{hard} (--ulimit)")]
    UlimitOrder { name: String, soft: i64, hard: i64 },
    #[error("ulimit {0} is given twice (--ulimit)")]
    UlimitTwice(String),
    #[error(
        "sysctl {0} is not namespaced: --sysctl takes net.*, fs.mqueue.* and the kernel's message, semaphore and shared memory parameters"
    )]
    Sysctl(String),
    #[error("sysctl {0} belongs to the network namespace, which is the node's with --network host")]
    HostSysctl(String),
    #[error("invalid signal {0}: --stop-signal takes a name such as SIGTERM or a number from 1 to 64")]
    Signal(String),
}

/// Checks what a container asks the kernel for. `host_network`: whether its network namespace is the node's.
pub(crate) fn check(container: &ContainerSpec, host_network: bool) -> Result<(), InvalidKernel> {
    for name in container.cap_add.iter().chain(&container.cap_drop) {
        check_capability(name)?;
    }
    for (idx, ulimit) in container.ulimits.iter().enumerate() {
        check_ulimit(ulimit)?;
        if container.ulimits[..idx].iter().any(|other| other.name == ulimit.name) {
            return Err(InvalidKernel::UlimitTwice(ulimit.name.clone()));
        }
    }
    for name in container.sysctls.keys() {
        check_sysctl(name, host_network)?;
    }
    if container.stop_signal.is_empty() || is_signal(&container.stop_signal) {
        Ok(())
    } else {
        Err(InvalidKernel::Signal(container.stop_signal.clone()))
    }
}

fn check_capability(name: &str) -> Result<(), InvalidKernel> {
    let upper = name.to_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" || CAPABILITIES.contains(&bare) { Ok(()) } else { Err(InvalidKernel::Capability(name.to_owned())) }
}

fn check_ulimit(ulimit: &Ulimit) -> Result<(), InvalidKernel> {
    let Ulimit { name, soft, hard } = ulimit;
    if !ULIMITS.contains(&name.as_str()) {
        return Err(InvalidKernel::UlimitName(name.clone()));
    }
    let height = |limit: i64| if limit < 0 { i64::MAX } else { limit };
    if height(*soft) > height(*hard) {
        return Err(InvalidKernel::UlimitOrder { name: name.clone(), soft: *soft, hard: *hard });
    }
    Ok(())
}

fn check_sysctl(name: &str, host_network: bool) -> Result<(), InvalidKernel> {
    if name.contains('/') || name.contains("..") {
        return Err(InvalidKernel::Sysctl(name.to_owned()));
    }
    let of_network = name.starts_with("net.");
    if of_network && host_network {
        return Err(InvalidKernel::HostSysctl(name.to_owned()));
    }
    if of_network || name.starts_with("fs.mqueue.") || IPC_SYSCTLS.contains(&name) {
        return Ok(());
    }
    Err(InvalidKernel::Sysctl(name.to_owned()))
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = ["RTMIN+", "RTMAX-"].iter().find_map(|prefix| bare.strip_prefix(prefix));
    SIGNALS.contains(&bare)
        || matches!(bare, "RTMIN" | "RTMAX" | "IOT" | "CLD" | "POLL")
        || real_time.is_some_and(|offset| offset.parse::<u8>().is_ok_and(|offset| offset <= 30))
}
