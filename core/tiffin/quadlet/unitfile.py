"""systemd's file format (systemd.syntax(7)) and the words of its command lines
(systemd.service(5), "Command lines"). Pure.

Specifiers (`%i`) and variables (`$HOME`) are left for systemd to expand, wherever they stand.
"""

from __future__ import annotations

from ..errors import UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SPACE = " \t\n\r"
ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
NUMBERS = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
TRUE = ("1", "yes", "y", "true", "t", "on")
FALSE = ("0", "no", "n", "false", "f", "off")
NEEDS_QUOTES = frozenset(" \t\n\r\a\b\f\v\"'\\")


class UnitFile:
    """Sections with their assignments, in order."""

    def __init__(self) -> None:
        self.sections: dict[str, list[tuple[str, str]]] = {}

    def merge(self, other: UnitFile) -> None:
        """A drop-in: what it says comes after what stands here."""
        for section, entries in other.sections.items():
            self.sections.setdefault(section, []).extend(entries)

    def keys(self, section: str) -> list[str]:
        return [key for key, _ in self.sections.get(section, ())]

    def add(self, section: str, key: str, value: str) -> None:
        self.sections.setdefault(section, []).append((key, value))

    def all(self, section: str, key: str) -> list[str]:
        """Values in order; an empty one takes back those before it."""
        found: list[str] = []
        for name, value in self.sections.get(section, ()):
            if name == key:
                found = [*found, value] if value else []
        return found

    def last(self, section: str, key: str) -> str:
        """The value that counts, without quotes around the whole of it; "" when there is none."""
        found = self.all(section, key)
        value = found[-1] if found else ""
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            inner = value[1:-1]
            return value if value[0] in inner else inner
        return value

    def boolean(self, section: str, key: str) -> bool | None:
        """None when it is not said. Error: UserError."""
        value = self.last(section, key)
        if not value:
            return None
        if value.lower() in TRUE:
            return True
        if value.lower() in FALSE:
            return False
        raise UserError(f"{key}={value} is neither yes nor no")

    def words(self, section: str, key: str) -> list[str]:
        """All values, each split into words. Error: UserError."""
        try:
            return [word for value in self.all(section, key) for word in split(value)]
        except UserError as error:
            raise UserError(f"{key}=: {error}") from None

    def pairs(self, section: str, key: str) -> list[str]:
        """`NAME=VALUE` words as of Environment=; the last one of a name counts."""
        found: dict[str, str] = {}
        for word in self.words(section, key):
            name = word.partition("=")[0]
            found.pop(name, None)
            found[name] = word
        return list(found.values())


def parse(text: str) -> UnitFile:
    """Error: UserError that names the line."""
    unit = UnitFile()
    section = ""
    for number, line in _logical(text):
        if line.startswith("["):
            if not line.endswith("]") or len(line) < 3 or any(c in "[]" for c in line[1:-1]):
                raise UserError(f"line {number}: {line!r} is not the head of a section")
            section = line[1:-1]
            unit.sections.setdefault(section, [])
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise UserError(f"line {number}: {line!r} is not of the form KEY=VALUE")
        if not section:
            raise UserError(f"line {number}: {key.strip()}= stands before the first [SECTION]")
        unit.add(section, key.rstrip(SPACE), value.strip(SPACE))
    return unit


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """(number, line), lines that end with a backslash joined with the next, comments left out."""
    if "\0" in text:
        raise UserError("there is a NUL byte in it")
    begun: list[str] = []
    first = 0
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        bare = line.strip(SPACE)
        if bare[:1] in ("#", ";") or not (bare or begun):
            continue
        first = first if begun else number
        goes_on = line.rstrip("\r").endswith("\\")
        begun.append(line.rstrip("\r")[:-1] if goes_on else line)
        if not goes_on:
            yield first, " ".join(begun).strip(SPACE)
            begun = []
    if begun and (rest := " ".join(begun).strip(SPACE)):
        yield first, rest


def render(sections: dict[str, list[tuple[str, str]]]) -> str:
    """The text of a unit."""
    parts = []
    for section, entries in sections.items():
        lines = "".join(f"{key}={value}\n" for key, value in entries)
        parts.append(f"[{section}]\n{lines}")
    return "\n".join(parts)


# --- words ----------------------------------------------------------------------------------------


def split(text: str) -> list[str]:
    """Words with their quotes and escapes resolved. Error: UserError."""
    return list(_words(text))


def _words(text: str) -> Iterator[str]:
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in SPACE:
            position += 1
        if position == end:
            return
        word: list[str] = []
        quote = ""
        while position < end and (quote or text[position] not in SPACE):
            char = text[position]
            if char == quote:
                quote = ""
                position += 1
            elif not quote and char in "\"'":
                quote = char
                position += 1
            elif char == "\\":
                char, position = _escape(text, position)
                word.append(char)
            else:
                word.append(char)
                position += 1
        if quote:
            raise UserError(f"{text!r}: a {quote} is not closed")
        yield "".join(word)


def _escape(text: str, position: int) -> tuple[str, int]:
    """What the escape at `position` stands for, and where it ends. One that is not known stays as
    it is, as in systemd."""
    char = text[position + 1 : position + 2]
    if char in ESCAPES:
        return ESCAPES[char], position + 2
    count, base = NUMBERS.get(char, (3, 8))
    start = position + (2 if char in NUMBERS else 1)
    digits = text[start : start + count]
    allowed = "0123456789abcdefABCDEF" if base == 16 else "01234567"
    if char and len(digits) == count and all(digit in allowed for digit in digits):
        code = int(digits, base)
        if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000:
            return chr(code), start + count
    return "\\", position + 1


def quote(word: str) -> str:
    """One word of a command line, as `split` reads it; specifiers and variables stay."""
    if word and word != ";" and not NEEDS_QUOTES.intersection(word) and word.isprintable():
        return word
    out = []
    for char in word:
        if char in '"\\':
            out.append(f"\\{char}")
        elif char == "\n":
            out.append("\\n")
        elif char == "\t":
            out.append("\\t")
        elif not char.isprintable():
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\U{code:08x}")
        else:
            out.append(char)
    return f'"{"".join(out)}"'


def command(words: Iterable[str]) -> str:
    """A command line."""
    return " ".join(map(quote, words))


def literal(text: str) -> str:
    """A text of ours, such as a path, in which systemd must expand nothing."""
    return text.replace("%", "%%").replace("$", "$$")
