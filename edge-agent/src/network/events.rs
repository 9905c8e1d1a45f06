//! The kernel's news about links, addresses, routes and rules, as "something changed".
//!
//! What changed is not read from the news: they can be lost when many come at once, and who compares everything
//! needs no order among them.

use futures_util::{FutureExt as _, StreamExt as _};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Until the next attempt when there is no socket for it.
const AGAIN: Duration = Duration::from_secs(5);

const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

type News = Pin<Box<dyn futures_util::Stream<Item = ()> + Send>>;

/// A subscription, made when it is first asked and again when it breaks.
#[derive(Default)]
pub(crate) struct Events(Option<(News, Connection)>);

/// Ends with its owner.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Events {
    /// Waits until something changed, then `settle` longer for what comes with it. A new subscription counts as a
    /// change: nobody knows what happened before it.
    pub(crate) async fn next(&mut self, settle: Duration) {
        match &mut self.0 {
            None => self.subscribe().await,
            Some((news, _)) => {
                if news.next().await.is_none() {
                    self.0 = None;
                    return;
                }
                tokio::time::sleep(settle).await;
                while let Some(Some(())) = news.next().now_or_never() {}
            }
        }
    }

    async fn subscribe(&mut self) {
        match new_multicast_connection(GROUPS) {
            Ok((connection, _, messages)) => {
                let connection = Connection(tokio::spawn(connection));
                self.0 = Some((Box::pin(messages.map(|_| ())), connection));
            }
            Err(error) => {
                tracing::warn!(%error, "no news from the kernel");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
