//! The variable store of OVMF, with somebody's own Secure Boot keys in it.
//!
//! A store is a firmware volume with a list of authenticated variables (EDK II,
//! `MdeModulePkg/Include/Guid/VariableFormat.h`). The firmware's own way to enrol keys is a menu for a person; writing
//! the list is the same to a machine that has never been switched on.

use crate::namespace::checked;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// UEFI without Secure Boot, of Debian's package ovmf.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// UEFI that checks signatures, and keeps its variables from the system that it starts.
pub const OVMF_CODE_SECURE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Their variables as they leave the factory.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Where the list of variables begins: behind the headers of the volume and of the store.
const FIRST: usize = 0x64;
/// The type of the store: `gEfiAuthenticatedVariableGuid`.
const AUTHENTICATED: Guid = guid(0xaaf3_2c78, 0x947b, 0x439a, *b"\xa1\x80\x2e\x14\x4e\xc3\x77\x92");
const AT_STORE_TYPE: usize = 0x48;
const AT_STORE_SIZE: usize = 0x58;
/// Octets of a variable's header.
const HEADER: usize = 60;
/// Kept, and seen by boot services.
const BOOT: u32 = 0x3;
/// Kept, seen by all, and changed only by who holds the key above it.
const AUTHENTICATED_WRITE: u32 = 0x27;

const GLOBAL: Guid = guid(0x8be4_df61, 0x93ca, 0x11d2, *b"\xaa\x0d\x00\xe0\x98\x03\x2b\x8c");
const SECURITY_DATABASE: Guid = guid(0xd719_b2cb, 0x3d3a, 0x4596, *b"\xa3\xbc\xda\xd0\x0e\x67\x65\x6f");
const SECURE_BOOT_ENABLE: Guid = guid(0xf0a3_0bc7, 0xaf08, 0x4556, *b"\x99\xc4\x00\x10\x09\xc9\x3a\x44");
const CUSTOM_MODE: Guid = guid(0xc076_ec0c, 0x7028, 0x4399, *b"\xa0\x72\x71\xee\x5c\x44\x8b\x9f");
/// `EFI_CERT_X509_GUID`.
const X509: Guid = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, *b"\x87\xb5\xab\x15\x5c\x2b\xf0\x72");
/// Who enrolled the keys: any value does.
const OWNER: Guid = guid(0x5645_524f, 0x4e41, 0x4544, *b"\x47\x45\x00\x00\x00\x00\x00\x01");

type Guid = [u8; 16];

/// As UEFI stores it: the first three fields are little-endian.
const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Guid {
    let (a, b, c) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let r = rest;
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]]
}

/// A fresh copy of the variables at `to`.
///
/// # Errors
///
/// OVMF is not installed, or there is no room.
pub fn factory_variables(to: &Path) -> Result<PathBuf> {
    std::fs::copy(OVMF_VARS, to).map_err(Error::io(format!("copy {OVMF_VARS} to {}", to.display())))?;
    Ok(to.to_owned())
}

/// Variables at `to` with Secure Boot on, and the certificates `PK.crt`, `KEK.crt` and `db.crt` of a folder (PEM).
///
/// # Errors
///
/// OVMF or a certificate is not there.
pub fn enrolled_variables(to: &Path, keys: &Path) -> Result<PathBuf> {
    let mut store = std::fs::read(OVMF_VARS).map_err(Error::io(format!("read {OVMF_VARS}")))?;
    let certificate = |name: &str| -> Result<Vec<u8>> {
        let mut command = Command::new("openssl");
        command.args(["x509", "-outform", "DER", "-in"]).arg(keys.join(name).with_extension("crt"));
        Ok(signature_list(&checked(&mut command)?.stdout))
    };
    let variables = [
        ("PK", GLOBAL, AUTHENTICATED_WRITE, certificate("PK")?),
        ("KEK", GLOBAL, AUTHENTICATED_WRITE, certificate("KEK")?),
        ("db", SECURITY_DATABASE, AUTHENTICATED_WRITE, certificate("db")?),
        ("SecureBootEnable", SECURE_BOOT_ENABLE, BOOT, vec![1]),
        ("CustomMode", CUSTOM_MODE, BOOT, vec![0]),
    ];
    let list: Vec<u8> = variables.iter().fold(Vec::new(), |mut list, (name, vendor, attributes, data)| {
        list.extend(variable(name, vendor, *attributes, data));
        list.resize(list.len().next_multiple_of(4), 0xff);
        list
    });
    let room = room(&store)
        .ok_or_else(|| Error::Environment(format!("{OVMF_VARS} is no empty store of variables")))?;
    match store.get_mut(FIRST..room).and_then(|room| room.get_mut(..list.len())) {
        Some(place) => place.copy_from_slice(&list),
        None => return Err(Error::Environment(format!("the keys of {} are too large", keys.display()))),
    }
    std::fs::write(to, store).map_err(Error::io(format!("write {}", to.display())))?;
    Ok(to.to_owned())
}

