"""Where a build's Dockerfile, its context and its downloads come from."""

from __future__ import annotations

import email.utils
import os
import posixpath
from io import BufferedReader
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .. import decompress
from ..build import copier
from ..build.context import Tree
from ..content import PIECE, canceller, room
from ..copying.tree import Rules
from ..dockerfile.ignore import Ignore
from ..dockerfile.lines import MAX_SIZE
from ..errors import NotFound, TiffinError, UserError

if TYPE_CHECKING:
    from .build import BuildOptions

FILES = ("Containerfile", "Dockerfile")
IGNORES = (".containerignore", ".dockerignore")
MAX_DOWNLOAD = 64 << 30
"""Bytes of one ADD."""


def unpack(archive: BufferedReader, directory: str) -> None:
    """A context that comes as a tar. Error: UserError."""
    how = decompress.peek(archive)
    if how == "zstd":
        raise UserError("a context on standard input may not be compressed with zstd")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copier.unpack_stream(archive, how, fd, Rules(None, overwrite=True), "standard input")
    finally:
        os.close(fd)


def unpack_or_read(path: str, directory: str, source: str) -> str | None:
    """A downloaded context: unpacked when it is a tar (None), else the Dockerfile that it is.
    Error: UserError."""
    with open(path, "rb") as file:
        head = file.peek(512)[:512]
        if decompress.kind(head[:6]) != "none" or head[257:262] == b"ustar":
            unpack(file, directory)
            return None
        return _text(file.read(MAX_SIZE + 1), source)


def _text(data: bytes, name: str) -> str:
    if len(data) > MAX_SIZE:
        raise UserError(f"{name} is larger than {MAX_SIZE >> 20} MiB")
    if b"\0" in data:
        raise UserError(f"{name} is not a text", hint="is it a Dockerfile?")
    return data.decode("utf-8", "surrogateescape")


def _read(tree: Tree, path: str) -> bytes:
    fd = tree.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        try:
            return file.read(MAX_SIZE + 1)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None


def dockerfile(tree: Tree | None, options: BuildOptions, *, inside: bool) -> tuple[str, str]:
    """(name for messages, text). `inside`: -f is a path in the context, which came as a tar.
    Errors: NotFound, UserError."""
    if options.text is not None:
        return options.file or "Dockerfile", _text(options.text.encode("utf-8", "surrogateescape"),
                                                   "the Dockerfile")  # fmt: skip
    if options.file and not inside:
        # As podman has it: beside us, else in the context.
        places = [options.file]
        if tree is not None and not options.file.startswith("/"):
            places.append(f"{tree.path}/{options.file}")
        for place in places:
            try:
                with open(place, "rb") as file:
                    return place, _text(file.read(MAX_SIZE + 1), place)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UserError(f"{place}: {error.strerror}") from None
        raise NotFound(f"--file {options.file} does not exist", hint="give the Dockerfile's path")
    assert tree is not None
    for name in (options.file,) if options.file else FILES:
        try:
            return name, _text(_read(tree, name), name)
        except NotFound:
            continue
    where = "the tar" if inside else tree.path
    wanted = options.file or " or ".join(FILES)
    raise NotFound(f"no {wanted} in {where}", hint="name one with --file")


def ignore(tree: Tree, name: str, given: str) -> Ignore:
    """--ignorefile, or NAME.dockerignore beside the Dockerfile, or that of the context."""
    if given:
        try:
            with open(given, "rb") as file:
                return Ignore.parse(_text(file.read(MAX_SIZE + 1), given))
        except OSError as error:
            raise UserError(f"--ignorefile {given}: {error.strerror}") from None
    base = posixpath.basename(name)
    for candidate in (f"{base}.containerignore", f"{base}.dockerignore", *IGNORES):
        try:
            return Ignore.parse(_text(_read(tree, candidate), candidate))
        except NotFound:
            continue
        except UserError as error:
            raise UserError(f"{candidate}: {error}") from None
    return Ignore(())


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def is_git(source: str) -> bool:
    return source.startswith(("git@", "git://", "ssh://", "github.com/")) or (
        is_url(source) and urlsplit(source).path.endswith(".git")
    )


def download(url: str, directory: str, checksum: str = "") -> str:
    """ADD of a URL: the name of the file in `directory`, mode 0600. Blocking.

    Errors: UserError (no name, another checksum, an error status), RegistryError (no answer).
    """
    import hashlib

    from ..registry.failures import Interrupted
    from ..registry.http import Pool

    name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    if name in ("", ".", "..") or "\0" in name or "/" in name:
        raise UserError(f"{url} names no file", hint="the last part of its path is the file's name")
    if checksum and (not checksum.startswith("sha256:") or len(checksum) != 71):
        raise UserError(f"--checksum={checksum} is not sha256:HEX")
    pool = Pool(lambda origin: True)
    path = f"{directory}/{name}"
    hasher = hashlib.sha256()
    check_cancelled = canceller()
    try:
        answer = pool.request("GET", url, {"Accept-Encoding": "identity"})
        if answer.status != 200:
            answer.drop()
            raise UserError(f"{url}: the server answers {answer.status}")
        size = 0
        with room(directory), open(path, "xb") as file:
            while piece := answer.read_some(PIECE):
                check_cancelled()
                size += len(piece)
                if size > MAX_DOWNLOAD:
                    raise UserError(f"{url} is larger than {MAX_DOWNLOAD >> 30} GiB")
                hasher.update(piece)
                file.write(piece)
        answer.done()
        changed = answer.header("Last-Modified")
    except Interrupted as error:
        raise UserError(f"{url}: {error}") from None
    except TiffinError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{url}: {error}") from None
    finally:
        pool.close()
    found = f"sha256:{hasher.hexdigest()}"
    if checksum and found != checksum:
        raise UserError(f"{url} has another checksum: {found}, not {checksum}")
    os.chmod(path, 0o600)
    parsed = email.utils.parsedate_to_datetime(changed) if changed else None
    when = int(parsed.timestamp()) if parsed else 0
    os.utime(path, (when, when))
    return name
