//! Looks at the box's lines now, for `edgectl netcheck`: everything at once, each question anew.
//!
//! What follows from the answers is `edge_agent_core::netcheck`. Nothing here waits for longer than [`LIMIT`].

use crate::agent::Agent;
use crate::https::{Channel, HttpError, Request};
use crate::line::{self, Line};
use crate::network::kernel;
use crate::survey;
use edge_agent_core::netcheck::{
    CenterAnswer, Finding, Observed, ObservedPort, ObservedReflection, ObservedUplink, findings,
};
use edge_agent_core::network::kernel::{Actual, MAIN};
use hyper::Method;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;
use verona_contract::api::EST_CACERTS;
use verona_contract::ipnet::IpNet;
use verona_contract::stun::PORTS;

/// For each question.
pub const LIMIT: Duration = Duration::from_secs(6);

/// What there is to say about the box's lines.
pub(crate) async fn check(agent: &Agent) -> Vec<Finding> {
    let addresses = resolve(agent).await;
    let center = addresses.as_ref().ok().and_then(|found| found.first().copied());
    let actual = kernel::read().await.unwrap_or_default();
    let lines = agent.lines_wanted();
    let uplinks = futures_util::future::join_all(lines.iter().map(|line| uplink(line, &actual, center)));
    let portal = async {
        let mark = lines.first()?.mark;
        let asked = timeout(LIMIT, line::portal(agent.endpoint.host(), center?, mark)).await;
        Some(match asked {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        })
    };
    let (uplinks, portal, names, center, time_servers) = tokio::join!(
        uplinks,
        portal,
        async { timeout(LIMIT, survey::names()).await.unwrap_or(false) },
        ask_center(agent),
        agent.timekeeper.ask_once(),
    );
    let clock = agent.clock_state();
    let tunnel_failure = agent.tunnel_failure().await;
    findings(&Observed {
        uplinks,
        names,
        center_addresses: Some(addresses),
        portal,
        time_servers,
        clock: (clock.trusted, clock.reason),
        center,
        tunnel_failure,
    })
}

async fn resolve(agent: &Agent) -> Result<Vec<IpAddr>, String> {
    match timeout(line::RESOLVE, agent.endpoint.addresses()).await {
        Ok(Ok(found)) => Ok(found.into_iter().map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", line::RESOLVE.as_secs())),
    }
}

async fn uplink(line: &Line, actual: &Actual, center: Option<IpAddr>) -> ObservedUplink {
    let (port, router) = way_out(line, actual);
    let Some(port) = port else {
        return ObservedUplink { name: line.name.clone(), ..ObservedUplink::default() };
    };
    let link = actual.links.get(&port);
    let gateway = async {
        let router = router?;
        Some((router, timeout(LIMIT, survey::is_there(router, &port)).await.unwrap_or(false)))
    };
    let reflection = async {
        let places = PORTS.map(|port| center.map(|center| SocketAddr::new(center, port)));
        let [Some(one), Some(other)] = places else { return None };
        let seen = line::reflect([one, other], line.mark).await.ok()?;
        Some(ObservedReflection { own: seen.own, mapped: seen.mapped, path_mtu: seen.path_mtu })
    };
    let (carrier, gateway, reflection) = tokio::join!(survey::has_carrier(&port), gateway, reflection);
    let session = line.session.clone().filter(|link| actual.links.contains_key(link));
    let is_here = |link: &String| *link == port || session.as_ref() == Some(link);
    let here = actual.addresses.iter().filter(|(link, net, _)| is_here(link) && is_public(net));
    ObservedUplink {
        name: line.name.clone(),
        addresses: here.map(|(_, net, _)| *net).collect(),
        gateway,
        session,
        reflection,
        port: Some(ObservedPort {
            exists: link.is_some(),
            carrier: carrier && link.is_some_and(|link| link.up),
            mtu: link.map_or(0, |link| link.mtu),
            name: port,
        }),
    }
}

/// The port of a line, and the router behind it.
fn way_out(line: &Line, actual: &Actual) -> (Option<String>, Option<IpAddr>) {
    let default = |v6: bool, port: Option<&str>| {
        let everything = IpNet::everything(v6);
        let routes = actual.routes.iter().map(|(route, _)| route);
        let out = routes.filter(|route| route.to == everything);
        let here = out.filter(|route| port.map_or(route.table == MAIN, |port| route.link == port));
        here.min_by_key(|route| route.metric).cloned()
    };
    let route = default(false, line.port.as_deref()).or_else(|| default(true, line.port.as_deref()));
    let port = line.port.clone().or_else(|| route.as_ref().map(|route| route.link.clone()));
    (port, route.and_then(|route| route.via))
}

/// An address that more than the cable knows.
fn is_public(net: &IpNet) -> bool {
    match net.address() {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    }
}

/// By the shortest question that takes our certificate.
async fn ask_center(agent: &Agent) -> CenterAnswer {
    let request = Request {
        method: Method::GET,
        path: EST_CACERTS,
        headers: vec![],
        body: hyper::body::Bytes::new(),
        limit: LIMIT,
        max_answer: 256 * 1024,
    };
    let said = |error: &HttpError| crate::center::chain(error);
    match Channel::new(agent.endpoint.clone()).send(request).await {
        Ok(_) => CenterAnswer::Accepts,
        Err(error) if error.refuses_us() => CenterAnswer::Refuses(said(&error)),
        Err(error) if error.is_answer() => CenterAnswer::Accepts,
        Err(error) if error.is_foreign() => CenterAnswer::Foreign(said(&error)),
        Err(error) => CenterAnswer::Silent(said(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_agent_core::network::kernel::Route;

    fn out(link: &str, via: &str, table: u32, metric: u32) -> (Route, bool) {
        let via: IpAddr = via.parse().unwrap();
        (
            Route { to: IpNet::everything(via.is_ipv6()), via: Some(via), link: link.into(), table, metric },
            true,
        )
    }

    #[test]
    fn the_way_out_of_each_line() {
        let routes = vec![
            out("eth1", "10.0.0.1", MAIN, 2),
            out("eth0", "192.0.2.1", MAIN, 1),
            out("eth2", "fe80::1", 1193, 1),
        ];
        let actual = Actual { routes, ..Actual::default() };
        let line = |port: Option<&str>| Line {
            name: "x".into(),
            port: port.map(str::to_owned),
            session: None,
            mark: 1,
        };
        let found = |port| {
            let (port, via) = way_out(&line(port), &actual);
            (port.unwrap_or_default(), via.map(|via| via.to_string()).unwrap_or_default())
        };
        assert_eq!(found(None), ("eth0".into(), "192.0.2.1".into()));
        assert_eq!(found(Some("eth1")), ("eth1".into(), "10.0.0.1".into()));
        assert_eq!(found(Some("eth2")), ("eth2".into(), "fe80::1".into()));
        assert_eq!(found(Some("eth3")), ("eth3".into(), String::new()));
        assert_eq!(way_out(&line(None), &Actual::default()), (None, None));
    }
}
