"""Loading plugins, each only when a command needs it.

A plugin that cannot be loaded is named by the command that needs it, and is in nobody else's way.
Hooks that several plugins answer call them in order of KIND.NAME (`tryfirst` and `trylast` of
pluggy's apart).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from . import plugin_index
from .errors import DriverError, TiffinError, UserError
from .hooks import (
    HOOK_VERSION,
    OLDEST_HOOK_VERSION,
    DriverContext,
    HookSpecs,
    LabelProvider,
    NetworkDriver,
    OCIRuntime,
    StorageDriver,
)
from .layout import Layout
from .plugin_index import DRIVER_HOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    import pluggy


PROTOCOLS: dict[str, type] = {
    "storage": StorageDriver,
    "runtime": OCIRuntime,
    "network": NetworkDriver,
    "label": LabelProvider,
}
OPTIONAL = frozenset(("labels_mounts", "maps_ids"))
"""What drivers of the first versions do without."""


class Generation:
    """Which plugins there are, and what was loaded and made of them, between two changes."""

    __slots__ = ("drivers", "index", "manager", "modules", "registered", "stamp")

    def __init__(self, registered: Mapping[str, ModuleType] | None = None) -> None:
        self.registered = dict(registered or {})
        self.index: plugin_index.Index | None = None
        self.stamp: object = None
        self.modules: dict[str, ModuleType] = {}
        self.manager: pluggy.PluginManager | None = None
        self.drivers: dict[tuple[str, str], Any] = {}


_pinned: ContextVar[tuple[object, Generation] | None] = ContextVar("generation", default=None)
"""(Plugins, its generation) that the command of this task, and of its children, began with."""


class Plugins:
    """The plugins that one engine has loaded, and the drivers made so far.

    A command works with one generation of them (`one_generation`): what is registered or
    unregistered while it runs is for the commands after it.
    """

    def __init__(self, layout: Layout, settings: dict[str, Any] | None = None) -> None:
        self.layout = layout
        self.settings = settings or {}
        self.long_lived = False
        """Look at the beginning of each command whether packages or decisions have changed."""
        self._newest = Generation()
        self._registered: dict[str, ModuleType] = {}
        self._ever_made: list[tuple[str, Any]] = []

    @property
    def _now(self) -> Generation:
        pin = _pinned.get()
        return pin[1] if pin is not None and pin[0] is self else self._newest

    @contextmanager
    def one_generation(self) -> Iterator[None]:
        """Within, and in tasks started from here, the plugins stay those that they are now."""
        pin = _pinned.get()
        if pin is not None and pin[0] is self:  # a command within a command
            yield
            return
        if self.long_lived and self._newest.index is not None:
            self._look_again()
        token = _pinned.set((self, self._newest))
        try:
            yield
        finally:
            with suppress(ValueError):  # closed by the garbage collector, in no task of ours
                _pinned.reset(token)

    def _look_again(self) -> None:
        stamp = plugin_index.fingerprint(self.layout)
        before = self._newest
        if stamp != before.stamp:
            kept = plugin_index.load(self.layout).plugins
            old = before.index.plugins if before.index is not None else {}
            self._renew({name for name in old if old[name] != kept.get(name)})

    def register(self, name: str, module: ModuleType) -> None:
        """Use a module as the plugin KIND.NAME of this engine, before any installed one.
        Errors: UserError for what is no such name, DriverError for another version of the hooks."""
        kind, _, plain = name.partition(".")
        if kind not in plugin_index.KINDS or not plain:
            kinds = ", ".join(plugin_index.KINDS)
            raise UserError(f"{name!r} is no name of a plugin", hint=f"KIND.NAME, of {kinds}")
        check_module(name, module.__name__, module)
        self._registered[name] = module
        self._renew({name})

    def unregister(self, name: str) -> None:
        """Commands that begin from now on have no such plugin, or the installed one again; those
        that run finish with it. Error: UserError."""
        if self._registered.pop(name, None) is None:
            raise UserError(
                f"{name!r} is not registered", hint="plugin disable is for installed ones"
            )
        self._renew({name})

    def _renew(self, without: set[str]) -> None:
        """A new generation, in which nothing is left of these."""
        old, new = self._newest, Generation(self._registered)
        new.modules = {name: made for name, made in old.modules.items() if name not in without}
        new.drivers = {
            key: made
            for key, made in old.drivers.items()
            if f"{key[0]}.{key[1]}" not in without and "/" not in key[1]
        }
        self._newest = new

    @property
    def manager(self) -> pluggy.PluginManager:
        """pluggy's manager of what is loaded, for hooks that several plugins may answer."""
        now = self._now
        if now.manager is None:
            import pluggy  # 4 ms, and one driver by its name does not need it

            manager = pluggy.PluginManager("tiffin")
            manager.add_hookspecs(HookSpecs)
            # pluggy calls the last one first; a module may be there under several names
            for name in sorted(now.modules, reverse=True):
                if not manager.is_registered(now.modules[name]):
                    manager.register(now.modules[name], name=name)
            now.manager = manager
        return now.manager

    @property
    def index(self) -> plugin_index.Index:
        now = self._now
        if now.index is None:
            now.stamp = plugin_index.fingerprint(self.layout) if self.long_lived else None
            found = plugin_index.load(self.layout)
            for name, module in now.registered.items():
                found.plugins[name] = module.__name__
                found.refused.pop(name, None)
                now.modules[name] = module
            now.index = found
        return now.index

    @property
    def installed(self) -> dict[str, str]:
        """{KIND.NAME: module} of those that may be used."""
        return self.index.plugins

    def names(self, kind: str) -> list[str]:
        """Plugins of a kind that may be used, in order of name."""
        prefix = kind + "."
        return sorted(n.removeprefix(prefix) for n in self.installed if n.startswith(prefix))

    def load(self, kind: str, names: Iterable[str] | None = None) -> list[DriverError]:
        """Import plugins of a kind. Those that are named must load: DriverError says which does
        not. When `names` is None, all are tried, and the errors are returned."""
        broken = []
        for name in self.names(kind) if names is None else names:
            full = f"{kind}.{name}"
            module = self.installed.get(full)
            if module is None or full in self._now.modules:
                continue
            try:
                now = self._now
                now.modules[full] = load_module(full, module)
                now.manager = None
            except DriverError as error:
                if names is not None:
                    raise
                broken.append(error)
        return broken

    def loaded(self, kind: str) -> list[tuple[str, ModuleType]]:
        """(KIND.NAME, module) of what was loaded of a kind, in order."""
        return [(n, m) for n, m in sorted(self._now.modules.items()) if n.startswith(f"{kind}.")]

    def implementations(
        self, kind: str, hook: str
    ) -> list[tuple[str, Callable[[Mapping[str, Any]], Any]]]:
        """(KIND.NAME, how to call it) of the loaded plugins of a kind that implement a hook, in
        pluggy's order; each is given what it takes of the arguments.
        Error: DriverError for one that wraps it: there is nothing to wrap."""
        names = {id(module): name for name, module in self.loaded(kind)}
        found: list[tuple[str, Callable[[Mapping[str, Any]], Any]]] = []
        for made in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            name = names.get(id(made.plugin))
            if name is None:
                continue
            if made.wrapper or made.hookwrapper:
                raise DriverError(f"plugin {name} wraps the hook {hook}, which cannot be wrapped")
            found.append((name, functools.partial(_call, made.function, made.argnames)))
        return found

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
        made = self._now.drivers.get((kind, name))
        if made is None:
            # A path names no plugin: all plugins of that kind are asked whether it is theirs.
            broken = self.load(kind, None if "/" in name else (name,))
            try:
                made = self._by_name(kind, name)
                if made is None:
                    hook = getattr(self.manager.hook, DRIVER_HOOKS[kind])
                    made = hook(name=name, context=self.context(kind, name))
            except TiffinError:
                raise
            except Exception as error:
                raise DriverError(
                    f"the {kind} driver {name!r} cannot be made: {type(error).__name__}: {error}",
                    hint="repair or uninstall the package it comes from",
                ) from error
            if made is None:
                raise self.nobody(kind, name, broken)
            self._now.drivers[kind, name] = made
            self._ever_made.append((kind, made))
        return made

    def nobody(self, kind: str, name: str, broken: Sequence[DriverError] = ()) -> Exception:
        """The error for a name that no plugin answers to."""
        why = self.index.refused.get(f"{kind}.{name}")
        if why:
            return UserError(f"{kind} driver {name!r} is not used", hint=why)
        if broken:
            return broken[0]
        if f"{kind}.{name}" in self.installed:
            return DriverError(
                f"plugin {kind}.{name} makes no {kind} driver {name!r}",
                hint="repair or uninstall the package it comes from",
            )
        have = ", ".join(self.names(kind)) or "none"
        return UserError(f"no {kind} driver {name!r}", hint=f"installed: {have}")

    def _by_name(self, kind: str, name: str) -> Any:
        """The driver as its own plugin makes it; None when that takes more than a plain call."""
        make = getattr(self._now.modules.get(f"{kind}.{name}"), DRIVER_HOOKS[kind], None)
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
        return [driver for made, driver in self._ever_made if made == kind]


