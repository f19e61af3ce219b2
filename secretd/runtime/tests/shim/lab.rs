//! A container's settings, its shim, and what the shim answers.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use secretd_proto::id::TaskId;
use secretd_proto::shim::{Exit, Failure, Phase, Request, Response, Status};
use secretd_runtime::own_program::OwnProgram;
use secretd_runtime::shim_config::{
    FILE, Limits, LogPlan, MountPlan, MountSource, Overlay, Process, SOCKET, ShimConfig,
};
use secretd_sys::frame;

/// The control group of this run, below which every container has its own.
pub(crate) static PREFIX: OnceLock<String> = OnceLock::new();

const APPLETS: &[&str] = &[
    "cat", "chmod", "chroot", "dd", "echo", "env", "false", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod",
    "mount", "ps", "pwd", "sh", "sleep", "stat", "stty", "tail", "test", "touch", "tr", "true", "tty", "ulimit",
    "unshare", "wc", "inotifyd", "readlink", "kill", "seq", "ln", "rm", "setsid",
];

/// The directories of one container, and its settings.
pub(crate) struct Lab {
    _directory: tempfile::TempDir,
    pub(crate) path: Utf8PathBuf,
    pub(crate) config: ShimConfig,
}

impl Lab {
    /// A container of busybox that runs `script` in a shell.
    pub(crate) fn new(script: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("shim-").tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        write_image(path.join("image").as_std_path());
        fs::create_dir(path.join("task")).unwrap();
        let task = TaskId::random();
        let overlay = Overlay { lower: vec![path.join("image")], upper: path.join("upper"), work: path.join("work") };
        let process = Process {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["GREETING=hello".to_owned()],
            workdir: "/".to_owned(),
            user: String::new(),
            groups: vec![],
            tty: false,
            init: false,
            no_new_privileges: false,
            cap_add: vec![],
            cap_drop: vec![],
            ulimits: vec![("nofile".to_owned(), 123, 456)],
            oom_score_adj: 100,
        };
        let config = ShimConfig {
            task,
            image: String::new(),
            stop_signal: String::new(),
            rootfs: overlay,
            process,
            mounts: vec![],
            read_only: false,
            hostname: "box".to_owned(),
            hosts: vec!["10.1.2.3 db".to_owned()],
            host_network: false,
            sysctls: BTreeMap::new(),
            cgroup: format!("/{}/{task}", PREFIX.get().unwrap()),
            limits: Limits::default(),
            secrets: None,
            log: LogPlan { directory: Some(path.join("log")), max_size: 0, max_files: 1 },
        };
        Self { _directory: directory, path, config }
    }

    pub(crate) fn task_dir(&self) -> Utf8PathBuf {
        self.path.join("task")
    }

