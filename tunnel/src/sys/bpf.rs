//! The TUN driver asks a program which queue a packet goes to (bpf(2), TUNSETSTEERINGEBPF of `linux/if_tun.h`).
//!
//! The program looks up the packet's destination in a longest-prefix map, whose values are queues; what the map
//! does not know goes to the first. So all packets to a peer go to one queue, whatever flow they are of, and stay
//! in order. What the map says is decided in `crate::tun`.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const MAP_TYPE_LPM_TRIE: u32 = 11;
/// `BPF_F_NO_PREALLOC`: a trie must have it.
const NO_PREALLOC: u32 = 1;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
/// `_IOR('T', 224, int)`.
const TUNSETSTEERINGEBPF: libc::c_ulong = 0x8004_54e0;

/// Networks in the map at most, three for each of 100,000 peers and more. Memory is taken as they come.
const MOST_NETWORKS: u32 = 1 << 20;

/// What the map is asked by: an IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`.
#[repr(C)]
struct Key {
    /// Of 128 bits.
    prefix: u32,
    address: [u8; 16],
}

impl Key {
    fn new(address: IpAddr, prefix: u8) -> Self {
        let (address, before) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96),
            IpAddr::V6(v6) => (v6, 0),
        };
        Self { prefix: before + u32::from(prefix), address: address.octets() }
    }
}

/// `struct bpf_attr` of `BPF_MAP_CREATE`, as far as it is not zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The same of `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_DELETE_ELEM`.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The same of `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    instructions: u32,
    program: u64,
    license: u64,
}

/// `struct bpf_insn`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Networks, and the queue of each.
#[derive(Debug)]
pub(crate) struct QueueMap(OwnedFd);

impl QueueMap {
    /// # Errors
    ///
    /// The kernel has no such maps, or we may not make one.
    pub(crate) fn new() -> io::Result<Self> {
        let attributes = MapCreate {
            map_type: MAP_TYPE_LPM_TRIE,
            key_size: size_of::<Key>() as u32,
            value_size: size_of::<u32>() as u32,
            max_entries: MOST_NETWORKS,
            map_flags: NO_PREALLOC,
        };
        // SAFETY: the attributes of this command hold no pointers.
        let fd = unsafe { bpf(MAP_CREATE, &attributes) }?;
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else knows.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Packets to this network go to `queue` from now on, unless they are to a narrower one.
    pub(crate) fn insert(&self, network: IpAddr, prefix: u8, queue: u32) -> io::Result<()> {
        let key = Key::new(network, prefix);
        self.element(MAP_UPDATE, &key, Some(&queue))
    }

    /// Forgets a network.
    pub(crate) fn remove(&self, network: IpAddr, prefix: u8) -> io::Result<()> {
        self.element(MAP_DELETE, &Key::new(network, prefix), None)
    }

    fn element(&self, command: libc::c_int, key: &Key, value: Option<&u32>) -> io::Result<()> {
        let attributes = Element {
            map: self.0.as_raw_fd() as u32,
            padding: 0,
            key: (&raw const *key).expose_provenance() as u64,
            value: value.map_or(0, |value| (&raw const *value).expose_provenance() as u64),
            flags: 0,
        };
        // SAFETY: the pointers are those of a key and a value of the sizes that the map was made with, borrowed
        // for the call, in which the kernel copies them. Without a value the command does not read one.
        unsafe { bpf(command, &attributes) }.map(drop)
    }
}

/// Has the TUN interface of `tun` ask `map` for the queue of each packet.
///
/// # Errors
///
/// The kernel refuses the program, or the driver is older than Linux 4.16.
pub(crate) fn steer(tun: BorrowedFd<'_>, map: &QueueMap) -> io::Result<()> {
    let program = program(map.0.as_raw_fd());
    let attributes = ProgLoad {
        prog_type: PROG_TYPE_SOCKET_FILTER,
        instructions: program.len() as u32,
        program: program.as_ptr().expose_provenance() as u64,
        license: c"".as_ptr().expose_provenance() as u64,
    };
    // SAFETY: the pointers are those of `program`, whose length is given, and of a C string; both live for the
    // call, in which the kernel copies and checks them.
    let fd = unsafe { bpf(PROG_LOAD, &attributes) }?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else knows.
    let loaded = unsafe { OwnedFd::from_raw_fd(fd) };
    let fd = loaded.as_raw_fd();
    // SAFETY: the ioctl reads an `int`, which lives for the call. The driver keeps the program by itself.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETSTEERINGEBPF as libc::Ioctl, &raw const fd) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The program. What it gets begins with the IP header.
fn program(map: RawFd) -> [Instruction; 33] {
    // The key is on the stack, below register 10: its address in octets -16 to -1, the prefix before it.
    let word = |at| code(LOAD_WORD, (0, 0), 0, at);
    let swap = code(TO_BIG_ENDIAN, (0, 0), 0, 32);
    let store = |at| code(STORE, (10, 0), at, 0);
    let constant = |at, value| code(STORE_CONSTANT, (10, 0), at, value);
    [
        code(MOVE, (6, 1), 0, 0),
        // A load beyond the packet's end ends the program with 0.
        code(LOAD_OCTET, (0, 0), 0, 0),
        code(SHIFT_RIGHT, (0, 0), 0, 4),
        code(JUMP_IF, (0, 0), 6, 6),
        code(JUMP_UNLESS, (0, 0), 26, 4),
        // IPv4: the last word is the destination.
        constant(-16, 0),
        constant(-12, 0),
        constant(-8, i32::from_ne_bytes([0, 0, 0xff, 0xff])),
        word(16),
        code(JUMP, (0, 0), 10, 0),
        // IPv6.
        word(24),
        swap,
        store(-16),
        word(28),
        swap,
        store(-12),
        word(32),
        swap,
        store(-8),
        word(36),
        // The last word of both.
        swap,
        store(-4),
        constant(-20, 128),
        code(LOAD_MAP, (1, 1), 0, map),
        code(0, (0, 0), 0, 0),
        code(MOVE, (2, 10), 0, 0),
        code(ADD, (2, 0), 0, -20),
        code(CALL, (0, 0), 0, MAP_LOOKUP),
        code(JUMP_IF, (0, 0), 2, 0),
        code(LOAD, (0, 0), 0, 0),
        code(EXIT, (0, 0), 0, 0),
        // Neither family, or not in the map.
        code(SET, (0, 0), 0, 0),
        code(EXIT, (0, 0), 0, 0),
    ]
}

// Of `linux/bpf.h` and Documentation/bpf/standardization/instruction-set.rst.
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const SHIFT_RIGHT: u8 = 0x77;
const TO_BIG_ENDIAN: u8 = 0xdc;
const LOAD: u8 = 0x61;
/// From the packet, by register 6, into register 0.
const LOAD_OCTET: u8 = 0x30;
const LOAD_WORD: u8 = 0x20;
/// Takes two instructions.
const LOAD_MAP: u8 = 0x18;
const STORE: u8 = 0x63;
const STORE_CONSTANT: u8 = 0x62;
const JUMP: u8 = 0x05;
const JUMP_IF: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const MAP_LOOKUP: i32 = 1;

const fn code(code: u8, (to, from): (u8, u8), offset: i16, immediate: i32) -> Instruction {
    // Two bit fields, which C lays out by the machine's order of octets.
    let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
    Instruction { code, registers, offset, immediate }
}

/// # Safety
///
/// `attributes` is a beginning of what the command takes, and the pointers in it are valid for the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads as many octets as the size says, and takes the rest for zeroes; what they point to
    // the caller answers for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    // A descriptor or zero.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
