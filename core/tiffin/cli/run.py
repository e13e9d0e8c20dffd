"""`create` and `run`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..errors import UserError
from . import flag_words
from .container_flags import FLAGS
from .container_options import options_from
from .flags import Call, Command

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..engine.images import Pull
    from ..options import ContainerOptions
    from ..plugins import Plugins


@asynccontextmanager
async def _placed(engine: Engine, options: ContainerOptions) -> AsyncIterator[ContainerOptions]:
    """The options of a container, in the pod that `--pod new:NAME` asks for."""
    if not options.pod.startswith("new:"):
        yield options
        return
    from ..engine import pod_life

    async with pod_life.opened(engine, options) as placed:
        yield placed


def made_by(options: ContainerOptions) -> ContainerOptions:
    """With the command line, for `generate systemd --new`."""
    from msgspec.structs import replace

    return replace(options, create_command=tuple(sys.argv[1:]))


def _cidfile(call: Call) -> str:
    path = call.options["cidfile"] or ""
    if path and os.path.lexists(path):
        raise UserError(f"--cidfile {path} exists", hint="remove it, or name another")
    return path


def _write_cidfile(path: str, cid: str) -> None:
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(cid)
    except OSError as error:
        raise UserError(f"--cidfile {path}: {error.strerror}") from None


def _options(call: Call) -> ContainerOptions:
    from .. import network_modes

    options = made_by(options_from(call.options, call.arguments))
    if network_modes.without_ports(options.network) and (options.ports or options.publish_all):
        print(
            f"Ports are not published with --network {options.network}: it has none of its own",
            file=sys.stderr,
        )
    return options


def _create(call: Call) -> int:
    options = _options(call)
    cidfile = _cidfile(call)
    from ..engine.create import create
    from .session import drive

    async def work(engine: Engine) -> str:
        async with _placed(engine, options) as placed:
            return await create(
                engine, placed, pull=_pull(call), replace=bool(call.options["replace"])
            )

    cid = drive(call, work)
    if cidfile:
        _write_cidfile(cidfile, cid)
    print(cid)
    return 0


def _pull(call: Call) -> Pull:
    from ..engine.images import Pull
    from .progress import for_stderr

    if call.options["authfile"]:
        from .share import use_authfile

        use_authfile(call)

    return Pull(
        policy=call.options["pull"] or "missing",
        platform=flag_words.platform(call.options),
        tls_verify=bool(call.options["tls_verify"]),
        progress=for_stderr(bool(call.options["quiet"])),
    )


def _warm(call: Call, options: ContainerOptions) -> Plugins:
    """The plugins, with the network's driver loading on a second core while the engine loads."""
    from .. import network_modes, settings
    from ..plugins import Plugins

    plugins = Plugins(call.layout, settings.load(call.layout).tables)
    network_modes.warm_up(plugins, options.network)
    return plugins


def _run(call: Call) -> int:
    options = _options(call)
    cidfile = _cidfile(call)
    streams = _streams(call)
    if options.log_driver == "passthrough" and (options.tty or any(map(os.isatty, range(3)))):
        raise UserError(
            "--log-driver passthrough does not go with a terminal",
            hint="what runs in the container could type into it",
        )
    if options.tty and not options.detach and options.interactive and not sys.stdin.isatty():
        print("Warning: stdin is no terminal, though -t was given", file=sys.stderr)
    plugins = _warm(call, options)
    from ..engine.run import run
    from .session import attacher, drive

    written = []

    def created(cid: str) -> None:
        if cidfile:
            _write_cidfile(cidfile, cid)
            written.append(cidfile)

    async def work(engine: Engine) -> tuple[str, int]:
        attach = None
        if not options.detach:
            attach = attacher(
                engine,
                terminal=options.tty,
                stdin=options.interactive and "stdin" in streams,
                stdout="stdout" in streams,
                stderr="stderr" in streams,
                detach=call.options["detach_keys"] or None,
                proxy=bool(call.options["sig_proxy"]) and not options.tty,
            )
        async with _placed(engine, options) as placed:
            return await run(
                engine,
                placed,
                pull=_pull(call),
                replace=bool(call.options["replace"]),
                attach=attach,
                created=created,
            )

    try:
        cid, code = drive(call, work, plugins)
    except BaseException as error:
        if written and getattr(error, "exit_code", 125) == 125:
            os.unlink(written[0])  # the container is gone as well
        raise
    if options.detach:
        print(cid)
    return code


def _streams(call: Call) -> list[str]:
    asked = [stream.lower() for stream in call.options["attach"]]
    for stream in asked:
        if stream not in ("stdin", "stdout", "stderr"):
            raise UserError(f"--attach {stream!r}", hint="stdin, stdout or stderr")
    if asked and call.options["detach"]:
        raise UserError("--attach and --detach exclude each other")
    return asked or ["stdin", "stdout", "stderr"]


CREATE = Command(
    name="create",
    usage="IMAGE [COMMAND [ARG...]]",
    summary="Make a container: metadata only. No mount, no config.json, no process",
    flags=FLAGS,
    arguments=(1, None),
    examples=(
        "tiffin create --name web -p 8080:80 embedded:busybox httpd -f",
        "tiffin create -v /srv/data:/data:ro embedded:busybox ls /data",
    ),
    run=_create,
    interspersed=False,
)

RUN = Command(
    name="run",
    usage="IMAGE [COMMAND [ARG...]]",
    summary="Create a container and start it; attached unless --detach is given",
    flags=FLAGS,
    arguments=(1, None),
    examples=(
        "tiffin run --rm -it embedded:busybox sh",
        "tiffin run -d --name web -p 8080:80 embedded:busybox httpd -f",
        "tiffin run --rm --network none --memory 64m embedded:busybox free -m",
    ),
    run=_run,
    interspersed=False,
)
