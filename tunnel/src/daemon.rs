//! Going to the background: the parent stays until the child is ready, and ends with its status.
//!
//! So `edge-tunnel wg0 && wg set wg0 …` has no race, and a failed start is seen by the shell. By
//! fork without exec, which demands that no thread exists yet.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use crate::sys::process;

/// Who returned from [`detach`].
#[derive(Debug)]
pub enum Role {
    /// The original process: its only duty left is to exit with this status.
    Parent(u8),
    /// The background process, in a session of its own.
    Child(Background),
}

/// The child's promise to tell its parent. Dropping it without [`Self::ready`] means failure.
#[derive(Debug)]
pub struct Background {
    report: File,
}

/// Forks. The child returns at once; the parent returns when the child is ready or has ended.
///
/// # Errors
///
/// No process or pipe could be had, or the process has threads already.
pub fn detach() -> io::Result<Role> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    match process::fork()? {
        ForkResult::Parent { child } => {
            drop(writer);
            // One octet when the child is ready; end of file when it ended before.
            let ready = File::from(reader).read(&mut [0])? == 1;
            Ok(Role::Parent(if ready { 0 } else { exit_status(child)? }))
        }
        ForkResult::Child => {
            drop(reader);
            setsid()?;
            Ok(Role::Child(Background { report: File::from(writer) }))
        }
    }
}

impl Background {
    /// Leaves the caller's directory and terminal and lets the parent end well. With `keep_output`
    /// standard output and error stay open, for a log.
    ///
    /// # Errors
    ///
    /// `/dev/null` cannot be opened.
    pub fn ready(mut self, keep_output: bool) -> io::Result<()> {
        chdir("/")?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        if !keep_output {
            dup2_stdout(&null)?;
            dup2_stderr(&null)?;
        }
        // The parent may have been killed; that is not our failure.
        let _ = self.report.write(&[0]);
        Ok(())
    }
}

fn exit_status(child: Pid) -> io::Result<u8> {
    match waitpid(child, None)? {
        // Exit statuses have 8 bits; 0 without "ready" would be a lie.
        WaitStatus::Exited(_, status) => Ok(u8::try_from(status).unwrap_or(1).max(1)),
        WaitStatus::Signaled(_, signal, _) => Ok(128_u8.saturating_add(signal as i32 as u8)),
        _ => Ok(1),
    }
}

/// Takes over a descriptor whose number is in environment variable `variable`, as wireguard-go does;
/// `None` if the variable is not set.
///
/// # Errors
///
/// The value is not the number of an open descriptor above 2.
pub fn descriptor_from_environment(variable: &'static str) -> io::Result<Option<std::os::fd::OwnedFd>> {
    let Some(value) = std::env::var_os(variable) else { return Ok(None) };
    let number = value.to_str().and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    process::inherited_fd(number).map(Some)
}
