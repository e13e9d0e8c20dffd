"""`generate systemd`: units that run containers and pods that are there. Reads only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import Conflict, NotFound, UserError
from . import reads
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    import sqlite3

    from ..store.queries import Row
    from .service_units import Thing, Wishes

FLAGS = (
    Flag("name", "n", help="Use names in place of ids"),
    Flag("new", help="Make containers anew at each start, by the command line that made them"),
    Flag("files", "f", help="Write files here, and print their names"),
    Flag("format", "", "str", "FORMAT", "All units, by name, as json"),
    Flag("restart-policy", "", "str", "POLICY", "Restart= of the units (default: on-failure)"),
    Flag("restart-sec", "", "int", "SECONDS", "RestartSec= of the units"),
    Flag("start-timeout", "", "int", "SECONDS", "TimeoutStartSec= of the units"),
    Flag("stop-timeout", "", "int", "SECONDS", "Before SIGKILL (default: the container's own)"),
    Flag("time", "t", "int", "SECONDS", "The same as --stop-timeout"),
    Flag("after", "", "list", "UNIT", "One more After="),
    Flag("requires", "", "list", "UNIT", "One more Requires="),
    Flag("wants", "", "list", "UNIT", "One more Wants="),
    Flag("env", "e", "list", "NAME[=VALUE]", "One more Environment="),
    Flag("container-prefix", "", "str", "WORD", "Before a container's name", "container"),
    Flag("pod-prefix", "", "str", "WORD", "Before a pod's name", "pod"),
    Flag("separator", "", "str", "TEXT", "Between prefix and name", "-"),
    Flag("no-header", help="Without the comment that says when and by what it was made"),
    Flag("template", help="A template unit (implies --new): NAME@INSTANCE has a container each"),
)
NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\")


def _wishes(call: Call) -> Wishes:
    from ..layout import Layout
    from ..quadlet.generator import program
    from . import environment_flags, service_units

    options = call.options
    wishes = service_units.Wishes()
    wishes.new = bool(options["new"] or options["template"])
    wishes.template = bool(options["template"])
    wishes.restart = options["restart_policy"]
    if wishes.restart and wishes.restart not in service_units.RESTARTS:
        raise UserError(
            f"--restart-policy {wishes.restart!r} is not known",
            hint=", ".join(service_units.RESTARTS),
        )
    wishes.restart_sec, wishes.start_timeout = options["restart_sec"], options["start_timeout"]
    given = options["stop_timeout"]
    wishes.stop_timeout = options["time"] if given is None else given
    for key in ("restart_sec", "start_timeout", "stop_timeout", "time"):
        if (options[key] or 0) < 0:
            raise UserError(f"--{key.replace('_', '-')} {options[key]} is negative")
    for key in ("after", "requires", "wants"):
        for word in options[key]:
            if not word or set(word) - NAMES - {"@", "%"}:
                raise UserError(f"--{key} {word!r} is not the name of a unit")
    wishes.after, wishes.requires = options["after"], options["requires"]
    wishes.wants = options["wants"]
    wishes.env = [f"{k}={v}" for k, v in environment_flags.environment(options["env"], ())]
    if not options["no_header"]:
        wishes.header = _header()
    own, usual = call.layout, Layout.find(usual=True)
    wishes.program = program()
    if (own.root, own.run) != (usual.root, usual.run):
        wishes.program = (*wishes.program, "--root", own.root, "--runroot", own.run)
    return wishes


def _header() -> str:
    from time import strftime

    from .. import __version__

    return f"# made by tiffin {__version__}, {strftime('%Y-%m-%d %H:%M:%S %z')}"


class _Namer:
    def __init__(self, call: Call) -> None:
        self.call = call

    def own(self, row: Row) -> str:
        return str(row["name"] if self.call.options["name"] else row["id"])

    def unit(self, kind: str, row: Row) -> str:
        options = self.call.options
        prefix = options[f"{kind}_prefix"]
        name = self.own(row)
        if prefix:
            name = f"{prefix}{options['separator']}{name}"
        if set(name) - NAMES:
            raise UserError(f"{name!r} cannot be the name of a unit", hint="systemd.unit(5)")
        return name


def _container(namer: _Namer, row: Row, pod: Row | None = None) -> Thing:
    from .service_units import Thing

    options = row["options"]
    return Thing(
        namer.unit("container", row),
        namer.own(row),
        made_by=options.get("create_command", ()),
        timeout=row["stop_timeout"],
        restart=options.get("restart", ""),
        pid_file=f"{namer.call.layout.container_run(row['id'])}/conmon.pid",
        pod=namer.own(pod) if pod else "",
        pod_unit=namer.unit("pod", pod) if pod else "",
    )


def _things(call: Call, connection: sqlite3.Connection | None) -> list[tuple[Thing, bool]]:
    """(what, whether it is a pod) of what is named."""
    from ..store import queries
    from . import pods
    from .service_units import Thing

    given, namer = call.arguments[0], _Namer(call)
    try:
        row = reads.container(connection, given)
    except NotFound:
        try:
            pod = pods.find(connection, given)
        except NotFound:
            raise NotFound(f"no such container or pod: {given}") from None
    else:
        if row["options"].get("pod"):
            raise Conflict(
                f"container {row['name']} is in a pod", hint="generate the units of the pod"
            )
        return [(_container(namer, row), False)]
    if call.options["template"]:
        raise UserError("--template is for containers, not for pods")
    rows = [
        row
        for row in reads.rows(connection, queries.CONTAINERS)
        if row["options"].get("pod") == pod["id"]
    ]
    members = [_container(namer, row, pod) for row in rows]
    whole = Thing(
        namer.unit("pod", pod),
        pod["name"] if call.options["new"] else namer.own(pod),
        made_by=pod["options"].get("create_command", ()),
        timeout=10,
        members=[member.unit for member in members],
    )
    for member in members:
        member.pod = pod["name"] if call.options["new"] else member.pod
    return [(whole, True), *((member, False) for member in members)]


def _systemd(call: Call) -> int:
    if call.options["format"] not in ("", "json"):
        raise UserError(f"--format {call.options['format']!r} is not known", hint="json")
    wishes = _wishes(call)
    from .service_units import unit

    suffix = "@.service" if wishes.template else ".service"
    things = _things(call, reads.store(call.layout))
    texts = {thing.unit: unit(thing, wishes, is_pod=is_pod) for thing, is_pod in things}
    if call.options["files"]:
        for name, text in texts.items():
            path = os.path.abspath(f"{name}{suffix}")
            try:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}") from None
            texts[name] = path
    if call.options["format"] == "json":
        import json

        print(json.dumps(texts, indent=1))
    elif call.options["files"]:
        print("\n".join(texts.values()))
    else:
        print("\n".join(texts.values()), end="")
    return 0


SYSTEMD = Command(
    name="generate systemd",
    usage="CONTAINER|POD",
    summary="Print units of systemd that start and stop a container, or a pod and what is in it; "
    "with --new, make them anew at each start",
    flags=FLAGS,
    arguments=(1, 1),
    examples=(
        "tiffin generate systemd --new --name web > /etc/systemd/system/web.service",
        "tiffin generate systemd --files --name --restart-policy always --after db.service web",
    ),
    run=_systemd,
)
