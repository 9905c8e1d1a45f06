//! What the pieces of the data plane cost on one core: `cargo bench -p verona-tests`.
//!
//! Everything goes through the public entrances of the crates, so a figure is what a caller pays. The whole,
//! with sockets and kernel, is measured by `cargo lab bench`. Results are in `tests/benches/README.md`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up has no result")]

mod cipher;
mod edge;
mod handshakes;
mod lists;
mod offload;
mod routes;
mod timers;

fn main() {
    divan::main();
}
