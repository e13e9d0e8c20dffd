"""The name server of a store's networks: aardvark-dns, one for all of them (a container on two
networks may ask at either for the names of both).

It is told of a change by a signal, but then closes its sockets before it opens them again
(1.4.0): queries get lost. So there are two: one is asked, and a change is told to the other, the
spare, on another port. When it listens again the rules hand it the queries in one transaction, and
the first is the spare. One that still has answers to give is no spare yet: another is started then.
A server is a directory, by number, with its files and its pid; `present` and `spare` are links to
two of them. Without `spare` (a command was killed in the middle, or others may be asked) there is
none. Callers hold the lock of the machine's networks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tiffin.errors import DriverError

from . import cgroups, rules, zones
from .firewall import Firewall
from .zones import Change, Zones

PLACES = ("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns")
PID = "aardvark.pid"
PRESENT, SPARE = "present", "spare"
TURNS = 8
"""Ports that the servers of a store take turns on, below those that the kernel hands out."""
LINGERING = 5
"""Servers that may still be answering while the present one is asked."""
START = 2.0
"""Seconds that a new server may take to listen; it takes 2 ms."""
RELOAD = 0.5
"""Seconds that the spare may take to listen again (it takes 1 ms) before a new one is started."""
KEEPS_SOCKETS = (1, 11)
"""The first version that goes on listening where it does: one cannot see when it has reloaded."""
LAST_ANSWERS = 0.005
"""Seconds in which a server mostly has answered what it was asked before the change."""
TOO_OLD = 10.0
"""Seconds after which nobody waits for an answer any more (resolv.conf(5), timeout, attempts)."""


class Socket(NamedTuple):
    address: str
    port: int
    waiting: int
    """Bytes that were not read yet."""


class Resolver:
    """The servers of one store."""

    def __init__(self, run: str, firewall: Firewall) -> None:
        self.directory = f"{run}/names"
        self.firewall = firewall
        self.first_port = 20000 + zlib.crc32(run.encode()) % 1450 * TURNS

    def change(self, changes: Sequence[Change]) -> None:
        """Serve names as they are after these changes. Errors: DriverError, UserError; the names
        are then what they were, but when containers only leave, these are gone: the present
        server is told, which is better than that it says what is wrong."""
        if any(change.mend for change in changes):
            self.firewall.run(rules.NAMES_SETUP)
        try:
            self._change(changes)
        except DriverError:
            if any(change.what != "leave" for change in changes):
                raise
            current = self._present(self._numbers())
            self._write(current, zones.changed(self._read(current), changes))
            pid = self._pid(current)
            if pid:
                os.kill(pid, signal.SIGHUP)

    def _change(self, changes: Sequence[Change]) -> None:
        numbers = self._numbers()
        current = self._present(numbers)
        before = self._read(current) if numbers else {}
        after = zones.changed(before, changes)
        if not after:
            self._end(before, numbers, current)
            return
        if after == before and self._pid(current):
            self._point(before, after, current, current)
            return
        number = self._from_spare(current, after) or self._new(numbers, after)
        try:
            self._point(before, after, current, number)
        except BaseException:  # whatever it is; raised again
            self._kill(number)
            raise
        self._link(PRESENT, number)
        if numbers:
            os.utime(self._place(current))  # since when it is not asked any more
            self._retire([n for n in self._numbers() if n not in (current, number)])
            if self._reopens():
                self._link(SPARE, current)
            else:
                self._retire([current])

    # --- the spare --------------------------------------------------------------------------------

    def _from_spare(self, current: int, content: Zones) -> int:
        """The number of the spare when it serves this now, or 0."""
        number = self._linked(SPARE)
        if not number:
            return 0
        os.unlink(f"{self.directory}/{SPARE}")  # until the change is complete it is nobody's
        pid = self._pid(number)
        if number == current or not pid or self._has_answers(number, pid):
            return 0
        self._write(number, content)
        if not self._reload(number, pid, content):
            self._kill(number)
            return 0
        return number

    def _reload(self, number: int, pid: int, content: Zones) -> bool:
        """False when it does not listen in time. Its sockets are new ones then, with all that it
        has read: it reads first, and before that it is ready for the next signal."""
        port = self._port(number)
        wanted = {(address, port) for _, address in _gateways(content)}
        closing = {inode for inode, one in _sockets().items() if one.port == port}
        os.kill(pid, signal.SIGHUP)
        end = time.monotonic() + RELOAD
        while time.monotonic() < end:
            time.sleep(0.001)
            found = _sockets()
            there = {(s.address, s.port) for inode, s in found.items() if inode not in closing}
            if there.issuperset(wanted):
                return True
        return False

    def _reopens(self) -> bool:
        """True for a version of the server that opens its sockets anew when it reloads; asked once
        in the life of a store's servers."""
        path = f"{self.directory}/version"
        try:
            with open(path, encoding="ascii") as file:
                text = file.read()
        except FileNotFoundError:
            text = _version()
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
        return reopens(text)

    def _linked(self, what: str) -> int:
        try:
            return int(os.readlink(f"{self.directory}/{what}"))
        except (OSError, ValueError):
            return 0

    def _link(self, what: str, number: int) -> None:
        new = f"{self.directory}/new-link"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        os.symlink(str(number), new)
        os.replace(new, f"{self.directory}/{what}")

    def _present(self, numbers: list[int]) -> int:
        """The server that is asked; 0 when there is none."""
        linked = self._linked(PRESENT)
        return linked if linked in numbers else max(numbers, default=0)

    # --- the servers ------------------------------------------------------------------------------

    def _port(self, number: int) -> int:
        return self.first_port + number % TURNS

    def _place(self, number: int) -> str:
        return f"{self.directory}/{number}"

    def _numbers(self) -> list[int]:
        try:
            return sorted(int(name) for name in os.listdir(self.directory) if name.isdecimal())
        except FileNotFoundError:
            return []

    def _read(self, number: int) -> Zones:
        found = {}
        for name in os.listdir(self._place(number)):
            if name != PID:
                with open(f"{self._place(number)}/{name}", encoding="ascii") as file:
                    found[name] = zones.parse(file.read())
        return found

    def _write(self, number: int, content: Zones) -> None:
        """A directory appears when it is complete; in one that is there each file changes at
        once."""
        final = self._place(number)
        place = final if os.path.isdir(final) else f"{self.directory}/new"
        os.makedirs(place, mode=0o700, exist_ok=True)
        for name in set(os.listdir(place)) - content.keys() - {PID}:
            os.unlink(f"{place}/{name}")
        for name, zone in content.items():
            temporary = f"{self.directory}/new-file"
            with open(temporary, "w", encoding="ascii") as file:
                file.write(zones.render(zone))
            os.replace(temporary, f"{place}/{name}")
        if place != final:
            os.rename(place, final)

    def _new(self, numbers: list[int], content: Zones) -> int:
        """Start another server. Returns its number."""
        number = self._next(max(numbers, default=0), content)
        self._write(number, content)
        try:
            self._start(number, content)
        except BaseException:  # whatever it is; raised again
            self._kill(number)
            raise
        return number

    def _next(self, last: int, content: Zones) -> int:
        """The number of the next server: that of a port which is free at all gateways."""
        for number in range(last + 1, last + 1 + TURNS):
            if all(_free(address, self._port(number)) for _, address in _gateways(content)):
                return number
        raise DriverError(
            f"the ports {self.first_port} to {self.first_port + TURNS - 1} are in use, and the "
            "names of containers cannot be served",
            hint="ss -lunp shows by whom",
        )

    def _start(self, number: int, content: Zones) -> None:
        port, place = self._port(number), self._place(number)
        program = _program()
        if not program:
            raise DriverError(
                "aardvark-dns is not installed, which serves the names of containers",
                hint="install it: apt install aardvark-dns; or make the network with --disable-dns",
            )
        nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
        argv = [program, "--config", place, "--port", str(port), "run"]
        child = os.posix_spawn(program, argv, {"PATH": os.defpath}, file_actions=nothing)
        _, status = os.waitpid(child, 0)  # it goes into the background when it has forked
        wanted = [(address, port) for _, address in _gateways(content)]
        end = time.monotonic() + START
        while status == 0:
            there = {(s.address, s.port) for s in _sockets().values()}
            if there.issuperset(wanted):
                break
            if time.monotonic() > end:
                status = 1
            time.sleep(0.0003)
        if status:
            missing = ", ".join(f"{a} port {p}" for a, p in wanted)
            raise DriverError(
                f"aardvark-dns does not listen on {missing}", hint=f"its files are in {place}"
            )
        cgroups.leave(self._pid(number))

    def _pid(self, number: int) -> int:
        """The process of a server, 0 when it is gone (pids are used again)."""
        place = self._place(number)
        try:
            with open(f"{place}/{PID}", encoding="ascii") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return pid if place.encode() in file.read().split(b"\0") else 0
        except (OSError, ValueError):
            return 0

    def _kill(self, number: int) -> None:
        pid = self._pid(number)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        place = self._place(number)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(place):
                os.unlink(f"{place}/{name}")
            os.rmdir(place)

    def _has_answers(self, number: int, pid: int) -> bool:
        """True while a server that is not asked any more may have answers to give."""
        age = time.time() - os.stat(self._place(number)).st_mtime
        return age <= TOO_OLD and _answering(pid, self._port(number))

    def _retire(self, numbers: list[int]) -> None:
        """End servers that are not asked any more. Those that still have answers to give are left
        to a later change, but not many of them."""
        if not numbers:
            return
        end = time.monotonic() + LAST_ANSWERS
        numbers = sorted(numbers, key=lambda number: os.stat(self._place(number)).st_mtime)
        for number in reversed(numbers):
            pid = self._pid(number)
            while pid and self._has_answers(number, pid) and time.monotonic() < end:
                time.sleep(0.001)
            crowded = number in numbers[:-LINGERING]
            if crowded or not (pid and self._has_answers(number, pid)):
                self._kill(number)

    def _end(self, before: Zones, numbers: list[int], current: int) -> None:
        """No container is left that has a name."""
        if before:
            self._point(before, {}, current, current)
        for number in numbers:
            self._kill(number)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                if name == "new":  # a command was killed while it wrote
                    for part in os.listdir(f"{self.directory}/new"):
                        os.unlink(f"{self.directory}/new/{part}")
                    os.rmdir(f"{self.directory}/new")
                else:
                    os.unlink(f"{self.directory}/{name}")
            os.rmdir(self.directory)

    # --- rules ------------------------------------------------------------------------------------

    def _point(self, before: Zones, after: Zones, current: int, number: int) -> None:
        """Hand all queries to a server's port, in one transaction."""
        ports = [self.first_port + turn for turn in range(TURNS)]
        old, gone, new = [], [], []
        for name, address in _gateways(before):
            old += rules.asked_elements(name, address, self._port(current))
            if name not in after:
                gone += rules.served_elements(name, address, ports)
        for name, address in _gateways(after):
            new += rules.served_elements(name, address, ports)
            new += rules.asked_elements(name, address, self._port(number))
        text = rules.delete(old + gone) + rules.add(new)
        failed = self.firewall.run(text)
        if "No such file or directory" in failed:
            if not new:
                return  # without the maps there are no rules of ours
            failed = self.firewall.run(rules.NAMES_SETUP + rules.add(new))
        elif "File exists" in failed:  # somebody changed them, or a command was killed
            ours = {element[1] for element in old + new}
            actual = [element for element in self._asked() if element[1] in ours]
            failed = self.firewall.run(rules.delete(actual + gone) + rules.add(new))
        if failed:
            raise DriverError(f"nftables: {failed}")

    def _asked(self) -> Iterator[rules.Element]:
        """The elements that there are, of all stores."""
        for name in rules.NAMES:
            yield from rules.served(name, self.firewall.listed(f"map {rules.TABLE} {name}") or {})


