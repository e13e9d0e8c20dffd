"""`hooks.StackDriver`: slirp4netns(1) beside each container.

It makes a tap device in the container's network namespace, and is itself the TCP/IP behind it.
Ports are published by its API socket, one request each.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from tiffin.hooks import Attachment, NetworkConfig, PortMapping, Subnet, errors, stack_tools

from . import words

V6 = "fd00::"
"""slirp4netns's own prefix; the container's address in it follows from its MAC address."""
PATIENCE = 60.0
"""Seconds until a slirp4netns that does not get ready is given up."""

tools = stack_tools()


class SlirpDriver(tools.ProcessNetwork):  # type: ignore[misc, name-defined]
    name = "slirp4netns"
    package = "slirp4netns"

    async def stack(self, container: str, netns: str, words_: Sequence[str]) -> Attachment:
        asked = words.read(words_)
        value, length, bits = tools.ipam.parse_cidr(asked.cidr or tools.free_subnet())
        if bits == 128 or length > 25:
            raise errors.UserError(
                f"--network slirp4netns: cidr={asked.cidr}: not an IPv4 subnet with room",
                hint="cidr=10.0.7.0/24",
            )
        base, gateway, names, own = (tools.ipam.to_text(value + at, bits) for at in (0, 2, 3, 100))
        subnets = [Subnet(f"{base}/{length}", gateway)]
        addresses = [f"{own}/{length}"]
        mac = tools.mac(container, 0x77)
        if asked.ipv6 or (asked.ipv6 is None and tools.outward_address(socket.AF_INET6)):
            six = tools.ipam.to_number(V6) + tools.interface_id(mac)
            subnets.append(Subnet(f"{V6}/64", ""))  # its router says who it is
            addresses.append(f"{tools.ipam.to_text(six, 128)}/64")
        network = NetworkConfig(
            id=container,
            name=self.name,
            driver=self.name,
            interface="",
            subnets=tuple(subnets),
            mtu=asked.mtu,
            options={
                "host_loopback": str(asked.host_loopback),
                "outbound_addr": asked.outbound,
                "outbound_addr6": asked.outbound6,
            },
            dns=(names,) if tools.asks_itself() else (),
            host=gateway if asked.host_loopback else tools.outward_address(socket.AF_INET),
        )
        found: Attachment = tools.attachment(
            container=container, netns=netns, network=network, addresses=addresses, mac=mac
        )
        return found

    async def start(self, attachment: Attachment, pid_file: str) -> None:
        import trio

        await trio.to_thread.run_sync(self._start, attachment, pid_file)
        for port in attachment.ports:
            await trio.to_thread.run_sync(self._publish, attachment, port)

    def _files(self, attachment: Attachment) -> list[str]:
        return [*super()._files(attachment), self._socket(attachment), self._log(attachment)]

    def _socket(self, attachment: Attachment) -> str:
        return f"{self.context.run}/{attachment.container}.sock"

    def _log(self, attachment: Attachment) -> str:
        return f"{self.context.run}/{attachment.container}.log"

    # --- in a thread ------------------------------------------------------------------------------

    def _start(self, attachment: Attachment, pid_file: str) -> None:
        program = tools.program(self.name, self.package)
        told, tell = os.pipe2(os.O_CLOEXEC)
        with open(told, "rb") as ready:
            argv = arguments(attachment, program, tell)
            # Relative: unix(7) takes 107 bytes for a path, and a run directory may have more.
            argv[-2:-2] = ["--api-socket", os.path.basename(self._socket(attachment))]
            try:
                tools.in_background(argv, pid_file, self._log(attachment), keep=tell)
            finally:
                os.close(tell)
            if ready.read(1) != b"1":
                raise errors.DriverError(f"slirp4netns: {self._reason(attachment)}")

    def _reason(self, attachment: Attachment) -> str:
        try:
            with open(self._log(attachment), encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file if line.strip()]
        except OSError:
            lines = []
        return lines[-1] if lines else "ended without a word"

    def _publish(self, attachment: Attachment, port: PortMapping) -> None:
        """Error: DriverError."""
        request = {
            "execute": "add_hostfwd",
            "arguments": {
                "proto": port.protocol,
                "host_addr": port.host_ip or "0.0.0.0",  # noqa: S104 (what -p without address means)
                "host_port": port.host_port,
                "guest_addr": attachment.addresses[0].partition("/")[0],
                "guest_port": port.container_port,
            },
        }
        if ":" in port.host_ip:
            raise errors.UserError(
                f"cannot publish [{port.host_ip}]:{port.host_port}: slirp4netns publishes on IPv4 "
                "alone",
                hint="--network pasta has both",
            )
        answer = _ask(self.context.run, os.path.basename(self._socket(attachment)), request)
        if "error" in answer:
            what = f"{port.host_ip or '*'}:{port.host_port}/{port.protocol}"
            why = answer["error"].get("desc", "refused")
            raise errors.DriverError(f"slirp4netns does not publish {what}: {why}")


def arguments(attachment: Attachment, program: str, ready: int) -> list[str]:
    """The command line, which ends with the namespace and the interface."""
    network = attachment.network
    argv = [program, "--configure", f"--ready-fd={ready}", "--netns-type=path"]
    argv += ["--enable-sandbox", "--enable-seccomp", f"--mtu={network.mtu}"]
    argv += [f"--cidr={network.subnets[0].subnet}", f"--macaddress={attachment.mac}"]
    if network.options.get("host_loopback") != "True":
        argv.append("--disable-host-loopback")
    if len(network.subnets) > 1:
        argv.append("--enable-ipv6")
    for key, flag in (("outbound_addr", "--outbound-addr"), ("outbound_addr6", "--outbound-addr6")):
        if network.options.get(key):
            argv.append(f"{flag}={network.options[key]}")
    return [*argv, attachment.netns, attachment.interface]


def _ask(directory: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """One request, one connection (slirp4netns(1), API SOCKET)."""
    fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(f"/proc/self/fd/{fd}/{name}")
            connection.sendall(json.dumps(request).encode())
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while more := connection.recv(4096):
                answer += more
        found: dict[str, Any] = json.loads(answer)
        return found
    except (OSError, ValueError) as error:
        raise errors.DriverError(f"slirp4netns does not answer: {error}") from None
    finally:
        os.close(fd)
