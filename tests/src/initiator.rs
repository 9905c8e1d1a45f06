//! A WireGuard initiator by hand (paper §5.4), for tests that need thousands of clients or handshakes.
//!
//! It answers to nobody's timers and refuses nothing: what is sent, again, late or never, is the test's
//! business. Its messages can be made beforehand, so that a handshake costs the client two Diffie-Hellmans.

use crate::forgery::{self, Initiation, expand, hash, hmac};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::time::SystemTime;
use verona_contract::key::{PublicKey, Secret};

/// One client towards one edge.
#[derive(Debug)]
pub struct Initiator {
    private: Secret,
    psk: Secret,
    honest: Initiation,
}

/// An initiation and what is needed to take its response.
#[derive(Debug)]
pub struct Attempt {
    /// The 148 octets; mac2 is zero.
    pub message: Vec<u8>,
    ephemeral: Secret,
    chain: [u8; 32],
    transcript: [u8; 32],
}

/// The keys of a finished handshake.
pub struct Transport {
    receiver: u32,
    sending: LessSafeKey,
    receiving: LessSafeKey,
    counter: u64,
}

impl Initiator {
    /// A client with `private`, for the edge `responder`.
    ///
    /// # Panics
    ///
    /// A key is of low order.
    #[must_use]
    pub fn new(private: &Secret, responder: PublicKey, psk: Secret) -> Self {
        let honest = Initiation::honest(responder, private);
        Self { private: private.clone(), psk, honest }
    }

    /// An initiation of its own clock's moment `at`. `ephemeral` must not serve twice.
    #[must_use]
    pub fn initiate(&self, ephemeral: Secret, sender: u32, at: SystemTime) -> Attempt {
        let initiation = Initiation { ephemeral: ephemeral.clone(), sender, at, ..self.honest.clone() };
        let (message, chain, transcript) = initiation.write();
        Attempt { message, ephemeral, chain, transcript }
    }

    /// Takes the response to `attempt`; none when it is not one.
    #[must_use]
    pub fn finish(&self, attempt: &Attempt, response: &[u8]) -> Option<Transport> {
        if response.len() != 92 || response[0] != 2 || response[8..12] != attempt.message[4..8] {
            return None;
        }
        let receiver = u32::from_le_bytes(response[4..8].try_into().ok()?);
        let ephemeral: [u8; 32] = response[12..44].try_into().ok()?;
        let theirs = PublicKey::new(ephemeral).ok()?;

        let mut transcript = hash(&[&attempt.transcript, &ephemeral]);
        let mut chain = expand(&attempt.chain, &ephemeral).0;
        chain = expand(&chain, &forgery::shared(&attempt.ephemeral, &theirs)).0;
        chain = expand(&chain, &forgery::shared(&self.private, &theirs)).0;
        let extracted = hmac(&chain, &[self.psk.expose()]);
        chain = hmac(&extracted, &[&[1]]);
        let tau = hmac(&extracted, &[&chain, &[2]]);
        let key = hmac(&extracted, &[&tau, &[3]]);
        transcript = hash(&[&transcript, &tau]);
        let mut nothing = response[44..60].to_vec();
        aead(&key).open_in_place(nonce(0), Aad::from(&transcript), &mut nothing).ok()?;

        let (sending, receiving) = expand(&chain, &[]);
        Some(Transport { receiver, sending: aead(&sending), receiving: aead(&receiving), counter: 0 })
    }
}

impl Transport {
    /// The transport message of a packet; an empty one is a keepalive.
    ///
    /// # Panics
    ///
    /// Never: the packet is of a size that can be sealed.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut message = vec![4, 0, 0, 0];
        message.extend(self.receiver.to_le_bytes());
        message.extend(self.counter.to_le_bytes());
        let mut sealed = packet.to_vec();
        sealed.resize(packet.len().next_multiple_of(16), 0);
        self.sending
            .seal_in_place_append_tag(nonce(self.counter), Aad::empty(), &mut sealed)
            .expect("a packet is short");
        self.counter += 1;
        message.append(&mut sealed);
        message
    }

    /// The packet, with its padding, of a transport message to us.
    #[must_use]
    pub fn open(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (header, sealed) = message.split_at_checked(16)?;
        let counter = u64::from_le_bytes(header[8..].try_into().ok()?);
        let mut sealed = sealed.to_vec();
        let packet = self.receiving.open_in_place(nonce(counter), Aad::empty(), &mut sealed).ok()?;
        Some(packet.to_vec())
    }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 octets"))
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use boringtun::noise::{Tunn, TunnResult};

    #[test]
    fn boringtun_answers_and_both_directions_open() {
        let (edge, client, psk) = (Secret::new([1; 32]), Secret::new([2; 32]), [3; 32]);
        let key = edge.x25519_public().unwrap();
        let initiator = Initiator::new(&client, key, Secret::new(psk));
        let attempt = initiator.initiate(Secret::new([4; 32]), 77, SystemTime::now());
        let client_key = *client.x25519_public().unwrap().as_bytes();
        let mut tunn = Tunn::new((*edge.expose()).into(), client_key.into(), Some(psk), None, 1, None);
        let mut out = [0; 256];
        let TunnResult::WriteToNetwork(response) = tunn.decapsulate(None, &attempt.message, &mut out) else {
            panic!("no response")
        };
        let response = response.to_vec();
        let mut transport = initiator.finish(&attempt, &response).unwrap();
        let packet = [&[0x45, 0, 0, 24][..], &[0; 20]].concat();
        let there = transport.seal(&packet);
        let TunnResult::WriteToTunnelV4(arrived, _) = tunn.decapsulate(None, &there, &mut out) else {
            panic!("not opened")
        };
        assert_eq!(arrived, packet);
        let TunnResult::WriteToNetwork(back) = tunn.encapsulate(&packet, &mut out) else {
            panic!("nothing sealed")
        };
        assert_eq!(transport.open(back).unwrap()[..24], packet);
        let stranger = Initiator::new(&client, key, Secret::new([9; 32]));
        assert!(stranger.finish(&attempt, &response).is_none(), "another preshared key");
    }
}
