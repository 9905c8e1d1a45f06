//! `verona-center serve`: puts the serving process together, and its timers.

use crate::center::Center;
use crate::challenges::Challenges;
use crate::clock;
use crate::composer::Composer;
use crate::db::{Db, DbError, owners};
use crate::heartbeats::Heartbeats;
use crate::http::tls::{ServerIdentity, server_config};
use crate::http::{accept, logs, places::Places, router};
use crate::init::Settings;
use crate::lists::Lists;
use crate::logs::LogStore;
use crate::news::News;
use crate::passwords::Passwords;
use crate::private_file;
use crate::seen::Seen;
use crate::signer::Signer;
use crate::throttle::Throttle;
use crate::{nothing, stun};
use anyhow::Context as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use verona_contract::cert::Issuer;
use verona_contract::csr::DeviceKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Between two looks at which lists are due. A wish that failed is tried again so soon.
const LISTS_EVERY: Duration = Duration::from_secs(1);

/// Between two writes of when edges were heard.
const SEEN_EVERY: Duration = Duration::from_secs(10);

/// Between two looks at which overlaps of preshared roots have ended.
const OVERLAPS_EVERY: Duration = Duration::from_secs(1);

/// Longest sleep until the server leaf is looked at again: the wall clock may jump.
const LEAF_EVERY: Duration = Duration::from_secs(3600);

/// From one attempt to renew the server leaf to the next.
const LEAF_PAUSE: Duration = Duration::from_secs(10);

/// Where the serving process listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    /// HTTPS.
    pub(crate) https: SocketAddr,
    /// STUN, by UDP; none = not at all.
    pub(crate) stun: Option<IpAddr>,
    /// The question for nothing, by plain HTTP; none = not at all.
    pub(crate) nothing: Option<SocketAddr>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// When `web` does not hold a center, or an address cannot be bound.
pub(crate) async fn serve(web: &Path, listen: Listen, socket: &Path) -> anyhow::Result<()> {
    let settings = private_file::read(&web.join("center.json"))?;
    let settings: Settings = serde_json::from_slice(&settings)
        .with_context(|| format!("{}", web.join("center.json").display()))?;
    let signer = Signer::new(socket);
    let leaf = ServerLeaf::read(web)?;
    let identity = Arc::new(ServerIdentity::new(&leaf.key, &leaf.der, &leaf.ca)?);
    let tls = TlsAcceptor::from(Arc::new(server_config(Arc::clone(&identity))?));
    let (stop_now, stop) = watch::channel(false);
    let center = Arc::new(assemble(web, settings, &leaf, signer, stop.clone()).await?);

    let https = listen.https;
    let listener = TcpListener::bind(https).await.with_context(|| format!("cannot listen on {https}"))?;
    serve_beside(&listen).await?;
    let address = listener.local_addr().context("address of the listening socket")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT handler")?;
    tokio::spawn(center.composer.clone().run(
        center.db.clone(),
        center.signer.clone(),
        Arc::clone(&center.configs),
    ));
    tokio::spawn(keep_lists(Arc::clone(&center)));
    tokio::spawn(keep_seen(Arc::clone(&center)));
    tokio::spawn(keep_overlaps(Arc::clone(&center)));
    tokio::spawn(leaf.keep(center.signer.clone(), identity));
    println!("listening on https://{address}");
    let serving = tokio::spawn(accept::serve(listener, tls, router(Arc::clone(&center)), stop));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    stop_now.send_replace(true);
    serving.await.context("accept loop")?;
    center.seen.store(&center.db).await?;
    center.heartbeats.store(&center.db).await?;
    Ok(())
}

/// What tells edges about their lines. It ends with the process.
async fn serve_beside(listen: &Listen) -> anyhow::Result<()> {
    if let Some(address) = listen.stun {
        stun::bind(address).await?.into_iter().for_each(|socket| drop(tokio::spawn(stun::serve(socket))));
    }
    if let Some(address) = listen.nothing {
        tokio::spawn(nothing::serve(nothing::bind(address).await?));
    }
    Ok(())
}

