"""From events to spans, in the JSON form of OTLP (opentelemetry-proto, `docs/specification.md`).

One command is one trace. Its steps are what its intents open and their outcomes close; the root
span lasts from its first event to its last before it became quiet. An event that comes later (the
end of a container that ran for days) is a span of its own below the same root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

Event = Mapping[str, Any]
Span = dict[str, Any]

INTERNAL = 1
UNSET, OK, ERROR = 0, 1, 2
LONGEST = 1024
"""Characters of an attribute."""
OPEN_FOR = 600_000_000_000
"""Nanoseconds after which a step that nobody closed is sent as it is: its command was killed."""


def trace_id(command: str) -> str:
    return hashlib.sha256(f"tiffin command {command}".encode()).hexdigest()[:32]


def span_id(command: str, what: object) -> str:
    return hashlib.sha256(f"tiffin span {command} {what}".encode()).hexdigest()[:16]


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for key, value in values.items():
        if isinstance(value, bool):
            typed: dict[str, Any] = {"boolValue": value}
        elif isinstance(value, int):
            typed = {"intValue": str(value)}
        elif isinstance(value, str) and value:
            typed = {"stringValue": value[:LONGEST]}
        else:
            continue
        found.append({"key": key, "value": typed})
    return found


def details(event: Event) -> dict[str, Any]:
    """What an event says of itself, as attributes; nested data is left out."""
    plain = {f"tiffin.{key}": value for key, value in event["data"].items()}
    return {"tiffin.stream": event["stream"], "tiffin.seq": event["seq"], **plain}


class Trace:
    """The events of one command so far."""

    def __init__(self, event: Event) -> None:
        self.first = event
        self.last = event
        self.open: dict[tuple[str, str], Event] = {}
        """Intents by stream and operation."""
        self.notes: list[Event] = []
        self.failed = ""
        self.operations: list[str] = []

    @property
    def command(self) -> str:
        return str(self.first["command"])

    def span(self, name: str, begin: Event, end: Event, what: object, **more: Any) -> Span:
        return {
            "traceId": trace_id(self.command),
            "spanId": span_id(self.command, what),
            "parentSpanId": span_id(self.command, "root"),
            "name": name,
            "kind": INTERNAL,
            "startTimeUnixNano": str(begin["timeNano"]),
            "endTimeUnixNano": str(end["timeNano"]),
            **more,
        }

    def step(self, operation: str, begin: Event, end: Event, error: str | None) -> Span:
        noun = begin["stream"].partition("/")[0]
        values = {**details(begin), **details(end), "tiffin.seq": begin["seq"]}
        status = {"code": OK} if error is None else {"code": ERROR, "message": error[:LONGEST]}
        return self.span(
            f"{noun}.{operation}", begin, end, begin["seq"],
            attributes=attributes(values), status=status,
        )  # fmt: skip

    def root(self) -> Span:
        actor = self.first["actor"]
        noun = self.first["stream"].partition("/")[0]
        values = {
            "tiffin.command": self.command,
            "tiffin.uid": actor.get("uid"),
            "tiffin.loginuid": actor.get("loginuid"),
            "tiffin.session": actor.get("session"),
            "tiffin.front_end": actor.get("front_end"),
            "tiffin.cause": actor.get("cause"),
            "process.pid": actor.get("pid"),
            "process.executable.path": actor.get("program"),
        }
        notes = [
            {
                "timeUnixNano": str(note["timeNano"]),
                "name": note["type"],
                "attributes": attributes(details(note)),
            }
            for note in self.notes
        ]
        status = {"code": ERROR, "message": self.failed[:LONGEST]} if self.failed else {"code": OK}
        span = self.span(
            f"tiffin {noun} {'+'.join(dict.fromkeys(self.operations)) or 'fact'}",
            self.first, self.last, "root",
            attributes=attributes(values), events=notes, status=status,
        )  # fmt: skip
        del span["parentSpanId"]
        return span


class Traces:
    """Collects events; gives the spans that are complete. Time is that of the events."""

    def __init__(self, steps: Mapping[str, tuple[str, str]]) -> None:
        self._steps = steps
        self._traces: dict[str, Trace] = {}

    def add(self, event: Event) -> list[Span]:
        command = str(event["command"])
        does, operation = self._steps.get(event["type"], ("", ""))
        if event["type"].endswith((".failed", ".recovered")) and "operation" in event["data"]:
            does, operation = "closes", str(event["data"]["operation"])
        trace = self._traces.get(command)
        if trace is None:
            if does != "opens" and self._is_late(event, does):
                return [late(event)]
            trace = self._traces[command] = Trace(event)
        trace.last = event
        if does == "opens":
            trace.open[event["stream"], operation] = event
            trace.operations.append(operation)
            return []
        begin = trace.open.pop((event["stream"], operation), None) if does else None
        if begin is not None:
            error = event["data"].get("error") if event["type"].endswith("failed") else None
            trace.failed = trace.failed or str(error or "")
            return [trace.step(operation, begin, event, error)]
        trace.notes.append(event)
        return []

    @staticmethod
    def _is_late(event: Event, does: str) -> bool:
        """True for what no command begins with: its root span has been sent."""
        ended = event["type"] in ("container.exited", "exec.exited")
        return does == "closes" or (ended and event["actor"].get("front_end") != "exit")

    def finished(self, now: int, quiet: int) -> list[Span]:
        """Root spans of the commands that have written nothing for `quiet` ns before `now`, and
        what nobody will close any more."""
        spans = []
        for command, trace in list(self._traces.items()):
            age = now - trace.last["timeNano"]
            if age < (OPEN_FOR if trace.open else quiet):
                continue
            for (_, operation), begin in trace.open.items():
                spans.append(trace.step(operation, begin, begin, "nobody has closed it"))
            spans.append(trace.root())
            del self._traces[command]
        return spans

    @property
    def needed(self) -> int | None:
        """seq of the first event that a span to come is made from."""
        return min((trace.first["seq"] for trace in self._traces.values()), default=None)


def late(event: Event) -> Span:
    """A span without length for an event that came after its command's root span."""
    return Trace(event).span(
        event["type"], event, event, event["seq"],
        attributes=attributes(details(event)), status={"code": UNSET},
    )  # fmt: skip
