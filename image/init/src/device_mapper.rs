//! The three calls that make a device-mapper device: create, load a table, resume (linux/dm-ioctl.h).
//!
//! A library exists for this, but needs udev; the initramfs has none, and devtmpfs makes `/dev/dm-0` by itself.

use crate::cmdline::Table;
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const CONTROL: &str = "/dev/mapper/control";
/// Octets of `struct dm_ioctl`.
const HEADER: usize = 312;
/// Octets of `struct dm_target_spec`.
const TARGET: usize = 40;
const NAME_LEN: usize = 128;
/// Room for a header, one target and its parameters.
const BUFFER: usize = 4096;
/// DM_READONLY_FLAG.
const READ_ONLY: u32 = 1;
/// Version 4.0.0 of the interface: every kernel since 2.6 takes it.
const VERSION: [u32; 3] = [4, 0, 0];

// Offsets in `struct dm_ioctl`.
const AT_DATA_SIZE: usize = 12;
const AT_DATA_START: usize = 16;
const AT_TARGET_COUNT: usize = 20;
const AT_FLAGS: usize = 28;
const AT_NAME: usize = 48;
// Offsets in `struct dm_target_spec`.
const AT_LENGTH: usize = HEADER + 8;
const AT_TYPE: usize = HEADER + 24;

/// DM_IOCTL. The size in a request's number is that of the header, whatever follows it.
const MAGIC: u8 = 0xfd;
const DEV_CREATE: u8 = 3;
/// Without its flag it resumes.
const DEV_SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;

type Buffer = [u8; BUFFER];

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[error("device mapper: {doing}")]
pub(crate) struct DeviceMapperError {
    doing: &'static str,
    source: io::Error,
}

/// Makes a read-only device `name` with one target over its whole length; the first one is `/dev/dm-0`.
///
/// # Errors
///
/// The kernel has no device mapper, or refuses the table.
pub(crate) fn create_verity(name: &str, table: &Table) -> Result<(), DeviceMapperError> {
    let failed = |doing| move |source| DeviceMapperError { doing, source };
    let control =
        File::options().read(true).write(true).open(CONTROL).map_err(failed("opening its control"))?;
    let too_long = || failed("the table")(Errno::ENAMETOOLONG.into());
    let request = || header(name).ok_or_else(too_long);
    let load = with_table(request()?, table).ok_or_else(too_long)?;
    for (command, mut buffer, doing) in [
        (DEV_CREATE, request()?, "creating the root device"),
        (TABLE_LOAD, load, "loading the verity table"),
        (DEV_SUSPEND, request()?, "starting the root device"),
    ] {
        call(&control, command, &mut buffer).map_err(|errno| failed(doing)(errno.into()))?;
    }
    Ok(())
}

fn call(control: &File, command: u8, buffer: &mut Buffer) -> nix::Result<()> {
    let request = nix::request_code_readwrite!(MAGIC, command, HEADER);
    // SAFETY: `control` is the open control device, and `buffer` is valid for as many octets as `data_size` in
    // its header tells the kernel.
    let result = unsafe { nix::libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    Errno::result(result).map(drop)
}

/// A request without a table.
fn header(name: &str) -> Option<Buffer> {
    let mut buffer = [0; BUFFER];
    for (index, part) in VERSION.into_iter().enumerate() {
        put(&mut buffer, index * 4, &part.to_ne_bytes())?;
    }
    put(&mut buffer, AT_DATA_SIZE, &(BUFFER as u32).to_ne_bytes())?;
    put(&mut buffer, AT_DATA_START, &(HEADER as u32).to_ne_bytes())?;
    put(&mut buffer, AT_FLAGS, &READ_ONLY.to_ne_bytes())?;
    // One octet stays zero: the kernel reads a C string.
    put(&mut buffer, AT_NAME, name.as_bytes()).filter(|()| name.len() < NAME_LEN)?;
    Some(buffer)
}

fn with_table(mut buffer: Buffer, table: &Table) -> Option<Buffer> {
    put(&mut buffer, AT_TARGET_COUNT, &1_u32.to_ne_bytes())?;
    put(&mut buffer, AT_LENGTH, &table.sectors.to_ne_bytes())?;
    put(&mut buffer, AT_TYPE, table.target.as_bytes())?;
    let start = HEADER + TARGET;
    put(&mut buffer, start, table.parameters.as_bytes())
        .filter(|()| start + table.parameters.len() < BUFFER)?;
    Some(buffer)
}

fn put(buffer: &mut Buffer, at: usize, octets: &[u8]) -> Option<()> {
    buffer.get_mut(at..at + octets.len())?.copy_from_slice(octets);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_as_the_kernel_reads_it() {
        let table = Table { sectors: 16, target: "verity", parameters: "1 8:1 8:1".to_owned() };
        let buffer = with_table(header("root").unwrap(), &table).unwrap();
        assert_eq!(&buffer[..16], [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(&buffer[48..53], b"root\0");
        assert_eq!(buffer[HEADER + 8], 16, "length of the target in sectors");
        assert_eq!(&buffer[HEADER + 24..HEADER + 31], b"verity\0");
        assert_eq!(&buffer[HEADER + 40..HEADER + 50], b"1 8:1 8:1\0");
        assert!(header(&"n".repeat(128)).is_none(), "no room for the end of the string");
    }
}
