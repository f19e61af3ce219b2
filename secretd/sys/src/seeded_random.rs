//! Random bytes that follow from a seed: seccomp(2) with SECCOMP_RET_TRAP, and sigaction(2).
//!
//! For simulations alone, which must do the same again for the same seed: whatever asks the kernel for randomness on
//! this thread (ids, keys, nonces, the keys of hash maps) is answered from a counter that was seeded. There is no way
//! back, so a simulation runs in a process of its own. No shipped binary has this file.
//!
//! JUSTIFICATION: defining the symbol `getrandom` would not be seen by libraries that make the system call themselves.
//! A C library that answers from the vDSO (glibc 2.41 and later) makes no system call either, and is not seen here.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::seccomp_filter::{Instruction, install};

/// Of the generator (splitmix64).
static STATE: AtomicU64 = AtomicU64::new(0);

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// From now on this thread, and those that it starts, have random bytes that follow from `seed`.
///
/// Two threads that ask at the same time are answered in the order in which they ask: to have the same again, one thread
/// must do everything.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn seed_this_thread(seed: u64) -> io::Result<()> {
    STATE.store(seed, Ordering::Relaxed);
    let action = SigAction::new(SigHandler::SigAction(answer), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: sigaction(2) needs a handler that is safe in a signal: `answer` touches one atomic, the saved registers and
    // the buffer of the interrupted call, and neither allocates nor locks.
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    nix::sys::prctl::set_no_new_privs()?;
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let getrandom = u32::try_from(libc::SYS_getrandom).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
    install(&[
        step(LOAD_WORD, 0, 0, 0), // the number of the call
        step(JUMP_IF_EQUAL, 0, 1, getrandom),
        step(RETURN, 0, 0, libc::SECCOMP_RET_TRAP),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

/// The next eight bytes.
fn next() -> [u8; 8] {
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).to_le_bytes()
}

/// Answers getrandom(2) in place of the kernel. It is the only call that the filter traps.
// ASYNC-SIGNAL-SAFE
extern "C" fn answer(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: sigaction(2): with SA_SIGINFO the third argument points to the ucontext_t that is restored when the handler
    // returns, and nobody else has it meanwhile.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let (buffer, length) = arguments(context);
    for at in (0..length).step_by(8) {
        let bytes = next();
        let count = bytes.len().min(length - at);
        // SAFETY: the caller of getrandom(2) gave a buffer of `length` bytes that may be written, and `at + count` is at
        // most `length`; it cannot overlap with `bytes`, which is on this handler's stack.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.wrapping_add(at), count) };
    }
    set_answer(context, length);
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // registers are words
fn arguments(context: &libc::ucontext_t) -> (*mut u8, usize) {
    let registers = &context.uc_mcontext.gregs;
    let of = |register: libc::c_int| registers.get(register as usize).copied().unwrap_or_default() as usize;
    (std::ptr::with_exposed_provenance_mut(of(libc::REG_RDI)), of(libc::REG_RSI))
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss)] // as above
fn set_answer(context: &mut libc::ucontext_t, answer: usize) {
    if let Some(register) = context.uc_mcontext.gregs.get_mut(libc::REG_RAX as usize) {
        *register = answer as i64;
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(clippy::cast_possible_truncation)] // registers are words
fn arguments(context: &libc::ucontext_t) -> (*mut u8, usize) {
    let [buffer, length, ..] = context.uc_mcontext.regs;
    (std::ptr::with_exposed_provenance_mut(buffer as usize), length as usize)
}

#[cfg(target_arch = "aarch64")]
fn set_answer(context: &mut libc::ucontext_t, answer: usize) {
    context.uc_mcontext.regs[0] = answer as u64;
}
