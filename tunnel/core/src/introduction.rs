//! The certificate introduction: one datagram in which a client shows its certificate before its initiation.
//!
//! ```text
//! 0   type 0x10 | version 1 | reserved u16 = 0 | sender index u32
//! 8   e (32)                   Noise_X_25519_ChaChaPoly_BLAKE2s, sealed to the edge's static key
//! 40  enc_s (48)               the client's WireGuard static key
//! 88  enc_payload              {kind u8, len u16, octets}* 0, zero padding, tag 16
//! ..  mac1 (16)  mac2 (16)     as WireGuard's, mac1 under the label "certmac1"
//! ```
//!
//! 640 or 1232 octets in all, numbers little-endian, prologue = label ‖ octets 0..8. Kinds: 1 leaf, 2 intermediate,
//! 3 binding; each at most once, a leaf always. Because the sender's
//! static key is authenticated, nobody can introduce a certificate whose key he does not hold. Here are the
//! two ends of the message; what a certificate is worth is decided in `path` and
//! `admission`.

use crate::cookie::{self, Cookie};
use crate::entropy::Entropy;
use crate::identity::{Identity, ReachKeys};
use crate::noise::{self, Symmetric, TAG, Unauthentic};
use crate::{Introduction, PublicKey};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use zeroize::Zeroizing;

/// The datagram for a leaf alone.
pub const SMALL: usize = 640;
/// The datagram for a leaf with an intermediate; 1280 on IPv6, its least MTU.
pub const LARGE: usize = 1232;
/// Octets of certificates, with 3 octets of header each, that fit into [`LARGE`].
pub const MAX_CERTIFICATES: usize = LARGE - OVERHEAD - 1;

const PROTOCOL: [u8; 32] = *b"Noise_X_25519_ChaChaPoly_BLAKE2s";
const LABEL: &[u8] = b"verona certificate introduction v1";
const HEADER: usize = 8;
const SEALED_KEY: usize = 40;
const PAYLOAD: usize = 88;
const MACS: usize = 2 * TAG;
const OVERHEAD: usize = PAYLOAD + TAG + MACS;
const KIND_END: u8 = 0;
const KIND_LEAF: u8 = 1;
const KIND_INTERMEDIATE: u8 = 2;
const KIND_BINDING: u8 = 3;

/// Why an introduction could not be opened: the sender's fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntroductionError {
    /// Not sealed to our key, altered, or not by the holder of the static key inside.
    #[error("introduction does not authenticate")]
    Unauthentic,
    /// Length, type or the list of certificates is not as the layout says.
    #[error("introduction is malformed")]
    Malformed,
}

impl From<Unauthentic> for IntroductionError {
    fn from(_: Unauthentic) -> Self {
        Self::Unauthentic
    }
}

/// What an authentic introduction holds. The certificates are not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The sender's static key, proven by the message itself.
    pub(crate) key: PublicKey,
    /// The certificates, DER.
    pub(crate) certificates: Introduction,
}

/// Opens an introduction of which mac1 was checked. Two Diffie-Hellmans.
pub(crate) fn open(identity: &Identity, datagram: &[u8]) -> Result<Opened, IntroductionError> {
    if !matches!(datagram.len(), SMALL | LARGE) {
        return Err(IntroductionError::Malformed);
    }
    let header = &datagram[..HEADER];
    let ephemeral = datagram[HEADER..].first_chunk::<32>().ok_or(IntroductionError::Malformed)?;
    let mut sealed_key: [u8; 48] =
        datagram[SEALED_KEY..PAYLOAD].try_into().map_err(|_| IntroductionError::Malformed)?;
    let mut payload = datagram[PAYLOAD..datagram.len() - MACS].to_vec();

    let mut state = transcript(header, identity.public());
    state.mix_hash(ephemeral);
    let key = state.mix_key(&*noise::agree(&identity.agreement, ephemeral)?);
    let sender = PublicKey::try_from(&*state.open(&key, &mut sealed_key)?)
        .map_err(|_| IntroductionError::Unauthentic)?;
    let key = state.mix_key(&*noise::agree(&identity.agreement, sender.as_bytes())?);
    let certificates = parse_payload(state.open(&key, &mut payload)?)?;
    Ok(Opened { key: sender, certificates })
}