    /// Adds a bind mount of a directory beside the image, made here.
    pub(crate) fn bind(&mut self, name: &str, target: &str, populate: bool) -> Utf8PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).unwrap();
        let source = MountSource::Path { path: path.clone(), propagation: String::new(), populate };
        self.config.mounts.push(MountPlan { target: target.to_owned(), source, read_only: false });
        path
    }

    pub(crate) fn write_config(&self) {
        fs::write(self.task_dir().join(FILE), serde_json::to_vec(&self.config).unwrap()).unwrap();
    }

    /// Starts the shim, which makes the container.
    pub(crate) fn shim(&self) -> Shim {
        self.write_config();
        let process = shim_command(&self.task_dir()).spawn().unwrap();
        Shim::new(Some(process), &self.task_dir())
    }

    /// Starts the shim and the container.
    pub(crate) fn start(&self) -> Shim {
        let shim = self.shim();
        assert_eq!(shim.created(), Ok(Phase::Created));
        shim.done(&Request::Start);
        shim
    }

    /// Runs the container to its end: its exit code and its output.
    pub(crate) fn run(&self) -> (i32, String) {
        let shim = self.start();
        let exit = shim.exit();
        (exit.code, self.output("stdout") + &self.output("stderr"))
    }

    /// Why the container cannot be made.
    pub(crate) fn failure(&self) -> Failure {
        self.shim().created().unwrap_err()
    }

    /// What the log has of one stream.
    pub(crate) fn output(&self, stream: &str) -> String {
        let text = fs::read_to_string(self.path.join("log/log.json")).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        records.filter(|one| one["stream"] == stream).map(|one| one["log"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a line of output is there.
    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_until(text, || self.output("stdout").contains(text));
    }
}

/// A shim, whoever started it. When dropped, its container is deleted and it has ended.
pub(crate) struct Shim {
    process: Option<Child>,
    deletes: bool,
    socket: UnixStream,
    pub(crate) task_dir: Utf8PathBuf,
}

impl Shim {
    pub(crate) fn new(process: Option<Child>, task_dir: &Utf8Path) -> Self {
        Self { process, deletes: true, socket: connect(task_dir), task_dir: task_dir.to_owned() }
    }

    pub(crate) fn ask(&self, request: &Request) -> Response {
        frame::send(&self.socket, request, &[]).unwrap();
        frame::receive(&self.socket).expect("the shim answers").0
    }

    pub(crate) fn done(&self, request: &Request) {
        assert_eq!(self.ask(request), Response::Done, "{request:?}");
    }

    pub(crate) fn status(&self, request: &Request) -> Status {
        match self.ask(request) {
            Response::Status(status) => status,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    pub(crate) fn created(&self) -> Result<Phase, Failure> {
        match self.status(&Request::WaitCreated).phase {
            Phase::Failed(failure) => Err(failure),
            phase => Ok(phase),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self.status(&Request::WaitExit).phase {
            Phase::Exited(exit) => exit,
            other => panic!("{other:?}"),
        }
    }

    /// The container's first process.
    pub(crate) fn pid(&self) -> i32 {
        self.status(&Request::Status).pid.unwrap()
    }

    pub(crate) fn shim_pid(&self) -> i32 {
        fs::read_to_string(self.task_dir.join("shim.pid")).unwrap().trim().parse().unwrap()
    }

    /// Gives up the connection alone.
    pub(crate) fn leave(mut self) {
        self.deletes = false;
    }

    /// Kills the shim itself.
    pub(crate) fn kill(mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Deletes the container and waits for the shim's end.
    pub(crate) fn delete(mut self) {
        self.done(&Request::Delete);
        assert!(self.process.take().unwrap().wait().unwrap().success());
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if !self.deletes {
            return;
        }
        let _ = frame::send(&self.socket, &Request::Delete, &[]);
        let _ = frame::receive::<Response>(&self.socket);
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Connects to the socket, which is there as soon as somebody has begun to start the shim.
fn connect(task_dir: &Utf8Path) -> UnixStream {
    let mut stream = None;
    wait_until("the shim's socket", || {
        stream = UnixStream::connect(task_dir.join(SOCKET)).ok();
        stream.is_some()
    });
    stream.unwrap()
}

/// These tests' executable, as a shim runs it.
pub(crate) fn own_program() -> &'static OwnProgram {
    static PROGRAM: OnceLock<OwnProgram> = OnceLock::new();
    PROGRAM.get_or_init(|| OwnProgram::open().unwrap())
}

pub(crate) fn shim_command(task_dir: &Utf8Path) -> Command {
    let mut command = own_program().command();
    let socket = UnixListener::bind(task_dir.join(SOCKET)).unwrap();
    let input = Stdio::from(OwnedFd::from(socket));
    command.args(["shim", "--task-dir", task_dir.as_str()]).stdin(input).stdout(Stdio::null());
    command
}

/// Starts a shim, as secretd does, and waits to be killed.
pub(crate) fn run_starter(task_dir: &str) -> ExitCode {
    let mut shim = shim_command(task_dir.into()).spawn().unwrap();
    let _ = shim.wait();
    ExitCode::SUCCESS
}

/// Asks again and again; a test that gets to the end of its patience has failed.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_micros(500));
    }
    panic!("not within ten seconds: {what}");
}

fn write_image(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "data", "home/app"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("these tests need busybox-static");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("bin/nothing"), "").unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("data/seed"), "from the image\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\naudio:x:63:app\napp:x:1000:\nextra:x:77:\n").unwrap();
}

/// Removes every control group of a run, in each hierarchy.
pub(crate) fn remove_control_groups(prefix: &str) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for group in hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]).map(|root| root.join(prefix)) {
        for child in fs::read_dir(&group).into_iter().flatten().flatten().filter(|one| one.path().is_dir()) {
            let _ = fs::remove_dir(child.path());
        }
        let _ = fs::remove_dir(&group);
    }
}
