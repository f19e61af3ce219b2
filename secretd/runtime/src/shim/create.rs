//! Makes a container: everything up to, and without, the start of its program.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use camino::Utf8Path;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use secretd_proto::shim::{Failure, Step};

use super::rootfs::{self, Rootfs};
use super::secrets::{self, Secrets};
use super::{cgroup, console, identity, loopback, program};
use crate::executor::TaskExecutor;
use crate::seccomp;
use crate::shim_config::{MountSource, ShimConfig};
use crate::spec::{self, Resolved, capability};

/// A container that waits to be started, and what belongs to it.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) container: Container,
    pub(super) pid: i32,
    pub(super) secrets: Option<Secrets>,
    pub(super) output: Output,
}

/// The ends of a container's output that the shim reads.
#[derive(Debug)]
pub(super) enum Output {
    /// Standard output and error.
    Pipes(File, File),
    /// A terminal's other end.
    Terminal(File),
}

/// Where the container's own state and sockets are, below the task's run directory.
pub(crate) const STATE: &str = "state";

/// The container's root, below the task's run directory.
const ROOTFS: &str = "rootfs";

/// The specification's directory, below the task's run directory.
const BUNDLE: &str = "bundle";

fn failed(step: Step) -> impl Fn(String) -> Failure {
    move |message| Failure { step, message }
}

/// Makes the container. On failure nothing of it is left but directories, which the runtime removes.
pub(super) fn create(task_dir: &Utf8Path, config: &ShimConfig) -> Result<Created, Failure> {
    let rootfs = Rootfs::mount(&config.rootfs, &task_dir.join(ROOTFS))
        .map_err(|error| failed(Step::Rootfs)(format!("the root filesystem cannot be mounted: {error}")))?;
    prepare_root(&rootfs, config)?;
    let executor = executor(&rootfs, config)?;
    let etc = etc_files(task_dir, config).map_err(|error| failed(Step::Create)(error.to_string()))?;
    let resolved = Resolved { identity: executor.identity.clone(), unified_cgroup: cgroup::is_unified(), etc };
    let spec = spec::build(config, &resolved, &rootfs.path).map_err(|error| failed(Step::Create)(error.to_string()))?;

    let (mut container, output) = build(task_dir, config, &spec, executor)?;
    let finish = |container: &Container| {
        let pid = container.pid().map(|pid| pid.as_raw()).unwrap_or_default();
        if !config.host_network {
            loopback::bring_up(pid)
                .map_err(|error| failed(Step::Create)(format!("the loopback device cannot be brought up: {error}")))?;
        }
        let secrets = config.secrets.as_ref().map(|plan| attach_secrets(task_dir, config, plan, pid)).transpose()?;
        Ok((pid, secrets))
    };
    match finish(&container) {
        Ok((pid, secrets)) => Ok(Created { container, pid, secrets, output }),
        Err(failure) => {
            let _ = container.delete(true); // what went wrong first is what is told
            Err(failure)
        }
    }
}

/// What must be in the root before it is the container's: mount points and the working directory.
fn prepare_root(rootfs: &Rootfs, config: &ShimConfig) -> Result<(), Failure> {
    let made = |what: &str, result: io::Result<()>| {
        result.map_err(|error| failed(Step::Mount)(format!("{what} cannot be made in the image: {error}")))
    };
    made(&config.process.workdir, rootfs.make_directory(&config.process.workdir).map(drop))?;
    for plan in &config.mounts {
        let MountSource::Path { path, populate, .. } = &plan.source else { continue };
        let metadata = std::fs::metadata(path).map_err(|_| {
            failed(Step::Mount)(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {path}"
            ))
        })?;
        if metadata.is_dir() {
            made(&plan.target, rootfs.make_directory(&plan.target).map(drop))?;
        } else {
            made(&plan.target, rootfs.make_file(&plan.target))?;
        }
        if *populate {
            made("the volume's content", rootfs.populate(&plan.target, path))?;
        }
    }
    for file in config.secrets.iter().flat_map(|plan| &plan.files) {
        match &file.target {
            secretd_proto::fs::Target::Relative(_) => {
                made(secrets::DIRECTORY, rootfs.make_directory(secrets::DIRECTORY).map(drop))?;
            }
            secretd_proto::fs::Target::Absolute(path) => made(path, rootfs.make_file(path))?,
        }
    }
    Ok(())
}

