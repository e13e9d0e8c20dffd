"""Images whose configs and layers mean harm: what they do to a terminal, to the host's files, and
to who a process is."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import images
from support.cli import BUSYBOX, Tiffin, eventually
from support.terminal import terminal

from tiffin.testing import layers
from tiffin.testing.layers import CAPABILITY, directory, member

EVIL = "\x1b]0;owned\x07\x1b[31m\n\r\x9b2J\u202e"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
DRIVERS = ["overlay", "vfs"]


def load(tiffin: Tiffin, directory: Path, *tars: bytes, **config: Any) -> str:
    """An image of busybox and these layers; its id."""
    layout = images.Layout(directory)
    layout.tag(layout.image([images.base_layer(), *tars], config=config), "x")
    before = set(tiffin("images", "-q", "--no-trunc").lines)
    tiffin("load", "-i", directory)
    (image,) = set(tiffin("images", "-q", "--no-trunc").lines) - before
    return image


# --- on the terminal ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil(shared: Tiffin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with escape sequences wherever a config can have text; a container of it is there:
    `evil`, which has written some to its log and into the name of a file."""
    layout = images.Layout(tmp_path_factory.mktemp("evil") / "layout")
    described = layout.image(
        [images.base_layer(), images.layer({f"layer{EVIL.replace('/', '')}": "x"})],
        config={
            "Cmd": ["sh", "-c", f": '{EVIL}'; touch \"/tmp/$(printf '\\033[31m')\"; "
                    "printf '\\033[31mlog\\n'; exec sleep 1000"],
            "Env": [f"A={EVIL}", EVIL, f"{EVIL}=x", "=x", "PATH=/bin"],
            "Labels": {EVIL: EVIL, "a\0b": "c\0d"},
            "ExposedPorts": {EVIL: {}},
            "Volumes": {f"/v{EVIL}": {}},
            "Healthcheck": {"Test": ["CMD", EVIL]},
            "OnBuild": [EVIL],
            "Hostname": EVIL,
        },
    )  # fmt: skip
    manifest = json.loads(layout.read(described))
    config = json.loads(layout.read(manifest["config"]))
    config |= {"author": EVIL, "created": EVIL}
    config["history"] = [dict.fromkeys(("created", "created_by", "comment", "author"), EVIL)] * 2
    manifest["config"] = layout.json(config, manifest["config"]["mediaType"])
    manifest["annotations"] = {EVIL: EVIL}
    layout.tag(layout.json(manifest, images.MANIFEST), "evil")
    shared("load", "-i", layout.path)
    name = "localhost/evil:latest"
    shared("run", "-d", "--name=evil", "--network=none", name)
    eventually(lambda: shared("logs", "evil").out)
    yield name


WRITTEN = [
    ["images", "--digests"], ["history", "IMAGE"], ["history", "--no-trunc", "IMAGE"],
    ["inspect", "IMAGE"], ["image", "tree", "IMAGE"], ["ps", "-a", "--no-trunc"],
    ["ps", "-a", "--format", "json"], ["ps", "-a", "--format", "table {{.Names}} {{.Labels}}"],
    ["inspect", "evil"], ["explain", "evil"], ["history", "evil"], ["diff", "evil"],
    ["top", "evil"], ["top", "evil", "-o", "pid,args"], ["port", "evil"],
    ["stats", "--no-stream", "evil"], ["volume", "ls"], ["volume", "inspect", "-a"], ["events"],
    ["events", "--format", "podman"], ["events", "--format", "docker"],
    ["events", "--format", "json"],
    ["system", "df", "-v"], ["sql", "select * from containers"], ["sql", "select * from images"],
    ["exec", "-w", f"/{EVIL}", "evil", "true"], ["run", "--network=none", "--rm", "IMAGE", EVIL],
    ["run", EVIL], ["rm", EVIL], ["create", "--name", EVIL, "IMAGE"],
    ["create", "-u", EVIL, "IMAGE"],
]  # fmt: skip


def test_no_escape_sequence_of_an_image_gets_through(shared: Tiffin, evil: str) -> None:
    """CWE-150: names, labels, commands, files and errors on a terminal or in a log of ours."""
    for words in WRITTEN:
        done = shared.attempt(*(evil if word == "IMAGE" else word for word in words))
        assert "Traceback" not in done.err, words
        for text in (done.out, done.err):
            assert not UNSAFE.search(text), (words, text)
    assert shared.status("evil") == "running"


