//! One use of the lab, and the promise that nothing of it stays behind.
//!
//! Every run has a directory under `/run/verona-lab` with a locked file in it. Whoever can take the lock
//! knows that the run's process is gone, and may remove the run's namespaces with all processes in them.
//! A run that was kept on purpose is marked so, and only [`clean`] removes it.

use crate::{Error, Namespace, Process, Result, machine, signals};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where runs are recorded.
const ROOT: &str = "/run/verona-lab";
/// Where `ip netns` binds namespaces.
pub(crate) const NETNS: &str = "/run/netns";
/// Where WireGuard's cross-platform sockets are; all namespaces share it.
const UAPI: &str = "/var/run/wireguard";

/// A handle to one run. Clones share it; the last one dropped takes the run down.
#[derive(Clone, Debug)]
pub struct Run(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    id: String,
    dir: PathBuf,
    keep: AtomicBool,
    /// Held for the life of the run; the kernel lets go of it when the process dies.
    _lock: Flock<File>,
}

impl Run {
    /// Starts a run with a fresh identity, after removing what killed runs left.
    ///
    /// # Errors
    ///
    /// Not root, or `/run/verona-lab` cannot be written.
    pub fn start() -> Result<Self> {
        machine::require_privileges()?;
        signals::watch()?;
        let _registry = registry_lock()?;
        sweep_abandoned(false)?;
        let (id, dir) = fresh_directory()?;
        let path = dir.join("lock");
        let file = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::os(format!("lock {}", path.display()))(errno))?;
        signals::register(&id);
        Ok(Self(Arc::new(Owned { id, dir, keep: AtomicBool::new(false), _lock: lock })))
    }

    /// Four hexadecimal digits, unique among the runs of this machine.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The run's own directory, removed with it: keys, databases, logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// A name for a tunnel interface: UAPI sockets are shared by all namespaces, so `wg0` would clash.
    #[must_use]
    pub fn interface(&self, name: &str) -> String {
        format!("{name}-{}", self.0.id)
    }

    /// Makes a network namespace with its loopback up.
    ///
    /// # Errors
    ///
    /// `ip netns` refuses, most often because the name is taken in this run.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(self, name)
    }

    /// Starts `command` (made by [`Namespace::command`]) with its output in the run's log `name`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start_process(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(self, name, command)
    }

    /// Leaves everything in place when the run is dropped; `cargo lab clean` removes it.
    ///
    /// # Errors
    ///
    /// The mark cannot be written; the run is then taken down as usual.
    pub fn keep(&self) -> Result<()> {
        let mark = self.0.dir.join("kept");
        File::create(&mark).map_err(Error::io(format!("create {}", mark.display())))?;
        self.0.keep.store(true, Ordering::Relaxed);
        signals::forget(&self.0.id);
        Ok(())
    }

    /// Makes the folder `at` of the run a file system of its own in memory, so that it can be full. It goes with the
    /// run.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn mount_tmpfs(&self, at: &Path, options: &str) -> Result<()> {
        fs::create_dir_all(at).map_err(Error::io(format!("create {}", at.display())))?;
        let none = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), at, Some("tmpfs"), none, Some(options))
            .map_err(Error::os(format!("mount a tmpfs at {}", at.display())))
    }

    /// Whether [`Run::keep`] was asked for.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.0.keep.load(Ordering::Relaxed)
    }

    pub(crate) fn namespace_name(&self, name: &str) -> String {
        format!("{}{name}", prefix(&self.0.id))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::Relaxed) {
            sweep(&self.id);
            signals::forget(&self.id);
        }
    }
}

/// Removes every run whose process is gone, kept ones too. Returns the identities removed.
///
/// # Errors
///
/// Not root, or `/run/verona-lab` cannot be read.
pub fn clean() -> Result<Vec<String>> {
    machine::require_privileges()?;
    let _registry = registry_lock()?;
    sweep_abandoned(true)
}

/// A run that was left running on purpose ([`Run::keep`]).
#[derive(Clone, Debug)]
pub struct KeptRun {
    /// See [`Run::id`].
    pub id: String,
    /// See [`Run::dir`].
    pub folder: PathBuf,
    /// Process ids in its namespaces, each with its command line.
    pub processes: Vec<(i32, String)>,
}

/// The runs that were left running, by identity.
///
/// # Errors
///
/// Not root.
pub fn kept() -> Result<Vec<KeptRun>> {
    machine::require_privileges()?;
    // No folder, no runs.
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|folder| folder.join("kept").exists());
    let mut runs: Vec<KeptRun> = folders.map(kept_run).collect();
    runs.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(runs)
}

