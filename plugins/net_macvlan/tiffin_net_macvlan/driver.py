"""`hooks.NetworkDriver` for links on a parent interface (ip-link(8), macvlan and ipvlan)."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio
from msgspec import Struct

from tiffin.hooks import Attachment, NetworkConfig, Rule, errors, link_tools


class Kind(Struct, frozen=True):
    name: str
    modes: dict[str, int]
    """By the words of ip-link(8); the first is the kernel's, and ours."""
    attribute: str
    """Of the link's data, by pyroute2's name."""
    has_mac: bool


KINDS = {
    "macvlan": Kind(
        "macvlan",
        {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8},  # linux/if_link.h, macvlan_mode
        "IFLA_MACVLAN_MODE",
        True,
    ),
    "ipvlan": Kind("ipvlan", {"l2": 0, "l3": 1, "l3s": 2}, "IFLA_IPVLAN_MODE", False),
}
OPTIONS = ("parent", "mode", "mtu")
"""Of `network create --opt`; the engine has read `mtu` already."""


class LinkDriver:
    """One for each engine and kind of link. Keeps nothing: all is in the container's namespace."""

    owns_subnets = False
    publishes = False
    serves_names = False

    def __init__(self, kind: Kind, *, rootless: bool = False) -> None:
        self.rootless = rootless
        self.kind = kind
        self.name = kind.name
        self.has_mac = kind.has_mac
        self._loading: threading.Thread | None = None

    def warm_up(self) -> None:
        if self._loading is None:
            self._loading = threading.Thread(target=link_tools().load, name="rtnetlink")
            self._loading.start()

    async def create(self, network: NetworkConfig) -> NetworkConfig:
        """The network with the parent as its interface, as podman shows it."""
        if self.rootless:
            raise errors.UserError(
                f"driver {self.name} is for root: its parent is an interface of the host's",
                hint="a network of driver bridge, or --network pasta",
            )
        for key in network.options:
            if key not in OPTIONS:
                raise errors.UserError(
                    f"--opt {key}: not an option of {self.name}", hint=", ".join(OPTIONS)
                )
        mode = network.options.get("mode", "")
        if mode and mode not in self.kind.modes:
            raise errors.UserError(
                f"--opt mode={mode}: not a mode of {self.name}", hint=", ".join(self.kind.modes)
            )
        asked = network.options.get("parent", "")
        if asked and network.interface and asked != network.interface:
            raise errors.UserError(
                f"--opt parent={asked} and --interface-name {network.interface} differ",
                hint="both mean the parent: give one",
            )
        parent = asked or network.interface or default_interface()
        if not parent:
            raise errors.UserError(
                f"a network of driver {self.name} needs a parent: the host has no default route",
                hint="--opt parent=eth1",
            )
        if parent not in (name for _, name in socket.if_nameindex()) or parent == "lo":
            why = "no such interface" if parent != "lo" else "the loopback has no network"
            raise errors.UserError(f"--opt parent={parent}: {why}", hint="ip link shows them")
        options = {key: value for key, value in network.options.items() if key != "parent"}
        return msgspec.structs.replace(network, interface=parent, options=options)

    async def remove(self, network: NetworkConfig) -> None:
        """Nothing of it is on the host."""

    async def attach(self, attachment: Attachment) -> None:
        await self._run(self._attach, attachment, keep=False)

    async def update(self, network: NetworkConfig) -> None:
        """There are no names here."""

    async def publish(self, attachment: Attachment) -> None:
        """There are no ports and no names here."""

    async def reload(self, attachment: Attachment) -> None:
        await self._run(self._attach, attachment, keep=True)

    async def detach(self, attachment: Attachment) -> None:
        if os.path.exists(attachment.netns):
            await self._run(self._detach, attachment)

    async def rules(
        self, network: NetworkConfig, attachments: Sequence[Attachment]
    ) -> tuple[Rule, ...]:
        return ()

    async def close(self) -> None:
        if self._loading is not None:
            await trio.to_thread.run_sync(self._loading.join)

    async def _run(self, work: Callable[..., None], attachment: Attachment, **more: bool) -> None:
        tools = link_tools()
        self.warm_up()
        assert self._loading is not None

        def done() -> None:
            assert self._loading is not None
            self._loading.join()
            work(attachment, **more)

        try:
            with trio.CancelScope(shield=True):  # milliseconds, and never half done
                await trio.to_thread.run_sync(done)
        except (tools.Refused, OSError) as error:
            what = f"cannot {work.__name__[1:]} {attachment.container[:12]} ({self.name}): {error}"
            raise errors.DriverError(what, hint=self._hint(error)) from None

    def _hint(self, error: Exception) -> str:
        number = getattr(error, "number", 0)
        if number == errno.EOPNOTSUPP:
            return f"this kernel has no {self.name} links"
        if number == errno.EBUSY:
            return "the parent is a bridge's port, or has links of the other kind"
        return ""

    # --- in a thread ------------------------------------------------------------------------------

    def _attach(self, attachment: Attachment, *, keep: bool) -> None:
        tools = link_tools()
        name, network = attachment.interface, attachment.network
        with tools.Netlink() as host, tools.inside(attachment.netns) as netlink:
            parent = host.link(network.interface)
            if parent is None:
                raise errors.DriverError(
                    f"interface {network.interface}, the parent of network {network.name}, "
                    "is not there",
                    hint="ip link shows those that are",
                )
            there = netlink.link(name)
            if there is not None and not (keep and self._intact(there, parent, attachment)):
                netlink.do(tools.del_link([("IFLA_IFNAME", name)]))
                there = None
            link = there or self._make(host, netlink, parent.number, attachment)
            try:
                netlink.do(*tools.configured(link.number, attachment))
            except BaseException:  # a cancellation as well; raised again
                if there is None:
                    netlink.do(tools.del_link([("IFLA_IFNAME", name)]))
                raise

    def _intact(self, there: Any, parent: Any, attachment: Attachment) -> bool:
        mac = attachment.mac if self.has_mac else parent.mac
        return (there.kind, there.lower, there.mac) == (self.name, parent.number, mac)

    def _make(self, host: Any, netlink: Any, parent: int, attachment: Attachment) -> Any:
        """From here into the container's namespace, under a name of its own at first: the kernel
        wants one that nobody has here, where an eth0 is likely."""
        tools, network = link_tools(), attachment.network
        first = next(iter(self.kind.modes))
        mode = self.kind.modes[network.options.get("mode", first)]
        data = {"attrs": [(self.kind.attribute, mode)]}
        info = {"attrs": [("IFLA_INFO_KIND", self.name), ("IFLA_INFO_DATA", data)]}
        with tools.opened(attachment.netns) as netns:
            attributes = [
                ("IFLA_IFNAME", attachment.host_interface),
                ("IFLA_LINK", parent),
                ("IFLA_NET_NS_FD", netns),
                ("IFLA_LINKINFO", info),
            ]
            if self.has_mac:
                attributes.append(("IFLA_ADDRESS", attachment.mac))
            if network.mtu:
                attributes.append(("IFLA_MTU", network.mtu))
            half = netlink.link(attachment.host_interface)  # by an attach that was killed
            if half is not None:
                netlink.do(tools.del_link([("IFLA_IFNAME", attachment.host_interface)]))
            host.do(tools.new_link(attributes, create=True))
        made = netlink.link(attachment.host_interface)
        netlink.do(tools.new_link([("IFLA_IFNAME", attachment.interface)], index=made.number))
        return made

    def _detach(self, attachment: Attachment) -> None:
        tools = link_tools()
        with tools.inside(attachment.netns) as netlink:
            for name in (attachment.interface, attachment.host_interface):
                there = netlink.link(name)
                if there is not None and there.kind == self.name:
                    netlink.do(tools.del_link([("IFLA_IFNAME", name)]))


def default_interface() -> str:
    """That of the host's default route (proc(5), net/route)."""
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            lines = file.readlines()[1:]
    except FileNotFoundError:
        return ""
    found = [fields[0] for fields in map(str.split, lines) if int(fields[7], 16) == 0]
    return next(iter(found), "")
