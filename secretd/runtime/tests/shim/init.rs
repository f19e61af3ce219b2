//! A container's own init: who it is, and what it shows of the node.

use std::fs;

use crate::lab::{Lab, Shim};

/// The fields of two processes that must be the same: the init's, then the program's.
const RIGHTS: &str = "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)";

fn with_init(script: &str) -> Lab {
    let mut lab = Lab::new(script);
    lab.config.process.init = true;
    lab
}

/// The lines of the init's and of the program's status.
fn rights(lab: &Lab) -> (Vec<String>, Vec<String>) {
    let (code, output) = lab.run();
    assert_eq!(code, 0, "{output}");
    let (init, program) = output.split_once("--\n").unwrap_or_else(|| panic!("{output}"));
    let lines = |text: &str| text.lines().map(str::to_owned).collect();
    (lines(init), lines(program))
}

fn compare() -> String {
    format!("grep -E '{RIGHTS}' /proc/1/status; echo --; grep -E '{RIGHTS}' /proc/self/status")
}

pub(crate) fn init_starts_a_program_without_capabilities() {
    for (user, no_new_privileges) in [("", false), ("app", false), ("", true), ("app", true)] {
        let mut lab = with_init("echo up");
        lab.config.process.cap_drop = vec!["ALL".to_owned()];
        lab.config.process.user = user.to_owned();
        lab.config.process.no_new_privileges = no_new_privileges;

        assert_eq!(lab.run(), (0, "up\n".to_owned()), "user {user:?}, no-new-privileges {no_new_privileges}");
    }
}

pub(crate) fn init_has_the_rights_of_the_program() {
    let script = compare();
    for (user, no_new_privileges) in [("", false), ("app", false), ("app", true)] {
        let mut lab = with_init(&script);
        lab.config.process.user = user.to_owned();
        lab.config.process.no_new_privileges = no_new_privileges;
        lab.config.process.cap_drop = vec!["CHOWN".to_owned()];

        let (init, program) = rights(&lab);

        assert_eq!(init, program, "user {user:?}, no-new-privileges {no_new_privileges}");
        assert!(init.contains(&"CapBnd:\t00000000a80425fa".to_owned()), "{init:?}");
    }
}

pub(crate) fn init_shows_nothing_of_the_node() {
    let lab = with_init("echo ready; sleep 1000");
    let shim: Shim = lab.start();
    lab.wait_for_output("ready");

    let read = |what: &str| fs::read(format!("/proc/{}/{what}", shim.pid())).unwrap();

    let line = String::from_utf8(read("cmdline")).unwrap();
    assert_eq!(line.trim_end_matches('\0'), "secretd-init\0--\0sh\0-c\0echo ready; sleep 1000");
    assert_eq!(read("environ").iter().filter(|&&byte| byte != 0).count(), 0);
}

pub(crate) fn inits_program_has_the_terminal() {
    // A change of the terminal from a background process stops it (SIGTTOU).
    let mut lab = with_init("stty -echo; echo changed");
    lab.config.process.tty = true;

    let (code, output) = lab.run();

    assert_eq!((code, output.as_str()), (0, "changed\r\n"));
}

pub(crate) fn nodes_program_cannot_be_changed_from_a_container() {
    // Whoever may trace the init reaches the file that it runs; of a file on a writable mount even the mode could be
    // changed while it runs, and its content once nobody runs it (CVE-2019-5736).
    let mut lab = with_init("chmod 755 /proc/1/exe; head -c 4 /proc/1/exe | tail -c 3");
    lab.config.process.cap_add = vec!["SYS_PTRACE".to_owned()];

    let (code, output) = lab.run();

    assert_eq!(code, 0, "{output}");
    assert!(output.contains("ELF") && output.contains("/proc/1/exe: Read-only file system"), "{output}");
}
