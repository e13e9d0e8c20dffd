"""What the bundled exporters write: the journal's protocol, RFC 5424, OTLP."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tiffin_export_journald as journald
import tiffin_export_otlp as otlp
import tiffin_export_syslog as syslog
from tiffin.errors import DriverError, UserError
from tiffin.hooks import DriverContext, event_steps
from tiffin_export_otlp.traces import Trace, Traces, span_id, trace_id
from tiffin_export_syslog.message import message, word

SECOND = 1_000_000_000
_seq = 0


def event(type_: str, stream: str = "container/" + "a" * 64, /, **more: Any) -> dict[str, Any]:
    global _seq
    _seq += 1
    made = {
        "seq": _seq,
        "stream": stream,
        "version": 1,
        "type": type_,
        "time": "2026-11-25T06:38:16.571062864Z",
        "timeNano": _seq * SECOND // 10,
        "command": "c1",
        "actor": {
            "uid": 0, "loginuid": 1000, "session": 1, "pid": 9, "program": "/p", "front_end": "cli",
        },
        "data": {},
        "prev": "0" * 64,
        "hash": "f" * 64,
    }  # fmt: skip
    return {**made, **more}


def context(**settings: Any) -> DriverContext:
    return DriverContext(root="/nowhere", run="/nowhere", settings=settings)


# --- journald -------------------------------------------------------------------------------------


def parsed(data: bytes) -> dict[str, bytes]:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL, read back."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        found[name.decode()] = value
        data = rest
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(5)
        yield server


async def test_an_entry_of_the_journal(journal: socket.socket, tmp_path: Path) -> None:
    consumer = journald.Journald("journald", context(socket=str(tmp_path / "journal")))
    made = event("container.exited", data={"exit_code": 3, "name": "two\nlines"})
    await consumer.deliver([made])
    fields = parsed(journal.recv(65536))
    assert fields["MESSAGE"].decode() == f"container.exited {made['stream']}"
    assert fields["PRIORITY"] == b"4"
    assert fields["TIFFIN_CONTAINER"].decode() == "a" * 64
    assert fields["CONTAINER_NAME"] == b"two\nlines"
    assert fields["TIFFIN_LOGINUID"] == b"1000"
    assert json.loads(fields["TIFFIN_DATA"]) == made["data"]
    assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in fields)
    await consumer.close()


async def test_a_large_entry_goes_as_a_sealed_file(journal: socket.socket, tmp_path: Path) -> None:
    consumer = journald.Journald("journald", context(socket=str(tmp_path / "journal")))
    await consumer.deliver([event("container.created", data={"labels": "x" * 3_000_000})])
    data, fds, _, _ = socket.recv_fds(journal, 10, 1)
    assert data == b"" and len(fds) == 1
    with open(fds[0], "rb") as file:
        file.seek(0)
        assert len(parsed(file.read())["TIFFIN_DATA"]) > 3_000_000
        with pytest.raises(OSError):
            os.write(fds[0], b"x")
    await consumer.close()


async def test_no_journal_and_one_that_comes_back(tmp_path: Path) -> None:
    consumer = journald.Journald("journald", context(socket=str(tmp_path / "journal")))
    with pytest.raises(DriverError, match=r"journal: No such file .*systemd-journald"):
        await consumer.deliver([event("x.y")])
    for _ in range(2):  # the second time over a new socket of the same name
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(tmp_path / "journal"))
            try:
                await consumer.deliver([event("x.y")])
            except DriverError:
                await consumer.deliver([event("x.y")])
            assert server.recv(65536)
        (tmp_path / "journal").unlink()
    await consumer.close()


# --- syslog ---------------------------------------------------------------------------------------

RFC5424 = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\S+) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) "
    r"(?P<proc>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    r'(?P<sd>\[[!-~]{1,32}( [!-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*\]) \ufeff(?P<msg>.*)',
    re.DOTALL,
)


def test_a_message_is_rfc_5424() -> None:
    made = event("container.exited", data={"exit_code": 137, "odd": 'a"b]c\\d é'})
    text = message(made, facility=10, hostname="a host", data=True).decode()
    found = RFC5424.fullmatch(text)
    assert found, text
    assert int(found["pri"]) == 10 * 8 + 4
    assert found["time"] == "2026-11-25T06:38:16.571062Z"
    assert (found["host"], found["app"], found["proc"]) == ("ahost", "tiffin", "9")
    assert found["id"] == "container.exited"
    value = re.search(r' data="((?:[^"\\]|\\.)*)"', found["sd"])
    assert value
    assert json.loads(re.sub(r'\\(["\\\]])', r"\1", value[1])) == made["data"]


def test_a_message_is_no_longer_than_servers_take() -> None:
    """rsyslog cuts a longer one, in the middle of its structured data; over TCP it loses what
    comes after as well, and no datagram may be so long."""
    made = event("container.creation_planned", data={"labels": "]" * 300_000})
    text = message(made, facility=10, hostname="h", data=True).decode()
    found = RFC5424.fullmatch(text)
    assert found and len(text) < 2048, "RFC 5424, 6.1"
    assert " data=" not in found["sd"]
    assert f' left_out="{len(json.dumps(made["data"], separators=(",", ":")))}"' in found["sd"]
    assert f' hash="{made["hash"]}"' in found["sd"]
    assert len(message(made, facility=10, hostname="h", data=True, longest=700_000)) > 600_000


async def test_events_of_any_size_pass(tmp_path: Path) -> None:
    large = event("container.creation_planned", data={"labels": "x" * 300_000})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        server.settimeout(5)
        address = f"unix:{tmp_path}/log"
        consumer = syslog.Syslog("syslog", context(address=address))
        await consumer.deliver([large, event("a.b")])
        assert [RFC5424.fullmatch(server.recv(9999).decode())["id"] for _ in range(2)] == [  # type: ignore[index]
            "container.creation_planned",
            "a.b",
        ]
        await consumer.close()
        consumer = syslog.Syslog("syslog", context(address=address, longest=1_000_000))
        with pytest.raises(UserError, match="longest = 1000000 is more"):
            await consumer.deliver([large])
        await consumer.close()


@pytest.mark.parametrize("longest", [0, 479, "8k", True])
def test_a_bad_length(longest: Any) -> None:
    with pytest.raises(UserError, match="longest"):
        syslog.Syslog("syslog", context(longest=longest))


@pytest.mark.parametrize("cause", [{}, {"cause": 7}])
def test_who_did_it_is_told_whole(cause: dict[str, int]) -> None:
    made = event("container.exited", data={})
    made["actor"] |= cause
    text = message(made, facility=10, hostname="h", data=False).decode()
    fields = parsed(journald.entry(made))
    for name, value in made["actor"].items():
        assert f"TIFFIN_{name.upper()}" in fields
        if name != "pid":  # it is the header's PROCID
            assert f' {name}="{value}"' in text
    assert f' time="{made["time"]}"' in text, "servers may put their own into the header"
    root = Trace(made).root()
    said = {one["key"]: next(iter(one["value"].values())) for one in root["attributes"]}
    assert {"tiffin.uid", "tiffin.loginuid", "tiffin.session", "tiffin.front_end"} <= said.keys()
    assert said.get("tiffin.cause") == ("7" if cause else None)
    assert (said["process.pid"], said["process.executable.path"]) == ("9", "/p")


def test_words_of_the_header_are_cut_and_never_empty() -> None:
    assert word("", 5) == "-"
    assert word("é \n", 5) == "-"
    assert word("abcdefgh", 5) == "abcde"


@pytest.mark.parametrize(
    "address", ["", "/dev/log", "udp:host", "tcp::1", "udp:h:0", "udp:h:99999"]
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        syslog.Syslog("syslog", context(address=address))


async def test_syslog_over_udp_and_tcp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        address = f"udp:127.0.0.1:{server.getsockname()[1]}"
        consumer = syslog.Syslog("syslog", context(address=address, facility="local3"))
        await consumer.deliver([event("a.b"), event("a.c")])
        assert [server.recv(9999)[:6] for _ in range(2)] == [b"<157>1", b"<157>1"]
        await consumer.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        address = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        consumer = syslog.Syslog("syslog", context(address=address))
        await consumer.deliver([event("a.b"), event("a.c")])
        peer, _ = server.accept()
        with peer:
            received = peer.recv(65536)
        for _ in range(2):
            length, _, received = received.partition(b" ")
            one, received = received[: int(length)], received[int(length) :]
            assert RFC5424.fullmatch(one.decode())
        assert received == b""
        with pytest.raises(DriverError, match="closed the connection"):
            await consumer.deliver([event("a.d")])
        await consumer.deliver([event("a.d")])
        await consumer.close()


# --- traces ---------------------------------------------------------------------------------------


def attribute(span: dict[str, Any], name: str) -> Any:
    for one in span["attributes"]:
        if one["key"] == name:
            return next(iter(one["value"].values()))
    return None


def test_a_command_is_a_trace_and_its_steps_are_spans() -> None:
    traces = Traces(event_steps())
    stream = "container/" + "b" * 64
    begun = event("container.init_planned", stream, data={"runtime": "crun", "bundle": "/b"})
    ended = event("container.initialized", stream, data={"pid": 5})
    started = event("container.start_planned", stream)
    failed = event("container.failed", stream, data={"operation": "start", "error": "no"})
    assert traces.add(begun) == []
    (init,) = traces.add(ended)
    assert init["name"] == "container.init"
    assert init["traceId"] == trace_id("c1") and len(init["traceId"]) == 32
    assert init["parentSpanId"] == span_id("c1", "root") and len(init["spanId"]) == 16
    assert int(init["endTimeUnixNano"]) - int(init["startTimeUnixNano"]) == SECOND // 10
    assert attribute(init, "tiffin.runtime") == "crun" and attribute(init, "tiffin.pid") == "5"
    assert init["status"] == {"code": 1}
    traces.add(started)
    assert traces.needed == begun["seq"]
    assert traces.finished(failed["timeNano"] + 9 * SECOND, SECOND) == [], "a step is open"
    (start,) = traces.add(failed)
    assert start["status"] == {"code": 2, "message": "no"}
    traces.add(event("container.signal_sent", stream, data={"signal": 9}))
    assert traces.finished(failed["timeNano"] + SECOND // 2, SECOND) == []
    (root,) = traces.finished(failed["timeNano"] + 9 * SECOND, SECOND)
    assert "parentSpanId" not in root and root["spanId"] == init["parentSpanId"]
    assert root["status"]["code"] == 2
    assert [note["name"] for note in root["events"]] == ["container.signal_sent"]
    assert traces.needed is None


def test_a_request_is_what_the_protocol_says() -> None:
    """opentelemetry-proto's messages, as a JSON Schema: no other field, no other type."""
    schema = json.loads((Path(__file__).parent / "data/otlp-trace-schema.json").read_text())
    valid = jsonschema.Draft202012Validator(schema)
    traces = Traces(event_steps())
    stream = "container/" + "c" * 64
    spans = traces.add(event("container.exited", stream, command="c2", data={"exit_code": 1}))
    odd = {"runtime": "crun", "tty": True, "size": 2**60, "nested": {"x": [1]}, "float": 0.5}
    traces.add(event("container.init_planned", stream, data=odd))
    traces.add(event("container.signal_sent", stream, data={"signal": 9}))
    spans += traces.add(
        event("container.failed", stream, data={"operation": "init", "error": "é" * 5000})
    )
    spans += traces.finished(1 << 62, 0)
    assert len(spans) == 3
    valid.validate(otlp.request(spans))
    for wrong in ({**spans[0], "traceId": "abc"}, {**spans[0], "startTimeUnixNano": 5},
                  {**spans[0], "name_": ""}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            valid.validate(otlp.request([wrong]))


def test_an_event_long_after_its_command_is_a_span_below_it() -> None:
    (span,) = Traces(event_steps()).add(event("container.exited", data={"exit_code": 0}))
    assert span["parentSpanId"] == span_id("c1", "root")
    assert span["startTimeUnixNano"] == span["endTimeUnixNano"]


def test_the_step_of_a_killed_command_is_sent_in_the_end() -> None:
    traces = Traces(event_steps())
    planned = event("container.init_planned")
    traces.add(planned)
    assert traces.finished(planned["timeNano"] + 60 * SECOND, 0) == []
    step, root = traces.finished(planned["timeNano"] + 700 * SECOND, 0)
    assert step["status"]["code"] == 2 and root["name"] == "tiffin container init"


def test_ids_are_the_same_when_events_come_again() -> None:
    planned, done = event("container.init_planned"), event("container.initialized")
    spans = []
    for _ in range(2):
        traces = Traces(event_steps())
        traces.add(planned)
        spans += traces.add(done)
    assert spans[0] == spans[1]