/// Where an empty store ends; none if it is another thing.
fn room(store: &[u8]) -> Option<usize> {
    let size = u32::from_le_bytes(store.get(AT_STORE_SIZE..AT_STORE_SIZE + 4)?.try_into().ok()?);
    let of_that_type = store.get(AT_STORE_TYPE..AT_STORE_TYPE + 16)? == AUTHENTICATED;
    let empty = store.get(FIRST..FIRST + HEADER)?.iter().all(|octet| *octet == 0xff);
    (of_that_type && empty).then(|| AT_STORE_TYPE + size as usize)
}

/// `EFI_SIGNATURE_LIST` of one certificate (UEFI specification §32.4.1).
fn signature_list(certificate: &[u8]) -> Vec<u8> {
    let signature = 16 + certificate.len() as u32;
    let mut list = X509.to_vec();
    for field in [28 + signature, 0, signature] {
        list.extend(field.to_le_bytes());
    }
    list.extend(OWNER);
    list.extend(certificate);
    list
}

fn variable(name: &str, vendor: &Guid, attributes: u32, data: &[u8]) -> Vec<u8> {
    /// The first octets of a variable, and the state of one that is in use.
    const IN_USE: [u8; 4] = [0xaa, 0x55, 0x3f, 0];
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut octets = IN_USE.to_vec();
    octets.extend(attributes.to_le_bytes());
    // Counter, time, index of a key: for changes that come later.
    octets.resize(36, 0);
    octets.extend((name.len() as u32).to_le_bytes());
    octets.extend((data.len() as u32).to_le_bytes());
    octets.extend(vendor);
    octets.extend(name);
    octets.extend(data);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_to_the_octet() {
        let octets = variable("CustomMode", &CUSTOM_MODE, BOOT, &[0]);
        assert_eq!(octets.len(), HEADER + 22 + 1);
        assert_eq!(octets[..8], [0xaa, 0x55, 0x3f, 0, 3, 0, 0, 0]);
        assert_eq!(octets[36..44], [0x16, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(octets[44..52], *b"\x0c\xec\x76\xc0\x28\x70\x99\x43", "as Debian's own store has it");
        assert_eq!(octets[60..64], *b"C\0u\0");
    }

    #[test]
    fn a_list_of_one_certificate() {
        let list = signature_list(&[7; 100]);
        assert_eq!(list.len(), 144);
        assert_eq!(list[16..28], [144, 0, 0, 0, 0, 0, 0, 0, 116, 0, 0, 0]);
        assert_eq!(list[44..], [7; 100]);
    }

    #[test]
    fn only_an_empty_store_is_filled() {
        let mut store = vec![0xff; 1000];
        store[AT_STORE_TYPE..][..16].copy_from_slice(&AUTHENTICATED);
        store[AT_STORE_SIZE..][..4].copy_from_slice(&900_u32.to_le_bytes());
        assert_eq!(room(&store), Some(AT_STORE_TYPE + 900));
        store[FIRST] = 0xaa;
        assert_eq!(room(&store), None, "it has variables");
        assert_eq!(room(&[0xff; 1000]), None);
        assert_eq!(room(&[]), None);
    }
}
