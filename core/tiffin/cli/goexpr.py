"""The inside of `{{ }}`: pipelines of Go's text/template. Pure; see `gotemplate`."""

from __future__ import annotations

import json

from ..errors import UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Fail = Callable[[str], UserError]

MAX_DEPTH = 50
"""Parentheses inside parentheses."""


class Missing:
    """What a field that does not exist is; it prints as `<no value>` and is false."""

    __slots__ = ()


MISSING = Missing()


def truth(value: Any) -> bool:
    """Go: false, 0, nil and whatever is empty are false."""
    return not isinstance(value, Missing) and bool(value)


def show(value: Any) -> str:
    """As Go's fmt prints it with %v."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Missing):
        return "<no value>"
    return _inner(value)


def _inner(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None or isinstance(value, Missing):
        return "<nil>"
    if isinstance(value, dict):
        items = (f"{_inner(key)}:{_inner(value[key])}" for key in sorted(value, key=str))
        return f"map[{' '.join(items)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_inner, value))}]"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    """%v of a float64: the shortest form, an exponent from 1e21 on and below 1e-4."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


class Scope:
    """Dot, dollar and variables; an inner scope sees the variables around it."""

    __slots__ = ("dollar", "dot", "outer", "variables")

    def __init__(self, dot: Any, dollar: Any, outer: Scope | None = None) -> None:
        self.dot = dot
        self.dollar = dollar
        self.outer = outer
        self.variables: dict[str, Any] = {}

    def inside(self, dot: Any) -> Scope:
        return Scope(dot, self.dollar, self)

    def holder(self, name: str) -> Scope:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.variables:
                return scope
            scope = scope.outer
        raise UserError(f"template: variable {name} is not defined")

    def declare(self, pipeline: Pipeline, values: Sequence[Any]) -> None:
        for name, value in zip(pipeline.names, values, strict=False):
            (self if pipeline.declares else self.holder(name)).variables[name] = value


# --- parsing --------------------------------------------------------------------------------------


class Pipeline:
    """`$x := command | command ...`"""

    __slots__ = ("commands", "declares", "names")

    def __init__(self, names: list[str], declares: bool, commands: list[list[Any]]) -> None:
        self.names = names
        self.declares = declares
        """`:=`, not `=`."""
        self.commands = commands

    def value(self, scope: Scope) -> Any:
        result: Any = None
        for number, command in enumerate(self.commands):
            result = _evaluate(command, scope, [result] if number else [])
        return result

    def first_field(self) -> str:
        """The last name of the first path (`.State.Pid`: Pid); "" when there is none."""
        for command in self.commands:
            for term in command:
                if term[0] == "pipeline" and (found := term[1].first_field()):
                    return str(found)
                if term[0] in ("field", "variable") and term[2]:
                    return str(term[2][-1])
        return ""


# A term is a tuple: ("field", base or None, names) | ("variable", name, names) | ("literal", value)
# | ("function", name) | ("pipeline", Pipeline, names) | ("dot",)
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
_SPACE = " \t\r\n"


