//! The C library's allocator, tuned for a process of many small threads: mallopt(3).

/// Keeps the heap small in a process with many threads, and its large buffers cheap: one arena for all threads, buffers
/// from 2 MiB up as mappings of their own, and of the memory that is free at the heap's end up to 4 MiB kept for the next
/// buffer.
///
/// A payload of half a megabyte is copied some ten times on its way; a mapping for each copy costs more in page faults
/// than everything else that is done with it. Without fixed thresholds glibc raises them to twice the size of the largest
/// buffer freed so far. Other C libraries (musl) have other ways: nothing is done.
pub fn limit() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (nix::libc::M_ARENA_MAX, 1),
        (nix::libc::M_MMAP_THRESHOLD, 2 * 1024 * 1024),
        (nix::libc::M_TRIM_THRESHOLD, 4 * 1024 * 1024),
    ] {
        // SAFETY: mallopt(3) takes two integers; it is called before other threads allocate or not, as it locks.
        let accepted = unsafe { nix::libc::mallopt(parameter, value) };
        debug_assert_eq!(accepted, 1, "glibc knows the parameter");
    }
}
