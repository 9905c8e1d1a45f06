//! Virtual machines by QEMU: a booted firmware image in place of the edge's processes.
//!
//! A [`Machine`] belongs to a run like any other process: it lives in one of the run's namespaces, where its
//! network cards are taps, and goes with the run. Its disk is a layer over an image that is never written, so that a
//! power cut, a snapshot and a second machine of the same image cost nothing. It is driven from outside only, by the
//! serial console ([`Console`]) and by QMP ([`Qmp`]): nothing in the image is there for the tests.

mod accelerator;
mod console;
mod disk;
mod qmp;
mod uefi;

pub use accelerator::Accelerator;
pub use console::Console;
pub use disk::{Disk, copy_image};
pub use qmp::Qmp;
pub use uefi::{OVMF_CODE, OVMF_CODE_SECURE, OVMF_VARS, enrolled_variables, factory_variables};

use crate::{Error, Namespace, Process, Result, wait};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long QEMU may take to answer on its sockets.
const QEMU_READY: Duration = Duration::from_secs(20);

/// How a machine starts.
#[derive(Clone, Debug)]
pub enum Boot {
    /// QEMU loads the kernel itself: the fastest way, past firmware and boot chooser.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// Its initramfs.
        initramfs: PathBuf,
        /// Its command line.
        command_line: String,
    },
    /// UEFI, and from the disk's `esp` on whatever the image says.
    Uefi {
        /// The machine's own copy of the firmware's variables, written to.
        variables: PathBuf,
    },
    /// The same by UEFI that checks signatures by the keys in its variables ([`enrolled_variables`]).
    SecureUefi {
        /// See [`Boot::Uefi`].
        variables: PathBuf,
    },
}

/// A network card of a machine, joined to a tap in the machine's namespace.
#[derive(Clone, Debug)]
pub struct Card {
    /// The tap.
    pub tap: &'static str,
    /// The card's address.
    pub mac: &'static str,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// The name of its logs and sockets in the run.
    pub name: String,
    /// How it starts.
    pub boot: Boot,
    /// Its disk.
    pub disk: Disk,
    /// MiB.
    pub memory: u32,
    /// In the order in which the guest counts them.
    pub cards: Vec<Card>,
    /// Further options of QEMU, such as a second disk.
    pub options: Vec<String>,
}

/// A system's memory, in octets, as `free` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel has to give, itself left out.
    pub total: u64,
    /// What a new program could have without swapping.
    pub available: u64,
}

/// A running machine. Dropping it cuts its power.
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// QEMU.
    pub process: Process,
    /// The serial console.
    pub console: Console,
    /// The monitor.
    pub qmp: Qmp,
}

