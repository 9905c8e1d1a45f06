//! A stock WireGuard client: a foreign userspace implementation, set up by `wg` and `ip`.

use crate::{Error, Namespace, Process, Result, wait};
use std::ffi::OsStr;
use std::time::Duration;

/// A running stock client.
#[derive(Debug)]
pub struct StockClient {
    place: Namespace,
    interface: String,
    /// The implementation's process.
    pub process: Process,
}

/// What a configuration of wg-quick says beyond what `wg` itself understands.
#[derive(Debug, Default)]
struct Quick<'a> {
    addresses: Vec<&'a str>,
    mtu: Option<&'a str>,
    routes: Vec<&'a str>,
    /// The lines for `wg setconf`.
    rest: String,
}

impl StockClient {
    /// Debian's wireguard-go with `config`, which may have wg-quick's own keys.
    ///
    /// # Errors
    ///
    /// The program, `wg` or `ip` refuses.
    pub fn wireguard_go(place: &Namespace, name: &str, config: &str) -> Result<Self> {
        Self::start(place, name, "wireguard-go".as_ref(), &["-f"], config)
    }

    /// Any userspace implementation that stays in the foreground with `options` before the interface's name.
    ///
    /// # Errors
    ///
    /// The program, `wg` or `ip` refuses.
    pub fn start(
        place: &Namespace,
        name: &str,
        program: &OsStr,
        options: &[&str],
        config: &str,
    ) -> Result<Self> {
        let interface = place.run().interface(name);
        let mut command = place.command(program);
        command.args(options).arg(&interface);
        let mut process = place.run().start_process(name, command)?;
        wait::for_value(&format!("{name}'s interface"), Duration::from_secs(10), || {
            process.must_run()?;
            Ok(place.output("wg", &["show", &interface]).ok())
        })?;
        let client = Self { place: place.clone(), interface, process };
        client.configure(name, config)?;
        Ok(client)
    }

    /// The name of its interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn place(&self) -> &Namespace {
        &self.place
    }

    /// One column of `wg show`, such as `latest-handshakes`.
    ///
    /// # Errors
    ///
    /// `wg` refuses.
    pub fn show(&self, what: &str) -> Result<String> {
        self.place.output("wg", &["show", &self.interface, what])
    }

    fn configure(&self, name: &str, config: &str) -> Result<()> {
        let quick = Quick::read(config);
        let path = self.place.run().dir().join(format!("{name}.conf"));
        write_secret(&path, &quick.rest)?;
        self.place.output("wg", &["setconf", &self.interface, &path.to_string_lossy()])?;
        for address in &quick.addresses {
            self.place.address(&self.interface, &[address])?;
        }
        let mtu = quick.mtu.unwrap_or("1420");
        self.place.ip(&format!("link set dev {} mtu {mtu} up", self.interface))?;
        for route in &quick.routes {
            let family = if route.contains(':') { "-6" } else { "-4" };
            self.place.ip(&format!("{family} route replace {route} dev {}", self.interface))?;
        }
        Ok(())
    }
}

impl<'a> Quick<'a> {
    fn read(config: &'a str) -> Self {
        let mut quick = Self::default();
        for line in config.lines() {
            let (key, value) = line.split_once('=').map_or((line, ""), |(k, v)| (k.trim(), v.trim()));
            let list = || value.split(',').map(str::trim).filter(|item| !item.is_empty());
            match key.to_ascii_lowercase().as_str() {
                "address" => quick.addresses.extend(list()),
                "mtu" => quick.mtu = Some(value),
                "dns" => {}
                key => {
                    if key == "allowedips" {
                        quick.routes.extend(list());
                    }
                    quick.rest.push_str(line);
                    quick.rest.push('\n');
                }
            }
        }
        quick
    }
}

/// A file that only root reads, from its first octet on.
fn write_secret(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let doing = || format!("write {}", path.display());
    let file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.map_err(Error::io(doing()))?.write_all(text.as_bytes()).map_err(Error::io(doing()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_wg_quick_are_kept_from_wg() {
        let quick = Quick::read(
            "[Interface]\nPrivateKey = k\nAddress = 10.9.0.2/32, fd00::2/128\nDNS=1.1.1.1\nMTU = 1400\n\
             [Peer]\nAllowedIPs = 10.9.0.0/24,192.168.77.0/24\n",
        );
        assert_eq!(quick.addresses, ["10.9.0.2/32", "fd00::2/128"]);
        assert_eq!((quick.mtu, quick.routes.len()), (Some("1400"), 2));
        assert_eq!(
            quick.rest,
            "[Interface]\nPrivateKey = k\n[Peer]\nAllowedIPs = 10.9.0.0/24,192.168.77.0/24\n"
        );
    }
}
