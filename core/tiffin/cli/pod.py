"""`pod create`, `start`, `stop`, `kill`, `restart`, `pause`, `unpause`, `rm` and `prune`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, UserError
from . import reads, table
from .container_flags import FLAGS
from .container_options import options_from
from .flags import Call, Command, Flag
from .run import made_by

if TYPE_CHECKING:
    from ..engine.base import Engine

OF_THE_POD = frozenset(
    "add-host no-hosts dns dns-option dns-opt dns-search hostname ip ip6 label label-file "
    "mac-address name network net network-alias publish shm-size replace "
    "cgroup-parent device pid security-opt sysctl uts volume volumes-from".split()
)
"""Flags of `create` that are the pod's: they mean the same here."""


def pod_options(given: dict[str, Any]) -> dict[str, Any]:
    """What `options_from` wants: the flags of a container, those that are no pod's not given."""
    found: dict[str, Any] = {}
    for flag in FLAGS:
        default = list(flag.default) if flag.kind == "list" else flag.default
        found[flag.key] = given[flag.key] if flag.name in OF_THE_POD else default
    return found


def _create(call: Call) -> int:
    options = call.options
    name = options["name"] or (call.arguments[0] if call.arguments else "")
    if options["name"] and call.arguments:
        raise UserError("pod create: the name is given twice", hint="as an argument or with --name")
    if options["replace"] and not name:
        raise UserError("--replace needs a name", hint="that of the pod to replace")
    if options["exit_policy"] != "continue":
        raise UserError(
            f"--exit-policy {options['exit_policy']} is not there", hint="continue is, and pod stop"
        )
    path = options["pod_id_file"]
    if path and os.path.lexists(path):
        raise UserError(f"--pod-id-file {path} exists", hint="remove it, or name another")
    if options["uts"] == "host" and options["share"] == DEFAULT_SHARE:
        options["share"] = "ipc,net"
    if options["infra"] is False and options["share"] == DEFAULT_SHARE:
        options["share"] = "none"
    wanted = made_by(options_from(pod_options({**options, "name": name}), [""]))
    from ..engine import pods
    from .session import drive

    share = pods.share_of(options["share"])

    async def work(engine: Engine) -> str:
        from ..engine import pod_life

        if options["replace"]:
            with contextlib.suppress(NotFound):
                await pod_life.remove_pod(engine, name, force=True)
        return (await pods.create(engine, name, wanted, share))[0]

    identifier = drive(call, work)
    if path:
        try:
            with open(path, "x", encoding="ascii") as file:
                file.write(identifier)
        except OSError as error:
            raise UserError(f"--pod-id-file {path}: {error.strerror}") from None
    print(identifier)
    return 0


DEFAULT_SHARE = "ipc,net,uts"
INFRA = ("infra-command", "infra-conmon-pidfile", "infra-image", "infra-name")
NO_INFRA = "Taken for podman's sake: there is no such container"

CREATE = Command(
    "pod create",
    "[NAME]",
    "Define a pod: containers that share namespaces. They are pinned, without a process of the "
    "pod's own, unless the pid namespace is among them",
    (
        *(flag for flag in FLAGS if flag.name in OF_THE_POD),
        Flag(
            "share",
            "",
            "str",
            "KINDS",
            "net, ipc, uts, pid, or none; +pid: one more",
            DEFAULT_SHARE,
        ),
        *(Flag(name, "", "str", "VALUE", NO_INFRA) for name in INFRA),
        Flag(
            "share-parent",
            help="Taken for podman's sake: a pod has no cgroup of its own",
            default=True,
        ),
        Flag(
            "exit-policy",
            "",
            "str",
            "POLICY",
            "Its namespaces stay when its last container has ended",
            "continue",
        ),
        Flag("infra", help="Taken for podman's sake; --infra=false shares nothing", default=True),
        Flag("pod-id-file", "", "str", "FILE", "Write the pod's id to this file"),
    ),
    (0, 1),
    (
        "tiffin pod create -p 8080:80 web",
        "tiffin pod create --share +pid --network backend workers",
    ),
    _create,
)


def _pods(call: Call) -> list[str]:
    """Those that the arguments, --latest or --all name."""
    options = call.options
    for path in options.get("pod_id_file") or ():
        from .selection import id_in

        call.arguments += id_in(path, bool(options.get("ignore")), "--pod-id-file")
    if options.get("pod_id_file") and not call.arguments:
        return []  # of a pod that is not there, which is well
    if call.arguments and (options.get("all") or options.get("latest")):
        raise UserError("pods are named, and --all or --latest is given as well")
    if options.get("all") or options.get("latest"):
        rows = reads.rows(reads.store(call.layout), "SELECT id FROM pods ORDER BY created")
        if options.get("latest") and not rows:
            raise NotFound("there are no pods")
        return [row["id"] for row in (rows[-1:] if options.get("latest") else rows)]
    if not call.arguments:
        raise UserError("no pod is named", hint="a name or an id is wanted")
    return list(call.arguments)


