"""The content store: blobs, named by the SHA-256 of what is in them, kept exactly as they came.

    blobs/sha256/HEX      a complete, verified, durable blob; read-only
    blobs/partial/HEX     a download that has begun; whoever holds its flock is at it
    blobs/partial/new-*   a blob whose digest is not known yet; likewise

A blob appears by rename and only then counts, so readers need no lock. All of this is blocking and
meant for worker threads: the loops stop when the trio task that started them is cancelled.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from .errors import Corrupt, ImageError, NotFound, StorageFull, UserError
from .images.digest import check
from .images.digest import of as digest_of

if TYPE_CHECKING:
    import hashlib

PIECE = 1 << 20
"""Bytes read or written in one go."""
MAX_JSON = 8 << 20
"""Bytes of a blob that is read into memory."""
WORTH_KEEPING = 16 << 20
"""Bytes of a broken download that are kept for the next try."""
WAIT = 0.05
"""Seconds between looks at a lock that another download holds."""


def _sha256() -> hashlib._Hash:
    import hashlib  # 4 ms, and only a command that writes blobs needs it

    return hashlib.sha256()


class Writer:
    """A blob on its way in. `write` hashes; `finish` is the store's business."""

    def __init__(self, fd: int, path: str, limit: int | None) -> None:
        self.fd = fd
        self.path = path
        self.limit = limit
        """Bytes; more is an error at once, so that nobody can fill the disk."""
        self.size = 0
        self._hash = _sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes | memoryview) -> None:
        """Errors: ImageError (larger than announced), StorageFull."""
        if self.limit is not None and self.size + len(data) > self.limit:
            raise ImageError(f"blob is larger than the {self.limit} bytes announced")
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def restart(self) -> None:
        """Forget all that was written."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.size = 0
        self._hash = _sha256()

    def resume(self) -> None:
        """Take in what an earlier try has left in the file."""
        if self.limit is not None and os.fstat(self.fd).st_size > self.limit:
            self.restart()
            return
        check_cancelled = canceller()
        while piece := os.pread(self.fd, PIECE, self.size):
            check_cancelled()
            self._hash.update(piece)
            self.size += len(piece)
        os.lseek(self.fd, self.size, os.SEEK_SET)


class ContentStore:
    """Blobs under one directory (`Layout.blobs`); makes its directories when it first writes."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, digest: str) -> str:
        """Error: ImageError for what is no digest, so that no path leaves the store."""
        return f"{self.root}/sha256/{check(digest)[7:]}"

    def has(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def open(self, digest: str) -> BufferedReader:
        """For reading. Error: NotFound."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is not here", hint="pull the image again") from None

    def size(self, digest: str) -> int:
        """Bytes. Error: NotFound."""
        with self.open(digest) as file:
            return os.fstat(file.fileno()).st_size

    def read(self, digest: str, limit: int = MAX_JSON) -> bytes:
        """A small blob, verified again. Errors: NotFound, ImageError (too large), Corrupt."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ImageError(f"blob {digest} is larger than {limit >> 20} MiB")
        if digest_of(data) != digest:
            raise Corrupt(f"blob {digest} is damaged", hint="remove the image and pull it again")
        return data

    def read_json(self, digest: str) -> Any:
        """Errors: as `read`; ImageError when it is not JSON."""
        import json  # latency: not needed by a pull

        try:
            return json.loads(self.read(digest))
        except (ValueError, RecursionError):
            raise ImageError(f"blob {digest} is not JSON") from None

    def digests(self) -> list[str]:
        """All complete blobs."""
        try:
            return [f"sha256:{name}" for name in sorted(os.listdir(f"{self.root}/sha256"))]
        except FileNotFoundError:
            return []

    def delete(self, digest: str) -> None:
        """Deleting what is gone is success."""
        with suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their digest. Error: StorageFull."""
        with self.ingest(size=len(data)) as writer:
            writer.write(data)
        return writer.digest

    @contextmanager
    def ingest(self, digest: str | None = None, size: int | None = None) -> Iterator[Writer]:
        """Write a blob; it is complete, verified and durable when the block ends without error.

        Nothing is left when the block or the check fails. Errors: ImageError (wrong digest or
        size), StorageFull.
        """
        if digest is not None:
            check(digest)
        with room(self.root):
            path = f"{self._directory('partial')}/new-{os.urandom(8).hex()}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                writer = Writer(fd, path, size)
                yield writer
                self._finish(writer, digest, size)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                os.close(fd)

    @contextmanager
    def download(self, digest: str, size: int) -> Iterator[Writer | None]:
        """Like `ingest`, for a blob that is known beforehand and may be fetched by several at once.

        One of them gets the writer, positioned after what an earlier try has left; the others wait
        and get None once the blob is there. When the block fails, what has arrived stays for the
        next try, unless it is little or wrong, or the disk is full.
        """
        if self.has(digest):
            yield None
            return
        with room(self.root):
            fd, path = self._claim(digest)
            if fd < 0:
                yield None
                return
            try:
                writer = Writer(fd, path, size)
                writer.resume()
                yield writer
                self._finish(writer, digest, size)
            except BaseException as error:
                spoilt = isinstance(error, ImageError | OSError)
                if spoilt or os.fstat(fd).st_size < WORTH_KEEPING:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
                raise
            finally:
                os.close(fd)

    def sweep(self) -> None:
        """Delete downloads that nobody is at."""
        directory = f"{self.root}/partial"
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            with suppress(FileNotFoundError):
                fd = os.open(f"{directory}/{name}", os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(f"{directory}/{name}")
                except BlockingIOError:
                    pass
                finally:
                    os.close(fd)

    def _claim(self, digest: str) -> tuple[int, str]:
        """The locked file of a download, or (-1, "") when the blob has come meanwhile."""
        import time

        path = f"{self._directory('partial')}/{check(digest)[7:]}"
        check_cancelled = canceller()
        while not self.has(digest):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The name may stand for another file by now, or for none: look again.
                if os.stat(path).st_ino == os.fstat(fd).st_ino:
                    if not self.has(digest):
                        return fd, path
                    os.unlink(path)  # made by us, after the blob had come
            except FileNotFoundError:
                pass
            except BlockingIOError:
                time.sleep(WAIT)
            except BaseException:  # a cancellation as well; raised again
                os.close(fd)
                raise
            os.close(fd)
            check_cancelled()
        return -1, ""

    def _finish(self, writer: Writer, digest: str | None, size: int | None) -> None:
        if size is not None and writer.size != size:
            raise ImageError(f"blob has {writer.size} bytes, not the {size} announced")
        if digest is not None and writer.digest != digest:
            raise ImageError(f"blob has the wrong digest: {writer.digest}, not {digest}")
        os.fchmod(writer.fd, 0o400)
        os.fsync(writer.fd)
        directory = self._directory("sha256")
        os.rename(writer.path, self.path(writer.digest))
        sync_directory(directory)

    def _directory(self, name: str) -> str:
        path = f"{self.root}/{name}"
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
            sync_directory(self.root)
        return path


FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def room(directory: str) -> Iterator[None]:
    """ENOSPC and EDQUOT in the block are StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(
                f"the disk is full: no space left in {directory}", hint="free some"
            ) from None
        raise


def opened(source: str) -> BufferedReader:
    """A file that the user named, or stdin for `-`. Errors: NotFound, UserError."""
    try:
        if source == "-":
            return open(0, "rb", closefd=False)
        if os.path.isdir(source):
            raise UserError(f"{source} is a directory", hint="give a file")
        return open(source, "rb")
    except FileNotFoundError:
        raise NotFound(f"{source} does not exist") from None
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from None


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def canceller() -> Callable[[], None]:
    """`trio.from_thread.check_cancelled` in a thread of trio's, else a function that does nothing:
    the store is of use without trio as well."""
    import sys

    trio = sys.modules.get("trio")
    if trio is None:
        return _never
    check: Callable[[], None] = trio.from_thread.check_cancelled
    try:
        check()
    except RuntimeError:
        return _never
    return check


def _never() -> None:
    """Outside trio nobody can cancel us."""
