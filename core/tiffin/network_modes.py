"""What the words of `--network` mean, before anything of the engine is loaded."""

from __future__ import annotations

import contextlib

from .errors import UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .plugins import Plugins

DEFAULT = "bridge"
"""What `--network` means when it is not given, and the name of the default network."""

NO_NETWORK = ("none", "host")
"""Modes that are not networks."""

STACKS = ("pasta", "slirp4netns")
"""Modes with a network of the container's own, in a process beside it: each is made by the network
driver of that name, and takes options in that program's words. They are words of `--network`, as
`host` is; what they do is the plugins' alone, but a third party's would have to be added here."""


def default(uid: int) -> str:
    """What `--network` means when it is not given, in the store of this user: ordinary users have
    no right to make interfaces on the host, so theirs is the first of `STACKS` that is installed,
    and the one whose lack is then told when there is none."""
    return DEFAULT if uid == 0 else next(installed_stacks(), STACKS[0])


def installed_stacks() -> Iterator[str]:
    """Those of `STACKS` whose programs are there."""
    import os

    places = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", "/usr/local/bin"]
    return (stack for stack in STACKS if any(p and os.access(f"{p}/{stack}", 1) for p in places))


CONTAINER, NAMESPACE, POD = "container:", "ns:", "pod:"
"""How the modes begin that take a network namespace which is there already."""


def joins(network: str) -> bool:
    """True for `container:ID`, `ns:PATH` and `pod:ID`."""
    return network.startswith((CONTAINER, NAMESPACE, POD))


def names(network: str) -> list[str]:
    """`--network` as a list. Error: UserError for a combination that makes no sense."""
    if joins(network):
        return [network]  # a path may have a comma
    found = [name for name in network.split(",") if name] or [DEFAULT]
    alone = (*NO_NETWORK, *STACKS)
    if len(found) > 1 and any(name in alone or joins(name) for name in found):
        raise UserError(
            f"--network {network}: {', '.join(alone)}, container: and ns: cannot be combined with "
            "others"
        )
    return found


def on(network: str) -> list[str]:
    """The networks among these words: those that have others on them, and a name."""
    alone = (*NO_NETWORK, *STACKS)
    return [name for name in names(network) if name not in alone and not joins(name)]


def attached(network: str) -> bool:
    """True where a driver attaches the container to something."""
    return network in STACKS or bool(on(network))


def without_ports(network: str) -> bool:
    """True where published ports are left out, as podman and docker do."""
    return network in NO_NETWORK or joins(network)


DRIVER = "SELECT driver FROM networks WHERE name=? OR id=?"


def warm_up(plugins: Plugins, network: str) -> None:
    """Let the drivers of these networks start loading, if the networks need one."""
    network = network or default(plugins.layout.uid)
    if network in STACKS:
        plugins.driver("network", network).warm_up()
        return
    for name in _drivers(plugins, on(network)):
        plugins.driver("network", name).warm_up()


USED = """
SELECT DISTINCT networks.driver FROM containers, networks
WHERE (containers.name=? OR (containers.id>=? AND containers.id<?))
  AND instr(?, ','||containers.state||',')
  AND instr(','||containers.network||',', ','||networks.name||',')
"""


def warm_up_for(plugins: Plugins, containers: list[str], states: tuple[str, ...]) -> None:
    """The same for the networks of containers in one of these states, by name or (short) id."""
    from .errors import TiffinError

    listed = f",{','.join(states)},"
    with contextlib.suppress(TiffinError):  # said when it is in the way
        for name in _asked(plugins, USED, [(c, c, f"{c}g", listed) for c in containers]):
            plugins.driver("network", name).warm_up()


def _drivers(plugins: Plugins, names: list[str]) -> set[str]:
    """As far as the store knows them: that a network is not there, others say."""
    if set(names) <= {DEFAULT}:
        return set(names)
    return _asked(plugins, DRIVER, [(name, name) for name in names])


def _asked(plugins: Plugins, query: str, parameters: list[tuple[str, ...]]) -> set[str]:
    """Names of drivers; none when the store cannot be read, which others say."""
    from .errors import TiffinError
    from .store import sync

    try:
        connection = sync.open_read_only(plugins.layout.database)
        if connection is None:
            return set()
        with contextlib.closing(connection):
            rows = [row for given in parameters for row in connection.execute(query, given)]
    except (TiffinError, sync.Error):
        return set()
    return {row[0] for row in rows}