fn executor(rootfs: &Rootfs, config: &ShimConfig) -> Result<TaskExecutor, Failure> {
    let text = |path: &str| {
        rootfs
            .read_text(path)
            .map_err(|error| failed(Step::Create)(format!("{path} of the image cannot be read: {error}")))
    };
    let process = &config.process;
    let identity = identity::resolve(&process.user, &process.groups, &text("/etc/passwd")?, &text("/etc/group")?)
        .map_err(|error| failed(Step::Create)(error.to_string()))?;
    let capabilities = capability::effective(&process.cap_add, &process.cap_drop)
        .map_err(|error| failed(Step::Create)(error.to_string()))?;
    let name = process.args.first().ok_or_else(|| {
        failed(Step::Command)("no command: the image has none, give one after the image's name".to_owned())
    })?;
    let program = program::find(rootfs, name, &process.env, &process.workdir)
        .map_err(|error| failed(Step::Command)(error.to_string()))?;
    let filters = seccomp::compile(&capabilities).map_err(|error| failed(Step::Create)(error.to_string()))?;
    Ok(TaskExecutor {
        filters,
        env: environment(&process.env, &identity.home, &config.hostname, process.tty),
        identity,
        capabilities,
        no_new_privileges: process.no_new_privileges,
        init: process.init,
        program,
        args: process.args.clone(),
    })
}

/// The process's environment, with what Docker adds where it is not set.
pub(crate) fn environment(env: &[String], home: &str, hostname: &str, tty: bool) -> Vec<String> {
    let has = |name: &str| env.iter().any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name));
    let mut all = env.to_vec();
    if !has("PATH") {
        all.push(format!("PATH={}", program::DEFAULT_PATH));
    }
    if !has("HOSTNAME") {
        all.push(format!("HOSTNAME={hostname}"));
    }
    if !has("HOME") {
        all.push(format!("HOME={home}"));
    }
    if tty && !has("TERM") {
        all.push("TERM=xterm".to_owned());
    }
    all
}

/// The generated files of /etc, in the run directory.
fn etc_files(task_dir: &Utf8Path, config: &ShimConfig) -> io::Result<[String; 3]> {
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    hosts.push_str(&format!("127.0.1.1\t{}\n", config.hostname));
    config.hosts.iter().for_each(|line| hosts.push_str(&format!("{line}\n")));
    // With a network of its own the container reaches no server of names.
    let resolv = if config.host_network {
        std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    } else {
        String::new()
    };
    let file = |name: &str, text: &str| {
        let path = task_dir.join(name);
        rootfs::write(&path, text).map(|()| path.into_string())
    };
    Ok([file("hosts", &hosts)?, file("hostname", &format!("{}\n", config.hostname))?, file("resolv.conf", &resolv)?])
}

fn build(
    task_dir: &Utf8Path,
    config: &ShimConfig,
    spec: &oci_spec::runtime::Spec,
    executor: TaskExecutor,
) -> Result<(Container, Output), Failure> {
    let refused = |error: io::Error| failed(Step::Create)(error.to_string());
    let (bundle, state) = (task_dir.join(BUNDLE), task_dir.join(STATE));
    for directory in [&bundle, &state] {
        std::fs::create_dir_all(directory).map_err(refused)?;
    }
    spec.save(bundle.join("config.json")).map_err(|error| failed(Step::Create)(error.to_string()))?;
    let not_made = |error: libcontainer::error::LibcontainerError| {
        failed(Step::Create)(format!("the container cannot be created: {}", chain(&error)))
    };
    let builder = ContainerBuilder::new(config.task.to_string(), SyscallType::default())
        .with_root_path(state.as_std_path())
        .map_err(not_made)?
        .with_executor(executor)
        .with_stdin(OwnedFd::from(File::open("/dev/null").map_err(refused)?));
    if config.process.tty {
        let socket = task_dir.join("console.sock");
        let listener = UnixListener::bind(&socket).map_err(refused)?;
        let builder = builder.with_console_socket(Some(socket.as_std_path()));
        let container = builder.as_init(bundle.as_std_path()).with_systemd(false).build().map_err(not_made)?;
        let terminal = console::receive(&listener).map_err(refused)?;
        let _ = std::fs::remove_file(&socket);
        return Ok((container, Output::Terminal(terminal)));
    }
    let (stdout, container_stdout) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
    let (stderr, container_stderr) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
    let builder = builder.with_stdout(container_stdout).with_stderr(container_stderr);
    let container = builder.as_init(bundle.as_std_path()).with_systemd(false).build().map_err(not_made)?;
    Ok((container, Output::Pipes(stdout.into(), stderr.into())))
}

fn attach_secrets(
    task_dir: &Utf8Path,
    config: &ShimConfig,
    plan: &crate::shim_config::SecretsPlan,
    pid: i32,
) -> Result<Secrets, Failure> {
    let refused = failed(Step::Secrets);
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|error| refused(error.to_string()))?;
    let cgroup = cgroup::paths(&text, &config.cgroup);
    if cgroup.lines.is_empty() {
        return Err(refused("the container has no control group of its own: is /sys/fs/cgroup mounted?".to_owned()));
    }
    let container = secrets::Container { task: config.task, pid, cgroup };
    Secrets::attach(plan, &task_dir.join("secrets"), container).map_err(|error| refused(error.to_string()))
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}
