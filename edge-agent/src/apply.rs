//! Carries the wanted configuration out: policy into the tunnel, addresses and routes into the kernel.
//!
//! One connection to the tunnel, made again for ever. Each new connection fills the tunnel anew, so it does not
//! matter which of the two processes restarted. Events become log records. Lists go by
//! [`crate::revocation`].

use crate::acks::Acks;
use crate::bundles::{BeginError, Bundles, Fate, Wanted};
use crate::center::chain;
use crate::clock::{Clock, wall_ns};
use crate::conntrack;
use crate::control::{Connection, ControlError};
use crate::endpoints::KnownEndpoints;
use crate::floors::KnownFloors;
use crate::groups::Groups;
use crate::netlink;
use crate::network::Reports;
use crate::revocation::RECONNECT;
use crate::spool::Spool;
use crate::store;
use crate::survey::BEFORE;
use crate::trial::{Trial, tell_confirmed};
use edge_agent_core::journal::{Draft, of_cut, of_event};
use edge_agent_core::network::Desired;
use edge_agent_core::policy::{closed, policy, rejected};
use edge_agent_core::trial::Survey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use verona_contract::api::{Ack, ConfigAck, ConfigState, Rejected};
use verona_contract::base64::Octets;
use verona_contract::cert::Leaf;
use verona_contract::control::{Command, CutReason, Event, FLOORS_AT_ONCE, PolicyInstalled, Reply};
use verona_contract::key::Secret;
use verona_contract::log::{Severity, Stream};

/// How often the clock is judged.
const JUDGE: Duration = Duration::from_secs(1);

/// How often the kernel's state is compared although nothing changed.
const COMPARE: Duration = Duration::from_secs(10);

/// Longest file with the certificate of the tunnel's key.
const MAX_CERTIFICATE_FILE: usize = 64 * 1024;

/// How often the tunnel is asked for timestamp floors, and how soon after a peer was admitted.
const FETCH_FLOORS: Duration = Duration::from_millis(500);
const FETCH_FLOORS_SOON: Duration = Duration::from_millis(20);

/// Why the tunnel does not answer; none = it does. Shared with whoever reports the state.
pub type TunnelFailure = Arc<Mutex<Option<String>>>;

/// What carrying out needs.
pub struct Apply {
    /// The configurations.
    pub bundles: Arc<Bundles>,
    /// Who judges them once they are carried out.
    pub trial: Arc<Trial>,
    /// The tunnel's control socket.
    pub tunnel: PathBuf,
    /// The tunnel's private key.
    pub private_key: Secret,
    /// Where the certificate of that key is, PEM: what the tunnel shows to other sites.
    pub certificate: PathBuf,
    /// The clock.
    pub clock: Arc<Clock>,
    /// Where outcomes are queued for the center.
    pub acks: Arc<Acks>,
    /// Where records go.
    pub journal: Spool,
    /// Where pushed clients were heard from last.
    pub endpoints: KnownEndpoints,
    /// What the peers have proven.
    pub floors: KnownFloors,
    /// The kernel's rules by group.
    pub groups: Groups,
    /// What came of the box's own network.
    pub network: Reports,
    /// Told after every policy that the tunnel took.
    pub policy_loaded: watch::Sender<u64>,
    /// Told whether the tunnel answers.
    pub failure: TunnelFailure,
}

/// What is known of the tunnel on one connection.
struct Tunnel {
    connection: Connection,
    interface: String,
    clock_trusted: Option<bool>,
    /// The certificate of the tunnel's key that it was told.
    certificate: Option<Octets>,
    /// When to ask for timestamp floors again.
    floors_due: Instant,
    /// A configuration waits because its groups are not in force, or its trial could not begin.
    held_back: bool,
    /// Whether a configuration was wanted on this connection.
    wanted: bool,
}

