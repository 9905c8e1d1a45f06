//! Randomness of the operating system, by way of the one cryptographic library.

/// The random source failed. Nothing secret may be made without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub(crate) struct EntropyError;

/// `N` random octets.
///
/// # Errors
///
/// [`EntropyError`].
pub(crate) fn octets<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| EntropyError)?;
    Ok(octets)
}
