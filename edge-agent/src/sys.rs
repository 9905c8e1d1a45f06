//! System calls that Rust's libraries reach only by unsafe code.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use tokio::process::Command;

/// The process that `command` starts is killed when the thread that starts it ends: with the agent, however that ends.
pub fn die_with_parent(command: &mut Command) {
    let set = || set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from);
    // SAFETY: between fork and exec only prctl(2) is called, a plain system call: nothing is allocated, no lock is
    // taken.
    unsafe { command.pre_exec(set) };
}
