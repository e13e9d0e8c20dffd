"""systemd, asked directly: the few calls of D-Bus that a container's scope needs.

PID 1 and each user's manager listen on a socket of their own (`systemd/private`, what systemctl
uses), so no bus need run; where that is missing the bus is asked. A client of a hundred lines is a
millisecond; `systemd-run` and `busctl` are processes that take ten times as long.

D-Bus Specification, "Message Protocol"; org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .errors import DriverError

BOOTED = "/run/systemd/system"
"""There when systemd runs the machine (sd_booted(3))."""
PATIENCE = 25.0
"""Seconds; what D-Bus itself waits for an answer."""
MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
NAME = "org.freedesktop.systemd1"
CALL, RETURN, FAILED = 1, 2, 3
NUMBERS = {"y": ("B", 1), "u": ("I", 4), "t": ("Q", 8), "b": ("I", 4), "i": ("i", 4)}


def booted() -> bool:
    return os.path.isdir(BOOTED)


def private_socket(uid: int) -> str:
    """Of the manager that this user's containers belong to."""
    if uid == 0:
        return "/run/systemd/private"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return f"{runtime}/systemd/private"


def reachable(uid: int) -> bool:
    """Whether there is a manager to ask, as far as can be told without asking."""
    if not booted():
        return False
    # A user's runtimes know no other way than the bus; root's do.
    return os.path.exists(_bus(uid)) or (uid == 0 and os.path.exists(private_socket(uid)))


def environment(uid: int) -> dict[str, str]:
    """What a runtime must have in its environment to find that manager, and no other."""
    if uid == 0:
        return {}
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return {
        "XDG_RUNTIME_DIR": runtime,
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
    }


def manager_cgroup(uid: int) -> str:
    """The cgroup below which that manager's units are; "" for PID 1, whose are below the root."""
    return "" if uid == 0 else f"/user.slice/user-{uid}.slice/user@{uid}.service"


def slice_path(name: str) -> str:
    """`a-b.slice` is in `a.slice` (systemd.slice(5))."""
    parts = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[:n])}.slice" for n in range(1, len(parts) + 1))


def _bus(uid: int) -> str:
    if uid == 0:
        return "/run/dbus/system_bus_socket"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return f"{runtime}/bus"


# --- what is asked --------------------------------------------------------------------------------


def start_scope(uid: int, name: str, pid: int, *, slice: str, description: str) -> None:
    """Have a process put into a new scope, and wait until it is there. Error: DriverError."""
    properties = [
        ("Description", ("s", description)),
        ("Slice", ("s", slice)),
        ("PIDs", ("au", [pid])),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("DefaultDependencies", ("b", False)),
    ]
    import time

    with Connection(uid) as manager:
        manager.call("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", properties, [])
        deadline = time.monotonic() + PATIENCE
        while not _is_in(pid, name):
            if time.monotonic() > deadline:
                raise DriverError(f"systemd did not make {name} within {PATIENCE:.0f} seconds")
            time.sleep(0.001)


def _is_in(pid: int, name: str) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return any(line.rstrip("\n").endswith(f"/{name}") for line in file)
    except OSError:
        raise DriverError(f"process {pid} ended before it was in {name}") from None


class Connection:
    """To one manager. Errors: DriverError."""

    def __init__(self, uid: int) -> None:
        import socket  # as for `struct` below: who only wants to know of paths does without

        from .rootless import outside

        self._private = os.path.exists(private_socket(uid))
        path = private_socket(uid) if self._private else _bus(uid)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(PATIENCE)
        self._serial = 0
        self._buffer = b""
        try:
            self._socket.connect(path)
            # As the other side sees us, from outside of a user's namespace.
            identity = str(outside(os.geteuid())).encode().hex()
            self._socket.sendall(f"\0AUTH EXTERNAL {identity}\r\n".encode())
            answer = self._take(lambda data: data.find(b"\r\n") + 2 if b"\r\n" in data else 0)
            if not answer.startswith(b"OK "):
                raise DriverError(f"systemd at {path} does not let us in")
            self._socket.sendall(b"BEGIN\r\n")
            if not self._private:
                bus = ("/org/freedesktop/DBus", "org.freedesktop.DBus")
                self.call("Hello", "", to="org.freedesktop.DBus", of=bus)
        except OSError as error:
            self._socket.close()
            raise DriverError(f"systemd at {path} cannot be asked: {error}") from None
        except BaseException:  # an interrupt as well; raised again
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(
        self,
        method: str,
        signature: str,
        *arguments: Any,
        to: str = NAME,
        of: tuple[str, str] = MANAGER,
    ) -> None:
        """Error: DriverError with what the other side says."""
        import struct

        self._serial += 1
        body = bytearray()
        for kind, argument in zip(split(signature), arguments, strict=True):
            marshal(body, kind, argument)
        fields: list[tuple[int, tuple[str, Any]]] = [
            (1, ("o", of[0])),
            (2, ("s", of[1])),
            (3, ("s", method)),
            (6, ("s", to)),
        ]
        if signature:
            fields.append((8, ("g", signature)))
        head = bytearray(b"l" + bytes((CALL, 0, 1)))
        head += struct.pack("<II", len(body), self._serial)
        marshal(head, "a(yv)", fields)
        _pad(head, 8)
        try:
            self._socket.sendall(bytes(head + body))
            while True:
                message = self._take(_length)
                outcome, serial, said = answer(message)
                if serial == self._serial and outcome in (RETURN, FAILED):
                    break
        except OSError as error:
            raise DriverError(f"systemd does not answer: {error}") from None
        if outcome == FAILED:
            raise DriverError(f"systemd refuses {method}: {said}")

    def _take(self, length: Callable[[bytes], int]) -> bytes:
        """The next message: `length` says how much of what there is belongs to it, 0: not all of
        it is there yet."""
        while not (count := length(self._buffer)) or len(self._buffer) < count:
            more = self._socket.recv(65536)
            if not more:
                raise DriverError("systemd closed the connection")
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


