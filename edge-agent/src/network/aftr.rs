//! The addresses of the translators of DS-Lite, whose names are told by configurations and by DHCPv6.
//!
//! A name is asked again and again, since the provider may move its translator; while nobody answers, the address
//! that was found last stays.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use verona_contract::config::network::services::{Aftr, DomainName};

/// Until a name is asked again: after an answer, and without one.
const AGAIN: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(5);

/// The translators of all uplinks that have one.
pub(crate) struct Aftrs {
    /// By the uplink's name.
    asked: HashMap<String, Question>,
    found: BTreeMap<DomainName, Ipv6Addr>,
    tell: mpsc::Sender<(DomainName, Ipv6Addr)>,
    news: mpsc::Receiver<(DomainName, Ipv6Addr)>,
}

/// A name that is asked as long as this value lives.
struct Question {
    name: DomainName,
    task: JoinHandle<()>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Aftrs {
    fn default() -> Self {
        let (tell, news) = mpsc::channel(8);
        Self { asked: HashMap::new(), found: BTreeMap::new(), tell, news }
    }
}

impl Aftrs {
    /// The address of the translator `wanted` by `uplink`, if it is known. None wanted: nothing is asked any more.
    pub(crate) fn find(&mut self, uplink: &str, wanted: Option<&Aftr>) -> Option<Ipv6Addr> {
        let name = match wanted {
            Some(Aftr::Name(name)) => name,
            other => {
                self.asked.remove(uplink);
                return match other {
                    Some(Aftr::Address(address)) => Some(*address),
                    _ => None,
                };
            }
        };
        if self.asked.get(uplink).is_none_or(|question| question.name != *name) {
            let task = tokio::spawn(ask(name.clone(), self.tell.clone()));
            self.asked.insert(uplink.to_owned(), Question { name: name.clone(), task });
        }
        self.found.get(name).copied()
    }

    /// Waits for the next news and takes it. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // A sender lives as long as this value.
        let Some((name, address)) = self.news.recv().await else { return };
        tracing::info!(%name, %address, "translator of DS-Lite");
        let asked = &self.asked;
        self.found.retain(|one, _| asked.values().any(|question| question.name == *one));
        self.found.insert(name, address);
    }
}

async fn ask(name: DomainName, tell: mpsc::Sender<(DomainName, Ipv6Addr)>) {
    let (mut known, host) = (None, name.to_string());
    loop {
        let answer = tokio::net::lookup_host((host.as_str(), 0)).await;
        let address = answer.ok().and_then(|mut all| {
            all.find_map(|one| match one.ip() {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            })
        });
        if let Some(address) = address
            && known.replace(address) != Some(address)
            && tell.send((name.clone(), address)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(if address.is_some() { AGAIN } else { SOON }).await;
    }
}
