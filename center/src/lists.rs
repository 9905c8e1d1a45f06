//! Makes revocation lists and hands them to those who wait: from the wish in the database by way of the
//! signer to the wake-up of every long-poll of that issuer.
//!
//! Nothing here waits for log records or configurations: a revocation has its own path.

use crate::clock;
use crate::db::{Db, DbError, Scope, issuers};
use crate::news::News;
use crate::signer::{Signer, SignerError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use tokio::sync::{Mutex, watch};
use verona_contract::key::KeyId;

/// Why there is no newer list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// A list as it is served.
#[derive(Debug)]
pub(crate) struct Served {
    /// cRLNumber.
    pub(crate) number: u64,
    /// DER.
    pub(crate) der: axum::body::Bytes,
}

/// The newest lists.
pub(crate) struct Lists {
    db: Db,
    signer: Signer,
    news: News<KeyId, Option<Arc<Served>>>,
    making: StdMutex<HashMap<KeyId, Arc<Mutex<()>>>>,
}

impl Lists {
    /// Begins with what is stored.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn load(db: Db, signer: Signer) -> Result<Self, DbError> {
        let news = News::new();
        for list in db.read(|db| issuers::lists(db, Scope::EVERY_OWNER)).await? {
            let served = Served { number: list.number, der: list.der.into() };
            news.publish(list.issuer.key_id, Some(Arc::new(served)));
        }
        Ok(Self { db, signer, news, making: StdMutex::default() })
    }

    /// Watches an issuer's list.
    pub(crate) fn watch(&self, issuer: KeyId) -> watch::Receiver<Option<Arc<Served>>> {
        self.news.watch(issuer)
    }

    /// Sees to it that the list of `issuer` carries wish number `wanted`. Wishes that arrive while a list is
    /// being made are carried by the next one together.
    ///
    /// # Errors
    ///
    /// [`ListError`]; the wish stays in the database and the timer tries again.
    pub(crate) async fn carry(&self, issuer: &KeyId, wanted: i64) -> Result<(), ListError> {
        let turn = self.turn(issuer);
        let _turn = turn.lock().await;
        let id = issuer.clone();
        let (_, made) = self.db.read(move |db| issuers::wishes(db, &id)).await?;
        if made >= wanted {
            return Ok(());
        }
        self.make(issuer).await
    }

    /// Makes every list that is behind its wishes or past half of its life. One that cannot be made holds up
    /// none of the others: they are other owners'.
    ///
    /// # Errors
    ///
    /// [`ListError`] of the first list that could not be made.
    pub(crate) async fn make_due(&self) -> Result<(), ListError> {
        let now_s = clock::now_s();
        let mut result = Ok(());
        for issuer in self.db.read(move |db| issuers::due(db, now_s)).await? {
            let turn = self.turn(&issuer);
            let _turn = turn.lock().await;
            // Somebody else may have made it while this one waited.
            if self.db.read(move |db| issuers::due(db, now_s)).await?.contains(&issuer) {
                result = result.and(self.make(&issuer).await);
            }
        }
        result
    }

    async fn make(&self, issuer: &KeyId) -> Result<(), ListError> {
        let (id, now_s) = (issuer.clone(), clock::now_s());
        let (made, entries) = self.db.read(move |db| issuers::entries(db, &id, now_s)).await?;
        let list = self.signer.crl(issuer.clone(), entries).await?;
        let count = list.entries;
        let served = Served { number: list.number, der: list.der.0.clone().into() };
        let id = issuer.clone();
        self.db.write(move |transaction| issuers::store_list(transaction, &id, made, &list)).await?;
        // Stored first: what an edge has seen is never unsaid by a crash.
        tracing::info!(%issuer, number = served.number, entries = count, "revocation list made");
        self.news.publish(issuer.clone(), Some(Arc::new(served)));
        Ok(())
    }

    fn turn(&self, issuer: &KeyId) -> Arc<Mutex<()>> {
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(making.entry(issuer.clone()).or_default())
    }
}
