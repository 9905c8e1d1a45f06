//! How large a datagram may be on the way to one endpoint: Packetization Layer Path MTU Discovery (RFC 8899).
//!
//! What is known comes from two witnesses. A router's "too big" narrows the path at once, within bounds that a
//! forger cannot use, and is forgotten after ten minutes. A [`Probe`] that the other end answers confirms a size,
//! also where such messages are filtered; stock WireGuard discards probes, so a path to it rests on the routers
//! and on fragments. Sizes here are those of whole IP packets on the outside. Sending, and what to do with an
//! inner packet that does not fit, is left to the engine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The size that every path is taken to carry, and below which no message of a router brings us: what IPv6
/// demands of a link (RFC 8200 §5). A path below it gets fragments.
pub(crate) const BASE: u16 = 1280;
/// UDP and the transport message around the plaintext.
const UDP_AND_MESSAGE: u16 = 8 + 32;
/// How long a probe may take to be answered.
const PROBE_TIMER: Duration = Duration::from_secs(1);
/// Probes of one size without an answer until it counts as too large (RFC 8899 §5.1.2 MAX_PROBES).
const MAX_PROBES: u8 = 3;
/// How often a confirmed size is confirmed again while large datagrams flow: the longest that a path which has
/// become narrower in silence swallows them.
const CONFIRMATION: Duration = Duration::from_secs(30);
/// How long a narrow path stays narrow before a larger size is tried (RFC 8899 §5.1.1 PMTU_RAISE_TIMER, RFC 1191
/// §6.3).
const RAISE: Duration = Duration::from_secs(600);
/// The search ends when it knows the size this well, in octets.
const GRAIN: u16 = 8;
/// Questions that go out together, of sizes from what passes to what may pass, once the first try found that not
/// all sizes do. Each round narrows the search to an eighth; a size that is used meanwhile, and told inward,
/// is near the truth at once.
pub(crate) const LADDER: u16 = 8;

/// Octets that a tunnelled packet costs on the outside, up to and with the IP header to `endpoint`.
pub(crate) const fn overhead(endpoint: &SocketAddr) -> u16 {
    UDP_AND_MESSAGE + if endpoint.is_ipv4() { 20 } else { 40 }
}

/// The path to one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathMtu {
    /// The largest size to use, where it is less than the interface asks for.
    limit: Option<u16>,
    search: Option<Search>,
    /// The other end answers probes.
    speaks: bool,
    /// The last search has found what passes.
    confirmed: bool,
    /// A router told of less than [`BASE`].
    below_base: bool,
    /// Number of the last question.
    sequence: u32,
    /// When large datagrams call for a search again.
    check_at: Option<Instant>,
    /// When the limit has served its time.
    raise_at: Option<Instant>,
    /// Until when routers are not listened to, since the last word was not true.
    deaf_until: Option<Instant>,
    /// The limit that [`Self::take_news`] told last.
    told: Option<u16>,
}

/// A search under way: probes of `target` are out.
#[derive(Clone, Copy, Debug)]
struct Search {
    target: u16,
    /// The largest size that passes, as far as is known; 0 = the other end has not said a word.
    floor: u16,
    /// The smallest size that does not pass.
    roof: u16,
    ceiling: u16,
    /// Between two sizes that are asked for at once; 0 while only the target is.
    step: u16,
    tries: u8,
    due: Instant,
    /// What a router said, while that is checked: the target was confirmed before.
    doubted: Option<u16>,
}

impl Search {
    /// From now on several sizes are asked for at once, the same in each try.
    fn set_ladder(&mut self) {
        if self.step == 0 {
            self.step = self.target.saturating_sub(self.floor.max(BASE)).div_ceil(LADDER).max(1);
        }
    }

    /// The smallest size that was asked for and is larger than what passes.
    fn first_refused(&self) -> u16 {
        let above = (self.target - self.floor).saturating_sub(1);
        self.target - above.checked_div(self.step).map_or(0, |rungs| rungs * self.step)
    }
}

