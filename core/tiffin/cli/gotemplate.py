"""Go's text/template (pkg.go.dev/text/template), as much of it as `--format` needs. Pure.

Values are what JSON has: dicts, lists, text, numbers, booleans and None. A dict stands for Go's
struct or map: fields are looked up as keys, a missing key is `<no value>`. Any template and any
value end in text or in one UserError; loops and output are limited.
"""

from __future__ import annotations

from ..errors import UserError
from .flags import suggestion
from .goexpr import Missing, Pipeline, Scope, parse_pipeline, show, truth

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    _Dict = dict[str, Any]
else:
    _Dict = dict

MAX_TEMPLATE = 1 << 16
"""Characters of a template."""
MAX_OUTPUT = 1 << 26
"""Characters that one rendering may print."""
MAX_STEPS = 1_000_000
"""Nodes that one rendering may visit."""
MAX_DEPTH = 100
"""Blocks inside blocks."""
SPACE = " \t\r\n"


class _Run:
    """The limits of one rendering, and what it has printed."""

    __slots__ = ("parts", "size", "steps")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.steps = 0

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise UserError("template prints too much")
        self.parts.append(text)

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise UserError("template runs too long")


class _Node:
    __slots__ = ()

    def render(self, run: _Run, scope: Scope) -> None:
        raise NotImplementedError  # each kind of node has its own; an abc would cost an import


class _Break(Exception):
    """`{{break}}` and, with `again`, `{{continue}}`."""

    def __init__(self, again: bool) -> None:
        self.again = again


class _Text(_Node):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def render(self, run: _Run, scope: Scope) -> None:
        run.write(self.text)


class _Leave(_Node):
    __slots__ = ("again",)

    def __init__(self, again: bool) -> None:
        self.again = again

    def render(self, run: _Run, scope: Scope) -> None:
        raise _Break(self.again)


class _Print(_Node):
    __slots__ = ("pipeline",)

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def render(self, run: _Run, scope: Scope) -> None:
        value = self.pipeline.value(scope)
        if self.pipeline.names:
            scope.declare(self.pipeline, [value])
        else:
            run.write(show(value))


def _render(nodes: list[_Node], run: _Run, scope: Scope) -> None:
    for node in nodes:
        run.step()
        node.render(run, scope)


class _Block(_Node):
    """`if` and `with`; `else if` is a block inside `otherwise`."""

    __slots__ = ("body", "otherwise", "pipeline", "word")

    def __init__(self, word: str, pipeline: Pipeline) -> None:
        self.word = word
        self.pipeline = pipeline
        self.body: list[_Node] = []
        self.otherwise: list[_Node] = []

    def render(self, run: _Run, scope: Scope) -> None:
        value = self.pipeline.value(scope)
        yes = truth(value)
        inner = scope.inside(value if self.word == "with" and yes else scope.dot)
        inner.declare(self.pipeline, [value])
        _render(self.body if yes else self.otherwise, run, inner)


