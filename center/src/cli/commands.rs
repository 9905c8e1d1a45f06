//! The administrating subcommands: one call of the API each, printed for people or as JSON.

use super::api::Api;
use super::{
    Access, AdminCommand, ClientCommand, EdgeAdd, EdgeCommand, EdgeStock, LogCommand, OwnerCommand, roles,
    show,
};
use crate::identity::Identity;
use crate::init::new_key;
use crate::private_file;
use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::ExitCode;
use uuid::Uuid;
use verona_contract::api::{
    ADMIN_ADMINS, ADMIN_ALARMS, ADMIN_CHAINS, ADMIN_CLIENTS, ADMIN_CRLS, ADMIN_EDGES, ADMIN_LOGS,
    ADMIN_OWNERS, ADMIN_STOCK, ALLOW_SHRINK, AdminCreated, ChainReport, Client, ClientCreated, ClientDetail,
    CrlSummary, Edge, EdgeCreated, LogAlarm, LogPage, NewAdmin, NewClient, NewEdge, NewOwner, NewPskRoot,
    NewStockBox, Owner, PSK_ROOT, StateChanged, StockBox, StockBoxCreated,
};
use verona_contract::base64::Octets;
use verona_contract::config::{ConfigError, LogsConfig, NetworkConfig, OwnerCode};
use verona_contract::key::Secret;
use verona_contract::provisioning::FactoryRecord;
use zeroize::Zeroizing;

/// Heartbeats come once a minute.
const SILENCE: jiff::SignedDuration = jiff::SignedDuration::from_mins(3);

/// Records fetched by one call.
const PAGE: usize = 1000;

/// Where `admin add` looks for the new admin's password.
const NEW_PASSWORD: &str = "VERONA_ADMIN_PASSWORD";

/// Runs one command with its API, and prints what it answers.
pub(super) fn run<T: Serialize>(
    access: &Access,
    command: impl AsyncFnOnce(&Api) -> anyhow::Result<T>,
    print: impl FnOnce(&T),
) -> anyhow::Result<T> {
    let api = Api::new(Identity::read(&access.identity)?)?;
    let answer = roles::runtime(1)?.block_on(command(&api))?;
    if access.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print(&answer);
    }
    Ok(answer)
}