/// A message that asks the other end whether it has arrived, or says that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) kind: ProbeKind,
    /// Size of the IP packet that carries the question.
    pub(crate) size: u16,
    /// Pairs questions with answers.
    pub(crate) sequence: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    Question,
    Answer,
}

impl Probe {
    /// Octets of a probe; a question is padded with zeros to its size.
    pub(crate) const LEN: usize = 16;
    /// The first octet: neither IPv4 nor IPv6, so that WireGuard discards it.
    const MARK: u8 = 0x01;

    /// The plaintext of a transport message, if it is a probe.
    pub(crate) fn parse(plaintext: &[u8]) -> Option<Self> {
        let head = plaintext.first_chunk::<{ Self::LEN }>()?;
        let kind = match head[..2] {
            [Self::MARK, 1] => ProbeKind::Question,
            [Self::MARK, 2] => ProbeKind::Answer,
            _ => return None,
        };
        let size = u16::from_be_bytes([head[2], head[3]]);
        let sequence = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        Some(Self { kind, size, sequence })
    }

    pub(crate) fn to_octets(self) -> [u8; Self::LEN] {
        let mut octets = [0; Self::LEN];
        octets[0] = Self::MARK;
        octets[1] = if self.kind == ProbeKind::Question { 1 } else { 2 };
        octets[2..4].copy_from_slice(&self.size.to_be_bytes());
        octets[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        octets
    }

    /// What to say to a question; `None` for an answer.
    pub(crate) fn answer(self) -> Option<Self> {
        (self.kind == ProbeKind::Question).then_some(Self { kind: ProbeKind::Answer, ..self })
    }
}

impl PathMtu {
    pub(crate) const fn new() -> Self {
        Self {
            limit: None,
            search: None,
            speaks: false,
            confirmed: false,
            below_base: false,
            sequence: 0,
            check_at: None,
            raise_at: None,
            deaf_until: None,
            told: None,
        }
    }

    /// The path to another endpoint of the same peer.
    pub(crate) const fn moved(&self) -> Self {
        Self { told: self.told, sequence: self.sequence, ..Self::new() }
    }

    /// The largest size to use; `None` while nothing narrower than the interface asks for is known.
    pub(crate) const fn limit(&self) -> Option<u16> {
        self.limit
    }

    /// Whether [`Self::take_news`] has something to tell.
    pub(crate) fn has_news(&self) -> bool {
        self.search.is_none() && self.limit != self.told
    }

    /// The limit, once after each time that a search has changed it.
    pub(crate) fn take_news(&mut self) -> Option<Option<u16>> {
        self.has_news().then(|| {
            self.told = self.limit;
            self.limit
        })
    }

    /// Whether datagrams forbid routers to cut them: the size in use was confirmed by the other end, and is
    /// confirmed again and again, so that a path which begins to swallow it is found out. Before that, and to an
    /// end that answers no probes, they go as from the kernel's WireGuard, without the flag.
    pub(crate) const fn dont_fragment(&self) -> bool {
        self.confirmed && !self.below_base
    }

    /// A datagram larger than [`BASE`] goes out; `ceiling` is the largest size that the interface asks for.
    /// True when a search begins: [`Self::due`] is new.
    pub(crate) fn large_sent(&mut self, ceiling: u16, now: Instant) -> bool {
        if self.search.is_some() || self.check_at.is_some_and(|at| at > now) {
            return false;
        }
        let raise = self.raise_at.is_some_and(|at| at <= now);
        if raise {
            self.raise_at = None;
            self.below_base = false;
            if !self.speaks {
                // No probe will tell, so the next word of a router has to.
                self.limit = None;
            }
        }
        let limit = self.limit.unwrap_or(ceiling).min(ceiling);
        if raise && limit < ceiling {
            self.begin(ceiling, (limit, ceiling.saturating_add(1)), ceiling, now);
        } else {
            self.begin(limit, (0, limit.saturating_add(1)), ceiling, now);
        }
        true
    }

