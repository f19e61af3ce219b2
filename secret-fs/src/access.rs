//! Who may open a task's secrets. Pure: decides from the text of `/proc/TID/cgroup`.

use secretd_proto::fs::CgroupPaths;

/// Whether the lines of a process's control groups show it in the task's group or a child of it, for every line that
/// the task has.
pub(crate) fn is_in_group(proc_cgroup: &str, want: &CgroupPaths) -> bool {
    tells_apart(want)
        && want.lines.iter().all(|(controllers, group)| {
            proc_cgroup.lines().filter_map(parse_line).any(|(have_controllers, path)| {
                have_controllers == controllers && (path == group || is_below(path, group))
            })
        })
}

/// Whether these lines can tell the task's processes from others at all: the root group holds everybody.
pub(crate) fn tells_apart(want: &CgroupPaths) -> bool {
    !want.lines.is_empty()
        && want.lines.iter().all(|(_, group)| group.starts_with('/') && group.len() > 1 && !group.ends_with('/'))
}

/// `ID:CONTROLLERS:PATH`; the controllers may hold no colon, the path may.
fn parse_line(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

fn is_below(path: &str, group: &str) -> bool {
    // A group that was removed shows as `PATH (deleted)`; nothing may match there by accident, and a process in it
    // belongs to nobody's task.
    path.strip_prefix(group).is_some_and(|rest| rest.starts_with('/') && !path.ends_with(" (deleted)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(lines: &[(&str, &str)]) -> CgroupPaths {
        CgroupPaths { lines: lines.iter().map(|&(name, path)| (name.to_owned(), path.to_owned())).collect() }
    }

    #[test]
    fn process_is_matched_on_every_line_of_the_task() {
        let hybrid = "9:name=systemd:/\n8:pids:/secretd/t1\n4:memory:/secretd/t1/inner\n0::/\n";
        let unified = "0::/system.slice/secretd.service/t1\n";
        for (text, want, allowed) in [
            (hybrid, &[("pids", "/secretd/t1")][..], true),
            (hybrid, &[("pids", "/secretd/t1"), ("memory", "/secretd/t1")], true),
            (hybrid, &[("pids", "/secretd/t1"), ("memory", "/secretd/t2")], false),
            (hybrid, &[("pids", "/secretd/t1"), ("freezer", "/secretd/t1")], false),
            (hybrid, &[("pids", "/secretd/t")], false),
            (hybrid, &[("pids", "/secretd")], true),
            (hybrid, &[("", "/secretd/t1")], false),
            (hybrid, &[("pids", "/")], false),
            (hybrid, &[("", "/")], false),
            (hybrid, &[("pids", "")], false),
            (hybrid, &[("pids", "/secretd/")], false),
            (hybrid, &[], false),
            (unified, &[("", "/system.slice/secretd.service/t1")], true),
            (unified, &[("", "/system.slice/secretd.service")], true),
            (unified, &[("", "/system.slice/secretd.service/t")], false),
            ("0::/t1 (deleted)\n", &[("", "/t1")], false),
            ("0::/t1/x (deleted)\n", &[("", "/t1")], false),
            ("0::/t1:odd/x\n", &[("", "/t1:odd")], true),
            ("", &[("", "/t1")], false),
            ("no line\n", &[("", "/t1")], false),
        ] {
            assert_eq!(is_in_group(text, &group(want)), allowed, "{text:?} {want:?}");
        }
    }
}
