//! What the kernel lost at the TUN interface itself: packets for us that found its queue full.
//!
//! The kernel counts them; it is asked when somebody wants to know. The answer is about the network namespace of
//! the calling thread, so there is none once the interface was moved to another.

use std::io;

use crate::tun::InterfaceName;

/// The table of the calling thread's network namespace.
const TABLE: &str = "/proc/thread-self/net/dev";

/// Packets that the kernel had for us since the interface was made, and dropped because its queue was full;
/// `None` if the interface is not in this namespace.
///
/// # Errors
///
/// The table cannot be read: no procfs.
pub(crate) fn queue_drops(interface: &InterfaceName) -> io::Result<Option<u64>> {
    Ok(find(&std::fs::read_to_string(TABLE)?, interface.as_str()))
}

/// Each line: name, colon, eight numbers about packets received, eight about packets sent; the fourth of these
/// are the drops.
fn find(table: &str, interface: &str) -> Option<u64> {
    let numbers =
        table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    numbers.split_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       2    3    4    5     6          7         8        9      10   11   12   13    14      15         16
   wg0:     100     200    0   17    0     0          0         0      300     400    0   42    0     0       0          0
  wg01:18446744073709551615 1    0   18    0     0          0         0      300     400    0   43    0     0       0          0
";

    #[test]
    fn the_drops_of_one_interface() {
        assert_eq!(find(TABLE, "wg0"), Some(42));
        assert_eq!(find(TABLE, "wg01"), Some(43));
        for other in ["wg", "wg02", "face |bytes", ""] {
            assert_eq!(find(TABLE, other), None, "{other:?}");
        }
        assert_eq!(find("wg0: 1 2 3", "wg0"), None);
        assert!(queue_drops(&"lo".parse().unwrap()).unwrap().is_some());
    }
}
