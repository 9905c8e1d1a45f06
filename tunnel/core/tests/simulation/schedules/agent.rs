//! Center and agent in a schedule: lists, policies, the clock, a new process.
//!
//! The agent here is the part of the real one that matters: it keeps the newest list that the edge took from
//! each issuer, and hands it over again after a restart or a change of policy.

use super::cast::{Ca, EDGE, FRANK, Owner};
use super::model::{List, Verdict};
use super::world::{World, pick};
use crate::harness::{Node, wall};
use edge_tunnel_core::{CrlRefused, CrlSet, Secret, VerifiedPolicy};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::config::{CrlPolicy, PskRoot};
use verona_contract::control::{OwnerPolicy, Policy};
use verona_contract::crl::CrlError;

impl World<'_> {
    /// The center signs its next list of `issuer`.
    pub(super) fn publish(&mut self, issuer: Ca) -> List {
        let number = self.numbers.entry(issuer).or_insert(0);
        *number += 1;
        let disabled = self.for_good.iter().chain(&self.for_now);
        let revoked = disabled.filter(|entry| entry.0 == issuer).map(|entry| entry.1).collect();
        let list = List { issuer, number: *number, revoked, made: self.slept };
        self.published.push(list.clone());
        list
    }

    pub(super) fn publish_and(&mut self, issuer: Ca, late: bool) -> Result<(), String> {
        let list = self.publish(issuer);
        if late { Ok(()) } else { self.offer_through_agent(&list) }
    }

    /// The agent never gives a list before the newest that it keeps: after a restart the edge has forgotten it.
    pub(super) fn offer_through_agent(&mut self, list: &List) -> Result<(), String> {
        if !self.model.lists.contains_key(&list.issuer)
            && let Some(kept) = self.kept.get(&list.issuer).cloned()
        {
            self.check_offer(&kept)?;
        }
        self.check_offer(list)
    }

    pub(super) fn check_offer(&mut self, list: &List) -> Result<(), String> {
        let knows = self.model.knows(self.cast, list.issuer);
        let told = self.offer(list);
        let expected = self.model.offered(self.cast, list);
        if told == expected {
            return Ok(());
        }
        Err(format!("{list:?} is {told:?}, expected {expected:?} (issuer known: {knows})"))
    }

    /// Gives a list to the edge, and what becomes of it to the agent.
    fn offer(&mut self, list: &List) -> Verdict {
        let verdict = self.load(list);
        if verdict == Verdict::Accepted {
            self.kept.insert(list.issuer, list.clone());
        }
        verdict
    }

    fn load(&mut self, list: &List) -> Verdict {
        let issuer = self.cast.key_id(list.issuer);
        let issuers = self.edge.engine.issuers();
        if !issuers.iter().any(|known| known.key_id == issuer) {
            return Verdict::UnknownIssuer;
        }
        let set = self.verified.entry(list.clone()).or_insert_with(|| {
            let revoked: Vec<u64> = list.revoked.iter().copied().collect();
            let made = wall() + Duration::from_secs(list.made as u64);
            let der = self.cast.authority(list.issuer).crl(list.number, &revoked, made);
            CrlSet::load(&der, &issuers).unwrap()
        });
        match self.edge.engine.install_crl(self.clock.now(), set.clone()) {
            Ok(_) => Verdict::Accepted,
            Err(CrlRefused::Order(CrlError::Rollback { .. })) => Verdict::Rollback,
            Err(CrlRefused::Order(_)) => Verdict::Conflict,
            Err(_) => Verdict::UnknownIssuer,
        }
    }

    pub(super) fn offer_again(&mut self, published: u64) -> Result<(), String> {
        let Some(list) = pick(&self.published, published).cloned() else { return Ok(()) };
        self.offer_through_agent(&list)
    }

    pub(super) fn offer_forged(&mut self, number: u64) -> Result<(), String> {
        let der = self.cast.authority(Ca::Twin).crl(number, &[], wall());
        match CrlSet::load(&der, &self.edge.engine.issuers()) {
            Ok(_) => Err("a list by another key under Acme's name was verified".to_owned()),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn tell_clock(&mut self) {
        self.clock.step(self.off + self.slept);
        self.edge.engine.set_clock(self.clock.now(), self.trusted);
        self.look_at_clock();
    }

    pub(super) fn restart(&mut self, with_lists: bool) -> Result<(), String> {
        self.edge = Node::new(EDGE, "198.51.100.1:51820", &self.clock);
        self.model.restarted();
        self.answered.clear();
        self.install_rules();
        self.tell_clock();
        if with_lists { self.refill() } else { Ok(()) }
    }

    pub(super) fn refill(&mut self) -> Result<(), String> {
        for list in self.kept.values().cloned().collect::<Vec<_>>() {
            if !self.model.lists.contains_key(&list.issuer) {
                self.check_offer(&list)?;
            }
        }
        Ok(())
    }

    pub(super) fn install_rules(&mut self) {
        let rules = self.model.rules;
        self.policy_seq += 1;
        let anchor = |ca: Ca| Octets(self.cast.authority(ca).certificate().to_vec());
        let owner = |owner: Owner, anchors: Vec<Octets>, clients: Vec<Octets>| OwnerPolicy {
            owner: owner.code().parse().unwrap(),
            anchors,
            intermediates: Vec::new(),
            crl: CrlPolicy { stale: rules.stale, ..CrlPolicy::default() },
            psk_root: PskRoot { id: 1, secret: Secret::new(owner.psk_root()) },
            psk_previous: None,
            clients,
            identities: Vec::new(),
            sites: Vec::new(),
            max_clients: rules.quota,
        };
        let of_acme =
            [Ca::Acme, Ca::AcmeNext].into_iter().filter(|ca| rules.trusts(*ca)).map(anchor).collect();
        let pushed = self.cast.certificates.iter().filter(|known| rules.frank && known.client == FRANK);
        let pushed = pushed.map(|known| Octets(known.leaf.clone())).collect();
        let mut owners = vec![owner(Owner::Acme, of_acme, pushed)];
        if self.model.owner_is_served(Owner::Beta) {
            owners.insert(0, owner(Owner::Beta, vec![anchor(Ca::Beta)], Vec::new()));
        }
        let policy = Policy {
            seq: self.policy_seq,
            private_key: self.edge.secret.clone(),
            certificate: None,
            listen_port: 51820,
            owners,
            endpoints: Vec::new(),
        };
        let policy = VerifiedPolicy::new(policy).unwrap();
        self.edge.engine.install_policy(self.clock.now(), policy);
    }
}
