//! The thread that moves packets: one loop over the TUN interface, the UDP sockets and the commands.
//!
//! Each turn takes commands first, then one batch of datagrams per family, one batch of packets and
//! the timers, and then empties the outlet; so no input starves another and a command waits for one
//! batch at most. All decisions about packets are the engine's. The interface's state (up, down,
//! deleted) is followed here: the sockets are open while it is up.

mod jobs;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use edge_tunnel_core::{Engine, Now};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::commands::Inbox;
use crate::events::Subscribers;
use crate::outlet::Outlet;
use crate::sys::ancillary::Witness;
use crate::tun::{self, PacketBatch, Tun};
use crate::udp::{BindError, DatagramBatch, ErrorBatch, Sockets};

/// Commands per turn.
const COMMANDS: usize = 64;

/// How often the interface is asked whether it is still up. That it goes up, or away, is told at once.
const LINK_CHECK: Duration = Duration::from_secs(1);

/// A pause for a TUN descriptor that reports an error and then gives none: it is being deleted.
const TUN_PAUSE: Duration = Duration::from_millis(10);

/// Why the data plane ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The interface was deleted.
    InterfaceDeleted,
    /// [`Device::shutdown`](crate::Device::shutdown) was called.
    Requested,
    /// The kernel failed a call that the data plane cannot do without.
    Failed(io::Error),
}

/// What `epoll` watches. The discriminant is the event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Source {
    Commands = 0,
    Tun = 1,
    V4 = 2,
    V6 = 3,
}

const FAMILIES: [Source; 2] = [Source::V4, Source::V6];

/// What `epoll` reported for this turn.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    commands: bool,
    packets: bool,
    /// Only asked for while the interface is down.
    went_up: bool,
    tun_error: bool,
    datagrams: [bool; 2],
    /// Errors about what was sent wait.
    errors: [bool; 2],
}

/// State of the data-plane thread. Jobs from other threads get it by exclusive reference.
pub(crate) struct DataPlane {
    pub(crate) engine: Engine,
    pub(crate) subscribers: Subscribers,
    outlet: Outlet,
    epoll: Epoll,
    inbox: Inbox,
    /// The port asked for; 0 = any. The one in use is that of the sockets.
    port: u16,
    fwmark: u32,
    up: bool,
    next_link_check: Instant,
    /// Families whose socket is full. While one is, no packets are taken from the interface.
    blocked: [bool; 2],
    /// The last failure to open the sockets, so that it is logged once.
    bind_failure: Option<String>,
    /// Errors read from the sockets (ICMP and the like).
    socket_errors: u64,
    /// Datagrams dropped unopened, because more came than could be opened.
    datagrams_crowded_out: u64,
    /// Keeps the queues' hash from being guessed.
    seed: u64,
    /// Packets of the interface that could not be cut to the path's size.
    pub(super) packets_uncut: u64,
    stop: Option<StopReason>,
}