TEMPLATES = [
    ["images", "--format", "{{.}}"],
    ["history", "--format", "{{.CreatedBy}} {{.Comment}}", "IMAGE"],
    ["inspect", "--format", "{{.Config.Labels}} {{.Author}} {{.Config.Env}}", "IMAGE"],
    ["inspect", "--format", "{{.Config.Labels}} {{.Config.Cmd}} {{json .Config.Labels}}", "evil"],
    ["ps", "--format", "{{.Labels}} {{.Command}}"],
    ["explain", "--format", "{{.}}", "evil"],
    ["events", "--format", "{{.}}"],
]


def test_templates_are_printable_on_a_terminal_and_exact_in_a_pipe(
    shared: Tiffin, evil: str
) -> None:
    for words in TEMPLATES:
        argv = shared.argv(*(evil if word == "IMAGE" else word for word in words))
        with terminal(argv, shared.environment()) as person:
            seen = person.rest()
        assert "owned" in seen or "\\x1b" in seen, words
        assert not UNSAFE.search(seen.replace("\r\n", "\n")), (words, seen)
    form = '{{index .Config.Labels "a\\x00b"}}{{.Author}}'
    assert EVIL in shared("inspect", "--format", form, evil).out


# --- layers ---------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("the host's")
    return tmp_path / "outside"


def untouched(outside: Path) -> bool:
    secret = outside / "secret"
    return os.listdir(outside) == ["secret"] and secret.read_text() == "the host's"


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_an_image_may_and_may_not_set(shared: Tiffin, tmp_path: Path, driver: str) -> None:
    """Set-user-id and capabilities of files are the image's; overlayfs's and the host's attributes
    are not; names may be any bytes."""
    chosen = shared.using(f"--storage-driver={driver}")
    headers = layers.xattrs(
        security__capability=CAPABILITY,
        user__mine=b"1",
        user__overlay__opaque=b"y",
        trusted__overlay__redirect=b"/etc",
        trusted__overlay__opaque=b"y",
        trusted__overlay__metacopy=b"",
        security__selinux=b"system_u:object_r:bin_t:s0\0",
        security__ima=b"x",
        system__posix_acl_access=b"x",
    )
    tar = layers.layer(
        directory("d", 0o1777, pax_headers=headers),
        member("d/suid", b"#!/bin/sh\n", mode=0o6755, uid=7, gid=8, pax_headers=headers),
        member("d/\udcff\udcfe", b"bytes"),
        member("d/e\u0301", b"two"),
        member("d/\u00e9", b"one"),
        member("d/twice", b"first"),
        member("d/twice", b"second"),
    )
    image = load(chosen, tmp_path / driver, tar)
    name = chosen.create("--network=none", image)
    root = Path(chosen("mount", name).word)
    file = root / "d/suid"
    assert stat.S_IMODE(file.stat().st_mode) == 0o6755
    assert (file.stat().st_uid, file.stat().st_gid) == (7, 8)
    assert sorted(os.listxattr(file)) == ["security.capability", "user.mine"]
    assert os.getxattr(file, "security.capability") == CAPABILITY
    kept = [key for key in os.listxattr(root / "d") if not key.startswith("trusted.overlay")]
    assert sorted(kept) == ["security.capability", "user.mine"]
    assert os.listdir(os.fsencode(root / "d")).count(b"\xff\xfe") == 1
    assert (root / "d/e\u0301").read_text() == "two" and (root / "d/\u00e9").read_text() == "one"
    assert (root / "d/twice").read_text() == "second"
    chosen("rm", name)
    chosen("rmi", image)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_layer_is_not_had_by_naming_it(tiffin: Tiffin, tmp_path: Path, driver: str) -> None:
    """An image whose config claims another image's layer, but which brings other bytes: else
    anybody could look into the images that are here, by the digests of their layers."""
    chosen = tiffin.using(f"--storage-driver={driver}")
    layout = images.Layout(tmp_path / "layout")
    private = images.layer({"private": "of another image"})
    honest = layout.image([images.base_layer(), private])
    layout.tag(honest, "honest")
    manifest = json.loads(layout.read(honest))
    brought = images.compress(images.layer({"brought": "x"}), "gzip")
    manifest["layers"][1] = layout.blob(brought, manifest["layers"][1]["mediaType"])
    chosen("load", "-i", layout.path)
    thief = images.Layout(tmp_path / "thief")
    for path in (layout.path / "blobs/sha256").iterdir():
        (thief.path / "blobs/sha256" / path.name).write_bytes(path.read_bytes())
    thief.tag(thief.json(manifest, images.MANIFEST), "thief")
    chosen.fails("load", "-i", str(thief.path), says="not what its image says")
    # The same bytes, compressed in another way, are what they were.
    manifest["layers"][1] = thief.blob(private, f"{images.OCI}.layer.v1.tar")
    again = images.Layout(tmp_path / "again")
    for path in (thief.path / "blobs/sha256").iterdir():
        (again.path / "blobs/sha256" / path.name).write_bytes(path.read_bytes())
    again.tag(again.json(manifest, images.MANIFEST), "again")
    chosen("load", "-i", again.path)