/// Reads the sealed list: exactly one leaf, at most one intermediate and one binding, then zeros.
///
/// # Errors
///
/// [`IntroductionError::Malformed`].
pub fn parse_payload(payload: &[u8]) -> Result<Introduction, IntroductionError> {
    let mut leaf = None;
    let mut intermediate = None;
    let mut binding = None;
    let mut rest = payload;
    loop {
        let (kind, tail) = rest.split_first().ok_or(IntroductionError::Malformed)?;
        if *kind == KIND_END {
            if tail.iter().any(|octet| *octet != 0) {
                return Err(IntroductionError::Malformed);
            }
            break;
        }
        let (len, tail) = tail.split_first_chunk::<2>().ok_or(IntroductionError::Malformed)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (der, tail) = tail.split_at_checked(len).ok_or(IntroductionError::Malformed)?;
        let place = match *kind {
            KIND_LEAF => &mut leaf,
            KIND_INTERMEDIATE => &mut intermediate,
            KIND_BINDING => &mut binding,
            _ => return Err(IntroductionError::Malformed),
        };
        if place.replace(der.to_vec()).is_some() {
            return Err(IntroductionError::Malformed);
        }
        rest = tail;
    }
    Ok(Introduction { leaf: leaf.ok_or(IntroductionError::Malformed)?, intermediate, binding })
}

/// Octets that the certificates take in the payload.
pub(crate) fn payload_len(certificates: &Introduction) -> usize {
    parts(certificates).map(|(_, octets)| 3 + octets.len()).sum()
}

/// What there is to show, each with its kind.
fn parts(shown: &Introduction) -> impl Iterator<Item = (u8, &Vec<u8>)> {
    let leaf = std::iter::once((KIND_LEAF, &shown.leaf));
    let intermediate = shown.intermediate.iter().map(|der| (KIND_INTERMEDIATE, der));
    leaf.chain(intermediate).chain(shown.binding.iter().map(|binding| (KIND_BINDING, binding)))
}

/// Writes the introduction of `certificates` to the edge `to`, and gives its mac1.
///
/// # Errors
///
/// [`Unauthentic`] when the edge's key is of low order.
pub(crate) fn seal(
    identity: &Identity,
    to: (&PublicKey, &ReachKeys),
    certificates: &Introduction,
    (sender, cookie): (u32, Option<Cookie>),
    rng: &mut Entropy,
) -> Result<(Vec<u8>, [u8; TAG]), Unauthentic> {
    let (edge, reach) = to;
    let len = if payload_len(certificates) < SMALL - OVERHEAD { SMALL } else { LARGE };
    let mut datagram = vec![0; len];
    datagram[..2].copy_from_slice(&[0x10, 1]);
    datagram[4..HEADER].copy_from_slice(&sender.to_le_bytes());
    write_payload(certificates, &mut datagram[PAYLOAD..len - MACS - TAG]).ok_or(Unauthentic)?;

    let ephemeral =
        PrivateKey::from_private_key(&X25519, &*Zeroizing::new(rng.draw())).map_err(|_| Unauthentic)?;
    let ephemeral_public = ephemeral.compute_public_key().map_err(|_| Unauthentic)?;
    let (header, rest) = datagram.split_at_mut(HEADER);
    let (e, rest) = rest.split_at_mut(SEALED_KEY - HEADER);
    let (sealed_key, rest) = rest.split_at_mut(PAYLOAD - SEALED_KEY);
    let (payload, _) = rest.split_at_mut(len - PAYLOAD - MACS);
    e.copy_from_slice(ephemeral_public.as_ref());
    sealed_key[..32].copy_from_slice(identity.public().as_bytes());

    let mut state = transcript(header, edge);
    state.mix_hash(e);
    let key = state.mix_key(&*noise::agree(&ephemeral, edge.as_bytes())?);
    state.seal(&key, sealed_key)?;
    let key = state.mix_key(&*noise::agree(&identity.agreement, edge.as_bytes())?);
    state.seal(&key, payload)?;
    let mac1 = cookie::write_macs(&reach.introduction_mac1, cookie, &mut datagram);
    Ok((datagram, mac1))
}

