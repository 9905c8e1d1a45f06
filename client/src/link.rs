//! Whether an edge answers, judged by the peer's counters, and when another endpoint gets its turn.
//!
//! The data plane itself repeats handshakes, and asks a silent edge again after two seconds; here is only
//! seen what came of it. Silence alone is no verdict: a one-way flow is silent too, until the data plane asks
//! and the edge answers. No clock is read here, nothing is sent.

use std::time::{Duration, Instant, SystemTime};

/// Sending without any answer for this long means that the edge is gone: the data plane's longest patience
/// (15 s) and some unanswered handshakes.
const LOST: Duration = Duration::from_secs(20);
/// Sending without any answer for this long is worth a question to the center, though not yet a verdict.
const SILENT: Duration = Duration::from_secs(5);
/// The time of one endpoint: a little more than the data plane's slowest repetition (5.3 s).
const ENDPOINT_TIME: Duration = Duration::from_secs(6);
/// A keepalive's octets: header and tag (WireGuard whitepaper §5.4.6). Nobody answers one.
const KEEPALIVE: u64 = 32;

/// A peer's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Octets of authenticated datagrams received.
    pub(crate) rx_bytes: u64,
    /// Octets sent.
    pub(crate) tx_bytes: u64,
    /// The last handshake that was confirmed.
    pub(crate) last_handshake: Option<SystemTime>,
}

/// One edge as seen from here.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    seen: Sample,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No answer; another endpoint is due at this time.
    Connecting(Instant),
    /// It answers, as far as we know; the time is that of the first thing sent that got no answer yet.
    Connected(Option<Instant>),
}

impl Link {
    /// An edge that was not spoken to: its first endpoint is due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self { seen: Sample::default(), phase: Phase::Connecting(now) }
    }

    /// Whether the edge answers: true after a handshake with it, until it is silent for too long.
    pub(crate) const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected(_))
    }

    /// Whether the edge left what was sent without an answer for a while: perhaps it is gone.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Connected(Some(since)) if now >= since + SILENT)
    }

    /// Takes the counters as of `now`; true when the next endpoint is due. To be called once a second or so.
    pub(crate) fn observe(&mut self, now: Instant, sample: Sample) -> bool {
        // A removed and re-added peer counts from zero again.
        let received = sample.rx_bytes != self.seen.rx_bytes;
        let sent = sample.tx_bytes.saturating_sub(self.seen.tx_bytes) > KEEPALIVE;
        let shaken = sample.last_handshake.is_some() && sample.last_handshake != self.seen.last_handshake;
        self.seen = sample;
        self.phase = match self.phase {
            Phase::Connecting(_) if shaken => Phase::Connected(None),
            Phase::Connected(_) if received || shaken => Phase::Connected(None),
            Phase::Connected(None) if sent => Phase::Connected(Some(now)),
            Phase::Connected(Some(since)) if now >= since + LOST => Phase::Connecting(now),
            phase => phase,
        };
        match self.phase {
            Phase::Connecting(due) if due <= now => {
                self.phase = Phase::Connecting(now + ENDPOINT_TIME);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        link: Link,
        start: Instant,
        now: Instant,
        sample: Sample,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self { link: Link::new(now), start: now, now, sample: Sample::default() }
        }

        fn shake(&mut self) {
            self.sample.rx_bytes += 92;
            self.sample.last_handshake = Some(SystemTime::UNIX_EPOCH + (self.now - self.start));
        }

        /// Runs for `seconds` with so much sent and received in each; returns when an endpoint was due.
        fn run(&mut self, seconds: u32, tx: u64, rx: u64) -> Vec<u64> {
            let mut due = Vec::new();
            for _ in 0..seconds {
                self.now += SECOND;
                self.sample.tx_bytes += tx;
                self.sample.rx_bytes += rx;
                if self.link.observe(self.now, self.sample) {
                    due.push((self.now - self.start).as_secs());
                }
            }
            due
        }
    }

    #[test]
    fn connected_only_after_a_handshake() {
        let mut scene = Scene::new();
        assert_eq!(scene.run(14, 788, 0), [1, 7, 13], "endpoints take turns");
        assert!(!scene.link.is_connected());
        scene.shake();
        assert_eq!(scene.run(30, 100, 100), [0; 0]);
        assert!(scene.link.is_connected());
    }

    #[test]
    fn an_edge_that_is_gone_is_noticed_while_we_send() {
        let mut scene = Scene::new();
        scene.shake();
        scene.run(10, 100, 100);
        assert!(scene.link.is_connected());
        scene.run(6, 788, 0);
        assert!(scene.link.is_connected() && scene.link.is_silent(scene.now), "worth a question, no verdict");
        assert_eq!(scene.run(24, 788, 0), [31, 37], "lost 20 s after the first unanswered octet");
        assert!(!scene.link.is_connected());
        scene.shake();
        scene.run(1, 0, 0);
        assert!(scene.link.is_connected(), "and back");
    }

    #[test]
    fn keepalives_and_one_way_flows_are_no_loss() {
        let mut scene = Scene::new();
        scene.shake();
        assert_eq!(scene.run(300, 32, 0), [0; 0]);
        // The data plane asks a silent peer at least every 15 s, and a living one answers.
        for _ in 0..10 {
            assert_eq!(scene.run(16, 1000, 0), [0; 0]);
            scene.shake();
        }
        assert!(scene.link.is_connected());
    }
}
