//! The syscall layer: the only module of this crate in which `unsafe` is allowed.
//!
//! Each file wraps one kernel interface that neither `std` nor `nix` covers as we need it, and turns
//! it into safe functions over owned or borrowed descriptors. What to do with the results, and every
//! decision about errors, is left to the callers.

pub(crate) mod ancillary;
pub(crate) mod bpf;
pub(crate) mod memory;
pub(crate) mod mmsg;
pub(crate) mod path;
pub(crate) mod process;
pub(crate) mod steering;
pub(crate) mod tun;
