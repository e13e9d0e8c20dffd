"""`plugin ls|inspect|enable|disable`, with packages of a third party that are good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

VFS = """
from tiffin.hooks import hookimpl
TIFFIN_HOOK_VERSION = 1
@hookimpl
def storage_driver(name, context):
    '''vfs under another name.'''
    from tiffin_storage_vfs.driver import VfsDriver
    made = VfsDriver(context)
    made.name, made.preference = name, 1
    return made
"""


def package(folder: Path, name: str, entry: str, source: str, version: str = "1.5") -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[tiffin.plugins]\n{entry} = {name}_plugin\n")
    (folder / f"{name}_plugin.py").write_text(source)


@pytest.fixture
def site(tiffin: Tiffin, tmp_path: Path) -> Path:
    """A folder of packages that this tiffin sees."""
    folder = tmp_path / "site"
    folder.mkdir()
    tiffin.env["PYTHONPATH"] = str(folder)
    return folder


def states(tiffin: Tiffin) -> dict[str, str]:
    lines = tiffin("plugin", "ls", "--format", "{{.FullName}} {{.State}}").lines
    return dict(line.split(" ") for line in lines)


def test_a_broken_plugin_is_shown_and_stops_nothing(tiffin: Tiffin, site: Path) -> None:
    package(site, "broken", "storage.broken", "import nothing_like_this")
    package(site, "newer", "runtime.newer", "TIFFIN_HOOK_VERSION = 7")
    package(site, "audit", "consumer.audit", "raise RuntimeError('no')")
    listed = tiffin("plugin", "ls")
    assert "storage.broken: plugin storage.broken (broken_plugin) cannot be loaded" in listed.err
    assert "runtime.newer: plugin runtime.newer (newer_plugin) is made for version 7" in listed.err
    assert states(tiffin) == {
        **dict.fromkeys(states(tiffin), "enabled"),
        "storage.broken": "broken",
        "runtime.newer": "broken",
        "consumer.audit": "broken",
    }
    (shown,) = json.loads(tiffin("plugin", "inspect", "broken").out)
    assert (shown["Package"], shown["Version"], shown["State"]) == ("broken", "1.5", "broken")
    assert tiffin("run", "--rm", "--network=none", BUSYBOX, "echo", "well").out == "well\n"
    broken = tiffin.using("--storage-driver=broken")
    broken.fails("create", BUSYBOX, says="plugin storage.broken (broken_plugin) cannot be loaded")
    newer = tiffin.using("--runtime=newer")
    newer.fails("run", "--network=none", BUSYBOX, "true", says="this tiffin has 1")


def test_disable_and_enable(tiffin: Tiffin) -> None:
    assert tiffin("plugin", "disable", "vfs", "runtime.runc").lines == [
        "storage.vfs",
        "runtime.runc",
    ]
    assert states(tiffin)["storage.vfs"] == "disabled"
    vfs = tiffin.using("--storage-driver=vfs")
    vfs.fails("create", BUSYBOX, says="tiffin plugin enable storage.vfs")
    tiffin.using("--runtime=runc").fails("create", BUSYBOX, says="plugin enable runtime.runc")
    tiffin("run", "--rm", "--network=none", BUSYBOX, "true")
    tiffin("plugin", "enable", "storage.vfs", "runc")
    vfs("run", "--rm", "--network=none", BUSYBOX, "true")
    told = [(e["stream"], e["type"]) for e in tiffin.events("--filter", "type=plugin")]
    assert told == [
        ("plugin/storage.vfs", "plugin.disabled"),
        ("plugin/runtime.runc", "plugin.disabled"),
        ("plugin/storage.vfs", "plugin.enabled"),
        ("plugin/runtime.runc", "plugin.enabled"),
    ]
    tiffin("plugin", "enable", "runc")
    assert len(tiffin.events("--filter", "type=plugin")) == 4, "nothing changed"
    assert tiffin("system", "rebuild").code == 0
    assert set(states(tiffin).values()) == {"enabled"}


def test_what_is_in_use_is_not_disabled(tiffin: Tiffin) -> None:
    vfs = tiffin.using("--storage-driver=vfs")
    vfs("create", "--name=lunch", "--network=none", BUSYBOX, "true")
    tiffin.fails("plugin", "disable", "vfs", says="used by container lunch and 1 more")
    tiffin("plugin", "disable", "--force", "vfs")
    tiffin.fails("start", "lunch", says="storage driver 'vfs' is not used (it is disabled")
    tiffin("plugin", "enable", "vfs")
    tiffin("start", "lunch")


def test_two_packages_with_one_name(tiffin: Tiffin, site: Path) -> None:
    package(site, "shelf_a", "storage.shelf", VFS)
    package(site, "shelf_b", "storage.shelf", VFS)
    assert states(tiffin)["storage.shelf"] == "conflict"
    shelf = tiffin.using("--storage-driver=shelf")
    shelf.fails("create", BUSYBOX, says="several packages have it: shelf_a 1.5, shelf_b 1.5")
    tiffin.fails("plugin", "enable", "shelf", says="choose with --package")
    tiffin.fails("plugin", "enable", "--package=x", "shelf", says="has no plugin storage.shelf")
    tiffin("plugin", "enable", "--package=shelf_b", "shelf")
    (shown,) = json.loads(tiffin("plugin", "inspect", "shelf").out)
    assert (shown["State"], shown["Module"]) == ("enabled", "shelf_b_plugin")
    assert shown["Hooks"] == ["storage_driver"]
    shelf("run", "--rm", "--network=none", BUSYBOX, "true")
    shelf("rmi", "-a", "-f")


MARK = """
from tiffin.hooks import Amendment, hookimpl
@hookimpl{options}
def {function}({arguments}):
    before = spec["annotations"].get("org.lunch", "")
    spec["annotations"]["org.unrecorded"] = "1"
    return [Amendment("/annotations/org.lunch", before + {letter!r}, "to see the order")]
