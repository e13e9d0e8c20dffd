"""Text to logical lines: directives, comments, continuations, heredocs.

The rules are those of docs.docker.com/reference/dockerfile ("Format", "Parser directives",
"Here-Documents").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from ..errors import UserError

MAX_SIZE = 16 << 20
"""Bytes of a Dockerfile."""
DIRECTIVES = ("escape", "syntax", "check")
_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.*?)[ \t]*\Z")
_HEREDOC = re.compile(r"(?<![<\w\"'])([0-9]*)<<(-?)(\"[^\"<\s]+\"|'[^'<\s]+'|[^\s<>\"'|&;()]+)")
WITH_HEREDOCS = ("RUN", "COPY", "ADD")


class Heredoc(Struct, frozen=True):
    name: str
    content: str
    expand: bool
    """False when the delimiter is quoted."""
    chomp: bool = False
    """`<<-`: leading tabs are taken away."""


class Line(Struct, frozen=True):
    """One instruction as it is written, its continuations joined."""

    number: int
    """Of its first line, from 1."""
    name: str
    """Upper case."""
    rest: str
    heredocs: tuple[Heredoc, ...] = ()


class Source(Struct, frozen=True):
    """A file that is read: its name for messages, the escape character, its lines."""

    name: str
    escape: str
    lines: tuple[Line, ...]
    directives: tuple[tuple[str, str], ...] = ()


def wrong(file: str, number: int, what: str, hint: str = "") -> UserError:
    """An error that names file and line."""
    return UserError(f"{file}:{number}: {what}", hint=hint)


def read(text: str, file: str = "Dockerfile") -> Source:
    """Error: UserError that names file and line."""
    if len(text) > MAX_SIZE:
        raise UserError(f"{file} is larger than {MAX_SIZE >> 20} MiB")
    physical = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    directives, first = _directives(physical, file)
    escape = dict(directives).get("escape", "\\")
    if escape not in ("\\", "`"):
        raise wrong(file, 1, f"escape={escape!r} is not known", "\\ or `")
    lines = tuple(_logical(physical, first, escape, file))
    return Source(file, escape, lines, tuple(directives))


def _directives(physical: list[str], file: str) -> tuple[list[tuple[str, str]], int]:
    found: list[tuple[str, str]] = []
    for index, line in enumerate(physical):
        match = _DIRECTIVE.match(line.strip())
        name = match.group(1).lower() if match else ""
        if match is None or name not in DIRECTIVES:
            return found, index
        if name in dict(found):
            raise wrong(file, index + 1, f"the directive {name} is there twice")
        found.append((name, match.group(2)))
    return found, len(physical)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _logical(physical: list[str], first: int, escape: str, file: str) -> Iterator[Line]:
    # An escaped escape character at the end is one character, and no continuation.
    token = re.escape(escape)
    goes_on = re.compile(rf"(?<!{token})((?:{token}{token})*){token}[ \t]*\Z")
    index = first
    while index < len(physical):
        start = index
        line = physical[index].lstrip()
        index += 1
        if not line.strip() or _is_comment(line):
            continue
        parts = []
        while True:
            match = goes_on.search(line)
            if match is None:
                parts.append(line)
                break
            parts.append(line[: match.end(1)])
            while index < len(physical) and (
                not physical[index].strip() or _is_comment(physical[index])
            ):
                index += 1
            if index == len(physical):
                break
            line = physical[index]
            index += 1
        joined = "".join(parts).strip()
        name, _, rest = joined.partition(" ") if " " in joined else (joined, "", "")
        if "\t" in name:
            name, _, more = joined.partition("\t")
            rest = more
        heredocs = []
        target = name.upper()
        if target == "ONBUILD":
            target = rest.split(None, 1)[0].upper() if rest.split() else ""
        if target in WITH_HEREDOCS and "<<" in rest:
            for _, dash, word in _HEREDOC.findall(_outside_quotes(rest)):
                heredoc, index = _heredoc(physical, index, dash, word, start, file)
                heredocs.append(heredoc)
        yield Line(start + 1, name.upper(), rest.strip(), tuple(heredocs))


def _outside_quotes(text: str) -> str:
    """The text with what stands in quotes blanked, but for the delimiters of heredocs."""
    return re.sub(
        r"<<-?(?:\"[^\"<\s]+\"|'[^'<\s]+')|\"(?:[^\"\\]|\\.)*\"|'[^']*'",
        lambda m: m.group() if m.group().startswith("<<") else "_" * len(m.group()),
        text,
    )


def _heredoc(
    physical: list[str], index: int, dash: str, word: str, start: int, file: str
) -> tuple[Heredoc, int]:
    quoted = word[0] in "\"'"
    name = word[1:-1] if quoted else word
    content: list[str] = []
    while index < len(physical):
        line = physical[index]
        index += 1
        if dash:
            line = line.lstrip("\t")
        if line == name:
            text = "".join(f"{line}\n" for line in content)
            return Heredoc(name, text, not quoted, bool(dash)), index
        content.append(line)
    raise wrong(file, start + 1, f"the heredoc {name!r} has no end", f"a line {name} ends it")
