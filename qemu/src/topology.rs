//! The networks that Verona Edge lives in, laid out in namespaces.
//!
//! ```text
//!   center ── 198.51.100.0/24 ── internet ── 203.0.113.0/24 ── edge ── br-lan 192.168.77.0/24 ── lan
//!                                   │
//!                 192.0.2.4n/30 and 2001:db8:c:n::/64 to client n, or to the NAT router in front of it
//! ```
//!
//! Only addresses and routes are decided here (documentation prefixes, RFC 5737 and RFC 3849).

use crate::{Namespace, Process, Result, Run, wait};
use std::time::Duration;

/// The tap that a virtual machine's first network card is joined to.
pub(crate) const WAN_TAP: &str = "tap-wan";
/// That of its second one.
pub(crate) const LAN_TAP: &str = "tap-lan";

/// Addresses of the fixed places. Clients' are in [`ClientSite`].
pub mod address {
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The center.
    pub const CENTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
    /// The center.
    pub const CENTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10);
    /// The edge's WAN side.
    pub const EDGE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    /// The edge's WAN side.
    pub const EDGE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xe, 0, 0, 0, 0, 2);
    /// The edge's LAN side.
    pub const EDGE_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
    /// The host in the edge's LAN.
    pub const LAN_HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);
    /// The host in the edge's LAN.
    pub const LAN_HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x10);
}

/// What to lay out beside the fixed places.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The clients, at most 60.
    pub clients: Vec<ClientPlan>,
}

/// One client of a [`Plan`].
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The namespace's name, unique in the plan, at most 8 characters.
    pub name: &'static str,
    /// Whether a NAT router stands between it and the internet.
    pub nat: bool,
}

/// The networks, laid out and connected.
#[derive(Debug)]
pub struct Topology {
    /// Where the center runs, at [`address::CENTER`].
    pub center: Namespace,
    /// The router that joins all; it masks nothing.
    pub internet: Namespace,
    /// The box, `wan` at [`address::EDGE`] and `br-lan` at [`address::EDGE_LAN`]; it forwards.
    pub edge: Namespace,
    /// A host in the edge's LAN, at [`address::LAN_HOST`].
    pub lan: Namespace,
    /// The clients, in the plan's order.
    pub clients: Vec<ClientSite>,
    /// The provider's DHCP server, where the edge is a machine.
    _provider: Option<Process>,
}

/// A client's place.
#[derive(Debug)]
pub struct ClientSite {
    /// Where the client's programs run; its interface is `eth0`.
    pub host: Namespace,
    /// The NAT router in front of it (`lan` and `wan`), if the plan asked for one.
    pub router: Option<Namespace>,
}

impl Topology {
    /// Lays out `plan` in `run`.
    ///
    /// # Errors
    ///
    /// The kernel or `ip` refuses a step.
    pub fn build(run: &Run, plan: &Plan) -> Result<Self> {
        let net = Self::lay_out(run, plan)?;
        let edge = &net.edge;
        edge.address("wan", &["203.0.113.2/24", "2001:db8:e::2/64"])?;
        default_routes(edge, "203.0.113.1", "2001:db8:e::1")?;
        edge.forward()?;
        edge.bridge("br-lan", &["lan0"])?;
        edge.address("br-lan", &["192.168.77.1/24", "fd00:77::1/64"])?;
        Ok(net)
    }

    /// As [`Topology::build`], with the cables of a virtual machine in place of the edge: it gets the edge's address
    /// from its provider by DHCP.
    ///
    /// # Errors
    ///
    /// The kernel, `ip` or the DHCP server refuses a step.
    pub fn build_for_machine(run: &Run, plan: &Plan) -> Result<Self> {
        let mut net = Self::lay_out(run, plan)?;
        for (tap, bridge, cable) in [(WAN_TAP, "br-wan", "wan"), (LAN_TAP, "br-lan", "lan0")] {
            net.edge.ip(&format!("tuntap add dev {tap} mode tap"))?;
            net.edge.ip(&format!("link set dev {tap} up"))?;
            net.edge.bridge(bridge, &[tap, cable])?;
        }
        net._provider = Some(start_provider(run, &net.internet)?);
        Ok(net)
    }

