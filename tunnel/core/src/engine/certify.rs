//! Certified mode: policy, lists and clock come in; whom they no longer cover is cut before the call returns.

use super::Engine;
use crate::PublicKey;
use crate::certified::{Certified, unix_nanos, unix_seconds};
use crate::crl_set::CrlSet;
use crate::line::Line;
use crate::neighbour::{Neighbour, Plan};
use crate::peer::{Basis, Origin, Peer};
use crate::peers::PeerId;
use crate::policy::{PushedClient, VerifiedPolicy};
use crate::record::{Record, Standing};
use crate::time::Now;
use crate::trust::Owner;
use std::collections::HashSet;
use std::time::Instant;
use verona_contract::cert::Issuer;
use verona_contract::control::{
    CertificateSource, CrlInfo, CrlInstalled, CrlState, Cut, CutReason, Event, PeerInfo, PolicyInstalled,
    Refusal, RejectedClient,
};
use verona_contract::crl::CrlError;
use verona_contract::key::KeyId;

/// Why a verified list does not take effect. The one before it stays in force.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlRefused {
    /// The policy has changed since the list was verified.
    #[error("no owner of the policy has issuer {0}")]
    UnknownIssuer(KeyId),
    /// Older than the list in force, or another of the same number. An alarm.
    #[error(transparent)]
    Order(CrlError),
}

impl Engine {
    /// Replaces the policy. From the first one on, only certified peers exist. Peers that the new policy does
    /// not cover are removed and their sessions cut; lists of issuers that it keeps stay in force.
    pub fn install_policy(&mut self, now: Now, policy: VerifiedPolicy) -> PolicyInstalled {
        let VerifiedPolicy { seq, identity, trust, clients, neighbours, certificate, endpoints, .. } = policy;
        let mut rejected = policy.rejected;
        if self.identity.as_ref().is_none_or(|old| old.public() != identity.public()) {
            self.replace_identity(Some(identity));
        }
        let old = self.certified.replace(Certified::new(seq, trust, self.clock_trusted));
        self.publish_view();
        let all = clients.iter().chain(neighbours.iter().map(|(neighbour, _)| neighbour));
        let pushed = all.map(|client| client.verified.key).collect();
        let mut cut = self.carry_over(old, &pushed);
        // Before the clients: a network of the configuration comes before an address in a certificate.
        for (neighbour, plan) in neighbours {
            let path = neighbour.path.clone();
            match self.keep_neighbour(neighbour, plan, certificate.as_deref(), now.mono) {
                Ok(superseded) => cut.extend(superseded),
                Err(refusal) => rejected.push(RejectedClient { path, reason: refusal.to_string() }),
            }
        }
        for client in clients {
            let path = client.path.clone();
            match self.keep_pushed(client) {
                Ok(superseded) => cut.extend(superseded),
                Err(refusal) => rejected.push(RejectedClient { path, reason: refusal.to_string() }),
            }
        }
        cut.extend(self.sweep(now));
        self.take_hints(&endpoints);
        self.schedule_calls(now.mono);
        self.publish_routes(now.mono);
        PolicyInstalled { seq, clients: self.peers.len(), cut, rejected }
    }

    /// Takes over what the new policy still covers, and removes the rest.
    fn carry_over(&mut self, old: Option<Certified>, pushed: &HashSet<PublicKey>) -> Vec<Cut> {
        let mut ids = self.peers.ids();
        let (Some(mut old), Some(new)) = (old, &mut self.certified) else {
            ids.into_iter().for_each(|id| self.remove_peer(id));
            return Vec::new();
        };
        let issuers = new.inherit(&mut old);
        // Least recently used first, so that the order of use survives.
        ids.sort_by_key(|id| self.peers.peer(*id).and_then(Peer::record).and_then(Record::place));
        let mut cut = Vec::new();
        for id in ids {
            if !self.carry_over_peer(id, &old, &issuers, pushed) {
                cut.extend(self.cut(id, CutReason::Policy));
                self.remove_peer(id);
            }
        }
        cut
    }

