//! What a container, its shim and secretd see.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use secretd_proto::fs::{CgroupPaths, Grant, Refusal, Request, Response, Target};
use secretd_proto::id::{NodeId, SecretId, TaskId};
use secretd_sys::{frame, mount_api};

use crate::container::Container;
use crate::lab::{Cluster, Control, Lab, MOUNTER_ROLE, append};

const EACCES: &str = "errno 13";
const EROFS: &str = "errno 30";

pub(crate) fn container_reads_its_secrets_with_owner_and_mode() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("reads"));
    let (user, password) = (cluster.seal("user", b"admin"), cluster.seal("pw", b"hunter2\n"));
    let task = TaskId::random();
    let special = Grant { uid: 999, gid: 998, mode: 0o440, ..cluster.grant(&lab, &password, task, "db/pw", 1) };
    let grants = vec![cluster.grant(&lab, &user, task, "user", 1), special];
    lab.control.ask(&user.store());
    lab.control.ask(&password.store());
    let targets = grants.iter().map(|grant| grant.target.clone()).collect();
    assert_eq!(lab.control.ask(&cluster.publish(task, grants)), Response::Changed { targets, attached: false });
    let mount = lab.mount(task, &container.cgroup);

    assert_eq!(container.tell(&format!("list {}", mount.file(""))), "ok ..data db user");
    assert_eq!(container.cat(&mount.file("user")), Ok(b"admin".to_vec()));
    assert_eq!(container.cat(&mount.file("db/pw")), Ok(b"hunter2\n".to_vec()));
    assert_eq!(container.cat(&mount.file("..data/db/pw")), Ok(b"hunter2\n".to_vec()));
    assert_eq!(container.tell(&format!("stat {}", mount.file("user"))), "ok 100400 0 0 5 1");
    assert_eq!(container.tell(&format!("stat {}", mount.file("db/pw"))), "ok 100440 999 998 8 1");
    assert_eq!(container.tell(&format!("stat {}", mount.file("db"))), "ok 40755 0 0 0 2");
    assert_eq!(container.tell(&format!("link {}", mount.file("..data"))), "ok .");
    assert_eq!(container.open(&mount.file("none")), Err("errno 2".to_owned()));

    let lines = lab.audit_lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let pid = container.pid();
    for part in [&format!("\"task\":\"{task}\""), &format!("\"pid\":{pid},\"tid\":{pid}"), "\"outcome\":\"allowed\""] {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    assert!(lines[0].contains(&user.binding.secret.to_string()) && !lines.concat().contains("db/"), "{lines:?}");
    assert_eq!(lab.status().opens, (3, 0));
}

pub(crate) fn container_cannot_change_anything() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("changes"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let mount = lab.mount(task, &container.cgroup);

    for verb in ["open-write", "create", "remove"] {
        assert_eq!(container.tell(&format!("{verb} {}", mount.file("pw"))), EROFS, "{verb}");
    }
    let private = mount.private.join("secrets/pw");
    assert_eq!(container.tell(&format!("open-write {}", private.display())), EACCES);
    assert!(lab.audit_lines()[0].contains("\"reason\":\"write\""), "{:?}", lab.audit_lines());
    assert_eq!(container.cat(&mount.file("pw")), Ok(b"hunter2".to_vec()));
}

pub(crate) fn largest_secret_comes_in_one_read() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("largest"));
    let bytes: Vec<u8> = (0_u32..512_000).map(|place| u8::try_from(place % 251).unwrap()).collect();
    let task = lab.publish(&cluster, &[(&cluster.seal("big", &bytes), "big")]);
    let mount = lab.mount(task, &container.cgroup);

    let file = container.open(&mount.file("big")).unwrap();
    assert!(container.read(&file, 512_000).unwrap() == bytes);
    assert!(container.read(&file, 1 << 20).unwrap() == bytes);
    assert!(container.read(&file, 4097).unwrap() == bytes[..4097]);
}

