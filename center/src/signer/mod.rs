//! The signer: the one process that holds the CA keys and the key of the configurations.
//!
//! It signs nothing that it did not build or check itself: leaves and lists are built here from fields, and
//! a configuration must fit what the signer itself remembers of owners and edges. Run it as a user of its own
//! (`--allow-uid`); under one user the split keeps out a bug, not an intruder.
//!
//! # What a breached web tier can and cannot do
//!
//! It cannot read a CA key or the configuration key, add a foreign anchor, push or list a certificate that
//! the signer did not issue for that owner, name an address outside of the owner's network, move an edge to
//! another owner, roll an edge or a list back, take anybody revoked for good off a list, or have that subject
//! certified again. Each signature is in the signer's own append-only journal.
//!
//! It can, because enrolment is its own business: have *new* clients and admins certified under the CAs of any
//! owner, with any address of his network, and keys of its choice for his edges and for clients that are not
//! revoked; list whom it likes, lift a hold or leave one out; hold back new lists and configurations until
//! the boxes raise the alarm at nextUpdate; change ports, routes, list policy and preshared keys of a
//! configuration; read the roots of the preshared keys, log records and whatever else is in its database;
//! pose as the center, whose TLS key it has. A revocation binds it from the first list that carries it.
//!
//! The signer's memory is part of its keys: restored from an old backup it refuses lists that name leaves
//! issued since, so it is backed up with each issue or not at all.

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
