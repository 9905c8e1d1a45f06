//! Every rule of the certificate profile and of the path at the edge itself, with certificates made by openssl:
//! the good one and the nearest bad one, as introductions, and the reason that is counted.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::disallowed_methods, reason = "openssl reads and writes files")]

mod harness;
#[path = "../../../contract/tests/openssl/mod.rs"]
mod openssl;

use edge_tunnel_core::{CrlSet, Introduction, PolicyError, VerifiedPolicy};
use harness::{Clock, Node, Site, reaches, secret};
use openssl::{Authority, x25519_public_pem};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::cert::CertError;
use verona_tests::identity::IdentityKey;

const DAY: Duration = Duration::from_secs(86_400);
const SAN: &str = "URI:urn:verona:client:3f2b0f4e-8c1d-4d52-9b5a-0d6c3f0e9a11,IP:10.9.0.11";

/// An edge that trusts `authority` (and lists for it and `others`), at a clock that shows the machine's time.
fn edge_of(clock: &Clock, authority: &Authority, others: &[&Authority]) -> (Node, Site) {
    let mut edge = Node::new(200, "198.51.100.1:51820", clock);
    let mut site = Site::new(&edge.secret);
    site.policy.owners[0].anchors = vec![Octets(authority.certificate.clone())];
    site.install(clock, &mut edge);
    edge.engine.set_clock(clock.now(), true);
    for authority in std::iter::once(&authority).chain(others) {
        if let Ok(list) = CrlSet::load(&authority.crl(1, &[], ""), &edge.engine.issuers()) {
            edge.engine.install_crl(clock.now(), list).unwrap();
        }
    }
    (edge, site)
}

/// Lets a client with key 11 introduce `shown`; how it was refused, or `None` when its packets arrive. An
/// intermediate's list is loaded on the way, as the agent does it.
fn outcome(
    clock: &Clock,
    authority: &Authority,
    below: &[&Authority],
    shown: &Introduction,
) -> Option<String> {
    let (mut edge, site) = edge_of(clock, authority, &[]);
    for _ in 0..2 {
        let mut client = site.client(11, clock, &edge, Some(shown.clone()));
        if reaches(clock, &mut client, &mut edge, "10.9.0.11") {
            return None;
        }
        for authority in below {
            if let Ok(list) = CrlSet::load(&authority.crl(1, &[], ""), &edge.engine.issuers()) {
                edge.engine.install_crl(clock.now(), list).unwrap();
            }
        }
    }
    let refused = edge.engine.counters().refused;
    assert_eq!(edge.engine.population(), (0, 0), "no state: {refused:?}");
    refused.into_keys().find(|reason| reason != "unknown_key" && reason != "crl_missing")
}

/// Extensions of a good leaf with `usage`; what `change` names is replaced, or left out when it ends with `=`.
fn extensions(usage: &str, change: &str) -> String {
    let good = [
        "basicConstraints=critical,CA:FALSE".to_owned(),
        format!("keyUsage=critical,{usage}"),
        "extendedKeyUsage=clientAuth".to_owned(),
        format!("subjectAltName={SAN}"),
        "authorityKeyIdentifier=keyid".to_owned(),
    ];
    let name = change.split('=').next().unwrap_or_default();
    let kept = good.into_iter().filter(|line| name.is_empty() || !line.starts_with(&format!("{name}=")));
    let added = Some(change.to_owned()).filter(|line| line.contains('=') && !line.ends_with('='));
    kept.chain(added).collect::<Vec<_>>().join("\n")
}

fn client_key() -> [u8; 32] {
    *secret(11).x25519_public().unwrap().as_bytes()
}

fn alone(leaf: Vec<u8>) -> Introduction {
    Introduction { leaf, ..Introduction::default() }
}

const MALFORMED: Option<&str> = Some("certificate_malformed");

