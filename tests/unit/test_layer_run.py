"""The worker and the blobs that it reads. As root."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tiffin.errors import DriverError, ImageError, StorageFull, UserError
from tiffin.hooks import LayerBlob, LayerUsage
from tiffin.layer import Limits, limits, unpack
from tiffin.layer.staging import staged
from tiffin.testing.layers import layer, member, sha256


def blob(directory: Path, data: bytes, compression: str = "none", stored: bytes = b"") -> LayerBlob:
    path = directory / "blob"
    if not stored:
        stored = data
        if compression == "gzip":
            stored = gzip.compress(data)
        elif compression == "zstd":
            stored = subprocess.run(["zstd", "-qc"], input=data, capture_output=True).stdout
    path.write_bytes(stored)
    return LayerBlob(str(path), compression, sha256(data))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_unpack(tmp_path: Path, target: Path, compression: str) -> None:
    data = layer(member("x", os.urandom(3_000_000)), member("y", b"y")) + bytes(50_000)
    usage = await unpack(str(target), blob(tmp_path, data, compression))
    assert usage == LayerUsage(size=3_000_001, entries=2)
    assert (target / "x").stat().st_size == 3_000_000


async def test_the_padding_counts_for_the_diff_id(tmp_path: Path, target: Path) -> None:
    data = layer(member("x"))
    made = blob(tmp_path, data + bytes(512))
    with pytest.raises(ImageError, match="is not what its image says"):
        await unpack(str(target), LayerBlob(made.path, "none", sha256(data)))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "noise", "rest"])
async def test_broken_compression(
    tmp_path: Path, target: Path, compression: str, damage: str
) -> None:
    data = layer(member("x", os.urandom(3_000_000)))
    whole = Path(blob(tmp_path, data, compression).path).read_bytes()
    stored = {
        "cut": whole[:-1000],
        "noise": whole[:10] + os.urandom(3000) + whole[3010:],
        "rest": whole + b"rest",
    }[damage]
    with pytest.raises(ImageError):
        await unpack(str(target), blob(tmp_path, data, compression, stored))


async def test_empty_blob_that_should_be_gzip(tmp_path: Path, target: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ImageError, match="truncated"):
        await unpack(str(target), LayerBlob(str(tmp_path / "empty"), "gzip", sha256(b"")))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_a_bomb_is_stopped_by_ratio_and_by_size(
    tmp_path: Path, target: Path, compression: str
) -> None:
    made = blob(tmp_path, layer(member("zeros", bytes(30_000_000))), compression)
    for bounds in (Limits(ratio=100, free=1 << 20), Limits(bytes=1 << 22)):
        with pytest.raises(ImageError, match="larger than"):
            await unpack(str(target), made, limits=bounds)
        assert (target / "zeros").stat().st_size < 8 << 20
    await unpack(str(target), made)


def test_limits_come_from_the_drivers_settings() -> None:
    assert limits({}) == Limits()
    assert limits({"layer_limits": {"bytes": 5}}) == Limits(bytes=5)
    for table in ({"byte": 5}, {"bytes": 0}, {"bytes": "5"}, {"bytes": True}, [5]):
        with pytest.raises(UserError, match="layer_limits"):
            limits({"layer_limits": table})


async def test_missing_zstd_is_named(tmp_path: Path, target: Path) -> None:
    """The program is looked for beyond PATH too, so it is hidden in a mount namespace."""
    made = blob(tmp_path, layer(member("x")), "zstd")
    script = (
        "import os, trio; from tiffin.layer import unpack; from tiffin.hooks import LayerBlob;"
        "from tiffin.errors import DriverError\n"
        f"try: trio.run(unpack, {str(target)!r}, LayerBlob({made.path!r}, 'zstd', 'sha256:0'))\n"
        "except DriverError as error: print(error)"
    )
    hide = 'for p in /bin /usr/bin /usr/local/bin; do [ ! -e $p/zstd ] || mount --bind "$0" $p/zstd'
    (tmp_path / "plain").touch(mode=0o644)
    command = ["unshare", "-m", "sh", "-c", hide + '; done; exec "$@"', str(tmp_path / "plain")]
    done = subprocess.run(
        [*command, sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "zstd is not installed (install it: apt install zstd)"


async def test_blob_or_target_that_is_not_there(tmp_path: Path, target: Path) -> None:
    with pytest.raises(DriverError, match="No such file"):
        await unpack(str(target), LayerBlob(str(tmp_path / "no"), "none", sha256(b"")))
    with pytest.raises(DriverError, match="No such file"):
        await unpack(str(tmp_path / "no"), blob(tmp_path, layer(member("x"))))


async def test_cancelling_kills_the_worker(tmp_path: Path, target: Path) -> None:
    with open(tmp_path / "endless", "wb") as file:
        file.truncate(1 << 38)  # zeros: the end of the tar, and then a day of padding
    made = LayerBlob(str(tmp_path / "endless"), "none", sha256(b""))
    with trio.move_on_after(0.5) as scope:
        await unpack(str(target), made)
    assert scope.cancelled_caught
    asked = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "layer.worker"])
    assert asked.returncode == 1


async def test_a_full_file_system(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        made = blob(tmp_path, layer(member("x", bytes(4 << 20))))
        with pytest.raises(StorageFull):
            async with staged(str(small / "store")) as directory:
                await unpack(directory, made)
        assert os.listdir(small / "store/tmp") == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


async def test_staging_sweeps_only_what_nobody_uses(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    async with staged(store) as one:
        Path(one, "file").touch()
        os.makedirs(f"{store}/tmp/dead/below")
        async with staged(store) as two:
            assert sorted(os.listdir(f"{store}/tmp")) == sorted(map(os.path.basename, (one, two)))
            assert os.listdir(one) == ["file"]
    assert os.listdir(f"{store}/tmp") == []


def test_the_worker_imports_next_to_nothing() -> None:
    script = "import sys, tiffin.layer.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"trio", "msgspec", "pluggy", "asyncio", "tarfile", "subprocess", "ctypes"}
