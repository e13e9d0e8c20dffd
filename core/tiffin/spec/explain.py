"""`tiffin explain`: a container as one would draw it on a napkin. Pure: plain data to text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from ..hooks import Origin
from .origins import leaves, origin_of

WIDTH = 100


class Explanation(Struct, frozen=True):
    """All that is drawn; gathered by the front end."""

    container: Mapping[str, Any]
    """Its row: name, id, state, image_name, storage_driver, runtime, network, ..."""
    events: Sequence[Mapping[str, Any]]
    """seq, time (ns), type, actor, data."""
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


def plain(text: str) -> str:
    """Text from an image or a user, safe for a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def render(explanation: Explanation) -> str:
    """The drawing, at most 100 columns wide but for long values."""
    row = explanation.container
    head = f"{row['name']} ({row['id'][:12]}) is {row['state']}"
    parts = [
        plain(head),
        f"image {row['image_name']}, storage {row['storage_driver']}, runtime {row['runtime']}, "
        f"network {row['network']}",
        "",
        *_story(explanation.events),
        "",
        *_layers(explanation),
        "",
        *_mounts(explanation),
        "",
        *_processes(explanation.processes),
        "",
        *_config(explanation),
    ]
    return "\n".join(plain(part) if part else "" for part in parts) + "\n"


def _story(events: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["The story"]
    first = events[0]["time"] if events else 0
    for number, event in enumerate(events):
        branch = "└─" if number == len(events) - 1 else "├─"
        actor = event["actor"]
        login = actor.get("loginuid", 4294967295)
        who = f"uid {actor['uid']}" + (f" (login {login})" if login != 4294967295 else "")
        after = (event["time"] - first) / 1e9
        name = event["type"].partition(".")[2].replace("_", " ")
        detail = _detail(event["data"])
        lines.append(
            f"{branch} {after:9.3f} s  {name:<18} {detail:<34} {who}, {actor['front_end']}"
        )
    return lines


def _detail(data: Mapping[str, Any]) -> str:
    for name in ("exit_code", "signal", "error", "operation", "pid", "path", "netns", "name"):
        if data.get(name) not in (None, ""):
            text = f"{name.replace('_', ' ')} {data[name]}"
            return text if len(text) <= 34 else text[:15] + "..." + text[-16:]
    return ""


def _layers(explanation: Explanation) -> list[str]:
    lines = ["The layers"]
    if explanation.upper:
        lines.append(f"  copy-on-write   {explanation.upper}")
    for layer in reversed(explanation.layers):
        size = f"{layer['size'] / 1e6:.1f} MB"
        made = " ".join(str(layer.get("created_by", "")).split())
        lines.append(f"  {layer['chain_id'][7:19]}  {size:>10}   {made[:60]}")
    if not explanation.layers:
        lines.append("  none")
    return lines


def _mounts(explanation: Explanation) -> list[str]:
    lines = ["What is mounted on the host for it"]
    lines += [f"  {mount}" for mount in explanation.mounts] or ["  nothing"]
    binds = [
        f"  {m['source']} -> {m['destination']}"
        for m in explanation.document.get("mounts", [])
        if m.get("type") == "bind"
    ]
    if binds:
        lines += ["What is bound into it, at start", *binds]
    return lines


def _processes(processes: Sequence[tuple[int, str]]) -> list[str]:
    lines = ["The processes"]
    for depth, (pid, name) in enumerate(processes):
        lines.append("  " + ("   " * depth + "└─ " if depth else "") + f"{name} ({pid})")
    if not processes:
        lines.append("  none: nothing of it runs")
    return lines


def _config(explanation: Explanation) -> list[str]:
    if not explanation.document:
        return ["config.json", "  not written yet: `init` or `start` does that"]
    lines = ["config.json, and where each field comes from"]
    for pointer, value, origin in fields(explanation):
        shown = value if isinstance(value, str) else json.dumps(value)
        source = f"{origin.source}: {origin.detail}" if origin.detail else origin.source
        left = f"  {pointer} = {shown}"
        if len(left) > 66:
            left = left[:63] + "..."
        lines.append(f"{left:<66} {source}")
    return lines


def fields(explanation: Explanation) -> list[tuple[str, Any, Origin]]:
    """(pointer, value, origin) of every field; seccomp's hundreds of names as one."""
    found = []
    for pointer, value in leaves(explanation.document):
        if pointer.startswith("/linux/seccomp/"):
            continue
        origin = origin_of(explanation.origins, pointer) or Origin("unknown")
        found.append((pointer, value, origin))
    rules = explanation.document.get("linux", {}).get("seccomp")
    if rules:
        origin = origin_of(explanation.origins, "/linux/seccomp") or Origin("unknown")
        names = sum(len(rule["names"]) for rule in rules.get("syscalls", []))
        found.append(("/linux/seccomp", f"{names} system calls named", origin))
    return found


def to_plain(explanation: Explanation) -> dict[str, Any]:
    """The same for robots."""
    return {
        "container": dict(explanation.container),
        "events": [dict(event) for event in explanation.events],
        "layers": [dict(layer) for layer in explanation.layers],
        "upper": explanation.upper,
        "mounts": list(explanation.mounts),
        "processes": [{"pid": pid, "name": name} for pid, name in explanation.processes],
        "config": [
            {"field": p, "value": v, "source": o.source, "detail": o.detail}
            for p, v, o in fields(explanation)
        ],
    }
