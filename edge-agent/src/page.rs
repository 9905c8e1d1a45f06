//! Serves the technician's page on the local side: HTTP/1.1, reading only, never on an uplink.
//!
//! Each listener is bound to one bridge, so that a packet that came in elsewhere never reaches it whatever the firewall
//! says. Connections are few, short, and few from one host. What the page says is `edge_agent_core::page`.

use crate::agent::Agent;
use edge_agent_core::page::{STYLE, language, render};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Connections of one local network at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// And of one host.
const OF_A_HOST: usize = 6;

/// For the head of a request, and for a whole connection: whoever needs longer does not read a page.
const HEAD: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(20);

/// Octets of a request's head.
const MOST: usize = 16 * 1024;

/// How long one look at the box serves all who ask.
const FRESH: Duration = Duration::from_secs(1);

/// How often it is looked which local networks want the page.
const LOOK: Duration = Duration::from_secs(2);

/// Browsers load nothing from elsewhere, run nothing, and show the page in no other.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves the page wherever the configuration wants it, for ever.
pub(crate) async fn follow(agent: Arc<Agent>) {
    let mut served: BTreeMap<String, (u16, Serving)> = BTreeMap::new();
    let mut failed: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let wanted = agent.page_wanted();
        served.retain(|bridge, (port, serving)| {
            wanted.get(bridge).copied() == Some(*port) && !serving.0.is_finished()
        });
        for (bridge, port) in wanted {
            if served.contains_key(&bridge) {
                continue;
            }
            match listen(&bridge, port) {
                Ok(listener) => {
                    tracing::info!(bridge, port, "page");
                    failed.remove(&bridge);
                    let serving = Serving(tokio::spawn(serve(listener, agent.clone())));
                    served.insert(bridge, (port, serving));
                }
                Err(error) => {
                    // The bridge may not be there yet: said once.
                    let why = error.to_string();
                    if failed.get(&bridge) != Some(&why) {
                        tracing::warn!(bridge, port, why, "page");
                        failed.insert(bridge, why);
                    }
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A listener that ends with this value.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens to what arrives on `bridge`, in both families.
fn listen(bridge: &str, port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM.nonblocking(), None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(bridge.as_bytes()))?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

async fn serve(listener: TcpListener, agent: Arc<Agent>) {
    let site = Arc::new(Site { agent, looked: tokio::sync::Mutex::default(), hosts: Mutex::default() });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors: the others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One host alone does not keep the others out: what it has too many of is closed.
        let Some(guest) = Guest::enter(&site, from.ip().to_canonical()) else { continue };
        tokio::spawn(async move {
            converse(stream, &guest.site).await;
            drop((guest, place));
        });
    }
}

async fn converse(stream: TcpStream, site: &Arc<Site>) {
    let answer = service_fn(|request| answer(site, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MOST)
        .serve_connection(TokioIo::new(stream), answer);
    // The reader's business: it went away, or sent something else.
    let _ = timeout(WHOLE, connection).await;
}

/// What the connections of one local network share.
struct Site {
    agent: Arc<Agent>,
    looked: tokio::sync::Mutex<Option<(Instant, Arc<edge_agent_core::page::Facts>)>>,
    hosts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place among those of its host.
struct Guest {
    site: Arc<Site>,
    host: IpAddr,
}

impl Guest {
    fn enter(site: &Arc<Site>, host: IpAddr) -> Option<Self> {
        let mut hosts = site.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = hosts.entry(host).or_default();
        if *count >= OF_A_HOST {
            return None;
        }
        *count += 1;
        Some(Self { site: site.clone(), host })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut hosts = self.site.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

async fn answer(site: &Site, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let field = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (status, kind, body) = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new())
    } else if !field(header::HOST).is_some_and(is_address) {
        // A name of somebody else's that leads here (DNS rebinding): no page of his reads this one.
        (StatusCode::MISDIRECTED_REQUEST, PLAIN, "use the address of this box\n".to_owned())
    } else {
        match request.uri().path() {
            "/" => {
                let language = language(request.uri().query(), field(header::ACCEPT_LANGUAGE));
                let facts = site.facts().await;
                (StatusCode::OK, "text/html; charset=utf-8", render(&facts, language))
            }
            "/style.css" => (StatusCode::OK, "text/css; charset=utf-8", STYLE.to_owned()),
            _ => (StatusCode::NOT_FOUND, PLAIN, "there is nothing here\n".to_owned()),
        }
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

const PLAIN: &str = "text/plain; charset=utf-8";

impl Site {
    /// Many may ask at once; the data plane is asked once.
    async fn facts(&self) -> Arc<edge_agent_core::page::Facts> {
        let mut looked = self.looked.lock().await;
        match &*looked {
            Some((at, facts)) if at.elapsed() < FRESH => facts.clone(),
            _ => {
                let facts = Arc::new(self.agent.page_facts().await);
                *looked = Some((Instant::now(), facts.clone()));
                facts
            }
        }
    }
}

/// Whether `host`, with or without a port, is an address and no name.
fn is_address(host: &str) -> bool {
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(inside, _)| inside),
        None => Some(host.rsplit_once(':').map_or(host, |(host, _)| host)),
    };
    without_port.is_some_and(|host| host.split('%').next().unwrap_or(host).parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_this_box() {
        for good in ["192.168.77.1", "192.168.77.1:80", "[fd00::1]", "[fd00::1]:80", "[fe80::1%25eth0]:80"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:80",
            "localhost",
            "[evil",
            "1.2.3",
            "192.168.77.1.evil.example",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
