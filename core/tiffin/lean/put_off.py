"""A library with some of its modules put off until something in them is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class Later:
    """Stands for a name of a part that is put off, until `load` has taken it away again."""

    def __init__(self, part: str, name: str) -> None:
        self.part = part
        self.name = name


class PutOff(ModuleType):
    """Stands for a part: it seems to have every name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.part = name

    def __getattr__(self, name: str) -> Later:
        if name.startswith("__"):
            raise AttributeError(name)
        return Later(self.part, name)


def load(library: str, parts: tuple[str, ...]) -> None:
    """Import the library; afterwards its modules seem to have all, and import a part on demand.
    Errors are those of a library that needs one of the parts at once, or has no such part."""
    for part in parts:
        sys.modules[part] = PutOff(part)
    try:
        import_module(library)
    finally:
        for part in parts:
            del sys.modules[part]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == library:
            _on_demand(module)


def _on_demand(module: ModuleType) -> None:
    later: dict[str, tuple[str, str]] = {}
    for name, value in list(vars(module).items()):
        if isinstance(value, Later):
            later[name] = (value.part, value.name)
        elif isinstance(value, PutOff):
            later[name] = (value.part, "")
    if not later:
        return
    for name in later:
        delattr(module, name)
    others = getattr(module, "__getattr__", None)

    def find(name: str) -> Any:
        if name in later:
            part, inside = later[name]
            value: Any = import_module(part)
            if inside:
                value = getattr(value, inside)
            setattr(module, name, value)
            return value
        if others is not None:
            return others(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    vars(module)["__getattr__"] = find
