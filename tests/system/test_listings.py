"""Every listing the same way: `--format json`, templates, `--noheading`, `-q`, filters, and columns
that scripts can rely on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.cli import commands, main


class Listing(NamedTuple):
    line: str
    heading: str
    """Columns, with two blanks between them."""
    keys: str
    """Of an entry of `--format json`."""
    template: str
    """A field of a template that tells the entries apart."""
    filters: dict[str, int]
    """--filter -> how many entries pass."""
    ids: str = "id"
    """The key of what `-q` prints."""


LISTINGS = [
    Listing(
        "ps -a",
        "CONTAINER ID  IMAGE  COMMAND  CREATED  STATUS  PORTS  NAMES",
        "AutoRemove Command CreatedAt ExitCode Exited ExitedAt Id Image ImageID IsInfra Labels "
        "Mounts Names Networks Pid Pod PodName Ports Size StartedAt State Status",
        "Names",
        {"name=first": 1, "label=meal": 1, "label=meal=x": 0, "status=created": 2, "id=zz": 0,
         f"ancestor={BUSYBOX}": 2, "exited=0": 0, "volume=pantry": 1, "network=none": 2,
         "before=second": 1, "since=first": 1, "pod=none-such": 0, "until=1h": 0},
        "Id",
    ),
    Listing(
        "images",
        "REPOSITORY  TAG  IMAGE ID  CREATED  SIZE",
        "Containers Created CreatedAt Digest History Id Labels Names ParentId RepoDigests RepoTags "
        "SharedSize Size VirtualSize",
        "Repository",
        {"dangling=true": 0, "dangling=false": 1, f"reference={BUSYBOX}": 1, "label=none": 0,
         "reference=*/embedded:*": 1, "until=1h": 1, "label!=none": 1, "readonly=true": 0,
         f"after={BUSYBOX}": 0},
        "Id",
    ),
    Listing(
        "volume ls",
        "DRIVER  VOLUME NAME",
        "Anonymous CreatedAt Driver Labels MountCount Mountpoint Name Options Scope",
        "Name",
        {"name=pan": 1, "label=meal=lunch": 1, "driver=local": 2, "dangling=true": 1,
         "dangling=false": 1, "scope=local": 2, "scope=x": 0, "opt=type": 0, "name=^pantry$": 1},
        "Name",
    ),
    Listing(
        "network ls",
        "NETWORK ID  NAME  DRIVER  SUBNETS",
        "containers created dns_enabled driver id internal ipv6_enabled labels name "
        "network_interface options subnets",
        "Name",
        {"name=din": 1, "driver=bridge": 3, "label=meal": 1, "dangling=true": 3},
        "name",
    ),
    Listing(
        "pod ps",
        "POD ID  NAME  STATUS  CREATED  INFRA ID  # OF CONTAINERS",
        "Cgroup Containers Created Id InfraId Labels Name Networks Status",
        "Name",
        {"name=mensa": 1, "label=meal": 1, "status=created": 2, "ctr-number=0": 2, "id=zz": 0},
        "Id",
    ),
    Listing(
        "secret ls",
        "ID  NAME  DRIVER  CREATED  UPDATED",
        "CreatedAt ID Spec UpdatedAt",
        "Name",
        {"name=key": 1, "name=none-such": 0},
        "ID",
    ),
    Listing(
        "manifest ls",
        "NAME  PLATFORMS",
        "Manifests Name Platforms",
        "Name",
        {"name=feast": 1},
        "Name",
    ),
    Listing(
        "plugin ls",
        "KIND  NAME  STATE  VERSION  PACKAGE  MODULE",
        "File FullName HookVersion Hooks Kind Module Name Package Problem State Summary Version",
        "FullName",
        {"kind=storage": 4, "name=vfs": 1, "state=disabled": 0},
        "FullName",
    ),
    Listing("events consumers", "CONSUMER  SEQ  BEHIND  ACKNOWLEDGED", "Consumer Seq", "Consumer",
            {}, "Consumer"),
    Listing(f"history {BUSYBOX}", "ID  CREATED  CREATED BY  SIZE  COMMENT",
            "CreatedBy comment created id size tags", "ID", {}),
    Listing("system df", "TYPE  TOTAL  ACTIVE  SIZE  RECLAIMABLE",
            "Active RawReclaimable RawSize Reclaimable Size Total Type", "Type", {}, ""),
    Listing("stats -a --no-stream",
            "ID  NAME  CPU %  MEM USAGE / LIMIT  MEM %  NET IO  BLOCK IO  PIDS  CPU TIME  "
            "AVG CPU %",
            "block_io cpu_percent cpu_time id mem_percent mem_usage name net_io pids", "Name", {},
            ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def full(shared: Tiffin) -> Iterator[Tiffin]:
    """A store with at least one entry in every listing."""
    shared("volume", "create", "--label=meal=lunch", "pantry")
    shared("volume", "create", "cellar")
    shared("network", "create", "--label=meal=lunch", "lunch")
    shared("network", "create", "dinner")
    shared("pod", "create", "--network=none", "--label=meal=lunch", "mensa")
    shared("pod", "create", "--network=none", "canteen")
    shared("secret", "create", "key", "-", input="hush")
    shared("secret", "create", "lock", "-", input="hush")
    shared("manifest", "create", "feast:1", BUSYBOX)
    flags = ("create", "--network=none")
    shared(*flags, "--name=first", "--label=meal=lunch", "-v", "pantry:/p", BUSYBOX, "true")
    shared(*flags, "--name=second", BUSYBOX, "true")
    shared("events", "ack", "reporter", "1")
    yield shared
    shared("events", "forget", "reporter")
    shared("pod", "rm", "-a", "-f")
    shared("rm", "-a", "-f", "-v")
    shared("manifest", "rm", "feast:1")
    shared("secret", "rm", "-a")
    shared("network", "rm", "lunch", "dinner")
    shared("volume", "rm", "-a")


def split(heading: str) -> list[str]:
    return re.split("  +", heading.strip())


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: listing.line)
def test_a_listing(full: Tiffin, listing: Listing) -> None:
    line = listing.line.split()
    command = main.load(" ".join(line[: 2 if line[0] in commands.NOUNS else 1]))
    if line[:2] == ["events", "consumers"]:
        command = main.load("events consumers")
    flags = {flag.name for flag in command.flags}
    shown = full(*line).lines
    assert split(shown[0]) == split(listing.heading)
    entries = json.loads(full(*line, "--format=json").out)
    assert isinstance(entries, list) and len(entries) == len(shown) - 1 > 0
    assert set(listing.keys.split()) <= set(entries[0])
    field = f"{{{{.{listing.template}}}}}"
    told = full(*line, f"--format={field}").lines
    assert len(set(told)) == len(entries) and "<no value>" not in told
    assert full(*line, f"--format=table {field}").lines[1:] == told
    assert full(*line, "--format={{json .}}").lines[0].startswith("{")
    full.fails(*line, "--format={{.NoSuchField}}", says="NoSuchField")
    full.fails(*line, "--format={{", says="template")
    if "noheading" in flags:
        bare = full(*line, "--noheading").lines  # times go on
        assert [one.split()[0] for one in bare] == [one.split()[0] for one in shown[1:]]
        assert full(*line, "--noheading", f"--format=table {field}").lines == told
    if "quiet" in flags:
        quiet = full(*line, "-q").lines
        assert len(quiet) == len(entries)
        if listing.ids:
            ids = [str(entry[listing.ids]).removeprefix("sha256:") for entry in entries]
            assert all(one.startswith(word) for one, word in zip(ids, quiet, strict=True))
    if "filter" in flags:
        full.fails(*line, "--filter=no-such-key=x", says="no-such-key")
        for given, count in listing.filters.items():
            found = json.loads(full(*line, "--format=json", f"--filter={given}").out)
            assert len(found) == count, given


def test_an_empty_store_lists_nothing_and_says_so_in_json(tiffin: Tiffin) -> None:
    for listing in LISTINGS:
        if listing.line.startswith(("history", "network", "plugin", "system")):
            continue
        line = listing.line.split()
        assert json.loads(tiffin(*line, "--format=json").out) == [], listing.line
        assert len(tiffin(*line).lines) <= 1
