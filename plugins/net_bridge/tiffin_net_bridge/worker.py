"""What the worker process does: links, addresses and rules, here and in containers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

# By the names that `tiffin.hooks` has for them (`link_tools`, `errors`): importing that module here
# would load msgspec, milliseconds of each attachment, for a process that has no use of it.
from tiffin import rtnetlink as links
from tiffin.errors import Conflict, DriverError
from tiffin.rtnetlink import Netlink, Refused

from . import ports, rules, story
from .firewall import Firewall
from .zones import Change

CLONE_NEWNET = 0x40000000
LOCK = "/run/tiffin-network.lock"
"""One for the machine, like /run/xtables.lock: bridges and the table are not of one store."""
ALIAS = "tiffin "
"""How the alias of our bridges begins (ip-link(8)); the network's id follows."""
DOOMED = 0x74666E  # "tfn"
"""Number of the group of links (ip-link(8)) in which bridge and veth are deleted at once."""

PORTS_MAX = 1023
"""Of a bridge (BR_MAX_PORTS in net/bridge/br_private.h, less the one that is never given out)."""

Steps = Generator[Change, None, None]
"""A request up to the change of names that it needs, which is then made for several at once, and
from there to its end. An error of the change is raised within it."""


class Worker:
    """Requests are carried out while the caller holds `locked`."""

    def __init__(self, run: str) -> None:
        self.run = run
        links.load(lean=True)
        self.links = Netlink()
        self.firewall = Firewall()
        self._resolver: Any = None
        self._ports: dict[int, list[int]] = {}
        """Links that were seen on a bridge, by its number."""
        self.host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.operations: dict[str, Callable[[Any], Any]] = {
            "attach": self.attach,
            "publish": self.publish,
            "reload": self.reload,
            "detach": self.detach,
            "update": self.update,
            "remove": self.remove,
            "rules": self.tell,
            "sweep": self.sweep,
        }

    # --- requests ---------------------------------------------------------------------------------

    def attach(self, attachment: dict[str, Any], *, mend: bool = False) -> Steps:
        """With `mend` what is there already may be damaged, and is in use."""
        network, published = attachment["network"], attachment["ports"]
        ports.probe(published, attachment["addresses"])
        elements = rules.network_elements(network) + rules.port_elements(attachment)
        if published:
            self._check_published(attachment)
        intact = mend and self._intact(attachment)
        try:
            bridge = self._bridge(network)
            if mend:
                self._set_up(network, bridge)
            if intact:
                self._join(attachment, bridge)
            else:
                self._veth(attachment, bridge)
            self._inside(attachment)
            self._add_rules(elements, mend=mend)
            self._remember(attachment)
            if is_named(attachment):
                yield Change("enter", attachment, mend)
        except BaseException:  # whatever it is; raised again
            if not mend:
                if is_named(attachment):
                    self.rename([Change("leave", attachment)])
                self._take_away(attachment)
            raise

    def publish(self, attachment: dict[str, Any]) -> Steps:
        wanted = rules.port_elements(attachment)
        ports.probe(attachment["ports"], attachment["addresses"])
        self._unpublish(attachment, wanted)
        if wanted:
            self._check_published(attachment)
            self._add_rules(wanted, mend=False)
        self._remember(attachment)
        if is_named(attachment):
            yield Change("enter", attachment)

    def _unpublish(self, attachment: dict[str, Any], wanted: list[rules.Element]) -> None:
        """Delete the container's ports that it is not to have on this network any more."""
        stale = []
        for listed in rules.port_maps(attachment):
            there = self.firewall.listed(listed) or {}
            stale += rules.aimed(listed.split()[-1], there, attachment)
        stale = [element for element in stale if element not in wanted]
        failed = self.firewall.run(rules.delete(stale)) if stale else ""
        if failed:
            raise DriverError(f"nftables: {failed}")

    def reload(self, attachment: dict[str, Any]) -> Steps:
        yield from self.attach(attachment, mend=True)

    def detach(self, attachment: dict[str, Any]) -> Steps:
        failed = self._take_away(attachment)
        if is_named(attachment):
            yield Change("leave", attachment)
        if failed:
            raise DriverError(f"nftables: {failed}")

    def tell(self, subject: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the table should have for a network and its attachments, and what it has."""
        from . import foreign  # for people only

        network, *attachments = subject
        found = story.told(network, attachments, self.firewall.table(rules.TABLE))
        with contextlib.suppress(DriverError):  # what others have made, nft may not be able to say
            found += foreign.obstacles(network, attachments, self.firewall.ruleset())
        return found

    def sweep(self, subject: list[dict[str, Any]]) -> None:
        """Delete from the table what a network and its attachments should not have there."""
        network, *attachments = subject
        stray = story.strays(network, attachments, self.firewall.table(rules.TABLE))
        if failed := self._delete_rules(network, stray, last=not attachments):
            raise DriverError(f"nftables: {failed}")

    def update(self, network: dict[str, Any]) -> Steps:
        yield Change("update", network)

    def remove(self, network: dict[str, Any]) -> None:
        bridge = self.links.link(network["interface"])
        if bridge and bridge.alias == alias(network):
            self._delete([network["interface"]])
        self._delete_rules(network, [], last=True)

    def rename(self, changes: Sequence[Change]) -> None:
        """Have names served as they are after these changes. Errors: DriverError, UserError."""
        if self._resolver is None:
            from .resolver import Resolver  # for networks with names only

            self._resolver = Resolver(self.run, self.firewall)
        self._resolver.change(changes)

    def _take_away(self, attachment: dict[str, Any]) -> str:
        """Rules, veth, and with the last container bridge and table. Returns what nft said."""
        network = attachment["network"]
        veth = self.links.link(attachment["host_interface"])
        bridge = self.links.link(network["interface"])
        ours = bridge is not None and bridge.alias == alias(network)
        last = not (bridge and ours and self._has_others(bridge.number, veth.number if veth else 0))
        doomed = [attachment["host_interface"]] if veth else []
        if last and ours:
            doomed.append(network["interface"])
        failed = self._delete_rules(network, rules.port_elements(attachment), last=last)
        self._delete(doomed)
        self._remember(attachment, gone=True)
        return failed

    def _has_others(self, bridge: int, own: int) -> bool:
        """True when another link is on a bridge. The kernel lists hundreds of them slowly; one that
        was there before mostly is there still."""
        known = self._ports.setdefault(bridge, [])
        while known:
            there = self.links.numbered(known[-1]) if known[-1] != own else None
            if there is not None and there.master == bridge:
                return True
            known.pop()
        known += sorted(self.links.ports(bridge) - {own})
        return bool(known)

    def _remember(self, attachment: dict[str, Any], *, gone: bool = False) -> None:
        """Correct what neighbours and the kernel remember of the container's addresses and ports,
        where that can be wrong."""
        if any(port.get("protocol") == "udp" for port in attachment["ports"]):
            from . import flows  # not many have such ports

            local = [address for _, address in self.links.addresses()]
            flows.forget(attachment["ports"], attachment["addresses"], local, gone=gone)
        first, *more = (address.partition("/")[0] for address in attachment["addresses"])
        usual = "" if ":" in first else f"02:74:{socket.inet_aton(first).hex(':')}"
        if more or attachment["mac"] != usual:
            from . import neighbours  # nor a MAC address of their own choice

            for address, mac in neighbours.unusual(attachment):
                told = mac if gone else attachment["mac"]
                if told:
                    neighbours.tell(attachment["network"]["interface"], address, told)

    # --- links ------------------------------------------------------------------------------------

    def _bridge(self, network: dict[str, Any]) -> int:
        """Index of the network's bridge, which is made when there is none.
        Error: DriverError for an interface of that name which is not ours."""
        name = network["interface"]
        found = self.links.link(name)
        if found and found.kind == "bridge" and found.alias == alias(network):
            return found.number
        if found and found.kind == "bridge" and found.alias.startswith(ALIAS):
            if self.links.ports(found.number):
                raise DriverError(
                    f"interface {name} belongs to another network of tiffin's, with containers",
                    hint="is it another store's? remove those containers, or the interface",
                )
            self._delete([name])  # left by a store that is no more
        elif found:
            raise DriverError(
                f"interface {name} exists and is not tiffin's", hint="rename or remove it"
            )
        self._check_subnets(network)
        return self._new_bridge(network)

    def _new_bridge(self, network: dict[str, Any]) -> int:
        name = network["interface"]
        attributes = [
            ("IFLA_IFNAME", name),
            # Of its own: a bridge without one takes the lowest of its ports, and changes it as
            # containers come and go, under neighbours who remember it.
            ("IFLA_ADDRESS", f"02:{':'.join(network['id'][i : i + 2] for i in range(0, 10, 2))}"),
            linkinfo("INFO", "bridge", vlan(network)),
            *mtu(network),
        ]
        try:
            self.links.do(
                links.new_link(attributes, create=True),
                links.new_link([("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias(network))]),
            )
        except Refused as error:
            if error.number != errno.EOPNOTSUPP or not vlan(network):
                raise
            raise DriverError(
                f"network {network['name']}: this kernel's bridges have no VLANs",
                hint="leave out --opt vlan (CONFIG_BRIDGE_VLAN_FILTERING)",
            ) from None
        made = self.links.link(name)
        if made is None:
            raise DriverError(f"interface {name} vanished while it was made")
        self._set_up(network, made.number)
        return made.number

    def _set_up(self, network: dict[str, Any], bridge: int) -> None:
        """Up, with the gateways' addresses; what is so already stays."""
        name = network["interface"]
        batch = [links.new_link([], index=bridge, up=True)]
        batch += [
            links.new_address(bridge, subnet["gateway"], int(subnet["subnet"].partition("/")[2]))
            for subnet in network["subnets"]
            if subnet["gateway"]
        ]
        self.links.do(*batch)
        write_sysctl("net/ipv4/ip_forward", "1")
        write_sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")
        if os.path.exists(f"/proc/sys/net/ipv6/conf/{name}"):
            # No container may tell the host where to send its packets (CVE-2020-10749).
            write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
        if any(":" in subnet["subnet"] for subnet in network["subnets"]):
            keep_advertised_routes()
            write_sysctl("net/ipv6/conf/all/forwarding", "1")

    def _check_subnets(self, network: dict[str, Any]) -> None:
        """Error: Conflict when an interface has an address in one of the network's subnets: the
        host would answer some containers by it and some by the bridge."""
        ours = [mask(subnet["subnet"]) for subnet in network["subnets"]]
        for index, address in self.links.addresses():
            value = number(address)
            for base, bits, subnet in ours:
                if (":" in address) == (":" in subnet) and value & bits == base:
                    with contextlib.suppress(OSError):
                        name = socket.if_indextoname(index)
                        raise Conflict(
                            f"network {network['name']}: its subnet {subnet} is that of "
                            f"interface {name} already",
                            hint="remove one of the two",
                        )

    def _intact(self, attachment: dict[str, Any]) -> bool:
        """True when the pair is there already, as it should be: its connections then live on."""
        veth = self.links.link(attachment["host_interface"])
        if veth is None or veth.kind != "veth" or not os.path.exists(attachment["netns"]):
            return False
        with self.inside(attachment["netns"]) as netlink:
            peer = netlink.link(attachment["interface"])
        return peer is not None and peer.lower == veth.number and peer.mac == attachment["mac"]

    def _join(self, attachment: dict[str, Any], bridge: int) -> None:
        """Put an existing pair on the bridge, which may be a new one."""
        name = attachment["host_interface"]
        hairpin = linkinfo("INFO_SLAVE", "bridge", [("IFLA_BRPORT_MODE", 1)])
        attributes = [("IFLA_IFNAME", name), ("IFLA_MASTER", bridge)]
        self.links.do(
            links.new_link(attributes, up=True), links.new_link([("IFLA_IFNAME", name), hairpin])
        )

    def _veth(self, attachment: dict[str, Any], bridge: int) -> None:
        """The pair, in one message: its far end is born in the container's namespace."""
        name, more = attachment["host_interface"], mtu(attachment["network"])
        with opened(attachment["netns"]) as netns:
            peer = [
                ("IFLA_IFNAME", attachment["interface"]),
                ("IFLA_ADDRESS", attachment["mac"]),
                ("IFLA_NET_NS_FD", netns),
                *more,
            ]
            attributes = [
                ("IFLA_IFNAME", name),
                ("IFLA_MASTER", bridge),
                linkinfo("INFO", "veth", [("VETH_INFO_PEER", {"attrs": peer})]),
                *more,
            ]
            # Hairpin, for a container that asks for its own published port: with br_netfilter the
            # packet is translated on the bridge and must leave by the port it came in.
            hairpin = linkinfo("INFO_SLAVE", "bridge", [("IFLA_BRPORT_MODE", 1)])
            batch = (
                links.new_link(attributes, up=True, create=True),
                links.new_link([("IFLA_IFNAME", name), hairpin]),
            )
            try:
                self.links.do(*batch)
            except Refused as error:
                if error.number == errno.EXFULL:
                    raise Conflict(
                        f"network {attachment['network']['name']} is full: Linux lets a bridge "
                        f"have {PORTS_MAX} ports, and each container needs one",
                        hint="use another network, or --network none",
                    ) from None
                if error.number != errno.EEXIST or error.position:
                    raise
                self._delete([name])  # half made by an attach that was killed
                self.links.do(*batch)

    def _inside(self, attachment: dict[str, Any]) -> None:
        """Addresses and routes, by a socket in the container's namespace."""
        with self.inside(attachment["netns"]) as netlink:
            link = netlink.link(attachment["interface"])
            if link is None:
                raise DriverError(f"interface {attachment['interface']} vanished")
            batch = []
            for address in attachment["addresses"]:
                plain, _, prefix = address.partition("/")
                batch.append(links.new_address(link.number, plain, int(prefix)))
            batch.append(links.new_link([], index=link.number, up=True))
            default, spare = attachment["default_route"], attachment.get("spare_route", 0)
            if (default or spare) and not attachment["network"].get("internal"):
                metric = 0 if default else spare
                for subnet in attachment["network"]["subnets"]:
                    if subnet["gateway"]:
                        batch.append(links.new_route(link.number, subnet["gateway"], metric=metric))
            for route in attachment["network"].get("routes", ()):
                batch.append(
                    links.new_route(
                        link.number, route["gateway"], route["destination"], route.get("metric", 0)
                    )
                )
            netlink.do(*batch)

    def _delete(self, names: list[str]) -> None:
        """Delete links at once, and come back when their names are gone.

        The kernel's call comes back up to 50 ms after that, when it has freed them and their
        entries in /sys: a thread waits for that. Until then it holds the lock that every other
        command about links needs, so nobody sees the half of it; and once begun, it is completed
        even if we are killed.
        """
        if not names:
            return
        batch: list[Any]
        if len(names) == 1:
            batch = [links.del_link([("IFLA_IFNAME", names[0])])]
        else:
            batch = [links.new_link([("IFLA_IFNAME", n), ("IFLA_GROUP", DOOMED)]) for n in names]
            batch.append(links.del_link([("IFLA_GROUP", DOOMED)]))
        failure: list[Exception] = []

        def delete() -> None:
            netlink = Netlink()
            try:
                netlink.do(*batch)
            except (Refused, OSError) as error:
                if getattr(error, "number", 0) != errno.ENODEV:
                    failure.append(error)
            finally:
                netlink.close()

        thread = threading.Thread(target=delete)
        thread.start()
        while thread.is_alive() and any(exists(name) for name in names):
            time.sleep(0.0003)
        if failure:
            raise failure[0]

    # --- rules ------------------------------------------------------------------------------------

    def _check_published(self, attachment: dict[str, Any]) -> None:
        there = []
        for name in rules.port_maps(attachment):
            there += rules.published(self.firewall.listed(name) or {})
        taken = ports.overlapping(attachment["ports"], there, attachment["addresses"])
        if taken is not None:
            raise Conflict(
                f"port {ports.show(taken)} is published by another container",
                hint="publish another one; tiffin system check finds rules that nobody needs",
            )

    def _add_rules(self, elements: list[rules.Element], *, mend: bool) -> None:
        """The table may be missing: no network is up, or an administrator flushed it."""
        failed = self.firewall.run((rules.MEND if mend else "") + rules.add(elements))
        if "No such file or directory" in failed:
            failed = self.firewall.run(rules.SETUP + rules.add(elements))
        if failed:
            raise DriverError(f"nftables: {failed}")

    def _delete_rules(
        self, network: dict[str, Any], elements: list[rules.Element], *, last: bool
    ) -> str:
        """Elements, and with the network's last container its own; with the last network the
        table. Returns why that failed, or ""."""
        if last:
            bridges = self.firewall.listed(rules.BRIDGES)
            if bridges is None:
                return ""  # without a table there are no rules of ours
            if not set(bridges.get("elem", ())) - {network["interface"]}:
                return self.firewall.run(f"delete table {rules.TABLE}\n")
            elements = elements + rules.network_elements(network)
        if not elements:
            return ""
        failed = self.firewall.run(rules.delete(elements))
        if not failed or "No such file or directory" in failed:
            return ""  # without a table there are no rules of ours
        # One of the ports is somebody else's by now: delete the others one by one.
        reasons = [self.firewall.run(rules.delete([element])) for element in elements]
        return next((r for r in reasons if r and "File exists" not in r), "")

    # --- one at a time, and where -----------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Bridges and the table are changed by one process at a time."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(LOCK, flags, 0o600)
        except PermissionError:  # not the machine's root: the namespace is ours alone
            fd = os.open(f"{self.run}/lock", flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def inside(self, netns: str) -> Iterator[Netlink]:
        """A netlink socket of a namespace; we are out of it again before it is used."""
        with opened(netns) as fd:
            setns(fd)
            try:
                netlink = Netlink()
            finally:
                setns(self.host)
        try:
            yield netlink
        finally:
            netlink.close()


def is_named(attachment: dict[str, Any]) -> bool:
    """True when names are served on its network, and the container has some."""
    return bool(attachment["network"].get("dns_enabled") and attachment.get("names"))


def alias(network: dict[str, Any]) -> str:
    """By this a bridge is known to be ours, and whose."""
    return f"{ALIAS}{network['id']}"


def mtu(network: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("IFLA_MTU", network["mtu"])] if network.get("mtu") else []


def linkinfo(what: str, kind: str, data: list[tuple[str, Any]]) -> tuple[str, Any]:
    return (
        "IFLA_LINKINFO",
        {"attrs": [(f"IFLA_{what}_KIND", kind), (f"IFLA_{what}_DATA", {"attrs": data})]},
    )


def vlan(network: dict[str, Any]) -> list[tuple[str, Any]]:
    """The VLAN that all of a bridge's ports are born in, and so is the bridge itself (ip-link(8),
    vlan_default_pvid)."""
    pvid = network.get("options", {}).get("vlan", "")
    if not pvid:
        return []
    return [("IFLA_BR_VLAN_FILTERING", 1), ("IFLA_BR_VLAN_DEFAULT_PVID", int(pvid))]


def number(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address), "big")


def mask(subnet: str) -> tuple[int, int, str]:
    """(network, mask, the text itself) of a subnet."""
    address, _, length = subnet.partition("/")
    size = 128 if ":" in address else 32
    bits = ((1 << int(length)) - 1) << (size - int(length))
    return number(address) & bits, bits, subnet


def exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def setns(fd: int) -> None:
    """setns(2)"""
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


RTF_ADDRCONF = 0x40000


def keep_advertised_routes() -> None:
    """A host that forwards IPv6 forgets the routes that routers have told it of, its default route
    perhaps, except on interfaces that are set to keep them (ip-sysctl, accept_ra)."""
    if read_sysctl("net/ipv6/conf/all/forwarding") != "0":
        return
    with open("/proc/net/ipv6_route", encoding="ascii") as file:
        fields = [line.split() for line in file]
    for name in {line[9] for line in fields if int(line[8], 16) & RTF_ADDRCONF}:
        if read_sysctl(f"net/ipv6/conf/{name}/accept_ra") == "1":
            write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "2")


def read_sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:  # a kernel without IPv6
        return ""


def write_sysctl(name: str, value: str) -> None:
    """Only when it has another value: some of them cost the kernel a walk over all interfaces."""
    path = f"/proc/sys/{name}"
    try:
        with open(path, "r+", encoding="ascii") as file:
            if file.read().strip() != value:
                file.seek(0)
                file.write(value)
    except OSError as error:
        raise DriverError(f"cannot set {name.replace('/', '.')}: {error.strerror}") from None
