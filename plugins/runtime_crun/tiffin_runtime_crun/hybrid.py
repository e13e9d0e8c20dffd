"""crun on a machine with cgroup v1 and v2 side by side ("hybrid").

crun refuses to create a container there. It is content in a mount namespace in which the v2 mount
is gone: `create` runs in one of its own. All other commands work as they are (tried with crun 1.8:
exec joins the container's cgroups, delete removes them).

The namespace keeps the propagation of every mount, so a shared volume still propagates to the
host. Only the parent of the v2 mount is made private first where it is shared (a host with
systemd), so that the unmount stays in the namespace.
"""

from __future__ import annotations

import time

from tiffin.hooks import DriverContext, runtime_tools

FRESH = 1.0
"""Seconds for which an answer holds."""
CGROUP = "/sys/fs/cgroup"
UNIFIED = f"{CGROUP}/unified"


def hybrid(mountinfo: str) -> tuple[bool, bool]:
    """From the text of /proc/self/mountinfo (proc_pid_mountinfo(5)): (whether v2 is mounted at
    `UNIFIED` beside v1 controllers, whether the mount around it is shared)."""
    v1 = v2 = shared = False
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split(" ")
        if len(words) < 6 or not words[4].startswith(CGROUP):
            continue
        kind = rest.partition(" ")[0]
        if words[4] == CGROUP:
            shared = any(word.startswith("shared:") for word in words[6:])
        elif kind == "cgroup2" and words[4] == UNIFIED:
            v2 = True
        elif kind == "cgroup":
            v1 = True
    return v1 and v2, shared


def script(crun: str, *, shared: bool) -> str:
    """The wrapper: conmon runs it with crun's arguments."""
    import shlex

    steps = [f"umount {UNIFIED}", f'exec {shlex.quote(crun)} "$@"']
    if shared:
        steps.insert(0, f"mount --make-private {CGROUP}")
    inner = shlex.quote(" && ".join(steps))
    return (
        "#!/bin/sh\n"
        "# Written by tiffin: crun creates no container while cgroup v2 is mounted beside v1.\n"
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        'for word do test "$word" != create ||\n'
        f'    exec unshare --mount --propagation unchanged /bin/sh -c {inner} crun "$@"\n'
        "done\n"
        f'exec {shlex.quote(crun)} "$@"\n'
    )


class Wrapper:
    """Says what conmon is to run for crun: crun itself, or the script where it is needed."""

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._last = 0.0, "", ""

    def __call__(self, crun: str) -> str:
        """As of a moment ago: the table of mounts is long where many containers run."""
        when, program, answer = self._last
        if program != crun or time.monotonic() - when > FRESH:
            answer = self._look(crun)
            self._last = time.monotonic(), crun, answer
        return answer

    def _look(self, crun: str) -> str:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            needed, shared = hybrid(file.read())
        if not needed:
            return crun
        path: str = runtime_tools().wrapper(
            self._context, "crun-hybrid", script(crun, shared=shared)
        )
        return path
