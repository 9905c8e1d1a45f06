//! Enrolment with a code, renewal before the certificates end, and the profile between the two.
//!
//! Both calls send a request signed by the device key and a proof that we hold the tunnel key, bound to the
//! TLS session that carries it ([`verona_contract::pop`]). The keys stay the same over a renewal, so that a
//! session in use goes on. Nothing is stored unless the certificate is for our key.

use crate::center::{Center, CenterError, Connection};
use crate::identity::{self, Identity, IdentityError, Keys};
use crate::state::{self, StateDir};
use verona_contract::api::{
    CLIENT_ENROLL, CLIENT_PROFILE, CLIENT_RENEW, Challenge, ChallengeRequest, ClientProfile, EnrollRequest,
    Enrolled, POP_CHALLENGE, Proof, RenewRequest,
};
use verona_contract::base64::Octets;
use verona_contract::csr::CsrError;
use verona_contract::enrolment::EnrolmentCode;
use verona_contract::pop::{self, PopError};
use verona_contract::problem::kind;

/// The name in our requests. The center ignores it: it knows whom it certifies.
const COMMON_NAME: &str = "verona-client";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// There is one already.
    #[error(
        "already enrolled as client {client} at {center}: use another --state directory, or remove {path}"
    )]
    AlreadyEnrolled { client: uuid::Uuid, center: String, path: String },
    /// The code was made by no center, or by another one.
    #[error("the center does not know this enrolment code: copy it whole, or ask for a new one")]
    UnknownCode,
    /// Somebody used it.
    #[error("this enrolment code was used already: ask for a new one")]
    UsedCode,
    /// Too late.
    #[error("this enrolment code has expired: ask for a new one")]
    ExpiredCode,
    #[error(transparent)]
    Center(CenterError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Our own keys make no request.
    #[error("cannot make a certification request")]
    Request(#[from] CsrError),
    /// The center's challenge is no usable key.
    #[error("the center's challenge is not acceptable")]
    Challenge(#[from] PopError),
}

impl From<CenterError> for EnrolError {
    fn from(error: CenterError) -> Self {
        match error.problem() {
            Some(kind::CODE_UNKNOWN) => Self::UnknownCode,
            Some(kind::CODE_USED) => Self::UsedCode,
            Some(kind::CODE_EXPIRED) => Self::ExpiredCode,
            _ => Self::Center(error),
        }
    }
}

/// Enrols with `code` and stores identity and profile.
pub(crate) async fn enrol(state: &StateDir, code: &EnrolmentCode) -> Result<Identity, EnrolError> {
    match Identity::load(state) {
        Ok(Identity { client, center, .. }) => {
            let path = state.path(state::IDENTITY).display().to_string();
            return Err(EnrolError::AlreadyEnrolled { client, center, path });
        }
        Err(IdentityError::NotEnrolled(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let keys = Keys::load_or_make(state)?;
    let mut connection = Center::anonymous(&code.center, code.pin)?.connect().await?;
    let (csr, proof) = request(&mut connection, &keys).await?;
    let secret = Octets(code.secret.to_vec());
    let request = EnrollRequest { secret, csr, proof };
    let answer: Enrolled = connection.post(CLIENT_ENROLL, &request).await?;
    store(state, &code.center, code.pin, &keys, &answer)
}

/// Renews the certificates of the same keys and stores what the center answers.
pub(crate) async fn renew(
    state: &StateDir,
    identity: &Identity,
    keys: &Keys,
    connection: &mut Connection,
) -> Result<Identity, EnrolError> {
    let (csr, proof) = request(connection, keys).await?;
    let answer: Enrolled = connection.post(CLIENT_RENEW, &RenewRequest { csr, proof }).await?;
    store(state, &identity.center, identity.pin, keys, &answer)
}

/// Asks for the profile as it is now.
pub(crate) async fn profile(connection: &mut Connection) -> Result<ClientProfile, CenterError> {
    connection.get(CLIENT_PROFILE).await
}

async fn request(connection: &mut Connection, keys: &Keys) -> Result<(Octets, Proof), EnrolError> {
    let key = keys.tunnel_public()?;
    let csr = keys.device.request(COMMON_NAME, Some(&key))?;
    let challenge: Challenge = connection.post(POP_CHALLENGE, &ChallengeRequest {}).await?;
    let proof = pop::prove(&keys.tunnel, &challenge.public_key, connection.exporter(), &csr)?;
    Ok((csr.into(), Proof { challenge: challenge.id, proof: proof.to_vec().into() }))
}

/// The profile first: an identity without a profile would look enrolled and be of no use.
fn store(
    state: &StateDir,
    center: &str,
    pin: [u8; 32],
    keys: &Keys,
    answer: &Enrolled,
) -> Result<Identity, EnrolError> {
    let identity = Identity::accept(center, pin, &keys.tunnel_public()?, answer)?;
    identity::store_profile(state, &answer.profile)?;
    identity.store(state)?;
    Ok(identity)
}
