"""What a service manager is told of a container: readiness and main process (sd_notify(3)), and
the files that it reads pids from."""

from __future__ import annotations

import socket

from ..errors import UserError
from ..store import queries
from .base import Engine


def mode(row: queries.Row) -> str:
    return row["options"].get("sdnotify") or "container"


def proxied(engine: Engine, row: queries.Row) -> str:
    """The manager's socket, when the container itself is to say that it is ready: conmon passes on
    what comes. Else empty."""
    address = engine.notify_socket
    return address if mode(row) == "container" and address.startswith("/") else ""


def started(engine: Engine, row: queries.Row) -> None:
    """A container runs. conmon is the service's main process: it ends with the container."""
    kind = mode(row)
    address = engine.notify_socket
    if kind == "ignore":
        return
    text = f"MAINPID={row['conmon_pid']}"
    if kind == "conmon":
        text += "\nREADY=1"
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.sendto(text.encode(), address)
        except OSError as error:
            raise UserError(f"NOTIFY_SOCKET {address!r}: {error.strerror}") from None


def write_pids(row: queries.Row) -> None:
    """--pidfile and --conmon-pidfile. Error: UserError."""
    options = row["options"]
    for key, flag, pid in (
        ("pid_file", "--pidfile", row["pid"]),
        ("conmon_pid_file", "--conmon-pidfile", row["conmon_pid"]),
    ):
        path = options.get(key)
        if not path:
            continue
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{pid}")
        except OSError as error:
            raise UserError(f"{flag} {path}: {error.strerror}") from None
