"""The profile that a container has when nobody asks for another (apparmor.d(5)).

It allows what the capabilities and namespaces of a container allow, and denies what would reach
through /proc and /sys to the host, even to a process that has got more capabilities than meant.
"""

from __future__ import annotations

NAME = "tiffin-default"

# Some distributions have profiles for the runtimes (flag `unconfined`), named after their programs.
TEXT = f"""\
profile {NAME} flags=(attach_disconnected,mediate_deleted) {{
  network,
  unix,
  capability,
  file,
  umount,

  # The engine and the runtimes may end it; inside, it is free to signal and to trace.
  signal (receive) peer=unconfined,
  signal (receive) peer={{,/usr}}{{,/bin/,/sbin/}}{{crun,runc,conmon}},
  signal (send, receive) peer={NAME},
  ptrace (trace, read, tracedby, readby) peer={NAME},

  # The host's memory, its magic keys, and settings that are not those of a namespace.
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwkl,
  deny /proc/{{acpi,asound,bus,driver,fs,irq,scsi,tty}}/** wkl,
  deny /proc/sys/{{abi,crypto,debug,dev,user,vm}}/** wkl,
  deny /proc/sys/fs/{{binfmt_misc/**,suid_dumpable,pipe-*,file-max,nr_open,protected_*}} wkl,
  deny /proc/sys/kernel/{{c,f,h,i,k,l,o,p,r,t,u}}** wkl,
  deny /proc/sys/kernel/{{modprobe,modules_disabled,max_*,ns_last_pid,nmi_watchdog}} wkl,
  deny /proc/sys/kernel/{{seccomp,sched,stack,sysrq,sysctl,split,soft}}** wkl,

  # Of /sys, nothing but its own cgroup may be written.
  deny /sys/{{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}}/** wkl,
  deny /sys/fs/[^c]*/** wkl,
  deny /sys/{{firmware,kernel/security,devices/virtual/powercap}}/** r,

  # A new mount could show all of it in another place.
  deny mount,
}}
"""


def parse_loaded(text: str) -> dict[str, str]:
    """{profile: mode} of securityfs's `profiles`: lines `NAME (MODE)`."""
    found = {}
    for line in text.splitlines():
        name, _, mode = line.rpartition(" ")
        if name and mode.startswith("(") and mode.endswith(")"):
            found[name] = mode[1:-1]
    return found
