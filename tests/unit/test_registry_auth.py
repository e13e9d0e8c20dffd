"""Challenges, stored credentials, proxies, addresses."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.errors import TiffinError, UserError
from tiffin.registry import auth, http, proxy
from tiffin.registry.auth import Challenge, Credentials


def encoded(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


@pytest.fixture
def auths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    return path


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ('bearer realm="a\\"b" , service=s', [("bearer", {"realm": 'a"b', "service": "s"})]),
        (
            'Negotiate, Basic realm="x, y", Bearer realm="z"',
            [("negotiate", {}), ("basic", {"realm": "x, y"}), ("bearer", {"realm": "z"})],
        ),
        ('realm="x"', []),
        ("", []),
    ],
)  # fmt: skip
def test_challenges(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert auth.challenges([header]) == [Challenge(*entry) for entry in found]


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_header_is_survived(headers: list[str]) -> None:
    auth.challenges(headers)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer" + " " * 60_000 + "!",
        "," * 60_000,
        "Bearer " + "a " * 30_000,
        'Bearer x="' + "\\a" * 30_000,
        "Bearer a" + " " * 60_000 + "!",
    ],
    ids=["spaces", "commas", "schemes", "quote", "gap"],
)
def test_a_challenge_of_64_kib_is_read_in_no_time(header: str) -> None:
    """A pattern that goes back and forth takes minutes for some of these."""
    before = time.process_time()
    auth.challenges([header])
    assert time.process_time() - before < 5


def test_the_longest_key_wins(auths: Path) -> None:
    auths.write_text(
        json.dumps(
            {
                "auths": {
                    "quay.io": encoded("host:1"),
                    "quay.io/team": encoded("team:2"),
                    "quay.io/team/app": encoded("app:3:4"),
                    "https://reg.example/v2/": encoded("url:5"),
                    "https://index.docker.io/v1/": encoded("hub:6"),
                    "tokens.example": {"identitytoken": "tok"},
                    "empty.example": {},
                }
            }
        )
    )
    assert auth.stored("quay.io", "x/y") == Credentials("host", "1")
    assert auth.stored("quay.io", "team/other") == Credentials("team", "2")
    assert auth.stored("quay.io", "team/app") == Credentials("app", "3:4")
    assert auth.stored("quay.io", "teamwork/app") == Credentials("host", "1")
    assert auth.stored("reg.example", "a") == Credentials("url", "5")
    assert auth.stored("docker.io", "library/busybox") == Credentials("hub", "6")
    assert auth.stored("tokens.example", "a") == Credentials(token="tok")
    assert auth.stored("empty.example", "a") is None
    assert auth.stored("quay.io.evil.example", "team/app") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"auths": []}', '{"auths": {"h": {"auth": "%%%"}}}', "[" * 99999]
)
def test_broken_files(auths: Path, text: str) -> None:
    auths.write_text(text)
    try:
        assert auth.stored("h", "a") is None
    except UserError as error:
        assert str(auths) in str(error)


def test_secrets_are_not_printed() -> None:
    assert "secret" not in repr(Credentials("ann", "secret", "secret"))


@pytest.mark.parametrize(
    ("host", "exempt"),
    [
        ("lunch.example", True), ("a.lunch.example", True), ("brunch.example", False),
        ("notlunch.example", False), ("10.1.2.3", True), ("11.1.2.3", False),
        ("star.org", True), ("port.net", False), ("localhost", True), ("127.3.2.1", True),
        ("::1", True), ("127.evil.example", False),
    ],
)  # fmt: skip
def test_proxies(monkeypatch: pytest.MonkeyPatch, host: str, exempt: bool) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", "http://ann:p%40ss@proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", "lunch.example, 10.0.0.0/8, *.star.org,.star.org,port.net:5000")
    found = proxy.find("https", host, 443)
    assert (found is None) == exempt
    if found is not None:
        assert (found.host, found.port) == ("proxy.example", 8080)
        assert found.authorization == Credentials("ann", "p@ss").basic()
    assert (proxy.find("https", "port.net", 5000)) is None


def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("socks5://x:1", "http://", "http://x:99999"):
        monkeypatch.setenv("https_proxy", bad)
        with pytest.raises(TiffinError, match="HTTPS_PROXY"):
            proxy.find("https", "lunch.example", 443)


@pytest.mark.parametrize("name", ["localhost", "LocalHost."])
def test_localhost_is_loopback_whatever_the_resolver_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server may lie, and a machine without /etc/hosts does not know it."""
    lie = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.9", 5000))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: lie)
    assert [found[4][0] for found in http.resolve(name, 5000)] == ["127.0.0.1", "::1"]
    assert [found[4][0] for found in http.resolve("example.org", 5000)] == ["203.0.113.9"]
