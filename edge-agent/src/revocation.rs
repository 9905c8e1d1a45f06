//! The way of a revocation through the agent, on a runtime of its own: long-polls, the link by which lists
//! reach the tunnel, acknowledgements. Logs and configurations cannot delay it.
//!
//! The link compares what the tunnel has with what is held and loads the difference: after a new list, a new
//! policy, or a restart of either process, it is the same step.

use crate::acks::Acks;
use crate::bundles::Wanted;
use crate::center::{Caller, chain};
use crate::conntrack;
use crate::control::{Connection, ControlError};
use crate::lists::{self, Held, Lists};
use crate::spool::Spool;
use edge_agent_core::journal::{Draft, of_cut};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use verona_contract::api::{Ack, CrlAck};
use verona_contract::control::{Command, CrlInstalled, CutReason, Reply};
use verona_contract::key::KeyId;
use verona_contract::log::Stream;

/// How soon a tunnel that went away is looked for again.
pub const RECONNECT: Duration = Duration::from_millis(100);

/// How often the tunnel's lists are compared although nothing changed.
const COMPARE: Duration = Duration::from_secs(30);

/// What the way of a revocation needs.
pub struct Revocation {
    /// The lists.
    pub lists: Arc<Lists>,
    /// The queue of acknowledgements.
    pub acks: Arc<Acks>,
    /// Where records go.
    pub journal: Spool,
    /// The tunnel's control socket.
    pub tunnel: PathBuf,
    /// Whose lists to follow.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// Changes with every policy that the tunnel took.
    pub policy_loaded: watch::Receiver<u64>,
    /// Makes the calls of one activity.
    pub caller: Box<dyn Fn() -> Caller + Send + Sync>,
}

impl Revocation {
    /// Starts the runtime on threads of its own.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("revocation")
            .enable_all()
            .build()?;
        std::thread::Builder::new().name("revocation".into()).spawn(move || runtime.block_on(self.run()))?;
        Ok(())
    }

    async fn run(self) {
        tokio::spawn(self.acks.clone().deliver((self.caller)()));
        let link = Link {
            lists: self.lists.clone(),
            acks: self.acks.clone(),
            journal: self.journal.clone(),
            tunnel: self.tunnel.clone(),
            policy_loaded: self.policy_loaded.clone(),
            loaded: BTreeMap::new(),
        };
        tokio::spawn(link.run());
        self.follow_issuers().await;
    }

    /// One task for each issuer of the wanted configuration.
    async fn follow_issuers(mut self) {
        let mut followed: BTreeMap<KeyId, JoinHandle<()>> = BTreeMap::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let issuers = wanted.map(|wanted| wanted.bundle.issuers().to_vec()).unwrap_or_default();
            followed.retain(|key_id, task| {
                let keep = issuers.iter().any(|issuer| issuer.key_id == *key_id);
                if !keep {
                    task.abort();
                }
                keep
            });
            for issuer in issuers {
                if followed.contains_key(&issuer.key_id) {
                    continue;
                }
                let (lists, stored) = (self.lists.clone(), issuer.clone());
                let restored = tokio::task::spawn_blocking(move || lists.restore(&stored)).await;
                if let Ok(Err(error)) = restored {
                    tracing::error!(error = chain(&error), "stored revocation list");
                }
                let key_id = issuer.key_id.clone();
                let task = lists::follow(self.lists.clone(), issuer, (self.caller)(), self.journal.clone());
                followed.insert(key_id, tokio::spawn(task));
            }
            if self.wanted.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The connection by which lists reach the tunnel.
struct Link {
    lists: Arc<Lists>,
    acks: Arc<Acks>,
    journal: Spool,
    tunnel: PathBuf,
    policy_loaded: watch::Receiver<u64>,
    /// The newest list of each issuer that this process loaded: its acknowledgement is on its way.
    loaded: BTreeMap<KeyId, u64>,
}

impl Link {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.serve().await {
                tracing::debug!(error = chain(&error), "link for revocation lists");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn serve(&mut self) -> Result<(), ControlError> {
        let mut connection = Connection::open(&self.tunnel).await?;
        let mut changed = self.lists.changed();
        loop {
            changed.borrow_and_update();
            self.policy_loaded.borrow_and_update();
            self.load_difference(&mut connection).await?;
            tokio::select! {
                _ = changed.changed() => {}
                _ = self.policy_loaded.changed() => {}
                () = tokio::time::sleep(COMPARE) => {}
                // Not subscribed, so this only ends with the connection.
                event = connection.event() => { event?; }
            }
        }
    }

    async fn load_difference(&mut self, connection: &mut Connection) -> Result<(), ControlError> {
        let infos = match connection.call(Command::Crls).await? {
            Reply::Crls(infos) => infos,
            other => return Err(connection.unexpected(&other)),
        };
        for info in infos {
            let Some(held) = self.lists.held(&info.issuer) else { continue };
            let in_force = info.number.is_some_and(|number| number >= held.number);
            let loaded = self.loaded.get(&info.issuer).is_some_and(|number| *number >= held.number);
            // Loaded by an agent that was killed before it could acknowledge: loaded and acknowledged again.
            if in_force && (loaded || self.acks.list(&info.issuer).await >= held.number) {
                continue;
            }
            match connection.call(Command::LoadCrl { der: held.der.clone() }).await {
                Ok(Reply::CrlLoaded(installed)) => {
                    self.loaded.insert(info.issuer, installed.number);
                    self.report(&held, installed);
                }
                Ok(other) => return Err(connection.unexpected(&other)),
                // Tried again with the next comparison.
                Err(ControlError::Refused(reason)) => {
                    tracing::error!(issuer = %held.issuer, number = held.number, reason, "tunnel refused a list");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Records and acknowledges, beside the link: the next list must not wait for the disk.
    fn report(&self, held: &Arc<Held>, installed: CrlInstalled) {
        tracing::info!(
            issuer = %installed.issuer, number = installed.number, entries = installed.entries,
            cut = installed.cut.len(), "revocation list applied"
        );
        let (acks, journal, held) = (self.acks.clone(), self.journal.clone(), held.clone());
        tokio::spawn(async move {
            conntrack::forget(&installed.cut).await;
            // An error means that the sender is gone, which `held` keeps alive.
            let _ = held.stored.subscribe().wait_for(|stored| *stored).await;
            let known = acks.list(&installed.issuer).await >= installed.number;
            let draft = applied(&installed);
            let mut cuts = installed.cut;
            cuts.iter_mut().for_each(|cut| cut.addresses.clear());
            if !known {
                acks.push(Ack::Crl(CrlAck {
                    issuer: installed.issuer,
                    crl_number: installed.number,
                    applied_at_ns: installed.applied_at_ns,
                    cut: cuts.clone(),
                }))
                .await;
            }
            let cuts = cuts.iter().map(|cut| of_cut(cut, CutReason::Revoked));
            for draft in std::iter::once(draft).chain(cuts) {
                if let Err(error) = journal.append(draft).await {
                    tracing::error!(%error, "a revocation is not in the log");
                }
            }
        });
    }
}

fn applied(installed: &CrlInstalled) -> Draft {
    let CrlInstalled { issuer, number, entries, cut, .. } = installed;
    let body = format!("list {number} of issuer {issuer}: {entries} entries, {} sessions cut", cut.len());
    Draft::new(Stream::Audit, "crl.applied", body)
        .with("issuer", issuer)
        .with("number", number)
        .with("entries", entries)
        .with("cut", cut.len())
        .with("applied_at_ns", installed.applied_at_ns)
}
