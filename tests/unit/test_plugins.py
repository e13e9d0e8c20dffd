"""Finding and loading plugins."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tiffin import plugins
from tiffin.errors import DriverError, UserError
from tiffin.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "root").mkdir()
    return Layout(str(tmp_path / "root"), str(tmp_path / "run"))


def test_bundled_plugins_are_found_through_entry_points_only() -> None:
    found = plugins.scan()
    assert set(found) >= {
        "storage.overlay", "storage.vfs", "runtime.runc", "runtime.crun", "network.bridge",
        "label.selinux", "label.apparmor",
    }  # fmt: skip


def test_index_is_used_while_nothing_changes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plugins.index(layout)
    monkeypatch.setattr(plugins, "scan", lambda: pytest.fail("scanned again"))
    assert plugins.index(layout) == first
    # however we were started: the script's folder is not where packages are
    monkeypatch.setattr(sys, "path", ["/somewhere/bin", *sys.path])
    assert plugins.index(layout) == first


def test_index_is_made_again_when_a_package_folder_changes(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    plugins.index(layout)
    info = folder / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tiffin.plugins]\nstorage.other = other_plugin\n")
    os.utime(folder, (1, 1))
    assert plugins.index(layout)["storage.other"] == "other_plugin"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"stamp": 1}', "\xff"])
def test_unreadable_index_is_made_again(layout: Layout, text: str) -> None:
    Path(layout.plugin_index).write_text(text)
    assert "storage.vfs" in plugins.index(layout)
    assert "plugins" in json.loads(Path(layout.plugin_index).read_text())


def test_unknown_driver_is_named_with_those_there_are(layout: Layout) -> None:
    with pytest.raises(UserError, match=r"no storage driver 'nope' .*overlay, vfs"):
        plugins.Plugins(layout).driver("storage", "nope")


def test_broken_plugin_is_named_and_stops_nothing_else(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {**plugins.scan(), "storage.broken": "no_such_module_at_all"}
    monkeypatch.setattr(plugins, "index", lambda _: found)
    manager = plugins.Plugins(layout)
    with pytest.raises(DriverError, match=r"storage\.broken"):
        manager.driver("storage", "broken")
    assert manager.driver("storage", "vfs").name == "vfs"


def test_a_driver_is_loaded_alone(layout: Layout) -> None:
    manager = plugins.Plugins(layout)
    manager.driver("storage", "vfs")
    assert [name for name, _ in manager.manager.list_name_plugin()] == ["storage.vfs"]
