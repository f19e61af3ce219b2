//! Secrets in real containers, served by the real secret-fs.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use camino::Utf8PathBuf;
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::io::{FdFlags, fcntl_setfd};
use secretd_proto::fs::{Grant, PROTOCOL, Request, Response, Target};
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_proto::shim;
use secretd_runtime::shim_config::{Backend, SecretFile, SecretsPlan};
use secretd_sealing::binding::{GrantBinding, PayloadBinding};
use secretd_sealing::envelope::rewrap;
use secretd_sealing::key::{PrivateKey, PublicKey};
use secretd_sealing::payload::seal;
use secretd_sealing::secret::SecretBytes;
use secretd_sys::frame;

use crate::lab::Lab;

/// The targets of the cases, each with the secret behind it.
const TARGETS: [&str; 3] = ["pw", "db/pw", "/opt/app/key"];

/// One run of secret-fs.
struct SecretFs {
    process: Child,
    control: UnixStream,
    key: PublicKey,
}

impl SecretFs {
    fn start(socket: &Utf8PathBuf) -> Self {
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let audit = OpenOptions::new().append(true).create(true).open(socket.with_extension("log")).unwrap();
        let binary = std::env::current_exe().unwrap().parent().unwrap().with_file_name("secret-fs");
        let mut command = Command::new(binary);
        for (option, fd) in [("--listen-fd", listener.as_fd()), ("--audit-fd", audit.as_fd())] {
            fcntl_setfd(fd, FdFlags::empty()).unwrap();
            command.args([option, &fd.as_raw_fd().to_string()]);
        }
        let process = command
            .args(["--uid", "54321", "--gid", "54321", "--fill-files", "1"])
            .spawn()
            .expect("build secret-fs first");
        let control = UnixStream::connect(socket).unwrap();
        frame::send(&control, &Request::Hello { protocol: PROTOCOL }, &[]).unwrap();
        let Response::Hello { public_key, .. } = frame::receive(&control).unwrap().0 else { panic!("no hello") };
        Self { process, control, key: PublicKey::from_bytes(&public_key).unwrap() }
    }

