//! Signer and serving process as two users: who reaches the socket, who reads the keys. Needs root.

use crate::fixture::{BINARY, Center, ready};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

const SIGNER: u32 = 61_001;
const WEB: u32 = 61_002;
const STRANGER: u32 = 61_003;

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn run_as(user: u32, program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).uid(user).gid(user).output().unwrap()
}

/// A center whose signer and serving process belong to two users; the socket has a directory of its own.
fn apart() -> Center {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (binary, socket) = (at("verona-center"), at("run/sign.sock"));
    std::fs::copy(BINARY, &binary).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}");
    let made = Command::new(BINARY).args(["init", "--data"]).arg(at("c")).args(["--url", &url]).output();
    assert!(made.unwrap().status.success());
    std::fs::create_dir(at("run")).unwrap();
    for (path, bits) in [("", 0o755), ("c", 0o711), ("run", 0o755), ("verona-center", 0o755)] {
        mode(&at(path), bits);
    }
    for (path, user) in [("c/signer", SIGNER), ("run", SIGNER), ("c/web", WEB)] {
        give(&at(path), user);
    }
    let mut sign = Command::new(&binary);
    sign.arg("sign").arg("--data").arg(at("c/signer")).arg("--socket").arg(&socket);
    sign.args(["--allow-uid", &WEB.to_string()]).uid(SIGNER).gid(SIGNER);
    let signer = ready(&mut sign, "signing on", &at("sign.log"));
    let mut serve = Command::new(&binary);
    serve.arg("serve").arg("--data").arg(at("c/web")).arg("--signer").arg(&socket);
    serve.arg("--listen").arg(format!("127.0.0.1:{port}")).uid(WEB).gid(WEB);
    let server = ready(&mut serve, "listening on", &at("serve.log"));
    Center { directory, port, signer, server }
}

#[test]
fn the_signer_listens_to_the_allowed_user_only() {
    if !nix::unistd::geteuid().is_root() {
        println!("not run: only root can start processes as other users");
        return;
    }
    let center = apart();
    let owner = center.owner("A", "10.8.0.0/24");
    let (_, code) = center.client(&owner, "alice", &[]);
    center.enrolled_client(&code);

    let socket = center.path("run/sign.sock");
    let ask = |user| {
        let arguments =
            ["-s", "--http0.9", "-m", "5", "--unix-socket", socket.to_str().unwrap(), "http://c/"];
        String::from_utf8_lossy(&run_as(user, "curl", &arguments).stdout).into_owned()
    };
    // curl speaks HTTP, which is no request: whoever is let in is told so.
    for user in [WEB, SIGNER, 0] {
        assert!(ask(user).starts_with("{\"Err\":\"request: "), "user {user}: {}", ask(user));
    }
    assert_eq!(ask(STRANGER), "");
    let log = std::fs::read_to_string(center.path("sign.log")).unwrap();
    assert!(log.contains("connection by another user refused"), "{log}");

    let keys = center.path("c/signer/keys");
    for user in [WEB, STRANGER] {
        assert!(
            !run_as(user, "ls", &[keys.to_str().unwrap()]).status.success(),
            "user {user} reads the keys"
        );
    }
    assert!(run_as(SIGNER, "ls", &[keys.to_str().unwrap()]).status.success());
    let web = center.path("c/web");
    assert!(
        !run_as(SIGNER, "ls", &[web.to_str().unwrap()]).status.success(),
        "the signer reads the database"
    );
}
