//! Whose CPU time a measurement took: each daemon's, everything of ours, and what others disturbed.
//!
//! Ours is this process, the children that it has reaped, the daemons, and the kernel's network threads
//! (network interrupts are charged to whoever they interrupt). The rest of the machine's busy time belongs
//! to others, and a measurement with much of it is repeated.

use lab::{Error, Result, wait};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs;
use std::time::Duration;

/// Processes that live during a measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Population {
    /// The daemon of the sending end.
    pub(super) sender: Vec<Pid>,
    /// The daemon of the receiving end.
    pub(super) receiver: Vec<Pid>,
    /// Everything else of ours that is not reaped before the end.
    pub(super) others: Vec<Pid>,
}

/// The clocks at one moment, CPU seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    sender: f64,
    receiver: f64,
    ours: f64,
    busy: f64,
    total: f64,
}

/// The CPU time between two readings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumed {
    /// The sending end's daemon, seconds.
    pub(super) sender: f64,
    /// The receiving end's daemon, seconds.
    pub(super) receiver: f64,
    /// All that the measurement used, seconds.
    pub(super) ours: f64,
    /// Share of the machine that was busy, per cent.
    pub(super) busy: f64,
    /// Share of the machine that others used, per cent.
    pub(super) disturbance: f64,
}

impl Population {
    pub(super) fn read(&self) -> Result<Reading> {
        let tick = tick()?;
        let (busy, total) = machine(tick)?;
        let sum = |pids: &[Pid]| pids.iter().map(|pid| cpu_of(*pid, tick)).sum::<f64>();
        let (sender, receiver) = (sum(&self.sender), sum(&self.receiver));
        let kernel = kernel_threads().iter().map(|pid| cpu_of(*pid, tick)).sum::<f64>();
        let ours = used(UsageWho::RUSAGE_SELF)? + used(UsageWho::RUSAGE_CHILDREN)?;
        let ours = ours + sender + receiver + sum(&self.others) + kernel;
        Ok(Reading { sender, receiver, ours, busy, total })
    }
}

impl Reading {
    pub(super) fn until(&self, later: &Self) -> Consumed {
        let total = (later.total - self.total).max(1e-9);
        let (busy, ours) = (later.busy - self.busy, later.ours - self.ours);
        Consumed {
            sender: later.sender - self.sender,
            receiver: later.receiver - self.receiver,
            ours,
            busy: 100.0 * busy / total,
            disturbance: 100.0 * (busy - ours).max(0.0) / total,
        }
    }
}

/// Waits up to `limit` until the machine was nine tenths idle for a second.
pub(super) fn wait_until_quiet(limit: Duration) -> Result<()> {
    if limit.is_zero() {
        return Ok(());
    }
    let tick = tick()?;
    let quiet = wait::for_value("a quiet machine", limit, || {
        let before = machine(tick)?;
        std::thread::sleep(Duration::from_secs(1));
        let after = machine(tick)?;
        Ok((after.0 - before.0 < 0.1 * (after.1 - before.1)).then_some(()))
    });
    // The disturbance of each measurement is in the table anyway.
    quiet.or_else(|error| if matches!(error, Error::Deadline { .. }) { Ok(()) } else { Err(error) })
}

fn used(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who).map_err(Error::os("read the resource usage"))?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

fn tick() -> Result<f64> {
    let ticks = sysconf(SysconfVar::CLK_TCK).map_err(Error::os("read the clock's ticks"))?;
    Ok(ticks.unwrap_or(100) as f64)
}

/// User and system time of a process, seconds; 0 when it is gone.
pub(super) fn cpu_of(pid: Pid, tick: f64) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    process_ticks(&stat) / tick
}

/// Fields 14 and 15 of proc_pid_stat(5); the name in field 2 may contain blanks.
fn process_ticks(stat: &str) -> f64 {
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Busy and total seconds of all processors together.
fn machine(tick: f64) -> Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").map_err(Error::io("read /proc/stat"))?;
    let (busy, total) = machine_ticks(&stat);
    Ok((busy / tick, total / tick))
}

/// The first line of proc_stat(5): user nice system idle iowait irq softirq steal.
fn machine_ticks(stat: &str) -> (f64, f64) {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let sum = |range: &[usize]| range.iter().filter_map(|at| fields.get(*at)).sum::<f64>();
    (sum(&[0, 1, 2, 5, 6]), sum(&[0, 1, 2, 3, 4, 5, 6, 7]))
}

fn kernel_threads() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd/"))
        })
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok().map(Pid::from_raw))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_fields_that_have_them() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 1 0";
        assert!((process_ticks(stat) - 200.0).abs() < 1e-9);
        let (busy, total) = machine_ticks("cpu  1 2 4 8 16 32 64 128 0 0\ncpu0 1 1 1");
        assert!((busy - 103.0).abs() < 1e-9 && (total - 255.0).abs() < 1e-9);
    }

    #[test]
    fn our_own_work_is_no_disturbance() {
        let before = Reading { sender: 1.0, receiver: 0.0, ours: 1.0, busy: 10.0, total: 100.0 };
        let after = Reading { sender: 3.0, receiver: 1.0, ours: 5.0, busy: 15.0, total: 110.0 };
        let consumed = before.until(&after);
        assert!((consumed.busy - 50.0).abs() < 1e-9 && (consumed.disturbance - 10.0).abs() < 1e-9);
    }
}
