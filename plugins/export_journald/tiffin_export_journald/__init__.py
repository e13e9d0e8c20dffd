"""Events to systemd's journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tiffin.hooks import DriverContext, EventConsumer, errors, hookimpl

TIFFIN_HOOK_VERSION = 1

SOCKET = "/run/systemd/journal/socket"
MESSAGE_ID = "7f0b9a4d1d8e4b3d9a5c6d0a4c1e5b27"
"""Of every event of tiffin (journalctl MESSAGE_ID=...)."""
INFO, WARNING = 6, 4
SEALS = 0xF
"""F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE (fcntl(2))."""


@hookimpl
def event_consumer(name: str, context: DriverContext) -> EventConsumer | None:
    return Journald(name, context)


class Journald:
    def __init__(self, name: str, context: DriverContext) -> None:
        self.name = name
        self.path = str(context.settings.get("socket", SOCKET))
        self._socket: socket.socket | None = None

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        if self._socket is None:
            self._socket = self._connected()
        try:
            for event in events:
                send(self._socket, entry(event))
        except OSError as error:  # the journal was restarted: connect anew
            self._socket.close()
            self._socket = None
            raise errors.DriverError(f"journal {self.path}: {error.strerror or error}") from None
        return None

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        made.settimeout(10)
        try:
            made.connect(self.path)
        except OSError as error:
            made.close()
            hint = "is systemd-journald running?"
            raise errors.DriverError(f"journal {self.path}: {error.strerror}", hint=hint) from None
        return made

    async def settle(self, *, last: bool) -> int | None:
        return None

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def entry(event: Mapping[str, Any]) -> bytes:
    """An event as an entry: a human's line as MESSAGE, and fields to search by."""
    noun, _, key = event["stream"].partition("/")
    actor, data = event["actor"], event["data"]
    failed = event["type"].endswith("failed") or data.get("exit_code", 0) != 0
    fields = {
        "MESSAGE": f"{event['type']} {event['stream']}",
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": str(WARNING if failed else INFO),
        "SYSLOG_IDENTIFIER": "tiffin",
        "TIFFIN_SEQ": str(event["seq"]),
        "TIFFIN_TYPE": event["type"],
        "TIFFIN_STREAM": event["stream"],
        f"TIFFIN_{noun.upper()}": key,
        "TIFFIN_TIME": event["time"],
        "TIFFIN_COMMAND": event["command"],
        "TIFFIN_UID": str(actor.get("uid", "")),
        "TIFFIN_LOGINUID": str(actor.get("loginuid", "")),
        "TIFFIN_SESSION": str(actor.get("session", "")),
        "TIFFIN_PID": str(actor.get("pid", "")),
        "TIFFIN_PROGRAM": str(actor.get("program", "")),
        "TIFFIN_FRONT_END": str(actor.get("front_end", "")),
        "TIFFIN_CAUSE": str(actor.get("cause", "")),
        "TIFFIN_DATA": json.dumps(data, separators=(",", ":")),
        "TIFFIN_HASH": event["hash"],
    }
    if noun == "container":  # podman's names for the same
        fields["CONTAINER_ID_FULL"] = key
        fields["CONTAINER_NAME"] = str(data.get("name", ""))
    return b"".join(field(name, value) for name, value in fields.items() if value)


def field(name: str, value: str) -> bytes:
    """`NAME=value`, or with its length when there is a line break in it."""
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"


def send(target: socket.socket, data: bytes) -> None:
    """One entry. Too large for a datagram, it goes as a sealed file in memory."""
    try:
        target.send(data)
        return
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
    fd = os.memfd_create("tiffin-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        target.sendmsg([b""], [rights])
    finally:
        os.close(fd)
