//! Deadlines of live sessions, in a hierarchical timing wheel (Varghese and Lauck, scheme 6).
//!
//! Putting one in and taking one out costs the same for ten sessions and for ten thousand. Time goes in ticks,
//! and everything of one tick comes up at once, never early: so ten thousand idle peers wake their thread some
//! sixty times a second, not ten thousand times.
//!
//! An entry is never searched for: a session remembers its own deadline, and an entry that no longer agrees
//! with it is skipped when it comes up. A session is scheduled again only when its entry came up or an
//! earlier deadline is wanted, so the wheel holds about one entry a live session.

use crate::peers::PeerId;
use std::time::{Duration, Instant};

/// The grain of all deadlines: how late one may be. The protocol's shortest is 800 ms.
const TICK: Duration = Duration::from_millis(16);
/// Slots of a level: the bits of a word that tells which of them are in use.
const SLOTS: u64 = 64;
/// Bits of a tick's number that choose the slot.
const BITS: u32 = SLOTS.ilog2();
/// The levels reach 1 s, 66 s, 70 min and 3 days; what is later comes up after 3 days and goes in again.
const LEVELS: usize = 4;

type Entry = (Instant, PeerId);

pub(crate) struct Timers {
    /// Tick 0; no deadline is before it.
    origin: Instant,
    /// Every tick before this one is over.
    tick: u64,
    levels: [Level; LEVELS],
    /// Entries whose tick has come.
    due: Vec<Entry>,
}

struct Level {
    /// Bit n: slot n holds something.
    used: u64,
    slots: [Vec<Entry>; SLOTS as usize],
}

impl Default for Level {
    fn default() -> Self {
        Self { used: 0, slots: [const { Vec::new() }; SLOTS as usize] }
    }
}

impl Timers {
    pub(crate) fn new(now: Instant) -> Self {
        Self { origin: now, tick: 0, levels: Default::default(), due: Vec::new() }
    }

    pub(crate) fn schedule(&mut self, at: Instant, id: PeerId) {
        self.place((at, id));
    }

    /// When to ask [`Self::pop_due`] again. It may then have nothing: waking up for it costs little.
    pub(crate) fn next(&self) -> Option<Instant> {
        if let Some((at, _)) = self.due.first() {
            return Some(*at);
        }
        let soonest = self.soonest()?;
        // Ticks of 16 ms: u32 lasts for two years, and a deadline is never so far.
        Some(self.origin + TICK * u32::try_from(soonest).unwrap_or(u32::MAX))
    }

    /// Takes one entry that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Entry> {
        loop {
            if let Some(entry) = self.due.pop() {
                return Some(entry);
            }
            let soonest = self.soonest()?;
            let elapsed = now.saturating_duration_since(self.origin);
            let current = (elapsed.as_nanos() / TICK.as_nanos()) as u64;
            if current < soonest {
                return None;
            }
            self.tick = soonest;
            self.turn();
        }
    }

    /// The first tick at which a slot comes up: its entries', or when they move to a finer level.
    fn soonest(&self) -> Option<u64> {
        let of_level = |(number, level): (usize, &Level)| {
            let shift = BITS * number as u32;
            let current = self.tick >> shift;
            // Turned so that bit 0 is the slot of the current time.
            let ahead = level.used.rotate_right((current % SLOTS) as u32);
            (ahead != 0).then(|| (current + u64::from(ahead.trailing_zeros())) << shift)
        };
        self.levels.iter().enumerate().filter_map(of_level).min().map(|tick| tick.max(self.tick))
    }

    /// Empties the slots whose time has come.
    fn turn(&mut self) {
        for number in (0..LEVELS).rev() {
            let slot = (self.tick >> (BITS * number as u32)) % SLOTS;
            let level = &mut self.levels[number];
            if level.used >> slot & 1 == 0 {
                continue;
            }
            level.used &= !(1 << slot);
            let mut entries = std::mem::take(&mut level.slots[slot as usize]);
            entries.drain(..).for_each(|entry| self.place(entry));
            // Its memory serves again.
            let slot = &mut self.levels[number].slots[slot as usize];
            if slot.is_empty() {
                *slot = entries;
            }
        }
    }

    /// Puts an entry where its tick is: the coarser, the further away.
    fn place(&mut self, entry: Entry) {
        let since = entry.0.saturating_duration_since(self.origin);
        let tick = since.as_nanos().div_ceil(TICK.as_nanos()) as u64;
        if tick <= self.tick {
            self.due.push(entry);
            return;
        }
        // The level on which both ticks are within one turn of the wheel, and not in the same slot.
        let apart = (tick ^ self.tick).ilog2() / BITS;
        let number = (apart as usize).min(LEVELS - 1);
        let shift = BITS * number as u32;
        let last = (self.tick >> shift) + SLOTS - 1;
        let slot = (tick >> shift).min(last) % SLOTS;
        let level = &mut self.levels[number];
        level.used |= 1 << slot;
        level.slots[slot as usize].push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do, and there is no other way to one")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn peer(number: usize) -> PeerId {
        PeerId::new(number as u32)
    }

    proptest! {
        /// Against a list: everything comes up once, never early, at most a tick late if asked in time.
        #[test]
        fn everything_comes_up_in_its_time(
            steps in prop::collection::vec(
                (prop_oneof![0_u64..40, 0_u64..5_000, 0_u64..600_000, 0_u64..2_000_000_000], 0_u64..3_000, any::<bool>()),
                1..80,
            )
        ) {
            let begin = begin();
            let mut timers = Timers::new(begin);
            let mut waiting: Vec<Entry> = Vec::new();
            let mut now = begin;
            for (number, (after, pause, follow)) in steps.into_iter().enumerate() {
                let entry = (now + Duration::from_millis(after), peer(number));
                timers.schedule(entry.0, entry.1);
                waiting.push(entry);
                let wanted = timers.next().expect("something waits");
                let earliest = waiting.iter().map(|(at, _)| *at).min().expect("something waits");
                prop_assert!(wanted < earliest.max(now) + TICK, "woken for it in time");
                now = if follow { wanted.max(now) } else { now + Duration::from_millis(pause) };
                while let Some((at, id)) = timers.pop_due(now) {
                    prop_assert!(at <= now, "early");
                    let index = waiting.iter().position(|entry| *entry == (at, id));
                    waiting.swap_remove(index.expect("comes up once"));
                }
                prop_assert!(waiting.iter().all(|(at, _)| now < *at + TICK), "late");
            }
            // Led by the wheel alone, the rest comes too.
            for _ in 0..100_000 {
                let Some(wanted) = timers.next() else { break };
                now = now.max(wanted);
                while let Some((at, id)) = timers.pop_due(now) {
                    prop_assert!(at <= now && now < at + TICK, "{at:?} at {now:?}");
                    waiting.retain(|entry| *entry != (at, id));
                }
            }
            prop_assert!(waiting.is_empty() && timers.next().is_none());
        }
    }

    #[test]
    fn many_sessions_wake_few_times() {
        let begin = begin();
        let mut timers = Timers::new(begin);
        for number in 0..10_000 {
            timers.schedule(begin + Duration::from_micros(100 * number as u64), peer(number));
        }
        let (mut wakes, mut came) = (0, 0);
        while let Some(at) = timers.next() {
            wakes += 1;
            while timers.pop_due(at).is_some() {
                came += 1;
            }
        }
        assert_eq!(came, 10_000);
        assert!(wakes <= 70, "{wakes} times for the deadlines of one second");
    }
}
