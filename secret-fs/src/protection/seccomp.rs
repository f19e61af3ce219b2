//! Which system calls this process may make.
//!
//! Several filters, of which the strictest answer counts: calls that only an intruder would make end the process; of
//! the rest, those in the list are allowed and all others give EPERM. Allowed calls that take dangerous arguments are
//! allowed with harmless ones only: files are opened for reading, memory is never executable, prctl only names threads.

use std::collections::BTreeMap;

use nix::libc;
use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("secret-fs has no filter for this processor")]
    Processor(#[source] BackendError),
    #[error("a filter cannot be built")]
    Build(#[source] BackendError),
    #[error("the kernel refuses a filter")]
    Install(#[source] seccompiler::Error),
}

/// Puts the filters on this thread and all that it will start.
///
/// # Errors
/// See [`FilterError`].
pub(crate) fn install() -> Result<(), FilterError> {
    let processor = TargetArch::try_from(std::env::consts::ARCH).map_err(FilterError::Processor)?;
    let deadly = DEADLY.iter().map(|&call| (call, Vec::new())).collect();
    let errno = |errno: Errno| SeccompAction::Errno(errno.raw_os_error().cast_unsigned());
    // clone3 hides its flags behind a pointer, which a filter cannot follow; glibc then takes clone, whose flags can
    // be checked.
    let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let filters = [
        (deadly, SeccompAction::Allow, SeccompAction::KillProcess),
        (hidden, SeccompAction::Allow, errno(Errno::NOSYS)),
        (allowed()?, errno(Errno::PERM), SeccompAction::Allow),
    ];
    for (rules, otherwise, matched) in filters {
        let filter = SeccompFilter::new(rules, otherwise, matched, processor).map_err(FilterError::Build)?;
        let program: BpfProgram = filter.try_into().map_err(FilterError::Build)?;
        seccompiler::apply_filter(&program).map_err(FilterError::Install)?;
    }
    Ok(())
}

fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, FilterError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let writing = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    for (call, argument, mask, value) in [
        (libc::SYS_openat, 2, writing, libc::O_RDONLY),
        (libc::SYS_mmap, 2, libc::PROT_EXEC, 0),
        (libc::SYS_mprotect, 2, libc::PROT_EXEC, 0),
        (libc::SYS_clone, 0, libc::CLONE_THREAD, libc::CLONE_THREAD),
        (libc::SYS_prctl, 0, !0, libc::PR_SET_NAME),
        (libc::SYS_prctl, 0, !0, PR_SET_VMA),
    ] {
        let operator = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
        let value = u64::from(value.cast_unsigned());
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
        let rule = condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(FilterError::Build)?;
        rules.entry(call).or_default().push(rule);
    }
    Ok(rules)
}

/// Names anonymous memory (glibc and the standard library, where they do); not in every version of libc.
const PR_SET_VMA: i32 = 0x5356_4d41;

/// What the process needs: its sockets, its mounts, /proc, memory, threads and time.
const ALLOWED: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_pidfd_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_memfd_secret,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_clone3, // the filter before this one answers it with ENOSYS
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_tgkill,
    // These three in place of others where the C library is musl.
    libc::SYS_readv,
    libc::SYS_tkill,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What only an intruder would do.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capset,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_pidfd_getfd,
];