async fn assemble(
    web: &Path,
    settings: Settings,
    leaf: &ServerLeaf,
    signer: Signer,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<Center> {
    let db = Db::open(&web.join("center.db"))?;
    let ca = Issuer::parse(&leaf.ca).context("the center's CA certificate")?;
    let mut pin = [0; 32];
    pin.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &ca.spki).as_ref());
    let heartbeats = Heartbeats::load(&db).await?;
    Ok(Center {
        url: settings.url,
        pin,
        logs: LogStore::open(&web.join("logs.db"))?,
        log_requests: Places::new(logs::MAX_OF_EDGE),
        lists: Lists::load(db.clone(), signer.clone()).await?,
        db,
        signer,
        configs: Arc::new(News::new()),
        composer: Composer::default(),
        challenges: Challenges::default(),
        throttle: Throttle::default(),
        passwords: Passwords::new(),
        seen: Seen::default(),
        firmware: web.join("firmware"),
        heartbeats,
        stop,
    })
}

async fn keep_lists(center: Arc<Center>) {
    let mut timer = tokio::time::interval(LISTS_EVERY);
    let mut failing = false;
    loop {
        timer.tick().await;
        let result = center.lists.make_due().await;
        match &result {
            // Said once, not every second of a night.
            Err(error) if !failing => {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "revocation lists are due and not made"
                );
            }
            Ok(()) if failing => tracing::info!("revocation lists are made again"),
            _ => {}
        }
        failing = result.is_err();
    }
}

async fn keep_seen(center: Arc<Center>) {
    let mut timer = tokio::time::interval(SEEN_EVERY);
    loop {
        timer.tick().await;
        if let Err(error) = center.seen.store(&center.db).await {
            tracing::error!(error = &error as &dyn std::error::Error, "edges' last requests not stored");
        }
        if let Err(error) = center.heartbeats.store(&center.db).await {
            tracing::error!(error = &error as &dyn std::error::Error, "edges' heartbeats not stored");
        }
    }
}

/// Ends the overlaps of rotated preshared roots in time.
async fn keep_overlaps(center: Arc<Center>) {
    let mut timer = tokio::time::interval(OVERLAPS_EVERY);
    loop {
        timer.tick().await;
        if let Err(error) = end_overlaps(&center).await {
            tracing::error!(error = &error as &dyn std::error::Error, "ends of overlaps not looked at");
        }
    }
}

async fn end_overlaps(center: &Center) -> Result<(), DbError> {
    let now_s = clock::now_s();
    for owner in center.db.read(move |db| owners::overlaps_due(db, now_s)).await? {
        center.db.write(move |transaction| owners::end_overlap(transaction, owner, now_s)).await?;
        center.composer.mark(owner);
    }
    Ok(())
}

/// The TLS key and leaf of the server, in files.
struct ServerLeaf {
    key: DeviceKey,
    der: Vec<u8>,
    ca: Vec<u8>,
    path: PathBuf,
}

impl ServerLeaf {
    fn read(web: &Path) -> anyhow::Result<Self> {
        let key_path = web.join("tls.pem");
        let key = DeviceKey::from_pem(&private_file::read_text(&key_path)?)
            .with_context(|| format!("{}", key_path.display()))?;
        let path = web.join("tls.der");
        let der = private_file::read(&path)?.to_vec();
        Ok(Self { key, der, ca: private_file::read(&web.join("ca.der"))?.to_vec(), path })
    }

    /// Has the leaf renewed for ever, from two thirds of its life on.
    async fn keep(mut self, signer: Signer, identity: Arc<ServerIdentity>) {
        loop {
            let wait = self.until_due();
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(LEAF_EVERY)).await;
                continue;
            }
            match self.renew(&signer, &identity).await {
                Ok(()) => tracing::info!("server certificate renewed"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "server certificate not renewed"),
            }
            tokio::time::sleep(LEAF_PAUSE).await;
        }
    }

    fn until_due(&self) -> Duration {
        // A leaf that cannot be read is due.
        let due_s = X509Certificate::from_der(&self.der).map_or(0, |(_, certificate)| {
            let validity = certificate.validity();
            let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            from + (to - from) / 3 * 2
        });
        Duration::from_secs(u64::try_from(due_s - clock::now_s()).unwrap_or(0))
    }

    async fn renew(&mut self, signer: &Signer, identity: &ServerIdentity) -> anyhow::Result<()> {
        let der = signer.server_leaf(self.key.request("center", None)?).await?;
        identity.replace(&self.key, &der, &self.ca)?;
        private_file::replace(&self.path, &der)?;
        self.der = der;
        Ok(())
    }
}
