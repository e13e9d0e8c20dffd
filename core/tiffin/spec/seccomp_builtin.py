"""Our own seccomp profile, for machines where no container package has installed one.

It denies by default with ENOSYS, so that programs fall back to older calls, and allows what
ordinary programs need. What is left out, on purpose: loading kernel code and modules, kexec,
reboot, swap, clocks, mounts and namespaces (each allowed with the capability that governs it),
ptrace of other generations, keyrings, bpf, perf, userfaultfd, io_uring, open_by_handle_at.
"""

from __future__ import annotations

from typing import Any

ALLOWED = """
accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
chown32 clock_adjtime clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futex_waitv futimesat
get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
linkat listen listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
mbind membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv
msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open
openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2
restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy set_robust_list set_thread_area
set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt
shmget shutdown sigaltstack signal signalfd signalfd4 sigprocmask sigreturn socketcall socketpair
splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs sysinfo
tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat utime
utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
""".split()

WITH_SYS_ADMIN = """
bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount
open_tree perf_event_open pivot_root quotactl quotactl_fd setdomainname sethostname setns syslog
umount umount2 unshare
""".split()

CLONE_NAMESPACES = 0x7E020000
"""All CLONE_NEW* flags of clone(2): without CAP_SYS_ADMIN none of them may be set."""

AF_VSOCK = 40


def _allow(names: list[str], *capabilities: str, **more: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW", **more}
    if capabilities:
        rule["includes"] = {"caps": list(capabilities)}
    return rule


def _argument(index: int, value: int, op: str, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": op}


PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
    ],
    "syscalls": [
        _allow(ALLOWED),
        _allow(["socket"], args=[_argument(0, AF_VSOCK, "SCMP_CMP_NE")]),
        _allow(
            ["personality"], args=[_argument(0, 0, "SCMP_CMP_EQ")]
        ),
        _allow(["personality"], args=[_argument(0, 0xFFFFFFFF, "SCMP_CMP_EQ")]),
        _allow(["personality"], args=[_argument(0, 0x0008, "SCMP_CMP_EQ")]),
        {
            **_allow(
                ["clone"], args=[_argument(0, CLONE_NAMESPACES, "SCMP_CMP_MASKED_EQ", 0)]
            ),
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        _allow(WITH_SYS_ADMIN, "CAP_SYS_ADMIN"),
        _allow(["chroot"], "CAP_SYS_CHROOT"),
        _allow(["delete_module", "init_module", "finit_module"], "CAP_SYS_MODULE"),
        _allow(["reboot"], "CAP_SYS_BOOT"),
        _allow(["acct"], "CAP_SYS_PACCT"),
        _allow(["open_by_handle_at"], "CAP_DAC_READ_SEARCH"),
        _allow(
            ["kcmp", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
            "CAP_SYS_PTRACE",
        ),
        _allow(["iopl", "ioperm"], "CAP_SYS_RAWIO"),
        _allow(["clock_settime", "clock_settime64", "settimeofday", "stime"], "CAP_SYS_TIME"),
        _allow(["vhangup"], "CAP_SYS_TTY_CONFIG"),
        _allow(["set_mempolicy_home_node"], "CAP_SYS_NICE"),
        _allow(["bpf"], "CAP_BPF"),
        _allow(["perf_event_open"], "CAP_PERFMON"),
        _allow(["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint",
                "cacheflush", "set_tls"]),
        _allow(["modify_ldt"]),
    ],
}  # fmt: skip
