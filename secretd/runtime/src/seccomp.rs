//! The seccomp filter of containers: Docker's default policy, as data, compiled with seccompiler.
//!
//! Everything that is not allowed answers EPERM. clone3(2) answers ENOSYS, so that the C library falls back to
//! clone(2), whose flags a filter can see. Calls of another architecture (32-bit ones on x86-64) kill the process.

mod syscalls;

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use secretd_sys::seccomp_filter::Instruction;

/// The filters of a container, in the order of their installation.
pub(crate) type Filters = Vec<Vec<Instruction>>;

/// The profile does not compile: a defect of this table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// seccompiler refuses a rule.
    #[error("the seccomp profile does not compile: {0}")]
    Backend(#[from] seccompiler::BackendError),
    /// This machine's architecture has no table.
    #[error("there is no seccomp profile for this architecture")]
    Architecture,
}

/// New namespaces in the flags of clone(2): a container without CAP_SYS_ADMIN may ask for none.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Values of personality(2) that only change what programs are told: Linux, 32-bit uname, no address randomization.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families that reach past the container: the hypervisor's sockets, and the kernel's cipher interface.
const REFUSED_FAMILIES: [u64; 2] = [libc::AF_VSOCK as u64, libc::AF_ALG as u64];

/// The filters for a container with these capabilities.
///
/// # Errors
/// See [`CompileError`].
pub(crate) fn compile(capabilities: &BTreeSet<String>) -> Result<Filters, CompileError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into().map_err(|_| CompileError::Architecture)?;
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        syscalls::ALWAYS.iter().map(|&call| (call, Vec::new())).collect();
    for (capability, calls) in syscalls::WITH_CAPABILITY {
        if capabilities.contains(*capability) {
            allowed.extend(calls.iter().map(|&call| (call, Vec::new())));
        }
    }
    if !capabilities.contains("CAP_SYS_ADMIN") {
        let no_namespace = SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS);
        allowed.insert(libc::SYS_clone, vec![rule(0, SeccompCmpArgLen::Qword, no_namespace, 0)?]);
    }
    let personalities = PERSONALITIES.iter().map(|&value| rule(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value));
    allowed.insert(libc::SYS_personality, personalities.collect::<Result<_, _>>()?);
    let families = REFUSED_FAMILIES.map(|family| condition(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family));
    allowed.insert(libc::SYS_socket, vec![SeccompRule::new(families.into_iter().collect::<Result<_, _>>()?)?]);

    let policy = SeccompFilter::new(allowed, SeccompAction::Errno(EPERM), SeccompAction::Allow, architecture)?;
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, SeccompAction::Errno(ENOSYS), architecture)?;
    Ok(vec![instructions(policy)?, instructions(no_clone3)?])
}

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, length, operator, value)
}

fn rule(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, length, operator, value)?])
}

fn instructions(filter: SeccompFilter) -> Result<Vec<Instruction>, CompileError> {
    let program: BpfProgram = filter.try_into()?;
    Ok(program.into_iter().map(|one| Instruction { code: one.code, jt: one.jt, jf: one.jf, k: one.k }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_compiles_for_every_set_of_capabilities() {
        let all = caps::all().into_iter().map(|capability| capability.to_string()).collect();

        for capabilities in [BTreeSet::new(), all] {
            let filters = compile(&capabilities).unwrap();
            assert!(filters.len() == 2 && filters[0].len() > 300, "{}", filters[0].len());
            assert!(filters[0].len() < 4096, "the kernel takes 4096 instructions (BPF_MAXINSNS)");
        }
    }

    #[test]
    fn dangerous_calls_are_allowed_only_with_their_capability() {
        for call in [
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_init_module,
            libc::SYS_reboot,
            libc::SYS_unshare,
            libc::SYS_kexec_load,
        ] {
            assert!(!syscalls::ALWAYS.contains(&call), "{call}");
        }
        assert!(!syscalls::ALWAYS.contains(&libc::SYS_keyctl) && !syscalls::ALWAYS.contains(&libc::SYS_io_uring_setup));
    }
}