# --- the wire -------------------------------------------------------------------------------------


def split(signature: str) -> list[str]:
    """The complete types of a signature."""
    found = []
    while signature:
        end = _complete(signature)
        found.append(signature[:end])
        signature = signature[end:]
    return found


def _complete(signature: str) -> int:
    if signature[0] == "a":
        return 1 + _complete(signature[1:])
    if signature[0] != "(":
        return 1
    depth = 0
    for position, char in enumerate(signature):
        depth += (char == "(") - (char == ")")
        if not depth:
            return position + 1
    raise ValueError(signature)


def _pad(out: bytearray, boundary: int) -> None:
    out += bytes(-len(out) % boundary)


def alignment(kind: str) -> int:
    if kind[0] in NUMBERS:
        return NUMBERS[kind[0]][1]
    return {"(": 8, "g": 1, "v": 1}.get(kind[0], 4)


def marshal(out: bytearray, kind: str, value: Any) -> None:
    """Append one complete type. A variant is (its type, value), a structure a tuple."""
    import struct

    first = kind[0]
    _pad(out, alignment(kind))
    if first in NUMBERS:
        out += struct.pack(f"<{NUMBERS[first][0]}", value)
    elif first in "so":
        data = value.encode("utf-8", "surrogateescape")
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif first == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif first == "v":
        marshal(out, "g", value[0])
        marshal(out, value[0], value[1])
    elif first == "a":
        start = len(out)
        out += bytes(4)
        _pad(out, alignment(kind[1:]))
        begin = len(out)
        for item in value:
            marshal(out, kind[1:], item)
        out[start : start + 4] = struct.pack("<I", len(out) - begin)
    elif first == "(":
        for inner, item in zip(split(kind[1:-1]), value, strict=True):
            marshal(out, inner, item)
    else:
        raise ValueError(kind)


def _order(message: bytes) -> str:
    return "<" if message[:1] == b"l" else ">"


def _length(data: bytes) -> int:
    if len(data) < 16:
        return 0
    import struct

    order = _order(data)
    body, _, fields = struct.unpack_from(f"{order}III", data, 4)
    head = 16 + fields
    return int(head + -head % 8 + body)


def answer(message: bytes) -> tuple[int, int, str]:
    """(type, serial of the call it answers, what an error says) of a whole message."""
    import struct

    order = _order(message)
    body, _, fields = struct.unpack_from(f"{order}III", message, 4)
    position, end = 16, 16 + fields
    serial, name, signature = 0, "", ""
    while position < end:
        position += -position % 8
        code, length = message[position], message[position + 1]
        kind = message[position + 2 : position + 2 + length].decode()
        position += 3 + length
        if kind in ("s", "o"):
            position += -position % 4
            (size,) = struct.unpack_from(f"{order}I", message, position)
            text = message[position + 4 : position + 4 + size].decode(errors="replace")
            position += 5 + size
            name = text if code == 4 else name
        elif kind == "g":
            size = message[position]
            signature = message[position + 1 : position + 1 + size].decode()
            position += 2 + size
        elif kind == "u":
            position += -position % 4
            (number,) = struct.unpack_from(f"{order}I", message, position)
            serial = number if code == 5 else serial
            position += 4
        else:
            raise DriverError(f"systemd answered with a field of type {kind!r}")
    said = name
    if signature.startswith("s") and body:
        start = len(message) - body
        (size,) = struct.unpack_from(f"{order}I", message, start)
        said = message[start + 4 : start + 4 + size].decode(errors="replace") or name
    return message[1], serial, said