#[test]
fn leaves_over_wireguard_keys() {
    let clock = Clock::today();
    let authority = Authority::new("profile");
    let twin = Authority::new("profile");
    let stranger = Authority::new("stranger");
    let pem = x25519_public_pem(&client_key());
    let mut non_canonical = [0xff; 32];
    non_canonical[31] = 0x7f;
    let mut table = vec![
        ("good", authority.leaf_over(&pem, &extensions("keyAgreement", "")), None),
        ("twin", twin.leaf_over(&pem, &extensions("keyAgreement", "")), Some("path_invalid")),
        ("stranger", stranger.leaf_over(&pem, &extensions("keyAgreement", "")), Some("unknown_issuer")),
        (
            "zero key",
            authority.leaf_over(&x25519_public_pem(&[0; 32]), &extensions("keyAgreement", "")),
            MALFORMED,
        ),
        (
            "key not canonical",
            authority.leaf_over(&x25519_public_pem(&non_canonical), &extensions("keyAgreement", "")),
            MALFORMED,
        ),
        ("another key", authority.leaf(&extensions("keyAgreement", "")), Some("key_mismatch")),
    ];
    for (change, expected) in [
        ("extendedKeyUsage=", MALFORMED),
        ("extendedKeyUsage=serverAuth", MALFORMED),
        ("extendedKeyUsage=anyExtendedKeyUsage", MALFORMED),
        ("extendedKeyUsage=clientAuth,serverAuth", None),
        ("keyUsage=", MALFORMED),
        ("keyUsage=critical,digitalSignature", MALFORMED),
        ("keyUsage=critical,keyAgreement,digitalSignature", MALFORMED),
        ("basicConstraints=critical,CA:TRUE", MALFORMED),
        ("basicConstraints=", None),
        ("authorityKeyIdentifier=none", MALFORMED),
        ("subjectAltName=IP:10.9.0.11", MALFORMED),
        ("subjectAltName=URI:urn:verona:client:3f2b0f4e-8c1d-4d52-9b5a-0d6c3f0e9a11", MALFORMED),
        ("subjectAltName=URI:urn:verona:client:nobody,IP:10.9.0.11", MALFORMED),
        (
            "subjectAltName=URI:urn:verona:edge:3f2b0f4e-8c1d-4d52-9b5a-0d6c3f0e9a11,IP:10.9.0.11",
            Some("unlisted"),
        ),
        ("1.2.3.4=critical,ASN1:NULL", MALFORMED),
        ("1.2.3.4=ASN1:NULL", None),
    ] {
        table.push((change, authority.leaf_over(&pem, &extensions("keyAgreement", change)), expected));
    }
    for (what, leaf, expected) in table {
        assert_eq!(outcome(&clock, &authority, &[], &alone(leaf)).as_deref(), expected, "{what}");
    }
}

#[test]
fn leaves_over_signing_keys() {
    let clock = Clock::today();
    let authority = Authority::new("profile");
    let key = IdentityKey::p256(41);
    let wireguard = secret(11).x25519_public().unwrap();
    let shown = |key: &IdentityKey, leaf: Vec<u8>| {
        let binding = key.bind(wireguard, &leaf, clock.now().wall - Duration::from_secs(60), DAY);
        Introduction { leaf, intermediate: None, binding: Some(binding) }
    };
    for (change, expected) in [
        ("", None),
        ("keyUsage=critical,digitalSignature,keyAgreement", None),
        ("keyUsage=", MALFORMED),
        ("keyUsage=critical,keyAgreement", MALFORMED),
        ("keyUsage=critical,digitalSignature,keyCertSign", MALFORMED),
        ("keyUsage=critical,digitalSignature,cRLSign", MALFORMED),
        ("extendedKeyUsage=", MALFORMED),
        ("extendedKeyUsage=emailProtection", MALFORMED),
        ("basicConstraints=critical,CA:TRUE", MALFORMED),
        ("authorityKeyIdentifier=none", MALFORMED),
        ("1.2.3.4=critical,ASN1:NULL", MALFORMED),
        ("subjectAltName=", Some("unlisted")),
        ("subjectAltName=email:someone@example.com", Some("unlisted")),
    ] {
        let leaf = authority.leaf_over(&key.public_pem(), &extensions("digitalSignature", change));
        let got = outcome(&clock, &authority, &[], &shown(&key, leaf));
        assert_eq!(got.as_deref(), expected, "{change}");
    }
    let ed25519 = IdentityKey::ed25519(41);
    let leaf = authority.leaf_over(&ed25519.public_pem(), &extensions("digitalSignature", ""));
    assert_eq!(outcome(&clock, &authority, &[], &shown(&ed25519, leaf)), None);
    // Other keys, and another encoding of a good one.
    let plain = "openssl pkey -pubout";
    for (command, encode) in [
        ("openssl ecparam -name secp384r1 -genkey -noout", plain),
        ("openssl genpkey -algorithm ED448", plain),
        ("openssl genpkey -algorithm X25519", plain),
        ("openssl ecparam -name prime256v1 -genkey -noout", "openssl ec -pubout -conv_form compressed"),
    ] {
        let pem = authority.other_public_pem(command, encode);
        let leaf = authority.leaf_over(&pem, &extensions("digitalSignature", ""));
        let got = outcome(&clock, &authority, &[], &shown(&key, leaf));
        assert_eq!(got.as_deref(), MALFORMED, "{command}");
    }
}

