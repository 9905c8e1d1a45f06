//! What the demo and the tests want of the machine: root, TUN devices, some Debian packages.
//!
//! Missing packages are installed; everything else is only said plainly, before any work is done.

use crate::{Error, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs, or files, and the Debian 12 packages they come from.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
    ("cc", "build-essential"),
    ("softhsm2-util", "softhsm2"),
    ("sfdisk", "fdisk"),
    ("mkfs.fat", "dosfstools"),
    ("mcopy", "mtools"),
    ("bg_setenv", "efibootguard"),
    ("veritysetup", "cryptsetup-bin"),
    ("dnsmasq", "dnsmasq-base"),
    ("busybox", "busybox-static"),
    ("radvd", "radvd"),
    ("kea-dhcp6", "kea-dhcp6-server"),
    ("pppd", "ppp"),
    ("pppoe-server", "pppoe"),
    ("faketime", "faketime"),
    ("chronyd", "chrony"),
    ("chromium-headless-shell", "chromium-headless-shell"),
    ("/usr/share/fonts/truetype/vlgothic/VL-Gothic-Regular.ttf", "fonts-vlgothic"),
    ("strace", "strace"),
    ("rsyslogd", "rsyslog"),
    ("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so", "rsyslog-gnutls"),
    ("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so", "rsyslog-openssl"),
    // The firmware image is built and booted: what makes it comes by apt into a cache of the builder's own.
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("genisoimage", "genisoimage"),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    // Power cuts are replayed from a log of a disk's writes.
    ("qemu-storage-daemon", "qemu-system-common"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// What the benchmark wants beyond that.
const NEEDED_TO_MEASURE: &[(&str, &str)] = &[("iperf3", "iperf3")];

/// Checks for root and for TUN devices.
///
/// # Errors
///
/// One of them is missing; the message says what to do.
pub fn require_privileges() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Environment(
            "network namespaces, TUN devices and nftables need root: run this as root, for example in a \
             virtual machine, or by `sudo -E env PATH=\"$PATH\" cargo lab …`"
                .to_owned(),
        ));
    }
    std::fs::File::options().read(true).write(true).open("/dev/net/tun").map(drop).map_err(|e| {
        Error::Environment(format!(
            "cannot open /dev/net/tun ({e}): load the module by `modprobe tun`, or in a container pass \
             --device /dev/net/tun --cap-add NET_ADMIN --cap-add SYS_ADMIN"
        ))
    })
}

/// Installs the Debian packages that are missing, saying which; with `install` false it only says so and fails.
///
/// # Errors
///
/// Something is missing and must not or cannot be installed.
pub fn ensure_packages(install: bool) -> Result<()> {
    ensure(NEEDED, install)
}

/// As [`ensure_packages`], for what only the benchmark needs.
///
/// # Errors
///
/// As for [`ensure_packages`].
pub fn ensure_bench_packages(install: bool) -> Result<()> {
    ensure(NEEDED_TO_MEASURE, install)
}

/// Where an installed program is.
///
/// # Errors
///
/// It is not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| Error::Environment(format!("{name} is not installed")))
}

fn ensure(needed: &[(&str, &'static str)], install: bool) -> Result<()> {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !install {
        return Err(Error::Environment(format!(
            "missing Debian packages: {list}; install them with `apt-get install {list}`, or leave out --no-install"
        )));
    }
    if find("apt-get").is_none() {
        return Err(Error::Environment(format!(
            "missing programs of the Debian packages: {list}; there is no apt-get here, install them by hand"
        )));
    }
    eprintln!("lab: installing Debian packages: {list}");
    apt_get(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments)
}

/// The packages whose programs are not on the path.
fn missing(needed: &[(&str, &'static str)]) -> Vec<&'static str> {
    needed.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect()
}

/// A file by its path, or a program by its name.
fn is_there(needed: &str) -> bool {
    if needed.starts_with('/') { Path::new(needed).exists() } else { find(needed).is_some() }
}

/// Where `program` is; root's directories count even if the path leaves them out.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into))
        .map(|directory| directory.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(arguments)
        // Its chatter belongs to the progress, not to the figures on standard output.
        .stdout(std::io::stderr())
        .status()
        .map_err(Error::io("run apt-get"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Environment(format!("`apt-get {}` failed ({status})", arguments.join(" "))))
}
