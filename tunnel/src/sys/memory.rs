//! How much free memory the allocator keeps.
//!
//! A policy of 100,000 clients passes as 60 MB of text and as many certificates. Left alone, glibc learns from
//! that to keep such amounts for a next time, in the arena of each thread. Other C libraries do not.

/// What is larger than this is mapped by itself and unmapped when it is freed, octets: glibc's own default.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 128 * 1024;

/// Keeps glibc from raising its thresholds by what it sees. Large buffers then cost two system calls each,
/// which is nothing to the commands that need them; packets allocate nothing.
pub(crate) fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer, and other threads may allocate meanwhile (mallopt(3): MT-Safe but
    // for a first call at start). A refusal leaves the thresholds as they are.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
}

/// Returns the pages that hold nothing. It takes milliseconds for each 10 MB, so not in a thread that moves
/// packets; these wait for it only if they allocate meanwhile.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes no pointer, locks each arena itself (malloc_trim(3): MT-Safe), and leaves
    // every allocation where it is.
    let _ = unsafe { libc::malloc_trim(0) };
}
