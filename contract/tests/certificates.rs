//! The profile of certificates and lists, judged on what a foreign maker (openssl) writes: the good one, and
//! for each rule the nearest bad one.

mod openssl;

use openssl::Authority;
use verona_contract::cert::{CertError, IdentityLeaf, Issuer, Leaf};
use verona_contract::crl::{CrlError, VerifiedCrl};
use verona_contract::key::KeyError;

const URI: &str = "URI:urn:verona:client:3f2b0f4e-8c1d-4d52-9b5a-0d6c3f0e9a11";
const SAN: &str = "URI:urn:verona:client:3f2b0f4e-8c1d-4d52-9b5a-0d6c3f0e9a11,IP:10.8.0.2";

/// Extensions of a good leaf, with one of them replaced (or added) by `replacement`.
fn extensions(replacement: &str) -> String {
    let good = [
        "basicConstraints=critical,CA:FALSE".to_owned(),
        "keyUsage=critical,keyAgreement".to_owned(),
        "extendedKeyUsage=clientAuth".to_owned(),
        format!("subjectAltName={SAN}"),
        "authorityKeyIdentifier=keyid".to_owned(),
    ];
    let name = replacement.split('=').next().unwrap_or_default().to_owned();
    let kept = good.into_iter().filter(|line| name.is_empty() || !line.starts_with(&format!("{name}=")));
    let added = Some(replacement.to_owned()).filter(|line| line.contains('=') && !line.ends_with('='));
    kept.chain(added).collect::<Vec<_>>().join("\n")
}

