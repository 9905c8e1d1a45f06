//! One `up`, from the interface to the last rule taken back.
//!
//! A single loop owns the device, the network and the edges; lookups and the center run beside it and send
//! it what they found. It ends on a signal, on `down`, or when the interface is deleted.

use crate::account::{Account, News, chain};
use crate::binder::{Binder, Life};
use crate::dns::Dns;
use crate::edges::{Edges, Lookup};
use crate::identity::{self, Identity, IdentityError, Keys};
use crate::local::{MAX_REQUEST, Request};
use crate::member::Member;
use crate::network::{Network, NetworkError, mark};
use crate::state::StateDir;
use crate::status::{State, Status, jst};
use edge_tunnel::{
    ConfigureError, Device, DeviceConfig, Interface, InterfaceName, Introduction, Secret, StartError,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream, lookup_host};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use verona_contract::api::ClientProfile;

/// Between two looks at the counters while some edge answers.
const CONNECTED_LOOK: Duration = Duration::from_secs(1);
/// The same while none does: how late `status` and the networks follow a first handshake.
const CONNECTING_LOOK: Duration = Duration::from_millis(100);
/// Between two hurried questions to the center while no edge answers.
const HURRY: Duration = Duration::from_secs(60);
/// The first of them: by then a first handshake has had its time, and the center was asked once anyway.
const FIRST_HURRY: Duration = Duration::from_secs(5);
/// Between two looks whether the data plane has its sockets, and how often at most: a second together.
const SOCKET_LOOK: Duration = Duration::from_millis(5);
const SOCKET_LOOKS: u32 = 200;
/// For one lookup of an endpoint's name.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// For a local command to say what it wants.
const LOCAL_TIME: Duration = Duration::from_secs(2);

/// Why the tunnel did not come up, or went down by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Signals or sockets could not be had.
    #[error("{doing} failed")]
    System { doing: &'static str, source: io::Error },
}

/// What [`Session::start`] needs.
pub(crate) struct Plan {
    pub(crate) state: StateDir,
    pub(crate) interface: InterfaceName,
    pub(crate) listener: std::os::unix::net::UnixListener,
}

/// A tunnel that is up.
pub(crate) struct Session {
    device: Device,
    network: Network,
    dns: Dns,
    edges: Edges,
    member: Member,
    /// What edges are shown of us.
    introduction: Introduction,
    profile: ClientProfile,
    /// What the center says about us, when it is not simply a profile.
    notice: Option<String>,
    /// What the user has to do about DNS.
    advice: Option<String>,
    disabled: bool,
    hurry: Arc<Notify>,
    next_hurry: Instant,
    news: mpsc::Receiver<News>,
    addresses: mpsc::Sender<(Lookup, Vec<SocketAddr>)>,
    resolved: mpsc::Receiver<(Lookup, Vec<SocketAddr>)>,
    listener: UnixListener,
    signals: [Signal; 2],
}

/// Why the loop ended.
enum End {
    Signal,
    /// The stream is answered by its end, after everything is taken down.
    Down(UnixStream),
}

impl Session {
    /// Brings the interface up. Returns before the first handshake; that may take as long as it takes.
    pub(crate) async fn start(plan: Plan) -> Result<Self, SessionError> {
        let member = Member::load(&plan.state)?;
        let (keys, binder, introduction) = credentials(&plan.state, &member).await?;
        let profile = identity::load_profile(&plan.state)?;
        let name = plan.interface.as_str().to_owned();
        let mark = mark(&name);
        let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [terminate, interrupt] = signals.map(|signal| signal.map_err(system("waiting for signals")));
        let listener = UnixListener::from_std(plan.listener).map_err(system("waiting for local commands"))?;

        let mut config = DeviceConfig::new(plan.interface.clone());
        config.interface = Interface::Create { name: plan.interface, mtu: profile.mtu };
        let device = Device::start(config)?;
        let edges = Edges::configure(
            device.handle().clone(),
            keys.tunnel().clone(),
            mark,
            &profile,
            introduction.clone(),
        )?;
        let mut network = Network::open(&name).await?;
        if let Err(error) = network.apply(&profile).await {
            network.close().await;
            return Err(error.into());
        }
        wait_for_sockets(&device).await?;
        let mut dns = Dns::new(&name);
        let advice = dns.apply(&profile.dns).err();
        let hurry = Arc::new(Notify::new());
        let (sender, news) = mpsc::channel(4);
        match (keys, binder) {
            (Credentials::Enrolled(identity, keys), _) => {
                let account = Account { state: plan.state, identity: *identity, keys, mark };
                tokio::spawn(account.run(sender, Arc::clone(&hurry)));
            }
            (Credentials::Imported(_), Some((binder, life))) => {
                tokio::spawn(binder.run(life, sender));
            }
            (Credentials::Imported(_), None) => {}
        }
        let (addresses, resolved) = mpsc::channel(16);
        let signals = [terminate?, interrupt?];
        Ok(Self {
            device,
            network,
            dns,
            edges,
            member,
            introduction,
            profile,
            notice: None,
            advice,
            disabled: false,
            hurry,
            next_hurry: Instant::now() + FIRST_HURRY,
            news,
            addresses,
            resolved,
            listener,
            signals,
        })
    }

