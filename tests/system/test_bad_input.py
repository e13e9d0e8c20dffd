"""Every mistake is one line on stderr and exit code 125, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import images, registry, world
from support.cli import BUSYBOX, Tiffin, tree


@contextmanager
def nothing_changes(tiffin: Tiffin) -> Iterator[None]:
    """The store's files, its containers and images, and the machine's mounts are as before; and
    the log tells of no intent that is still open."""

    def look() -> dict[str, object]:
        return {
            "files": files(tiffin.root) + tiffin.left_in_store(),
            "containers": tiffin("ps", "-a", "-q").out,
            "images": tiffin("images", "-a", "-q").out,
            "mounts": world.mounts_below(tiffin.base),
            "traces": tiffin.traces(),
        }

    before = look()
    yield
    after = look()
    for key, value in before.items():
        assert after[key] == value, key


def files(root: Path) -> list[str]:
    """All but directories, and what the store itself consists of."""
    ours = ("tiffin.db", "plugins.json")
    return sorted(p for p in tree(root) if not (root / p).is_dir() and not p.startswith(ours))


@pytest.fixture(scope="module")
def ready(shared: Tiffin) -> Tiffin:
    """A store in which all that is made once (network, plugin index) has been made."""
    shared("run", "--rm", BUSYBOX, "true")
    shared.create("--name", "taken", BUSYBOX)
    return shared


# --- what the user wrote --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run", "127.0.0.1:9/nothing/here", "true"], "127.0.0.1:9"),
        (["run", "--pull=never", "no-such-image", "true"], "no-such-image"),
        (["run", "Not/A:Reference:", "true"], "Not/A:Reference:"),
        (["create", "--name", "taken", BUSYBOX], "taken"),
        (["create", "--name", "no spaces", BUSYBOX], "no spaces"),
        (["create", "--nonsense", BUSYBOX], "--nonsense"),
        (["create", "--replace", BUSYBOX], "--name"),
        (["create", "--memory", "lots", BUSYBOX], "lots"),
        (["create", "--cpus", "-1", BUSYBOX], "cpus"),
        (["create", "--network", "no-such-net", BUSYBOX], "no-such-net"),
        (["create", "--network", "none,bridge", BUSYBOX], "none"),
        (["create", "-p", "99999:80", BUSYBOX], "99999"),
        (["create", "-v", "/no/such/path:/data", BUSYBOX], "/no/such/path"),
        (["create", "-v", "/tmp:relative", BUSYBOX], "relative"),
        (["create", "-v", "/tmp:/data:sideways", BUSYBOX], "sideways"),
        (["create", "--mount", "type=nonsense,dst=/x", BUSYBOX], "nonsense"),
        (["create", "--cap-add", "CAP_FLY", BUSYBOX], "CAP_FLY"),
        (["create", "--ulimit", "nofile=few", BUSYBOX], "few"),
        (["create", "--ulimit", "lunch=1", BUSYBOX], "lunch"),
        (["create", "--device", "/dev/no-such", BUSYBOX], "/dev/no-such"),
        (["create", "--env-file", "/no/such/file", BUSYBOX], "/no/such/file"),
        (["create", "--security-opt", "seccomp=/no/profile", BUSYBOX], "/no/profile"),
        (["create", "--security-opt", "nonsense=1", BUSYBOX], "nonsense"),
        (["create", "--stop-signal", "SIGLUNCH", BUSYBOX], "SIGLUNCH"),
        (["create", "--tmpfs", "relative", BUSYBOX], "relative"),
        (["run", "--cidfile", "/no/such/dir/id", BUSYBOX, "true"], "/no/such/dir/id"),
        (["create"], "image"),
        (["start", "no-such-container"], "no-such-container"),
        (["mount", "no-such-container"], "no-such-container"),
        (["exec", "taken", "true"], "taken"),
        (["kill", "taken"], "taken"),
        (["kill", "-s", "LUNCH", "taken"], "LUNCH"),
        (["logs", "--since", "yesterday-ish", "taken"], "yesterday-ish"),
        (["ps", "--filter", "nonsense=1"], "nonsense"),
        (["ps", "--format", "{{.NoEnd"], "}}"),
        (["load", "-i", "/no/such/archive"], "/no/such/archive"),
        (["import", "/no/such/tar"], "/no/such/tar"),
        (["--storage-driver=paper", "create", BUSYBOX], "paper"),
        (["--runtime=paper", "create", BUSYBOX], "paper"),
        (["--runtime=/no/such/runtime", "create", BUSYBOX], "/no/such/runtime"),
        (["--log-level=chatty", "ps"], "chatty"),
        (["no-such-command"], "no-such-command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    ready: Tiffin, args: list[str], says: str
) -> None:
    with nothing_changes(ready):
        ready.fails(*args, says=says)


@pytest.mark.parametrize("args", [["rm"], ["rmi"]])
def test_what_is_not_there_cannot_be_removed(ready: Tiffin, args: list[str]) -> None:
    """Exit code 1, as podman says it."""
    with nothing_changes(ready):
        ready.fails(*args, "no-such-thing", code=1, says="no-such-thing")


@pytest.mark.parametrize("args", [["rm"], ["rmi"]])
def test_by_force_what_is_not_there_is_gone_already(ready: Tiffin, args: list[str]) -> None:
    done = ready(*args, "-f", "no-such-thing")
    assert (done.out, done.err) == ("", "")


def test_a_rootfs_that_is_no_tar(ready: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(b"this is no tar" * 100)
    with nothing_changes(ready):
        ready.fails("import", tmp_path / "rootfs.tar", says="tar")


def test_a_running_container_is_not_removed(ready: Tiffin) -> None:
    name = ready.detached("--network=none", BUSYBOX, "sleep", "1000")
    ready.fails("rm", name, code=2, says="is running")
    ready.fails("rmi", BUSYBOX, code=2, says="busybox")
    assert ready.status(name) == "running"
    ready("rm", "-f", "-t", "0", name)


def test_an_ambiguous_prefix_is_not_guessed(ready: Tiffin) -> None:
    ids: dict[str, str] = {}
    while True:
        cid = ready.create(BUSYBOX)
        if cid[0] in ids:
            break
        ids[cid[0]] = cid
    ready.fails("rm", cid[0], says=cid[0])
    ready("rm", cid, *ids.values())


def test_a_command_that_is_not_there_is_127_and_one_that_is_no_program_126(ready: Tiffin) -> None:
    for runtime in ("runc", "crun"):
        chosen = ready.using(f"--runtime={runtime}")
        with nothing_changes(ready):
            chosen.fails(
                "run", "--rm", BUSYBOX, "no-such-program", code=127, says="no-such-program"
            )
            chosen.fails("run", "--rm", BUSYBOX, "/etc", code=126, says="/etc")


# --- programs and room that are missing -----------------------------------------------------------


HIDE = """
directory=$(dirname "$1")
upper=$(mktemp -d)
mount -t tmpfs none "$upper"
mkdir "$upper/u" "$upper/w"
mount -t overlay -o "lowerdir=$directory,upperdir=$upper/u,workdir=$upper/w" none "$directory"
rm "$1"
umount -l "$upper"
rmdir "$upper"
shift
exec "$@"
"""


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("runc", ["--runtime=runc", "run", "--rm", BUSYBOX, "true"]),
        ("crun", ["--runtime=crun", "run", "--rm", BUSYBOX, "true"]),
        ("conmon", ["run", "--rm", BUSYBOX, "true"]),
    ],
)
def test_a_missing_program_is_named_with_its_package(
    ready: Tiffin, program: str, args: list[str]
) -> None:
    """The program's file is covered in a mount namespace of its own, wherever it is looked for."""
    with nothing_changes(ready):
        hidden = shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
        assert hidden
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", HIDE, "-", hidden, *ready.argv(*args)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 125, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert program in done.stderr and "apt install" in done.stderr, done.stderr


