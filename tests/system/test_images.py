"""Images in and out of the store: from a real registry, archives, a tar, and other containers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import images, registry
from support.cli import BUSYBOX, Tiffin
from support.terminal import terminal

RUN = ("run", "--rm", "--network=none", "--pull=never")
HELLO = "hello from the image\n"


def push(layout: images.Layout, address: str, name: str, *options: str) -> str:
    reference = f"{address}/{name}:latest"
    options = options or ("--preserve-digests",)  # skopeo likes to compress anew
    images.copy(f"oci:{layout.path}:latest", f"docker://{reference}", *options)
    return reference


def pull(tiffin: Tiffin, reference: str, *flags: str) -> str:
    return tiffin("pull", "--tls-verify=false", *flags, reference).lines[-1]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_pull_from_a_registry(
    tiffin: Tiffin, registry_address: str, tmp_path: Path, compression: str, driver: str
) -> None:
    chosen = tiffin.using(f"--storage-driver={driver}")
    layout = images.simple(tmp_path / "image", compression=compression)
    reference = push(layout, registry_address, f"plain/{compression}")
    image = pull(chosen, reference)
    assert re.fullmatch("[0-9a-f]{64}", image)
    assert chosen(*RUN, reference, "cat", "/hello.txt").out == HELLO
    assert images.blobs(tiffin.root) == images.blobs(layout.path), "bit-identical"


def test_pull_of_a_docker_schema_2_image(
    tiffin: Tiffin, registry_address: str, layout: images.Layout
) -> None:
    reference = push(layout, registry_address, "docker/image", "--format=v2s2")
    pull(tiffin, reference)
    assert tiffin(*RUN, reference, "cat", "/hello.txt").out == HELLO
    kinds = {
        json.loads(b)["mediaType"]
        for b in images.blobs(tiffin.root).values()
        if b'"schemaVersion"' in b[:400]
    }
    assert "application/vnd.docker.distribution.manifest.v2+json" in kinds


def test_pull_says_when_run_fetches(tiffin: Tiffin, tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "image")

    def publish(version: str) -> None:
        layers = [images.base_layer(), images.layer({"version": version})]
        layout.manifests.clear()
        layout.tag(layout.image(layers), "latest")

    def version(policy: str) -> str:
        flags = ("--rm", "--network=none", "--tls-verify=false", f"--pull={policy}")
        return tiffin("run", *flags, reference, "cat", "/version").word

    publish("1")
    with registry.serving(layout) as server:
        reference = f"{server.address}/versions"
        tiffin.fails("create", "--pull=never", reference, says="--pull=never")
        assert version("missing") == "1"
        publish("2")
        assert [version("missing"), version("never")] == ["1", "1"]
        assert version("always") == "2"
        publish("3")
        assert version("newer") == "3"
    for policy in ("missing", "never", "newer"):  # the registry is off
        assert version(policy) == "3", policy
    flags = ("--tls-verify=false", "--pull=always")
    tiffin.fails("create", *flags, reference, says=server.address)
    flags = ("--tls-verify=false", "--pull=newer")
    tiffin.fails("create", *flags, f"{server.address}/other", says=server.address)


@pytest.mark.parametrize("kind", ["oci", "v2s2"])
def test_pull_of_an_index_takes_our_platform(
    tiffin: Tiffin, registry_address: str, tmp_path: Path, kind: str
) -> None:
    layout = images.Layout(tmp_path / "many")
    members = [
        layout.image([images.layer({"other": "s390x"})], architecture="s390x"),
        layout.image([images.base_layer(), images.layer({"hello.txt": HELLO})]),
        layout.image([images.layer({"other": "arm"})], architecture="arm64"),
    ]
    layout.tag(layout.index(members), "latest")
    reference = push(layout, registry_address, f"many/{kind}", "--all", f"--format={kind}")
    pull(tiffin, reference)
    assert tiffin(*RUN, reference, "cat", "/hello.txt").out == HELLO
    found = json.loads(tiffin("image", "inspect", reference).out)[0]
    assert (found["Architecture"], found["Os"]) == (images.ARCHITECTURE, "linux")


def test_pull_by_digest_and_run_pulls_what_is_missing(
    tiffin: Tiffin, registry_address: str, layout: images.Layout
) -> None:
    push(layout, registry_address, "by/digest")
    reference = f"{registry_address}/by/digest@{layout.manifests[0]['digest']}"
    done = tiffin(
        "run", "--rm", "--network=none", "--tls-verify=false", reference, "cat", "/hello.txt"
    )
    assert done.out == HELLO
    assert tiffin(*RUN, reference, "true").err == ""


def test_what_is_there_is_not_fetched_again(tiffin: Tiffin, layout: images.Layout) -> None:
    with registry.serving(layout) as server:
        reference = f"{server.address}/lunch"
        pull(tiffin, reference)
        fetched = len(server.requests)
        pull(tiffin, reference)
        assert not any("/blobs/" in path for path in server.requests[fetched:])
        pull(tiffin, f"{server.address}/other")
        assert not any("/blobs/" in path for path in server.requests[fetched:])
        fetched = len(server.requests)
        tiffin("run", "--rm", "--network=none", reference, "true")
        assert len(server.requests) == fetched


def test_a_line_a_layer_without_a_terminal_and_a_bar_on_one(
    tiffin: Tiffin, layout: images.Layout
) -> None:
    with registry.serving(layout) as server:
        reference = f"{server.address}/lunch"
        done = tiffin("pull", "--tls-verify=false", reference)
        assert "\r" not in done.err and "\x1b" not in done.err
        layers = json.loads(layout.read(layout.manifests[0]))["layers"]
        for layer in layers:
            short = layer["digest"].removeprefix("sha256:")[:12]
            assert sum(short in line for line in done.err.splitlines()) == 1, done.err
        assert tiffin("pull", "-q", "--tls-verify=false", reference).err == ""
        tiffin("rmi", reference)
        argv = tiffin.argv("pull", "--tls-verify=false", reference)
        with terminal(argv, tiffin.environment()) as screen:
            assert screen.wait() == 0
            screen.expect("\r")


# --- archives -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, layout: images.Layout) -> Path:
    directory = tmp_path_factory.mktemp("archives")
    source = f"oci:{layout.path}:latest"
    images.copy(source, f"docker-archive:{directory}/docker:example.com/lunch:dal")
    images.copy(source, f"oci-archive:{directory}/oci:example.com/lunch:dal")
    images.copy(source, f"oci:{directory}/layout:example.com/lunch:dal")
    return directory


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["docker", "oci", "layout"])
@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_load(tiffin: Tiffin, archives: Path, kind: str, driver: str) -> None:
    chosen = tiffin.using(f"--storage-driver={driver}")
    out = chosen("load", "-i", archives / kind).out
    assert "example.com/lunch:dal" in out
    assert chosen(*RUN, "example.com/lunch:dal", "cat", "/hello.txt").out == HELLO


@pytest.mark.registry
def test_load_from_stdin_and_compressed(tiffin: Tiffin, archives: Path) -> None:
    data = subprocess.run(["gzip", "-c", archives / "docker"], capture_output=True).stdout
    tiffin("load", input=data)
    assert tiffin(*RUN, "example.com/lunch:dal", "cat", "/hello.txt").out == HELLO


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_a_cut_archive_is_refused(
    tiffin: Tiffin, archives: Path, tmp_path: Path, kind: str
) -> None:
    data = (archives / kind).read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    tiffin("images")
    tiffin.fails("load", "-i", tmp_path / "cut")
    assert tiffin.left_in_store() == []


def test_import_makes_an_image_of_a_tar(tiffin: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(images.base_layer())
    change = ("--change", "CMD echo imported", "--change", "ENV LUNCH=dal")
    image = tiffin("import", *change, tmp_path / "rootfs.tar", "imported:1").lines[-1]
    assert re.search("[0-9a-f]{64}", image)
    assert tiffin(*RUN, "imported:1").out == "imported\n"
    assert "LUNCH=dal" in tiffin(*RUN, "imported:1", "env").lines
    assert tiffin("import", "-", "imported:2", input=images.base_layer()).lines
    assert tiffin(*RUN, "imported:2", "echo", "x").out == "x\n"


def test_the_embedded_image_needs_nothing(tiffin: Tiffin) -> None:
    assert tiffin("run", "--rm", "--network=none", BUSYBOX, "echo", "first").out == "first\n"


# --- names ----------------------------------------------------------------------------------------


def names(tiffin: Tiffin) -> set[str]:
    return set(tiffin("images", "--format", "{{.Repository}}:{{.Tag}}").lines)


def test_tags_come_and_go_and_the_last_takes_the_image_with_it(tiffin: Tiffin) -> None:
    tiffin("pull", BUSYBOX)
    tiffin("tag", BUSYBOX, "box:a", "box:b")
    ids = set(tiffin("images", "-q", "--no-trunc").lines)
    assert len(ids) == 1
    assert {"localhost/box:a", "localhost/box:b"} <= names(tiffin) | {
        f"localhost/{n}" for n in names(tiffin)
    }
    tiffin("rmi", "box:a")
    assert tiffin(*RUN, "box:b", "echo", "x").out == "x\n"
    tiffin("rmi", "box:b", BUSYBOX)
    assert tiffin("images", "-a", "-q").out == ""
    assert tiffin.left_in_store() == []


def test_images_share_layers_and_rmi_keeps_what_others_use(tiffin: Tiffin, tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "two")
    base = images.base_layer()
    layout.tag(layout.image([base, images.layer({"a": "a"})]), "a")
    layout.tag(layout.image([base, images.layer({"b": "b"})]), "b")
    with registry.serving(layout) as server:
        for tag in "ab":
            pull(tiffin, f"{server.address}/two:{tag}")
        blobs = [path for path in server.requests if "/blobs/" in path]
        assert len(blobs) == len(set(blobs)) == 5, "three layers and two configs"
        tiffin("rmi", f"{server.address}/two:a")
        assert tiffin(*RUN, f"{server.address}/two:b", "cat", "/b").out == "b"
        assert len(images.blobs(tiffin.root)) == 4


def test_an_image_in_use_stays(tiffin: Tiffin) -> None:
    name = tiffin.create(BUSYBOX)
    assert tiffin.inspect(name)["Name"] in tiffin.fails("rmi", BUSYBOX, code=2)
    tiffin("rmi", "-f", BUSYBOX)
    assert tiffin("ps", "-a", "-q").out == ""


def test_inspect_and_history(tiffin: Tiffin, tmp_path: Path) -> None:
    layout = images.simple(tmp_path / "i", config={"Labels": {"meal": "lunch"}, "User": "1000"})
    tiffin("load", "-i", layout.path)
    (image,) = tiffin("images", "-q", "--no-trunc").lines
    found: dict[str, Any] = json.loads(tiffin("image", "inspect", image).out)[0]
    manifest = json.loads(layout.read(layout.manifests[0]))
    assert found["Id"].removeprefix("sha256:") == manifest["config"]["digest"].removeprefix(
        "sha256:"
    )
    assert found["Config"]["Labels"] == {"meal": "lunch"}
    assert found["Config"]["User"] == "1000"
    config = json.loads(layout.read(manifest["config"]))
    assert found["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
    history = tiffin("image", "history", image).out
    assert "layer 0" in history and "layer 1" in history
    assert tiffin(*RUN, image.removeprefix("sha256:")[:12], "id", "-u").word == "1000"


# --- commit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_commit_has_what_was_added_changed_and_deleted(
    tiffin: Tiffin, tmp_path: Path, driver: str
) -> None:
    chosen = tiffin.using(f"--storage-driver={driver}")
    layout = images.Layout(tmp_path / "c")
    files = {"keep": "keep", "gone": "x", "dir": None, "dir/old": "old", "dir/new": "new"}
    layout.tag(layout.image([images.base_layer(), images.layer(files)]), "latest")
    chosen("load", "-i", layout.path)
    (image,) = chosen("images", "-q").lines
    script = (
        "rm /gone; echo changed > /keep; mkdir /sub; echo a > /sub/a; ln -s a /sub/l; "
        "ln /sub/a /sub/h; rm -r /dir; mkdir /dir; echo b > /dir/b; chmod 1777 /sub"
    )
    chosen("run", "--name=c", "--network=none", image, "sh", "-c", script)
    chosen("commit", "--change", "CMD echo committed", "c", "c:1")
    look = "cat /keep /sub/h; ls /dir; ls -ld /sub; readlink /sub/l; test -e /gone || echo gone"
    out = chosen("run", "--rm", "--network=none", "c:1", "/bin/busybox", "sh", "-c", look).lines
    assert out[:3] == ["changed", "a", "b"]
    assert out[3].startswith("drwxrwxrwt")
    assert out[4:] == ["a", "gone"]
    assert chosen("run", "--rm", "--network=none", "c:1").out == "committed\n"
    assert len(json.loads(chosen("image", "inspect", "c:1").out)[0]["RootFS"]["Layers"]) == 3


@pytest.mark.parametrize(("storage", "runtime"), [("overlay", "runc"), ("vfs", "crun")])
def test_commit_squashed_and_in_dockers_format(
    tiffin: Tiffin, tmp_path: Path, storage: str, runtime: str
) -> None:
    ours = tiffin.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    script = "echo one > /one; rm -r /var; mkdir -p /d; ln -s /one /d/link"
    ours("run", "--name=c", "--network=none", BUSYBOX, "sh", "-c", script)
    ours("commit", "c", "more")
    ours("run", "--name=d", "--network=none", "more", "sh", "-c", "rm /one; echo two > /two")
    flags = ("--squash", "--format=docker", "-c", 'CMD ["cat", "/two"]')
    ours("commit", *flags, "d", "flat")
    found = ours.inspect("flat")
    assert len(found["RootFS"]["Layers"]) == 1 == len(ours("history", "-q", "flat").lines)
    assert "docker" in found["ManifestType"]
    assert ours("run", "--rm", "--network=none", "flat").out == "two\n"
    look = "readlink /d/link; test -e /one || test -e /var || echo gone"
    assert ours("run", "--rm", "--network=none", "flat", "sh", "-c", look).lines == ["/one", "gone"]


def test_commit_of_a_running_container(tiffin: Tiffin) -> None:
    name = tiffin.detached("--network=none", BUSYBOX, "sleep", "1000")
    tiffin("exec", name, "touch", "/made")
    tiffin("commit", name, "snapshot")
    assert tiffin("run", "--rm", "--network=none", "snapshot", "ls", "/made").word == "/made"
    assert tiffin.status(name) == "running"


def test_a_many_layered_image(tiffin: Tiffin, tmp_path: Path) -> None:
    """Deeper than overlayfs's mount options are long."""
    layout = images.Layout(tmp_path / "deep")
    layers = [images.base_layer(), *(images.layer({f"f{n}": str(n)}) for n in range(120))]
    layout.tag(layout.image(layers), "latest")
    tiffin("load", "-i", layout.path)
    (image,) = tiffin("images", "-q").lines
    assert tiffin(*RUN, image, "cat", "/f0", "/f60", "/f119").out == "060119"
