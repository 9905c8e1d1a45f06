//! Certified mode's standing data: trust, lists, clock, and which records an owner may hold.
//!
//! Pushed records stay as long as the policy says. Introduced ones are bounded twice: until they prove a
//! handshake they live in a small segment for 30 s, and after that they count against their owner's quota,
//! where the least recently used one without a session gives way. So an owner who mints certificates without
//! end pushes out nobody but himself.

use crate::PublicKey;
use crate::admission::Lists;
use crate::crl_set::{CrlSet, Wall};
use crate::peers::PeerId;
use crate::time::Now;
use crate::trust::{Owner, OwnerIndex, Trust};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use verona_contract::cert::Issuer;
use verona_contract::key::KeyId;

/// How long an introduced record may stay without a proven handshake.
pub(crate) const UNPROVEN_LIFE: Duration = Duration::from_secs(30);
/// Unproven records of all owners together.
pub(crate) const MAX_UNPROVEN: usize = 1024;
/// Intermediates that came with introductions, for each owner.
const MAX_LEARNED: usize = 16;

pub(crate) struct Certified {
    pub(crate) seq: u64,
    pub(crate) trust: Trust,
    pub(crate) lists: HashMap<KeyId, CrlSet>,
    pub(crate) learned: Vec<Learned>,
    pub(crate) clock_trusted: bool,
    pub(crate) unproven: VecDeque<Unproven>,
    /// For each owner its proven records, least recently used first.
    proven: Vec<BTreeMap<u64, PeerId>>,
    uses: u64,
}

/// A CA below an anchor that a client has shown: the agent fetches its list, too.
pub(crate) struct Learned {
    pub(crate) owner: OwnerIndex,
    pub(crate) issuer: Issuer,
    pub(crate) key_id: Arc<KeyId>,
}

/// An entry of the segment of introduced records; void when the record has changed since.
pub(crate) struct Unproven {
    pub(crate) until: Instant,
    pub(crate) id: PeerId,
    pub(crate) key: PublicKey,
    pub(crate) owner: OwnerIndex,
}

impl Lists for Certified {
    fn list(&self, issuer: &KeyId) -> Option<&CrlSet> {
        self.lists.get(issuer)
    }
}

impl Certified {
    pub(crate) fn new(seq: u64, trust: Trust, clock_trusted: bool) -> Self {
        Self {
            seq,
            trust,
            lists: HashMap::new(),
            learned: Vec::new(),
            clock_trusted,
            unproven: VecDeque::new(),
            proven: Vec::new(),
            uses: 0,
        }
    }

    /// Takes the lists, the intermediates and the unproven records from the policy before; gives the issuers
    /// that are the same as there. A name alone is not enough: another key may bear it now.
    pub(crate) fn inherit(&mut self, old: &mut Self) -> HashSet<KeyId> {
        for learned in &old.learned {
            let owner = old.owner(learned.owner).and_then(|owner| self.trust.owner_coded(&owner.code));
            if let Some((owner, _)) = owner {
                self.learn(owner, &learned.issuer);
            }
        }
        let same: HashSet<KeyId> = {
            let known: HashMap<_, _> = old.issuers().map(|issuer| (&issuer.key_id, &issuer.spki)).collect();
            let unchanged = self.issuers().filter(|issuer| known.get(&issuer.key_id) == Some(&&issuer.spki));
            unchanged.map(|issuer| issuer.key_id.clone()).collect()
        };
        self.lists = std::mem::take(&mut old.lists);
        self.lists.retain(|issuer, _| same.contains(issuer));
        for entry in std::mem::take(&mut old.unproven) {
            let code = old.owner(entry.owner).map(|owner| &owner.code);
            if let Some((owner, _)) = code.and_then(|code| self.trust.owner_coded(code)) {
                self.unproven.push_back(Unproven { owner, ..entry });
            }
        }
        same
    }