pub(super) fn owner(access: &Access, command: OwnerCommand) -> anyhow::Result<ExitCode> {
    match command {
        OwnerCommand::Add { name, network } => {
            let body = NewOwner { name, network };
            run(access, async |api| api.post::<Owner>(ADMIN_OWNERS, &body).await, show::owner)?;
        }
        OwnerCommand::List => {
            run(
                access,
                async |api| api.get::<Vec<Owner>>(ADMIN_OWNERS, &[]).await,
                |owners| {
                    owners.iter().for_each(show::owner);
                },
            )?;
        }
        OwnerCommand::RotatePsk { code, overlap } => {
            let path = format!("{ADMIN_OWNERS}/{code}/{PSK_ROOT}");
            let body = NewPskRoot { overlap_s: overlap };
            run(access, async |api| api.post::<Owner>(&path, &body).await, show::owner)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn edge(access: &Access, command: EdgeCommand) -> anyhow::Result<ExitCode> {
    match command {
        EdgeCommand::Add(command) => edge_add(access, command)?,
        EdgeCommand::Stock(command) => edge_stock(access, command)?,
        EdgeCommand::Unclaimed => {
            run(
                access,
                async |api| api.get::<Vec<StockBox>>(ADMIN_STOCK, &[]).await,
                |boxes| {
                    boxes.iter().for_each(show::stock_box);
                },
            )?;
        }
        EdgeCommand::List { wrong } => {
            run(
                access,
                async |api| {
                    let mut edges = api.get::<Vec<Edge>>(ADMIN_EDGES, &[]).await?;
                    let now = jiff::Timestamp::now();
                    edges.retain(|edge| !wrong || is_wrong(edge, now));
                    Ok(edges)
                },
                |edges| {
                    edges.iter().for_each(show::edge);
                },
            )?;
        }
        EdgeCommand::Show { id } => {
            let path = format!("{ADMIN_EDGES}/{id}");
            run(access, async |api| api.get::<Edge>(&path, &[]).await, show::edge)?;
        }
        EdgeCommand::Network { id, set } => {
            edge_part(access, (id, "network"), set.as_deref(), NetworkConfig::check)?;
        }
        EdgeCommand::Logs { id, set } => edge_part(access, (id, "logs"), set.as_deref(), LogsConfig::check)?,
        EdgeCommand::AllowShrink { id } => {
            let path = format!("{ADMIN_EDGES}/{id}/{ALLOW_SHRINK}");
            run(access, async |api| api.post::<Edge>(&path, &()).await, show::edge)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows a part of an edge's configuration, or replaces it by what is in the file `set`.
fn edge_part<T: Serialize + DeserializeOwned>(
    access: &Access,
    (id, part): (Uuid, &str),
    set: Option<&Path>,
    check: fn(&T) -> Result<(), ConfigError>,
) -> anyhow::Result<()> {
    let path = format!("{ADMIN_EDGES}/{id}/{part}");
    let Some(file) = set else {
        run(access, async |api| api.get::<T>(&path, &[]).await, show::part)?;
        return Ok(());
    };
    let json = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_slice(&json);
    let new: T = serde_path_to_error::deserialize(&mut json).with_context(|| file.display().to_string())?;
    check(&new).with_context(|| file.display().to_string())?;
    run(access, async |api| api.post::<T>(&path, &new).await, show::part)?;
    Ok(())
}

/// Whether something is wrong with an edge by its own word, or it is silent. One that has not enrolled yet is neither.
fn is_wrong(edge: &Edge, now: jiff::Timestamp) -> bool {
    let silent = edge.last_seen.is_none_or(|seen| now.duration_since(seen) > SILENCE);
    edge.enrolled && (silent || edge.conditions.as_ref().is_none_or(|conditions| !conditions.is_empty()))
}

fn edge_add(access: &Access, command: EdgeAdd) -> anyhow::Result<()> {
    let body = NewEdge {
        owner: command.owner,
        name: command.name,
        serial: command.serial,
        fingerprint: command.fingerprint,
        endpoints: command.endpoint,
        listen_port: command.listen_port,
        lan: command.lan,
        claim: command.claim,
    };
    let record = command.record;
    let create = async |api: &Api| {
        let mut created: EdgeCreated = api.post(ADMIN_EDGES, &body).await?;
        if let Some(path) = &record {
            // The token goes into the record and nowhere else.
            write_record(path, api.identity(), &created.edge.serial, created.token.take())
                .with_context(|| format!("edge {} is registered", created.edge.id))?;
        }
        Ok(created)
    };
    run(access, create, |created| show::edge_created(created, record.as_deref()))?;
    Ok(())
}

fn edge_stock(access: &Access, EdgeStock { serial, fingerprint, record }: EdgeStock) -> anyhow::Result<()> {
    let body = NewStockBox { serial, fingerprint };
    let create = async |api: &Api| {
        let mut created: StockBoxCreated = api.post(ADMIN_STOCK, &body).await?;
        if let Some(path) = &record {
            write_record(path, api.identity(), &body.serial, created.token.take())
                .with_context(|| format!("box {} is registered", body.serial))?;
        }
        Ok(created)
    };
    run(access, create, |created| show::stock_box_created(created, record.as_deref()))?;
    Ok(())
}

fn write_record(path: &Path, identity: &Identity, serial: &str, token: Option<Secret>) -> anyhow::Result<()> {
    let record = FactoryRecord {
        serial: serial.to_owned(),
        center: identity.center.clone(),
        center_ca: identity.center_ca.clone(),
        config_keys: identity.config_keys.clone(),
        config_threshold: 1,
        token,
    };
    let json = Zeroizing::new(serde_json::to_vec_pretty(&record).context("factory record")?);
    private_file::create(path, &json).context("its record was not written")
}

pub(super) fn client(access: &Access, command: ClientCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClientCommand::Add { owner, name, push } => {
            let body = NewClient { owner, name, push };
            let create = async |api: &Api| api.post::<ClientCreated>(ADMIN_CLIENTS, &body).await;
            run(access, create, show::client_created)?;
        }
        ClientCommand::List { owner } => {
            let query: Vec<_> = owner.iter().map(|code: &OwnerCode| ("owner", code.to_string())).collect();
            run(
                access,
                async |api| api.get::<Vec<Client>>(ADMIN_CLIENTS, &query).await,
                |clients| {
                    clients.iter().for_each(show::client);
                },
            )?;
        }
        ClientCommand::Show { id } => {
            let path = format!("{ADMIN_CLIENTS}/{id}");
            run(access, async |api| api.get::<ClientDetail>(&path, &[]).await, show::client_detail)?;
        }
        ClientCommand::Disable { id } => order(access, id, "disable")?,
        ClientCommand::Enable { id } => order(access, id, "enable")?,
        ClientCommand::Revoke { id } => order(access, id, "revoke")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn order(access: &Access, id: Uuid, verb: &str) -> anyhow::Result<()> {
    let path = format!("{ADMIN_CLIENTS}/{id}/{verb}");
    let call = async |api: &Api| api.post::<StateChanged>(&path, &serde_json::json!({})).await;
    run(access, call, show::state_changed)?;
    Ok(())
}

pub(super) fn crl_list(access: &Access) -> anyhow::Result<ExitCode> {
    run(
        access,
        async |api| api.get::<Vec<CrlSummary>>(ADMIN_CRLS, &[]).await,
        |lists| {
            lists.iter().for_each(show::crl);
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn log(access: &Access, command: LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::List { edge, stream, event, limit } => {
            let filters = [
                edge.map(|edge| ("edge", edge.to_string())),
                stream.map(|stream| ("stream", stream.to_string())),
                event.map(|event| ("event", event)),
            ];
            let filters: Vec<_> = filters.into_iter().flatten().collect();
            run(
                access,
                async |api| records(api, &filters, limit).await,
                |page| {
                    page.records.iter().for_each(show::record);
                },
            )?;
        }
        LogCommand::Verify => {
            let chains = run(
                access,
                async |api| api.get::<Vec<ChainReport>>(ADMIN_CHAINS, &[]).await,
                |chains| {
                    chains.iter().for_each(show::chain);
                },
            )?;
            if chains.iter().any(|chain| !chain.unbroken) {
                return Ok(ExitCode::FAILURE);
            }
        }
        LogCommand::Alarms => {
            run(
                access,
                async |api| api.get::<Vec<LogAlarm>>(ADMIN_ALARMS, &[]).await,
                |alarms| {
                    alarms.iter().for_each(show::alarm);
                },
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn records(api: &Api, filters: &[(&str, String)], limit: usize) -> anyhow::Result<LogPage> {
    let mut all = LogPage { records: Vec::new(), next: Some(0) };
    while let Some(after) = all.next.filter(|_| all.records.len() < limit) {
        let wanted = (limit - all.records.len()).min(PAGE);
        let paging = [("after", after.to_string()), ("limit", wanted.to_string())];
        let page: LogPage = api.get(ADMIN_LOGS, &[filters, paging.as_slice()].concat()).await?;
        all.records.extend(page.records);
        all.next = page.next;
    }
    Ok(all)
}

pub(super) fn admin(access: &Access, command: AdminCommand) -> anyhow::Result<ExitCode> {
    let AdminCommand::Add { owner, id, identity_out } = command;
    let key = new_key()?;
    let body = NewAdmin { owner, id, password: new_password()?, csr: Octets(key.request("admin", None)?) };
    let create = async |api: &Api| {
        let created: AdminCreated = api.post(ADMIN_ADMINS, &body).await?;
        let operator = api.identity();
        let identity = Identity {
            center: operator.center.clone(),
            center_ca: operator.center_ca.clone(),
            config_keys: operator.config_keys.clone(),
            login: Some(created.id.clone()),
            key: Zeroizing::new(key.to_pem()?.to_string()),
            certificate: created.certificate.clone(),
        };
        identity.create(&identity_out)?;
        Ok(created)
    };
    run(access, create, |created| println!("admin {}  {}", created.id, identity_out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn new_password() -> anyhow::Result<Zeroizing<String>> {
    if let Ok(password) = std::env::var(NEW_PASSWORD) {
        return Ok(Zeroizing::new(password));
    }
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line).context("password on standard input")?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}
