//! How much public-key work strangers may cause: the limits in front of handshakes and introductions.
//!
//! Below the global rate everything is processed. Above it a sender must show by a cookie (mac2) that it
//! receives at its address, and then gets a share per source: a /32, or a /64 of IPv6. Asking for a cookie costs
//! more than dropping, so each source is asked as often as an honest one needs it, and beyond that all together
//! are: who sends in another's name makes that one wait, but cannot make it wait in vain. The tables of sources
//! are fixed in size; two sources that fall into one slot take turns, which only helps the one that is over its
//! rate.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Instant;

/// What handshakes may cost before cookies are demanded, a second and at once: 1,000 of them are about a
/// quarter of one core (0.27 ms each).
const HANDSHAKES: Rate = Rate { per_second: 1000, burst: 1000 };
/// The same for introductions (0.15 ms each, two signature checks more when the chain has two).
const INTRODUCTIONS: Rate = Rate { per_second: 500, burst: 500 };
/// One source's share under load: as wireguard-go's.
const SOURCE: Rate = Rate { per_second: 20, burst: 5 };
/// Cookies that one source is asked for: an introduction and an initiation a second, twice at once.
const ASKED: Rate = Rate { per_second: 2, burst: 4 };
/// The same for all sources together, beyond that: 5 µs each.
const ASKED_BEYOND: Rate = Rate { per_second: 10_000, burst: 1000 };
/// 4,096 slots of 24 octets for sources that have shown that they receive, made at the first load.
const SLOTS: usize = 4096;
/// The same for sources that were asked to: anybody can write any source, so there are more.
const ASKED_SLOTS: usize = 16_384;

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
    /// The source is over its share.
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

/// A table of sources, each slot with the latest one that fell into it.
struct Sources {
    slots: Vec<Option<Source>>,
    count: usize,
    rate: Rate,
}

impl Sources {
    const fn new(count: usize, rate: Rate) -> Self {
        Self { slots: Vec::new(), count, rate }
    }

    fn take(&mut self, tag: u64, now: Instant) -> bool {
        if self.slots.is_empty() {
            self.slots = vec![None; self.count];
        }
        // Below the count, so it fits.
        let slot = &mut self.slots[(tag % self.count as u64) as usize];
        let fresh = Source { tag, bucket: Bucket::full(self.rate, now) };
        let source = slot.get_or_insert(fresh);
        if source.tag != tag {
            *source = fresh;
        }
        source.bucket.take(self.rate, now)
    }
}

/// All limits of one engine.
pub(crate) struct Load {
    handshakes: Bucket,
    introductions: Bucket,
    proven: Sources,
    asked: Sources,
    asked_beyond: Bucket,
    /// Keeps strangers from choosing whose slot they share.
    slot_key: [u8; 32],
}

impl Load {
    pub(crate) fn new(slot_key: [u8; 32], now: Instant) -> Self {
        Self {
            handshakes: Bucket::full(HANDSHAKES, now),
            introductions: Bucket::full(INTRODUCTIONS, now),
            proven: Sources::new(SLOTS, SOURCE),
            asked: Sources::new(ASKED_SLOTS, ASKED),
            asked_beyond: Bucket::full(ASKED_BEYOND, now),
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
        let allowed = |allowed, verdict| if allowed { verdict } else { Verdict::Drop };
        if calm {
            Verdict::Process
        } else if !mac2_is_valid() {
            let may_ask = self.asked.take(self.tag(from), now) || self.asked_beyond.take(ASKED_BEYOND, now);
            allowed(may_ask, Verdict::DemandCookie)
        } else {
            allowed(self.proven.take(self.tag(from), now), Verdict::Process)
        }
    }

    /// What tells a source from others, and chooses its slot.
    fn tag(&self, from: IpAddr) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.slot_key);
        match from {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()[..8]),
        }
        hasher.finish()
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
        assert_eq!(load.proven.slots.len(), SLOTS);
        // Ten seconds: its share, what the global bucket lets through, a fresh share each time that one of the
        // others has taken its slot.
        let global = 10 * HANDSHAKES.per_second;
        let evictions = 100_000 / SLOTS as u32 + 20;
        assert!(passed <= global + 10 * SOURCE.per_second + SOURCE.burst * evictions, "{passed}");
    }

    #[test]
    fn who_floods_in_anothers_name_cannot_have_it_asked_without_end_nor_never() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let mut now = Instant::now();
        let mut load = Load::new([1; 32], now);
        while load.judge(Work::Handshake, [192, 0, 2, 1].into(), now, || false) == Verdict::Process {}
        let (mut asked, mut others, flood) = (0, 0, 100_000_u32);
        for number in 0..flood {
            now += Duration::from_micros(20);
            let verdict = load.judge(Work::Introduction, [192, 0, 2, 1].into(), now, || false);
            asked += u32::from(verdict == Verdict::DemandCookie);
            // A newcomer of an address that nobody abuses, ten times a second.
            if number % 5000 == 0 {
                let newcomer = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
                let verdict = load.judge(Work::Introduction, newcomer, now, || false);
                others += u32::from(verdict != Verdict::Drop);
            }
        }
        assert_eq!(others, 20, "everybody else is asked, or let through, at once");
        let most = 2 * (ASKED_BEYOND.per_second + ASKED.per_second) + ASKED_BEYOND.burst + ASKED.burst;
        assert!((most / 2..=most).contains(&asked), "{asked}");
        assert_eq!(load.asked.slots.len(), ASKED_SLOTS);
    }
}
