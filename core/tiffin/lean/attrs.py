"""As much of attrs as trio's own classes need, for one command line.

attrs writes source code for every class and compiles it, which pays off in a process that makes
many instances. trio declares some forty classes; compiling them, with attrs itself, is a fifth of
what a short command executes. Here one `__init__` reads the class's list of fields instead.
Differences that trio cannot notice: no `__slots__`, and no conversion or validation when an
attribute is set. Whatever is asked of it beyond that raises `Unsupported`, upon which
trio is imported with the real attrs.

Only modules that are imported while `stand_in` is active see it. Source of the rules: the
documentation of attrs, "API reference" and "How does it work?".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

NOTHING = object()
NAMES = ("attr", "attrs")


class Unsupported(Exception):
    """Something of attrs that is not here."""


class Factory:
    """A default that is made anew for each instance."""

    def __init__(self, factory: Callable[[], Any], takes_self: bool = False) -> None:
        if takes_self:
            raise Unsupported("Factory(takes_self=True)")
        self.make = factory


class Field:
    """One attribute. `argument` is its name in `__init__`."""

    def __init__(
        self,
        default: Any = NOTHING,
        *,
        factory: Callable[[], Any] | None = None,
        init: bool = True,
        kw_only: bool = False,
        alias: str = "",
        eq: bool = True,
        repr: bool = True,
        validator: Callable[[Any, Field, Any], None] | None = None,
    ) -> None:
        self.name = ""
        self.argument = alias
        self.default = Factory(factory) if factory is not None else default
        self.init = init
        self.kw_only = kw_only
        self.eq = eq
        self.repr = repr
        self.check = validator

    def named(self, name: str, kw_only: bool) -> Field:
        self.name = name
        self.argument = self.argument or name.lstrip("_")
        self.kw_only = self.kw_only or kw_only
        return self


def instance_of(kind: type) -> Callable[[Any, Field, Any], None]:
    def check(instance: Any, field: Field, value: Any) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"{field.name} must be {kind.__name__}, not {type(value).__name__}")

    return check


def _declared(cls: type, annotated: bool, kw_only: bool) -> list[Field]:
    """The fields of a class's own body, which are taken out of it."""
    own = cls.__dict__
    if annotated:
        names = [
            name
            for name, kind in own.get("__annotations__", {}).items()
            if "ClassVar" not in str(kind)
        ]
    else:
        names = [name for name, value in own.items() if isinstance(value, Field)]
    fields = []
    for name in names:
        value = own.get(name, NOTHING)
        field = value if isinstance(value, Field) else Field(value)
        fields.append(field.named(name, kw_only))
        if value is not NOTHING:
            delattr(cls, name)
    return fields


def _initializer(cls: type, fields: list[Field]) -> Callable[..., None]:
    positional = [field for field in fields if field.init and not field.kw_only]
    then = getattr(cls, "__attrs_post_init__", None)
    if hasattr(cls, "__attrs_pre_init__"):
        raise Unsupported("__attrs_pre_init__")

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        if len(values) > len(positional):
            raise TypeError(f"{cls.__name__} takes {len(positional)} values, not {len(values)}")
        for field, value in zip(positional, values, strict=False):
            if field.argument in named:
                raise TypeError(f"{cls.__name__} got two values for {field.argument!r}")
            named[field.argument] = value
        into = self.__dict__
        for field in fields:
            default = field.default
            if field.init and field.argument in named:
                value = named.pop(field.argument)
            elif default is NOTHING:
                if field.init:
                    raise TypeError(f"{cls.__name__} misses a value for {field.argument!r}")
                continue
            else:
                value = default.make() if type(default) is Factory else default
            if field.check is not None:
                field.check(self, field, value)
            into[field.name] = value
        if named:
            raise TypeError(f"{cls.__name__} knows no {next(iter(named))!r}")
        if then is not None:
            then(self)

    return __init__


def _comparison(fields: list[Field], frozen: bool) -> dict[str, Any]:
    names = [field.name for field in fields if field.eq]

    def key(instance: Any) -> tuple[Any, ...]:
        return tuple(getattr(instance, name) for name in names)

    def __eq__(self: Any, other: object) -> Any:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(key(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}


def _text(fields: list[Field]) -> Callable[[Any], str]:
    names = [field.name for field in fields if field.repr]

    def __repr__(self: Any) -> str:
        inside = ", ".join(f"{name}={getattr(self, name, NOTHING)!r}" for name in names)
        return f"{type(self).__name__}({inside})"

    return __repr__


def _refuse(self: Any, name: str, value: Any = None) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")


def define(
    cls: type | None = None,
    *,
    eq: bool = True,
    repr: bool = True,
    init: bool = True,
    slots: bool = True,
    frozen: bool = False,
    kw_only: bool = False,
    annotated: bool = True,
) -> Any:
    """The class decorator. An exception is compared by identity, as in attrs."""
    if cls is None:
        return lambda cls: define(
            cls, eq=eq, repr=repr, init=init, frozen=frozen, kw_only=kw_only, annotated=annotated
        )
    inherited: list[Field] = getattr(cls, "__attrs_attrs__", [])
    fields = [*inherited, *_declared(cls, annotated, kw_only)]
    added: dict[str, Any] = {"__attrs_attrs__": fields}
    if init:
        added["__init__"] = _initializer(cls, fields)
    if eq and not issubclass(cls, BaseException):
        added |= _comparison(fields, frozen)
    if repr:
        added["__repr__"] = _text(fields)
    if frozen:
        added |= {"__setattr__": _refuse, "__delattr__": _refuse}
    for name, value in added.items():
        if not (annotated and name in cls.__dict__):  # its own methods stay
            setattr(cls, name, value)
    return cls


def frozen(cls: type | None = None, **how: Any) -> Any:
    return define(cls, frozen=True, **how)


def s(cls: type | None = None, **how: Any) -> Any:
    """`attr.s`, the older name: its fields are those made with `attr.ib`."""
    return define(cls, annotated=False, **how)


field = ib = Field


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"{self.__name__}.{name}")


@contextmanager
def stand_in() -> Iterator[None]:
    """Modules imported inside get this for `attr` and `attrs`, unless those are loaded already."""
    if any(name in sys.modules for name in NAMES):
        yield
        return
    for name in NAMES:
        module = sys.modules[name] = _StandIn(name)
        module.__dict__.update(
            Factory=Factory, define=define, frozen=frozen, field=field, s=s, ib=ib, NOTHING=NOTHING
        )
        module.__dict__["validators"] = _StandIn(f"{name}.validators")
        module.__dict__["validators"].__dict__["instance_of"] = instance_of
    try:
        yield
    finally:
        for name in NAMES:
            del sys.modules[name]
