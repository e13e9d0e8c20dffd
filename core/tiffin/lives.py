"""A container's life, told from the log alone: what happened, how long each thing took, who did it,
and which state it was in for how long. Works for what was removed.

States and open intents are those of the read tables: its events are folded, one after another, into
a database in memory.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from .errors import Corrupt
from .store import past

GONE = "removed"
"""The state that the read tables have no row for."""


class Moment(Struct, frozen=True):
    """One event. `took` is the time since the intent that it closed, in ns; None without one."""

    seq: int
    time: int
    type: str
    stream: str
    command: str
    actor: dict[str, Any]
    data: dict[str, Any]
    took: int | None
    opens: bool
    """An intent: what is about to be done."""
    closed: bool
    """An intent that has an outcome."""
    details: str


class Span(Struct, frozen=True):
    """A state and how long it lasted; `until` 0: it lasts."""

    state: str
    since: int
    until: int


class Life(Struct, frozen=True):
    id: str
    name: str
    image: str
    command: tuple[str, ...]
    moments: tuple[Moment, ...]
    spans: tuple[Span, ...]

    @property
    def state(self) -> str:
        return self.spans[-1].state

    @property
    def since(self) -> int:
        return self.moments[0].time

    @property
    def until(self) -> int:
        """When it was removed; 0: it is still there."""
        return self.spans[-1].since if self.state == GONE else 0


def tell(cid: str, rows: Iterable[tuple[Any, ...]]) -> Life:
    """The life of a container from the rows of its stream and of its execs, in order of seq.
    Error: Corrupt."""
    memory = past.empty()
    intents: dict[int, int] = {}  # seq of those that are open -> time
    closed: set[int] = set()
    moments: list[Moment] = []
    spans: list[Span] = []
    born: dict[str, Any] = {}
    name = ""
    for row in rows:
        seq, stream, _, type_, time, command, actor, data = row[:8]
        past.apply(memory, [row])
        now_open = dict(memory.execute("SELECT seq, time FROM intents").fetchall())
        gone = intents.keys() - now_open.keys()
        took = min((time - intents[one] for one in gone), default=None)
        closed |= gone
        opens = seq in now_open
        intents = now_open
        try:
            facts, who = json.loads(data), json.loads(actor)
        except ValueError:
            raise Corrupt(f"event {seq} cannot be read", hint="see tiffin events verify") from None
        born = born or facts
        if type_ in ("container.creation_planned", "container.renamed"):
            name = str(facts.get("name", ""))
        moment = Moment(
            seq, time, type_, stream, command, who, facts, took, opens, False, details(type_, facts)
        )
        moments.append(moment)
        if stream.startswith("container/"):
            _note(spans, _state(memory, cid), time)
    memory.close()
    return Life(
        id=cid,
        name=name,
        image=str(born.get("image_name", "")),
        command=tuple(map(str, born.get("command", ()))),
        moments=tuple(_marked(moments, closed)),
        spans=tuple(spans),
    )


def _state(memory: Any, cid: str) -> str:
    row = memory.execute("SELECT state FROM containers WHERE id=?", (cid,)).fetchone()
    return str(row[0]) if row else GONE


def _note(spans: list[Span], state: str, time: int) -> None:
    if spans and spans[-1].state == state:
        return
    if spans:
        spans[-1] = Span(spans[-1].state, spans[-1].since, time)
    spans.append(Span(state, time, 0))


def _marked(moments: Sequence[Moment], closed: set[int]) -> Iterable[Moment]:
    from msgspec.structs import replace

    for moment in moments:
        yield replace(moment, closed=True) if moment.seq in closed else moment


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def details(type_: str, data: dict[str, Any]) -> str:
    """What a person wants to know of an event besides its type."""
    said = []
    if "exit_code" in data:
        code = data["exit_code"]
        by = f" ({signal_name(code - 128)})" if 128 < code < 128 + 65 else ""
        said.append(f"exit code {code}{by}")
        if data.get("oom"):
            said.append("out of memory")
    if "signal" in data:
        said.append(signal_name(data["signal"]))
    if data.get("reason"):
        said.append(f"by {data['reason']}" if "signal" in data else str(data["reason"]))
    if type_ == "exec.planned":
        said.append(" ".join(map(str, data.get("command", ()))))
    if data.get("operation"):
        how = f" {data['how']}" if data.get("how") else ""
        said.append(f"{data['operation']}{how}")
    if data.get("error"):
        said.append(str(data["error"]))
    if type_.endswith("started") and data.get("pid"):
        said.append(f"pid {data['pid']}")
    if type_ == "container.renamed":
        said.append(f"{data.get('was', '')} -> {data.get('name', '')}")
    if type_ == "container.committed":
        said.append(str(data.get("image_name") or data.get("image_id", "")))
    return ", ".join(said)


def exact(nanoseconds: int) -> str:
    """A duration that is meant to be compared: `850 us`, `12.3 ms`, `4.05 s`, `1 h 05 min`."""
    if nanoseconds < 0:
        return f"-{exact(-nanoseconds)}"
    if nanoseconds < 1_000_000:
        return f"{nanoseconds // 1000} us"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1e6:.3g} ms"
    seconds = nanoseconds / 1e9
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
