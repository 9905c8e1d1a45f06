//! What crosses a process boundary or a wire between the parts of Verona Edge.
//!
//! Every format has one definition here, a version, and a golden file that both sides are tested
//! against (`tests/golden`). Parsing turns octets into a type whose fields were checked once; the types
//! of signed things ([`dsse::Envelope`], [`crl::VerifiedCrl`]) can only be had by way of the check.
//! Nothing here reads a clock, a file or a socket, and nothing makes its own randomness.

#![forbid(unsafe_code)]

pub mod api;
pub mod base64;
pub mod binding;
pub mod cert;
pub mod config;
pub mod control;
pub mod crl;
pub mod csr;
pub mod dsse;
pub mod enrolment;
pub mod groups;
pub mod ipnet;
pub mod key;
pub mod log;
pub mod one_line;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod pop;
pub mod problem;
pub mod provisioning;
pub mod psk;
pub mod stun;