class _Reader:
    def __init__(self, text: str, fail: Fail) -> None:
        self.text = text
        self.at = 0
        self.fail = fail

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def space(self) -> bool:
        begin = self.at
        while self.peek() and self.peek() in _SPACE:
            self.at += 1
        return self.at > begin

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def name(self) -> str:
        begin = self.at
        while self.peek() and (self.peek() in _NAME or self.peek() > "\x7f"):
            self.at += 1
        return self.text[begin : self.at]

    def pipeline(self, most: int, depth: int = 0) -> Pipeline:
        if depth > MAX_DEPTH:
            raise self.fail("parentheses are nested too deeply")
        names, declares = self.declaration(most)
        commands: list[list[Any]] = [[]]
        while True:
            self.space()
            if not self.peek() or self.peek() == ")":
                break
            if self.take("|"):
                if not commands[-1]:
                    raise self.fail("nothing before |")
                commands.append([])
                continue
            commands[-1].append(self.term(depth))
            if self.peek() and self.peek() not in _SPACE + "|)":
                raise self.fail(f"unexpected {self.peek()!r}")
        if not commands[-1]:
            raise self.fail("a value is missing")
        for number, command in enumerate(commands):
            if number and command[0][0] not in ("function",):
                raise self.fail("what follows | must be a function")
            if len(command) > 1 and command[0][0] != "function":
                raise self.fail("only a function takes arguments")
        return Pipeline(names, declares, commands)

    def declaration(self, most: int) -> tuple[list[str], bool]:
        begin = self.at
        names: list[str] = []
        self.space()
        while self.take("$"):
            names.append("$" + self.name())
            self.space()
            if not self.take(","):
                break
            self.space()
        if names and "$" not in names:
            for operator in (":=", "="):
                if self.take(operator):
                    if len(names) > most:
                        raise self.fail("too many variables")
                    return names, operator == ":="
        self.at = begin
        return [], False

    def fields(self) -> list[str]:
        names = []
        while self.peek() == ".":
            self.at += 1
            name = self.name()
            if not name:
                raise self.fail("a field's name is missing after .")
            names.append(name)
        return names

    def term(self, depth: int) -> tuple[Any, ...]:
        letter = self.peek()
        if letter == "(":
            self.at += 1
            inner = self.pipeline(0, depth + 1)
            if not self.take(")"):
                raise self.fail("a ) is missing")
            return "pipeline", inner, self.fields()
        if letter == ".":
            following = self.text[self.at + 1 : self.at + 2]
            if following and (following in _NAME or following > "\x7f"):
                return "field", None, self.fields()
            self.at += 1
            return ("dot",)
        if letter == "$":
            self.at += 1
            return "variable", "$" + self.name(), self.fields()
        if letter in ('"', "`", "'"):
            return "literal", self.quoted(letter)
        if letter in "+-0123456789":
            return "literal", self.number()
        name = self.name()
        if name in ("true", "false"):
            return "literal", name == "true"
        if name == "nil":
            return "literal", None
        if not name:
            raise self.fail(f"unexpected {letter!r}")
        if name not in FUNCTIONS and name not in ("and", "or"):
            raise self.fail(f"function {name!r} is not defined")
        return "function", name

    def quoted(self, quote: str) -> Any:
        begin = self.at
        self.at += 1
        while self.peek() != quote:
            if not self.peek():
                raise self.fail("a string does not end")
            self.at += 2 if self.peek() == "\\" and quote != "`" else 1
        self.at += 1
        body = self.text[begin + 1 : self.at - 1]
        if quote == "`":
            return body
        try:
            text = json.loads(f'"{_json_escapes(body, quote)}"', strict=False)
        except ValueError:
            raise self.fail(f"the string {self.text[begin : self.at]} has a bad escape") from None
        if quote == "'":
            if len(text) != 1:
                raise self.fail("a character constant has one character")
            return ord(text)
        return text

    def number(self) -> int | float:
        begin = self.at
        while self.peek() and (self.peek() in _NAME or self.peek() in "+-."):
            self.at += 1
        text = self.text[begin : self.at]
        try:
            return int(text, 0)
        except ValueError:
            pass  # then it may have a fraction
        try:
            return float(text)
        except ValueError:
            raise self.fail(f"{text[:40]!r} is not a number") from None


def _json_escapes(body: str, quote: str) -> str:
    """Go's escapes that JSON lacks."""
    parts = []
    position = 0
    while position < len(body):
        letter = body[position]
        if letter != "\\":
            parts.append('\\"' if letter == '"' and quote != '"' else letter)
            position += 1
            continue
        following = body[position + 1 : position + 2]
        position += 2
        if following == "x":
            parts.append(f"\\u00{body[position : position + 2]}")
            position += 2
        else:
            parts.append(
                {"a": "\\u0007", "v": "\\u000b", "'": "'"}.get(following, "\\" + following)
            )
    return "".join(parts)


def parse_pipeline(text: str, fail: Fail, most: int = 1) -> Pipeline:
    """`most`: how many variables it may declare. Error: what `fail` makes of the reason."""
    reader = _Reader(text, fail)
    pipeline = reader.pipeline(most)
    if reader.peek():
        raise fail(f"unexpected {reader.peek()!r}")
    return pipeline


# --- evaluation -----------------------------------------------------------------------------------


def _lookup(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        if isinstance(value, dict):
            value = value[name] if name in value or hasattr(value, "__missing__") else MISSING
        elif value is None or isinstance(value, Missing):
            return MISSING
        else:
            raise UserError(f"template: {show(value)[:40]!r} has no field {name}")
    return value


def _term(term: tuple[Any, ...], scope: Scope) -> Any:
    kind = term[0]
    if kind == "dot":
        return scope.dot
    if kind == "field":
        return _lookup(scope.dot, term[2])
    if kind == "literal":
        return term[1]
    if kind == "variable":
        name = term[1]
        value = scope.dollar if name == "$" else scope.holder(name).variables[name]
        return _lookup(value, term[2])
    if kind == "pipeline":
        return _lookup(term[1].value(scope), term[2])
    return _call(term[1], [])


def _evaluate(command: list[Any], scope: Scope, last: list[Any]) -> Any:
    head = command[0]
    if head[0] != "function":
        return _term(head, scope)
    if head[1] in ("and", "or"):  # the arguments after the one that decides are not looked at
        stop = head[1] == "or"
        value: Any = MISSING
        for term in command[1:]:
            value = _term(term, scope)
            if truth(value) == stop:
                return value
        return last[0] if last else value
    return _call(head[1], [_term(term, scope) for term in command[1:]] + last)


def _call(name: str, arguments: list[Any]) -> Any:
    from .gofunctions import call

    return call(name, arguments)


FUNCTIONS = frozenset(
    "json join lower upper title split len index slice printf print println eq ne lt le gt ge not "
    "trim truncate pad replace".split()
)
