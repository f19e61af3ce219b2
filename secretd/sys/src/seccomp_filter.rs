//! A seccomp filter for the calling thread: seccomp(2), SECCOMP_SET_MODE_FILTER.
//!
//! JUSTIFICATION: seccompiler's own `apply_filter` first sets no_new_privs, which a container must be able to do without.

use std::io;

/// One instruction of classic BPF (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Installs `program` for this thread, its future children and whatever it executes.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN in the user namespace or no_new_privs, EINVAL for a program that the kernel refuses.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = nix::libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: seccomp(2) reads `len` instructions from `filter`: the slice has that many, `Instruction` has the layout
    // of `sock_filter` (linux/filter.h), and the kernel writes to neither structure.
    let answer = unsafe {
        nix::libc::syscall(nix::libc::SYS_seccomp, nix::libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
