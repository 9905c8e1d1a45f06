//! Verifies the path from a client's certificate to the anchors of exactly one owner (RFC 5280 §6).
//!
//! The issuer DN chooses the owner, and only the anchor above that DN is given to webpki: one owner's CA can
//! never vouch for another's client. At most one intermediate comes from the wire; others stand in the policy.
//! Dates are left out of the path and kept in the record, because the clock that judges them may not be trusted
//! yet; revocation is left out as well, because webpki would verify the whole list again at every call.

use crate::trust::{Ca, Place, Trust};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use verona_contract::cert::Issuer;
use verona_contract::control::Refusal;
use verona_contract::key::KeyId;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

/// What a leaf says of its issuer and its life.
pub(crate) struct Claim<'a> {
    pub(crate) issuer: &'a [u8],
    pub(crate) issuer_key_id: &'a KeyId,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// A path that holds. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// The CA of the policy that the path meets first, in the order of [`Trust::cas`].
    pub(crate) ca: usize,
    /// The CA between that one and the leaf, if it came with the leaf.
    pub(crate) intermediate: Option<Issuer>,
    /// Unix seconds; all certificates of the path are valid from here …
    pub(crate) not_before: i64,
    /// … to here.
    pub(crate) not_after: i64,
}

/// Verifies `leaf`, which claims to be what `claim` says, against the policy.
///
/// # Errors
///
/// [`Refusal::CertificateMalformed`], [`Refusal::UnknownIssuer`] or [`Refusal::PathInvalid`].
pub(crate) fn verify(
    trust: &Trust,
    claim: &Claim<'_>,
    leaf: &[u8],
    intermediate: Option<&[u8]>,
) -> Result<Path, Refusal> {
    let (ca, intermediate) = find_ca(trust, claim, intermediate)?;
    let issuers: Vec<&Issuer> = intermediate.iter().chain(trust.upwards(ca).map(|ca| &ca.issuer)).collect();
    // webpki forgets the anchor's own constraint, and takes a key identifier for a hint.
    if issuers.iter().zip(0_u32..).any(|(issuer, below)| issuer.path_len.is_some_and(|most| below > most)) {
        return Err(Refusal::PathInvalid);
    }
    let not_before = issuers.iter().map(|issuer| issuer.not_before).fold(claim.not_before, i64::max);
    let not_after = issuers.iter().map(|issuer| issuer.not_after).fold(claim.not_after, i64::min);
    build_path(trust.upwards(ca), leaf, intermediate.as_ref(), not_before)?;
    Ok(Path { ca, intermediate, not_before, not_after })
}

/// Finds the CA of the policy that the leaf, or else the one intermediate, names as its issuer.
fn find_ca(
    trust: &Trust,
    claim: &Claim<'_>,
    intermediate: Option<&[u8]>,
) -> Result<(usize, Option<Issuer>), Refusal> {
    if let Some(ca) = trust.named(claim.issuer) {
        let matches = trust.cas()[ca].issuer.key_id == *claim.issuer_key_id;
        return if matches { Ok((ca, None)) } else { Err(Refusal::PathInvalid) };
    }
    let der = intermediate.ok_or(Refusal::UnknownIssuer)?;
    let intermediate = Issuer::parse(der).map_err(|_| Refusal::CertificateMalformed)?;
    if intermediate.subject != claim.issuer || intermediate.key_id != *claim.issuer_key_id {
        return Err(Refusal::PathInvalid);
    }
    let ca = trust.named(&intermediate.issuer).ok_or(Refusal::UnknownIssuer)?;
    let names_key = intermediate.issuer_key_id.as_ref() == Some(&trust.cas()[ca].issuer.key_id);
    if names_key { Ok((ca, Some(intermediate))) } else { Err(Refusal::PathInvalid) }
}

fn build_path<'a>(
    cas: impl Iterator<Item = &'a Ca>,
    leaf: &[u8],
    intermediate: Option<&'a Issuer>,
    at: i64,
) -> Result<(), Refusal> {
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|_| Refusal::CertificateMalformed)?;
    let mut intermediates: Vec<_> =
        intermediate.map(|issuer| CertificateDer::from(issuer.der.as_slice())).into_iter().collect();
    let mut anchor = None;
    for ca in cas {
        match &ca.place {
            Place::Anchor(trust) => anchor = Some(trust),
            Place::Below(_) => intermediates.push(CertificateDer::from(ca.issuer.der.as_slice())),
        }
    }
    let anchor = anchor.ok_or(Refusal::UnknownIssuer)?;
    // The moment at which the last certificate of the path became valid: it fails only if there is no moment
    // at which all are.
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        std::slice::from_ref(anchor),
        &intermediates,
        at,
        KeyUsage::client_auth(),
        None,
        None,
    )
    .map(|_| ())
    .map_err(|_| Refusal::PathInvalid)
}
