//! Parses the body of a UAPI `set=1` operation (wireguard.com/xplatform, "Configuration Protocol").
//!
//! Line by line, so that nothing needs the whole text: keys of the device first, then one section per
//! `public_key`. Nothing takes effect here; the result is a [`Transaction`].

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use edge_tunnel_core::{AllowedIpUpdate, IpNet, PeerUpdate, PublicKey, Secret};
use zeroize::Zeroizing;

use crate::transaction::Transaction;

/// Why a line was refused: the caller's fault. Nothing of the operation takes effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// Not `key=value`, or not UTF-8.
    #[error("a line is not key=value")]
    NotKeyValue,
    /// No such key, or not at this place.
    #[error("unknown key {key:?} {place}")]
    UnknownKey {
        /// As it was given.
        key: String,
        /// Where it stood.
        place: &'static str,
    },
    /// A value breaks the rule of its key. The value is not repeated: it may be a secret.
    #[error("{key}: expected {expected}")]
    Value {
        /// Whose value.
        key: &'static str,
        /// The rule.
        expected: &'static str,
    },
}

impl SetError {
    /// The error number that wireguard-go gives, positive.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::NotKeyValue => libc::EPROTO,
            Self::UnknownKey { .. } | Self::Value { .. } => libc::EINVAL,
        }
    }
}

/// Reads the lines of one operation, without the empty one that ends it.
///
/// # Errors
///
/// The first line that breaks a rule.
pub fn parse_set(body: &[u8]) -> Result<Transaction, SetError> {
    let mut parser = SetParser::default();
    for line in body.split(|&octet| octet == b'\n').filter(|line| !line.is_empty()) {
        parser.line(line)?;
    }
    Ok(parser.finish())
}

/// Collects the lines of one operation.
#[derive(Debug, Default)]
pub(crate) struct SetParser {
    transaction: Transaction,
}

impl SetParser {
    /// Takes the next line, without its newline.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), SetError> {
        let line = std::str::from_utf8(line).map_err(|_| SetError::NotKeyValue)?;
        let (key, value) = line.split_once('=').ok_or(SetError::NotKeyValue)?;
        if key == "public_key" {
            self.transaction.update.peers.push(PeerUpdate::new(public_key(value)?));
            return Ok(());
        }
        match self.transaction.update.peers.last_mut() {
            Some(peer) => peer_line(peer, key, value),
            None => device_line(&mut self.transaction, key, value),
        }
    }

    /// The whole operation, after its last line.
    pub(crate) fn finish(self) -> Transaction {
        self.transaction
    }
}

fn device_line(transaction: &mut Transaction, key: &str, value: &str) -> Result<(), SetError> {
    match key {
        "private_key" => transaction.update.private_key = Some(secret("private_key", value)?),
        "listen_port" => transaction.listen_port = Some(number("listen_port", "a port, 0 to 65535", value)?),
        "fwmark" => transaction.fwmark = Some(number("fwmark", "a number, 0 to 4294967295", value)?),
        "replace_peers" => transaction.update.replace_peers = flag("replace_peers", value)?,
        _ => return Err(unknown(key, "before the first public_key")),
    }
    Ok(())
}

fn peer_line(peer: &mut PeerUpdate, key: &str, value: &str) -> Result<(), SetError> {
    match key {
        "remove" => peer.remove = flag("remove", value)?,
        "update_only" => peer.update_only = flag("update_only", value)?,
        "preshared_key" => peer.preshared_key = Some(secret("preshared_key", value)?),
        "endpoint" => peer.endpoint = Some(endpoint(value)?),
        "persistent_keepalive_interval" => {
            let seconds = number("persistent_keepalive_interval", "seconds, 0 to 65535", value)?;
            peer.persistent_keepalive = Some(seconds);
        }
        "replace_allowed_ips" => peer.replace_allowed_ips = flag("replace_allowed_ips", value)?,
        "allowed_ip" => peer.allowed_ips.push(allowed_ip(value)?),
        "protocol_version" if value == "1" => {}
        "protocol_version" => return Err(SetError::Value { key: "protocol_version", expected: "1" }),
        _ => return Err(unknown(key, "in a peer's section")),
    }
    Ok(())
}

fn unknown(key: &str, place: &'static str) -> SetError {
    SetError::UnknownKey { key: key.chars().take(40).collect(), place }
}

/// The protocol knows `true` only; a flag is cleared by leaving it out.
fn flag(key: &'static str, value: &str) -> Result<bool, SetError> {
    if value == "true" { Ok(true) } else { Err(SetError::Value { key, expected: "true" }) }
}

