//! The entries of a list (`revokedCertificates`, RFC 5280 §5.1.2.6), read where they lie.
//!
//! A general parser makes a hundred octets of objects of each entry, and an emergency may list a million. So
//! the list is taken apart here: the few octets around the entries go to the general parser, the entries are
//! walked one by one and nothing of them is kept but the serial number. DER in its one spelling only; an
//! entry that is not understood in full makes the list unusable, since it may name somebody else.

use super::CrlError;
use crate::key::Serial;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `crlExtensions`, the only thing that may follow the entries.
const EXTENSIONS: u8 = 0xa0;

/// id-ce-cRLReasons 2.5.29.21, id-ce-invalidityDate .24, id-ce-certificateIssuer .29.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 0x18];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];

/// A list in two parts.
pub(super) struct Split<'a> {
    /// The signed octets, entries included: `tbsCertList` with its header.
    pub(super) signed: &'a [u8],
    /// The content of `revokedCertificates`; empty when that is absent.
    pub(super) entries: &'a [u8],
    /// The same list in DER as if nothing were revoked. Its signature does not hold.
    pub(super) frame: Vec<u8>,
}

impl<'a> Split<'a> {
    /// `None` when `der` is not the outline of one list.
    pub(super) fn new(der: &'a [u8]) -> Option<Self> {
        let mut rest = der;
        let (SEQUENCE, list) = take(&mut rest)? else { return None };
        if !rest.is_empty() {
            return None;
        }
        let mut trailer = list;
        let (SEQUENCE, content) = take(&mut trailer)? else { return None };
        let signed = &list[..list.len() - trailer.len()];
        let mut at = content;
        if at.first() == Some(&INTEGER) {
            take(&mut at)?;
        }
        // signature, issuer, thisUpdate.
        for _ in 0..3 {
            take(&mut at)?;
        }
        if matches!(at.first(), Some(&(UTC_TIME | GENERALIZED_TIME))) {
            take(&mut at)?;
        }
        let before = &content[..content.len() - at.len()];
        let mut entries: &[u8] = &[];
        if at.first() == Some(&SEQUENCE) {
            (_, entries) = take(&mut at)?;
        }
        if at.first().is_some_and(|tag| *tag != EXTENSIONS) {
            return None;
        }
        let frame = sequence(&[&sequence(&[before, at]), trailer]);
        Some(Self { signed, entries, frame })
    }
}

/// Checks every entry, and counts them.
///
/// # Errors
///
/// [`CrlError::Entry`] with the number of the first that does not read, names another CA's certificate
/// (certificateIssuer), takes a serial number off (removeFromCRL, which delta lists only may do), or has a
/// critical extension that is unknown.
pub(super) fn check(entries: &[u8]) -> Result<usize, CrlError> {
    let mut rest = entries;
    let mut count = 0;
    // Most entries of a list that was made in one go have the same date.
    let mut last_date: &[u8] = &[];
    while !rest.is_empty() {
        check_entry(&mut rest, &mut last_date).ok_or(CrlError::Entry(count))?;
        count += 1;
    }
    Ok(count)
}

/// The serial numbers of entries that [`check`] has passed.
pub(super) fn serials(entries: &[u8]) -> impl Iterator<Item = Serial> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let (_, mut entry) = take(&mut rest)?;
        let (_, serial) = take(&mut entry)?;
        Serial::new(serial).ok()
    })
}

fn check_entry<'a>(rest: &mut &'a [u8], last_date: &mut &'a [u8]) -> Option<()> {
    let (SEQUENCE, mut entry) = take(rest)? else { return None };
    let (INTEGER, serial) = take(&mut entry)? else { return None };
    // A leading zero only where the number would be negative without it (X.690 §8.3.2).
    if matches!(serial, [0, second, ..] if second & 0x80 == 0) {
        return None;
    }
    Serial::new(serial).ok()?;
    let before = entry;
    let (tag, date) = take(&mut entry)?;
    let date_with_tag = &before[..before.len() - entry.len()];
    if date_with_tag != *last_date {
        check_time(tag, date)?;
        *last_date = date_with_tag;
    }
    if entry.is_empty() {
        return Some(());
    }
    let (SEQUENCE, extensions) = take(&mut entry)? else { return None };
    // SIZE (1..MAX), and nothing behind it.
    (entry.is_empty() && !extensions.is_empty()).then_some(())?;
    check_extensions(extensions)
}

