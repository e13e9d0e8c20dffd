"""Registries that mean harm: answers that never end, and what they try to get out of us."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import images, registry
from support.pulls import failure, pull

from tiffin.content import ContentStore
from tiffin.errors import RegistryError
from tiffin.registry import client
from tiffin.registry.auth import Credentials

pytestmark = pytest.mark.usefixtures("no_credentials_of_the_machine", "quick")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """HOST:PORT of what reads a request and then sends as `answer` likes until we hang up."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                if connection.recv(65536):
                    answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _drip(connection: socket.socket, head: bytes) -> None:
    connection.sendall(head)
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def _forever(connection: socket.socket, piece: bytes) -> None:
    while True:
        connection.sendall(piece)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda c: _drip(c, b""), "did not answer in time"),
        (lambda c: _drip(c, b"HTTP/1.1 200 OK\r\nX: "), "did not answer in time"),
        (lambda c: _drip(c, HEAD), "answers too slowly"),
        (lambda c: _forever(c, b"HTTP/1.1 100 Continue\r\n\r\n"), "did not answer in time"),
        (lambda c: _forever(c, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000), "speak HTTP properly"),
        (lambda c: _forever(c, b"x" * 4096), "speak HTTP properly"),
        (lambda c: _forever(c, HEAD.replace(b"1000000", b"1" * 5000)), "larger than 4 MiB"),
    ],
    ids=["status", "header", "body", "continue", "headers", "line", "length"],
)
async def test_an_answer_that_never_ends(
    store: ContentStore, answer: Callable[[socket.socket], None], says: str
) -> None:
    """Slow loris, and its like: given up after the read timeout, however much comes."""
    with answering(answer) as address:
        # Where the machine is slow, time may be up before we see what is wrong.
        with pytest.raises(RegistryError, match=f"{says}|did not answer in time"):
            async with client.Registry(address, "lunch", read_timeout=0.5) as found:
                await found.manifest("latest")


async def test_an_identity_token_does_not_follow_a_redirect(
    layout: images.Layout, store: ContentStore
) -> None:
    bodies: list[bytes] = []

    class Thief(registry.Handler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(b'{"token": "t"}', "application/json")

        do_GET = do_POST

    with registry.serving(layout) as thief:
        thief.RequestHandlerClass = Thief

        def fault(request: registry.Handler) -> bool:
            if request.path.startswith("/token"):
                request.send_response(307)
                request.send_header("Location", f"http://{thief.address}/token")
                request.send_header("Content-Length", "0")
                request.end_headers()
            else:
                realm = f'Bearer realm="http://{request.server.address}/token"'
                request.error(401, "UNAUTHORIZED", WWW_Authenticate=realm)
            return True

        class Token(registry.Handler):
            do_POST = registry.Handler.do_GET

        with registry.serving(layout, fault) as server:
            server.RequestHandlerClass = Token
            with pytest.raises(RegistryError, match="with credentials"):
                await pull(server.address, store, credentials=Credentials(token="secret"))
    assert bodies == []


async def test_urls_in_a_manifest_are_not_followed(store: ContentStore, tmp_path: Path) -> None:
    """CVE-2020-15157: a layer that names an attacker's address got the credentials."""
    made = images.Layout(tmp_path / "layout")
    tar = images.base_layer()
    described = made.image([tar])
    manifest = json.loads(made.read(described))
    with registry.serving(made) as thief:
        manifest["layers"][0]["urls"] = [f"http://{thief.address}/stolen"]
        manifest["layers"][0]["mediaType"] = (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        )
        made.tag(made.json(manifest, images.MANIFEST), "latest")
        with registry.serving(made) as server:
            await pull(server.address, store, credentials=Credentials("ann", "secret"))
            assert [path for path in server.requests if "/blobs/" in path]
        assert thief.requests == []


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_no_way_from_https_down_to_http(
    layout: images.Layout, store: ContentStore, code: int, tls_server: registry.Server
) -> None:
    """As in CVE-2014-5277."""
    with registry.serving(layout) as plain:

        def fault(request: registry.Handler) -> bool:
            request.error(code, "MOVED", Location=f"http://{plain.address}{request.path}")
            return True

        tls_server.fault = fault
        with pytest.raises(RegistryError, match="from https to http"):
            await pull(f"0.0.0.0:{tls_server.server_port}", store)
        assert plain.requests == []


@pytest.fixture
def tls_server(
    layout: images.Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[registry.Server]:
    """Over TLS at 0.0.0.0, which Linux takes for this machine and tiffin for any other; its
    certificate is trusted."""
    with registry.secure(layout, tmp_path) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        yield server


async def test_garbage_for_a_manifest(layout: images.Layout, store: ContentStore) -> None:
    """CVE-2021-21285: one line, whatever comes."""
    for body in (b"[" * 100_000, b"\xff\xfe", b'{"schemaVersion": 1e999}', b"null", b"[]", b'"x"'):

        def fault(request: registry.Handler, body: bytes = body) -> bool:
            request.reply(body, images.MANIFEST)
            return True

        await failure(layout, store, fault)