impl Apply {
    /// Runs for ever.
    pub async fn run(mut self) {
        let mut wanted = self.bundles.wanted();
        loop {
            if let Err(error) = self.serve(&mut wanted).await {
                let reason = chain(&error);
                let before = self.set_failure(Some(reason.clone()));
                if before.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "tunnel");
                }
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn serve(&mut self, wanted: &mut watch::Receiver<Option<Wanted>>) -> Result<(), ControlError> {
        let mut tunnel = self.connect().await?;
        wanted.mark_changed();
        let mut judge = tokio::time::interval(JUDGE);
        judge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut compare = tokio::time::interval_at(Instant::now() + COMPARE, COMPARE);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = wanted.changed() => {
                    let now = wanted.borrow_and_update().clone();
                    match now {
                        Some(now) => {
                            tunnel.wanted = true;
                            self.apply(&mut tunnel, &now).await?;
                        }
                        // The very first configuration was taken back: nothing was in force before it. An agent that
                        // finds none when it starts, as after damage to its disk, closes nothing.
                        None if tunnel.wanted => self.close(&mut tunnel).await?,
                        None => {}
                    }
                }
                _ = judge.tick() => self.judge_clock(&mut tunnel).await?,
                _ = compare.tick() => {
                    // Renewed since: other sites must not be shown the one before until it has ended.
                    if self.certificate().await != tunnel.certificate || tunnel.held_back {
                        wanted.mark_changed();
                    }
                    self.compare(&tunnel).await;
                    self.endpoints.save().await;
                }
                () = tokio::time::sleep_until(tunnel.floors_due) => {
                    self.fetch_floors(&mut tunnel, false).await?;
                    self.floors.save().await;
                }
                event = tunnel.connection.event() => {
                    let event = event?;
                    if matches!(event, Event::Admitted { .. }) {
                        tunnel.floors_due = tunnel.floors_due.min(Instant::now() + FETCH_FLOORS_SOON);
                    }
                    self.endpoints.take(&event);
                    if let Event::Cut { cut, reason: CutReason::CertificateExpired | CutReason::CrlStale } = &event {
                        conntrack::forget(std::slice::from_ref(cut)).await;
                    }
                    if let Some(draft) = of_event(&event) {
                        self.journal.note(draft);
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Tunnel, ControlError> {
        let mut connection = Connection::open(&self.tunnel).await?;
        let status = match connection.call(Command::Status).await? {
            Reply::Status(status) => status,
            other => return Err(connection.unexpected(&other)),
        };
        expect_done(&mut connection, Command::Subscribe).await?;
        let mut tunnel = Tunnel {
            connection,
            interface: status.interface,
            clock_trusted: None,
            certificate: None,
            floors_due: Instant::now(),
            held_back: false,
            wanted: false,
        };
        self.network.tunnel_is(&tunnel.interface);
        self.tell_clock(&mut tunnel).await?;
        self.fetch_floors(&mut tunnel, true).await?;
        if status.policy_seq.is_none() {
            self.hand_back_floors(&mut tunnel).await?;
        }
        self.set_failure(None);
        tracing::info!(
            interface = tunnel.interface,
            software = tunnel.connection.software(),
            "tunnel connected"
        );
        let draft = Draft::new(Stream::System, "tunnel.connected", "connected to the tunnel, filling it")
            .with("interface", &tunnel.interface)
            .with("software", tunnel.connection.software())
            .with("policy_before", status.policy_seq.map_or_else(|| "none".into(), |seq| seq.to_string()));
        self.journal.note(draft);
        Ok(tunnel)
    }

    async fn fetch_floors(&mut self, tunnel: &mut Tunnel, all: bool) -> Result<(), ControlError> {
        tunnel.floors_due = Instant::now() + FETCH_FLOORS;
        let floors = match tunnel.connection.call(Command::Floors { all }).await? {
            Reply::Floors(floors) => floors,
            other => return Err(tunnel.connection.unexpected(&other)),
        };
        self.floors.take(&floors.floors);
        if !floors.complete {
            match tunnel.connection.call(Command::Floors { all: true }).await? {
                Reply::Floors(floors) => self.floors.take(&floors.floors),
                other => return Err(tunnel.connection.unexpected(&other)),
            }
        }
        Ok(())
    }

    /// To a tunnel that has restarted, before it knows anybody.
    async fn hand_back_floors(&self, tunnel: &mut Tunnel) -> Result<(), ControlError> {
        for floors in self.floors.list().chunks(FLOORS_AT_ONCE) {
            let floors = floors.to_vec();
            expect_done(&mut tunnel.connection, Command::LoadFloors { floors }).await?;
        }
        Ok(())
    }

    async fn judge_clock(&self, tunnel: &mut Tunnel) -> Result<(), ControlError> {
        self.tell_clock(tunnel).await?;
        let clock = self.clock.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || clock.save()).await {
            tracing::error!(error = chain(&error), "the time is not saved");
        }
        Ok(())
    }

    /// Someone may have taken an address away. What cannot be repaired was told at the confirmation.
    async fn compare(&mut self, tunnel: &Tunnel) {
        if let Some(current) = self.bundles.current() {
            self.reconcile(tunnel, &Desired::of(&current.config().tunnel)).await;
            match self.groups.enforce(&tunnel.interface, &current.config().tunnel).await {
                Ok(true) => tracing::warn!("the rules of the groups were gone and are back"),
                Ok(false) => {}
                Err(error) => tracing::error!(error = chain(&error), "groups"),
            }
        }
    }

    async fn tell_clock(&self, tunnel: &mut Tunnel) -> Result<(), ControlError> {
        let verdict = self.clock.verdict();
        let trusted = verdict.trusted();
        if tunnel.clock_trusted != Some(trusted) {
            expect_done(&mut tunnel.connection, Command::SetClock { trusted }).await?;
            tunnel.clock_trusted = Some(trusted);
            tracing::info!(trusted, reason = %verdict, "clock");
        }
        Ok(())
    }

    async fn apply(&mut self, tunnel: &mut Tunnel, wanted: &Wanted) -> Result<(), ControlError> {
        let bundle = &wanted.bundle;
        if !wanted.confirmed && !self.begin(tunnel, wanted).await {
            return Ok(());
        }
        // Before anyone is admitted whom they restrict.
        let enforced = self.groups.enforce(&tunnel.interface, &bundle.config().tunnel).await;
        tunnel.held_back = enforced.is_err();
        if let Err(error) = enforced {
            self.refused(wanted, "tunnel.owners.groups", &chain(&error), Fate::Refused).await;
            return Ok(());
        }
        tunnel.certificate = self.certificate().await;
        let (key, certificate) = (self.private_key.clone(), tunnel.certificate.clone());
        let policy = policy(bundle.config(), key, certificate, self.endpoints.list());
        let command = Command::LoadPolicy(Box::new(policy));
        let installed = match tunnel.connection.call(command).await {
            Ok(Reply::PolicyLoaded(installed)) => installed,
            Ok(other) => return Err(tunnel.connection.unexpected(&other)),
            Err(ControlError::Refused(reason)) => {
                self.refused(wanted, "tunnel", &reason, Fate::Refused).await;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.policy_loaded.send_modify(|generation| *generation += 1);
        self.loaded(&installed).await;
        self.learn_endpoints(tunnel).await?;
        let mut not_done: Vec<Rejected> = installed.rejected.iter().map(rejected).collect();
        let missing = self.reconcile(tunnel, &Desired::of(&bundle.config().tunnel)).await;
        // Half of a configuration is none: the one before comes back whole.
        if let Some(missing) = missing.as_ref().filter(|_| !wanted.confirmed) {
            self.refused(wanted, &missing.path, &missing.reason, Fate::Refused).await;
            return Ok(());
        }
        not_done.extend(missing);
        // The system's fault, whatever the configuration.
        not_done.extend(forward());
        let network = self.network.rejected(bundle.config().seq).await;
        // What has something in its place is told; what has nothing would be half a configuration.
        if let Some(missing) = network.iter().find(|one| !wanted.confirmed && one.used_instead.is_none()) {
            self.refused(wanted, &missing.path, &missing.reason, Fate::Refused).await;
            return Ok(());
        }
        not_done.extend(network);
        self.carried_out(wanted, not_done).await;
        Ok(())
    }

    /// Begins the trial, after it was found out what works without the new configuration. Returns false when it may
    /// not be carried out.
    async fn begin(&self, tunnel: &mut Tunnel, wanted: &Wanted) -> bool {
        let (bundles, bundle, now) = (self.bundles.clone(), wanted.bundle.clone(), self.trial.now());
        let all = Survey { center: true, gateway: true, dns: true, tunnel: true };
        let before = match bundles.wants_survey(&bundle) {
            true => Some(self.trial.surveyor.survey(&all, bundle.config().seq, BEFORE).await),
            false => None,
        };
        let begun = tokio::task::spawn_blocking(move || bundles.begin(&bundle, before, now)).await;
        tunnel.held_back = !matches!(begun, Ok(Ok(())));
        match begun {
            Ok(Ok(())) => return true,
            Ok(Err(BeginError::Exhausted(error))) => {
                self.refused(wanted, ".", &error.to_string(), Fate::Reverted).await;
            }
            // The one before goes on, and this one is tried again.
            Ok(Err(BeginError::Store(error))) => {
                tracing::error!(error = chain(&error), "the trial is not on the disk");
            }
            Err(error) => tracing::error!(%error, "the trial is not on the disk"),
        }
        false
    }

    /// As before the first configuration: nobody is admitted, nothing is routed.
    async fn close(&mut self, tunnel: &mut Tunnel) -> Result<(), ControlError> {
        let command = Command::LoadPolicy(Box::new(closed(self.private_key.clone())));
        match tunnel.connection.call(command).await {
            Ok(Reply::PolicyLoaded(installed)) => self.loaded(&installed).await,
            Ok(other) => return Err(tunnel.connection.unexpected(&other)),
            Err(error) => return Err(error),
        }
        self.reconcile(tunnel, &Desired::NOTHING).await;
        tunnel.wanted = false;
        Ok(())
    }

    /// The stored certificate of the tunnel's key; none before there is one, or when it does not read.
    async fn certificate(&self) -> Option<Octets> {
        let (path, key) = (self.certificate.clone(), self.private_key.x25519_public().ok()?);
        let read = move || {
            let pem = store::read(&path, MAX_CERTIFICATE_FILE).ok()??;
            let der = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
            Leaf::parse(&der).ok().filter(|leaf| leaf.key == key).map(|_| Octets(der.to_vec()))
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Events may have been missed, and the policy may have dropped clients.
    async fn learn_endpoints(&mut self, tunnel: &mut Tunnel) -> Result<(), ControlError> {
        match tunnel.connection.call(Command::Peers).await? {
            Reply::Peers(peers) => self.endpoints.take_peers(&peers),
            other => return Err(tunnel.connection.unexpected(&other)),
        }
        Ok(())
    }

    async fn loaded(&self, installed: &PolicyInstalled) {
        let PolicyInstalled { seq, clients, cut, rejected } = installed;
        let body = format!("policy {seq}: {clients} clients known, {} sessions cut", cut.len());
        let refilled = Draft::new(Stream::System, "tunnel.refilled", body)
            .with("seq", seq)
            .with("clients", clients)
            .with("rejected", rejected.len());
        self.append(refilled).await;
        conntrack::forget(cut).await;
        for cut in cut {
            self.append(of_cut(cut, CutReason::Policy)).await;
        }
    }

    /// Returns what the kernel did not take.
    async fn reconcile(&self, tunnel: &Tunnel, desired: &Desired) -> Option<Rejected> {
        match netlink::reconcile(&tunnel.interface, desired).await {
            Ok(true) => tracing::info!(interface = tunnel.interface, "addresses and routes set"),
            Ok(false) => {}
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(reason, "addresses and routes");
                return Some(Rejected { path: "tunnel.addresses".into(), reason, used_instead: None });
            }
        }
        None
    }

    async fn carried_out(&self, wanted: &Wanted, not_done: Vec<Rejected>) {
        if !wanted.confirmed {
            self.bundles.carried_out(&wanted.bundle, not_done);
            return;
        }
        let config = wanted.bundle.config();
        self.clock.raise_floor(config.issued_at.as_second());
        tell_confirmed(config, not_done, &self.journal, &self.acks).await;
    }

    async fn refused(&self, wanted: &Wanted, path: &str, reason: &str, fate: Fate) {
        let seq = wanted.bundle.config().seq;
        tracing::error!(seq, path, reason, "the configuration cannot be carried out");
        if wanted.confirmed {
            // It took this one before: nothing to go back to. The next connection tries again.
            return;
        }
        let (bundles, bundle, text) = (self.bundles.clone(), wanted.bundle.clone(), reason.to_owned());
        let stored = tokio::task::spawn_blocking(move || bundles.reject(&bundle, fate, &text)).await;
        if let Ok(Err(error)) = stored {
            tracing::error!(error = chain(&error), "the refusal is not on the disk");
        }
        report_refused(&self.journal, &self.acks, Some(seq), path, reason, false).await;
    }

    async fn append(&self, draft: Draft) {
        if let Err(error) = self.journal.append(draft).await {
            tracing::error!(%error, "log");
        }
    }

    fn set_failure(&self, reason: Option<String>) -> Option<String> {
        // A plain value: a panic elsewhere cannot leave it half-changed.
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut failure, reason)
    }
}

/// Logs that a configuration was refused, and tells the center where its number is known.
pub async fn report_refused(
    journal: &Spool,
    acks: &Acks,
    seq: Option<u64>,
    path: &str,
    reason: &str,
    alarm: bool,
) {
    let severity = if alarm { Severity::Error } else { Severity::Warn };
    let named = seq.map_or_else(|| "unknown".to_owned(), |seq| seq.to_string());
    let draft = Draft::new(Stream::Audit, "config.refused", reason).severity(severity);
    if let Err(error) = journal.append(draft.with("seq", named).with("alarm", alarm)).await {
        tracing::error!(%error, "log");
    }
    if let Some(seq) = seq {
        let rejected = Rejected { path: path.to_owned(), reason: reason.to_owned(), used_instead: None };
        let state = ConfigState::Refused;
        let ack = ConfigAck { seq, state, rejected: vec![rejected], applied_at_ns: wall_ns() };
        acks.push(Ack::Config(ack)).await;
    }
}

fn forward() -> Option<Rejected> {
    netlink::enable_forwarding().err().map(|error| {
        let reason = chain(&error);
        tracing::warn!(reason, "forwarding");
        Rejected { path: "tunnel".into(), reason, used_instead: None }
    })
}

async fn expect_done(connection: &mut Connection, command: Command) -> Result<(), ControlError> {
    match connection.call(command).await? {
        Reply::Done => Ok(()),
        other => Err(connection.unexpected(&other)),
    }
}
