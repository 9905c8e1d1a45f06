//! Bad lines: delay, loss and NAT on demand.

use crate::{Error, Namespace, Result};

/// What a line does to the packets that leave by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Impairment {
    /// Delay in milliseconds with jitter of the same unit, by netem. Jitter reorders.
    Delay {
        /// Mean delay, milliseconds.
        mean_ms: u32,
        /// Deviation, milliseconds.
        jitter_ms: u32,
    },
    /// Loss in per cent of all packets, 0 to 100. It is made by nftables, since small kernels lack netem.
    Loss {
        /// Share of packets dropped, per cent.
        percent: u32,
    },
}

impl Namespace {
    /// Impairs what leaves by `interface`, in place of an earlier impairment of the same kind.
    ///
    /// # Errors
    ///
    /// The kernel has no netem (for a delay), or no such interface exists.
    pub fn impair(&self, interface: &str, impairment: Impairment) -> Result<()> {
        // nftables takes the name of an interface that does not exist (yet).
        self.ip(&format!("link show dev {interface}"))?;
        match impairment {
            Impairment::Delay { mean_ms, jitter_ms } => {
                let line =
                    format!("qdisc replace dev {interface} root netem delay {mean_ms}ms {jitter_ms}ms");
                let arguments: Vec<&str> = line.split_whitespace().collect();
                self.output("tc", &arguments).map(drop).map_err(|error| match error {
                    Error::Command { stderr, .. } if stderr.contains("qdisc kind is unknown") => {
                        Error::Environment(
                            "this kernel has no netem (CONFIG_NET_SCH_NETEM): no delay".to_owned(),
                        )
                    }
                    other => other,
                })
            }
            Impairment::Loss { percent } => {
                let table = format!("lab-loss-{interface}");
                let rule = match percent {
                    0 => String::new(),
                    1..=99 => format!("numgen random mod 100 < {percent} drop"),
                    _ => "drop".to_owned(),
                };
                self.nft(&format!(
                    "table netdev {table}\ndelete table netdev {table}\ntable netdev {table} {{\nchain out {{\n\
                     type filter hook egress device {interface} priority 0\n\
                     {rule}\n}}\n}}\n"
                ))
            }
        }
    }

    /// Hides everything behind this router's address on `outside`, for both families.
    ///
    /// # Errors
    ///
    /// The kernel has no nftables NAT.
    pub fn masquerade(&self, outside: &str) -> Result<()> {
        self.forward()?;
        self.nft(&format!(
            "table inet lab-nat {{\nchain out {{\ntype nat hook postrouting priority srcnat\n\
             oifname \"{outside}\" masquerade\n}}\n}}\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Run, alone};
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    /// 192.0.2.1 and 192.0.2.2, joined by an interface that both call `wire`.
    fn pair(run: &Run) -> (Namespace, Namespace) {
        let (left, right) = (run.namespace("left").unwrap(), run.namespace("right").unwrap());
        left.connect("wire", &right, "wire").unwrap();
        left.address("wire", &["192.0.2.1/24"]).unwrap();
        right.address("wire", &["192.0.2.2/24"]).unwrap();
        (left, right)
    }

    #[test]
    fn loss_of_everything_loses_everything_and_can_be_lifted() {
        let _turn = alone().unwrap();
        let run = Run::start().unwrap();
        let (left, right) = pair(&run);
        let receiver = right.enter(|| UdpSocket::bind("192.0.2.2:9").unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let sender = left.enter(|| UdpSocket::bind("192.0.2.1:0").unwrap()).unwrap();
        let arrives = || {
            // A packet that a rule drops on its way out is an error of the sender's call.
            let _ = sender.send_to(b"x", "192.0.2.2:9");
            receiver.recv(&mut [0; 8]).is_ok()
        };

        assert!(arrives());
        left.impair("wire", Impairment::Loss { percent: 100 }).unwrap();
        assert!(!arrives());
        left.impair("wire", Impairment::Loss { percent: 0 }).unwrap();
        assert!(arrives());
    }

    #[test]
    fn a_delay_delays_or_says_that_the_kernel_cannot() {
        let _turn = alone().unwrap();
        let run = Run::start().unwrap();
        let (left, _right) = pair(&run);
        match left.impair("wire", Impairment::Delay { mean_ms: 200, jitter_ms: 0 }) {
            Ok(()) => {
                let start = Instant::now();
                left.output("ping", &["-c", "1", "-W", "2", "192.0.2.2"]).unwrap();
                assert!(start.elapsed() >= Duration::from_millis(190));
            }
            Err(error) => assert!(error.to_string().starts_with("this kernel has no netem"), "{error}"),
        }
    }
}
