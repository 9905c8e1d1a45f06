//! What goes into an image: packages, programs, modules, per edition. A list to read, without logic.

/// Which kernel and hardware an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Edition {
    /// Virtual machines: the software edition, the gateway, tests. Boots fastest.
    Cloud,
    /// Boxes: the drivers of common hardware.
    Generic,
}

impl Edition {
    /// As in names of files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }

    /// Debian's package of the kernel, which depends on the current version.
    pub(crate) const fn kernel_package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }

    /// Seconds that the boot chooser gives a slot to start and feed the hardware watchdog. Debian's kernel for virtual
    /// machines has no driver for one: nobody would feed it.
    pub(crate) const fn watchdog(self) -> u32 {
        match self {
            Self::Cloud => 0,
            Self::Generic => 120,
        }
    }

    /// What the initramfs needs to reach the root.
    pub(crate) fn boot_modules(self) -> Vec<&'static str> {
        match self {
            Self::Cloud => BOOT_MODULES.to_vec(),
            Self::Generic => [GENERIC_BOOT_MODULES, BOOT_MODULES].concat(),
        }
    }

    /// What the running system may load.
    pub(crate) fn modules(self) -> Vec<&'static str> {
        let mut modules = self.boot_modules();
        modules.extend(MODULES);
        if self == Self::Generic {
            modules.extend(GENERIC_MODULES);
        }
        modules
    }
}

/// Debian packages that the root's files come from.
pub(crate) const ROOT_PACKAGES: &[&str] = &[
    "busybox-static",
    "nftables",
    "dnsmasq-base",
    "chrony",
    "ppp",
    "conntrack",
    "e2fsprogs",
    "efibootguard",
];

/// Debian packages with the tools of the build, and with what boots.
pub(crate) const TOOL_PACKAGES: &[&str] = &[
    "squashfs-tools",
    "cryptsetup-bin",
    "kmod",
    "mtools",
    "dosfstools",
    "fdisk",
    "zstd",
    "sbsigntool",
    "efibootguard",
    "systemd-boot-efi",
    "qemu-utils",
];

/// The tool packages that leave something in an image: the boot chooser and the kernel image's stub.
pub(crate) const BOOT_PACKAGES: &[&str] = &["efibootguard", "systemd-boot-efi"];

/// Programs of those packages; the libraries follow by themselves.
pub(crate) const PROGRAMS: &[&str] = &[
    "/bin/busybox",
    "/usr/sbin/nft",
    "/usr/sbin/dnsmasq",
    "/usr/sbin/chronyd",
    "/usr/bin/chronyc",
    "/usr/sbin/pppd",
    "/usr/sbin/conntrack",
    "/sbin/mke2fs",
    "/sbin/e2fsck",
    "/usr/bin/bg_setenv",
    "/usr/bin/bg_printenv",
];

/// Folders of those packages that are taken whole.
pub(crate) const FOLDERS: &[&str] = &["/usr/lib/pppd"];

/// Crates with our own programs.
pub(crate) const OUR_CRATES: &[&str] = &["edge-tunnel", "edge-agent", "verona-init"];

/// Our own programs in the root; `verona-init` is in the initramfs.
pub(crate) const OUR_PROGRAMS: &[&str] = &["edge-tunnel", "edge-agent", "edgectl"];

/// Rust's name of what an image runs on.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

const BOOT_MODULES: &[&str] =
    &["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "sd_mod", "dm-mod", "dm-verity", "squashfs"];

/// The watchdogs come first: one that nobody feeds restarts a box that hangs anywhere behind them. A box's board names
/// its own by one of the busses.
const GENERIC_BOOT_MODULES: &[&str] = &[
    "i6300esb",
    "wdat_wdt",
    "iTCO_wdt",
    "lpc_ich",
    "i2c_i801",
    "sp5100_tco",
    // ext4 and nf_tables ask for it by the name of the algorithm, which no list of dependencies tells.
    "crc32c_generic",
    "crc32c_intel",
    "nvme",
    "ahci",
    "ata_piix",
    "xhci_pci",
    "ehci_pci",
    "usb_storage",
    "uas",
    "sdhci_pci",
    "mmc_block",
    "ext4",
];

const MODULES: &[&str] = &[
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "tun",
    "bridge",
    "8021q",
    "veth",
    "dummy",
    "isofs",
    "sr_mod",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "nf_tables",
    "nft_ct",
    "nft_nat",
    "nft_chain_nat",
    "nft_connlimit",
    "nft_masq",
    "nft_redir",
    "nft_limit",
    "nft_log",
    "nft_reject_inet",
    "nft_fib_inet",
    "nft_flow_offload",
    "nf_conntrack_netlink",
    "nfnetlink_log",
    "sch_cake",
    "sch_fq_codel",
    "ip6_tunnel",
    "tcp_bbr",
    "cls_bpf",
    "softdog",
    "loop",
    "overlay",
    "button",
    "evdev",
];

const GENERIC_MODULES: &[&str] = &[
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "r8169",
    "ixgbe",
    "pppoe",
    "ppp_async",
    "usbhid",
    "gpio_keys",
    "gpio_keys_polled",
    "soc_button_array",
    "pcengines-apuv2",
];