def _many(
    call: Call,
    work: Callable[[Engine, str], Awaitable[str | None]],
    *,
    removal: bool = False,
) -> int:
    from .session import each, removal_codes

    names = _pods(call)
    return each(call, names, work, removal_codes) if removal else each(call, names, work)


ALL = Flag("all", "a", help="All pods")
LATEST = Flag("latest", "l", help="The pod that was made last")
ID_FILE = Flag("pod-id-file", "", "list", "FILE", "The pod whose id is in this file")
TIME = Flag("time", "t", "int", "SECONDS", "Wait so long before SIGKILL (by default its own)")


def _start(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine import pod_life

        return await pod_life.start_pod(engine, name)

    return _many(call, work)


START = Command(
    "pod start",
    "POD [POD...]",
    "Make the namespaces of pods and start their containers",
    (ALL, ID_FILE, LATEST),
    (0, None),
    ("tiffin pod start web",),
    _start,
)


def _stop(call: Call) -> int:
    ignore = bool(call.options["ignore"])

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine import pod_life

        try:
            return await pod_life.stop_pod(engine, name, timeout=call.options["time"])
        except NotFound:
            if ignore:
                return None
            raise

    return _many(call, work)


STOP = Command(
    "pod stop",
    "POD [POD...]",
    "Stop the containers of pods and take their namespaces away",
    (ALL, ID_FILE, LATEST, TIME, Flag("ignore", "i", help="One that is not there is no error")),
    (0, None),
    ("tiffin pod stop -t 2 web",),
    _stop,
)


def _restart(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine import pod_life

        return await pod_life.restart_pod(engine, name)

    return _many(call, work)


RESTART = Command(
    "pod restart",
    "POD [POD...]",
    "Stop pods and start them again",
    (ALL, LATEST),
    (0, None),
    ("tiffin pod restart web",),
    _restart,
)


def _kill(call: Call) -> int:
    from ..engine.create import parse_signal

    number = parse_signal(call.options["signal"])

    async def work(engine: Engine, name: str) -> str:
        from ..engine import pod_life

        return await pod_life.kill_pod(engine, name, number)

    return _many(call, work)


KILL = Command(
    "pod kill",
    "POD [POD...]",
    "Send a signal to all containers of pods",
    (ALL, LATEST, Flag("signal", "s", "str", "SIGNAL", "Name or number", "KILL")),
    (0, None),
    ("tiffin pod kill web", "tiffin pod kill -s HUP web"),
    _kill,
)


def _pause(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine import pod_life

        return await pod_life.pause_pod(engine, name)

    return _many(call, work)


PAUSE = Command(
    "pod pause",
    "POD [POD...]",
    "Freeze all running containers of pods",
    (ALL, LATEST),
    (0, None),
    ("tiffin pod pause web",),
    _pause,
)


def _unpause(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine import pod_life

        return await pod_life.unpause_pod(engine, name)

    return _many(call, work)


UNPAUSE = Command(
    "pod unpause",
    "POD [POD...]",
    "Let the frozen containers of pods go on",
    (ALL, LATEST),
    (0, None),
    ("tiffin pod unpause web",),
    _unpause,
)


def _rm(call: Call) -> int:
    options = call.options
    missing = bool(options["ignore"] or options["force"])

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine import pod_life

        try:
            return await pod_life.remove_pod(
                engine, name, force=bool(options["force"]), timeout=options["time"]
            )
        except NotFound:
            if missing:
                return None
            raise

    return _many(call, work, removal=True)


RM = Command(
    "pod rm",
    "POD [POD...]",
    "Remove pods with their containers, which must have ended",
    (
        ALL,
        ID_FILE,
        LATEST,
        TIME,
        Flag("force", "f", help="Also running containers; one that is not there is no error"),
        Flag("ignore", "i", help="One that is not there is no error"),
    ),
    (0, None),
    ("tiffin pod rm web", "tiffin pod rm -f --all"),
    _rm,
)


def _prune(call: Call) -> int:
    from . import pods
    from .confirm import confirmed

    given = table.filters(call.options["filter"], ("label", "label!", "until"))
    warning = "WARNING! This will remove all stopped/exited pods.."
    if not call.options["force"] and not confirmed(warning):
        return 0
    connection = reads.store(call.layout)
    stopped = given | {"status": ["stopped", "exited", "created"]}
    rows = pods.choose(connection, pods.gather(connection), stopped)
    if not rows:
        return 0
    from .session import drive

    async def work(engine: Engine) -> list[str]:
        from ..engine import pod_life

        return await pod_life.prune(engine, [row["id"] for row in rows])

    for identifier in drive(call, work):
        print(identifier)
    return 0


PRUNE = Command(
    "pod prune",
    "",
    "Remove all pods in which nothing runs, with their containers",
    (
        Flag("filter", "", "list", "KEY=VALUE", "Only what matches: label, label!, until"),
        Flag("force", "f", help="Do not ask"),
    ),
    (0, 0),
    ("tiffin pod prune -f",),
    _prune,
)
