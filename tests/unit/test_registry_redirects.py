"""Where a registry may send us."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tiffin.errors import RegistryError
from tiffin.registry import http, redirects
from tiffin.registry.answers import Origin

KNOWN = {
    "registry.example": ["198.51.100.1"],
    "storage.example": ["198.51.100.9", "2001:db8::9"],
    "lan.example": ["10.0.0.7"],
    "inside.example": ["198.51.100.9", "127.0.0.1"],
    "localhost": ["127.0.0.1", "::1"],
}


def addresses(origin: Origin) -> Sequence[str]:
    return KNOWN.get(origin.host, [origin.host])


def check(before: str, after: str, *, verified: bool = True) -> None:
    one, other = (http.split(url)[0] for url in (before, after))
    redirects.check(one, other, addresses, verified=verified)


@pytest.mark.parametrize(
    "target",
    ["https://storage.example/x", "https://lan.example:8443/x", "https://registry.example/other"],
)
def test_to_a_storage_service(target: str) -> None:
    check("https://registry.example/", target)


def test_from_this_machine_to_this_machine_and_within_one_origin() -> None:
    check("http://127.0.0.1:5000/", "http://localhost:5001/", verified=False)
    check("http://127.0.0.1:5000/", "http://storage.example/", verified=False)
    check("http://registry.example/", "http://registry.example/y", verified=False)


def test_not_from_https_to_http_where_certificates_count() -> None:
    """As in CVE-2014-5277: whoever is between us and the registry must not get us down to http."""
    with pytest.raises(RegistryError, match="from https to http"):
        check("https://registry.example/", "http://storage.example/")
    check("https://registry.example/", "http://storage.example/", verified=False)


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/",
        "https://localhost:8080/",
        "https://inside.example/",
    ],
)
def test_not_to_what_only_this_machine_reaches(target: str) -> None:
    for verified in (True, False):
        with pytest.raises(RegistryError, match="this machine's own"):
            check("https://registry.example/", target, verified=verified)


def test_localhost_and_all_below_it_is_loopback_whatever_the_resolver_says() -> None:
    """Their certificates are not looked at, so nobody else may answer for them."""
    for name in ("localhost", "LOCALHOST.", "evil.localhost"):
        assert {found[4][0] for found in http.resolve(name, 5000)} == {"127.0.0.1", "::1"}
