//! Whom to believe of several servers: the intersection of RFC 5905 §11.2.1, without its rule for midpoints.
//!
//! Each server claims an interval, its offset with its distance to both sides. If more than half of those that answered
//! have a point in common, the truth is there, and the others lie or are broken. One that lies alone moves nothing.

use super::Sample;

/// No server is held to be better than this: paths differ in their two directions. Nanoseconds.
const LEAST_DISTANCE_NS: u64 = 5_000_000;

/// With so many servers or more, one alone is not believed: who can silence the others could speak for all.
const MANY: usize = 3;

/// What the servers together say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consensus {
    /// How far our clock is behind, nanoseconds.
    pub offset_ns: i64,
    /// How far that may be off, nanoseconds.
    pub distance_ns: u64,
    /// Who agrees, by place.
    pub agreeing: Vec<usize>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dissent {
    /// Too few answered.
    #[error("{answered} of {asked} time servers answered, {needed} must")]
    TooFew {
        /// With a time.
        answered: usize,
        /// In all.
        asked: usize,
        /// At least.
        needed: usize,
    },
    /// No majority.
    #[error("{answered} time servers answered, and no majority of them agrees")]
    NoMajority {
        /// With a time.
        answered: usize,
    },
}

/// What `samples`, one for each server that is asked, say together; `None` is a server that told no time.
///
/// # Errors
///
/// [`Dissent`].
pub fn consensus(samples: &[Option<Sample>]) -> Result<Consensus, Dissent> {
    let claims: Vec<(usize, Claim)> = samples
        .iter()
        .enumerate()
        .filter_map(|(place, sample)| Some((place, Claim::of(sample.as_ref()?))))
        .collect();
    let answered = claims.len();
    let needed = if samples.len() >= MANY { 2 } else { 1 };
    if answered < needed {
        return Err(Dissent::TooFew { answered, asked: samples.len(), needed });
    }
    // As few as possible are held for liars, and never half of them.
    let common = (0..answered.div_ceil(2)).find_map(|liars| intersection(&claims, liars));
    let (low, high) = common.ok_or(Dissent::NoMajority { answered })?;
    let inside: Vec<&(usize, Claim)> =
        claims.iter().filter(|(_, claim)| claim.low <= high && claim.high >= low).collect();
    // The nearer a server is to its reference clock, the more its word weighs.
    let weight = |claim: &Claim| 1.0 / (claim.high - claim.low) as f64;
    let sum: f64 = inside.iter().map(|(_, claim)| weight(claim)).sum();
    let base = inside.first().map_or(0, |(_, claim)| claim.middle);
    let mean: f64 =
        inside.iter().map(|(_, claim)| (claim.middle - base) as f64 * weight(claim)).sum::<f64>() / sum;
    // A claim so wide that it touches everything weighs little, and leads nobody out of what all have in common.
    let offset = (base + mean as i128).clamp(low, high);
    let distance = inside.iter().map(|(_, claim)| (claim.high - claim.low) / 2).min().unwrap_or(0);
    Ok(Consensus {
        // Claims are around 64-bit numbers, and the mean lies between them.
        offset_ns: i64::try_from(offset).unwrap_or(i64::MAX),
        distance_ns: u64::try_from(distance).unwrap_or(u64::MAX),
        agreeing: inside.iter().map(|(place, _)| *place).collect(),
    })
}

/// An interval. Wider numbers than an offset, so that nothing overflows.
struct Claim {
    low: i128,
    middle: i128,
    high: i128,
}

impl Claim {
    fn of(sample: &Sample) -> Self {
        let middle = i128::from(sample.offset_ns);
        let distance = i128::from(sample.distance_ns.max(LEAST_DISTANCE_NS));
        Self { low: middle - distance, middle, high: middle + distance }
    }
}

