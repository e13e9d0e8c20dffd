""".dockerignore and .containerignore: which paths of a context do not take part. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from ..errors import UserError


class Pattern:
    """One line."""

    __slots__ = ("exception", "regex")

    def __init__(self, text: str) -> None:
        self.exception = text.startswith("!")
        self.regex = re.compile(translate(clean(text.lstrip("!").strip())))


def clean(path: str) -> str:
    """`/a//b/` -> `a/b`; what leads out of the context stays out."""
    return posixpath.normpath(f"/{path}").lstrip("/") or "."


def translate(pattern: str, *, whole: bool = True) -> str:
    """A pattern (Go's filepath.Match, and `**` for any number of directories) as a regular
    expression. Error: UserError for a class that is not closed."""
    out = []
    index = 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            if pattern[index : index + 1] == "*":
                while pattern[index : index + 1] == "*":
                    index += 1
                if pattern[index : index + 1] == "/":
                    index += 1
                    out.append("(?:.*/)?")
                else:
                    out.append(".*")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = pattern.find("]", index + 1)
            if end < 0:
                raise UserError(f"the pattern {pattern!r} has a [ without a ]")
            inner = pattern[index:end]
            negated = inner[:1] in ("^", "!")
            inner = inner[negated:].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            out.append(f"[{'^' if negated else ''}{inner}]")
            index = end + 1
        elif char == "\\" and index < len(pattern):
            out.append(re.escape(pattern[index]))
            index += 1
        else:
            out.append(re.escape(char))
    text = "".join(out)
    try:
        re.compile(text)
    except re.error:
        raise UserError(f"the pattern {pattern!r} makes no sense") from None
    return rf"(?s:{text})\Z" if whole else text


class Ignore:
    """Says of each path, relative to the context and without a leading slash, whether it is out."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.patterns = [
            Pattern(line.strip())
            for line in lines
            if line.strip() and not line.startswith("#") and line.strip() != "!"
        ]
        self.has_exceptions = any(pattern.exception for pattern in self.patterns)

    @classmethod
    def parse(cls, text: str) -> Ignore:
        return cls(text.removeprefix("\ufeff").splitlines())

    def ignored(self, path: str) -> bool:
        """The last line that says something of the path, or of a directory above it, decides."""
        if not self.patterns or path in ("", "."):
            return False
        parts = path.split("/")
        prefixes = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
        out = False
        for pattern in self.patterns:
            if pattern.exception == out and any(pattern.regex.match(one) for one in prefixes):
                out = not pattern.exception
        return out

    def skips(self, directory: str) -> bool:
        """True when nothing in this directory can take part."""
        return not self.has_exceptions and self.ignored(directory)
