"""The content store: what is in it is complete, verified, and as it came."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from tiffin import content as module
from tiffin.content import ContentStore
from tiffin.errors import Corrupt, ImageError, NotFound, StorageFull

DATA = b"lunch" * 1000


def of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path / "blobs"))


def partial(store: ContentStore) -> list[str]:
    directory = Path(store.root) / "partial"
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_put_and_read(store: ContentStore) -> None:
    assert not store.has(of(DATA)) and store.digests() == []
    assert store.put(DATA) == of(DATA)
    assert store.put(DATA) == of(DATA), "twice is no error"
    assert store.read(of(DATA)) == DATA
    assert store.size(of(DATA)) == len(DATA)
    assert store.digests() == [of(DATA)]
    assert stat.S_IMODE(os.stat(store.path(of(DATA))).st_mode) == 0o400
    assert partial(store) == []


def test_delete_twice(store: ContentStore) -> None:
    store.put(DATA)
    store.delete(of(DATA))
    store.delete(of(DATA))
    with pytest.raises(NotFound):
        store.open(of(DATA))


@pytest.mark.parametrize(
    "name", ["sha256:../x", "../x", "", "sha256:" + "A" * 64, "md5:" + "a" * 32]
)
def test_no_path_leaves_the_store(store: ContentStore, name: str) -> None:
    for look in (store.path, store.has, store.read, store.delete):
        with pytest.raises(ImageError):
            look(name)


def test_a_wrong_digest_or_size_leaves_nothing(store: ContentStore) -> None:
    for digest, size, says in (
        (of(b"other"), None, "wrong digest"),
        (None, len(DATA) + 1, "bytes, not"),
        (None, len(DATA) - 1, "larger than"),
    ):
        with pytest.raises(ImageError, match=says), store.ingest(digest, size) as writer:
            writer.write(DATA)
    assert store.digests() == [] and partial(store) == []


def test_a_failing_block_leaves_nothing(store: ContentStore) -> None:
    with pytest.raises(KeyError), store.ingest() as writer:
        writer.write(DATA)
        raise KeyError
    assert store.digests() == [] and partial(store) == []


def test_damage_is_found(store: ContentStore) -> None:
    store.put(DATA)
    os.chmod(store.path(of(DATA)), 0o600)
    with open(store.path(of(DATA)), "r+b") as file:
        file.write(b"x")
    with pytest.raises(Corrupt):
        store.read(of(DATA))


def test_json_is_bounded(store: ContentStore) -> None:
    assert store.read_json(store.put(b'{"a": 1}')) == {"a": 1}
    with pytest.raises(ImageError, match="not JSON"):
        store.read_json(store.put(b"[" * 100_000))
    with pytest.raises(ImageError, match="larger than"):
        store.read(store.put(b" " * (module.MAX_JSON + 1)))


def test_a_download_goes_on_where_it_stopped(
    store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORTH_KEEPING", 1)
    with pytest.raises(KeyError), store.download(of(DATA), len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:1234])
        raise KeyError
    assert partial(store) == [of(DATA)[7:]]
    with store.download(of(DATA), len(DATA)) as writer:
        assert writer is not None and writer.size == 1234
        writer.write(DATA[1234:])
    assert store.read(of(DATA)) == DATA and partial(store) == []
    with store.download(of(DATA), len(DATA)) as writer:
        assert writer is None


def test_little_is_not_kept(store: ContentStore) -> None:
    with pytest.raises(KeyError), store.download(of(DATA), len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:1234])
        raise KeyError
    assert partial(store) == []


def test_what_is_wrong_is_not_kept(store: ContentStore) -> None:
    with pytest.raises(ImageError), store.download(of(DATA), len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:-1] + b"x")
    assert partial(store) == [] and not store.has(of(DATA))


def test_several_at_once_fetch_once(store: ContentStore) -> None:
    started, go = threading.Event(), threading.Event()
    writers: list[bool] = []

    def fetch() -> None:
        with store.download(of(DATA), len(DATA)) as writer:
            writers.append(writer is not None)
            if writer is not None:
                started.set()
                go.wait(10)
                writer.write(DATA)

    first = threading.Thread(target=fetch)
    first.start()
    assert started.wait(10)
    others = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in others:
        thread.start()
    go.set()
    for thread in (first, *others):
        thread.join(10)
    assert sorted(writers) == [False, False, False, True]
    assert partial(store) == []


def test_sweep_spares_what_is_in_use(store: ContentStore) -> None:
    directory = Path(store.root) / "partial"
    with store.download(of(DATA), len(DATA)) as writer:
        assert writer is not None
        (directory / "new-left").write_bytes(b"x")
        store.sweep()
        assert partial(store) == [of(DATA)[7:]]
        writer.write(DATA)


def test_no_room_is_one_line(store: ContentStore) -> None:
    """/dev/full says ENOSPC to every write."""
    with pytest.raises(StorageFull, match="disk is full"), store.ingest() as writer:
        os.dup2(os.open("/dev/full", os.O_RDWR), writer.fd)
        writer.write(DATA)
    assert store.digests() == [] and partial(store) == []
