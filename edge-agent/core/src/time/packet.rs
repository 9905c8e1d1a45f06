//! Question and answer of NTP, version 4 (RFC 5905 §7.3), as octets.
//!
//! The question tells nothing of the box: all fields are zero but the version and a random cookie in place of our own
//! time, which the answer repeats. Who does not see the question cannot forge the answer.

use super::Sample;

/// Octets of a question, and of an answer without extensions.
pub const LENGTH: usize = 48;

/// The UDP port of the servers.
pub const PORT: u16 = 123;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH: i64 = 2_208_988_800;

/// Seconds of an era: NTP's numbers begin anew in 2036.
const ERA: i64 = 1 << 32;

/// What is further from its reference clock than this tells no time (RFC 5905: MAXDIST), nanoseconds.
const MAX_DISTANCE_NS: u64 = 1_500_000_000;

const SECOND: i64 = 1_000_000_000;

/// The question with this cookie.
#[must_use]
pub fn request(cookie: u64) -> [u8; LENGTH] {
    let mut octets = [0; LENGTH];
    // Leap unknown to nobody, version 4, mode client.
    octets[0] = 4 << 3 | 3;
    octets[40..].copy_from_slice(&cookie.to_be_bytes());
    octets
}

/// Our side of the exchange.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// In the question.
    pub cookie: u64,
    /// Our clock when it left, Unix nanoseconds.
    pub sent_ns: i64,
    /// How long until the answer came, by a clock that does not step, nanoseconds.
    pub elapsed_ns: u64,
    /// A time that is certainly within 68 years of now, Unix seconds: tells the era.
    pub pivot_s: i64,
}

/// Why an answer tells no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Shorter than it can be, of another mode or version, or not to our question. It may come from anyone: the true
    /// one is still awaited.
    #[error("not an answer to the question")]
    Foreign,
    /// It wants to be left alone for good (DENY, RSTR).
    #[error("the server wants no questions from here")]
    Denied,
    /// It was asked too often (RATE).
    #[error("the server was asked too often")]
    TooOften,
    /// It knows no time itself.
    #[error("the server is not synchronised itself")]
    Unsynchronised,
    /// It is too far from a reference clock, or too long on its way.
    #[error("the server is more than 1.5 s from its reference clock")]
    TooFar,
    /// It claims to have taken longer than the whole exchange did, or a time that no number holds.
    #[error("the server's times contradict themselves")]
    Contradiction,
}

/// Reads the answer of an exchange.
///
/// # Errors
///
/// [`Unfit`].
pub fn answer(octets: &[u8], exchange: &Exchange) -> Result<Sample, Unfit> {
    let header = octets.first_chunk::<LENGTH>().ok_or(Unfit::Foreign)?;
    let (leap, version, mode) = (header[0] >> 6, header[0] >> 3 & 7, header[0] & 7);
    if mode != 4 || !(3..=4).contains(&version) || word(header, 24) != exchange.cookie {
        return Err(Unfit::Foreign);
    }
    let stratum = header[1];
    match (stratum, &header[12..16]) {
        (0, b"DENY" | b"RSTR") => return Err(Unfit::Denied),
        (0, b"RATE") => return Err(Unfit::TooOften),
        (1..=15, _) if leap != 3 && word(header, 40) != 0 => {}
        _ => return Err(Unfit::Unsynchronised),
    }
    let received = unix_ns(word(header, 32), exchange.pivot_s).ok_or(Unfit::Contradiction)?;
    let replied = unix_ns(word(header, 40), exchange.pivot_s).ok_or(Unfit::Contradiction)?;
    let elapsed = i64::try_from(exchange.elapsed_ns).map_err(|_| Unfit::Contradiction)?;
    let held = replied.checked_sub(received).filter(|held| (0..=elapsed).contains(held));
    let delay = elapsed - held.ok_or(Unfit::Contradiction)?;
    // ((T2 - T1) + (T3 - T4)) / 2, with T4 = T1 + elapsed.
    let before = i128::from(received) - i128::from(exchange.sent_ns);
    let after = i128::from(replied) - i128::from(exchange.sent_ns) - i128::from(elapsed);
    let offset_ns = i64::try_from((before + after) / 2).map_err(|_| Unfit::Contradiction)?;
    let delay_ns = delay.unsigned_abs();
    let distance_ns = (short_ns(header, 4) + delay_ns) / 2 + short_ns(header, 8);
    if distance_ns > MAX_DISTANCE_NS {
        return Err(Unfit::TooFar);
    }
    Ok(Sample { offset_ns, distance_ns, delay_ns, stratum })
}

fn word(header: &[u8; LENGTH], at: usize) -> u64 {
    header[at..at + 8].iter().fold(0, |word, octet| word << 8 | u64::from(*octet))
}

/// 16.16 seconds (root delay, root dispersion) in nanoseconds.
fn short_ns(header: &[u8; LENGTH], at: usize) -> u64 {
    let word = header[at..at + 4].iter().fold(0, |word, octet| word << 8 | u64::from(*octet));
    (word * 1_000_000_000) >> 16
}