/// Decimal digits only: `FromStr` would also take a sign.
fn number<T: std::str::FromStr>(
    key: &'static str,
    expected: &'static str,
    value: &str,
) -> Result<T, SetError> {
    let digits = value.bytes().all(|octet| octet.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or(SetError::Value { key, expected })
}

/// 64 hex digits; all zeroes remove the key.
fn secret(key: &'static str, value: &str) -> Result<Option<Secret>, SetError> {
    let octets = hex(value).ok_or(SetError::Value { key, expected: "64 hex digits" })?;
    Ok((*octets != [0; 32]).then(|| Secret::new(*octets)))
}

fn public_key(value: &str) -> Result<PublicKey, SetError> {
    let key = "public_key";
    let octets = hex(value).ok_or(SetError::Value { key, expected: "64 hex digits" })?;
    let expected = "a canonical X25519 key that is not of low order";
    PublicKey::new(*octets).map_err(|_| SetError::Value { key, expected })
}

fn hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut octets = Zeroizing::new([0; 32]);
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        // Two hex digits are at most 255.
        *octet = (high << 4 | low) as u8;
    }
    Some(octets)
}

/// `address:port`, `[address]:port` or `[address%zone]:port`, the zone by name or number. An IPv4
/// address in IPv6 form becomes IPv4: the sockets are one per family.
fn endpoint(value: &str) -> Result<SocketAddr, SetError> {
    let parsed = value.parse().ok().or_else(|| endpoint_with_zone_name(value));
    let address: SocketAddr = parsed
        .ok_or(SetError::Value { key: "endpoint", expected: "address:port, or [address]:port for IPv6" })?;
    let ip = address.ip().to_canonical();
    Ok(if ip == address.ip() { address } else { (ip, address.port()).into() })
}

fn endpoint_with_zone_name(value: &str) -> Option<SocketAddr> {
    let (bracketed, port) = value.rsplit_once(':')?;
    let (address, zone) = bracketed.strip_prefix('[')?.strip_suffix(']')?.split_once('%')?;
    let scope = nix::net::if_::if_nametoindex(zone).ok()?;
    let port = number("endpoint", "", port).ok()?;
    Some(SocketAddrV6::new(address.parse().ok()?, port, 0, scope).into())
}