    /// What the user has to do himself, one line.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Keeps the tunnel up until it is told to end, then takes everything back.
    pub(crate) async fn run(mut self) -> Result<(), SessionError> {
        let end = self.keep_up().await;
        self.dns.clear();
        self.network.close().await;
        let _ = self.device.shutdown();
        match end? {
            End::Signal => {}
            // Whoever said so is answered now, by the end of the stream.
            End::Down(stream) => drop(stream),
        }
        Ok(())
    }

    async fn keep_up(&mut self) -> Result<End, SessionError> {
        let mut next_look = Instant::now();
        loop {
            let [terminate, interrupt] = &mut self.signals;
            tokio::select! {
                () = sleep_until(next_look) => next_look = Instant::now() + self.look()?,
                Some(news) = self.news.recv() => self.take_news(news).await,
                Some((lookup, addresses)) = self.resolved.recv() => {
                    self.edges.resolved(&lookup, addresses)?;
                }
                Ok((stream, _)) = self.listener.accept() => {
                    if let Some(stream) = self.answer(stream).await {
                        return Ok(End::Down(stream));
                    }
                }
                _ = terminate.recv() => return Ok(End::Signal),
                _ = interrupt.recv() => return Ok(End::Signal),
            }
        }
    }

    /// Looks at the edges; returns when to look again.
    fn look(&mut self) -> Result<Duration, SessionError> {
        let was_connected = self.edges.is_connected();
        for lookup in self.edges.watch(Instant::now().into_std())? {
            tokio::spawn(look_up(lookup, self.addresses.clone()));
        }
        if self.edges.is_connected() && !was_connected {
            (self.disabled, self.notice) = (false, None);
        }
        let now = Instant::now();
        if !self.edges.is_connected() && self.next_hurry <= now {
            // The center may know why.
            self.hurry.notify_one();
            self.next_hurry = now + HURRY;
        }
        Ok(if self.edges.is_connected() { CONNECTED_LOOK } else { CONNECTING_LOOK })
    }

    async fn take_news(&mut self, news: News) {
        self.notice = None;
        match news {
            News::Profile(profile) => {
                if std::mem::take(&mut self.disabled) {
                    tracing::info!("enabled again");
                }
                if profile != self.profile {
                    self.follow(profile).await;
                }
            }
            News::Renewed(identity, profile) => {
                self.introduction = introduction(&identity);
                self.member = Member::Enrolled(identity);
                let end = down(&self.member, &profile).certificate_end;
                tracing::info!("certificates renewed, until {}", jst(end));
                self.follow(profile).await;
            }
            News::Bound(introduction) => {
                tracing::info!("binding renewed");
                self.introduction = introduction;
                self.follow(self.profile.clone()).await;
            }
            News::Disabled(text) => {
                if !std::mem::replace(&mut self.disabled, true) {
                    tracing::warn!("{text}");
                }
                self.notice = Some(text);
            }
            News::Failed(text) => {
                tracing::debug!("{text}");
                self.notice = Some(text);
            }
        }
    }

    /// What cannot be followed is said, and the tunnel goes on as far as it was.
    async fn follow(&mut self, profile: ClientProfile) {
        tracing::info!("following a changed profile");
        if let Err(error) = self.try_follow(&profile).await {
            let text = format!("the changed profile is not in force: {}", chain(&error));
            tracing::error!("{text}");
            self.notice = Some(text);
        }
        self.profile = profile;
    }

