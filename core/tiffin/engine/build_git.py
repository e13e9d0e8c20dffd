"""Contexts and ADD from git repositories: `URL[#[REF][:DIRECTORY]]`, through the user's git."""

from __future__ import annotations

import os
import posixpath
import shutil

from msgspec import Struct

from .. import programs
from ..build.context import Tree
from ..errors import NotFound, UserError

PATIENCE = 3600.0
"""Seconds that a fetch may take."""
PROTOCOLS = "git:http:https:ssh"
"""Also of submodules, which the repository chooses: no files of this machine, no programs."""
SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0")


class Source(Struct, frozen=True):
    url: str
    ref: str = ""
    """Branch, tag or commit; empty: what the repository's HEAD is."""
    directory: str = ""


def parse(given: str) -> Source:
    """Error: UserError."""
    url, _, fragment = given.partition("#")
    ref, _, directory = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if ref.startswith("-") or any(char.isspace() or ord(char) < 32 for char in url + ref):
        raise UserError(f"{given} is not of the form URL#REF:DIRECTORY")
    path = posixpath.normpath(directory.strip("/") or ".")
    if path.split("/")[0] == "..":
        raise UserError(f"{given}: {directory} leads out of the repository")
    return Source(url, ref, "" if path == "." else path)


async def fetch(source: Source, directory: str, *, keep_git: bool = False) -> str:
    """Check it out into a new directory there; returns where its files are. Errors: UserError,
    DriverError (no git)."""
    programs.find("git")
    place = f"{directory}/repository"
    os.mkdir(place, 0o755)
    await _git(source, place, "init", "--quiet")
    wanted = source.ref or "HEAD"
    fetched = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules")
    try:
        await _git(source, place, *fetched, "--depth=1", "--", source.url, wanted)
        found = "FETCH_HEAD"
    except UserError:  # a server that gives no single commit, or only the ends of branches
        every = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        head = () if source.ref else ("HEAD",)
        await _git(source, place, *fetched[:2], "--", source.url, *head, *every)
        found = await _commit(source, place, wanted) if source.ref else "FETCH_HEAD"
    await _git(source, place, "checkout", "--quiet", "--detach", found)
    if os.path.exists(f"{place}/.gitmodules"):
        update = ("submodule", "--quiet", "update", "--init", "--recursive")
        await _git(source, place, *update)
    if not keep_git:
        _drop_git(place)
    return _inside(source, place)


async def _commit(source: Source, place: str, ref: str) -> str:
    for name in (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", ref):
        try:
            told = await _git(
                source, place, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"
            )
        except UserError:
            continue
        return told.decode().strip()
    raise UserError(f"{source.url} has no branch, tag or commit {ref!r}")


async def _git(source: Source, place: str, *words: str) -> bytes:
    """Its output. Error: UserError with the last line of what it complained of."""
    env = [f"GIT_ALLOW_PROTOCOL={PROTOCOLS}", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"]
    # Modes are those of the repository, whatever our umask.
    argv = ["sh", "-c", 'umask 022; exec env "$@"', "git", *env, "git", "-C", place, *SAFE, *words]
    code, out, err = await programs.run(argv, timeout=PATIENCE, check=False)
    if code:
        why = programs.last_line(err)
        raise UserError(f"{source.url}: git {words[0]}: {why.removeprefix('fatal: ')}")
    return out


def _drop_git(place: str) -> None:
    for folder, directories, files in os.walk(place):
        if ".git" in files:  # of a submodule
            os.unlink(f"{folder}/.git")
        if ".git" in directories:
            directories.remove(".git")
            shutil.rmtree(f"{folder}/.git")


def _inside(source: Source, place: str) -> str:
    """The directory of the fragment, whatever links the repository has."""
    if not source.directory:
        return place
    tree = Tree(place, source.url)
    try:
        path = tree.real(source.directory)
    except NotFound:
        raise UserError(f"{source.url} has no directory {source.directory}") from None
    finally:
        tree.close()
    if not os.path.isdir(path):
        raise UserError(f"{source.directory} of {source.url} is not a directory")
    return path
