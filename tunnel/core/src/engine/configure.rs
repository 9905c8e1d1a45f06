//! Plain WireGuard's configuration: one transaction, all of it or nothing, and the view of it.

use super::Engine;
use crate::device::{AllowedIpUpdate, ConfigError, DeviceStatus, DeviceUpdate, PeerStatus, PeerUpdate};
use crate::forwarder::Glance;
use crate::identity::{Identity, ReachKeys};
use crate::introduction;
use crate::output::Output;
use crate::peer::{Basis, Configured, Introducer, Origin, Peer};
use crate::peers::{MAX_PEERS, PeerId};
use crate::time::Now;
use crate::{IpNet, Secret};

impl Engine {
    /// Applies one transaction of plain mode.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`]; then nothing was changed.
    pub fn configure(
        &mut self,
        now: Now,
        update: DeviceUpdate,
        out: &mut impl Output,
    ) -> Result<(), ConfigError> {
        self.check_update(&update)?;
        if let Some(secret) = &update.private_key {
            self.set_private_key(secret.as_ref());
        }
        if update.replace_peers {
            for id in self.peers.ids() {
                self.remove_peer(id);
            }
        }
        for peer in update.peers {
            self.update_peer(now, peer, out);
        }
        if update.private_key.is_some() {
            self.greet_all(now, out);
        }
        self.publish_routes(now.mono);
        Ok(())
    }

    fn check_update(&self, update: &DeviceUpdate) -> Result<(), ConfigError> {
        let changes = update.private_key.is_some() || update.replace_peers || !update.peers.is_empty();
        if self.certified.is_some() && changes {
            return Err(ConfigError::CertifiedMode);
        }
        let kept = if update.replace_peers { 0 } else { self.peers.len() };
        if kept + update.peers.len() > MAX_PEERS {
            return Err(ConfigError::TooManyPeers);
        }
        for introduction in update.peers.iter().filter_map(|peer| peer.introduction.as_ref()) {
            let octets = introduction::payload_len(introduction);
            if octets > introduction::MAX_CERTIFICATES {
                return Err(ConfigError::IntroductionTooLarge { octets });
            }
        }
        Ok(())
    }

    /// A new key ends every session, since each is bound to the old one.
    fn set_private_key(&mut self, secret: Option<&Secret>) {
        let identity = secret.and_then(Identity::new);
        let same = match (&self.identity, &identity) {
            (Some(old), Some(new)) => old.public() == new.public(),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        // A device is never its own peer.
        if let Some(own) = identity.as_ref().and_then(|identity| self.peers.id_of(identity.public())) {
            self.remove_peer(own);
        }
        self.replace_identity(identity);
    }

    pub(super) fn replace_identity(&mut self, identity: Option<Identity>) {
        self.identity = identity;
        self.publish_view();
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.peer_mut(id) {
                peer.end_session();
            }
        }
    }

    fn update_peer(&mut self, now: Now, update: PeerUpdate, out: &mut impl Output) {
        let known = self.peers.id_of(&update.public_key);
        if update.remove {
            if let Some(id) = known {
                self.remove_peer(id);
            }
            return;
        }
        let is_self = self.identity.as_ref().is_some_and(|identity| *identity.public() == update.public_key);
        if (known.is_none() && update.update_only) || is_self {
            return;
        }
        let Some(id) = known.or_else(|| {
            let floor = self.floors.of(&update.public_key);
            self.peers.insert(Peer::new(update.public_key, Basis::Configured(Box::default()), floor))
        }) else {
            return;
        };
        self.update_routes(id, update.replace_allowed_ips, &update.allowed_ips);
        self.update_protocol(id, update, now, out);
    }

    fn update_routes(&mut self, id: PeerId, replace: bool, changes: &[AllowedIpUpdate]) {
        if replace {
            self.clear_routes(id);
        }
        for change in changes {
            match *change {
                AllowedIpUpdate::Add(net) => self.add_route(id, net),
                AllowedIpUpdate::Remove(net) => self.remove_route(id, net),
            }
        }
    }

