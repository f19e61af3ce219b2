//! The C library's allocator, tuned for a process of many small threads: mallopt(3).

/// Keeps the heap small in a process with many threads: one arena for all of them, and buffers from 128 KiB up as
/// mappings of their own, which go back to the system when freed and whose untouched pages cost nothing.
///
/// Without the fixed threshold glibc raises it to the size of the largest buffer freed so far, and then clears, and so
/// touches, every later buffer of that size. Other C libraries (musl) behave like this by themselves: nothing is done.
pub fn limit() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (nix::libc::M_ARENA_MAX, 1),
        (nix::libc::M_MMAP_THRESHOLD, 128 * 1024),
        (nix::libc::M_TRIM_THRESHOLD, 128 * 1024),
    ] {
        // SAFETY: mallopt(3) takes two integers; it is called before other threads allocate or not, as it locks.
        let accepted = unsafe { nix::libc::mallopt(parameter, value) };
        debug_assert_eq!(accepted, 1, "glibc knows the parameter");
    }
}
