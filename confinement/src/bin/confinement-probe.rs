//! For the tests: confines itself as its first argument says, tries what the others say, and tells what the kernel
//! answered. Is no part of the box.

use confinement::{Account, Capability, CapabilitySet, Confinement, Files, Reading, SystemCalls};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("confinement-probe KIND FOLDER PROBE[=ARGUMENT]…");
        return ExitCode::from(2);
    };
    if let Some(confinement) = kept(&kind, &folder) {
        match confinement.enter() {
            Ok(report) => println!("{report}"),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    for probe in arguments {
        let (name, argument) = probe.split_once('=').unwrap_or((&probe, ""));
        match attempt(name, argument) {
            Ok(()) => println!("{name}: ok"),
            Err(error) => println!("{name}: {}", error.raw_os_error().unwrap_or(-1)),
        }
    }
    ExitCode::SUCCESS
}

/// None: not confined at all.
fn kept(kind: &str, folder: &str) -> Option<Confinement> {
    let folder = PathBuf::from(folder);
    let account = match kind {
        "user" => Account::named("nobody").ok(),
        _ => None,
    };
    let starting = ["/bin", "/usr", "/lib", "/lib64"].map(PathBuf::from).to_vec();
    match kind {
        "everyday" | "user" => Some(Confinement {
            account,
            capabilities: CapabilitySet::of(&[Capability::NetAdmin, Capability::Kill]),
            files: Files { reading: Reading::Anything, writing: vec![folder, "/dev/null".into()], starting },
            system_calls: SystemCalls::Everyday,
        }),
        "packets" => Some(Confinement {
            account,
            capabilities: CapabilitySet::of(&[Capability::NetAdmin]),
            files: Files {
                reading: Reading::Only(vec!["/proc".into()]),
                writing: vec![folder],
                starting: Vec::new(),
            },
            system_calls: SystemCalls::PacketMover,
        }),
        _ => None,
    }
}

fn attempt(name: &str, argument: &str) -> io::Result<()> {
    match name {
        "read" => std::fs::read(argument).map(drop),
        "write" => std::fs::write(argument, b"x"),
        "remove" => std::fs::remove_file(argument),
        "start" => Command::new(argument).status().map(drop),
        "thread" => {
            std::thread::Builder::new().spawn(|| ())?.join().map_err(|_| io::Error::other("panicked"))
        }
        "connect" => TcpStream::connect(argument).map(drop),
        "signal" => Ok(kill(Pid::from_raw(argument.parse().unwrap_or(0)), None)?),
        "namespace" => Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?),
        "mount" => Ok(nix::mount::umount(argument)?),
        "memory" => {
            let (from, mut to) = ([1_u8], [0_u8]);
            let remote = nix::sys::uio::RemoteIoVec { base: from.as_ptr() as usize, len: 1 };
            let local = &mut [io::IoSliceMut::new(&mut to)];
            Ok(nix::sys::uio::process_vm_readv(Pid::this(), local, &[remote]).map(drop)?)
        }
        "raw" => {
            use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
            let icmp = Some(SockProtocol::Icmp);
            Ok(socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), icmp).map(drop)?)
        }
        "status" => {
            let status = std::fs::read_to_string("/proc/self/status")?;
            let wanted = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:"];
            for line in status.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))) {
                println!("{line}");
            }
            Ok(())
        }
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}