    pub(super) fn clear_routes(&mut self, id: PeerId) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        for net in std::mem::take(&mut peer.allowed_ips) {
            self.routes.remove(net, id);
        }
    }

    pub(super) fn add_route(&mut self, id: PeerId, net: IpNet) {
        let net = net.network();
        let before = self.routes.insert(net, id);
        if before == Some(id) {
            return;
        }
        if let Some(loser) = before.and_then(|before| self.peers.peer_mut(before)) {
            loser.allowed_ips.retain(|other| *other != net);
        }
        if let Some(peer) = self.peers.peer_mut(id) {
            peer.allowed_ips.push(net);
        }
    }

    fn remove_route(&mut self, id: PeerId, net: IpNet) {
        let net = net.network();
        if let Some(peer) = self.peers.peer_mut(id) {
            peer.allowed_ips.retain(|other| *other != net);
        }
        self.routes.remove(net, id);
    }

    /// Preshared key, endpoint, keepalive, certificate; and a handshake where the change asks for one.
    fn update_protocol(&mut self, id: PeerId, update: PeerUpdate, now: Now, out: &mut impl Output) {
        let Some(peer) = self.peers.peer_mut(id) else { return };
        if let Some(endpoint) = update.endpoint {
            peer.endpoint = Some(endpoint);
            peer.origin = Origin::Known;
            self.forwarder.with_line(id, |line| line.set_endpoint(endpoint));
        }
        let had_session = peer.session.is_some();
        let Some(configured) = peer.configured_mut() else { return };
        let had_keepalive = configured.keepalive > 0;
        let mut new_psk = false;
        if let Some(psk) = update.preshared_key {
            // As in the kernel it counts from the next handshake on; keys that were proven serve until then.
            new_psk = configured.psk != psk;
            configured.psk_changes = configured.psk_changes.wrapping_add(new_psk.into());
            configured.psk = psk;
        }
        if let Some(seconds) = update.persistent_keepalive {
            configured.keepalive = seconds;
        }
        let keepalive_began = configured.keepalive > 0 && !had_keepalive;
        if let Some(certificates) = update.introduction {
            let reach = ReachKeys::new(&update.public_key);
            configured.introducer = Some(Introducer { certificates, reach, cookie: None, last: None });
        }
        if new_psk && had_session {
            self.initiate(id, true, now, out);
        } else if keepalive_began {
            self.greet(id, now, out);
        }
        self.reschedule(id, now.mono);
    }

    /// With a persistent keepalive a peer is spoken to at once, as wireguard-go does.
    fn greet(&mut self, id: PeerId, now: Now, out: &mut impl Output) {
        if self.endpoint(id).is_some() {
            self.send_keepalive(id, now, out);
        }
    }

    fn greet_all(&mut self, now: Now, out: &mut impl Output) {
        let keepalive = |peer: &Peer| peer.keepalive().is_some() && peer.session.is_none();
        let ids: Vec<_> = self.peers.iter().filter(|(_, peer)| keepalive(peer)).map(|(id, _)| id).collect();
        for id in ids {
            self.greet(id, now, out);
        }
    }

    /// What UAPI `get=1` prints, except what the shell owns.
    #[must_use]
    pub fn device(&self) -> DeviceStatus {
        let glances = self.glances();
        DeviceStatus {
            private_key: self.identity.as_ref().map(|identity| identity.secret().clone()),
            public_key: self.identity.as_ref().map(|identity| *identity.public()),
            peers: self.peers.iter().map(|(id, peer)| self.peer_status(peer, glances.get(&id))).collect(),
        }
    }

    fn peer_status(&self, peer: &Peer, glance: Option<&Glance>) -> PeerStatus {
        let (site, traffic) = peer.place(glance);
        PeerStatus {
            public_key: peer.key,
            preshared_key: self.psk(peer, |roots| &roots.current).and_then(|psk| psk.secret),
            endpoint: site.endpoint,
            last_handshake: peer.last_handshake,
            unanswered: peer.session.as_ref().map_or(0, |session| session.attempts.unanswered()),
            rx_bytes: traffic.rx_bytes,
            tx_bytes: traffic.tx_bytes,
            persistent_keepalive: peer.configured().map_or(0, |configured: &Configured| configured.keepalive),
            allowed_ips: peer.allowed_ips.clone(),
        }
    }
}