pub(crate) fn rotation_wakes_watchers_and_open_files_keep_their_version() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("rotation"));
    let (first, other) = (cluster.seal("pw", b"first"), cluster.seal("other", b"same"));
    let task = lab.publish(&cluster, &[(&first, "pw"), (&other, "other")]);
    let mount = lab.mount(task, &container.cgroup);
    let old = container.open(&mount.file("pw")).unwrap();
    container.tell(&format!("watch {}", mount.file("")));

    let second = cluster.seal_version(first.binding.secret, "pw", 2, b"second, and longer");
    lab.control.ask(&second.store());
    let grants = vec![cluster.grant(&lab, &second, task, "pw", 2), cluster.grant(&lab, &other, task, "other", 2)];
    let changed = lab.control.ask(&Request::Update { task, grants });
    mount.wake("pw");

    let targets = vec![Target::Relative("pw".into())];
    assert_eq!(changed, Response::Changed { targets, attached: true });
    assert_eq!(container.tell("events MOVED_TO"), "ok MODIFY:pw CLOSE_WRITE:pw MOVED_TO:..data");
    assert!(container.tell(&format!("stat {}", mount.file("pw"))).contains(" 18 "));
    assert_eq!(container.cat(&mount.file("pw")), Ok(b"second, and longer".to_vec()));
    assert_eq!(container.cat(&mount.file("..data/pw")), Ok(b"second, and longer".to_vec()));
    assert_eq!(container.read(&old, 100), Ok(b"first".to_vec()));
    assert_eq!(lab.status().payload_bytes, 5 + 18 + 4);
    container.tell(&format!("close {old}"));

    let absent = Request::Update { task, grants: vec![cluster.grant(&lab, &second, task, "absent", 3)] };
    assert_eq!(lab.control.refusal(&absent), Refusal::Target("/run/secrets/absent".into()));
}

pub(crate) fn reads_during_rotations_give_whole_versions() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("during"));
    let bytes = |version: u8| vec![version; 10_000 + usize::from(version)];
    let first = cluster.seal("pw", &bytes(1));
    let task = lab.publish(&cluster, &[(&first, "pw")]);
    let mount = lab.mount(task, &container.cgroup);
    container.begin(&format!("hammer {} 150", mount.file("pw")));

    for version in 2..=150_u8 {
        let next = cluster.seal_version(first.binding.secret, "pw", u64::from(version), &bytes(version));
        lab.control.ask(&next.store());
        let grants = vec![cluster.grant(&lab, &next, task, "pw", u64::from(version))];
        assert!(matches!(lab.control.ask(&Request::Update { task, grants }), Response::Changed { .. }));
        mount.wake("pw");
    }

    assert_eq!(container.answer(), "ok");
    assert_eq!(container.cat(&mount.file("pw")).unwrap(), bytes(150));
    assert_eq!(lab.status().payload_bytes, 10_150);
}

pub(crate) fn retraction_ends_reading_of_open_files() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("retraction"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let mount = lab.mount(task, &container.cgroup);
    let open = container.open(&mount.file("pw")).unwrap();
    assert_eq!(container.read(&open, 100), Ok(b"hunter2".to_vec()));

    assert_eq!(lab.control.ask(&Request::Retract { task }), Response::Done);

    assert_eq!(container.read(&open, 100), Err(EACCES.to_owned()));
    assert_eq!(container.open(&mount.file("pw")), Err("errno 2".to_owned()));
    assert_eq!(container.tell(&format!("list {}", mount.file(""))), "ok ..data");
    let status = lab.status();
    assert_eq!((status.payload_bytes, status.tasks.len()), (0, 0));
    assert_eq!(lab.control.ask(&Request::Retract { task }), Response::Done);
    assert_eq!(lab.control.refusal(&Request::Update { task, grants: vec![] }), Refusal::UnknownTask(task));
}

