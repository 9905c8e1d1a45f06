//! Tells what an image is: its files and who signed them, the partitions of its disk, what its kernel image says of
//! itself, and whose box it is for. A token in a factory record is only said to be there.

use crate::build::release::{Kind, Release};
use crate::build::{BuildError, io_error};
use crate::digest::{Sha256, hex};
use crate::gpt::{self, GptError};
use crate::provision::ROOM;
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};
use serde::Serialize;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use verona_contract::provisioning::FactoryRecord;
use zeroize::Zeroizing;

/// A disk cannot be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error(transparent)]
    Io(#[from] BuildError),
    #[error("{}", .path.display())]
    Disk { path: PathBuf, source: GptError },
    #[error("{} is no kernel image", .0.display())]
    KernelImage(PathBuf),
}

/// A whole image.
#[derive(Debug, Serialize)]
pub(crate) struct Image {
    pub(crate) disk: Disk,
    pub(crate) kernel_image: KernelImage,
    pub(crate) files: Vec<Artefact>,
    /// Whether there is a signature to check; `flash` checks it.
    pub(crate) signed: bool,
}

/// A disk, or an image of one.
#[derive(Debug, Serialize)]
pub(crate) struct Disk {
    pub(crate) partitions: Vec<Partition>,
    /// None: the box waits at its center to be told whose it is, or asks its cloud.
    pub(crate) factory: Option<Factory>,
}

/// One partition.
#[derive(Debug, Serialize)]
pub(crate) struct Partition {
    pub(crate) name: String,
    /// MiB.
    pub(crate) start: u64,
    /// MiB.
    pub(crate) size: u64,
}

/// What a factory record tells.
#[derive(Debug, Serialize)]
pub(crate) struct Factory {
    pub(crate) serial: String,
    pub(crate) center: String,
    pub(crate) has_token: bool,
}

/// What a unified kernel image says of itself.
#[derive(Debug, Serialize)]
pub(crate) struct KernelImage {
    pub(crate) command_line: String,
    pub(crate) version: String,
    /// Whether it carries a signature for Secure Boot.
    pub(crate) signed: bool,
}

/// A file of the image.
#[derive(Debug, Serialize)]
pub(crate) struct Artefact {
    pub(crate) path: PathBuf,
    pub(crate) octets: u64,
    /// None for the disk, which the block map covers.
    pub(crate) sha256: Option<String>,
}

/// Explains the image of `release`.
pub(crate) fn image(release: &Release) -> Result<Image, InspectError> {
    let mut files = Vec::new();
    for kind in Kind::ALL {
        let path = release.path(kind);
        let octets = fs::metadata(&path).map_err(io_error("looking at", &path))?.len();
        let sum = (kind != Kind::Disk).then(|| Sha256::of_file(&path)).transpose();
        let sha256 = sum.map_err(io_error("reading", &path))?.map(|sum| hex(&sum));
        files.push(Artefact { path, octets, sha256 });
    }
    Ok(Image {
        disk: disk(&release.path(Kind::Disk))?,
        kernel_image: kernel_image(&release.path(Kind::KernelImage))?,
        files,
        signed: release.signature().is_file(),
    })
}

/// Explains a disk, or an image of one.
pub(crate) fn disk(path: &Path) -> Result<Disk, InspectError> {
    let file = File::open(path).map_err(io_error("opening", path))?;
    let failed = |source| InspectError::Disk { path: path.to_owned(), source };
    let partitions = gpt::partitions(&file).map_err(failed)?;
    let place = gpt::named(&partitions, "factory").map_err(failed)?;
    let mut content = Zeroizing::new(vec![0; ROOM]);
    file.read_exact_at(&mut content, place.start).map_err(io_error("reading", path))?;
    let end = content.iter().position(|octet| *octet == 0).unwrap_or(ROOM);
    let record = content.get(..end).and_then(|json| FactoryRecord::parse(json).ok());
    let factory = record.map(|record| Factory {
        has_token: record.token.is_some(),
        serial: record.serial,
        center: record.center,
    });
    let partitions = partitions.into_iter().map(|partition| Partition {
        name: partition.name,
        start: partition.start >> 20,
        size: partition.size >> 20,
    });
    Ok(Disk { partitions: partitions.collect(), factory })
}

fn kernel_image(path: &Path) -> Result<KernelImage, InspectError> {
    let octets = fs::read(path).map_err(io_error("reading", path))?;
    let wrong = || InspectError::KernelImage(path.to_owned());
    let file = PeFile64::parse(octets.as_slice()).map_err(|_| wrong())?;
    let section = |name: &str| {
        let data = file.section_by_name(name).and_then(|section| section.data().ok()).ok_or_else(wrong)?;
        let text = String::from_utf8_lossy(data).into_owned();
        Ok::<_, InspectError>(text.trim_end_matches('\0').to_owned())
    };
    let release = section(".osrel")?;
    let version = release.lines().find_map(|line| line.strip_prefix("VERSION_ID=")).unwrap_or_default();
    let certificates = file.data_directory(object::pe::IMAGE_DIRECTORY_ENTRY_SECURITY);
    let signed = certificates.is_some_and(|place| place.size.get(object::LittleEndian) != 0);
    Ok(KernelImage { command_line: section(".cmdline")?, version: version.to_owned(), signed })
}

impl Image {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let KernelImage { command_line, version, signed } = &self.kernel_image;
        let yes = |yes: bool| if yes { "signed" } else { "not signed" };
        let mut lines = vec![
            format!("version       {version}"),
            format!("checksums     {}", yes(self.signed)),
            format!("kernel image  {} for Secure Boot; {command_line}", yes(*signed)),
        ];
        lines.push(self.disk.text());
        for Artefact { path, octets, sha256 } in &self.files {
            let sum = sha256.as_deref().map_or("by its block map", |sum| sum.get(..16).unwrap_or(sum));
            lines.push(format!(
                "{:>8.1} MiB  {:16}  {}",
                *octets as f64 / f64::from(1 << 20),
                sum,
                path.display()
            ));
        }
        lines.join("\n")
    }
}

impl Disk {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for Partition { name, start, size } in &self.partitions {
            lines.push(format!("partition     {name:8} {size:>6} MiB at {start} MiB"));
        }
        lines.push(match &self.factory {
            None => "factory       no record".to_owned(),
            Some(Factory { serial, center, has_token }) => {
                let token = if *has_token { "with" } else { "without" };
                format!("factory       {serial} for {center}, {token} a token")
            }
        });
        lines.join("\n")
    }
}
