"""`network explain`: who is on a network, by which cables, addresses, routes and rules; read from
the log's tables and from the kernel, with the differences named."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from .. import lean, netstate, network_story, settings
from ..errors import NotFound
from ..hooks import Attachment, NetworkConfig, Rule
from ..netstate import Namespace
from ..network_modes import DEFAULT
from ..network_story import ContainerStory, NetworkStory, Plug
from ..plugins import Plugins
from ..store import queries
from . import network_drawing, networks, printable, reads, table
from .flags import Call

if TYPE_CHECKING:
    import sqlite3

HELD = (
    "SELECT a.address, c.name FROM addresses a JOIN containers c ON c.id=a.container "
    "WHERE a.network=?1 "
    "UNION SELECT a.address, 'pod ' || p.name FROM addresses a JOIN pods p ON p.id=a.container "
    "WHERE a.network=?1"
)
KEPT = (
    "SELECT l.addresses, c.name FROM leases l JOIN containers c ON c.id=l.container "
    "WHERE l.network=?"
)


PODS = "SELECT * FROM pods ORDER BY created"
LIVE = ("initialized", "running", "paused", "stopping")
"""States in which a container has interfaces."""


def _store(call: Call) -> sqlite3.Connection | None:
    return reads.store(call.layout)


class Reader:
    """The tables, the kernel and the drivers, each asked once."""

    def __init__(self, call: Call) -> None:
        asked = networks.store if DEFAULT in call.arguments else _store
        self.connection: sqlite3.Connection | None = asked(call)
        self.rows = reads.rows(self.connection, queries.CONTAINERS)
        self.pods = [self._pod(row) for row in reads.rows(self.connection, PODS)]
        self.plugins = Plugins(call.layout, settings.load(call.layout).tables)
        self.host = netstate.read()
        self._inside: dict[str, Namespace | None] = {}

    @staticmethod
    def _pod(row: queries.Row) -> queries.Row:
        """A pod in the shape of a container: what is on the network is its namespace."""
        state = "running" if row["up"] else "exited"
        return {**row, "name": f"pod {row['name']}", "state": state, "pid": row["pause_pid"]}

    def find(self, given: str) -> queries.Row:
        """A container or a pod. Error: NotFound."""
        try:
            return reads.container(self.connection, given)
        except NotFound:
            from . import pods

            found = pods.find(self.connection, given)
            return next(pod for pod in self.pods if pod["id"] == found["id"])

    def driver(self, name: str) -> Any:
        return self.plugins.driver("network", name)

    def inside(self, row: queries.Row) -> Namespace | None:
        """The container's namespace; None when it has none now."""
        path = row["netns"]
        if not path or not os.path.exists(path):
            path = f"/proc/{row['pid']}/ns/net" if row["pid"] else ""
        if path not in self._inside:
            try:
                self._inside[path] = netstate.read(path) if path else None
            except OSError:
                self._inside[path] = None
        return self._inside[path]

    def attachments(self, row: queries.Row) -> list[Attachment]:
        return [msgspec.convert(plain, Attachment) for plain in row["attachments"]]

    def plug(self, row: queries.Row, attachment: Attachment) -> Plug:
        return network_story.plug(row, attachment, self.host, self.inside(row))

    def rules(self, network: NetworkConfig, attachments: Sequence[Attachment]) -> Sequence[Rule]:
        lean.load_trio()
        import trio

        driver = self.driver(network.driver)

        async def ask() -> Sequence[Rule]:
            try:
                found: Sequence[Rule] = await driver.rules(network, attachments)
            finally:
                await driver.close()
            return found

        return trio.run(ask)

    def network(self, row: queries.Row) -> NetworkStory:
        config = msgspec.convert(row["config"], NetworkConfig)
        here = [
            (container, attachment)
            for container in (*self.rows, *self.pods)
            if container["state"] in LIVE
            for attachment in self.attachments(container)
            if attachment.network.id == config.id
        ]
        held = reads.rows(self.connection, HELD, (config.id,))
        kept = reads.rows(self.connection, KEPT, (config.id,))
        return network_story.network(
            config,
            [self.plug(container, attachment) for container, attachment in here],
            self.host,
            self.rules(config, [attachment for _, attachment in here]),
            {r["address"]: r["name"] for r in held},
            {address: r["name"] for r in kept for address in r["addresses"].split()},
            gateway_here=self.driver(config.driver).owns_subnets,
        )

    def container(self, row: queries.Row) -> ContainerStory:
        """By `--network container:` or in a pod, the story of whose network it is."""
        words = {f"container:{row['id']}", f"pod:{row['id']}"}
        if row["network"].startswith("pod:"):
            words.add(row["network"])
        sharing = [r["name"] for r in self.rows if r["network"] in words and r["id"] != row["id"]]
        attachments = self.attachments(row)
        rules = [rule for at in attachments for rule in self.rules(at.network, [at])]
        plugs = [self.plug(row, attachment) for attachment in attachments]
        return network_story.container(row, plugs, self.inside(row), rules, sharing)


def explain(call: Call) -> int:
    reader = Reader(call)
    given = call.arguments[0]
    story: NetworkStory | ContainerStory
    try:
        story = reader.network(networks.find(reader.connection, given))
    except NotFound:
        try:
            row = reader.find(given)
        except NotFound:
            raise NotFound(f"no such network, container or pod: {given}") from None
        reads.lend(reader.connection, [row])
        story = reader.container(row)
    if call.options["format"] == "json":
        sys.stdout.write(table.json_text(msgspec.to_builtins(story)))
    elif call.options["format"]:
        from . import gotemplate

        template = call.options["format"]
        made = gotemplate.render(template, msgspec.to_builtins(story))
        sys.stdout.write(printable.for_terminal(made) + "\n")
    else:
        sys.stdout.write(network_drawing.draw(story))
    return 0
