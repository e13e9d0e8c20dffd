"""Finding and loading plugins, each only when a command needs it.

Entry points are named `KIND.NAME`. Reading all installed metadata takes tens of milliseconds, so
an index is kept beside the store, and made anew when a folder of sys.path has changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from .errors import DriverError, UserError
from .hooks import DriverContext, HookSpecs
from .layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    import pluggy

GROUP = "tiffin.plugins"

DRIVER_HOOKS = {
    "storage": "storage_driver",
    "runtime": "oci_runtime",
    "network": "network_driver",
    "label": "label_provider",
}
"""The hook that makes a driver of each kind."""


def _fingerprint() -> list[list[Any]]:
    """What must be unchanged for an index to hold: the interpreter, and the time of each folder
    that packages are installed in. Not the rest of sys.path: that differs from one way of
    starting us to another, and holds no metadata."""
    stamps: list[list[Any]] = [[sys.prefix, sys.version]]
    extra = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for path in sys.path:
        if path and (path in extra or path.endswith(("site-packages", "dist-packages"))):
            with contextlib.suppress(OSError):
                stamps.append([path, os.stat(path).st_mtime_ns])
    return stamps


def scan() -> dict[str, str]:
    """{KIND.NAME: module} of everything installed, the slow way."""
    from importlib.metadata import entry_points  # 30 ms

    return {point.name: point.value for point in entry_points(group=GROUP)}


def index(layout: Layout) -> dict[str, str]:
    """{KIND.NAME: module}, from the index if it is still true."""
    stamp = _fingerprint()
    try:
        with open(layout.plugin_index, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["stamp"] == stamp:
            return dict(kept["plugins"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no index yet, or an unreadable one: it is made again below
    found = scan()
    temporary = f"{layout.plugin_index}.{os.getpid()}"
    with contextlib.suppress(OSError):  # a read-only or full disk only costs the time next time
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"stamp": stamp, "plugins": found}, file)
        os.replace(temporary, layout.plugin_index)
    return found


class Plugins:
    """The plugins that one engine has loaded, and the drivers made so far."""

    def __init__(self, layout: Layout, settings: dict[str, Any] | None = None) -> None:
        self.layout = layout
        self.settings = settings or {}
        self._modules: dict[str, ModuleType] = {}
        self._manager: pluggy.PluginManager | None = None
        self._index: dict[str, str] | None = None
        self._drivers: dict[tuple[str, str], Any] = {}

    @property
    def manager(self) -> pluggy.PluginManager:
        """pluggy's manager of what is loaded, for hooks that several plugins may answer."""
        if self._manager is None:
            import pluggy  # 4 ms, and one driver by its name does not need it

            self._manager = pluggy.PluginManager("tiffin")
            self._manager.add_hookspecs(HookSpecs)
            for name, module in self._modules.items():
                self._manager.register(module, name=name)
        return self._manager

    @property
    def installed(self) -> dict[str, str]:
        if self._index is None:
            self._index = index(self.layout)
        return self._index

    def names(self, kind: str) -> list[str]:
        """Installed plugins of a kind, in order of name."""
        prefix = kind + "."
        return sorted(n.removeprefix(prefix) for n in self.installed if n.startswith(prefix))

    def load(self, kind: str, names: Iterable[str] | None = None) -> None:
        """Import and register plugins of a kind (all, when `names` is None).
        Error: DriverError that names the plugin which cannot be imported."""
        for name in self.names(kind) if names is None else names:
            full = f"{kind}.{name}"
            module_name = self.installed.get(full)
            if module_name is None or full in self._modules:
                continue
            try:
                module = __import__(module_name, fromlist=["_"])
                if self._manager is not None:
                    self._manager.register(module, name=full)
                self._modules[full] = module
            except Exception as error:
                raise DriverError(
                    f"plugin {full} ({module_name}) cannot be loaded: {error}",
                    hint="repair or uninstall the package it comes from",
                ) from error

    def context(self, kind: str, name: str) -> DriverContext:
        directory = self.layout.storage(name) if kind == "storage" else ""
        plain = name.replace("/", "_").strip("_")
        return DriverContext(
            root=directory or f"{self.layout.root}/drivers/{kind}-{plain}",
            run=self.layout.driver_run(kind, plain),
            rootless=self.layout.uid != 0,
            settings=self.settings.get(kind, {}).get(name, {}),
        )

    def driver(self, kind: str, name: str) -> Any:
        """The driver, made once. Errors: UserError for a name nobody has, DriverError."""
        made = self._drivers.get((kind, name))
        if made is None:
            # A path names no plugin: all plugins of that kind are asked whether it is theirs.
            self.load(kind, None if "/" in name else (name,))
            made = self._by_name(kind, name)
            if made is None:
                hook = getattr(self.manager.hook, DRIVER_HOOKS[kind])
                made = hook(name=name, context=self.context(kind, name))
            if made is None:
                have = ", ".join(self.names(kind)) or "none"
                raise UserError(f"no {kind} driver {name!r}", hint=f"installed: {have}")
            self._drivers[kind, name] = made
        return made

    def _by_name(self, kind: str, name: str) -> Any:
        """The driver as its own plugin makes it; None when that takes more than a plain call."""
        make = getattr(self._modules.get(f"{kind}.{name}"), DRIVER_HOOKS[kind], None)
        code = getattr(make, "__code__", None)
        if make is None or code is None or not hasattr(make, "tiffin_impl"):
            return None
        asked = code.co_varnames[: code.co_argcount]
        if not {"name", "context"}.issuperset(asked):
            return None
        given = {"name": name, "context": self.context(kind, name)}
        return make(**{argument: given[argument] for argument in asked})

    def made(self, kind: str) -> list[Any]:
        """Drivers of a kind that this engine has made, to be closed at the end."""
        return [driver for (k, _), driver in self._drivers.items() if k == kind]
