"""Processes that network drivers start beside a container (`stack_tools` of tiffin.hooks).

Such a process outlives the command. It is known by the path of the network namespace among its
arguments: that is in the log before the process is there, so it is found, and ended, even when the
command was killed before anybody could write down its pid.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from . import host_ports, ipam, netns
from .errors import DriverError, UserError
from .hooks import Attachment, DriverContext, NetworkConfig, Process, Rule
from .processes import start_time

if TYPE_CHECKING:
    from .hooks import PortMapping

PATIENCE = 60.0
"""Seconds until a process that was killed must be gone."""
TUN = "/dev/net/tun"
STARTERS = ("sh", "unshare")
"""Programs that become, or start, the one that is asked for."""
SUBNETS = ("10.0.2.0/24", "10.0.3.0/24", "172.31.250.0/24", "192.168.253.0/24")
"""Where containers are, each alone: the first that the host has no route to."""
ABROAD: dict[int, str] = {socket.AF_INET: "203.0.113.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses that a default route leads to (RFC 5737, RFC 3849); nothing is sent."""


# --- processes ------------------------------------------------------------------------------------


def is_one(pid: int, program: str, netns: str) -> bool:
    """True for a process of this program that was started for this namespace."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    names = [os.path.basename(word).partition(b".")[0].decode(errors="replace") for word in words]
    if names[0] in STARTERS and program in names:
        names[0] = program  # which is about to be it
    return names[0] == program and os.fsencode(netns) in words[1:]


def written(path: str, program: str, netns: str) -> Process | None:
    """The process whose pid is in this file, if it is still the one."""
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read())
    except (OSError, ValueError):
        return None
    start = start_time(pid)
    return Process(pid, start, program) if start and is_one(pid, program, netns) else None


def searched(program: str, netns: str) -> list[int]:
    """All of them, by a look at every process."""
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdecimal() and is_one(int(name), program, netns)
    ]


def end(pid: int, program: str, netns: str) -> None:
    """Kill it, and wait until it is gone. One that is gone is success. Error: DriverError."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not is_one(pid, program, netns):  # the pid is somebody else's by now
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            raise DriverError(f"process {pid} ({program}) does not end")
    except PermissionError:
        raise DriverError(f"process {pid} ({program}) is not ours to end") from None
    finally:
        os.close(fd)


IN_BACKGROUND = """
unshare --mount --propagation slave -- "$@" </dev/null >/dev/null 2>"$0" & echo $!
"""


def in_background(argv: Sequence[str], pid_file: str, log: str, *, keep: int) -> None:
    """Start a program that does not leave the foreground by itself, in the directory of its pid
    file. It hangs off init, so that nobody has to wait for it; `keep`: a descriptor that it gets.
    By a shell: a process of Python's with threads is not to be forked. What it unmounts in its own
    mount namespace must not be unmounted in ours, which may share its mounts."""
    import subprocess

    done = subprocess.run(
        ["/bin/sh", "-c", IN_BACKGROUND, log, *argv],
        cwd=os.path.dirname(pid_file),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=(keep,),
        start_new_session=True,
        check=True,
    )
    with open(pid_file, "wb") as file:
        file.write(done.stdout)


def program(name: str, package: str) -> str:
    """Absolute path. Error: DriverError that names the package."""
    from .programs import find

    return find(name, package)


# --- what the host has ----------------------------------------------------------------------------


def outward_address(family: int) -> str:
    """The host's address on its default route; empty when it has none."""
    with contextlib.suppress(OSError):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((ABROAD[family], 9))
            found = str(probe.getsockname()[0])
        return "" if found.startswith("fe80:") or found in ("::1", "127.0.0.1") else found
    return ""


def free_subnet() -> str:
    """One of `SUBNETS`."""
    routes = ipam.host_routes()
    for candidate in SUBNETS:
        value, mask = ipam.as_route(candidate)
        if not any(base & mask & other == value & other & mask for base, other in routes):
            return candidate
    return SUBNETS[0]


def asks_itself() -> bool:
    """True when the host's name servers are its own, where no container reaches them."""
    from .spec import files

    with contextlib.suppress(OSError):
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return files.only_here(file.read())
    return False


def default_interface(family: int) -> str:
    """That of the host's default route (proc(5), net/route and net/ipv6_route); empty for none."""
    name, zeros = ("route", (1, 7)) if family == socket.AF_INET else ("ipv6_route", (0, 1))
    with contextlib.suppress(OSError):
        with open(f"/proc/net/{name}", encoding="ascii") as file:
            lines = [line.split() for line in file]
        for fields in lines[1:] if family == socket.AF_INET else lines:
            device = fields[0] if family == socket.AF_INET else fields[-1]
            if device != "lo" and not any(fields[at].strip("0") for at in zeros):
                return device
    return ""


def mac(container: str, first: int) -> str:
    """Of the container alone: nobody else is on its network. Locally administered."""
    digits = f"02{first:02x}{container[:8]}"
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def interface_id(mac_address: str) -> int:
    """What the kernel makes of a MAC address for IPv6 (RFC 4291, appendix A)."""
    value = bytes.fromhex(mac_address.replace(":", ""))
    return int.from_bytes(bytes((value[0] ^ 2,)) + value[1:3] + b"\xff\xfe" + value[3:], "big")


def host_interface(container: str) -> str:
    """There is none; the name is what the log's tables know the attachment by."""
    return ipam.host_interface(container, container)


# --- drivers --------------------------------------------------------------------------------------