/// 32.32 seconds since 1900 or 2036 or …, in the era nearest to `pivot_s`.
fn unix_ns(timestamp: u64, pivot_s: i64) -> Option<i64> {
    let in_era = i64::try_from(timestamp >> 32).ok()? - UNIX_EPOCH;
    let seconds =
        in_era.checked_add(pivot_s.checked_sub(in_era)?.checked_add(ERA / 2)?.div_euclid(ERA) * ERA)?;
    let fraction = ((timestamp & 0xffff_ffff) * 1_000_000_000) >> 32;
    seconds.checked_mul(SECOND)?.checked_add(i64::try_from(fraction).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23T09:00:00Z.
    const NOW_S: i64 = 1_795_424_400;

    const EXCHANGE: Exchange = Exchange {
        cookie: 0x1122_3344_5566_7788,
        sent_ns: NOW_S * SECOND,
        elapsed_ns: 30_000_000,
        pivot_s: NOW_S,
    };

    fn ntp(unix_ns: i64) -> u64 {
        let (seconds, fraction) = (unix_ns.div_euclid(SECOND), unix_ns.rem_euclid(SECOND).unsigned_abs());
        ((seconds + UNIX_EPOCH).rem_euclid(ERA).unsigned_abs() << 32) | ((fraction << 32) / 1_000_000_000)
    }

    /// A server that is `ahead_ns` ahead, at the middle of the way, and takes no time.
    fn reply(ahead_ns: i64) -> Vec<u8> {
        let at = ntp(EXCHANGE.sent_ns + 15_000_000 + ahead_ns).to_be_bytes();
        let mut octets = vec![0x24, 2, 6, 0xec];
        octets.extend([0, 0, 0x10, 0, 0, 0, 0x08, 0]); // 62.5 ms and 31.25 ms
        octets.extend([192, 0, 2, 1]);
        octets.extend([0; 8]);
        octets.extend(EXCHANGE.cookie.to_be_bytes());
        octets.extend(at);
        octets.extend(at);
        octets
    }

    #[test]
    fn a_question_tells_nothing_of_the_box() {
        let question = request(EXCHANGE.cookie);
        assert_eq!(question[0], 0x23);
        assert!(question[1..40].iter().all(|&octet| octet == 0));
        assert_eq!(question[40..], EXCHANGE.cookie.to_be_bytes());
    }

    #[test]
    fn offset_delay_and_distance() {
        for ahead in [0, 7_000_000_000, -3_600_000_000_000] {
            let sample = answer(&reply(ahead), &EXCHANGE).unwrap();
            assert!((sample.offset_ns - ahead).abs() <= 1, "{sample:?}");
            assert_eq!((sample.delay_ns, sample.stratum), (30_000_000, 2));
            assert_eq!(sample.distance_ns, (62_500_000 + 30_000_000) / 2 + 31_250_000);
        }
    }

    #[test]
    fn a_clock_in_1970_is_set_by_half_a_century() {
        let lost = Exchange { sent_ns: 5 * SECOND, ..EXCHANGE };
        let sample = answer(&reply(0), &lost).unwrap();
        assert!((sample.offset_ns - (NOW_S - 5) * SECOND).abs() <= 1);
    }

    #[test]
    fn the_numbers_begin_anew_in_2036() {
        // 2036-02-07T06:28:16Z is zero again.
        let turn = ERA - UNIX_EPOCH;
        for unix_s in [turn - 1, turn, turn + 1, turn + 1_000_000_000] {
            assert_eq!(unix_ns(ntp(unix_s * SECOND), NOW_S + 86_400 * 365 * 10), Some(unix_s * SECOND));
        }
        assert_eq!(unix_ns(u64::MAX, i64::MAX), None, "and no pivot makes it panic");
        assert_eq!(unix_ns(0, i64::MIN), None);
    }

    #[test]
    fn what_tells_no_time() {
        type Change = fn(&mut Vec<u8>);
        let changes: [(&str, Change, Unfit); 12] = [
            ("short", |o| o.truncate(47), Unfit::Foreign),
            ("a question", |o| o[0] = 0x23, Unfit::Foreign),
            ("a broadcast", |o| o[0] = 0x25, Unfit::Foreign),
            ("version 7", |o| o[0] = 0x3c, Unfit::Foreign),
            ("another cookie", |o| o[31] ^= 1, Unfit::Foreign),
            ("leap unknown", |o| o[0] |= 0xc0, Unfit::Unsynchronised),
            ("stratum 16", |o| o[1] = 16, Unfit::Unsynchronised),
            ("stratum 0", |o| o[1] = 0, Unfit::Unsynchronised),
            ("kiss of death", |o| o.splice(12..16, *b"DENY").for_each(drop), Unfit::Denied),
            ("asked too often", |o| o.splice(12..16, *b"RATE").for_each(drop), Unfit::TooOften),
            ("far", |o| o[9] = 2, Unfit::TooFar),
            ("answered before it was asked", |o| o[39] ^= 0x80, Unfit::Contradiction),
        ];
        for (name, change, unfit) in changes {
            let mut octets = reply(0);
            change(&mut octets);
            if matches!(unfit, Unfit::Denied | Unfit::TooOften) {
                octets[1] = 0;
            }
            if name == "answered before it was asked" {
                octets[40..].copy_from_slice(&ntp(EXCHANGE.sent_ns).to_be_bytes());
            }
            assert_eq!(answer(&octets, &EXCHANGE), Err(unfit), "{name}");
        }
        let mut slow = reply(0);
        slow[40..].copy_from_slice(&ntp(EXCHANGE.sent_ns + 90_000_000).to_be_bytes());
        assert_eq!(answer(&slow, &EXCHANGE), Err(Unfit::Contradiction), "it took longer than the exchange");
    }

    proptest! {
        #[test]
        fn no_answer_brings_it_down(octets: Vec<u8>, sent_ns: i64, elapsed_ns: u64, pivot_s: i64) {
            let cookie = octets.get(24..32).map_or(0, |cookie| u64::from_be_bytes(cookie.try_into().unwrap()));
            let _ = answer(&octets, &Exchange { cookie, sent_ns, elapsed_ns, pivot_s });
        }
    }
}
