//! What routers, and our own host, said lately about datagrams that are too large, for the lines that it
//! concerns.
//!
//! A report names an endpoint, and lines are not found by endpoints: a line reads what is new when it next sends,
//! which costs one comparison when there is nothing. A router's report counts only if it quotes a datagram that
//! the line has sent: the index in it is known to both ends and to the path between them. The list is bounded;
//! what is lost is said again when the next datagram is too large.

use std::net::SocketAddr;

/// Reports kept.
const KEPT: usize = 64;

/// The index in what a router quotes of a datagram; `None` if that is too little to be believed, or no transport
/// message (whitepaper §5.4.6). The others fit every path.
pub(crate) fn quoted_index(quoted: &[u8]) -> Option<u32> {
    let [4, 0, 0, 0, a, b, c, d, ..] = *quoted else { return None };
    Some(u32::from_le_bytes([a, b, c, d]))
}

/// The newest reports. Small, and copied as a whole with what else the lanes must know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// By number, modulo [`KEPT`].
    ring: Vec<Report>,
    /// How many there were.
    count: u64,
}

/// One report: the largest IP packet that would pass on the way to an endpoint.
#[derive(Clone, Copy, Debug)]
struct Report {
    endpoint: SocketAddr,
    mtu: u16,
    /// The receiver index of the transport message that was too large; `None` if our own host says so.
    receiver: Option<u32>,
}

impl Reports {
    /// Takes the word of our own host, which is about an address: the kernel leaves out the port.
    pub(crate) fn push_host(&mut self, endpoint: SocketAddr, mtu: u16) {
        self.push(Report { endpoint, mtu, receiver: None });
    }

    /// Takes the word of a router about a datagram with the index `receiver` in it.
    pub(crate) fn push_router(&mut self, endpoint: SocketAddr, mtu: u16, receiver: u32) {
        self.push(Report { endpoint, mtu, receiver: Some(receiver) });
    }

    fn push(&mut self, report: Report) {
        // The remainder is below KEPT.
        let place = (self.count % KEPT as u64) as usize;
        match self.ring.get_mut(place) {
            Some(old) => *old = report,
            None => self.ring.push(report),
        }
        self.count += 1;
    }

    /// How many there were.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The smallest size told since there were `seen` reports, about a line that sends to `endpoint` with
    /// `receiver` as the index.
    pub(crate) fn since(&self, seen: u64, endpoint: SocketAddr, receiver: u32) -> Option<u16> {
        let new = self.count.saturating_sub(seen).min(self.ring.len() as u64);
        let numbers = self.count - new..self.count;
        let reports = numbers.filter_map(|number| self.ring.get((number % KEPT as u64) as usize));
        let ours = reports.filter(|report| {
            report.endpoint.ip() == endpoint.ip()
                && report.receiver.is_none_or(|index| index == receiver && report.endpoint == endpoint)
        });
        ours.map(|report| report.mtu).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn a_line_gets_what_is_about_it_and_once() {
        let mut reports = Reports::default();
        reports.push_router(endpoint(1), 1400, 7);
        reports.push_router(endpoint(1), 1300, 8);
        reports.push_router(endpoint(2), 1200, 7);
        assert_eq!(reports.since(0, endpoint(1), 7), Some(1400));
        assert_eq!(reports.since(0, endpoint(1), 8), Some(1300));
        assert_eq!(reports.since(1, endpoint(1), 7), None, "read before");
        assert_eq!(reports.since(0, endpoint(1), 9), None, "not a datagram of this line");
        reports.push_host(endpoint(0), 1280);
        assert_eq!(reports.since(3, endpoint(1), 9), Some(1280));
        assert_eq!(reports.since(reports.count(), endpoint(1), 9), None);
        assert_eq!(reports.since(99, endpoint(1), 9), None);
    }

    #[test]
    fn a_router_must_quote_a_transport_message() {
        for quoted in [&[][..], &[4, 0, 0, 0, 1, 0, 0], &[1, 0, 0, 0, 1, 0, 0, 0], &[4, 0, 1, 0, 1, 0, 0, 0]]
        {
            assert_eq!(quoted_index(quoted), None, "{quoted:?}");
        }
        assert_eq!(quoted_index(&[&[4, 0, 0, 0, 7, 1, 0, 0][..], &[9; 500]].concat()), Some(0x107));
    }

    #[test]
    fn a_flood_hides_others_and_grows_nothing() {
        let mut reports = Reports::default();
        reports.push_host(endpoint(1), 1400);
        for number in 0..KEPT as u32 {
            reports.push_router(endpoint(2), 1300, number);
        }
        assert_eq!(reports.since(0, endpoint(1), 1), None);
        assert_eq!(reports.since(0, endpoint(2), 63), Some(1300));
        assert_eq!(reports.ring.len(), KEPT);
    }
}
