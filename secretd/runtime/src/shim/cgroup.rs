//! The container's control groups: which lines tell its processes from others, and whether memory ran out.

use std::path::Path;

use secretd_proto::fs::CgroupPaths;

/// Whether the unified hierarchy (cgroups(7), version 2) is the only one.
pub(super) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The lines of `/proc/PID/cgroup` that name the container's own group: those of its processes, and of no other's.
pub(super) fn paths(text: &str, cgroup: &str) -> CgroupPaths {
    let lines = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        path.ends_with(cgroup).then(|| (controllers.to_owned(), path.to_owned()))
    });
    CgroupPaths { lines: lines.collect() }
}

/// Whether the kernel has killed a process of the group for want of memory.
pub(super) fn out_of_memory(cgroup: &str) -> bool {
    let relative = cgroup.trim_start_matches('/');
    let counts =
        |text: String| text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"));
    let files = [
        format!("/sys/fs/cgroup/{relative}/memory.events"),
        format!("/sys/fs/cgroup/memory/{relative}/memory.oom_control"),
    ];
    files.into_iter().filter_map(|file| std::fs::read_to_string(file).ok()).any(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_container_are_kept_and_those_it_shares_are_not() {
        let text = "12:misc:/\n5:cpu,cpuacct:/secretd/t1\n4:memory:/outer/secretd/t1\n0::/secretd/t1\n1:name=systemd:/secretd/t10\n";

        let lines = paths(text, "/secretd/t1").lines;

        let expected = [("cpu,cpuacct", "/secretd/t1"), ("memory", "/outer/secretd/t1"), ("", "/secretd/t1")];
        assert_eq!(lines, expected.map(|(controllers, path)| (controllers.to_owned(), path.to_owned())));
    }
}
