//! The data plane as a value: an interface, its thread, its local sockets.
//!
//! [`Device::start`] brings everything up or nothing; from then on a [`DeviceHandle`] configures and
//! asks. The interface exists as long as the device. Addresses, routes and "up" are left to the caller
//! (rtnetlink, `ip`, `wg-quick`): the device follows what the kernel says.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use edge_tunnel_core::Engine;
use verona_contract::control::{Event, Status};

use crate::commands::{self, Commands, Stopped};
use crate::control;
use crate::data_plane::{DataPlane, Ends, StopReason, read_clocks};
use crate::link_statistics;
use crate::local_socket::{self, LocalListener, LocalSocketError};
use crate::offloads::{Offloads, Switches, self_test};
use crate::stop::Stop;
use crate::sys::memory;
use crate::transaction::{ConfigureError, Snapshot, Transaction};
use crate::tun::{InterfaceName, Queues, TunError};
use crate::uapi;

/// MTU of a new interface, octets: 1500 less the outer IPv6 and UDP headers and WireGuard's own 32,
/// as every WireGuard has it.
pub const DEFAULT_MTU: u16 = 1420;

/// Bounds the queues and sockets of one interface.
const MAX_WORKERS: usize = 16;

/// What to start.
#[derive(Debug)]
pub struct DeviceConfig {
    /// The TUN interface.
    pub interface: Interface,
    /// The UAPI socket that `wg` uses; `None` for none.
    pub uapi: Option<UapiSocket>,
    /// Path of the control socket ([`verona_contract::control`]); `None` for none.
    pub control: Option<PathBuf>,
    /// Threads that move packets, 1 to 16. More than there are cores gain nothing; one is enough for one peer,
    /// whose packets are opened and sealed in order, so by one core at a time.
    pub workers: usize,
    /// The offloads that are not to be used. Default: none, so what the kernel can do is used.
    pub without: Switches,
    /// Whether the service class (DSCP) of packets is copied to their datagrams. Default: not, since it tells
    /// an observer what kind of traffic flows; lines that schedule by it want it.
    pub copy_dscp: bool,
}

impl DeviceConfig {
    /// A new interface with the default MTU, one worker and nothing but the calls of [`DeviceHandle`] to
    /// configure it: what a program wants that uses the data plane as a library.
    #[must_use]
    pub fn new(name: InterfaceName) -> Self {
        Self {
            interface: Interface::Create { name, mtu: DEFAULT_MTU },
            uapi: None,
            control: None,
            workers: 1,
            without: Switches::default(),
            copy_dscp: false,
        }
    }
}

/// Where the TUN interface comes from.
#[derive(Debug)]
pub enum Interface {
    /// Made in the network namespace of the calling thread. The sockets stay in that namespace.
    Create {
        /// Its name; the kernel fills in a `%d`.
        name: InterfaceName,
        /// Octets of the largest inner packet. Too large costs fragments or loss on the outer path.
        mtu: u16,
    },
    /// A TUN descriptor from elsewhere, opened with `IFF_TUN | IFF_NO_PI`.
    Inherited(OwnedFd),
}

/// Where the UAPI socket comes from.
#[derive(Debug)]
pub enum UapiSocket {
    /// Bound to `/var/run/wireguard/<interface>.sock`.
    Bind,
    /// A socket from elsewhere that is bound to that path and listens.
    Inherited(OwnedFd),
}