    fn ask(&self, request: &Request) -> Response {
        frame::send(&self.control, request, &[]).unwrap();
        frame::receive(&self.control).unwrap().0
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What a manager knows.
struct Cluster {
    id: ClusterId,
    node: NodeId,
    key: PrivateKey,
    secrets: [SecretId; 3],
}

impl Cluster {
    fn new() -> Self {
        let secrets = [(); 3].map(|()| SecretId::random());
        Self { id: ClusterId::random(), node: NodeId::random(), key: PrivateKey::generate().unwrap(), secrets }
    }

    /// Stores one version of the secrets; their plaintext is `NAME-VERSION`.
    fn grants(&self, to: &SecretFs, task: TaskId, version: u64) -> Vec<Grant> {
        let grant = |(index, secret): (usize, &SecretId)| {
            let plaintext = format!("s{index}-v{version}\n");
            let payload = PayloadBinding {
                cluster: self.id,
                secret: *secret,
                version,
                name: format!("s{index}").parse().unwrap(),
                length: u32::try_from(plaintext.len()).unwrap(),
            };
            let sealed = seal(&SecretBytes::new(plaintext.into_bytes()), &payload, &self.key.public()).unwrap();
            let store = Request::Store { secret: *secret, version, ciphertext: sealed.ciphertext };
            assert_eq!(to.ask(&store), Response::Done);
            let binding = GrantBinding { payload: payload.clone(), node: self.node, task, epoch: version };
            let file = &files()[index];
            Grant {
                secret: *secret,
                name: payload.name.clone(),
                version,
                length: payload.length,
                target: file.target.clone(),
                uid: file.uid,
                gid: file.gid,
                mode: file.mode,
                epoch: version,
                wrapped_dek: rewrap(&sealed.wrapped_dek, &self.key, &binding, &to.key).unwrap(),
            }
        };
        self.secrets.iter().enumerate().map(grant).collect()
    }

    fn publish(&self, to: &SecretFs, task: TaskId, version: u64) {
        let grants = self.grants(to, task, version);
        let request = Request::Publish { task, cluster: self.id, node: self.node, grants };
        assert!(matches!(to.ask(&request), Response::Changed { .. }));
    }
}

fn files() -> [SecretFile; 3] {
    TARGETS.map(|target| SecretFile { target: Target::parse(target).unwrap(), uid: 1000, gid: 63, mode: 0o440 })
}

/// A container that shows its secrets whenever it is asked, through a directory that it shares with the test.
fn asked(backend: Backend, socket: &str) -> (Lab, Utf8PathBuf) {
    let script = "touch /run/secrets/x 2>/ask/refused; echo x 2>>/ask/refused >/run/secrets/pw; \
        stat -c '%a %u %g' /run/secrets/pw /opt/app/key; grep -c -e /run/secrets -e /opt/app/key /proc/mounts; echo ready; \
        while :; do for i in 1 2 3; do if [ -e /ask/$i ] && [ ! -e /ask/$i.out ]; then \
        cat /run/secrets/pw /run/secrets/db/pw /opt/app/key > /ask/tmp 2>&1; mv /ask/tmp /ask/$i.out; fi; done; sleep 0.01; done";
    let mut lab = Lab::new(script);
    let share = lab.bind("ask", "/ask", false);
    fs::set_permissions(&share, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&lab.path, fs::Permissions::from_mode(0o755)).unwrap();
    lab.config.process.user = "app".to_owned();
    let socket = lab.path.join(socket);
    lab.config.secrets = Some(SecretsPlan { socket: socket.clone(), backend, files: files().to_vec() });
    (lab, socket)
}

fn answer(lab: &Lab, number: u32) -> String {
    let path = lab.path.join(format!("ask/{number}"));
    fs::write(&path, "").unwrap();
    let out = lab.path.join(format!("ask/{number}.out"));
    crate::lab::wait_until("the container's answer", || fs::exists(&out).unwrap());
    fs::read_to_string(out).unwrap()
}

fn text_of(version: u32) -> String {
    format!("s0-v{version}\ns1-v{version}\ns2-v{version}\n")
}

/// Watches from inside the container's mount namespace and writes a line for each event, to standard output.
pub(crate) fn run_watcher(pid: &str) -> ExitCode {
    let inotify = Inotify::init(InitFlags::empty()).unwrap();
    setns(fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap(), CloneFlags::CLONE_NEWNS).unwrap();
    let paths = ["/run/secrets", "/run/secrets/pw", "/opt/app/key"];
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
    let watches = paths.map(|path| (inotify.add_watch(path, flags).unwrap(), path));
    println!("watching");
    loop {
        for event in inotify.read_events().unwrap() {
            let path = watches.iter().find(|(watch, _)| *watch == event.wd).unwrap().1;
            println!("{path} {:?} {:?}", event.name, event.mask);
        }
    }
}

/// The events that watchers of the container's files get.
struct Watcher {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Watcher {
    fn start(pid: i32) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["watcher", &pid.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let read = move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).unwrap_or(());
        std::thread::Builder::new().name("watcher".to_owned()).spawn(read).unwrap();
        let mut watcher = Self { process, lines };
        watcher.expect(&["watching"]);
        watcher
    }

    /// Reads until each of these lines was there.
    fn expect(&mut self, lines: &[&str]) {
        let mut missing = lines.to_vec();
        let mut seen = Vec::new();
        while !missing.is_empty() {
            let read = self.lines.recv_timeout(Duration::from_secs(10));
            let read = read.unwrap_or_else(|_| panic!("{missing:?} after {seen:?}"));
            missing.retain(|line| *line != read);
            seen.push(read);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn check(backend: Backend, name: &str) {
    let (lab, socket) = asked(backend, "secret-fs.sock");
    let task = lab.config.task;
    let server = SecretFs::start(&socket);
    let cluster = Cluster::new();
    cluster.publish(&server, task, 1);
    let shim = lab.start();
    let served = shim.status(&shim::Request::Status).secret_backend;
    assert!(served == name || (name == "tmpfs" && served == "ramfs"), "{served}");
    lab.wait_for_output("ready");
    assert!(lab.output("stdout").starts_with("440 1000 63\n440 1000 63\n"), "{}", lab.output("stdout"));
    assert_eq!(answer(&lab, 1), text_of(1));
    let refused = fs::read_to_string(lab.path.join("ask/refused")).unwrap();
    assert_eq!(refused.matches("Read-only file system").count(), 2, "{refused}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("secret-fs") && !mounts.contains(&format!("{}/secrets", lab.task_dir())), "{mounts}");

    let mut watcher = Watcher::start(shim.pid());
    let grants = cluster.grants(&server, task, 2);
    let Response::Changed { targets: changed, .. } = server.ask(&Request::Update { task, grants }) else {
        panic!("no change")
    };
    let paths = changed.iter().map(Target::path_in_filesystem).collect();
    shim.done(&shim::Request::Wake { paths });

    assert_eq!(answer(&lab, 2), text_of(2));
    watcher.expect(&[
        "/run/secrets Some(\"..data\") AddWatchFlags(IN_MOVED_TO)",
        "/opt/app/key None AddWatchFlags(IN_MODIFY)",
        "/opt/app/key None AddWatchFlags(IN_CLOSE_WRITE)",
        match backend {
            Backend::Fuse => "/run/secrets/pw None AddWatchFlags(IN_CLOSE_WRITE)",
            Backend::Memory => "/run/secrets Some(\"pw\") AddWatchFlags(IN_MOVED_TO)",
        },
    ]);
    if backend == Backend::Fuse {
        server.kill();
        let server = SecretFs::start(&socket);
        cluster.publish(&server, task, 3);
        shim.done(&shim::Request::Remount);
        assert_eq!(answer(&lab, 3), text_of(3));
        server.kill();
    } else {
        server.kill();
    }
    shim.done(&shim::Request::Kill { signal: 9 });
    shim.exit();
    shim.delete();
}

pub(crate) fn files_are_filled_in_memory_and_rotated() {
    check(Backend::Memory, "tmpfs");
}

pub(crate) fn files_are_served_by_secret_fs_and_survive_its_restart() {
    check(Backend::Fuse, "fuse");
}