pub(crate) fn caller_outside_the_control_group_is_refused_and_recorded() {
    let (lab, cluster) = (Lab::start(), Cluster::new());
    let (mut container, mut stranger) = (Container::start("inside"), Container::start("outside"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let mount = lab.mount(task, &container.cgroup);

    assert_eq!(stranger.open(&mount.file("pw")), Err(EACCES.to_owned()));
    let root = format!("/proc/{}/root{}", container.pid(), mount.file("pw"));
    assert_eq!(File::open(root).unwrap_err().raw_os_error(), Some(13)); // root of the host, and the shim itself
    assert_eq!(container.cat(&mount.file("pw")), Ok(b"hunter2".to_vec()));

    let lines = lab.audit_lines();
    assert!(lines[0].contains(&format!("\"pid\":{}", stranger.pid())), "{lines:?}");
    for line in &lines[..2] {
        assert!(line.ends_with("\"outcome\":\"refused\",\"reason\":\"cgroup\"}"), "{lines:?}");
    }
    assert_eq!(lab.status().opens, (1, 2));
}

/// Another process mounts the task's filesystem and asks to be served: the answer, and its device.
fn mount_by_another(lab: &Lab, task: TaskId, at: &Path) -> (Response, Vec<OwnedFd>) {
    let handover = lab.path("handover.sock");
    let listener = UnixListener::bind(&handover).unwrap();
    fs::create_dir(at).unwrap();
    // Its pid namespace ends with it: to the filesystem every caller is outside of it.
    let mut mounter = Command::new("unshare");
    mounter.args(["--pid", "--fork", "--"]).arg(std::env::current_exe().unwrap()).arg(MOUNTER_ROLE);
    mounter.arg(lab.socket()).arg(handover).arg(task.to_string()).arg(at);
    assert!(mounter.status().unwrap().success());
    frame::receive::<Response>(&listener.accept().unwrap().0).unwrap()
}

pub(crate) fn second_mount_of_a_served_task_is_refused_and_recorded() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("second"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let mount = lab.mount(task, &container.cgroup);
    let outer = lab.path("outer");

    let (answer, _) = mount_by_another(&lab, task, &outer);

    mount_api::detach(outer.to_str().unwrap()).unwrap();
    assert_eq!(answer, Response::Refused(Refusal::NotAllowed));
    assert!(lab.audit_lines()[0].contains("\"reason\":\"second-mount\""), "{:?}", lab.audit_lines());
    assert_eq!(container.cat(&mount.file("pw")), Ok(b"hunter2".to_vec()));
}

pub(crate) fn caller_that_the_kernel_does_not_name_is_refused() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("unnamed"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let outer = lab.path("outer");
    let (answer, fds) = mount_by_another(&lab, task, &outer);
    assert!(matches!(answer, Response::Refused(Refusal::Descriptor(_))), "{answer:?}");
    let attach = Request::Attach { task, cgroup: container.cgroup.clone() };
    assert_eq!(lab.control.ask_with(&attach, &[fds[0].as_fd()]), Response::Done);

    assert_eq!(container.open(outer.join("secrets/pw").to_str().unwrap()), Err(EACCES.to_owned()));
    mount_api::detach(outer.to_str().unwrap()).unwrap();
    let line = lab.audit_lines().remove(0);
    assert!(line.contains("\"tid\":0,") && line.contains("\"reason\":\"no-thread\""), "{line}");
}

pub(crate) fn passed_on_descriptor_gives_nothing() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("passes"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let mount = lab.mount(task, &container.cgroup);
    let socket = lab.path("passed.sock");
    let listener = UnixListener::bind(&socket).unwrap();

    let file = container.open(&mount.file("pw")).unwrap();
    assert_eq!(container.tell(&format!("pass {file} {}", socket.display())), "ok");
    let ((), mut fds): ((), Vec<OwnedFd>) = frame::receive(&listener.accept().unwrap().0).unwrap();
    let passed = File::from(fds.remove(0));

    assert_eq!(passed.read_at(&mut [0; 10], 0).unwrap_err().raw_os_error(), Some(13));
    assert!(lab.audit_lines()[1].contains("\"reason\":\"passed-on\""), "{:?}", lab.audit_lines());
    assert!(container.tell(&format!("read-in-thread {file} 10")).starts_with("ok 68"));
}

pub(crate) fn broken_seal_publishes_nothing() {
    let (lab, cluster) = (Lab::start(), Cluster::new());
    let (good, bad) = (cluster.seal("good", b"good"), cluster.seal("bad", b"bad!"));
    let task = TaskId::random();
    let grant = |target: &str| cluster.grant(&lab, &bad, task, target, 1);
    let mut flipped = grant("bad");
    flipped.wrapped_dek[40] ^= 1;
    let (id, broken) = (bad.binding.secret, Refusal::BrokenSeal(bad.binding.secret, 1));
    let publish = |grant: Grant| cluster.publish(task, vec![cluster.grant(&lab, &good, task, "good", 1), grant]);
    lab.control.ask(&good.store());
    assert_eq!(lab.control.refusal(&publish(grant("bad"))), Refusal::NotStored(id, 1));
    lab.control.ask(&bad.store());

    for wrong in [
        flipped,
        Grant { epoch: 2, ..grant("bad") },
        Grant { name: "bid".parse().unwrap(), ..grant("bad") },
        Grant { length: 3, ..grant("bad") },
        Grant { wrapped_dek: vec![0; 80], ..grant("bad") },
        Grant { wrapped_dek: vec![], ..grant("bad") },
        Grant { wrapped_dek: cluster.grant(&lab, &bad, TaskId::random(), "bad", 1).wrapped_dek, ..grant("bad") },
        Grant { wrapped_dek: cluster.grant(&lab, &good, task, "bad", 1).wrapped_dek, ..grant("bad") },
    ] {
        assert_eq!(lab.control.refusal(&publish(wrong.clone())), broken, "{wrong:?}");
    }
    let elsewhere = Request::Publish { task, cluster: cluster.id, node: NodeId::random(), grants: vec![grant("bad")] };
    assert_eq!(lab.control.refusal(&elsewhere), broken);
    let mut ciphertext = bad.sealed.ciphertext.clone();
    ciphertext[0] ^= 1;
    lab.control.ask(&Request::Store { secret: id, version: 1, ciphertext });
    assert_eq!(lab.control.refusal(&publish(grant("bad"))), broken);

    let status = lab.status();
    assert_eq!((status.tasks.len(), status.payload_bytes), (0, 0));
    lab.control.ask(&bad.store());
    assert!(matches!(lab.control.ask(&publish(grant("bad"))), Response::Changed { .. }));
}

pub(crate) fn older_epoch_is_refused() {
    let (lab, cluster) = (Lab::start(), Cluster::new());
    let secret = cluster.seal("pw", b"hunter2");
    let id = secret.binding.secret;
    let task = TaskId::random();
    let at = |epoch| cluster.publish(task, vec![cluster.grant(&lab, &secret, task, "pw", epoch)]);
    lab.control.ask(&secret.store());

    assert!(matches!(lab.control.ask(&at(5)), Response::Changed { .. }));
    assert_eq!(lab.control.refusal(&at(4)), Refusal::OldEpoch(id, 4));
    assert_eq!(lab.control.ask(&at(5)), Response::Changed { targets: vec![], attached: false });
    let update = Request::Update { task, grants: vec![cluster.grant(&lab, &secret, task, "pw", 3)] };
    assert_eq!(lab.control.refusal(&update), Refusal::OldEpoch(id, 3));
    lab.control.ask(&Request::Retract { task });
    lab.control.ask(&secret.store());
    assert_eq!(lab.control.refusal(&at(4)), Refusal::OldEpoch(id, 4));
    assert!(matches!(lab.control.ask(&at(6)), Response::Changed { .. }));
}

pub(crate) fn targets_that_collide_publish_nothing() {
    let (lab, cluster) = (Lab::start(), Cluster::new());
    let secret = cluster.seal("pw", b"hunter2");
    let task = TaskId::random();
    lab.control.ask(&secret.store());
    let grant = |target: &str| cluster.grant(&lab, &secret, task, target, 1);

    for (grants, refused) in [
        (vec![grant("pw"), grant("pw")], "/run/secrets/pw"),
        (vec![grant("a"), grant("a/b")], "/run/secrets/a/b"),
        (vec![Grant { target: Target::Relative("../x".into()), ..grant("pw") }], "/run/secrets/../x"),
        (vec![Grant { mode: 0o4755, ..grant("pw") }], "/run/secrets/pw"),
    ] {
        assert_eq!(lab.control.refusal(&cluster.publish(task, grants)), Refusal::Target(refused.into()));
    }
    assert_eq!(lab.status().payload_bytes, 0);
}

pub(crate) fn second_task_shares_the_payload_and_outlives_the_first() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("shares"));
    let secret = cluster.seal("pw", b"hunter2");
    let first = lab.publish(&cluster, &[(&secret, "pw")]);
    let second = TaskId::random();
    let absolute = cluster.grant(&lab, &secret, second, "/etc/pw", 1);
    let grants = vec![cluster.grant(&lab, &secret, second, "pw", 1), absolute];
    assert!(matches!(lab.control.ask(&cluster.publish(second, grants)), Response::Changed { .. }));
    let mount = lab.mount(second, &container.cgroup);
    assert_eq!(lab.status().payload_bytes, 7);

    lab.control.ask(&Request::Retract { task: first });
    lab.control.ask(&Request::Forget { secret: secret.binding.secret, version: 1 });

    assert_eq!(container.cat(&mount.file("pw")), Ok(b"hunter2".to_vec()));
    let target = Target::parse("/etc/pw").unwrap().path_in_filesystem();
    let file = mount.private.join(target).to_str().unwrap().to_owned();
    assert_eq!(container.cat(&file), Ok(b"hunter2".to_vec()));
    lab.control.ask(&Request::Retract { task: second });
    assert_eq!(lab.status().payload_bytes, 0);
}

