"""A layer's tar once more: with one time for all entries, without some of them."""

from __future__ import annotations

import contextlib
import os

from ..content import canceller, room
from .stream import Limits, open_blob
from .tar import entries
from .write import TarWriter


def rewrite(
    source: str, target: str, *, mtime: int | None = None, without: frozenset[bytes] = frozenset()
) -> None:
    """Copy an uncompressed tar that `write_diff` made. `mtime` (ns) takes the place of all times;
    entries named in `without` (no slash at either end) are left out. Error: StorageFull."""
    limits = Limits()
    stream = open_blob(source, "none", limits)
    check_cancelled = canceller()
    try:
        with room(os.path.dirname(target)):
            writer = TarWriter(target)
            complete = False
            try:
                for entry in entries(stream, limits):
                    check_cancelled()
                    if entry.name.strip(b"/") in without:
                        continue
                    writer.entry(
                        entry.name,
                        entry.type,
                        mode=entry.mode,
                        uid=entry.uid,
                        gid=entry.gid,
                        mtime=entry.mtime if mtime is None else mtime,
                        size=entry.size,
                        link=entry.linkname,
                        device=os.makedev(entry.devmajor, entry.devminor),
                        xattrs=entry.xattrs,
                    )
                    writer.copy(stream, entry.size)
                complete = True
            finally:
                writer.close(complete=complete)
    except BaseException:  # a cancellation as well; raised again
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        raise
