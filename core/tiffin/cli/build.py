"""`build`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import UserError
from . import container_flags, container_options, flag_words
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from io import BufferedReader
    from typing import Any

    from ..engine.base import Engine
    from ..engine.build import BuildOptions, Secret
    from ..engine.images import Pull

FROM_RUN = (
    "add-host", "dns", "cap-add", "cap-drop", "device", "security-opt", "memory", "memory-swap",
    "cpu-shares", "cpuset-cpus", "cpuset-mems", "ulimit", "shm-size",
)  # fmt: skip
"""Flags that mean for the containers of RUN what they mean for `run`."""

FLAGS = (
    Flag("tag", "t", "list", "NAME[:TAG]", "Name of the image"),
    Flag("file", "f", "str", "FILE", "The Dockerfile, or - (default: Containerfile or Dockerfile)"),
    Flag("build-arg", "", "list", "NAME[=VALUE]", "Value of an ARG; NAME alone takes the caller's"),
    Flag("target", "", "str", "STAGE", "Build this stage, and no more than it needs"),
    Flag("no-cache", "", help="Carry out every step, whatever was built before"),
    Flag("layers", "", help="Keep an image of each step for later builds", default=True),
    Flag("squash", "", help="Make one layer of all that is added to the base image"),
    Flag("squash-all", "", help="Make one layer of the whole image"),
    Flag("secret", "", "list", "id=ID,src=FILE", "Secret for RUN --mount=type=secret, or env=NAME"),
    Flag("format", "", "str", "FORMAT", "Of manifest and media types: oci or docker", "oci"),
    Flag("pull", "", "str", "WHEN", "always, missing, never or newer; alone: always", "missing",
         bare="always"),
    Flag("quiet", "q", help="Print nothing but the image's id"),
    Flag("iidfile", "", "str", "FILE", "Write the image's id to this file"),
    Flag("label", "", "list", "KEY=VALUE", "Label of the image"),
    Flag("annotation", "", "list", "KEY=VALUE", "Annotation of the image's manifest"),
    Flag("env", "", "list", "NAME[=VALUE]", "Environment of the image"),
    Flag("timestamp", "", "int", "SECONDS", "Time of everything in the image, so that the same "
         "input gives the same id"),
    *container_flags.PLATFORM,
    Flag("network", "", "str", "NETWORK", "Network of RUN: none, host, or a network's name"),
    Flag("volume", "v", "list", "SRC:DST[:OPTIONS]", "Mount a path of the host for each RUN"),
    Flag("ignorefile", "", "str", "FILE", "Instead of the context's .containerignore"),
    Flag("jobs", "", "int", "NUMBER", "Stages at the same time (default: all that can)"),
    Flag("tls-verify", help="Check certificates when pulling", default=True),
    Flag("rm", help="Taken for podman's sake: containers of steps are always removed",
         default=True),
    Flag("force-rm", help="Taken for podman's sake: containers of steps are always removed",
         default=True),
    Flag("isolation", "", "str", "KIND", "Taken for podman's sake: oci is the only one", "oci"),
    *(flag for flag in container_flags.FLAGS if flag.name in FROM_RUN),
)  # fmt: skip


def _pairs(flag: str, given: list[str], *, caller: bool = False) -> tuple[tuple[str, str], ...]:
    """NAME=VALUE; with `caller`, NAME alone takes what the caller's environment has."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise UserError(f"{flag} {text!r} is not of the form NAME=VALUE")
        if equals:
            found[name] = value
        elif caller:
            if name in os.environ:
                found[name] = os.environ[name]
        else:
            found[name] = ""
    return tuple(found.items())


def _secret(text: str) -> Secret:
    from ..engine.build import Secret

    given = {}
    for option in text.split(","):
        name, equals, value = option.partition("=")
        name = {"source": "src", "target": "id"}.get(name, name)
        if not equals or name not in ("id", "src", "env", "type"):
            raise UserError(
                f"--secret {text!r}: {option!r} is not known",
                hint="id=ID,src=FILE or id=ID,env=NAME",
            )
        given[name] = value
    identifier = given.get("id", "")
    if not identifier or "/" in identifier:
        raise UserError(f"--secret {text!r} has no id", hint="id=ID,src=FILE")
    kind = given.get("type", "env" if "env" in given else "file")
    if kind not in ("file", "env"):
        raise UserError(f"--secret {text!r}: type {kind!r} is not known", hint="file or env")
    if kind == "env":
        return Secret(identifier, env=given.get("env") or given.get("src") or identifier)
    path = os.path.abspath(given.get("src") or identifier)
    if not os.path.isfile(path):
        raise UserError(f"--secret {text!r}: {path} is not a file")
    return Secret(identifier, file=path)


