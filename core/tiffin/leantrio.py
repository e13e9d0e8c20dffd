"""Import trio quickly, and for one command line without what a short command does not use.

Everywhere: not its look for libpthread, which runs `ldconfig -p` at every start (5 ms). trio names
its threads through pthread_setname_np when it finds the library by name; on glibc since 2.34 the
function is in libc itself, which ctypes opens without asking anybody.

In the process of the `tiffin` program (`prepare`) also:
- parts that nothing here uses are put off: each is imported when somebody (a plugin) first asks
  trio for something that is in it;
- attrs, for trio's own classes, is a small stand-in (`leanattrs`);
- typing_extensions is kept from msgspec, and logging from trio until it has something to say.
A version of trio that cannot be imported so is imported as it is. An engine inside another program
gets plain trio.
"""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # every command imports this: nothing that costs
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

PUT_OFF = (
    "trio._channel",
    "trio._dtls",
    "trio._file_io",
    "trio._highlevel_open_tcp_listeners",
    "trio._highlevel_open_tcp_stream",
    "trio._highlevel_open_unix_stream",
    "trio._highlevel_serve_listeners",
    "trio._highlevel_socket",
    "trio._highlevel_ssl_helpers",
    "trio._path",
    "trio._socket",
    "trio._ssl",
    "trio.socket",
)

EXTENSIONS = "typing_extensions"
"""msgspec imports it, and does without it where typing has it all."""

_prepared = False


def prepare() -> None:
    """This process is one command line. Before trio is imported, which this does not do."""
    global _prepared
    _prepared = True
    sys.modules.setdefault(EXTENSIONS, None)  # type: ignore[arg-type]


def restore() -> None:
    """From now on others may be imported (plugins) that need what was kept away."""
    if sys.modules.get(EXTENSIONS, sys) is None:
        del sys.modules[EXTENSIONS]


def load() -> None:
    """Import trio, if it is not there yet."""
    if "trio" in sys.modules:
        return
    import ctypes as ctypes

    util = type(sys)("ctypes.util")
    vars(util)["find_library"] = {"pthread": "libc.so.6", "c": "libc.so.6"}.get
    with _Instead(util):
        if _prepared:
            try:
                _load_lean()
            except Exception:  # made for another version of trio: take all of that
                for name in list(sys.modules):
                    if name.partition(".")[0] in ("trio", "outcome"):
                        del sys.modules[name]
        importlib.import_module("trio")
    restore()


class _Instead:
    """A module that stands for the real one meanwhile, unless that is loaded already."""

    def __init__(self, module: ModuleType) -> None:
        self.name = module.__name__
        self.module = module
        self.parent, _, self.child = self.name.rpartition(".")
        self.needed = self.name not in sys.modules

    def __enter__(self) -> None:
        if self.needed:
            sys.modules[self.name] = self.module
            if self.parent:
                setattr(sys.modules[self.parent], self.child, self.module)

    def __exit__(self, *_: object) -> None:
        if self.needed:
            del sys.modules[self.name]
            if self.parent:
                delattr(sys.modules[self.parent], self.child)


class _Logging(type(sys)):  # type: ignore[misc]
    """`logging`, which trio imports to make two loggers that it uses when something is wrong."""

    @staticmethod
    def getLogger(name: str) -> _Logger:
        return _Logger(name)


class _Logger:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        return getattr(logging.getLogger(self.name), attribute)


class _Later:
    """Stands for a name of a part that is put off, until `load` has taken it away again."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class _PutOff(type(sys)):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.place = name

    def __getattr__(self, name: str) -> _Later:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.place, name)


def _load_lean() -> None:
    from . import leanattrs

    for name in PUT_OFF:
        sys.modules[name] = _PutOff(name)
    with leanattrs.stand_in(), _Instead(_Logging("logging")):
        importlib.import_module("trio")
    for name in PUT_OFF:
        del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "trio":
            _on_demand(module)


def _on_demand(module: Any) -> None:
    """Take the stand-ins out of a module again: what they stand for is imported when asked for."""
    later: dict[str, tuple[str, str]] = {}
    for name, value in list(vars(module).items()):
        if isinstance(value, _Later):
            later[name] = (value.module, value.name)
        elif isinstance(value, _PutOff):
            later[name] = (value.place, "")
    if not later:
        return
    for name in later:
        delattr(module, name)
    others = getattr(module, "__getattr__", None)

    def find(name: str) -> Any:
        if name in later:
            place, inside = later[name]
            value = importlib.import_module(place)
            if inside:
                value = getattr(value, inside)
            setattr(module, name, value)
            return value
        if others is not None:
            return others(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    vars(module)["__getattr__"] = find
