//! The edge's side of an introduction, and what becomes of a verified certificate: a record, or a refusal.

use super::Engine;
use super::datagrams::Refused;
use crate::admission::{self, Admitted};
use crate::certified::{Certified, MAX_UNPROVEN, UNPROVEN_LIFE, Unproven};
use crate::credentials::{self, VerifiedLeaf};
use crate::introduction::{self, IntroductionError};
use crate::peer::{Basis, Peer};
use crate::peers::{PeerId, Peers};
use crate::record::{self, Record, Standing};
use crate::time::Now;
use crate::trust::OwnerIndex;
use crate::{IpNet, PublicKey};
use std::net::SocketAddr;
use std::time::Instant;
use verona_contract::control::{CertificateSource, Cut, CutReason, Event, Refusal};

/// Records that are looked at to find one without a session; those with one are then used, so a search moves on.
const EVICTION_SEARCH: usize = 32;

impl Engine {
    /// Opens, verifies and keeps an introduction; gives its key. There is no answer: the handshake that follows is
    /// one.
    pub(super) fn handle_introduction(&mut self, now: Now, datagram: &[u8]) -> Result<PublicKey, Refused> {
        let identity = self.identity.as_ref().ok_or(Refusal::Mac1)?;
        let opened = introduction::open(identity, datagram).map_err(|error| match error {
            IntroductionError::Unauthentic => Refusal::NotAuthentic,
            IntroductionError::Malformed => Refusal::CertificateMalformed,
        })?;
        let refused = |reason| Refused(reason, Some(opened.key));
        let shown = &opened.certificates;
        let digest = record::digest(&shown.leaf, shown.binding.as_deref());
        if self.is_known(&opened.key, &digest) {
            self.journal.totals.introductions_repeated += 1;
            return Ok(opened.key);
        }
        let certified = self.certified.as_mut().ok_or(Refusal::Malformed)?;
        let verified = credentials::verify(&certified.trust, shown, &opened.key).map_err(refused)?;
        let standing = Standing::Unproven(now.mono + UNPROVEN_LIFE);
        let record =
            certified.record(verified, CertificateSource::Introduced, digest, standing).map_err(refused)?;
        let _: Admitted = certified.check(record.key, &record.record, now).map_err(refused)?;
        // A cut here is told by its event.
        let (id, _) = self.keep(record).map_err(refused)?;
        self.start_segment(id, opened.key, now.mono);
        self.journal.totals.introductions += 1;
        Ok(opened.key)
    }

    fn is_known(&self, key: &PublicKey, digest: &[u8; 16]) -> bool {
        let record = self.peers.id_of(key).and_then(|id| self.peers.peer(id)?.record());
        record.is_some_and(|record| record.digest == *digest)
    }

    /// Gives a verified certificate a place: a new peer, or the renewal of a known one. Gives also the
    /// sessions that ended with it.
    pub(super) fn keep(&mut self, candidate: Candidate) -> Result<(PeerId, Vec<Cut>), Refusal> {
        let Candidate { key, mut record, networks } = candidate;
        let known = self.peers.id_of(&key);
        if let Some(old) = known.and_then(|id| self.peers.peer(id)?.record()) {
            if old.owner != record.owner || old.subject != record.subject {
                return Err(Refusal::KeyTaken);
            }
            if record.not_after < old.not_after {
                return Err(Refusal::Superseded);
            }
            // A renewal inherits its place: what was pushed or proven stays so.
            if record.standing != Standing::Pushed {
                record.standing = old.standing;
                record.source = old.source;
            } else if let Some(certified) = &mut self.certified {
                certified.forget_record(old.owner, old.place());
            }
        }
        let cut = self.free_addresses(known, &record, &networks)?;
        // A copy: the thread that verified a policy has made this one between the certificates of 100,000
        // clients, and the allocator could not give back a page on which it stays.
        let basis = Basis::Certified(Box::new(record.clone()));
        let id = match known {
            Some(id) => {
                if let Some(peer) = self.peers.peer_mut(id) {
                    peer.basis = basis;
                }
                id
            }
            None => {
                self.make_room(&record)?;
                let peer = Peer::new(key, basis, self.floors.of(&key));
                self.peers.insert(peer).ok_or(Refusal::Quota)?
            }
        };
        self.replace_routes(id, networks);
        Ok((id, cut))
    }

