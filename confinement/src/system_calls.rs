//! System calls in reach (seccomp): a refused one fails with EPERM and changes nothing.
//!
//! A daemon that only moves packets gets a list of what it needs ([`SystemCalls::PacketMover`]). One that starts
//! other programs gets everything but what none of them has a use for ([`SystemCalls::Everyday`]): the parts of the
//! kernel that faults are found in again and again, and ways around the other layers.

use crate::ConfinementError;
use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use std::collections::BTreeMap;

const EPERM: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);

/// Programs of the x32 kind use the same processor mode, and these numbers with this bit.
#[cfg(target_arch = "x86_64")]
const X32: c_long = 0x4000_0000;

/// Which system calls stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCalls {
    /// What a process needs that moves packets between descriptors: no programs, no other processes.
    PacketMover,
    /// What programs of every day need.
    Everyday,
}

impl SystemCalls {
    /// Puts the filter in force for the calling thread and all that it starts.
    pub(crate) fn filter(self) -> Result<(), ConfinementError> {
        for program in self.programs().map_err(ConfinementError::SystemCalls)? {
            apply_filter(&program).map_err(ConfinementError::SystemCalls)?;
        }
        Ok(())
    }

    fn programs(self) -> Result<Vec<BpfProgram>, Error> {
        // Its flags lie in memory, where no filter can read them. The C libraries try clone(2) on this answer.
        let absent = SeccompAction::Errno(libc::ENOSYS as u32);
        let without_clone3 =
            compile(BTreeMap::from([(libc::SYS_clone3, vec![])]), SeccompAction::Allow, absent)?;
        let filter = match self {
            Self::PacketMover => compile(packet_mover()?, EPERM, SeccompAction::Allow)?,
            Self::Everyday => compile(barred()?, SeccompAction::Allow, EPERM)?,
        };
        Ok(vec![without_clone3, filter])
    }
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?)
}

/// Argument `index` is one of `values`.
fn one_of(index: u8, values: &[libc::c_int]) -> Result<Vec<SeccompRule>, Error> {
    let rule = |value: libc::c_int| {
        let value = u64::from(value.cast_unsigned());
        Ok(SeccompRule::new(vec![SeccompCondition::new(
            index,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            value,
        )?])?)
    };
    values.iter().copied().map(rule).collect()
}

/// Argument `index` has one of the bits of `mask`.
fn any_bit(index: u8, mask: libc::c_int) -> Result<Vec<SeccompRule>, Error> {
    let rule = |bit: u64| {
        let compare = SeccompCmpOp::MaskedEq(bit);
        Ok(SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Qword, compare, bit)?])?)
    };
    let mask = u64::from(mask.cast_unsigned());
    (0..32).map(|shift| 1 << shift).filter(|bit| mask & bit != 0).map(rule).collect()
}

fn packet_mover() -> Result<Rules, Error> {
    let mut rules: Rules = PACKET_MOVER.iter().map(|&call| (call, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(PACKET_MOVER_X86_64.iter().map(|&call| (call, vec![])));
    // Threads of its own, no processes.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let of_thread =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![of_thread])?]);
    rules.insert(
        libc::SYS_socket,
        one_of(0, &[libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK])?,
    );
    // Names of threads, and of memory by newer C libraries.
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, PR_SET_VMA])?);
    // Elements of the map of queues, whose descriptor is there.
    rules.insert(libc::SYS_bpf, one_of(0, &[BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM])?);
    Ok(rules)
}

fn barred() -> Result<Rules, Error> {
    let mut rules: Rules = BARRED.iter().map(|&call| (call, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(BARRED_X86_64.iter().map(|&call| (call, vec![])));
    rules.insert(libc::SYS_clone, any_bit(0, NAMESPACES)?);
    rules.insert(libc::SYS_unshare, vec![]);
    #[cfg(target_arch = "x86_64")]
    {
        let x32: Rules = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(x32);
    }
    Ok(rules)
}

const PR_SET_VMA: libc::c_int = 0x5356_4d41;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;

/// A namespace of one's own makes a root of one's own, for whom much of the kernel opens.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Memory, threads and time; descriptors and files; sockets.
const PACKET_MOVER: &[c_long] = &[
    // memory
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // threads, signals to itself, time
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // Answered before by the other filter.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
    // descriptors and files
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // sockets
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// The same under older names, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const PACKET_MOVER_X86_64: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];

/// Kernel code and kexec; file systems; other processes' memory; tracing; namespaces; keys; asynchronous rings.
const BARRED: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// What only this architecture has, or lists under this name.
#[cfg(target_arch = "x86_64")]
const BARRED_X86_64: &[c_long] =
    &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_kexec_file_load, libc::SYS_modify_ldt, libc::SYS_uselib];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_within_the_kernels_limit() {
        for calls in [SystemCalls::PacketMover, SystemCalls::Everyday] {
            let programs = calls.programs().unwrap();
            // BPF_MAXINSNS
            assert!(programs.iter().all(|program| program.len() < 4096), "{calls:?}");
        }
    }
}