FULL = re.compile("disk is full|no space")


@contextmanager
def small_disk(tiffin: Tiffin, size: str) -> Iterator[None]:
    tiffin.root.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", tiffin.root], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", tiffin.root], check=True)


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_a_full_disk_while_pulling(tiffin: Tiffin, tmp_path: Path, driver: str) -> None:
    layout = images.Layout(tmp_path / "big")
    layout.tag(layout.image([images.layer({"big": os.urandom(12 << 20)})]), "latest")
    chosen = tiffin.using(f"--storage-driver={driver}")
    with small_disk(tiffin, "4m"), registry.serving(layout) as server:
        chosen("images")
        with nothing_changes(chosen):
            assert FULL.search(chosen.fails("pull", "--tls-verify=false", f"{server.address}/big"))


def test_a_disk_that_is_full_from_the_start(tiffin: Tiffin) -> None:
    with small_disk(tiffin, "4k"):
        assert FULL.search(tiffin.fails("create", BUSYBOX))


def test_a_disk_that_fills_up_while_a_container_is_made(tiffin: Tiffin) -> None:
    with small_disk(tiffin, "16m"):
        vfs = tiffin.using("--storage-driver=vfs")
        vfs("pull", BUSYBOX)
        free = os.statvfs(tiffin.root)
        filler = tiffin.root / "filler"
        filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - (600 << 10)))
        assert FULL.search(vfs.fails("run", "--rm", "--network=none", BUSYBOX, "true"))
        filler.unlink()
        assert vfs("ps", "-a", "-q").out == ""
        assert vfs("run", "--rm", "--network=none", BUSYBOX, "echo", "room").out == "room\n"
        vfs.empty()


