//! When a certificate is renewed: at two thirds of its life, spread so that edges flashed on one day do not
//! all come on another.

/// The moment to renew, Unix seconds: two thirds of the life, and up to a twelfth later by `entropy`. At the
/// latest a quarter of the life is then left for trying again.
#[must_use]
pub fn renew_at(not_before: i64, not_after: i64, entropy: u64) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0);
    let spread = (i128::from(life / 12) * i128::from(entropy)) >> 64;
    // At most a twelfth of an i64.
    not_before.saturating_add(life / 3 * 2).saturating_add(spread as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_and_a_little() {
        assert_eq!(renew_at(1_000, 1_000 + 36_000, 0), 1_000 + 24_000);
        let latest = renew_at(1_000, 1_000 + 36_000, u64::MAX);
        assert!((1_000 + 26_990..=1_000 + 27_000).contains(&latest), "{latest}");
        assert_eq!(renew_at(1_000, 500, u64::MAX), 1_000, "a life that never was");
        assert!(renew_at(i64::MIN, i64::MAX, u64::MAX) < i64::MAX);
    }
}
