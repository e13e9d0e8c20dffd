"""Text that is safe to show on a terminal: names and errors may come from an image or a registry.

An escape sequence in a name could rewrite what a person sees (CWE-150), so whatever is not
printable is shown as Python would write it: `\\x1b`.
"""

from __future__ import annotations

import sys


def _escape(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def line(text: str) -> str:
    """One line: line breaks and every other character that does not print are escaped."""
    return text if text.isprintable() else _escape(text)


def block(text: str) -> str:
    """Several lines: like `line`, but newlines and tabs stay."""
    if text.isprintable():
        return text
    return "\n".join(
        "\t".join(line(cell) for cell in part.split("\t")) for part in text.split("\n")
    )


def for_terminal(text: str) -> str:
    """What a template of `--format` made: as it is for a program that reads it, but like `block`
    for a terminal, since labels and the like are a stranger's."""
    return block(text) if sys.stdout.isatty() else text


def failure(text: str, error: BaseException, debug: bool) -> None:
    """Say on stderr what went wrong: one line (already safe), after a traceback with --debug."""
    if debug:
        import traceback

        sys.stderr.write(block("".join(traceback.format_exception(error))))
    if text:
        sys.stderr.write(f"Error: {text}\n")