# --- registries -----------------------------------------------------------------------------------


def pull_fails(
    tiffin: Tiffin, layout: images.Layout, fault: registry.Fault | None, says: str = ""
) -> None:
    with registry.serving(layout, fault) as server:
        reference = f"{server.address}/lunch"
        tiffin("images")
        with nothing_changes(tiffin):
            tiffin.fails("pull", "--tls-verify=false", reference, says=says)
            tiffin.fails("run", "--tls-verify=false", "--rm", reference, "true", says=says)
        if fault is not None:  # once the registry is well again
            server.fault = None
            tiffin("pull", "--tls-verify=false", reference)


def is_blob(request: registry.Handler) -> bool:
    return "/blobs/" in request.path


def last_layer(layout: images.Layout) -> images.Descriptor:
    manifest = json.loads(layout.read(layout.manifests[0]))
    found: images.Descriptor = manifest["layers"][-1]
    return found


@pytest.mark.parametrize("where", ["/v2/", "/manifests/", "/blobs/"])
def test_a_registry_that_hangs_up(tiffin: Tiffin, layout: images.Layout, where: str) -> None:
    def fault(request: registry.Handler) -> bool:
        if where not in request.path:
            return False
        request.hang_up()
        return True

    pull_fails(tiffin, layout, fault)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_a_registry_that_answers_with_an_error(
    tiffin: Tiffin, layout: images.Layout, where: str, status: int
) -> None:
    def fault(request: registry.Handler) -> bool:
        if where not in request.path:
            return False
        extra = {"WWW_Authenticate": 'Basic realm="lunch"'} if status == 401 else {}
        request.error(status, "DENIED", **extra)
        return True

    began = time.monotonic()
    pull_fails(tiffin, layout, fault, says=str(status))
    assert time.monotonic() - began < 60


def test_a_name_that_the_registry_does_not_have(tiffin: Tiffin, layout: images.Layout) -> None:
    with registry.serving(layout) as server:
        reference = f"{server.address}/lunch:no-such-tag"
        tiffin.fails("pull", "--tls-verify=false", reference, says="no-such-tag")


def test_a_layer_with_the_wrong_digest(tiffin: Tiffin, layout: images.Layout) -> None:
    layer = last_layer(layout)

    def fault(request: registry.Handler) -> bool:
        if layer["digest"] not in request.path:
            return False
        data = bytearray(layout.read(layer))
        data[-1] ^= 1
        request.reply(bytes(data), "application/octet-stream")
        return True

    pull_fails(tiffin, layout, fault, says="digest")