    /// The wall clock as far as it may be believed.
    pub(crate) fn wall(&self, now: Now) -> Wall {
        if self.clock_trusted { Wall::Trusted(unix_seconds(now.wall)) } else { Wall::Untrusted }
    }

    pub(crate) fn owner(&self, index: OwnerIndex) -> Option<&Owner> {
        self.trust.owner(index)
    }

    /// The owner that an issuer's list belongs to.
    pub(crate) fn owner_of_issuer(&self, key_id: &KeyId) -> Option<OwnerIndex> {
        let known = self.trust.cas().iter().map(|ca| (&*ca.key_id, ca.owner));
        let learned = self.learned.iter().map(|learned| (&*learned.key_id, learned.owner));
        known.chain(learned).find(|(id, _)| *id == key_id).map(|(_, owner)| owner)
    }

    /// Every issuer whose list matters.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        let known = self.trust.cas().iter().map(|ca| &ca.issuer);
        known.chain(self.learned.iter().map(|learned| &learned.issuer))
    }

    /// Remembers an intermediate whose path was verified; the shared key identifier.
    pub(crate) fn learn(&mut self, owner: OwnerIndex, issuer: &Issuer) -> Option<Arc<KeyId>> {
        if let Some(known) = self.learned.iter().find(|known| known.issuer.key_id == issuer.key_id) {
            // The same identifier for another CA would let one list speak for the other.
            return (known.owner == owner && known.issuer.spki == issuer.spki).then(|| known.key_id.clone());
        }
        let taken = self.trust.cas().iter().any(|ca| *ca.key_id == issuer.key_id);
        let of_owner = self.learned.iter().filter(|known| known.owner == owner).count();
        if taken || of_owner >= MAX_LEARNED {
            return None;
        }
        let key_id = Arc::new(issuer.key_id.clone());
        self.learned.push(Learned { owner, issuer: issuer.clone(), key_id: key_id.clone() });
        Some(key_id)
    }

    /// Takes an entry out of a segment that is too full: the oldest of the owner who has most of them, so that who
    /// floods it with certificates of his own pushes out his own.
    pub(crate) fn overflow(&mut self) -> Option<Unproven> {
        if self.unproven.len() <= MAX_UNPROVEN {
            return None;
        }
        let mut counts: BTreeMap<OwnerIndex, usize> = BTreeMap::new();
        for entry in &self.unproven {
            *counts.entry(entry.owner).or_default() += 1;
        }
        let (owner, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let oldest = self.unproven.iter().position(|entry| entry.owner == owner)?;
        self.unproven.remove(oldest)
    }

    /// Puts a proven record last in its owner's order of use; gives its place. `before` is the old place.
    pub(crate) fn use_record(&mut self, owner: OwnerIndex, id: PeerId, before: Option<u64>) -> u64 {
        self.forget_record(owner, before);
        self.uses += 1;
        let owner = usize::from(owner);
        if self.proven.len() <= owner {
            self.proven.resize_with(owner + 1, BTreeMap::new);
        }
        self.proven[owner].insert(self.uses, id);
        self.uses
    }

    pub(crate) fn forget_record(&mut self, owner: OwnerIndex, place: Option<u64>) {
        if let (Some(order), Some(place)) = (self.proven.get_mut(usize::from(owner)), place) {
            order.remove(&place);
        }
    }

    /// Proven introduced records of an owner.
    pub(crate) fn records_of(&self, owner: OwnerIndex) -> usize {
        self.proven.get(usize::from(owner)).map_or(0, BTreeMap::len)
    }

    /// The least recently used records of an owner, oldest first.
    pub(crate) fn oldest(&self, owner: OwnerIndex) -> impl Iterator<Item = PeerId> {
        self.proven.get(usize::from(owner)).into_iter().flat_map(BTreeMap::values).copied()
    }
}

/// Seconds since 1970; negative before.
pub(crate) fn unix_seconds(wall: SystemTime) -> i64 {
    match wall.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// Nanoseconds since 1970, saturating.
pub(crate) fn unix_nanos(wall: SystemTime) -> i64 {
    wall.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