    /// When [`Self::next_questions`] has to be asked.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.search.map(|search| search.due)
    }

    /// What to send now: a question of the size looked for, and one of [`BASE`] as long as the other end has not
    /// said a word, or several of sizes between what passes and what may.
    pub(crate) fn next_questions(&mut self, now: Instant) -> impl Iterator<Item = Probe> + use<> {
        if let Some(search) = self.search.filter(|search| search.due <= now && search.tries == MAX_PROBES) {
            self.does_not_pass(search, now);
        }
        let search = self.search.as_mut().filter(|search| search.due <= now).map(|search| {
            search.tries += 1;
            search.due = now + PROBE_TIMER;
            if search.tries > 1 && search.floor > 0 && search.doubted.is_none() {
                search.set_ladder();
            }
            *search
        });
        self.sequence = self.sequence.wrapping_add(u32::from(search.is_some()));
        let sequence = self.sequence;
        let sizes = search.into_iter().flat_map(|search| {
            let with_base = search.floor == 0 && search.target > BASE;
            let rungs = if search.step > 0 { LADDER } else { 1 };
            (0..rungs)
                .map(move |rung| search.target.saturating_sub(rung * search.step))
                .take_while(move |size| *size > search.floor)
                .chain(with_base.then_some(BASE))
        });
        sizes.map(move |size| Probe { kind: ProbeKind::Question, size, sequence })
    }

    /// The other end says that a question has arrived.
    pub(crate) fn answered(&mut self, answer: Probe, now: Instant) {
        let Some(mut search) = self.search else { return };
        let age = self.sequence.wrapping_sub(answer.sequence);
        let asked = (BASE..=search.target).contains(&answer.size);
        if !asked || age >= u32::from(search.tries) {
            return;
        }
        self.speaks = true;
        search.floor = search.floor.max(answer.size);
        self.search = Some(search);
        if answer.size == search.target {
            if self.limit.is_some_and(|limit| limit < search.floor) {
                self.limit = Some(search.floor);
            }
            if search.doubted.is_some() {
                self.below_base = false;
                self.deaf_until = Some(now + CONFIRMATION);
            }
            self.narrow_down(search, now);
        }
    }

    /// A router, or our own host, says that `mtu` is the most that passes (RFC 1191 §4, RFC 8201 §4); 0 when it
    /// is too old to say. Whether it quoted a datagram of ours was checked before. That can be guessed, so where
    /// the other end has confirmed more it is asked again, and if it has its way, no router is listened to until
    /// the next confirmation is due (RFC 8899 §4.6.2).
    pub(crate) fn too_big(&mut self, mtu: u16, ceiling: u16, now: Instant) {
        if self.deaf_until.is_some_and(|until| until > now) {
            return;
        }
        let size = mtu.max(BASE);
        if mtu < BASE && self.limit.unwrap_or(ceiling) >= BASE {
            self.below_base = true;
        }
        if size >= self.limit.unwrap_or(ceiling) {
            if let Some(search) = self.search.filter(|search| search.floor == size && search.target > size) {
                // It was worth a try.
                self.narrow_down(Search { roof: size + 1, ..search }, now);
            }
            return;
        }
        let doubted = self.search.filter(|search| search.doubted.is_some()).map(|search| search.target);
        let before = doubted.unwrap_or_else(|| self.limit.unwrap_or(ceiling));
        self.limit = Some(size);
        self.raise_at = Some(now + RAISE);
        if self.confirmed {
            self.begin(before, (0, before.saturating_add(1)), ceiling, now);
            self.search = self.search.map(|search| Search { doubted: Some(size), ..search });
        } else if self.speaks || self.search.is_some() {
            self.begin(size, (0, size + 1), ceiling, now);
        } else {
            self.check_at = self.raise_at;
        }
    }

