//! What the answers of the center to questions over one line mean: which NAT is in between, how large packets may be,
//! whether a portal wants a login.

use std::net::{IpAddr, SocketAddr};
use verona_contract::api::Nat;

/// Sizes of IP packets that are tried, octets: Ethernet, and what PPPoE, DS-Lite, mobile networks and tunnels leave of
/// it. All are multiples of four, as questions are.
pub const SIZES: [u16; 13] = [1500, 1492, 1480, 1472, 1460, 1452, 1440, 1420, 1400, 1380, 1360, 1320, 1280];

/// Octets before a question in its packet: the IP header and UDP's.
#[must_use]
pub const fn headers(v6: bool) -> u16 {
    if v6 { 48 } else { 28 }
}

/// What is between a line and the center: `own` is our side, `mapped` what each of two places sees.
#[must_use]
pub fn nat(own: IpAddr, mapped: (Option<SocketAddr>, Option<SocketAddr>)) -> Nat {
    match mapped {
        (None, None) => Nat::UdpBlocked,
        (Some(one), Some(other)) if one != other => Nat::EndpointDependent,
        (Some(one), _) | (_, Some(one)) => {
            if one.ip().to_canonical() == own.to_canonical() {
                Nat::None
            } else {
                Nat::EndpointIndependent
            }
        }
    }
}

/// Whether `address` is of a network that providers share among customers (RFC 6598): there is a NAT behind it that
/// nobody at the site can change.
#[must_use]
pub fn is_carriers(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
}

/// What an answer to the question for nothing (204) tells: none = it came from the center, otherwise what the portal
/// said, in short. `answer` is the beginning of it.
#[must_use]
pub fn portal(answer: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(answer);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or("no HTTP");
    if code == "204" {
        return None;
    }
    let location = lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    let plain = |text: &str| text.chars().filter(|one| !one.is_control()).take(200).collect::<String>();
    Some(match location {
        Some(location) => format!("{} to {}", plain(code), plain(&location)),
        None => plain(code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nat_table() {
        let own: IpAddr = [192, 168, 1, 2].into();
        let at = |text: &str| Some(text.parse().unwrap());
        for (own, one, other, kind) in [
            (own, None, None, Nat::UdpBlocked),
            (own, at("192.168.1.2:5"), at("192.168.1.2:5"), Nat::None),
            (own, at("203.0.113.1:5"), at("203.0.113.1:5"), Nat::EndpointIndependent),
            (own, at("203.0.113.1:5"), at("203.0.113.1:6"), Nat::EndpointDependent),
            (own, at("203.0.113.1:5"), at("203.0.113.2:5"), Nat::EndpointDependent),
            (own, None, at("203.0.113.1:5"), Nat::EndpointIndependent),
            (own, at("[::ffff:192.168.1.2]:5"), None, Nat::None),
        ] {
            assert_eq!(nat(own, (one, other)), kind, "{one:?} {other:?}");
        }
        assert!(is_carriers([100, 64, 0, 1].into()) && is_carriers([100, 127, 255, 255].into()));
        assert!(!is_carriers([100, 128, 0, 1].into()) && !is_carriers([10, 64, 0, 1].into()));
    }

    #[test]
    fn portals() {
        for (answer, told) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", None),
            ("HTTP/1.0 204 x\r\n", None),
            (
                "HTTP/1.1 302 Found\r\nLocation: http://login.example/?x\r\n\r\n",
                Some("302 to http://login.example/?x"),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n<html>\r\nLocation: not a header", Some("200")),
            ("HTTP/1.1 302 \r\nlocation: \u{1b}[2J\r\n\r\n", Some("302 to [2J")),
            ("SSH-2.0-x", Some("no HTTP")),
            ("HTTP/1.", Some("no HTTP")),
            ("HTTP/1.\u{fffd}\u{fffd}", Some("no HTTP")),
            ("", Some("no HTTP")),
        ] {
            assert_eq!(portal(answer.as_bytes()).as_deref(), told, "{answer:?}");
        }
        assert!(portal(&[0xff; 5000]).is_some());
    }

    #[test]
    fn every_size_can_be_asked() {
        for v6 in [false, true] {
            assert!(SIZES.iter().all(|size| (size - headers(v6)).is_multiple_of(4)));
        }
        assert!(SIZES.is_sorted_by(|one, other| one > other));
    }
}
