//! The center's copy of the firmware repository: taken in only if a box would take it.
//!
//! Who makes and signs it (`verona-image repository`) holds keys that are not here. It is copied in an order that
//! leaves a box that reads meanwhile with the old repository or the new one: files, their metadata, and last
//! `timestamp.json`, which names the rest.

use anyhow::{Context as _, anyhow, bail};
use futures_util::StreamExt as _;
use std::fs;
use std::path::{Path, PathBuf};
use tough::schema::{Root, Signed};
use tough::{FilesystemTransport, RepositoryLoader};

/// Checks the repository at `from` and copies it to `to`. Returns how many files it has.
///
/// # Errors
///
/// What a box would refuse, or the disk.
pub(crate) async fn publish(from: &Path, to: &Path) -> anyhow::Result<usize> {
    let root = trust(from, to)?;
    let datastore = to.join("checked");
    fs::create_dir_all(&datastore).with_context(|| format!("cannot make {}", datastore.display()))?;
    // It guards a box's clock; ours is the host's.
    let _ = fs::remove_file(datastore.join("latest_known_time.json"));
    let repository =
        RepositoryLoader::new(&root, folder_url(from, "metadata")?, folder_url(from, "targets")?)
            .transport(FilesystemTransport)
            .datastore(&datastore)
            .load()
            .await
            .context("a box would refuse this repository")?;
    let mut files = 0;
    for (name, _) in repository.all_targets() {
        let target = repository.read_target(name).await?;
        let Some(mut target) = target else { bail!("{} is named and not there", name.raw()) };
        // Reading it to its end checks its hash.
        while let Some(piece) = target.next().await {
            piece.with_context(|| format!("file {}", name.raw()))?;
        }
        files += 1;
    }
    copy_new(&from.join("targets"), &to.join("targets"))?;
    copy_new(&from.join("metadata"), &to.join("metadata"))?;
    let timestamp = "metadata/timestamp.json";
    copy(&from.join(timestamp), &to.join(timestamp))?;
    Ok(files)
}

/// The newest root of what is published, or the first of what comes.
fn trust(from: &Path, to: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = to.join("metadata");
    let mut newest = None;
    if metadata.is_dir() {
        for entry in fs::read_dir(&metadata).with_context(|| format!("cannot list {}", metadata.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let version = name.strip_suffix(".root.json").and_then(|version| version.parse::<u64>().ok());
            newest = newest.max(version.map(|version| (version, path)));
        }
    }
    let path = newest.map_or_else(|| from.join("metadata/1.root.json"), |(_, path)| path);
    let octets = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let root: Signed<Root> = serde_json::from_slice(&octets).with_context(|| path.display().to_string())?;
    tracing::debug!(version = root.signed.version.get(), "trusted root");
    Ok(octets)
}

/// Copies the files that are not there yet; `timestamp.json` is not one of them.
fn copy_new(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let target = to.join(&name);
        if name == "timestamp.json" || !entry.file_type()?.is_file() || target.exists() {
            continue;
        }
        copy(&entry.path(), &target)?;
    }
    Ok(())
}

/// Appears whole or not at all.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let beside: PathBuf = to.with_file_name(".copying");
    let copied = fs::copy(from, &beside)
        .and_then(|_| fs::File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, to));
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// `file://` of a folder.
fn folder_url(base: &Path, name: &str) -> anyhow::Result<url::Url> {
    let path = std::path::absolute(base.join(name)).context("the repository's path")?;
    url::Url::from_directory_path(&path).map_err(|()| anyhow!("{} is no path of a folder", path.display()))
}
