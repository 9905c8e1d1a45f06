//! The tunnel's DNS servers, by the host's own resolver configuration: systemd-resolved or resolvconf.
//!
//! `/etc/resolv.conf` is never written here: on a host that has neither, or in a network namespace whose
//! resolver is not the host's, the user is told what to do. Both programs are asked to forget the servers
//! again at the end; both forget them by themselves when the interface goes.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where systemd-resolved keeps its state while it runs.
const RESOLVED: &str = "/run/systemd/resolve";
/// Both live in one of these; the environment of a service may lack them.
const PATHS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

/// Who was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    SystemdResolved,
    Resolvconf,
}

/// The servers in force, until [`Dns::clear`].
#[derive(Debug)]
pub(crate) struct Dns {
    interface: String,
    servers: Vec<IpAddr>,
    resolver: Option<Resolver>,
}

impl Dns {
    /// No servers yet.
    pub(crate) fn new(interface: &str) -> Self {
        Self { interface: interface.to_owned(), servers: Vec::new(), resolver: None }
    }

    /// Sets the servers. `Err` holds what the user has to do himself, one line; the tunnel works without.
    pub(crate) fn apply(&mut self, servers: &[IpAddr]) -> Result<(), String> {
        if servers == self.servers {
            return Ok(());
        }
        self.clear();
        self.servers = servers.to_vec();
        if servers.is_empty() {
            return Ok(());
        }
        let resolver =
            find_resolver().ok_or_else(|| self.advice("no systemd-resolved or resolvconf here"))?;
        let set = match resolver {
            Resolver::SystemdResolved => self.tell_resolved(),
            Resolver::Resolvconf => self.tell_resolvconf(),
        };
        set.map_err(|error| self.advice(&error.to_string()))?;
        self.resolver = Some(resolver);
        Ok(())
    }

    /// Takes the servers back.
    pub(crate) fn clear(&mut self) {
        let cleared = match self.resolver.take() {
            Some(Resolver::SystemdResolved) => run("resolvectl", &["revert", &self.interface], ""),
            Some(Resolver::Resolvconf) => run("resolvconf", &["-d", &self.record(), "-f"], ""),
            None => Ok(()),
        };
        if let Err(error) = cleared {
            tracing::warn!("DNS servers of {} not taken back: {error}", self.interface);
        }
        self.servers.clear();
    }

    fn tell_resolved(&self) -> io::Result<()> {
        let servers: Vec<String> = self.servers.iter().map(IpAddr::to_string).collect();
        let mut arguments = vec!["dns", &self.interface];
        arguments.extend(servers.iter().map(String::as_str));
        run("resolvectl", &arguments, "")?;
        // All names, as wg-quick has it.
        run("resolvectl", &["domain", &self.interface, "~."], "")
    }

    fn tell_resolvconf(&self) -> io::Result<()> {
        let lines: String = self.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        run("resolvconf", &["-a", &self.record(), "-m", "0", "-x"], &lines)
    }

    /// resolvconf's name of our entry; the `tun.` puts it first where an order is configured.
    fn record(&self) -> String {
        format!("tun.{}", self.interface)
    }

    fn advice(&self, why: &str) -> String {
        let servers: Vec<String> = self.servers.iter().map(|server| format!("nameserver {server}")).collect();
        format!(
            "DNS left as it is ({why}); to use the tunnel's, put into /etc/resolv.conf: {}",
            servers.join(", ")
        )
    }
}

/// `None` in another network namespace than the host's: both programs serve the host.
fn find_resolver() -> Option<Resolver> {
    let namespace = |path| std::fs::read_link(path).ok();
    if namespace("/proc/self/ns/net")? != namespace("/proc/1/ns/net")? {
        return None;
    }
    if Path::new(RESOLVED).is_dir() && find("resolvectl").is_some() {
        return Some(Resolver::SystemdResolved);
    }
    find("resolvconf").map(|_| Resolver::Resolvconf)
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    PATHS.iter().map(|path| Path::new(path).join(program)).find(|path| path.is_file())
}

fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<()> {
    let path = find(program).ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program}: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_servers() {
        let mut dns = Dns::new("verona-test");
        dns.servers = vec!["192.168.1.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let advice = dns.advice("why");
        assert!(advice.ends_with("put into /etc/resolv.conf: nameserver 192.168.1.1, nameserver fd00::1"));
    }
}