    fn begin(&mut self, target: u16, (floor, roof): (u16, u16), ceiling: u16, now: Instant) {
        let (step, tries, due, doubted) = (0, 0, now, None);
        self.search = Some(Search { target, floor, roof, ceiling, step, tries, due, doubted });
    }

    /// The size looked for was asked for often enough.
    fn does_not_pass(&mut self, mut search: Search, now: Instant) {
        if let Some(told) = search.doubted {
            self.confirmed = false;
            self.begin(told, (0, told.saturating_add(1)), search.ceiling, now);
            return;
        }
        if search.floor == 0 {
            // Stock WireGuard, or nobody there. What routers told stays for its time.
            (self.speaks, self.confirmed) = (false, false);
            self.search = None;
            self.check_at = Some(now + RAISE);
            self.raise_at = self.raise_at.or(self.check_at);
            return;
        }
        search.roof = search.first_refused();
        self.confirmed &= self.limit.is_some_and(|limit| limit <= search.floor);
        self.limit = Some(self.limit.map_or(search.floor, |limit| limit.min(search.floor)));
        self.narrow_down(search, now);
    }

    /// Looks between what passes and what does not, until that is known well enough.
    fn narrow_down(&mut self, search: Search, now: Instant) {
        let (floor, gap) = (search.floor, search.roof.saturating_sub(search.floor));
        if gap > GRAIN {
            self.begin(search.roof - 1, (floor, search.roof), search.ceiling, now);
            if let Some(search) = &mut self.search {
                search.set_ladder();
            }
            return;
        }
        self.search = None;
        self.confirmed = true;
        self.check_at = Some(now + CONFIRMATION);
        if floor < search.ceiling {
            self.limit = Some(floor);
            self.raise_at.get_or_insert(now + RAISE);
        } else {
            (self.limit, self.raise_at) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: u16 = 1500;

    /// A path and its far end, with a clock of its own. The near end sends a large datagram every 100 ms.
    struct World {
        path: PathMtu,
        now: Instant,
        width: u16,
        /// Routers say why they drop.
        icmp: bool,
        /// The far end knows probes.
        speaks: bool,
        round_trip: Duration,
        /// Answers on their way.
        answers: Vec<(Instant, Probe)>,
        questions: usize,
        /// Datagrams of the size in use that the path swallowed.
        swallowed: usize,
        news: Vec<Option<u16>>,
    }

    impl World {
        fn new(width: u16, icmp: bool, speaks: bool) -> Self {
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let now = Instant::now();
            Self {
                path: PathMtu::new(),
                now,
                width,
                icmp,
                speaks,
                round_trip: Duration::from_millis(50),
                answers: Vec::new(),
                questions: 0,
                swallowed: 0,
                news: Vec::new(),
            }
        }

        fn run(&mut self, seconds: u64) {
            let end = self.now + Duration::from_secs(seconds);
            while self.now < end {
                self.now += Duration::from_millis(10);
                while let Some((at, answer)) = self.answers.first().copied().filter(|(at, _)| *at <= self.now)
                {
                    let _ = at;
                    self.answers.remove(0);
                    self.path.answered(answer, self.now);
                }
                let size = self.path.limit().unwrap_or(CEILING);
                if size > self.width && self.path.dont_fragment() {
                    self.drops();
                    self.swallowed += 1;
                }
                self.path.large_sent(CEILING, self.now);
                for question in self.path.next_questions(self.now) {
                    self.questions += 1;
                    if question.size > self.width {
                        self.drops();
                    } else if self.speaks {
                        self.answers.push((self.now + self.round_trip, question.answer().unwrap()));
                    }
                }
                self.news.extend(self.path.take_news());
            }
        }

        fn drops(&mut self) {
            if self.icmp {
                self.path.too_big(self.width, CEILING, self.now);
            }
        }
    }

    #[test]
    fn a_wide_path_costs_two_questions_and_one_in_30_s() {
        let mut world = World::new(1500, true, true);
        world.run(29);
        assert_eq!((world.path.limit(), world.questions), (None, 2));
        assert!(world.path.dont_fragment());
        world.run(300);
        assert_eq!(world.path.limit(), None);
        assert!((20..=24).contains(&world.questions), "{}", world.questions);
        assert_eq!(world.news, []);
    }

    #[test]
    fn a_router_that_speaks_is_believed_at_once_and_its_word_confirmed() {
        for width in [1499, 1492, 1454, 1400, 1281, 1280] {
            let mut world = World::new(width, true, true);
            world.run(1);
            assert_eq!(world.path.limit(), Some(width));
            assert_eq!(world.swallowed, 0);
            assert_eq!(world.news, [Some(width)]);
        }
    }

    #[test]
    fn a_path_that_swallows_in_silence_is_measured() {
        for width in [1492, 1454, 1420, 1400, 1301, 1280] {
            let mut world = World::new(width, false, true);
            // The first large size is given up after 3 s; what is used from then on is near the truth. Until
            // then routers cut what does not pass.
            world.run(4);
            let limit = world.path.limit().unwrap();
            assert!(limit <= width && width - limit <= 220 / LADDER, "{limit} for {width}");
            assert_eq!(world.swallowed, 0);
            world.run(4);
            let limit = world.path.limit().unwrap();
            assert!(limit <= width && width - limit <= GRAIN, "{limit} for {width}");
            assert!(world.questions < 60, "{}", world.questions);
        }
    }

    #[test]
    fn a_path_that_becomes_narrow_in_silence_is_found_out_within_35_s() {
        let mut world = World::new(1500, false, true);
        world.run(100);
        world.width = 1400;
        world.run(35);
        assert!(world.path.limit().is_some_and(|limit| limit <= 1400), "{:?}", world.path.limit());
        world.run(30);
        assert!(world.path.limit().is_some_and(|limit| limit >= 1400 - GRAIN));
        // And with a word of the router, at once.
        let mut world = World::new(1500, true, true);
        world.run(100);
        world.width = 1400;
        world.run(1);
        assert_eq!((world.path.limit(), world.swallowed), (Some(1400), 1));
    }

    #[test]
    fn a_path_that_becomes_wide_again_is_used_after_ten_minutes() {
        for icmp in [true, false] {
            let mut world = World::new(1400, icmp, true);
            world.run(60);
            assert!(world.path.limit().is_some_and(|limit| limit >= 1400 - GRAIN));
            world.width = 1500;
            world.run(500);
            assert!(world.path.limit().is_some(), "not yet");
            world.run(150);
            assert_eq!(world.path.limit(), None, "icmp: {icmp}");
        }
        // While it stays narrow, the try costs nothing that is in use.
        let mut world = World::new(1400, false, true);
        world.run(60);
        let before = world.path.limit();
        world.swallowed = 0;
        world.run(1300);
        // It may come out a few octets nearer to the truth.
        assert!((before..=Some(1400)).contains(&world.path.limit()), "{:?}", world.path.limit());
        assert_eq!(world.swallowed, 0);
    }

    #[test]
    fn stock_wireguard_gets_no_flag_and_what_routers_say() {
        let mut world = World::new(1400, true, false);
        world.run(60);
        assert_eq!(world.path.limit(), Some(1400), "the questions made the router speak");
        assert!(!world.path.dont_fragment());
        world.width = 1500;
        world.run(1210);
        assert_eq!(world.path.limit(), None);
        let mut world = World::new(1400, false, false);
        world.run(3600);
        assert!(!world.path.dont_fragment(), "routers may cut what they do not pass");
        assert!(world.questions <= 2 * 3 * 6, "{}", world.questions);
    }

    #[test]
    fn a_forged_word_narrows_to_the_base_size_at_most_and_for_one_round_trip() {
        for (width, before) in [(1500, None), (1400, Some(1400))] {
            for mtu in [0, 68, 576, 1279, 1280] {
                let mut world = World::new(width, true, true);
                world.run(5);
                assert_eq!(world.path.limit(), before);
                world.path.too_big(mtu, CEILING, world.now);
                assert_eq!(world.path.limit(), Some(BASE));
                world.run(1);
                assert_eq!(world.path.limit(), before, "the other end has confirmed what it did before");
                assert!(world.path.dont_fragment());
                // Nor can it be repeated at once.
                world.path.too_big(mtu, CEILING, world.now);
                assert_eq!(world.path.limit(), before);
                world.run(700);
                assert_eq!(world.path.limit(), before);
            }
        }
        // To a stock end there is no other witness.
        let mut world = World::new(1500, true, false);
        world.run(5);
        world.path.too_big(0, CEILING, world.now);
        world.run(500);
        assert_eq!(world.path.limit(), Some(BASE));
        world.run(700);
        assert_eq!(world.path.limit(), None);
        let mut world = World::new(1500, true, true);
        world.run(5);
        world.path.too_big(1500, CEILING, world.now);
        world.path.too_big(u16::MAX, CEILING, world.now);
        assert_eq!(world.path.limit(), None, "not narrower than what we send");
    }

    #[test]
    fn a_path_that_narrows_while_routers_are_not_listened_to_is_found_out_by_the_next_confirmation() {
        let mut world = World::new(1500, true, true);
        world.run(5);
        world.path.too_big(1280, CEILING, world.now);
        world.run(1);
        world.width = 1400;
        world.run(35);
        assert!(world.path.limit().is_some_and(|limit| (1400 - GRAIN..=1400).contains(&limit)));
    }

    #[test]
    fn below_the_base_size_routers_may_cut() {
        let mut path = World::new(1500, true, true);
        path.run(5);
        assert!(path.path.dont_fragment());
        path.path.too_big(1000, CEILING, path.now);
        assert!(!path.path.dont_fragment());
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let mut world = World::new(1500, true, true);
        world.round_trip = Duration::from_secs(5);
        world.run(4);
        let (before, sequence) = (format!("{:?}", world.path), world.path.sequence);
        for (size, sequence) in
            [(1400, sequence), (1500, sequence.wrapping_add(1)), (1500, sequence.wrapping_sub(3)), (0, 0)]
        {
            world.path.answered(Probe { kind: ProbeKind::Answer, size, sequence }, world.now);
            assert_eq!(format!("{:?}", world.path), before, "{size} {sequence}");
        }
    }

    #[test]
    fn a_path_of_two_seconds_and_a_half_is_measured_too() {
        let mut world = World::new(1400, false, true);
        world.round_trip = Duration::from_millis(2500);
        world.run(60);
        assert!(world.path.limit().is_some_and(|limit| (1400 - GRAIN..=1400).contains(&limit)));
    }

    proptest::proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds(events: Vec<(u8, u16, u32)>, ceiling in 1281u16..) {
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let mut now = Instant::now();
            let mut path = PathMtu::new();
            for (event, size, number) in events {
                now += Duration::from_millis(number as u64 % 100_000);
                match event % 4 {
                    0 => drop(path.large_sent(ceiling, now)),
                    1 => for question in path.next_questions(now) {
                        proptest::prop_assert!((BASE..=ceiling).contains(&question.size));
                    },
                    2 => path.too_big(size, ceiling, now),
                    _ => {
                        let sequence = path.sequence.wrapping_sub(number % 4);
                        let size = path.search.map_or(size, |search| search.target);
                        path.answered(Probe { kind: ProbeKind::Answer, size, sequence }, now);
                    }
                }
                proptest::prop_assert!(path.limit().is_none_or(|limit| (BASE..ceiling).contains(&limit)));
            }
        }

        #[test]
        fn any_plaintext(octets: Vec<u8>) {
            if let Some(probe) = Probe::parse(&octets) {
                proptest::prop_assert_eq!(Probe::parse(&probe.to_octets()), Some(probe));
            }
        }
    }
}
