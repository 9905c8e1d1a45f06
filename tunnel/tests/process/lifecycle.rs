//! Start and end: background and foreground, deletion, signals, a killed predecessor, wg-quick.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::wait;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;

use crate::pair::{
    EDGE_TUNNEL, Implementation, Outer, PATIENCE, Pair, cpu_time, secret_file, sockets_of_ours,
};
use Implementation::{Ours, WireguardGo};

#[test]
fn the_interface_and_the_sockets_exist_when_the_command_returns() {
    let pair = Pair::new();
    let name = &pair.left.interface;
    // No pause between the two: this is the promise.
    let script = format!("{EDGE_TUNNEL} {name} && wg set {name} listen-port 7 && ip link set {name} up");
    for _ in 0..5 {
        pair.left.place.output("sh", &["-c", &script]).unwrap();
        for path in [pair.left.uapi_socket(), pair.left.control_socket()] {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        let link = pair.left.place.output("ip", &["link", "show", name]).unwrap();
        assert!(link.contains("mtu 1420"), "{link}");
        pair.left.place.ip(&format!("link del {name}")).unwrap();
        pair.left.expect_gone();
    }
}

#[test]
fn deleting_the_interface_ends_the_process_with_status_0() {
    let pair = Pair::new();
    for up in [false, true] {
        let mut process = pair.left.start_foreground(&pair.run);
        if up {
            pair.left.bring_up();
        }
        pair.left.place.ip(&format!("link del {}", pair.left.interface)).unwrap();
        assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(0), "up: {up}");
        pair.left.expect_gone();
    }
}

#[test]
fn sigterm_and_sigint_end_it_cleanly() {
    let pair = Pair::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut process = pair.left.start_foreground(&pair.run);
        pair.left.bring_up();
        process.signal(signal).unwrap();
        assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(0), "{signal}");
        pair.left.expect_gone();
    }
}

#[test]
fn after_kill_9_a_new_process_takes_over_the_name() {
    let pair = Pair::new();
    pair.right.start(WireguardGo);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    for last in [false, false, true] {
        let mut process = pair.left.start_foreground(&pair.run);
        pair.configure(&pair.left, &pair.right, Some(Outer::V4));
        pair.left.bring_up();
        pair.expect_traffic();
        if last {
            process.stop();
            pair.left.expect_gone();
        } else {
            process.crash().unwrap();
            assert!(pair.left.uapi_socket().exists(), "a killed process cannot clean up");
        }
    }
}

