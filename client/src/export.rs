//! The enrolled identity as a configuration of a stock WireGuard client.
//!
//! Two forms: `wg-quick`'s, with address, MTU and DNS, and `wg setconf`'s, which knows the protocol's own
//! fields only. Both hold the private key. A stock client cannot introduce itself, so the certificate has
//! to be pushed to the edges; whether it is, the profile says.

use crate::routing::allowed_ips;
use verona_contract::api::{ClientProfile, EdgeProfile};
use verona_contract::base64;
use verona_contract::ipnet::IpNet;
use verona_contract::key::Secret;
use zeroize::Zeroizing;

/// Which tool reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `wg-quick up`, and the apps that import such a file.
    WgQuick,
    /// `wg setconf` and `wg syncconf`.
    Wg,
}

/// The configuration as text; it is a secret.
pub(crate) fn configuration(key: &Secret, profile: &ClientProfile, format: Format) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(512 + 1024 * profile.edges.len()));
    text.push_str("[Interface]\n");
    push(&mut text, "PrivateKey", &Zeroizing::new(base64::encode(key.expose())));
    if format == Format::WgQuick {
        push(&mut text, "Address", &join(&profile.addresses));
        push(&mut text, "MTU", &profile.mtu.to_string());
        if !profile.dns.is_empty() {
            push(&mut text, "DNS", &join(&profile.dns));
        }
    }
    for (edge, routes) in profile.edges.iter().zip(allowed_ips(profile, &[])) {
        push_peer(&mut text, edge, &routes, profile.keepalive_s, format);
    }
    text
}

fn push_peer(text: &mut String, edge: &EdgeProfile, routes: &[IpNet], keepalive_s: u16, format: Format) {
    text.push('\n');
    if format == Format::WgQuick {
        // A name is a person's text: nothing of it may end the comment.
        let name: String = edge.name.chars().filter(|letter| !letter.is_control()).collect();
        text.push_str(&format!("# {name}\n"));
    }
    text.push_str("[Peer]\n");
    push(text, "PublicKey", &edge.public_key.to_string());
    push(text, "PresharedKey", &Zeroizing::new(base64::encode(edge.preshared_key.expose())));
    if !routes.is_empty() {
        push(text, "AllowedIPs", &join(routes));
    }
    // One endpoint a peer is all that the format holds.
    if let Some(endpoint) = edge.endpoints.first() {
        push(text, "Endpoint", endpoint);
    }
    push(text, "PersistentKeepalive", &keepalive_s.to_string());
}

fn push(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(" = ");
    text.push_str(value);
    text.push('\n');
}

fn join(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::{edge, profile};

    #[test]
    fn both_formats() {
        let key = Secret::new([0x41; 32]);
        let mut profile = profile(vec![
            edge(1, &["192.168.1.0/24"], &["edge.example:51820", "192.0.2.1:51820"]),
            edge(2, &["192.168.1.0/24"], &["192.0.2.2:51820"]),
        ]);
        profile.edges[1].name = "two\n[Peer]".to_owned();
        profile.dns = vec!["192.168.1.1".parse().unwrap(), "192.168.1.2".parse().unwrap()];
        let secret = base64::encode([0x41; 32]);
        let psk = base64::encode([9; 32]);
        let [one, two] = [0, 1].map(|edge| profile.edges[edge].public_key.to_string());
        let expected = format!(
            "[Interface]\nPrivateKey = {secret}\nAddress = 10.8.0.5/24\nMTU = 1420\n\
             DNS = 192.168.1.1, 192.168.1.2\n\n# edge 1\n[Peer]\nPublicKey = {one}\nPresharedKey = {psk}\n\
             AllowedIPs = 10.8.0.0/24, 192.168.1.0/24\nEndpoint = edge.example:51820\n\
             PersistentKeepalive = 25\n\n# two[Peer]\n[Peer]\nPublicKey = {two}\nPresharedKey = {psk}\n\
             Endpoint = 192.0.2.2:51820\nPersistentKeepalive = 25\n"
        );
        assert_eq!(*configuration(&key, &profile, Format::WgQuick), expected);
        let plain: String = expected
            .split_inclusive('\n')
            .filter(|line| !["Address", "MTU", "DNS", "#"].iter().any(|start| line.starts_with(start)))
            .collect();
        assert_eq!(*configuration(&key, &profile, Format::Wg), plain);
    }
}