fn check_extensions(mut rest: &[u8]) -> Option<()> {
    let (mut reason, mut invalidity) = (false, false);
    while !rest.is_empty() {
        let (SEQUENCE, mut extension) = take(&mut rest)? else { return None };
        let (OID, oid) = take(&mut extension)? else { return None };
        let mut critical = false;
        if extension.first() == Some(&BOOLEAN) {
            // DEFAULT FALSE is not written (X.690 §11.5).
            let (_, [0xff]) = take(&mut extension)? else { return None };
            critical = true;
        }
        let (OCTET_STRING, value) = take(&mut extension)? else { return None };
        extension.is_empty().then_some(())?;
        match oid {
            REASON_CODE if !std::mem::replace(&mut reason, true) => check_reason(value)?,
            INVALIDITY_DATE if !std::mem::replace(&mut invalidity, true) => check_invalidity(value)?,
            // certificateIssuer must be critical; a maker who forgot that means another CA all the same.
            REASON_CODE | INVALIDITY_DATE | CERTIFICATE_ISSUER => return None,
            _ if critical => return None,
            _ => {}
        }
    }
    Some(())
}

/// Any reason of RFC 5280 §5.3.1 revokes, certificateHold too; removeFromCRL (8) does the contrary.
fn check_reason(mut value: &[u8]) -> Option<()> {
    match (take(&mut value)?, value) {
        ((ENUMERATED, [0..=6 | 9..=10]), []) => Some(()),
        _ => None,
    }
}

fn check_invalidity(mut value: &[u8]) -> Option<()> {
    match (take(&mut value)?, value) {
        ((GENERALIZED_TIME, date), []) => check_time(GENERALIZED_TIME, date),
        _ => None,
    }
}

/// `YYMMDDHHMMSSZ`, or with four digits of the year (RFC 5280 §4.1.2.5). The date itself decides nothing.
fn check_time(tag: u8, text: &[u8]) -> Option<()> {
    let (digits, [b'Z']) = text.split_at_checked(text.len().checked_sub(1)?)? else { return None };
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => digits.split_at(2),
        (GENERALIZED_TIME, 14) => digits.split_at(4),
        _ => return None,
    };
    digits.iter().all(u8::is_ascii_digit).then_some(())?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let field = |index: usize| rest.get(2 * index..2 * index + 2).map(number);
    let days = match field(0)? {
        2 if number(year).is_multiple_of(4) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let sound = (1..=days).contains(&field(1)?) && field(2)? < 24 && field(3)? < 60 && field(4)? < 60;
    sound.then_some(())
}

/// Takes one element off the front: its tag and its content. Only definite lengths in their shortest form
/// (X.690 §10.1) and tags of one octet, which is all that lists are made of.
fn take<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], mut after) = rest.split_first_chunk()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (octets, behind) = after.split_at_checked(usize::from(first & 0x7f)).filter(|(octets, _)| {
            let minimal = octets.first().is_some_and(|first| *first != 0);
            minimal && octets.len() <= 4
        })?;
        length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
        after = behind;
        if length < 0x80 {
            return None;
        }
    }
    let (content, behind) = after.split_at_checked(length)?;
    *rest = behind;
    Some((tag, content))
}

