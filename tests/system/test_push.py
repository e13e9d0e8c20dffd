"""`push`, `login`, `save`: images on their way out, byte by byte as they are."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import images, registry
from support.cli import BUSYBOX, Tiffin

LOGIN = ("cook", "s3cret dal")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry that wants a login."""
    with registry.docker_registry(tmp_path_factory.mktemp("closed") / "r", LOGIN) as address:
        yield address


@pytest.fixture
def own(tiffin: Tiffin, tmp_path: Path) -> Tiffin:
    """tiffin with an auth.json of its own, as yet missing."""
    tiffin.env["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth/auth.json")
    return tiffin


def get(address: str, path: str) -> bytes:
    kinds = ", ".join((images.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"))
    request = urllib.request.Request(f"http://{address}/v2/{path}", headers={"Accept": kinds})
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
        return data


def blob(tiffin: Tiffin, digest: str) -> bytes:
    return (tiffin.root / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_arrives_is_what_was_pulled(
    tiffin: Tiffin, tmp_path: Path, registry_address: str, compression: str
) -> None:
    layout = images.simple(tmp_path / "l", compression=compression)
    tiffin("load", "-i", layout.path)
    (image,) = tiffin("images", "-q").lines
    name = f"{registry_address}/push/{compression}:1"
    done = tiffin("push", "--digestfile", tmp_path / "digest", image, name)
    assert done.out == ""
    manifest = get(registry_address, f"push/{compression}/manifests/1")
    digest = (tmp_path / "digest").read_text()
    assert manifest == blob(tiffin, digest) == layout.read(layout.manifests[0])
    document = json.loads(manifest)
    for one in (document["config"], *document["layers"]):
        assert get(registry_address, f"push/{compression}/blobs/{one['digest']}") == blob(
            tiffin, one["digest"]
        )
    (event,) = tiffin.events("--filter", "event=push")
    assert event["data"] == {"destination": name, "digest": digest}
    tiffin("rmi", "-f", image)
    tiffin("pull", "-q", name)
    assert "busybox" in tiffin("run", "--rm", "--network=none", name, "busybox").out.lower()


def test_nothing_is_sent_twice(tiffin: Tiffin, registry_address: str) -> None:
    first, second = f"{registry_address}/twice/one", f"{registry_address}/twice/two"
    tiffin("pull", BUSYBOX)
    tiffin("run", "--network=none", "--name=x", BUSYBOX, "touch", f"/{os.urandom(4).hex()}")
    tiffin("commit", "-q", "x", first)
    assert tiffin("push", first).err.count(" exists") == 0
    again = tiffin("push", first).err
    assert again.count("exists") == 3, again
    tiffin("tag", first, second)
    mounted = tiffin("push", second).err
    assert mounted.count("mounted") == 2, "both layers; the config is in no list of layers"
    assert get(registry_address, "twice/two/manifests/latest")


def test_to_where_its_name_says(tiffin: Tiffin, registry_address: str) -> None:
    tiffin("pull", BUSYBOX)
    name = f"{registry_address}/named/app:v2"
    tiffin("tag", BUSYBOX, name)
    tiffin("push", "-q", name)
    assert json.loads(get(registry_address, "named/app/tags/list"))["tags"] == ["v2"]
    tiffin("push", "-q", BUSYBOX, f"docker://{registry_address}/named/app:v3")
    tiffin.fails("push", "no-such-image", says="no-such-image")
    image = tiffin("images", "-q").lines[0]
    tiffin.fails("push", image, says="where to")
    tiffin.fails("push", BUSYBOX, "oci-archive:x.tar", says="save")
    tiffin.fails("push", BUSYBOX, "127.0.0.1:9/nobody", says="127.0.0.1:9")


def test_login(own: Tiffin, tmp_path: Path, closed: str) -> None:
    own("pull", BUSYBOX)
    name, password = LOGIN
    target = f"{closed}/private/app"
    own.fails("push", BUSYBOX, target, says="log in")
    assert "401" in own("login", "-u", name, "--password-stdin", closed, input="x\n", code=125).err
    file = tmp_path / "auth/auth.json"
    assert not file.exists()
    done = own("login", "-u", name, "--password-stdin", closed, input=f"{password}\n")
    assert done.out == "Login Succeeded!\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert own("login", "--get-login", closed).word == name
    own("push", "-q", BUSYBOX, target)
    own("pull", "-q", target)
    images.skopeo("inspect", f"--authfile={file}", "--tls-verify=false", f"docker://{target}")
    assert own("logout", closed).out == f"Removed login credentials for {closed}\n"
    own.fails("logout", closed, says="not logged into")
    own.fails("login", "--get-login", closed, says="not logged into")
    own.fails("pull", "-q", target, says="log in")
    own("push", "-q", "--creds", f"{name}:{password}", BUSYBOX, target)
    own.fails("login", closed, says="password")


def test_others_logins_stay(own: Tiffin, tmp_path: Path, closed: str) -> None:
    file = tmp_path / "auth/auth.json"
    file.parent.mkdir()
    file.write_text('{"auths": {"other.example": {"auth": "YTpi"}}, "credHelpers": {"x": "y"}}')
    own("login", "-u", LOGIN[0], "-p", LOGIN[1], closed)
    document = json.loads(file.read_text())
    assert document["credHelpers"] == {"x": "y"}
    assert set(document["auths"]) == {"other.example", closed}
    own("logout", closed)
    assert set(json.loads(file.read_text())["auths"]) == {"other.example"}
    own("logout", "--all")
    assert json.loads(file.read_text())["auths"] == {}
    file.write_text("no JSON")
    own.fails("login", "-u", LOGIN[0], "-p", LOGIN[1], closed, says="auth.json")
    assert file.read_text() == "no JSON"


def test_a_login_of_skopeo_is_ours(own: Tiffin, tmp_path: Path, closed: str) -> None:
    file = tmp_path / "skopeo.json"
    subprocess.run(
        ["skopeo", "login", f"--authfile={file}", "--tls-verify=false", "-u", LOGIN[0],
         "--password-stdin", closed],
        input=LOGIN[1].encode(), check=True, capture_output=True,
    )  # fmt: skip
    own("pull", BUSYBOX)
    own("push", "-q", f"--authfile={file}", BUSYBOX, f"{closed}/from/skopeo")
    assert own("login", f"--authfile={file}", "--get-login", closed).word == LOGIN[0]


# --- save -----------------------------------------------------------------------------------------


@pytest.fixture
def two(tiffin: Tiffin) -> Tiffin:
    """Two images that share a layer: `embedded:busybox`, and `more` with another name `again`."""
    tiffin("run", "--network=none", "--name=x", BUSYBOX, "sh", "-c", "echo more > /more")
    tiffin("commit", "-q", "x", "more")
    tiffin("tag", "more", "again")
    tiffin("rm", "x")
    return tiffin


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive", "oci-dir"])
def test_saved_and_loaded_again(two: Tiffin, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "saved"
    two("save", "--format", kind, "-o", path, BUSYBOX, "more", "again")
    before = dict.fromkeys(two("images", "-q", "--no-trunc").lines, 1)
    stored = images.blobs(two.root)
    two.empty()
    loaded = two("load", "-i", path).out
    for name in ("embedded:busybox", "more:latest", "again:latest"):
        assert f"localhost/{name}" in loaded
    assert dict.fromkeys(two("images", "-q", "--no-trunc").lines, 1) == before
    if kind != "docker-archive":
        assert images.blobs(two.root) == stored
    assert two("run", "--rm", "--network=none", "again", "cat", "/more").out == "more\n"


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_blobs_are_bit_by_bit_and_each_is_there_once(
    two: Tiffin, tmp_path: Path, kind: str
) -> None:
    for name in ("one", "two"):
        two("save", "--format", kind, "-o", tmp_path / name, BUSYBOX, "more")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    piped = subprocess.run(
        two.argv("save", "--format", kind, BUSYBOX, "more"), capture_output=True, check=True
    )
    assert piped.stdout == (tmp_path / "one").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        names = archive.getnames()
        assert len(names) == len(set(names))
        for member in archive.getmembers():
            digest = Path(member.name).name.removesuffix(".tar").removesuffix(".json")
            if len(digest) == 64:
                file = archive.extractfile(member)
                assert file is not None and file.read() == blob(two, digest)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_it(tiffin: Tiffin, tmp_path: Path, kind: str) -> None:
    """Compressed layers in a docker-archive as well."""
    layout = images.simple(tmp_path / "l", compression="gzip")
    tiffin("load", "-i", layout.path)
    image = tiffin("images", "-q").word
    tiffin("tag", image, "app")
    tiffin("save", "--format", kind, "-o", tmp_path / "a.tar", "app")
    (tmp_path / "out").mkdir()
    images.skopeo("copy", f"{kind}:{tmp_path}/a.tar", f"dir:{tmp_path}/out")
    assert (tmp_path / "out/manifest.json").exists()


def test_into_a_layout_that_has_others(two: Tiffin, tmp_path: Path) -> None:
    path = tmp_path / "layout"
    two("save", "--format=oci-dir", "-o", path, BUSYBOX)
    two("save", "--format=oci-dir", "-o", path, "more")
    two("save", "--format=oci-dir", "-o", path, "more")
    index = json.loads((path / "index.json").read_text())
    names = [e["annotations"]["org.opencontainers.image.ref.name"] for e in index["manifests"]]
    assert names == ["localhost/embedded:busybox", "localhost/more:latest"]


def test_a_directory_of_one_image(two: Tiffin, tmp_path: Path) -> None:
    path = tmp_path / "dir"
    two("save", "--format=docker-dir", "-o", path, "more")
    two("save", "--format=docker-dir", "-o", path, "more")
    (tmp_path / "out").mkdir()
    images.skopeo("copy", f"dir:{path}", f"oci:{tmp_path}/out/l:x")
    image = two("images", "-q", "--no-trunc", "more").word
    two.empty()
    assert image.removeprefix("sha256:") in two("load", "-i", path).out
    assert two("run", "--rm", "--network=none", image, "cat", "/more").out == "more\n"
    two.fails("save", "--format=docker-dir", "-o", path, image, image, says="one image")
    two.fails("save", "--format=docker-dir", "-o", tmp_path, image, says="other files")
    (path / "manifest.json").write_text("[]")
    two.fails("load", "-i", path, says="manifest.json")


def test_what_is_loaded_over_itself_leaves_nothing_else(two: Tiffin, tmp_path: Path) -> None:
    two("save", "-o", tmp_path / "a.tar", BUSYBOX)
    count = len(images.blobs(two.root))
    two("load", "-i", tmp_path / "a.tar")
    assert len(images.blobs(two.root)) == count


def test_what_cannot_be_saved(two: Tiffin, tmp_path: Path) -> None:
    path = tmp_path / "x"
    two.fails("save", "-o", path, "nothing", says="nothing")
    two.fails("save", "--format=zip", "-o", path, BUSYBOX, says="zip")
    two.fails("save", "--format=oci-dir", BUSYBOX, says="--output")
    two.fails("save", "-o", tmp_path / "no/dir", BUSYBOX, says="no/dir")
    assert not path.exists()
