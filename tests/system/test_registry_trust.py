"""Who a registry is to us and who we are to it: certificates, proxies, credentials, redirects."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import images, registry
from support.pulls import failure, pull

from tiffin.content import ContentStore
from tiffin.errors import RegistryError
from tiffin.registry import http
from tiffin.registry.auth import Credentials

pytestmark = pytest.mark.usefixtures("no_credentials_of_the_machine")
USER = Credentials("ann", "se:cret")


# --- https and http -------------------------------------------------------------------------------


@pytest.fixture
def secure(layout: images.Layout, tmp_path: Path) -> Iterator[registry.Server]:
    """Over TLS, with a certificate of its own for 0.0.0.0: an address that Linux takes for this
    machine and tiffin for any other."""
    with registry.secure(layout, tmp_path) as server:
        yield server


async def test_certificates_are_checked_except_on_loopback(
    secure: registry.Server,
    store: ContentStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await pull(f"127.0.0.1:{secure.server_port}", store)
    await pull(f"localhost:{secure.server_port}", store)
    outside = f"0.0.0.0:{secure.server_port}"
    with pytest.raises(RegistryError, match=r"not trusted.*certs\.d.*--tls-verify=false"):
        await pull(outside, store)
    await pull(outside, store, tls_verify=False)
    with monkeypatch.context() as patch:
        patch.setenv(http.CERT_DIR, str(tmp_path))  # --cert-dir: ca.crt is in it
        await pull(outside, store)
    authorities = tmp_path / "certs.d" / outside
    authorities.mkdir(parents=True)
    (authorities / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    monkeypatch.setattr(http, "CERTIFICATES", (str(tmp_path / "certs.d"),))
    await pull(outside, store)


async def test_plain_http_only_where_it_is_allowed(
    layout: images.Layout, store: ContentStore, quick: None
) -> None:
    with registry.serving(layout) as server:
        outside = f"0.0.0.0:{server.server_port}"
        with pytest.raises(RegistryError, match="does not speak TLS"):
            await pull(outside, store)
        assert not [path for path in server.requests if path.startswith("/v2/")]
        await pull(outside, store, tls_verify=False)


async def test_a_proxy_from_the_environment(
    layout: images.Layout, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(request: registry.Handler) -> bool:
        if request.headers["Proxy-Authorization"] != USER.basic():
            request.error(407, "WHO_ARE_YOU")
            return True
        assert request.path.startswith("http://lunch.invalid:5000/")
        assert request.headers["Host"] == "lunch.invalid:5000"
        request.path = request.path.removeprefix("http://lunch.invalid:5000")
        return False

    with registry.serving(layout, fault) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:se%3Acret@{proxy.address}")
        await pull("lunch.invalid:5000", store, tls_verify=False)
        monkeypatch.setenv("NO_PROXY", "*.invalid")
        with pytest.raises(RegistryError, match="no address"):
            await pull("lunch.invalid:5000", store, tls_verify=False)


# --- who we are -----------------------------------------------------------------------------------


def serve_basic(request: registry.Handler) -> bool:
    if request.headers["Authorization"] == USER.basic():
        return False
    request.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="lunch, or dinner"')
    return True


async def test_basic_authentication(layout: images.Layout, store: ContentStore) -> None:
    with registry.serving(layout, serve_basic) as server:
        await pull(server.address, store, credentials=USER)
        with pytest.raises(RegistryError, match="tiffin login"):
            await pull(server.address, store, credentials=Credentials("ann", "wrong"))
        with pytest.raises(RegistryError, match="401"):
            await pull(server.address, store)


@pytest.mark.parametrize("where", ["run/containers/auth.json", ".docker/config.json", "explicit"])
async def test_stored_credentials(
    layout: images.Layout,
    store: ContentStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    path = tmp_path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    if where == "explicit":
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    encoded = base64.b64encode(b"ann:se:cret").decode()
    wrong = base64.b64encode(b"bob:x").decode()
    with registry.serving(layout, serve_basic) as server:
        auths = {server.address: {"auth": wrong}, f"{server.address}/lunch": {"auth": encoded}}
        path.write_text(json.dumps({"auths": auths}))
        await pull(server.address, store)


@pytest.fixture
def token_registry(layout: images.Layout) -> Iterator[tuple[registry.Server, list[str | None]]]:
    """A registry that wants a token, and what its token server was told."""
    told: list[str | None] = []

    def fault(request: registry.Handler) -> bool:
        if request.path.startswith("/token"):
            told.append(request.headers["Authorization"])
            assert "scope=repository%3Alunch%3Apull" in request.path
            assert "service=lunch" in request.path
            request.reply(b'{"token": "abc"}', "application/json")
            return True
        if request.headers["Authorization"] == "Bearer abc":
            return False
        realm = f"http://{request.server.address}/token"
        asked = f'Bearer realm="{realm}",service="lunch",scope="repository:lunch:pull"'
        request.error(401, "UNAUTHORIZED", WWW_Authenticate=asked)
        return True

    with registry.serving(layout, fault) as server:
        yield server, told


async def test_tokens(
    token_registry: tuple[registry.Server, list[str | None]], store: ContentStore
) -> None:
    server, told = token_registry
    await pull(server.address, store)
    assert told == [None], "once, anonymously"
    await pull(server.address, store, credentials=USER)
    assert told == [None, USER.basic()]


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"token": 3}', b'{"token": "a\\r\\nX: y"}'])
async def test_hostile_tokens(layout: images.Layout, store: ContentStore, answer: bytes) -> None:
    def fault(request: registry.Handler) -> bool:
        if request.path.startswith("/token"):
            request.reply(answer, "application/json")
        else:
            realm = f'Bearer realm="http://{request.server.address}/token"'
            request.error(401, "UNAUTHORIZED", WWW_Authenticate=realm)
        return True

    error = await failure(layout, store, fault)
    assert "no usable token" in str(error)


async def test_credentials_do_not_follow_a_redirect_to_another_host(
    layout: images.Layout, store: ContentStore
) -> None:
    seen: list[str | None] = []

    def elsewhere(request: registry.Handler) -> bool:
        seen.append(request.headers["Authorization"])
        return False

    with registry.serving(layout, elsewhere) as storage:

        def fault(request: registry.Handler) -> bool:
            if serve_basic(request):
                return True
            if "/blobs/" not in request.path:
                return False
            request.error(307, "MOVED", Location=f"http://{storage.address}{request.path}")
            return True

        with registry.serving(layout, fault) as server:
            await pull(server.address, store, credentials=USER)
    assert seen and set(seen) == {None}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/v2/lunch/manifests/latest", "redirects more than"),
        ("file:///etc/passwd", "not an address"),
        ("gopher://x/", "not an address"),
        ("http://[::1", "not an address"),
    ],
)
async def test_redirects_that_lead_nowhere(
    layout: images.Layout, store: ContentStore, target: str, says: str
) -> None:
    def fault(request: registry.Handler) -> bool:
        request.error(302, "MOVED", Location=target)
        return True

    assert says in str(await failure(layout, store, fault))


async def test_what_a_registry_says_does_not_reach_the_terminal_raw(
    layout: images.Layout, store: ContentStore
) -> None:
    def fault(request: registry.Handler) -> bool:
        request.error(403, "\x1b]0;owned\x07\n\x1b[31mred")
        return True

    text = str(await failure(layout, store, fault))
    assert text.isprintable() and "owned" in text