# --- configs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
def test_volumes_of_an_image_take_nothing_from_the_host(
    shared: Tiffin, tmp_path: Path, outside: Path, driver: str
) -> None:
    """CVE-2022-23648: a VOLUME that is a path with `..`, or leads through a link to the host, was
    filled with the host's files. CVE-2019-16884: one over /proc took away the kernel's files."""
    chosen = shared.using(f"--storage-driver={driver}")
    tar = images.layer({"link": f"->{outside}", "up": f"->{'../' * 20}{outside}"})
    places = [
        "/link", "/up", f"/{'../' * 20}{outside}", f"/link/../..{outside}", "/proc",
        "/proc/self/attr", "/proc/sys", "/sys", "/dev", "/etc/passwd", "/./",
    ]  # fmt: skip
    layout = images.Layout(tmp_path / "layout")
    base = [images.base_layer(), tar]
    places = places if driver == "overlay" else places[:3]
    for number, place in enumerate(places):
        config: dict[str, Any] = {"Volumes": {place: {}}}
        described = layout.image(base, compression="none", config=config)
        layout.tag(described, f"localhost/{driver}{number}")
    chosen("load", "-i", layout.path)
    for number, place in enumerate(places):
        image = f"localhost/{driver}{number}"
        probe = "cat /link/secret /up/secret; cat /proc/self/attr/current >/dev/null; mount"
        done = chosen.attempt("run", "--rm", "--network=none", image, "sh", "-c", probe)
        assert "the host's" not in done.out + done.err, place
        if place.startswith("/proc") and not done.code:
            assert " on /proc type proc" in done.out, place
        assert untouched(outside)
    assert not list(chosen.root.glob("volumes/*/_data/secret"))


def test_a_user_of_the_image_is_no_name_of_the_hosts(shared: Tiffin, tmp_path: Path) -> None:
    """Users are looked up in the image; a number is a number (CVE-2016-3697), and never wraps
    around to root (CVE-2024-40635)."""
    tar = images.layer({"etc/passwd": "root:x:0:0::/:\n1000:x:0:0::/:\nann:x:7:8::/:\n"})
    image = load(shared, tmp_path / "users", tar)
    run = ("run", "--rm", "--network=none")
    for given, uid in (("1000", "1000"), ("ann", "7"), ("4294967294", "4294967294")):
        assert shared(*run, "-u", given, image, "id", "-u").word == uid
    for given in ("daemon", "4294967296", "4294967295", "-1", "18446744073709551616"):
        shared.fails(*run, "-u", given, image, "id", says="no user")
    shared.fails(*run, "-u", "ann:daemon", image, "id", says="no group")
    for number, given in enumerate(("daemon", "4294967296")):
        evil = load(shared, tmp_path / f"user{number}", tar, User=given)
        shared.fails(*run, evil, "id", says="no user")


def test_an_image_cannot_choose_a_directory_of_ours(shared: Tiffin, tmp_path: Path) -> None:
    """CVE-2024-21626 by an image: a working directory that is a descriptor of the runtime's."""
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    tar = images.layer({"work": "->/proc/self/fd/7"})
    image = load(shared, tmp_path / "image", tar, WorkingDir="/work")
    given = [[], *(["-w", f"/proc/self/fd/{number}"] for number in (3, 7, 8))]
    for runtime in ("runc", "crun"):
        chosen = shared.using(f"--runtime={runtime}")
        for words in given:
            run = ("run", "--rm", "--network=none", *words, image)
            done = chosen.attempt(*run, "cat", f"{'../' * 20}{secret}")
            assert "the host's" not in done.out and done.code, (words, runtime)
    shared("rmi", "-f", image)


@pytest.mark.parametrize("place", ["dev", "proc", "sys"])
def test_a_link_where_the_runtime_works_by_name(
    shared: Tiffin, tmp_path: Path, outside: Path, place: str
) -> None:
    """CVE-2026-41579: with /dev a link, runc deletes and makes files where it leads on the host.
    CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: with /proc a link, what should have gone to the
    kernel (labels, masks) went to files of the image."""
    image = load(shared, tmp_path / "image", images.layer({place: f"->{outside}"}))
    for runtime in ("runc", "crun"):
        run = ("run", "--rm", "--network=none", image, "true")
        shared.using(f"--runtime={runtime}").fails(
            *run, says=f"/{place} of the container is a link"
        )
        assert untouched(outside)


