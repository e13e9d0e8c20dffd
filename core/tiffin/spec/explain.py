"""`tiffin explain`: a container's story as one would draw it on a napkin.

Pure functions over plain data that the caller has gathered; no engine, no plugins. Whatever does
not print is escaped: names, commands and labels come from images (CWE-150).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

from msgspec import Struct

from ..hooks import Origin
from .origins import leaves, origin_of, token

WIDTH = 100
"""Columns of the whole picture."""

QUIET = frozenset(
    "labels options layers program bundle rootfs directory cgroup netns attachments spec ports "
    "image_id stop_signal stop_timeout security_labels id_maps".split()
)
"""Fields of events that the rest of the picture shows, or that are for robots."""

NOBODY = 4294967295
"""The login uid of a process that no login began (audit, `-1`)."""

UNKNOWN = Origin("unknown")


class Explanation(Struct, frozen=True):
    """All that is drawn; gathered by the front end. Every part may be empty."""

    container: Mapping[str, Any]
    """Its row: name, id, state, image_name, storage_driver, runtime, network, ..."""
    events: Sequence[Mapping[str, Any]]
    """seq, time (ns), type, actor, data; oldest first."""
    layers: Sequence[Mapping[str, Any]]
    """chain_id, size (bytes), created_by; lowest first."""
    upper: str
    """Where the container's own layer is, or nothing."""
    mounts: Sequence[str]
    """Lines of the host's mount table that concern it."""
    processes: Sequence[tuple[int, str]]
    """(pid, name) from init down to the container's process."""
    document: Mapping[str, Any]
    """config.json; empty before `init`."""
    origins: Mapping[str, Origin]


def to_plain(explanation: Explanation) -> dict[str, Any]:
    """The same for robots. Text that is not UTF-8 (PEP 383) is escaped: JSON can hold no other."""
    plain_data: dict[str, Any] = _decodable(
        {
            "container": explanation.container,
            "events": explanation.events,
            "layers": explanation.layers,
            "upper": explanation.upper,
            "mounts": explanation.mounts,
            "processes": [{"pid": pid, "name": name} for pid, name in explanation.processes],
            "config": [
                {"field": pointer, "value": value, "source": o.source, "detail": o.detail}
                for pointer, value, o in fields(explanation)
            ],
        }
    )
    return plain_data


def fields(explanation: Explanation) -> list[tuple[str, Any, Origin]]:
    """(pointer, value, origin) of every field; seccomp's hundreds of names as one."""
    return [
        (pointer, value, origin_of(explanation.origins, pointer) or UNKNOWN)
        for pointer, value in _summed_up(explanation.document)
    ]


