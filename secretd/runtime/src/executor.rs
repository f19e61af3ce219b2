//! The last code before a container's program: our executor in libcontainer (docs/adr/0003).
//!
//! It runs in the container's process, in its namespaces and root, as root with the capabilities of
//! [`capability::with_finishing`]. It installs the seccomp filters, gives up what the container shall not have, takes
//! the wanted identity and executes the program. What fails here is told on standard error, and ends the process with
//! 126, or 127 where the program does not exist, as shells and Docker do.

mod init;
mod title;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::CString;

use caps::{CapSet, CapsHashSet};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::{Gid, Uid, execve, setgroups, setresgid, setresuid};
use oci_spec::runtime::Spec;
use secretd_sys::child;
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
    #[error("seccomp: {0}")]
    Seccomp(#[source] std::io::Error),
    #[error("{call}: {source}")]
    Call { call: &'static str, source: nix::Error },
    #[error("the init's command line: {0}")]
    Title(#[source] std::io::Error),
    #[error("init: {0}")]
    Init(#[from] init::InitError),
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
        // First, as the memory of a process that has changed its user is closed to itself too.
        if self.init {
            let words: Vec<&str> =
                ["secretd-init", "--"].into_iter().chain(self.args.iter().map(String::as_str)).collect();
            title::show(&words).map_err(FinishError::Title)?;
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
        if self.init {
            init::stay()?;
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
}
