//! The reference model: what the design says about whom, in the plainest words, without the engine's caches,
//! tables and orders of work.

use super::cast::{Ca, Cast, Certificate, FRANK, Owner};
use std::collections::{BTreeMap, BTreeSet};
use verona_contract::config::StalePolicy;

/// Seconds after `nextUpdate` in which a list still serves.
pub(crate) const GRACE: i64 = 7 * 24 * 3600;
/// A list says this many seconds ahead when the next one comes.
pub(crate) const LIST_LIFE: i64 = 24 * 3600;
/// A live session is looked at once a second, so a date may take that long to take effect.
const LOOK: i64 = 1;

/// A list as the center published it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct List {
    pub(crate) issuer: Ca,
    pub(crate) number: u64,
    pub(crate) revoked: BTreeSet<u64>,
    /// thisUpdate, seconds from the beginning.
    pub(crate) made: i64,
}

/// What the policy in force says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) beta: bool,
    pub(crate) acme_next: bool,
    pub(crate) frank: bool,
    pub(crate) quota: u32,
    pub(crate) stale: StalePolicy,
}

impl Rules {
    pub(crate) const FULL: Self =
        Self { beta: true, acme_next: true, frank: true, quota: 100, stale: StalePolicy::DenyNew };

    pub(crate) fn trusts(self, anchor: Ca) -> bool {
        match anchor {
            Ca::Acme => true,
            Ca::AcmeNext => self.acme_next,
            Ca::Beta => self.beta,
            Ca::Regional | Ca::Stranger | Ca::Twin => false,
        }
    }
}

/// What becomes of a list that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    UnknownIssuer,
    Rollback,
    Conflict,
}

pub(crate) struct Model {
    pub(crate) rules: Rules,
    /// The newest accepted list of each issuer.
    pub(crate) lists: BTreeMap<Ca, List>,
    /// Certificates that their holder has shown to this edge.
    shown: BTreeSet<usize>,
    /// What the edge's wall clock says, in seconds from the beginning, when it is trusted.
    pub(crate) clock: Option<i64>,
}

impl Model {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, lists: BTreeMap::new(), shown: BTreeSet::new(), clock: None }
    }

    /// The holder of `certificate` proves its key and shows it.
    pub(crate) fn introduced(&mut self, cast: &Cast, certificate: usize) {
        if let Some((_, anchor)) = cast.certificates[certificate].leads_to
            && self.rules.trusts(anchor)
        {
            self.shown.insert(certificate);
        }
    }

    /// A new policy forgets whom it does not cover, and the lists of anchors that it does not name.
    pub(crate) fn new_rules(&mut self, cast: &Cast, rules: Rules) {
        self.rules = rules;
        let covered = |certificate: &usize| {
            cast.certificates[*certificate].leads_to.is_some_and(|(_, anchor)| rules.trusts(anchor))
        };
        self.shown.retain(covered);
        self.lists.retain(|issuer, _| *issuer == Ca::Regional || rules.trusts(*issuer));
    }

    /// A new process knows nothing.
    pub(crate) fn restarted(&mut self) {
        self.lists.clear();
        self.shown.clear();
    }

    /// What must become of `list`; an accepted one is the newest from then on.
    pub(crate) fn offered(&mut self, cast: &Cast, list: &List) -> Verdict {
        if !self.knows(cast, list.issuer) {
            return Verdict::UnknownIssuer;
        }
        match self.lists.get(&list.issuer) {
            Some(stored) if list.number < stored.number => Verdict::Rollback,
            Some(stored) if list.number == stored.number && list != stored => Verdict::Conflict,
            _ => {
                self.lists.insert(list.issuer, list.clone());
                Verdict::Accepted
            }
        }
    }

    /// Whether lists of `issuer` are taken: of anchors, and of intermediates that were shown.
    pub(crate) fn knows(&self, cast: &Cast, issuer: Ca) -> bool {
        let below = |certificate: &usize| {
            cast.certificates[*certificate].chain.iter().any(|(above, _)| *above == issuer)
        };
        self.rules.trusts(issuer) || self.shown.iter().any(below)
    }

    /// Whether the edge may know `certificate` at all: shown by its holder, or pushed by the policy.
    pub(crate) fn is_known(&self, cast: &Cast, certificate: usize) -> bool {
        let pushed = self.rules.frank && cast.certificates[certificate].client == FRANK;
        pushed || self.shown.contains(&certificate)
    }

    /// Whether the holder of `certificate` may use a session, or without `live` begin one.
    pub(crate) fn permits(&self, cast: &Cast, certificate: usize, live: bool) -> bool {
        let Certificate { leads_to, chain, valid, .. } = &cast.certificates[certificate];
        let Some((_, anchor)) = *leads_to else { return false };
        self.is_known(cast, certificate)
            && self.rules.trusts(anchor)
            && chain.iter().all(|(issuer, serial)| self.list_allows(*issuer, *serial, live))
            && self.clock.is_none_or(|now| valid.0 <= now && now <= valid.1 + if live { LOOK } else { 0 })
    }

    fn list_allows(&self, issuer: Ca, serial: u64, live: bool) -> bool {
        let Some(list) = self.lists.get(&issuer) else { return false };
        let dead = list.made + LIST_LIFE + GRACE + if live { LOOK } else { 0 };
        let stale = self.clock.is_some_and(|now| now > dead);
        let allows_stale = match self.rules.stale {
            StalePolicy::Allow => true,
            StalePolicy::DenyNew => live,
            StalePolicy::DenyAll => false,
        };
        !list.revoked.contains(&serial) && (!stale || allows_stale)
    }

    /// Whether any certificate of `client` permits it a session that it has.
    pub(crate) fn permits_client(&self, cast: &Cast, client: usize) -> bool {
        cast.clients[client].certificates.iter().any(|certificate| self.permits(cast, *certificate, true))
    }

    pub(crate) fn owner_is_served(&self, owner: Owner) -> bool {
        owner == Owner::Acme || self.rules.beta
    }
}
