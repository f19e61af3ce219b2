//! The main job on Debian's stock kernel, under emulation: version 2 of control groups alone, and no memfd_secret(2).
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use secretd_tests::machine;

/// Each step prints its name after two dashes, then what it shows.
const SCRIPT: &str = r#"
step() { echo "-- $1"; }
secretd --data-dir /tmp/d --run-dir /run/secretd 2>/tmp/secretd.log &
daemon=$!
export SCTL_HOST=unix:///run/secretd/control.sock
step init;     sctl cluster init --advertise-addr 127.0.0.1
step facts;    sctl info --format '{{.CgroupVersion}} {{.Secrets.Backend}} {{.Secrets.Memory}}'
step weak;     sctl node inspect self --format '{{json .Description.Secrets.Weaknesses}}'
echo pw | sctl secret create psql-pw - >/dev/null
sctl image import --tag busybox:1 /busybox.tar >/dev/null
step create
sctl service create --quiet --update-monitor 0s --name app --secret psql-pw --limit-memory 32m --limit-pids 30 \
    --limit-cpu 0.5 --stop-signal KILL busybox:1 sleep 10000 >/dev/null && echo created
step read;     sctl exec app.1 cat /run/secrets/psql-pw
step group;    sctl exec app.1 cat /proc/self/cgroup
step limits;   cd /sys/fs/cgroup/secretd/*/; echo $(cat memory.max pids.max cpu.max); cd /
step device;   sctl exec app.1 sh -c 'mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg' 2>&1
step rotate;   echo new | sctl secret update psql-pw - >/dev/null
for i in $(seq 100); do [ "$(sctl exec app.1 cat /run/secrets/psql-pw)" = new ] && break; done
sctl exec app.1 cat /run/secrets/psql-pw
step forks;    sctl exec app.1 sh -c 'for i in $(seq 40); do sleep 100 & done' 2>&1
step crowded;  sctl exec app.1 true 2>&1
step memory
sctl service create --quiet --name oom --limit-memory 16m --restart-condition none \
    busybox:1 sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=60' 2>&1
step adopt;    kill -9 $daemon; wait $daemon 2>/dev/null
sctl service create --detach busybox:1 2>&1
secretd --data-dir /tmp/d --run-dir /run/secretd 2>>/tmp/secretd.log &
daemon=$!
until sctl service ls -q >/dev/null 2>&1; do :; done
sctl service scale app=0 >/dev/null 2>&1 && echo stopped
sctl service rm app oom >/dev/null
step left
until [ -z "$(ls /run/secretd/tasks)" ]; do :; done
kill $daemon; wait $daemon; echo ended $?
ls -d /sys/fs/cgroup/secretd 2>&1
step log;      cat /tmp/secretd.log
"#;

#[test]
fn main_job_works_with_version_2_of_control_groups_alone() -> Result<()> {
    let kernel = std::env::var_os("KERNEL").context("KERNEL: run the tests with `make test`, or tests/kernel.sh")?;
    let output = machine::run(&PathBuf::from(kernel), SCRIPT)?;
    let steps: BTreeMap<&str, &str> = output
        .split("\n-- ")
        .filter_map(|step| step.split_once('\n'))
        .map(|(name, printed)| (name, printed.trim()))
        .collect();
    let said = |name: &str, words: &[&str]| {
        let printed = steps.get(name).copied().unwrap_or_default();
        ensure!(words.iter().all(|word| printed.contains(word)), "{name}: {printed}\n---\n{output}");
        Ok(())
    };

    said("init", &["Cluster initialized"])?;
    said("facts", &["v2 fuse mlock"])?;
    said("weak", &["no memfd_secret"])?;
    said("create", &["created"])?;
    said("read", &["pw"])?;
    said("group", &["0::/"])?;
    said("limits", &["33554432 30 50000 100000"])?;
    said("device", &["Operation not permitted"])?;
    said("rotate", &["new"])?;
    said("forks", &["can't fork"])?;
    said("crowded", &["--limit-pids"])?;
    said("memory", &["non-zero exit (137): out of memory"])?;
    said("adopt", &["is secretd running?", "stopped"])?;
    said("left", &["ended 0", "No such file"])
}
