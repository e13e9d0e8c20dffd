"""Names of images: docker's and podman's grammar."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.errors import UserError
from tiffin.images.reference import LOCAL, Reference, candidates, is_short, local_name, parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker://quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/bb", "localhost/bb:latest"),
        ("localhost:5000/bb", "localhost:5000/bb:latest"),
        ("127.0.0.1:5000/a/b:t", "127.0.0.1:5000/a/b:t"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("Registry/app", "Registry/app:latest"),
        ("a__b/c-_-d".replace("-_-", "--"), "docker.io/a__b/c--d:latest"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}"),
        (f"quay.io/a:tag@{DIGEST}", f"quay.io/a:tag@{DIGEST}"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128),
    ],
)
def test_full_name(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert parse(full) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "a:", "a@", "/a", "a/", "a//b", "Upper", "user/Upper", "a:b:c", "a b", "a\n",
        "a:tag\n", "-a", "a-", "a..b", "a/../b", "../a", ".", "a@sha256:12", "a@md5:" + "a" * 64,
        "a:" + "t" * 129, "x.io:99999/a", "x.io:0/a", "x.io:port/a", "http://x.io/a", "a" * 256,
        "ab" * 32, "[::1/a", "-x.io/a", "é", "a\0b", "x.io/", f"a@{DIGEST}@{DIGEST}", "a:.t",
    ],
)  # fmt: skip
def test_what_is_no_name_is_one_line(text: str) -> None:
    for function in (parse, candidates, local_name):
        if function is candidates and text == "ab" * 32:
            continue
        with pytest.raises(UserError) as caught:
            function(text)
        assert len(str(caught.value).splitlines()) == 1


def test_short_names_have_candidates_local_first() -> None:
    assert candidates("bb") == (
        "bb:latest",
        "localhost/bb:latest",
        "docker.io/library/bb:latest",
    )
    assert candidates("me/bb:2")[1:] == ("localhost/me/bb:2", "docker.io/me/bb:2")
    assert candidates("quay.io/bb") == ("quay.io/bb:latest",)


def test_a_digest_outweighs_the_tag_and_an_id_is_no_name() -> None:
    assert candidates(f"quay.io/a:t@{DIGEST}") == (f"quay.io/a@{DIGEST}",)
    assert candidates("ab" * 32) == candidates(DIGEST) == ()


def test_names_given_here_belong_to_localhost() -> None:
    assert local_name("bb") == "localhost/bb:latest"
    assert local_name("quay.io/bb:1") == "quay.io/bb:1"
    assert parse("bb", LOCAL).name == "localhost/bb"
    with pytest.raises(UserError):
        local_name(f"bb@{DIGEST}")


def test_parts() -> None:
    reference = parse(f"h:1/a/b:t@{DIGEST}")
    assert (reference.registry, reference.repository) == ("h:1", "a/b")
    assert reference.version == DIGEST
    assert reference.tagged == "h:1/a/b:t"
    assert parse(f"h:1/a@{DIGEST}").tagged == ""
    assert {reference, Reference("h:1", "a/b", "t", DIGEST)} == {reference}


word = st.from_regex(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", fullmatch=True).filter(
    lambda text: len(text) < 40
)
host = st.from_regex(r"[a-z0-9]+\.[a-z]+(:[1-9][0-9]{0,3})?", fullmatch=True).filter(
    lambda text: len(text) < 60
)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(host, st.lists(word, min_size=1, max_size=3), tag, st.booleans())
def test_every_well_formed_name_survives(
    registry: str, words: list[str], label: str, pinned: bool
) -> None:
    text = f"{registry}/{'/'.join(words)}:{label}{'@' + DIGEST if pinned else ''}"
    reference = parse(text)
    assert str(reference) == text.replace("index.docker.io", "docker.io")
    assert not is_short(text)


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_a_user_error(text: str) -> None:
    try:
        reference = parse(text)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert parse(str(reference)) == reference
        assert str(reference).isascii() and not set("\n\0 ") & set(str(reference))


def test_the_module_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import tiffin.images.reference;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"msgspec", "trio", "typing", "json", "dataclasses"} & set(done.stdout.split())
