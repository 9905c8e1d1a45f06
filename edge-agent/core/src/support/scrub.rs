//! Takes secrets out of text: those that the box holds, in each form in which they are written, and whatever is named
//! like one.

use std::fmt::Write as _;
use zeroize::Zeroizing;

/// In place of a secret.
const REMOVED: &[u8] = b"[removed]";

/// Shorter ones are not looked for: they would be found everywhere.
const LEAST: usize = 8;

/// Names after which a value is a secret, wherever they stand. In small letters, `-` and blanks as `_`.
const NAMES: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "private_key",
    "preshared_key",
    "psk",
    "psk_root",
];

/// Knows what must not get out.
#[derive(Default)]
pub struct Scrubber {
    /// Longest first: a part of one must not hide the rest of it.
    needles: Vec<Zeroizing<Vec<u8>>>,
}

impl Scrubber {
    /// Will find `secret` as it is, in base64 of both alphabets wherever it begins in it, and in hexadecimal digits
    /// with and without colons.
    pub fn learn(&mut self, secret: &[u8]) {
        if secret.len() < LEAST {
            return;
        }
        let mut forms: Vec<Vec<u8>> = vec![secret.to_vec()];
        for lead in 0..3 {
            forms.extend(base64_inside(secret, lead));
        }
        for separator in ["", ":", " "] {
            let lower = hex(secret, separator);
            forms.extend([lower.to_ascii_uppercase(), lower]);
        }
        self.needles.extend(forms.into_iter().map(Zeroizing::new));
        self.needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        self.needles.dedup();
    }

    /// Takes them all out.
    #[must_use]
    pub fn scrub(&self, octets: &[u8]) -> Vec<u8> {
        let mut octets = pem(octets);
        for needle in &self.needles {
            octets = replace(&octets, needle);
        }
        named(&octets)
    }
}

/// What base64 makes of `secret` behind `lead` other octets: only those digits that depend on nothing else.
fn base64_inside(secret: &[u8], lead: usize) -> [Vec<u8>; 2] {
    let mut padded = vec![0; lead];
    padded.extend(secret);
    let digits = verona_contract::base64::encode(Zeroizing::new(padded)).into_bytes();
    // The first digits hold bits of what stands before, the last ones of what stands behind.
    let first = (lead * 8).div_ceil(6);
    let last = (lead + secret.len()) * 8 / 6;
    let standard = digits[first..last].to_vec();
    let url = standard.iter().map(|&digit| match digit {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    });
    [url.collect(), standard]
}

fn hex(secret: &[u8], separator: &str) -> Vec<u8> {
    let mut text = String::new();
    for (index, octet) in secret.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(text, "{}{octet:02x}", if index == 0 { "" } else { separator });
    }
    text.into_bytes()
}

fn replace(octets: &[u8], needle: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some(at) = find(rest, needle) {
        out.extend(&rest[..at]);
        out.extend(REMOVED);
        rest = &rest[at + needle.len()..];
    }
    out.extend(rest);
    out
}

