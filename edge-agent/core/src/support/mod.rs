//! The bundle that a technician sends when nothing else helps: an archive, and what keeps secrets out of it.
//!
//! What goes in is named one by one by the shell; nothing is collected by folder. Everything passes [`Scrubber`] besides.

mod scrub;
mod tar;

pub use scrub::Scrubber;
pub use tar::archive;