def _program() -> str:
    return next((path for path in PLACES if os.access(path, os.X_OK)), "")


def _version() -> str:
    """`aardvark-dns 1.4.0`; "" when it does not say."""
    read, write = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, write, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    argv = [_program(), "--version"]
    with open(read, encoding="ascii", errors="replace") as said:
        try:
            child = os.posix_spawn(argv[0], argv, {"PATH": os.defpath}, file_actions=actions)
        except OSError:
            return ""
        finally:
            os.close(write)
        text = said.read()
    os.waitpid(child, 0)
    return text


def reopens(version: str) -> bool:
    """What `aardvark-dns --version` says, known to be older than KEEPS_SOCKETS."""
    numbers = version.strip().rpartition(" ")[2].split(".")
    if len(numbers) < 2 or not all(number.isdecimal() for number in numbers[:2]):
        return False
    return (int(numbers[0]), int(numbers[1])) < KEEPS_SOCKETS


def _gateways(content: Zones) -> Iterator[tuple[str, str]]:
    """(bridge, address) of all networks that have names."""
    for name, zone in content.items():
        for address in zones.listening(zone):
            yield zones.interface(name), address


# --- what the kernel knows ------------------------------------------------------------------------


def _free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _sockets() -> dict[str, Socket]:
    """The bound UDP sockets of our network namespace by inode (proc(5), /proc/net/udp)."""
    found = {}
    for name, family in (("udp", socket.AF_INET), ("udp6", socket.AF_INET6)):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
            packed = struct.pack(f"={len(words)}I", *words)
            waiting = int(fields[4].partition(":")[2], 16)
            found[fields[9]] = Socket(socket.inet_ntop(family, packed), int(port, 16), waiting)
    return found


def _answering(pid: int, port: int) -> bool:
    """True while a server that is not asked any more has queries to answer: a thread runs, there
    is something that it did not read, or it asks others for somebody: for each such query it has
    a socket of its own. The threads are looked at before and after: a query that one of them has
    in hand gets its socket, or loses it, while we look."""
    try:
        return _awake(pid) or _waits(pid, port) or _awake(pid)
    except FileNotFoundError:  # it closed a socket while we looked, or is gone
        return os.path.exists(f"/proc/{pid}/task")
    except OSError:
        return False


def _awake(pid: int) -> bool:
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="ascii") as file:
            if file.read().rpartition(") ")[2][:1] != "S":
                return True
    return False


def _waits(pid: int, port: int) -> bool:
    everybody = _sockets()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        kind, _, inode = os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")
        own = everybody.get(inode.strip("[]")) if kind == "socket" else None
        if own is not None and (own.port != port or own.waiting):
            return True
    return False
