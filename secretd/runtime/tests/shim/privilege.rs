//! What a container's process may do, as the kernel tells it.

use crate::lab::Lab;

const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status";

/// Docker's default set as the kernel shows it.
const DOCKER: &str = "00000000a80425fb";

const NONE: &str = "0000000000000000";

/// A field of /proc/self/status in the container's output.
fn field(output: &str, name: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name}: {output}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capabilities(output: &str) -> [String; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| field(output, name))
}

pub(crate) fn root_has_dockers_capabilities_and_a_filter() {
    let (_, output) = Lab::new(STATUS).run();

    assert_eq!(capabilities(&output), [NONE, DOCKER, DOCKER, DOCKER, NONE]);
    assert_eq!((field(&output, "Uid"), field(&output, "Gid")), ("0 0 0 0".into(), "0 0 0 0".into()));
    assert_eq!((field(&output, "Seccomp"), field(&output, "NoNewPrivs")), ("2".into(), "0".into()));
}

pub(crate) fn user_has_no_capabilities_but_its_groups() {
    let mut lab = Lab::new(&format!("{STATUS}; echo $HOME; id -u"));
    lab.config.process.user = "app".to_owned();
    lab.config.process.groups = vec!["extra".to_owned()];

    let (_, output) = lab.run();

    assert_eq!(capabilities(&output), [NONE, NONE, NONE, DOCKER, NONE]);
    assert_eq!(
        (field(&output, "Uid"), field(&output, "Gid")),
        ("1000 1000 1000 1000".into(), "1000 1000 1000 1000".into())
    );
    assert_eq!((field(&output, "Groups"), field(&output, "Seccomp")), ("63 77".into(), "2".into()));
    assert!(output.ends_with("/home/app\n1000\n"), "{output}");
}

pub(crate) fn capabilities_and_no_new_privileges_follow_the_settings() {
    let mut lab = Lab::new(STATUS);
    lab.config.process.no_new_privileges = true;
    lab.config.process.cap_drop = vec!["ALL".to_owned()];
    lab.config.process.cap_add = vec!["NET_ADMIN".to_owned()];

    let (_, output) = lab.run();

    let net_admin = "0000000000001000";
    assert_eq!(capabilities(&output), [NONE, net_admin, net_admin, net_admin, NONE]);
    assert_eq!((field(&output, "Seccomp"), field(&output, "NoNewPrivs")), ("2".into(), "1".into()));
}

pub(crate) fn filter_refuses_what_docker_refuses() {
    let script = "unshare -m true; mount -t tmpfs none /tmp; echo done";
    let (_, output) = Lab::new(script).run();
    assert!(output.starts_with("done\n") && output.matches("not permitted").count() >= 1, "{output}");

    let mut lab = Lab::new("unshare -m true && mount -t tmpfs none /tmp && echo done");
    lab.config.process.cap_add = vec!["SYS_ADMIN".to_owned()];
    assert_eq!(lab.run(), (0, "done\n".to_owned()));
}