class ProcessNetwork:
    """What drivers have in common whose networks are processes. A driver adds `stack` (see
    `hooks.StackDriver`) and `start`."""

    name = ""
    package = ""
    """The distribution's package that has the program `name`."""
    owns_subnets = False
    publishes = True
    has_mac = True
    serves_names = False
    protocols = ("tcp", "udp")

    def __init__(self, context: DriverContext) -> None:
        self.context = context
        self._loading: threading.Thread | None = None

    async def start(self, attachment: Attachment, pid_file: str) -> None:
        """Start the process, and come back when it is ready: its pid is in the file then.
        Error: DriverError."""
        raise NotImplementedError("each of these drivers starts a program of its own")

    def warm_up(self) -> None:
        """Nothing is slow to load."""

    async def create(self, network: NetworkConfig) -> NetworkConfig:
        raise UserError(
            f"driver {self.name} makes a network for each container by itself",
            hint=f"run --network {self.name}",
        )

    async def remove(self, network: NetworkConfig) -> None:
        """`detach` has taken everything."""

    async def update(self, network: NetworkConfig) -> None:
        """There are no names here."""

    async def attach(self, attachment: Attachment) -> list[Process]:
        """Nobody else is on this network, so that there is nothing to keep when it is there."""
        import trio

        known = self.running(attachment)
        if known is not None:
            await self._end(attachment, [known.pid])
        try:
            self._check(attachment)
            os.makedirs(self.context.run, mode=0o700, exist_ok=True)
            if not netns.exists(attachment.netns):
                raise DriverError(f"{attachment.netns}: no such file or directory")
            await self.start(attachment, self._pid_file(attachment))
            found = self.running(attachment)
            if found is None:
                raise DriverError(f"{self.name} ended as soon as it was ready")
        except BaseException:  # a cancellation as well; raised again
            with trio.CancelScope(shield=True):
                await self.detach(attachment)
            raise
        return [found]

    async def publish(self, attachment: Attachment) -> None:
        await self.attach(attachment)

    async def reload(self, attachment: Attachment) -> list[Process]:
        """The process again when it, or its interface, is gone."""
        import trio

        found = self.running(attachment)
        if found is None or not await trio.to_thread.run_sync(self._mended, attachment):
            return await self.attach(attachment)
        return [found]

    async def detach(self, attachment: Attachment) -> None:
        known = self.running(attachment)
        pids = [known.pid] if known else searched(self.name, attachment.netns)
        await self._end(attachment, pids)
        for path in self._files(attachment):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    async def rules(self, network: NetworkConfig, attachments: Sequence[Attachment]) -> list[Rule]:
        found = []
        for attachment in attachments:
            process = self.running(attachment)
            number = f" {process.pid}" if process else ""
            text = f"process {self.name}{number}, for {attachment.container[:12]}"
            found.append(Rule(text, expected=True, there=process is not None))
        return found

    async def close(self) -> None:
        """Nothing was loaded."""

    def running(self, attachment: Attachment) -> Process | None:
        return written(self._pid_file(attachment), self.name, attachment.netns)

    async def _end(self, attachment: Attachment, pids: Sequence[int]) -> None:
        import trio

        for pid in pids:
            await trio.to_thread.run_sync(end, pid, self.name, attachment.netns)

    def _pid_file(self, attachment: Attachment) -> str:
        return f"{self.context.run}/{attachment.container}.pid"

    def _files(self, attachment: Attachment) -> list[str]:
        """What it has in its directory of one container."""
        return [self._pid_file(attachment)]

    def _check(self, attachment: Attachment) -> None:
        """Errors: Conflict, UserError for a port that cannot be published; DriverError when there
        can be no interface at all."""
        if not os.access(TUN, os.R_OK | os.W_OK):
            state, remedy = "not there", "modprobe tun"
            if os.path.exists(TUN):
                state, remedy = "closed to you", f"chmod 666 {TUN}"
            raise DriverError(
                f"{TUN} is {state}, without which {self.name} makes no network",
                hint=f"an administrator mends it: {remedy}",
            )
        families = {":" in address for address in attachment.addresses}
        for port in attachment.ports:
            self._check_port(port, families)

    def _check_port(self, port: PortMapping, families: set[bool]) -> None:
        what = host_ports.shown(port.host_ip, port.host_port, port.protocol)
        if port.protocol not in self.protocols:
            raise UserError(f"cannot publish {what}: {self.name} has {', '.join(self.protocols)}")
        if port.host_ip and (":" in port.host_ip) not in families:
            kind = "IPv6" if ":" in port.host_ip else "IPv4"
            raise UserError(f"cannot publish {what}: the container has no {kind} address")
        asked = {":" in port.host_ip} if port.host_ip else families
        for six in asked:
            family = socket.AF_INET6 if six else socket.AF_INET
            number = host_ports.bound(port.host_ip, port.host_port, port.protocol, family)
            if number:
                raise host_ports.refusal(number, what, port.host_port)

    def _mended(self, attachment: Attachment) -> bool:
        """True when the interface is there; addresses and routes are then, too."""
        from . import rtnetlink

        rtnetlink.load()
        try:
            with rtnetlink.inside(attachment.netns) as netlink:
                link = netlink.link(attachment.interface)
                if link is None or link.kind != "tun" or link.mac != attachment.mac:
                    return False
                netlink.do(*rtnetlink.configured(link.number, attachment))
        except (rtnetlink.Refused, OSError):
            return False
        return True


def attachment(
    *, container: str, netns: str, network: NetworkConfig, addresses: Sequence[str], **more: Any
) -> Attachment:
    """Of a container on its own network; `more`: what is not as usual."""
    usual = Attachment(
        container=container,
        network=network,
        netns=netns,
        interface="eth0",
        host_interface=host_interface(container),
        mac=mac(container, 0x76),
        addresses=tuple(addresses),
        default_route=False,  # the engine says which network has it
    )
    return msgspec.structs.replace(usual, **more)
