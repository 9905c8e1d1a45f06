//! Whether an edge answers, judged by the peer's counters, and when another endpoint gets its turn.
//!
//! The data plane itself repeats handshakes, and asks a silent edge again after one to fifteen seconds; here is
//! only seen what came of it. Silence alone is no verdict: a one-way flow is silent too, until the data plane
//! asks and the edge answers. No clock is read here, nothing is sent.

use std::time::{Duration, Instant, SystemTime};

/// Handshakes in a row that an edge may leave without an answer: sent one after the other in 4 to 5 s. Fewer
/// would take a short loss of the line for the loss of the edge, more would wait longer than a user does.
const LOST: u32 = 5;
/// The time of one endpoint: a little more than the data plane's slowest repetition (5.3 s).
const ENDPOINT_TIME: Duration = Duration::from_secs(6);

/// A peer's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Octets of authenticated datagrams received.
    pub(crate) rx_bytes: u64,
    /// The last handshake that was confirmed.
    pub(crate) last_handshake: Option<SystemTime>,
    /// Initiations since the last handshake that ended.
    pub(crate) unanswered: u32,
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
    /// It answers, as far as we know; so many initiations were without an answer when it was heard last. An
    /// edge may refuse a new session while the old one still serves.
    Connected(u32),
}

impl Link {
    /// An edge that was not spoken to: its first endpoint is due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self { seen: Sample::default(), phase: Phase::Connecting(now) }
    }

    /// Whether the edge answers: true after a handshake with it, until it leaves [`LOST`] without an answer.
    pub(crate) const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected(_))
    }

    /// Takes the counters as of `now`; true when the next endpoint is due. To be called once a second or so.
    pub(crate) fn observe(&mut self, now: Instant, sample: Sample) -> bool {
        // A removed and re-added peer counts from zero again.
        let received = sample.rx_bytes != self.seen.rx_bytes;
        let shaken = sample.last_handshake.is_some() && sample.last_handshake != self.seen.last_handshake;
        self.seen = sample;
        self.phase = match self.phase {
            Phase::Connecting(_) if shaken => Phase::Connected(sample.unanswered),
            Phase::Connected(_) if received || shaken => Phase::Connected(sample.unanswered),
            Phase::Connected(then) if sample.unanswered < then => Phase::Connected(sample.unanswered),
            Phase::Connected(then) if sample.unanswered - then >= LOST => Phase::Connecting(now),
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
            self.sample.unanswered = 0;
        }

        /// Runs for `seconds` with so many initiations and octets received in each; returns when an endpoint was
        /// due.
        fn run(&mut self, seconds: u32, initiations: u32, rx: u64) -> Vec<u64> {
            let mut due = Vec::new();
            for _ in 0..seconds {
                self.now += SECOND;
                self.sample.unanswered += initiations;
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
        assert_eq!(scene.run(14, 1, 0), [1, 7, 13], "endpoints take turns");
        assert!(!scene.link.is_connected());
        scene.shake();
        assert_eq!(scene.run(30, 0, 100), [0; 0]);
        assert!(scene.link.is_connected());
    }

    #[test]
    fn an_edge_that_is_gone_is_noticed_by_its_unanswered_handshakes() {
        let mut scene = Scene::new();
        scene.shake();
        scene.run(10, 0, 100);
        assert_eq!(scene.run(4, 1, 0), [0; 0]);
        assert!(scene.link.is_connected(), "a short loss");
        assert_eq!(scene.run(13, 1, 0), [15, 21, 27], "lost with the fifth");
        assert!(!scene.link.is_connected());
        scene.shake();
        scene.run(1, 0, 0);
        assert!(scene.link.is_connected(), "and back");
        assert_eq!(scene.run(4, 1, 0), [0; 0], "counted anew");
    }

    #[test]
    fn silence_and_one_way_flows_are_no_loss() {
        let mut scene = Scene::new();
        scene.shake();
        assert_eq!(scene.run(300, 0, 0), [0; 0], "nobody asked");
        // The data plane asks a silent peer at least every 15 s, and a living one answers.
        for _ in 0..10 {
            assert_eq!(scene.run(15, 0, 0), [0; 0]);
            assert_eq!(scene.run(2, 1, 0), [0; 0]);
            scene.shake();
        }
        assert!(scene.link.is_connected());
    }

    #[test]
    fn an_edge_that_refuses_a_new_session_counts_while_the_old_one_serves() {
        let mut scene = Scene::new();
        scene.shake();
        assert_eq!(scene.run(20, 1, 100), [0; 0]);
        assert!(scene.link.is_connected());
        assert_eq!(scene.run(6, 1, 0).len(), 1, "until it does not");
        assert!(!scene.link.is_connected());
    }

    #[test]
    fn a_session_made_anew_counts_from_zero() {
        let mut scene = Scene::new();
        scene.shake();
        scene.run(4, 1, 0);
        scene.sample.unanswered = 0;
        assert_eq!(scene.run(4, 1, 0), [0; 0]);
        assert!(scene.link.is_connected());
    }
}
