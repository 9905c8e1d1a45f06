//! Prints the answer to a UAPI `get=1` operation (wireguard.com/xplatform, "Configuration Protocol").

use std::fmt::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use edge_tunnel_core::PeerStatus;
use verona_contract::key::to_hex;
use zeroize::Zeroizing;

use crate::transaction::Snapshot;

/// Octets of the largest device and peer section without allowed IPs, and of the longest allowed IP:
/// the text has its room from the start, so that no copy with keys is left behind by growth.
const DEVICE: usize = 256;
const PEER: usize = 640;
const ALLOWED_IP: usize = 64;

/// All lines but the closing `errno`. Wiped when dropped: it holds keys.
pub(crate) fn print(snapshot: &Snapshot) -> Zeroizing<String> {
    let peers = &snapshot.device.peers;
    let capacity =
        DEVICE + peers.iter().map(|peer| PEER + ALLOWED_IP * peer.allowed_ips.len()).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    // Writing to a String cannot fail.
    let _ = print_device(&mut text, snapshot);
    for peer in peers {
        let _ = print_peer(&mut text, peer);
    }
    text
}

fn print_device(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    if let Some(key) = &snapshot.device.private_key {
        writeln!(text, "private_key={}", *Zeroizing::new(to_hex(key.expose())))?;
    }
    if snapshot.listen_port != 0 {
        writeln!(text, "listen_port={}", snapshot.listen_port)?;
    }
    if snapshot.fwmark != 0 {
        writeln!(text, "fwmark={}", snapshot.fwmark)?;
    }
    Ok(())
}

fn print_peer(text: &mut String, peer: &PeerStatus) -> fmt::Result {
    writeln!(text, "public_key={}", to_hex(peer.public_key.as_bytes()))?;
    let psk = peer.preshared_key.as_ref().map_or(&[0; 32], |psk| psk.expose());
    writeln!(text, "preshared_key={}", *Zeroizing::new(to_hex(psk)))?;
    writeln!(text, "protocol_version=1")?;
    if let Some(endpoint) = peer.endpoint {
        writeln!(text, "endpoint={endpoint}")?;
    }
    // Before 1970 only with a clock that is wrong; zero means "never".
    let since_epoch = peer.last_handshake.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let handshake = since_epoch.unwrap_or(Duration::ZERO);
    writeln!(text, "last_handshake_time_sec={}", handshake.as_secs())?;
    writeln!(text, "last_handshake_time_nsec={}", handshake.subsec_nanos())?;
    writeln!(text, "tx_bytes={}", peer.tx_bytes)?;
    writeln!(text, "rx_bytes={}", peer.rx_bytes)?;
    writeln!(text, "persistent_keepalive_interval={}", peer.persistent_keepalive)?;
    for network in &peer.allowed_ips {
        writeln!(text, "allowed_ip={network}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_tunnel_core::{DeviceStatus, PublicKey, Secret};

    fn peer() -> PeerStatus {
        let mut octets = [0x11; 32];
        octets[31] = 0x01;
        PeerStatus {
            public_key: PublicKey::new(octets).unwrap(),
            preshared_key: None,
            endpoint: Some("[fe80::1%3]:51820".parse().unwrap()),
            last_handshake: Some(UNIX_EPOCH + Duration::new(1_700_000_000, 5)),
            unanswered: 0,
            rx_bytes: 7,
            tx_bytes: 9,
            persistent_keepalive: 25,
            allowed_ips: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        }
    }

    #[test]
    fn every_line_in_wireguard_gos_form() {
        let device = DeviceStatus {
            private_key: Some(Secret::new([0xab; 32])),
            public_key: None,
            peers: vec![peer()],
        };
        let text = print(&Snapshot { listen_port: 51820, fwmark: 4660, device });
        let expected = format!(
            "private_key={}\nlisten_port=51820\nfwmark=4660\npublic_key={}01\npreshared_key={}\n\
             protocol_version=1\nendpoint=[fe80::1%3]:51820\nlast_handshake_time_sec=1700000000\n\
             last_handshake_time_nsec=5\ntx_bytes=9\nrx_bytes=7\npersistent_keepalive_interval=25\n\
             allowed_ip=10.0.0.0/24\nallowed_ip=fd00::/64\n",
            "ab".repeat(32),
            "11".repeat(31),
            "0".repeat(64),
        );
        assert_eq!(*text, expected);
    }

    #[test]
    fn a_new_device_prints_nothing() {
        let device = DeviceStatus { private_key: None, public_key: None, peers: Vec::new() };
        assert_eq!(*print(&Snapshot { listen_port: 0, fwmark: 0, device }), "");
    }

    #[test]
    fn the_text_never_outgrows_its_room() {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let mut peer = peer();
        peer.endpoint = Some(format!("[{longest}%4294967295]:65535").parse().unwrap());
        (peer.rx_bytes, peer.tx_bytes, peer.persistent_keepalive) = (u64::MAX, u64::MAX, u16::MAX);
        peer.allowed_ips = vec![format!("{longest}/128").parse().unwrap(); 100];
        let device = DeviceStatus {
            private_key: Some(Secret::new([0xab; 32])),
            public_key: None,
            peers: vec![peer; 3],
        };
        let text = print(&Snapshot { listen_port: u16::MAX, fwmark: u32::MAX, device });
        assert_eq!(text.capacity(), DEVICE + 3 * (PEER + 100 * ALLOWED_IP));
    }
}
