"""Dockerfiles, contexts and base images that mean harm to the machine that builds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.building import FROM, Context
from support.cli import Tiffin

SECRET = "what only the host has"


@pytest.fixture
def context(shared: Tiffin, tmp_path: Path) -> Iterator[Context]:
    (tmp_path / "context").mkdir()
    made = Context(shared, tmp_path / "context")
    yield made
    assert not made.left()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside/empty").mkdir(parents=True)
    (tmp_path / "outside/secret").write_text(SECRET)
    return tmp_path / "outside"


def untouched(outside: Path) -> bool:
    return sorted(os.listdir(outside)) == ["empty", "secret"] and not os.listdir(outside / "empty")


def test_a_mount_from_a_stage_shows_nothing_of_the_hosts(context: Context, outside: Path) -> None:
    """CVE-2024-1753: the source of a bind mount was a link in the stage, to the host's root; and
    with `rw` the host's files were written to. CVE-2024-11218: the same, and the link was made
    while the mount was."""
    up = f"{'../' * 12}{outside}"
    text = f"""{FROM}AS evil
RUN ln -s {outside} /link && ln -s {up} /up && mkdir /real && ln -s {outside} /real/inner
FROM embedded:busybox
"""
    context.write("menu")
    os.symlink(outside, context.directory / "link")
    for source, flag in (("/link", ""), ("/up", ",rw"), ("/real/inner", ",rw"), ("/../link", "")):
        run = (
            f"RUN --mount=type=bind,from=evil,source={source},target=/m{flag} "
            "cat /m/secret; echo x >/m/written; true\n"
        )
        context.dockerfile(text + run)
        done = context.tiffin.attempt("build", "--network=none", str(context.directory))
        assert SECRET not in done.out + done.err, source
        assert untouched(outside), source
    for source in ("link", f"../{outside.name}", str(outside)):
        context.dockerfile(f"{FROM}RUN --mount=type=bind,source={source},target=/m cat /m/secret\n")
        done = context.tiffin.attempt("build", "--network=none", str(context.directory))
        assert done.code == 125 and SECRET not in done.out + done.err, source


def test_a_mount_has_no_options_but_its_own(context: Context) -> None:
    """CVE-2024-9407: `bind-propagation=shared` of a RUN mounted on the host as well."""
    for option in ("bind-propagation=rshared", "propagation=shared", "z", "U", "idmap", "dev"):
        run = f"RUN --mount=type=bind,source=.,target=/m,{option} true\n"
        assert "has no option" in context.fails(FROM + run)


def test_a_cache_is_a_volume_of_ours(context: Context, outside: Path) -> None:
    """CVE-2024-9675: the id of a cache was a path, and led out of where they are kept.
    CVE-2024-23651: its `source` was followed through a link that another build put there."""
    mounts = [f"id={'../' * 12}{outside}", "id=..", f"id=a,source=../../{outside}"]
    mounts += ["id=a,source=link"]  # which the one before has made
    for mount in mounts:
        script = f"cat /cache/secret; ln -sfn {outside} /cache/link; touch /cache/made"
        context.dockerfile(f"{FROM}RUN --mount=type=cache,target=/cache,{mount} {script}\n")
        done = context.tiffin.attempt("build", "--network=none", str(context.directory))
        assert done.code == 0 and SECRET not in done.out + done.err, mount
        assert untouched(outside), mount
    names = context.tiffin("volume", "ls", "-q").out.split()
    assert names and all(name.startswith("build-cache-") for name in names)
    context.tiffin("volume", "prune", "-f")


def test_the_target_of_a_mount_is_made_and_removed_inside(context: Context, outside: Path) -> None:
    """CVE-2024-23652: a mount point was taken away again at the end of the RUN, through a link
    that the RUN had put where it was: so went a directory of the host."""
    links = f"RUN ln -s {outside} /link && ln -s {'../' * 12}{outside} /up\n"
    swap = f"mv /work /aside; ln -s {outside} /work"
    for target, script in (("/link/empty", "true"), ("/up/empty/made", "true"), ("/work/x", swap)):
        run = f"RUN --mount=type=tmpfs,target={target} {script}; true\n"
        context.dockerfile(FROM + links + run)
        context.tiffin.attempt("build", "--network=none", str(context.directory))
        assert untouched(outside), target


def test_a_frontend_is_not_run(context: Context) -> None:
    """CVE-2024-23653: an image that `# syntax=` names was run with more rights than it had. It is
    read as the comment that it is."""
    evil = "# syntax=198.51.100.1:5000/evil/frontend\n"
    context.image(evil + FROM + "RUN true\n")


def test_a_cached_step_is_of_the_same_image(context: Context) -> None:
    """CVE-2024-24557: an image whose history says the right words was taken for a step's result."""
    run = "RUN echo honest >/made\n"
    honest = context.image(FROM + run, "--no-cache")
    name = context.tiffin.create("--network=none", "embedded:busybox", "true")
    entry = context.tiffin("history", "--format={{.CreatedBy}}", honest, "--no-trunc").lines[0]
    context.tiffin("commit", "-q", "-m", entry, name, "localhost/liar:1")
    context.tiffin("rm", name)
    context.tiffin("rmi", honest)
    again = context.image(FROM + run)
    assert context.sh(again, "cat /made") == "honest\n"
    context.tiffin("rmi", "localhost/liar:1")