impl Machine {
    /// Starts a machine in `place`, whose taps are there already.
    ///
    /// # Errors
    ///
    /// QEMU does not come up; the end of its log is in the error.
    pub fn start(place: &Namespace, hardware: &Hardware) -> Result<Self> {
        let run = place.run();
        let at = |kind: &str| run.dir().join(format!("{}.{kind}", hardware.name));
        let (console, monitor, log) = (at("serial"), at("qmp"), at("console"));
        for stale in [&console, &monitor] {
            let _ = std::fs::remove_file(stale);
        }
        let begin = console::length(&log);
        let mut command = place.command("qemu-system-x86_64");
        common(&mut command, Accelerator::of_host()?, hardware);
        let (socket, log_path) = (console.display(), log.display());
        command.arg("-chardev").arg(format!(
            "socket,id=console,path={socket},server=on,wait=off,logfile={log_path},logappend=on"
        ));
        command.args(["-serial", "chardev:console"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        let mut process = run.start_process(&hardware.name, command)?;
        let qmp = wait::for_value("QEMU's monitor", QEMU_READY, || {
            process.must_run()?;
            Ok(Qmp::connect(&monitor).ok())
        })?;
        let console = Console::open(&console, log, begin)?;
        Ok(Self { name: hardware.name.clone(), process, console, qmp })
    }

    /// The name of its logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until the console has shown `text` since the machine started.
    ///
    /// # Errors
    ///
    /// It has not within `limit`, or QEMU ended; the end of the console is in the error.
    pub fn wait_for_console(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.wait_for(&format!("`{text}` on the console"), limit, |console| console.contains(text))
    }

    /// Waits until `condition` holds for what the console has shown since the machine started.
    ///
    /// # Errors
    ///
    /// As for [`Machine::wait_for_console`].
    pub fn wait_for(&mut self, what: &str, limit: Duration, condition: impl Fn(&str) -> bool) -> Result<()> {
        let waited = wait::for_value(what, limit, || {
            if condition(&self.console.text()) {
                return Ok(Some(()));
            }
            self.process.must_run().map(|()| None)
        });
        waited.map_err(|error| match error {
            Error::Deadline { what, waited } => {
                Error::Deadline { what: format!("{what}; its end:\n{}", self.console.tail()), waited }
            }
            other => other,
        })
    }

    /// Keeps memory, devices and disk as `name` within the disk.
    ///
    /// # Errors
    ///
    /// QEMU refuses.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.qmp.monitor(&format!("savevm {name}"))
    }

    /// Goes back to what [`Machine::save`] kept.
    ///
    /// # Errors
    ///
    /// QEMU refuses.
    pub fn load(&mut self, name: &str) -> Result<()> {
        self.qmp.monitor(&format!("loadvm {name}"))
    }

    /// What the system says of its memory, by the balloon's statistics.
    ///
    /// # Errors
    ///
    /// It has no driver for them, or says nothing within `limit`.
    pub fn memory(&mut self, limit: Duration) -> Result<Memory> {
        let balloon = |property: &str| json!({ "path": "/machine/peripheral/balloon", "property": property });
        let mut every_second = balloon("guest-stats-polling-interval");
        every_second["value"] = 1.into();
        self.qmp.execute("qom-set", &every_second)?;
        wait::for_value("the machine's word on its memory", limit, || {
            let told = self.qmp.execute("qom-get", &balloon("guest-stats"))?;
            let octets = |name: &str| told["stats"][name].as_u64().filter(|octets| *octets != u64::MAX);
            let (total, available) = (octets("stat-total-memory"), octets("stat-available-memory"));
            Ok(total.zip(available).map(|(total, available)| Memory { total, available }))
        })
    }

    /// Resets it, as its button does.
    ///
    /// # Errors
    ///
    /// QEMU does not answer.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp.execute("system_reset", &json!({})).map(drop)
    }

    /// Presses its power button for a moment.
    ///
    /// # Errors
    ///
    /// QEMU does not answer.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Waits until the system has switched the machine off by itself.
    ///
    /// # Errors
    ///
    /// It has not within `limit`, or QEMU failed.
    pub fn switched_off(&mut self, limit: Duration) -> Result<()> {
        let status = self.process.wait(limit)?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Environment(format!("QEMU ended with {status}")))
    }

    /// Cuts its power: whatever the guest has not flushed is lost.
    ///
    /// # Errors
    ///
    /// It was off already.
    pub fn cut_power(&mut self) -> Result<()> {
        self.process.crash()
    }
}

fn common(command: &mut Command, accelerator: Accelerator, hardware: &Hardware) {
    // What Secure Boot rests on must be out of reach of the system that is started.
    let machine = if matches!(hardware.boot, Boot::SecureUefi { .. }) { "q35,smm=on" } else { "q35" };
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", machine]);
    command.args(["-accel", accelerator.option(), "-cpu", "max", "-smp", "2"]);
    command.arg("-m").arg(hardware.memory.to_string());
    command.args(["-object", "rng-random,id=entropy,filename=/dev/urandom"]);
    command.args(["-device", "virtio-rng-pci,rng=entropy", "-device", "i6300esb"]);
    command.args(["-device", "virtio-balloon-pci,id=balloon"]);
    match &hardware.boot {
        Boot::Direct { kernel, initramfs, command_line } => {
            command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).arg("-append").arg(command_line);
        }
        Boot::Uefi { variables } => flash(command, OVMF_CODE, variables),
        Boot::SecureUefi { variables } => {
            command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            command.args(["-global", "ICH9-LPC.disable_s3=1"]);
            flash(command, OVMF_CODE_SECURE, variables);
        }
    }
    let disk = hardware.disk.path().display();
    command.arg("-drive").arg(format!("if=none,id=disk,format=qcow2,discard=unmap,file={disk}"));
    command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
    for Card { tap, mac } in &hardware.cards {
        command.arg("-netdev").arg(format!("tap,id={tap},ifname={tap},script=no,downscript=no"));
        command.arg("-device").arg(format!("virtio-net-pci,netdev={tap},mac={mac},romfile="));
    }
    command.args(&hardware.options);
}

/// The two flash memories of UEFI.
fn flash(command: &mut Command, code: &str, variables: &Path) {
    command.arg("-drive").arg(format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"));
    command.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", variables.display()));
}
