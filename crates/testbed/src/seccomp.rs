//! Makes a system call fail in a program, as an old kernel or a container's seccomp profile does.
//!
//! A classic BPF program over `struct seccomp_data` (`linux/seccomp.h`), installed between fork and
//! exec; it stays after the exec, see seccomp(2).

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, EPERM, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, c_int, sock_filter, sock_fprog,
};

/// Offsets of the system call's number, and of the lower halves of the second and third argument.
const NUMBER: u32 = 0;
const LEVEL: u32 = ARGUMENTS + 8 + LOWER_HALF;
const OPTION: u32 = ARGUMENTS + 16 + LOWER_HALF;
const ARGUMENTS: u32 = 16;
const LOWER_HALF: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };

/// Makes `setsockopt` of this level and option fail with `EPERM` in the program; all else is allowed.
///
/// It needs `CAP_SYS_ADMIN` until the exec, which the lab's processes have.
pub fn refuse_setsockopt(command: &mut Command, level: c_int, option: c_int) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of system calls and options are small"
    )]
    let equals = [
        (NUMBER, libc::SYS_setsockopt as u32),
        (LEVEL, level as u32),
        (OPTION, option as u32),
    ];
    let mut program = Vec::new();
    // A value that differs jumps to the end, over the remaining pairs and the refusal.
    for (to_the_end, (at, wanted)) in [5, 3, 1].into_iter().zip(equals) {
        program.push(instruction(BPF_LD | BPF_W | BPF_ABS, 0, at));
        program.push(instruction(BPF_JMP | BPF_JEQ | BPF_K, to_the_end, wanted));
    }
    let refusal = SECCOMP_RET_ERRNO | EPERM.cast_unsigned();
    program.push(instruction(BPF_RET | BPF_K, 0, refusal));
    program.push(instruction(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW));
    // SAFETY: the closure makes one system call on memory that was prepared before the fork.
    unsafe { command.pre_exec(move || install(&mut program)) };
}

fn instruction(code: u32, if_not: u8, k: u32) -> sock_filter {
    sock_filter {
        // Codes have 16 bits.
        code: u16::try_from(code).unwrap_or_default(),
        jt: 0,
        jf: if_not,
        k,
    }
}

fn install(program: &mut [sock_filter]) -> io::Result<()> {
    let fprog = sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program before the call returns; both pointers are valid then.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const fprog,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