class _Range(_Block):
    __slots__ = ()

    def render(self, run: _Run, scope: Scope) -> None:
        value = self.pipeline.value(scope)
        items = list(self.items(value))
        for key, item in items:
            run.step()
            inner = scope.inside(item)
            names = self.pipeline.names
            inner.declare(self.pipeline, [item] if len(names) < 2 else [key, item])
            try:
                _render(self.body, run, inner)
            except _Break as leave:
                if leave.again:
                    continue
                break
        if not items:
            _render(self.otherwise, run, scope.inside(scope.dot))

    def items(self, value: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                yield key, value[key]
        elif isinstance(value, list):
            yield from enumerate(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            if value > MAX_STEPS:
                raise UserError("template runs too long")
            yield from ((number, number) for number in range(value))
        elif value is not None and not isinstance(value, Missing):
            raise UserError(f"template: range over {show(value)[:40]!r}, which is no list or map")


class Template:
    """A parsed template; `render` may be called for many values."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: list[_Node]) -> None:
        self.nodes = nodes

    def render(self, value: Any) -> str:
        """The text for one value. Error: UserError, one line."""
        run = _Run()
        try:
            _render(self.nodes, run, Scope(value, value))
        except RecursionError:
            raise UserError("template: the value is nested too deeply") from None
        return "".join(run.parts)


def parse(text: str) -> Template:
    """Error: UserError that says where."""
    if len(text) > MAX_TEMPLATE:
        raise UserError(f"template is longer than {MAX_TEMPLATE} characters")
    top: list[_Node] = []
    blocks: list[_Block] = []
    lists = [top]
    extra_ends: list[int] = [0]  # how many `else if` blocks one `end` closes
    for start, part, is_action in _split(text):
        if not is_action:
            lists[-1].append(_Text(part))
            continue

        def fail(why: str, at: int = start) -> UserError:
            return UserError(f"template, character {at + 1}: {why}")

        word, _, rest = part.partition(" ")
        rest = rest.strip(SPACE)
        if word in ("if", "with", "range"):
            if len(blocks) >= MAX_DEPTH:
                raise fail("blocks are nested too deeply")
            block = _open(word, rest, fail)
            lists[-1].append(block)
            blocks.append(block)
            lists.append(block.body)
            extra_ends.append(0)
        elif word == "else":
            if not blocks or lists[-1] is blocks[-1].otherwise:
                raise fail("else without if, with or range")
            lists[-1] = blocks[-1].otherwise
            if rest:
                word, _, rest = rest.partition(" ")
                if word not in ("if", "with") or isinstance(blocks[-1], _Range):
                    raise fail(f"else {word} is not known here")
                if sum(extra_ends) + len(blocks) >= MAX_DEPTH:
                    raise fail("blocks are nested too deeply")
                block = _open(word, rest, fail)
                lists[-1].append(block)
                blocks[-1] = block  # its end is the end of the one around it
                lists[-1] = block.body
                extra_ends[-1] += 1
        elif part == "end":
            if not blocks:
                raise fail("end without if, with or range")
            blocks.pop()
            lists.pop()
            extra_ends.pop()
        elif part in ("break", "continue"):
            if not any(isinstance(block, _Range) for block in blocks):
                raise fail(f"{part} outside of range")
            lists[-1].append(_Leave(part == "continue"))
        elif word in ("define", "template", "block"):
            raise fail(f"{word} is not supported")
        elif part:
            lists[-1].append(_Print(parse_pipeline(part, fail)))
        else:
            raise fail("nothing between {{ and }}")
    if blocks:
        raise UserError(f"template: {blocks[-1].word} has no end")
    return Template(top)


def _open(word: str, rest: str, fail: Callable[[str], UserError]) -> _Block:
    if not rest:
        raise fail(f"{word} needs a value")
    pipeline = parse_pipeline(rest, fail, most=2 if word == "range" else 1)
    return (_Range if word == "range" else _Block)(word, pipeline)


def _split(text: str) -> Iterator[tuple[int, str, bool]]:
    """(position, text, whether it is an action); trimming (`{{-`, `-}}`) done, comments dropped."""
    position = 0
    trim = False
    while True:
        start = text.find("{{", position)
        literal = text[position:] if start < 0 else text[position:start]
        if trim:
            literal = literal.lstrip(SPACE)
        if start < 0:
            if literal:
                yield position, literal, False
            return
        inside = start + 2
        if text.startswith("-", inside) and text[inside + 1 : inside + 2] in tuple(SPACE):
            literal = literal.rstrip(SPACE)
            inside += 2
        if literal:
            yield position, literal, False
        end = _end(text, inside, start)
        body = text[inside:end]
        trim = len(body) > 1 and body[-1] == "-" and body[-2] in SPACE
        body = (body[:-1] if trim else body).strip(SPACE)
        position = end + 2
        if body.startswith("/*"):
            if not body.endswith("*/") or len(body) < 4:
                raise UserError(f"template, character {start + 1}: the comment does not end")
            continue
        yield start, " ".join(body.split("\n")), True


def _end(text: str, position: int, start: int) -> int:
    """Where the action's `}}` is; one in a string does not count."""
    quote = ""
    if text[position:].lstrip(SPACE).startswith("/*"):
        close = text.find("*/", position)
        end = text.find("}}", close) if close >= 0 else -1
        if end >= 0:
            return end
        raise UserError(f"template, character {start + 1}: the comment does not end")
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == "\\" and quote != "`":
                position += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'`":
            quote = letter
        elif text.startswith("}}", position):
            return position
        position += 1
    raise UserError(f"template, character {start + 1}: {{{{ has no }}}}")


class Record(_Dict):
    """A dict that stands for a struct: naming a field that it lacks is an error, not
    `<no value>`."""

    __slots__ = ()

    def __missing__(self, name: str) -> Any:
        raise UserError(f"template: there is no field {name}{suggestion(name, list(self))}")


class Named(Record):
    """A struct whose fields have other names in JSON."""

    __slots__ = ("names",)

    def __init__(self, names: Mapping[str, str], fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.names = names

    def plain(self) -> dict[str, Any]:
        return {self.names.get(n, n): value for n, value in self.items() if value is not None}


_parsed: dict[str, Template] = {}


def render(text: str, value: Any) -> str:
    """The text for one value; `\\t` and `\\n` outside of actions are a tab and a newline.

    A template that is used for many rows is parsed once. Error: UserError.
    """
    template = _parsed.get(text)
    if template is None:
        template = _parsed[text] = parse(unescape(text))
    return template.render(value)


def headings(text: str, names: Mapping[str, str]) -> str:
    """The first line for `table`: a heading in the place of every action that prints.

    `names` are headings by field; a field that is missing there is headed by its own words.
    """
    parts: list[str] = []
    _headings(parse(unescape(text)).nodes, names, parts)
    return "".join(parts)


def _headings(nodes: list[_Node], names: Mapping[str, str], parts: list[str]) -> None:
    for node in nodes:
        if isinstance(node, _Text):
            parts.append(node.text)
        elif isinstance(node, _Block):
            _headings(node.body, names, parts)
        elif isinstance(node, _Print):
            field = node.pipeline.first_field()
            if field:
                parts.append(names.get(field, words(field)))


def words(field: str) -> str:
    """`CreatedAt` -> `CREATED AT`, `ImageID` -> `IMAGE ID`."""
    letters = []
    for position, letter in enumerate(field):
        if position and letter.isupper() and field[position - 1].islower():
            letters.append(" ")
        letters.append(letter.upper())
    return "".join(letters)


_ESCAPES = {"t": "\t", "n": "\n", "\\": "\\"}


def unescape(text: str) -> str:
    """`\\t` and `\\n` as podman reads them, outside of actions only."""
    parts = []
    position = 0
    while position < len(text):
        if text.startswith("{{", position):
            end = text.find("}}", position)
            end = len(text) if end < 0 else end + 2
            parts.append(text[position:end])
            position = end
        elif text[position] == "\\" and text[position + 1 : position + 2] in tuple(_ESCAPES):
            parts.append(_ESCAPES[text[position + 1]])
            position += 2
        else:
            parts.append(text[position])
            position += 1
    return "".join(parts)
