//! A running secret-fs, its control socket, sealed secrets, and a mount as a shim makes it.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::io::{FdFlags, fcntl_setfd};
use secretd_proto::fs::{CgroupPaths, Grant, PROTOCOL, Refusal, Request, Response, Status, Target};
use secretd_proto::id::{ClusterId, NodeId, SecretId, TaskId};
use secretd_sealing::binding::{GrantBinding, PayloadBinding};
use secretd_sealing::envelope::{open_grant, rewrap};
use secretd_sealing::key::{PrivateKey, PublicKey};
use secretd_sealing::payload::{Sealed, seal};
use secretd_sealing::secret::SecretBytes;
use secretd_sys::{frame, mount_api};

/// Who secret-fs becomes in these tests.
pub(crate) const UID: u32 = 54321;

/// One run of the real binary; killed when dropped.
pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) process: Child,
    pub(crate) public_key: PublicKey,
    pub(crate) control: Control,
}

impl Lab {
    pub(crate) fn start() -> Self {
        Self::start_on(&["--fill-files", "1"])
    }

    /// As on a node with FUSE, where nobody has files filled.
    pub(crate) fn start_for_mounts_alone() -> Self {
        Self::start_on(&["--fill-files", "0"])
    }

    fn start_on(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket = directory.path().join("secret-fs.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        let audit = append(&directory.path().join("reads.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_secret-fs"));
        for (option, fd) in [("--listen-fd", listener.as_fd()), ("--audit-fd", audit.as_fd())] {
            fcntl_setfd(fd, FdFlags::empty()).unwrap();
            command.args([option, &std::os::fd::AsRawFd::as_raw_fd(&fd).to_string()]);
        }
        let process = command.args(["--uid", &UID.to_string(), "--gid", &UID.to_string()]).args(flags).spawn().unwrap();
        let (control, public_key) = Control::connect(&socket);
        Self { directory, process, public_key, control }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("secret-fs.sock")
    }

    /// What was recorded of opens and fills.
    pub(crate) fn audit_lines(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("reads.log")).unwrap();
        log.lines().filter(|line| !line.contains("\"attached\"")).map(str::to_owned).collect()
    }

