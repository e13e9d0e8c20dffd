"""`hooks.StackDriver`: pasta(1) beside each container.

pasta makes a tap device in the container's network namespace, and sockets of the host's for what
comes out of it. It goes to the background by itself when all is ready.

The container has an address of its own, unlike podman's, which copies the host's: so it can reach
the host at the host's address, and what is right does not depend on which interfaces there are.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence

from tiffin.hooks import (
    Attachment,
    NetworkConfig,
    PortMapping,
    Subnet,
    errors,
    run_program,
    stack_tools,
)

from . import words

V6 = "fd00:7466:6e::/64"
"""Unique local (RFC 4193). Every container's: they are not on one network."""
HARDWARE = "02:76:00:00:00:01"
"""Of pasta's end, where the host has no interface whose it could be."""

tools = stack_tools()


class PastaDriver(tools.ProcessNetwork):  # type: ignore[misc, name-defined]
    name = "pasta"
    package = "passt"

    async def stack(self, container: str, netns: str, words_: Sequence[str]) -> Attachment:
        asked = words.read(words_)
        subnets, addresses = _addresses(asked)
        four = next((s.gateway for s in subnets if ":" not in s.gateway), "")
        host = tools.outward_address(socket.AF_INET) or tools.outward_address(socket.AF_INET6)
        network = NetworkConfig(
            id=container,
            name=self.name,
            driver=self.name,
            interface="",
            subnets=subnets,
            mtu=asked.mtu,
            options={"words": ",".join(asked.left), "map_gateway": str(asked.map_gateway)},
            dns=asked.forward or _forwarding(four),
            host=four if asked.map_gateway else host,
        )
        more = {"interface": asked.interface} if asked.interface else {}
        if asked.mac:
            more["mac"] = asked.mac
        found: Attachment = tools.attachment(
            container=container, netns=netns, network=network, addresses=addresses, **more
        )
        return found

    async def start(self, attachment: Attachment, pid_file: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pid_file)
        argv = arguments(attachment, pid_file, _template(), root=os.geteuid() == 0)
        code, _, stderr = await run_program(argv, package=self.package, check=False)
        if code:
            raise errors.DriverError(f"pasta: {_reason(stderr)}", hint=_hint(stderr))


def arguments(attachment: Attachment, pid_file: str, template: str, *, root: bool) -> list[str]:
    """The command line; `template`: the host's interface that pasta is to look at."""
    network = attachment.network
    argv = ["pasta", "--quiet", "--config-net", "--pid", pid_file, "--netns", attachment.netns]
    argv += ["--ns-ifname", attachment.interface, "--ns-mac-addr", attachment.mac]
    argv += ["--interface", template]
    if template == "lo":
        argv += ["--mac-addr", HARDWARE]
    for subnet, address in zip(network.subnets, attachment.addresses, strict=True):
        plain, _, prefix = address.partition("/")
        argv += ["--address", plain, "--gateway", subnet.gateway]
        argv += [] if ":" in plain else ["--netmask", prefix]
    families = {":" in address for address in attachment.addresses}
    if len(families) == 1:
        argv.append("--ipv6-only" if True in families else "--ipv4-only")
    if network.mtu:
        argv += ["--mtu", str(network.mtu)]
    if network.options.get("map_gateway") != "True":
        argv.append("--no-map-gw")
    for server in network.dns:
        argv += ["--dns-forward", server]
    if root:
        # By itself it becomes nobody, whom the kernel does not let into the container's namespace.
        argv += ["--runas", "0:0"]
    own = [word for word in network.options.get("words", "").split(",") if word]
    for flag, ports in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        published = [_port(port) for port in attachment.ports if port.protocol == ports]
        for text in published or ([] if flag in own else ["none"]):
            argv += [flag, text]
    for flag in ("--tcp-ns", "--udp-ns"):
        argv += [] if flag in own else [flag, "none"]
    return argv + own


def _port(port: PortMapping) -> str:
    before = f"{port.host_ip}/" if port.host_ip not in ("", "0.0.0.0", "::") else ""  # noqa: S104
    return f"{before}{port.host_port}:{port.container_port}"


def _addresses(asked: words.Asked) -> tuple[tuple[Subnet, ...], list[str]]:
    """The subnets, and the container's address in each. IPv6 where the host has it."""
    subnets, addresses = [], []
    four = next((a for a in asked.addresses if ":" not in a), "")
    six = next((a for a in asked.addresses if ":" in a), "")
    if asked.ipv4:
        prefix = _prefix(asked.netmask)
        base = f"{four}/{prefix}" if four else tools.free_subnet()
        value, length, bits = tools.ipam.parse_cidr(base)
        gateway = next((g for g in asked.gateways if ":" not in g), "")
        address = four or tools.ipam.to_text(value + 100, bits)
        gateway = gateway or tools.ipam.to_text(value + 2, bits)
        subnets.append(Subnet(f"{tools.ipam.to_text(value, bits)}/{length}", gateway))
        addresses.append(f"{address}/{length}")
    if asked.ipv6 and (six or tools.outward_address(socket.AF_INET6)):
        value, length, bits = tools.ipam.parse_cidr(f"{six}/64" if six else V6)
        gateway = next((g for g in asked.gateways if ":" in g), "")
        address = six or tools.ipam.to_text(value + 0x100, bits)
        gateway = gateway or tools.ipam.to_text(value + 2, bits)
        subnets.append(Subnet(f"{tools.ipam.to_text(value, bits)}/{length}", gateway))
        addresses.append(f"{address}/{length}")
    if not addresses:
        raise errors.UserError("--network pasta: --ipv6-only, and the host has no IPv6")
    return tuple(subnets), addresses


def _prefix(text: str) -> int:
    """`24` or `255.255.255.0`. Error: UserError."""
    if not text:
        return 24
    if "." in text:
        value = tools.ipam.to_number(text)
        return int(value).bit_count()
    if not (text.isdecimal() and 1 <= int(text) <= 30):
        raise errors.UserError(f"--network pasta: --netmask {text}: not between 1 and 30")
    return int(text)


def _forwarding(gateway: str) -> tuple[str, ...]:
    """The address at which pasta answers for names: where the host's name servers are on its own
    loopback. Others the container asks itself."""
    if not gateway or not tools.asks_itself():
        return ()
    return (tools.ipam.to_text(tools.ipam.to_number(gateway) + 1, 32),)


def _template() -> str:
    """pasta wants an interface of the host's to look at, with IPv6 if it is to have that; the
    loopback does where there is no other."""
    found = (tools.default_interface(family) for family in (socket.AF_INET6, socket.AF_INET))
    return next(filter(None, found), "lo")


def _reason(stderr: bytes) -> str:
    """What it complains of, without what it says of the system's log."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines()]
    told = [line for line in lines if line and "syslog" not in line]
    return told[-1].removesuffix(", exiting") if told else "ended without a word"


def _hint(stderr: bytes) -> str:
    return "publish another port" if b"bind any port" in stderr else ""
