//! The kernel's messages become records, each once. Needs root and `/dev/kmsg`.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use edge_agent::kernel_log;
use edge_agent::spool::Spool;
use edge_agent_core::spool::chain::Stamp;
use edge_agent_core::spool::quota::MIN_QUOTA;
use lab::wait;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;
use verona_contract::log::{Severity, Stream};

const DEVICE: &str = "/dev/kmsg";
const SOON: Duration = Duration::from_secs(15);

#[test]
fn what_comes_after_the_kept_position_becomes_a_record() {
    let Ok(mut device) = std::fs::File::options().write(true).open(DEVICE) else {
        eprintln!("no {DEVICE} to write to");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (edge, boot) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let stamps = Box::new(move || Stamp { edge, boot, time_ns: 0, monotonic_ns: 0, clock_synced: false });
    let spool = Spool::open(directory.path().join("spool"), edge, MIN_QUOTA, stamps).unwrap();
    // Nothing of the past, which may be more than the ration.
    let position = directory.path().join("kernel-log");
    let newest = newest();
    std::fs::write(&position, (newest + 1).to_string()).unwrap();
    kernel_log::follow(Path::new(DEVICE), position, spool.clone()).unwrap();
    let mark = format!("verona lab {}", std::process::id());
    // Priority "warning" of facility "user".
    device.write_all(format!("<12>{mark}\n").as_bytes()).unwrap();
    let found = || {
        let records = spool.newest(Some(Stream::System), 1000).unwrap();
        records.into_iter().find(|record| record.body.contains(&mark))
    };
    let record = wait::for_value("the record", SOON, || Ok(found())).unwrap();
    assert_eq!((record.event.as_str(), record.severity), ("kernel.user", Severity::Warn));
}

/// The number of the newest message now.
fn newest() -> u64 {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut device = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(DEVICE).unwrap();
    let (mut newest, mut entry) = (0, [0; 8192]);
    loop {
        match device.read(&mut entry) {
            Ok(length) => {
                newest = edge_agent_core::kernel_log::parse(&entry[..length]).map_or(newest, |one| one.seq);
            }
            // Overwritten meanwhile: the next one comes.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return newest,
        }
    }
}