/// A SEQUENCE of `parts`.
fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let octets = length.to_be_bytes();
    let leading = octets.iter().take_while(|octet| **octet == 0).count();
    let significant = octets.get(leading..).unwrap_or_default();
    let mut der = vec![SEQUENCE];
    if length >= 0x80 {
        // At most eight.
        der.push(0x80 | significant.len() as u8);
        der.extend(significant);
    } else {
        der.push(length as u8);
    }
    parts.iter().for_each(|part| der.extend(*part));
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

    const DATE: &[u8] = b"\x17\x0d260101000000Z";

    /// An entry for serial number 0x0a0b: `date`, and what else is given.
    fn entry(date: &[u8], rest: &[u8]) -> Vec<u8> {
        sequence(&[&[INTEGER, 2, 0x0a, 0x0b], date, rest])
    }

    /// An entry with one extension, whose first octets are `front` (OID, critical) and whose value is `value`.
    fn extended(front: &[u8], value: &[u8]) -> Vec<u8> {
        let value = [&[OCTET_STRING, value.len() as u8], value].concat();
        entry(DATE, &sequence(&[&sequence(&[front, &value])]))
    }

    const REASON: &[u8] = b"\x06\x03\x55\x1d\x15";
    const CRITICAL: &[u8] = b"\x01\x01\xff";
    const UNKNOWN: &[u8] = b"\x06\x03\x2a\x03\x04";

    #[test]
    fn entries_that_are_understood() {
        let good = [
            ("plain", entry(DATE, b"")),
            ("year of four digits", entry(b"\x18\x0f20500101000000Z", b"")),
            ("leap day", entry(b"\x17\x0d240229235959Z", b"")),
            ("key compromise", extended(REASON, b"\x0a\x01\x01")),
            ("on hold", extended(REASON, b"\x0a\x01\x06")),
            ("critical reason", extended(&[REASON, CRITICAL].concat(), b"\x0a\x01\x0a")),
            ("invalidity date", extended(b"\x06\x03\x55\x1d\x18", b"\x18\x0f20251231235959Z")),
            ("unknown, not critical", extended(UNKNOWN, b"\x05\x00")),
        ];
        for (name, der) in good {
            assert_eq!(check(&der), Ok(1), "{name}");
            assert_eq!(serials(&der).collect::<Vec<_>>(), ["0a0b".parse().unwrap()], "{name}");
        }
    }

    #[test]
    fn entries_that_are_not() {
        let twice = {
            let one = sequence(&[REASON, b"\x04\x03\x0a\x01\x01"]);
            entry(DATE, &sequence(&[&one, &one]))
        };
        let serial = |number: &[u8]| sequence(&[number, DATE]);
        let bad = [
            ("removeFromCRL", extended(REASON, b"\x0a\x01\x08")),
            ("reason without a meaning", extended(REASON, b"\x0a\x01\x07")),
            ("reason of two octets", extended(REASON, b"\x0a\x02\x00\x01")),
            ("reason that is an INTEGER", extended(REASON, b"\x02\x01\x01")),
            ("two reasons", twice),
            ("certificateIssuer", extended(&[b"\x06\x03\x55\x1d\x1d", CRITICAL].concat(), b"\x30\x00")),
            ("certificateIssuer, not critical", extended(b"\x06\x03\x55\x1d\x1d", b"\x30\x00")),
            ("unknown, critical", extended(&[UNKNOWN, CRITICAL].concat(), b"\x05\x00")),
            ("FALSE written out", extended(&[UNKNOWN, b"\x01\x01\x00"].concat(), b"\x05\x00")),
            ("TRUE in another spelling", extended(&[REASON, b"\x01\x01\x01"].concat(), b"\x0a\x01\x01")),
            ("no extension in the sequence", entry(DATE, b"\x30\x00")),
            ("something behind the extensions", entry(DATE, b"\x05\x00")),
            ("no date", entry(b"", b"")),
            ("30 February", entry(b"\x17\x0d240230000000Z", b"")),
            ("month 13", entry(b"\x17\x0d241301000000Z", b"")),
            ("without seconds", entry(b"\x17\x0b2401010000Z", b"")),
            ("local time", entry(b"\x17\x112401010000+0900", b"")),
            ("zero", serial(b"\x02\x01\x00")),
            ("negative", serial(b"\x02\x01\x80")),
            ("leading zero", serial(b"\x02\x02\x00\x01")),
            ("number of no octets", serial(b"\x02\x00")),
            ("21 octets", serial(&[b"\x02\x15".as_slice(), &[0x11; 21]].concat())),
            ("length in long form", b"\x30\x81\x13\x02\x02\x0a\x0b\x17\x0d260101000000Z".to_vec()),
            ("indefinite length", b"\x30\x80\x02\x02\x0a\x0b\x17\x0d260101000000Z\x00\x00".to_vec()),
            ("cut off", entry(DATE, b"")[..12].to_vec()),
        ];
        for (name, der) in bad {
            assert_eq!(check(&der), Err(CrlError::Entry(0)), "{name}");
            let behind = [entry(DATE, b""), der].concat();
            assert_eq!(check(&behind), Err(CrlError::Entry(1)), "{name}, second");
        }
    }

    #[test]
    fn the_entries_have_one_place() {
        let algorithm = b"\x30\x03\x06\x01\x2a".as_slice();
        let (name, extensions) = (b"\x30\x00".as_slice(), b"\xa0\x00".as_slice());
        let head: Vec<u8> = [b"\x02\x01\x01", algorithm, name, DATE].concat();
        let list = |parts: &[&[u8]]| sequence(&[&sequence(parts), algorithm, b"\x03\x01\x00"]);
        let entries = sequence(&[&entry(DATE, b"")]);
        for (given, frame) in [
            (list(&[&head, &entries, extensions]), list(&[&head, extensions])),
            (list(&[&head, DATE, &entries, extensions]), list(&[&head, DATE, extensions])),
            (list(&[&head, &entries]), list(&[&head])),
        ] {
            let split = Split::new(&given).unwrap();
            assert_eq!((split.entries, split.frame), (entry(DATE, b"").as_slice(), frame));
        }
        for (name, der) in [
            ("twice", list(&[&head, &entries, &entries])),
            ("behind the extensions", list(&[&head, extensions, &entries])),
            ("two lists", [list(&[&head]), list(&[&head])].concat()),
        ] {
            let split = Split::new(&der);
            // What is left in the frame is the general parser's to refuse.
            assert!(split.is_none_or(|split| split.entries.is_empty()), "{name}");
        }
    }

    /// What the general parser makes of these entries.
    fn general(entries: &[u8]) -> Option<Vec<Serial>> {
        let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02".as_slice();
        let revoked = sequence(&[entries]);
        let signed = sequence(&[b"\x02\x01\x01", algorithm, b"\x30\x00", DATE, DATE, &revoked]);
        let der = sequence(&[&signed, algorithm, b"\x03\x02\x00\x00"]);
        let (_, list) = CertificateRevocationList::from_der(&der).ok()?;
        list.iter_revoked_certificates().map(|entry| Serial::new(entry.raw_serial()).ok()).collect()
    }

    proptest! {
        /// Lists of good entries, some octets of them changed: whatever passes, another parser reads alike.
        #[test]
        fn agrees_with_a_general_parser(
            chosen in prop::collection::vec(0_usize..4, 0..6),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let kinds = [
                entry(DATE, b""),
                extended(REASON, b"\x0a\x01\x06"),
                extended(&[REASON, CRITICAL].concat(), b"\x0a\x01\x01"),
                extended(UNKNOWN, b"\x05\x00"),
            ];
            let mut der: Vec<u8> = chosen.iter().flat_map(|kind| kinds[*kind].clone()).collect();
            for (index, octet) in changes {
                if !der.is_empty() {
                    let at = index.index(der.len());
                    der[at] = octet;
                }
            }
            if let Ok(count) = check(&der) {
                let ours: Vec<_> = serials(&der).collect();
                prop_assert_eq!(ours.len(), count);
                prop_assert_eq!(general(&der), Some(ours));
            }
        }
    }
}
