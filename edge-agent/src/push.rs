//! Pushes the spool to the center: OTLP/HTTP, protobuf, gzip. A record is deleted after a 2xx, so it may
//! arrive twice and never gets lost; the center knows it by edge, stream and number. One that the center refuses
//! for its content is found by halving and set aside, so that it does not stand before all others.

use crate::center::{Caller, chain};
use crate::https::Request;
use crate::spool::Spool;
use edge_agent_core::journal::{Draft, quote};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header;
use prost::Message as _;
use std::io::Write as _;
use std::time::Duration;
use uuid::Uuid;
use verona_contract::api::LOGS;
use verona_contract::log::{REFUSED, Record, Severity, Stream};
use verona_contract::otlp::{ExportLogsServiceResponse, MAX_RECORDS, MAX_REQUEST, to_request};

/// Records that come within this time travel together.
const GATHER: Duration = Duration::from_millis(200);

/// Most octets of texts in one request: a quarter of what the center takes, for the rest of the encoding.
const MAX_TEXT: usize = MAX_REQUEST / 4;

/// Pushes for ever, what matters most first.
pub async fn run(spool: Spool, edge: Uuid, mut caller: Caller) {
    let mut written = spool.written();
    let mut ahead: [Ahead; 4] = Default::default();
    loop {
        written.borrow_and_update();
        let mut idle = true;
        for stream in Stream::ALL.into_iter().rev() {
            match push_stream(&spool, edge, stream, &mut caller, &mut ahead[stream as usize]).await {
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

/// What was sent of a stream while older records wait. After a restart it is forgotten: the center knows what it has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ahead(Option<(u64, u64)>);

impl Ahead {
    fn has(&self, seq: u64) -> bool {
        self.0.is_some_and(|(from, to)| (from..=to).contains(&seq))
    }

    /// Notes that `from` to `to` were sent. What does not follow on begins anew.
    fn note(&mut self, from: u64, to: u64) {
        self.0 = match self.0 {
            Some((first, last)) if from <= last + 1 && to >= last => Some((first, to)),
            _ => Some((from, to)),
        };
    }
}

/// What happens now, while older records wait: after weeks without the center nobody wants to wait for the past.
async fn push_live(
    spool: &Spool,
    edge: Uuid,
    stream: Stream,
    caller: &mut Caller,
    ahead: &mut Ahead,
) -> Result<(), Duration> {
    let reader = spool.clone();
    let mut records = blocking(move || reader.live(stream)).await.map_err(|()| caller.delay(None))?;
    records.retain(|record| !ahead.has(record.seq));
    for part in batches(&records) {
        // What the center refuses is dealt with when its turn comes.
        if offer(edge, part, caller).await? != Verdict::Taken {
            return Ok(());
        }
        if let (Some(first), Some(last)) = (part.first(), part.last()) {
            ahead.note(first.seq, last.seq);
        }
    }
    Ok(())
}

/// One segment's worth of one stream. Returns whether there was any, or how long to wait after a failure.
async fn push_stream(
    spool: &Spool,
    edge: Uuid,
    stream: Stream,
    caller: &mut Caller,
    ahead: &mut Ahead,
) -> Result<bool, Duration> {
    push_live(spool, edge, stream, caller, ahead).await?;
    let reader = spool.clone();
    let mut records = blocking(move || reader.unsent(stream)).await.map_err(|()| caller.delay(None))?;
    let end = records.last().map(|record| record.seq);
    records.retain(|record| !ahead.has(record.seq));
    // The next one is on top.
    let mut parts: Vec<&[Record]> = batches(&records).collect();
    parts.reverse();
    while let Some(part) = parts.pop() {
        let Some(last) = part.last().map(|record| record.seq) else { continue };
        match offer(edge, part, caller).await? {
            Verdict::Taken => caller.useful(),
            Verdict::Refused { reason, all } if all || part.len() == 1 => {
                set_aside(spool, part, &reason).await.map_err(|()| caller.delay(None))?;
                // A center that refuses everything does not empty the spool in a minute.
                tokio::time::sleep(caller.useless()).await;
            }
            // Half of it may pass. What the center has already, it knows.
            Verdict::Refused { .. } => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
                continue;
            }
        }
        let writer = spool.clone();
        blocking(move || writer.sent(stream, last)).await.map_err(|()| caller.delay(None))?;
    }
    // The rest went ahead.
    if let Some(end) = end.filter(|end| ahead.has(*end)) {
        let writer = spool.clone();
        blocking(move || writer.sent(stream, end)).await.map_err(|()| caller.delay(None))?;
    }
    Ok(end.is_some())
}

/// What the center says to records.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It has them.
    Taken,
    /// It will not have some of them, however often they are sent.
    Refused {
        /// In one line.
        reason: String,
        /// Whether it is known to be all of them.
        all: bool,
    },
}

/// Sends `records` in one request.
async fn offer(edge: Uuid, records: &[Record], caller: &mut Caller) -> Result<Verdict, Duration> {
    let body = compress(&to_request(edge, records).encode_to_vec());
    let mut request = Request::post(LOGS, "application/x-protobuf", body);
    request.headers.push((header::CONTENT_ENCODING, "gzip".to_owned()));
    let failure = match caller.call(request).await {
        Ok(answer) => return Ok(judge(&answer.body, records.len())),
        Err(failure) => failure,
    };
    if let Some(reason) = failure.error.about_content() {
        return Ok(Verdict::Refused { reason: reason.to_owned(), all: false });
    }
    tracing::debug!(error = chain(&failure.error), "log push");
    Err(failure.delay)
}

/// Reads a 2xx answer to `count` records: it may be a partial success, whose rejected records must not be sent
/// again as they are (OTLP/HTTP, partial success).
fn judge(body: &[u8], count: usize) -> Verdict {
    let partial = match ExportLogsServiceResponse::decode(body) {
        Ok(ExportLogsServiceResponse { partial_success: Some(partial) }) => partial,
        // Whatever the body says, the status says that they were taken.
        _ => return Verdict::Taken,
    };
    // A message without rejected records is a warning.
    match usize::try_from(partial.rejected_log_records) {
        Ok(rejected @ 1..) => {
            Verdict::Refused { reason: quote(&partial.error_message), all: rejected >= count }
        }
        _ => Verdict::Taken,
    }
}

/// Keeps refused records beside the spool and says so in their stream, where the center sees the gap.
async fn set_aside(spool: &Spool, records: &[Record], reason: &str) -> Result<(), ()> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
    let (stream, from, to) = (first.stream, first.seq, last.seq);
    tracing::error!(stream = stream.as_str(), from, to, reason, "the center refuses log records");
    let (keeper, kept, why) = (spool.clone(), records.to_vec(), reason.to_owned());
    blocking(move || keeper.set_aside(&kept, &why)).await?;
    // A note that is refused itself is not noted: that would never end.
    if records.iter().all(|record| record.event == REFUSED) {
        return Ok(());
    }
    let note = Draft::new(stream, REFUSED, format!("records {from} to {to} refused by the center: {reason}"))
        .severity(Severity::Error)
        .with("from", from)
        .with("to", to)
        .with("count", records.len())
        .with("reason", reason);
    if let Err(error) = spool.append(note).await {
        tracing::error!(%error, "log");
    }
    Ok(())
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
    use edge_agent_core::spool::chain::{Head, Stamp};
    use verona_contract::otlp::ExportLogsPartialSuccess;

    #[test]
    fn partial_success_is_read() {
        let answer = |rejected, message: &str| {
            let partial = ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: message.to_owned(),
            };
            ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let refused = |reason: &str, all| Verdict::Refused { reason: reason.to_owned(), all };
        for (body, verdict) in [
            (vec![], Verdict::Taken),
            (b"garbage".to_vec(), Verdict::Taken),
            (answer(0, "slow down"), Verdict::Taken),
            (answer(-1, "nonsense"), Verdict::Taken),
            (answer(1, "stored\nalready"), refused("stored already", false)),
            (answer(3, "all"), refused("all", true)),
            (answer(i64::MAX, "all"), refused("all", true)),
        ] {
            assert_eq!(judge(&body, 3), verdict);
        }
    }

    #[test]
    fn what_went_ahead_is_one_stretch() {
        let mut ahead = Ahead::default();
        assert!(!ahead.has(1));
        ahead.note(50, 60);
        ahead.note(61, 70);
        assert!(ahead.has(50) && ahead.has(70) && !ahead.has(71) && !ahead.has(49));
        // Numbers in between were never sent: they are not taken for sent.
        ahead.note(80, 90);
        assert!(!ahead.has(75) && !ahead.has(60) && ahead.has(80));
    }

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
