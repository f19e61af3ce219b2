//! Drives the real shim with real containers, as root, and reads what a container's processes see of themselves.
//!
//! Its own harness: this executable is also the shim and the process of a command, so that no other binary is needed.
//! The cases run in a PID and mount namespace that ends with them, and below a control group that is removed.

// Tests without libtest, so the lints' exceptions for tests do not reach them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::wildcard_enum_match_arm)]
#![allow(clippy::disallowed_methods)]

mod container;
mod exec;
mod filesystem;
mod init;
mod lab;
mod measure;
mod privilege;
mod secret;

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

use secretd_runtime::{exec::main_exec, shim::main_shim};

type Case = (&'static str, fn());

macro_rules! cases {
    ($($module:ident :: $name:ident)*) => { [$((stringify!($name), $module::$name as fn())),*] };
}

const CASES: &[Case] = &cases![
    container::output_is_logged_by_stream_and_exit_code_is_told
    container::signals_end_it_and_show_in_the_code
    container::init_reaps_orphans_and_forwards_signals
    container::missing_program_and_mount_source_have_clear_failures
    container::unknown_user_is_a_failure
    container::memory_limit_ends_it_as_out_of_memory
    container::limits_reach_the_control_group
    container::terminal_is_one_stream_with_a_size
    container::shim_outlives_its_starter
    container::deletion_leaves_nothing
    container::killed_shim_leaves_no_mount
    init::init_starts_a_program_without_capabilities
    init::init_has_the_rights_of_the_program
    init::init_shows_nothing_of_the_node
    init::inits_program_has_the_terminal
    init::nodes_program_cannot_be_changed_from_a_container
    filesystem::generated_files_and_names_are_dockers
    filesystem::read_only_root_takes_no_writes_and_mounts_do
    filesystem::new_volume_gets_the_images_files
    filesystem::device_nodes_and_hidden_paths_are_dockers
    filesystem::links_of_the_image_lead_nowhere_outside
    privilege::root_has_dockers_capabilities_and_a_filter
    privilege::user_has_no_capabilities_but_its_groups
    privilege::capabilities_and_no_new_privileges_follow_the_settings
    privilege::filter_refuses_what_docker_refuses
    exec::command_has_its_streams_and_exit_code
    exec::command_takes_user_environment_and_directory
    exec::command_has_no_more_rights_than_the_container
    exec::command_on_a_terminal_is_resized
    exec::dropped_session_kills_its_command
    exec::missing_command_is_refused
    secret::files_are_filled_in_memory_and_rotated
    secret::files_are_served_by_secret_fs_and_survive_its_restart
    measure::create_start_and_memory_stay_within_their_budgets
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["shim", "--task-dir", directory] => main_shim((*directory).into(), inherited()),
        ["container-exec", "--task-dir", directory] => main_exec((*directory).into(), inherited()),
        ["watcher", pid] => secret::run_watcher(pid),
        ["starter", directory] => lab::run_starter(directory),
        ["inside", prefix, filters @ ..] => run(prefix, filters),
        filters if filters.contains(&"--list") => {
            CASES.iter().for_each(|(name, _)| println!("{name}: test"));
            ExitCode::SUCCESS
        }
        filters => enter(filters),
    }
}

/// The socket that this process was started with as its standard input.
fn inherited() -> OwnedFd {
    std::io::stdin().as_fd().try_clone_to_owned().unwrap()
}

/// Starts this executable again in namespaces that end with it, then removes its control groups.
fn enter(filters: &[&str]) -> ExitCode {
    assert!(rustix::process::geteuid().is_root(), "these tests need root");
    let prefix = format!("secretd-shim-test-{}", std::process::id());
    let answer = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(["--pid", "--mount", "--mount-proc", "--fork", "--kill-child=KILL", "--propagation=private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["inside", &prefix])
        .args(filters.iter().filter(|filter| !filter.starts_with('-')))
        .status()
        .unwrap();
    lab::remove_control_groups(&prefix);
    if answer.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(prefix: &str, filters: &[&str]) -> ExitCode {
    lab::PREFIX.set(prefix.to_owned()).unwrap();
    let chosen = CASES.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|part| name.contains(part)));
    let mut failed = Vec::new();
    for (name, case) in chosen {
        match catch_unwind(AssertUnwindSafe(case)) {
            Ok(()) => println!("test {name} ... ok"),
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
