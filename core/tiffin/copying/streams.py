"""`cp` with `-`: a tar on standard output or from standard input; and `export`."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator

from ..errors import Conflict, ImageError, UserError
from ..hooks import IdMaps
from ..layer import tar
from ..layer.apply import Applier
from ..layer.pack import Packer
from ..layer.stream import PIECE, LayerStream
from ..layer.walk import walk
from ..layer.write import TarWriter
from .places import DIRECTORY, Place, blame, is_directory, reopen
from .tree import HOST, Rules, inside


def send(source: Place, out: int, maps: IdMaps = HOST) -> None:
    """A file or directory as a tar to a descriptor, with the owners that the container sees. Names
    begin with its own, or, of `DIR/.`, with what is in it. Errors: NotFound, UserError."""
    found, status = source.find()
    writer = TarWriter(os.dup(out))
    complete = False
    try:
        if is_directory(status):
            opened = reopen(found, DIRECTORY)
            try:
                name = "" if source.contents_only else source.base(found)
                packer = Packer(writer, prefix=f"{name}/" if name else "", whiteouts=False)
                packer.owners = lambda uid, gid: inside(maps, uid, gid)
                packer.add_root(opened, os.fsencode(name or ".") + b"/")
                for item in walk(opened):
                    packer.add(item)
            finally:
                os.close(opened)
        elif stat.S_ISREG(status.st_mode):
            opened = reopen(found, os.O_RDONLY)
            try:
                packer = Packer(writer)
                packer.owners = lambda uid, gid: inside(maps, uid, gid)
                packer.add_open_file(opened, os.fsencode(source.base(found)))
            finally:
                os.close(opened)
        else:
            raise UserError(f"{source.path} is neither a file nor a directory")
        complete = True
    finally:
        os.close(found)
        writer.close(complete=complete)


def export(root: int, out: int, maps: IdMaps = HOST) -> None:
    """A whole file system as a tar to a descriptor, which is closed; with the owners that the
    container of these ids sees."""
    writer = TarWriter(out)
    complete = False
    try:
        packer = Packer(writer, whiteouts=False)
        packer.owners = lambda uid, gid: inside(maps, uid, gid)
        for item in walk(root):
            packer.add(item)
        complete = True
    finally:
        writer.close(complete=complete)


def receive(target: Place, source: int, rules: Rules) -> None:
    """Unpack a tar (plain or gzip) into a directory of a container.

    Errors: NotFound, UserError (no directory, no tar), Conflict, StorageFull.
    """
    assert target.root is not None
    there, what = target.find()
    try:
        if not is_directory(what):
            raise UserError(f"{target.path} {target.where} is no directory")
        opened = reopen(there, DIRECTORY)
    finally:
        os.close(there)
    try:
        pieces = _pieces(source)
        stream = LayerStream(pieces)
        if stream.at_end():
            raise UserError("standard input is empty", hint="a tar is wanted")
        Unpacker(opened, rules).run(stream)
        stream.drain()
    except ImageError as error:
        raise UserError(
            f"standard input is no good tar: {error.what.removeprefix('layer ')}"
        ) from None
    except OSError as error:
        raise blame(error, f"cannot unpack to {target.path}") from error
    finally:
        os.close(opened)


def _pieces(source: int) -> Iterator[bytes]:
    first = os.read(source, PIECE)
    while 0 < len(first) < 2 and (more := os.read(source, PIECE)):
        first += more
    if not first.startswith(b"\x1f\x8b"):
        while first:
            yield first
            first = os.read(source, PIECE)
        return
    inflate = zlib.decompressobj(wbits=31)
    try:
        while first:
            yield inflate.decompress(first, PIECE)
            first = inflate.unconsumed_tail or os.read(source, PIECE)
        yield inflate.flush()
    except zlib.error as error:
        raise ImageError(f"layer cannot be decompressed: {error}") from None


class Unpacker(Applier):
    """A tar that is no layer, into a directory that is in use. Links that are in the directory
    already end within it: it is the root of all look-ups here."""

    def __init__(self, root: int, rules: Rules) -> None:
        super().__init__(root, "apply")
        self.is_layer = False
        self._hidden = None
        self._rules = rules

    def _one(self, entry: tar.Entry, stream: LayerStream) -> None:
        if self._rules.owner is not None:
            entry.uid, entry.gid = self._rules.owner
        else:
            entry.uid, entry.gid = self._rules.from_inside(entry.uid, entry.gid)
        super()._one(entry, stream)

    def _enter(self, entry: tar.Entry) -> bytes | None:
        if not self._parts(entry.name):
            return None  # the directory itself is somebody's: it stays as it is
        return super()._enter(entry)

    def _room(self, base: bytes, *, directory: bool) -> None:
        try:
            there = os.stat(base, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if is_directory(there) != directory and not self._rules.overwrite:
            raise Conflict(
                f"cannot unpack {os.fsdecode(base)}: one is a directory and the other is not",
                hint="--overwrite allows it",
            )

    def _regular(self, base: bytes, entry: tar.Entry, stream: LayerStream) -> None:
        self._room(base, directory=False)
        super()._regular(base, entry, stream)

    def _directory(self, base: bytes, entry: tar.Entry) -> None:
        self._room(base, directory=True)
        super()._directory(base, entry)

    def _symlink(self, base: bytes, entry: tar.Entry) -> None:
        self._room(base, directory=False)
        super()._symlink(base, entry)
