"""The keys that detach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin import detach_keys
from tiffin.errors import UserError


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("", b""),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("CTRL-A,x", b"\x01x"),
    ],
)
def test_syntax(text: str, keys: bytes) -> None:
    assert detach_keys.parse(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,", ",", "ctrl-pp", "é", "meta-a"])
def test_an_unknown_key_is_named(text: str) -> None:
    with pytest.raises(UserError, match="detach key"):
        detach_keys.parse(text)


def feed(keys: bytes, *chunks: bytes) -> tuple[bytes, bool]:
    watcher = detach_keys.Watcher(keys)
    out = b""
    for chunk in chunks:
        more, done = watcher.feed(chunk)
        out += more
        if done:
            return out, True
    return out + watcher.flush(), False


def test_keys_typed_apart_detach() -> None:
    assert feed(b"\x10\x11", b"ls\x10", b"\x11gone") == (b"ls", True)


def test_a_broken_sequence_is_passed_on() -> None:
    assert feed(b"\x10\x11", b"\x10", b"x") == (b"\x10x", False)
    watcher = detach_keys.Watcher(b"\x10\x11")
    assert watcher.feed(b"\x10") == (b"", False)
    assert watcher.feed(b"\x10") == (b"\x10", False)
    assert watcher.flush() == b"\x10"


def test_a_sequence_that_begins_within_itself() -> None:
    assert feed(b"aab", b"aaab!") == (b"a", True)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4).map(b"".join),
    st.lists(st.lists(st.sampled_from([b"a", b"b", b"c"])).map(b"".join)),
)
def test_everything_before_the_sequence_arrives(keys: bytes, chunks: list[bytes]) -> None:
    typed = b"".join(chunks)
    before, found, _ = typed.partition(keys)
    assert feed(keys, *chunks) == ((before, True) if found else (typed, False))
