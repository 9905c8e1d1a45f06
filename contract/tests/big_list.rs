//! A revocation list of a million entries: what it takes to load, and that it is right.
//!
//! Alone in its process, since the memory of the process is what is measured.

#![allow(clippy::unwrap_used, reason = "test code: a failure is the test's failure")]

mod openssl;

use der::asn1::BitString;
use der::{Decode as _, Encode as _};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use std::fs;
use verona_contract::cert::Issuer;
use verona_contract::crl::VerifiedCrl;
use verona_contract::key::Serial;
use x509_cert::crl::CertificateList;

const ENTRIES: u64 = 1_000_000;
/// SEQUENCE { INTEGER of 16 octets, UTCTime }.
const ENTRY: usize = 35;

#[test]
fn a_million_entries_take_little_memory() {
    let authority = openssl::Authority::new("big-list");
    let key = SigningKey::from_bytes(&[7; 32].into()).unwrap();
    let mut issuer = Issuer::parse(&authority.certificate).unwrap();
    issuer.spki = key.verifying_key().to_public_key_der().unwrap().into_vec();
    let der = grow(&authority.crl(7, &[], ""), &key);
    assert_eq!(der.len() / 1_000_000, 35, "megabytes");

    let before = memory("VmRSS");
    // The high-water mark begins again at what is in use.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let list = VerifiedCrl::verify(&der, [&issuer]).unwrap();
    let peak = memory("VmHWM").saturating_sub(before);
    assert!(peak <= 64 << 20, "{} MB on top of the list's own 35", peak >> 20);

    assert_eq!(list.revoked().len() as u64, ENTRIES);
    for number in 0..ENTRIES {
        assert!(list.revoked().contains(&Serial::new(&serial(number)).unwrap()), "{number}");
        assert!(!list.revoked().contains(&Serial::new(&serial(number + ENTRIES)).unwrap()), "{number}");
    }
}

/// Numbers without any order, positive in 16 octets.
fn serial(number: u64) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    octets[8..].copy_from_slice(&number.to_be_bytes());
    octets[0] = octets[0] & 0x3f | 0x40;
    octets
}

/// The same list with a million entries, signed with `key`. Written in place: what is left on the heap would
/// be used again later, unseen by the measurement.
fn grow(empty: &[u8], key: &SigningKey) -> Vec<u8> {
    let mut list = CertificateList::from_der(empty).unwrap();
    let extensions = list.tbs_cert_list.crl_extensions.take();
    let whole = list.tbs_cert_list.to_der().unwrap();
    let before = &whole[2..];
    assert!(before.len() < 128, "a length of one octet");
    let extensions = extensions.to_der().unwrap();
    let body = ENTRIES as usize * ENTRY;
    let extensions_header = [0xa0, extensions.len() as u8];
    let inner = before.len() + 6 + body + 2 + extensions.len();
    let algorithm = list.signature_algorithm.to_der().unwrap();

    let mut der = Vec::with_capacity(inner + 256);
    header(&mut der, inner);
    der.extend(before);
    header(&mut der, body);
    for number in 0..ENTRIES {
        der.extend([0x30, 33, 0x02, 16]);
        der.extend(serial(number));
        der.extend(b"\x17\x0d260101000000Z");
    }
    der.extend(extensions_header);
    der.extend(extensions);
    let signature: Signature = key.sign(&der);
    der.extend(algorithm);
    der.extend(BitString::from_bytes(signature.to_der().as_bytes()).unwrap().to_der().unwrap());
    let mut outer = Vec::new();
    header(&mut outer, der.len());
    der.splice(..0, outer);
    der
}

/// A SEQUENCE's tag and length, in six octets.
fn header(der: &mut Vec<u8>, length: usize) {
    der.extend([0x30, 0x84]);
    der.extend((length as u32).to_be_bytes());
}

fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
