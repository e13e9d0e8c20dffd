"""Our markers are pluggy's, without pluggy; and a plugin that uses pluggy's own works as well."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import pytest

from tiffin import hooks, plugin_index, plugins
from tiffin.errors import DriverError, UserError
from tiffin.layout import Layout


@pytest.mark.parametrize("options", [{}, {"trylast": True}, {"specname": "network_driver"}])
def test_an_implementation_is_marked_as_by_pluggy(options: dict[str, Any]) -> None:
    ours, theirs = (
        marker(**options)(lambda name: None)
        for marker in (hooks.hookimpl, pluggy.HookimplMarker("tiffin"))
    )
    assert ours.tiffin_impl == theirs.tiffin_impl


@pytest.mark.parametrize("options", [{}, {"firstresult": True}])
def test_a_specification_is_marked_as_by_pluggy(options: dict[str, Any]) -> None:
    ours, theirs = (
        marker(**options)(lambda name: None)
        for marker in (hooks.hookspec, pluggy.HookspecMarker("tiffin"))
    )
    assert ours.tiffin_spec == theirs.tiffin_spec


def test_a_marker_without_options_marks_the_function_itself() -> None:
    def make() -> None: ...

    assert hooks.hookimpl(make) is make
    assert hasattr(make, "tiffin_impl")


def module(marker: Any, **functions: Any) -> ModuleType:
    made = ModuleType("tiffin_some_plugin")
    for name, function in functions.items():
        setattr(made, name, marker(function))
    return made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function: these modules, by KIND.NAME, are the installed plugins."""

    def install(**modules: ModuleType) -> plugins.Plugins:
        index = {}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, f"plugin_{name}", module)
            index[name.replace("_", ".", 1)] = f"plugin_{name}"
        made = plugin_index.Index(index, {})
        monkeypatch.setattr(plugin_index, "load", lambda layout: made)
        return plugins.Plugins(Layout(str(tmp_path), str(tmp_path / "run")))

    return install


@pytest.mark.parametrize("marker", [hooks.hookimpl, pluggy.HookimplMarker("tiffin")])
def test_a_driver_by_name_is_made_by_its_plugin_alone(installed: Any, marker: Any) -> None:
    def mine(name: str, context: hooks.DriverContext) -> Any:
        return ("mine", name, context.rootless) if name == "mine" else None

    def greedy(name: str, context: hooks.DriverContext) -> Any:
        return ("greedy", name)

    found = installed(
        network_greedy=module(marker, network_driver=greedy),
        network_mine=module(marker, network_driver=mine),
    )
    assert found.driver("network", "greedy") == ("greedy", "greedy")
    assert found.driver("network", "mine")[:2] == ("mine", "mine")
    assert found._now.manager is None


@pytest.mark.parametrize("marker", [hooks.hookimpl, pluggy.HookimplMarker("tiffin")])
def test_arguments_a_plugin_does_not_take_are_not_given(installed: Any, marker: Any) -> None:
    found = installed(storage_few=module(marker, storage_driver=lambda name: f"<{name}>"))
    assert found.driver("storage", "few") == "<few>"


def test_a_plugin_that_needs_pluggy_gets_it(installed: Any) -> None:
    def asked(name: str) -> str:
        return f"made {name}"

    made = module(hooks.hookimpl(specname="oci_runtime"), another_name=asked)
    found = installed(runtime_odd=made)
    assert found.driver("runtime", "odd") == "made odd"


def test_a_path_is_for_whoever_takes_it(installed: Any) -> None:
    made = module(hooks.hookimpl, oci_runtime=lambda name: name if "/" in name else None)
    assert installed(runtime_any=made).driver("runtime", "/bin/run") == "/bin/run"


def test_a_name_that_nobody_has_is_named(installed: Any) -> None:
    made = module(hooks.hookimpl, storage_driver=lambda name: None)
    found = installed(storage_mine=made)
    with pytest.raises(UserError, match="no storage driver 'yours'"):
        found.driver("storage", "yours")
    with pytest.raises(DriverError, match=r"plugin storage\.mine makes no storage driver 'mine'"):
        found.driver("storage", "mine")