/// Why a device did not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No interface.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// No UAPI or control socket.
    #[error(transparent)]
    LocalSocket(#[from] LocalSocketError),
    /// Threads, events or entropy could not be had.
    #[error("{doing} failed")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// An interface and its sockets without a thread yet: all that needs rights is done, so a process may give them up
/// between this and [`Self::run`]. Dropping it undoes everything.
#[derive(Debug)]
pub struct OpenDevice {
    queues: Queues,
    uapi: Option<LocalListener>,
    control: Option<LocalListener>,
    workers: usize,
    copy_dscp: bool,
}

impl OpenDevice {
    /// Creates the interface, then the sockets.
    ///
    /// # Errors
    ///
    /// The first step that failed; everything before it is undone.
    pub fn open(config: DeviceConfig) -> Result<Self, StartError> {
        // Before the self-test, from whose packets glibc would learn to take the buffers of 16 MB from an arena and to
        // clear them, instead of a mapping that costs nothing until it is used.
        memory::keep_little();
        let offloads = Arc::new(Offloads::new(config.without));
        self_test::run(&offloads);
        let workers = config.workers.clamp(1, MAX_WORKERS);
        let queues = match config.interface {
            Interface::Create { name, mtu } => Queues::create(&name, mtu, workers, &offloads)?,
            Interface::Inherited(fd) => Queues::from_fd(fd, &offloads)?,
        };
        tracing::info!("offloads: {offloads}");
        let uapi_path = uapi::socket_path(queues.first.name());
        let uapi = match config.uapi {
            Some(UapiSocket::Bind) => Some(LocalListener::bind(&uapi_path)?),
            Some(UapiSocket::Inherited(fd)) => Some(LocalListener::from_fd(fd, &uapi_path)),
            None => None,
        };
        let control = config.control.as_deref().map(LocalListener::bind).transpose()?;
        Ok(Self { queues, uapi, control, workers, copy_dscp: config.copy_dscp })
    }

    /// The paths of its sockets.
    pub fn socket_paths(&self) -> impl Iterator<Item = &Path> {
        self.uapi.iter().chain(&self.control).map(LocalListener::path)
    }

    /// Gives the sockets to a user. Its group may connect to the control socket.
    ///
    /// # Errors
    ///
    /// The first file that cannot be given.
    pub fn give_sockets_to(&self, uid: u32, gid: u32) -> Result<(), LocalSocketError> {
        self.uapi.iter().try_for_each(|listener| listener.give_to(uid, gid, 0o600))?;
        self.control.iter().try_for_each(|listener| listener.give_to(uid, gid, 0o660))
    }

    /// Starts the threads. When this returns, `wg` works.
    ///
    /// # Errors
    ///
    /// A thread, an event or entropy could not be had; nothing is left behind.
    pub fn run(self) -> Result<Device, StartError> {
        let Self { queues, uapi, control, workers, copy_dscp } = self;
        let name = queues.first.name().clone();
        let stop = Stop::new().map_err(system("creating an eventfd"))?;
        let (commands, inbox) = commands::channel().map_err(system("creating an eventfd"))?;
        let now = read_clocks();
        let mut engine = Engine::with_shards(workers, entropy()?, now);
        engine.set_copy_dscp(copy_dscp);
        let seed = entropy()?.first_chunk().map_or(0, |octets| u64::from_ne_bytes(*octets));
        let ends = Ends { workers, queues, seed };
        let data_plane = DataPlane::new(ends, engine, inbox, now).map_err(system("starting the workers"))?;
        let mut device = Device {
            handle: DeviceHandle { commands, name },
            stop: stop.clone(),
            data_plane: None,
            servers: Vec::new(),
        };
        let run = move || {
            let reason = data_plane.run();
            stop.set();
            reason
        };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(run);
        device.data_plane = Some(thread.map_err(system("starting the engine's thread"))?);
        device.serve(uapi, control).map_err(system("starting a socket thread"))?;
        Ok(device)
    }
}

/// A running data plane. Dropping it stops it and deletes the interface.
#[derive(Debug)]
pub struct Device {
    handle: DeviceHandle,
    stop: Stop,
    data_plane: Option<JoinHandle<StopReason>>,
    servers: Vec<JoinHandle<()>>,
}

impl Device {
    /// Creates the interface, then the sockets, then the threads. When this returns, `wg` works.
    ///
    /// The device's threads inherit the caller's network namespace and signal mask.
    ///
    /// # Errors
    ///
    /// The first step that failed; everything before it is undone.
    pub fn start(config: DeviceConfig) -> Result<Self, StartError> {
        OpenDevice::open(config)?.run()
    }

    fn serve(&mut self, uapi: Option<LocalListener>, control: Option<LocalListener>) -> io::Result<()> {
        if let Some(listener) = uapi {
            let handle = self.handle.clone();
            let answer = move |stream| uapi::handle(&stream, &handle);
            self.servers.push(local_socket::serve(listener, uapi::LIMITS, self.stop.clone(), answer)?);
        }
        if let Some(listener) = control {
            let service = control::Service::new(self.handle.clone());
            let answer = move |stream| service.handle(&stream);
            self.servers.push(local_socket::serve(listener, control::LIMITS, self.stop.clone(), answer)?);
        }
        Ok(())
    }

    /// What other threads use to configure and ask.
    #[must_use]
    pub fn handle(&self) -> &DeviceHandle {
        &self.handle
    }

    /// Stops the data plane: the interface and the sockets are gone when this returns.
    #[must_use]
    pub fn shutdown(mut self) -> StopReason {
        self.handle.request_stop();
        self.join()
    }

    /// Waits until the device stops: because the interface was deleted, or by
    /// [`DeviceHandle::request_stop`].
    #[must_use]
    pub fn wait(mut self) -> StopReason {
        self.join()
    }

    fn join(&mut self) -> StopReason {
        let panicked = || StopReason::Failed(io::Error::other("the engine's thread panicked"));
        let joined = self.data_plane.take().map(JoinHandle::join);
        // The thread sets it too, unless it panicked or never started.
        self.stop.set();
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
        joined.map_or(StopReason::Requested, |result| result.unwrap_or_else(|_| panicked()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.data_plane.is_some() {
            self.handle.request_stop();
            let _ = self.join();
        }
    }
}

/// Configures and asks a running [`Device`]. Cheap to clone; each call goes to the data-plane thread
/// and waits for one batch of packets at most.
#[derive(Clone, Debug)]
pub struct DeviceHandle {
    commands: Commands,
    name: InterfaceName,
}

impl DeviceHandle {
    /// The interface's name when it was created.
    #[must_use]
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Applies a change of keys, peers, port or mark: all of it or nothing. A
    /// [`DeviceUpdate`](edge_tunnel_core::DeviceUpdate) alone may be given. When this returns, no packet of a peer
    /// that was removed comes any more.
    ///
    /// # Errors
    ///
    /// What cannot be; the configuration is then as before.
    pub fn configure(&self, transaction: impl Into<Transaction>) -> Result<(), ConfigureError> {
        let transaction = transaction.into();
        let passage = self.commands.run(move |data_plane| data_plane.configure(transaction))??;
        Ok(passage.wait()?)
    }

    /// The state of keys, peers, port and mark. Holds secrets.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the device is gone.
    pub fn snapshot(&self) -> Result<Snapshot, Stopped> {
        self.commands.run(DataPlane::snapshot)
    }

    /// The state of the tunnel as a whole, with its counters. Holds no secrets.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the device is gone.
    pub fn status(&self) -> Result<Status, Stopped> {
        let name = self.name.to_string();
        let mut status = self.commands.run(move |data_plane| data_plane.status(name))?;
        // Asked here, not in the data plane's thread. None: the interface was moved.
        if let Ok(Some(drops)) = link_statistics::queue_drops(&self.name) {
            status.counters.totals.insert("tun_dropped".to_owned(), drops);
        }
        Ok(status)
    }

    /// Events from now on. `None` when there are too many subscribers.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the device is gone.
    pub fn subscribe(&self) -> Result<Option<Events>, Stopped> {
        Ok(self.commands.run(|data_plane| data_plane.subscribers.add())?.map(Events))
    }

    /// Asks the data plane to end and does not wait for it.
    pub fn request_stop(&self) {
        // An error means that it has ended already.
        let _ = self.commands.run(DataPlane::request_stop);
    }

    /// Runs `job` in the data-plane thread; it must not block.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut DataPlane) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.commands.run(job)
    }
}

/// A subscription. Bounded: what is not read in time is dropped.
#[derive(Debug)]
pub struct Events(Receiver<Event>);

impl Events {
    /// The next event; `Ok(None)` when there was none within `timeout`.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the device is gone.
    pub fn next(&self, timeout: Duration) -> Result<Option<Event>, Stopped> {
        match self.0.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Stopped),
        }
    }
}

fn entropy() -> Result<[u8; 32], StartError> {
    let mut octets = [0; 32];
    aws_lc_rs::rand::fill(&mut octets)
        .map_err(|_| system("reading entropy")(io::Error::other("the random number generator failed")))?;
    Ok(octets)
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { doing, source }
}