@pytest.mark.parametrize("honest", [True, False], ids=["connection cut", "short body"])
def test_a_truncated_layer(tiffin: Tiffin, layout: images.Layout, honest: bool) -> None:
    """CVE-2021-20291: a layer that ends too early made a pull wait for ever."""
    layer = last_layer(layout)

    def fault(request: registry.Handler) -> bool:
        if layer["digest"] not in request.path:
            return False
        half = layout.read(layer)[: layer["size"] // 2]
        length = layer["size"] if honest else None
        request.reply(half, "application/octet-stream", length=length)
        if honest:
            request.hang_up()
        return True

    pull_fails(tiffin, layout, fault)


def test_a_layer_that_is_longer_than_the_manifest_says(
    tiffin: Tiffin, layout: images.Layout
) -> None:
    layer = last_layer(layout)

    def fault(request: registry.Handler) -> bool:
        if layer["digest"] not in request.path:
            return False
        request.reply(layout.read(layer) + b"x" * 1000, "application/octet-stream")
        return True

    pull_fails(tiffin, layout, fault)


BROKEN = {
    "no JSON": b"lunch",
    "empty": b"",
    "a list": b"[]",
    "no config": b'{"schemaVersion":2,"layers":[]}',
    "layers of the wrong kind": b'{"schemaVersion":2,"config":1,"layers":"x"}',
    "cut": b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manif',
    "schema 1": b'{"schemaVersion":1,"name":"x","fsLayers":[]}',
    "hostile digest": json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": images.MANIFEST,
            "config": {"mediaType": "x", "digest": "sha256:../../../etc/passwd", "size": 1},
            "layers": [],
        }
    ).encode(),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_manifest(tiffin: Tiffin, layout: images.Layout, body: bytes) -> None:
    def fault(request: registry.Handler) -> bool:
        if "/manifests/" not in request.path:
            return False
        request.reply(body, images.MANIFEST)
        return True

    pull_fails(tiffin, layout, fault)


def test_a_manifest_whose_digest_is_not_the_one_asked_for(
    tiffin: Tiffin, layout: images.Layout
) -> None:
    def fault(request: registry.Handler) -> bool:
        if "/manifests/" not in request.path:
            return False
        request.reply(layout.read(layout.manifests[0]) + b"\n", images.MANIFEST)
        return True

    with registry.serving(layout, fault) as server:
        reference = f"{server.address}/lunch@{layout.manifests[0]['digest']}"
        tiffin.fails("pull", "--tls-verify=false", reference, says="digest")


@pytest.mark.parametrize("indexed", [False, True])
def test_an_image_for_another_processor(tiffin: Tiffin, tmp_path: Path, indexed: bool) -> None:
    layout = images.Layout(tmp_path / "foreign")
    found = layout.image([images.layer({"x": "y"})], architecture="s390x")
    layout.tag(layout.index([found]) if indexed else found, "latest")
    pull_fails(tiffin, layout, None, says="s390x")


@pytest.mark.parametrize("indexed", [False, True])
def test_a_windows_image(tiffin: Tiffin, tmp_path: Path, indexed: bool) -> None:
    layout = images.Layout(tmp_path / "foreign")
    found = layout.image([images.layer({"Files/x": "y"})], os="windows")
    layout.tag(layout.index([found]) if indexed else found, "latest")
    with registry.serving(layout) as server:
        reference = f"{server.address}/lunch"
        line = tiffin.fails("pull", "--tls-verify=false", reference, says="windows")
        assert "kernel" in line


@pytest.mark.parametrize(
    "name", ["../escape", "/../../escape", "a/../../escape", "link/escape"], ids=repr
)
def test_a_layer_cannot_write_outside_of_its_directory(
    tiffin: Tiffin, tmp_path: Path, name: str
) -> None:
    layout = images.Layout(tmp_path / "hostile")
    bad = images.layer({"link": "->/tmp/tfn-outside", name: "escaped"})
    layout.tag(layout.image([images.base_layer(), bad]), "latest")
    with registry.serving(layout) as server:
        tiffin.attempt("pull", "--tls-verify=false", f"{server.address}/hostile")
    assert not Path("/tmp/tfn-outside").exists()
    for path in Path("/tmp").glob("tfn-*/**/escape"):
        assert "/storage/" in str(path) and "/layers/" in str(path)
