"""`transfer.pull` against a real registry, and against one of our own that misbehaves."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from support import images, registry
from support.pulls import failure, pull

from tiffin import content as content_module
from tiffin import transfer
from tiffin.content import ContentStore
from tiffin.errors import ImageError, NotFound, RegistryError
from tiffin.images.reference import parse
from tiffin.registry import client

pytestmark = pytest.mark.usefixtures("no_credentials_of_the_machine")


@pytest.fixture
def big(tmp_path: Path) -> images.Layout:
    """One layer of 3 MiB that does not compress."""
    layout = images.Layout(tmp_path / "big")
    layout.tag(layout.image([images.layer({"big": os.urandom(3 << 20)})]), "latest")
    return layout


def blob_fault(answer: Callable[[registry.Handler], None], times: int = 1000) -> registry.Fault:
    """Answers requests for the largest blob of `big` (the only one asked for by digest and not
    JSON) so, for the first `times` times."""
    left = [times]

    def fault(request: registry.Handler) -> bool:
        if "/blobs/" not in request.path or size_of(request) < 1 << 20 or not left[0]:
            return False
        left[0] -= 1
        answer(request)
        return True

    return fault


def body_of(request: registry.Handler) -> bytes:
    digest = request.path.rpartition("/")[2]
    layout = request.server.layout
    body: bytes = (layout.path / "blobs" / digest.replace(":", "/")).read_bytes()
    return body


def size_of(request: registry.Handler) -> int:
    return len(body_of(request))


# --- a real registry ------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("form", ["oci", "v2s2"])
async def test_blobs_are_kept_as_they_came(
    registry_address: str, tmp_path: Path, store: ContentStore, form: str, compression: str
) -> None:
    if (form, compression) == ("v2s2", "zstd"):
        compression = "gzip"  # Docker's manifests have no zstd
    layout = images.simple(tmp_path / "l", compression=compression)
    name = f"{registry_address}/kept-{form}-{compression}"
    images.copy(f"oci:{layout.path}:latest", f"docker://{name}", f"--format={form}")
    back = tmp_path / "back"
    images.copy(f"docker://{name}", f"dir:{back}")
    progress = Progress()
    done: list[tuple[int, int]] = []

    async def on_layer(layer: transfer.Layer, below: tuple[transfer.Layer, ...]) -> None:
        assert store.has(layer.digest)
        done.append((layer.size, len(below)))

    fetched = await transfer.pull(parse(name), store, progress=progress, on_layer=on_layer)
    for path in back.iterdir():
        if path.name not in ("manifest.json", "version"):
            assert store.read(f"sha256:{path.name}", 1 << 30) == path.read_bytes()
    assert store.read(fetched.manifest) == (back / "manifest.json").read_bytes()
    assert sorted(below for _, below in done) == [0, 1]
    assert progress.bytes == {layer.digest: layer.size for layer in fetched.layers}
    assert set(progress.what.values()) == {"done"}
    again = Progress()
    assert await transfer.pull(parse(name), store, progress=again) == fetched
    assert set(again.what.values()) == {"exists"} and not again.bytes
    pinned = await transfer.pull(parse(f"{name}@{fetched.manifest}"), store)
    assert pinned.names == () and pinned.config_digest == fetched.config_digest


async def test_of_an_index_our_platform_is_taken(
    registry_address: str, tmp_path: Path, store: ContentStore
) -> None:
    layout = images.Layout(tmp_path / "l")
    entries = [
        layout.image([images.layer({arch: arch})], architecture=arch)
        for arch in ("s390x", images.ARCHITECTURE, "riscv64")
    ]
    index = layout.index(entries)
    layout.tag(index, "latest")
    name = f"{registry_address}/multi"
    images.copy(f"oci:{layout.path}:latest", f"docker://{name}", "--all")
    fetched = await transfer.pull(parse(name), store)
    assert fetched.manifest == entries[1]["digest"]
    assert fetched.index == index["digest"] and store.has(fetched.index)
    assert len(store.digests()) == 4
    other = await transfer.pull(parse(name), store, platform="linux/riscv64")
    assert other.config.architecture == "riscv64"
    known = store.digests()
    with pytest.raises(ImageError, match=r"multi.*not for linux/arm/v7, but for"):
        await transfer.pull(parse(name), store, platform="linux/arm/v7")
    assert store.digests() == known


@pytest.mark.parametrize("system", ["windows", "linux"])
async def test_an_image_for_another_machine_leaves_nothing(
    tmp_path: Path, store: ContentStore, system: str
) -> None:
    layout = images.Layout(tmp_path / "l")
    foreign = layout.image([images.layer({"a": "b"})], os=system, architecture="s390x")
    layout.tag(foreign, "latest")
    with registry.serving(layout) as server:
        with pytest.raises(ImageError, match=r"kernel"):
            await pull(server.address, store)
    assert store.digests() == []


async def test_a_config_with_the_wrong_digest(layout: images.Layout, store: ContentStore) -> None:
    config = json.loads(layout.read(layout.manifests[0]))["config"]

    def fault(request: registry.Handler) -> bool:
        if config["digest"] not in request.path:
            return False
        request.reply(layout.read(config).replace(b"linux", b"LINUX"), "application/json")
        return True

    error = await failure(layout, store, fault)
    assert isinstance(error, ImageError) and "wrong digest" in str(error)
    assert store.digests() == []


async def test_several_pulls_of_one_image_fetch_each_layer_once(
    big: images.Layout, store: ContentStore
) -> None:
    with registry.serving(big) as server:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(pull, server.address, store)
        layer = json.loads(big.read(big.manifests[0]))["layers"][0]["digest"]
        assert len([path for path in server.requests if layer in path]) == 1


async def test_no_such_tag_and_no_such_registry(
    registry_address: str, store: ContentStore, quick: None
) -> None:
    with pytest.raises(NotFound, match="has no tag nope"):
        await transfer.pull(parse(f"{registry_address}/lunch:nope"), store)
    with pytest.raises(RegistryError, match=r"refuses connections.*registry up"):
        await pull(f"127.0.0.1:{registry.free_port()}", store)
    with pytest.raises(RegistryError, match="no address"):
        await pull("nowhere.invalid", store)
    assert store.digests() == []


class Progress:
    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self.what: dict[str, str] = {}
        self.thread = threading.get_ident()

    def started(self, digest: str, size: int) -> None:
        assert size > 0 and threading.get_ident() == self.thread

    def advanced(self, digest: str, count: int) -> None:
        assert threading.get_ident() == self.thread
        self.bytes[digest] = self.bytes.get(digest, 0) + count

    def finished(self, digest: str, what: str) -> None:
        self.what[digest] = what


# --- hang-ups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False], ids=["206", "200"])
async def test_a_download_goes_on_after_a_hang_up(
    big: images.Layout, store: ContentStore, quick: None, ranges: bool
) -> None:
    asked: list[str | None] = []

    def answer(request: registry.Handler) -> None:
        body, wanted = body_of(request), request.headers["Range"]
        asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and ranges else 0
        end = start + (1 << 20) if len(asked) < 3 else len(body)
        request.send_response(206 if start else 200)
        if start:
            last = len(body) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:end])
        if end < len(body):
            request.hang_up()

    progress = Progress()
    with registry.serving(big, blob_fault(answer)) as server:
        fetched = await pull(server.address, store, progress=progress)
    assert images.blobs(Path(store.root).parent) == images.blobs(big.path)
    assert asked == [None, f"bytes={1 << 20}-", f"bytes={(2 if ranges else 1) << 20}-"]
    assert progress.bytes[fetched.layers[0].digest] == fetched.layers[0].size


async def test_the_next_pull_goes_on_where_the_last_one_failed(
    big: images.Layout, store: ContentStore, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "WORTH_KEEPING", 1)

    def cut(request: registry.Handler) -> None:
        body = body_of(request)
        request.reply(body[: 1 << 20], "application/octet-stream", length=len(body))
        request.hang_up()

    with registry.serving(big, blob_fault(cut)) as server:
        with pytest.raises(RegistryError, match="hung up"):
            await pull(server.address, store)
        (left,) = (Path(store.root) / "partial").iterdir()
        assert left.stat().st_size == 1 << 20
        # What a crash leaves may be anything: it must not make the pull fail.
        left.write_bytes(b"rubbish")
        server.fault = None
        await pull(server.address, store)
    assert images.blobs(Path(store.root).parent) == images.blobs(big.path)
    assert not list((Path(store.root) / "partial").iterdir())


async def test_a_registry_that_always_hangs_up(
    big: images.Layout, store: ContentStore, quick: None
) -> None:
    def cut(request: registry.Handler) -> None:
        request.hang_up()

    error = await failure(big, store, blob_fault(cut))
    assert isinstance(error, RegistryError) and "hung up" in str(error)


async def test_a_layer_that_is_shorter_than_announced(
    big: images.Layout, store: ContentStore, quick: None
) -> None:
    def short(request: registry.Handler) -> None:
        request.reply(body_of(request)[:1000], "application/octet-stream")

    error = await failure(big, store, blob_fault(short))
    assert "1000 of the" in str(error)


async def test_wrong_content(big: images.Layout, store: ContentStore) -> None:
    def flipped(request: registry.Handler) -> None:
        body = bytearray(body_of(request))
        body[1 << 20] ^= 1
        request.reply(bytes(body), "application/octet-stream")

    error = await failure(big, store, blob_fault(flipped))
    assert isinstance(error, ImageError) and "wrong digest" in str(error)

    def longer(request: registry.Handler) -> None:
        request.reply(body_of(request) + b"x" * 100, "application/octet-stream")

    error = await failure(big, store, blob_fault(longer))
    assert isinstance(error, ImageError) and "larger than" in str(error)


async def test_another_manifest_than_asked_for(layout: images.Layout, store: ContentStore) -> None:
    def fault(request: registry.Handler) -> bool:
        if "/manifests/" not in request.path:
            return False
        request.reply(layout.read(layout.manifests[0]) + b" ", images.MANIFEST)
        return True

    with registry.serving(layout, fault) as server:
        pinned = parse(f"{server.address}/lunch@{layout.manifests[0]['digest']}")
        with pytest.raises(RegistryError, match="another digest"):
            await transfer.pull(pinned, store)


async def test_an_oversize_manifest(layout: images.Layout, store: ContentStore) -> None:
    def fault(request: registry.Handler) -> bool:
        if "/manifests/" in request.path:
            request.reply(b" " * (5 << 20), images.MANIFEST)
        return "/manifests/" in request.path

    error = await failure(layout, store, fault)
    assert "larger than 4 MiB" in str(error)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "says", "tries"),
    [
        (401, "log in", 1), (403, "does not let you", 1), (404, "has no tag", 1),
        (418, "I'm a Teapot", 1), (429, "too many requests", 4), (500, "later", 4),
        (503, "Service Unavailable", 4),
    ],
)  # fmt: skip
async def test_refusals(
    layout: images.Layout, store: ContentStore, quick: None, status: int, says: str, tries: int
) -> None:
    asked = []

    def fault(request: registry.Handler) -> bool:
        asked.append(request.path)
        request.error(status, "DENIED")
        return True

    error = await failure(layout, store, fault)
    assert says in str(error) and str(status) in str(error) and "this is DENIED" in str(error)
    assert "127.0.0.1" in str(error) and "lunch" in str(error)
    assert len(asked) == tries


async def test_retry_after_is_honoured_within_reason(
    layout: images.Layout, store: ContentStore, quick: None
) -> None:
    times: list[float] = []

    def fault(request: registry.Handler) -> bool:
        times.append(time.monotonic())
        if len(times) > 1:
            return False
        request.error(429, "TOOMANYREQUESTS", Retry_After="1")
        return True

    with registry.serving(layout, fault) as server:
        await pull(server.address, store)
    assert times[1] - times[0] >= 1

    def later(request: registry.Handler) -> bool:
        request.error(503, "DOWN", Retry_After="Wed, 01 Jan 2098 00:00:00 GMT")
        return True

    with trio.fail_after(3):
        await failure(layout, store, later)


async def test_a_registry_that_never_answers(store: ContentStore, quick: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryError, match="did not answer in time"):
            async with client.Registry(address, "lunch", read_timeout=0.2) as found:
                await found.manifest("latest")


async def test_waiting_can_be_cancelled(big: images.Layout, store: ContentStore) -> None:
    """Within the read timeout of 30 seconds, both before an answer and in the middle of one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with trio.move_on_after(0.2) as scope:
            await pull(f"127.0.0.1:{silent.getsockname()[1]}", store)
        assert scope.cancelled_caught
    go = threading.Event()

    def half(request: registry.Handler) -> None:
        body = body_of(request)
        request.reply(body[:1000], "application/octet-stream", length=len(body))
        request.wfile.flush()
        go.wait(20)

    with registry.serving(big, blob_fault(half)) as server:
        with trio.fail_after(10), trio.move_on_after(0.5) as scope:
            await pull(server.address, store)
        assert scope.cancelled_caught
        go.set()
    assert not list((Path(store.root) / "partial").iterdir())


async def test_a_failing_listener_stops_the_pull(big: images.Layout, store: ContentStore) -> None:
    async def on_layer(layer: transfer.Layer, below: tuple[transfer.Layer, ...]) -> None:
        raise ImageError("hostile layer")

    with registry.serving(big) as server:
        with pytest.raises(ImageError, match=r"lunch:latest: hostile layer\Z"):
            await pull(server.address, store, on_layer=on_layer)
