//! The last code before a container's program: our executor in libcontainer (docs/adr/0003).
//!
//! It runs in the container's process, in its namespaces and root, as root with the capabilities of
//! [`capability::with_finishing`]. It installs the seccomp filters, gives up what the container shall not have, takes
//! the wanted identity and executes the program. What fails here is told on standard error, and ends the process with
//! 126, or 127 where the program does not exist, as shells and Docker do.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::CString;

use caps::{CapSet, Capability, CapsHashSet};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, execve, setgroups, setresgid, setresuid};
use oci_spec::runtime::Spec;
use secretd_sys::child::{self, Side};
use secretd_sys::seccomp_filter;

use crate::seccomp::Filters;
use crate::spec::{Identity, capability};

/// What is done last in a container's process.
#[derive(Debug, Clone)]
pub(crate) struct TaskExecutor {
    pub(crate) filters: Filters,
    pub(crate) identity: Identity,
    pub(crate) capabilities: BTreeSet<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) init: bool,
    /// Absolute path of the program in the container.
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
}

/// The step that failed, for standard error.
#[derive(Debug, thiserror::Error)]
enum FinishError {
    #[error("a name or argument has a NUL byte")]
    Nul(#[from] std::ffi::NulError),
    #[error(transparent)]
    Capability(#[from] capability::UnknownCapability),
    #[error("capabilities: {0}")]
    Caps(#[from] caps::errors::CapsError),
    #[error("signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error("descriptors: {0}")]
    Descriptors(#[source] std::io::Error),
    #[error("seccomp: {0}")]
    Seccomp(#[source] std::io::Error),
    #[error("{call}: {source}")]
    Call { call: &'static str, source: nix::Error },
    #[error("init: {0}")]
    Init(#[from] child::ChildError),
    #[error("exec: \"{program}\": {source}")]
    Exec { program: String, source: nix::Error },
}

impl Executor for TaskExecutor {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let error = match self.finish() {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let _ = nix::unistd::write(std::io::stderr(), format!("{error}\n").as_bytes());
        let missing = matches!(&error, FinishError::Exec { source, .. } if *source == nix::Error::ENOENT);
        child::exit_now(if missing { 127 } else { 126 })
    }

    /// The program was looked up in the container's root before the container was made.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

impl TaskExecutor {
    fn finish(&self) -> Result<Infallible, FinishError> {
        let program = CString::new(self.program.as_str())?;
        let args = self.args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>()?;
        let env = self.env.iter().map(|entry| CString::new(entry.as_str())).collect::<Result<Vec<_>, _>>()?;
        child::reset_signals().map_err(FinishError::Signals)?;
        if self.init {
            self.become_init()?;
        }
        // Without no_new_privs only CAP_SYS_ADMIN may install a filter, so the filter comes first.
        if !self.no_new_privileges {
            self.install_filters()?;
        }
        self.take_identity()?;
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(|source| FinishError::Call { call: "no_new_privs", source })?;
            self.install_filters()?;
        }
        match execve(&program, &args, &env) {
            Ok(never) => match never {},
            Err(source) => Err(FinishError::Exec { program: self.program.clone(), source }),
        }
    }

    fn install_filters(&self) -> Result<(), FinishError> {
        self.filters.iter().try_for_each(|filter| seccomp_filter::install(filter)).map_err(FinishError::Seccomp)
    }

    /// User, groups and capabilities as Docker gives them: root has the container's set, others have it as their
    /// bounding set alone; nothing is inheritable or ambient.
    fn take_identity(&self) -> Result<(), FinishError> {
        let wanted: CapsHashSet = capability::parse(&self.capabilities)?;
        let at = |call: &'static str| move |source| FinishError::Call { call, source };
        let bounding = caps::read(None, CapSet::Bounding)?;
        for capability in bounding.difference(&wanted) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
        let groups: Vec<Gid> = self.identity.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.identity.uid), Gid::from_raw(self.identity.gid));
        setgroups(&groups).map_err(at("setgroups"))?;
        setresgid(gid, gid, gid).map_err(at("setresgid"))?;
        // Inheritable must be empty before the permitted set shrinks. Leaving uid 0 clears the other two.
        caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
        setresuid(uid, uid, uid).map_err(at("setresuid"))?;
        if uid.is_root() {
            caps::set(None, CapSet::Effective, &wanted)?;
            caps::set(None, CapSet::Permitted, &wanted)?;
        }
        Ok(())
    }

    /// Goes on in a child; this process stays the container's first, forwards signals to the child, reaps orphans, and
    /// ends as the child ends.
    fn become_init(&self) -> Result<(), FinishError> {
        let at = |call: &'static str| move |source| FinishError::Call { call, source };
        let all = SigSet::all();
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before)).map_err(at("sigprocmask"))?;
        match child::split()? {
            Side::Child => {
                // A process group of its own, so that a terminal's signals reach the program and not this init twice.
                nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(at("setpgid"))?;
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(at("sigprocmask"))
            }
            Side::Parent(program) => {
                if let Err(error) = self.stay_small() {
                    let _ = kill(program, Signal::SIGKILL);
                    return Err(error);
                }
                child::exit_now(forward(program, &all))
            }
        }
    }

    /// What lives as long as the container keeps nothing of the shim's open, and no right but to signal.
    fn stay_small(&self) -> Result<(), FinishError> {
        let at = |call: &'static str| move |source| FinishError::Call { call, source };
        child::close_from(3).map_err(FinishError::Descriptors)?;
        nix::sys::prctl::set_name(c"secretd-init").map_err(at("name"))?;
        let signal = CapsHashSet::from([Capability::CAP_KILL]);
        caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
        caps::set(None, CapSet::Effective, &signal)?;
        caps::set(None, CapSet::Permitted, &signal)?;
        nix::sys::prctl::set_no_new_privs().map_err(at("no_new_privs"))?;
        self.install_filters()
    }
}

fn forward(program: Pid, all: &SigSet) -> i32 {
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(pid, code)) if pid == program => return code,
                    Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => return 128 + signal as i32,
                    Ok(WaitStatus::StillAlive) | Err(_) => break,
                    Ok(_) => {}
                }
            },
            Ok(signal) => {
                let _ = kill(program, signal); // it may have ended just now
            }
            Err(_) => {}
        }
    }
}
