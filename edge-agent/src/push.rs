//! Pushes the spool to the center: OTLP/HTTP, protobuf, gzip. A record is deleted after a 2xx, so it may
//! arrive twice and never gets lost; the center knows it by edge, stream and number.

use crate::center::{Caller, chain};
use crate::https::Request;
use crate::spool::Spool;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header;
use prost::Message as _;
use std::io::Write as _;
use std::time::Duration;
use uuid::Uuid;
use verona_contract::api::LOGS;
use verona_contract::log::{Record, Stream};
use verona_contract::otlp::{MAX_RECORDS, MAX_REQUEST, to_request};

/// Records that come within this time travel together.
const GATHER: Duration = Duration::from_millis(200);

/// Most octets of texts in one request: a quarter of what the center takes, for the rest of the encoding.
const MAX_TEXT: usize = MAX_REQUEST / 4;

/// Pushes for ever, what matters most first.
pub async fn run(spool: Spool, edge: Uuid, mut caller: Caller) {
    let mut written = spool.written();
    loop {
        written.borrow_and_update();
        let mut idle = true;
        for stream in Stream::ALL.into_iter().rev() {
            match push_stream(&spool, edge, stream, &mut caller).await {
                Ok(pushed) => idle &= !pushed,
                Err(delay) => {
                    idle = false;
                    tokio::time::sleep(delay).await;
                }
            }
        }
        if idle && written.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// One segment's worth of one stream. Returns whether there was any, or how long to wait after a failure.
async fn push_stream(
    spool: &Spool,
    edge: Uuid,
    stream: Stream,
    caller: &mut Caller,
) -> Result<bool, Duration> {
    let reader = spool.clone();
    let records = blocking(move || reader.unsent(stream)).await.map_err(|()| caller.delay(None))?;
    for batch in batches(&records) {
        let Some(last) = batch.last().map(|record| record.seq) else { continue };
        let mut request =
            Request::post(LOGS, "application/x-protobuf", compress(&to_request(edge, batch).encode_to_vec()));
        request.headers.push((header::CONTENT_ENCODING, "gzip".to_owned()));
        if let Err(failure) = caller.call(request).await {
            tracing::debug!(stream = stream.as_str(), error = chain(&failure.error), "log push");
            return Err(failure.delay);
        }
        let writer = spool.clone();
        blocking(move || writer.sent(stream, last)).await.map_err(|()| caller.delay(None))?;
    }
    Ok(!records.is_empty())
}

/// Parts that the center takes in one request.
fn batches(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut text = 0;
        let fits = |record: &&Record| {
            let attributes = record.attributes.iter().map(|(key, value)| key.len() + value.len());
            // 400 octets cover what a record has besides texts.
            text += record.body.len() + record.event.len() + attributes.sum::<usize>() + 400;
            text <= MAX_TEXT
        };
        // One record alone always fits.
        let count = rest.iter().take(MAX_RECORDS).take_while(fits).count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

fn compress(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, ()> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(error = chain(&error), "log spool");
            Err(())
        }
        Err(error) => {
            tracing::error!(%error, "log spool");
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_agent_core::journal::Draft;
    use edge_agent_core::spool::chain::{Head, Stamp};

    #[test]
    fn batches_keep_order_and_limits() {
        let (edge, boot) = (Uuid::nil(), Uuid::nil());
        let stamp = Stamp { edge, boot, time_ns: 0, monotonic_ns: 0, clock_synced: true };
        let mut head = Head::GENESIS;
        let body = "x".repeat(8000);
        let mut make = || head.append(Draft::new(Stream::Flow, "e", body.clone()), &stamp);
        let records: Vec<Record> = (0..1200).map(|_| make()).collect();
        let parts: Vec<&[Record]> = batches(&records).collect();
        assert!(parts.len() > 1);
        assert_eq!(parts.concat(), records);
        for part in parts {
            assert!(to_request(edge, part).encode_to_vec().len() <= MAX_REQUEST);
        }
        assert_eq!(batches(&[]).count(), 0);
    }
}
