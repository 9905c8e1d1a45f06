//! The demo's edge: the two daemons as processes, or the box that the firmware image makes. The story asks both the
//! same questions. A box has no way in but the network, so what it knows is asked of its center.

use anyhow::{Context, Result, ensure};
use lab::firmware::Image;
use lab::parts::{Appliance, Center, Edge, Start, field, text};
use lab::vm::Accelerator;
use lab::{Topology, workspace};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A boot by translation takes 20 s of an idle machine, and ten times that of a busy one.
const BOOT: Duration = Duration::from_secs(480);

/// The edge.
pub(super) struct Gateway {
    id: String,
    kind: Kind,
}

enum Kind {
    Processes(Edge),
    Box(Appliance),
}

impl Gateway {
    /// Starts it with the factory record of the edge `id`.
    pub(super) fn start(net: &Topology, image: Option<&Image>, record: &Path, id: &str) -> Result<Self> {
        let kind = match image {
            None => Kind::Processes(Edge::start(&net.edge, record)?),
            Some(image) => Kind::Box(Appliance::start(&net.edge, image, Some(record), Start::Uefi)?),
        };
        Ok(Self { id: id.to_owned(), kind })
    }

    /// Waits until it has its first configuration in force. Returns the configuration's number.
    pub(super) fn confirmed(&mut self, center: &Center, patience: Duration) -> Result<u64> {
        match &mut self.kind {
            Kind::Processes(edge) => {
                let seq = center.confirmed(&self.id, 1, patience)?;
                let addresses =
                    edge.place().output("ip", &["-brief", "addr", "show", "dev", edge.interface()])?;
                ensure!(addresses.contains("10.9.0."), "the tunnel interface has no address: {addresses}");
                Ok(seq)
            }
            Kind::Box(appliance) => center
                .confirmed(&self.id, 1, BOOT)
                .with_context(|| format!("the box's console:\n{}", appliance.machine.console.text())),
        }
    }

    /// How it was started, for a reader.
    pub(super) fn started(&self) -> Result<String> {
        match self.kind {
            Kind::Processes(_) => Ok("acks: 1 of 1".to_owned()),
            Kind::Box(_) => Ok(format!("UEFI under {}, acks: 1 of 1", Accelerator::of_host()?.name())),
        }
    }

    /// Its WireGuard key, in base64.
    pub(super) fn public_key(&self, center: &Center) -> Result<String> {
        Ok(match &self.kind {
            Kind::Processes(edge) => edge.place().output("wg", &["show", edge.interface(), "public-key"])?,
            Kind::Box(_) => {
                let shown = center.admin(&["edge", "show", &self.id])?;
                field(&shown, "tunnel_key").and_then(Value::as_str).context("no tunnel key")?.to_owned()
            }
        })
    }

    /// Why it refused the key `claimed`, if it has.
    pub(super) fn refusal_of(&self, center: &Center, claimed: &str) -> lab::Result<Option<String>> {
        let records = match &self.kind {
            Kind::Processes(edge) => edge.edgectl(&["logs"])?,
            Kind::Box(_) => {
                let page = center.admin(&["log", "list", "--edge", &self.id, "--event", "client.refused"])?;
                field(&page, "records").cloned().unwrap_or_default()
            }
        };
        let records = records.as_array().map_or(&[][..], Vec::as_slice);
        let ours = records.iter().find(|record| record["attributes"]["claimed_key"] == claimed);
        let told = ours.and_then(|record| text(record, "/body").ok()?.rsplit_once(": "));
        Ok(told.map(|(_, reason)| reason.to_owned()))
    }

    /// How many handshakes it refused for `reason`, where it can be asked.
    pub(super) fn refused(&self, reason: &str) -> Result<Option<u64>> {
        match &self.kind {
            Kind::Processes(edge) => Ok(Some(edge.refused(reason)?)),
            Kind::Box(_) => Ok(None),
        }
    }

    /// Fails if a part of it has ended.
    pub(super) fn must_run(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Processes(edge) => {
                edge.tunnel.must_run()?;
                edge.agent.must_run()?;
            }
            Kind::Box(appliance) => appliance.machine.process.must_run()?,
        }
        Ok(())
    }

    /// For a person who kept the scene.
    pub(super) fn commands_to_try(&self) -> Vec<String> {
        match &self.kind {
            Kind::Processes(edge) => {
                let bin = workspace::bin_dir().unwrap_or_default();
                let edgectl = |what: &str| {
                    format!("{}/edgectl --socket {} {what}", bin.display(), edge.agent_socket().display())
                };
                vec![edgectl("status"), edgectl("peers")]
            }
            Kind::Box(appliance) => {
                vec![format!(
                    "tail -f {}    # the box's console",
                    appliance.machine.console.log_path().display()
                )]
            }
        }
    }
}