def _summed_up(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    rules = (document.get("linux") or {}).get("seccomp")
    for pointer, value in leaves(dict(document)) if document else ():
        if not pointer.startswith("/linux/seccomp/"):
            yield pointer, value
    if rules:
        yield "/linux/seccomp", _whole("/linux/seccomp", rules)


def render(explanation: Explanation) -> str:
    """The picture, at most WIDTH columns wide, ending with a newline."""
    document = explanation.document
    config = _fields(explanation) or ["  not written yet: `init` or `start` does that"]
    parts = [
        _heading(explanation.container),
        _section("The story", _events(explanation.events)),
        _section("The layers, top to bottom", _layers(explanation)),
        _section("What is mounted on the host for it", _lines(explanation.mounts or ["nothing"])),
        _section("What is bound into it, when it starts", _binds(document.get("mounts") or ())),
        _section("The processes", _tree(explanation.processes)),
        _section("config.json, and where each field is from", config),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(value: Any) -> str:
    """One line of text that is safe on a terminal: what does not print becomes an escape."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


# --- the parts ------------------------------------------------------------------------------------


def _heading(container: Mapping[str, Any]) -> str:
    if not container:
        return ""
    state = str(container.get("state", ""))
    if state == "exited" and "exit_code" in container:
        state = f"{state} with {container['exit_code']}"
    title = f"{container.get('name', '')}  {str(container.get('id', ''))[:12]}  {state}"
    command = container.get("command") or ""
    if isinstance(command, (list, tuple)):
        command = " ".join(map(str, command))
    facts = [
        ("image", container.get("image_name") or container.get("image")),
        ("runs", command),
        ("storage", container.get("storage_driver")),
        ("runtime", container.get("runtime")),
        ("network", container.get("network")),
        ("root", container.get("mounted") or "not mounted"),
    ]
    rows = [(f"  {name}", str(value)) for name, value in facts if value]
    return "\n".join([*_wrap(plain(title), WIDTH), *_columns(rows, (9, WIDTH - 11))])


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *lines]) if lines else ""


def _events(events: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    day = ""
    for event in events:
        seconds, rest = divmod(int(event.get("time") or 0), 1_000_000_000)
        moment = time.gmtime(seconds)
        if (date := time.strftime("%Y-%m-%d", moment)) != day:
            day = date
            rows.append((f"  {date} UTC", "", "", ""))
        clock = f"  {time.strftime('%H:%M:%S', moment)}.{rest // 1_000_000:03d}"
        what = str(event.get("type", "")).partition(".")[2].replace("_", " ")
        actor = _actor(event.get("actor") or {})
        rows.append((clock, what or str(event.get("type", "")), actor, _told(event.get("data"))))
    return _columns(rows, (16, 17, 22, WIDTH - 61))


def _actor(actor: Mapping[str, Any]) -> str:
    """uid (and the login uid behind it where sudo made them differ), front end and pid."""
    uid, login = actor.get("uid", "?"), actor.get("loginuid")
    who = f"uid {uid}"
    if login not in (None, uid, NOBODY):
        who += f" (login {login})"
    return " ".join(str(x) for x in (who, actor.get("front_end"), actor.get("pid")) if x)


def _told(data: Any) -> str:
    """The telling fields of an event, on one line."""
    told = []
    for name, value in dict(data or {}).items():
        if name in QUIET or value in ("", None, 0, False) or value in ((), [], {}):
            if name == "exit_code":
                told.append("exit_code=0")
            continue
        told.append(f"{name}={_short(value)}")
    return "  ".join(told)


def _layers(explanation: Explanation) -> list[str]:
    """A lunch box: the copy-on-write layer over those of the image."""
    rows = [("copy-on-write", "", explanation.upper or "not mounted")]
    for layer in reversed(explanation.layers):
        made = " ".join(str(layer.get("created_by") or "").split())
        digest = str(layer.get("chain_id", "")).removeprefix("sha256:")[:12]
        rows.append((digest, _size(layer.get("size", -1)), made))
    inner = WIDTH - 6
    drawn = [
        f"  │ {_fill(_cut(plain(name), 13), 13)}  {size:>8}  "
        f"{_fill(_cut(plain(words), inner - 25), inner - 25)} │"
        for name, size, words in rows
    ]
    line = "─" * (inner + 2)
    divided = [x for row in drawn for x in (row, f"  ├{line}┤")][:-1]
    return [f"  ┌{line}┐", *divided, f"  └{line}┘"]


def _size(size: Any) -> str:
    """Decimal units, as `images` has them; nothing for an unknown size."""
    number = float(size)
    if number < 0:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _lines(texts: Sequence[str]) -> list[str]:
    return _columns([(f"  {text}",) for text in texts], (WIDTH,))


def _binds(mounts: Sequence[Mapping[str, Any]]) -> list[str]:
    return _lines(
        [f"{m['destination']} <- {m.get('source')}" for m in mounts if m.get("type") == "bind"]
    )


def _tree(processes: Sequence[tuple[int, str]]) -> list[str]:
    """From init down: each is the child of the one above."""
    lines = []
    for depth, (pid, name) in enumerate(processes):
        branch = "   " * (depth - 1) + "└─ " if depth else ""
        lines.append(_cut(f"  {branch}{plain(name)} ({pid})", WIDTH))
    return lines or ["  none: nothing of it runs"]


# --- config.json ----------------------------------------------------------------------------------


def _fields(explanation: Explanation) -> list[str]:
    """A block for each member of config.json: field, value, origin. Items of an array that follow
    each other and have one origin share a row."""
    document, origins = explanation.document, explanation.origins
    rows: list[tuple[str, ...]] = []
    group = ""
    for pointers, label, value in _rows(document, origins):
        member = label.partition(".")[0].partition("[")[0]
        name = label[len(member) :].lstrip(".")
        if member != group and name:
            rows.append((f"  {member}", "", ""))
        group = member
        found = origin_of(origins, pointers[0]) or UNKNOWN
        came = f"{found.source}: {found.detail}" if found.detail else found.source
        rows.append((f"    {name}" if name else f"  {member}", value, came))
    return _columns(rows, (30, 40, WIDTH - 74))


def _rows(
    document: Mapping[str, Any], origins: Mapping[str, Origin]
) -> list[tuple[list[str], str, str]]:
    """(pointers, label, text) of each row."""
    rows: list[tuple[list[str], str, str]] = []
    for pointer, label, value in _entries(document, _inner(origins)):
        array, _, index = pointer.rpartition("/")
        before = rows[-1][0] if rows else [""]
        beside = array in JOINED and before[0].rpartition("/")[0] == array
        if beside and origin_of(origins, before[0]) == origin_of(origins, pointer):
            first = before[0].rpartition("/")[2]
            stem = label[: label.rindex("[")]
            rows[-1] = ([*before, pointer], f"{stem}[{first}-{index}]", f"{rows[-1][2]} {value}")
        else:
            rows.append(([pointer], label, value))
    return rows


JOINED = frozenset(("/linux/maskedPaths", "/linux/readonlyPaths", "/process/args"))
"""Arrays whose items are short enough to stand together."""


def _inner(origins: Mapping[str, Origin]) -> frozenset[str]:
    """All pointers with an origin somewhere below them: those are opened, others told whole."""
    inner = set()
    for pointer in origins:
        while pointer := pointer.rpartition("/")[0]:
            inner.add(pointer)
    return frozenset(inner)


def _entries(document: Mapping[str, Any], inner: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """(pointer, label, value as text), one for each thing that has an origin of its own."""
    waiting: list[tuple[str, str, Any]] = [
        (f"/{token(str(k))}", str(k), v) for k, v in reversed(list(document.items()))
    ]
    while waiting:
        pointer, label, value = waiting.pop()
        if pointer in inner and isinstance(value, dict):
            pairs = [(f"{pointer}/{token(str(k))}", f"{label}.{k}", v) for k, v in value.items()]
        elif pointer in inner and isinstance(value, list):
            pairs = [(f"{pointer}/{i}", f"{label}[{i}]", v) for i, v in enumerate(value)]
        else:
            yield pointer, label, _whole(pointer, value)
            continue
        waiting.extend(reversed(pairs))


def _whole(pointer: str, value: Any) -> str:
    """A field that has one origin. A seccomp profile is too long to be read: it is summed up."""
    if pointer == "/linux/seccomp" and isinstance(value, dict):
        rules = value.get("syscalls") or ()
        calls = {name for rule in rules for name in rule.get("names") or ()}
        return f"{len(rules)} rules on {len(calls)} calls, else {value.get('defaultAction')}"
    if pointer.startswith("/mounts/") and isinstance(value, dict) and "destination" in value:
        options = ",".join(map(str, value.get("options") or ()))
        return f"{value['destination']} <- {value.get('source')} ({value.get('type')}) {options}"
    if pointer.startswith("/linux/namespaces/") and isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return _short(value)


def _short(value: Any) -> str:
    """Plain data as a person writes it: words as they are, lists with spaces, objects as k=v."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={_short(v)}" for k, v in value.items()) or "{}"
    if isinstance(value, (list, tuple)):
        return " ".join(_short(item) for item in value) or "none"
    return str(value) if value != "" else '""'


# --- text -----------------------------------------------------------------------------------------


def _columns(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """A table whose cells are wrapped, two spaces between them; empty cells at the end of a row
    leave their room to the cell before."""
    lines = []
    for row in rows:
        cells = list(row)
        room = list(widths)
        while len(cells) > 1 and not cells[-1]:
            cells.pop()
            room[len(cells) - 1] += 2 + room.pop()
        indent = len(cells[0]) - len(cells[0].lstrip(" "))
        wrapped = [_wrap(plain(c), w) for c, w in zip(cells, room, strict=True)]
        first, *more = wrapped[0]
        wrapped[0] = [first, *(" " * min(indent + 2, room[0] - 1) + x for x in more)]
        for number in range(max(map(len, wrapped))):
            parts = [
                _fill(cell[number] if number < len(cell) else "", width)
                for cell, width in zip(wrapped, room, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
    return lines


def _width(text: str) -> int:
    """Columns on a terminal."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _fill(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, broken after a space, comma, slash or colon if there is
    one in the second half of a line."""
    width = max(width, 2)
    lines = []
    room = width
    while _width(text) > room:
        end = len(text) if len(text) <= room else room
        while _width(text[:end]) > room:
            end -= 1
        breaks = (text.rfind(mark, end // 2, end) + 1 for mark in " ,/:")
        end = next((found for found in breaks if found), end)
        lines.append(text[:end].rstrip(" "))
        text = text[end:].lstrip(" ")
    return [*lines, text]


def _decodable(value: Any) -> Any:
    """A copy in which text that is not UTF-8 (PEP 383) is escaped, as JSON can hold no other."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_decodable(str(k)): _decodable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_decodable(item) for item in value]
    return value