pub(crate) fn last_connection_ends_it_where_no_task_has_secrets() {
    let (mut lab, cluster) = (Lab::start(), Cluster::new());
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);

    lab.control.hang_up();
    lab.control = Control::connect(&lab.socket()).0;
    assert_eq!(lab.status().tasks.len(), 1, "a task keeps it");
    assert_eq!(lab.control.ask(&Request::Retract { task }), Response::Done);
    lab.control.hang_up();

    assert!(lab.process.wait().unwrap().success());
}

pub(crate) fn open_without_a_record_is_refused() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("record"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let mount = lab.mount(task, &container.cgroup);
    let full = append("/dev/full".as_ref());
    assert_eq!(lab.control.ask_with(&Request::AuditTo, &[full.as_fd()]), Response::Done);

    assert_eq!(container.open(&mount.file("pw")), Err("errno 5".to_owned()));
    assert!(lab.status().weaknesses.iter().any(|line| line.starts_with("1 audit records")));

    let next = append(&lab.path("next.log"));
    assert_eq!(lab.control.ask_with(&Request::AuditTo, &[next.as_fd()]), Response::Done);
    assert_eq!(container.cat(&mount.file("pw")), Ok(b"hunter2".to_vec()));
    assert_eq!(fs::read_to_string(lab.path("next.log")).unwrap().lines().count(), 1);
    let plain = File::create(lab.path("plain.log")).unwrap();
    let refused = lab.control.ask_with(&Request::AuditTo, &[plain.as_fd()]);
    assert!(matches!(refused, Response::Refused(Refusal::Descriptor(_))), "{refused:?}");
}

