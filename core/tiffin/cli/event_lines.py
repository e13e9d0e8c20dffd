"""One event as one line: for people, as JSON, in another engine's shape, or by a template."""

from __future__ import annotations

import json

from . import printable
from .event_names import Names, about

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..layout import Layout

    Line = Callable[[dict[str, Any]], str | None]

HIDDEN = ("name", "image_id", "directory", "bundle", "rootfs", "program", "layers")
"""Details that a line for people leaves out: said already, or long."""


def text(event: dict[str, Any], names: Names) -> str:
    """One line for people: time, seq, type, what it is about by its name, and a few details."""
    details = [
        f"{name}={value}"
        for name, value in event["data"].items()
        if name not in HIDDEN and isinstance(value, (str, int)) and value not in ("", False)
    ]
    more = f" ({', '.join(details)})" if details else ""
    line = f"{event['time']} {event['seq']} {event['type']} {about(event, names)}{more}"
    return printable.line(line)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def writer(template: str, layout: Layout) -> Line:
    """What `--format` asks for: "", `json`, `podman`, `docker`, a Go template over our own fields,
    or a template over another engine's (`podman TEMPLATE`, `docker TEMPLATE`).

    The function gives None for an event that the other engine does not have. Error: UserError for
    a template that is wrong.
    """
    names = Names(layout)
    if not template:
        return lambda event: text(event, names)
    if template == "json":
        return compact
    if template == "told":  # to root, by a child with the rights of the log's owner (`all_users`)
        return lambda event: compact({**event, "text": text(event, names)})
    from . import event_shapes, gotemplate

    engine, _, rest = template.partition(" ")
    shape = event_shapes.SHAPES.get(engine)
    body = rest.strip() if shape else template
    if body:
        gotemplate.parse(body)  # also when there is nothing to show

    def line(event: dict[str, Any]) -> str | None:
        if shape is None:
            own = gotemplate.Record(event_shapes.own_template(event, names))
            return printable.for_terminal(gotemplate.render(body, own))
        shaped = shape(event, names)
        if shaped is None:
            return None
        if not body or body == "json":
            return compact(shaped)
        if engine == "docker":
            shaped = event_shapes.docker_template(shaped)
        return printable.for_terminal(gotemplate.render(body, gotemplate.Record(shaped)))

    return line
