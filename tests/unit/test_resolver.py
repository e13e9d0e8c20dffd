"""Which versions of aardvark-dns can be told of a change while another one is asked."""

from __future__ import annotations

import pytest

from tiffin_net_bridge import resolver


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("aardvark-dns 1.4.0\n", True),
        ("aardvark-dns 1.10.0\n", True),
        ("aardvark-dns 1.11.0\n", False),
        ("aardvark-dns 1.14.0-dev\n", False),
        ("aardvark-dns 2.0\n", False),
        ("aardvark-dns dev\n", False),
        ("", False),
    ],
)
def test_versions_that_open_their_sockets_anew(said: str, expected: bool) -> None:
    assert resolver.reopens(said) is expected