    /// Moves one record to the new policy; false when that does not cover it.
    fn carry_over_peer(
        &mut self,
        id: PeerId,
        old: &Certified,
        issuers: &HashSet<KeyId>,
        pushed: &HashSet<PublicKey>,
    ) -> bool {
        let (Some(peer), Some(new)) = (self.peers.peer_mut(id), &mut self.certified) else { return false };
        let key = peer.key;
        let Basis::Certified(record) = &mut peer.basis else { return false };
        let Some(before) = old.owner(record.owner) else { return false };
        let Some((index, owner)) = new.trust.owner_coded(&before.code) else { return false };
        let dropped = record.standing == Standing::Pushed && !pushed.contains(&key);
        let covered = |issuer: &KeyId| issuers.contains(issuer) && new.owner_of_issuer(issuer) == Some(index);
        // An identity whose name or addresses have changed introduces itself again.
        let listing = |owner: &Owner| record.listed.as_ref().map(|key| owner.identities.get(key).cloned());
        if dropped || listing(owner) != listing(before) || !record.chain().all(|(issuer, _)| covered(issuer))
        {
            return false;
        }
        let gone = owner.psk.gone_since(&before.psk);
        record.owner = index;
        if matches!(record.standing, Standing::Proven(_)) {
            record.standing = Standing::Proven(new.use_record(index, id, None));
        }
        peer.proven_psk = peer.proven_psk.filter(|id| !gone.contains(id));
        let forget = |line: &mut Line| gone.iter().filter(|id| line.forget_psk(**id)).count() > 0;
        if !gone.is_empty() && self.forwarder.with_line(id, forget) == Some(true) {
            peer.end_session();
        }
        true
    }

    /// A pushed record, the networks of this configuration, and what makes it a neighbour.
    fn keep_neighbour(
        &mut self,
        neighbour: PushedClient,
        plan: Plan,
        certificate: Option<&[u8]>,
        now: Instant,
    ) -> Result<Vec<Cut>, Refusal> {
        let (key, networks) = (neighbour.verified.key, neighbour.verified.networks.clone());
        let mut cut = self.keep_pushed(neighbour)?;
        let id = self.peers.id_of(&key).ok_or(Refusal::UnknownKey)?;
        let record = self.peers.peer(id).and_then(Peer::record).cloned().ok_or(Refusal::UnknownKey)?;
        cut.extend(self.free_addresses(Some(id), &record, &networks)?);
        self.replace_routes(id, networks);
        if let Some(peer) = self.peers.peer_mut(id) {
            let moved = peer.neighbour.as_ref().is_none_or(|before| before.endpoint != plan.endpoint);
            if moved && peer.session.as_ref().is_some_and(|session| !session.has_keys(now)) {
                // It calls where nobody has answered.
                peer.end_session();
            }
            if peer.session.is_none() && plan.endpoint.is_some() && (moved || peer.endpoint.is_none()) {
                (peer.endpoint, peer.origin) = (plan.endpoint, Origin::Hint);
            }
            peer.neighbour = Some(Box::new(Neighbour::new(&key, plan, certificate)));
        }
        Ok(cut)
    }

    fn keep_pushed(&mut self, client: PushedClient) -> Result<Vec<Cut>, Refusal> {
        let PushedClient { verified, digest, .. } = client;
        let known = self.peers.id_of(&verified.key);
        let known_record = known.and_then(|id| self.peers.peer(id)?.record());
        // Most clients of a policy were in the one before it, and packets wait meanwhile.
        let unchanged = known_record.is_some_and(|known| {
            let dates =
                (known.not_before, known.not_after) == (verified.path.not_before, verified.path.not_after);
            known.digest == digest && known.standing == Standing::Pushed && dates
        });
        if unchanged {
            return Ok(Vec::new());
        }
        let certified = self.certified.as_mut().ok_or(Refusal::UnknownIssuer)?;
        let candidate = certified.record(verified, CertificateSource::Pushed, digest, Standing::Pushed)?;
        // What the client itself has shown meanwhile may be newer than what the center pushes.
        if let Some(old) = known.and_then(|id| self.peers.peer_mut(id)?.record_mut())
            && old.not_after > candidate.record.not_after
            && old.subject == candidate.record.subject
        {
            certified.forget_record(old.owner, old.place());
            old.standing = Standing::Pushed;
            return Ok(Vec::new());
        }
        self.keep(candidate).map(|(_, cut)| cut)
    }

    /// Puts a verified list in force and cuts whom it lists: no packet of a cut peer is delivered after the
    /// call returns.
    ///
    /// # Errors
    ///
    /// [`CrlRefused`]; then nothing was changed.
    pub fn install_crl(&mut self, now: Now, crl: CrlSet) -> Result<CrlInstalled, CrlRefused> {
        let issuer = crl.issuer().clone();
        let certified =
            self.certified.as_mut().filter(|certified| certified.owner_of_issuer(&issuer).is_some());
        let certified = certified.ok_or_else(|| CrlRefused::UnknownIssuer(issuer.clone()))?;
        if let Some(stored) = certified.lists.get(&issuer) {
            crl.check_follows(stored).map_err(CrlRefused::Order)?;
        }
        let (number, entries) = (crl.number(), crl.entries());
        certified.lists.insert(issuer.clone(), crl);
        let cut = self.sweep(now);
        // Whom only the list was missing for may be called now.
        self.schedule_calls(now.mono);
        Ok(CrlInstalled { issuer, number, entries, applied_at_ns: unix_nanos(now.wall), cut })
    }

