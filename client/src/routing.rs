//! Which networks go to which edge.
//!
//! Every edge of the profile is a peer at the same time; a network that several serve goes to the first
//! reachable one in the profile's order, and back to the preferred one when that answers again. How the
//! packets get into the tunnel is [`crate::network`]'s business.

use verona_contract::api::ClientProfile;
use verona_contract::ipnet::IpNet;

/// For each edge, in the order of the profile, the networks that go to it: its own, and to the first one
/// the clients' network too. `reachable` says of each edge whether it answers; what no reachable edge
/// serves goes to the first that does serve it.
pub(crate) fn allowed_ips(profile: &ClientProfile, reachable: &[bool]) -> Vec<Vec<IpNet>> {
    let is_reachable = |edge: &usize| reachable.get(*edge).copied().unwrap_or(false);
    let edges = 0..profile.edges.len();
    let order = edges.clone().filter(is_reachable).chain(edges.filter(|edge| !is_reachable(edge)));
    let mut taken = Vec::new();
    let mut own: Vec<IpNet> = profile.addresses.iter().map(IpNet::network).collect();
    let mut by_edge = vec![Vec::new(); profile.edges.len()];
    for edge in order {
        let served = profile.edges[edge].routes.iter().map(IpNet::network);
        for network in std::mem::take(&mut own).into_iter().chain(served) {
            if !taken.contains(&network) {
                taken.push(network);
                by_edge[edge].push(network);
            }
        }
    }
    by_edge
}

/// Every network that goes into the tunnel, each once.
pub(crate) fn routes(profile: &ClientProfile) -> Vec<IpNet> {
    let mut routes = allowed_ips(profile, &[]).concat();
    routes.sort_unstable();
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::{edge, profile};

    fn text(networks: &[Vec<IpNet>]) -> Vec<String> {
        networks
            .iter()
            .map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn a_shared_network_follows_the_reachable_edge() {
        let profile = profile(vec![
            edge(1, &["192.168.1.0/24", "10.0.0.0/8"], &[]),
            edge(2, &["10.0.0.0/8", "192.168.2.0/24"], &[]),
        ]);
        let first = ["10.8.0.0/24 192.168.1.0/24 10.0.0.0/8", "192.168.2.0/24"];
        assert_eq!(text(&allowed_ips(&profile, &[])), first);
        assert_eq!(text(&allowed_ips(&profile, &[true, true])), first);
        assert_eq!(text(&allowed_ips(&profile, &[true, false])), first);
        let second = ["192.168.1.0/24", "10.8.0.0/24 10.0.0.0/8 192.168.2.0/24"];
        assert_eq!(text(&allowed_ips(&profile, &[false, true])), second);
    }

    #[test]
    fn each_route_once() {
        let profile = profile(vec![edge(1, &["10.8.0.0/24", "10.9.0.7/24", "10.9.0.0/24"], &[])]);
        let routes: Vec<String> = routes(&profile).iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["10.8.0.0/24", "10.9.0.0/24"]);
    }
}