"""


def test_changes_of_config_json_in_their_order(tiffin: Tiffin, site: Path) -> None:
    """By name, but for tryfirst and trylast; each is told only what it takes, as by pluggy."""
    for name, letter, options, function, arguments in (
        ("alpha", "a", "(trylast=True)", "amend_spec", "container, spec, annotations"),
        ("beta", "b", "", "amend_spec", "spec"),
        ("gamma", "c", "(specname='amend_spec')", "mark", "annotations, spec"),
        ("delta", "d", "(tryfirst=True)", "amend_spec", "spec, container"),
    ):
        source = MARK.format(letter=letter, options=options, function=function, arguments=arguments)
        package(site, name, f"spec.{name}", source)
    tiffin.create("--name=lunch", "--network=none", BUSYBOX, "true")
    tiffin("init", "lunch")
    explained = tiffin("explain", "lunch").out
    (line,) = [line for line in explained.splitlines() if "org.lunch" in line]
    assert " dbca " in line and "plugin spec.alpha: to see" in line, line
    assert "org.unrecorded" not in explained
    tiffin("rm", "-f", "-t", "0", "lunch")
    assert tiffin("plugin", "inspect", "--format={{json .Hooks}}", "gamma").word == '["amend_spec"]'


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("    return 1 / 0", "plugin spec.bad failed to amend config.json: division by zero"),
        ("    return [Amendment('/lunch', 5)]", "no member 'lunch'"),
        ("    return 5", "spec.bad"),
    ],
)
def test_a_change_that_fails_names_its_plugin(
    tiffin: Tiffin, site: Path, source: str, says: str
) -> None:
    head = "from tiffin.hooks import Amendment, hookimpl\n@hookimpl\ndef amend_spec(spec):\n"
    package(site, "bad", "spec.bad", head + source)
    tiffin.create("--name=lunch", "--network=none", BUSYBOX, "true")
    line = tiffin.fails("init", "lunch", says=says)
    assert "internal error" not in line
    assert tiffin.status("lunch") == "created", "nothing half-done remains"
    tiffin("plugin", "disable", "spec.bad")
    tiffin("start", "--attach", "lunch")


HALF = """
from tiffin.hooks import hookimpl
class Half:
    name, preference, labels_mounts = "half", 1, False
    async def probe(self): return None
    async def has_layer(self, chain_id): return False
@hookimpl
def storage_driver(name): return Half() if name == "half" else None
"""
NONE = """
from tiffin.hooks import hookimpl
@hookimpl
def storage_driver(name): return None
"""
RAISES = """
from tiffin.hooks import hookimpl
@hookimpl
def oci_runtime(name, context): return context.settings["path"]
"""


def test_a_driver_that_is_half_is_named_before_anything_is_made(tiffin: Tiffin, site: Path) -> None:
    package(site, "half", "storage.half", HALF)
    package(site, "nothing", "storage.nothing", NONE)
    package(site, "mute", "consumer.mute", "")
    half = tiffin.using("--storage-driver=half")
    half.fails("pull", BUSYBOX, says="plugin storage.half has no changes, diff, is_mounted, mount")
    nothing = tiffin.using("--storage-driver=nothing")
    nothing.fails("pull", BUSYBOX, says="plugin storage.nothing makes no storage driver 'nothing'")
    says = "plugin consumer.mute implements neither event_consumer nor on_event"
    tiffin.fails("events", "export", "mute", says=says)
    package(site, "wrong", "runtime.wrong", NONE.replace("storage_driver", "oci_runtime"))
    package(site, "raises", "runtime.raises", RAISES)
    raises = tiffin.using("--runtime=raises")
    raises.fails("create", BUSYBOX, says="the runtime driver 'raises' cannot be made: KeyError")
    assert tiffin("images", "-q").out == ""
    assert tiffin("run", "--rm", "--network=none", BUSYBOX, "echo", "dal").word == "dal"


def test_bad_input(tiffin: Tiffin) -> None:
    tiffin.fails("plugin", "disable", "nosuch", says="no such plugin: nosuch")
    tiffin.fails("plugin", "inspect", "--format={{.State}}", "nosuch", says="no such plugin")
    tiffin.fails("plugin", "ls", "--filter=colour=red", says="unknown filter")
