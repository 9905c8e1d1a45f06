//! Each rule of acceptance, broken one at a time.

use super::fixture::Ca;
use super::*;

fn issuers(cas: &[&Ca]) -> Vec<Issuer> {
    cas.iter().map(|ca| Issuer::parse(&ca.certificate()).unwrap()).collect()
}

#[test]
fn order_by_number() {
    let ca = Ca::new("client CA", 1);
    let (issuers, asked) = (issuers(&[&ca]), ca.key_id());
    let mut marks = Marks::default();
    let stored = marks.accept(&asked, &ca.list(5, &[7], 0), &issuers).unwrap();
    marks.remember(&stored);
    // As after a restart: only the marks are left.
    let marks: Marks = serde_json::from_slice(&serde_json::to_vec(&marks).unwrap()).unwrap();
    let check =
        |number, salt| marks.accept(&asked, &ca.list(number, &[7], salt), &issuers).map(|list| list.number());
    assert_eq!(check(6, 0), Ok(6));
    assert_eq!(check(5, 9), Err(CrlError::Conflict(5).into()), "same number, other octets");
    let rollback = CrlError::Rollback { stored: 5, offered: 4 };
    assert_eq!(check(4, 0), Err(rollback.into()));
    // ECDSA is deterministic here (RFC 6979), so the same list is the same octets.
    assert_eq!(check(5, 0), Ok(5));
}

#[test]
fn marks_never_go_back() {
    let ca = Ca::new("client CA", 1);
    let (issuers, asked) = (issuers(&[&ca]), ca.key_id());
    let mut marks = Marks::default();
    let older = marks.accept(&asked, &ca.list(5, &[], 0), &issuers).unwrap();
    let newer = marks.accept(&asked, &ca.list(6, &[], 0), &issuers).unwrap();
    marks.remember(&newer);
    marks.remember(&older);
    assert_eq!(marks.mark(&asked).map(|mark| mark.number()), Some(6));
}

#[test]
fn who_signed() {
    let (ca, edge_ca) = (Ca::new("client CA", 1), Ca::new("edge CA", 2));
    let pinned = issuers(&[&ca, &edge_ca]);
    let marks = Marks::default();
    let check = |der: &[u8]| marks.accept(&ca.key_id(), der, &pinned).unwrap_err();
    // The same name with another key: its key identifier is not pinned.
    assert_eq!(check(&Ca::new("client CA", 3).list(1, &[], 0)), CrlError::UnknownIssuer.into());
    assert_eq!(
        check(&edge_ca.list(1, &[], 0)),
        Refusal::OtherIssuer { asked: ca.key_id(), found: edge_ca.key_id() }
    );
    let mut forged = ca.list(1, &[7], 0);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(check(&forged), Refusal::Rule(CrlError::Signature(_))));
    for refusal in [check(&forged), check(&edge_ca.list(1, &[], 0))] {
        assert!(refusal.is_alarm(), "{refusal}");
    }
    for garbage in [&b""[..], b"<html>", &ca.list(1, &[], 0)[1..]] {
        assert!(!check(garbage).is_alarm(), "a proxy's error page is no attack");
    }
}