    pub(super) fn replace_routes(&mut self, id: PeerId, networks: Vec<IpNet>) {
        self.clear_routes(id);
        if let Some(peer) = self.peers.peer_mut(id) {
            // Most have one or two, and there may be 100,000 of them.
            peer.allowed_ips = Vec::with_capacity(networks.len());
        }
        for net in networks {
            self.add_route(id, net);
        }
    }

    /// Makes sure that nobody else has the addresses. A client that has enrolled again has a new key and its
    /// old addresses: the later certificate of one subject wins.
    pub(super) fn free_addresses(
        &mut self,
        own: Option<PeerId>,
        record: &Record,
        addresses: &[IpNet],
    ) -> Result<Vec<Cut>, Refusal> {
        let mut losers = Vec::new();
        for net in addresses {
            let Some(holder) = self.routes.lookup(net.address()).filter(|holder| Some(*holder) != own) else {
                continue;
            };
            let other = self.peers.peer(holder).and_then(Peer::record).ok_or(Refusal::AddressTaken)?;
            if other.owner != record.owner || other.subject != record.subject {
                return Err(Refusal::AddressTaken);
            }
            if other.not_before > record.not_before {
                return Err(Refusal::Superseded);
            }
            losers.push(holder);
        }
        let mut cut = Vec::new();
        for loser in losers {
            cut.extend(self.cut(loser, CutReason::Policy));
            self.remove_peer(loser);
        }
        Ok(cut)
    }

    /// Keeps to the owner's quota: its least recently used record without a session gives way.
    fn make_room(&mut self, record: &Record) -> Result<(), Refusal> {
        if record.standing == Standing::Pushed {
            return Ok(());
        }
        let Some(certified) = &self.certified else { return Err(Refusal::UnknownIssuer) };
        let quota = certified.owner(record.owner).map_or(0, |owner| owner.max_clients);
        if quota == 0 {
            return Err(Refusal::Quota);
        }
        if certified.records_of(record.owner) >= quota {
            self.evict(record.owner)?;
        }
        Ok(())
    }

    fn evict(&mut self, owner: OwnerIndex) -> Result<(), Refusal> {
        let Some(certified) = &mut self.certified else { return Err(Refusal::Quota) };
        let oldest: Vec<_> = certified.oldest(owner).take(EVICTION_SEARCH).collect();
        for id in oldest {
            let Some(peer) = self.peers.peer_mut(id) else { continue };
            if peer.session.is_none() {
                self.remove_peer(id);
                self.journal.totals.records_evicted += 1;
                return Ok(());
            }
            if let Some(known) = peer.record_mut() {
                known.standing = Standing::Proven(certified.use_record(known.owner, id, known.place()));
            }
        }
        Err(Refusal::Quota)
    }

    /// Starts the 30 s in which an introduced key must prove a handshake.
    fn start_segment(&mut self, id: PeerId, key: PublicKey, now: Instant) {
        let record = self.peers.peer(id).and_then(Peer::record).map(|record| (record.standing, record.owner));
        let (Some((Standing::Unproven(until), owner)), Some(certified)) = (record, &mut self.certified)
        else {
            return;
        };
        certified.unproven.push_back(Unproven { until, id, key, owner });
        if certified.unproven.len() > MAX_UNPROVEN {
            let peers = &self.peers;
            certified.unproven.retain(|entry| is_unproven(peers, entry));
        }
        if let Some(oldest) = certified.overflow() {
            self.drop_if_unproven(&oldest);
        }
        self.drop_unproven(now);
    }

