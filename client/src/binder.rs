//! Keeps a binding of our WireGuard key fresh while the client is up.
//!
//! A binding lives for a day; it is renewed at half of that, and looked at each minute by the wall clock, which
//! also runs while the machine sleeps. A token that does not sign is asked again, and said to the user.

use crate::account::{News, chain};
use crate::imported::{ImportError, Imported};
use crate::state::StateDir;
use edge_tunnel::{Introduction, PublicKey};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use verona_contract::binding::MAX_LIFE_S;

/// How far before now a binding begins: an edge's clock may be behind by this much, in seconds.
const SKEW_S: i64 = 300;

/// From one look at the clock to the next.
const LOOK: Duration = Duration::from_secs(60);

/// Makes bindings.
#[derive(Clone)]
pub(crate) struct Binder {
    pub(crate) state: StateDir,
    pub(crate) imported: Imported,
    /// The bound WireGuard key.
    pub(crate) key: PublicKey,
}

/// When a binding was made, and until when it holds, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    from: i64,
    to: i64,
}

impl Life {
    /// A binding made at `now`.
    pub(crate) fn at(now: i64) -> Self {
        let from = now.saturating_sub(SKEW_S).max(0);
        Self { from, to: from.saturating_add_unsigned(MAX_LIFE_S) }
    }

    /// Whether another one is due: half of it is over, or the clock was set back before its begin.
    pub(crate) const fn is_over(self, now: i64) -> bool {
        now < self.from || now >= self.from + (self.to - self.from) / 2
    }
}

impl Binder {
    /// A fresh binding. The key may be behind a slow token: not on the loop's thread.
    pub(crate) async fn bind(&self) -> Result<(Introduction, Life), ImportError> {
        let binder = self.clone();
        let life = Life::at(now_s());
        let signing = tokio::task::spawn_blocking(move || {
            binder.imported.introduction(&binder.state, binder.key, (life.from, life.to))
        });
        match signing.await {
            Ok(signed) => Ok((signed?, life)),
            Err(_) => Err(ImportError::Signing),
        }
    }

    /// Renews until the receiver of `news` is gone.
    pub(crate) async fn run(self, mut life: Life, news: mpsc::Sender<News>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if !life.is_over(now_s()) {
                continue;
            }
            let said = match self.bind().await {
                Ok((introduction, renewed)) => {
                    life = renewed;
                    News::Bound(introduction)
                }
                Err(error) => News::Failed(format!("the binding is not renewed: {}", chain(&error))),
            };
            if news.send(said).await.is_err() {
                return;
            }
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_at_half_its_life_and_when_the_clock_was_set_back() {
        let life = Life::at(1_800_000_000);
        assert_eq!(life.to - life.from, 86_400, "as long as an edge takes it");
        let begin = 1_800_000_000 - 300;
        for (now, over) in [
            (begin - 1, true),
            (begin, false),
            (begin + 43_199, false),
            (begin + 43_200, true),
            (begin + 90_000, true),
        ] {
            assert_eq!(life.is_over(now), over, "{now}");
        }
    }
}