#[test]
fn intermediates_and_anchors() {
    let clock = Clock::today();
    let ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
              subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    let leaf_extensions = extensions("keyAgreement", "");
    let pem = x25519_public_pem(&client_key());
    let plain = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
    for (what, anchor, below, expected) in [
        ("good", plain.to_owned(), ca.to_owned(), None),
        ("not a CA", plain.to_owned(), ca.replace("CA:TRUE", "CA:FALSE"), MALFORMED),
        (
            "no basicConstraints",
            plain.to_owned(),
            ca.replace("basicConstraints=critical,CA:TRUE\n", ""),
            MALFORMED,
        ),
        ("may not sign", plain.to_owned(), ca.replace("keyCertSign,", ""), MALFORMED),
        (
            "without key identifier",
            plain.to_owned(),
            ca.replace("subjectKeyIdentifier=hash", "subjectKeyIdentifier=none"),
            MALFORMED,
        ),
        ("for servers", plain.to_owned(), format!("{ca}extendedKeyUsage=serverAuth\n"), Some("path_invalid")),
        ("for clients", plain.to_owned(), format!("{ca}extendedKeyUsage=clientAuth\n"), None),
        ("critical", plain.to_owned(), format!("{ca}1.2.3.4=critical,ASN1:NULL\n"), MALFORMED),
        (
            "within constraints",
            plain.to_owned(),
            format!("{ca}nameConstraints=critical,permitted;IP:10.9.0.0/255.255.0.0\n"),
            None,
        ),
        (
            "outside",
            plain.to_owned(),
            format!("{ca}nameConstraints=critical,permitted;IP:10.8.0.0/255.255.0.0\n"),
            Some("path_invalid"),
        ),
        (
            "anchor allows none",
            plain.replace("CA:TRUE", "CA:TRUE,pathlen:0"),
            ca.to_owned(),
            Some("path_invalid"),
        ),
        ("anchor allows one", plain.replace("CA:TRUE", "CA:TRUE,pathlen:1"), ca.to_owned(), None),
        (
            "anchor's constraints",
            format!("{plain}nameConstraints=critical,permitted;IP:10.8.0.0/255.255.0.0\n"),
            ca.to_owned(),
            Some("path_invalid"),
        ),
    ] {
        let anchor = Authority::with_extensions("anchor", &anchor);
        let issuing = Authority::new("issuing");
        let shown = Introduction {
            leaf: issuing.leaf_over(&pem, &leaf_extensions),
            intermediate: Some(anchor.certify(&issuing, &below)),
            binding: None,
        };
        assert_eq!(outcome(&clock, &anchor, &[&issuing], &shown).as_deref(), expected, "{what}");
    }
}

#[test]
fn anchors_that_are_refused_with_the_policy() {
    let load = |ders: &[&[u8]]| {
        let mut site = Site::new(&secret(200));
        site.policy.owners[0].anchors = ders.iter().map(|der| Octets(der.to_vec())).collect();
        VerifiedPolicy::new(site.policy).err()
    };
    let plain = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
    assert_eq!(load(&[&Authority::with_extensions("a", plain).certificate]), None);
    for (extensions, expected) in [
        (plain.replace("CA:TRUE", "CA:FALSE"), CertError::BasicConstraints),
        (plain.replace("keyCertSign,", ""), CertError::KeyUsage),
        (plain.replace("keyUsage=critical,keyCertSign,cRLSign\n", ""), CertError::KeyUsage),
        (
            plain.replace("subjectKeyIdentifier=hash\n", "subjectKeyIdentifier=none\n"),
            CertError::KeyIdentifier,
        ),
        (format!("{plain}1.2.3.4=critical,ASN1:NULL\n"), CertError::CriticalExtension("1.2.3.4".into())),
    ] {
        let got = load(&[&Authority::with_extensions("a", &extensions).certificate]);
        assert_eq!(got, Some(PolicyError::Anchor { owner: 0, anchor: 0, source: expected }), "{extensions}");
    }
    // One name for two keys, also of two owners.
    let (one, other) = (Authority::new("same"), Authority::new("same"));
    let ambiguous = PolicyError::AmbiguousAnchor { owner: 0, anchor: 1 };
    assert_eq!(load(&[&one.certificate, &other.certificate]), Some(ambiguous));
}

#[test]
fn dates() {
    let authority = Authority::new("dates");
    let shown =
        alone(authority.leaf_over(&x25519_public_pem(&client_key()), &extensions("keyAgreement", "")));
    let mut clock = Clock::today();
    assert_eq!(outcome(&clock, &authority, &[], &shown), None);
    clock.set(DAY * 7 + Duration::from_secs(60));
    assert_eq!(outcome(&clock, &authority, &[], &shown).as_deref(), Some("expired"), "the leaf");
    let early = Clock::since(clock.now().wall - DAY * 8);
    assert_eq!(outcome(&early, &authority, &[], &shown).as_deref(), Some("not_yet_valid"));

    // An anchor that has expired before its leaf: webpki does not look at its dates.
    let short = Authority::new("short-lived");
    let long =
        alone(short.leaf_for_days(&x25519_public_pem(&client_key()), &extensions("keyAgreement", ""), 60));
    let mut clock = Clock::today();
    clock.set(DAY * 29);
    // The list is from today as well; within grace or not, it must not be what decides.
    let allow = |clock: &Clock| {
        let (mut edge, mut site) = edge_of(clock, &short, &[]);
        site.policy.seq = 2;
        site.policy.owners[0].crl.stale = verona_contract::config::StalePolicy::Allow;
        site.install(clock, &mut edge);
        let mut client = site.client(11, clock, &edge, Some(long.clone()));
        (reaches(clock, &mut client, &mut edge, "10.9.0.11"), edge.refused("expired"))
    };
    assert_eq!(allow(&clock), (true, 0));
    clock.set(DAY * 31);
    assert_eq!(allow(&clock), (false, 1), "the anchor");
}
