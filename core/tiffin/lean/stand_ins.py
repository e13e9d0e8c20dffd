"""Small modules that stand for large ones while a library is imported.

What a stand-in lacks it takes from the real module, which is imported at that moment; so a library
that keeps one for good can do all that it could do before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import AsyncGeneratorType, CoroutineType, ModuleType
from typing import Any


class StandIn(ModuleType):
    """A module with some names of its own and the rest of the real one."""

    def __init__(self, name: str, **own: Any) -> None:
        super().__init__(name)
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


@contextmanager
def instead(module: ModuleType) -> Iterator[None]:
    """Have it imported in place of the real one, unless that is loaded already."""
    name = module.__name__
    if name in sys.modules:
        yield
        return
    parent, _, child = name.rpartition(".")
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]
            if parent:
                with suppress(AttributeError):
                    delattr(sys.modules[parent], child)


def platform() -> Any:
    """For uuid, which msgspec imports: it asks once for the name of the system."""
    return instead(StandIn("platform", system=lambda: os.uname().sysname))


def inspect() -> Any:
    """For trio, which asks what it was given, and in what state a coroutine is."""
    return instead(
        StandIn(
            "inspect",
            CORO_CLOSED="CORO_CLOSED",
            getcoroutinestate=_state,
            iscoroutine=lambda thing: isinstance(thing, CoroutineType),
            isasyncgen=lambda thing: isinstance(thing, AsyncGeneratorType),
        )
    )


def _state(coro: CoroutineType[Any, Any, Any]) -> str:
    """inspect.getcoroutinestate, by its documentation."""
    if coro.cr_running:
        return "CORO_RUNNING"
    if coro.cr_suspended:
        return "CORO_SUSPENDED"
    return "CORO_CLOSED" if coro.cr_frame is None else "CORO_CREATED"


def sortedcontainers() -> Any:
    """For trio, which keeps those who wait for all others to wait (in tests) in a SortedDict."""
    return instead(StandIn("sortedcontainers", SortedDict=Sorted))


class Sorted:
    """A SortedDict that is imported with its first item. Until then it is only asked if it is
    empty."""

    def __init__(self) -> None:
        self._real: Any = None

    def __len__(self) -> int:
        return 0 if self._real is None else len(self._real)

    def _made(self) -> Any:
        if self._real is None:
            self._real = __import__("sortedcontainers").SortedDict()
        return self._real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._made()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._made()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._made()[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._made()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._made())


def logging() -> Any:
    """For trio, which makes two loggers that it uses when something is wrong."""
    return instead(StandIn("logging", getLogger=Logger))


class Logger:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        return getattr(logging.getLogger(self.name), attribute)


def pyroute2_config() -> Any:
    """For pyroute2's messages: the settings that they look at while they are loaded."""
    return instead(
        StandIn(
            "pyroute2.config",
            AF_BRIDGE=7,
            machine=os.uname().machine,
            data_plugins_pkgs=[],
            data_plugins_path=[],
        )
    )


def ctypes_util() -> Any:
    """For trio, which looks for libpthread to name its threads, by a run of `ldconfig -p` (5 ms).
    On glibc since 2.34 what it looks for is in libc itself, which ctypes opens by this name."""
    import ctypes as ctypes

    known = {"pthread": "libc.so.6", "c": "libc.so.6"}
    return instead(StandIn("ctypes.util", find_library=known.get))


def absent(name: str) -> Any:
    """A module that cannot be imported meanwhile: msgspec does without typing_extensions."""

    @contextmanager
    def kept_away() -> Iterator[None]:
        if name in sys.modules:
            yield
            return
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules[name]

    return kept_away
