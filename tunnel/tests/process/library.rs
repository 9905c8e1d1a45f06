//! The data plane as a library, as the Verona Client uses it.

use std::time::Duration;

use edge_tunnel::{
    AllowedIpUpdate, ConfigureError, Device, DeviceConfig, DeviceUpdate, PeerUpdate, Secret, StartError,
    StopReason, Stopped, Transaction, UapiSocket,
};
use lab::wait;

use crate::pair::{End, Implementation, Outer, PATIENCE, Pair};

fn start(end: &End, uapi: Option<UapiSocket>) -> Result<Device, StartError> {
    let config = DeviceConfig { uapi, ..DeviceConfig::new(end.interface.parse().unwrap()) };
    // The device belongs to the namespace of the thread that starts it.
    end.place.enter(|| Device::start(config)).unwrap()
}

fn one_peer(pair: &Pair) -> Transaction {
    let secret = |path| std::fs::read_to_string(path).unwrap().parse::<Secret>().unwrap();
    let networks = [format!("{}/32", pair.right.inner_v4()), format!("{}/128", pair.right.inner_v6())];
    let peer = PeerUpdate {
        endpoint: Some(pair.right.endpoint(Outer::V4).parse().unwrap()),
        preshared_key: Some(Some(secret(pair.run.dir().join("psk")))),
        allowed_ips: networks.map(|network| AllowedIpUpdate::Add(network.parse().unwrap())).to_vec(),
        ..PeerUpdate::new(pair.right.public_key.parse().unwrap())
    };
    let private_key = Some(Some(secret(pair.left.key_file.clone())));
    DeviceUpdate { private_key, peers: vec![peer], ..DeviceUpdate::default() }.into()
}

#[test]
fn a_device_in_this_process_talks_to_wireguard_go() {
    let pair = Pair::new();
    pair.right.start(Implementation::WireguardGo);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();

    let device = start(&pair.left, None).unwrap();
    assert!(!pair.left.uapi_socket().exists(), "nobody asked for UAPI");
    let handle = device.handle().clone();
    handle.configure(one_peer(&pair)).unwrap();
    pair.left.bring_up();
    pair.expect_traffic();

    let snapshot = handle.snapshot().unwrap();
    assert_ne!(snapshot.listen_port, 0);
    let [peer] = &snapshot.device.peers[..] else { panic!("not one peer") };
    assert!(peer.last_handshake.is_some() && peer.rx_bytes > 0 && peer.tx_bytes > 0);
    assert_eq!(handle.status().unwrap().public_key.unwrap().to_string(), pair.left.public_key);
    let events = handle.subscribe().unwrap().unwrap();
    // Plain mode has no news to tell.
    assert_eq!(events.next(Duration::from_millis(100)).unwrap(), None);

    assert!(matches!(device.shutdown(), StopReason::Requested));
    pair.left.expect_gone();
    assert!(matches!(handle.configure(Transaction::default()), Err(ConfigureError::Stopped(Stopped))));
    assert_eq!(events.next(PATIENCE), Err(Stopped));
}

#[test]
fn a_dropped_device_leaves_nothing_and_its_name_is_free() {
    let pair = Pair::new();
    for _ in 0..3 {
        let device = start(&pair.left, Some(UapiSocket::Bind)).unwrap();
        assert!(matches!(start(&pair.left, None), Err(StartError::Tun(_))));
        pair.left.set(&["listen-port", "7"]);
        drop(device);
        pair.left.expect_gone();
    }
}

#[test]
fn a_deleted_interface_ends_the_wait() {
    let pair = Pair::new();
    let device = start(&pair.left, Some(UapiSocket::Bind)).unwrap();
    let handle = device.handle().clone();
    let waiting = std::thread::spawn(move || device.wait());
    pair.left.place.ip(&format!("link del {}", pair.left.interface)).unwrap();
    wait::until("the end of the device", PATIENCE, || waiting.is_finished()).unwrap();
    assert!(matches!(waiting.join().unwrap(), StopReason::InterfaceDeleted));
    assert!(handle.snapshot().is_err());
    pair.left.expect_gone();
}
