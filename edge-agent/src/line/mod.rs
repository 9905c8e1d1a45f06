//! How each line of the box looks from outside: public address, NAT, path MTU, and whether a portal stands in the way.
//!
//! The center answers the questions ([`verona_contract::stun`], and one by HTTP for nothing); what the answers mean is
//! `edge_agent_core::line`. Each question bears its uplink's mark, so that it goes by that line and past the tunnel.

mod portal;
mod reflect;

pub use portal::ask as portal;
pub use reflect::{Reflection, reflect};

use crate::agent::Agent;
use crate::clock::wall_ns;
use edge_agent_core::line::nat;
use edge_agent_core::network::plan::{TUNNEL_MARK, mark};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use verona_contract::api::UplinkFacts;
use verona_contract::config::NetworkConfig;
use verona_contract::stun::PORTS;

/// Between two looks at a line that is well: its address is the provider's to change.
const EVERY: Duration = Duration::from_secs(900);

/// Between two looks while the center is not reached: somebody may be working on it.
const EVERY_IN_TROUBLE: Duration = Duration::from_secs(30);

/// How often changes are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// How long the center's name may take to resolve.
pub(crate) const RESOLVE: Duration = Duration::from_secs(5);

/// A line whose configuration names none.
const NAMELESS: &str = "default";

/// One line, and the mark by which packets go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// As in the configuration.
    pub(crate) name: String,
    /// Its port; none = that is somebody else's business.
    pub(crate) port: Option<String>,
    /// The link of its session of PPPoE, if it is to have one.
    pub(crate) session: Option<String>,
    /// See [`mark`].
    pub(crate) mark: u32,
}

impl Line {
    /// The lines of a configuration.
    pub(crate) fn of(config: Option<&NetworkConfig>) -> Vec<Self> {
        let wan = config.map(|config| config.wan.as_slice()).unwrap_or_default();
        let lines = wan.iter().enumerate().map(|(index, wan)| Self {
            name: wan.name.to_string(),
            port: Some(wan.port.to_string()),
            session: wan.session(),
            mark: mark(index),
        });
        let nameless =
            || vec![Self { name: NAMELESS.to_owned(), port: None, session: None, mark: TUNNEL_MARK }];
        Some(lines.collect::<Vec<_>>()).filter(|lines| !lines.is_empty()).unwrap_or_else(nameless)
    }
}

/// What is known of all lines.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Vec<UplinkFacts>>);

impl Lines {
    /// What is known now.
    #[must_use]
    pub fn facts(&self) -> Vec<UplinkFacts> {
        self.known().clone()
    }

    /// The first line behind which a portal stands, and what it says.
    #[must_use]
    pub fn captive(&self) -> Option<String> {
        let known = self.known();
        let facts = known.iter().find(|facts| facts.captive.is_some())?;
        let said = facts.captive.as_deref().unwrap_or_default();
        Some(format!("uplink {}: a portal answers in place of the center: {said}", facts.name))
    }

    fn known(&self) -> MutexGuard<'_, Vec<UplinkFacts>> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the lines for ever.
pub(crate) async fn follow(agent: Arc<Agent>) {
    let mut looked: Option<(Instant, Vec<Line>, bool)> = None;
    loop {
        let lines = agent.lines_wanted();
        let trouble = agent.contact.failure().is_some();
        let every = if trouble { EVERY_IN_TROUBLE } else { EVERY };
        let due = looked
            .as_ref()
            .is_none_or(|(at, before, was)| at.elapsed() >= every || *before != lines || *was != trouble);
        if due {
            let asked = lines.iter().map(|line| look(&agent, line, trouble));
            let facts = futures_util::future::join_all(asked).await;
            *agent.lines.known() = facts;
            looked = Some((Instant::now(), lines, trouble));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Where the center's reflectors and its page for nothing are.
pub(crate) async fn center(agent: &Agent) -> Option<SocketAddr> {
    let found = tokio::time::timeout(RESOLVE, agent.endpoint.addresses()).await.ok()?.ok()?;
    found.into_iter().next()
}

async fn look(agent: &Agent, line: &Line, trouble: bool) -> UplinkFacts {
    let unknown = UplinkFacts { name: line.name.clone(), at_ns: wall_ns(), ..UplinkFacts::default() };
    let Some(center) = center(agent).await else { return unknown };
    let places = PORTS.map(|port| SocketAddr::new(center.ip(), port));
    let portal = async {
        // A center that answers by TLS is not a portal.
        if trouble {
            portal(agent.endpoint.host(), center.ip(), line.mark).await.ok().flatten()
        } else {
            None
        }
    };
    let (reflection, captive) = tokio::join!(reflect(places, line.mark), portal);
    let Ok(reflection) = reflection else { return UplinkFacts { captive, ..unknown } };
    // Silence while the center is away says nothing about UDP.
    let silent = reflection.mapped == (None, None);
    let nat = Some(nat(reflection.own, reflection.mapped)).filter(|_| !(silent && trouble));
    UplinkFacts {
        address: Some(reflection.own),
        public: reflection.mapped.0.or(reflection.mapped.1).map(|mapped| mapped.ip()),
        nat,
        path_mtu: reflection.path_mtu,
        captive,
        ..unknown
    }
}
