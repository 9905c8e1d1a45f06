//! CAKE on the uplinks (tc-cake(8)), by rtnetlink.
//!
//! Its handle is the mark: a queue under another one is somebody else's. Everything but the rate is CAKE's default, and
//! hosts behind NAT count as themselves, not as the box.

use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use rtnetlink::packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla,
    NlasIterator,
};
use rtnetlink::{Error, Handle};
use std::collections::BTreeMap;

/// Marks ours.
const OURS: TcHandle = TcHandle { major: 0x7701, minor: 0 };
const KIND: &str = "cake";
/// `TCA_CAKE_BASE_RATE64` and `TCA_CAKE_NAT` of linux/pkt_sched.h.
const BASE_RATE: u16 = 2;
const NAT: u16 = 11;

/// Our queues: octets a second, by link.
pub(super) async fn read(
    handle: &Handle,
    names: &BTreeMap<u32, String>,
) -> Result<BTreeMap<String, u64>, Error> {
    let list: Vec<TcMessage> = Box::pin(handle.qdisc().get().execute()).try_collect().await?;
    let ours = list.iter().filter(|queue| queue.header.handle == OURS);
    let named = ours.filter_map(|queue| {
        let link = names.get(&u32::try_from(queue.header.index).ok()?)?;
        Some((link.clone(), rate(queue)?))
    });
    Ok(named.collect())
}

fn rate(queue: &TcMessage) -> Option<u64> {
    let options = queue.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    // The options of a queue that the crate does not know come as one, in the kernel's octets.
    let Some(TcOption::Other(all)) = options.first() else { return None };
    let mut octets = vec![0; all.value_len()];
    all.emit_value(&mut octets);
    let mut each = NlasIterator::new(&octets[..]).flatten();
    each.find(|one| one.kind() == BASE_RATE)?.value().try_into().ok().map(u64::from_ne_bytes)
}

/// Puts one in the place of whatever queue the link has.
pub(super) async fn set(handle: &Handle, link: u32, octets_per_s: u64) -> Result<(), Error> {
    let options = vec![
        TcOption::Other(DefaultNla::new(BASE_RATE, octets_per_s.to_ne_bytes().to_vec())),
        TcOption::Other(DefaultNla::new(NAT, 1_u32.to_ne_bytes().to_vec())),
    ];
    let mut message = message(link);
    message.attributes = vec![TcAttribute::Kind(KIND.to_owned()), TcAttribute::Options(options)];
    request(handle, RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE).await
}

/// Removes ours; the kernel puts its default in the place.
pub(super) async fn remove(handle: &Handle, link: u32) -> Result<(), Error> {
    request(handle, RouteNetlinkMessage::DelQueueDiscipline(message(link)), 0).await
}

fn message(link: u32) -> TcMessage {
    let mut message = TcMessage::default();
    // The kernel counts links from 1 in an int.
    message.header.index = link as i32;
    message.header.parent = TcHandle::ROOT;
    message.header.handle = OURS;
    message
}

async fn request(handle: &Handle, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}