def _options(call: Call, context: str, text: str | None) -> BuildOptions:
    from ..engine.build import BuildOptions

    options = call.options
    if options["format"] not in ("oci", "docker"):
        raise UserError(f"--format {options['format']!r} is not known", hint="oci or docker")
    if options["isolation"] not in ("", "oci", "default"):
        raise UserError(f"--isolation {options['isolation']!r} is not known", hint="oci")
    timestamp = options["timestamp"]
    if timestamp is not None and not 0 <= timestamp < 1 << 33:
        raise UserError(f"--timestamp {timestamp} is not a time", hint="seconds since 1970")
    if options["jobs"] is not None and options["jobs"] < 0:
        raise UserError(f"--jobs {options['jobs']} is negative")
    layers = bool(options["layers"])
    return BuildOptions(
        context=context,
        file="" if options["file"] == "-" else options["file"],
        text=text,
        ignore_file=options["ignorefile"],
        names=tuple(options["tag"]),
        build_args=_pairs("--build-arg", options["build_arg"], caller=True),
        target=options["target"],
        cache=layers and not options["no_cache"],
        squash=bool(options["squash"]) or not layers,
        squash_all=bool(options["squash_all"]),
        secrets=tuple(_secret(text) for text in options["secret"]),
        docker_format=options["format"] == "docker",
        env=_pairs("--env", options["env"], caller=True),
        labels=_pairs("--label", options["label"]),
        annotations=_pairs("--annotation", options["annotation"]),
        timestamp=-1 if timestamp is None else timestamp,
        platform=flag_words.platform(options),
        jobs=options["jobs"] or 0,
        storage_driver=call.storage_driver,
        runtime=call.runtime,
        network=options["network"],
        **container_options.step_options(options),
    )


def _pull(call: Call) -> Pull:
    from ..engine.images import Pull
    from .progress import for_stderr

    policy = {"true": "always", "false": "missing", "ifnotpresent": "missing"}.get(
        call.options["pull"].lower(), call.options["pull"]
    )
    quiet = bool(call.options["quiet"])
    return Pull(
        policy=policy,
        tls_verify=bool(call.options["tls_verify"]),
        progress=None if quiet else for_stderr(),
    )


def _stdin() -> BufferedReader:
    return open(0, "rb", closefd=False)


def _input(call: Call) -> tuple[str, str | None, BufferedReader | None]:
    """(context, text of the Dockerfile, tar of the context): of the latter two, one at most."""
    context = call.arguments[0] if call.arguments else "."
    given = call.options["file"]
    if context == "-":
        if given == "-":
            raise UserError("build: context and Dockerfile cannot both come on standard input")
        from .. import decompress

        file = _stdin()
        head = file.peek(512)[:512]
        if decompress.kind(head[:6]) != "none" or head[257:262] == b"ustar":
            return "-", None, file
        if given:
            raise UserError(
                "build: standard input is no tar", hint="with --file it is the context, as a tar"
            )
        return "-", file.read().decode("utf-8", "surrogateescape"), None
    if given == "-":
        return context, _stdin().read().decode("utf-8", "surrogateescape"), None
    return context, None, None


def _remote(context: str) -> bool:
    """A URL, unless there is such a directory."""
    schemes = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")
    return context.startswith(schemes) and not os.path.isdir(context)


def _build(call: Call) -> int:
    context, text, archive = _input(call)
    if context != "-" and not _remote(context):
        if not os.path.isdir(context):
            what = "is not a directory" if os.path.exists(context) else "does not exist"
            raise UserError(f"build: the context {context} {what}")
        context = os.path.abspath(context)
    options, pull = _options(call, context, text), _pull(call)
    iidfile = call.options["iidfile"]
    from .build_console import BuildConsole, QuietConsole
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine.build import build

        kind: Any = QuietConsole if call.options["quiet"] else BuildConsole
        with kind(engine) as console:
            return await build(engine, options, console=console, pull=pull, archive=archive)

    image_id = drive(call, work)
    if iidfile:
        try:
            with open(iidfile, "w", encoding="ascii") as file:
                file.write(image_id)
        except OSError as error:
            raise UserError(f"--iidfile {iidfile}: {error.strerror}") from None
    print(image_id.removeprefix("sha256:"))
    return 0


BUILD = Command(
    "build",
    "[CONTEXT|URL|-]",
    "Build an image from a Dockerfile. CONTEXT is the directory that COPY and ADD take files from; "
    "URL that of a git repository (URL#REF:DIRECTORY), a tar or a Dockerfile; - is a tar, or the "
    "Dockerfile itself, on standard input",
    FLAGS,
    (0, 1),
    (
        "tiffin build -t app .",
        "tiffin build -t app:2 -f build/Containerfile --build-arg VERSION=2 --target release .",
        "tiffin build https://example.org/app.git#main:server",
        "tiffin build --timestamp 0 --secret id=token,src=token.txt .",
        "printf 'FROM embedded:busybox\\nRUN date > /built' | tiffin build -t now -",
    ),
    _build,
)
