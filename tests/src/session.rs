//! Two ends of boringtun with a session between them, for measuring and comparing.

use boringtun::noise::{Tunn, TunnResult};
use verona_contract::key::Secret;

/// The initiator and the responder, the session proven.
///
/// # Panics
///
/// They do not come to terms.
#[must_use]
pub fn pair() -> (Tunn, Tunn) {
    let secrets = [Secret::new([1; 32]), Secret::new([2; 32])];
    let end = |ours: &Secret, theirs: &Secret, index| {
        let theirs = *theirs.x25519_public().unwrap().as_bytes();
        Tunn::new((*ours.expose()).into(), theirs.into(), None, None, index, None)
    };
    let (mut one, mut other) = (end(&secrets[0], &secrets[1], 1), end(&secrets[1], &secrets[0], 2));
    let (mut a, mut b, mut c) = ([0; 256], [0; 256], [0; 256]);
    let TunnResult::WriteToNetwork(initiation) = one.format_handshake_initiation(&mut a, false) else {
        panic!("no initiation")
    };
    let TunnResult::WriteToNetwork(response) = other.decapsulate(None, initiation, &mut b) else {
        panic!("no response")
    };
    let TunnResult::WriteToNetwork(keepalive) = one.decapsulate(None, response, &mut c) else {
        panic!("no keepalive")
    };
    assert!(matches!(other.decapsulate(None, keepalive, &mut a), TunnResult::Done));
    (one, other)
}
