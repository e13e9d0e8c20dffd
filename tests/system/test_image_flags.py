"""Flags of the commands for images that podman has and nothing else here needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Tiffin


@pytest.fixture(scope="module")
def named(shared: Tiffin) -> Iterator[Tiffin]:
    """Two images: `b:2`, which was once called `old:1`, and `a:1`, which is larger."""
    shared("tag", "embedded:busybox", "old:1", "b:2")
    shared("untag", "embedded:busybox", "embedded:busybox", "old:1")
    shared("run", "--name", "c", "--network=none", "b:2", "dd", "if=/dev/zero", "of=/x", "count=99")
    shared("commit", "c", "a:1")
    yield shared
    shared("rmi", "-af")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("created", "a:1 b:2"),
        ("repository", "a:1 b:2"),
        ("tag", "a:1 b:2"),
        ("size", "b:2 a:1"),
    ],
)
def test_images_in_an_order(named: Tiffin, sort: str, expected: str) -> None:
    lines = named("images", "--sort", sort, "--format", "{{.Repository}}:{{.Tag}}").lines
    assert lines == [f"localhost/{name}" for name in expected.split()]
    ids = named("images", "--sort", "id", "-q", "--no-trunc").lines
    assert ids == sorted(ids)


def test_an_order_that_there_is_not(named: Tiffin) -> None:
    done = named.attempt("images", "--sort", "nope")
    assert (done.code, done.out) == (125, "")
    assert "--sort 'nope'" in done.err


def test_all_names_that_an_image_ever_had(named: Tiffin) -> None:
    whole = "localhost/b:2, localhost/old:1, localhost/embedded:busybox"
    heading, line = named("images", "--history", "b").lines
    assert heading.endswith(" HISTORY")
    assert line.endswith(f" {whole}")
    assert named("images", "--format", "{{.History}}", "b").word == whole
    told = json.loads(named("images", "--format", "json", "b").out)[0]
    assert told["History"] == whole.split(", ")
    assert "HISTORY" not in named("images").out


def test_rmi_passes_over_one_that_is_not_there(named: Tiffin) -> None:
    named("tag", "a:1", "gone:1")
    assert "Untagged: localhost/gone:1" in named("rmi", "--ignore", "nope", "gone:1").out
    assert named.attempt("rmi", "nope").code == 1


def test_all_tags_of_a_repository(named: Tiffin, registry_address: str) -> None:
    names = [f"{registry_address}/tagged:{tag}" for tag in ("one", "two")]
    named("tag", "a:1", *names)
    for name in names:
        named("push", "-q", name)
    named("untag", "a:1", *names)
    named("pull", "-q", "--all-tags", f"{registry_address}/tagged")
    found = named("images", "--format", "{{.Repository}}:{{.Tag}}", "tagged").lines
    assert sorted(found) == names
    named("untag", "a:1", *names)
    done = named.attempt("pull", "--all-tags", names[0])
    assert done.code == 125
    assert "--all-tags" in done.err


def test_a_directory_of_certificates_that_is_none(named: Tiffin, tmp_path: Path) -> None:
    for command in ("pull", "push"):
        done = named.attempt(command, "--cert-dir", tmp_path / "nope", "localhost:1/x")
        assert (done.code, done.err) == (
            125,
            f"Error: --cert-dir {tmp_path}/nope: not a directory\n",
        )
