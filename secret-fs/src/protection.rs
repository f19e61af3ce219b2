//! How this process is protected: takes every protection that the kernel has, and reports each one that it lacks.
//!
//! Order matters. Limits and memory come first, while root may still raise them; then the identity and capabilities
//! go; then files (Landlock), which needs no_new_privs; then system calls (seccomp), after which nothing can be changed.
//! All of it happens before the first thread starts, so that every thread inherits it.

mod seccomp;

use std::fs::File;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope,
};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use secretd_sys::secret_memory::{Protection, probe};

/// Why the process may not start: what is missing is no weakness to live with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtectError {
    #[error("cannot become user {uid}: start secret-fs as root")]
    Identity { uid: u32, source: io::Error },
    #[error("cannot drop capabilities")]
    Capabilities(#[source] io::Error),
    #[error("cannot forbid new privileges")]
    NoNewPrivileges(#[source] io::Error),
    #[error("cannot forbid core files")]
    Core(#[source] io::Error),
    #[error("the system call filter is not accepted")]
    Seccomp(#[source] seccomp::FilterError),
}

/// The unprivileged identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `nobody`: used where no identity is given, and reported then.
pub(crate) const NOBODY: Identity = Identity { uid: 65534, gid: 65534 };

/// What is in force, and what is not.
#[derive(Debug)]
pub(crate) struct Protections {
    /// How plaintext is kept.
    pub(crate) memory: Protection,
    /// Names of what is in force.
    pub(crate) sandbox: Vec<&'static str>,
    /// What is missing, and what follows from it.
    pub(crate) weaknesses: Vec<String>,
}

impl Protections {
    /// Limits and memory, while still root.
    ///
    /// # Errors
    /// When core files cannot be forbidden.
    pub(crate) fn prepare() -> Result<Self, ProtectError> {
        forbid_core_files().map_err(ProtectError::Core)?;
        let mut weaknesses = Vec::new();
        let locked = rustix::process::getrlimit(Resource::Memlock);
        if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
            // A soft limit up to the hard one is always allowed, so this cannot fail where the first call could.
            let _ = setrlimit(Resource::Memlock, Rlimit { current: locked.maximum, ..locked });
            weaknesses.push(format!(
                "locked memory is limited to {} bytes (RLIMIT_MEMLOCK): secrets that do not fit are refused",
                locked.maximum.unwrap_or(u64::MAX)
            ));
        }
        let files = rustix::process::getrlimit(Resource::Nofile);
        if setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).is_err() {
            weaknesses.push("RLIMIT_NOFILE cannot be raised: fewer tasks can be served".to_owned());
        }
        // Transparent huge pages would make 2 MiB of each buffer and stack that uses one byte.
        if rustix::thread::disable_transparent_huge_pages(true).is_err() {
            weaknesses.push("transparent huge pages cannot be switched off: more memory is used".to_owned());
        }
        let memory = probe();
        match memory {
            Protection::MemfdSecret => {}
            Protection::Locked => weaknesses.push(
                "the kernel has no memfd_secret: root can read plaintext in /proc/PID/mem, and a hibernation image holds it"
                    .to_owned(),
            ),
            Protection::Unlocked => weaknesses.push("no memory can be locked: plaintext may be swapped out".to_owned()),
        }
        if std::fs::read("/sys/module/fuse/parameters/allow_sys_admin_access")
            .is_ok_and(|value| value.starts_with(b"Y"))
        {
            weaknesses.push(
                "fuse.allow_sys_admin_access is on: root of the host may enter mounts of user namespaces".to_owned(),
            );
        }
        Ok(Self { memory, sandbox: vec!["no-core", "not-dumpable"], weaknesses })
    }

    /// `memfd_secret`, `mlock` or `unlocked`.
    pub(crate) fn memory_name(&self) -> &'static str {
        match self.memory {
            Protection::MemfdSecret => "memfd_secret",
            Protection::Locked => "mlock",
            Protection::Unlocked => "unlocked",
        }
    }

    /// Gives up root, capabilities, files and system calls, for good.
    ///
    /// # Errors
    /// See [`ProtectError`].
    pub(crate) fn enter(&mut self, identity: Identity) -> Result<(), ProtectError> {
        drop_capabilities(identity)?;
        self.sandbox.push("unprivileged");
        if identity == NOBODY {
            self.weaknesses.push(
                "runs as nobody (65534): other processes of that user may send it signals; give --uid and --gid"
                    .to_owned(),
            );
        }
        forbid_core_files().map_err(ProtectError::Core)?; // a change of identity makes a process dumpable again
        set_no_new_privs(true).map_err(|error| ProtectError::NoNewPrivileges(error.into()))?;
        self.sandbox.push("no-new-privs");
        if File::open("/proc/1/cgroup").is_err() {
            self.weaknesses
                .push("/proc hides other users' processes: every open is refused; mount it without hidepid".to_owned());
        }
        self.hide_files();
        seccomp::install().map_err(ProtectError::Seccomp)?;
        self.sandbox.push("seccomp");
        Ok(())
    }

    fn hide_files(&mut self) {
        match restrict_files() {
            Ok(RulesetStatus::FullyEnforced) => self.sandbox.push("landlock"),
            Ok(RulesetStatus::PartiallyEnforced) => {
                self.sandbox.push("landlock");
                self.weaknesses
                    .push("Landlock is older than version 6: signals to others are not forbidden by it".to_owned());
            }
            Ok(RulesetStatus::NotEnforced) | Err(_) => self
                .weaknesses
                .push("the kernel has no Landlock: files that every user may read can be opened".to_owned()),
        }
    }
}

