"""Registries: docker-registry, and one of our own that misbehaves on request."""

from __future__ import annotations

import contextlib
import crypt
import json
import re
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .cli import eventually
from .images import Layout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def docker_registry(directory: Path, login: tuple[str, str] | None = None) -> Iterator[str]:
    """Runs docker-registry on a free port; gives HOST:PORT. `login`: the only (name, password)
    that it knows; its log has a line for each request."""
    directory.mkdir(exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config = directory / "registry.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    if login is not None:
        name, password = login
        hashed = crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
        (directory / "htpasswd").write_text(f"{name}:{hashed}\n")
        with config.open("a") as more:
            more.write(f"auth: {{htpasswd: {{realm: lunch, path: {directory}/htpasswd}}}}\n")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=log
        )
    try:
        eventually(lambda: _answers(address), lambda: (directory / "log").read_text())
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/"):
            return True
    except urllib.error.HTTPError:
        return True  # it wants a login
    except OSError:
        return False


Fault = Callable[["Handler"], bool]
"""Answers a request in its own way and returns True, or returns False."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.fault is not None and self.server.fault(self):
            return
        self.serve()

    do_HEAD = do_GET

    def serve(self) -> None:
        layout = self.server.layout
        if self.path == "/v2/":
            return self.reply(b"{}", "application/json")
        if found := re.fullmatch(r"/v2/.+/manifests/([^/:]+)", self.path):
            for manifest in layout.manifests:
                if manifest["annotations"]["org.opencontainers.image.ref.name"] == found[1]:
                    return self.reply(layout.read(manifest), manifest["mediaType"])
        if found := re.fullmatch(r"/v2/.+/(?:manifests|blobs)/(sha256:[0-9a-f]{64})", self.path):
            path = layout.path / "blobs" / found[1].replace(":", "/")
            if path.exists():
                body = path.read_bytes()
                with contextlib.suppress(ValueError):
                    kind = json.loads(body).get("mediaType", "application/octet-stream")
                    return self.reply(body, kind)
                return self.reply(body, "application/octet-stream")
        return self.error(404, "MANIFEST_UNKNOWN")

    def reply(self, body: bytes, media_type: str, *, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    def error(self, status: int, code: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": f"this is {code}"}]}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Serves one layout as every repository."""

    daemon_threads = True

    def __init__(self, layout: Layout, fault: Fault | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.layout = layout
        self.fault = fault
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients hang up in these tests


@contextlib.contextmanager
def serving(layout: Layout, fault: Fault | None = None) -> Iterator[Server]:
    server = Server(layout, fault)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def secure(layout: Layout, directory: Path) -> Iterator[Server]:
    """`serving` over TLS, with a certificate of its own for 0.0.0.0 (`directory/ca.crt`)."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=lunch", "-addext", "subjectAltName=IP:0.0.0.0",
         "-keyout", directory / "key.pem", "-out", directory / "ca.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    with serving(layout) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "ca.crt", directory / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server
