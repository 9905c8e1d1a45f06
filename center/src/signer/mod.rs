//! The signer: the one process that holds the CA keys and the key of the configurations.
//!
//! It signs nothing that it did not build or check itself: leaves and lists are built here from fields, and
//! a configuration must fit what the signer itself remembers of owners and edges. So a breached web tier can
//! neither add a foreign anchor, nor push a certificate of another owner, nor roll an edge or a list back.

pub(crate) mod bundle;
pub(crate) mod ca_key;
pub(crate) mod caller;
pub(crate) mod certificate;
pub(crate) mod leaves;
pub(crate) mod protocol;
pub(crate) mod revocation_list;
pub(crate) mod service;
pub(crate) mod socket;
pub(crate) mod state;

pub(crate) use caller::{Signer, SignerError};
