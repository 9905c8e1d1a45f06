//! Verifies the path from a client's certificate to the anchors of exactly one owner (RFC 5280 §6).
//!
//! The issuer DN chooses the owner, and only the anchor of that DN is given to webpki: one owner's CA can
//! never vouch for another's client. At most one intermediate comes from the wire. Dates are left out of the
//! path and kept in the record, because the clock that judges them may not be trusted yet; revocation is
//! left out as well, because webpki would verify the whole list again at every call.

use crate::Introduction;
use crate::policy::{Anchor, Trust};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use verona_contract::cert::{Issuer, Leaf};
use verona_contract::control::Refusal;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

/// A leaf that leads to an anchor of the policy. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedLeaf {
    pub(crate) leaf: Leaf,
    /// The CA between the anchor and the leaf that came with the leaf.
    pub(crate) intermediate: Option<Issuer>,
    /// Which anchor, in the order of [`Trust::anchors`].
    pub(crate) anchor: usize,
    /// Unix seconds; all certificates of the path are valid from here …
    pub(crate) not_before: i64,
    /// … to here.
    pub(crate) not_after: i64,
}

/// Verifies certificates against the anchors.
///
/// # Errors
///
/// [`Refusal::CertificateMalformed`], [`Refusal::UnknownIssuer`] or [`Refusal::PathInvalid`].
pub(crate) fn verify(
    trust: &Trust,
    leaf: Leaf,
    certificates: &Introduction,
) -> Result<VerifiedLeaf, Refusal> {
    let (anchor, intermediate) = find_anchor(trust, &leaf, certificates)?;
    let issuers = || std::iter::once(&trust.anchors()[anchor].issuer).chain(&intermediate);
    let not_before = issuers().map(|issuer| issuer.not_before).fold(leaf.not_before, i64::max);
    let not_after = issuers().map(|issuer| issuer.not_after).fold(leaf.not_after, i64::min);
    build_path(&trust.anchors()[anchor], &certificates.leaf, intermediate.as_ref(), not_before)?;
    Ok(VerifiedLeaf { leaf, intermediate, anchor, not_before, not_after })
}

/// Finds the anchor that the leaf, or else the one intermediate, names as its issuer.
fn find_anchor(
    trust: &Trust,
    leaf: &Leaf,
    certificates: &Introduction,
) -> Result<(usize, Option<Issuer>), Refusal> {
    if let Some(anchor) = trust.anchor_named(&leaf.issuer) {
        let matches = trust.anchors()[anchor].issuer.key_id == leaf.issuer_key_id;
        return if matches { Ok((anchor, None)) } else { Err(Refusal::PathInvalid) };
    }
    let der = certificates.intermediate.as_ref().ok_or(Refusal::UnknownIssuer)?;
    let intermediate = Issuer::parse(der).map_err(|_| Refusal::CertificateMalformed)?;
    if intermediate.subject != leaf.issuer || intermediate.key_id != leaf.issuer_key_id {
        return Err(Refusal::PathInvalid);
    }
    let anchor = trust.anchor_named(&intermediate.issuer).ok_or(Refusal::UnknownIssuer)?;
    Ok((anchor, Some(intermediate)))
}

fn build_path(anchor: &Anchor, leaf: &[u8], intermediate: Option<&Issuer>, at: i64) -> Result<(), Refusal> {
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|_| Refusal::CertificateMalformed)?;
    let intermediates: Vec<_> =
        intermediate.map(|issuer| CertificateDer::from(issuer.der.as_slice())).into_iter().collect();
    // The moment at which the last certificate of the path became valid: it fails only if there is no moment
    // at which all are.
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    let anchors = std::slice::from_ref(&anchor.trust);
    leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        anchors,
        &intermediates,
        at,
        KeyUsage::client_auth(),
        None,
        None,
    )
    .map(|_| ())
    .map_err(|_| Refusal::PathInvalid)
}