    /// Drops the introduced records whose time to prove themselves is over.
    pub(super) fn drop_unproven(&mut self, now: Instant) {
        while let Some(certified) = &mut self.certified
            && certified.unproven.front().is_some_and(|entry| entry.until <= now)
        {
            let Some(entry) = certified.unproven.pop_front() else { return };
            self.drop_if_unproven(&entry);
        }
    }

    fn drop_if_unproven(&mut self, entry: &Unproven) {
        if is_unproven(&self.peers, entry) {
            self.remove_peer(entry.id);
        }
    }

    /// A certified peer has used a session: its record counts as proven and as used. `admitted_from` is where
    /// it was heard from when this was its first session.
    pub(super) fn record_is_proven(&mut self, id: PeerId, admitted_from: Option<SocketAddr>) {
        let (Some(peer), Some(certified)) = (self.peers.peer_mut(id), &mut self.certified) else { return };
        let key = peer.key;
        let Some(record) = peer.record_mut() else { return };
        if record.standing != Standing::Pushed {
            record.standing = Standing::Proven(certified.use_record(record.owner, id, record.place()));
        }
        let (source, subject) = (record.source, record.subject.to_string());
        let index = record.owner;
        let Some(owner) = certified.owner(index) else { return };
        let (code, full) = (owner.code.clone(), certified.records_of(index) > owner.max_clients);
        if let Some(endpoint) = admitted_from {
            self.journal.push(Event::Admitted { key, subject, owner: code, endpoint, source });
        }
        // Several unproven records may have passed the quota together. Live ones stay, whatever it says.
        if full {
            let _ = self.evict(index);
        }
    }
}

/// Whether the record that an entry was made for still waits for its proof.
fn is_unproven(peers: &Peers, entry: &Unproven) -> bool {
    let peer = peers.peer(entry.id).filter(|peer| peer.key == entry.key);
    let record = peer.and_then(Peer::record);
    record.is_some_and(|record| record.standing == Standing::Unproven(entry.until))
}

/// A verified certificate that has no place yet.
pub(super) struct Candidate {
    pub(super) key: PublicKey,
    pub(super) record: Record,
    pub(super) networks: Vec<IpNet>,
}

impl Certified {
    /// Makes the record of a verified certificate; a new intermediate is remembered for its list.
    pub(super) fn record(
        &mut self,
        verified: VerifiedLeaf,
        source: CertificateSource,
        digest: [u8; 16],
        standing: Standing,
    ) -> Result<Candidate, Refusal> {
        let VerifiedLeaf { key, subject, networks, serial, path, listed } = verified;
        let ca = self.trust.cas().get(path.ca).ok_or(Refusal::UnknownIssuer)?;
        let (owner, ca_id) = (ca.owner, ca.key_id.clone());
        let mut above = Vec::new();
        let issuer = match path.intermediate {
            None => ca_id,
            Some(intermediate) => {
                above.push((ca_id, intermediate.serial));
                self.learn(owner, &intermediate).ok_or(Refusal::PathInvalid)?
            }
        };
        let known: Vec<_> = self.trust.upwards(path.ca).collect();
        above.extend(known.windows(2).map(|pair| (pair[1].key_id.clone(), pair[0].issuer.serial)));
        let record = Record {
            owner,
            issuer,
            serial,
            above: above.into(),
            listed: listed.map(Box::new),
            subject: subject.into(),
            not_before: path.not_before,
            not_after: path.not_after,
            source,
            digest,
            standing,
        };
        Ok(Candidate { key, record, networks })
    }

    /// The re-check of a record that has no peer yet.
    fn check(&self, key: PublicKey, record: &Record, now: Now) -> Result<Admitted, Refusal> {
        let owner = self.owner(record.owner).ok_or(Refusal::UnknownIssuer)?;
        admission::certified(key, record, self, owner.crl, self.wall(now), false)
    }
}