    pub(crate) fn status(&self) -> Status {
        match self.control.ask(&Request::Status) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Stores and publishes secrets for a new task.
    pub(crate) fn publish(&self, cluster: &Cluster, secrets: &[(&Secret, &str)]) -> TaskId {
        let task = TaskId::random();
        let grants = secrets.iter().map(|(secret, target)| cluster.grant(self, secret, task, target, 1)).collect();
        for (secret, _) in secrets {
            assert_eq!(self.control.ask(&secret.store()), Response::Done);
        }
        match self.control.ask(&cluster.publish(task, grants)) {
            Response::Changed { targets, .. } => assert_eq!(targets.len(), secrets.len()),
            other => panic!("{other:?}"),
        }
        task
    }

    /// Mounts a task's filesystem as its shim does: a private read-write mount, and a read-only one of `secrets/`.
    pub(crate) fn mount(&self, task: TaskId, cgroup: &CgroupPaths) -> Mount {
        let (private, view) = (self.path(&format!("{task}.rw")), self.path(&format!("{task}.ro")));
        fs::create_dir_all(&private).unwrap();
        fs::create_dir_all(&view).unwrap();
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("these tests need /dev/fuse");
        let owner = mount_api::FuseOwner { uid: 0, gid: 0 };
        let mount = mount_api::fuse(device.as_fd(), c"secret-fs", owner).expect("these tests need root");
        let here = File::open("/").unwrap();
        mount_api::attach(mount.as_fd(), here.as_fd(), private.to_str().unwrap()).unwrap();
        let request = Request::Attach { task, cgroup: cgroup.clone() };
        assert_eq!(self.control.ask_with(&request, &[device.as_fd()]), Response::Done);
        let clone = mount_api::clone_subtree(mount.as_fd(), "secrets").unwrap();
        mount_api::set_read_only(clone.as_fd()).unwrap();
        mount_api::attach(clone.as_fd(), here.as_fd(), view.to_str().unwrap()).unwrap();
        Mount { private, view }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two mounts of one task's filesystem, taken down when dropped.
pub(crate) struct Mount {
    pub(crate) private: PathBuf,
    pub(crate) view: PathBuf,
}

impl Mount {
    pub(crate) fn file(&self, name: &str) -> String {
        self.view.join(name).to_str().unwrap().to_owned()
    }

    /// What the shim does after an update: real operations that watchers see.
    pub(crate) fn wake(&self, name: &str) {
        let file = OpenOptions::new().write(true).open(self.private.join("secrets").join(name)).unwrap();
        assert_eq!(rustix::io::write(&file, b"x"), Ok(1));
        drop(file);
        let new = self.private.join("secrets/..data_tmp");
        std::os::unix::fs::symlink(".", &new).unwrap();
        fs::rename(&new, self.private.join("secrets/..data")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for path in [&self.view, &self.private] {
            let _ = mount_api::detach(path.to_str().unwrap());
        }
    }
}

/// The argument that makes the test binary one that mounts in a pid namespace of its own: `CONTROL HANDOVER TASK PATH`.
pub(crate) const MOUNTER_ROLE: &str = "mounter";

/// Mounts a FUSE filesystem, is refused as its shim, hands the device over, and ends; the mount stays.
pub(crate) fn run_mounter(arguments: &[String]) {
    let [control, handover, task, path] = arguments else { panic!("{arguments:?}") };
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let mount = mount_api::fuse(device.as_fd(), c"secret-fs", mount_api::FuseOwner { uid: 0, gid: 0 }).unwrap();
    mount_api::attach(mount.as_fd(), File::open("/").unwrap().as_fd(), path).unwrap();
    let cgroup = CgroupPaths { lines: vec![("pids".to_owned(), "/any".to_owned())] };
    let request = Request::Attach { task: task.parse().unwrap(), cgroup };
    let answer = Control::connect(Path::new(control)).0.ask_with(&request, &[device.as_fd()]);
    frame::send(&UnixStream::connect(handover).unwrap(), &answer, &[device.as_fd()]).unwrap();
}

/// A connection to the control socket.
pub(crate) struct Control(UnixStream);

impl Control {
    pub(crate) fn connect(socket: &Path) -> (Self, PublicKey) {
        let control = Self(UnixStream::connect(socket).unwrap());
        match control.ask(&Request::Hello { protocol: PROTOCOL }) {
            Response::Hello { protocol: PROTOCOL, public_key } => {
                (control, PublicKey::from_bytes(&public_key).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends the connection, as a secretd that ends does.
    pub(crate) fn hang_up(&self) {
        self.0.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(crate) fn ask(&self, request: &Request) -> Response {
        self.ask_with(request, &[])
    }

    pub(crate) fn ask_with(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Response {
        frame::send(&self.0, request, fds).unwrap();
        frame::receive(&self.0).expect("secret-fs answers").0
    }

    pub(crate) fn refusal(&self, request: &Request) -> Refusal {
        match self.ask(request) {
            Response::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

/// The keys of a cluster, as its managers hold them.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) node: NodeId,
    key: PrivateKey,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { id: ClusterId::random(), node: NodeId::random(), key: PrivateKey::generate().unwrap() }
    }

    pub(crate) fn seal(&self, name: &str, plaintext: &[u8]) -> Secret {
        self.seal_version(SecretId::random(), name, 1, plaintext)
    }

    pub(crate) fn seal_version(&self, id: SecretId, name: &str, version: u64, plaintext: &[u8]) -> Secret {
        let binding = PayloadBinding {
            cluster: self.id,
            secret: id,
            version,
            name: name.parse().unwrap(),
            length: u32::try_from(plaintext.len()).unwrap(),
        };
        let sealed = seal(&SecretBytes::new(plaintext.to_vec()), &binding, &self.key.public()).unwrap();
        Secret { binding, sealed }
    }

    pub(crate) fn grant(&self, lab: &Lab, secret: &Secret, task: TaskId, target: &str, epoch: u64) -> Grant {
        let binding = GrantBinding { payload: secret.binding.clone(), node: self.node, task, epoch };
        let wrapped_dek = rewrap(&secret.sealed.wrapped_dek, &self.key, &binding, &lab.public_key).unwrap();
        Grant {
            secret: secret.binding.secret,
            name: secret.binding.name.clone(),
            version: secret.binding.version,
            length: secret.binding.length,
            target: Target::parse(target).unwrap(),
            uid: 0,
            gid: 0,
            mode: 0o400,
            epoch,
            wrapped_dek,
        }
    }

    /// The data key of a secret, as its client drew it.
    pub(crate) fn data_key(&self, secret: &Secret) -> [u8; 32] {
        let node = PrivateKey::generate().unwrap();
        let binding =
            GrantBinding { payload: secret.binding.clone(), node: self.node, task: TaskId::random(), epoch: 1 };
        let wrapped = rewrap(&secret.sealed.wrapped_dek, &self.key, &binding, &node.public()).unwrap();
        *open_grant(&wrapped, &node, &binding).unwrap().expose()
    }

    pub(crate) fn publish(&self, task: TaskId, grants: Vec<Grant>) -> Request {
        Request::Publish { task, cluster: self.id, node: self.node, grants }
    }
}

/// One sealed version.
pub(crate) struct Secret {
    pub(crate) binding: PayloadBinding,
    pub(crate) sealed: Sealed,
}

impl Secret {
    pub(crate) fn store(&self) -> Request {
        let ciphertext = self.sealed.ciphertext.clone();
        Request::Store { secret: self.binding.secret, version: self.binding.version, ciphertext }
    }
}

pub(crate) fn append(path: &Path) -> OwnedFd {
    OpenOptions::new().append(true).create(true).open(path).unwrap().into()
}
