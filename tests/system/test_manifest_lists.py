"""Manifest lists, to a registry and back, and what `search` finds there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin


@pytest.fixture
def two(shared: Tiffin) -> Tiffin:
    """With two images."""
    shared("tag", BUSYBOX, "one:1")
    name = shared.create("--network=none", BUSYBOX)
    shared("commit", "-q", "-c", "LABEL x=2", name, "two:1")
    shared("rm", name)
    return shared


def digests(tiffin: Tiffin, name: str) -> list[str]:
    return [
        one["digest"] for one in json.loads(tiffin("manifest", "inspect", name).out)["manifests"]
    ]


def test_made_pushed_and_pulled_again(two: Tiffin, registry_address: str, tmp_path: Path) -> None:
    tiffin, where = two, f"{registry_address}/lunch/many:1"
    first = tiffin("manifest", "create", "many:1", "one:1").word
    assert len(first) == 64
    told = ("--arch=arm64", "--variant=v8", "--annotation=meal=dinner")
    assert tiffin("manifest", "add", *told, "many:1", "two:1").word != first
    whole = json.loads(tiffin("manifest", "inspect", "many:1").out)
    assert whole["mediaType"] == "application/vnd.oci.image.index.v1+json"
    here, other = whole["manifests"]
    assert other["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert other["annotations"] == {"meal": "dinner"}
    tiffin("manifest", "annotate", "--os-version=9", "many:1", here["digest"])
    assert tiffin("manifest", "ls", "-q").lines == ["localhost/many:1"]
    assert tiffin("manifest", "exists", "many:1").code == 0
    digest = tiffin("manifest", "push", f"--digestfile={tmp_path}/d", "many:1", where).word
    assert (tmp_path / "d").read_text() == digest
    assert digests(tiffin, where) == [here["digest"], other["digest"]], "as the registry has it"
    tiffin("rmi", "one:1")
    own = tiffin("image", "inspect", "-f", "{{.Id}}", BUSYBOX).word
    assert tiffin("pull", "-q", where).word == own, "the one for this machine"
    assert "arm64" in tiffin("pull", "--platform=linux/arm64", where, code=125).err
    pushed = [e for e in tiffin.events("--filter=type=manifest") if e["type"] == "manifest.pushed"]
    assert pushed[0]["data"] == {"destination": where, "digest": digest}
    tiffin("manifest", "remove", "many:1", other["digest"])
    assert digests(tiffin, "many:1") == [here["digest"]]
    docker = ("--format=v2s2", "--rm", "many:1", f"{registry_address}/lunch/docker:1")
    tiffin("manifest", "push", *docker)
    tiffin("manifest", "exists", "many:1", code=1)
    tiffin("rmi", where)
    before = tiffin("manifest", "ls").out
    tiffin("system", "rebuild")
    assert tiffin("manifest", "ls").out == before


def test_what_is_searched_for_is_found(two: Tiffin, registry_address: str) -> None:
    for name in ("soup/lentil:1", "soup/lentil:2", "salad/green:1"):
        two("push", "two:1", f"{registry_address}/{name}")
    found = two("search", f"{registry_address}/soup").lines
    assert [line.split()[0] for line in found] == ["NAME", f"{registry_address}/soup/lentil"]
    (one,) = json.loads(two("search", "--format=json", f"{registry_address}/gree").out)
    assert (one["Index"], one["Name"]) == (registry_address, f"{registry_address}/salad/green")
    tags = two("search", "--list-tags", "--format={{.Tag}}", f"{registry_address}/soup/lentil")
    assert sorted(tags.lines) == ["1", "2"]
    assert two("search", "--limit=1", "--noheading", f"{registry_address}/").out.count("\n") == 1
    assert two("search", f"{registry_address}/nothing-like-it").out == ""
    two.fails("search", "--list-tags", f"{registry_address}/no/such", says="no/such")
    two.fails("search", "127.0.0.1:1/x", says="127.0.0.1:1")
    two.fails("search", "--filter=stars=many", f"{registry_address}/soup", says="stars=many")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["add", "nosuch:1", "two:1"], "no such manifest list: nosuch:1"),
        (["create", "two:1"], "the name of an image"),
        (["create", "Bad Name"], "Bad Name"),
        (["rm", "nosuch:1"], "no such manifest list"),
        (["remove", "nosuch:1", "two:1"], "no such manifest list"),
        (["annotate", "--annotation=x", "nosuch:1", "two:1"], "KEY=VALUE"),
        (["push", "nosuch:1"], "no such manifest list"),
    ],
)
def test_mistakes(two: Tiffin, args: list[str], says: str) -> None:
    code = 1 if args[0] == "rm" else 125
    two.fails("manifest", *args, says=says, code=code)
    assert two("manifest", "ls", "-q").out == ""


def test_a_list_that_is_there(two: Tiffin) -> None:
    two("manifest", "create", "twice:1", "two:1")
    two.fails("manifest", "create", "twice:1", says="--amend adds")
    two("manifest", "create", "--amend", "twice:1", BUSYBOX)
    assert len(digests(two, "twice:1")) == 2
    two.fails("manifest", "remove", "twice:1", "sha256:" + "0" * 64, says="has no sha256:000")
    two("manifest", "rm", "twice:1")