/// `address/prefix`, or an address alone for its host; after `-` it is taken away.
fn allowed_ip(value: &str) -> Result<AllowedIpUpdate, SetError> {
    let (make, text): (fn(IpNet) -> AllowedIpUpdate, _) = match value.strip_prefix('-') {
        Some(rest) => (AllowedIpUpdate::Remove, rest),
        None => (AllowedIpUpdate::Add, value),
    };
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::host));
    let network = network.ok_or(SetError::Value { key: "allowed_ip", expected: "address/prefix" })?;
    Ok(make(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "2fe57da347cd62431528daac5fbb290730fff684afc4cfc2ed90995f58cb3b74";
    const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn parse(text: &str) -> Result<Transaction, SetError> {
        parse_set(text.as_bytes())
    }

    #[test]
    fn the_example_of_the_specification() {
        let transaction = parse(
            "private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a\n\
             fwmark=0\n\
             listen_port=12912\n\
             replace_peers=true\n\
             public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33\n\
             preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52\n\
             replace_allowed_ips=true\n\
             allowed_ip=192.168.4.4/32\n\
             endpoint=[abcd:23::33%2]:51820\n\
             public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376\n\
             replace_allowed_ips=true\n\
             allowed_ip=192.168.4.6/32\n\
             persistent_keepalive_interval=111\n\
             endpoint=182.122.22.19:3233\n\
             public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58\n\
             endpoint=5.152.198.39:51820\n\
             replace_allowed_ips=true\n\
             allowed_ip=192.168.4.10/32\n\
             allowed_ip=192.168.4.11/32\n\
             public_key=e818b58db5274087fcc1be5dc728cf53d3b5726b4cef6b9bab8f8f8c2452c25c\n\
             remove=true\n",
        )
        .unwrap();
        assert_eq!((transaction.fwmark, transaction.listen_port), (Some(0), Some(12912)));
        assert!(matches!(transaction.update.private_key, Some(Some(_))));
        assert!(transaction.update.replace_peers);
        let [first, second, third, fourth] = &transaction.update.peers[..] else { panic!("not 4 peers") };
        assert_eq!(first.endpoint, Some("[abcd:23::33%2]:51820".parse().unwrap()));
        assert!(matches!(first.preshared_key, Some(Some(_))));
        assert_eq!(second.persistent_keepalive, Some(111));
        let networks =
            ["192.168.4.10/32", "192.168.4.11/32"].map(|n| AllowedIpUpdate::Add(n.parse().unwrap()));
        assert_eq!((third.replace_allowed_ips, &third.allowed_ips[..]), (true, &networks[..]));
        assert!(fourth.remove);
    }

    #[test]
    fn zeroes_remove_a_key_and_minus_an_allowed_ip() {
        let transaction = parse(&format!(
            "private_key={ZERO}\npublic_key={KEY}\npreshared_key={ZERO}\nupdate_only=true\n\
             allowed_ip=-10.0.0.0/8\nallowed_ip=::1\nprotocol_version=1\nendpoint=[::ffff:192.0.2.1]:5\n"
        ))
        .unwrap();
        assert!(matches!(transaction.update.private_key, Some(None)));
        let peer = &transaction.update.peers[0];
        assert!(peer.update_only && matches!(peer.preshared_key, Some(None)));
        let expected = [
            AllowedIpUpdate::Remove("10.0.0.0/8".parse().unwrap()),
            AllowedIpUpdate::Add("::1/128".parse().unwrap()),
        ];
        assert_eq!(peer.allowed_ips, expected);
        assert_eq!(peer.endpoint, Some("192.0.2.1:5".parse().unwrap()));
    }

    #[test]
    fn a_zone_may_be_a_name() {
        let peer = |zone: &str| parse(&format!("public_key={KEY}\nendpoint=[fe80::1%{zone}]:7\n"));
        let transaction = peer("lo").unwrap();
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, index);
        assert_eq!(transaction.update.peers[0].endpoint, Some(expected.into()));
        assert!(peer("no-such-zone").is_err());
    }

    #[test]
    fn errors_name_the_key_and_have_wireguard_gos_numbers() {
        let peer = format!("public_key={KEY}\n");
        let table: &[(&str, i32, &str)] = &[
            ("listen_port", libc::EPROTO, "key=value"),
            ("\u{fffd}", libc::EPROTO, "key=value"),
            ("=", libc::EINVAL, "unknown key"),
            ("nonsense=1", libc::EINVAL, "nonsense"),
            ("listen_port=65536", libc::EINVAL, "listen_port"),
            ("listen_port=-1", libc::EINVAL, "listen_port"),
            ("listen_port=+1", libc::EINVAL, "listen_port"),
            ("listen_port=", libc::EINVAL, "listen_port"),
            ("listen_port= 1", libc::EINVAL, "listen_port"),
            ("fwmark=4294967296", libc::EINVAL, "fwmark"),
            ("fwmark=0x1", libc::EINVAL, "fwmark"),
            ("private_key=abc", libc::EINVAL, "private_key"),
            ("replace_peers=false", libc::EINVAL, "replace_peers"),
            ("replace_peers=", libc::EINVAL, "replace_peers"),
            ("endpoint=1.2.3.4:5", libc::EINVAL, "before the first public_key"),
            ("public_key=", libc::EINVAL, "64 hex digits"),
            (&format!("public_key={ZERO}"), libc::EINVAL, "low order"),
            (&format!("public_key={}", "f".repeat(64)), libc::EINVAL, "canonical"),
            (&format!("public_key={}", "é".repeat(32)), libc::EINVAL, "64 hex digits"),
            (&format!("{peer}private_key={KEY}"), libc::EINVAL, "in a peer's section"),
            (&format!("{peer}remove=false"), libc::EINVAL, "remove"),
            (&format!("{peer}update_only=1"), libc::EINVAL, "update_only"),
            (&format!("{peer}preshared_key=00"), libc::EINVAL, "preshared_key"),
            (&format!("{peer}endpoint=example.org:1"), libc::EINVAL, "endpoint"),
            (&format!("{peer}endpoint=::1:1"), libc::EINVAL, "endpoint"),
            (&format!("{peer}endpoint=1.2.3.4"), libc::EINVAL, "endpoint"),
            (&format!("{peer}endpoint=1.2.3.4:65536"), libc::EINVAL, "endpoint"),
            (&format!("{peer}persistent_keepalive_interval=65536"), libc::EINVAL, "persistent_keepalive"),
            (&format!("{peer}persistent_keepalive_interval=off"), libc::EINVAL, "persistent_keepalive"),
            (&format!("{peer}replace_allowed_ips=no"), libc::EINVAL, "replace_allowed_ips"),
            (&format!("{peer}allowed_ip=10.0.0.0/33"), libc::EINVAL, "allowed_ip"),
            (&format!("{peer}allowed_ip=--10.0.0.0/8"), libc::EINVAL, "allowed_ip"),
            (&format!("{peer}allowed_ip=10.0.0/8"), libc::EINVAL, "allowed_ip"),
            (&format!("{peer}protocol_version=2"), libc::EINVAL, "protocol_version"),
        ];
        for (text, errno, part) in table {
            let error = parse(text).unwrap_err();
            assert_eq!(error.errno(), *errno, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_never_repeats_a_secret() {
        let almost = &KEY[..63];
        for text in [format!("private_key={almost}"), format!("public_key={KEY}\npreshared_key={almost}")] {
            let error = parse(&text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&KEY[..16]), "{error:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_it_panic(lines in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..80), 0..8)) {
            let mut parser = SetParser::default();
            for line in lines {
                let _ = parser.line(&line);
            }
        }

        #[test]
        fn no_value_of_a_known_key_makes_it_panic(
            key in proptest::sample::select(vec![
                "private_key", "listen_port", "fwmark", "replace_peers", "public_key", "remove", "update_only",
                "preshared_key", "endpoint", "persistent_keepalive_interval", "replace_allowed_ips",
                "allowed_ip", "protocol_version",
            ]),
            value in "[0-9a-f.:/%\\[\\]-]{0,70}|\\PC{0,40}",
            in_peer: bool,
        ) {
            let mut parser = SetParser::default();
            if in_peer {
                parser.line(format!("public_key={KEY}").as_bytes()).unwrap();
            }
            let _ = parser.line(format!("{key}={value}").as_bytes());
        }
    }
}