def test_a_working_directory_behind_a_link_is_made_inside(
    shared: Tiffin, tmp_path: Path, outside: Path
) -> None:
    """CVE-2026-55686: a WORKDIR that is not there, beneath a link to the host."""
    tar = images.layer({"link": f"->{outside}", "up": f"->{'../' * 20}{outside}"})
    image = load(shared, tmp_path / "image", tar, WorkingDir="/link/new")
    for runtime in ("runc", "crun"):
        for words in ([], ["-w", "/up/new"], ["-w", f"/..{outside}/new"]):
            run = ("run", "--rm", "--network=none", *words, image, "true")
            shared.using(f"--runtime={runtime}").attempt(*run)
            assert untouched(outside)


def test_an_image_gets_nothing_by_its_variables_and_labels(shared: Tiffin, tmp_path: Path) -> None:
    """CVE-2026-57231: a variable without a value took the engine's own. CVE-2026-53488: labels
    went on as annotations, which runtimes obey."""
    labels = {"run.oci.keep_original_groups": "1", "run.oci.hooks.stdout": "/x", "module": "x"}
    names = ["PASSWORD", "PASS*", "*", "", "=x", "PASSWORD\n"]
    image = load(shared, tmp_path / "image", Env=["PATH=/bin", *names], Labels=labels)
    ours = {"PASSWORD": "hunter2"}
    run = ("run", "--network=none", "--name=labelled", image)
    assert "hunter2" not in shared(*run, "env", env=ours).out
    (config,) = shared.root.glob(f"containers/{shared.inspect('labelled')['Id']}/config.json")
    assert not set(json.loads(config.read_text())["annotations"]) & set(labels)
    shared("rm", "labelled")


# --- the store ------------------------------------------------------------------------------------


def test_an_ordinary_user_sees_nothing_of_the_store(tiffin: Tiffin, tmp_path: Path) -> None:
    """CVE-2021-41091, CVE-2024-25621: set-user-id programs of images were within everybody's reach.
    Even where somebody has made the store's directories for all to see."""
    for top in (tiffin.root, tiffin.run):
        top.mkdir(mode=0o755)
    tiffin.base.chmod(0o755)
    tar = layers.layer(member("suid", b"#!/bin/sh\n", mode=0o6755))
    for driver in DRIVERS:
        chosen = tiffin.using(f"--storage-driver={driver}")
        image = load(chosen, tmp_path / driver, tar, Labels={"driver": driver})
        secret = ("-e", "PASSWORD=hunter2", "-v", "box:/v")
        chosen("run", "-d", "--network=none", *secret, image, "sh", "-c", "echo hunter2; sleep 999")
    find = f"find {tiffin.base} -name suid -o -type f -readable; grep -rl hunter2 {tiffin.base}"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", find],
        capture_output=True,
        text=True,
    )
    assert "denied" in done.stderr
    assert [Path(line).name for line in done.stdout.splitlines()] == ["plugins.json"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_is_hidden_stays_hidden_whatever_dev_null_is(
    shared: Tiffin, tmp_path: Path, runtime: str
) -> None:
    """CVE-2025-31133: runc hides files of /proc by mounting the container's /dev/null over them. An
    image with a VOLUME there could make that a link: to what is then shown in their place, or to
    nothing, and then they are not hidden."""
    chosen = shared.using(f"--runtime={runtime}")
    tar = images.layer(
        {
            "dev": None,
            "dev/null": "->/proc/sys/kernel/hostname",
            "elsewhere": "->/dev",
            "gone/null": "->/nowhere",
        }
    )
    probe = ("sh", "-c", "grep -c ' /proc/keys proc' /proc/mounts; cat /proc/keys | head -c 9")
    before = shared("ps", "-aq").out
    for number, place in enumerate(("/dev", "/elsewhere", "/dev/./null", "/gone/../dev/")):
        config = {"Volumes": {place: {}}, "Labels": {"for": runtime}}
        image = load(shared, tmp_path / f"{runtime}{number}", tar, **config)
        chosen.fails("run", "--rm", "--network=none", image, *probe, says="/dev/null")
    run = ("run", "--rm", "--network=none")
    chosen.fails(*run, "-v", "filled:/dev", image, *probe, says="/dev/null")
    chosen.fails(*run, "-v", f"{tmp_path}:/dev", BUSYBOX, *probe, says="/dev/null")
    chosen.fails(*run, "--tmpfs=/dev", image, *probe, says="/dev/null")
    chosen.fails(*run, "--tmpfs=/dev/null", BUSYBOX, *probe, says="/dev/null")
    for words in ((BUSYBOX,), ("-v", "/dev:/dev", BUSYBOX)):
        assert chosen.attempt(*run, *words, *probe).out == "0\n", words
    assert shared("ps", "-aq").out == before
    shared("volume", "prune", "-f")
