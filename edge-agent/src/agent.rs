//! The agent as a whole: starts the parts in their order and answers what `edgectl` asks.
//!
//! Enrolment comes first, since the log chain and the configuration belong to an edge. From then on the parts
//! run beside each other and none waits for the center.

use crate::acks::Acks;
use crate::apply::{Apply, TunnelFailure};
use crate::bundles::Bundles;
use crate::center::{Caller, Contact, chain};
use crate::certificates::{Certificates, CertificatesError};
use crate::clock::{Clock, boot_id, since_boot_ns, wall_ns, wall_s};
use crate::control;
use crate::edgectl::jst;
use crate::endpoint::{Endpoint, EndpointError};
use crate::endpoints::KnownEndpoints;
use crate::floors::KnownFloors;
use crate::groups::Groups;
use crate::heartbeat;
use crate::identity::{IdentityError, Keys, Operational};
use crate::line::{self, Line, Lines};
use crate::lists::Lists;
use crate::local::{CenterState, Certificate, ClockState, ListInfo, State, TimeState, TunnelState};
use crate::network::{self, Network, Place, Reports};
use crate::page;
use crate::recovery::Recovery;
use crate::revocation::Revocation;
use crate::settings::Settings;
use crate::spool::{OpenError, Spool, StampSource};
use crate::store::StoreError;
use crate::survey::Surveyor;
use crate::time::{KernelClock, Timekeeper};
use crate::trial::Trial;
use crate::update::{self, UpdateInfo, restart};
use crate::watchdog::Watchdog;
use crate::{config_poll, kernel_log, push, syslog};
use edge_agent_core::bundle::Rules;
use edge_agent_core::condition::{Facts, conditions};
use edge_agent_core::journal::Draft;
use edge_agent_core::network::firewall::PAGE_PORT;
use edge_agent_core::page::Facts as PageFacts;
use edge_agent_core::spool::chain::Stamp;
use edge_agent_core::update::trial::Health;
use edge_agent_core::watchdog::Limits;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use verona_contract::api::{Ack, UpdateAck};
use verona_contract::config::network::Lan;
use verona_contract::config::{UpdateConfig, Version, VersionError};
use verona_contract::control::{Command, CrlInfo, PeerInfo, Reply, Status};
use verona_contract::log::Stream;
use verona_contract::provisioning::FactoryRecord;

/// How long an answer may take to whoever ended the process by it.
const LAST_ANSWER: Duration = Duration::from_millis(300);

/// The image's script of the network from before the first configuration.
const START_NETWORK: &str = "/etc/init.d/S30network";

/// How long the tunnel may take to answer a question of status.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks at whether the parts of an enrolled edge are there.
const STARTING: Duration = Duration::from_millis(100);