    /// Tells whether the wall clock may be believed. Once it is, dates are checked for every live session.
    pub fn set_clock(&mut self, now: Now, trusted: bool) {
        self.clock_trusted = trusted;
        if let Some(certified) = &mut self.certified {
            certified.clock_trusted = trusted;
            self.sweep(now);
            self.schedule_calls(now.mono);
        }
    }

    /// Re-checks every live session.
    fn sweep(&mut self, now: Now) -> Vec<Cut> {
        let live: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.session.is_some()).map(|(id, _)| id).collect();
        live.into_iter().filter_map(|id| self.cut_if_refused(id, now)).collect()
    }

    /// Ends a session whose peer would not be admitted now.
    pub(super) fn cut_if_refused(&mut self, id: PeerId, now: Now) -> Option<Cut> {
        let reason = match self.admit(id, now) {
            Ok(_) => return None,
            Err(Refusal::Revoked) => CutReason::Revoked,
            Err(Refusal::CrlStale) => CutReason::CrlStale,
            Err(Refusal::Expired | Refusal::NotYetValid) => CutReason::CertificateExpired,
            Err(_) => CutReason::Policy,
        };
        self.cut(id, reason)
    }

    /// Ends a session, its queue with it. The record stays, so that the next handshake is told why.
    pub(super) fn cut(&mut self, id: PeerId, reason: CutReason) -> Option<Cut> {
        let peer = self.peers.peer_mut(id)?;
        peer.session.as_ref()?;
        peer.end_session();
        // A call that nobody has answered is no session that could have ended.
        if peer.is_hinted() {
            return None;
        }
        let cut = peer.record()?.cut(peer.key, &peer.allowed_ips);
        self.journal.totals.sessions_cut += 1;
        self.journal.push(Event::Cut { cut: cut.clone(), reason });
        Some(cut)
    }

    /// The policy's sequence number; none before the first policy.
    #[must_use]
    pub fn policy_seq(&self) -> Option<u64> {
        self.certified.as_ref().map(|certified| certified.seq)
    }

    /// Whether the wall clock is believed.
    #[must_use]
    pub const fn clock_trusted(&self) -> bool {
        self.clock_trusted
    }

    /// Live sessions, and certified records.
    #[must_use]
    pub fn population(&self) -> (usize, usize) {
        let count = |wanted: fn(&Peer) -> bool| self.peers.iter().filter(|(_, peer)| wanted(peer)).count();
        (count(|peer| peer.session.is_some()), count(|peer| peer.record().is_some()))
    }

    /// The issuers whose lists are verified and kept: for [`CrlSet::load`].
    #[must_use]
    pub fn issuers(&self) -> Vec<Issuer> {
        self.certified.iter().flat_map(Certified::issuers).cloned().collect()
    }

    /// Every certified peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let glances = self.glances();
        let info = |id: PeerId, peer: &Peer| {
            let record: &Record = peer.record()?;
            let (site, traffic) = peer.place(glances.get(&id));
            Some(PeerInfo {
                key: peer.key,
                subject: record.subject.to_string(),
                owner: self.certified.as_ref()?.owner(record.owner)?.code.clone(),
                serial: record.serial,
                not_after: record.not_after,
                source: record.source,
                addresses: peer.allowed_ips.iter().map(verona_contract::ipnet::IpNet::address).collect(),
                endpoint: site.endpoint.filter(|_| site.known),
                last_handshake: peer.last_handshake.map(unix_seconds),
                rx_bytes: traffic.rx_inner,
                tx_bytes: traffic.tx_inner,
                path_mtu: glances.get(&id).and_then(|glance| glance.path_mtu),
            })
        };
        self.peers.iter().filter_map(|(id, peer)| info(id, peer)).collect()
    }

    /// Every issuer, with its list.
    #[must_use]
    pub fn crls(&self, now: Now) -> Vec<CrlInfo> {
        let Some(certified) = &self.certified else { return Vec::new() };
        let info = |issuer: &Issuer| {
            let list = certified.lists.get(&issuer.key_id);
            let owner = certified.owner_of_issuer(&issuer.key_id).and_then(|owner| certified.owner(owner));
            let state = list.zip(owner).map(|(list, owner)| list.state(owner.crl, certified.wall(now)));
            CrlInfo {
                issuer: issuer.key_id.clone(),
                number: list.map(CrlSet::number),
                this_update: list.map(CrlSet::this_update),
                next_update: list.map(CrlSet::next_update),
                entries: list.map_or(0, CrlSet::entries),
                state: state.unwrap_or(CrlState::Missing),
            }
        };
        certified.issuers().map(info).collect()
    }
}
