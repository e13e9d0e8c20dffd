"""The stand-in for attrs behaves as attrs does, in all that trio asks of it."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.lean import attrs as leanattrs

BOTH = pytest.mark.parametrize("lib", [attrs, leanattrs], ids=["attrs", "stand-in"])


def point(lib: Any, **how: Any) -> Any:
    class Point:
        _x: int
        y: int = 2
        tags: list[str] = lib.field(factory=list, kw_only=True)
        seen: bool = lib.field(default=False, init=False, repr=False)
        named: str = lib.field(default="n", alias="called", eq=False, kw_only=True)

        def __attrs_post_init__(self) -> None:
            if self._x < 0:
                raise ValueError("below zero")

    return lib.define(**how)(Point)


@BOTH
def test_fields_by_place_and_by_name(lib: Any) -> None:
    kind = point(lib)
    one = kind(1, tags=["a"], called="z")
    assert (one._x, one.y, one.tags, one.seen, one.named) == (1, 2, ["a"], False, "z")
    assert kind(x=3, y=4).y == 4
    assert kind(1).tags is not kind(1).tags
    one.y = 9
    assert one.y == 9


@BOTH
@pytest.mark.parametrize(
    "arguments", [((), {}), ((1, 2, []), {}), ((1,), {"x": 1}), ((1,), {"seen": True})]
)
def test_wrong_arguments_are_refused(lib: Any, arguments: Any) -> None:
    values, named = arguments
    with pytest.raises(TypeError):
        point(lib)(*values, **named)


@BOTH
def test_the_class_has_its_say_after(lib: Any) -> None:
    with pytest.raises(ValueError, match="below zero"):
        point(lib)(-1)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1), st.text(max_size=1))
def test_equality_is_that_of_attrs(x: int, y: int, other: int, called: str) -> None:
    answers = []
    for lib in (attrs, leanattrs):
        kind = point(lib, frozen=True, repr=True)
        left, right = kind(x, y, tags=()), kind(other, 1, tags=(), called=called)
        answers.append((left == right, left == (x, y), repr(left).rpartition(".")[2]))
    assert answers[0] == answers[1]


@BOTH
def test_identity_and_frozenness(lib: Any) -> None:
    by_identity = point(lib, eq=False)
    assert by_identity(1) != by_identity(1)
    assert len({by_identity(1), by_identity(1)}) == 2
    with pytest.raises(TypeError):
        hash(point(lib)(1))
    still = point(lib, frozen=True)(1)
    with pytest.raises(AttributeError):
        still.y = 3
    with pytest.raises(AttributeError):
        del still.y


@BOTH
def test_an_exception_keeps_its_identity(lib: Any) -> None:
    class Failed(BaseException):
        reason: str = "unknown"

    kind = lib.define(kw_only=True)(Failed)
    assert kind() != kind()
    with pytest.raises(kind) as caught:
        raise kind(reason="r")
    assert caught.value.reason == "r"


@BOTH
def test_methods_of_its_own_stay(lib: Any) -> None:
    class Named:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

    assert repr(lib.define(Named)("a")) == "<a>"


def test_what_is_not_here_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in leanattrs.NAMES:
        monkeypatch.delitem(sys.modules, name)
    with leanattrs.stand_in():
        import attr as stand_in

        with pytest.raises(leanattrs.Unsupported, match=r"attr\.make_class"):
            stand_in.make_class("A", [])
        with pytest.raises(leanattrs.Unsupported):
            stand_in.Factory(list, takes_self=True)
    assert "attr" not in sys.modules
