//! Drives the real secret-fs with a real FUSE mount, as root, and shows what a container sees.
//!
//! Its own harness: the process first makes a mount namespace of its own, while it has one thread, so that every mount
//! goes away with it; and it starts itself again as the process in the container. The first thread is the shim. Without
//! root, `/dev/fuse` or control groups the cases fail; there is no silent skip.

// Tests without libtest, so the lints' exceptions for tests do not reach them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::wildcard_enum_match_arm)]

mod cases;
mod container;
mod lab;
mod measure;
mod protections;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Case = (&'static str, fn());

macro_rules! cases {
    ($($module:ident :: $name:ident)*) => { [$((stringify!($name), $module::$name as fn())),*] };
}

const CASES: &[Case] = &cases![
    cases::container_reads_its_secrets_with_owner_and_mode
    cases::container_cannot_change_anything
    cases::largest_secret_comes_in_one_read
    cases::rotation_wakes_watchers_and_open_files_keep_their_version
    cases::reads_during_rotations_give_whole_versions
    cases::retraction_ends_reading_of_open_files
    cases::caller_outside_the_control_group_is_refused_and_recorded
    cases::caller_that_the_kernel_does_not_name_is_refused
    cases::passed_on_descriptor_gives_nothing
    cases::broken_seal_publishes_nothing
    cases::older_epoch_is_refused
    cases::targets_that_collide_publish_nothing
    cases::second_task_shares_the_payload_and_outlives_the_first
    cases::last_connection_ends_it_where_no_task_has_secrets
    cases::open_without_a_record_is_refused
    cases::memory_file_is_filled_without_a_mount
    cases::files_are_not_filled_where_mounts_are_served
    cases::second_mount_of_a_served_task_is_refused_and_recorded
    cases::unmounted_task_shows_as_not_attached_and_attaches_again
    cases::descriptor_that_is_no_fuse_device_is_refused
    cases::root_control_group_is_refused
    protections::process_is_locked_in
    protections::plaintext_and_keys_are_nowhere_in_readable_memory
    protections::peer_that_is_not_root_is_refused
    protections::wrong_command_line_is_a_usage_error
    measure::hundred_tasks_stay_within_the_memory_budget
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(container::ROLE) => {
            container::run();
            return ExitCode::SUCCESS;
        }
        Some(lab::MOUNTER_ROLE) => {
            lab::run_mounter(&arguments[1..]);
            return ExitCode::SUCCESS;
        }
        Some(protections::STRANGER_ROLE) => return protections::stranger(&arguments[1]),
        Some(_) | None => {}
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();

    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = CASES.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|part| name.contains(*part)));
    let mut failed = Vec::new();
    for (name, case) in chosen {
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
            continue;
        }
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