impl DataPlane {
    /// # Errors
    ///
    /// `epoll` could not be set up.
    pub(crate) fn new(tun: Tun, engine: Engine, inbox: Inbox, now: Now, seed: u64) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&inbox, EpollEvent::new(EpollFlags::EPOLLIN, Source::Commands as u64))?;
        epoll.add(&tun, EpollEvent::new(EpollFlags::EPOLLIN, Source::Tun as u64))?;
        Ok(Self {
            engine,
            subscribers: Subscribers::default(),
            outlet: Outlet::new(tun),
            epoll,
            inbox,
            port: 0,
            fwmark: 0,
            up: false,
            next_link_check: now.mono,
            blocked: [false; 2],
            bind_failure: None,
            socket_errors: 0,
            datagrams_crowded_out: 0,
            seed,
            packets_uncut: 0,
            stop: None,
        })
    }

    /// Runs until the interface is deleted or [`Self::request_stop`] was called.
    pub(crate) fn run(mut self) -> StopReason {
        let mut batches = Batches {
            datagrams: [DatagramBatch::new(self.seed), DatagramBatch::new(self.seed)],
            errors: ErrorBatch::new(),
            packets: PacketBatch::new(),
        };
        // A new interface is down; this also arms the wake-up for when it goes up.
        let mut result = self.follow_link(read_clocks());
        let mut more_commands = false;
        while self.stop.is_none() {
            let turn = result
                .and_then(|()| self.wait(more_commands, &batches))
                .and_then(|ready| self.turn(ready, &mut batches));
            match turn {
                Ok(more) => {
                    more_commands = more;
                    result = Ok(());
                }
                Err(error) if tun::is_gone(&error) => return StopReason::InterfaceDeleted,
                Err(error) => return StopReason::Failed(error),
            }
        }
        self.stop.unwrap_or(StopReason::Requested)
    }

    /// Ends the loop after this turn.
    pub(crate) fn request_stop(&mut self) {
        self.stop = Some(StopReason::Requested);
    }

    /// One turn. Returns whether commands are left over.
    fn turn(&mut self, ready: Ready, batches: &mut Batches) -> io::Result<bool> {
        let more_commands = self.take_commands(ready.commands);
        let now = read_clocks();
        for family in [0, 1] {
            if ready.errors[family] {
                self.take_errors(family, &mut batches.errors);
            }
            if ready.datagrams[family] {
                self.take_datagrams(family, now, &mut batches.datagrams[family]);
            }
        }
        if ready.packets || ready.tun_error {
            self.take_packets(now, &mut batches.packets, ready.tun_error)?;
        }
        if self.engine.poll_timeout().is_some_and(|(deadline, _)| deadline <= now.mono) {
            self.engine.handle_timeout(now, &mut self.outlet);
        }
        self.flush()?;
        while let Some(event) = self.engine.poll_event() {
            self.subscribers.publish(&event);
        }
        if ready.went_up || now.mono >= self.next_link_check {
            self.follow_link(now)?;
        }
        Ok(more_commands)
    }

    /// Waits for input, a deadline, or neither if `more_commands` or datagrams are known to wait.
    fn wait(&self, more_commands: bool, batches: &Batches) -> io::Result<Ready> {
        let mut ready = Ready {
            datagrams: batches.datagrams.each_ref().map(DatagramBatch::has_more),
            ..Ready::default()
        };
        let at_once = more_commands || ready.datagrams.contains(&true);
        let timeout = if at_once { EpollTimeout::ZERO } else { self.timeout(Instant::now()) };
        let mut events = [EpollEvent::empty(); 4];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        for event in &events[..count] {
            let readable = event.events().intersects(EpollFlags::EPOLLIN | broken);
            match event.data() {
                data if data == Source::Commands as u64 => ready.commands = true,
                data if data == Source::Tun as u64 => {
                    ready.packets = event.events().contains(EpollFlags::EPOLLIN);
                    ready.went_up = event.events().contains(EpollFlags::EPOLLOUT);
                    ready.tun_error = event.events().intersects(broken);
                }
                data => {
                    let family = usize::from(data != Source::V4 as u64);
                    ready.datagrams[family] |= readable;
                    ready.errors[family] = event.events().intersects(broken);
                }
            }
        }
        Ok(ready)
    }

    /// Time to the next deadline, rounded up to what `epoll` can count.
    fn timeout(&self, now: Instant) -> EpollTimeout {
        let deadline = match self.engine.poll_timeout() {
            Some((deadline, _)) => deadline.min(self.next_link_check),
            None => self.next_link_check,
        };
        let wait = deadline.saturating_duration_since(now);
        let millis = wait.as_micros().div_ceil(1000);
        // At most LINK_CHECK, so it always fits.
        EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
    }

    fn take_commands(&mut self, woken: bool) -> bool {
        if woken {
            self.inbox.clear_wake_up();
        }
        for _ in 0..COMMANDS {
            let Some(job) = self.inbox.next() else { return false };
            job(self);
        }
        true
    }

    fn take_datagrams(&mut self, family: usize, now: Now, batch: &mut DatagramBatch) {
        let Some(socket) = self.outlet.sockets().and_then(|sockets| sockets.by_family()[family]) else {
            return;
        };
        let dropped = batch.dropped();
        let received = batch.receive(socket, now.mono);
        self.datagrams_crowded_out += batch.dropped() - dropped;
        match received {
            Ok(true) => {
                self.outlet.begin_batch(batch);
                self.engine.handle_datagrams(now, batch.iter(), &mut self.outlet);
            }
            Ok(false) => {}
            // An ICMP error or the like: reading it cleared it, and WireGuard's timers handle loss.
            Err(_) => self.socket_errors += 1,
        }
    }

    /// Tells the engine of datagrams that were too large.
    fn take_errors(&self, family: usize, batch: &mut ErrorBatch) {
        if let Some(socket) = self.outlet.sockets().and_then(|sockets| sockets.by_family()[family]) {
            batch.drain(socket, |report| {
                let quoted = (report.witness == Witness::Router).then_some(report.quoted);
                self.engine.path_too_big(report.to, report.mtu, quoted);
            });
        }
    }

    fn take_packets(&mut self, now: Now, batch: &mut PacketBatch, error_reported: bool) -> io::Result<()> {
        batch.read(self.outlet.tun())?;
        if !batch.is_empty() {
            let (engine, outlet) = (&mut self.engine, &mut self.outlet);
            self.packets_uncut += batch.for_each(|packet| {
                engine.handle_packets(now, std::iter::once(packet), outlet);
            });
        } else if error_reported {
            std::thread::sleep(TUN_PAUSE);
        }
        Ok(())
    }

    /// Empties the outlet. While a socket is full, its room is waited for and the interface is not
    /// read, so that the backlog builds up in its queue, where the kernel's own rules apply.
    fn flush(&mut self) -> io::Result<()> {
        let blocked = self.outlet.flush();
        if blocked != self.blocked {
            self.blocked = blocked;
            self.watch_tun()?;
            for family in [0, 1] {
                self.watch_socket(family)?;
            }
        }
        Ok(())
    }

    /// Opens or closes the sockets when the interface went up or down.
    fn follow_link(&mut self, now: Now) -> io::Result<()> {
        self.next_link_check = now.mono + LINK_CHECK;
        let up = self.outlet.tun().is_up();
        if let Some(mtu) = self.outlet.tun().mtu() {
            self.engine.set_mtu(mtu);
        }
        if up && self.outlet.sockets().is_none() {
            match Sockets::open(self.port, self.fwmark, self.outlet.tun().offloads()) {
                Ok(sockets) => {
                    self.replace_sockets(Some(sockets))?;
                    self.engine.sockets_opened(now);
                }
                Err(error) => self.report_bind_failure(&error),
            }
        } else if !up && self.outlet.sockets().is_some() {
            self.replace_sockets(None)?;
        }
        if up != self.up {
            self.up = up;
            tracing::debug!(up, "interface changed");
        }
        self.watch_tun()
    }

    /// Logged once per cause: it is tried again at each check.
    fn report_bind_failure(&mut self, error: &BindError) {
        let text = format!("{error}: {}", io::Error::from_raw_os_error(error.errno()));
        if self.bind_failure.as_ref() != Some(&text) {
            tracing::error!("{text}; trying again every {} s", LINK_CHECK.as_secs());
            self.bind_failure = Some(text);
        }
    }

    fn replace_sockets(&mut self, sockets: Option<Sockets>) -> io::Result<()> {
        for socket in self.outlet.sockets().into_iter().flat_map(Sockets::by_family).flatten() {
            // Closing removes it too, but a new socket may get the same number before that.
            self.epoll.delete(socket)?;
        }
        // A port that the kernel chose is kept over down and up, as the kernel's WireGuard does.
        self.port = sockets.as_ref().map_or(self.port, Sockets::port);
        self.outlet.set_sockets(sockets);
        self.blocked = [false; 2];
        self.bind_failure = None;
        for (socket, source) in self.outlet.sockets().into_iter().flat_map(Sockets::by_family).zip(FAMILIES) {
            if let Some(socket) = socket {
                self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, source as u64))?;
            }
        }
        Ok(())
    }

    /// While the interface is down, the driver tells by EPOLLOUT that it went up.
    fn watch_tun(&self) -> io::Result<()> {
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, self.blocked == [false; 2]);
        interest.set(EpollFlags::EPOLLOUT, !self.up);
        self.epoll.modify(self.outlet.tun(), &mut EpollEvent::new(interest, Source::Tun as u64))?;
        Ok(())
    }

    fn watch_socket(&self, family: usize) -> io::Result<()> {
        let socket: Option<BorrowedFd<'_>> =
            self.outlet.sockets().and_then(|sockets| sockets.by_family()[family]);
        if let Some(socket) = socket {
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, self.blocked[family]);
            self.epoll.modify(socket, &mut EpollEvent::new(interest, FAMILIES[family] as u64))?;
        }
        Ok(())
    }
}

/// The input buffers of the loop, apart from the state so that both can be borrowed.
struct Batches {
    /// IPv4, IPv6.
    datagrams: [DatagramBatch; 2],
    errors: ErrorBatch,
    packets: PacketBatch,
}

/// Both clocks, read together.
pub(crate) fn read_clocks() -> Now {
    Now { mono: Instant::now(), wall: SystemTime::now() }
}
