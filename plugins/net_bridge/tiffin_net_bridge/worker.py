"""The worker: `python -I -m tiffin_net_bridge.worker RUN`. JSON lines in, one out for each.

Request: [operation, subject]; answer: null, or {"error": class, "what": ..., "hint": ...}.
Single-threaded, because it enters network namespaces.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tiffin.errors import Conflict, DriverError, TiffinError
from tiffin.hooks import sys_tools

from . import rules

CLONE_NEWNET = 0x40000000


def load_netlink() -> Any:
    """pyroute2's IPRoute, without the rest of pyroute2: the package's own __init__ imports its
    database, ethtool, IPVS and more, half of the time that all of it takes."""
    import importlib.util
    import types

    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise DriverError("pyroute2 is not installed", hint="pip install pyroute2")
        package = types.ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["pyroute2"] = package
    from pyroute2.iproute.linux import IPRoute

    return IPRoute


class Worker:
    def __init__(self, run: str) -> None:
        self.run = run
        self.IPRoute = load_netlink()
        self.links = self.IPRoute()
        self.host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        nft = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
        self._nft = nft

    # --- requests ---------------------------------------------------------------------------------

    def attach(self, attachment: dict[str, Any]) -> None:
        network = attachment["network"]
        probe_ports(attachment["ports"])
        elements = rules.network_elements(network) + rules.port_elements(attachment)
        with self.locked():
            bridge, new = self._bridge(network)
            if new:
                transaction = self._start_nft(rules.SETUP + rules.add(elements))
            else:
                transaction = self._start_nft(rules.add(elements))
            self._remember(network["interface"])
            try:
                self._veth(attachment, bridge)
                self._inside(attachment)
            except BaseException:
                transaction.kill()
                transaction.wait()
                raise
            self._finish_nft(transaction, new, elements, attachment)

    def detach(self, attachment: dict[str, Any]) -> None:
        network = attachment["network"]
        with self.locked():
            link = self._index(attachment["host_interface"])
            bridge = self._index(network["interface"])
            others = self._ports_of(bridge) - {link} if bridge else set()
            last = not others
            transaction = self._start_removal(network, attachment, last)
            doomed = [i for i in (link, bridge if last and self._ours(bridge) else None) if i]
            self._delete_links(doomed)
            if last:
                self._forget(network["interface"])
            self._end_removal(transaction, network, attachment)

    def remove(self, network: dict[str, Any]) -> None:
        with self.locked():
            bridge = self._index(network["interface"])
            if bridge and self._ours(bridge):
                self._delete_links([bridge])
            self._forget(network["interface"])
            transaction = self._start_removal(network, {"ports": [], "addresses": []}, True)
            self._end_removal(transaction, network, {"ports": [], "addresses": []})

    # --- links ------------------------------------------------------------------------------------

    def _index(self, name: str) -> int | None:
        found = self.links.link_lookup(ifname=name)
        return found[0] if found else None

    def _attributes(self, index: int) -> dict[str, Any]:
        message = self.links.link("get", index=index)[0]
        info = message.get_attr("IFLA_LINKINFO")
        return {
            "kind": info.get_attr("IFLA_INFO_KIND") if info else None,
            "alias": message.get_attr("IFLA_IFALIAS"),
        }

    def _ours(self, index: int | None) -> bool:
        """A bridge that we made bears our name as its alias."""
        return index is not None and self._attributes(index)["alias"] == "tiffin"

    def _bridge(self, network: dict[str, Any]) -> tuple[int, bool]:
        """(index of the bridge, whether it was made now). Error: DriverError for a foreign one."""
        name = network["interface"]
        index = self._index(name)
        if index is not None:
            found = self._attributes(index)
            if found["kind"] != "bridge" or found["alias"] != "tiffin":
                raise DriverError(
                    f"interface {name} exists and is not tiffin's", hint="rename or remove it"
                )
            return index, False
        more = {"mtu": network["mtu"]} if network.get("mtu") else {}
        self.links.link("add", ifname=name, kind="bridge", **more)
        index = self._index(name)
        assert index is not None
        self.links.link("set", index=index, ifalias="tiffin", state="up")
        for subnet in network["subnets"]:
            address = subnet["gateway"]
            if address:
                prefix = int(subnet["subnet"].partition("/")[2])
                with ignoring(errno.EEXIST):
                    self.links.addr("add", index=index, address=address, prefixlen=prefix)
        write_sysctl("net/ipv4/ip_forward", "1")
        write_sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")
        if any(":" in subnet["subnet"] for subnet in network["subnets"]):
            write_sysctl("net/ipv6/conf/all/forwarding", "1")
        return index, True

    def _veth(self, attachment: dict[str, Any], bridge: int) -> None:
        name = attachment["host_interface"]
        old = self._index(name)
        if old is not None:
            self._delete_links([old])  # half made by an attach that was killed
        mtu = attachment["network"].get("mtu")
        more = {"mtu": mtu} if mtu else {}
        with opened(attachment["netns"]) as netns:
            peer = {
                "ifname": attachment["interface"],
                "net_ns_fd": netns,
                "address": attachment["mac"],
                **more,
            }
            self.links.link("add", ifname=name, kind="veth", peer=peer, **more)
        index = self._index(name)
        self.links.link("set", index=index, master=bridge, state="up")
        # Hairpin: a container that asks for its own published port. With br_netfilter the packet
        # is translated on the bridge and must leave by the port it came in.
        self.links.brport("set", index=index, mode=1)

    def _inside(self, attachment: dict[str, Any]) -> None:
        """Addresses and routes, from inside the container's namespace."""
        with self.entered(attachment["netns"]) as links:
            index = links.link_lookup(ifname=attachment["interface"])[0]
            for address in attachment["addresses"]:
                plain, _, prefix = address.partition("/")
                if ":" in plain:
                    # No waiting for duplicate address detection: the address is ours alone.
                    write_sysctl(f"net/ipv6/conf/{attachment['interface']}/accept_dad", "0")
                with ignoring(errno.EEXIST):
                    links.addr("add", index=index, address=plain, prefixlen=int(prefix))
            links.link("set", index=index, state="up")
            if not attachment["default_route"]:
                return
            for subnet in attachment["network"]["subnets"]:
                gateway = subnet["gateway"]
                if gateway and not attachment["network"].get("internal"):
                    everything = "::/0" if ":" in gateway else "0.0.0.0/0"
                    with ignoring(errno.EEXIST):
                        links.route("add", dst=everything, gateway=gateway)

    def _ports_of(self, bridge: int) -> set[int]:
        return {
            message["index"]
            for message in self.links.get_links(master=bridge)
            if message.get_attr("IFLA_MASTER") == bridge
        }

    def _delete_links(self, indexes: list[int]) -> None:
        for index in indexes:
            with ignoring(errno.ENODEV):
                self.links.link("del", index=index)

    # --- rules ------------------------------------------------------------------------------------

    def _start_nft(self, text: str) -> subprocess.Popen[str]:
        """Runs beside the netlink work; its error output is read by `_finish_nft`."""
        if self._nft is None:
            raise DriverError("nft is not installed", hint="install it: apt install nftables")
        process = subprocess.Popen(
            [self._nft, "-f", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        return process

    def _finish_nft(
        self,
        transaction: subprocess.Popen[str],
        new: bool,
        elements: list[rules.Element],
        attachment: dict[str, Any],
    ) -> None:
        """The table may be there without our bridge (another network), or be gone (flushed by an
        administrator): then the other form of the transaction is right."""
        failed = _error(transaction)
        if failed and new and "File exists" in failed:
            failed = _error(self._start_nft(rules.add(elements)))
        elif failed and "No such file or directory" in failed:
            failed = _error(self._start_nft(rules.SETUP + rules.add(elements)))
        if not failed:
            return
        with contextlib.suppress(TiffinError, OSError):
            self._delete_links([i for i in [self._index(attachment["host_interface"])] if i])
        if "File exists" in failed:
            ports = ", ".join(
                f"{p['host_port']}/{p.get('protocol', 'tcp')}" for p in attachment["ports"]
            )
            raise Conflict(f"port {ports} is published by another container")
        raise DriverError(f"nft: {failed}")

    def _start_removal(
        self, network: dict[str, Any], attachment: dict[str, Any], last: bool
    ) -> subprocess.Popen[str]:
        if last and not (self._active() - {network["interface"]}):
            return self._start_nft(f"add table {rules.TABLE}\ndelete table {rules.TABLE}\n")
        elements = rules.port_elements(attachment)
        if last:
            elements += rules.network_elements(network)
        return self._start_nft(rules.delete(elements))

    def _end_removal(
        self,
        transaction: subprocess.Popen[str],
        network: dict[str, Any],
        attachment: dict[str, Any],
    ) -> None:
        failed = _error(transaction)
        if not failed or "No such file or directory" in failed:
            return  # the table is gone, and with it our rules
        # One of the ports is somebody else's by now: delete the others one by one.
        for element in rules.port_elements(attachment):
            _error(self._start_nft(rules.delete([element])))

    # --- which of our bridges there are -----------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Bridges and their sets are changed by one process at a time."""
        fd = os.open(f"{self.run}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _active(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return set(os.listdir(f"{self.run}/active"))
        return set()

    def _remember(self, bridge: str) -> None:
        os.makedirs(f"{self.run}/active", mode=0o700, exist_ok=True)
        os.close(os.open(f"{self.run}/active/{bridge}", os.O_CREAT | os.O_WRONLY, 0o600))

    def _forget(self, bridge: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.run}/active/{bridge}")

    @contextlib.contextmanager
    def entered(self, netns: str) -> Iterator[Any]:
        """A netlink socket inside a namespace; we are in it too, for /proc/sys/net."""
        with opened(netns) as fd:
            sys_tools().setns(fd, CLONE_NEWNET)
            try:
                links = self.IPRoute()
                try:
                    yield links
                finally:
                    links.close()
            finally:
                sys_tools().setns(self.host, CLONE_NEWNET)


def _error(process: subprocess.Popen[str]) -> str:
    """Wait for nft; its message, or nothing when it succeeded."""
    assert process.stderr is not None
    with process:
        text = process.stderr.read()
    if process.returncode == 0:
        return ""
    lines = [line for line in text.splitlines() if "Error" in line]
    return lines[0].partition("Error: ")[2] if lines else text.strip() or "failed"


@contextlib.contextmanager
def ignoring(number: int) -> Iterator[None]:
    """pyroute2 raises NetlinkError with the kernel's error number as `code`."""
    try:
        yield
    except Exception as error:
        if getattr(error, "code", None) != number:
            raise


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


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


def probe_ports(ports: list[dict[str, Any]]) -> None:
    """Error: Conflict when a program on the host has one of the ports already."""
    for port in ports:
        protocol = port.get("protocol", "tcp")
        host_ip = port.get("host_ip", "")
        family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(protocol)
        if kind is None:
            continue  # sctp: the kernel may not have it, and nothing but a container uses it
        with socket.socket(family, kind) as probe:
            if protocol == "tcp":
                # As a server would: a connection that lingers (TIME_WAIT) is no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host_ip, port["host_port"]))
            except OSError as error:
                shown = f"{host_ip + ':' if host_ip else ''}{port['host_port']}/{protocol}"
                if error.errno == errno.EADDRINUSE:
                    raise Conflict(
                        f"port {shown} is in use on the host", hint="publish another one"
                    ) from None
                raise DriverError(f"cannot publish {shown}: {error.strerror}") from None


def serve(worker: Worker) -> None:
    """Answer requests until standard input ends."""
    operations: dict[str, Callable[[dict[str, Any]], None]] = {
        "attach": worker.attach,
        "detach": worker.detach,
        "remove": worker.remove,
    }
    for line in sys.stdin.buffer:
        operation, subject = json.loads(line)
        answer: dict[str, str] | None = None
        try:
            operations[operation](subject)
        except TiffinError as error:
            answer = {"error": type(error).__name__, "what": error.what, "hint": error.hint}
        except Exception as error:  # netlink's errors, whatever they are: told to the engine
            answer = {"error": "DriverError", "what": f"network: {error or type(error).__name__}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> None:
    gc.disable()
    try:
        worker = Worker(sys.argv[1])
        serve(worker)
    except KeyboardInterrupt:
        return
    os._exit(0)


if __name__ == "__main__":
    main()
