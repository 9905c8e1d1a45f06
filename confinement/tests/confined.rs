//! Each layer from inside: what is allowed works, what is not is refused, and the same is possible unconfined, so
//! that it is the layer which refuses.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const PROBE: &str = env!("CARGO_BIN_EXE_confinement-probe");

/// What a process of this kind says, line by line: the part before the colon, the part after it.
fn probe(kind: &str, folder: &Path, probes: &[String]) -> BTreeMap<String, String> {
    let output = Command::new(PROBE).arg(kind).arg(folder).args(probes).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{kind}: {said}{}", String::from_utf8_lossy(&output.stderr));
    let lines = said.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, answer)| (name.to_owned(), answer.trim().to_owned())).collect()
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn landlock() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(PROBE).arg("everyday").arg(folder.path()).output().unwrap();
    !String::from_utf8(output.stdout).unwrap().contains("not confined")
}

const EPERM: &str = "1";
const EACCES: &str = "13";

#[test]
fn a_packet_mover_starts_threads_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let probes = ["thread", "start=/bin/true", "namespace", "memory", "mount=/proc"].map(String::from);
    let said = probe("packets", folder.path(), &probes);
    assert_eq!(said["thread"], "ok");
    for name in ["start", "namespace", "memory", "mount"] {
        assert_eq!(said[name], EPERM, "{name}: {said:?}");
    }
    let said = probe("free", folder.path(), &["start=/bin/true", "memory"].map(String::from));
    assert_eq!((said["start"].as_str(), said["memory"].as_str()), ("ok", "ok"));
}

#[test]
fn a_packet_mover_reaches_its_own_files_and_no_tcp_and_no_process() {
    if !landlock() {
        eprintln!("this kernel has no Landlock");
        return;
    }
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let secret = other.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let inside = own.path().join("inside");
    let probes = |name: &str| {
        [
            format!("write={}", inside.display()),
            format!("remove={}", inside.display()),
            format!("read={}", secret.display()),
            format!("connect={}", listener.local_addr().unwrap()),
            format!("signal={}", std::process::id()),
            name.to_owned(),
        ]
    };
    let said = probe("packets", own.path(), &probes("status"));
    assert_eq!((said["write"].as_str(), said["remove"].as_str()), ("ok", "ok"), "{said:?}");
    assert_eq!((said["read"].as_str(), said["connect"].as_str()), (EACCES, EACCES), "{said:?}");
    // kill(2) is none of its system calls, and its Landlock domain would refuse as well.
    assert_eq!(said["signal"], EPERM);
    assert_eq!((said["NoNewPrivs"].as_str(), said["Seccomp"].as_str()), ("1", "2"));
    let said = probe("free", own.path(), &probes("status"));
    for name in ["read", "connect", "signal"] {
        assert_eq!(said[name], "ok", "{name}");
    }
}

#[test]
fn everyday_programs_run_and_write_in_their_folder_only() {
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = own.path().join("program");
    std::fs::copy("/bin/true", &program).unwrap();
    let probes = [
        "start=/bin/true".to_owned(),
        "namespace".to_owned(),
        "memory".to_owned(),
        "mount=/proc".to_owned(),
        format!("write={}", other.path().join("f").display()),
        format!("read={}", PROBE),
    ];
    let said = probe("everyday", own.path(), &probes);
    assert_eq!((said["start"].as_str(), said["read"].as_str()), ("ok", "ok"), "{said:?}");
    for name in ["namespace", "memory", "mount"] {
        assert_eq!(said[name], EPERM, "{name}: {said:?}");
    }
    let inside = format!("write={}", own.path().join("f").display());
    assert_eq!(probe("everyday", own.path(), &[inside])["write"], "ok");
    if landlock() {
        assert_eq!(said["write"], EACCES);
        // What it wrote itself is no program.
        let own_program = format!("start={}", program.display());
        assert_eq!(probe("everyday", own.path(), std::slice::from_ref(&own_program))["start"], EACCES);
        assert_eq!(probe("free", own.path(), &[own_program])["start"], "ok");
    }
}

#[test]
fn another_user_with_two_capabilities() {
    if !root() {
        eprintln!("needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let probes = ["status", "raw"].map(String::from);
    let said = probe("user", folder.path(), &probes);
    let two = format!("{:016x}", 1_u64 << 12 | 1 << 5);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(said[set], two, "{set}: {said:?}");
    }
    assert!(!said["Uid"].split_whitespace().any(|uid| uid == "0"), "{said:?}");
    assert!(!said["Gid"].split_whitespace().any(|gid| gid == "0"), "{said:?}");
    assert!(!said["Groups"].split_whitespace().any(|gid| gid == "0"), "{said:?}");
    // Not one of the two: no raw sockets.
    assert_eq!(said["raw"], EPERM);
    assert_eq!(probe("free", folder.path(), &probes)["raw"], "ok");
}
