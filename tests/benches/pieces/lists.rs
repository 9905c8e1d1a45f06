//! Revocation lists: loading one, and the look into it that every handshake takes.

use divan::Bencher;
use divan::counter::ItemsCount;
use edge_tunnel_core::CrlSet;
use std::time::SystemTime;
use verona_contract::cert::Issuer;
use verona_contract::crl::VerifiedCrl;
use verona_contract::key::Serial;
use verona_tests::pki::Authority;

const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];

/// A list of `entries` serial numbers in no order that helps.
fn list(entries: u64) -> (Vec<u8>, Issuer) {
    let authority = Authority::new(0x31, "Acme client CA");
    let serials: Vec<u64> = (0..entries).map(serial).collect();
    let issuer = Issuer::parse(authority.certificate()).unwrap();
    (authority.crl(1, &serials, SystemTime::now()), issuer)
}

/// Never zero, which is no serial number (RFC 5280 §4.1.2.2).
const fn serial(number: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1) | 1 << 62
}

#[divan::bench(args = SIZES, sample_count = 3, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>, entries: u64) {
    let (der, issuer) = list(entries);
    let issuers = [issuer];
    bencher.counter(ItemsCount::new(entries)).bench_local(|| CrlSet::load(&der, &issuers).unwrap());
}

#[divan::bench(args = SIZES)]
fn look_up(bencher: Bencher<'_, '_>, entries: u64) {
    let (der, issuer) = list(entries);
    let verified = VerifiedCrl::verify(&der, [&issuer]).unwrap();
    let absent: Vec<Serial> =
        (0..1024).map(|number| Serial::new(&(serial(entries + number)).to_be_bytes()).unwrap()).collect();
    let mut next = absent.iter().cycle();
    bencher.bench_local(|| {
        let serial = next.next().unwrap();
        assert!(!divan::black_box(verified.revoked().contains(serial)));
    });
}
