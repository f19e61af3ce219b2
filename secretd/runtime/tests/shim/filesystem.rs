//! What a container sees as its filesystem.

use std::fs;
use std::os::unix::fs::symlink;

use secretd_proto::shim::Step;
use secretd_runtime::shim_config::{MountPlan, MountSource};

use crate::lab::Lab;

pub(crate) fn generated_files_and_names_are_dockers() {
    let lab = Lab::new(
        "cat /etc/hostname /etc/hosts; hostname; pwd; env; grep -c lo /proc/net/if_inet6; ls -d /sys/fs/cgroup /dev/shm /dev/pts /dev/mqueue",
    );

    let (code, output) = lab.run();

    assert_eq!(code, 0, "{output}");
    for line in [
        "box\n127.0.0.1\tlocalhost\n",
        "10.1.2.3 db\n",
        "\nbox\n/\n",
        "\nHOME=/root\n",
        "\nHOSTNAME=box\n",
        "\n1\n",
        "GREETING=hello\n",
    ] {
        assert!(output.contains(line), "{line:?} is not in {output}");
    }
    assert!(output.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{output}");
}

pub(crate) fn read_only_root_takes_no_writes_and_mounts_do() {
    let mut lab = Lab::new("touch /x; touch /data/y && touch /t/z && stat -c %a /t && ls /ro && touch /ro/x");
    lab.config.read_only = true;
    let data = lab.bind("volume", "/data", false);
    let tmpfs = MountSource::Tmpfs { size: 1 << 20, mode: 0o700 };
    lab.config.mounts.push(MountPlan { target: "/t".into(), source: tmpfs, read_only: false });
    let ro = lab.bind("ro", "/ro", false);
    lab.config.mounts[2].read_only = true;
    fs::write(ro.join("there"), "").unwrap();

    let (code, output) = lab.run();

    assert_eq!(code, 1, "{output}");
    assert!(output.starts_with("700\nthere\n"), "{output}");
    assert!(output.contains("/x: Read-only file system") && output.contains("/ro/x: Read-only"), "{output}");
    assert!(fs::exists(data.join("y")).unwrap());
}

pub(crate) fn new_volume_gets_the_images_files() {
    let mut lab = Lab::new("cat /data/seed; echo more > /data/seed");
    let volume = lab.bind("volume", "/data", true);

    assert_eq!(lab.run(), (0, "from the image\n".to_owned()));

    assert_eq!(fs::read_to_string(volume.join("seed")).unwrap(), "more\n");
}

pub(crate) fn device_nodes_and_hidden_paths_are_dockers() {
    let lab = Lab::new(
        "mknod /tmp/disk b 8 0; cat /tmp/disk; head -c 1 /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/panic; \
         echo x > /sys/kernel/x; head -c 4 /dev/urandom | wc -c; ls /sys/firmware | wc -l; ls /dev; echo $$",
    );

    let (_, output) = lab.run();

    for text in ["0\n4\n0\n", "'/tmp/disk': Operation not permitted", "/proc/sys/kernel/panic: Read-only", "\n1\n"] {
        assert!(output.contains(text) || output.replace("can't open ", "").contains(text), "{text}: {output}");
    }
    for device in ["full", "null", "ptmx", "random", "stderr", "tty", "urandom", "zero"] {
        assert!(output.lines().any(|line| line == device), "{device}: {output}");
    }
}

pub(crate) fn links_of_the_image_lead_nowhere_outside() {
    let mut lab = Lab::new("true");
    let outside = lab.path.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, lab.path.join("image/link")).unwrap();
    lab.bind("volume", "/link/inside", false);

    let failure = lab.failure();

    assert_eq!(failure.step, Step::Mount);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "the mount point was made outside the root");
}