def _call(function: Callable[..., Any], names: Sequence[str], given: Mapping[str, Any]) -> Any:
    return function(*(given[name] for name in names))


def missing(kind: str, made: object) -> list[str]:
    """What a driver lacks of its protocol, in order of name."""
    protocol = PROTOCOLS[kind]
    names = {*protocol.__annotations__, *(n for n in vars(protocol) if not n.startswith("_"))}
    return sorted(name for name in names - OPTIONAL if not hasattr(made, name))


def load_module(full: str, module_name: str) -> ModuleType:
    """Import a plugin's module and check that it is made for these hooks. Error: DriverError."""
    try:
        module: ModuleType = __import__(module_name, fromlist=["_"])
    except Exception as error:
        hint = "repair or uninstall the package it comes from"
        if isinstance(error, ImportError) and str(error.name).startswith("tiffin.hooks"):
            hint = "it may be made for another version of tiffin"
        what = f"{type(error).__name__}: {error}" if not isinstance(error, ImportError) else error
        raise DriverError(
            f"plugin {full} ({module_name}) cannot be loaded: {what}", hint=hint
        ) from error
    check_module(full, module_name, module)
    return module


def check_module(full: str, module_name: str, module: ModuleType) -> None:
    """Error: DriverError when it is made for other hooks than there are."""
    version = getattr(module, "TIFFIN_HOOK_VERSION", OLDEST_HOOK_VERSION)
    if not isinstance(version, int) or not OLDEST_HOOK_VERSION <= version <= HOOK_VERSION:
        known = f"{OLDEST_HOOK_VERSION} to {HOOK_VERSION}"
        newer = isinstance(version, int) and version > HOOK_VERSION
        raise DriverError(
            f"plugin {full} ({module_name}) is made for version {version!r} of the hooks; this "
            f"tiffin has {HOOK_VERSION if OLDEST_HOOK_VERSION == HOOK_VERSION else known}",
            hint=f"install {'an older' if newer else 'another'} version of its package"
            + (", or a newer tiffin" if newer else ""),
        )
    unknown = [name for name in implemented(module) if not hasattr(HookSpecs, name)]
    if unknown:
        raise DriverError(
            f"plugin {full} ({module_name}) implements the hook {unknown[0]!r}, which there is not",
            hint="see tiffin.hooks.HookSpecs for those there are",
        )


def implementation(module: ModuleType | None, hook: str) -> Any:
    """The function by which a module implements a hook, whatever it is called; None without one."""
    for name, value in vars(module).items() if module else ():
        options = getattr(value, "tiffin_impl", None)
        if isinstance(options, dict) and (options.get("specname") or name) == hook:
            return value
    return None


def implemented(module: ModuleType) -> list[str]:
    """The hooks that a module implements, in order of name; those marked optional only when they
    exist."""
    found = []
    for name, value in vars(module).items():
        options = getattr(value, "tiffin_impl", None)
        if isinstance(options, dict):
            hook = options.get("specname") or name
            if hasattr(HookSpecs, hook) or not options.get("optionalhook"):
                found.append(hook)
    return sorted(found)
