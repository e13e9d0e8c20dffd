"""Variables and quotes in instructions: `$a`, `${a:-b}`, `${a:+b}`, ... as Docker's own shell
words have them. Pure; errors are ValueError, which the caller makes one that names the line."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

SPECIAL = "@*#?-$!"
"""Parameters of one character that a shell has; they are empty here."""
MAX_DEPTH = 64


def word(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The text with variables in place and quotes removed."""
    return "".join(_Lexer(text, variables, escape).run()[0])


def words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As `word`, split where blanks stand outside quotes; what a variable gives is split, too."""
    pieces, quoted = _Lexer(text, variables, escape).run()
    found: list[str] = []
    current: list[str] = []
    started = False
    for piece, kept in zip(pieces, quoted, strict=True):
        if kept:
            current.append(piece)
            started = True
            continue
        for part in re.split(r"([ \t\n\r]+)", piece):
            if part and not part.isspace():
                current.append(part)
                started = True
            elif part and started:
                found.append("".join(current))
                current, started = [], False
    if started:
        found.append("".join(current))
    return found


def split(text: str, escape: str = "\\") -> list[str]:
    """Words at blanks outside quotes; quotes, escapes and variables stay as they are written."""
    found: list[str] = []
    current: list[str] = []
    quote = ""
    index = 0
    while index < len(text):
        char = text[index]
        if char == escape and quote != "'" and index + 1 < len(text):
            current.append(text[index : index + 2])
            index += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in " \t\n":
            if current:
                found.append("".join(current))
                current = []
            index += 1
            continue
        current.append(char)
        index += 1
    if current:
        found.append("".join(current))
    return found


class _Lexer:
    """One pass over a text. Pieces are kept apart by whether they may be split at blanks."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str) -> None:
        self.text = text
        self.at = 0
        self.variables = variables
        self.escape = escape
        self.depth = 0
        self.pieces: list[str] = []
        self.quoted: list[bool] = []

    def run(self) -> tuple[list[str], list[bool]]:
        self._until("")
        return self.pieces, self.quoted

    def _add(self, piece: str, *, quoted: bool) -> None:
        self.pieces.append(piece)
        self.quoted.append(quoted)

    def _next(self) -> str:
        """The next character, consumed; empty at the end."""
        char = self.text[self.at : self.at + 1]
        self.at += 1
        return char

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _until(self, stop: str) -> None:
        while char := self._next():
            if char == stop:
                return
            if char == "'":
                self._single()
            elif char == '"':
                self._double()
            elif char == "$":
                self._add(self._dollar(), quoted=False)
            elif char == self.escape:
                following = self._next()
                self._add(following or char, quoted=True)
            else:
                self._add(char, quoted=False)
        if stop:
            raise ValueError(f"a {stop!r} is missing")

    def _single(self) -> None:
        end = self.text.find("'", self.at)
        if end < 0:
            raise ValueError("a single quote is never closed")
        self._add(self.text[self.at : end], quoted=True)
        self.at = end + 1

    def _double(self) -> None:
        self._add("", quoted=True)
        while char := self._next():
            if char == '"':
                return
            if char == "$":
                self._add(self._dollar(), quoted=True)
            elif char == self.escape and self._peek() in ('"', "$", self.escape):
                self._add(self._next(), quoted=True)
            else:
                self._add(char, quoted=True)
        raise ValueError("a double quote is never closed")

    def _dollar(self) -> str:
        """What follows a `$`."""
        if self._peek() != "{":
            name = self._name()
            return self.variables.get(name, "") if name else "$"
        self.at += 1
        name = self._name()
        if not name:
            raise ValueError("bad substitution: ${ without a name")
        value = self.variables.get(name)
        operator = self._next()
        if operator == "}":
            return value or ""
        if operator == ":":
            operator = self._next()
            value = value or None
            if operator not in ("-", "+", "?"):
                raise ValueError(f"bad substitution: ${{{name}:{operator} is not supported")
        if operator in ("#", "%"):
            greedy = self._peek() == operator
            self.at += greedy
            return _strip(value or "", self._inner("}"), operator, greedy)
        if operator == "/":
            every = self._peek() == "/"
            self.at += every
            pattern = self._inner("/")
            return _replace(value or "", pattern, self._inner("}"), every)
        if operator not in ("-", "+", "?"):
            raise ValueError(f"bad substitution: ${{{name} is not closed")
        other = self._inner("}")
        if operator == "+":
            return other if value is not None else ""
        if value is None and operator == "?":
            raise ValueError(f"{name}: {other or 'is not set'}")
        return other if value is None else value

    def _inner(self, stop: str) -> str:
        """The word after an operator, expanded."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("substitutions are nested too deeply")
        outer = self.pieces, self.quoted
        self.pieces, self.quoted = [], []
        self._until(stop)
        inner = "".join(self.pieces)
        self.pieces, self.quoted = outer
        self.depth -= 1
        return inner

    def _name(self) -> str:
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+").match(self.text, self.at)
        if match:
            self.at = match.end()
            return match.group()
        if self._peek() and self._peek() in SPECIAL:
            return self._next()
        return ""


def _strip(value: str, pattern: str, operator: str, greedy: bool) -> str:
    """`${a#pattern}` and `${a%pattern}`; doubled: the longest match."""
    sizes = range(len(value) + 1)
    for size in reversed(sizes) if greedy else sizes:
        cut = value[:size] if operator == "#" else value[len(value) - size :]
        if fnmatch.fnmatchcase(cut, pattern):
            return value[size:] if operator == "#" else value[: len(value) - size]
    return value


def _replace(value: str, pattern: str, other: str, every: bool) -> str:
    regex = re.compile(fnmatch.translate(pattern).removesuffix(r"\Z").removesuffix(r"\z"))
    return regex.sub(lambda _: other, value, count=0 if every else 1)
