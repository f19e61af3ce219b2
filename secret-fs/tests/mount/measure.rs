//! Memory of a node with many tasks, and the time that a read takes.

use std::fs;

use crate::container::Container;
use crate::lab::{Cluster, Lab};

/// Kilobytes for a hundred tasks, without payloads. Code that is not optimized is larger and needs larger stacks.
const BUDGET: u64 = if cfg!(debug_assertions) { 9 * 1024 } else { 6 * 1024 };

pub(crate) fn hundred_tasks_stay_within_the_memory_budget() {
    let (lab, cluster, mut container) = (Lab::start(), Cluster::new(), Container::start("hundred"));
    let secret = cluster.seal("pw", &[7; 512_000]);
    let idle = memory(lab.process.id());
    let mounts: Vec<_> =
        (0..100).map(|_| lab.mount(lab.publish(&cluster, &[(&secret, "pw")]), &container.cgroup)).collect();
    for mount in &mounts {
        assert_eq!(container.cat(&mount.file("pw")).unwrap().len(), 512_000);
    }
    let busy = memory(lab.process.id());
    let small = lab.mount(lab.publish(&cluster, &[(&cluster.seal("pw", b"hunter2"), "pw")]), &container.cgroup);
    println!("secret-fs: {idle} KiB idle, {busy} KiB with 100 tasks (PSS without memfd_secret pages)");
    println!("open+read+close of 7 bytes: {}", &container.tell(&format!("time {} 2000", small.file("pw")))[3..]);
    println!(
        "open+read+close of 512,000 bytes: {}",
        &container.tell(&format!("time {} 300", mounts[0].file("pw")))[3..]
    );

    assert!(busy <= BUDGET, "{busy} KiB is over {BUDGET}");
}

/// Kilobytes of proportional set size, without the pages that hold payloads.
fn memory(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut total, mut counts) = (0, true);
    for line in maps.lines() {
        if line.split_once(' ').is_some_and(|(range, _)| range.contains('-')) {
            counts = !line.contains("/secretmem");
        } else if let Some(size) = line.strip_prefix("Pss:")
            && counts
        {
            total += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        }
    }
    total
}
