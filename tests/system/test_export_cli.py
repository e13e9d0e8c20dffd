"""Exports as they are used: real sockets and servers, killed and started again."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.cli import BUSYBOX, Tiffin, eventually


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; answers with `statuses` first, then 200."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = list(statuses)
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(status)
        if status in (301, 307):
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    server = Receiver(*statuses)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def configured(tiffin: Tiffin, tmp_path: Path) -> Any:
    """A function that writes tiffin.toml."""

    def write(text: str) -> None:
        (tmp_path / "tiffin.toml").write_text(text)

    tiffin.env["TIFFIN_CONFIG"] = str(tmp_path / "tiffin.toml")
    return write


@contextlib.contextmanager
def exporting(tiffin: Tiffin, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    with tiffin.start("events", "export", *args) as process:
        try:
            yield process
        finally:
            process.kill()


def seqs(server: Receiver) -> list[int]:
    return [event["seq"] for _, _, body in server.got for event in json.loads(body)]


def test_a_webhook_gets_every_event_through_failures(tiffin: Tiffin, configured: Any) -> None:
    tiffin("run", "--rm", "--network=none", BUSYBOX, "true")
    with receiving(503, 429) as server:
        configured(f'[consumer.webhook]\nurl = "{server.url}/hook"\nsecret = "s"\n')
        done = tiffin("events", "export", "webhook")
        assert "answered 503" in done.err and "delivered after 2 failures" in done.err
        assert seqs(server) == [event["seq"] for event in tiffin.events()]
        path, headers, body = server.got[0]
        assert path == "/hook" and headers["Content-Type"] == "application/json"
        assert headers["X-Tiffin-Delivery"] == f"1-{seqs(server)[-1]}"
        expected = hmac.new(b"s", body, hashlib.sha256).hexdigest()
        assert headers["X-Tiffin-Signature"] == f"sha256={expected}"
        tiffin("events", "export", "webhook")
        assert len(server.got) == 1, "nothing is new"


def test_a_webhook_that_takes_little_at_once_gets_all_of_it(
    tiffin: Tiffin, configured: Any
) -> None:
    """A server has a limit (nginx: 1 MB): what is too much goes in halves; one event cannot."""
    tiffin.create("--network=none", BUSYBOX)
    with receiving(413, 413, 200, 413) as server:
        configured(f'[consumer.webhook]\nurl = "{server.url}"\n')
        tiffin("events", "export", "webhook")
        assert seqs(server) == [event["seq"] for event in tiffin.events()]
        assert len(server.got) > 3
    tiffin("events", "forget", "webhook")
    with receiving(*[413] * 20) as server:
        configured(f'[consumer.webhook]\nurl = "{server.url}"\n')
        tiffin.fails("events", "export", "webhook", says="answered 413")


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_a_webhook_that_refuses_ends_the_export_and_skips_nothing(
    tiffin: Tiffin, configured: Any, status: int
) -> None:
    tiffin.create("--network=none", BUSYBOX)
    with receiving(status) as server:
        configured(f'[consumer.webhook]\nurl = "{server.url}"\n')
        tiffin.fails("events", "export", "--follow", "webhook", says=f"answered {status}")
        tiffin("events", "export", "webhook")
        assert seqs(server) == [event["seq"] for event in tiffin.events()]


def test_a_follower_that_is_killed_again_and_again_misses_nothing(
    tiffin: Tiffin, configured: Any
) -> None:
    tiffin("pull", BUSYBOX)
    with receiving() as server:
        configured(f'[consumer.alerts]\nplugin = "webhook"\nurl = "{server.url}"\n')
        for number in range(4):
            with exporting(tiffin, "--follow", "alerts") as follower:
                tiffin("run", "--rm", "--network=none", BUSYBOX, "true")
                if number == 3:
                    log = tiffin.events()
                    eventually(lambda log=log: seqs(server)[-1:] == [log[-1]["seq"]])  # type: ignore[misc]
                follower.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
                assert follower.wait(15) == (-signal.SIGKILL if number % 2 else 0)
        got = seqs(server)
        assert sorted(set(got)) == [event["seq"] for event in tiffin.events()]
        in_order = [seq for at, seq in enumerate(got) if seq not in got[:at]]
        assert in_order == sorted(in_order)


def test_traces_of_commands(tiffin: Tiffin, configured: Any) -> None:
    tiffin("pull", BUSYBOX)
    tiffin("run", "--rm", "--name=lunch", "--network=none", BUSYBOX, "true")
    with receiving() as server:
        configured(f'[consumer.otlp]\nendpoint = "{server.url}"\n')
        tiffin("events", "export", "otlp")
        spans = [
            span
            for path, headers, body in server.got
            if path == "/v1/traces" and headers["Content-Type"] == "application/json"
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
    (run,) = [s for s in spans if "parentSpanId" not in s and "create" in s["name"]]
    steps = [s for s in spans if s.get("parentSpanId") == run["spanId"]]
    assert {s["traceId"] for s in steps} == {run["traceId"]}
    assert {"container.create", "container.mount", "container.init", "container.start"} <= {
        s["name"] for s in steps
    }
    for step in steps:
        assert int(run["startTimeUnixNano"]) <= int(step["startTimeUnixNano"])
        assert int(step["startTimeUnixNano"]) <= int(step["endTimeUnixNano"])
    assert "container.exited" in [note["name"] for note in run["events"]]
    assert tiffin("events", "consumers", "-q").out == "otlp\n"


def test_syslog_and_journal_side_by_side(tiffin: Tiffin, configured: Any, tmp_path: Path) -> None:
    tiffin("pull", BUSYBOX)
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("log", "journal"):
            server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            server.bind(str(tmp_path / name))
            server.settimeout(10)
            servers.append(server)
        configured(
            f'[consumer.syslog]\naddress = "unix:{tmp_path}/log"\n'
            f'[consumer.journald]\nsocket = "{tmp_path}/journal"\n'
        )
        with exporting(tiffin, "--all", "--follow") as follower:
            expected = tiffin.events()
            texts = [[s.recv(65536).decode() for _ in expected] for s in servers]
            follower.terminate()
            assert follower.wait(15) == 0
    for event, line, entry in zip(expected, *texts, strict=True):
        assert f'seq="{event["seq"]}"' in line
        assert f"TIFFIN_SEQ={event['seq']}\n" in entry


def test_a_follower_at_rest_uses_no_processor(tiffin: Tiffin, configured: Any) -> None:
    tiffin.create("--network=none", BUSYBOX)
    with receiving() as server:
        configured(f'[consumer.webhook]\nurl = "{server.url}"\n')
        with exporting(tiffin, "--follow", "webhook") as follower:
            eventually(lambda: server.got)
            status = Path(f"/proc/{follower.pid}/status")

            def sleeps() -> bool:
                before = re.findall(r"ctxt_switches:\s(\d+)", status.read_text())
                time.sleep(2)
                return re.findall(r"ctxt_switches:\s(\d+)", status.read_text()) == before

            eventually(sleeps, seconds=30)
            follower.terminate()


def test_bad_input(tiffin: Tiffin, configured: Any) -> None:
    configured('[consumer.webhook]\nurl = "ftp://x"\n')
    tiffin.fails("events", "export", "webhook", says="'ftp://x' is no http or https URL")
    tiffin.fails("events", "export", "nosuch", says="no consumer driver 'nosuch'")
    configured(f'[consumer.journald]\nsocket = "{tiffin.base}/nothing"\n')
    tiffin.fails("events", "export", "webhook", says="no url")
    tiffin("pull", BUSYBOX)
    tiffin.fails("events", "export", "--tries=1", "journald", says="is systemd-journald running?")
    tiffin.fails("events", "export", says="no consumer was named")