pub(crate) fn memory_file_is_filled_without_a_mount() {
    let (lab, cluster) = (Lab::start(), Cluster::new());
    let bytes = vec![7; 300_000];
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", &bytes), "pw")]);
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[9; 400_000], 0).unwrap();
    let fill = |target: &str| Request::Fill { task, target: Target::parse(target).unwrap() };

    assert_eq!(lab.control.ask_with(&fill("pw"), &[file.as_fd()]), Response::Done);
    let mut read = vec![0; 400_000];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), 300_000);
    assert!(read[..300_000] == bytes);
    let absent = lab.control.ask_with(&fill("none"), &[file.as_fd()]);
    assert_eq!(absent, Response::Refused(Refusal::Target("/run/secrets/none".into())));
    assert!(matches!(lab.control.refusal(&fill("pw")), Refusal::Descriptor(_)));
}

pub(crate) fn files_are_not_filled_where_mounts_are_served() {
    let (lab, cluster) = (Lab::start_for_mounts_alone(), Cluster::new());
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let file = tempfile::tempfile().unwrap();
    let fill = Request::Fill { task, target: Target::parse("pw").unwrap() };

    assert_eq!(lab.control.ask_with(&fill, &[file.as_fd()]), Response::Refused(Refusal::NotAllowed));

    assert_eq!(file.metadata().unwrap().len(), 0);
    assert!(lab.audit_lines()[0].contains("\"reason\":\"fill\""), "{:?}", lab.audit_lines());
}

