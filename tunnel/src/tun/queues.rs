//! The queues of an interface: one for each worker, and which packets go to which.
//!
//! Left to itself the kernel gives a flow to the queue that its reverse direction was last written to, so a flow
//! may change queues while packets of it wait in the old one, and would overtake them. Ours are chosen by the
//! peer that a packet is for ([`Queues::steering`]); where the kernel cannot, one queue has to do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{InterfaceName, OF_TUN, TUN_DEVICE, Tun, TunError};
use crate::offloads::Offloads;
use crate::sys;
use crate::sys::bpf::QueueMap;

/// The queues of one interface, at least one.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) first: Tun,
    pub(crate) others: Vec<Tun>,
    /// The queue of each network, to be kept up to date; none with one queue.
    pub(crate) steering: Option<QueueMap>,
}

impl Queues {
    /// Creates interface `name` in the network namespace of the calling thread, with `mtu` octets, and with
    /// `count` queues, or with one where the kernel cannot give so many or cannot steer packets to them.
    pub(crate) fn create(
        name: &InterfaceName,
        mtu: u16,
        count: usize,
        offloads: &Arc<Offloads>,
    ) -> Result<Self, TunError> {
        let mut several = count > 1;
        let vnet = OF_TUN.iter().any(|&offload| offloads.is_on(offload));
        let mut file = open()?;
        let mut attached = sys::tun::attach(&file, name.as_str(), vnet, several);
        if several && attached.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
            // An interface of this name waits for us, and was made for one queue.
            (several, file) = (false, open()?);
            attached = sys::tun::attach(&file, name.as_str(), vnet, several);
        }
        let chosen = attached.map_err(|source| match source.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => TunError::InUse { name: name.clone() },
            _ => TunError::Create { name: name.clone(), source },
        })?;
        let first = Tun::attached(file, InterfaceName::of_kernel(chosen), vnet, offloads)?;
        first.set_mtu(mtu)?;
        let mut queues = Self { first, others: Vec::new(), steering: None };
        if several && let Err(error) = queues.add(count - 1, vnet) {
            // One that is attached and never read would swallow packets.
            queues.others.clear();
            tracing::warn!("all packets go through one queue: {error}");
        }
        Ok(queues)
    }

    /// Takes over an interface that another process opened, which has one queue for us.
    pub(crate) fn from_fd(fd: OwnedFd, offloads: &Arc<Offloads>) -> Result<Self, TunError> {
        Ok(Self { first: Tun::from_fd(fd, offloads)?, others: Vec::new(), steering: None })
    }

    /// Adds queues, in the order of their numbers in the kernel.
    fn add(&mut self, count: usize, vnet: bool) -> Result<(), Unsteered> {
        let map = QueueMap::new().map_err(Unsteered::Map)?;
        sys::bpf::steer(self.first.as_fd(), &map).map_err(Unsteered::Program)?;
        for _ in 0..count {
            let file = open()?;
            let name = self.first.name().clone();
            sys::tun::attach(&file, name.as_str(), vnet, true).map_err(Unsteered::Queue)?;
            self.others.push(Tun::attached(file, name, vnet, self.first.offloads())?);
        }
        self.steering = Some(map);
        Ok(())
    }
}

/// Why there is one queue only.
#[derive(Debug, thiserror::Error)]
enum Unsteered {
    #[error("the kernel gives no map of networks (bpf: {0})")]
    Map(io::Error),
    #[error("the TUN driver takes no program to steer them ({0})")]
    Program(io::Error),
    #[error("the kernel gives no more queues ({0})")]
    Queue(io::Error),
    #[error(transparent)]
    Tun(#[from] TunError),
}

fn open() -> Result<File, TunError> {
    OpenOptions::new().read(true).write(true).open(TUN_DEVICE).map_err(TunError::Open)
}

#[cfg(test)]
mod tests;
