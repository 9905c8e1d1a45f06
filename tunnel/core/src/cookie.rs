//! mac1, mac2 and the cookie reply (WireGuard whitepaper §5.3, §5.4.4, §5.4.7), for handshake messages and
//! introductions alike.
//!
//! boringtun has its own, but for handshake messages only, with the address alone as the cookie's subject
//! and a counter in place of random nonces. *When* a cookie is demanded is decided in [`crate::load`].

use crate::entropy::Entropy;
use crate::message::{self, CookieReplyMessage};
use crate::noise::{self, TAG};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// How long the secret behind the cookies lives (whitepaper §5.4.7).
const SECRET_LIFE: Duration = Duration::from_secs(120);

/// A cookie: shows that its bearer receives datagrams at its address.
#[derive(Clone, Copy, PartialEq, Eq, Zeroize)]
pub(crate) struct Cookie(pub(crate) [u8; 16]);

/// The datagram split at its two MACs. The caller has checked that it is longer than both.
pub(crate) struct Macs<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) mac1: &'a [u8; TAG],
    mac2: &'a [u8; TAG],
}

pub(crate) fn macs(datagram: &[u8]) -> Option<Macs<'_>> {
    let (rest, mac2) = datagram.split_last_chunk::<TAG>()?;
    let (body, mac1) = rest.split_last_chunk::<TAG>()?;
    Some(Macs { body, mac1, mac2 })
}

/// Writes mac1, and mac2 when there is a cookie, into the last 32 octets; gives mac1.
pub(crate) fn write_macs(key: &[u8; 32], cookie: Option<Cookie>, datagram: &mut [u8]) -> [u8; TAG] {
    let mac1_at = datagram.len().saturating_sub(2 * TAG);
    let mac2_at = datagram.len().saturating_sub(TAG);
    let mac1 = noise::mac(key, &[&datagram[..mac1_at]]);
    datagram[mac1_at..mac2_at].copy_from_slice(&mac1);
    let mac2 = cookie.map_or([0; TAG], |cookie| noise::mac(&cookie.0, &[&datagram[..mac2_at]]));
    datagram[mac2_at..].copy_from_slice(&mac2);
    mac1
}

/// The side that demands cookies.
pub(crate) struct CookieIssuer {
    secret: [u8; 32],
    /// None: not drawn yet, or to be drawn anew.
    made: Option<Instant>,
}

impl CookieIssuer {
    pub(crate) const fn new() -> Self {
        Self { secret: [0; 32], made: None }
    }

    /// Whether mac2 shows that the sender receives what we send to `from`.
    pub(crate) fn mac2_is_valid(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
        rng: &mut Entropy,
    ) -> bool {
        // Who has no cookie writes zeros (whitepaper §5.4.4): nearly all of a flood, and no reason to hash it again.
        let Some(macs) = macs(datagram).filter(|macs| *macs.mac2 != [0; TAG]) else { return false };
        let cookie = self.cookie(from, now, rng);
        noise::mac(&cookie.0, &[macs.body, macs.mac1]).ct_eq(macs.mac2).into()
    }

    /// The cookie reply to `datagram`, which carried `sender` as its index. `cookie_key` is ours.
    pub(crate) fn reply(
        &mut self,
        cookie_key: &[u8; 32],
        (from, sender): (SocketAddr, u32),
        datagram: &[u8],
        now: Instant,
        rng: &mut Entropy,
    ) -> Option<[u8; message::COOKIE_REPLY]> {
        let mut cookie = self.cookie(from, now, rng).0;
        let nonce = *rng.draw().first_chunk::<24>()?;
        let tag = XChaCha20Poly1305::new(cookie_key.into())
            .encrypt_in_place_detached(&nonce.into(), macs(datagram)?.mac1, &mut cookie)
            .ok()?;
        let mut reply = [0; message::COOKIE_REPLY];
        reply[0] = 3;
        reply[4..8].copy_from_slice(&sender.to_le_bytes());
        reply[8..32].copy_from_slice(&nonce);
        reply[32..48].copy_from_slice(&cookie);
        reply[48..].copy_from_slice(&tag);
        Some(reply)
    }

    fn cookie(&mut self, from: SocketAddr, now: Instant, rng: &mut Entropy) -> Cookie {
        if self.made.is_none_or(|made| now.saturating_duration_since(made) >= SECRET_LIFE) {
            self.secret = rng.draw();
            self.made = Some(now);
        }
        let port = from.port().to_be_bytes();
        Cookie(match from.ip() {
            IpAddr::V4(v4) => noise::mac(&self.secret, &[&v4.octets(), &port]),
            IpAddr::V6(v6) => noise::mac(&self.secret, &[&v6.octets(), &port]),
        })
    }
}

/// Opens the reply to a message of ours that carried `mac1`. `cookie_key` is the replier's.
pub(crate) fn open_reply(
    cookie_key: &[u8; 32],
    reply: &CookieReplyMessage<'_>,
    mac1: &[u8; TAG],
) -> Option<Cookie> {
    let (sealed, tag) = reply.sealed_cookie.split_first_chunk::<16>()?;
    let mut cookie = *sealed;
    XChaCha20Poly1305::new(cookie_key.into())
        .decrypt_in_place_detached(reply.nonce.into(), mac1, &mut cookie, tag.into())
        .ok()?;
    Some(Cookie(cookie))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac1;
    use crate::message::Message;

    #[test]
    fn a_cookie_serves_its_address_until_the_secret_changes() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let from: SocketAddr = "192.0.2.1:500".parse().unwrap();
        let key = [7; 32];
        let mut rng = Entropy::new([1; 32]);
        let mut issuer = CookieIssuer::new();
        let mut datagram = [9; 148];
        let mac1 = write_macs(&key, None, &mut datagram);
        assert!(mac1::is_valid(&key, &datagram));
        assert!(!issuer.mac2_is_valid(from, &datagram, now, &mut rng));

        let reply = issuer.reply(&[3; 32], (from, 77), &datagram, now, &mut rng).unwrap();
        let Some(Message::CookieReply(message)) = Message::parse(&reply) else { panic!("no cookie reply") };
        assert_eq!(message.receiver, 77);
        assert!(open_reply(&[4; 32], &message, &mac1).is_none(), "sealed to another key");
        assert!(open_reply(&[3; 32], &message, &[0; 16]).is_none(), "for another message");
        let cookie = open_reply(&[3; 32], &message, &mac1).unwrap();

        write_macs(&key, Some(cookie), &mut datagram);
        assert!(issuer.mac2_is_valid(from, &datagram, now, &mut rng));
        let other_port = SocketAddr::new(from.ip(), 501);
        assert!(!issuer.mac2_is_valid(other_port, &datagram, now, &mut rng));
        assert!(!issuer.mac2_is_valid(from, &datagram, now + SECRET_LIFE, &mut rng));
        datagram[0] ^= 1;
        assert!(!mac1::is_valid(&key, &datagram));
    }
}
