//! Another kernel for tests, when this machine's lacks what they need: PPP, tunnels of IPv4 in IPv6, VLANs, CAKE.
//!
//! A [`rerun`] boots Debian's ordinary kernel, with all of its modules, in QEMU on this machine's own files, read-only
//! under a layer in memory, and runs tests of the running program in there. So they use the same programs and the same
//! namespaces as every other test; only the kernel is another one.

mod kernel;

use crate::vm::Accelerator;
use crate::{Error, Result, Run};
use kernel::Kernel;
use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// MiB: the layer in memory holds what tests write.
const MEMORY: &str = "1536";
/// What the script writes when the tests are over, and their status after it.
const OVER: &str = "verona-guest: status ";

/// Runs the ignored tests `names` of the running program in a guest, one by one, and gives what they printed.
///
/// # Errors
///
/// A test failed, or did not end within `limit`; no kernel could be fetched; QEMU failed. The end of the console is in
/// the error.
pub fn rerun(run: &Run, names: &[&str], limit: Duration) -> Result<String> {
    let kernel = Kernel::fetch()?;
    let program = env::current_exe().map_err(Error::io("find the running program"))?;
    let share = run.dir().join("guest");
    std::fs::create_dir_all(&share).map_err(Error::io("make a folder for the guest"))?;
    let script = share.join("run");
    std::fs::write(&script, commands(&kernel, &program, names)).map_err(Error::io("write its commands"))?;
    let initramfs = kernel.initramfs(&share, &script)?;
    let mut machine = run.start_process("guest", machine(&kernel, &initramfs)?)?;
    machine.wait_for("the tests in the guest", limit, |console| console.contains(OVER))?;
    let console = machine.log();
    if console.contains(&format!("{OVER}0")) {
        return Ok(console);
    }
    let lines: Vec<_> = console.lines().rev().take(100).collect();
    let end: Vec<_> = lines.into_iter().rev().collect();
    Err(Error::Environment(format!("tests in the guest failed:\n{}", end.join("\n"))))
}

fn machine(kernel: &Kernel, initramfs: &Path) -> Result<Command> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-machine", "q35"]);
    command.args(["-accel", Accelerator::of_host()?.option(), "-cpu", "max", "-smp", "2", "-m", MEMORY]);
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1 loglevel=3", "-serial", "stdio"]);
    command.args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]);
    command.args(["-object", "rng-random,id=entropy,filename=/dev/urandom"]);
    command.args(["-device", "virtio-rng-pci,rng=entropy"]);
    Ok(command)
}

/// What the guest's first process runs, once this machine's files are its root.
fn commands(kernel: &Kernel, program: &Path, names: &[&str]) -> String {
    let tests = names.join(" ");
    let program = program.display();
    let folder = env::current_dir().unwrap_or_else(|_| "/".into());
    format!(
        "mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/net /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mkdir -p /lib/modules
mount --bind {modules} /lib/modules
for module in {wanted}; do busybox modprobe $module || echo \"no module $module\"; done
ip link set lo up
cd {folder}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
{program} --ignored --exact --nocapture --test-threads 1 {tests} </dev/null 2>&1
echo \"{OVER}$?\"
sync
echo o > /proc/sysrq-trigger
sleep 60
",
        modules = kernel.modules().display(),
        folder = folder.display(),
        wanted = kernel::FOR_TESTS.join(" "),
    )
}