#[test]
fn leaf_profile() {
    let authority = Authority::new("leaf-profile");
    let good = Leaf::parse(&authority.leaf(&extensions(""))).unwrap();
    assert_eq!(good.addresses, ["10.8.0.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(format!("URI:{}", good.subject), URI);
    assert_eq!(good.issuer, Issuer::parse(&authority.certificate).unwrap().subject);

    let two_uris = format!("subjectAltName={URI},{},IP:10.8.0.2", URI.replace("3f2b", "3f2c"));
    let upper_case = format!("subjectAltName={},IP:10.8.0.2", URI.replace("3f2b0f4e", "3F2B0F4E"));
    let nine = (1..=9).fold(format!("subjectAltName={URI}"), |list, last| format!("{list},IP:10.8.0.{last}"));
    let no_address = format!("subjectAltName={URI}");
    let with_address = |address: &str| format!("subjectAltName={URI},IP:{address}");
    for (replacement, expected) in [
        ("extendedKeyUsage=", CertError::ExtendedKeyUsage),
        ("extendedKeyUsage=serverAuth", CertError::ExtendedKeyUsage),
        ("keyUsage=", CertError::KeyUsage),
        ("keyUsage=critical,digitalSignature", CertError::KeyUsage),
        ("keyUsage=critical,keyAgreement,digitalSignature", CertError::KeyUsage),
        ("basicConstraints=critical,CA:TRUE", CertError::BasicConstraints),
        ("authorityKeyIdentifier=none", CertError::KeyIdentifier),
        ("subjectAltName=IP:10.8.0.2", CertError::Subject),
        ("subjectAltName=URI:urn:verona:client:nobody,IP:10.8.0.2", CertError::Subject),
        (&upper_case, CertError::Subject),
        (&two_uris, CertError::Subject),
        (&no_address, CertError::Addresses),
        (&nine, CertError::Addresses),
        (&with_address("0.0.0.0"), CertError::Addresses),
        (&with_address("224.0.0.1"), CertError::Addresses),
        (&with_address("::ffff:10.8.0.2"), CertError::Addresses),
        (&with_address("127.0.0.1"), CertError::Addresses),
        ("1.2.3.4=critical,ASN1:NULL", CertError::CriticalExtension("1.2.3.4".into())),
    ] {
        assert_eq!(Leaf::parse(&authority.leaf(&extensions(replacement))), Err(expected), "{replacement}");
    }
    // What is unknown but not critical is passed over (RFC 5280 §4.2).
    assert!(Leaf::parse(&authority.leaf(&extensions("1.2.3.4=ASN1:NULL"))).is_ok());
}

#[test]
fn leaf_keys() {
    let authority = Authority::new("leaf-keys");
    let with_key = |key: &[u8; 32]| authority.leaf_over(&openssl::x25519_public_pem(key), &extensions(""));
    let mut one = [0; 32];
    one[0] = 1;
    let mut high_bit = [0x55; 32];
    high_bit[31] = 0xd5;
    assert_eq!(Leaf::parse(&with_key(&[0; 32])), Err(CertError::Key(KeyError::LowOrder)));
    assert_eq!(Leaf::parse(&with_key(&one)), Err(CertError::Key(KeyError::LowOrder)));
    assert_eq!(Leaf::parse(&with_key(&high_bit)), Err(CertError::Key(KeyError::NotCanonical)));
    let p256 = authority.leaf_over(&authority.public_pem(), &extensions(""));
    assert_eq!(Leaf::parse(&p256), Err(CertError::NotX25519));
}

/// The same for the leaf of the two-key form, whose names and addresses are optional.
#[test]
fn identity_leaf_profile() {
    let authority = Authority::new("identity-profile");
    let pem = authority.public_pem();
    let leaf = |change: &str| {
        let extensions = extensions(change).replace("keyUsage=critical,keyAgreement", USAGE);
        IdentityLeaf::parse(&authority.leaf_over(&pem, &extensions))
    };
    const USAGE: &str = "keyUsage=critical,digitalSignature";
    let good = leaf("").unwrap();
    assert_eq!(good.subject.as_deref(), URI.strip_prefix("URI:"));
    assert_eq!(good.addresses, ["10.8.0.2".parse::<std::net::IpAddr>().unwrap()]);
    let foreign = leaf("subjectAltName=email:someone@example.com").unwrap();
    assert_eq!((foreign.subject, foreign.addresses.len()), (None, 0));
    assert_eq!(foreign.fingerprint, good.fingerprint, "one key, two certificates");
    assert_ne!(foreign.digest, good.digest);
    let two_uris = format!("subjectAltName={URI},{}", URI.replace("3f2b", "3f2c"));
    for (change, expected) in [
        ("extendedKeyUsage=", CertError::ExtendedKeyUsage),
        ("extendedKeyUsage=serverAuth", CertError::ExtendedKeyUsage),
        ("keyUsage=", CertError::KeyUsage),
        ("keyUsage=critical,keyEncipherment", CertError::KeyUsage),
        ("keyUsage=critical,digitalSignature,keyCertSign", CertError::KeyUsage),
        ("keyUsage=critical,digitalSignature,cRLSign", CertError::KeyUsage),
        ("basicConstraints=critical,CA:TRUE", CertError::BasicConstraints),
        ("authorityKeyIdentifier=none", CertError::KeyIdentifier),
        (&two_uris, CertError::Subject),
        ("subjectAltName=IP:127.0.0.1", CertError::Addresses),
        ("1.2.3.4=critical,ASN1:NULL", CertError::CriticalExtension("1.2.3.4".into())),
    ] {
        assert_eq!(leaf(change), Err(expected), "{change}");
    }
    let x25519 = authority.leaf(&extensions("keyUsage=critical,digitalSignature"));
    assert_eq!(IdentityLeaf::parse(&x25519), Err(CertError::NotIdentityKey));
}

#[test]
fn issuers_and_who_signed_them() {
    let top = Authority::new("top");
    let below = Authority::new("below");
    let ca = "basicConstraints=critical,CA:TRUE,pathlen:3\nkeyUsage=critical,keyCertSign\n\
              subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    let issuer = Issuer::parse(&top.certify(&below, ca)).unwrap();
    assert_eq!((issuer.path_len, issuer.crl_sign), (Some(3), false));
    let above = Issuer::parse(&top.certificate).unwrap();
    assert_eq!((above.path_len, above.crl_sign), (None, true));
    assert!(issuer.is_issued_by(&above));
    // Another key of the same name; and the right key identifier over another key.
    let twin = Issuer::parse(&Authority::new("top").certificate).unwrap();
    assert!(!issuer.is_issued_by(&twin));
    assert!(!issuer.is_issued_by(&Issuer { key_id: above.key_id.clone(), ..twin }));
    assert!(!issuer.is_issued_by(&Issuer::parse(&below.certificate).unwrap()));
}

#[test]
fn octets_that_are_no_certificate() {
    let authority = Authority::new("no-certificate");
    let leaf = authority.leaf(&extensions(""));
    assert_eq!(Leaf::parse(&[]), Err(CertError::Der));
    assert_eq!(Leaf::parse(&[leaf.as_slice(), &[0]].concat()), Err(CertError::Der));
    assert_eq!(Leaf::parse(&vec![0x30; 5000]), Err(CertError::Der));
    for length in 0..leaf.len() {
        assert!(Leaf::parse(&leaf[..length]).is_err(), "truncated at {length}");
    }
    assert_eq!(Issuer::parse(&leaf), Err(CertError::BasicConstraints));
}

#[test]
fn lists() {
    let authority = Authority::new("lists");
    let issuer = Issuer::parse(&authority.certificate).unwrap();
    let verify = |der: &[u8]| VerifiedCrl::verify(der, [&issuer]);

    let empty = verify(&authority.crl(0x07, &[], "")).unwrap();
    assert_eq!((empty.number(), empty.revoked().len()), (7, 0));
    let listed = verify(&authority.crl(0x08, &["0a0b"], "")).unwrap();
    assert!(listed.revoked().iter().eq(&["0a0b".parse().unwrap()]));
    assert_eq!(listed.issuer(), &issuer.key_id);
    // Every reason revokes, and numbers may be as long as they come.
    let long = "7f0102030405060708090a0b0c0d0e0f10111213";
    let entries = ["0a0b", "0b01,keyCompromise", "0b03,CAkeyTime,20260101000000Z", long];
    let mixed = verify(&authority.crl(0x08, &entries, "")).unwrap();
    assert_eq!(mixed.revoked().len(), 4);
    for serial in ["0a0b", "0b01", "0b03", long] {
        assert!(mixed.revoked().contains(&serial.parse().unwrap()), "{serial}");
    }
    let hold = verify(&authority.crl(0x08, &["0b02,certificateHold"], "")).unwrap();
    assert!(hold.revoked().contains(&"0b02".parse().unwrap()));
    assert_eq!(verify(&authority.crl(8, &["0b02,removeFromCRL"], "")), Err(CrlError::Entry(0)));

    let partial = "issuingDistributionPoint=critical,@idp\n[idp]\nonlyuser=TRUE\n";
    assert_eq!(verify(&authority.crl(9, &[], partial)), Err(CrlError::NotFull("2.5.29.28".into())));
    let delta = "2.5.29.27=critical,ASN1:INTEGER:8\n";
    assert_eq!(verify(&authority.crl(9, &[], delta)), Err(CrlError::NotFull("2.5.29.27".into())));
    let unmarked_delta = "2.5.29.27=ASN1:INTEGER:8\n";
    assert_eq!(verify(&authority.crl(9, &[], unmarked_delta)), Err(CrlError::NotFull("2.5.29.27".into())));
    let unknown = "1.2.3.4=critical,ASN1:NULL\n";
    assert_eq!(verify(&authority.crl(9, &[], unknown)), Err(CrlError::CriticalExtension("1.2.3.4".into())));

    // A stranger with the same name: his key identifier differs, and where it does not, his signature does.
    let stranger = Authority::new("lists");
    assert_eq!(verify(&stranger.crl(9, &[], "")), Err(CrlError::UnknownIssuer));
    let mut disguised = Issuer::parse(&stranger.certificate).unwrap();
    disguised.spki.clone_from(&issuer.spki);
    let forged = VerifiedCrl::verify(&stranger.crl(9, &[], ""), [&disguised]);
    assert_eq!(forged, Err(CrlError::Signature(disguised.key_id.clone())));

    let mut not_for_lists = issuer.clone();
    not_for_lists.crl_sign = false;
    let refused = VerifiedCrl::verify(&authority.crl(9, &[], ""), [&not_for_lists]);
    assert_eq!(refused, Err(CrlError::NotCrlSign(issuer.key_id.clone())));
}

#[test]
fn damaged_lists() {
    let authority = Authority::new("damaged-lists");
    let issuer = Issuer::parse(&authority.certificate).unwrap();
    let good = authority.crl(7, &["0a0b", "0a0c"], "");
    assert!(VerifiedCrl::verify(&good, [&issuer]).is_ok());
    for length in 0..good.len() {
        assert!(VerifiedCrl::verify(&good[..length], [&issuer]).is_err(), "truncated at {length}");
    }
    for position in 0..good.len() {
        let mut altered = good.clone();
        altered[position] ^= 0x01;
        assert!(VerifiedCrl::verify(&altered, [&issuer]).is_err(), "octet {position} altered");
    }
    assert_eq!(VerifiedCrl::verify(&[good.as_slice(), &[0]].concat(), [&issuer]), Err(CrlError::Der));
}

#[test]
fn order_of_lists() {
    let authority = Authority::new("order-of-lists");
    let issuer = Issuer::parse(&authority.certificate).unwrap();
    let list = |number, serials: &[&str]| {
        VerifiedCrl::verify(&authority.crl(number, serials, ""), [&issuer]).unwrap()
    };
    let (seven, eight) = (list(7, &[]), list(8, &["0a0b"]));
    assert_eq!(eight.check_follows(&seven.mark()), Ok(()));
    assert_eq!(seven.check_follows(&seven.mark()), Ok(()));
    let rollback = CrlError::Rollback { stored: 8, offered: 7 };
    assert_eq!(seven.check_follows(&eight.mark()), Err(rollback));
    let forked = list(8, &["0a0c"]);
    assert_eq!(forked.check_follows(&eight.mark()), Err(CrlError::Conflict(8)));
}