#[test]
fn a_failed_start_says_why_in_one_line_and_leaves_nothing() {
    let pair = Pair::new();
    let name = pair.left.interface.as_str();
    pair.left.start(Ours);
    let other = pair.run.interface("x");
    let in_no_folder = ["--control", "/proc/none/x.sock", other.as_str()];
    let table: &[(&[&str], &str)] = &[
        (&[name], "in use"),
        (&["--foreground", name], "in use"),
        (&["eth0"], "eth0"),
        (&["a/b"], "cannot name an interface"),
        (&["sixteen-octets-x"], "cannot name an interface"),
        (&["--mtu", "100", "x"], "576"),
        (&in_no_folder, "/proc/none/x.sock"),
    ];
    for (arguments, part) in table {
        let output = pair.left.place.command(EDGE_TUNNEL).args(*arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(error.contains(part), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    let mut command = pair.left.place.command(EDGE_TUNNEL);
    let output = command.args([&other]).env("LOG_LEVEL", "loud").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("LOG_LEVEL"), "{output:?}");
    assert!(pair.left.place.ip(&format!("link show {other}")).is_err());
    // The first one is unharmed.
    pair.left.set(&["listen-port", "9"]);
}

#[test]
fn a_second_interface_of_the_same_name_in_another_namespace_respects_the_socket() {
    let pair = Pair::new();
    pair.left.start(Ours);
    let output = pair.right.place.command(EDGE_TUNNEL).arg(&pair.left.interface).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("in use by another process"), "{error}");
    assert!(pair.right.place.ip(&format!("link show {}", pair.left.interface)).is_err());
    pair.left.set(&["listen-port", "9"]);
}

#[test]
fn sockets_are_open_exactly_while_the_interface_is_up() {
    let pair = Pair::new();
    pair.left.start(Ours);
    pair.left.set(&["listen-port", "4712"]);
    let sockets = || pair.left.place.output("ss", &["-Hnlu", "sport", "=", ":4712"]).unwrap().lines().count();
    assert_eq!(sockets(), 0);
    assert_eq!(pair.left.show("listen-port"), "4712");
    let name = &pair.left.interface;
    for _ in 0..2 {
        pair.left.place.ip(&format!("link set {name} up")).unwrap();
        wait::until("its sockets", PATIENCE, || sockets() == sockets_of_ours()).unwrap();
        pair.left.place.ip(&format!("link set {name} down")).unwrap();
        wait::until("no socket", PATIENCE, || sockets() == 0).unwrap();
    }
    // A port that is taken is reported at once while up, and tried again after "up" otherwise.
    let taken = pair.left.place.enter(|| std::net::UdpSocket::bind("0.0.0.0:4713").unwrap()).unwrap();
    pair.left.set(&["listen-port", "4713"]);
    pair.left.place.ip(&format!("link set {name} up")).unwrap();
    drop(taken);
    let bound = || pair.left.place.output("ss", &["-Hnlu", "sport", "=", ":4713"]).unwrap().lines().count();
    wait::until("its sockets", PATIENCE, || bound() == sockets_of_ours()).unwrap();
}

#[test]
fn nothing_spins_while_nothing_happens() {
    let pair = Pair::new();
    let process = pair.left.start_foreground(&pair.run);
    let name = pair.left.interface.clone();
    let inside = pair.run.namespace("inside").unwrap();
    let states: [(&str, &dyn Fn()); 4] = [
        ("down", &|| {}),
        ("up", &|| pair.left.bring_up()),
        ("moved", &|| {
            pair.left.place.ip(&format!("link set {name} netns {}", inside.name())).unwrap();
        }),
        ("moved and up", &|| inside.ip(&format!("link set {name} up")).unwrap()),
    ];
    for (state, enter) in states {
        enter();
        let before = cpu_time(process.pid());
        // The one place where time itself is the input: a spinning thread uses all of it.
        std::thread::sleep(Duration::from_millis(1500));
        let used = cpu_time(process.pid()) - before;
        assert!(used < Duration::from_millis(150), "{state}: {used:?} of CPU in 1.5 s");
    }
}

#[test]
fn descriptors_of_a_parent_are_taken_over() {
    let pair = Pair::new();
    let tun = pair.left.place.enter(|| open_tun(&pair.left.interface)).unwrap();
    std::fs::create_dir_all("/var/run/wireguard").unwrap();
    let listener = UnixListener::bind(pair.left.uapi_socket()).unwrap();
    let mut command = pair.left.place.command(EDGE_TUNNEL);
    command.args(["-f", &pair.left.interface]);
    command.env("WG_TUN_FD", tun.as_raw_fd().to_string());
    command.env("WG_UAPI_FD", listener.as_raw_fd().to_string());
    for fd in [tun.as_fd(), listener.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let mut process = pair.run.start_process("heir", command).unwrap();
    process.wait_for_log("is ready", PATIENCE).unwrap();
    drop((tun, listener));
    pair.left.set(&["listen-port", "4714"]);
    assert_eq!(pair.left.show("listen-port"), "4714");
    process.stop();
    pair.left.expect_gone();

    for variable in ["WG_TUN_FD", "WG_UAPI_FD"] {
        for value in ["99", "0", "x", "-1"] {
            let mut command = pair.left.place.command(EDGE_TUNNEL);
            let output = command.args(["-f", &pair.left.interface]).env(variable, value).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && error.contains(variable), "{variable}={value}: {error}");
        }
    }
}

fn open_tun(name: &str) -> OwnedFd {
    let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: `ifreq` is a C structure of integers and a union of such; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF takes an `ifreq`, which lives for the whole call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    file.into()
}

#[test]
fn a_relative_control_path_is_removed_from_where_it_was_made() {
    let pair = Pair::new();
    let mut command = pair.left.place.command(EDGE_TUNNEL);
    command.current_dir(pair.run.dir()).args(["--control", "here.sock", &pair.left.interface]);
    assert!(command.output().unwrap().status.success());
    let path = pair.run.dir().join("here.sock");
    assert!(path.exists());
    pair.left.place.ip(&format!("link del {}", pair.left.interface)).unwrap();
    wait::until("the socket to go", PATIENCE, || !path.exists()).unwrap();
}

/// Runs wg-quick as on a kernel without WireGuard, whatever the kernel has: its copy finds first an
/// `ip` that knows no such link type, and sees an empty /sys/module.
#[test]
fn wg_quick_brings_it_up_and_down() {
    let pair = Pair::new();
    pair.right.start(WireguardGo);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();

    let folder = pair.run.dir().join("bin");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy("/usr/bin/wg-quick", folder.join("wg-quick")).unwrap();
    let ip = folder.join("ip");
    std::fs::write(
        &ip,
        "#!/bin/sh\ncase \"$*\" in *'type wireguard'*) exit 1;; esac\nexec /sbin/ip \"$@\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&ip, PermissionsExt::from_mode(0o755)).unwrap();

    let key = std::fs::read_to_string(&pair.left.key_file).unwrap();
    let psk = std::fs::read_to_string(pair.run.dir().join("psk")).unwrap();
    let config = format!(
        "[Interface]\nPrivateKey = {key}\nListenPort = 51820\nAddress = 10.9.0.1/24, fd09::1/64\nMTU = 1400\n\
         FwMark = 0x22\n[Peer]\nPublicKey = {}\nPresharedKey = {psk}\nEndpoint = {}\n\
         AllowedIPs = 10.9.0.0/24, fd09::/64\nPersistentKeepalive = 25\n",
        pair.right.public_key,
        pair.right.endpoint(Outer::V4),
    );
    let config = secret_file(&pair.run, &format!("{}.conf", pair.left.interface), &config);
    let quick = |verb: &str| {
        let script = "mount -t tmpfs none /sys/module && exec \"$0\" \"$@\"";
        let mut command: Command = pair.left.place.command("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(folder.join("wg-quick")).arg(verb).arg(&config);
        command.env("WG_QUICK_USERSPACE_IMPLEMENTATION", EDGE_TUNNEL).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    quick("up");
    pair.expect_traffic();
    assert_eq!(pair.left.show("fwmark"), "0x22");
    assert!(pair.left.show("persistent-keepalive").ends_with("25"));
    let link = pair.left.place.output("ip", &["link", "show", &pair.left.interface]).unwrap();
    assert!(link.contains("mtu 1400"), "{link}");
    quick("down");
    pair.left.expect_gone();
}