fn find(octets: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = octets.get(from..)?.iter().position(|&octet| octet == first) {
        if octets[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Private keys as PEM, whosoever they are.
fn pem(octets: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(octets.len()), octets);
    while let Some(at) = find(rest, b"PRIVATE KEY-----") {
        let body = &rest[at + b"PRIVATE KEY-----".len()..];
        out.extend(&rest[..at + b"PRIVATE KEY-----".len()]);
        out.extend(REMOVED);
        rest = find(body, b"-----END").map_or(&[], |end| &body[end..]);
        // Past the name in the last line, which would be found again.
        if let Some(end) = find(rest, b"PRIVATE KEY-----") {
            out.extend(&rest[..end + b"PRIVATE KEY-----".len()]);
            rest = &rest[end + b"PRIVATE KEY-----".len()..];
        }
    }
    out.extend(rest);
    out
}

/// Values behind names of secrets: `password=x`, `"psk": "x"`, `Secret: x`.
fn named(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut at = 0;
    while at < octets.len() {
        match value_of_a_secret(&octets[at..]) {
            Some((begin, end)) => {
                out.extend(&octets[at..at + begin]);
                out.extend(REMOVED);
                at += end;
            }
            None => {
                out.push(octets[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where a value begins and ends, if `octets` begins with the name of a secret and a sign of assignment.
fn value_of_a_secret(octets: &[u8]) -> Option<(usize, usize)> {
    let name = NAMES.iter().filter(|name| begins_with(octets, name)).max_by_key(|name| name.len())?;
    let mut at = name.len();
    let mut passed = |allowed: &[u8]| {
        let from = at;
        while octets.get(at).is_some_and(|octet| allowed.contains(octet)) {
            at += 1;
        }
        at - from
    };
    // The end of a quoted name, with its quotes perhaps quoted themselves.
    passed(b"\\\"' ");
    if passed(b"=:") == 0 {
        return None;
    }
    passed(b" ");
    let quoted = passed(b"\\\"'") > 0;
    let begin = at;
    let ends = |octet: &u8| match quoted {
        true => b"\"'\\\n".contains(octet),
        false => octet.is_ascii_whitespace() || b",;}])\"'\\".contains(octet),
    };
    let end = begin + octets[begin..].iter().position(ends).unwrap_or(octets.len() - begin);
    // Nothing there is to be removed, and what has a structure is looked at inside.
    let value = &octets[begin..end];
    (!value.is_empty() && !value.starts_with(b"{") && !value.starts_with(b"[") && value != b"null")
        .then_some((begin, end))
}

fn begins_with(octets: &[u8], name: &str) -> bool {
    octets.len() >= name.len()
        && octets.iter().zip(name.bytes()).all(|(octet, letter)| match octet {
            b'-' | b' ' => letter == b'_',
            octet => octet.to_ascii_lowercase() == letter,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(octets: &[u8]) -> String {
        String::from_utf8_lossy(octets).into_owned()
    }

    #[test]
    fn what_is_named_like_a_secret_goes() {
        let scrubber = Scrubber::default();
        for (before, after) in [
            ("password=hunter2 user=bob", "password=[removed] user=bob"),
            ("Pre-Shared nothing", "Pre-Shared nothing"),
            ("Preshared-Key = AAAA=", "Preshared-Key = [removed]"),
            (r#"{"psk_root":"x y","b":1}"#, r#"{"psk_root":"[removed]","b":1}"#),
            (r#"{\"token\": \"abc\"}"#, r#"{\"token\": \"[removed]\"}"#),
            ("token: [1,2]", "token: [1,2]"),
            (r#"{"psk_root":{"id":1,"secret":"x"}}"#, r#"{"psk_root":{"id":1,"secret":"[removed]"}}"#),
            ("\"secret\": null", "\"secret\": null"),
            ("the tokens ran out", "the tokens ran out"),
            ("PASSWORD:\nnext", "PASSWORD:\nnext"),
        ] {
            assert_eq!(text(&scrubber.scrub(before.as_bytes())), after, "{before}");
        }
    }

    #[test]
    fn private_keys_as_pem_go() {
        let key = "x\n-----BEGIN EC PRIVATE KEY-----\nAAAA\nBBBB\n-----END EC PRIVATE KEY-----\ny";
        let left = text(&Scrubber::default().scrub(key.as_bytes()));
        assert!(!left.contains("AAAA") && !left.contains("BBBB"), "{left}");
        assert!(left.starts_with("x\n") && left.ends_with("\ny"), "{left}");
        let torn = text(&Scrubber::default().scrub(b"-----BEGIN PRIVATE KEY-----\nAAAA"));
        assert!(!torn.contains("AAAA"));
    }

    proptest! {
        /// However a secret is written, and whatever stands around it, it does not come through.
        #[test]
        fn a_known_secret_goes_in_every_form(
            secret in prop::collection::vec(any::<u8>(), 16..48),
            before in prop::collection::vec(any::<u8>(), 0..9),
            after in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut scrubber = Scrubber::default();
            scrubber.learn(&secret);
            let around = [&before[..], &secret, &after].concat();
            let base64 = verona_contract::base64::encode(&around);
            let url = base64.replace('+', "-").replace('/', "_");
            for form in [around.clone(), hex(&secret, ""), hex(&secret, ":").to_ascii_uppercase()] {
                let left = scrubber.scrub(&form);
                prop_assert!(find(&left, &secret).is_none());
                prop_assert!(find(&left.to_ascii_lowercase(), &hex(&secret[..8], "")).is_none());
            }
            for form in [base64, url] {
                prop_assert!(find(&scrubber.scrub(form.as_bytes()), REMOVED).is_some(), "{form}");
            }
        }

        #[test]
        fn no_text_brings_it_down(octets: Vec<u8>, name in prop::sample::select(NAMES.to_vec()), sign in "[=: \"\\\\]{0,3}") {
            let mut scrubber = Scrubber::default();
            scrubber.learn(b"12345678");
            let _ = scrubber.scrub(&octets);
            let _ = scrubber.scrub(&[name.as_bytes(), sign.as_bytes(), &octets].concat());
        }
    }
}