    async fn try_follow(&mut self, profile: &ClientProfile) -> Result<(), SessionError> {
        self.edges.apply(profile, self.introduction.clone(), Instant::now().into_std())?;
        self.network.apply(profile).await?;
        if let Err(advice) = self.dns.apply(&profile.dns) {
            tracing::warn!("{advice}");
        }
        Ok(())
    }

    /// Answers a local command; gives the stream back when it is `down`.
    async fn answer(&self, mut stream: UnixStream) -> Option<UnixStream> {
        let mut line = String::new();
        let mut reader = BufReader::new((&mut stream).take(MAX_REQUEST));
        timeout(LOCAL_TIME, reader.read_line(&mut line)).await.ok()?.ok()?;
        match serde_json::from_str(&line).ok()? {
            Request::Down => Some(stream),
            Request::Refresh => {
                self.hurry.notify_one();
                None
            }
            Request::Status => {
                let mut answer = serde_json::to_vec(&self.status()).ok()?;
                answer.push(b'\n');
                // Who asked and did not wait, gets nothing.
                let _ = timeout(LOCAL_TIME, stream.write_all(&answer)).await;
                None
            }
        }
    }

    fn status(&self) -> Status {
        let state = match (self.edges.is_connected(), self.disabled) {
            (true, _) => State::Connected,
            (false, true) => State::Disabled,
            (false, false) => State::Connecting,
        };
        Status {
            state,
            interface: Some(self.device.handle().name().to_string()),
            notice: self.notice.clone(),
            edges: self.edges.status(),
            ..down(&self.member, &self.profile)
        }
    }
}

/// The status while nothing runs.
pub(crate) fn down(member: &Member, profile: &ClientProfile) -> Status {
    let end = member.end();
    let notice = (SystemTime::now() > end).then(|| "the certificates have ended".to_owned());
    Status {
        state: State::Down,
        client: member.client(),
        center: member.center(),
        interface: None,
        addresses: profile.addresses.clone(),
        certificate_end: end.try_into().unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        notice,
        edges: crate::edges::down(profile),
    }
}

/// The private keys of a member.
enum Credentials {
    Enrolled(Box<Identity>, Keys),
    Imported(Secret),
}

impl Credentials {
    const fn tunnel(&self) -> &Secret {
        match self {
            Self::Enrolled(_, keys) => &keys.tunnel,
            Self::Imported(tunnel) => tunnel,
        }
    }
}

type Shown = (Credentials, Option<(Binder, Life)>, Introduction);

/// Keys, and what to show; the first binding is signed here, so that a missing token is said at once.
async fn credentials(state: &StateDir, member: &Member) -> Result<Shown, IdentityError> {
    match member {
        Member::Enrolled(identity) => {
            let keys = Keys::load(state, identity)?;
            let introduction = introduction(identity);
            Ok((Credentials::Enrolled(Box::new(identity.clone()), keys), None, introduction))
        }
        Member::Imported(imported) => {
            let tunnel = Member::tunnel_key(state)?;
            let key = identity::tunnel_public(&tunnel)?;
            let binder = Binder { state: state.clone(), imported: imported.clone(), key };
            let (introduction, life) = binder.bind().await?;
            Ok((Credentials::Imported(tunnel), Some((binder, life)), introduction))
        }
    }
}

fn introduction(identity: &Identity) -> Introduction {
    // The issuer is the owner's client CA, which every edge has as an anchor.
    Introduction { leaf: identity.tunnel_certificate.0.clone(), ..Introduction::default() }
}

/// The data plane opens its sockets when it sees the interface up; what is sent before is lost, and its
/// repetition would be the first second of every `up`.
async fn wait_for_sockets(device: &Device) -> Result<(), SessionError> {
    for _ in 0..SOCKET_LOOKS {
        if device.handle().snapshot().map_err(ConfigureError::from)?.listen_port != 0 {
            break;
        }
        sleep(SOCKET_LOOK).await;
    }
    Ok(())
}

async fn look_up(lookup: Lookup, sender: mpsc::Sender<(Lookup, Vec<SocketAddr>)>) {
    let addresses = match timeout(LOOKUP_TIME, lookup_host(&lookup.name)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            tracing::debug!("looking up {} failed: {}", lookup.name, chain(&error));
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    // The session ended meanwhile: nobody wants to know.
    let _ = sender.send((lookup, addresses)).await;
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> SessionError {
    move |source| SessionError::System { doing, source }
}
