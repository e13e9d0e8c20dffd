"""The client of systemd's D-Bus: what goes over the wire, and a real bus that it talks to."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiffin import systemd
from tiffin.errors import DriverError


def test_slices_lie_in_each_other() -> None:
    assert systemd.slice_path("machine.slice") == "/machine.slice"
    assert systemd.slice_path("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"


def test_signatures_come_apart_at_complete_types() -> None:
    assert systemd.split("ssa(sv)a(sa(sv))") == ["s", "s", "a(sv)", "a(sa(sv))"]
    assert systemd.split("") == []


@pytest.mark.parametrize(
    ("kind", "value", "wire"),
    [
        ("s", "ab", "02000000 6162 00"),
        ("g", "s", "01 73 00"),
        ("b", True, "01000000"),
        ("au", [1, 2], "08000000 01000000 02000000"),
        ("v", ("u", 7), "01 75 00 00 07000000"),
        (
            "a(sv)",
            [("k", ("b", False))],
            "10000000 00000000 01000000 6b00 01 62 00 000000 00000000",
        ),
        ("a(sv)", [], "00000000 00000000"),
    ],
)
def test_values_on_the_wire(kind: str, value: object, wire: str) -> None:
    """D-Bus Specification, "Marshaling (Wire Format)"."""
    out = bytearray()
    systemd.marshal(out, kind, value)
    assert bytes(out) == bytes.fromhex(wire)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = subprocess.run(
        [
            "dbus-daemon",
            "--session",
            "--fork",
            "--print-pid",
            f"--address=unix:path={tmp_path}/bus",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    yield
    os.kill(int(done.stdout), signal.SIGTERM)


def test_a_bus_answers_and_refuses(bus: None) -> None:
    of = ("/org/freedesktop/DBus", "org.freedesktop.DBus")
    with systemd.Connection(1000) as connection:
        connection.call("RequestName", "su", "x.y", 0, to="org.freedesktop.DBus", of=of)
        with pytest.raises(DriverError, match="refuses NoSuchMethod: "):
            connection.call("NoSuchMethod", "", to="org.freedesktop.DBus", of=of)
        with pytest.raises(DriverError, match=r"refuses StartTransientUnit: .*systemd1"):
            connection.call("StartTransientUnit", "ss", "a", "b")


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(DriverError, match="cannot be asked"):
        systemd.Connection(1000)
    assert not systemd.reachable(1000)
