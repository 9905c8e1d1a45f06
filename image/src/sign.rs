//! Signs a built image: the boot chooser and the kernel image for Secure Boot, then, with the disk packed anew of
//! these, the list of checksums for `flash`. Apart from building, so that the keys may be on another machine.

use crate::build::release::{Kind, Release};
use crate::build::tool::{Prefix, ToolError};
use crate::build::{BuildError, io_error, pack};
use crate::keys::{Keys, KeysError};
use std::fs;
use std::path::{Path, PathBuf};
use verona_contract::dsse::{DsseError, Envelope, VerifyingKey};

/// The DSSE payload type of a signed list of checksums.
const PAYLOAD_TYPE: &str = "application/vnd.verona.image-checksums.v1";

/// An image cannot be signed, or its signature is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{}", .path.display())]
    Signature { path: PathBuf, source: DsseError },
    #[error("{}: {rule}", .path.display())]
    Checksum { path: PathBuf, rule: &'static str },
}

/// Signs the image of `release`. `prefix` has the tools that a build has unpacked; `work` is for intermediate files.
pub(crate) fn sign(
    prefix: &Prefix,
    release: &Release,
    keys: &Keys,
    work: &Path,
    step: &mut dyn FnMut(&str),
) -> Result<(), SignError> {
    step("signatures");
    fs::create_dir_all(work).map_err(io_error("making", work))?;
    for kind in [Kind::Chooser, Kind::KernelImage] {
        sign_program(prefix, &release.path(kind), keys)?;
    }
    pack(prefix, release, work, step)?;
    sign_checksums(release, keys)
}

/// Signs the list of checksums as it is.
pub(crate) fn sign_checksums(release: &Release, keys: &Keys) -> Result<(), SignError> {
    let list = release.checksums();
    let payload = fs::read(&list).map_err(io_error("reading", &list))?;
    let envelope = Envelope::sign(PAYLOAD_TYPE, payload, &[&keys.signer()?]);
    let path = release.signature();
    let json =
        serde_json::to_vec_pretty(&envelope).map_err(|error| io_error("writing", &path)(error.into()))?;
    fs::write(&path, json).map_err(io_error("writing", &path))?;
    Ok(())
}

/// A signature before it is replaced: two would make every copy of an image another one.
fn sign_program(prefix: &Prefix, program: &Path, keys: &Keys) -> Result<(), SignError> {
    let signed = program.with_extension("signed");
    // It fails on a program that has none.
    let _ = prefix.tool("sbattach").argument("--remove").argument(program).run();
    prefix
        .tool("sbsign")
        .argument("--key")
        .argument(keys.file("db", "key"))
        .argument("--cert")
        .argument(keys.file("db", "crt"))
        .argument("--output")
        .argument(&signed)
        .argument(program)
        .run()?;
    fs::rename(&signed, program).map_err(io_error("replacing", program))?;
    Ok(())
}

/// The checksums of an image's files, as signed by one of `trusted`.
#[derive(Debug)]
pub(crate) struct Checksums(String);

impl Checksums {
    /// Reads the signed list of an image.
    pub(crate) fn verified(signature: &Path, trusted: &[VerifyingKey]) -> Result<Self, SignError> {
        let failed = |source| SignError::Signature { path: signature.to_owned(), source };
        let json = fs::read(signature).map_err(io_error("reading", signature))?;
        let envelope = Envelope::parse(&json).map_err(failed)?;
        let list = envelope.verify(PAYLOAD_TYPE, trusted, 1).map_err(failed)?;
        Ok(Self(String::from_utf8_lossy(list).into_owned()))
    }

    /// The checksum of a file, by its name without a folder.
    pub(crate) fn of(&self, path: &Path) -> Result<&str, SignError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lines = self.0.lines().filter_map(|line| line.split_once("  "));
        let sum = lines.filter(|(_, of)| *of == name).map(|(sum, _)| sum).next();
        sum.ok_or(SignError::Checksum {
            path: path.to_owned(),
            rule: "is not in the signed list of checksums",
        })
    }
}
