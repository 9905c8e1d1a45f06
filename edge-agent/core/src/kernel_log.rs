//! The kernel's messages as records: which stream, how grave, and how many.
//!
//! The format is that of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg). What the firewall logs is about packets, so
//! it goes to stream flow; everything else is about the box. A kernel that repeats itself is rationed, and how much was
//! left out is told.

use crate::journal::Draft;
use std::time::Duration;
use verona_contract::log::{Severity, Stream};

/// What our firewall's rules begin their lines with.
pub const FIREWALL: &str = "verona-";

/// Records a second in the long run, and at once.
const RATE: u32 = 20;
const BURST: u32 = 200;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Grows by one with each, over a boot.
    pub seq: u64,
    /// What it becomes.
    pub draft: Draft,
}

/// Reads one entry: `priority,seq,microseconds,flags[,…];text`, then lines of details. None: not such an entry.
#[must_use]
pub fn parse(entry: &[u8]) -> Option<Message> {
    let entry = String::from_utf8_lossy(entry);
    let (prefix, text) = entry.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let micros: u64 = fields.next()?.parse().ok()?;
    let text = text.split('\n').next()?;
    let (stream, event) = if text.starts_with(FIREWALL) {
        (Stream::Flow, "firewall")
    } else if priority >> 3 == 0 {
        (Stream::System, "kernel")
    } else {
        // A process wrote it there.
        (Stream::System, "kernel.user")
    };
    let severity = match priority & 7 {
        0..=3 => Severity::Error,
        4 => Severity::Warn,
        5 | 6 => Severity::Info,
        _ => Severity::Debug,
    };
    let text: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    let draft = Draft::new(stream, event, text).severity(severity).with("since_boot_us", micros);
    Some(Message { seq, draft })
}

/// Rations messages.
#[derive(Clone, Debug)]
pub struct Ration {
    /// In parts of a message that a nanosecond is worth.
    left: u64,
    at: Duration,
    suppressed: u64,
}

/// A message's worth of nanoseconds.
const PRICE: u64 = 1_000_000_000 / RATE as u64;

impl Ration {
    /// Full, at `now` of a monotonic clock.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self { left: PRICE * BURST as u64, at: now, suppressed: 0 }
    }

    /// Whether one more may pass at `now`. The first that does after some that did not comes with their count.
    pub fn take(&mut self, now: Duration) -> Option<u64> {
        let gained = u64::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(gained).min(PRICE * u64::from(BURST));
        self.at = self.at.max(now);
        if self.left < PRICE {
            self.suppressed += 1;
            return None;
        }
        self.left -= PRICE;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Says that messages were left out.
#[must_use]
pub fn suppressed(count: u64) -> Draft {
    let body = format!("{count} messages of the kernel were left out: they came too fast");
    Draft::new(Stream::System, "kernel.suppressed", body).severity(Severity::Warn).with("count", count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let read = |entry: &str| {
            parse(entry.as_bytes())
                .map(|one| (one.seq, one.draft.stream, one.draft.event, one.draft.severity, one.draft.body))
        };
        let is = |seq, stream, event: &str, severity, body: &str| {
            Some((seq, stream, event.to_owned(), severity, body.to_owned()))
        };
        for (entry, expected) in [
            (
                "6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n",
                is(339, Stream::System, "kernel", Severity::Info, "NET: Registered"),
            ),
            ("3,1,7,-,caller=T1;bad disk\n", is(1, Stream::System, "kernel", Severity::Error, "bad disk")),
            ("12,2,7,-;a program\n", is(2, Stream::System, "kernel.user", Severity::Warn, "a program")),
            (
                "4,3,7,-;verona-drop IN=eth0 SRC=192.0.2.1\n",
                is(3, Stream::Flow, "firewall", Severity::Warn, "verona-drop IN=eth0 SRC=192.0.2.1"),
            ),
            ("6,1,x,-;text", None),
            ("no entry", None),
            ("", None),
        ] {
            assert_eq!(read(entry), expected, "{entry:?}");
        }
    }

    #[test]
    fn a_flood_is_rationed_and_told() {
        let mut ration = Ration::new(Duration::ZERO);
        let passed = (0..10_000).filter(|_| ration.take(Duration::from_millis(1)).is_some()).count();
        assert_eq!(passed, BURST as usize);
        assert_eq!(ration.take(Duration::from_secs(1)), Some(10_000 - u64::from(BURST)));
        assert_eq!(ration.take(Duration::from_secs(2)), Some(0));
        // A clock that stands still or goes back gives nothing.
        let left = (0..1000).filter(|_| ration.take(Duration::from_secs(1)).is_some()).count();
        assert!(left < 2 * RATE as usize, "{left}");
    }
}