/// No core files, no ptrace and no /proc/PID/mem for other processes of this user.
fn forbid_core_files() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn drop_capabilities(identity: Identity) -> Result<(), ProtectError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    for (_, capability) in CapabilitySet::all().iter_names() {
        // EINVAL: one that this kernel does not have.
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(ProtectError::Capabilities(error.into())),
        }
    }
    let change = || {
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    change().map_err(|error| ProtectError::Identity { uid: identity.uid, source: error.into() })?;
    let none = CapabilitySet::empty();
    clear_ambient_capability_set()
        .and_then(|()| set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }))
        .map_err(|error| ProtectError::Capabilities(error.into()))
}

/// No file but those of /proc, which shows the control groups of callers; no TCP; no signals and abstract sockets
/// outside.
fn restrict_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let version = ABI::V6;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(version))?
        .handle_access(AccessNet::from_all(version))?
        .scope(Scope::from_all(version))?
        .create()?;
    let ruleset = match PathFd::new("/proc") {
        Ok(proc) => ruleset.add_rule(PathBeneath::new(proc, AccessFs::ReadFile))?,
        Err(_) => ruleset,
    };
    Ok(ruleset.restrict_self()?.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Landlock and seccomp hold for the thread that asks for them, so a test thread can be locked in alone.
    #[test]
    fn locked_in_thread_reads_proc_and_nothing_else() {
        let locked_in = std::thread::Builder::new().name("locked-in".into()).spawn(|| {
            set_no_new_privs(true).unwrap();
            let enforced = restrict_files().unwrap();
            let hidden = File::open("/etc/passwd").map(drop).map_err(|error| error.raw_os_error());
            seccomp::install().unwrap();
            let written = File::create("/proc/self/comm").map(drop).map_err(|error| error.raw_os_error());
            let made = rustix::fs::mkdir("/proc/x", 0o700.into());
            let signal = rustix::process::test_kill_process(rustix::process::getpid());
            let executable = rustix::process::set_parent_process_death_signal(None);
            let shown = std::fs::read_to_string("/proc/self/cgroup").map(|text| !text.is_empty());
            (enforced, hidden, written, made, signal, executable, shown.unwrap())
        });
        let (enforced, hidden, written, made, signal, prctl, shown) = locked_in.unwrap().join().unwrap();

        let forbidden = Err(rustix::io::Errno::PERM);
        assert_ne!(enforced, RulesetStatus::NotEnforced, "these tests need Landlock");
        assert_eq!(hidden, Err(Some(rustix::io::Errno::ACCESS.raw_os_error())));
        assert_eq!(written, Err(Some(rustix::io::Errno::PERM.raw_os_error())));
        assert_eq!((made, signal, prctl), (forbidden, forbidden, forbidden));
        assert!(shown);
    }
}
