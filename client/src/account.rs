//! Keeps in touch with the center while the client is up: the profile now and then, the certificates in time.
//!
//! An edge that does not answer is a reason to ask at once, since the center may say why. The tunnel never
//! waits for any of this; a center that is away changes nothing in it.

use crate::backoff::{Backoff, random};
use crate::center::{Center, CenterError, Connection};
use crate::enrol::{self, EnrolError};
use crate::identity::{self, Identity, Keys, renewal_time};
use crate::state::StateDir;
use edge_tunnel::Introduction;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};
use verona_contract::api::ClientProfile;
use verona_contract::problem::kind;

/// Between two looks at the profile when all is well: how late a changed endpoint or route is noticed.
const INTERVAL: Duration = Duration::from_secs(300);
/// The same while the client is disabled: how late "enabled again" is noticed.
const DISABLED_INTERVAL: Duration = Duration::from_secs(15);
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(300));
/// Between two questions, whatever the reason.
const SHORTEST: Duration = Duration::from_secs(10);

/// HTTP's word for it.
const FORBIDDEN: u16 = 403;

/// What the center said.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// The profile, changed or not.
    Profile(ClientProfile),
    /// New certificates, already stored, and the profile that came with them.
    Renewed(Identity, ClientProfile),
    /// A fresh binding of our key, and the certificates to go with it.
    Bound(Introduction),
    /// The client may not connect; for a person.
    Disabled(String),
    /// Nothing could be had; for a person.
    Failed(String),
}

/// The task's view of the world.
pub(crate) struct Account {
    pub(crate) state: StateDir,
    pub(crate) identity: Identity,
    pub(crate) keys: Keys,
    /// SO_MARK of its connections.
    pub(crate) mark: u32,
}

impl Account {
    /// Asks at once, then again and again until the receiver of `news` is gone. `hurry` makes it ask soon.
    pub(crate) async fn run(mut self, news: mpsc::Sender<News>, hurry: Arc<Notify>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let asked = Instant::now();
            let (said, wait) = match self.ask().await {
                Ok(said) => {
                    backoff.reset();
                    (said, spread(INTERVAL))
                }
                Err(error) => match refusal(&error) {
                    Some(text) => (News::Disabled(text), spread(DISABLED_INTERVAL)),
                    None => (News::Failed(self.explain(&error)), backoff.wait(random())),
                },
            };
            if news.send(said).await.is_err() {
                return;
            }
            // At the end of the wait, or when somebody is in a hurry.
            let _ = timeout_at(asked + wait, hurry.notified()).await;
            sleep_until(asked + SHORTEST.min(wait)).await;
        }
    }

    /// Renews when the time has come, else asks for the profile.
    async fn ask(&mut self) -> Result<News, EnrolError> {
        let mut connection =
            Center::identified(&self.identity, &self.keys)?.marked(self.mark).connect().await?;
        if SystemTime::now() < renewal_time(self.identity.validity()) {
            return Ok(News::Profile(self.profile(&mut connection).await?));
        }
        self.identity = enrol::renew(&self.state, &self.identity, &self.keys, &mut connection).await?;
        Ok(News::Renewed(self.identity.clone(), identity::load_profile(&self.state)?))
    }

    async fn profile(&self, connection: &mut Connection) -> Result<ClientProfile, EnrolError> {
        let profile = enrol::profile(connection).await?;
        if identity::load_profile(&self.state).ok().as_ref() != Some(&profile) {
            identity::store_profile(&self.state, &profile)?;
        }
        Ok(profile)
    }

    fn explain(&self, error: &EnrolError) -> String {
        let (_, end) = self.identity.validity();
        if SystemTime::now() > end {
            return "the certificates have ended: ask for a new enrolment code".to_owned();
        }
        chain(error)
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What a person should know when the center says that we may not; `None` for every other failure.
fn refusal(error: &EnrolError) -> Option<String> {
    let EnrolError::Center(CenterError::Refused(problem)) = error else { return None };
    match problem.kind.as_str() {
        kind::CLIENT_DISABLED => Some("disabled by the administrator".to_owned()),
        kind::CLIENT_REVOKED => {
            Some("revoked by the administrator: a new enrolment code is needed".to_owned())
        }
        _ => (problem.status == FORBIDDEN).then(|| error.to_string()),
    }
}

/// Up to a tenth less, so that clients do not ask in step.
fn spread(interval: Duration) -> Duration {
    interval - interval.mul_f64(0.1 * f64::from(random()) / f64::from(u32::MAX))
}