/// What makes running impossible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Keys or certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The center's URL or CA.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// What is shown to the center.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log spool.
    #[error(transparent)]
    Spool(#[from] OpenError),
    /// No thread.
    #[error("cannot start the revocation runtime")]
    Thread(#[source] std::io::Error),
    /// The system does not tell.
    #[error("cannot tell where this program is")]
    Program(#[source] std::io::Error),
    /// The build's fault.
    #[error("package version")]
    Version(#[from] VersionError),
}

/// What the parts share.
pub struct Agent {
    pub(crate) settings: Settings,
    pub(crate) record: FactoryRecord,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<Clock>,
    pub(crate) timekeeper: Timekeeper,
    pub(crate) lines: Lines,
    watchdog: Watchdog,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) contact: Arc<Contact>,
    pub(crate) operational: Mutex<Option<Operational>>,
    tunnel_failure: TunnelFailure,
    syslog_failure: syslog::Failure,
    /// What the updates are doing; none = there are none.
    update: Mutex<Option<UpdateInfo>>,
    recovery: Recovery,
    /// Who dials sessions of PPPoE, until the network has it.
    dialler: Mutex<Option<UnixStream>>,
    /// The process is to end, and to be started again.
    end: Notify,
    /// What exists only once the box knows which edge it is.
    enrolled: OnceLock<Enrolled>,
}

/// What belongs to an edge.
pub(crate) struct Enrolled {
    spool: Spool,
    pub(crate) bundles: Arc<Bundles>,
    lists: Arc<Lists>,
    acks: Arc<Acks>,
    pub(crate) trial: Arc<Trial>,
    network: Reports,
}

impl Agent {
    /// Reads keys and certificates, or makes the keys. `dialler` is [`crate::dialler::start`]'s.
    ///
    /// # Errors
    ///
    /// One line that names the file and the rule.
    pub fn new(
        settings: Settings,
        record: FactoryRecord,
        dialler: Option<UnixStream>,
    ) -> Result<Arc<Self>, AgentError> {
        let recovery = Recovery::new(&settings.state);
        if recovery.carry_out()? {
            tracing::warn!("factory reset: the configuration is gone, the identity is kept");
        }
        let record = recovery.mended(record);
        let keys = Keys::load_or_make(&settings.state.join("keys"))?;
        let clock = Arc::new(Clock::load(settings.clock_trusted, settings.state.join("clock.json")));
        let (device, limit) = (settings.watchdog.as_deref(), settings.watchdog_limit());
        let watchdog = Watchdog::open(device, limit, settings.state.join("watchdog.json"));
        let (sets, servers) = (settings.set_clock, settings.time_servers());
        let timekeeper = Timekeeper::new(clock.clone(), Box::new(KernelClock), sets, servers);
        let endpoint = Arc::new(Endpoint::new(&record.center, &record.center_ca, clock.clone())?);
        let spki = keys.device_spki()?;
        // One that does not read is got again from the center, by the same key.
        let operational = Operational::load(&settings.state.join("certificates/operational.pem"), &spki)
            .unwrap_or_else(|error| {
                tracing::error!(error = chain(&error), "stored operational certificate");
                None
            });
        Ok(Arc::new(Self {
            contact: Arc::new(Contact::new(&endpoint)),
            settings,
            record,
            keys,
            clock,
            timekeeper,
            lines: Lines::default(),
            watchdog,
            endpoint,
            operational: Mutex::new(operational),
            tunnel_failure: Arc::new(Mutex::new(Some("not connected yet".into()))),
            syslog_failure: syslog::Failure::default(),
            update: Mutex::default(),
            recovery,
            dialler: Mutex::new(dialler),
            end: Notify::new(),
            enrolled: OnceLock::new(),
        }))
    }

    /// Runs for ever.
    ///
    /// # Errors
    ///
    /// What makes running impossible: the disk, or a spool of another edge.
    pub async fn run(self: Arc<Self>) -> Result<(), AgentError> {
        // First: a new firmware must prove itself, or go back, also where the rest does not come up.
        tokio::spawn(update::follow(self.clone()));
        tokio::spawn(keep_time(self.clone()));
        tokio::spawn(line::follow(self.clone()));
        tokio::spawn(keep_watch(self.clone()));
        tokio::spawn(page::follow(self.clone()));
        let mut certificates = Certificates::new(self.clone())?;
        let (operational, fresh) = certificates.obtain().await;
        let stamp_source = self.stamps(&operational)?;
        let directory = self.settings.state.join("spool");
        let spool = Spool::open(directory, operational.edge, self.settings.spool_quota, stamp_source)?;
        self.contact.log_to(spool.clone());
        let started = Draft::new(Stream::System, "agent.started", "edge-agent started")
            .with("version", env!("CARGO_PKG_VERSION"));
        note(&spool, started).await;
        if fresh {
            let draft =
                Draft::new(Stream::Audit, "enrolled", format!("enrolled as edge {}", operational.edge));
            let draft = draft.with("serial", &self.record.serial).with("edge", operational.edge);
            note(&spool, draft).await;
        }
        let rules = Rules {
            edge: operational.edge,
            keys: self.record.config_keys.clone(),
            threshold: self.record.config_threshold,
            agent: own_version()?,
        };
        let bundles = Arc::new(Bundles::load(self.settings.state.join("config"), rules)?);
        if let Some(current) = bundles.current() {
            self.clock.raise_floor(current.config().issued_at.as_second());
        }
        let lists = Arc::new(Lists::load(self.settings.state.join("crl"))?);
        let acks = Arc::new(Acks::load(self.settings.state.join("acks.json"))?);
        let trial = Arc::new(self.trial(&bundles, &spool, &acks)?);
        let network = self.start_network(&bundles, &spool)?;
        let parts = Enrolled { spool, bundles, lists, acks, trial, network };
        let endpoints = KnownEndpoints::load(self.settings.state.join("endpoints.json"));
        let floors = KnownFloors::load(self.settings.state.join("floors"));
        self.start_parts(&parts, (endpoints, floors), operational.edge)?;
        // Set once, here.
        let _ = self.enrolled.set(parts);
        certificates.keep().await;
        Ok(())
    }

    fn start_parts(
        self: &Arc<Self>,
        parts: &Enrolled,
        (endpoints, floors): (KnownEndpoints, KnownFloors),
        edge: uuid::Uuid,
    ) -> Result<(), AgentError> {
        let policy_loaded = watch::Sender::new(0);
        let agent = self.clone();
        Revocation {
            lists: parts.lists.clone(),
            acks: parts.acks.clone(),
            journal: parts.spool.clone(),
            tunnel: self.settings.tunnel.clone(),
            wanted: parts.bundles.wanted(),
            policy_loaded: policy_loaded.subscribe(),
            caller: Box::new(move || agent.caller()),
        }
        .start()
        .map_err(AgentError::Thread)?;
        let apply = Apply {
            bundles: parts.bundles.clone(),
            trial: parts.trial.clone(),
            tunnel: self.settings.tunnel.clone(),
            private_key: self.keys.tunnel.clone(),
            certificate: self.certificate_path("tunnel.pem"),
            clock: self.clock.clone(),
            acks: parts.acks.clone(),
            journal: parts.spool.clone(),
            endpoints,
            floors,
            groups: Groups::default(),
            network: parts.network.clone(),
            policy_loaded,
            failure: self.tunnel_failure.clone(),
        };
        tokio::spawn(apply.run());
        tokio::spawn(parts.trial.clone().run());
        let (journal, acks) = (parts.spool.clone(), parts.acks.clone());
        tokio::spawn(config_poll::follow(parts.bundles.clone(), self.caller(), journal, acks));
        tokio::spawn(push::run(parts.spool.clone(), edge, self.caller()));
        tokio::spawn(heartbeat::follow(self.clone(), self.caller()));
        if let Some(device) = &self.settings.kernel_log {
            let position = self.settings.socket.with_file_name("kernel-log");
            if let Err(error) = kernel_log::follow(device, position, parts.spool.clone()) {
                tracing::error!(device = %device.display(), %error, "the kernel's messages do not become records");
            }
        }
        let (wanted, failure) = (parts.bundles.released(), self.syslog_failure.clone());
        tokio::spawn(syslog::run(parts.spool.clone(), wanted, self.clock.clone(), failure));
        Ok(())
    }

    fn start_network(self: &Arc<Self>, bundles: &Bundles, spool: &Spool) -> Result<Reports, AgentError> {
        let place = Place {
            directory: self.settings.socket.with_file_name("network"),
            program: std::env::current_exe().map_err(AgentError::Program)?,
            start: START_NETWORK.into(),
        };
        let (orders, spool) = (network::orders(bundles.released()), spool.clone());
        let dialler = self.dialler.lock().unwrap_or_else(PoisonError::into_inner).take();
        let network = Network::new(orders, place, Box::new(move |draft| spool.note(draft)))?;
        let (network, agent) = (network.dialled_by(dialler), self.clone());
        let reports = network.reports();
        tokio::spawn(async move {
            network.run().await;
            agent.end.notify_one();
        });
        Ok(reports)
    }

    fn trial(&self, bundles: &Arc<Bundles>, spool: &Spool, acks: &Arc<Acks>) -> Result<Trial, AgentError> {
        Ok(Trial {
            bundles: bundles.clone(),
            surveyor: Surveyor { endpoint: self.endpoint.clone(), tunnel: self.settings.tunnel.clone() },
            boot: boot_id()?,
            clock: self.clock.clone(),
            acks: acks.clone(),
            journal: spool.clone(),
            standing: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// A channel and a back-off for one activity.
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.endpoint.clone(), self.contact.clone(), self.settings.backoff_cap)
    }

    fn stamps(&self, operational: &Operational) -> Result<StampSource, AgentError> {
        let (edge, boot, clock) = (operational.edge, boot_id()?, self.clock.clone());
        Ok(Box::new(move || Stamp {
            edge,
            boot,
            time_ns: wall_ns(),
            monotonic_ns: since_boot_ns(),
            clock_synced: clock.verdict().trusted(),
        }))
    }

    /// Where the metrics are wanted; none = nowhere.
    #[must_use]
    pub const fn metrics(&self) -> Option<std::net::SocketAddr> {
        self.settings.metrics
    }

    /// What belongs to the edge; none before enrolment.
    pub(crate) fn enrolled(&self) -> Option<&Enrolled> {
        self.enrolled.get()
    }

    /// The spool.
    ///
    /// # Errors
    ///
    /// One line, before enrolment.
    pub fn spool(&self) -> Result<Spool, String> {
        let enrolled = self.enrolled.get().ok_or("the box is not enrolled yet: it has no log chain")?;
        Ok(enrolled.spool.clone())
    }

    /// The peers, as the tunnel tells.
    ///
    /// # Errors
    ///
    /// One line when it does not.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, String> {
        match self.ask(Command::Peers).await? {
            Reply::Peers(peers) => Ok(peers),
            _ => Err("the tunnel answered something else".into()),
        }
    }

    /// Each issuer's list.
    pub async fn lists(&self) -> Vec<ListInfo> {
        let Some(parts) = self.enrolled.get() else { return Vec::new() };
        let in_force = self.lists_in_force().await;
        let wanted = parts.bundles.wanted().borrow().clone();
        let issuers = wanted.map(|wanted| wanted.bundle.issuers().to_vec()).unwrap_or_default();
        let (held, refused) = (parts.lists.infos(), parts.lists.refused());
        let mut infos = Vec::new();
        for issuer in issuers.into_iter().map(|issuer| issuer.key_id) {
            let reason = refused.iter().find(|(of, _)| *of == issuer).map(|(_, reason)| reason.clone());
            infos.push(ListInfo {
                held: held.iter().find(|info| info.issuer == issuer).cloned(),
                in_force: in_force.iter().find(|info| info.issuer == issuer).cloned(),
                acknowledged: parts.acks.list(&issuer).await,
                refused: reason,
                issuer,
            });
        }
        infos
    }

    async fn lists_in_force(&self) -> Vec<CrlInfo> {
        match self.ask(Command::Crls).await {
            Ok(Reply::Crls(lists)) => lists,
            _ => Vec::new(),
        }
    }

    /// Everything at once.
    pub async fn state(&self) -> State {
        let tunnel = self.tunnel_state().await;
        let in_force = self.lists_in_force().await;
        let config = self.config(false);
        let parts = self.enrolled.get();
        let operational = self.operational();
        let verdict = self.clock.verdict();
        let spool = parts.map(|parts| parts.spool.usage());
        let (center_failure, last_contact_ns) = (self.contact.failure(), self.contact.last_ns());
        let facts = Facts {
            enrolled: operational.is_some(),
            certificate_expired: verdict.trusted()
                && operational.as_ref().is_some_and(|operational| operational.not_after < wall_s()),
            // Never green before a real answer.
            center_failure: center_failure.clone().or_else(|| {
                last_contact_ns.is_none().then(|| "no answer since the agent started".to_owned())
            }),
            uplinks_down: parts.map(|parts| parts.network.down()).unwrap_or_default(),
            uplink_captive: self.lines.captive(),
            center_refusal: self.contact.refusal(),
            tunnel_seq: tunnel.status.as_ref().and_then(|status| status.policy_seq),
            tunnel_failure: tunnel.failure.clone(),
            tunnel_stuck: self.watchdog.stuck().filter(|_| tunnel.up),
            config_seq: config.seq,
            config_refused: config.refused.clone(),
            config_reverted: config.reverted.clone(),
            lists: in_force.into_iter().map(|info| (info.issuer, info.state)).collect(),
            crl_refused: parts.map(|parts| parts.lists.refused()).unwrap_or_default(),
            time_servers_doubt: self.timekeeper.doubt(),
            clock_doubt: (!verdict.trusted()).then(|| verdict.to_string()),
            spool: spool.as_ref().map_or((0, 0), |usage| (usage.octets, usage.quota)),
            storage_failure: spool.as_ref().and_then(|usage| usage.failure.clone()),
            spool_damaged: spool.as_ref().map_or(0, |usage| usage.damaged),
            syslog_failure: self.syslog_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            log_refused: spool.as_ref().map_or(0, |usage| usage.refused),
        };
        State {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            serial: self.record.serial.clone(),
            edge: operational.as_ref().map(|operational| operational.edge),
            certificate: operational
                .map(|Operational { not_before, not_after, .. }| Certificate { not_before, not_after }),
            conditions: conditions(&facts),
            center: CenterState {
                url: self.record.center.clone(),
                // Not green before a real answer.
                reachable: center_failure.is_none() && last_contact_ns.is_some(),
                last_contact_ns,
                failure: center_failure,
            },
            config,
            tunnel,
            clock: self.clock_state(),
            spool,
            acks_pending: match parts {
                Some(parts) => parts.acks.pending().await,
                None => 0,
            },
        }
    }

    pub(crate) fn clock_state(&self) -> ClockState {
        let verdict = self.clock.verdict();
        ClockState { trusted: verdict.trusted(), reason: verdict.to_string(), now_ns: wall_ns() }
    }

    /// All about the time.
    #[must_use]
    pub fn time(&self) -> TimeState {
        TimeState {
            clock: self.clock_state(),
            floor_s: self.clock.floor().unix_s(),
            center_s: self.clock.center_s(),
            servers: self.timekeeper.info(),
        }
    }

    async fn tunnel_state(&self) -> TunnelState {
        match self.tunnel_status().await {
            Ok(status) => TunnelState { up: true, failure: None, status: Some(status) },
            Err(failure) => TunnelState { up: false, failure: Some(failure), status: None },
        }
    }

    /// Why the data plane does not forward; none = it does.
    pub(crate) async fn tunnel_failure(&self) -> Option<String> {
        let stuck = self.watchdog.stuck();
        self.tunnel_status().await.err().or(stuck)
    }

    /// Keeps a record, if the box is enrolled: before that it has no chain.
    fn note(&self, draft: Draft) {
        if let Some(parts) = self.enrolled.get() {
            parts.spool.note(draft);
        }
    }

    /// The package version of the tunnel; none = it does not answer.
    pub(crate) async fn tunnel_software(&self) -> Option<String> {
        let opened = control::Connection::open(&self.settings.tunnel);
        let connection = tokio::time::timeout(ASK_LIMIT, opened).await.ok()?.ok()?;
        Some(connection.software().to_owned())
    }

    /// Whether the hardware watchdog is fed; none = there is none.
    pub(crate) fn watchdog_fed(&self) -> Option<bool> {
        self.watchdog.is_fed()
    }

    async fn tunnel_status(&self) -> Result<Status, String> {
        match self.ask(Command::Status).await? {
            Reply::Status(status) => Ok(status),
            _ => Err("the tunnel answered something else".into()),
        }
    }

    async fn ask(&self, command: Command) -> Result<Reply, String> {
        let asked = tokio::time::timeout(ASK_LIMIT, control::ask(&self.settings.tunnel, command)).await;
        match asked {
            Ok(answer) => answer.map_err(|error| chain(&error)),
            Err(_) => Err(format!("the tunnel did not answer within {ASK_LIMIT:?}")),
        }
    }

    /// Looks for the center at `address` from now on, none = at the factory record's: the process ends for that, and
    /// whoever keeps it running starts it again.
    ///
    /// # Errors
    ///
    /// One line: no address, or the disk.
    pub async fn set_center(self: &Arc<Self>, address: Option<String>) -> Result<(), String> {
        if let Some(address) = &address {
            Endpoint::new(address, &self.record.center_ca, self.clock.clone())
                .map_err(|error| chain(&error))?;
        }
        let told = address.as_deref().unwrap_or("the factory record's").to_owned();
        self.recovery.set_center(address).map_err(|error| chain(&error))?;
        tracing::warn!(address = told, "address of the center set at the box");
        let draft =
            Draft::new(Stream::Audit, "center.address-set", "a person at the box set the center's address");
        self.note_at_box(draft.with("address", told)).await;
        self.end_soon();
        Ok(())
    }

    /// Has the next start take the configuration away. Returns whether the box restarts now.
    ///
    /// # Errors
    ///
    /// One line: the disk, or the program that restarts the box.
    pub async fn reset(self: &Arc<Self>) -> Result<bool, String> {
        self.recovery.order_reset().map_err(|error| chain(&error))?;
        tracing::warn!("factory reset ordered at the box");
        self.note_at_box(Draft::new(
            Stream::Audit,
            "reset.ordered",
            "a person at the box ordered a factory reset",
        ))
        .await;
        match &self.settings.restart_with {
            Some(program) => restart(program).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits until the process is to end.
    pub async fn ended(&self) {
        self.end.notified().await;
    }

    /// In a moment, so that who asked for it still gets an answer.
    fn end_soon(self: &Arc<Self>) {
        let agent = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_ANSWER).await;
            agent.end.notify_one();
        });
    }

    /// Puts what a person did into the log, where there is one.
    async fn note_at_box(&self, draft: Draft) {
        if let Ok(spool) = self.spool() {
            note(&spool, draft).await;
        }
    }

    /// What the updates are doing.
    ///
    /// # Errors
    ///
    /// One line where there are none.
    pub fn update(&self) -> Result<UpdateInfo, String> {
        // A plain value: a panic elsewhere cannot leave it half-changed.
        let shown = self.update.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone().ok_or_else(|| update::NO_FIRMWARE.to_owned())
    }

    pub(crate) fn show_update(&self, info: UpdateInfo) {
        *self.update.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
    }

    /// The lines that there should be.
    pub(crate) fn lines_wanted(&self) -> Vec<Line> {
        let current = self.enrolled.get().and_then(|parts| parts.bundles.current());
        Line::of(current.as_ref().map(|bundle| &bundle.config().network))
    }

    /// The bridges that are to have the technician's page, and its port. A configuration without local networks says
    /// nothing about it.
    pub(crate) fn page_wanted(&self) -> BTreeMap<String, u16> {
        let wanted = self.enrolled.get().and_then(|parts| parts.bundles.wanted().borrow().clone());
        let network = wanted.as_ref().map(|wanted| &wanted.bundle.config().network);
        let bridges: Vec<String> = match network.filter(|network| !network.is_empty()) {
            Some(network) => network.lan.iter().filter(|lan| lan.page).map(Lan::bridge).collect(),
            None => self.settings.start_page.iter().cloned().collect(),
        };
        bridges.into_iter().map(|bridge| (bridge, PAGE_PORT)).collect()
    }

    /// What the technician's page shows.
    pub(crate) async fn page_facts(&self) -> PageFacts {
        let state = self.state().await;
        let firmware = self.update().ok().map(|info| format!("{} {}", info.edition, info.running));
        let status = state.tunnel.status.as_ref();
        PageFacts {
            serial: state.serial,
            version: firmware.unwrap_or(state.agent),
            enrolled: state.edge.is_some(),
            center_reachable: state.center.reachable,
            last_contact: state.center.last_contact_ns.map(|ns| jst(ns.div_euclid(1_000_000_000))),
            uplinks: self.lines.facts(),
            sessions: status.map(|status| status.sessions),
            tunnel_port: status.map(|status| status.listen_port),
            config_seq: state.config.seq,
            clock: (jst(state.clock.now_ns.div_euclid(1_000_000_000)), state.clock.trusted),
            conditions: state.conditions,
        }
    }

    /// The firmware that the configuration in force asks for.
    pub(crate) fn update_wish(&self) -> Option<UpdateConfig> {
        self.enrolled.get()?.bundles.current()?.config().update.clone()
    }

    /// Whether a new firmware does what the one before did.
    pub(crate) async fn health(&self) -> Health {
        let contact = self.contact.last_ns();
        let center = self.contact.failure().or_else(|| contact.is_none().then(|| "no answer yet".to_owned()));
        let (enrolled, parts) = (self.operational().is_some(), self.enrolled.get());
        let wanted = parts.and_then(|parts| parts.bundles.current()).map(|bundle| bundle.config().seq);
        let tunnel = match self.tunnel_status().await {
            Err(reason) => Some(reason),
            Ok(_) if enrolled && parts.is_none() => Some("the agent is still starting".to_owned()),
            Ok(status) if wanted.is_some() && status.policy_seq != wanted => {
                Some("it does not carry out the configuration yet".to_owned())
            }
            Ok(_) => None,
        };
        Health { tunnel, center }
    }

    /// Tells the log and the center. A box that is not enrolled has nobody to tell.
    pub(crate) async fn report_update(&self, ack: UpdateAck) {
        let parts = loop {
            match self.enrolled.get() {
                Some(parts) => break parts,
                None if self.operational().is_none() => return,
                None => tokio::time::sleep(STARTING).await,
            }
        };
        let (state, version, running) = (ack.state.as_str(), ack.version, ack.running);
        let body = format!("firmware {version}: {state}");
        let draft = Draft::new(Stream::Audit, &format!("update.{state}"), body).with("running", running);
        let reason = ack.reason.as_deref();
        note(&parts.spool, reason.into_iter().fold(draft, |draft, reason| draft.with("reason", reason)))
            .await;
        parts.acks.push(Ack::Update(ack)).await;
    }

    pub(crate) fn operational(&self) -> Option<Operational> {
        // A plain value: a panic elsewhere cannot leave it half-changed.
        self.operational.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn certificate_path(&self, name: &str) -> PathBuf {
        self.settings.state.join("certificates").join(name)
    }
}

/// Looks after the clock, by the configuration in force. Records have a place only once the box is enrolled.
async fn keep_time(agent: Arc<Agent>) {
    let configured = || {
        let current = agent.enrolled.get().and_then(|parts| parts.bundles.current());
        current.map(|bundle| bundle.config().network.time_servers.clone()).unwrap_or_default()
    };
    agent.timekeeper.run(configured, |draft| agent.note(draft)).await;
}

/// Feeds the watchdog while the data plane forwards.
async fn keep_watch(agent: Arc<Agent>) {
    agent.watchdog.run(Limits::BOX, &agent.settings.tunnel, |draft| agent.note(draft)).await;
}

/// Waits until the record is on the disk.
async fn note(spool: &Spool, draft: Draft) {
    if let Err(error) = spool.append(draft).await {
        tracing::error!(%error, "log");
    }
}

fn own_version() -> Result<Version, VersionError> {
    env!("CARGO_PKG_VERSION").parse()
}
