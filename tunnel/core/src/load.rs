//! How much public-key work strangers may cause: the limits in front of handshakes and introductions.
//!
//! Below the global rate everything is processed. Above it a sender must show by a cookie (mac2) that it
//! receives at its address, and then gets a share per source: a /32, or a /64 of IPv6. The table of
//! sources is fixed in size; two sources that fall into one slot take turns, which only helps the one that
//! is over its rate, and only from addresses it owns.

use crate::noise;
use std::net::IpAddr;
use std::time::Instant;

/// What handshakes may cost before cookies are demanded, a second and at once: 1,000 of them are about a
/// quarter of one core (0.27 ms each).
const HANDSHAKES: Rate = Rate { per_second: 1000, burst: 1000 };
/// The same for introductions (0.15 ms each, two signature checks more when the chain has two).
const INTRODUCTIONS: Rate = Rate { per_second: 500, burst: 500 };
/// One source's share under load: as wireguard-go's.
const SOURCE: Rate = Rate { per_second: 20, burst: 5 };
/// 4,096 slots of 24 octets, made at the first load.
const SLOTS: usize = 4096;

/// What a message costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Handshake,
    Introduction,
}

/// What to do with a message whose mac1 is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Process,
    /// Answer with a cookie reply and forget the message.
    DemandCookie,
    /// The source has proven its address and is over its share.
    Drop,
}

/// Tokens per second, and how many may be saved up.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: u32,
    burst: u32,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f32,
    filled: Instant,
}

impl Bucket {
    const fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst as f32, filled: now }
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f32();
        self.tokens = (self.tokens + passed * rate.per_second as f32).min(rate.burst as f32);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[derive(Clone, Copy, Debug)]
struct Source {
    tag: u64,
    bucket: Bucket,
}

/// All limits of one engine.
pub(crate) struct Load {
    handshakes: Bucket,
    introductions: Bucket,
    sources: Vec<Option<Source>>,
    /// Keeps strangers from choosing whose slot they share.
    slot_key: [u8; 32],
}

impl Load {
    pub(crate) fn new(slot_key: [u8; 32], now: Instant) -> Self {
        Self {
            handshakes: Bucket::full(HANDSHAKES, now),
            introductions: Bucket::full(INTRODUCTIONS, now),
            sources: Vec::new(),
            slot_key,
        }
    }

    /// Judges one message from `from`; `mac2_is_valid` is asked under load only.
    pub(crate) fn judge(
        &mut self,
        work: Work,
        from: IpAddr,
        now: Instant,
        mac2_is_valid: impl FnOnce() -> bool,
    ) -> Verdict {
        let calm = match work {
            Work::Handshake => self.handshakes.take(HANDSHAKES, now),
            Work::Introduction => self.introductions.take(INTRODUCTIONS, now),
        };
        if calm {
            Verdict::Process
        } else if !mac2_is_valid() {
            Verdict::DemandCookie
        } else if self.source(from, now).take(SOURCE, now) {
            Verdict::Process
        } else {
            Verdict::Drop
        }
    }

    fn source(&mut self, from: IpAddr, now: Instant) -> &mut Bucket {
        if self.sources.is_empty() {
            self.sources = vec![None; SLOTS];
        }
        let [a, b, c, d, e, f, g, h, ..] = match from {
            IpAddr::V4(v4) => noise::mac(&self.slot_key, &[&v4.octets()]),
            IpAddr::V6(v6) => noise::mac(&self.slot_key, &[&v6.octets()[..8]]),
        };
        let tag = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        // Below SLOTS, so it fits.
        let slot = &mut self.sources[(tag % SLOTS as u64) as usize];
        let fresh = Source { tag, bucket: Bucket::full(SOURCE, now) };
        let source = slot.get_or_insert(fresh);
        if source.tag != tag {
            *source = fresh;
        }
        &mut source.bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cookies_above_the_global_rate_then_a_share_per_source() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let mut load = Load::new([1; 32], now);
        let from = |text: &str| -> IpAddr { text.parse().unwrap() };
        for _ in 0..HANDSHAKES.burst {
            assert_eq!(load.judge(Work::Handshake, from("192.0.2.1"), now, || false), Verdict::Process);
        }
        assert_eq!(load.judge(Work::Handshake, from("192.0.2.1"), now, || false), Verdict::DemandCookie);
        assert_eq!(
            load.judge(Work::Introduction, from("192.0.2.1"), now, || false),
            Verdict::Process,
            "own bucket"
        );
        for _ in 0..SOURCE.burst {
            assert_eq!(load.judge(Work::Handshake, from("2001:db8::1"), now, || true), Verdict::Process);
        }
        assert_eq!(load.judge(Work::Handshake, from("2001:db8::2"), now, || true), Verdict::Drop, "same /64");
        assert_eq!(load.judge(Work::Handshake, from("2001:db8:0:1::1"), now, || true), Verdict::Process);
        let later = now + Duration::from_secs(1);
        assert_eq!(
            load.judge(Work::Handshake, from("2001:db8::2"), later, || false),
            Verdict::Process,
            "calm again"
        );
    }

    #[test]
    fn many_sources_fill_no_memory_and_a_noisy_one_gets_its_share_only() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let mut now = Instant::now();
        let mut load = Load::new([1; 32], now);
        while load.judge(Work::Handshake, [192, 0, 2, 1].into(), now, || false) == Verdict::Process {}
        let mut passed = 0;
        for number in 0..100_000_u32 {
            // As fast as keeps the global bucket empty.
            now += Duration::from_micros(100);
            load.judge(Work::Handshake, IpAddr::from(number.to_be_bytes()), now, || true);
            let noisy = load.judge(Work::Handshake, [203, 0, 113, 1].into(), now, || true);
            passed += u32::from(noisy == Verdict::Process);
        }
        assert_eq!(load.sources.len(), SLOTS);
        // Ten seconds: its share, what the global bucket lets through, a fresh share each time that one of the
        // others has taken its slot.
        let global = 10 * HANDSHAKES.per_second;
        let evictions = 100_000 / SLOTS as u32 + 20;
        assert!(passed <= global + 10 * SOURCE.per_second + SOURCE.burst * evictions, "{passed}");
    }
}