/// What all but `liars` claims have in common.
fn intersection(claims: &[(usize, Claim)], liars: usize) -> Option<(i128, i128)> {
    let honest = claims.len() - liars;
    let around = |point: i128| {
        claims.iter().filter(|(_, claim)| claim.low <= point && point <= claim.high).count() >= honest
    };
    let low = claims.iter().map(|(_, claim)| claim.low).filter(|low| around(*low)).min()?;
    let high = claims.iter().map(|(_, claim)| claim.high).filter(|high| around(*high)).max()?;
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn said(offset_ms: i64, distance_ms: u64) -> Option<Sample> {
        let (offset_ns, distance_ns) = (offset_ms * MS, distance_ms * MS as u64);
        Some(Sample { offset_ns, distance_ns, delay_ns: 0, stratum: 2 })
    }

    #[test]
    fn a_liar_alone_moves_nothing() {
        for lie in [3_600_000, -3_600_000, 100, -100, i64::MAX / MS] {
            let found = consensus(&[said(2, 20), said(lie, 10), said(-1, 20), said(0, 30)]).unwrap();
            assert_eq!(found.agreeing, [0, 2, 3], "{lie}");
            assert!(found.offset_ns.abs() < 3 * MS, "{found:?}");
        }
    }

    #[test]
    fn half_of_them_is_no_majority() {
        let two_and_two = [said(0, 10), said(1, 10), said(900, 10), said(901, 10)];
        assert_eq!(consensus(&two_and_two), Err(Dissent::NoMajority { answered: 4 }));
        assert_eq!(consensus(&[said(0, 10), said(900, 10)]), Err(Dissent::NoMajority { answered: 2 }));
        let silent = [said(0, 10), said(900, 10), None];
        assert_eq!(consensus(&silent), Err(Dissent::NoMajority { answered: 2 }));
    }

    #[test]
    fn one_of_many_is_not_believed() {
        assert_eq!(
            consensus(&[None, said(5, 10), None]),
            Err(Dissent::TooFew { answered: 1, asked: 3, needed: 2 })
        );
        assert_eq!(consensus(&[said(5, 10)]).unwrap().offset_ns, 5 * MS, "but the only one that there is");
        assert_eq!(consensus(&[]), Err(Dissent::TooFew { answered: 0, asked: 0, needed: 1 }));
        assert_eq!(consensus(&[None]), Err(Dissent::TooFew { answered: 0, asked: 1, needed: 1 }));
    }

    #[test]
    fn a_wide_claim_weighs_little() {
        // Its interval holds both others, its middle neither.
        let found = consensus(&[said(0, 10), said(1000, 1200), said(2, 10)]).unwrap();
        assert!(found.offset_ns.abs() < 10 * MS, "{found:?}");
        assert_eq!(found.distance_ns, 10 * MS as u64);
    }

    proptest! {
        /// Whatever a minority says, the outcome lies within what the honest majority claims.
        #[test]
        fn a_minority_never_leads(
            truth in -1_000_000_i64..1_000_000,
            honest in prop::collection::vec((-20_i64..20, 20_u64..200), 3..6),
            lies in prop::collection::vec((any::<i32>(), 0_u64..1500), 0..3),
        ) {
            let lies = lies.into_iter().take(honest.len() - 1).map(|(at, width)| said(i64::from(at), width));
            let samples: Vec<_> =
                honest.iter().map(|(error, width)| said(truth + error, *width)).chain(lies).collect();
            let found = consensus(&samples);
            prop_assert!(found.is_ok());
            let off = (found.unwrap().offset_ns - truth * MS).unsigned_abs();
            prop_assert!(off <= 400 * MS as u64, "{off}");
        }

        #[test]
        fn no_claim_brings_it_down(claims in prop::collection::vec(prop::option::of((any::<i64>(), any::<u64>())), 0..9)) {
            let samples: Vec<Option<Sample>> = claims
                .into_iter()
                .map(|claim| {
                    let (offset_ns, distance_ns) = claim?;
                    Some(Sample { offset_ns, distance_ns, delay_ns: 0, stratum: 1 })
                })
                .collect();
            let _ = consensus(&samples);
        }
    }
}
