//! The agent's own socket, for `edgectl`: JSON lines, one [`Request`] a line, one [`Answer`] to each in order.
//!
//! Mode 0600, and the peer must be root or the agent's own user (SO_PEERCRED).

mod server;
mod state;

pub use server::{BindError, bind, serve};
pub use state::{
    CenterState, Certificate, ClockState, ConfigInfo, ConfigState, Difference, Standing, State, TimeState,
    TunnelState,
};

use crate::bundles::Revision;
use crate::lists::HeldInfo;
use crate::update::UpdateInfo;
use edge_agent_core::journal::Draft;
use edge_agent_core::netcheck::Finding;
use serde::{Deserialize, Serialize};
use verona_contract::base64::Octets;
use verona_contract::control::{CrlInfo, PeerInfo};
use verona_contract::key::KeyId;
use verona_contract::log::{Record, Stream};

/// The longest request line, in octets: one log record.
pub const MAX_REQUEST: usize = 512 * 1024;

/// Most records of one answer.
pub const MAX_RECORDS: usize = 10_000;

/// One line to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Asks for [`Reply::Status`].
    Status,
    /// Asks for [`Reply::Peers`].
    Peers,
    /// Asks for [`Reply::Crl`].
    Crl,
    /// Asks for [`Reply::Config`].
    Config,
    /// Asks for [`Reply::ConfigHistory`].
    ConfigHistory,
    /// Asks for [`Reply::ConfigDifference`].
    ConfigDifference {
        /// None = the one in force, or the one before it.
        before: Option<u64>,
        /// None = the one on trial, or the one in force.
        after: Option<u64>,
    },
    /// Confirms the configuration on trial; answered with [`Reply::ConfigChosen`].
    ConfirmConfig {
        /// Also if the box loses its center by it.
        lose_center: bool,
    },
    /// Goes back to an older configuration; answered with [`Reply::ConfigChosen`].
    RollBackConfig {
        /// None = the one that was in force before.
        seq: Option<u64>,
    },
    /// Asks for [`Reply::Update`].
    Update,
    /// Looks for the center at another address; answered with [`Reply::CenterSet`], and then the agent starts anew.
    SetCenter {
        /// `https://host[:port]`; none = the factory record's.
        address: Option<String>,
    },
    /// Takes the configuration away at the next start; answered with [`Reply::ResetOrdered`].
    Reset,
    /// Asks for [`Reply::Time`].
    Time,
    /// Asks for [`Reply::Support`], which takes some seconds.
    Support,
    /// Asks for [`Reply::Netcheck`], which takes some seconds.
    Netcheck,
    /// Asks for [`Reply::Logs`]: the newest records that are still on the disk.
    Logs {
        /// One stream; none = all.
        stream: Option<Stream>,
        /// How many at most.
        count: usize,
    },
    /// Appends a record; answered with [`Reply::Appended`] when it is on the disk.
    AppendLog(Draft),
}

/// One line from the agent: what was asked, or one line that says why not.
pub type Answer = Result<Reply, String>;

/// What a request is answered with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<State>),
    /// To [`Request::Peers`].
    Peers(Vec<PeerInfo>),
    /// To [`Request::Crl`].
    Crl(Vec<ListInfo>),
    /// To [`Request::Config`].
    Config(ConfigInfo),
    /// To [`Request::ConfigHistory`], the newest first.
    ConfigHistory(Vec<Revision>),
    /// To [`Request::ConfigDifference`].
    ConfigDifference(Difference),
    /// To [`Request::ConfirmConfig`] and [`Request::RollBackConfig`].
    ConfigChosen {
        /// The configuration that is in force now, or will be when its trial is over.
        seq: u64,
    },
    /// To [`Request::Update`].
    Update(Box<UpdateInfo>),
    /// To [`Request::SetCenter`].
    CenterSet,
    /// To [`Request::Reset`].
    ResetOrdered {
        /// Whether the box restarts for it now; otherwise somebody has to restart it.
        restarts: bool,
    },
    /// To [`Request::Time`].
    Time(Box<TimeState>),
    /// To [`Request::Support`].
    Support {
        /// What the file should be called.
        name: String,
        /// A gzipped tar.
        archive: Octets,
    },
    /// To [`Request::Netcheck`].
    Netcheck(Vec<Finding>),
    /// To [`Request::Logs`].
    Logs(Vec<Record>),
    /// To [`Request::AppendLog`].
    Appended {
        /// Which chain.
        stream: Stream,
        /// The record's number in it.
        seq: u64,
    },
}

/// One issuer's list: as the agent holds it, and as the tunnel has it in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListInfo {
    /// Whose.
    pub issuer: KeyId,
    /// On the box; none = no list was ever accepted.
    pub held: Option<HeldInfo>,
    /// In the tunnel; none = the tunnel does not answer or does not know the issuer.
    pub in_force: Option<CrlInfo>,
    /// The newest list that was acknowledged to the center, or is on its way there; 0 = none.
    pub acknowledged: u64,
    /// Why the newest one from the center was refused; none = it was not.
    pub refused: Option<String>,
}
