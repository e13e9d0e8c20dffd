"""The machine from outside of the engine: mounts, links, cgroups, rules, processes."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

OURS = re.compile(r"conmon|runc(:\[\d)?|crun|tiffin|docker-registry|aardvark-dns")
CGROUP = re.compile(r"tiffin|conmon|[0-9a-f]{64}")


class Mount(NamedTuple):
    target: str
    type: str
    source: str
    root: str
    options: frozenset[str]


def mounts(pid: int | str = "self") -> list[Mount]:
    """proc_pid_mountinfo(5), with the super block's options among the options."""
    found = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        fields, (kind, source, superblock) = left.split(), right.split(" ", 2)
        options = frozenset((*fields[5].split(","), *superblock.split(",")))
        found.append(Mount(_plain(fields[4]), kind, _plain(source), _plain(fields[3]), options))
    return found


def _plain(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field)


def mounts_below(directory: Path | str, pid: int | str = "self") -> list[Mount]:
    return [m for m in mounts(pid) if f"{m.target}/".startswith(f"{directory}/")]


def unmount_below(directory: Path) -> None:
    for mount in reversed(mounts_below(directory)):
        subprocess.run(["umount", "-l", mount.target], check=False)


def processes() -> Iterator[tuple[int, str, str]]:
    """(pid, name, command line) of all that run."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                name = Path(f"/proc/{entry}/comm").read_text().strip()
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:  # it ended while we looked
                continue
            yield int(entry), name, line.replace(b"\0", b" ").decode(errors="replace")


def status(pid: int, key: str) -> str:
    """A line of /proc/PID/status: `CapEff`, `Seccomp`, `PPid`, ..."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return line.split(":", 1)[1].strip()
    raise AssertionError(f"no {key} in /proc/{pid}/status")


def parent(pid: int) -> int:
    return int(status(pid, "PPid"))


def alive(pid: int) -> bool:
    """True for a process that is not a zombie."""
    try:
        return not status(pid, "State").startswith("Z")
    except OSError:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def remove(directory: Path) -> None:
    shutil.rmtree(directory)


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def cgroup_file(pid: int, controller: str, v1: str, v2: str) -> str:
    """The content of a file in a process's cgroup, whichever version of cgroups this is."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, names, path = line.split(":", 2)
        if controller in names.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text().strip()
        if number == "0" and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            return Path(f"/sys/fs/cgroup{path}/{v2}").read_text().strip()
    raise AssertionError(f"{pid} is in no {controller} cgroup")


def cgroups() -> set[str]:
    return {
        path
        for path, _, _ in os.walk("/sys/fs/cgroup")
        if CGROUP.search(path.removeprefix("/sys/fs/cgroup"))
    }


def ruleset() -> str:
    return subprocess.run(
        ["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def snapshot() -> set[str]:
    """Everything that an engine could leave behind on this machine, one line each.

    Not crun's /tmp/crun.XXXXXX: it mounts its own program there for a moment (CVE-2019-5736), and
    where a test kills it in that moment nobody can know of it."""
    all_of_them = (f"mount {mount.target} {mount.type}" for mount in mounts())
    found = {line for line in all_of_them if not line.startswith("mount /tmp/crun.")}
    found |= {f"netns {path}" for path in glob.glob("/run/netns/*")}
    found |= {f"link {name}" for name in links()}
    found |= {f"cgroup {path}" for path in cgroups()}
    found |= {f"nft {line.strip()}" for line in ruleset().splitlines() if line.strip(" \t}")}
    found |= {f"process {pid} {name}" for pid, name, _ in processes() if OURS.match(name)}
    for directory in ("/run/tiffin", "/var/lib/tiffin"):
        found |= {f"directory {path}" for path in glob.glob(f"{directory}/**", recursive=True)}
    found |= {f"directory {path}" for path in glob.glob("/tmp/tfn-*")}
    return found


def sweep(base: Path) -> None:
    """Whatever a failed test left: end conmons and what runs below them, unmount, delete."""
    conmons = [pid for pid, _, line in processes() if f"{base}/" in line]
    children = [pid for pid, _, _ in processes() if pid not in conmons and _parent(pid) in conmons]
    for pid in conmons + children:
        with contextlib.suppress(ProcessLookupError):
            kill(pid)
    unmount_below(base)
    shutil.rmtree(base)


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return parent(pid)
    return 0


def traces_of(base: Path, ids: Iterable[str]) -> list[str]:
    """What of the snapshot belongs to the store below `base`, or to containers with these ids."""
    ids = list(ids)
    found = [f"mount {mount.target}" for mount in mounts_below(base)]
    found += [f"process {pid} {line}" for pid, _, line in processes() if f"{base}/" in line]
    found += [f"cgroup {path}" for path in cgroups() if any(i in path for i in ids)]
    rules = ruleset().splitlines()
    found += [f"nft {line.strip()}" for line in rules if any(i[:12] in line for i in ids)]
    return found