fn kept_run(folder: PathBuf) -> KeptRun {
    let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let residents = namespaces_of(&id).iter().flat_map(|name| residents_of(name)).collect::<Vec<_>>();
    let line = |pid: Pid| {
        let octets = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&octets).replace('\0', " ").trim().to_owned()
    };
    let processes = residents.into_iter().map(|pid| (pid.as_raw(), line(pid))).collect();
    KeptRun { id, folder, processes }
}

/// Removes one run that was left running.
///
/// # Errors
///
/// Not root, or there is none of that identity.
pub fn take_down(id: &str) -> Result<()> {
    if !kept()?.iter().any(|run| run.id == id) {
        return Err(Error::Environment(format!("no run {id} was left running")));
    }
    let _registry = registry_lock()?;
    sweep(id);
    Ok(())
}

/// Waits until no other process of this machine is between `alone` and dropping its answer.
///
/// Tests that make namespaces and measure times call it first, so that plain `cargo test` with its
/// parallel threads runs them one by one.
///
/// # Errors
///
/// The lock file cannot be made.
pub fn alone() -> Result<Flock<File>> {
    lock_file("alone")
}

/// Takes down one run: processes, namespaces, sockets, directory. Errors are passed over, because this
/// also runs while a panic unwinds, and what is missed the next run's start removes.
pub(crate) fn sweep(id: &str) {
    let names = namespaces_of(id);
    // Asked politely first, so that daemons remove their sockets and write their last records.
    for (signal, limit) in
        [(Signal::SIGTERM, Duration::from_secs(2)), (Signal::SIGKILL, Duration::from_secs(2))]
    {
        let mut residents = Vec::new();
        for name in &names {
            residents.extend(residents_of(name));
        }
        if residents.is_empty() {
            break;
        }
        for pid in &residents {
            // A process that ended meanwhile is what was wanted.
            let _ = kill(*pid, signal);
        }
        let _ = crate::wait::until("processes to end", limit, || {
            names.iter().all(|name| residents_of(name).is_empty())
        });
    }
    for name in &names {
        let _ = Command::new("ip").args(["netns", "del", name]).output();
    }
    if let Ok(entries) = fs::read_dir(UAPI) {
        let suffix = format!("-{id}.sock");
        for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().ends_with(&suffix)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let dir = Path::new(ROOT).join(id);
    for mounted in mounts_below(&dir) {
        let _ = umount2(&mounted, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(dir);
}

/// What [`Run::mount_tmpfs`] has mounted (proc_pid_mountinfo(5): the fifth field).
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

fn sweep_abandoned(kept_too: bool) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(ROOT).map_err(Error::io(format!("read {ROOT}")))?.flatten() {
        if !entry.path().is_dir() || (entry.path().join("kept").exists() && !kept_too) {
            continue;
        }
        // Without a lock file the run died before it made anything.
        let live = File::open(entry.path().join("lock"))
            .is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
        if !live {
            let id = entry.file_name().to_string_lossy().into_owned();
            sweep(&id);
            removed.push(id);
        }
    }
    Ok(removed)
}

/// Processes whose network namespace is `name`, this one left out: a thread of ours may be inside.
fn residents_of(name: &str) -> Vec<Pid> {
    let Ok(wanted) = fs::metadata(Path::new(NETNS).join(name)).map(|m| (m.dev(), m.ino())) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| *pid != std::process::id().cast_signed())
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| (m.dev(), m.ino()) == wanted))
        .map(Pid::from_raw)
        .collect()
}

fn namespaces_of(id: &str) -> Vec<String> {
    let prefix = prefix(id);
    let Ok(entries) = fs::read_dir(NETNS) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

fn prefix(id: &str) -> String {
    format!("verona-{id}-")
}

fn fresh_directory() -> Result<(String, PathBuf)> {
    loop {
        let mut random = [0_u8; 2];
        // SAFETY: the buffer is valid for its length, and getrandom writes no more than that.
        let filled = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
        if filled != 2 {
            return Err(Error::io("draw a random run identity")(std::io::Error::last_os_error()));
        }
        let id = format!("{:04x}", u16::from_be_bytes(random));
        let dir = Path::new(ROOT).join(&id);
        match fs::create_dir(&dir) {
            Ok(()) => return Ok((id, dir)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(format!("create {}", dir.display()))(e)),
        }
    }
}

/// Held while runs are made or removed, so that a run without its lock yet is not taken for a dead one.
fn registry_lock() -> Result<Flock<File>> {
    lock_file("registry")
}

fn lock_file(name: &str) -> Result<Flock<File>> {
    fs::create_dir_all(ROOT).map_err(Error::io(format!("create {ROOT}")))?;
    let path = Path::new(ROOT).join(format!("{name}.lock"));
    let file = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::os(format!("lock {}", path.display()))(errno))
}