pub(crate) fn unmounted_task_shows_as_not_attached_and_attaches_again() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("again"));
    let secret = cluster.seal("pw", b"hunter2");
    let (task, other) = (lab.publish(&cluster, &[(&secret, "pw")]), lab.publish(&cluster, &[(&secret, "pw")]));
    let kept = lab.mount(other, &container.cgroup);
    let attached = |task| lab.status().tasks.iter().any(|known| known.task == task && known.attached);
    let mount = lab.mount(task, &container.cgroup);
    assert!(attached(task) && attached(other));

    drop(mount);
    let given_up = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while attached(task) {
        assert!(std::time::Instant::now() < given_up, "the session of an unmounted task goes on");
        std::thread::yield_now();
    }

    assert_eq!(container.cat(&kept.file("pw")), Ok(b"hunter2".to_vec()));
    let mount = lab.mount(task, &container.cgroup);
    assert_eq!(container.cat(&mount.file("pw")), Ok(b"hunter2".to_vec()));
    assert!(attached(task) && attached(other));
}

pub(crate) fn descriptor_that_is_no_fuse_device_is_refused() {
    let (lab, cluster, container) = (Lab::start(), Cluster::new(), Container::start("device"));
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let attach = Request::Attach { task, cgroup: container.cgroup.clone() };
    let null = File::open("/dev/null").unwrap();
    let unmounted = File::options().read(true).write(true).open("/dev/fuse").unwrap();

    for fds in [&[][..], &[null.as_fd()], &[unmounted.as_fd()], &[null.as_fd(), null.as_fd()]] {
        let answer = lab.control.ask_with(&attach, fds);
        assert!(matches!(answer, Response::Refused(Refusal::Descriptor(_))), "{answer:?}");
    }
    assert!(!lab.status().tasks[0].attached);
    let (another, _) = Control::connect(&lab.socket());
    let unknown = Request::Forget { secret: SecretId::random(), version: 1 };
    assert_eq!(another.ask(&unknown), Response::Done);
}

pub(crate) fn root_control_group_is_refused() {
    let (lab, cluster) = (Lab::start(), Cluster::new());
    let task = lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]);
    let null = File::open("/dev/null").unwrap();
    for lines in [vec![], vec![(String::new(), "/".to_owned())]] {
        let attach = Request::Attach { task, cgroup: CgroupPaths { lines } };
        assert_eq!(lab.control.ask_with(&attach, &[null.as_fd()]), Response::Refused(Refusal::Malformed));
    }
}
