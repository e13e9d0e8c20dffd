"""Finding and loading plugins: the index, conflicts, versions, order."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tiffin import hooks, plugin_index, plugins
from tiffin.errors import DriverError, UserError
from tiffin.layout import Layout
from tiffin.plugin_index import Decision, Entry


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "root").mkdir()
    return Layout(str(tmp_path / "root"), str(tmp_path / "run"))


@pytest.fixture
def install(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> plugins.Plugins:
    """Plugins that `add` adds to."""
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (tmp_path / "modules").mkdir()
    return plugins.Plugins(layout)


def package(folder: Path, name: str, entry: str, source: str = "", version: str = "1") -> None:
    """A distribution with one plugin, as pip leaves it."""
    module = f"{name.replace('-', '_')}_plugin"
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[tiffin.plugins]\n{entry} = {module}\n")
    (folder / f"{module}.py").write_text(source)


def add(found: plugins.Plugins, tmp_path: Path, name: str, source: str) -> None:
    """One more plugin in the index, from source."""
    module = f"mod_{name.replace('.', '_')}_{os.urandom(4).hex()}"
    (tmp_path / f"modules/{module}.py").write_text(source)
    found.index.plugins[name] = module


# --- the index ------------------------------------------------------------------------------------


def test_bundled_plugins_are_found_through_entry_points_only() -> None:
    found = plugin_index.scan()
    assert set(found) >= {
        "storage.overlay", "storage.vfs", "runtime.runc", "runtime.crun", "network.bridge",
        "label.selinux", "label.apparmor", "storage.btrfs", "runtime.runsc",
    }  # fmt: skip


def test_index_is_used_while_nothing_changes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plugin_index.load(layout)
    monkeypatch.setattr(plugin_index, "entries", lambda: pytest.fail("scanned again"))
    assert plugin_index.load(layout).plugins == first.plugins
    # however we were started: the script's folder is not where packages are
    monkeypatch.setattr(sys, "path", ["/somewhere/bin", *sys.path])
    assert plugin_index.load(layout).plugins == first.plugins


def test_index_is_made_again_when_a_package_folder_changes(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    plugin_index.load(layout)
    package(folder, "other", "storage.other")
    os.utime(folder, (1, 1))
    assert plugin_index.load(layout).plugins["storage.other"] == "other_plugin"


def test_index_is_made_again_after_a_decision(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "storage.vfs" in plugin_index.load(layout).plugins
    off = {"storage.vfs": Decision(False, "")}
    monkeypatch.setattr(plugin_index, "decisions", lambda layout: off)
    assert "storage.vfs" in plugin_index.load(layout).plugins
    plugin_index.touch(layout)
    assert "storage.vfs" not in plugin_index.load(layout).plugins
    with pytest.raises(UserError, match=r"'vfs' is not used .*tiffin plugin enable storage\.vfs"):
        plugins.Plugins(layout).driver("storage", "vfs")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"stamp": 1}', "\xff"])
def test_unreadable_index_is_made_again(layout: Layout, text: str) -> None:
    Path(layout.plugin_index).write_text(text)
    assert "storage.vfs" in plugin_index.load(layout).plugins
    assert "plugins" in json.loads(Path(layout.plugin_index).read_text())


TWO = [Entry("storage.shelf", "a_mod", "a", "1.0"), Entry("storage.shelf", "b_mod", "b", "2.0")]


def test_a_name_that_two_packages_have_is_nobodys_until_one_is_chosen() -> None:
    index = plugin_index.judge(TWO, {})
    assert index.plugins == {}
    assert "several packages have it: a 1.0, b 2.0" in index.refused["storage.shelf"]
    chosen = plugin_index.judge(TWO, {"storage.shelf": Decision(True, "b")})
    assert (chosen.plugins, chosen.refused) == ({"storage.shelf": "b_mod"}, {})
    gone = plugin_index.judge(TWO[:1], {"storage.shelf": Decision(True, "b")})
    assert gone.plugins == {"storage.shelf": "a_mod"}, "no conflict is left"


def test_a_third_party_cannot_take_a_bundled_name_silently() -> None:
    ours = next(e for e in plugin_index.entries() if e.name == "storage.overlay")
    theirs = Entry("storage.overlay", "evil", "evil", "9")
    assert plugin_index.judge([ours, theirs], {}).plugins == {}


def test_what_is_no_kind_is_refused() -> None:
    index = plugin_index.judge([Entry("storge.x", "m", "p", "1"), Entry("x", "m", "p", "1")], {})
    assert index.plugins == {} and "'storge' is no kind of plugin" in index.refused["storge.x"]


# --- loading --------------------------------------------------------------------------------------


def test_unknown_driver_is_named_with_those_there_are(layout: Layout) -> None:
    with pytest.raises(UserError, match=r"no storage driver 'nope' .*overlay, vfs"):
        plugins.Plugins(layout).driver("storage", "nope")


def test_a_driver_is_loaded_alone(layout: Layout) -> None:
    manager = plugins.Plugins(layout)
    manager.driver("storage", "vfs")
    assert [name for name, _ in manager.manager.list_name_plugin()] == ["storage.vfs"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module_at_all", "cannot be loaded: No module named"),
        ("def f(:", "cannot be loaded: SyntaxError"),
        ("1/0", "ZeroDivisionError"),
        ("from tiffin.hooks import WhatIsNew", "another version of tiffin"),
        ("TIFFIN_HOOK_VERSION = 99", r"version 99 of the hooks; this tiffin has 1 .*or a newer"),
        ("TIFFIN_HOOK_VERSION = 0", "version 0 of the hooks"),
        ("TIFFIN_HOOK_VERSION = '1'", "version '1' of the hooks"),
        (
            "from tiffin.hooks import hookimpl\n@hookimpl\ndef storage_drvr(name): ...",
            "implements the hook 'storage_drvr', which there is not",
        ),
    ],
)
def test_broken_plugin_is_named_and_stops_nothing_else(
    install: plugins.Plugins, tmp_path: Path, source: str, says: str
) -> None:
    add(install, tmp_path, "storage.bad", source)
    with pytest.raises(DriverError, match=rf"plugin storage\.bad \(mod_storage.*{says}") as error:
        install.driver("storage", "bad")
    assert "\n" not in str(error.value)
    assert install.driver("storage", "vfs").name == "vfs"


def test_a_broken_runtime_does_not_stop_a_path_that_is_anothers(
    install: plugins.Plugins, tmp_path: Path
) -> None:
    add(install, tmp_path, "runtime.bad", "1/0")
    assert install.driver("runtime", "/usr/bin/crun").name == "/usr/bin/crun"
    del install.index.plugins["runtime.runc"]  # which takes every path
    other = plugins.Plugins(install.layout)
    other._newest.index = install.index
    with pytest.raises(DriverError, match=r"runtime\.bad"):
        other.driver("runtime", "/usr/bin/not-known")


def test_an_optional_hook_may_be_missing() -> None:
    module = ModuleType("m")
    module.future = hooks.hookimpl(optionalhook=True)(lambda: None)  # type: ignore[attr-defined]
    assert plugins.implemented(module) == []


def test_hooks_are_called_in_order_of_name_however_they_were_loaded(
    install: plugins.Plugins, tmp_path: Path
) -> None:
    source = (
        "from tiffin.hooks import hookimpl\n@hookimpl\n"
        "def amend_spec(container, spec, annotations): return {!r}\n"
    )
    for name in ("b", "c", "a"):
        add(install, tmp_path, f"spec.{name}", source.format(name))
    call = {"container": "x", "spec": {}, "annotations": {}}
    install.load("spec", ["c"])
    assert install.manager.hook.amend_spec(**call) == ["c"]
    install.load("spec")
    assert install.manager.hook.amend_spec(**call) == ["a", "b", "c"]
    assert [name for name, _ in install.loaded("spec")] == ["spec.a", "spec.b", "spec.c"]


def test_one_module_under_two_names(install: plugins.Plugins) -> None:
    install.index.plugins["storage.twin"] = install.index.plugins["storage.vfs"]
    install.driver("storage", "vfs")
    install.load("storage", ["twin"])
    assert len(install.manager.list_name_plugin()) == 1


# --- a long-lived engine --------------------------------------------------------------------------


def driver(name: str, what: str, version: int = 1) -> ModuleType:
    module = ModuleType(f"module_{what}")

    ours = name

    @hooks.hookimpl
    def storage_driver(name: str, context: hooks.DriverContext) -> str | None:
        return what if name == ours else None

    module.storage_driver = storage_driver  # type: ignore[attr-defined]
    module.TIFFIN_HOOK_VERSION = version  # type: ignore[attr-defined]
    return module


def test_a_command_keeps_the_plugins_that_it_began_with(layout: Layout) -> None:
    found = plugins.Plugins(layout)
    found.register("storage.shelf", driver("shelf", "first"))
    with found.one_generation():
        assert found.driver("storage", "shelf") == "first"
        found.register("storage.shelf", driver("shelf", "second"))
        found.register("storage.new", driver("new", "new"))
        assert found.driver("storage", "shelf") == "first"
        with found.one_generation():  # a command within the command
            assert found.driver("storage", "shelf") == "first"
        with pytest.raises(UserError, match="no storage driver 'new'"):
            found.driver("storage", "new")
        found.unregister("storage.shelf")
        assert found.driver("storage", "shelf") == "first"
    with pytest.raises(UserError, match="no storage driver 'shelf'"):
        found.driver("storage", "shelf")
    assert found.driver("storage", "new") == "new"


def test_what_is_registered_goes_before_what_is_installed(layout: Layout) -> None:
    found = plugins.Plugins(layout)
    vfs = found.driver("storage", "vfs")
    found.register("storage.vfs", driver("vfs", "mine"))
    assert found.driver("storage", "vfs") == "mine"
    found.unregister("storage.vfs")
    assert found.driver("storage", "vfs").name == vfs.name


def test_only_what_fits_is_registered(layout: Layout) -> None:
    found = plugins.Plugins(layout)
    with pytest.raises(DriverError, match="version 9 of the hooks"):
        found.register("storage.x", driver("x", "x", 9))
    with pytest.raises(UserError, match=r"'teapot\.x' is no name of a plugin"):
        found.register("teapot.x", driver("x", "x"))
    with pytest.raises(UserError, match="is not registered"):
        found.unregister("storage.vfs")


@pytest.mark.parametrize("long_lived", [True, False])
def test_a_long_lived_engine_notices_decisions_of_others(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, long_lived: bool
) -> None:
    found = plugins.Plugins(layout)
    found.long_lived = long_lived
    found.driver("storage", "vfs")
    off = {"storage.vfs": Decision(False, "")}
    with found.one_generation():
        monkeypatch.setattr(plugin_index, "decisions", lambda layout: off)
        plugin_index.touch(layout)
        assert found.driver("storage", "vfs").name == "vfs"
    with found.one_generation():
        assert ("vfs" in found.names("storage")) is not long_lived
        if long_lived:
            with pytest.raises(UserError, match=r"tiffin plugin enable storage\.vfs"):
                found.driver("storage", "vfs")
