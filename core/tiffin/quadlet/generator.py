"""The generator: run by systemd at boot, at a login and at `daemon-reload` (systemd.generator(7)).

    tiffin-quadlet [--user] [--dryrun] [--program PATH] NORMAL-DIR [EARLY-DIR LATE-DIR]

It must be quick, may rely on nothing that is not mounted at boot, and says what is wrong in the
journal, or while that is not there yet in the kernel's log: nobody sees its stderr.
"""

from __future__ import annotations

import gc

gc.disable()

import os  # noqa: E402
import sys  # noqa: E402

from ..errors import UserError  # noqa: E402
from . import sources, translate  # noqa: E402

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "usage: tiffin-quadlet [--user] [--dryrun] [--program PATH] [NORMAL-DIR [EARLY LATE]]"
JOURNAL = "/run/systemd/journal/socket"
PODMAN = (
    *("/usr/lib/systemd/{}-generators/podman-{}-generator",),
    *("/usr/local/lib/systemd/{}-generators/podman-{}-generator",),
    *("/etc/systemd/{}-generators/podman-{}-generator",),
)


class Call:
    """What the command line asks for."""

    def __init__(self, argv: Sequence[str], environ: dict[str, str]) -> None:
        """Error: UserError."""
        self.user = environ.get("SYSTEMD_SCOPE") == "user"
        self.dryrun = False
        self.program: tuple[str, ...] = ()
        self.directory = ""
        words = list(argv)
        places = []
        while words:
            word = words.pop(0)
            if word in ("--user", "-user"):
                self.user = True
            elif word in ("--dryrun", "-dryrun"):
                self.dryrun = True
            elif word == "--program" and words:
                self.program = (words.pop(0),)
            elif word.startswith("-"):
                raise UserError(f"unknown flag {word}", hint=USAGE)
            else:
                places.append(word)
        if len(places) not in ((0, 1, 3) if self.dryrun else (1, 3)):
            raise UserError("the directory for units is missing", hint=USAGE)
        self.directory = places[0] if places else ""


def program() -> tuple[str, ...]:
    """tiffin as it is installed where this runs."""
    beside = os.path.join(os.path.dirname(sys.executable), "tiffin")
    if os.access(beside, os.X_OK):
        return (beside,)
    return (sys.executable, "-I", "-m", "tiffin.cli.main")


def generate(
    call: Call, environ: dict[str, str], uid: int
) -> tuple[list[translate.Service], list[str]]:
    """(services, problems)."""
    names = sources.NAMES[:1] if podman_does(user=call.user) else sources.NAMES
    search = sources.search_path(environ, user=call.user, uid=uid, names=names)
    found, problems = sources.load(search, user=call.user)
    if not found:
        return [], problems
    services, more = translate.services(
        found, program=call.program or program(), user=call.user, uid=uid
    )
    return services, [*problems, *more]


def podman_does(*, user: bool) -> bool:
    """Whether podman's own generator reads `containers/systemd`: both would write the same
    services, and the last one would win."""
    kind = "user" if user else "system"
    return any(os.access(path.format(kind, kind), os.X_OK) for path in PODMAN)


def write(service: translate.Service, directory: str) -> None:
    """The unit and its links. Error: OSError."""
    with open(f"{directory}/{service.name}", "w", encoding="utf-8") as file:
        file.write(f"# Made by tiffin of {service.source}\n{service.text}")
    for link in service.links:
        path = f"{directory}/{link}"
        target = service.name
        if "/" in link:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            base, at, rest = service.name.partition("@")
            target = f"../{base}@.service" if at and rest == ".service" else f"../{target}"
        if os.path.islink(path):
            os.unlink(path)
        os.symlink(target, path)


def tell(lines: Sequence[str], *, dryrun: bool) -> None:
    for line in lines:
        text = line.encode("utf-8", "backslashreplace").replace(b"\n", b" ")
        if dryrun or not (_to_journal(text) or _to_kernel(text)):
            os.write(2, b"tiffin-quadlet: " + text + b"\n")


def _to_journal(text: bytes) -> bool:
    """The journal's own protocol; nobody is there when a machine boots."""
    import socket

    fields = b"PRIORITY=3\nSYSLOG_IDENTIFIER=tiffin-quadlet\nMESSAGE=" + text + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.sendto(fields, JOURNAL)
    except OSError:
        return False
    return True


def _to_kernel(text: bytes) -> bool:
    try:
        with open("/dev/kmsg", "wb", buffering=0) as log:
            log.write(b"<3>tiffin-quadlet: " + text[:800])
    except OSError:
        return False
    return True


def run(argv: Sequence[str], environ: dict[str, str], uid: int) -> int:
    """Exit code: 0, or 1 when a file made no service."""
    try:
        call = Call(argv, environ)
    except UserError as error:
        tell([str(error)], dryrun=True)
        return 1
    services, problems = generate(call, environ, uid)
    if call.dryrun:
        for service in services:
            sys.stdout.write(f"---{service.name}---\n{service.text}\n")
        sys.stdout.flush()
    else:
        for service in services:
            try:
                write(service, call.directory)
            except OSError as error:
                problems.append(f"{service.source}: {error.filename}: {error.strerror}")
    tell(problems, dryrun=call.dryrun)
    return 1 if problems else 0


def main() -> None:
    """The console script `tiffin-quadlet`."""
    code = run(sys.argv[1:], dict(os.environ), os.getuid())
    os._exit(code)


if __name__ == "__main__":
    main()
