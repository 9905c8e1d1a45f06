use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv6Addr};

const DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0x5e, 0x10, 0, 1];
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9];

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

fn prefix(net: &str, length: u8, valid: u32) -> Vec<u8> {
    let address: Ipv6Addr = net.parse().unwrap();
    let part = [&(valid / 2).to_be_bytes()[..], &valid.to_be_bytes(), &[length], &address.octets()].concat();
    option(
        25,
        &[&[0, 0, 0, 1][..], &100u32.to_be_bytes(), &160u32.to_be_bytes(), &option(26, &part)].concat(),
    )
}

/// An answer to `question`, of this type and with these options.
fn answer(kind: u8, question: &[u8], options: &[Vec<u8>]) -> Vec<u8> {
    [&[kind][..], &question[1..4], &option(1, DUID), &option(2, SERVER), &options.concat()].concat()
}

/// A prefix for 200 s, a name server, and an end of DS-Lite.
fn all(net: &str) -> [Vec<u8>; 3] {
    let server = option(23, &"2001:db8::53".parse::<Ipv6Addr>().unwrap().octets());
    [prefix(net, 56, 200), server, option(64, b"\x04gw-1\x07Example\x02jp\0")]
}

fn bound(now: u64) -> Client {
    let mut client = Client::new(DUID.to_vec(), now);
    let solicit = client.poll(now, 0x0102_0304).unwrap();
    assert_eq!(solicit[0], 1);
    assert!(!client.handle(&answer(2, &solicit, &all("2001:db8:1200::")), now));
    let request = client.poll(now, 0x0506_0708).unwrap();
    assert_eq!(request[0], 3);
    assert!(client.handle(&answer(7, &request, &all("2001:db8:1200::")), now));
    client
}

#[test]
fn solicit_request_reply() {
    let client = bound(5_000);
    let lease = client.lease().unwrap();
    assert_eq!(lease.prefix, Some(("2001:db8:1200::/56".parse().unwrap(), 200)));
    assert_eq!(lease.servers, ["2001:db8::53".parse::<IpAddr>().unwrap()]);
    assert_eq!(lease.aftr.as_ref().map(ToString::to_string).as_deref(), Some("gw-1.example.jp"));
    assert_eq!((lease.renew, lease.rebind, client.deadline()), (100, 160, 105_000));
}

#[test]
fn renewed_at_its_server_then_at_any_then_lost() {
    let mut client = bound(0);
    assert_eq!(client.poll(99_999, 1), None);
    let renew = client.poll(100_000, 1).unwrap();
    assert_eq!(renew[0], 5);
    assert!(renew.windows(SERVER.len()).any(|window| window == SERVER), "at its server");
    let mut renewed = client.clone();
    assert!(!renewed.handle(&answer(7, &renew, &all("2001:db8:1200::")), 100_500), "nothing changed");
    assert_eq!(renewed.deadline(), 200_500);
    let mut moved = client.clone();
    assert!(moved.handle(&answer(7, &renew, &all("2001:db8:3400::")), 100_500), "another prefix");
    let mut kinds = Vec::new();
    for _ in 0..200 {
        let now = client.deadline();
        kinds.extend(client.poll(now, 7).map(|message| message[0]));
        if client.lease().is_none() {
            break;
        }
    }
    kinds.dedup();
    assert_eq!(kinds, [5, 6, 1], "renew, rebind, solicit");
}

#[test]
fn a_server_that_has_nothing_any_more_is_believed() {
    let mut client = bound(0);
    let renew = client.poll(100_000, 1).unwrap();
    let none = option(25, &[&[0, 0, 0, 1][..], &[0; 8], &option(13, &[0, 6])].concat());
    assert!(client.handle(&answer(7, &renew, &[none]), 100_100));
    assert_eq!(client.lease(), None);
    assert_eq!(client.poll(100_100, 2).unwrap()[0], 1);
}

#[test]
fn pauses_grow_to_the_longest_and_a_silent_offer_is_given_up() {
    let mut client = Client::new(DUID.to_vec(), 0);
    let mut last = 0;
    for round in 0..20 {
        let now = client.deadline();
        assert!(client.poll(now, 0x9abc_def0).is_some());
        let pause = client.deadline() - now;
        assert!((900..=132_000).contains(&pause) && (pause * 3 > last || round == 0), "{pause} after {last}");
        last = pause;
    }
    let solicit = client.poll(client.deadline(), 3).unwrap();
    client.handle(&answer(2, &solicit, &[prefix("2001:db8::", 48, 99)]), 0);
    let kinds: Vec<u8> =
        (0..12).filter_map(|_| client.poll(client.deadline(), 4)).map(|message| message[0]).collect();
    assert_eq!(kinds, [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 1]);
}

#[test]
fn what_is_not_ours_or_makes_no_sense_is_not_heard() {
    let mut client = Client::new(DUID.to_vec(), 0);
    let solicit = client.poll(0, 0x0102_0304).unwrap();
    let good = answer(2, &solicit, &[prefix("2001:db8::", 56, 99)]);
    let heard = |datagram: &[u8]| {
        let mut client = client.clone();
        client.handle(datagram, 0);
        client.poll(client.deadline(), 1).unwrap()[0] == 3
    };
    assert!(heard(&good));
    let mut other = good.clone();
    other[2] ^= 1;
    assert!(!heard(&other), "another exchange");
    let mut stranger = good.clone();
    stranger[4 + 4 + 3] ^= 1;
    assert!(!heard(&stranger), "for another client");
    for bad in
        [("ff02::", 56), ("fe80::", 64), ("::", 56), ("2001:db8::", 65), ("2001:db8::", 200), ("::1", 64)]
    {
        assert!(!heard(&answer(2, &solicit, &[prefix(bad.0, bad.1, 99)])), "{bad:?}");
    }
    assert!(!heard(&answer(2, &solicit, &[prefix("2001:db8::", 56, 0)])), "already over");
    assert!(!heard(&answer(7, &solicit, &[prefix("2001:db8::", 56, 99)])), "a reply to nothing");
}

proptest! {
    #[test]
    fn no_datagram_panics(datagram in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300, flip in 0usize..300) {
        let mut client = bound(0);
        let renew = client.poll(100_000, 1).unwrap();
        client.handle(&datagram, 100_000);
        let mut altered = answer(7, &renew, &[prefix("2001:db8::", 56, 99)]);
        altered.truncate(cut);
        if let Some(octet) = altered.get_mut(flip) {
            *octet ^= 0x55;
        }
        client.handle(&altered, 100_000);
        client.poll(client.deadline(), 9);
    }
}
