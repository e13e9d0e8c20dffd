"""The commands that take a container through its life, but for `create` and `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFound, TiffinError, UserError
from .flags import Call, Command, Flag
from .selection import ALL, CIDFILE, FILTER, FILTER_ALONE, IGNORE, LATEST, many, need_names

if TYPE_CHECKING:
    from ..engine.base import Engine


LIVE = ("running", "paused", "initialized")
KEYS = Flag("detach-keys", kind="str", metavar="KEYS", help="keys that detach (ctrl-p,ctrl-q)")
TIME = Flag("time", "t", kind="int", metavar="SECONDS", help="before SIGKILL (container's own: 10)")


def _start(call: Call) -> int:
    if call.options["attach"] or call.options["interactive"]:
        return _start_attached(call)

    async def work(engine: Engine, name: str) -> str:
        from ..engine.start import start

        await start(engine, name)
        return name

    states = ("created", "exited", "initialized")
    return many(call, work, states=states, warm=("created", "exited"))


def _start_attached(call: Call) -> int:
    from ..engine.run import start_attached
    from .session import attacher, chosen, drive

    need_names(call)
    if len(call.arguments) > 1 or call.options["all"]:
        raise UserError("only one container can be attached to")

    async def work(engine: Engine) -> int:
        name = (await chosen(engine, call))[0]
        row = await engine.container(name)
        options = row["options"]
        attach = attacher(
            engine,
            terminal=options.get("tty", False),
            stdin=bool(call.options["interactive"]) and options.get("interactive", False),
            detach=call.options["detach_keys"] or None,
            proxy=bool(call.options["sig_proxy"]) and not options.get("tty", False),
        )
        return await start_attached(engine, name, attach)

    return drive(call, work)


START = Command(
    name="start",
    usage="CONTAINER [CONTAINER...]",
    summary="Start containers that were created or have ended",
    flags=(
        Flag("attach", "a", help="attach this terminal's output, and wait for the end"),
        Flag("interactive", "i", help="attach this terminal's input as well"),
        Flag("sig-proxy", default=True, help="pass signals on to the container"),
        Flag("all", help="all containers that do not run"),
        FILTER,
        LATEST,
        KEYS,
    ),
    arguments=(0, None),
    examples=("tiffin start web", "tiffin start --all --filter restart-policy=always"),
    run=_start,
)


def _stop(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str | None:
        from ..engine.stop import stop

        try:
            await stop(engine, name, timeout=call.options["time"])
        except NotFound:
            if not call.options["ignore"]:
                raise
            return None
        return name

    return many(call, work, states=LIVE, warm=LIVE)


STOP = Command(
    name="stop",
    usage="CONTAINER [CONTAINER...]",
    summary="Stop containers: their stop signal, and SIGKILL when that does not help in time",
    flags=(ALL, CIDFILE, FILTER, IGNORE, LATEST, TIME),
    arguments=(0, None),
    examples=("tiffin stop web", "tiffin stop --all --time 2 --filter label=tier=web"),
    run=_stop,
)


def _restart(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine.start import restart

        await restart(engine, name, timeout=call.options["time"])
        return name

    states = ("running",) if call.options["running"] else ()
    if call.options["running"]:
        call.options["all"] = True
    return many(call, work, states=states, warm=LIVE)


RESTART = Command(
    name="restart",
    usage="CONTAINER [CONTAINER...]",
    summary="Stop containers and start them again",
    flags=(ALL, CIDFILE, FILTER, LATEST, TIME, Flag("running", help="all that run")),
    arguments=(0, None),
    examples=("tiffin restart web",),
    run=_restart,
)


def _kill(call: Call) -> int:
    from ..engine.create import parse_signal

    number = parse_signal(call.options["signal"] or "KILL")

    async def work(engine: Engine, name: str) -> str:
        from ..engine.stop import kill

        await kill(engine, name, number)
        return name

    return many(call, work, states=("running", "paused"))


KILL = Command(
    name="kill",
    usage="CONTAINER [CONTAINER...]",
    summary="Send a signal to containers: SIGKILL, or another",
    flags=(
        ALL,
        CIDFILE,
        LATEST,
        Flag("signal", "s", kind="str", metavar="SIGNAL", default="KILL", help="name or number"),
    ),
    arguments=(0, None),
    examples=("tiffin kill web", "tiffin kill -s HUP web"),
    run=_kill,
)


def _rm(call: Call) -> int:
    def codes(error: TiffinError) -> int:
        from .session import removal_codes

        return removal_codes(error)

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine.remove import remove, remove_with_dependents

        if call.options["depend"]:
            gone = await remove_with_dependents(
                engine,
                name,
                force=bool(call.options["force"]),
                timeout=call.options["time"],
                volumes=bool(call.options["volumes"]),
            )
            return "\n".join(gone)
        removed = await remove(
            engine,
            name,
            force=bool(call.options["force"]),
            timeout=call.options["time"],
            ignore_missing=bool(call.options["ignore"]),
            volumes=bool(call.options["volumes"]),
        )
        return name if removed else None

    states = ("creating", "created", "exited", "initialized", "running", "paused", "removing")
    warm = LIVE if call.options["force"] else ()
    return many(call, work, states=states, codes=codes, last_first=True, warm=warm)


RM = Command(
    name="rm",
    usage="CONTAINER [CONTAINER...]",
    summary="Remove containers: metadata, config.json and their own layer",
    flags=(
        ALL,
        CIDFILE,
        Flag("depend", help="those that need it as well"),
        FILTER_ALONE,
        LATEST,
        Flag("force", "f", help="kill those that run; one that is not there is no error"),
        IGNORE,
        Flag("volumes", "v", help="with the anonymous volumes that only they have"),
        TIME,
    ),
    arguments=(0, None),
    examples=("tiffin rm web", "tiffin rm -af"),
    run=_rm,
)


def _wait(call: Call) -> int:
    from ..engine import waiting

    words = [word for text in call.options["condition"] for word in text.split(",")]
    conditions = waiting.conditions(words)

    async def work(engine: Engine, name: str) -> str:
        if not conditions:
            from ..engine.stop import wait

            return str(await wait(engine, name))
        return str(await waiting.wait_for(engine, name, conditions))

    return many(call, work)


WAIT = Command(
    name="wait",
    usage="CONTAINER [CONTAINER...]",
    summary="Wait until containers have ended, or are what --condition says; print their exit "
    "codes, -1 for one that has not ended",
    flags=(
        Flag("condition", kind="list", metavar="STATE", help="running, exited, healthy, ..."),
        Flag("interval", "i", kind="str", metavar="TIME", help="Ignored: changes are told of"),
        LATEST,
    ),
    arguments=(0, None),
    examples=("tiffin wait job", "tiffin wait --condition healthy web"),
    run=_wait,
)


def _init(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine.init import init

        await init(engine, name)
        return name

    return many(call, work, states=("created", "exited"))


INIT = Command(
    name="init",
    usage="CONTAINER [CONTAINER...]",
    summary="Write config.json and let the runtime create containers; nothing of theirs runs yet",
    flags=(ALL, LATEST),
    arguments=(0, None),
    examples=("tiffin init web",),
    run=_init,
)


def _mount(call: Call) -> int:
    if not call.arguments and not call.options["all"] and not call.options["latest"]:
        return _list_mounts(call)

    async def work(engine: Engine, name: str) -> str:
        from ..engine.mount import mount

        path = await mount(engine, name)
        return path if len(call.arguments) == 1 else f"{name} {path}"

    return many(call, work)


def _list_mounts(call: Call) -> int:
    from ..store import queries, sync

    template = call.options["format"]
    if template not in ("", "json"):
        raise UserError(f"--format {template!r} is not known", hint="json")
    connection = sync.open_read_only(call.layout.database)
    found = [] if connection is None else queries.rows(connection, queries.CONTAINERS)
    found = [row for row in found if row["mounted"]]
    if template:
        from .table import json_text

        keys = {"id": "id", "Names": "name", "Repositories": "image_name", "mountpoint": "mounted"}
        told = [{key: row[column] for key, column in keys.items()} for row in found]
        print(json_text([one | {"Names": [one["Names"]]} for one in told]), end="")
        return 0
    for row in found:
        print(row["id"] if call.options["no_trunc"] else row["id"][:12], row["mounted"])
    return 0


MOUNT = Command(
    name="mount",
    usage="[CONTAINER...]",
    summary="Mount the file systems of containers and print where; without one, list the mounts",
    flags=(
        ALL,
        LATEST,
        Flag("format", kind="str", metavar="json", help="the list of mounts as JSON"),
        Flag("no-trunc", help="do not shorten ids in the list"),
    ),
    arguments=(0, None),
    examples=("tiffin mount web", "tiffin mount", "tiffin mount --format json"),
    run=_mount,
)


def _unmount(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine.mount import unmount

        await unmount(engine, name, force=bool(call.options["force"]))
        return name

    return many(call, work, states=("created", "exited"))


UNMOUNT = Command(
    name="unmount",
    usage="CONTAINER [CONTAINER...]",
    summary="Unmount the file systems of containers; their own layers stay",
    flags=(ALL, LATEST, Flag("force", "f", help="also one that is in use")),
    arguments=(0, None),
    examples=("tiffin unmount web",),
    run=_unmount,
)


def _attach(call: Call) -> int:
    from ..engine import stop
    from .session import attacher, chosen, drive

    need_names(call)

    async def work(engine: Engine) -> int:
        name = (await chosen(engine, call))[0]
        row = await engine.container(name)
        if row["state"] not in ("running", "initialized"):
            from ..errors import Conflict

            raise Conflict(f"cannot attach to container {row['name']}: it is {row['state']}")
        options = row["options"]
        tty = options.get("tty", False)
        if options.get("log_driver") == "passthrough":
            from ..errors import Conflict

            raise Conflict(f"cannot attach to container {row['name']}: its streams pass through")
        attach = attacher(
            engine,
            terminal=tty,
            stdin=options.get("interactive", False) and not call.options["no_stdin"],
            detach=call.options["detach_keys"] or None,
            proxy=bool(call.options["sig_proxy"]) and not tty,
        )
        if await attach(row):
            return 0
        return await stop.wait(engine, row["id"])

    return drive(call, work)


ATTACH = Command(
    name="attach",
    usage="CONTAINER",
    summary="Connect this terminal to a running container",
    flags=(
        LATEST,
        KEYS,
        Flag("no-stdin", help="output only"),
        Flag("sig-proxy", default=True, help="pass signals on to the container"),
    ),
    arguments=(0, 1),
    examples=("tiffin attach web",),
    run=_attach,
)


def _exec(call: Call) -> int:
    from ..engine import execs
    from .environment_flags import environment
    from .session import attacher, chosen, drive

    options = call.options
    arguments = list(call.arguments)
    named: list[str] = []
    if not options["latest"]:
        named, arguments = arguments[:1], arguments[1:]
    if not arguments:
        raise UserError("no command given", hint="tiffin exec CONTAINER COMMAND [ARG...]")
    asked = execs.ExecOptions(
        command=tuple(arguments),
        env=tuple(environment(options["env"], options["env_file"])),
        workdir=options["workdir"] or "",
        user=options["user"] or "",
        tty=bool(options["tty"]),
        interactive=bool(options["interactive"]),
        privileged=bool(options["privileged"]),
        detach=bool(options["detach"]),
    )

    async def work(engine: Engine) -> tuple[str, int]:
        call.arguments = named
        name = (await chosen(engine, call))[0]
        attach = None
        if not asked.detach:
            attach = attacher(
                engine,
                terminal=asked.tty,
                stdin=asked.interactive,
                detach=options["detach_keys"] or None,
                proxy=False,
            )
        return await execs.run(engine, name, asked, attach=attach)

    exec_id, code = drive(call, work)
    if asked.detach:
        print(exec_id)
    return code


EXEC = Command(
    name="exec",
    usage="CONTAINER COMMAND [ARG...]",
    summary="Run another process in the namespaces of a running container",
    flags=(
        Flag("detach", "d", help="do not wait for it"),
        KEYS,
        Flag("env", "e", kind="list", metavar="NAME=VALUE", help="set a variable"),
        Flag("env-file", kind="list", metavar="FILE", help="read variables from a file"),
        Flag("interactive", "i", help="keep its standard input open"),
        LATEST,
        Flag("privileged", help="with all capabilities"),
        Flag("tty", "t", help="with a terminal"),
        Flag("user", "u", kind="str", metavar="USER[:GROUP]", help="as another user"),
        Flag("workdir", "w", kind="str", metavar="DIR", help="in another directory"),
    ),
    arguments=(1, None),
    examples=("tiffin exec -it web sh", "tiffin exec web ps"),
    run=_exec,
    interspersed=False,
)


def _commit(call: Call) -> int:
    from ..engine.commit import CommitOptions, commit
    from .session import drive

    options = CommitOptions(
        author=call.options["author"] or "",
        message=call.options["message"] or "",
        changes=tuple(call.options["change"]),
        pause=bool(call.options["pause"]),
    )
    name = call.arguments[1] if len(call.arguments) > 1 else ""

    async def work(engine: Engine) -> str:
        return await commit(engine, call.arguments[0], name, options)

    image_id = drive(call, work).removeprefix("sha256:")
    iidfile = call.options["iidfile"]
    if iidfile:
        with open(iidfile, "w", encoding="ascii") as file:
            file.write(f"sha256:{image_id}")
    print(image_id)
    return 0


COMMIT = Command(
    name="commit",
    usage="CONTAINER [IMAGE]",
    summary="Save the file system of a container as an image",
    flags=(
        Flag("author", "a", kind="str", metavar="NAME", help="who made it"),
        Flag("change", "c", kind="list", metavar="INSTRUCTION", help="CMD, ENV, ... of the image"),
        Flag("iidfile", kind="str", metavar="FILE", help="write the image's id to a file"),
        Flag("message", "m", kind="str", metavar="TEXT", help="what was done"),
        Flag("pause", "p", default=True, help="pause a running container meanwhile"),
        Flag("quiet", "q", help="print nothing but the id"),
    ),
    arguments=(1, 2),
    examples=("tiffin commit web web:patched", "tiffin commit -c 'CMD [\"sh\"]' web mine"),
    run=_commit,
)