    /// Everything but what is within the edge.
    fn lay_out(run: &Run, plan: &Plan) -> Result<Self> {
        let internet = run.namespace("internet")?;
        internet.forward()?;
        // Unlimited, so that a connection tried before its tunnel is up fails at once and not by its timeout.
        internet.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        let center = run.namespace("center")?;
        internet.connect("center", &center, "eth0")?;
        internet.address("center", &["198.51.100.1/24", "2001:db8:a::1/64"])?;
        center.address("eth0", &["198.51.100.10/24", "2001:db8:a::10/64"])?;
        default_routes(&center, "198.51.100.1", "2001:db8:a::1")?;

        let edge = run.namespace("edge")?;
        internet.connect("edge", &edge, "wan")?;
        internet.address("edge", &["203.0.113.1/24", "2001:db8:e::1/64"])?;

        let lan = run.namespace("lan")?;
        edge.connect("lan0", &lan, "eth0")?;
        lan.address("eth0", &["192.168.77.10/24", "fd00:77::10/64"])?;
        default_routes(&lan, "192.168.77.1", "fd00:77::1")?;

        let clients = plan
            .clients
            .iter()
            .enumerate()
            .map(|(index, client)| client_site(run, &internet, index, client))
            .collect::<Result<_>>()?;
        Ok(Self { center, internet, edge, lan, clients, _provider: None })
    }

    /// The client called `name` in the plan.
    #[must_use]
    pub fn client(&self, name: &str) -> Option<&ClientSite> {
        self.clients.iter().find(|site| site.host.name().ends_with(&format!("-{name}")))
    }
}

fn client_site(run: &Run, internet: &Namespace, index: usize, plan: &ClientPlan) -> Result<ClientSite> {
    let host = run.namespace(plan.name)?;
    let base = index * 4;
    let (gateway, own) = (format!("192.0.2.{}", base + 1), format!("192.0.2.{}", base + 2));
    let (gateway_v6, own_v6) = (format!("2001:db8:c:{index:x}::1"), format!("2001:db8:c:{index:x}::2"));
    let port = format!("client{index}");
    let outside = |place: &Namespace, interface: &str| -> Result<()> {
        internet.connect(&port, place, interface)?;
        internet.address(&port, &[&format!("{gateway}/30"), &format!("{gateway_v6}/64")])?;
        place.address(interface, &[&format!("{own}/30"), &format!("{own_v6}/64")])?;
        default_routes(place, &gateway, &gateway_v6)
    };
    if !plan.nat {
        outside(&host, "eth0")?;
        return Ok(ClientSite { host, router: None });
    }
    let router = run.namespace(&format!("{}-nat", plan.name))?;
    outside(&router, "wan")?;
    router.connect("lan", &host, "eth0")?;
    router.address("lan", &["10.77.0.1/24", "fd00:cafe::1/64"])?;
    host.address("eth0", &["10.77.0.2/24", "fd00:cafe::2/64"])?;
    default_routes(&host, "10.77.0.1", "fd00:cafe::1")?;
    router.masquerade("wan")?;
    Ok(ClientSite { host, router: Some(router) })
}

/// The provider's DHCP server: one address, the edge's.
fn start_provider(run: &Run, internet: &Namespace) -> Result<Process> {
    let leases = run.dir().join("provider.leases");
    let mut command = internet.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--port=0"]);
    command.args([
        "--interface=edge",
        "--bind-interfaces",
        "--no-ping",
        "--dhcp-authoritative",
        "--log-dhcp",
    ]);
    command.args([
        "--log-facility=-",
        "--user=root",
        "--dhcp-range=203.0.113.2,203.0.113.2,255.255.255.0,1h",
    ]);
    command.arg(format!("--dhcp-leasefile={}", leases.display()));
    let mut provider = run.start_process("provider", command)?;
    wait::for_value("the provider's DHCP server", Duration::from_secs(10), || {
        provider.must_run()?;
        let bound = internet.output("ss", &["-Hlnu", "sport", "=", ":67"])?;
        Ok((!bound.trim().is_empty()).then_some(()))
    })?;
    Ok(provider)
}

fn default_routes(place: &Namespace, v4: &str, v6: &str) -> Result<()> {
    place.ip(&format!("route add default via {v4}"))?;
    place.ip(&format!("-6 route add default via {v6}"))
}
