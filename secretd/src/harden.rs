//! What keeps the cluster's keys in this process: no core file, no debugger of the same user, no swap.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, setrlimit};

/// Hardens the process; one line for each protection that the kernel refuses.
pub(crate) fn harden() -> Vec<String> {
    // Files and sockets are for root, unless their maker says otherwise.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut weaknesses = Vec::new();
    let mut check = |what: &str, result: nix::Result<()>| {
        if let Err(error) = result {
            weaknesses.push(format!("secretd: {what}: {error}"));
        }
    };
    check("core files cannot be forbidden, a crash may write keys to disk", setrlimit(Resource::RLIMIT_CORE, 0, 0));
    check("the process stays dumpable", nix::sys::prctl::set_dumpable(false));
    // Without the capability the limit is small, and what is mapped beyond it would fail later.
    let may_lock = if has_capability(CAP_IPC_LOCK) { Ok(()) } else { Err(nix::Error::EPERM) };
    // Pages are locked as they come into use, not all that is mapped.
    let flags = MlockAllFlags::MCL_CURRENT
        | MlockAllFlags::MCL_FUTURE
        | MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    check("memory cannot be locked, keys may reach swap", may_lock.and_then(|()| mlockall(flags)));
    weaknesses
}

/// capability.h's number.
const CAP_IPC_LOCK: u32 = 14;

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or_default();
    effective >> number & 1 == 1
}