fn transcript(header: &[u8], edge: &PublicKey) -> Symmetric {
    let mut state = Symmetric::new(PROTOCOL);
    state.mix_hash(&[LABEL, header].concat());
    state.mix_hash(edge.as_bytes());
    state
}

fn write_payload(certificates: &Introduction, room: &mut [u8]) -> Option<()> {
    let mut rest = room;
    for (kind, der) in parts(certificates) {
        let (header, tail) = rest.split_at_mut_checked(3)?;
        let (place, tail) = tail.split_at_mut_checked(der.len())?;
        header[0] = kind;
        header[1..].copy_from_slice(&u16::try_from(der.len()).ok()?.to_le_bytes());
        place.copy_from_slice(der);
        rest = tail;
    }
    // What follows is the end mark, and zero already.
    (!rest.is_empty()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use proptest::prelude::*;

    fn identity(seed: u8) -> Identity {
        Identity::new(&Secret::new([seed; 32])).unwrap()
    }

    fn sealed(leaf: usize, intermediate: Option<usize>) -> (Vec<u8>, Introduction) {
        let certificates = Introduction {
            leaf: vec![5; leaf],
            intermediate: intermediate.map(|len| vec![6; len]),
            binding: None,
        };
        let edge = identity(2);
        let to = (edge.public(), &ReachKeys::new(edge.public()));
        let (datagram, _) =
            seal(&identity(1), to, &certificates, (9, None), &mut Entropy::new([3; 32])).unwrap();
        (datagram, certificates)
    }

    #[test]
    fn both_sizes_open_at_the_edge_they_are_for() {
        for (leaf, intermediate, len) in [
            (461, None, SMALL),
            (500, None, SMALL),
            (501, None, LARGE),
            (MAX_CERTIFICATES - 3, None, LARGE),
            (478, Some(427), LARGE),
        ] {
            let (datagram, certificates) = sealed(leaf, intermediate);
            assert_eq!(datagram.len(), len);
            let opened = open(&identity(2), &datagram).unwrap();
            assert_eq!(opened, Opened { key: *identity(1).public(), certificates });
            assert_eq!(open(&identity(4), &datagram), Err(IntroductionError::Unauthentic), "another edge");
        }
    }

    #[test]
    fn certificates_that_do_not_fit_are_not_cut_off() {
        let certificates = Introduction { leaf: vec![5; MAX_CERTIFICATES - 2], ..Introduction::default() };
        let edge = identity(2);
        let to = (edge.public(), &ReachKeys::new(edge.public()));
        assert!(seal(&identity(1), to, &certificates, (9, None), &mut Entropy::new([3; 32])).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_altered_octet_is_noticed(at in 0..SMALL - MACS, bit in 0u8..8) {
            let (mut datagram, _) = sealed(461, None);
            datagram[at] ^= 1 << bit;
            // The first octets are the transcript's prologue, so they are covered as well.
            prop_assert!(open(&identity(2), &datagram).is_err());
        }

        #[test]
        fn any_datagram(datagram in prop::collection::vec(any::<u8>(), SMALL..=SMALL)) {
            prop_assert!(open(&identity(2), &datagram).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_payload(payload in prop::collection::vec(0u8..4, 0..40)) {
            if let Ok(found) = parse_payload(&payload) {
                prop_assert!(payload_len(&found) <= payload.len());
            }
        }
    }
}
