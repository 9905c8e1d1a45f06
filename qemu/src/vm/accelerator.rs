//! Which accelerator QEMU can really use here. `/dev/kvm` may be there and not work, so it is asked to run something.

use super::OVMF_CODE;
use crate::{Error, Result, wait};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs};

/// Forces the choice: `kvm` or `tcg`.
const VARIABLE: &str = "VERONA_LAB_ACCELERATOR";
/// A working KVM runs the probe in two seconds.
const PROBE: Duration = Duration::from_secs(15);
/// Where the probe's result is kept until the machine is switched off.
const MEMORY: &str = "/run/verona-lab/accelerator";

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation: everywhere, some ten times slower.
    Tcg,
}

impl Accelerator {
    /// What works on this machine, probed once.
    ///
    /// # Errors
    ///
    /// `VERONA_LAB_ACCELERATOR` is set to something else than `kvm` or `tcg`.
    pub fn of_host() -> Result<Self> {
        static PROBED: OnceLock<Accelerator> = OnceLock::new();
        if let Some(forced) = env::var_os(VARIABLE) {
            return Self::named(&forced.to_string_lossy());
        }
        Ok(*PROBED.get_or_init(|| if remembered() { Self::Kvm } else { Self::Tcg }))
    }

    fn named(name: &str) -> Result<Self> {
        match name {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            other => Err(Error::Environment(format!("{VARIABLE} must be kvm or tcg, not {other}"))),
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        }
    }

    pub(crate) const fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }
}

/// What an earlier process found: this machine does not change while it is up.
fn remembered() -> bool {
    let found = Path::new(MEMORY);
    if let Ok(name) = fs::read_to_string(found) {
        return name == Accelerator::Kvm.name();
    }
    let runs = kvm_runs();
    let name = if runs { Accelerator::Kvm } else { Accelerator::Tcg }.name();
    // Only a convenience: without it the next process probes again.
    let _ = found.parent().map(fs::create_dir_all);
    let _ = fs::write(found, name);
    runs
}

/// Has UEFI run under KVM in an empty machine until it looks for something to boot. A BIOS is not enough: there are
/// hosts whose KVM runs that and then fails at the first unusual instruction.
fn kvm_runs() -> bool {
    if !Path::new("/dev/kvm").exists() {
        return false;
    }
    let child = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "kvm"])
        .args(["-cpu", "max", "-m", "128", "-smp", "2", "-serial", "stdio", "-drive"])
        .arg(format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let boots = child.stdout.take().map(|output| std::thread::spawn(move || looks_for_a_system(output)));
    let ran = boots.is_some_and(|boots| {
        wait::until("UEFI under KVM", PROBE, || boots.is_finished()).is_ok() && boots.join().unwrap_or(false)
    });
    let _ = child.kill();
    let _ = child.wait();
    ran
}

fn looks_for_a_system(console: ChildStdout) -> bool {
    let mut lines = BufReader::new(console).split(b'\n').map_while(std::result::Result::ok);
    lines.any(|line| String::from_utf8_lossy(&line).contains("BdsDxe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_choice_must_be_one() {
        assert_eq!(Accelerator::named("kvm").unwrap(), Accelerator::Kvm);
        assert_eq!(Accelerator::named("tcg").unwrap(), Accelerator::Tcg);
        assert_eq!(
            Accelerator::named("hvf").unwrap_err().to_string(),
            "VERONA_LAB_ACCELERATOR must be kvm or tcg, not hvf"
        );
    }
}
