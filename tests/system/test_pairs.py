"""Every command of a shell where the driver or the runtime has a part, with both of each."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin, eventually

PAIRS = [("overlay", "runc"), ("vfs", "crun")]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def box(request: pytest.FixtureRequest, shared: Tiffin) -> Iterator[Tiffin]:
    """With a container `runs`, that has a file of its own, and one that `ended`."""
    storage, runtime = request.param
    box = shared.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    flags = ("--network=none", "--stop-timeout=0")
    box("run", "-d", "--name=runs", *flags, BUSYBOX, "sh", "-c", "echo mine > /own; sleep 1000")
    box(
        "run", "--name=ended", *flags, BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 3", code=3
    )
    eventually(lambda: box("exec", "runs", "cat", "/own").out == "mine\n")
    found = box.inspect("runs")
    assert (found["Driver"], found["OCIRuntime"]) == (storage, runtime)
    yield box
    box("rm", "-a", "-f", "-t", "0", "-v")
    box("volume", "rm", "-a", "-f")


def test_files_and_images(box: Tiffin, tmp_path: Path) -> None:
    assert "A /own" in box("diff", "runs").lines
    box("cp", "runs:/own", tmp_path / "own")
    assert (tmp_path / "own").read_text() == "mine\n"
    box("cp", tmp_path / "own", "ended:/theirs")
    argv = box.argv("cp", "ended:/theirs", "-")
    stream = subprocess.run(argv, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        assert archive.getnames() == ["theirs"]
    box("export", "-o", tmp_path / "root.tar", "ended")
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert {"theirs", "bin/busybox"} <= set(archive.getnames())
    box("import", "-c", 'CMD ["cat", "/theirs"]', tmp_path / "root.tar", "brought")
    assert box("run", "--rm", "--network=none", "brought").out == "mine\n"
    box("commit", "-q", "runs", "kept")
    box("save", "-o", tmp_path / "saved.tar", "kept", "brought")
    box("untag", "kept")
    assert "localhost/kept" in box("load", "-i", tmp_path / "saved.tar").out
    path = Path(box("image", "mount", "kept").word)
    assert (path / "own").read_text() == "mine\n"
    box("image", "unmount", "kept")
    assert "kept:latest" in box("image", "tree", "kept").out
    box("rmi", "kept", "brought")
    box("image", "prune", "-f")


def test_mounts_and_sizes(box: Tiffin) -> None:
    path = Path(box("mount", "ended").word)
    (path / "made").write_text("from outside\n")
    assert box("start", "-a", "ended", code=3).out == "out\n"
    box("unmount", "ended")
    assert "A /made" in box("diff", "ended").lines
    assert box("inspect", "-s", "-f", "{{.SizeRw}}", "ended").word != "0"
    (row,) = json.loads(box("ps", "-s", "--format=json", "-f", "name=runs").out)
    assert row["Size"]["rwSize"] > 0 and row["Size"]["rootFsSize"] > row["Size"]["rwSize"]
    sizes = {row["Type"]: row for row in json.loads(box("system", "df", "--format=json").out)}
    assert sizes["Containers"]["RawSize"] > 0


def test_volumes(box: Tiffin, tmp_path: Path) -> None:
    run = ("run", "--rm", "--network=none")
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/x").write_text("host\n")
    assert "busybox" in box(*run, "-v", "filled:/bin", BUSYBOX, "ls", "/bin").out.split()
    script = "cat /o/x; echo other > /o/x; cat /o/x"
    said = box(*run, "-v", f"{tmp_path}/lower:/o:O", BUSYBOX, "sh", "-c", script).lines
    assert said == ["host", "other"] and (tmp_path / "lower/x").read_text() == "host\n"
    mount = f"--mount=type=image,src={BUSYBOX},dst=/i"
    assert box(*run, mount, BUSYBOX, "sh", "-c", "touch /i/x || ls -d /i/bin").word == "/i/bin"
    box(*run, "--tmpfs=/t:size=1m", "-v", "store:/s", BUSYBOX, "sh", "-c", "echo x > /s/y")
    assert box(*run, "-v", "store:/s:ro", BUSYBOX, "cat", "/s/y").out == "x\n"
    box("create", "--name=lender", "-v", "store:/s", BUSYBOX)
    assert box(*run, "--volumes-from=lender:ro", BUSYBOX, "cat", "/s/y").out == "x\n"
    box("volume", "export", "-o", tmp_path / "v.tar", "store")
    box("volume", "create", "again")
    box("volume", "import", "again", tmp_path / "v.tar")
    assert (Path(box("volume", "mount", "again").word) / "y").read_text() == "x\n"
    box("volume", "unmount", "again")
    box("rm", "lender")


def test_life(box: Tiffin) -> None:
    box("update", "--memory=64m", "runs")
    assert box("inspect", "-f", "{{.HostConfig.Memory}}", "runs").word == str(64 << 20)
    box("pause", "runs")
    assert box.status("runs") == "paused"
    box("unpause", "runs")
    assert box("top", "runs", "pid", "comm").lines[0].split() == ["PID", "COMMAND"]
    assert box("stats", "--no-stream", "--format={{.Name}}", "runs").word == "runs"
    box("rename", "runs", "renamed")
    box("rename", "renamed", "runs")
    assert box("logs", "ended").out.startswith("out\n")
    assert box("wait", "ended").word == "3"
    assert box("port", "runs").out == ""
    box("restart", "-t", "0", "runs")
    assert box("exec", "-e", "A=b", "runs", "sh", "-c", "echo $A").word == "b"
    box("secret", "create", "key", "-", input="hush")
    flags = ("run", "--rm", "--network=none", "--init", "--secret=key")
    assert box(*flags, BUSYBOX, "cat", "/run/secrets/key").out == "hush"
    box("secret", "rm", "key")
    health = ("--health-cmd=true", "--health-interval=disable")
    box("run", "-d", "--name=well", "--network=none", *health, BUSYBOX, "sleep", "1000")
    assert box("healthcheck", "run", "well").code == 0
    box("rm", "-f", "-t", "0", "well")
